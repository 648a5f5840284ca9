# SPDX-License-Identifier: Apache-2.0
"""Files that are no programs at all: each is one refusal in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.compiler import front

FILES: dict[str, tuple[bytes, str, str]] = {
    "a syntax error": (b"def f(:\n", "E0110", "invalid syntax"),
    "a NUL byte": (b"x = 1\0\n", "E0110", "null bytes"),
    "bytes that are no UTF-8": (b"# \xe9\n", "E0705", "cannot read it"),
    "an expression without end": (b"x = 1\ny = " + b" + ".join([b"x"] * 20_000) + b"\n", "E0110", "nested too deeply"),
    "a module that ends the process": (b"raise SystemExit(3)\n", "E0701", "SystemExit: 3"),
    "a module that raises": (b"x = 1\ny = x // 0\n", "E0701", "ZeroDivisionError"),
    "a module that imports what is not there": (b"import no_such_module_of_anybody\n", "E0701", "No module named"),
    "a static that the language refuses to make": (
        b"from delphyne.lang import Array, u8\nTABLE = Array[u8, 2].of([1, 2, 3])\n", "E0701", "3 elements",
    ),
    "bit fields that overlap": (
        b"from delphyne.lang import Bits64, bits, u8\nclass E(Bits64):\n    a: u8 = bits(3, 0)\n    b: u8 = bits(4, 2)\n",
        "E0701",
        "E.b lies outside",
    ),
    "two bases": (b"from delphyne.lang import Bits64, Bits32\nclass E(Bits64, Bits32):\n    pass\n", "E0215", "derives from"),
}


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_refused(name: str, tmp_path: Path) -> None:
    data, code, text = FILES[name]
    path = tmp_path / "file_under_test.py"
    path.write_bytes(data)
    found = front.check_paths([path])
    assert [one.code for one in found] == [code]
    assert text in found[0].reason
    assert found[0].render().startswith(str(path))


def test_an_empty_file_is_a_program_without_functions(tmp_path: Path) -> None:
    path = tmp_path / "file_under_test.py"
    path.write_bytes(b"")
    assert front.compile_paths([path]).functions == {}


def test_a_folder_is_no_program(tmp_path: Path) -> None:
    assert [one.code for one in front.check_paths([tmp_path])] == ["E0705"]


def test_calls_of_any_depth_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "file_under_test.py"
    lines = ["from delphyne.lang import u64", "def f0(x: u64) -> u64:", "    return x"]
    for number in range(1, 600):
        lines += [f"def f{number}(x: u64) -> u64:", f"    return f{number - 1}(x)"]
    # The outermost is first, so that each call leads to a function that has not been checked yet.
    head, functions = lines[0], lines[1:]
    pairs = [functions[i : i + 2] for i in range(0, len(functions), 2)][::-1]
    path.write_text("\n".join([head, *(line for pair in pairs for line in pair)]) + "\n", encoding="utf-8")
    assert len(front.compile_paths([path]).functions) == 600


def test_diagnostics_of_several_files_come_in_order(tmp_path: Path) -> None:
    paths = []
    for name in ("b_file", "a_file"):
        path = tmp_path / f"{name}.py"
        path.write_text("from delphyne.lang import u64\n\ndef f(x: u64) -> u64:\n    y = 5\n    z = 6\n    return x\n", encoding="utf-8")
        paths.append(path)
    found = front.check_paths(paths)
    assert [(Path(one.file).name, one.line) for one in found] == [("a_file.py", 4), ("a_file.py", 5), ("b_file.py", 4), ("b_file.py", 5)]


def test_colours_are_only_where_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file_under_test.py"
    path.write_text("from delphyne.lang import u64\n\ndef f(x: u64) -> u64:\n    return 5\n", encoding="utf-8")
    (one,) = front.check_paths([path])
    assert "\x1b" not in one.render(False)
    assert "\x1b[" in one.render(True)


def test_the_caret_stands_under_characters_and_not_under_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file_under_test.py"
    path.write_text("from delphyne.lang import u64\n\ndef f(größe: u64) -> u64:\n    return größe + 5 if größe else größe\n", encoding="utf-8")
    (one,) = front.check_paths([path])
    lines = one.render().splitlines()
    assert lines[1][lines[2].index("^") :].startswith("größe else")
    assert lines[2].count("^") == len("größe")
