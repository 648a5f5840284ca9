# SPDX-License-Identifier: Apache-2.0
"""What is made of a protected guest's figures: limits of exits and of pages, JSON, tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from delphyne.bench import kvm, protected


def side(instructions: float, stay: int = 5, broadcasts: float = 0) -> kvm.Side:
    return {
        "instructions": instructions, "el2": 10, "guest": 1, "broadcasts": broadcasts, "cache": 0, "longest_stay": 2 * stay, "typical_stay": stay,
        "functions": {"f": 3.0},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("above", "simd", "ok"), [(side(1200, broadcasts=4), False, True), (side(1201), False, False), (side(3000), True, True)]
)
def test_limits_of_exits(above: kvm.Side, simd: bool, ok: bool) -> None:
    assert protected.exit_row("n", simd, above, side(1000))["ok"] == ok


@pytest.mark.parametrize(("stay", "ok"), [(protected.PAGE_LIMIT, True), (protected.PAGE_LIMIT + 1, False)])
def test_the_limit_of_a_page_is_one_of_its_stay(stay: int, ok: bool) -> None:
    found = protected.page_row("n", side(90000, stay), side(1000))
    assert (found["stay"], found["longest"], found["delphyne"], found["plain"], found["ok"]) == (stay, 2 * stay, 90000, 1000, ok)


@pytest.mark.parametrize(("exit_cost", "stay", "holds"), [(1090.0, 18000, True), (1110.0, 18000, False), (1000.0, 19000, False)])
def test_the_verdict(exit_cost: float, stay: int, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(folder: Path, kernel: str, cpu: str, kinds: list[str], console: Console) -> tuple[list[kvm.Row], list[protected.Page]]:
        assert kinds == list(protected.KINDS)
        exits = [protected.exit_row("a", simd, side(exit_cost), side(1000)) for simd in (False, True)]
        return exits, [protected.page_row("b", side(30000, stay), side(1000))]

    monkeypatch.setattr(protected, "measure", measure)
    assert protected.run(json=True) == holds
    said = json.loads(capsys.readouterr().out)
    assert said["mean_limit"] == protected.MEAN_LIMIT
    assert [page["stay"] for page in said["pages"]] == [stay]
    assert protected.run(by_function=True) == holds
    assert ("MISSED" in capsys.readouterr().out) == (not holds)


def test_pages_alone_have_no_mean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(protected, "measure", lambda *_: ([], [protected.page_row("b", side(30000, 10), side(1000))]))
    assert protected.run(kinds=["take-4k"], json=True)
    assert "mean" not in json.loads(capsys.readouterr().out)
