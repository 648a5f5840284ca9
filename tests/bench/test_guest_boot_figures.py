# SPDX-License-Identifier: Apache-2.0
"""What is made of the counts of a guest's boot."""

from __future__ import annotations

import pytest

from delphyne.bench import guest_boot
from delphyne.board.qemu import BoardError

CONSOLE = "Debian's kernel 6.1.0-56-arm64 as a guest of KVM\ncount all 1415188595\ncount EL0 106289168\ncount EL1 1306941235\ncount EL2 1958626\n"


def test_counts_are_read_from_the_console() -> None:
    first = {"all": 1415188595, "EL0": 106289168, "EL1": 1306941235, "EL2": 1958626}
    assert guest_boot.counts(CONSOLE) == [first]
    assert guest_boot.counts("count all 4\nlogin\ncount all 7\n", 2) == [{"all": 4}, {"all": 7}]


def test_a_part_of_the_way_that_is_missing_is_an_error() -> None:
    with pytest.raises(BoardError, match="did not get to its end"):
        guest_boot.counts("count all 4\nlogin\n", 2)


def test_a_guest_that_did_not_come_up_is_an_error() -> None:
    with pytest.raises(BoardError, match="did not get to its end"):
        guest_boot.counts(CONSOLE.replace("count EL2", "EL2"))


def test_a_protected_guest_and_what_it_is_held_against_are_given_the_same() -> None:
    one, other = guest_boot.measured_guest("6.1", protected=True), guest_boot.measured_guest("6.1")
    assert one.arguments == f"{guest_boot.EARLY_CONSOLE} {other.arguments}"
    words = guest_boot.counted(["qemu", "-m", "1"], [(guest_boot.FIRST_LINE, "")], "end").split(" -S ")[1]
    assert words.endswith("count.py --busy --at 'Booting Linux on physical CPU' '' end qemu -m 1 </dev/null\n")


def counts(every: int, el2: int) -> dict[str, int]:
    return {"all": every, "EL0": 1000, "EL1": 5000, "EL2": el2}


@pytest.mark.parametrize(("every", "ok"), [(100_000, True), (100_499, True), (101_000, False)])
def test_only_the_whole_has_a_limit(every: int, ok: bool) -> None:
    made = guest_boot.rows(counts(every, 900), counts(100_000, 300))
    assert [row["ok"] for row in made] == [ok, True, True, True]
    assert made[3]["ratio"] == 3.0
    assert made[0]["delphyne"] == every / 1e6
