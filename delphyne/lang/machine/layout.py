# SPDX-License-Identifier: Apache-2.0
"""How types lie in memory: little-endian, each field at the next multiple of its alignment, as C and the compiler's layout do it."""

from __future__ import annotations

from functools import cache
from typing import Any

from delphyne.lang.arrays import ArrayOf
from delphyne.lang.atomics import Atomic
from delphyne.lang.bitfields import Bits
from delphyne.lang.enums import SizedEnum, width_of
from delphyne.lang.ints import PLAIN
from delphyne.lang.meta import class_meta
from delphyne.lang.records import fields_of
from delphyne.lang.secret import Secret, secret
from delphyne.lang.traps import Trap, TrapKind


def _up(number: int, align: int) -> int:
    return (number + align - 1) // align * align


def _scalar_size(cls: Any) -> int | None:
    """Bytes of an integer, bool, enum, bit fields, secret or atomic; None for aggregates."""
    size: int | None = None
    if cls is bool:
        size = 1
    elif cls in PLAIN:
        size = cls.BITS // 8
    elif issubclass(cls, SizedEnum):
        size = width_of(cls).BITS // 8
    elif issubclass(cls, Bits):
        size = cls.RAW.BITS // 8
    elif issubclass(cls, Secret):
        size = cls._item.BITS // 8
    elif issubclass(cls, Atomic):
        size = cls.KIND.BITS // 8
    return size


@cache
def align_of(cls: Any) -> int:
    """Alignment in bytes."""
    scalar = _scalar_size(cls)
    if scalar is not None:
        return scalar
    if issubclass(cls, ArrayOf):
        return align_of(cls._item)
    meta = class_meta(cls)
    return max([1 if meta is None else meta.align, 1, *(align_of(kind) for kind in fields_of(cls).values())])


@cache
def size_of(cls: Any) -> int:
    """Size in bytes, a multiple of the alignment."""
    scalar = _scalar_size(cls)
    if scalar is not None:
        return scalar
    if issubclass(cls, ArrayOf):
        return size_of(cls._item) * int(cls._length)
    end = 0
    for name, kind in fields_of(cls).items():
        end = offsets(cls)[name] + size_of(kind)
    return _up(end, align_of(cls))


@cache
def offsets(cls: Any) -> dict[str, int]:
    """Offset in bytes of each field of a value or struct."""
    found: dict[str, int] = {}
    end = 0
    for name, kind in fields_of(cls).items():
        found[name] = _up(end, align_of(kind))
        end = found[name] + size_of(kind)
    return found


def encode(cls: Any, value: Any) -> bytes:
    """The bytes of a scalar or value."""
    if cls is bool or cls in PLAIN:
        return int(value).to_bytes(size_of(cls), "little")
    if issubclass(cls, SizedEnum | Bits):
        return int(value.raw).to_bytes(size_of(cls), "little")
    if issubclass(cls, Secret):
        return int(value._hidden).to_bytes(size_of(cls), "little")
    out = bytearray(size_of(cls))
    for name, kind in fields_of(cls).items():
        at = offsets(cls)[name]
        out[at : at + size_of(kind)] = encode(kind, getattr(value, name))
    return bytes(out)


def decode(cls: Any, data: bytes) -> Any:
    """The scalar or value that these bytes are; traps ENUM where an enum has no such member."""
    if cls is bool:
        return data[0] != 0
    number = int.from_bytes(data, "little")
    if cls in PLAIN:
        return cls(number)
    if issubclass(cls, SizedEnum):
        member = cls._value2member_map_.get(number)
        if member is None:
            raise Trap(TrapKind.ENUM, number, 0)
        return member
    if issubclass(cls, Bits):
        return cls.of(cls.RAW(number))
    if issubclass(cls, Secret):
        return secret(cls._item(number))
    return cls(*(decode(kind, data[offsets(cls)[name] : offsets(cls)[name] + size_of(kind)]) for name, kind in fields_of(cls).items()))
