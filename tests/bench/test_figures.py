# SPDX-License-Identifier: Apache-2.0
"""The figures that do not depend on the machine, against their limits, and the benchmark's own parts."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from delphyne.bench import btf_data, code, language, program, steps
from delphyne.board.bare.bare import BareError, Ending, Outcome
from delphyne.compiler.front import compile_modules


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, language.Row]:
    return {found["name"]: found for found in language.of_code(tmp_path_factory.mktemp("bench"))}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("geometric mean: checked Python / gcc -O2 with the same checks", 1.15),
        ("geometric mean: checked / unchecked", 1.12),
        ("SHA-256, crypto extensions", 1.7),
        ("AES-256-CTR, crypto extensions", 2.3),
    ],
)
def test_instruction_counts_stay_below_their_limits(rows: dict[str, language.Row], name: str, limit: float) -> None:
    assert rows[name]["limit"] == limit
    assert rows[name]["ok"], rows[name]


def test_every_subject_is_reported(rows: dict[str, language.Row]) -> None:
    for subject in code.AGAINST_C:
        assert f"{subject.name}: checked Python / gcc -O2 with the same checks" in rows
        assert f"{subject.name}: checked / unchecked" in rows


def test_export_and_import_of_a_page_stay_below_their_limit(tmp_path: Path) -> None:
    found = {row["name"]: row for row in language.of_pages(tmp_path)}
    for name in ("export of a page, crypto extensions", "import of a page, crypto extensions"):
        assert found[name]["limit"] == 18_500
        assert found[name]["ok"], found[name]


def outcome(number: int) -> Outcome:
    return Outcome(Ending.VALUE, (number, 0), 1, bytes([number]))


def sides() -> tuple[dict[str, Outcome], dict[str, Outcome], dict[str, Outcome]]:
    every = {subject.name: outcome(7) for subject in (*code.AGAINST_C, *code.BY_EXTENSIONS)}
    return dict(every), dict(every), dict(every)


def test_subjects_that_compute_the_same_are_compared() -> None:
    code.agree(*sides())


@pytest.mark.parametrize("side", [0, 1, 2])
@pytest.mark.parametrize("subject", code.AGAINST_C, ids=lambda subject: subject.name)
def test_a_subject_that_computes_something_else_is_an_error(subject: code.Subject, side: int) -> None:
    outcomes = sides()
    outcomes[side][subject.name] = outcome(8)
    with pytest.raises(BareError, match=subject.name):
        code.agree(*outcomes)


def test_crypto_extensions_that_compute_something_else_are_an_error() -> None:
    checked, unchecked, c = sides()
    checked[code.BY_EXTENSIONS[1].name] = outcome(8)
    with pytest.raises(BareError, match="crypto extensions"):
        code.agree(checked, unchecked, c)


def test_rows_compare_what_they_show() -> None:
    assert language.row("n", 1.15049, "x", 1.15)["ok"]
    assert not language.row("n", 1.1506, "x", 1.15)["ok"]
    assert language.row("n", 1e9, "x")["ok"]


def test_json_is_a_list_of_rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(language, "PARTS", (lambda folder: [language.row("n", 2.0, "s", 1.0)],))
    returned = language.run(json=True)
    assert json.loads(capsys.readouterr().out) == {"rows": returned}
    assert returned == [{"name": "n", "value": 2.0, "unit": "s", "limit": 1.0, "ok": False}]


def test_a_missing_tool_ends_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code, "GCC", "aarch64-linux-gnu-gcc")
    monkeypatch.setattr(language, "PARTS", (lambda folder: code.c_objects(folder),))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^delphyne: aarch64-linux-gnu-gcc is missing: install the Debian package gcc-aarch64-linux-gnu$"):
        language.run()


def test_the_generated_program_is_accepted(tmp_path: Path) -> None:
    source = tmp_path / "generated_small.py"
    source.write_text(program.text(600))
    assert len(compile_modules([source]).functions) > 40
    assert program.LINES <= program.text().count("\n") < program.LINES + 60


def test_the_made_up_kernel_holds_each_name_once() -> None:
    types, strings = btf_data.sections()
    assert len(types) % 4 == 0
    for name in btf_data.NAMES:
        place = strings.index(b"\0" + name + b"\0") + 1
        assert struct.pack("<I", place) in types


def test_page_table_steps_agree_with_their_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEPS", 200)
    assert steps.measure() > 0
    assert steps.Tables.taken >= 200
