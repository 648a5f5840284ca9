# SPDX-License-Identifier: Apache-2.0
"""Enums of a fixed width, and the enums that name errors."""

from __future__ import annotations

from enum import Enum
from typing import Any, Self

from delphyne.lang.ints import PLAIN, Integer, stood_for, u8, u16, u32, u64


class SizedEnum(Enum):
    """What enums of all widths share: members are distinct plain ints that fit."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for member in cls:
            if type(member.value) is not int or not 0 <= member.value <= width_of(cls).LIMIT:
                raise TypeError(f"{cls.__name__}.{member.name} = {member.value!r} does not fit {width_of(cls).__name__}")

    def __format__(self, spec: str) -> str:
        """A member in a message is its number, as at EL2."""
        return format(self.value, spec)


def width_of(cls: type[SizedEnum]) -> type[Integer]:
    """The integer type of `raw`."""
    return next(_WIDTHS[base] for base in cls.__mro__ if base in _WIDTHS)


def _member_of(cls: Any, raw: Integer) -> Any:
    width = width_of(cls)
    if type(raw) in PLAIN:
        if type(raw) is not width:
            raise TypeError(f"{cls.__name__}.of takes {width.__name__}, not {type(raw).__name__}")
        return cls._value2member_map_.get(raw._v)
    return stood_for("enum_of", cls, raw)


class Enum8(SizedEnum):
    """An enum kept in a u8."""

    @property
    def raw(self) -> u8:
        """The member's number."""
        return u8(self.value)

    @classmethod
    def of(cls, raw: u8) -> Self | None:
        """The member with that number, or None."""
        return _member_of(cls, raw)  # type: ignore[no-any-return]


class Enum16(SizedEnum):
    """An enum kept in a u16."""

    @property
    def raw(self) -> u16:
        """The member's number."""
        return u16(self.value)

    @classmethod
    def of(cls, raw: u16) -> Self | None:
        """The member with that number, or None."""
        return _member_of(cls, raw)  # type: ignore[no-any-return]


class Enum32(SizedEnum):
    """An enum kept in a u32."""

    @property
    def raw(self) -> u32:
        """The member's number."""
        return u32(self.value)

    @classmethod
    def of(cls, raw: u32) -> Self | None:
        """The member with that number, or None."""
        return _member_of(cls, raw)  # type: ignore[no-any-return]


class Enum64(SizedEnum):
    """An enum kept in a u64."""

    @property
    def raw(self) -> u64:
        """The member's number."""
        return u64(self.value)

    @classmethod
    def of(cls, raw: u64) -> Self | None:
        """The member with that number, or None."""
        return _member_of(cls, raw)  # type: ignore[no-any-return]


class ErrorEnum(Enum32):
    """Why an operation failed: the `Err` of `T | Err`. Members count from 1, because 0 says that there is no error."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for member in cls:
            if member.value == 0:
                raise TypeError(f"{cls.__name__}.{member.name} is 0, which means no error")


_WIDTHS: dict[type, type[Integer]] = {Enum8: u8, Enum16: u16, Enum32: u32, Enum64: u64}
