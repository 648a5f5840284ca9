# SPDX-License-Identifier: Apache-2.0
"""Every entry of the catalogue: its wrong example is refused with that number at the marked place, and nothing else; its right one passes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from delphyne.compiler import front
from delphyne.compiler.front.catalogue import ENTRIES
from delphyne.compiler.front.compilation import check_as
from delphyne.compiler.front.diagnostics import Diagnostic

WITH_EXAMPLE = sorted(code for code in ENTRIES if ENTRIES[code].wrong)


def _check(tmp_path: Path, code: str, text: str) -> list[Diagnostic]:
    path = tmp_path / f"example_{code.lower()}.py"
    path.write_text(text.strip() + "\n", encoding="utf-8")
    module = ENTRIES[code].module
    return check_as(path, module) if module else front.check_paths([path])


def _marked(text: str) -> tuple[int, int]:
    """1-based line and 0-based column of what `# <- text` points at."""
    for number, line in enumerate(text.strip().splitlines(), 1):
        if "# <- " in line:
            program, mark = line.split("# <- ")
            return number, program.index(mark.strip())
    raise AssertionError("no mark")


@pytest.mark.parametrize("code", WITH_EXAMPLE)
def test_the_wrong_example_is_refused_where_it_says(code: str, tmp_path: Path) -> None:
    found = _check(tmp_path, code, ENTRIES[code].wrong)
    assert [(one.code, one.line) for one in found] == [(code, _marked(ENTRIES[code].wrong)[0])], [one.render() for one in found]
    if code not in ("E0110", "E0701"):
        assert found[0].column == _marked(ENTRIES[code].wrong)[1], found[0].render()


@pytest.mark.parametrize("code", WITH_EXAMPLE)
def test_the_message_shows_the_line_the_caret_the_reason_and_the_remedy(code: str, tmp_path: Path) -> None:
    found = _check(tmp_path, code, ENTRIES[code].wrong)
    assert len(found) == 1, [one.render() for one in found]
    one = found[0]
    lines = one.render().splitlines()
    source = ENTRIES[code].wrong.strip().splitlines()[one.line - 1]
    assert lines[0].startswith(f"{one.file}:{one.line}:{one.column + 1}: {code}: ")
    assert lines[1] == "    " + source
    assert re.fullmatch(r" *\^+", lines[2])
    assert lines[2].index("^") - 4 == one.column
    assert lines[3].startswith("    remedy: ")
    assert len(lines[3]) > len("    remedy: ")


@pytest.mark.parametrize("code", sorted(ENTRIES))
def test_the_right_example_is_accepted(code: str, tmp_path: Path) -> None:
    assert [one.render() for one in _check(tmp_path, code, ENTRIES[code].right)] == []


@pytest.mark.parametrize("code", sorted(ENTRIES))
def test_explain_says_everything(code: str) -> None:
    entry, text = ENTRIES[code], front.explain(code.lower())
    assert text is not None
    for part in (entry.title, entry.reason, entry.remedy):
        assert part
        assert part in text
    assert ast.parse(entry.right)


def test_an_unknown_number_is_not_explained() -> None:
    assert front.explain("E9999") is None


def test_a_missing_file_is_one_diagnostic(tmp_path: Path) -> None:
    (one,) = front.check_paths([tmp_path / "missing.py"])
    assert one.code == "E0705"
    assert "no such file" in one.render()


def test_a_missing_module_is_one_diagnostic() -> None:
    (one,) = front.check(["delphyne.no_such_module"])
    assert one.code == "E0705"


def test_every_number_in_the_source_of_the_front_end_has_an_entry_and_every_entry_a_use() -> None:
    folder = Path(front.__file__).parent
    used: set[str] = set()
    for path in folder.glob("*.py"):
        if not path.name.startswith(("entries_", "catalogue")):
            used |= set(re.findall(r'"(E0[0-9]{3})"', path.read_text(encoding="utf-8")))
    assert used == set(ENTRIES)
