# SPDX-License-Identifier: Apache-2.0
"""Frames of an ITS's tables beside guests: whoever reaches them as the host's loses them, and a guest's own are never taken."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import pytest
from private_world import FIRST, HOST_AT, IPA, ORDINARY, PAGE, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.entry import its_tables
from delphyne.el2.entry.gic_places import LOCK
from delphyne.el2.entry.its_tables import Step
from delphyne.el2.guest import steps
from delphyne.el2.memory.frames import State
from delphyne.lang import Pa, u64, wipe

A = HOST_AT
ITS, NUMBER = u64(0), u64(0)
ORDINARY_IPA = 0x1000_0000


@pytest.fixture
def world() -> Iterator[World]:
    with a_world() as made:
        yield made
    wipe(its_tables.ITS_TABLES)


def region(pages: int) -> Region:
    return Region(Pa(u64(A)), u64(pages * PAGE))


def hold(pages: int) -> Step:
    """The store until it is over."""
    while True:
        with LOCK:
            if not its_tables.is_begun(ITS, NUMBER) and not its_tables.begin(ITS, NUMBER, region(pages)):
                return Step.REFUSED
            step = its_tables.hold(ITS, NUMBER, region(pages))
        if step is not Step.AGAIN:
            return step


def test_an_ordinary_guest_loses_what_a_table_gets(world: World) -> None:
    """It is the host's way around its own map: what the guest wrote is gone, and it gets no leaf for it again."""
    world.lend_to_ordinary(ORDINARY_IPA, A + PAGE)
    world.put(ORDINARY, ORDINARY_IPA, b"an address")
    assert hold(2) is Step.DONE
    for page in (A, A + PAGE):
        assert world.entry(page).state is State.EL2
        assert world.reach(None, page) is None
        assert world.machine.memory.read(page, PAGE, cacheable=False) == bytes(PAGE)
    assert world.reach(ORDINARY, ORDINARY_IPA) is None
    assert isinstance(world.fill(ORDINARY, ORDINARY_IPA, A + PAGE), Err)
    assert world.admit(FIRST, IPA, A) is Err.OWNER
    assert world.touch(A) is None
    assert hold(0) is Step.DONE
    assert world.reach(None, A) == A
    world.lend_to_ordinary(ORDINARY_IPA, A)
    assert world.admit(FIRST, IPA, A) is None
    world.check()


def test_a_guests_page_is_no_table(world: World) -> None:
    assert world.admit(FIRST, IPA, A + PAGE) is None
    world.put(FIRST, IPA, b"the guest's")
    assert hold(2) is Step.REFUSED
    assert world.entry(A).state is State.HOST
    assert world.content(FIRST, IPA) == b"the guest's".ljust(PAGE, b"\0")
    world.check()


def test_a_guest_that_cannot_be_dropped_yet_is_waited_for(world: World) -> None:
    """Where the graveyard is full the host makes its store again; nothing is taken meanwhile."""
    with mock.patch.object(steps, "drop_ordinary", return_value=Err.BUSY), LOCK:
        assert its_tables.begin(ITS, NUMBER, region(1))
        for _ in range(3):
            assert its_tables.hold(ITS, NUMBER, region(1)) is Step.AGAIN
    assert world.entry(A).state is State.HOST
    assert world.reach(None, A) == A
    assert hold(1) is Step.DONE
