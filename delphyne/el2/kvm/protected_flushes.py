# SPDX-License-Identifier: Apache-2.0
"""The host's calls about TLBs for a protected guest: a page whose leaf is gone from the host's table, or names another frame, goes to the host,
exported (DESIGN.md 8). What is still there stays, whatever its rights are by now; so does a page that the host has only locked to change its leaf.

A call is done in pieces: it stays the host's next instruction until its last page was looked at. How far it is, is kept for each CPU. A piece of a
call for more than one page takes its turn (`turns`), so that of CPUs that make such calls at once each waits for one piece.

Locks, all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, level_size
from delphyne.el2.guest import lent, moving, private, steps, turns, vms, whole
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.steps import Fate
from delphyne.el2.kvm import host_tables
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.seats import SEATS
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Ipa, Pa, holds, u64, unreachable

PAGES: Final = u64(2)
"""Pages that one piece exports at most."""
STEPS: Final = u64(128)
"""Slots that one piece looks at, in the guest's table and, where the guest has a frame, in the host's."""
LOCKED: Final = u64(1 << 10)
"""KVM_INVALID_PTE_LOCKED (arch/arm64/kvm/hyp/pgtable.c): the leaf is about to be replaced."""


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def address(vm: u64, page: Ipa, level: u64) -> None | Err:
    """Call for one address, where `level` says what of the host's table is gone: a page, a block, or what may have been more. Err.BUSY where the
    host is to call again."""
    if level == LAST_LEVEL:
        return pages(vm, page, u64(1))
    size = level_size(u64(1) if level == 1 else u64(2))
    return pages(vm, Ipa(page.raw & ~(size - 1)), size // PAGE_SIZE)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def everything(vm: u64) -> None:
    """Call for all of a VM: it names nothing, so that no page of the guest's goes; the host's own pages, of a guest that is still being measured,
    do."""
    index = vms.VMS.slots[vm].guard - 1
    if not GUARDS.slots[index].committed:
        lent.drop_all(index)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def pages(vm: u64, start: Ipa, count: u64) -> None | Err:
    """Call for a range. Err.BUSY where the host is to call again: where nothing was done, as it is not this CPU's turn, too."""
    is_piece = count != 1
    if is_piece and not turns.is_mine():
        return Err.BUSY
    done = _go_on(vm, start, count)
    if is_piece:
        turns.over()
    return done


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _go_on(vm: u64, start: Ipa, count: u64) -> None | Err:
    """A piece of it."""
    index = vms.VMS.slots[vm].guard - 1
    if not GUARDS.slots[index].committed:
        lent.drop_all(index)
    seat = SEATS.mine()
    if seat.flush_start != start.raw or seat.flush_pages != count:
        seat.flush_start = start.raw
        seat.flush_pages = count
        seat.flushed = start.raw
    limit = u64(1) << steps.space_of(index).bits
    end = start.raw + min(count, (limit - min(start.raw, limit)) // PAGE_SIZE) * PAGE_SIZE
    gone = u64(0)
    for _ in u64.range(STEPS):
        if seat.flushed >= end or gone == PAGES:
            break
        page = Ipa(seat.flushed)
        found = steps.look(index, page)
        if whole.is_block(found) and not _is_whole(vm, page, found):
            found = steps.find(index, page)
        if found.level == LAST_LEVEL and _is_gone(vm, page, found):
            retreated = private.retreat(index, page)
            if isinstance(retreated, Err):
                return Err.BUSY
            gone += 1
        span = level_size(found.level)
        seat.flushed = (seat.flushed & ~(span - 1)) + span
    if seat.flushed < end:
        return Err.BUSY
    seat.flush_pages = u64(0)
    return None


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _is_whole(vm: u64, page: Ipa, block: Walk) -> bool:
    """Whether the host's table leads to the guest's block by a block, so that none of its pages is gone."""
    walked = host_tables.walk(vms.VMS.slots[vm].table, page)
    if walked.level == LAST_LEVEL or walked.descriptor == 0:
        return False
    host = host_tables.leaf_of(walked, vms.VMS.slots[vm].table.wide)
    within = page.raw & (level_size(host.level) - 1) & ~(level_size(block.level) - 1)
    return host.output + within == block.descriptor.frame * PAGE_SIZE


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _is_gone(vm: u64, page: Ipa, found: Walk) -> bool:
    """Whether the guest has a frame there that the host's table leads to no more."""
    frame = _frame(found)
    if frame is None:
        return False
    wide = vms.VMS.slots[vm].table.wide
    walked = host_tables.walk(vms.VMS.slots[vm].table, page)
    if walked.descriptor == 0:
        return not _is_locked(walked)
    host = host_tables.leaf_of(walked, wide)
    return Pa(host.output + (page.raw & (level_size(host.level) - 1))) != frame


@holds(GUESTS_LOCK)
def _frame(found: Walk) -> Pa | None:
    """The frame of the guest's page, mapped, to be mapped, or on its way."""
    leaf = steps.leaf_of(found)
    if leaf is not None:
        return Pa(leaf.frame * PAGE_SIZE)
    absent = steps.absent_of(found)
    match absent.fate:
        case Fate.HELD:
            return Pa(absent.content * PAGE_SIZE)
        case Fate.MOVING:
            return moving.frame_of(absent)
        case Fate.UNTOUCHED | Fate.EXPORTED | Fate.LENT:
            return None
    unreachable()


@holds(frames.LOCK)
def _is_locked(walked: Walked) -> bool:
    """Whether the host is about to replace the leaf, and has not taken it away."""
    return host_tables.raw_at(walked) == LOCKED
