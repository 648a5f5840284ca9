# SPDX-License-Identifier: Apache-2.0
"""What is made of the counts of dm-crypt's pages, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from delphyne.bench import dm_crypt
from delphyne.board.qemu import BoardError

ONCE = 777_777
"""Instructions that do not grow with the pages."""
PAGE = {("plain", "write"): 9_000, ("plain", "read"): 8_000, ("crypt", "write"): 59_000, ("crypt", "read"): 48_000}


def console(rounds: tuple[int, ...] = (0, 0, 0), driver: str = dm_crypt.DRIVER, end: str = dm_crypt.CHECKED) -> str:
    """What a host says whose pages cost PAGE, and through dm-crypt as much more as `rounds` says of each round; half of that by the larger batch."""
    lines = [f"driver {driver}"]
    for batch in dm_crypt.BATCHES:
        for more in rounds:
            for (device, direction), cost in PAGE.items():
                for pages in (dm_crypt.SHORT, dm_crypt.LONG):
                    each = (cost + (more if device == "crypt" else 0)) // (1 if batch == 1 else 2)
                    lines.append(f"count {batch} {device} {direction} {pages} {ONCE + pages * each}")
    return "\n".join([*lines, end, ""])


def test_what_does_not_grow_and_what_the_disk_needs_is_taken_off() -> None:
    one, many = dm_crypt.rows(dm_crypt.counts(console()), 36_000)
    assert (one["write"], one["read"], one["disk"], one["spread"]) == (50_000, 40_000, 17_000, 0)
    assert (many["write"], many["read"], many["disk"]) == (25_000, 20_000, 8_500)
    assert (one["ratio"], many["ratio"]) == (0.4, 0.8)


def test_the_round_in_the_middle_counts_and_their_spread_is_told() -> None:
    one = dm_crypt.rows(dm_crypt.counts(console((4_000, 0, 100))), 36_000)[0]
    assert (one["write"], one["read"], one["spread"]) == (50_100, 40_100, 8_000)


@pytest.mark.parametrize(("el2", "verdicts"), [(45_000, [True, True]), (90_000, [True, True]), (91_000, [False, True])])
def test_a_page_in_a_call_has_the_limit(el2: int, verdicts: list[bool]) -> None:
    assert [row["ok"] for row in dm_crypt.rows(dm_crypt.counts(console()), el2)] == verdicts


@pytest.mark.parametrize(
    ("text", "message"),
    [(console(end="Traceback"), "did not get to its end"), (console(driver="authenc(hmac(sha256-generic),xts-aes-ce)"), "no fair comparison")],
)
def test_what_is_no_comparison_is_an_error(text: str, message: str) -> None:
    with pytest.raises(BoardError, match=message):
        dm_crypt.counts(text)


def test_a_count_that_is_missing_is_an_error() -> None:
    text = console().replace(f"count 32 crypt read {dm_crypt.LONG} ", "count ", 1)
    with pytest.raises(BoardError, match="did not get to its end"):
        dm_crypt.counts(text)


@pytest.mark.parametrize(("el2", "holds"), [(90_000, True), (91_000, False)])
def test_the_verdict(el2: int, holds: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measure_el2(folder: Path, kernel: str, cpu: str, console: Console) -> int:
        return el2

    monkeypatch.setattr(dm_crypt, "measure_kernel", lambda kernel, cpu: dm_crypt.counts(console()))
    monkeypatch.setattr(dm_crypt, "measure_el2", measure_el2)
    assert dm_crypt.run(json=True) == holds
    told = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in told["rows"]] == list(dm_crypt.BATCHES)
    assert told["driver"] == dm_crypt.DRIVER
    assert dm_crypt.run() == holds
    assert ("MISSED" in capsys.readouterr().out) != holds
