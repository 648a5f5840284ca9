# SPDX-License-Identifier: Apache-2.0
"""Translation tables of either stage: walk, map, unmap, split, change.

Every operation on one leaf changes what the processor sees by a single store to a single slot: new tables are filled before that store
links them in, and tables that lose their last entry are taken apart after that store cut them off and the TLBs were flushed. Whatever
tables it needs are reserved before anything changes; Err means that nothing did.

Lock: none of its own. A `Space` is guarded by its owner's lock (rank 20 to 29), which is held in every function here; each takes `pages.LOCK`
(30) for a moment. The processor's table walker is a reader without lock, which the order of stores and the flushes serve.

Invariants, for every slot of a table that can be reached (`invariants.slot_is_sound`): it is zero, or a leaf whose output is aligned to
what the slot spans, or leads to a page of the space's pool that is in use and that no other slot leads to. No table below the start
tables is empty, but in a guest's shadow (shadow.py), whose tables are given back all at once, and in the host's map (host_map.py).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import zero_page
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import (
    ADDRESS_LIMIT,
    FIRST_BLOCK_LEVEL,
    LAST_LEVEL,
    PAGE_SIZE,
    SLOTS,
    Descriptor,
    Vttbr,
    is_table,
    level_shift,
    level_size,
    slot_of,
)
from delphyne.el2.memory import flush, pages
from delphyne.el2.memory.pages import TABLES, PoolName
from delphyne.lang import Domain, Enum8, Ipa, Order, Pa, Va, dsb, isb, struct, u16, u64, value

MAP_LIMIT: Final = u64(8192)
"""Leaves that one call maps at most: two ragged ends of blocks and pages, and 6 TiB of 1 GiB blocks between them."""
UNMAP_LIMIT: Final = u64(32)
"""Slots that one call unmaps at most, so that its caller can serve interrupts between calls."""


class Regime(Enum8):
    """Whose addresses a space translates, which decides how the TLBs are flushed."""

    EL2 = 0
    """EL2's own virtual addresses, stage 1."""
    STAGE2 = 1
    """Intermediate addresses of the VMID."""


@struct
class Space:
    """One set of tables. Made by `stage1.create` or `stage2.create`; all zero it is none."""

    regime: Regime
    bits: u64
    """Input addresses are below 1 << bits."""
    start: u64
    """The level at which the walk starts."""
    root: u64
    """Index in pages.TABLES of the first start table."""
    roots: u64
    """How many start tables there are."""
    starts: PoolName
    """Where the start tables come from, in a space of stage 2."""
    pool: PoolName
    """Where the tables below come from."""
    vmid: u16


@value
class Walk:
    """Where a walk stopped: the slot, the level of the table that it stands in, and what it holds."""

    table: u64
    slot: u64
    level: u64
    descriptor: Descriptor


def covers(space: Space, address: u64, size: u64) -> bool:
    """Whether these addresses are input addresses of the space."""
    limit = u64(1) << space.bits
    return address < limit and size <= limit - address


def vttbr_of(space: Space) -> Vttbr:
    """What VTTBR_EL2 holds while these tables are in use."""
    return Vttbr(table=pages.address_of_page(space.root).raw >> 1, vmid=space.vmid)


def walk(space: Space, address: u64) -> Walk:
    """Follow `address`, an input address, until a slot leads to no further table."""
    return walk_to(space, address, LAST_LEVEL)


def walk_to(space: Space, address: u64, last: u64) -> Walk:
    """The same, but stop at level `last`, from the start level to 3, whatever stands there."""
    index = address >> level_shift(space.start)
    table = space.root + index // SLOTS
    slot = index % SLOTS
    descriptor = _load(table, slot)
    for level in u64.range(space.start, last):
        if not is_table(descriptor, level):
            return Walk(table, slot, level, descriptor)
        table = _next_table(descriptor)
        slot = slot_of(address, level + 1)
        descriptor = _load(table, slot)
    return Walk(table, slot, last, descriptor)


def in_last_table(table: u64, address: u64) -> Walk:
    """What `walk` finds for an address whose table of pages is `table`."""
    slot = slot_of(address, LAST_LEVEL)
    return Walk(table, slot, LAST_LEVEL, _load(table, slot))


def map_leaf(space: Space, address: u64, output: u64, level: u64, attributes: u64) -> None | Err:
    """Let `address` lead to `output` by one leaf at `level` (1 to 3). Both are aligned to what the leaf spans.

    Err.EXISTS where anything is mapped in that span, Err.NO_MEMORY where tables are missing.
    """
    return map_found(space, walk(space, address), address, output, level, attributes)


def map_found(space: Space, found: Walk, address: u64, output: u64, level: u64, attributes: u64) -> None | Err:
    """The same where `found` is what `walk` finds for `address`."""
    if not _is_free(found, level):
        return Err.EXISTS
    if level != found.level:
        reserved = pages.reserve(space.pool, level - found.level)
        if isinstance(reserved, Err):
            return reserved
    _install(space, found, address, leaf(output, level, attributes), level)
    return None


def deepen(space: Space, address: u64) -> Walk | Err:
    """Add the tables that are lacking between the start tables and the page of `address`, empty; what `walk` finds for it from then on. Err.EXISTS
    where a block is mapped there, Err.NO_MEMORY."""
    found = walk(space, address)
    if found.level == LAST_LEVEL:
        return found
    if found.descriptor.raw != 0:
        return Err.EXISTS
    reserved = pages.reserve(space.pool, LAST_LEVEL - found.level)
    if isinstance(reserved, Err):
        return reserved
    _install(space, found, address, Descriptor(), LAST_LEVEL)
    return walk(space, address)


def map_range(space: Space, address: u64, output: u64, size: u64, attributes: u64) -> None | Err:
    """Let `size` bytes from `address` lead to those from `output`, by the largest leaves that fit.

    `attributes` are the bits of a leaf other than valid, page and frame. Err.ALIGNMENT unless all are multiples of a page; Err.RANGE
    outside either address space or beyond MAP_LIMIT; Err.EXISTS where anything is mapped in the range; Err.NO_MEMORY.
    """
    if (address | output | size) & (PAGE_SIZE - 1) != 0:
        return Err.ALIGNMENT
    if not covers(space, address, size) or output >= ADDRESS_LIMIT or size > ADDRESS_LIMIT - output:
        return Err.RANGE
    missing = _tables_missing(space, address, output, size)
    if isinstance(missing, Err):
        return missing
    reserved = pages.reserve(space.pool, missing)
    if isinstance(reserved, Err):
        return reserved
    done = u64(0)
    while done < size:
        level = leaf_level(address + done, output + done, size - done)
        _install(space, walk(space, address + done), address + done, leaf(output + done, level, attributes), level)
        done += level_size(level)
    return None


def unmap_leaf(space: Space, address: u64) -> Walk | Err:
    """Remove the leaf that `address` leads to, block or page, with the tables that it leaves empty. Returns what it was.

    When it returns, no processor translates by it. Err.NOT_FOUND where `address` leads to none.
    """
    found = walk(space, address)
    if not found.descriptor.valid:
        return Err.NOT_FOUND
    cut = _highest_alone(space, address, found)
    _clear(cut.table, cut.slot)
    _flush(space, address)
    _dismantle(space, address, cut)
    return found


def empty_slot(space: Space, address: u64, found: Walk) -> None:
    """Remove the leaf that `walk` found for `address`; its table stays, though it may be empty now. No processor translates by the leaf when this
    returns."""
    _clear(found.table, found.slot)
    _flush(space, address)


def unmap_range(space: Space, address: u64, size: u64) -> u64 | Err:
    """Unmap whatever is mapped in `size` bytes from `address`, splitting the blocks that reach across its ends.

    Returns how many bytes were dealt with: all, or fewer after UNMAP_LIMIT slots; the caller then goes on from there. Err.ALIGNMENT
    unless both are multiples of a page, Err.RANGE outside the address space, Err.NO_MEMORY where tables for a split are missing.
    """
    if (address | size) & (PAGE_SIZE - 1) != 0:
        return Err.ALIGNMENT
    if not covers(space, address, size):
        return Err.RANGE
    end = address + size
    reserved = pages.reserve(space.pool, _splits_at(space, address, u64(0)) + _splits_at(space, end, address))
    if isinstance(reserved, Err):
        return reserved
    _split_edge(space, address)
    _split_edge(space, end)
    at = address
    for _ in u64.range(UNMAP_LIMIT):
        if at >= end:
            return size
        at = _unmap_slot(space, at)
    return min(at, end) - address


def split(space: Space, address: u64, level: u64) -> Walk | Err:
    """Make the leaf that `address` leads to one of `level` (up to 3) or finer, by replacing blocks with tables that say the same; what `walk` finds
    for `address` from then on.

    Break-before-make: for a moment the whole block is unmapped, and whoever faults finds the new tables once the lock is free.
    Err.NOT_FOUND where `address` leads to no leaf, Err.NO_MEMORY.
    """
    found = walk(space, address)
    if not found.descriptor.valid:
        return Err.NOT_FOUND
    if found.level >= level:
        return found
    reserved = pages.reserve(space.pool, level - found.level)
    if isinstance(reserved, Err):
        return reserved
    for _ in u64.range(level - found.level):
        _split_once(space, address)
    return walk(space, address)


def merge(space: Space, address: u64, found: Walk) -> None:
    """The same as `close`, and the table is free. In a space of stage 2."""
    close(space, address, found.table)
    zero_page(pages.address_of_page(found.table))
    freed = pages.free(space.pool, found.table)
    assert not isinstance(freed, Err), "a table that was not in use"


def close(space: Space, address: u64, table: u64) -> None:
    """Replace `table`, the table of pages in which `walk` finds the slot of `address`, by one block that says the same. It keeps its words, and no
    slot leads to it any more. In a space of stage 2.

    Each slot of that table is a leaf: the first leads to where a block can begin, each other one a page further, all with the same attributes.
    Break-before-make: for a moment the whole block is unmapped, and whoever faults finds it again once the lock is free. Any of the 512 leaves may be
    remembered, so that all of the VMID is forgotten and not one address.
    """
    above = walk_to(space, address, LAST_LEVEL - 1)
    block = _load(table, u64(0)).replace(table=False)
    _clear(above.table, above.slot)
    flush.stage2_all(vttbr_of(space))
    _publish(space, above.table, above.slot, block)


def open_again(space: Space, address: u64, block: Walk, table: u64) -> None:
    """Replace the block that `walk` found for `address` by the table that `close` put it in the stead of: whose words still say the same.

    Break-before-make: for a moment the whole block is unmapped."""
    _clear(block.table, block.slot)
    _flush(space, address)
    _publish(space, block.table, block.slot, _table_descriptor(table))


def change(space: Space, address: u64, found: Walk, changed: Descriptor) -> None:
    """Replace the leaf that `walk` found for `address` by one that differs in permissions only, which needs no break-before-make."""
    TABLES[found.table][found.slot].store(changed.raw, Order.RELEASE)
    _flush(space, address)


def is_empty(space: Space) -> bool:
    """Whether the space maps nothing."""
    for table in u64.range(space.roots):
        for slot in u64.range(SLOTS):
            if _load(space.root + table, slot).raw != 0:
                return False
    return True


def leaf(output: u64, level: u64, attributes: u64) -> Descriptor:
    """The leaf at `level` with these attributes."""
    return Descriptor.of(attributes | output).replace(valid=True, table=level == LAST_LEVEL)


def leaf_level(address: u64, output: u64, size: u64) -> u64:
    """The level of the largest leaf that can start a mapping of `size` bytes, at least a page, from `address` to `output`."""
    for level in u64.range(FIRST_BLOCK_LEVEL, LAST_LEVEL):
        span = level_size(level)
        if size >= span and (address | output) & (span - 1) == 0:
            return level
    return LAST_LEVEL


def _load(table: u64, slot: u64) -> Descriptor:
    return Descriptor.of(TABLES[table][slot].load(Order.RELAXED))


def _clear(table: u64, slot: u64) -> None:
    TABLES[table][slot].store(u64(0), Order.RELAXED)


def _next_table(descriptor: Descriptor) -> u64:
    return pages.page_of_address(Pa(descriptor.frame * PAGE_SIZE))


def _table_descriptor(table: u64) -> Descriptor:
    return Descriptor(valid=True, table=True, frame=pages.address_of_page(table).raw // PAGE_SIZE)


def _publish(space: Space, table: u64, slot: u64, descriptor: Descriptor) -> None:
    """Show the walkers a descriptor where none was valid. Release: they see what it leads to first."""
    TABLES[table][slot].store(descriptor.raw, Order.RELEASE)
    dsb(Domain.ISHST)
    if space.regime is Regime.EL2:
        isb()


def _flush(space: Space, address: u64) -> None:
    if space.regime is Regime.EL2:
        flush.el2_address(Va(address))
    else:
        flush.stage2_address(vttbr_of(space), Ipa(address))


def _is_free(found: Walk, level: u64) -> bool:
    """Whether a leaf at `level` can be put where the walk stopped."""
    return found.level <= level and found.descriptor.raw == 0


def _install(space: Space, found: Walk, address: u64, last: Descriptor, level: u64) -> None:
    """Put `last` at `level` below the free slot `found`. As many tables as there are levels between them are reserved."""
    descriptor = last
    for step in u64.range(level - found.level):
        table = pages.take_reserved(space.pool)
        TABLES[table][slot_of(address, level - step)].store(descriptor.raw, Order.RELAXED)
        descriptor = _table_descriptor(table)
    _publish(space, found.table, found.slot, descriptor)


def _tables_missing(space: Space, address: u64, output: u64, size: u64) -> u64 | Err:
    """How many tables `map_range` has to add. Err.EXISTS, Err.RANGE."""
    missing = u64(0)
    leaves = u64(0)
    done = u64(0)
    while done < size:
        if leaves == MAP_LIMIT:
            return Err.RANGE
        at = address + done
        level = leaf_level(at, output + done, size - done)
        found = walk(space, at)
        if not _is_free(found, level):
            return Err.EXISTS
        for above in u64.range(found.level, level):
            # The table in this slot is added for the first leaf of the range that needs it.
            if done == 0 or at & (level_size(above) - 1) == 0:
                missing += 1
        leaves += 1
        done += level_size(level)
    return missing


def _alone(table: u64, slot: u64) -> bool:
    """Whether every other slot of the table is zero. The next one is looked at first: what is unmapped in rising order ends there."""
    for step in u64.range(1, SLOTS):
        if _load(table, (slot + step) % SLOTS).raw != 0:
            return False
    return True


def _highest_alone(space: Space, address: u64, found: Walk) -> Walk:
    """The highest slot below which nothing is mapped but the leaf `found`."""
    cut = found
    for _ in u64.range(found.level - space.start):
        if not _alone(cut.table, cut.slot):
            return cut
        cut = walk_to(space, address, cut.level - 1)
    return cut


def _dismantle(space: Space, address: u64, cut: Walk) -> None:
    """Empty and free the tables that the descriptor in `cut`, which is gone from its slot, led to. Each has one entry, that of `address`."""
    descriptor = cut.descriptor
    for level in u64.range(cut.level, LAST_LEVEL):
        if not is_table(descriptor, level):
            return
        table = _next_table(descriptor)
        slot = slot_of(address, level + 1)
        descriptor = _load(table, slot)
        _clear(table, slot)
        freed = pages.free(space.pool, table)
        assert not isinstance(freed, Err), "a table that was not in use"


def _unmap_slot(space: Space, address: u64) -> u64:
    """Unmap the leaf that `address` leads to, if any; returns the address behind what its slot spans."""
    found = unmap_leaf(space, address)
    level = walk(space, address).level if isinstance(found, Err) else found.level
    span = level_size(level)
    return (address & ~(span - 1)) + span


def _splits_at(space: Space, edge: u64, other: u64) -> u64:
    """How many leaves have to be split until none reaches across `edge`, without those that are split at `other` already."""
    if not covers(space, edge, u64(1)):
        return u64(0)
    found = walk(space, edge)
    if not found.descriptor.valid:
        return u64(0)
    splits = u64(0)
    for level in u64.range(found.level, LAST_LEVEL):
        if _cuts(edge, level) and not (_cuts(other, level) and edge >> level_shift(level) == other >> level_shift(level)):
            splits += 1
    return splits


def _cuts(edge: u64, level: u64) -> bool:
    """Whether `edge` lies inside a slot of this level and not at its ends."""
    return edge & (level_size(level) - 1) != 0


def _split_edge(space: Space, edge: u64) -> None:
    """Split, with reserved tables, until no leaf reaches across `edge`."""
    for _ in u64.range(_splits_at(space, edge, u64(0))):
        _split_once(space, edge)


def _split_once(space: Space, address: u64) -> None:
    """Replace the block that `address` leads to by a reserved table of the next level."""
    block = walk(space, address)
    table = pages.take_reserved(space.pool)
    level = block.level + 1
    for slot in u64.range(SLOTS):
        child = block.descriptor.raw + slot * level_size(level)
        TABLES[table][slot].store(Descriptor.of(child).replace(table=level == LAST_LEVEL).raw, Order.RELAXED)
    _clear(block.table, block.slot)
    _flush(space, address)
    _publish(space, block.table, block.slot, _table_descriptor(table))
