# SPDX-License-Identifier: Apache-2.0
"""What a field or element may be: its zero, whether a value belongs there, and whether it is a place.

A place (array, struct, atomic) lives where it was made and is never assigned; everything else is immutable and copied. A symbolic
stand-in for a type that cannot be derived from (bool, an enum) says so by a method `_stands_for(cls) -> bool`.
"""

from __future__ import annotations

from typing import Any

from delphyne.lang.enums import SizedEnum
from delphyne.lang.ints import PLAIN
from delphyne.lang.meta import Kind, class_meta


class Place:
    """Base of arrays and atomics: made with no arguments, zero, changed where it is. Structs are places by their decorator."""

    __slots__ = ()


def is_place(cls: Any) -> bool:
    """Whether `cls` is an array, a struct or an atomic."""
    if not isinstance(cls, type):
        return False
    meta = class_meta(cls)
    return issubclass(cls, Place) or (meta is not None and meta.kind is Kind.STRUCT)


def is_value(cls: Any) -> bool:
    """Whether `cls` is copied: an integer, bool, an enum, bit fields, a value, a secret."""
    if not isinstance(cls, type):
        return False
    meta = class_meta(cls)
    copied = meta is not None and meta.kind in (Kind.VALUE, Kind.BITS)
    return cls in PLAIN or cls is bool or copied or issubclass(cls, SizedEnum) or hasattr(cls, "_zero")


def zero(cls: Any) -> Any:
    """The all-zero value of a type, or a new all-zero place."""
    if cls in PLAIN:
        return cls(0)
    if cls is bool:
        return False
    if is_place(cls):
        return cls()
    if isinstance(cls, type) and hasattr(cls, "_zero"):
        return cls._zero()
    if isinstance(cls, type) and issubclass(cls, SizedEnum):
        member = cls._value2member_map_.get(0)
        if member is None:
            raise TypeError(f"{cls.__name__} has no member 0, so nothing that holds it can be all zero")
        return member
    raise TypeError(f"{cls!r} cannot be a field or an element")


def accepts(cls: Any, value: object) -> bool:
    """Whether `value` belongs in a field or element of type `cls`."""
    if type(value) is cls or isinstance(value, cls):
        return True
    stands_for = getattr(value, "_stands_for", None)
    return stands_for is not None and bool(stands_for(cls))
