# SPDX-License-Identifier: Apache-2.0
"""What processors remember: nothing that was taken away, on no CPU, in no order of events; and what stays mapped stays reachable."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_world import RAM, RAM_SIZE, assign_pools, machine_with_pools, new_space, use

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import flush, stage1, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space
from delphyne.lang import AtomicU32, Ipa, Lock, Pa, Va, u64
from delphyne.lang.machine import Access, GuestFault, Machine, Scenario, StaleTranslation, explore

PAGE, MEGA2, GIGA = 1 << 12, 1 << 21, 1 << 30
ALL = Rights(True, True, True)
HELD = RAM + 8 * MEGA2 - MEGA2
"""Memory that is handed to and fro, in the machine's RAM and apart from the tables."""
CORTEX_A57, NEOVERSE_N1 = 0x411F_D073, 0x414F_D0C1
"""MIDR_EL1."""


def map_at(space: Space, at: int, to: int, size: int) -> None:
    assert stage2.map_range(space, Ipa(u64(at)), Pa(u64(to)), u64(size), Stage2Memory.NORMAL, ALL) is None


def touch(machine: Machine, address: int) -> int | None:
    """What EL1 of the current CPU reaches, through both stages, or None for a fault."""
    try:
        return machine.walker().el1(address, Access.READ).at(address)
    except GuestFault:
        return None


def everywhere(machine: Machine, address: int) -> list[int | None]:
    found = []
    for number in range(len(machine.cpus)):
        with machine.on(number):
            found.append(touch(machine, address))
    return found


@pytest.mark.parametrize(("size", "to"), [(PAGE, HELD + PAGE), (MEGA2, HELD)])
def test_no_cpu_remembers_what_was_unmapped(size: int, to: int) -> None:
    with machine_with_pools(cpus=3) as machine:
        space = new_space()
        use(machine, space)
        map_at(space, 4 * GIGA, to, size)
        assert everywhere(machine, 4 * GIGA) == [to] * 3
        with pytest.raises(StaleTranslation):
            machine.hand_over(to, size)
        assert stage2.unmap_range(space, Ipa(u64(4 * GIGA)), u64(size)) == u64(size)
        machine.hand_over(to, size)
        assert everywhere(machine, 4 * GIGA) == [None] * 3


def test_unmapping_a_page_of_a_block_leaves_its_neighbours() -> None:
    with machine_with_pools(cpus=2) as machine:
        space = new_space()
        use(machine, space)
        map_at(space, 4 * GIGA, HELD, MEGA2)
        assert everywhere(machine, 4 * GIGA + 5 * PAGE) == [HELD + 5 * PAGE] * 2
        assert stage2.unmap_range(space, Ipa(u64(4 * GIGA + 5 * PAGE)), u64(PAGE)) == u64(PAGE)
        machine.hand_over(HELD + 5 * PAGE)
        assert everywhere(machine, 4 * GIGA + 5 * PAGE) == [None] * 2
        for page in (0, 4, 6, 511):
            assert everywhere(machine, 4 * GIGA + page * PAGE) == [HELD + page * PAGE] * 2


@pytest.mark.parametrize("size", [2 * PAGE, MEGA2])
def test_rights_that_were_taken_are_gone_at_once(size: int) -> None:
    """Also where nothing had to be split, which flushes too."""
    with machine_with_pools(cpus=2) as machine:
        space = new_space()
        use(machine, space)
        map_at(space, 4 * GIGA, HELD, size)
        with machine.on(1):
            machine.guest_write(4 * GIGA, 1)
        assert stage2.protect(space, Ipa(u64(4 * GIGA)), u64(PAGE), Rights(True, False, False)) is None
        with machine.on(1):
            for refused in (lambda: machine.guest_write(4 * GIGA, 2), lambda: machine.guest_fetch(4 * GIGA)):
                with pytest.raises(GuestFault):
                    refused()
            assert machine.guest_read(4 * GIGA) == 1
            machine.guest_write(4 * GIGA + PAGE, 3)


def test_another_vmid_is_flushed_by_its_own_and_the_current_one_comes_back() -> None:
    with machine_with_pools(cpus=2) as machine:
        host, guest = new_space(), new_space(pool=PoolName.GUESTS, vmid=7)
        map_at(host, 4 * GIGA, HELD, PAGE)
        map_at(guest, 4 * GIGA, HELD + PAGE, PAGE)
        use(machine, guest)
        assert everywhere(machine, 4 * GIGA) == [HELD + PAGE] * 2
        use(machine, host)
        assert everywhere(machine, 4 * GIGA) == [HELD] * 2
        current = machine.read_register("VTTBR_EL2")
        assert stage2.unmap_range(guest, Ipa(u64(4 * GIGA)), u64(PAGE)) == u64(PAGE)
        assert machine.read_register("VTTBR_EL2") == current
        machine.hand_over(HELD + PAGE)
        assert sum(entry.vmid == 0 for _, entry in machine.translations()) > 0
        assert everywhere(machine, 4 * GIGA) == [HELD] * 2
        use(machine, guest)
        assert everywhere(machine, 4 * GIGA) == [None] * 2


def test_a_space_that_ends_is_forgotten() -> None:
    with machine_with_pools(cpus=2) as machine:
        host, guest = new_space(), new_space(pool=PoolName.GUESTS, vmid=7)
        map_at(guest, 4 * GIGA, HELD, PAGE)
        use(machine, guest)
        assert everywhere(machine, 4 * GIGA) == [HELD] * 2
        use(machine, host)
        assert stage2.unmap_range(guest, Ipa(u64(4 * GIGA)), u64(PAGE)) == u64(PAGE)
        assert stage2.destroy(guest) is None
        assert not any(entry.vmid == 7 for _, entry in machine.translations())


def test_el2_forgets_what_it_unmaps() -> None:
    with machine_with_pools(cpus=2) as machine:
        space = Space()
        assert stage1.create(space) is None
        assert stage1.map_range(space, Va(u64(HELD)), Pa(u64(HELD)), u64(MEGA2), Use.DATA) is None
        for number in range(2):
            with machine.on(number):
                machine.write_register("TTBR0_EL2", int(tables.vttbr_of(space).raw))
                machine.write_register("TCR_EL2", 16 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 1 << 31)
                machine.write_register("MAIR_EL2", int(stage1.MAIR))
                machine.write_register("SCTLR_EL2", 1)
                assert machine.el2_translate(HELD + 8, Access.WRITE) == HELD + 8
                with pytest.raises(GuestFault):
                    machine.el2_translate(HELD, Access.EXECUTE)
        assert stage1.unmap_leaf(space, Va(u64(HELD))) == u64(MEGA2)
        for number in range(2):
            with machine.on(number), pytest.raises(GuestFault):
                machine.el2_translate(HELD)


def names(machine: Machine, operate: Callable[[], object]) -> list[str]:
    before = len(machine.events)
    operate()
    return [event.name for event in machine.events[before:]]


FLUSH = ["dsb ishst", "tlbi ipas2e1is", "dsb ish", "tlbi vmalle1is", "dsb ish", "isb"]


def test_barriers_and_invalidations_in_their_order() -> None:
    with machine_with_pools() as machine:
        space = new_space()
        use(machine, space)
        assert names(machine, lambda: map_at(space, GIGA, GIGA, GIGA)) == ["dsb ishst"]
        assert names(machine, lambda: tables.split(space, u64(GIGA), u64(2))) == [*FLUSH, "dsb ishst"]
        assert names(machine, lambda: tables.unmap_leaf(space, u64(GIGA))) == FLUSH
        whole = ["dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb"]
        assert names(machine, lambda: flush.stage2_all(tables.vttbr_of(space))) == whole
        for rest in range(GIGA + MEGA2, 2 * GIGA, 32 * MEGA2):
            assert not isinstance(stage2.unmap_range(space, Ipa(u64(rest)), u64(32 * MEGA2)), Err)
        assert names(machine, lambda: stage2.destroy(space)) == whole
        mine = Space()
        assert stage1.create(mine) is None
        assert names(machine, lambda: stage1.map_range(mine, Va(u64(GIGA)), Pa(u64(GIGA)), u64(GIGA), Use.DATA)) == ["dsb ishst", "isb"]
        assert names(machine, lambda: stage1.unmap_leaf(mine, Va(u64(GIGA)))) == ["dsb ishst", "tlbi vae2is", "dsb ish", "isb"]


TWICE = ["dsb ishst", *FLUSH[1:5], *FLUSH[1:5], "isb"]


def test_where_a_processor_forgets_late_everything_is_invalidated_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first such processor on, on all of them."""
    monkeypatch.setattr(flush, "REPEATED", AtomicU32())
    with machine_with_pools(cpus=2) as machine:
        space = new_space()
        use(machine, space)
        machine.write_register("MIDR_EL1", CORTEX_A57)
        flush.note_processor()
        assert names(machine, lambda: flush.stage2_address(tables.vttbr_of(space), Ipa(u64(GIGA)))) == FLUSH
        with machine.on(1):
            machine.write_register("MIDR_EL1", NEOVERSE_N1)
            flush.note_processor()
        assert names(machine, lambda: flush.stage2_address(tables.vttbr_of(space), Ipa(u64(GIGA)))) == TWICE
        whole = ["tlbi vmalls12e1is", "dsb ish"]
        assert names(machine, lambda: flush.stage2_all(tables.vttbr_of(space))) == ["dsb ishst", *whole, *whole, "isb"]
        own = ["tlbi vae2is", "dsb ish"]
        assert names(machine, lambda: flush.el2_address(Va(u64(GIGA)))) == ["dsb ishst", *own, *own, "isb"]


SPACE_LOCK = Lock("space", rank=20)


@pytest.mark.parametrize("at", [4 * GIGA + PAGE, 4 * GIGA + 7 * PAGE])
def test_in_every_order_an_unmapped_page_can_be_handed_over(at: int) -> None:
    """One CPU takes a page out of a block while another reads that page and its neighbour."""
    spaces: list[Space] = []
    seen: list[int | None] = []

    def prepare() -> None:
        assign_pools(el2=0, host=6, guests=0, start_unit=2, starts=1)
        spaces[:] = [new_space()]
        seen.clear()
        use(scenario[0].machine, spaces[0])
        map_at(spaces[0], 4 * GIGA, HELD, MEGA2)

    def take() -> None:
        with SPACE_LOCK:
            assert stage2.unmap_range(spaces[0], Ipa(u64(4 * GIGA + PAGE)), u64(PAGE)) == u64(PAGE)
            scenario[0].machine.hand_over(HELD + PAGE)

    def read() -> None:
        for _ in range(2):
            seen.append(touch(scenario[0].machine, at))
            scenario[0].machine.point("between two reads")

    def check() -> None:
        assert all(got in (None, HELD + at - 4 * GIGA) for got in seen)
        assert everywhere(scenario[0].machine, at) == [None if at == 4 * GIGA + PAGE else HELD + at - 4 * GIGA] * 2

    scenario: list[Scenario] = []

    def build() -> Scenario:
        scenario[:] = [Scenario(Machine(RAM, RAM_SIZE, 2), [take, read], check, prepare=prepare)]
        return scenario[0]

    assert explore(build, preemptions=2, runs=60, random_runs=20).runs >= 60


def test_two_cpus_that_want_the_last_table() -> None:
    """Both map a page where a table is missing, in spaces of their own, and one table is left: one gets it, in any order."""
    spaces: list[Space] = []
    got: list[Err | None] = []

    def prepare() -> None:
        assign_pools(el2=0, host=3, guests=0, start_unit=2, starts=2)
        spaces[:] = [new_space(), new_space(vmid=1)]
        got.clear()
        map_at(spaces[0], 0, HELD, MEGA2)
        map_at(spaces[1], 0, HELD, MEGA2)

    def map_in(number: int) -> Callable[[], None]:
        return lambda: got.append(
            stage2.map_page(spaces[number], Ipa(u64(MEGA2)), Pa(u64(HELD)), Stage2Memory.NORMAL, ALL),
        )

    def check() -> None:
        assert sorted(got, key=str) == [Err.NO_MEMORY, None]
        assert [stage2.translate(space, Ipa(u64(MEGA2))) is None for space in spaces].count(True) == 1

    explored = explore(lambda: Scenario(Machine(RAM, RAM_SIZE, 2), [map_in(0), map_in(1)], check, prepare=prepare), preemptions=1, runs=100)
    assert explored.runs > 10
