# SPDX-License-Identifier: Apache-2.0
"""What always holds of the memory room whenever no lock is held, said once: tests evaluate it, the prover assumes and requires it.

Each function is true of a state that is sound. They only read. No lock: who calls them holds what they look at still.
"""

from __future__ import annotations

from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, Descriptor, level_size
from delphyne.el2.memory.frames import FrameEntry, State
from delphyne.el2.memory.pages import TablePool
from delphyne.lang import Pa, u8, u64


def state_is_known(entry: FrameEntry) -> bool:
    """The state is one of the five."""
    return State.of(u8(entry.raw & 15)) is not None


def entry_is_sound(entry: FrameEntry) -> bool:
    """A frame of a VM has an owner and no pins, one of EL2's has neither, one of the host's may be pinned and has no owner."""
    if not state_is_known(entry):
        return False
    if entry.state is State.EL2:
        return entry.owner == 0 and entry.page == 0 and entry.pins == 0
    if entry.state is State.HOST:
        return entry.owner == 0 and entry.page == 0
    return entry.owner != 0 and entry.pins == 0


def entries_are_exclusive(one: FrameEntry, other: FrameEntry) -> bool:
    """Of two different frames, at most one is live at a VM's page. A busy one is live nowhere."""
    return not (_is_live(one) and _is_live(other) and one.owner == other.owner and one.page == other.page)


def _is_live(entry: FrameEntry) -> bool:
    return entry.state is State.PRIVATE or entry.state is State.SHARED


def pool_counts(pool: TablePool) -> bool:
    """No more units are in use or promised than there are."""
    return pool.used <= pool.count and pool.reserved <= pool.count - pool.used


def pool_unit(pool: TablePool, unit: u64, place: u64, unit_there: u64) -> bool:
    """For a unit of the pool that PLACE says stands at `place`, where ORDER has `unit_there`: the two agree."""
    return unit >= pool.count or (place < pool.count and unit_there == unit)


def unit_is_used(pool: TablePool, place: u64) -> bool:
    """Whether a unit at this place of ORDER is in use."""
    return place < pool.used


def slot_is_sound(descriptor: Descriptor, level: u64, first: Pa, count: u64) -> bool:
    """A slot of a reachable table at `level`: zero, an aligned leaf, or a table among the `count` pages from `first`."""
    if not descriptor.valid:
        return descriptor.raw == 0
    output = descriptor.frame * PAGE_SIZE
    if level == LAST_LEVEL:
        return descriptor.table
    if descriptor.table:
        return output >= first.raw and (output - first.raw) // PAGE_SIZE < count
    return level != 0 and output & (level_size(level) - 1) == 0
