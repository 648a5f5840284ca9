# SPDX-License-Identifier: Apache-2.0
"""The MMIO guard: what a guest that has enrolled gets to of its MMIO windows, and that its list says what the calls said, whatever its length."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from calling_guest import BEYOND, DEVICE, HOLE, WORD, Caller, a_caller, abort, differences, page_of, picture
from hypothesis import given
from hypothesis import strategies as st
from private_world import FIRST, PAGE, VMS

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import abi, guards, mmio_guard
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.mmio_guard import MmioGuard
from delphyne.el2.kvm.exit_codes import EXIT_TRAP, GUEST_GOES_ON
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import u64

OK, INVALID = 0, WORD - 2
ENROLL, MAP, UNMAP = int(abi.MMIO_GUARD_ENROLL), int(abi.MMIO_GUARD_MAP), int(abi.MMIO_GUARD_UNMAP)
ROOM = int(mmio_guard.RANGES)
GOES_OUT, ABORT = int(EXIT_TRAP), int(GUEST_GOES_ON)
EXTERNAL_ABORT = 0x10
"""ESR_EL1's fault status of a synchronous external abort (DDI 0487, D17.2.37)."""


@pytest.fixture
def caller() -> Iterator[Caller]:
    with a_caller() as made:
        yield made


def goes_out(caller: Caller, ipa: int, *, offset: int = 8) -> bool:
    """Whether the host hears of an access. If not, it is an external abort of the guest's, and the host's structure is as it was."""
    machine, stage = caller.world.machine, int(caller.seat.at.raw)
    machine.write_register("ESR_EL1", 0)
    before = machine.memory.read(stage, PAGE)
    code = abort(caller, ipa, offset=offset)
    if code == GOES_OUT:
        return True
    assert code == ABORT
    assert machine.read_register("ESR_EL1") & 0x3F == EXTERNAL_ABORT
    assert machine.memory.read(stage, PAGE) == before
    return False


# --- the calls --------------------------------------------------------------------------------------------------------------------------------


def test_without_enrolling_the_windows_alone_decide(caller: Caller) -> None:
    """As mainline's driver calls: it maps, and never enrolls."""
    for function in (MAP, UNMAP):
        before = picture(caller.world)
        assert caller.result(function, DEVICE) == OK
        assert differences(before, picture(caller.world)) == []
        assert all(goes_out(caller, ipa) for ipa in (DEVICE, DEVICE + PAGE, BEYOND))


def test_who_has_enrolled_gets_to_what_it_has_mapped(caller: Caller) -> None:
    assert caller.result(ENROLL, others=WORD) == OK
    pages = (DEVICE, DEVICE + PAGE, BEYOND)
    assert not any(goes_out(caller, ipa) for ipa in pages)
    assert caller.result(MAP, DEVICE, others=WORD) == OK
    assert [goes_out(caller, ipa) for ipa in pages] == [True, False, False]
    assert caller.result(ENROLL) == OK, "again, and what is mapped stays"
    assert caller.result(MAP, BEYOND) == OK
    assert [goes_out(caller, ipa) for ipa in pages] == [True, False, True]
    assert caller.result(UNMAP, DEVICE) == OK
    assert [goes_out(caller, ipa) for ipa in pages] == [False, False, True]
    for function in (UNMAP, MAP):
        assert caller.result(function, BEYOND if function == MAP else DEVICE) == OK, "once more changes nothing"
        assert [goes_out(caller, ipa) for ipa in pages] == [False, False, True]


def test_no_call_lets_out_what_is_in_no_mmio_window(caller: Caller) -> None:
    caller.result(ENROLL)
    before = picture(caller.world)
    for address in (HOLE, page_of("untouched"), page_of("private"), page_of("shared"), DEVICE + 2 * PAGE, DEVICE + 1, DEVICE | 1 << 63, WORD):
        assert caller.result(MAP, address) == INVALID
        assert caller.result(UNMAP, address) == INVALID
    assert differences(before, picture(caller.world)) == []
    assert not goes_out(caller, HOLE)


def test_an_access_that_ends_in_a_page_that_is_not_mapped_is_held_back(caller: Caller) -> None:
    caller.result(ENROLL)
    caller.result(MAP, DEVICE)
    assert goes_out(caller, DEVICE, offset=PAGE - 8)
    assert not goes_out(caller, DEVICE, offset=PAGE - 7)
    caller.result(MAP, DEVICE + PAGE)
    assert goes_out(caller, DEVICE, offset=PAGE - 7)


def test_the_guard_is_one_guests_and_ends_with_it(caller: Caller) -> None:
    caller.result(ENROLL)
    caller.result(MAP, DEVICE)
    assert [int(GUARDS.slots[number].mmio.count) for number in VMS] == [1, 0, 0]
    assert [bool(GUARDS.slots[number].mmio.enrolled) for number in VMS] == [True, False, False]
    with GUESTS_LOCK:
        GUARDS.slots[FIRST].private = u64(0)
        guards.destroy(u64(FIRST))
        assert guards.create(u64(FIRST)) == FIRST
    assert (GUARDS.slots[FIRST].mmio.enrolled, GUARDS.slots[FIRST].mmio.count) == (False, 0)


# --- the list ---------------------------------------------------------------------------------------------------------------------------------


def mapped(guard: MmioGuard, limit: int) -> set[int]:
    return {page for page in range(limit) if mmio_guard.is_mapped(guard, u64(page), u64(page))}


def as_ranges(pages: set[int]) -> list[tuple[int, int]]:
    """What a sound list of these pages is."""
    firsts = sorted(page for page in pages if page - 1 not in pages)
    ends = sorted(page + 1 for page in pages if page + 1 not in pages)
    return list(zip(firsts, ends, strict=True))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 79)), max_size=160), st.sampled_from([1, 2]))
def test_a_list_says_what_the_calls_said(calls: list[tuple[bool, int]], apart: int) -> None:
    """Against a plain set. With every second page alone the list is full early."""
    guard, pages = MmioGuard(), set[int]()
    mmio_guard.enroll(guard)
    for maps, number in calls:
        page = number * apart
        wanted = pages | {page} if maps else pages - {page}
        result = (mmio_guard.map_page if maps else mmio_guard.unmap_page)(guard, u64(page))
        if len(as_ranges(wanted)) > ROOM:
            assert result is Err.NO_MEMORY
        else:
            assert result is None
            pages = wanted
        count = int(guard.count)
        assert [(int(guard.firsts[u64(at)]), int(guard.ends[u64(at)])) for at in range(count)] == as_ranges(pages)
    assert mapped(guard, 160) == pages


def test_a_list_has_the_room_that_its_arrays_have() -> None:
    guard = MmioGuard()
    assert guard.firsts.length == guard.ends.length == ROOM


def test_a_full_list_refuses_and_stays_as_it_is() -> None:
    guard = MmioGuard()
    mmio_guard.enroll(guard)
    for number in range(ROOM):
        for page in (number * 5, number * 5 + 1, number * 5 + 2):
            assert mmio_guard.map_page(guard, u64(page)) is None
    full = mapped(guard, 5 * ROOM + 5)
    assert mmio_guard.map_page(guard, u64(5 * ROOM + 1)) is Err.NO_MEMORY
    assert mmio_guard.unmap_page(guard, u64(6)) is Err.NO_MEMORY, "that would leave a hole"
    assert mapped(guard, 5 * ROOM + 5) == full
    assert mmio_guard.map_page(guard, u64(3)) is None, "a range may grow"
    assert mmio_guard.map_page(guard, u64(4)) is None, "and meet the next, which makes room"
    assert mmio_guard.map_page(guard, u64(5 * ROOM + 1)) is None
