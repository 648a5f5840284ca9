# SPDX-License-Identifier: Apache-2.0
"""Small functions with known faults, for the prover's own tests: a table of owners, and arithmetic that traps."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, AtomicU64, Bits64, BootArray, Enum8, ErrorEnum, Lock, Order, bits, guarded, holds, struct, u8, u16, u32, u64

LOCK: Final = Lock("owners", rank=10)
ENTRIES: Final = BootArray[AtomicU64]()
SLOTS: Final = u64(8)


class Err(ErrorEnum):
    """Why not."""

    MAPPED = 1
    FULL = 2


class Owner(Enum8):
    """Who has a frame."""

    HOST = 0
    GUEST = 1


class Entry(Bits64):
    """One frame: its owner, and how often it is mapped."""

    owner: Owner = bits(7, 0)
    mapped: u16 = bits(23, 8)


@struct
class Shelf:
    """Two counters and a row."""

    used: u64
    taken: u64
    row: Array[u32, 8]


SHELF: Final = guarded(LOCK, Shelf())


@holds(LOCK)
def donate(frame: u64) -> Err | None:
    """Give a frame of the host, which nobody maps, to the guest."""
    entry = Entry.of(ENTRIES[frame].load(Order.ACQUIRE))
    if entry.mapped != 0:
        return Err.MAPPED
    ENTRIES[frame].store(Entry(owner=Owner.GUEST).raw, Order.RELEASE)
    return None


@holds(LOCK)
def donate_forgetting_mappings(frame: u64) -> Err | None:
    """The same, without a look at who maps it."""
    entry = Entry.of(ENTRIES[frame].load(Order.ACQUIRE))
    ENTRIES[frame].store(entry.replace(owner=Owner.GUEST).raw, Order.RELEASE)
    return None


def last_of(length: u64) -> u64:
    """The index of the last of `length` elements."""
    return length - 1


def put(index: u64, value: u32) -> bool:
    """Set an element, off by one at the end."""
    if index > SLOTS:
        return False
    with LOCK:
        SHELF.row[index] = value
    return True


def reserve_leaking(first: u64, second: u64) -> Err | None:
    """Take twice, or nothing: but what was taken first stays taken when the second is refused."""
    with LOCK:
        if first > 100 - SHELF.used:
            return Err.FULL
        SHELF.used += first
        if second > 100 - SHELF.used:
            return Err.FULL
        SHELF.used += second
    return None


def sum_below(count: u64) -> u64:
    """0 + 1 + .. + (count - 1)."""
    total = u64(0)
    for number in u64.range(count):
        total += number
    return total


def clear_row(row: Array[u32, 8], count: u64) -> None:
    """Zero the first `count` elements."""
    for index in u64.range(count):
        row[index] = u32(0)


def clear_even(row: Array[u32, 8], count: u64) -> None:
    """Zero every second one of the first `count` elements."""
    for index in u64.range(0, count, 2):
        row[index] = u32(0)


def narrow(x: u64) -> u8:
    """The low byte of a number that has nothing above it."""
    return u8(x)


def hard(x: u64, y: u64) -> bool:
    """A question about multiplication that takes a solver long."""
    return x * y == 0x7FFF_FFFE_0000_0F0D
