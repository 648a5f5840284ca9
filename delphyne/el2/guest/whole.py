# SPDX-License-Identifier: Apache-2.0
"""Blocks of 2 MiB in a protected guest's tables, so that its processors remember one translation where they would need 512.

Where all pages of a table are private to the guest, with all rights, and each stands at its place in 2 MiB of memory, a block leaf stands in the
table's stead. The table is kept as it is and led to by nobody (`blocks.BEHIND`): what is to be done to one of its pages begins with putting it back,
which needs no memory, so that an export cannot fail for it. To all that moves pages (`private`, `moving`) there are tables of pages only.

A block of which pages go and come back becomes one again at every PATIENCE-th time that all are there, so that each of them does not pay for it.

Locks, both held: `frames.LOCK` (10), GUESTS_LOCK (24).

Invariants: a leaf above the last level that has PRIVATE_MARK stands in the stead of the table that BEHIND has for its first frame; that table is in
use, no slot leads to it, and each of its slots says what the block says of its page. Of a run in which no block begins BEHIND says how often
more its pages have to be all there.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, SLOTS, Stage2Leaf, level_size
from delphyne.el2.guest import guards
from delphyne.el2.memory import blocks, frames, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import TABLES
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Ipa, Order, Pa, apart, holds, merged, u8, u64

PRIVATE_MARK: Final = u8(8)
"""Software bits of a leaf to a page that the guest has to itself, and may write."""
PATIENCE: Final = u64(64)
"""To look at a table and make it a block takes some 7,700 instructions."""


@merged
def is_block(found: Walk) -> bool:
    """Whether a walk of a protected guest's tables ended at a block of its own."""
    return found.level != LAST_LEVEL and found.descriptor.valid and Stage2Leaf.of(found.descriptor.raw).software == PRIVATE_MARK


@apart
@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def opened(index: u64, ipa: Ipa, block: Walk) -> Walk:
    """Where the page at `ipa` stands, after the block that it is in has become a table again."""
    first = _first(block.descriptor.raw)
    table = blocks.behind(first)
    tables.open_again(guards.shadow_of(index).space, ipa.raw, block, table)
    blocks.put_behind(first, PATIENCE)
    return tables.in_last_table(table, ipa.raw)


@apart
@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def close(index: u64, ipa: Ipa, table: u64) -> None:
    """`table`, in which the page at `ipa` stands, becomes a block, if its pages are one. For a page that the guest touched first."""
    first = TABLES[table][0].load(Order.RELAXED)
    leaf = Stage2Leaf.of(first)
    one = leaf.software == PRIVATE_MARK and leaf.read and leaf.write and not leaf.execute_never and leaf.frame % SLOTS == 0
    if leaf.valid and one and _is_in_place(table, first):
        blocks.put_behind(_first(first), table)
        tables.close(guards.shadow_of(index).space, ipa.raw, table)


@apart
@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def close_again(index: u64, ipa: Ipa, pa: Pa, table: u64) -> None:
    """The same for a page that came back, into the frame at `pa`."""
    first = frames.index_of(pa.align_down(level_size(LAST_LEVEL - 1)))
    if first is None:
        return
    left = blocks.behind(first)
    if left == 0:
        close(index, ipa, table)
    else:
        blocks.put_behind(first, left - 1)


def _is_in_place(table: u64, first: u64) -> bool:
    """Whether each slot of a table says what the one before says, of the next page; the first is `first`."""
    for slot in u64.range(SLOTS):
        if TABLES[table][slot].load(Order.RELAXED) != first + slot * PAGE_SIZE:
            return False
    return True


@holds(FRAMES_LOCK)
def _first(descriptor: u64) -> u64:
    """The index of the first frame that a leaf leads to."""
    index = frames.index_of(Pa(Stage2Leaf.of(descriptor).frame * PAGE_SIZE))
    assert index is not None, "RAM"
    return index
