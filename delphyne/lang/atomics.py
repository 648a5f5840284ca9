# SPDX-License-Identifier: Apache-2.0
"""Atomic integers with named orderings.

The simulated machine runs one CPU at a time, so each operation is indivisible by itself and every order behaves as sequentially
consistent; what an explorer varies is who runs between two operations.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Generic, TypeVar

from delphyne.lang import current
from delphyne.lang.arithmetic import wrap_add, wrap_sub
from delphyne.lang.ints import Integer, u32, u64
from delphyne.lang.types import Place

A = TypeVar("A", u32, u64)


class Order(Enum):
    """How other accesses of this CPU are ordered around an atomic one (Arm ARM B2.3: load-acquire, store-release)."""

    RELAXED = "relaxed"
    ACQUIRE = "acquire"
    RELEASE = "release"
    ACQ_REL = "acq_rel"


_LOAD = (Order.RELAXED, Order.ACQUIRE)
_STORE = (Order.RELAXED, Order.RELEASE)


class Atomic(Place, Generic[A]):
    """What both widths share. The value is `_value`, or lies in a simulated machine's memory where `_backing` says so."""

    __slots__ = ("__weakref__", "_backing", "_value")
    KIND: Any = None

    def __init__(self) -> None:
        self._value: Any = self.KIND(0)
        self._backing: Any = None

    def _get(self) -> Any:
        return self._value if self._backing is None else self._backing.load()

    def _set(self, value: Any) -> None:
        if self._backing is None:
            self._value = value
        else:
            self._backing.store(value)

    def _operand(self, value: Any) -> Any:
        if not isinstance(value, self.KIND):
            raise TypeError(f"{type(self).__name__} holds {self.KIND.__name__}, not {type(value).__name__}")
        return value

    def _order(self, order: Order, allowed: tuple[Order, ...]) -> None:
        if order not in allowed:
            raise TypeError(f"{order!r} does not fit this operation")

    def load(self, order: Order) -> A:
        """The value. RELAXED or ACQUIRE."""
        self._order(order, _LOAD)
        current.point("load")
        return self._get()  # type: ignore[no-any-return]

    def store(self, value: A, order: Order) -> None:
        """Sets the value. RELAXED or RELEASE."""
        self._order(order, _STORE)
        operand = self._operand(value)
        current.point("store")
        self._set(operand)

    def _update(self, name: str, value: A, order: Order) -> Any:
        self._order(order, tuple(Order))
        operand = self._operand(value)
        current.point(name)
        old = self._get()
        self._set(_UPDATES[name](old, operand))
        return old

    def swap(self, value: A, order: Order) -> A:
        """Sets the value; gives the old one."""
        return self._update("swap", value, order)  # type: ignore[no-any-return]

    def add(self, value: A, order: Order) -> A:
        """Adds, modulo the width; gives the old value."""
        return self._update("add", value, order)  # type: ignore[no-any-return]

    def sub(self, value: A, order: Order) -> A:
        """Subtracts, modulo the width; gives the old value."""
        return self._update("sub", value, order)  # type: ignore[no-any-return]

    def or_(self, value: A, order: Order) -> A:
        """Sets bits; gives the old value."""
        return self._update("or", value, order)  # type: ignore[no-any-return]

    def and_(self, value: A, order: Order) -> A:
        """Keeps bits; gives the old value."""
        return self._update("and", value, order)  # type: ignore[no-any-return]

    def xor(self, value: A, order: Order) -> A:
        """Flips bits; gives the old value."""
        return self._update("xor", value, order)  # type: ignore[no-any-return]

    def compare_exchange(self, expected: A, desired: A, order: Order) -> A:
        """Sets `desired` where the value is `expected`; gives the old value, which equals `expected` where it succeeded. Never fails by chance."""
        self._order(order, tuple(Order))
        wanted, new = self._operand(expected), self._operand(desired)
        current.point("compare_exchange")
        old = self._get()
        if old == wanted:
            self._set(new)
        return old  # type: ignore[no-any-return]

    def copy_from(self, other: Any) -> None:
        """Part of copying a record: no order is promised."""
        self._set(other._get())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({int(self._get()):#x})"


_UPDATES: dict[str, Any] = {
    "swap": lambda a, b: b,
    "add": wrap_add,
    "sub": wrap_sub,
    "or": lambda a, b: a | b,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
}


class AtomicU32(Atomic[u32]):
    """A u32 that several CPUs may touch."""

    __slots__ = ()
    KIND: type[Integer] = u32


class AtomicU64(Atomic[u64]):
    """A u64 that several CPUs may touch."""

    __slots__ = ()
    KIND: type[Integer] = u64
