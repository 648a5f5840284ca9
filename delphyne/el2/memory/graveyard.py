# SPDX-License-Identifier: Apache-2.0
"""Tables of guests that no processor can reach any more, on their way back to their pool.

A guest's whole shadow is dropped by cutting off the tables below its start tables; to empty them takes long, and is done here in pieces, before
new tables are needed. Until then their pages are in use, and the leaves in them still count (`blocks`).

Lock: GUESTS_LOCK (24), which guards every guest's shadow as well; `frames.LOCK` is held around it, because of what is counted. `pages.LOCK` is
taken inside.

Invariants: a table in the list is reached from nowhere else, and was forgotten by every TLB. Slots below its cursor are zero. A table is above
the one it was reached from: the last one of the list is always worked on, so that the list grows by at most one for each level.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, SLOTS, Descriptor, is_table, level_size
from delphyne.el2.memory import blocks, frames, pages
from delphyne.el2.memory.pages import TABLES, PoolName
from delphyne.lang import Array, Lock, Order, Pa, guarded, holds, struct, u64

GUESTS_LOCK: Final = Lock("guests", rank=24)

PLACES: Final = u64(512)
DEPTH: Final = u64(3)
"""Places that are kept for what is found in the tables of the list."""
STEP: Final = u64(64)
"""Slots that are emptied for each piece of work."""


@struct
class Grave:
    """One table: its page in `pages.TABLES`, the level of its slots, and how far it is emptied."""

    page: u64
    level: u64
    cursor: u64


@struct
class Graveyard:
    """The list, of which the first `count` places are in use."""

    graves: Array[Grave, 512]
    count: u64


GRAVEYARD: Final = guarded(GUESTS_LOCK, Graveyard())


@holds(GUESTS_LOCK)
def has_room() -> bool:
    """Whether a table can be added now."""
    return GRAVEYARD.count < PLACES - DEPTH


@holds(GUESTS_LOCK)
def is_empty() -> bool:
    """Whether nothing waits."""
    return GRAVEYARD.count == 0


@holds(GUESTS_LOCK)
def add(page: u64, level: u64) -> None:
    """A table that the caller has cut off and will have forgotten by every TLB before it releases the lock. There is room for it."""
    grave = GRAVEYARD.graves[GRAVEYARD.count]
    grave.page = page
    grave.level = level
    grave.cursor = u64(0)
    GRAVEYARD.count += 1


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def work() -> None:
    """One piece: at most STEP slots are emptied, and at most so many tables given back."""
    for _ in u64.range(STEP):
        if GRAVEYARD.count == 0:
            return
        _step()


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _step() -> None:
    """One slot of the last table, or the end of that table."""
    grave = GRAVEYARD.graves[GRAVEYARD.count - 1]
    if grave.cursor == SLOTS:
        freed = pages.free(PoolName.GUESTS, grave.page)
        assert not isinstance(freed, Err), "a table that was not in use"
        GRAVEYARD.count -= 1
        return
    descriptor = Descriptor.of(TABLES[grave.page][grave.cursor].load(Order.RELAXED))
    if descriptor.valid:
        TABLES[grave.page][grave.cursor].store(u64(0), Order.RELAXED)
    level = grave.level
    grave.cursor += 1
    if is_table(descriptor, level):
        add(pages.page_of_address(Pa(descriptor.frame * PAGE_SIZE)), level + 1)
    elif descriptor.valid:
        uncount_leaf(descriptor, level)


@holds(frames.LOCK)
def uncount_leaf(descriptor: Descriptor, level: u64) -> None:
    """A leaf at `level` (2 or 3) is gone."""
    assert level <= LAST_LEVEL, "a leaf stands in a table"
    first = frames.index_of(Pa(descriptor.frame * PAGE_SIZE))
    if first is not None:
        blocks.uncount(first, first if level == LAST_LEVEL else first + (level_size(level) // PAGE_SIZE - 1))
