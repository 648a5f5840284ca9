# SPDX-License-Identifier: Apache-2.0
"""Values, structs, enums and bit fields."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delphyne.lang import (
    Array,
    AtomicU64,
    Bits8,
    Bits16,
    Bits32,
    Bits64,
    Enum8,
    Enum16,
    Enum32,
    Enum64,
    ErrorEnum,
    Handle,
    Order,
    Pa,
    Secret,
    Trap,
    TrapKind,
    bits,
    struct,
    u8,
    u16,
    u32,
    u64,
    value,
)
from delphyne.lang.meta import ClassMeta, Kind, class_meta, field_annotations


class State(Enum8):
    FREE = 0
    TAKEN = 3


class Err(ErrorEnum):
    EMPTY = 1


class Small(Bits8):
    low: u8 = bits(3, 0)


class Esr(Bits64):
    iss: u32 = bits(24, 0)
    il: bool = bits(25)
    ec: State = bits(31, 26)
    small: Small = bits(39, 32)


@value
class Walk:
    leaf: u64
    level: u32
    state: State
    esr: Esr
    pa: Pa
    deep: Deep  # defined further down
    found: bool

    @property
    def next(self) -> u32:
        return self.level + 1

    @staticmethod
    def root() -> u64:
        return u64(0)

    def __lt__(self, other: Walk) -> bool:
        return self.leaf < other.leaf


@value
class Deep:
    x: u16


@struct
class Inner:
    counter: AtomicU64
    bytes: Array[u8, 3]


@struct(align=64, export="VM")
class Vm:
    number: u64
    walk: Walk
    inner: Inner
    table: Array[Inner, 2]
    owner: Handle[Inner]
    key: Secret[u32]
    live: bool

    def grow(self) -> u64:
        self.number = self.number + 1
        return self.number


WALK: Final = Walk(u64(1), u32(2), State.TAKEN, Esr.of(u64(5)), Pa(u64(0x1000)), Deep(u16(9)), True)


def test_a_value_is_built_compared_and_fixed() -> None:
    same = Walk(u64(1), u32(2), state=State.TAKEN, esr=Esr.of(u64(5)), pa=Pa(u64(0x1000)), deep=Deep(u16(9)), found=True)
    assert same == WALK
    assert hash(same) == hash(WALK)
    assert Walk(u64(1), u32(3), State.TAKEN, Esr.of(u64(5)), Pa(u64(0x1000)), Deep(u16(9)), True) != WALK
    assert (WALK.next, Walk.root(), same < WALK) == (u32(3), u64(0), False)
    assert repr(Deep(u16(9))) == "Deep(x=u16(0x9))"
    for name in ("leaf", "other"):
        with pytest.raises(TypeError):
            setattr(WALK, name, u64(2))
    with pytest.raises(TypeError):
        del WALK.leaf
    with pytest.raises(TypeError):
        assert Deep(u16(1)) == u16(1)


@pytest.mark.parametrize("arguments", [(), (u32(1),), (1,), (u16(1), u16(2)), (True,)])
def test_a_value_takes_exactly_its_fields(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Deep(*arguments)


def test_keywords_of_a_value_are_checked() -> None:
    for keywords in ({"y": u16(1)}, {"x": u8(1)}):
        with pytest.raises(TypeError):
            Deep(**keywords)


def test_a_struct_begins_all_zero() -> None:
    vm = Vm()
    assert vm.number == 0
    assert vm.walk == Walk(u64(0), u32(0), State.FREE, Esr.of(u64(0)), Pa(u64(0)), Deep(u16(0)), False)
    assert vm.inner.counter.load(Order.RELAXED) == 0
    assert vm.table[u64(1)].bytes[2] == 0
    assert vm.owner == Handle[Inner](u32(0), u32(0))
    assert vm.live is False
    assert "number=u64(0x0)" in repr(vm)


def test_a_struct_is_changed_in_place_and_aliased() -> None:
    vm = Vm()
    alias = vm
    alias.number = u64(7)
    assert vm.grow() == 8
    vm.table[0].bytes[1] = u8(5)
    vm.inner.counter.store(u64(4), Order.RELEASE)
    other = Vm()
    other.copy_from(vm)
    vm.number = u64(0)
    vm.table[0].bytes[1] = u8(0)
    assert other.number == 8
    assert other.table[0].bytes[1] == 5
    assert other.inner.counter.load(Order.ACQUIRE) == 4


def test_what_a_struct_refuses() -> None:
    vm = Vm()
    for name, wrong in (
        ("number", 5),
        ("number", u32(5)),
        ("live", u8(1)),
        ("inner", Inner()),
        ("table", Array[Inner, 2]()),
        ("unknown", u64(1)),
        ("walk", Deep(u16(1))),
    ):
        with pytest.raises(TypeError):
            setattr(vm, name, wrong)
    with pytest.raises(TypeError):
        Vm(number=u64(1))
    with pytest.raises(TypeError):
        vm.copy_from(Inner())
    with pytest.raises(TypeError):
        del vm.number
    with pytest.raises(AttributeError):
        _ = vm.unknown


class HasNoZero(Enum8):
    ONE = 1


@struct
class NoZero:
    state: HasNoZero


@struct
class Wrong:
    maybe: Vm | None


@value
class HoldsPlace:
    inner: Inner


def test_what_cannot_be_a_field() -> None:
    for bad in (lambda: NoZero(), lambda: Wrong(), lambda: HoldsPlace(Inner())):
        with pytest.raises(TypeError):
            bad()


def test_marks_for_the_compiler() -> None:
    assert class_meta(Vm) == ClassMeta(Kind.STRUCT, align=64, export="VM")
    assert class_meta(Inner) == ClassMeta(Kind.STRUCT)
    assert class_meta(Deep) == ClassMeta(Kind.VALUE)
    assert class_meta(Esr) == ClassMeta(Kind.BITS, bits=64)
    assert list(field_annotations(Inner)) == [("counter", AtomicU64), ("bytes", Array[u8, 3])]


def test_enums() -> None:
    assert State.of(u8(3)) is State.TAKEN
    assert State.of(u8(4)) is None
    assert (State.TAKEN.raw, type(State.TAKEN.raw)) == (u8(3), u8)
    for base, width in ((Enum16, u16), (Enum32, u32), (Enum64, u64)):
        made: Any = base("Made", {"A": 0, "B": int(width.MAX)})
        assert made.of(width.MAX) is made.B
        assert made.B.raw == width.MAX
    with pytest.raises(TypeError):
        State.of(u16(3))
    with pytest.raises(TypeError):
        State.of(3)
    match State.of(u8(0)):
        case State.FREE | State.TAKEN:
            matched = True
        case _:
            matched = False
    assert matched


def test_wrong_enums_are_refused_where_they_are_written() -> None:
    for base, members in ((Enum8, {"A": 256}), (Enum8, {"A": -1}), (Enum8, {"A": "x"}), (ErrorEnum, {"A": 0})):
        with pytest.raises(TypeError):
            base("Made", members)
    assert isinstance(Err.EMPTY, Err)
    assert Err.EMPTY.raw == u32(1)


@given(iss=st.integers(0, 2**25 - 1), il=st.booleans(), ec=st.sampled_from(State), rest=st.integers(0, 2**64 - 1))
def test_bit_fields(iss: int, il: bool, ec: State, rest: int) -> None:
    built = Esr(iss=u32(iss), il=il, ec=ec)
    assert built.raw == u64(iss | il << 25 | ec.value << 26)
    assert (built.iss, built.il, built.ec) == (u32(iss), il, ec)
    changed = Esr.of(u64(rest)).replace(iss=u32(iss), il=il)
    assert changed.raw == u64(rest & ~(2**26 - 1) | iss | il << 25)
    assert changed.small == Small.of(u8(rest >> 32 & 0xFF))
    assert Esr.of(u64(rest)) == Esr.of(u64(rest))
    assert hash(Esr.of(u64(rest))) == hash(Esr.of(u64(rest)))


def test_what_bit_fields_trap_and_refuse() -> None:
    with pytest.raises(Trap) as narrow:
        Esr(iss=u32(1 << 25))
    assert (narrow.value.kind, narrow.value.a, narrow.value.b) == (TrapKind.NARROW, 1 << 25, (1 << 25) - 1)
    with pytest.raises(Trap) as missing:
        _ = Esr.of(u64(7 << 26)).ec
    assert (missing.value.kind, missing.value.a, missing.value.b) == (TrapKind.ENUM, 7, 0)
    e = Esr.of(u64(0))
    for bad in (
        lambda: Esr(iss=u64(1)),
        lambda: Esr(il=u8(1)),
        lambda: Esr(other=u8(1)),
        lambda: Esr.of(5),
        lambda: Esr.of(u32(5)),
        lambda: setattr(e, "iss", u32(1)),
        lambda: setattr(e, "other", u32(1)),
        lambda: e == u64(0),
        lambda: e == Small.of(u8(0)),
        lambda: e != Small.of(u8(0)),
        lambda: e.replace(other=1),
    ):
        with pytest.raises(TypeError):
            bad()
    assert repr(Small.of(u8(0x5A))) == "Small.of(0x5a: low=0xa)"


def test_wrong_bit_field_classes_are_refused_where_they_are_written() -> None:
    def declare(base: type, **fields: tuple[str, Any]) -> type:
        members = {name: member for name, (_, member) in fields.items()}
        annotations = {name: annotation for name, (annotation, _) in fields.items()}
        return type("Made", (base,), {"__module__": __name__, "__annotations__": annotations, **members})

    outside, overlapping, plain = {"a": ("u8", bits(8, 0))}, {"a": ("u8", bits(3, 0)), "b": ("u8", bits(3))}, {"a": ("u8", 5)}
    for base, fields in ((Bits8, outside), (Bits8, overlapping), (Bits8, plain), (Esr, {})):
        with pytest.raises(TypeError):
            declare(base, **fields)
    for annotation, high in (("bool", 1), ("u8", 8), ("State", 9), ("Small", 10), ("str", 0)):
        made: Any = declare(Bits16, a=(annotation, bits(high, 0)))
        with pytest.raises(TypeError):
            _ = made.of(u16(0)).a
    for high, low in ((-1, None), (0, 1), (64, 0)):
        with pytest.raises(TypeError):
            bits(high, low)
    assert class_meta(Bits32) is None
