# SPDX-License-Identifier: Apache-2.0
"""Traps: what happens where compiled code would stop the machine.

In CPython a trap is the exception `Trap`; compiled code calls a handler that never returns. Both name the same kind and the same two
operands. A failed `assert` is Python's own AssertionError here and a trap of kind ASSERT in compiled code.
"""

from __future__ import annotations

from enum import Enum
from typing import NoReturn


class TrapKind(Enum):
    """Why a trap fired. The two operands of each kind are what the report prints."""

    OVERFLOW = 1
    """An addition, subtraction or multiplication left its width: the operands."""
    SHIFT = 2
    """A shift by the width or more: value, amount."""
    DIVIDE = 3
    """Division or remainder by zero: dividend, 0."""
    INDEX = 4
    """Index or slice end out of range: index, length."""
    NARROW = 5
    """A conversion or bit field that does not fit: value, the largest that would."""
    ENUM = 6
    """A number that is no member of the enum: value, 0."""
    ASSERT = 7
    """A failed assert: 0, 0."""
    UNREACHABLE = 8
    """`unreachable()` was reached: 0, 0."""


class Trap(Exception):
    """A trap of `kind` with its two operands, as the report at EL2 would print them."""

    def __init__(self, kind: TrapKind, a: int, b: int) -> None:
        super().__init__(kind, a, b)
        self.kind = kind
        self.a = a
        self.b = b

    def __str__(self) -> str:
        return f"{self.kind.name} ({self.a:#x}, {self.b:#x})"


def unreachable() -> NoReturn:
    """Trap UNREACHABLE: control must not come here."""
    raise Trap(TrapKind.UNREACHABLE, 0, 0)
