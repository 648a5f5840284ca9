# SPDX-License-Identifier: Apache-2.0
"""The host's stage 2: the machine one to one, without what is not the host's.

RAM is mapped before the host's first instruction, by the largest blocks; devices when they are first touched. A page that a protected guest gets is
taken out here, and comes back here. For the first page of a block of 2 MiB the block becomes a table of pages, and when the last one is back, a
block again.

That a page comes back never needs memory, since an export cannot fail. So a block's table stays from its first page out to its last one back, all
512 out or not: while a block is out as a whole its table is empty, and is just what its first page back will need; to lend it out meanwhile, another
one would have to be kept for that. Whoever takes a page out is refused where there is no table; nobody who brings one back is.

Lock: HOST_LOCK (22), after `frames.LOCK` (10) and before GUESTS_LOCK (24); `pages.LOCK` is taken inside. A fault is answered under it by looking
again, so that a CPU that faulted while another one split or filled the same block goes on.

Invariants: what is mapped leads to itself; no frame of the frame table that is not the host's, or shared with it, is mapped. Of a table of pages
that was a block, OUT slots are empty, at least one, and every other one is the page's own leaf with all rights; a table that never was a block has
RAGGED in OUT, or more. Where LAST names a table, the walk of each of its addresses ends in it: whoever takes a table of pages out of this map says
`forget_table` first, under HOST_LOCK.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, SLOTS, Stage2Memory
from delphyne.el2.memory import stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import BootArray, Ipa, Lock, Pa, apart, boot, guarded, holds, owned, struct, u8, u16, u32, u64

BLOCK_SHIFT: Final = u64(21)
"""Addresses that one table of pages serves."""


@struct
class Last:
    """The table of pages in which `remove` was last: the addresses that it serves, shifted, plus one, or 0 for none; its page in `pages.TABLES`; and
    whether it was a block, all of which was out then."""

    block: u64
    table: u64
    is_out: bool


HOST_LOCK: Final = Lock("host map", rank=22)
HOST_SPACE: Final = guarded(HOST_LOCK, tables.Space())
HOST_VMID: Final = u16(0)
EVERYTHING: Final = Rights(True, True, True)
LAST: Final = guarded(HOST_LOCK, Last())
OUT: Final = guarded(HOST_LOCK, BootArray[u32]())
"""For each page of `pages.TABLES`: how many pages are out of the table there; 0 where it is none of the host's last tables."""
OUT_BYTES: Final = u64(4)
"""What OUT takes for each."""
RAGGED: Final = u32(1024)
"""Where counting begins in a table that never was a block: higher than a table has slots, so that it never comes to 0."""


@boot
def attach(at: Pa, count: u64) -> None:
    """Put OUT at `at`: OUT_BYTES for each of the `count` pages of `pages.TABLES`, EL2's own. Once, before `create`."""
    with owned(at, count * OUT_BYTES) as window:
        window.fill(u8(0))
    with HOST_LOCK:
        OUT.attach(at.raw, count)


@holds(HOST_LOCK)
def create(bits: u64) -> None | Err:
    """An empty map of addresses of `bits` bits. Errors as `stage2.create`."""
    forget_table()
    return stage2.create(HOST_SPACE, bits, PoolName.STARTS, PoolName.HOST, HOST_VMID)


@holds(HOST_LOCK)
def add(at: u64, size: u64) -> None | Err:
    """Map these addresses to themselves. Devices are mapped as memory, so that the host's own map decides what kind each is (the stricter of both
    counts, Arm ARM D8.6). Errors as `stage2.map_range`."""
    mapped = stage2.map_range(HOST_SPACE, Ipa(at), Pa(at), size, Stage2Memory.NORMAL, EVERYTHING)
    if not isinstance(mapped, Err) and size != 0:
        _mark(at)
        _mark(at + (size - 1))
    return mapped


@holds(HOST_LOCK)
def _mark(at: u64) -> None:
    """A table of pages that leads to `at`, one end of what was added, never was a block."""
    found = tables.walk(HOST_SPACE, at)
    if found.level == LAST_LEVEL and OUT[found.table] == 0:
        OUT[found.table] = RAGGED


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
    OUT[found.table] += 1
    LAST.is_out = OUT[found.table] == u32(SLOTS)
    return None


@holds(HOST_LOCK)
def is_block_out() -> bool:
    """Whether every page of the 2 MiB from which `remove` last took one is out, and they were a block. A hint, once something came back since."""
    return LAST.is_out


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
    """The page of `pa`, which `remove` took out, comes back; with the last one of its block the block does. It needs no memory."""
    page = pa.raw & ~(PAGE_SIZE - 1)
    found = tables.walk(HOST_SPACE, page)
    assert found.level == LAST_LEVEL, "the table of a page that was taken out"
    mapped = tables.map_found(HOST_SPACE, found, page, page, LAST_LEVEL, stage2.attributes(Stage2Memory.NORMAL, EVERYTHING))
    assert not isinstance(mapped, Err), "a page that was taken out"
    OUT[found.table] -= 1
    if OUT[found.table] == 0:
        forget_table()
        tables.merge(HOST_SPACE, page, found)
