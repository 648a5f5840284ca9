# SPDX-License-Identifier: Apache-2.0
"""Arrays, slices, views, and loads and stores of bytes."""

from __future__ import annotations

import struct as packing
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import delphyne.lang as lang
from delphyne.lang import Array, AtomicU32, Order, Slice, Trap, TrapKind, View, constant, struct, text, u8, u16, u32, u64, wipe


@struct
class Cell:
    x: u32


def trap_of(run: Callable[[], Any]) -> tuple[TrapKind, int, int]:
    with pytest.raises(Trap) as caught:
        run()
    return caught.value.kind, caught.value.a, caught.value.b


def test_one_class_for_each_type_and_length() -> None:
    assert Array[u32, 4] is Array[u32, u64(4)]
    assert Array[u32, 4] is not Array[u32, 5]
    assert Array[u32, 4] is not Array[u64, 4]
    assert isinstance(Array[u32, 4](), Array[u32, 4])
    assert Array[u32, 4].__name__ == "Array[u32, 4]"
    assert (Array[u32, 4] | None) is not None
    bad: Any
    for bad in (u32, (u32,), (u32, -1), (str, 3), (u32, 3, 4)):
        with pytest.raises(TypeError):
            Array[bad]
    with pytest.raises(TypeError):
        lang.arrays.ArrayOf()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8), st.data())
def test_an_array_is_a_list_that_traps(numbers: list[int], data: st.DataObject) -> None:
    array = Array[u32, len(numbers)].of(numbers)
    index = data.draw(st.integers(0, len(numbers) + 2))
    if index < len(numbers):
        array[u64(index)] = u32(7)
        numbers[index] = 7
        assert array[index] == array[u64(index)] == 7
    else:
        assert trap_of(lambda: array[u64(index)]) == (TrapKind.INDEX, index, len(numbers))
        assert trap_of(lambda: array.__setitem__(u64(index), u32(1))) == (TrapKind.INDEX, index, len(numbers))
    assert [int(array[i]) for i in range(len(numbers))] == numbers
    assert array.length == u64(len(numbers))


def test_what_an_array_refuses() -> None:
    array = Array[u32, 4]()
    for bad in (
        lambda: array[u32(0)],
        lambda: array[-1],
        lambda: array[True],
        lambda: array["0"],
        lambda: array.__setitem__(0, 5),
        lambda: array.__setitem__(0, u64(5)),
        lambda: array[0:2:1],
        lambda: array[u32(0) :],
        lambda: array[-1:],
        lambda: bool(array),
        lambda: iter(array),
        lambda: array.copy_from(Array[u32, 5]),
        lambda: array.copy_from(Array[u64, 4]()),
        lambda: array.fill(5),
        lambda: Array[u32, 4].of([1, 2, 3]),
        lambda: Array[Cell, 2]().__setitem__(0, Cell()),
        lambda: Array[u32, 4].of([1, 2, 3, u64(4)]),
    ):
        with pytest.raises(TypeError):
            bad()


def test_arrays_of_places_keep_each_place() -> None:
    cells = Array[Cell, 3]()
    cells[1].x = u32(5)
    one = cells[u64(1)]
    one.x = one.x + 1
    assert cells[1].x == 6
    other = Array[Cell, 3]()
    other.copy_from(cells)
    cells[1].x = u32(0)
    assert (other[1].x, other[0].x) == (u32(6), u32(0))
    counters = Array[AtomicU32, 2]()
    counters[0].add(u32(3), Order.RELAXED)
    assert counters[0].load(Order.RELAXED) == 3
    wipe(other)
    wipe(counters)
    assert (other[1].x, counters[0].load(Order.RELAXED)) == (u32(0), u32(0))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_slices_nest(low: int, high: int, inner_low: int, inner_high: int) -> None:
    array = Array[u8, 8].of(range(8))
    if high > 8:
        assert trap_of(lambda: array[low:high]) == (TrapKind.INDEX, high, 8)
    elif low > high:
        assert trap_of(lambda: array[low:high]) == (TrapKind.INDEX, low, high)
    else:
        outer = array[u64(low) : u64(high)]
        assert (type(outer), bytes(outer)) == (Slice, bytes(range(low, high)))
        if inner_low <= inner_high <= high - low:
            inner = outer[inner_low:inner_high]
            assert bytes(inner) == bytes(range(low, high))[inner_low:inner_high]
            inner.fill(u8(99))
            assert bytes(array[low + inner_low : low + inner_high]) == b"c" * (inner_high - inner_low)
        else:
            assert trap_of(lambda: outer[inner_low:inner_high])[0] is TrapKind.INDEX
        assert trap_of(lambda: outer[high - low]) == (TrapKind.INDEX, high - low, high - low)


@pytest.mark.parametrize(("to", "source"), [(0, 2), (2, 0), (1, 1), (0, 4)])
def test_overlapping_copies(to: int, source: int) -> None:
    array = Array[u8, 8].of(range(8))
    cells = Array[Cell, 8]()
    for i in range(8):
        cells[i].x = u32(i)
    array[to : to + 4].copy_from(array[source : source + 4])
    cells[to : to + 4].copy_from(cells[source : source + 4])
    expected = list(range(8))
    expected[to : to + 4] = expected[source : source + 4]
    assert list(bytes(array)) == expected
    assert [int(cells[i].x) for i in range(8)] == expected


def test_copies_of_other_lengths_trap_and_of_other_types_are_refused() -> None:
    array = Array[u8, 8]()
    assert trap_of(lambda: array[0:4].copy_from(array[0:3])) == (TrapKind.INDEX, 3, 4)
    for bad in (
        lambda: array[:].copy_from(b"12345678"),
        lambda: array[0:4].copy_from(Array[u32, 4]()[:]),
        lambda: array[:].fill(u32(1)),
        lambda: bool(array[:]),
        lambda: array[:] == array[:],
        lambda: array[:].__setitem__(0, 5),
    ):
        with pytest.raises(TypeError):
            bad()
    wipe(array[2:])


def test_views_are_read_only() -> None:
    view = text(b"abc")
    assert (view.length, view[0], bytes(view[1:]), type(view[1:])) == (u64(3), u8(97), b"bc", View)
    fixed = constant(Array[u8, 4].of([1, 2, 3, 4]))
    assert type(fixed[1:]) is View
    nested = constant(Array[Array[u8, 2], 2]())
    for bad in (
        lambda: view.__setitem__(0, u8(1)),
        lambda: fixed.__setitem__(0, u8(1)),
        lambda: fixed.fill(u8(1)),
        lambda: fixed.copy_from(fixed),
        lambda: nested[0].__setitem__(0, u8(1)),
        lambda: text("abc"),
    ):
        with pytest.raises((TypeError, AttributeError)):
            bad()
    copy = Array[u8, 4]()
    copy[:].copy_from(fixed[:])
    assert repr(copy) == "Array[u8, 4](u8(0x1), u8(0x2), u8(0x3), u8(0x4))"
    assert repr(view[:1]) == "View(u8(0x61))"


@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("order", ["be", "le"])
@given(data=st.binary(min_size=12, max_size=12), offset=st.integers(0, 13))
def test_loads_and_stores(bits: int, order: str, data: bytes, offset: int) -> None:
    load, store = getattr(lang, f"load_{order}{bits}"), getattr(lang, f"store_{order}{bits}")
    kind = {16: u16, 32: u32, 64: u64}[bits]
    size = bits // 8
    array = Array[u8, 14].of(b"\xaa" + data + b"\xbb")
    piece = array[1:13]
    if offset + size > 12:
        assert trap_of(lambda: load(piece, u64(offset))) == (TrapKind.INDEX, offset, 12)
        assert trap_of(lambda: store(piece, u64(offset), kind(0))) == (TrapKind.INDEX, offset, 12)
        return
    form = (">" if order == "be" else "<") + {16: "H", 32: "I", 64: "Q"}[bits]
    assert load(piece, u64(offset)) == kind(packing.unpack_from(form, data, offset)[0])
    store(piece, offset, kind(0x1122334455667788 % 2**bits))
    expected = bytearray(data)
    packing.pack_into(form, expected, offset, 0x1122334455667788 % 2**bits)
    assert bytes(array) == b"\xaa" + bytes(expected) + b"\xbb"
    for bad in (
        lambda: load(b"123456789", 0),
        lambda: load(Array[u32, 4]()[:], 0),
        lambda: store(text(b"12345678"), 0, kind(1)),
        lambda: store(piece, 0, 1),
        lambda: load(piece, u32(0)),
    ):
        with pytest.raises(TypeError):
            bad()
