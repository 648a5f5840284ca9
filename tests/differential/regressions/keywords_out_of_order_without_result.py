# SPDX-License-Identifier: Apache-2.0
"""A call with keywords in another order than the parameters, of a function without result, gave LLVM an operand that does not exist."""

from __future__ import annotations

from typing import Final

from delphyne.lang import AtomicU64, Order, rotate_left, u64

INPUTS = [(1, 2)]
TRACE: Final = AtomicU64()


def note(x: u64) -> u64:
    TRACE.store(rotate_left(TRACE.load(Order.RELAXED), u64(7)) ^ x, Order.RELAXED)
    return x


def nothing(first: u64, second: u64) -> None:
    pass


def run(a: u64, b: u64) -> u64:
    nothing(second=note(a), first=note(b))
    return a


def checksum() -> u64:
    return TRACE.load(Order.RELAXED)
