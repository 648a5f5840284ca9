# SPDX-License-Identifier: Apache-2.0
"""The host's pages that a guest runs from while it becomes protected: leaves of single pages, few, and all of them listed, so that they can be taken
away before any frame is, whoever gets it.

Locks: `frames.LOCK` (10) and GUESTS_LOCK (24). Invariants: while a guard is MEASURING, its guest's tables have no leaf that is not in its list;
a guard's bit in `GUARDS.lent` is set where that list has anything.
"""

from __future__ import annotations

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, level_size
from delphyne.el2.guest import guards
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.memory import frames, shadow, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import HostLeaf
from delphyne.lang import Ipa, count_trailing_zeros, holds, u64


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def drop_all(index: u64) -> None:
    """The stub's pages leave the guest's tables, so that no frame that is taken is reached by them."""
    guard = GUARDS.slots[index]
    for number in u64.range(guard.lent_count):
        dropped = shadow.drop(guards.shadow_of(index), Ipa(guard.lent[number]))
        assert not isinstance(dropped, Err), "a leaf of one page"
    guard.lent_count = u64(0)
    GUARDS.lent &= ~(u64(1) << index)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def drop_everybodys() -> None:
    """The same for every guest: a frame is about to be another's."""
    left = GUARDS.lent
    while left != 0:
        drop_all(count_trailing_zeros(left))
        left &= left - 1


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def fill(index: u64, page: Ipa, host: HostLeaf) -> None | Err:
    """A page of the host's that the stub runs from, as one leaf. Errors as `shadow.fill`; Err.EXISTS where the page is taken already."""
    space = guards.shadow_of(index).space
    if not tables.covers(space, page.raw, u64(1)):
        return Err.RANGE
    if tables.walk(space, page.raw).descriptor.raw != 0:
        return Err.EXISTS
    guard = GUARDS.slots[index]
    if guard.lent_count == guard.lent.length:
        drop_all(index)
    within = page.raw & (level_size(host.level) - 1)
    filled = shadow.fill(guards.shadow_of(index), page, HostLeaf(LAST_LEVEL, host.output + within, host.leaf))
    if isinstance(filled, Err):
        return filled
    guard.lent[guard.lent_count] = page.raw
    guard.lent_count += 1
    GUARDS.lent |= u64(1) << index
    return None
