# SPDX-License-Identifier: Apache-2.0
"""The end of a protected guest, in pieces: every page goes back to the host, zeroed; the key goes last, and then the VM is an ordinary one.

The end of the machine is another matter (DESIGN.md 6): no page and no key may outlive it, whoever still runs. `wipe_next` is for one that its host
wants off, `wipe_frames` for one that EL2 itself can go on with no more.

Locks, in this order and all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24); `wipe_frames` takes none. At `end_some` none of the guest's
CPUs runs, nor will: its guard is not alive, and whoever ends it has made sure that no vCPU of the VM is claimed (`vcpus.forget_others`,
`vcpus.forget_all`).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, level_size
from delphyne.el2.guest import guards, private, processors, steps, touch, turns, vcpus
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.memory import frames, graveyard, shadow, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Ipa, Va, cold, holds, owned, u64, wipe

PAGES: Final = u64(32)
"""Pages that one piece gives back at most."""
STEPS: Final = u64(512)
"""Slots that one piece looks at: some 64,000 instructions with the pages, with the crypto extensions or without, and in its turn (`turns`)."""


@cold
@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def end_some(index: u64) -> bool:
    """One piece; True once the VM is an ordinary one. Pages of a guest that never was protected go back with what the host wrote."""
    if not _give_back_some(index):
        return False
    dropped = shadow.drop_all(guards.shadow_of(index))
    if isinstance(dropped, Err):
        graveyard.work()
        return False
    processors.destroy_all(index)
    guards.destroy(index)
    return True


@cold
@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def wipe_next() -> bool:
    """One piece of the end of all guests, before the machine goes off: True once none has a page or a key. What still runs of a guest reaches
    nothing afterwards, and its guard stays until the VM ends, should the machine go on."""
    for index in u64.range(guards.LIMIT):
        guard = GUARDS.slots[index]
        if guard.used and not guard.wiped:
            if _give_back_some(index):
                if vcpus.forget_all(guard.vm):
                    processors.destroy_all(index)
                wipe(guard.key)
                guard.wiped = True
            return False
    return True


@cold
def wipe_frames() -> None:
    """EL2 stops: what guests had to themselves is overwritten where it lies. No other CPU is at EL2, and whoever had a lock has it for ever."""
    for number in u64.range(frames.LAYOUT.count):
        bank = frames.LAYOUT.banks[number]
        for frame in u64.range(bank.frames):
            pa = bank.base + frame * PAGE_SIZE
            if touch.is_guests(pa):
                with owned(pa, PAGE_SIZE) as window:
                    wipe(window)
                clean_range(Va(pa.raw), PAGE_SIZE)


@cold
@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _give_back_some(index: u64) -> bool:
    """One piece; True once the host has every page. The guest is stopped first: none is admitted any more. Nothing else happens where it is not
    this CPU's turn."""
    guard = GUARDS.slots[index]
    guards.stop(index)
    space = steps.space_of(index)
    limit = u64(1) << space.bits
    if guard.ended >= limit:
        return True
    if not turns.is_mine():
        return False
    given = u64(0)
    found = steps.find(index, Ipa(guard.ended))
    for _ in u64.range(STEPS):
        page = Ipa(guard.ended)
        if found.level == LAST_LEVEL and found.descriptor.raw != 0:
            private.end(index, page)
            given += 1
        span = level_size(found.level)
        guard.ended = (guard.ended & ~(span - 1)) + span
        if guard.ended >= limit or given == PAGES:
            break
        found = _next(index, Ipa(guard.ended), found)
    turns.over()
    return guard.ended >= limit


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _next(index: u64, page: Ipa, before: Walk) -> Walk:
    """As `steps.find`, behind what that found for the page before: the same table is not looked for again."""
    is_same = before.level == LAST_LEVEL and page.raw % level_size(LAST_LEVEL - 1) != 0
    return tables.in_last_table(before.table, page.raw) if is_same else steps.find(index, page)
