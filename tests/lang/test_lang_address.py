# SPDX-License-Identifier: Apache-2.0
"""Address types, memory by address, hostile memory and taint."""

from __future__ import annotations

import ast
import inspect
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delphyne.lang import (
    Array,
    AtomicU32,
    AtomicU64,
    Bits16,
    BootArray,
    Enum8,
    Hostile,
    Ipa,
    Order,
    Pa,
    Secret,
    Tainted,
    Trap,
    TrapKind,
    Va,
    address,
    address_of,
    bits,
    declassify,
    nospec,
    owned,
    place_at,
    secret,
    slice_at,
    struct,
    u8,
    u16,
    u32,
    u64,
    value,
    wipe,
)
from delphyne.lang.machine import Machine, MachineError
from delphyne.lang.machine.layout import align_of, offsets, size_of

RAM = 0x4000_0000
KINDS = (Pa, Ipa, Va)


class Colour(Enum8):
    NONE = 0
    RED = 1


class Flags(Bits16):
    low: u8 = bits(7, 0)


@value
class Pair:
    a: u8
    b: u32


@struct
class Leaf:
    count: AtomicU32
    pair: Pair


@struct(align=16)
class Record:
    flag: bool
    number: u64
    colour: Colour
    flags: Flags
    key: Secret[u32]
    leaf: Leaf
    leaves: Array[Leaf, 2]
    bytes: Array[u8, 5]


@pytest.mark.parametrize("kind", KINDS)
@given(a=st.integers(0, 2**64 - 1), b=st.integers(0, 2**64 - 1), shift=st.integers(0, 63))
def test_addresses(kind: Any, a: int, b: int, shift: int) -> None:
    p, q = kind(u64(a)), kind(u64(b))
    if a + b < 2**64:
        assert p + u64(b) == kind(u64(a + b))
    else:
        with pytest.raises(Trap):
            _ = p + u64(b)
    if a >= b:
        assert p - q == u64(a - b)
    assert (p < q, p <= q, p > q, p >= q, p == q) == (a < b, a <= b, a > b, a >= b, a == b)
    size = 1 << shift
    assert p.align_down(u64(size)).raw == a // size * size
    assert p.is_aligned(u64(size)) is (a % size == 0)
    if a + size - 1 < 2**64:
        assert p.align_up(u64(size)).raw == (a + size - 1) // size * size


def test_addresses_never_mix() -> None:
    # that one kind is not subtracted from another or ordered against it is mypy's and the compiler's to say: see test_lang_mypy
    a: Any
    b: Any
    for a, b in permutations((kind(u64(1)) for kind in KINDS), 2):
        with pytest.raises(TypeError):
            assert a == b
        with pytest.raises(TypeError):
            a + b
        with pytest.raises(TypeError):
            type(a)(1)


def test_the_three_address_classes_say_the_same() -> None:
    bodies = []
    tree = ast.parse(inspect.getsource(address))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            docstring, *rest = node.body
            assert isinstance(docstring, ast.Expr)
            bodies.append("\n".join(ast.unparse(part) for part in rest).replace(node.name, "X"))
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]


def test_layout_is_that_of_c() -> None:
    assert (size_of(Pair), align_of(Pair), offsets(Pair)) == (8, 4, {"a": 0, "b": 4})
    assert (size_of(Leaf), offsets(Leaf)) == (12, {"count": 0, "pair": 4})
    expected = {"flag": 0, "number": 8, "colour": 16, "flags": 18, "key": 20, "leaf": 24, "leaves": 36, "bytes": 60}
    assert (size_of(Record), align_of(Record), offsets(Record)) == (80, 16, expected)


def fill(record: Record) -> None:
    record.flag = True
    record.number = u64(0x1122334455667788)
    record.colour = Colour.RED
    record.flags = Flags(low=u8(9))
    record.key = secret(u32(0xABCD))
    record.leaf.pair = Pair(u8(1), u32(2))
    record.leaves[1].count.store(u32(5), Order.RELAXED)
    record.bytes[4] = u8(6)


def check(record: Record) -> None:
    assert (record.flag, record.number, record.colour) == (True, u64(0x1122334455667788), Colour.RED)
    assert record.flags == Flags(low=u8(9))
    assert declassify(record.key) == u32(0xABCD)
    assert record.leaf.pair == Pair(u8(1), u32(2))
    assert (record.leaves[1].count.load(Order.RELAXED), record.leaves[0].count.load(Order.RELAXED)) == (u32(5), u32(0))
    assert bytes(record.bytes) == b"\0\0\0\0\6"


def test_an_object_moves_into_memory_and_back() -> None:
    record = Record()
    fill(record)
    leaf = record.leaves[1]
    with Machine() as m:
        where = address_of(record)
        assert address_of(record) == where
        assert where.is_aligned(u64(16))
        check(record)
        raw = m.memory.read(int(where.raw), 80)
        assert raw[8:16] == bytes.fromhex("8877665544332211")
        assert raw[48:52] == (5).to_bytes(4, "little")
        assert address_of(record.leaves[1]) == where + u64(48)
        record.number = u64(1)
        leaf.count.add(u32(1), Order.RELAXED)
        assert m.memory.read(int(where.raw) + 48, 4) == (6).to_bytes(4, "little")
        wipe(record.bytes)
    assert (record.number, record.leaves[1].count.load(Order.RELAXED), bytes(record.bytes)) == (u64(1), u32(6), bytes(5))
    assert record.leaves[1] is leaf
    with Machine():
        assert address_of(record.leaves).raw == where.raw
        with pytest.raises(MachineError, match="before the whole"):
            address_of(record)
        with pytest.raises(MachineError, match="no address"):
            address_of(u64(1))


def test_places_at_an_address() -> None:
    with Machine(ram_base=RAM, ram_size=0x10000) as m:
        record = place_at(Record, u64(RAM + 0x100))
        assert record is place_at(Record, u64(RAM + 0x100))
        fill(record)
        check(record)
        assert m.memory.read(RAM + 0x108, 8) == bytes.fromhex("8877665544332211")
        other = Record()
        other.copy_from(record)
        check(other)
        wipe(record)
        assert m.memory.read(RAM + 0x100, 80) == bytes(80)
        m.memory.write(RAM + 0x110, b"\7")
        with pytest.raises(Trap) as trap:
            _ = record.colour
        assert trap.value.kind is TrapKind.ENUM
        for bad, message in (((Record, RAM + 8), "not aligned"), ((AtomicU64, RAM + 0x10000), "no RAM")):
            with pytest.raises(MachineError, match=message):
                place_at(bad[0], u64(bad[1])).load(Order.RELAXED)
        with pytest.raises(TypeError):
            record.number = u32(1)
        with pytest.raises(TypeError):
            record.leaf = Leaf()


def test_boot_arrays_lie_in_memory() -> None:
    tables = BootArray[Array[AtomicU64, 512]]()
    numbers = BootArray[u32]()
    with Machine(ram_base=RAM, ram_size=0x10000) as m:
        tables.attach(u64(RAM), u64(2))
        numbers.attach(u64(RAM + 0x4000), u64(8))
        tables[u64(1)][u64(3)].store(u64(0xABC), Order.RELEASE)
        numbers[u64(7)] = u32(0xDEF)
        assert m.memory.read(RAM + 0x1018, 8) == (0xABC).to_bytes(8, "little")
        assert m.memory.read(RAM + 0x401C, 4) == (0xDEF).to_bytes(4, "little")
        assert numbers[7] == u32(0xDEF)
        assert address_of(tables[1]).raw == RAM + 0x1000
        with pytest.raises(TypeError):
            tables[0] = Array[AtomicU64, 512]()
    assert tables.length == 0
    with Machine(ram_base=RAM, ram_size=0x1000), pytest.raises(MachineError, match="not RAM"):
        tables.attach(u64(RAM), u64(2))
    tables.detach()


def test_owned_memory_is_a_window_that_closes() -> None:
    with Machine(ram_base=RAM, ram_size=0x10000) as m:
        with owned(Pa(u64(RAM + 0xFFE)), u64(4)) as window:
            window[u64(1)] = u8(7)
            window[2:].copy_from(slice_at(u64(RAM), u64(2)))
            assert (window.length, bytes(window)) == (u64(4), b"\0\7\0\0")
        assert m.memory.read(RAM + 0xFFE, 4) == b"\0\7\0\0"
        with pytest.raises(Trap):
            _ = window[0]
        with pytest.raises(MachineError), owned(Pa(u64(RAM + 0xFFFF)), u64(2)):
            pass


@given(offset=st.integers(0, 40), length=st.integers(0, 40))
def test_hostile_copies_stay_inside(offset: int, length: int) -> None:
    with Machine(ram_base=RAM, ram_size=0x10000) as m:
        m.memory.write(RAM + 0x100, bytes(range(100, 132)))
        hostile = Hostile(Pa(u64(RAM + 0x100)), u64(32))
        buffer = Array[u8, 40]()
        inside = offset + length <= 32
        assert hostile.copy_in(buffer[0:length], u64(offset)) is inside
        assert bytes(buffer[0:length]) == (bytes(range(100 + offset, 100 + offset + length)) if inside else bytes(length))
        buffer.fill(u8(1))
        assert hostile.copy_out(u64(offset), buffer[0:length]) is inside
        expected = bytearray(range(100, 132))
        if inside:
            expected[offset : offset + length] = b"\1" * length
        assert m.memory.read(RAM + 0x100, 32) == bytes(expected)


@given(offset=st.integers(0, 40) | st.just(2**64 - 4), base=st.sampled_from([0x100, 0x104, 0x101]))
def test_hostile_numbers_are_read_once_and_tainted(offset: int, base: int) -> None:
    with Machine(ram_base=RAM, ram_size=0x10000) as m:
        content = bytes(range(1, 33))
        m.memory.write(RAM + base, content)
        hostile = Hostile(Pa(u64(RAM + base)), u64(32))
        for size, read in ((4, hostile.read_once_u32), (8, hostile.read_once_u64)):
            found: Any = read(u64(offset))
            allowed = offset + size <= 32 and (base + offset) % size == 0
            assert (found is not None) is allowed
            if found is not None:
                kind: Any = u32 if size == 4 else u64
                number = int.from_bytes(content[offset : offset + size], "little")
                assert isinstance(found, Tainted[kind])
                assert found.below(kind(number)) is None
                assert found.below(kind(number + 1)) == kind(number)
                assert found.equals(kind(number))
                assert not found.equals(kind(0))


def test_taint_has_no_other_use() -> None:
    tainted: Any = Tainted[u64](u64(5))
    for bad in (
        lambda: tainted + 1,
        lambda: Array[u8, 8]()[tainted],
        lambda: tainted < 3,
        lambda: u64(tainted),
        lambda: tainted == u64(5),
        lambda: tainted.raw,
    ):
        with pytest.raises((TypeError, AttributeError)):
            bad()


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_nospec(index: int, limit: int) -> None:
    assert nospec(u64(index), u64(limit)) == (index if index < limit else 0)


def test_wipe_takes_places_only() -> None:
    for bad in (u64(1), b"x", Pair(u8(1), u32(1))):
        with pytest.raises(TypeError):
            wipe(bad)
    a = AtomicU64()
    a.store(u64(5), Order.RELAXED)
    wipe(a)
    assert a.load(Order.RELAXED) == 0
    numbers = Array[u16, 3].of([1, 2, 3])
    wipe(numbers[1:])
    assert [int(numbers[i]) for i in range(3)] == [1, 0, 0]
