# SPDX-License-Identifier: Apache-2.0
"""The theorems hold, one by one in the slow ring; the test command has `delphyne prove` prove all of them side by side."""

from __future__ import annotations

import json

import pytest

from delphyne.prove.command import check_assumptions, choose, load, main, prove_all, without_theorem
from delphyne.prove.engine import Result, Verdict, prove

THEOREMS = load()


@pytest.mark.slow
@pytest.mark.parametrize("name", THEOREMS)
def test_it_is_proved(name: str) -> None:
    result = prove(THEOREMS[name])
    assert (result.verdict, result.detail) == (Verdict.PROVED, "")


def test_every_theorem_says_what_it_says() -> None:
    for theorem in THEOREMS.values():
        assert theorem.statement.endswith("."), theorem.name
        assert theorem.of
        assert set(theorem.assumes) <= set(THEOREMS), theorem.name


def test_no_theorem_leans_on_itself() -> None:
    def leans(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, above
        for leaned in THEOREMS[name].assumes:
            leans(leaned, (*above, name))

    for name in THEOREMS:
        leans(name, ())


def test_what_has_no_theorem_is_listed() -> None:
    assert without_theorem(THEOREMS) == []
    fewer = {name: theorem for name, theorem in THEOREMS.items() if name != "tables.split_edge"}
    assert without_theorem(fewer) == ["delphyne.el2.memory.tables:_split_edge"]


def test_a_theorem_falls_with_what_it_assumes() -> None:
    chosen = choose(THEOREMS, ["frames.pin", "layout.index_of", "layout.entries_differ"])
    results = [Result(name, Verdict.PROVED, 1, 1, 0.1) for name in chosen]
    broken = next(result for result in results if result.theorem == "layout.index_of")
    broken.verdict = Verdict.REFUTED
    check_assumptions(results, THEOREMS, chosen)
    fallen = next(result for result in results if result.theorem == "frames.pin")
    assert (fallen.verdict, fallen.detail) == (Verdict.UNKNOWN, "assumes layout.index_of, which does not hold")


def test_the_command_prints_a_table_of_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pool"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 theorems proved" in out
    assert "Pool: three slots (3)" in out
    assert max(len(line) for line in out.splitlines()) <= 100


def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pool.get", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["holds"] is True
    assert [entry["name"] for entry in report["theorems"]] == ["pool.get"]
    assert report["theorems"][0]["verdict"] == "proved"
    assert report["theorems"][0]["paths"] > 0
    assert report["trusted"] == {"the lock that guards the pool is held": ["pool.get"]}


def test_a_name_that_is_no_theorem_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    error = capsys.readouterr().err
    subjects = sorted({theorem.subject for theorem in THEOREMS.values()})
    assert error == f"delphyne prove: there is no theorem or subject 'frobnicate'; subjects: {', '.join(subjects)}\n"


def test_results_come_back_from_children_in_the_order_of_names() -> None:
    chosen = choose(THEOREMS, ["pool", "layout.table_size"])
    assert [result.theorem for result in prove_all(chosen, lambda result: None)] == list(chosen)
