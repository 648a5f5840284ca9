# SPDX-License-Identifier: Apache-2.0
"""The host's calls about TLBs for a protected guest: what is gone from the host's table goes to the host, and nothing else does, however often and
for whatever the host calls (catalogue line H34, and H12 for protected guests)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from calling_guest import PAGES, ROOMY, STATES, TABLES_AT, WORD, Caller, a_caller, differences, page_of, picture
from private_world import FIRST, HOST_AT, IPA, PAGE

from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import protected_flushes, seats
from delphyne.el2.memory.frames import State
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, u64, wipe

THERE = ("private", "shared", "clean", "held", "held, clean")
"""States in which the guest has a frame."""
READ_ONLY, NOTHING = 0b01 << 6, 0
PIECE = int(protected_flushes.PAGES)
"""Pages that one piece of a call exports at most."""
LOCKED = 1 << 10
EVERY_LEVEL = (0, 1, 2, 3, 2**31 - 1, WORD)


@pytest.fixture
def caller() -> Iterator[Caller]:
    """The host's table leads to each frame that the guest has."""
    with a_caller() as made:
        for state in THERE:
            made.host.lead(page_of(state), frame_of(state))
        yield made
    wipe(seats.SEATS.mine())


def frame_of(state: str) -> int:
    return HOST_AT + STATES.index(state) * PAGE


def flush_pages(caller: Caller, start: int, count: int) -> int:
    """A call for a range, made again as long as EL2 says so; in how many pieces, each of which is bounded."""
    for pieces in range(1, 4000):
        before = int(records.LEDGER.taken)
        done = caller.world.do(protected_flushes.pages, u64(FIRST), Ipa(u64(start)), u64(count))
        assert int(records.LEDGER.taken) - before <= PIECE
        if done is None:
            return pieces
        assert done is Err.BUSY
    raise AssertionError("a host calls for ever")


def flush_address(caller: Caller, page: int, level: int) -> None:
    for _ in range(4000):
        if caller.world.do(protected_flushes.address, u64(FIRST), Ipa(u64(page)), u64(level)) is None:
            return
    raise AssertionError("a host calls for ever")


@pytest.mark.parametrize("rights", [0b11 << 6, READ_ONLY, NOTHING])
def test_calls_that_name_nothing_gone_export_nothing(caller: Caller, rights: int) -> None:
    """H34: write protection for dirty logging and for KSM, aging, all of a VM; for every level; for what never was mapped and what is no address."""
    for state in THERE:
        caller.host.lead(page_of(state), frame_of(state), rights)
    before = picture(caller.world)
    for state in STATES:
        flush_address(caller, page_of(state), 3)
    for level in EVERY_LEVEL:
        flush_address(caller, page_of("private"), level)
    for start, count in ((IPA, PAGES), (IPA, 1), (0, 1 << 20), (IPA, 0), (ROOMY, 16), (1 << 40, 1), (WORD - PAGE + 1, WORD), (1 << 63, 1 << 52)):
        flush_pages(caller, start, count)
    caller.world.do(protected_flushes.everything, u64(FIRST))
    assert differences(before, picture(caller.world)) == []


def test_a_leaf_that_the_host_has_locked_is_not_gone(caller: Caller) -> None:
    """H34: break-before-make takes the leaf away for a moment, with KVM's mark in its place."""
    for state in THERE:
        caller.world.machine.memory.write(TABLES_AT + 3 * PAGE + 8 * STATES.index(state), LOCKED.to_bytes(8, "little"))
    before = picture(caller.world)
    flush_pages(caller, IPA, PAGES)
    for state in THERE:
        flush_address(caller, page_of(state), 3)
    assert differences(before, picture(caller.world)) == []


@pytest.mark.parametrize("state", THERE)
@pytest.mark.parametrize("how", ["gone", "another frame"])
def test_what_is_gone_goes_to_the_host_and_nothing_beside_it(caller: Caller, state: str, how: str) -> None:
    """What was private is ciphertext or, where it is clean, what it always was; a shared page stays shared, without a frame."""
    fates = {one: caller.fate(page_of(one)) for one in STATES}
    if how == "gone":
        caller.world.machine.memory.write(TABLES_AT + 3 * PAGE + 8 * STATES.index(state), bytes(8))
    else:
        caller.host.lead(page_of(state), HOST_AT + 40 * PAGE)
    flush_address(caller, page_of(state), 3)
    changed = [one for one in STATES if caller.fate(page_of(one)) != fates[one]]
    assert changed == [state]
    assert caller.fate(page_of(state)) == ("LENT" if state == "shared" else "EXPORTED")
    assert caller.world.entry(frame_of(state)).state is State.HOST
    content = caller.world.content(None, frame_of(state))
    assert content is not None
    assert content.startswith(state.encode()) is (state == "shared" or "clean" in state)
    caller.world.check()


def test_a_call_for_many_goes_on_where_it_was_and_ends(caller: Caller) -> None:
    """Each piece exports few pages; in the end all that were gone have gone."""
    first, count = 20, 20
    for number in range(first, first + count):
        assert caller.world.admit(FIRST, IPA + number * PAGE, HOST_AT + number * PAGE) is None
    caller.world.check()
    pieces = flush_pages(caller, IPA, 1 << 24)
    assert pieces > count // PIECE
    assert {caller.fate(IPA + number * PAGE) for number in range(first, first + count)} == {"EXPORTED"}
    assert {caller.world.entry(HOST_AT + number * PAGE).state for number in range(first, first + count)} == {State.HOST}
    for state in THERE:
        assert caller.fate(page_of(state)) == {"private": "PRIVATE", "shared": "SHARED", "clean": "CLEAN"}.get(state, "HELD")
    caller.world.check()
