# SPDX-License-Identifier: Apache-2.0
"""The host's stage 2: the machine one to one, without what is not the host's.

RAM is mapped before the host's first instruction, by the largest blocks; devices when they are first touched. A page that a protected guest gets is
taken out here, and comes back here. The table of pages in which it stood stays, empty or not, so that its coming back needs no memory.

Lock: HOST_LOCK (22), after `frames.LOCK` (10) and before GUESTS_LOCK (24); `pages.LOCK` is taken inside. A fault is answered under it by looking
again, so that a CPU that faulted while another one split or filled the same block goes on.

Invariants: what is mapped leads to itself; no frame of the frame table that is not the host's, or shared with it, is mapped; where LAST names a
table, the walk of each of its addresses ends in it. So whoever takes a table of pages out of this map says `forget_table` first, under HOST_LOCK.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, Stage2Memory
from delphyne.el2.memory import stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Ipa, Lock, Pa, apart, guarded, holds, struct, u16, u64

BLOCK_SHIFT: Final = u64(21)
"""Addresses that one table of pages serves."""


@struct
class Last:
    """The table of pages in which `remove` was last: the addresses that it serves, shifted, plus one, or 0 for none; its page in `pages.TABLES`."""

    block: u64
    table: u64


HOST_LOCK: Final = Lock("host map", rank=22)
HOST_SPACE: Final = guarded(HOST_LOCK, tables.Space())
HOST_VMID: Final = u16(0)
EVERYTHING: Final = Rights(True, True, True)
LAST: Final = guarded(HOST_LOCK, Last())


@holds(HOST_LOCK)
def create(bits: u64) -> None | Err:
    """An empty map of addresses of `bits` bits. Errors as `stage2.create`."""
    forget_table()
    return stage2.create(HOST_SPACE, bits, PoolName.STARTS, PoolName.HOST, HOST_VMID)


@holds(HOST_LOCK)
def add(at: u64, size: u64) -> None | Err:
    """Map these addresses to themselves. Devices are mapped as memory, so that the host's own map decides what kind each is (the stricter of both
    counts, Arm ARM D8.6). Errors as `stage2.map_range`."""
    return stage2.map_range(HOST_SPACE, Ipa(at), Pa(at), size, Stage2Memory.NORMAL, EVERYTHING)


@holds(HOST_LOCK)
def is_mapped(at: u64) -> bool:
    """Whether the host reaches this address."""
    return stage2.translate(HOST_SPACE, Ipa(at)) is not None


@holds(HOST_LOCK)
def remove(pa: Pa) -> None | Err:
    """Take the page of `pa` out of the map; no processor reaches it by the host's map when this returns.

    Err.NOT_FOUND where it is not mapped, Err.NO_MEMORY where the block it stands in cannot be split: then nothing changed."""
    page = pa.raw & ~(PAGE_SIZE - 1)
    if LAST.block != (page >> BLOCK_SHIFT) + 1:
        known = _find_table(page)
        if isinstance(known, Err):
            return known
    found = tables.in_last_table(LAST.table, page)
    if not found.descriptor.valid:
        return Err.NOT_FOUND
    tables.empty_slot(HOST_SPACE, page, found)
    return None


@apart
@holds(HOST_LOCK)
def _find_table(page: u64) -> None | Err:
    """LAST names the table of pages in which `page` stands, after a block was split where there was one. Errors as `remove`."""
    found = tables.split(HOST_SPACE, page, LAST_LEVEL)
    if isinstance(found, Err):
        return found
    LAST.block = (page >> BLOCK_SHIFT) + 1
    LAST.table = found.table
    return None


@holds(HOST_LOCK)
def forget_table() -> None:
    """No table of pages is remembered."""
    LAST.block = u64(0)


@holds(HOST_LOCK)
def restore(pa: Pa) -> None:
    """The page of `pa`, which `remove` took out, comes back."""
    page = pa.raw & ~(PAGE_SIZE - 1)
    found = tables.walk(HOST_SPACE, page)
    assert found.level == LAST_LEVEL, "the table of a page that was taken out"
    mapped = tables.map_found(HOST_SPACE, found, page, page, LAST_LEVEL, stage2.attributes(Stage2Memory.NORMAL, EVERYTHING))
    assert not isinstance(mapped, Err), "a page that was taken out"
