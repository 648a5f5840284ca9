# SPDX-License-Identifier: Apache-2.0
"""Pages that move in pieces, as on a processor without crypto extensions: who may do what between two of them, and that each move ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from private_world import FIRST, HOST_AT, IPA, PAGE, SECOND, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import ending, moving, private, steps, touch
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import protected_faults
from delphyne.el2.kvm.faults import Access
from delphyne.el2.kvm.protected_faults import Outcome
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import State
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, Pa, u64

A, B = HOST_AT, HOST_AT + PAGE
SECRET = b"a secret".ljust(PAGE, b"\x11")
EXPORT, IMPORT = PAGE // int(moving.PIECE), 2 * PAGE // int(moving.PIECE)
"""Pieces of a move."""


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(pieces=True) as made:
        assert made.admit(FIRST, IPA, A) is None
        made.put(FIRST, IPA, SECRET)
        yield made
        made.check()


def once(world: World, operation: object, ipa: int = IPA, number: int = FIRST) -> object:
    """One piece, and no more."""
    return world.do(operation, u64(world.guard(number)), Ipa(u64(ipa)))


def going_out(world: World, pieces: int = 1) -> None:
    for _ in range(pieces):
        assert once(world, private.export) is Err.BUSY


def coming_back(world: World, pieces: int = 1) -> None:
    """In another frame."""
    shown = world.touch(A)
    assert shown is not None
    world.put(None, B, shown)
    found = world.do(steps.find, u64(world.guard(FIRST)), Ipa(u64(IPA)))
    assert world.do(private.admit, u64(world.guard(FIRST)), Ipa(u64(IPA)), Pa(u64(B)), found) is Err.BUSY
    for _ in range(pieces - 1):
        goes_on(world)


def goes_on(world: World) -> None:
    move = world.move_of(FIRST, IPA)
    assert move is not None
    assert world.do(moving.go_on, u64(move)) is Err.BUSY


def bring(world: World) -> Outcome:
    seat = Seat()
    seat.vm, seat.guard = u64(FIRST), u64(world.guard(FIRST) + 1)
    answer = world.do(protected_faults.bring, seat, Ipa(u64(IPA)), Access.READ)
    assert isinstance(answer, protected_faults.Answer)
    return answer.outcome


def nobody_reaches(world: World, frame: int) -> None:
    world.look_between(FIRST, IPA, frame)
    world.check()


def test_an_export_is_so_many_stays_and_nobody_reaches_the_page_before_the_last(world: World) -> None:
    for _ in range(EXPORT - 1):
        going_out(world)
        nobody_reaches(world, A)
    assert once(world, private.export) is None
    assert world.entry(A).state is State.HOST
    assert world.content(None, A) not in (None, SECRET)


def test_an_import_is_so_many_stays(world: World) -> None:
    coming_back(world)
    for _ in range(IMPORT - 2):
        goes_on(world)
        nobody_reaches(world, B)
    move = world.move_of(FIRST, IPA)
    assert move is not None
    assert world.do(moving.go_on, u64(move)) is None
    assert world.content(FIRST, IPA) == SECRET


@pytest.mark.parametrize("pieces", [1, EXPORT - 1])
def test_a_guest_that_wants_a_page_that_is_going_out_helps_it_on(world: World, pieces: int) -> None:
    going_out(world, pieces)
    for _ in range(EXPORT - pieces):
        assert bring(world) is Outcome.LATER
    assert world.move_of(FIRST, IPA) is None
    shown = world.content(None, A)
    assert shown not in (None, SECRET)
    assert world.admit(FIRST, IPA, A) is None
    assert world.content(FIRST, IPA) == SECRET


@pytest.mark.parametrize("pieces", [1, EXPORT, IMPORT - 1])
def test_a_host_that_touches_a_page_that_is_coming_back_gets_it_exported_anew(world: World, pieces: int) -> None:
    coming_back(world, pieces)
    before = world.content(None, A)
    for _ in range(IMPORT - pieces + EXPORT):
        assert world.entry(B).state is not State.HOST
        assert world.do(touch.serve, Pa(u64(B))) is True
    after = world.content(None, B)
    assert after not in (None, SECRET, before)
    assert world.admit(FIRST, IPA, B) is None
    assert world.content(FIRST, IPA) == SECRET


def test_a_page_that_comes_back_altered_stays_exported_whoever_finds_out(world: World) -> None:
    shown = world.touch(A)
    assert shown is not None
    for finds_out in ("host", "guest"):
        world.put(None, A, bytes([shown[0] ^ 1]) + shown[1:])
        found = world.do(steps.find, u64(world.guard(FIRST)), Ipa(u64(IPA)))
        assert world.do(private.admit, u64(world.guard(FIRST)), Ipa(u64(IPA)), Pa(u64(A)), found) is Err.BUSY
        for _ in range(EXPORT - 1):
            nobody_reaches(world, A)
            if finds_out == "host":
                assert world.do(touch.serve, Pa(u64(A))) is True
            else:
                outcome = bring(world)
        assert world.content(None, A) == bytes([shown[0] ^ 1]) + shown[1:]
        assert GUARDS.slots[world.guard(FIRST)].phase is (Phase.PROTECTED if finds_out == "host" else Phase.STOPPED)
    assert outcome is Outcome.STOPPED


@pytest.mark.parametrize("way", [going_out, coming_back])
@pytest.mark.parametrize("pieces", [1, EXPORT - 1])
def test_a_page_that_its_guest_gives_up_on_its_way_goes_back_as_nothing(world: World, way: object, pieces: int) -> None:
    way(world, pieces)  # type: ignore[operator]
    assert once(world, private.give_up) is None
    frame = A if way is going_out else B
    assert world.content(None, frame) == bytes(PAGE)
    assert int(records.LEDGER.taken) == 0
    assert world.admit(FIRST, IPA, frame) is None
    assert world.content(FIRST, IPA) == bytes(PAGE)


@pytest.mark.parametrize("way", [going_out, coming_back])
def test_a_guest_that_ends_or_a_machine_that_goes_off_loses_pages_on_their_way(world: World, way: object) -> None:
    way(world, 3)  # type: ignore[operator]
    end = ending.wipe_next if way is going_out else None
    index = u64(world.guard(FIRST))
    for _ in range(4096):
        if world.do(end) if end is not None else world.do(ending.end_some, index):
            break
    assert all(not move.used for move in world.moves())
    assert world.content(None, A if way is going_out else B) == bytes(PAGE)
    assert int(records.LEDGER.promised) == int(records.LEDGER.taken) == 0


def test_a_host_that_touches_a_page_of_a_guest_that_is_stopped_gets_it_zeroed_in_the_middle_too(world: World) -> None:
    going_out(world)
    world.do(touch.stop, u64(FIRST))
    assert world.do(touch.serve, Pa(u64(A))) is True
    assert world.content(None, A) == bytes(PAGE)


def test_neither_share_nor_unshare_takes_a_page_on_its_way(world: World) -> None:
    going_out(world)
    for operation in (private.share, private.unshare):
        assert once(world, operation) is Err.STATE
        nobody_reaches(world, A)


def test_a_frame_on_its_way_is_neither_pinned_nor_given_to_another_guest(world: World) -> None:
    going_out(world)
    with frames.LOCK:
        assert frames.pin(Pa(u64(A))) is Err.OWNER
    assert world.admit(SECOND, IPA, A) is Err.OWNER
    nobody_reaches(world, A)


def test_more_pages_than_may_be_on_their_way_all_arrive(world: World) -> None:
    count = int(moving.LIMIT) + 3
    for n in range(1, count):
        number, ipa, pa = (FIRST, SECOND)[n % 2], IPA + n * PAGE, HOST_AT + n * PAGE
        assert world.admit(number, ipa, pa) is None
        world.put(number, ipa, SECRET)
    for stays in range(count * (EXPORT + 1)):
        left = [n for n in range(count) if world.entry(HOST_AT + n * PAGE).state is not State.HOST]
        if not left:
            break
        assert world.do(touch.serve, Pa(u64(HOST_AT + left[stays % len(left)] * PAGE))) is True
        assert sum(bool(move.used) for move in world.moves()) <= int(moving.LIMIT)
    assert not left
    for n in range(count):
        assert world.content(None, HOST_AT + n * PAGE) not in (None, SECRET)
        number, ipa = (FIRST, SECOND)[n % 2] if n else FIRST, IPA + n * PAGE
        assert world.admit(number, ipa, HOST_AT + n * PAGE) is None
        assert world.content(number, ipa) == SECRET
