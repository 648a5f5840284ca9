# SPDX-License-Identifier: Apache-2.0
"""The host's table of pages that `host_map.remove` remembers: pages leave the table that they stand in, whichever was last, and a table that is gone
is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
from private_world import FIRST, HOST_AT, IPA, PAGE, SECOND, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import host_map, pages, stage2
from delphyne.el2.memory.host_map import HOST_LOCK, HOST_SPACE, LAST
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Stage2Memory
from delphyne.lang import Ipa, Pa, u64

BLOCK = 512 * PAGE
A = HOST_AT
BESIDE = A + BLOCK
"""In the same slot of another table."""
SECRET = b"a secret".ljust(PAGE, b"\x11")


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        made.looked_at = [base + n * PAGE for base in (A, BESIDE, A + 2 * BLOCK) for n in range(6)]  # type: ignore[assignment]
        yield made
        made.check()


def remove(pa: int) -> object:
    with HOST_LOCK:
        return host_map.remove(Pa(u64(pa)))


@pytest.mark.parametrize("order", [(A, BESIDE), (BESIDE, A), (A, A + PAGE), (A, BESIDE + PAGE)])
def test_a_page_leaves_the_table_that_it_stands_in(world: World, order: tuple[int, int]) -> None:
    for turn, pa in enumerate((*order, order[0] + 2 * PAGE, order[1] + 2 * PAGE)):
        assert world.admit((FIRST, SECOND)[turn % 2], IPA + turn * PAGE, pa) is None
        world.check()
    assert world.touch(order[0]) is not None
    world.check()
    assert world.admit(FIRST, IPA + 8 * PAGE, order[1] + 3 * PAGE) is None


def test_the_table_that_is_remembered_is_not_walked_to(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    find = host_map._find_table

    def noted(page: u64) -> object:
        looked.append(int(page))
        return find(page)

    monkeypatch.setattr(host_map, "_find_table", noted)
    for turn, pa in enumerate((A, A + PAGE, BESIDE, BESIDE + PAGE, A + 2 * PAGE)):
        assert world.admit(FIRST, IPA + turn * PAGE, pa) is None
    assert looked == [A, BESIDE, A + 2 * PAGE]


def test_a_page_that_is_out_already_is_not_found(world: World) -> None:
    for pa, known in product((A, BESIDE), (True, False)):
        if not known:
            with HOST_LOCK:
                host_map.forget_table()
        assert world.entry(pa).state.raw == 1
        assert remove(pa) is None
        assert remove(pa) is Err.NOT_FOUND
        with HOST_LOCK:
            host_map.restore(Pa(u64(pa)))
        world.check()


def test_where_no_table_is_left_for_a_split_what_is_remembered_stays(world: World) -> None:
    assert world.admit(FIRST, IPA, A) is None
    kept = (int(LAST.block), int(LAST.table))
    assert pages.reserve(PoolName.HOST, pages.available(PoolName.HOST)) is None
    assert world.admit(FIRST, IPA + PAGE, BESIDE) is Err.NO_MEMORY
    world.check()
    assert kept == (int(LAST.block), int(LAST.table))
    assert world.admit(FIRST, IPA + PAGE, A + PAGE) is None


def test_whoever_takes_a_table_out_of_the_map_has_it_forgotten(world: World) -> None:
    """As a map would whose pages become a block again: the table goes back to its pool, and another's words may stand in it soon."""
    assert remove(A) is None
    with HOST_LOCK:
        host_map.restore(Pa(u64(A)))
        host_map.forget_table()
        for n in range(512 // 32):
            assert stage2.unmap_range(HOST_SPACE, Ipa(u64(A + n * 32 * PAGE)), u64(32 * PAGE)) == 32 * PAGE
        assert stage2.map_range(HOST_SPACE, Ipa(u64(A)), Pa(u64(A)), u64(BLOCK), Stage2Memory.NORMAL, host_map.EVERYTHING) is None
    world.check()
    assert world.admit(FIRST, IPA, A + PAGE) is None


def test_of_a_new_map_nothing_is_remembered() -> None:
    for _ in range(2):
        with a_world() as world:
            assert LAST.block == 0
            assert world.admit(FIRST, IPA, A) is None
            assert LAST.block != 0
