# SPDX-License-Identifier: Apache-2.0
"""The explorer finds what only some orders show, says which, and shows it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from delphyne.lang import AtomicU64, Domain, Ipa, Lock, Order, dmb, dsb, place_at, tlbi_ipas2e1is, tlbi_vmalle1is, u64
from delphyne.lang.locks import LockError
from delphyne.lang.machine import Failed, GuestFault, Machine, Scenario, StaleTranslation, Stuck, explore, replay

FIRST: Final = Lock("first", rank=1)
SECOND: Final = Lock("second", rank=2)
RAM: Final = 0x4000_0000


def counting(increment: Callable[[AtomicU64], None], cpus: int = 2) -> Callable[[], Scenario]:
    """Every CPU increments once; none is lost."""

    def build() -> Scenario:
        counter = AtomicU64()

        def check() -> None:
            assert counter.load(Order.RELAXED) == cpus, "an update was lost"

        return Scenario(Machine(cpus=cpus), [lambda: increment(counter)] * cpus, check)

    return build


def torn(counter: AtomicU64) -> None:
    counter.store(counter.load(Order.ACQUIRE) + 1, Order.RELEASE)


def locked(counter: AtomicU64) -> None:
    with FIRST:
        torn(counter)


def atomic(counter: AtomicU64) -> None:
    counter.add(u64(1), Order.RELAXED)


def retried(counter: AtomicU64) -> None:
    old = counter.load(Order.RELAXED)
    while True:
        seen = counter.compare_exchange(old, old + 1, Order.ACQ_REL)
        if seen == old:
            return
        old = seen


def test_a_lost_update_is_found_and_replayed() -> None:
    with pytest.raises(Failed, match="an update was lost") as found:
        explore(counting(torn))
    assert isinstance(found.value.error, AssertionError)
    assert "CPU 0: load" in str(found.value)
    for _ in range(3):
        with pytest.raises(Failed) as again:
            replay(counting(torn), found.value.schedule)
        assert again.value.schedule == found.value.schedule
        assert again.value.steps == found.value.steps


def test_it_is_found_by_chance_too_and_by_the_same_seed_again() -> None:
    schedules = []
    for _ in range(2):
        with pytest.raises(Failed) as found:
            explore(counting(torn, cpus=3), runs=0, random_runs=50, seed=7)
        schedules.append(found.value.schedule)
    assert schedules[0] == schedules[1]


def test_without_preemption_nothing_is_lost() -> None:
    explored = explore(counting(torn), preemptions=0)
    assert explored.complete
    assert explored.runs >= 2


@pytest.mark.parametrize("increment", [locked, atomic, retried])
def test_correct_counting_survives_every_order(increment: Callable[[AtomicU64], None]) -> None:
    assert explore(counting(increment), preemptions=3, random_runs=20).complete
    assert explore(counting(increment, cpus=3), preemptions=1).complete


def test_the_number_of_orders_is_exact() -> None:
    """Two CPUs with one atomic operation each are two steps each: start and operation; all orders of aabb are six."""
    explored = explore(counting(atomic), preemptions=9)
    assert (explored.runs, explored.complete) == (6, True)
    assert not explore(counting(atomic), preemptions=9, runs=3).complete


def forgetful(flush: Callable[[], None]) -> Callable[[], Scenario]:
    """A guest on CPU 1 reads a page while CPU 0 unmaps it and hands it over."""
    root, level2, level3, page, ipa = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x10_0000, 0x8000_0000

    def build() -> Scenario:
        machine = Machine(ram_base=RAM, ram_size=0x100_0000, cpus=2)
        for cpu in machine.cpus:
            cpu.registers |= {"HCR_EL2": 1 | 1 << 12, "VTCR_EL2": 25 | 1 << 6 | 1 << 8, "VTTBR_EL2": root | 1 << 48}
        for at, descriptor in ((root + 16, level2 | 3), (level2, level3 | 3), (level3, page | 1 << 10 | 3 << 6 | 0xF << 2 | 3)):
            machine.memory.write(at, descriptor.to_bytes(8, "little"))

        def unmap() -> None:
            place_at(AtomicU64, u64(level3)).store(u64(0), Order.RELEASE)
            dsb(Domain.ISHST)
            flush()
            machine.hand_over(page)

        def guest() -> None:
            try:
                machine.guest_read(ipa)
                machine.guest_read(ipa)
            except GuestFault:
                return

        return Scenario(machine, [unmap, guest])

    return build


def complete_flush() -> None:
    tlbi_ipas2e1is(Ipa(u64(0x8000_0000)))
    dsb(Domain.ISH)
    tlbi_vmalle1is()
    dsb(Domain.ISH)


def flush_without_end() -> None:
    tlbi_ipas2e1is(Ipa(u64(0x8000_0000)))
    dsb(Domain.ISH)
    tlbi_vmalle1is()


@pytest.mark.parametrize("flush", [lambda: None, flush_without_end], ids=["no flush", "no DSB at the end"])
def test_a_forgotten_flush_is_found(flush: Callable[[], None]) -> None:
    with pytest.raises(Failed) as found:
        explore(forgetful(flush))
    assert isinstance(found.value.error, StaleTranslation)
    with pytest.raises(Failed, match="change hands while CPU 1 holds"):
        replay(forgetful(flush), found.value.schedule)


def test_a_complete_flush_survives_every_order() -> None:
    explored = explore(forgetful(complete_flush), preemptions=2)
    assert explored.complete
    assert explored.runs > 20


def test_locks_taken_crosswise_are_refused_by_rank() -> None:
    def wrong() -> None:
        with SECOND, FIRST:
            pass

    with pytest.raises(Failed) as found:
        explore(lambda: Scenario(Machine(cpus=1), [wrong]))
    assert isinstance(found.value.error, LockError)


def test_a_deadlock_is_found() -> None:
    def build() -> Scenario:
        turns = [AtomicU64(), AtomicU64()]

        def wait(number: int) -> Callable[[], None]:
            def program() -> None:
                turns[number].store(u64(1), Order.RELEASE)
                machine.wait_until(lambda: turns[1 - number].load(Order.ACQUIRE) == 2, f"turn {number}")

            return program

        machine = Machine(cpus=2)
        return Scenario(machine, [wait(0), wait(1)])

    with pytest.raises(Failed, match="all wait: CPU 0 for turn 0, CPU 1 for turn 1") as found:
        explore(build)
    assert isinstance(found.value.error, Stuck)


def test_waiting_in_a_loop_gives_way_and_never_ending_loops_are_found() -> None:
    def build(answer: bool) -> Scenario:
        flag = AtomicU64()

        def waits() -> None:
            while flag.load(Order.ACQUIRE) == 0:
                dmb(Domain.ISH)

        def sets() -> None:
            if answer:
                flag.store(u64(1), Order.RELEASE)

        return Scenario(Machine(cpus=2), [waits, sets])

    explore(lambda: build(True), preemptions=0)
    with pytest.raises(Failed, match="no end after 500 steps"):
        explore(lambda: build(False), limit=500)


def test_an_invariant_is_asked_before_every_step() -> None:
    def build() -> Scenario:
        low, high = AtomicU64(), AtomicU64()

        def moves() -> None:
            low.add(u64(1), Order.RELAXED)
            high.add(u64(1), Order.RELAXED)

        def equal() -> None:
            assert low.load(Order.RELAXED) == high.load(Order.RELAXED), "unequal in between"

        return Scenario(Machine(), [moves], invariant=equal)

    with pytest.raises(Failed, match="unequal in between"):
        explore(build)


def test_a_wrong_schedule_and_too_many_programs_are_refused() -> None:
    with pytest.raises(Failed, match="the schedule is of another program"):
        replay(counting(atomic), [0, 5])
    with pytest.raises(Failed, match="3 programs for 2 CPUs"):
        replay(lambda: Scenario(Machine(cpus=2), [lambda: None] * 3), [])


def test_a_lock_left_by_a_failed_run_is_not_held_in_the_next() -> None:
    def build() -> Scenario:
        def trap() -> None:
            with FIRST:
                raise ZeroDivisionError

        def other() -> None:
            with FIRST:
                pass

        return Scenario(Machine(cpus=2), [other, trap])

    for _ in range(2):
        with pytest.raises(Failed) as found:
            explore(build)
        assert isinstance(found.value.error, ZeroDivisionError)
    assert not FIRST.held


def test_nobody_waits_for_a_run_that_is_over_or_from_outside() -> None:
    def build(ask: bool) -> Scenario:
        def holds_on() -> None:
            with FIRST:
                dmb(Domain.ISH)
                raise ZeroDivisionError

        def cleans_up() -> None:
            try:
                dmb(Domain.ISH)
                dmb(Domain.ISH)
            finally:
                with FIRST:
                    pass

        def needs_the_lock() -> None:
            if ask:
                with FIRST:
                    pass

        return Scenario(Machine(cpus=2), [holds_on, cleans_up], invariant=needs_the_lock)

    for ask, error in ((False, ZeroDivisionError), (True, LockError)):
        with pytest.raises(Failed) as found:
            explore(lambda ask=ask: build(ask))
        assert isinstance(found.value.error, error)
