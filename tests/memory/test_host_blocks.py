# SPDX-License-Identifier: Apache-2.0
"""The host's map when pages leave it and come back: a block is a table of pages while one of its pages is out, on every CPU, in every order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from memory_world import BOOKKEEPING_AT, RAM, RAM_SIZE, RawLeaf, assign_pools, machine_with_pools, raw_leaves, use, used

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import flush, host_map, pages, tables
from delphyne.el2.memory.host_map import HOST_LOCK, HOST_SPACE, OUT, RAGGED
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import Ipa, Pa, u64, wipe
from delphyne.lang.machine import Access, GuestFault, Machine, MachineError, Scenario, explore

PAGE, MEGA2 = 1 << 12, 1 << 21
FIRST = RAM + 5 * MEGA2 + 3 * PAGE
"""Where the host's memory begins: in the first 2 MiB it has no whole block."""
BLOCK, OTHER = RAM + 6 * MEGA2, RAM + 7 * MEGA2
OUT_AT = BOOKKEEPING_AT + 0x1000


def begin(machine: Machine) -> None:
    """A host's map of two blocks and, before them, a table that never was one."""
    wipe(HOST_SPACE)
    if OUT.length != 0:
        OUT.detach()
    host_map.attach(Pa(u64(OUT_AT)), u64(pages.TABLES.length))
    with HOST_LOCK:
        assert host_map.create(u64(40)) is None
        assert host_map.add(u64(FIRST), u64(RAM + RAM_SIZE - FIRST)) is None
    use(machine, HOST_SPACE)


@contextmanager
def a_host(cpus: int = 3, host: int = 8) -> Iterator[Machine]:
    try:
        with machine_with_pools(cpus, el2=0, guests=0, host=host, starts=1) as machine:
            begin(machine)
            yield machine
    finally:
        OUT.detach()
        wipe(HOST_SPACE)


def out(at: int) -> Err | None:
    with HOST_LOCK:
        return host_map.remove(Pa(u64(at)))


def back(at: int) -> None:
    with HOST_LOCK:
        host_map.restore(Pa(u64(at)))


def touch(machine: Machine, at: int) -> int | None:
    try:
        return machine.walker().el1(at, Access.WRITE).at(at)
    except GuestFault:
        return None


def everywhere(machine: Machine, at: int) -> set[int | None]:
    found = set()
    for number in range(len(machine.cpus)):
        with machine.on(number):
            found.add(touch(machine, at))
    return found


def leaves_of(machine: Machine, block: int) -> list[RawLeaf]:
    return [leaf for leaf in raw_leaves(machine, HOST_SPACE)[0] if block <= leaf.address < block + MEGA2]


def counted(at: int) -> int:
    """What OUT says of the table of a page."""
    with HOST_LOCK:
        return int(OUT[tables.walk(HOST_SPACE, u64(at)).table])


def test_the_last_page_back_makes_the_block_again_and_frees_its_table() -> None:
    with a_host() as machine:
        before, tables_before = raw_leaves(machine, HOST_SPACE), used(PoolName.HOST)
        gone = [BLOCK + page * PAGE for page in (0, 5, 511)]
        for at in gone:
            assert out(at) is None
        assert used(PoolName.HOST) == tables_before + 1
        for page in range(0, 512, 7):
            assert everywhere(machine, BLOCK + page * PAGE) == {None if BLOCK + page * PAGE in gone else BLOCK + page * PAGE}
        for number, at in enumerate(gone):
            assert counted(at) == 3 - number
            assert len(leaves_of(machine, BLOCK)) == 509 + number
            back(at)
        assert raw_leaves(machine, HOST_SPACE) == before
        assert [leaf.size for leaf in leaves_of(machine, BLOCK)] == [MEGA2]
        assert used(PoolName.HOST) == tables_before
        assert {int(OUT[u64(page)]) for page in range(int(pages.TABLES.length))} == {0, int(RAGGED)}
        remembered = [entry for _, entry in machine.translations() if BLOCK <= entry.output < BLOCK + MEGA2 and entry.size == PAGE]
        assert not remembered, "a page of the table that is gone is remembered"
        for page in range(0, 512, 7):
            assert everywhere(machine, BLOCK + page * PAGE) == {BLOCK + page * PAGE}


def test_a_block_that_is_out_as_a_whole_comes_back_without_memory() -> None:
    with a_host(host=4) as machine:
        assert used(PoolName.HOST) == 2, "the table of blocks, and the one that never was a block"
        pages_of = [BLOCK + page * PAGE for page in range(512)]
        random.Random(1).shuffle(pages_of)
        for at in pages_of:
            assert out(at) is None
        assert out(OTHER) is None
        assert used(PoolName.HOST) == 4, "there is none left"
        assert leaves_of(machine, BLOCK) == []
        random.Random(2).shuffle(pages_of)
        for number, at in enumerate(pages_of):
            assert len(leaves_of(machine, BLOCK)) == number
            back(at)
        assert [leaf.size for leaf in leaves_of(machine, BLOCK)] == [MEGA2]
        assert used(PoolName.HOST) == 3
        back(OTHER)
        assert used(PoolName.HOST) == 2


def test_without_a_table_a_page_stays_in_and_nothing_is_counted() -> None:
    with a_host(host=3) as machine:
        assert out(BLOCK) is None
        before = raw_leaves(machine, HOST_SPACE)
        assert out(OTHER + PAGE) is Err.NO_MEMORY
        assert out(BLOCK) is Err.NOT_FOUND
        assert (raw_leaves(machine, HOST_SPACE), counted(BLOCK + PAGE)) == (before, 1)
        back(BLOCK)
        assert out(OTHER + PAGE) is None, "the table that was freed is there for others"


def test_a_table_that_never_was_a_block_stays_one() -> None:
    with a_host() as machine:
        before = raw_leaves(machine, HOST_SPACE)
        assert counted(FIRST) == int(RAGGED)
        for at in (FIRST, FIRST + PAGE):
            assert out(at) is None
        assert counted(FIRST) == int(RAGGED) + 2
        for at in (FIRST, FIRST + PAGE):
            back(at)
        assert counted(FIRST) == int(RAGGED)
        assert raw_leaves(machine, HOST_SPACE) == before
        assert everywhere(machine, FIRST - PAGE) == {None}, "what is not the host's is no part of a block"


def test_devices_that_fill_a_table_in_pieces_do_not_undo_what_is_counted() -> None:
    """What is added later to a table that never was a block leaves its count, with pages out."""
    with a_host():
        assert out(FIRST) is None
        with HOST_LOCK:
            assert host_map.add(u64(FIRST - PAGE), u64(PAGE)) is None
        assert counted(FIRST) == int(RAGGED) + 1
        back(FIRST)


def test_a_megabyte_that_is_added_in_pages_is_marked_at_both_its_ends() -> None:
    with a_host() as machine:
        with HOST_LOCK:
            assert host_map.add(u64(1 << 30) - PAGE * 2, u64(PAGE)) is None
            assert host_map.add(u64(2 << 30) + PAGE, u64(2 * MEGA2)) is None
        for at in ((1 << 30) - PAGE * 2, (2 << 30) + PAGE, (2 << 30) + 2 * MEGA2):
            assert counted(at) == int(RAGGED)
        assert [leaf.size for leaf in leaves_of(machine, (2 << 30) + MEGA2)] == [MEGA2]


def test_histories_of_pages_leave_a_block_whole_exactly_while_none_is_out() -> None:
    chance = random.Random(3)
    with a_host(cpus=2) as machine:
        blocks = {BLOCK: set[int](), OTHER: set[int]()}
        for _ in range(400):
            block = chance.choice(list(blocks))
            gone = blocks[block]
            at = block + chance.choice([0, 1, 2, 510, 511]) * PAGE
            if at in gone:
                back(at)
                gone.remove(at)
            else:
                assert out(at) is None
                machine.hand_over(at)
                gone.add(at)
            for base, missing in blocks.items():
                assert used(PoolName.HOST) == 2 + sum(bool(some) for some in blocks.values())
                looked = base + chance.choice([0, 1, 2, 100, 510, 511]) * PAGE
                assert everywhere(machine, looked) == {None if looked in missing else looked}
                assert (len(leaves_of(machine, base)) == 1) == (not missing)


MERGED = ["dsb ishst", "dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", "dsb ishst", *["dc zva"] * 64]
"""The page back; its table cut off and forgotten; the block shown; the table emptied."""


def test_barriers_and_invalidations_of_a_merge_in_their_order() -> None:
    with a_host() as machine:
        assert out(BLOCK) is None
        before = len(machine.events)
        back(BLOCK)
        assert [event.name for event in machine.events[before:]] == MERGED


def in_every_order(at: int) -> int:
    """One CPU gives the last page of a block back while another reads a page of it, by the table or by the block; how many orders were tried."""
    seen: list[int | None] = []
    scenario: list[Scenario] = []

    def prepare() -> None:
        assign_pools(el2=0, host=4, guests=0, starts=1)
        begin(scenario[0].machine)
        seen.clear()
        assert out(BLOCK + PAGE) is None

    def give() -> None:
        back(BLOCK + PAGE)

    def read() -> None:
        for _ in range(2):
            seen.append(touch(scenario[0].machine, at))
            scenario[0].machine.point("between two reads")

    def check() -> None:
        assert all(got in (None, at) for got in seen)
        assert everywhere(scenario[0].machine, at) == {at}
        assert used(PoolName.HOST) == 2

    def build() -> Scenario:
        scenario[:] = [Scenario(Machine(RAM, RAM_SIZE, 2), [give, read], check, prepare=prepare)]
        return scenario[0]

    try:
        return explore(build, preemptions=2, runs=60, random_runs=20).runs
    finally:
        OUT.detach()
        wipe(HOST_SPACE)


@pytest.mark.parametrize("at", [BLOCK + PAGE, BLOCK + 7 * PAGE])
def test_in_every_order_a_block_is_made_of_its_pages(at: int) -> None:
    assert in_every_order(at) >= 60


FAULTS: dict[str, tuple[object, str, object]] = {
    "nothing is forgotten": (flush, "stage2_all", lambda vttbr: None),
    "one page is forgotten": (flush, "stage2_all", lambda vttbr: flush.stage2_address(vttbr, Ipa(u64(BLOCK + PAGE)))),  # type: ignore[arg-type]
    "the table is not cut off first": (tables, "_clear", lambda table, slot: None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_of_the_merge_is_caught(fault: str) -> None:
    where, name, change = FAULTS[fault]
    with a_host() as machine:
        assert out(BLOCK + PAGE) is None
        for page in (0, 7, 511):
            everywhere(machine, BLOCK + page * PAGE)
        with mock.patch.object(where, name, change), pytest.raises((MachineError, AssertionError)):
            back(BLOCK + PAGE)
