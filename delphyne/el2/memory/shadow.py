# SPDX-License-Identifier: Apache-2.0
"""The shadow of a guest's stage 2: EL2's own tables, filled from what the host's table says, dropped when the host says that it no longer does.

A shadow behaves like a TLB that never forgets by itself: a leaf is in it only if the host's table held one for the same addresses that leads to the
same memory with at least its rights, and whoever takes that away has called before anybody relies on it. So it may be emptied at any moment; it
then fills again. What it leads to is the host's RAM, or no RAM at all.

Where the host has a block, the shadow has one of 2 MiB if all of that memory is the host's, else single pages. A leaf remembers the level of the
host's leaf it came from, so that a call about one address of a block takes away all of it.

Locks: `frames.LOCK` (10) and GUESTS_LOCK (24) are held in every function that changes a shadow; `pages.LOCK` is taken inside.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import (
    ADDRESS_LIMIT,
    LAST_LEVEL,
    PAGE_SIZE,
    SLOTS,
    Descriptor,
    Stage2Leaf,
    is_table,
    level_shift,
    level_size,
    slot_of,
)
from delphyne.el2.memory import blocks, flush, frames, graveyard, pages, stage2, tables
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import TABLES, PoolName
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Domain, Ipa, Order, Pa, apart, dsb, holds, struct, u8, u16, u64, value, wrap_add

BLOCK_LEVEL: Final = u64(2)
BLOCK_BYTES: Final = u64(2 << 20)
MEMORY_KIND: Final = u64(0b1111 << 2 | 0b11 << 8)
"""MemAttr and SH."""
RIGHTS: Final = u64(0b11 << 6)
"""S2AP."""


@struct
class Shadow:
    """A guest's tables. `top` is above every start slot in use. `epoch` counts when tables may have gone, the shadow's or the host's: what anybody
    remembers of where a table lies is worth nothing from then on. `huge`: there may be leaves that came from one of the host's of 1 GiB."""

    space: tables.Space
    top: u64
    epoch: u64
    huge: bool


@value
class HostLeaf:
    """What a host's table says of an address: a leaf at `level` (1 to 3) that leads to `output`, with memory type, shareability and rights."""

    level: u64
    output: u64
    leaf: Stage2Leaf


@holds(GUESTS_LOCK)
def create(shadow: Shadow, bits: u64, vmid: u16) -> None | Err:
    """An empty shadow for addresses of `bits` bits, 39 to 48. Errors as `stage2.create`."""
    starts = PoolName.GUEST_STARTS if bits <= 40 or bits > 43 else PoolName.STARTS
    return stage2.create(shadow.space, bits, starts, PoolName.GUESTS, vmid)


@holds(GUESTS_LOCK)
def destroy(shadow: Shadow) -> None | Err:
    """End a shadow. Err.BUSY where the graveyard is full: then it is still there, with less in it."""
    dropped = drop_all(shadow)
    if isinstance(dropped, Err):
        return dropped
    freed = pages.free(shadow.space.starts, shadow.space.root)
    assert not isinstance(freed, Err), "start tables that were not in use"
    shadow.space.roots = u64(0)
    return None


def may_show(pa: Pa, size: u64) -> bool:
    """Whether an ordinary guest may see memory that is no RAM: addresses that a processor has."""
    return pa.raw < ADDRESS_LIMIT and size <= ADDRESS_LIMIT - pa.raw


@apart
@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def fill(shadow: Shadow, ipa: Ipa, host: HostLeaf) -> None | Err:
    """Let `ipa` lead where the host's leaf for it leads, and what is around it where that is allowed.

    Err.OWNER where that memory is not the host's to show, Err.RANGE outside the shadow's addresses, Err.NO_MEMORY without tables.
    """
    space = shadow.space
    if not tables.covers(space, ipa.raw, u64(1)):
        return Err.RANGE
    found = tables.walk(space, ipa.raw)
    level = _level_for(ipa, host, found.level)
    base = ipa.raw & ~(level_size(level) - 1)
    output = host.output + (base & (level_size(host.level) - 1))
    if level == LAST_LEVEL and not _is_showable(Pa(output)):
        return Err.OWNER
    wanted = tables.leaf(output, level, attributes(host))
    if found.descriptor.valid:
        if found.level == level and found.descriptor == wanted:
            # The walker that faulted remembers less than the tables say, or another CPU was faster.
            flush.stage2_address(tables.vttbr_of(space), ipa)
            return None
        dropped = drop(shadow, ipa)
        if isinstance(dropped, Err):
            return dropped
        found = tables.walk(space, ipa.raw)
    mapped = tables.map_found(space, found, base, output, level, attributes(host))
    if isinstance(mapped, Err):
        return mapped
    _count(wanted, level)
    shadow.huge = shadow.huge or host.level < BLOCK_LEVEL
    shadow.top = max(shadow.top, (base >> level_shift(space.start)) + 1)
    return None


def attributes(host: HostLeaf) -> u64:
    """The bits of a shadow's leaf other than valid, page and frame: of the host's its rights and the kind of memory, and nothing else."""
    shown = Stage2Leaf.of(host.leaf.raw & (MEMORY_KIND | RIGHTS))
    return shown.replace(accessed=True, execute_never=not may_execute(host), software=u8(host.level)).raw


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _level_for(ipa: Ipa, host: HostLeaf, deepest: u64) -> u64:
    """The level of the shadow's leaf: a block only where the host's leaf, the tables that are there and the frames' owners allow it."""
    if host.level > BLOCK_LEVEL or deepest > BLOCK_LEVEL:
        return LAST_LEVEL
    base = ipa.raw & ~(BLOCK_BYTES - 1)
    output = Pa(host.output + (base & (level_size(host.level) - 1)))
    return BLOCK_LEVEL if frames.is_hosts_block(output) else LAST_LEVEL


@holds(frames.LOCK)
def _is_showable(pa: Pa) -> bool:
    """Whether a guest may see this page: the host's RAM, or what is no RAM."""
    if frames.index_of(pa) is None:
        return may_show(pa, PAGE_SIZE)
    return frames.is_hosts(pa)


@holds(frames.LOCK)
def _count(leaf: Descriptor, level: u64) -> None:
    first = frames.index_of(Pa(leaf.frame * PAGE_SIZE))
    if first is not None:
        blocks.count(first, first + (level_size(level) // PAGE_SIZE - 1))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def drop(shadow: Shadow, ipa: Ipa) -> None | Err:
    """Take away what leads from `ipa`, and all that came from the same leaf of the host's. No processor uses it when this returns. Errors as
    `clear_found`."""
    return drop_found(shadow, ipa, find(shadow, ipa)) if tables.covers(shadow.space, ipa.raw, u64(1)) else None


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def drop_found(shadow: Shadow, ipa: Ipa, found: Walk) -> None | Err:
    """The same where `found` is what `find` finds."""
    taken = clear_found(shadow, found)
    if isinstance(taken, Err):
        return taken
    flush_after(shadow, ipa, taken)
    return None


def flush_after(shadow: Shadow, ipa: Ipa, taken: u64) -> None:
    """Make every processor forget what `clear_found` took away: `taken` leaves, of which the only one, or the first, led from `ipa`."""
    if taken == 1:
        flush.stage2_address(tables.vttbr_of(shadow.space), ipa)
    elif taken != 0:
        flush.stage2_all(tables.vttbr_of(shadow.space))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def clear_found(shadow: Shadow, found: Walk) -> u64 | Err:
    """As `drop_found`, but the caller calls `flush_after`. Returns how many leaves were taken away.

    What came from a leaf of the host's of 1 GiB stands in several tables: all of the shadow goes, and is flushed. Err.BUSY as `drop_all`."""
    if not found.descriptor.valid:
        return u64(0)
    came_from = u64(Stage2Leaf.of(found.descriptor.raw).software)
    if came_from == found.level:
        _clear_slot(found.table, found.slot, found.descriptor, found.level)
        return u64(1)
    if came_from < BLOCK_LEVEL:
        dropped = drop_all(shadow)
        return dropped if isinstance(dropped, Err) else u64(0)
    return _clear_siblings(found.table, found.level, u8(came_from))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def drop_pieces(shadow: Shadow, ipa: Ipa) -> None:
    """Take away the single pages of the 2 MiB around `ipa` that came from one block of the host's, whether or not `ipa` is among them. No processor
    uses them when this returns."""
    table = table_at(shadow, ipa)
    if table is not None and _clear_siblings(table, LAST_LEVEL, u8(BLOCK_LEVEL)) != 0:
        flush.stage2_all(tables.vttbr_of(shadow.space))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _clear_siblings(table: u64, level: u64, came_from: u8) -> u64:
    """Every page of a table of pages that came from the host's 2 MiB block, which spans the same addresses as the table."""
    taken = u64(0)
    for slot in u64.range(SLOTS):
        descriptor = Descriptor.of(TABLES[table][slot].load(Order.RELAXED))
        if descriptor.valid and not is_table(descriptor, level) and Stage2Leaf.of(descriptor.raw).software == came_from:
            _clear_slot(table, slot, descriptor, level)
            taken += 1
    return taken


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _clear_slot(table: u64, slot: u64, descriptor: Descriptor, level: u64) -> None:
    TABLES[table][slot].store(u64(0), Order.RELAXED)
    graveyard.uncount_leaf(descriptor, level)


@holds(GUESTS_LOCK)
def drop_all(shadow: Shadow) -> None | Err:
    """Take everything away: the tables below the start tables are cut off and emptied later. Err.BUSY where too many wait for that: then only some
    of them were cut off, and the caller tries again after some work of the graveyard."""
    for _ in u64.range(shadow.top):
        if not graveyard.has_room():
            break
        shadow.top -= 1
        _cut(shadow.space, shadow.top)
    forget_tables(shadow)
    flush.stage2_all(tables.vttbr_of(shadow.space))
    if shadow.top != 0:
        return Err.BUSY
    shadow.huge = False
    return None


@holds(GUESTS_LOCK)
def deepen(shadow: Shadow, ipa: Ipa) -> tables.Walk | Err:
    """Tables down to the page of `ipa`, so that something can be written to its slot, which is returned. Err.RANGE outside the shadow's addresses;
    errors as `tables.deepen`."""
    space = shadow.space
    if not tables.covers(space, ipa.raw, u64(1)):
        return Err.RANGE
    found = tables.deepen(space, ipa.raw)
    if isinstance(found, Err):
        return found
    shadow.top = max(shadow.top, (ipa.raw >> level_shift(space.start)) + 1)
    return found


@holds(GUESTS_LOCK)
def _cut(space: tables.Space, index: u64) -> None:
    """What the start slot with this index leads to goes to the graveyard."""
    slot = TABLES[space.root + index // SLOTS][index % SLOTS]
    descriptor = Descriptor.of(slot.load(Order.RELAXED))
    if descriptor.valid:
        slot.store(u64(0), Order.RELAXED)
        graveyard.add(pages.page_of_address(Pa(descriptor.frame * PAGE_SIZE)), space.start + 1)


@holds(GUESTS_LOCK)
def forget_tables(shadow: Shadow) -> None:
    """A table may have gone. 64 bits of epochs do not wrap."""
    shadow.epoch = wrap_add(shadow.epoch, 1)


@holds(GUESTS_LOCK)
def table_at(shadow: Shadow, ipa: Ipa) -> u64 | None:
    """The table of pages in which the leaf for `ipa` stands or would stand, where there is one; until the epoch ends."""
    if not tables.covers(shadow.space, ipa.raw, u64(1)):
        return None
    found = tables.walk(shadow.space, ipa.raw)
    return found.table if found.level == LAST_LEVEL else None


@holds(GUESTS_LOCK)
def fill_page(table: u64, ipa: Ipa, host: HostLeaf) -> bool:
    """As `fill`, for one of the host's pages whose slot stands in `table` (`table_at`) and is free; False, and nothing done, where it is not, or
    where that memory is not the host's RAM.

    Without `frames.LOCK`: whoever takes a frame from the host marks it first, and takes away guests' leaves under GUESTS_LOCK after that. So either
    the mark is seen here, or the leaf is found there."""
    slot = slot_of(ipa.raw, LAST_LEVEL)
    index = frames.index_of(Pa(host.output))
    if index is None or frames.entry_at(index).state is not State.HOST or TABLES[table][slot].load(Order.RELAXED) != 0:
        return False
    TABLES[table][slot].store(tables.leaf(host.output, LAST_LEVEL, attributes(host)).raw, Order.RELEASE)
    dsb(Domain.ISHST)
    blocks.count(index, index)
    return True


def is_within(inner: HostLeaf, outer: HostLeaf) -> bool:
    """Whether `outer` allows all that `inner` does, and both are memory of one kind. Of a leaf only its rights and kind are looked at."""
    one = inner.leaf
    other = outer.leaf
    rights = (other.read or not one.read) and (other.write or not one.write) and (may_execute(outer) or not may_execute(inner))
    return rights and (one.raw ^ other.raw) & MEMORY_KIND == 0


def may_execute(host: HostLeaf) -> bool:
    """Whether a leaf lets EL1 and EL0 execute. With FEAT_XNX one may be let and not the other (XN[1:0] 01 and 11): here that is neither."""
    return not host.leaf.execute_never and not host.leaf.execute_never_privileged


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def reopen(shadow: Shadow, ipa: Ipa, host: HostLeaf) -> None:
    """The leaf for `ipa` gets the rights of the host's, which leads to the same memory."""
    found = tables.walk(shadow.space, ipa.raw)
    changed = tables.leaf(found.descriptor.frame * PAGE_SIZE, found.level, attributes(host))
    tables.change(shadow.space, ipa.raw, found, changed)


@holds(GUESTS_LOCK)
def find(shadow: Shadow, ipa: Ipa) -> Walk:
    """Where a walk for `ipa`, one of the shadow's addresses, ends."""
    return tables.walk(shadow.space, ipa.raw)


@holds(GUESTS_LOCK)
def look(shadow: Shadow, ipa: Ipa) -> Walk | None:
    """Where the leaf stands that leads from `ipa`, if one does."""
    if not tables.covers(shadow.space, ipa.raw, u64(1)):
        return None
    found = find(shadow, ipa)
    return found if found.descriptor.valid else None


def leaf_at(found: Walk, ipa: Ipa) -> HostLeaf:
    """What it says: the leaf, its level, and where `ipa`'s own page leads."""
    leaf = Stage2Leaf.of(found.descriptor.raw)
    within = ipa.raw & (level_size(found.level) - 1) & ~(PAGE_SIZE - 1)
    return HostLeaf(found.level, leaf.frame * PAGE_SIZE + within, leaf)
