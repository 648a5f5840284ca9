# SPDX-License-Identifier: Apache-2.0
"""The virtual counter of a protected guest, whatever offsets its host sets and whenever its CPUs run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from delphyne.el2.guest import guards, time
from delphyne.lang import Order, u64
from delphyne.lang.machine import Machine

GUARD = u64(3)


def begin() -> None:
    for words, x in ((guards.OFFSETS, u64(0)), (guards.SEEN, u64(0)), (guards.RUNS, u64(0))):
        words[GUARD].store(x, Order.RELEASE)


def test_a_pause_is_taken_out_of_the_guests_time() -> None:
    with Machine(registers={"CNTPCT_EL0": 1000}) as machine:
        begin()
        first = time.enter(GUARD, u64(100))
        assert first == 100
        machine.write_register("CNTPCT_EL0", 1200)
        time.leave(GUARD, first)
        machine.write_register("CNTPCT_EL0", 5000)
        assert time.enter(GUARD, u64(3900)) == 3900, "the count goes on at 1100"


def test_an_offset_that_lies_ahead_of_the_counter_is_cut() -> None:
    with Machine(registers={"CNTPCT_EL0": 1000}):
        begin()
        assert time.enter(GUARD, u64(1 << 60)) == 1000


def test_the_largest_offset_is_no_exception() -> None:
    with Machine(registers={"CNTPCT_EL0": 1000}):
        begin()
        assert time.enter(GUARD, u64.MAX) == 1000


def test_nothing_changes_while_another_cpu_runs() -> None:
    with Machine(registers={"CNTPCT_EL0": 1000}):
        begin()
        offset = time.enter(GUARD, u64(100))
        assert time.enter(GUARD, u64(900)) == 100
        assert time.enter(GUARD, u64(0)) == 100
        for _ in range(3):
            time.leave(GUARD, offset)
        assert guards.RUNS[GUARD].load(Order.ACQUIRE) == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 2**64 - 1) | st.integers(0, 3000), st.integers(0, 50)), max_size=40))
def test_the_count_never_goes_back_on_any_cpu(steps: list[tuple[int, bool, int, int]]) -> None:
    with Machine() as machine:
        begin()
        now, seen = 1000, 0
        running: dict[int, u64] = {}
        for cpu, runs, wanted, later in steps:
            now += later
            machine.write_register("CNTPCT_EL0", now)
            if runs and cpu not in running:
                running[cpu] = time.enter(GUARD, u64(wanted))
            elif not runs and cpu in running:
                time.leave(GUARD, running.pop(cpu))
            for offset in running.values():
                count = now - int(offset)
                assert count >= seen
                seen = count
