# SPDX-License-Identifier: Apache-2.0
"""Where a protected guest has all pages of 2 MiB, each at its place in one block of memory, its tables have a block, and to whoever moves one of the
pages it is as if there were none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from private_world import BLOCK, EXECUTE, FIRST, HOST_AT, IPA, PAGE, READ, SECOND, WRITE, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import ending, moving, private, steps, whole
from delphyne.el2.memory import pages
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Ipa, Pa, u64

PAGES = BLOCK // PAGE
SOME = 77
"""One of the pages."""


@contextmanager
def worlds(cpus: int = 1, *, pieces: bool = False) -> Iterator[World]:
    with a_world(3 * PAGES, cpus=cpus, pieces=pieces) as world:
        world.looked_at = range(HOST_AT, HOST_AT + 2 * BLOCK, PAGE)
        yield world


def level(world: World, number: int = FIRST, ipa: int = IPA) -> int:
    """The level at which the walk for a page ends."""
    return int(world.do(steps.look, u64(world.guard(number)), Ipa(u64(ipa))).level)  # type: ignore[attr-defined]


def fill(world: World, order: list[int] | None = None, number: int = FIRST) -> None:
    """All pages of the block, in this order."""
    for page in order or range(PAGES):
        assert level(world, number) == (3 if page != (order or [0])[0] else level(world, number))
        assert world.admit(number, IPA + page * PAGE, HOST_AT + page * PAGE) is None


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_the_last_page_makes_the_block(seed: int | None) -> None:
    order = list(range(PAGES))
    if seed is not None:
        random.Random(seed).shuffle(order)
    with worlds() as world:
        fill(world, order[:-1])
        assert level(world) == 3
        assert world.admit(FIRST, IPA + order[-1] * PAGE, HOST_AT + order[-1] * PAGE) is None
        assert level(world) == 2
        world.check()
        for page in (0, 1, SOME, PAGES - 1):
            for access in (READ, WRITE, EXECUTE):
                assert world.reach(FIRST, IPA + page * PAGE, access) == HOST_AT + page * PAGE
            assert world.reach(None, HOST_AT + page * PAGE) is None
            assert world.content(FIRST, IPA + page * PAGE) == bytes(PAGE)
        assert world.reach(FIRST, IPA + BLOCK) is None


def put_numbers(world: World) -> None:
    for page in range(PAGES):
        world.put(FIRST, IPA + page * PAGE, f"page {page}".encode())


def has_numbers(world: World, but: int) -> bool:
    return all(world.content(FIRST, IPA + page * PAGE) == f"page {page}".encode().ljust(PAGE, b"\0") for page in range(PAGES) if page != but)


def by_touch(world: World) -> None:
    seen = world.touch(HOST_AT + SOME * PAGE)
    assert seen is not None
    assert b"page" not in seen


def by_export(world: World) -> None:
    assert world.page(private.export, FIRST, IPA + SOME * PAGE) is None


def by_giving_up(world: World) -> None:
    world.page(private.give_up, FIRST, IPA + SOME * PAGE)
    assert world.content(None, HOST_AT + SOME * PAGE) == bytes(PAGE)


LEAVING: dict[str, Callable[[World], None]] = {"a touch": by_touch, "an export": by_export, "giving up": by_giving_up}


@pytest.mark.parametrize("pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("way", LEAVING)
def test_one_page_leaves_and_comes_back(way: str, pieces: bool) -> None:
    with worlds(pieces=pieces) as world:
        fill(world)
        put_numbers(world)
        used = int(pages.POOLS[int(PoolName.GUESTS.raw)].used)
        LEAVING[way](world)
        assert level(world) == 3
        assert world.reach(FIRST, IPA + SOME * PAGE) is None
        assert has_numbers(world, but=SOME)
        world.check()
        assert world.admit(FIRST, IPA + SOME * PAGE, HOST_AT + SOME * PAGE) is None
        assert level(world) == (2 if way == "giving up" else 3), "one that is touched first makes the block at once"
        assert has_numbers(world, but=SOME)
        back = bytes(PAGE) if way == "giving up" else f"page {SOME}".encode().ljust(PAGE, b"\0")
        assert world.content(FIRST, IPA + SOME * PAGE) == back
        assert int(pages.POOLS[int(PoolName.GUESTS.raw)].used) == used, "the table was kept"
        world.check()


def test_a_page_that_is_shared_is_none_of_a_block() -> None:
    with worlds() as world:
        fill(world)
        put_numbers(world)
        assert world.page(private.share, FIRST, IPA + SOME * PAGE) is None
        assert level(world) == 3
        world.put(None, HOST_AT + SOME * PAGE, b"the host's")
        assert has_numbers(world, but=SOME)
        world.check()
        assert world.page(private.unshare, FIRST, IPA + SOME * PAGE) is None
        assert world.content(FIRST, IPA + SOME * PAGE) == b"the host's".ljust(PAGE, b"\0")
        world.check()
        world.page(private.give_up, FIRST, IPA)
        assert world.admit(FIRST, IPA, HOST_AT) is None
        assert level(world) == 2, "the next page that comes makes the block again"
        world.check()


def test_pages_that_go_and_come_make_a_block_now_and_then() -> None:
    """The first time that all are there, and then every PATIENCE-th time."""
    with worlds() as world:
        for page in range(PAGES):
            assert world.admit(FIRST, IPA + page * PAGE, HOST_AT + page * PAGE) is None
            if page == SOME:
                assert world.page(private.export, FIRST, IPA + SOME * PAGE) is None
                assert world.admit(FIRST, IPA + SOME * PAGE, HOST_AT + SOME * PAGE) is None
        assert level(world) == 2
        for time in range(2 * (int(whole.PATIENCE) + 1)):
            page = time % 3
            assert world.page(private.export, FIRST, IPA + page * PAGE) is None
            assert level(world) == 3
            assert world.admit(FIRST, IPA + page * PAGE, HOST_AT + page * PAGE) is None
            assert level(world) == (2 if time % (int(whole.PATIENCE) + 1) == int(whole.PATIENCE) else 3)
        world.check()


def test_a_block_that_another_guest_had_is_the_next_ones_too() -> None:
    """Exported by one, imported by nobody: its frames go to a second guest, page by page."""
    with worlds() as world:
        fill(world)
        index = u64(world.guard(FIRST))
        while not world.do(ending.end_some, index):
            pass
        fill(world, number=SECOND)
        assert level(world, SECOND) == 2
        assert world.reach(SECOND, IPA + SOME * PAGE) == HOST_AT + SOME * PAGE


def test_pages_out_of_their_place_are_no_block() -> None:
    """All of the host's block is out, and all of the guest's table full."""
    with worlds() as world:
        for page in range(PAGES):
            at = {3: 4, 4: 3}.get(page, page)
            assert world.admit(FIRST, IPA + page * PAGE, HOST_AT + at * PAGE) is None
        assert level(world) == 3
        world.check()


def test_pages_of_two_guests_are_no_block() -> None:
    with worlds() as world:
        for page in range(PAGES):
            assert world.admit(SECOND if page == SOME else FIRST, IPA + page * PAGE, HOST_AT + page * PAGE) is None
        assert (level(world), level(world, SECOND)) == (3, 3)
        world.check()


@pytest.mark.parametrize("rights", [Rights(True, False, True), Rights(True, True, False)])
def test_pages_with_other_rights_are_no_block(rights: Rights) -> None:
    with worlds() as world:
        assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(HOST_AT)), rights) is None
        world.page(private.reveal, FIRST, IPA)
        for page in range(1, PAGES):
            assert world.admit(FIRST, IPA + page * PAGE, HOST_AT + page * PAGE) is None
        assert level(world) == 3
        world.check()


def test_a_page_that_cannot_come_back_leaves_no_block() -> None:
    with worlds() as world:
        fill(world)
        put_numbers(world)
        assert world.page(private.export, FIRST, IPA + SOME * PAGE) is None
        world.put(None, HOST_AT + SOME * PAGE, b"another")
        assert world.admit(FIRST, IPA + SOME * PAGE, HOST_AT + SOME * PAGE) is Err.INTEGRITY
        assert level(world) == 3
        assert has_numbers(world, but=SOME)
        world.check()


@pytest.mark.parametrize("both_stages", [False, True])
def test_no_cpu_remembers_a_block_of_which_a_page_has_left(both_stages: bool) -> None:
    """And none a page of what is a block by now: the machine would see two translations of one address."""
    with worlds(cpus=2) as world:
        fill(world, list(range(PAGES - 1)))
        with world.machine.on(1):
            for page in (0, SOME, PAGES - 1):
                reached = world.reach(FIRST, IPA + page * PAGE, both_stages=both_stages)
                assert reached == (None if page == PAGES - 1 else HOST_AT + page * PAGE)
        assert world.admit(FIRST, IPA + BLOCK - PAGE, HOST_AT + BLOCK - PAGE) is None
        with world.machine.on(1):
            for page in (0, SOME, PAGES - 1):
                assert world.reach(FIRST, IPA + page * PAGE, both_stages=both_stages) == HOST_AT + page * PAGE
        assert world.page(private.export, FIRST, IPA + SOME * PAGE) is None
        with world.machine.on(1):
            assert world.reach(FIRST, IPA + SOME * PAGE, both_stages=both_stages) is None
            assert world.reach(FIRST, IPA, both_stages=both_stages) == HOST_AT
        world.check()


def test_a_guest_that_ends_gives_its_block_back_and_its_tables() -> None:
    with worlds() as world:
        fill(world)
        put_numbers(world)
        assert level(world) == 2
        index = u64(world.guard(FIRST))
        while not world.do(ending.end_some, index):
            pass
        assert all(world.content(None, HOST_AT + page * PAGE) == bytes(PAGE) for page in range(PAGES))


def test_a_piece_of_a_page_on_its_way_finds_its_table() -> None:
    """A page that is moving is none of a block, whatever comes and goes beside it."""
    with worlds(pieces=True) as world:
        fill(world)
        index = u64(world.guard(FIRST))
        assert world.do(private.export, index, Ipa(u64(IPA))) is Err.BUSY
        move = world.move_of(FIRST, IPA)
        assert move is not None
        assert world.page(private.export, FIRST, IPA + PAGE) is None
        assert world.admit(FIRST, IPA + PAGE, HOST_AT + PAGE) is None
        assert level(world) == 3
        while world.do(moving.go_on, u64(move)) is Err.BUSY:
            pass
        world.check()


def test_a_look_changes_nothing() -> None:
    with worlds() as world:
        fill(world)
        for _ in range(2):
            found = world.do(steps.look, u64(FIRST), Ipa(u64(IPA + SOME * PAGE)))
            assert whole.is_block(found)  # type: ignore[arg-type]
        assert not whole.is_block(world.do(steps.find, u64(FIRST), Ipa(u64(IPA + SOME * PAGE))))  # type: ignore[arg-type]
        assert level(world) == 3
        assert world.reach(FIRST, IPA + SOME * PAGE) == HOST_AT + SOME * PAGE
