# SPDX-License-Identifier: Apache-2.0
"""Stage 2: what intermediate addresses of the host or of a guest lead to.

Lock: that of the space (see `tables`). A space is made once for the host and once for each guest; its start tables come from the pool
that is named for them, the tables below them from another.

Invariants: those of `tables`. What a processor may hold in its TLBs is never more than what the tables say when the lock is free.
"""

from __future__ import annotations

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import (
    PAGE_SIZE,
    Descriptor,
    Shareability,
    Stage2Leaf,
    Stage2Memory,
    Vtcr,
    level_size,
    stage2_start_level,
    stage2_start_tables,
)
from delphyne.el2.memory import flush, pages, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Regime, Space
from delphyne.lang import Ipa, Pa, u8, u16, u64, value


@value
class Rights:
    """What may be done through a mapping."""

    read: bool
    write: bool
    execute: bool


@value
class Mapping:
    """What an intermediate address leads to: the physical address, and how large the leaf is that says so, in bytes."""

    pa: Pa
    size: u64
    rights: Rights


def create(space: Space, bits: u64, starts: PoolName, pool: PoolName, vmid: u16) -> None | Err:
    """Make `space`, which is no space yet, an empty one for intermediate addresses of `bits` bits, 39 to 48.

    Its start tables come from the pool `starts`, those below them from `pool`. Err.EXISTS where it is one, Err.RANGE for other sizes,
    Err.UNSUPPORTED where a unit of `starts` is too small, Err.NO_MEMORY.
    """
    if space.roots != 0:
        return Err.EXISTS
    if bits < 39 or bits > 48:
        return Err.RANGE
    if stage2_start_tables(bits) > pages.unit_of(starts):
        return Err.UNSUPPORTED
    root = pages.allocate(starts)
    if isinstance(root, Err):
        return root
    space.regime = Regime.STAGE2
    space.bits = bits
    space.start = stage2_start_level(bits)
    space.root = root
    space.roots = stage2_start_tables(bits)
    space.starts = starts
    space.pool = pool
    space.vmid = vmid
    return None


def destroy(space: Space) -> None | Err:
    """End an empty space. Err.STATE where it is none, Err.BUSY where something is still mapped."""
    if space.roots == 0:
        return Err.STATE
    if not tables.is_empty(space):
        return Err.BUSY
    flush.stage2_all(tables.vttbr_of(space))
    freed = pages.free(space.starts, space.root)
    assert not isinstance(freed, Err), "start tables that were not in use"
    space.roots = u64(0)
    return None


def vtcr(space: Space, physical_size: u8) -> Vtcr:
    """VTCR_EL2 for these tables; `physical_size` as ID_AA64MMFR0_EL1.PARange has it. Walks are cacheable and inner shareable."""
    return Vtcr(
        t0sz=u8(64 - space.bits),
        start_level=u8(2 - space.start),
        inner_cacheability=u8(1),
        outer_cacheability=u8(1),
        shareability=Shareability.INNER,
        physical_size=physical_size,
        res1=True,
    )


def attributes(memory: Stage2Memory, rights: Rights) -> u64:
    """The bits of a leaf other than valid, page and frame."""
    made = Stage2Leaf(
        memory=memory,
        read=rights.read,
        write=rights.write,
        shareability=Shareability.INNER,
        accessed=True,
        execute_never=not rights.execute,
    )
    return made.raw


def map_range(space: Space, ipa: Ipa, pa: Pa, size: u64, memory: Stage2Memory, rights: Rights) -> None | Err:
    """Map `size` bytes, by the largest leaves that fit. Errors as `tables.map_range`."""
    return tables.map_range(space, ipa.raw, pa.raw, size, attributes(memory, rights))


def map_page(space: Space, ipa: Ipa, pa: Pa, memory: Stage2Memory, rights: Rights) -> None | Err:
    """Map one page. Err.ALIGNMENT, Err.RANGE, Err.EXISTS, Err.NO_MEMORY as `tables.map_range`."""
    return tables.map_range(space, ipa.raw, pa.raw, PAGE_SIZE, attributes(memory, rights))


def unmap_range(space: Space, ipa: Ipa, size: u64) -> u64 | Err:
    """Unmap what is mapped there; nobody translates by it when this returns. Result and errors as `tables.unmap_range`."""
    return tables.unmap_range(space, ipa.raw, size)


def translate(space: Space, ipa: Ipa) -> Mapping | None:
    """What `ipa` leads to, or None where nothing is mapped or it lies outside the address space."""
    if not tables.covers(space, ipa.raw, u64(1)):
        return None
    found = tables.walk(space, ipa.raw)
    if not found.descriptor.valid:
        return None
    entry = Stage2Leaf.of(found.descriptor.raw)
    size = level_size(found.level)
    rights = Rights(entry.read, entry.write, not entry.execute_never)
    return Mapping(Pa(entry.frame * PAGE_SIZE + (ipa.raw & (size - 1))), size, rights)


def protect(space: Space, ipa: Ipa, size: u64, rights: Rights) -> None | Err:
    """Give `size` bytes, one page or one block, other rights. Other mappings keep theirs: a larger block is split first.

    Err.INVALID for other sizes, Err.ALIGNMENT, Err.RANGE, Err.NOT_FOUND where a part is not mapped or mapped in smaller pieces,
    Err.NO_MEMORY.
    """
    level = _level_of(size)
    if isinstance(level, Err):
        return level
    if not ipa.is_aligned(size):
        return Err.ALIGNMENT
    if not tables.covers(space, ipa.raw, size):
        return Err.RANGE
    if tables.walk(space, ipa.raw).level > level:
        return Err.NOT_FOUND
    divided = tables.split(space, ipa.raw, level)
    if isinstance(divided, Err):
        return divided
    found = tables.walk(space, ipa.raw)
    entry = Stage2Leaf.of(found.descriptor.raw).replace(read=rights.read, write=rights.write, execute_never=not rights.execute)
    tables.change(space, ipa.raw, found, Descriptor.of(entry.raw))
    return None


def _level_of(size: u64) -> u64 | Err:
    """The level whose leaves span `size` bytes. Err.INVALID where none does."""
    for level in u64.range(1, 4):
        if size == level_size(level):
            return level
    return Err.INVALID
