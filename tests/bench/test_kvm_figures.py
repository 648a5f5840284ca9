# SPDX-License-Identifier: Apache-2.0
"""What is made of counted windows: rows, limits, means, JSON, the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from delphyne.bench import kvm, trace


def window(host: int, el2: int, broadcasts: int = 0, cache: int = 0, longest: int = 0) -> trace.Window:
    return trace.Window({trace.USER: 7, trace.GUEST: 12, trace.HOST: host, trace.EL2: el2}, broadcasts, cache, longest)


def side(instructions: float, broadcasts: float = 0, cache: float = 0) -> kvm.Side:
    return {
        "instructions": instructions, "el2": 10, "guest": 1, "broadcasts": broadcasts, "cache": cache, "longest_stay": 5, "typical_stay": 5,
        "functions": {},
    }  # fmt: skip


def test_first_windows_are_left_out_and_parts_share() -> None:
    counted = [window(800, 80, 24, 16, 33)] * (kvm.TIMES - kvm.WARM - 1) + [window(800, 80, 24, 16, 44)]
    found = kvm.side([window(9999, 9999, 9, 9, 9)] * kvm.WARM + counted, 8)
    assert found == {
        "instructions": 110, "el2": 10, "guest": 1.5, "broadcasts": 3, "cache": 2, "longest_stay": 44, "typical_stay": 33, "functions": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("above", "alone", "simd", "ok"),
    [
        (side(1000), side(1000), False, True),
        (side(1050), side(1000), False, True),
        (side(1051), side(1000), False, False),
        (side(900, broadcasts=1), side(1000), False, False),
        (side(900, cache=1), side(1000), False, False),
        (side(2000, broadcasts=1), side(1000), True, True),
    ],
)
def test_limits(above: kvm.Side, alone: kvm.Side, simd: bool, ok: bool) -> None:
    assert kvm.row("n", simd, above, alone)["ok"] == ok


def test_means_are_apart() -> None:
    rows = [kvm.row("a", False, side(500), side(1000)), kvm.row("b", False, side(2000), side(1000)), kvm.row("a", True, side(3000), side(1000))]
    assert kvm.geometric_mean(rows, simd=False) == 1.0
    assert kvm.geometric_mean(rows, simd=True) == 3.0


@pytest.mark.parametrize("above", [990.0, 1010.0])
def test_json_and_the_verdict(above: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure(folder: Path, kernel: str, cpu: str, kinds: list[str], console: Console) -> list[kvm.Row]:
        assert kinds == list(kvm.KINDS)
        return [kvm.row("a", simd, side(above), side(1000)) for simd in (False, True)]

    monkeypatch.setattr(kvm, "measure", measure)
    assert kvm.run("6.12", json=True) == (above <= 1000)
    said = json.loads(capsys.readouterr().out)
    assert said["kernel"] == "6.12"
    assert [(found["name"], found["delphyne"], found["plain"], found["ratio"]) for found in said["rows"]] == [("a", above, 1000, above / 1000)] * 2
    assert said["mean"] == above / 1000
    kvm.run("6.12")
    table = capsys.readouterr().out
    assert "geometric mean" in table
    assert ("MISSED" in table) == (above > 1000)
