# SPDX-License-Identifier: Apache-2.0
"""What is easy to get wrong, by hand: reads before and after calls that change them, overlapping copies, ways out of nested scopes."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, AtomicU64, Enum8, ErrorEnum, Lock, Order, guarded, holds, rotate_left, struct, u8, u64, value, wipe, wrap_add

INPUTS = [(0, 0), (1, 3), (5, 7), (0xFFFF_FFFF_FFFF_FFFF, 3), (6, 0xFFFF_FFFF_FFFF_FFF0)]


class Err(ErrorEnum):
    LATE = 3


class Way(Enum8):
    ON = 0
    SKIP = 1
    LEAVE = 4


@value
class Pair:
    x: u64
    y: u8


@struct
class Inner:
    x: u64
    a: Array[u64, 4]


@struct
class Outer:
    one: Inner
    row: Array[Inner, 3]


LOW: Final = Lock("low", rank=1)
HIGH: Final = Lock("high", rank=2)
FIRST: Final = guarded(LOW, Outer())
SECOND: Final = guarded(HIGH, Array[Inner, 3]())
TRACE: Final = AtomicU64()


def note(x: u64) -> u64:
    TRACE.store(rotate_left(TRACE.load(Order.RELAXED), u64(7)) ^ x, Order.RELAXED)
    return x


def bump(s: Inner) -> u64:
    s.x = wrap_add(s.x, u64(10))
    return s.x


def order(s: Inner, start: u64) -> None:
    s.x = start
    note(wrap_add(wrap_add(s.x, bump(s)), s.x))
    pair = Pair(s.x, u8.wrap(bump(s)))
    other = Pair(y=u8.wrap(bump(s)), x=s.x)
    note(pair.x ^ u64(pair.y) ^ other.x ^ u64(other.y))
    s.a[note(s.x & 3)] = bump(s)
    s.a[bump(s) & 3] ^= bump(s)
    s.x ^= bump(s)
    note(s.x if bump(s) > 50 else bump(s))
    note(u64(s.x < bump(s) < s.x))
    s.x, s.a[bump(s) & 3] = bump(s), s.x


def copies(outer: Outer, same: Inner, x: u64) -> None:
    same.x = x
    outer.row[2].x = ~x
    outer.one.copy_from(outer.row[2])
    note(same.x)
    outer.row[:2].copy_from(outer.row[1:])
    outer.row[1:].copy_from(outer.row[:2])
    same.copy_from(same)
    outer.row[1].a[:3].copy_from(outer.row[1].a[1:])


def ways(x: u64, way: Way) -> u64 | Err:
    for i in u64.range(x & 7):
        with LOW:
            FIRST.one.x = wrap_add(FIRST.one.x, i)
            with HIGH:
                SECOND[i % 3].x ^= i
                match way:
                    case Way.SKIP:
                        if i == 2:
                            continue
                        if i == 4:
                            break
                    case Way.LEAVE:
                        return SECOND[i % 3].x
                    case _:
                        return Err.LATE
            note(FIRST.one.x)
    return x


def run(a: u64, b: u64) -> u64:
    TRACE.store(u64(0), Order.RELAXED)
    with LOW:
        wipe(FIRST)
        FIRST.one.x = a
        order(FIRST.one, b)
        copies(FIRST, FIRST.one, a)
    with HIGH:
        for i in u64.range(3):
            SECOND[i].x = i
    d = u64(0)
    for k in u8.range(6):
        way = Way.of(k)
        if way is None:
            continue
        found = ways(a, way)
        d = rotate_left(d, u64(5)) ^ (u64(found.raw) if isinstance(found, Err) else found)
    return d


@holds(LOW, HIGH)
def checksum() -> u64:
    d = TRACE.load(Order.RELAXED)
    for i in u64.range(3):
        d = rotate_left(d, u64(9)) ^ FIRST.row[i].x ^ SECOND[i].x
        for k in u64.range(4):
            d = rotate_left(d, u64(9)) ^ FIRST.row[i].a[k] ^ FIRST.one.a[k]
    return d
