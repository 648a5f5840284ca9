# SPDX-License-Identifier: Apache-2.0
"""The pages that translation tables are made of: one region, cut at boot into pools, so that no user can starve another.

A pool gives out units of one page, or of several in a row for concatenated start tables. What an operation will need is reserved before it
changes anything and refused there; taking what was reserved cannot fail. A page outside all tables is all zero: it is cleared at boot,
and who gives one back has emptied it.

Lock: `LOCK` (rank 30) guards the pools and is the innermost of the memory room; nothing is called while it is held. The pages themselves
are not guarded by it but by the lock of the `Space` in whose tables they stand.

Invariants (`invariants.pool_counts`, `invariants.pool_unit`): `used + reserved <= count`; within a pool ORDER and PLACE are
permutations of the units and inverse to each other; the units in the first `used` places of ORDER are in use, the others are free.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.lang import Array, AtomicU64, BootArray, Enum8, Lock, Pa, boot, frozen, guarded, holds, owned, struct, u8, u32, u64

LOCK: Final = Lock("pages", rank=30)

TABLES: Final = BootArray[Array[AtomicU64, 512]]()
"""Every page of the region."""
ORDER: Final = guarded(LOCK, BootArray[u32]())
"""For each pool, from `Pool.first` on: its units, those in use first."""
PLACE: Final = guarded(LOCK, BootArray[u32]())
"""For each pool, from `Pool.first` on: where in ORDER each unit stands."""

BOOKKEEPING_BYTES: Final = u64(8)
"""What ORDER and PLACE take for each page."""


class PoolName(Enum8):
    """Whom a pool serves."""

    EL2 = 0
    """EL2's own map."""
    HOST = 1
    """The host's stage 2 below its start tables."""
    GUESTS = 2
    """The guests' stage 2 below their start tables."""
    STARTS = 3
    """Start tables of stage 2, sixteen in a row."""
    GUEST_STARTS = 4
    """Start tables of guests whose addresses have at most 40 bits, two in a row."""


@struct
class TablePool:
    """A run of pages in TABLES. All numbers are counts; `first` is the index of its first page."""

    first: u64
    unit: u64
    """Pages that are given out together, a power of two."""
    count: u64
    """Units in the pool."""
    used: u64
    reserved: u64
    """Free units that somebody may still take."""


@struct
class Region:
    """Where the pages lie, and how many of them were given to pools."""

    base: Pa
    assigned: u64


REGION: Final = frozen(Region())
POOLS: Final = guarded(LOCK, Array[TablePool, 5]())


@boot
def attach(base: Pa, bookkeeping: Pa, count: u64) -> None | Err:
    """Give the region its memory: `count` pages at `base`, aligned to 64 KiB, and BOOKKEEPING_BYTES for each at `bookkeeping`.

    The caller owns both. Their content does not matter. Err.ALIGNMENT; Err.RANGE where the pages could not be numbered.
    """
    if not base.is_aligned(u64(65536)) or not bookkeeping.is_aligned(u64(8)):
        return Err.ALIGNMENT
    if count > u64(u32.MAX):
        return Err.RANGE
    TABLES.attach(base.raw, count)
    with LOCK:
        ORDER.attach(bookkeeping.raw, count)
        PLACE.attach((bookkeeping + count * 4).raw, count)
    REGION.base = base
    with owned(base, count * PAGE_SIZE) as window:
        window.fill(u8(0))
    return None


@boot
def assign(name: PoolName, unit: u64, count: u64) -> None | Err:
    """Make the next `count` units of `unit` pages the pool `name`.

    `unit` is a power of two up to 16; the pages before it that its alignment costs are lost. Err.INVALID for another unit, Err.EXISTS for a
    pool that has pages, Err.NO_MEMORY where the region has too few left.
    """
    if unit == 0 or unit > 16 or (unit & (unit - 1)) != 0:
        return Err.INVALID
    first = (REGION.assigned + unit - 1) & ~(unit - 1)
    if count > TABLES.length or first > TABLES.length or unit * count > TABLES.length - first:
        return Err.NO_MEMORY
    with LOCK:
        pool = POOLS[u64(name.raw)]
        if pool.count != 0:
            return Err.EXISTS
        pool.first = first
        pool.unit = unit
        pool.count = count
        for place in u64.range(count):
            ORDER[first + place] = u32(place)
            PLACE[first + place] = u32(place)
    REGION.assigned = first + unit * count
    return None


def reserve(name: PoolName, count: u64) -> None | Err:
    """Set `count` free units aside. Err.NO_MEMORY where fewer are free and not set aside already."""
    with LOCK:
        pool = POOLS[u64(name.raw)]
        if count > pool.count - pool.used - pool.reserved:
            return Err.NO_MEMORY
        pool.reserved += count
    return None


def unreserve(name: PoolName, count: u64) -> None:
    """End a reservation of `count` units that were not taken."""
    with LOCK:
        pool = POOLS[u64(name.raw)]
        assert count <= pool.reserved, "units given up that were not reserved"
        pool.reserved -= count


def take_reserved(name: PoolName) -> u64:
    """Take one of the units that the caller has reserved: the index in TABLES of its first page. Its pages are zero."""
    with LOCK:
        pool = POOLS[u64(name.raw)]
        assert pool.reserved != 0, "a table page taken that was not reserved"
        pool.reserved -= 1
        return _take(pool)


def allocate(name: PoolName) -> u64 | Err:
    """Take a free unit that nobody has reserved: the index in TABLES of its first page. Its pages are zero. Err.NO_MEMORY."""
    with LOCK:
        pool = POOLS[u64(name.raw)]
        if pool.count - pool.used == pool.reserved:
            return Err.NO_MEMORY
        return _take(pool)


def free(name: PoolName, page: u64) -> None | Err:
    """Give back the unit that starts at `page`, which the caller has emptied and no walker can reach any more.

    Err.RANGE where no unit of the pool starts there, Err.STATE where it is free already.
    """
    with LOCK:
        pool = POOLS[u64(name.raw)]
        if page < pool.first:
            return Err.RANGE
        pages = page - pool.first
        if pool.unit == 0 or pages % pool.unit != 0 or pages // pool.unit >= pool.count:
            return Err.RANGE
        unit = pages // pool.unit
        place = u64(PLACE[pool.first + unit])
        if place >= pool.used:
            return Err.STATE
        pool.used -= 1
        _exchange(pool, place, pool.used)
    return None


def available(name: PoolName) -> u64:
    """Units that are free and not reserved, at this moment."""
    with LOCK:
        pool = POOLS[u64(name.raw)]
        return pool.count - pool.used - pool.reserved


def unit_of(name: PoolName) -> u64:
    """Pages in a unit of this pool; 0 where nothing was assigned to it."""
    with LOCK:
        return POOLS[u64(name.raw)].unit


def address_of_page(page: u64) -> Pa:
    """Where a page of TABLES lies."""
    return REGION.base + page * PAGE_SIZE


def page_of_address(address: Pa) -> u64:
    """The index in TABLES of the page at this address, which lies in the region."""
    return (address - REGION.base) // PAGE_SIZE


@holds(LOCK)
def _take(pool: TablePool) -> u64:
    unit = u64(ORDER[pool.first + pool.used])
    pool.used += 1
    return pool.first + unit * pool.unit


@holds(LOCK)
def _exchange(pool: TablePool, place: u64, other: u64) -> None:
    """Swap the units in two places of ORDER."""
    moved = ORDER[pool.first + other]
    unit = ORDER[pool.first + place]
    ORDER[pool.first + place] = moved
    ORDER[pool.first + other] = unit
    PLACE[pool.first + u64(moved)] = u32(place)
    PLACE[pool.first + u64(unit)] = u32(other)

