# SPDX-License-Identifier: Apache-2.0
"""Every operation on tables with every number of tables left: it works with what it needs, and one fewer changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_world import machine_with_pools, new_space, raw_leaves, region_bytes, used

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import pages, stage1, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space
from delphyne.lang import Ipa, Pa, Va, u16, u64

PAGE, MEGA2, GIGA = 1 << 12, 1 << 21, 1 << 30
ALL, READ = Rights(True, True, True), Rights(True, False, False)


def map_at(space: Space, at: int, size: int, to: int | None = None) -> Err | None:
    return stage2.map_range(space, Ipa(u64(at)), Pa(u64(at if to is None else to)), u64(size), Stage2Memory.NORMAL, ALL)


def unmap_at(space: Space, at: int, size: int) -> u64 | Err:
    return stage2.unmap_range(space, Ipa(u64(at)), u64(size))


def a_gigabyte(space: Space) -> None:
    assert map_at(space, GIGA, GIGA) is None


def nothing(space: Space) -> None:
    pass


Operation = Callable[[Space], object]
CASES: dict[str, tuple[int, Operation, Operation, int]] = {
    "a page from level 1": (40, nothing, lambda s: map_at(s, 5 * PAGE, PAGE), 2),
    "a page from level 0": (48, nothing, lambda s: map_at(s, 5 * PAGE, PAGE), 3),
    "a block of 2 MiB": (40, nothing, lambda s: map_at(s, MEGA2, MEGA2), 1),
    "a block of 1 GiB": (40, nothing, lambda s: map_at(s, GIGA, GIGA), 0),
    "a block of 1 GiB from level 0": (44, nothing, lambda s: map_at(s, GIGA, GIGA), 1),
    "both ends ragged": (40, nothing, lambda s: map_at(s, GIGA - PAGE, GIGA + 2 * PAGE), 4),
    "across tables of level 3": (40, nothing, lambda s: map_at(s, MEGA2 - PAGE, 2 * PAGE), 3),
    "blocks and pages": (40, nothing, lambda s: map_at(s, GIGA, 3 * MEGA2 + PAGE), 2),
    "an output that allows only pages": (40, nothing, lambda s: map_at(s, 0, 2 * PAGE, to=7 * PAGE), 2),
    "a page out of a gigabyte": (40, a_gigabyte, lambda s: unmap_at(s, GIGA + 5 * PAGE, PAGE), 2),
    "the first page of a gigabyte": (40, a_gigabyte, lambda s: unmap_at(s, GIGA, PAGE), 2),
    "the last page of a gigabyte": (40, a_gigabyte, lambda s: unmap_at(s, 2 * GIGA - PAGE, PAGE), 2),
    "2 MiB out of a gigabyte": (40, a_gigabyte, lambda s: unmap_at(s, GIGA + MEGA2, MEGA2), 1),
    "a gigabyte": (40, a_gigabyte, lambda s: unmap_at(s, GIGA, GIGA), 0),
    "rights of a page": (40, a_gigabyte, lambda s: stage2.protect(s, Ipa(u64(GIGA)), u64(PAGE), READ), 2),
    "rights of 2 MiB": (40, a_gigabyte, lambda s: stage2.protect(s, Ipa(u64(GIGA)), u64(MEGA2), READ), 1),
    "rights of a gigabyte": (40, a_gigabyte, lambda s: stage2.protect(s, Ipa(u64(GIGA)), u64(GIGA), READ), 0),
    "a split to 2 MiB": (40, a_gigabyte, lambda s: tables.split(s, u64(GIGA), u64(2)), 1),
    "a split to pages": (40, a_gigabyte, lambda s: tables.split(s, u64(GIGA), u64(3)), 2),
    "a leaf": (40, nothing, lambda s: tables.map_leaf(s, u64(GIGA), u64(0), u64(3), u64(0x400)), 2),
}


@pytest.mark.parametrize("name", CASES)
def test_it_takes_what_it_needs_or_changes_nothing(name: str) -> None:
    bits, prepare, operate, needed = CASES[name]
    for left in range(needed + 1):
        with machine_with_pools(el2=0, host=8, guests=0, starts=1, start_unit=2) as machine:
            space = new_space(bits)
            prepare(space)
            assert pages.reserve(PoolName.HOST, pages.available(PoolName.HOST) - u64(left)) is None
            before = region_bytes(machine)
            got = operate(space)
            if left < needed:
                assert got == Err.NO_MEMORY
                assert region_bytes(machine) == before
            else:
                assert not isinstance(got, Err)
                assert len(raw_leaves(machine, space)[1]) == used(PoolName.HOST)
                assert int(pages.POOLS[u64(PoolName.HOST.raw)].reserved) == 8 - left


@pytest.mark.parametrize(
    ("start", "end", "needed"),
    [
        (GIGA + PAGE, GIGA + 3 * PAGE, 2),
        (GIGA + PAGE, GIGA + MEGA2 + PAGE, 3),
        (GIGA + MEGA2, GIGA + MEGA2 + PAGE, 2),
        (GIGA + PAGE, 2 * GIGA + PAGE, 4),
        (GIGA + PAGE, 2 * GIGA, 2),
        (GIGA, 2 * GIGA + PAGE, 2),
        (GIGA + MEGA2, 2 * GIGA + MEGA2, 2),
        (GIGA + MEGA2, 3 * GIGA, 1),
    ],
)
def test_two_edges_need_no_more_than_both_splits_together(start: int, end: int, needed: int) -> None:
    """Tables that both ends of an unmapping share are counted once, whether they lie in one block or in two."""
    for left in (needed - 1, needed):
        with machine_with_pools(el2=0, host=8, guests=0, starts=1, start_unit=2) as machine:
            space = new_space()
            assert map_at(space, GIGA, 2 * GIGA) is None
            assert pages.reserve(PoolName.HOST, u64(8 - left)) is None
            before = region_bytes(machine)
            got = unmap_at(space, start, end - start)
            if left < needed:
                assert got == Err.NO_MEMORY
                assert region_bytes(machine) == before
            else:
                assert not isinstance(got, Err)
                assert int(pages.POOLS[u64(PoolName.HOST.raw)].reserved) == 8 - left


WRONG: dict[str, tuple[Callable[[Space], object], Err]] = {
    "unaligned address": (lambda s: map_at(s, 1, PAGE, to=0), Err.ALIGNMENT),
    "unaligned output": (lambda s: map_at(s, 0, PAGE, to=8), Err.ALIGNMENT),
    "unaligned size": (lambda s: map_at(s, 0, PAGE + 1), Err.ALIGNMENT),
    "address beyond": (lambda s: map_at(s, 1 << 40, PAGE, to=0), Err.RANGE),
    "end beyond": (lambda s: map_at(s, (1 << 40) - PAGE, 2 * PAGE, to=0), Err.RANGE),
    "size that wraps": (lambda s: map_at(s, PAGE, 2**64 - PAGE, to=0), Err.RANGE),
    "output beyond": (lambda s: map_at(s, 0, PAGE, to=1 << 48), Err.RANGE),
    "output end beyond": (lambda s: map_at(s, 0, 2 * PAGE, to=(1 << 48) - PAGE), Err.RANGE),
    "too many leaves": (lambda s: map_at(s, 16 * GIGA, 8193 * PAGE, to=PAGE), Err.RANGE),
    "over a block": (lambda s: map_at(s, GIGA + PAGE, PAGE), Err.EXISTS),
    "over tables": (lambda s: map_at(s, 0, GIGA), Err.EXISTS),
    "into a block": (lambda s: map_at(s, GIGA - PAGE, 2 * PAGE), Err.EXISTS),
    "unmap unaligned": (lambda s: unmap_at(s, 8, PAGE), Err.ALIGNMENT),
    "unmap beyond": (lambda s: unmap_at(s, 1 << 40, PAGE), Err.RANGE),
    "unmap wrapping": (lambda s: unmap_at(s, PAGE, 2**64 - PAGE), Err.RANGE),
    "rights of an odd size": (lambda s: stage2.protect(s, Ipa(u64(GIGA)), u64(3 * PAGE), READ), Err.INVALID),
    "rights of no size": (lambda s: stage2.protect(s, Ipa(u64(GIGA)), u64(0), READ), Err.INVALID),
    "rights unaligned": (lambda s: stage2.protect(s, Ipa(u64(GIGA + PAGE)), u64(MEGA2), READ), Err.ALIGNMENT),
    "rights beyond": (lambda s: stage2.protect(s, Ipa(u64(1 << 40)), u64(PAGE), READ), Err.RANGE),
    "rights of nothing": (lambda s: stage2.protect(s, Ipa(u64(8 * GIGA)), u64(PAGE), READ), Err.NOT_FOUND),
    "rights of pieces": (lambda s: stage2.protect(s, Ipa(u64(0)), u64(MEGA2), READ), Err.NOT_FOUND),
    "split of nothing": (lambda s: tables.split(s, u64(8 * GIGA), u64(3)), Err.NOT_FOUND),
    "leaf over a block": (lambda s: tables.map_leaf(s, u64(GIGA), u64(0), u64(3), u64(0)), Err.EXISTS),
    "leaf over a table": (lambda s: tables.map_leaf(s, u64(0), u64(0), u64(2), u64(0)), Err.EXISTS),
    "a space twice": (lambda s: stage2.create(s, u64(40), PoolName.STARTS, PoolName.HOST, u16(0)), Err.EXISTS),
    "a space that is in use": (stage2.destroy, Err.BUSY),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_change_nothing(name: str) -> None:
    operate, error = WRONG[name]
    with machine_with_pools(host=8) as machine:
        space = new_space()
        a_gigabyte(space)
        assert map_at(space, PAGE, 2 * PAGE) is None
        before = region_bytes(machine)
        assert operate(space) == error
        assert region_bytes(machine) == before


def test_spaces_of_odd_sizes_are_refused() -> None:
    with machine_with_pools(start_unit=2, starts=1):
        space = Space()
        for bits in (0, 38, 49, 64):
            assert stage2.create(space, u64(bits), PoolName.STARTS, PoolName.HOST, u16(0)) == Err.RANGE
        assert stage2.create(space, u64(41), PoolName.STARTS, PoolName.HOST, u16(0)) == Err.UNSUPPORTED
        assert stage2.destroy(space) == Err.STATE
        assert stage2.create(space, u64(40), PoolName.STARTS, PoolName.HOST, u16(0)) is None
        other = Space()
        assert stage2.create(other, u64(40), PoolName.STARTS, PoolName.HOST, u16(1)) == Err.NO_MEMORY
        assert stage2.destroy(space) is None
        assert stage2.create(other, u64(40), PoolName.STARTS, PoolName.HOST, u16(1)) is None


def test_long_unmapping_is_done_in_pieces() -> None:
    with machine_with_pools(host=8) as machine:
        space = new_space()
        assert map_at(space, 0, MEGA2, to=PAGE) is None
        done, calls = 0, 0
        while done < MEGA2:
            got = unmap_at(space, done, MEGA2 - done)
            assert not isinstance(got, Err)
            done, calls = done + int(got), calls + 1
        assert calls == 512 // int(tables.UNMAP_LIMIT)
        assert raw_leaves(machine, space) == ([], [])


def test_el2s_map() -> None:
    with machine_with_pools() as machine:
        space = Space()
        assert stage1.create(space) is None
        assert stage1.create(space) == Err.EXISTS
        pieces = [
            (GIGA, MEGA2, Use.TEXT),
            (GIGA + MEGA2, PAGE, Use.CONSTANTS),
            (GIGA + MEGA2 + PAGE, 3 * PAGE, Use.DATA),
            (0x0900_0000, PAGE, Use.DEVICE),
        ]
        for at, size, use in pieces:
            assert stage1.map_range(space, Va(u64(at)), Pa(u64(at)), u64(size), use) is None
        leaves, found = raw_leaves(machine, space)
        assert [(leaf.address, leaf.size, leaf.output) for leaf in leaves] == [
            (0x0900_0000, PAGE, 0x0900_0000),
            (GIGA, MEGA2, GIGA),
            *[(at, PAGE, at) for at in range(GIGA + MEGA2, GIGA + MEGA2 + 4 * PAGE, PAGE)],
        ]
        assert not any(leaf.raw >> 7 & 1 == 0 and leaf.raw >> 54 & 1 == 0 for leaf in leaves), "something is writable and executable"
        assert used(PoolName.EL2) == len(found) + 1
        assert stage1.translate(space, Va(u64(GIGA + 0x12345))) == Pa(u64(GIGA + 0x12345))
        assert stage1.translate(space, Va(u64(2 * GIGA))) is None
        assert stage1.translate(space, Va(u64(1 << 48))) is None
        assert stage1.unmap_leaf(space, Va(u64(1 << 48))) == Err.RANGE
        assert stage1.unmap_leaf(space, Va(u64(2 * GIGA))) == Err.NOT_FOUND
        assert stage1.unmap_leaf(space, Va(u64(GIGA + PAGE))) == u64(MEGA2)
        assert stage1.translate(space, Va(u64(GIGA))) is None
