# SPDX-License-Identifier: Apache-2.0
"""How what a page of a protected guest holds goes to the host and comes back: encrypted and measured, verified and decrypted, in place.

Where the processor has the crypto extensions this is one stay at EL2. Without them it is done in pieces of PIECE bytes, and the page is MOVING from
the first to the last: its frame is BUSY, neither guest nor host reaches it, and whoever wants either does the next piece (`go_on`), so that a move
ends whoever has lost interest in it. Pieces are done under the locks, since one is short: it holds them for some 57,000 instructions, and
no CPU waits for more than one (`turns`).

Locks, all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24).

Invariants: a move in use is named by exactly one slot, of the guest and page that it names, which says MOVING; its frame is BUSY for them; its record
is taken. Where every move is in use, whoever would begin another does a piece of one instead.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import clean_range, zero_page
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.guest import guards, steps, turns, whole
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.steps import Absent, Fate
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Walk
from delphyne.el2.sealing import engine, records
from delphyne.el2.sealing import page as sealed
from delphyne.el2.sealing.page import Terms
from delphyne.lang import Array, Ipa, Pa, Va, apart, cold, guarded, holds, owned, struct, u64

PIECE: Final = u64(512)
"""Bytes that one stay encrypts and measures, verifies, or decrypts: an eighth of the 457,000 instructions of a page."""
LIMIT: Final = u64(16)


@struct
class Move:
    """A page on its way in pieces: the guard and the page, its frame, the number of its record, and how far it is."""

    used: bool
    importing: bool
    index: u64
    page: Ipa
    frame: Pa
    record: u64
    job: sealed.Job


@struct
class Moves:
    """The pool."""

    slots: Array[Move, 16]


MOVES: Final = guarded(GUESTS_LOCK, Moves())


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def take_out(index: u64, ipa: Ipa, pa: Pa, found: Walk, terms: Terms) -> None | Err:
    """The guest's page in the frame at `pa`, which `found` says, goes to the host; its terms get a version. Err.BUSY where pieces are left."""
    if not engine.is_quick():
        return _begin_export(index, ipa, pa, found, terms)
    guard = GUARDS.slots[index]
    number = records.take()
    _leave(index, ipa, pa, found, Absent(fate=Fate.EXPORTED, content=number))
    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_export(job, area, guard.identity, ipa, terms.replace(version=guards.next_version(index)))
    with owned(pa, PAGE_SIZE) as window:
        done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
        assert not isinstance(done, Err) and done, "an export in one piece"
    records.RECORDS[number].copy_from(job.record)
    steps.give_back(index, ipa, pa)
    return None


@apart
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def bring_back(index: u64, ipa: Ipa, pa: Pa, found: Walk, number: u64) -> None | Err:
    """The host's frame at `pa` becomes the guest's page with the record `number`, which `found` says is EXPORTED.

    Err.BUSY where pieces are left; Err.INTEGRITY where the frame does not hold what was exported: it is the host's again, as it was. Others as
    `steps.take_filled`."""
    if not engine.is_quick():
        return _begin_import(index, ipa, pa, found, number)
    taken = steps.take_filled(index, ipa, pa)
    if isinstance(taken, Err):
        return taken
    imported = _import(index, ipa, pa, number)
    if isinstance(imported, Err):
        steps.give_back(index, ipa, pa)
        return imported
    _arrive(index, ipa, pa, found, number)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _import(index: u64, ipa: Ipa, pa: Pa, number: u64) -> None | Err:
    """Verify, then decrypt. Err.INTEGRITY: the frame is as it was."""
    guard = GUARDS.slots[index]
    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_import(job, area, guard.identity, ipa, records.RECORDS[number])
    with owned(pa, PAGE_SIZE) as window:
        while True:
            done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
            if isinstance(done, Err):
                return done
            if done:
                return None


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def _leave(index: u64, ipa: Ipa, pa: Pa, found: Walk, after: Absent) -> None:
    """PRIVATE -> BUSY: nobody reaches the frame when this returns, and memory has what the caches had of it."""
    steps.must(frames.give(pa, guards.owner(index), ipa))
    steps.take_away(index, ipa, found, after)
    clean_range(Va(pa.raw), PAGE_SIZE)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _arrive(index: u64, ipa: Ipa, pa: Pa, found: Walk, number: u64) -> None:
    """The page is in its frame, decrypted: it is the guest's, with the rights that it had."""
    terms = records.RECORDS[number].terms
    records.put(number)
    mark = steps.CLEAN_MARK if terms.clean else whole.PRIVATE_MARK
    steps.settle(index, ipa, pa, found, Rights(terms.read, terms.write, terms.execute), mark)


@holds(GUESTS_LOCK)
def frame_of(absent: Absent) -> Pa:
    """The frame in which a page is MOVING."""
    return MOVES.slots[absent.content].frame


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _begin_export(index: u64, ipa: Ipa, pa: Pa, found: Walk, terms: Terms) -> None | Err:
    place = _place()
    if isinstance(place, Err):
        return place
    move = MOVES.slots[place]
    _fill(move, index, ipa, pa, records.take())
    move.importing = False
    _leave(index, ipa, pa, found, Absent(fate=Fate.MOVING, content=place))
    numbered = terms.replace(version=guards.next_version(index))
    sealed.begin_export(move.job, CPUS.mine().simd, GUARDS.slots[index].identity, ipa, numbered)
    return go_on(place)


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _begin_import(index: u64, ipa: Ipa, pa: Pa, found: Walk, number: u64) -> None | Err:
    place = _place()
    if isinstance(place, Err):
        return place
    taken = steps.take_filled(index, ipa, pa)
    if isinstance(taken, Err):
        return taken
    move = MOVES.slots[place]
    _fill(move, index, ipa, pa, number)
    move.importing = True
    steps.write(found, Absent(fate=Fate.MOVING, content=place).raw)
    sealed.begin_import(move.job, CPUS.mine().simd, GUARDS.slots[index].identity, ipa, records.RECORDS[number])
    return go_on(place)


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _place() -> u64 | Err:
    """A move that is not in use. Err.BUSY where this CPU may do no piece now, or where all are; then one of them has come nearer to its end."""
    if not turns.is_mine():
        return Err.BUSY
    for place in u64.range(LIMIT):
        if not MOVES.slots[place].used:
            return place
    _ = go_on(u64(0))  # Whatever came of it, who called comes again.
    return Err.BUSY


@holds(GUESTS_LOCK)
def _fill(move: Move, index: u64, ipa: Ipa, pa: Pa, number: u64) -> None:
    move.used = True
    move.index = index
    move.page = ipa
    move.frame = pa
    move.record = number


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def go_on(place: u64) -> None | Err:
    """The next piece of a move in use. None where the page has arrived, with the guest or with the host; Err.BUSY where pieces are left, of which
    none was done where it is not this CPU's turn;
    Err.INTEGRITY where it was to come back and is not what was exported: the frame is the host's again, as it was."""
    if not turns.is_mine():
        return Err.BUSY
    move = MOVES.slots[place]
    index, ipa, pa, number = move.index, move.page, move.frame, move.record
    with owned(pa, PAGE_SIZE) as window:
        done = sealed.step(move.job, CPUS.mine().simd, GUARDS.slots[index].key, window, PIECE)
    turns.over()
    if not isinstance(done, Err) and not done:
        return Err.BUSY
    move.used = False
    found = steps.find(index, ipa)
    if move.importing and not isinstance(done, Err):
        _arrive(index, ipa, pa, found, number)
        return None
    if not move.importing:
        records.RECORDS[number].copy_from(move.job.record)
    steps.write(found, Absent(fate=Fate.EXPORTED, content=number).raw)
    steps.give_back(index, ipa, pa)
    return done if isinstance(done, Err) else None


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def abandon(found: Walk, place: u64) -> None:
    """Nobody wants the page that stands at `found` any more: its frame goes to the host, zeroed."""
    move = MOVES.slots[place]
    move.used = False
    zero_page(move.frame)
    steps.write(found, u64(0))
    steps.give_back(move.index, move.page, move.frame)
    records.put(move.record)
    steps.count_down(move.index)
