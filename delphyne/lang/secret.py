# SPDX-License-Identifier: Apache-2.0
"""Secrets: numbers that never decide a branch, an index, an address, a log line or a trap.

`Secret[u32]` may be a field or an element. A literal or a public number may stand beside a secret; the result is secret.
"""

from __future__ import annotations

from typing import Any, ClassVar, Generic, NoReturn, Self, TypeVar

from delphyne.lang.arithmetic import rotate_left, rotate_right, wrap_add
from delphyne.lang.arrays import ArrayOf, View
from delphyne.lang.ints import I, Integer, u8
from delphyne.lang.traps import Trap, TrapKind


class Secret(Generic[I]):
    """A secret number of one width."""

    __slots__ = ("_hidden",)
    _hidden: I
    _item: Any = None
    _known: ClassVar[dict[Any, Any]] = {}

    def __class_getitem__(cls, item: Any) -> Any:
        if isinstance(item, TypeVar):
            return cls
        known = Secret._known.get(item)
        if known is None:
            if not (isinstance(item, type) and issubclass(item, Integer)):
                raise TypeError(f"Secret of {item!r}")
            known = type(f"Secret[{item.__name__}]", (Secret,), {"_item": item, "__slots__": (), "__module__": __name__})
            Secret._known[item] = known
        return known

    @classmethod
    def _zero(cls) -> Self:
        return _hide(cls._item(0))  # type: ignore[no-any-return]

    def _with(self, other: Any) -> Any:
        """The number of an operand of the same width: a secret, a public number, or a literal."""
        if isinstance(other, Secret):
            other = other._hidden
        if not isinstance(other, self._item) and type(other) is not int:
            raise TypeError(f"{type(other).__name__} beside {type(self).__name__}")
        return other

    def _public(self, other: Any) -> Any:
        if isinstance(other, Secret):
            raise TypeError("a secret is shifted by a public amount only")
        return other

    def __and__(self, other: Self | I | int) -> Self:
        return _hide(self._hidden & self._with(other))  # type: ignore[no-any-return]

    def __or__(self, other: Self | I | int) -> Self:
        return _hide(self._hidden | self._with(other))  # type: ignore[no-any-return]

    def __xor__(self, other: Self | I | int) -> Self:
        return _hide(self._hidden ^ self._with(other))  # type: ignore[no-any-return]

    def __rand__(self, other: I | int) -> Self:
        return self & other

    def __ror__(self, other: I | int) -> Self:
        return self | other

    def __rxor__(self, other: I | int) -> Self:
        return self ^ other

    def __invert__(self) -> Self:
        return _hide(~self._hidden)  # type: ignore[no-any-return]

    def __lshift__(self, amount: I | int) -> Self:
        return _hide(self._hidden << self._public(amount))  # type: ignore[no-any-return]

    def __rshift__(self, amount: I | int) -> Self:
        return _hide(self._hidden >> self._public(amount))  # type: ignore[no-any-return]

    def _function(self, name: str, args: tuple[Any, ...]) -> Any:
        """What the arithmetic by name hands over (see `ints`)."""
        if name == "wrap_add":
            numbers = [x._hidden if isinstance(x, Secret) else x for x in args]
            return _hide(wrap_add(*numbers))
        if name in ("rotate_left", "rotate_right") and isinstance(args[0], Secret):
            rotate: Any = rotate_left if name == "rotate_left" else rotate_right
            return _hide(rotate(args[0]._hidden, self._public(args[1])))
        raise TypeError(f"{name} of a secret")

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError("a secret decides nothing: compare with secret_equal, or declassify")

    __bool__ = __index__ = __int__ = __str__ = __format__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(..)"


def _hide(x: Any) -> Any:
    kind = next(base for base in type(x).__mro__ if base.__module__ == Integer.__module__)
    made: Any = object.__new__(Secret[kind])  # type: ignore[valid-type]
    made._hidden = x
    return made


def secret(x: I) -> Secret[I]:
    """From here on this number is secret."""
    if not isinstance(x, Integer):
        raise TypeError(f"secret({type(x).__name__})")
    return _hide(x)  # type: ignore[no-any-return]


def declassify(s: Secret[I]) -> I:
    """From here on this number is public."""
    if not isinstance(s, Secret):
        raise TypeError(f"declassify({type(s).__name__})")
    return s._hidden


def secret_equal(a: View[u8], b: View[u8]) -> bool:
    """Whether two runs of bytes are equal, in a time that only their length decides. Traps INDEX (longer, shorter) where the lengths differ."""
    if not all(isinstance(x, View | ArrayOf) and x._item in (u8, Secret[u8]) for x in (a, b)):
        raise TypeError("secret_equal compares slices of bytes")
    if a._length != b._length:
        raise Trap(TrapKind.INDEX, max(a._length, b._length), min(a._length, b._length))
    difference = u8(0)
    for i in range(a._length):
        x, y = (s._cells[s._start + i] for s in (a, b))
        difference = difference | (_open(x) ^ _open(y))
    return difference == 0


def _open(x: Any) -> Any:
    return x._hidden if isinstance(x, Secret) else x
