# SPDX-License-Identifier: Apache-2.0
"""Pools of table pages against sets: nothing is given out twice, nothing is lost, and what is reserved is there."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from memory_world import BOOKKEEPING_AT, PAGES_AT, RAM, RAM_SIZE, forget_statics, machine_with_pools

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import invariants, pages
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import Pa, u64
from delphyne.lang.machine import Machine

NAMES = st.sampled_from(list(PoolName))
UNITS = {PoolName.EL2: 1, PoolName.HOST: 1, PoolName.GUESTS: 1, PoolName.STARTS: 4, PoolName.GUEST_STARTS: 2}
COUNTS = {PoolName.EL2: 0, PoolName.HOST: 5, PoolName.GUESTS: 3, PoolName.STARTS: 3, PoolName.GUEST_STARTS: 2}


def check_invariants() -> None:
    for number in range(len(PoolName)):
        pool = pages.POOLS[number]
        assert invariants.pool_counts(pool)
        for unit in range(int(pool.count)):
            place = pages.PLACE[pool.first + unit]
            assert invariants.pool_unit(pool, u64(unit), u64(place), u64(pages.ORDER[pool.first + u64(place)]))


class Pools(RuleBasedStateMachine):
    """Random calls, wrong ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.context = machine_with_pools(el2=0, host=5, guests=3, start_unit=4, starts=3)
        self.machine = self.context.__enter__()
        self.taken: dict[PoolName, set[int]] = {name: set() for name in PoolName}
        self.reserved = dict.fromkeys(PoolName, 0)

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    def free_units(self, name: PoolName) -> int:
        return COUNTS[name] - len(self.taken[name]) - self.reserved[name]

    def given(self, name: PoolName, page: u64) -> None:
        first = int(pages.POOLS[u64(name.raw)].first)
        assert (int(page) - first) % UNITS[name] == 0
        assert first <= int(page) < first + COUNTS[name] * UNITS[name]
        assert int(page) not in self.taken[name]
        self.taken[name].add(int(page))

    @rule(name=NAMES)
    def allocate(self, name: PoolName) -> None:
        got = pages.allocate(name)
        if self.free_units(name):
            assert not isinstance(got, Err)
            self.given(name, got)
        else:
            assert got == Err.NO_MEMORY

    @rule(name=NAMES, count=st.integers(0, 6) | st.just(2**64 - 1))
    def reserve(self, name: PoolName, count: int) -> None:
        got = pages.reserve(name, u64(count))
        if count <= self.free_units(name):
            assert got is None
            self.reserved[name] += count
        else:
            assert got == Err.NO_MEMORY

    @precondition(lambda self: any(self.reserved.values()))
    @rule(data=st.data(), keep=st.booleans())
    def end_a_reservation(self, data: st.DataObject, keep: bool) -> None:
        name = data.draw(st.sampled_from([name for name, count in self.reserved.items() if count]))
        self.reserved[name] -= 1
        if keep:
            self.given(name, pages.take_reserved(name))
        else:
            pages.unreserve(name, u64(1))

    @rule(name=NAMES, page=st.integers(0, 30) | st.just(2**64 - 1))
    def free(self, name: PoolName, page: int) -> None:
        first = int(pages.POOLS[u64(name.raw)].first)
        starts = range(first, first + COUNTS[name] * UNITS[name], UNITS[name])
        expected = None if page in self.taken[name] else Err.STATE if page in starts else Err.RANGE
        if expected is None or page < 30:
            self.taken[name].discard(page)
            assert pages.free(name, u64(page)) == expected

    @invariant()
    def agree(self) -> None:
        for name in PoolName:
            assert pages.available(name) == self.free_units(name)
            assert pages.unit_of(name) == (UNITS[name] if COUNTS[name] else 1)
        check_invariants()


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_pages_lie_in_the_region_and_are_zero_whatever_was_there() -> None:
    with Machine(RAM, RAM_SIZE) as machine:
        forget_statics()
        machine.memory.write(PAGES_AT, b"\xff" * 4096 * 4, True)
        assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(4)) is None
        assert not any(machine.memory.read(PAGES_AT, 4096 * 4, True))
        assert pages.address_of_page(u64(3)) == Pa(u64(PAGES_AT + 3 * 4096))
        assert pages.page_of_address(Pa(u64(PAGES_AT + 3 * 4096))) == 3


def test_wrong_regions_are_refused() -> None:
    with Machine(RAM, RAM_SIZE):
        forget_statics()
        for base, bookkeeping, count, error in (
            (PAGES_AT + 4096, BOOKKEEPING_AT, 4, Err.ALIGNMENT),
            (PAGES_AT, BOOKKEEPING_AT + 4, 4, Err.ALIGNMENT),
            (PAGES_AT, BOOKKEEPING_AT, 1 << 32, Err.RANGE),
        ):
            assert pages.attach(Pa(u64(base)), Pa(u64(bookkeeping)), u64(count)) == error
        assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(16)) is None


def test_wrong_pools_are_refused_and_alignment_is_kept() -> None:
    with Machine(RAM, RAM_SIZE):
        forget_statics()
        assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(16)) is None
        for unit in (0, 3, 17, 32):
            assert pages.assign(PoolName.STARTS, u64(unit), u64(1)) == Err.INVALID
        assert pages.assign(PoolName.EL2, u64(1), u64(3)) is None
        assert pages.assign(PoolName.EL2, u64(1), u64(1)) == Err.EXISTS
        assert pages.assign(PoolName.STARTS, u64(4), u64(4)) == Err.NO_MEMORY
        assert pages.assign(PoolName.STARTS, u64(4), u64(2**63)) == Err.NO_MEMORY
        assert pages.assign(PoolName.STARTS, u64(4), u64(3)) is None
        assert pages.POOLS[u64(PoolName.STARTS.raw)].first == 4
        assert pages.assign(PoolName.HOST, u64(1), u64(1)) == Err.NO_MEMORY
        check_invariants()


def test_a_page_is_freed_once() -> None:
    with machine_with_pools(host=3):
        taken = [pages.allocate(PoolName.HOST) for _ in range(3)]
        assert not any(isinstance(page, Err) for page in taken)
        for number, page in enumerate(taken):
            assert not isinstance(page, Err)
            assert pages.free(PoolName.HOST, page) is None
            for again in taken[: number + 1]:
                assert not isinstance(again, Err)
                assert pages.free(PoolName.HOST, again) == Err.STATE
        check_invariants()


def test_taking_more_than_was_reserved_fails() -> None:
    with machine_with_pools(), pytest.raises(AssertionError):
        pages.take_reserved(PoolName.HOST)
    with machine_with_pools():
        assert pages.reserve(PoolName.HOST, u64(2)) is None
        with pytest.raises(AssertionError):
            pages.unreserve(PoolName.HOST, u64(3))
