# SPDX-License-Identifier: Apache-2.0
"""The fixed-width unsigned integers u8, u16, u32 and u64, and the arithmetic that has a name.

Widths never mix; a plain int may stand beside a fixed-width operand only where it fits (the compiler asks for a literal). Arithmetic that
leaves the width traps.

Symbolic stand-ins. The prover derives from these classes (`class SymU64(u64)`); nothing else does. Operators reach a subclass by
Python's own rule that the reflected method of a subclass goes first, so a subclass overrides both directions. Everything that is not an
operator hands itself to the first operand that is no plain integer, by one method:

    operand._function(name, args)    name: "convert", "wrap" (args: class, value), "range" (class, start, stop, step), "wrap_add",
                                     "rotate_left", "checked_add", "count_leading_zeros", "byte_swap", "sign_extend" (value, bits), ..

`stand_in(args)` finds that operand. A plain integer has no `_function`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, Self, TypeVar, overload

from delphyne.lang.traps import Trap, TrapKind

_new = object.__new__


class Integer:
    """What the four integer types share. `BITS` is the width, `MAX` the largest value."""

    __slots__ = ("_v",)
    _v: int
    BITS: ClassVar[int]
    LIMIT: ClassVar[int]
    """The largest value, as a plain int."""

    def __new__(cls, value: Integer | bool | int) -> Self:
        """Widens; from a wider type traps NARROW where the value does not fit. A literal must fit."""
        kind = type(value)
        if kind is int or kind is bool:
            number = int(value)
            if not 0 <= number <= cls.LIMIT:
                raise TypeError(f"{number} does not fit {cls.__name__}")
        elif kind in PLAIN:
            number = value._v  # type: ignore[union-attr]
            if number > cls.LIMIT:
                raise Trap(TrapKind.NARROW, number, cls.LIMIT)
        else:
            return stood_for("convert", cls, value)  # type: ignore[no-any-return]
        made = _new(cls)
        made._v = number
        return made

    @classmethod
    def wrap(cls, value: Integer) -> Self:
        """The low bits of `value` that fit this width."""
        if type(value) not in PLAIN:
            return stood_for("wrap", cls, value)  # type: ignore[no-any-return]
        made = _new(cls)
        made._v = value._v & cls.LIMIT
        return made

    @overload
    @classmethod
    def range(cls, start: Self | int, /) -> Iterator[Self]: ...
    @overload
    @classmethod
    def range(cls, start: Self | int, stop: Self | int, step: int = 1, /) -> Iterator[Self]: ...
    @classmethod
    def range(cls, start: Self | int, stop: Self | int | None = None, step: int = 1, /) -> Iterator[Self]:
        """Counts from `start` (0 where only the end is given) up to `stop`, which is left out, by the literal `step`."""
        low, high = (cls(0), cls._beside(start)) if stop is None else (cls._beside(start), cls._beside(stop))
        if type(step) is not int or step < 1:
            raise TypeError("the step of a range is a literal of 1 or more")
        if type(low) is cls and type(high) is cls:
            return _count(cls, range(low._v, high._v, step))
        return stood_for("range", cls, low, high, step)  # type: ignore[no-any-return]

    @classmethod
    def _beside(cls, other: object) -> Self:
        """`other` as an operand of this width: itself, or the value of a literal that fits."""
        if isinstance(other, cls):
            return other
        if type(other) is int:
            return cls(other)
        raise TypeError(f"{type(other).__name__} beside {cls.__name__}")

    def _operand(self, other: object) -> int | None:
        """The number that stands beside this one, or None for a type that may know better (its reflected method is asked next)."""
        kind = type(other)
        if kind is int:
            number: int = other  # type: ignore[assignment]
            if not 0 <= number <= self.LIMIT:
                raise TypeError(f"{number} does not fit {type(self).__name__}")
            return number
        if kind is type(self):
            return other._v  # type: ignore[attr-defined, no-any-return]
        return None

    def __add__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        total = self._v + number
        if total > self.LIMIT:
            raise Trap(TrapKind.OVERFLOW, self._v, number)
        made = _new(type(self))
        made._v = total
        return made

    def __sub__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        total = self._v - number
        if total < 0:
            raise Trap(TrapKind.OVERFLOW, self._v, number)
        made = _new(type(self))
        made._v = total
        return made

    def __mul__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        total = self._v * number
        if total > self.LIMIT:
            raise Trap(TrapKind.OVERFLOW, self._v, number)
        made = _new(type(self))
        made._v = total
        return made

    def __floordiv__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        if number == 0:
            raise Trap(TrapKind.DIVIDE, self._v, 0)
        made = _new(type(self))
        made._v = self._v // number
        return made

    def __mod__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        if number == 0:
            raise Trap(TrapKind.DIVIDE, self._v, 0)
        made = _new(type(self))
        made._v = self._v % number
        return made

    def __lshift__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        if number >= self.BITS:
            raise Trap(TrapKind.SHIFT, self._v, number)
        made = _new(type(self))
        made._v = (self._v << number) & self.LIMIT
        return made

    def __rshift__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        if number >= self.BITS:
            raise Trap(TrapKind.SHIFT, self._v, number)
        made = _new(type(self))
        made._v = self._v >> number
        return made

    def __and__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        made = _new(type(self))
        made._v = self._v & number
        return made

    __rand__ = __and__

    def __or__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        made = _new(type(self))
        made._v = self._v | number
        return made

    __ror__ = __or__

    def __xor__(self, other: Self | int) -> Self:
        number = other._v if type(other) is type(self) else self._operand(other)
        if number is None:
            return NotImplemented
        made = _new(type(self))
        made._v = self._v ^ number
        return made

    __rxor__ = __xor__

    def _reflected(self, other: object) -> Self:
        """The left operand of a reflected operator, which only a literal needs."""
        if type(other) is not int:
            raise TypeError(f"{type(other).__name__} beside {type(self).__name__}")
        return type(self)(other)

    def __radd__(self, other: int) -> Self:
        return self._reflected(other) + self

    def __rmul__(self, other: int) -> Self:
        return self._reflected(other) * self

    def __rsub__(self, other: int) -> Self:
        return self._reflected(other) - self

    def __rfloordiv__(self, other: int) -> Self:
        return self._reflected(other) // self

    def __rmod__(self, other: int) -> Self:
        return self._reflected(other) % self

    def __rlshift__(self, other: int) -> Self:
        return self._reflected(other) << self

    def __rrshift__(self, other: int) -> Self:
        return self._reflected(other) >> self

    def __invert__(self) -> Self:
        made = _new(type(self))
        made._v = self._v ^ self.LIMIT
        return made

    def __eq__(self, other: Self | int) -> bool:  # type: ignore[override]
        number = other._v if type(other) is type(self) else self._compared(other)
        return NotImplemented if number is None else self._v == number

    def __ne__(self, other: Self | int) -> bool:  # type: ignore[override]
        number = other._v if type(other) is type(self) else self._compared(other)
        return NotImplemented if number is None else self._v != number

    def _compared(self, other: object) -> int | None:
        """As `_operand`; here Python would fall back to identity where nobody knows better, so a foreign integer is refused at once."""
        number = self._operand(other)
        if number is None and isinstance(other, Integer | bool) and not isinstance(other, type(self)):
            raise TypeError(f"{type(self).__name__} compared with {type(other).__name__}")
        return number

    def __lt__(self, other: Self | int) -> bool:
        number = other._v if type(other) is type(self) else self._operand(other)
        return NotImplemented if number is None else self._v < number

    def __le__(self, other: Self | int) -> bool:
        number = other._v if type(other) is type(self) else self._operand(other)
        return NotImplemented if number is None else self._v <= number

    def __gt__(self, other: Self | int) -> bool:
        number = other._v if type(other) is type(self) else self._operand(other)
        return NotImplemented if number is None else self._v > number

    def __ge__(self, other: Self | int) -> bool:
        number = other._v if type(other) is type(self) else self._operand(other)
        return NotImplemented if number is None else self._v >= number

    def __hash__(self) -> int:
        return hash(self._v)

    def __bool__(self) -> bool:
        raise TypeError(f"{type(self).__name__} is no condition: compare it")

    def __index__(self) -> int:
        return self._v

    def __int__(self) -> int:
        return self._v

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._v:#x})"

    def __str__(self) -> str:
        return str(self._v)

    def __format__(self, spec: str) -> str:
        return format(self._v, spec)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class u8(Integer):
    """An unsigned integer of 8 bits."""

    __slots__ = ()
    BITS = 8
    LIMIT = 0xFF
    MAX: ClassVar[u8]


class u16(Integer):
    """An unsigned integer of 16 bits."""

    __slots__ = ()
    BITS = 16
    LIMIT = 0xFFFF
    MAX: ClassVar[u16]


class u32(Integer):
    """An unsigned integer of 32 bits."""

    __slots__ = ()
    BITS = 32
    LIMIT = 0xFFFF_FFFF
    MAX: ClassVar[u32]


class u64(Integer):
    """An unsigned integer of 64 bits."""

    __slots__ = ()
    BITS = 64
    LIMIT = 0xFFFF_FFFF_FFFF_FFFF
    MAX: ClassVar[u64]


PLAIN: Final[frozenset[type]] = frozenset({u8, u16, u32, u64})
"""The integer classes themselves, without symbolic stand-ins."""
for _cls in (u8, u16, u32, u64):
    _cls.MAX = _cls(_cls.LIMIT)

I = TypeVar("I", u8, u16, u32, u64)  # noqa: E741 - the usual name of an integer type variable here


def _count(cls: Any, numbers: range) -> Iterator[Any]:
    for number in numbers:
        made = _new(cls)
        made._v = number
        yield made


def stand_in(args: tuple[object, ...]) -> Any:
    """The first argument that stands for a plain value and knows operations itself, or None."""
    for argument in args:
        if type(argument) not in PLAIN and hasattr(argument, "_function"):
            return argument
    return None


def stood_for(name: str, *args: object) -> Any:
    """Hand an operation to the stand-in among its arguments; TypeError where there is none."""
    operand = stand_in(args)
    if operand is None:
        raise TypeError(f"{name} does not take {', '.join(type(a).__name__ for a in args if not isinstance(a, type))}")
    return operand._function(name, args)


def plain_number(x: Any) -> int:
    """The number of a plain integer, for the machine; a symbolic stand-in as it is, because the prover's machine takes those."""
    return x._v if type(x) in PLAIN else x  # type: ignore[no-any-return]
