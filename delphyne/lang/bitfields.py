# SPDX-License-Identifier: Apache-2.0
"""Declared bit fields: registers and descriptors whose fields have names, types and positions.

Bits that no field names are kept by `of` and `replace` and are zero in a newly built one.
"""

from __future__ import annotations

from inspect import get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, Self

from delphyne.lang.enums import SizedEnum, width_of
from delphyne.lang.ints import PLAIN, Integer, stood_for, u8, u16, u32, u64
from delphyne.lang.meta import ClassMeta, Kind, field_annotations
from delphyne.lang.traps import Trap, TrapKind


class BitField:
    """The bits `high` down to `low` of a Bits class. `kind` is the field's type, known once the class is first used."""

    def __init__(self, high: int, low: int) -> None:
        self.high = high
        self.low = low
        self.mask = (1 << (high - low + 1)) - 1
        self.name = ""
        self.kind: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self
        kind = self.kind or _resolve(owner, self)
        raw = instance.raw
        if type(raw) not in PLAIN:
            return stood_for("field_get", raw, self)
        number = (raw._v >> self.low) & self.mask
        if kind is bool:
            return number == 1
        if isinstance(kind, type) and issubclass(kind, SizedEnum):
            member = kind._value2member_map_.get(number)
            if member is None:
                raise Trap(TrapKind.ENUM, number, 0)
            return member
        return _from_raw(kind, _raw_type(kind)(number)) if isinstance(kind, type) and issubclass(kind, Bits) else kind(number)

    def __set__(self, instance: Any, value: object) -> None:
        raise TypeError(f"{type(instance).__name__} is a value: use replace({self.name}=..)")

    def put(self, raw: Any, owner: type, value: Any) -> Any:
        """`raw` with this field set to `value`; traps NARROW where it does not fit."""
        kind = self.kind or _resolve(owner, self)
        if type(raw) not in PLAIN or hasattr(value, "_function"):
            return stood_for("field_put", raw, value, self)
        if kind is not bool and type(value) is int and issubclass(kind, Integer):
            value = kind(value)
        if not isinstance(value, kind):
            raise TypeError(f"{owner.__name__}.{self.name} is {kind.__name__}, not {type(value).__name__}")
        if isinstance(value, Bits) and type(value.raw) not in PLAIN:  # type: ignore[attr-defined]
            return stood_for("field_put", raw, value.raw, self)  # type: ignore[attr-defined]
        number = int(value.raw if isinstance(value, SizedEnum | Bits) else value)  # type: ignore[union-attr]
        if number > self.mask:
            raise Trap(TrapKind.NARROW, number, self.mask)
        return type(raw)((raw._v & ~(self.mask << self.low)) | (number << self.low))


def _raw_type(cls: Any) -> Any:
    return cls.RAW


def _resolve(owner: type, field: BitField) -> Any:
    """Evaluate the annotations of the class that declares `field`; all its fields know their types afterwards."""
    declaring = next(base for base in owner.__mro__ if base.__dict__.get(field.name) is field)
    for name, kind in field_annotations(declaring):
        declared = declaring.__dict__.get(name)
        if not isinstance(declared, BitField):
            continue
        width = declared.high - declared.low + 1
        if kind is bool:
            fits = width == 1
        elif isinstance(kind, type) and issubclass(kind, SizedEnum):
            fits = width <= width_of(kind).BITS
        elif isinstance(kind, type) and issubclass(kind, Bits):
            fits = width <= _raw_type(kind).BITS
        else:
            fits = kind in PLAIN and width <= kind.BITS
        if not fits:
            raise TypeError(f"{declaring.__name__}.{name}: {width} bits cannot be {getattr(kind, '__name__', kind)}")
        declared.kind = kind
    if field.kind is None:
        raise TypeError(f"{declaring.__name__}.{field.name} has no type")
    return field.kind


def bits(high: int, low: int | None = None) -> Any:
    """A field of the bits `high` to `low`, both included; of bit `high` alone where `low` is left out."""
    low = high if low is None else low
    if not 0 <= low <= high < 64:
        raise TypeError(f"bits({high}, {low})")
    return BitField(high, low)


class Bits:
    """What the four widths share."""

    RAW: ClassVar[type[Integer]]
    _raw: Any
    __slots__ = ("_raw",)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        base = cls.__mro__[1]
        if base is Bits:
            return
        if base not in (Bits8, Bits16, Bits32, Bits64):
            raise TypeError(f"{cls.__name__}: a class of bit fields has no other base than Bits8, Bits16, Bits32 or Bits64")
        taken = 0
        for name in get_annotations(cls):
            field = cls.__dict__.get(name)
            if not isinstance(field, BitField):
                raise TypeError(f"{cls.__name__}.{name} is no bits(..)")
            if field.high >= cls.RAW.BITS or taken & (field.mask << field.low):
                raise TypeError(f"{cls.__name__}.{name} lies outside {cls.RAW.__name__} or on another field")
            taken |= field.mask << field.low
        cls.__delphyne__ = ClassMeta(Kind.BITS, bits=cls.RAW.BITS)  # type: ignore[attr-defined]

    def __init__(self, **fields: Any) -> None:
        raw: Any = self.RAW(0)
        for name, value in fields.items():
            raw = _field(type(self), name).put(raw, type(self), value)
        object.__setattr__(self, "_raw", raw)

    if not TYPE_CHECKING:  # the mypy plugin writes a signature for each class

        def replace(self, **fields):
            """The same bits with these fields changed."""
            raw = self._raw
            for name, value in fields.items():
                raw = _field(type(self), name).put(raw, type(self), value)
            return _from_raw(type(self), raw)

    @classmethod
    def _zero(cls) -> Self:
        return _from_raw(cls, cls.RAW(0))  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError(f"{type(self).__name__} is a value: use replace")

    def __eq__(self, other: Self) -> bool:  # type: ignore[override]
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__} compared with {type(other).__name__}")
        return self._raw == other._raw  # type: ignore[no-any-return]

    def __ne__(self, other: Self) -> bool:  # type: ignore[override]
        if type(other) is not type(self):
            raise TypeError(f"{type(self).__name__} compared with {type(other).__name__}")
        return self._raw != other._raw  # type: ignore[no-any-return]

    def __hash__(self) -> int:
        return hash((type(self), self._raw))

    def __repr__(self) -> str:
        names = (n for n, f in type(self).__dict__.items() if isinstance(f, BitField))
        raw = int(self._raw)
        inside = ", ".join(f"{n}={(raw >> _field(type(self), n).low) & _field(type(self), n).mask:#x}" for n in names)
        return f"{type(self).__name__}.of({raw:#x}: {inside})"


def _field(cls: type, name: str) -> BitField:
    field = cls.__dict__.get(name)
    if not isinstance(field, BitField):
        raise TypeError(f"{cls.__name__} has no field {name}")
    return field


def _from_raw(cls: Any, raw: Any) -> Any:
    if not isinstance(raw, cls.RAW):
        raise TypeError(f"{cls.__name__}.of takes {cls.RAW.__name__}, not {type(raw).__name__}")
    made = object.__new__(cls)
    object.__setattr__(made, "_raw", raw)
    return made


class Bits8(Bits):
    """Bit fields in a u8."""

    RAW = u8
    __slots__ = ()

    @classmethod
    def of(cls, raw: u8) -> Self:
        """These eight bits."""
        return _from_raw(cls, raw)  # type: ignore[no-any-return]

    @property
    def raw(self) -> u8:
        """All eight bits."""
        return self._raw  # type: ignore[no-any-return]


class Bits16(Bits):
    """Bit fields in a u16."""

    RAW = u16
    __slots__ = ()

    @classmethod
    def of(cls, raw: u16) -> Self:
        """These sixteen bits."""
        return _from_raw(cls, raw)  # type: ignore[no-any-return]

    @property
    def raw(self) -> u16:
        """All sixteen bits."""
        return self._raw  # type: ignore[no-any-return]


class Bits32(Bits):
    """Bit fields in a u32."""

    RAW = u32
    __slots__ = ()

    @classmethod
    def of(cls, raw: u32) -> Self:
        """These 32 bits."""
        return _from_raw(cls, raw)  # type: ignore[no-any-return]

    @property
    def raw(self) -> u32:
        """All 32 bits."""
        return self._raw  # type: ignore[no-any-return]


class Bits64(Bits):
    """Bit fields in a u64."""

    RAW = u64
    __slots__ = ()

    @classmethod
    def of(cls, raw: u64) -> Self:
        """These 64 bits."""
        return _from_raw(cls, raw)  # type: ignore[no-any-return]

    @property
    def raw(self) -> u64:
        """All 64 bits."""
        return self._raw  # type: ignore[no-any-return]
