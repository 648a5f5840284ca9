# SPDX-License-Identifier: Apache-2.0
"""What a function did to tables, TLBs and barriers, in order, and the rules that this order must keep.

The simulated machine checks the same with a modelled TLB on the runs that tests make; here it is checked on every path. Rules are Arm ARM
D8.14 (break-before-make, TLB maintenance) and B2.3 (barriers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import z3  # type: ignore[import-untyped]

from delphyne.prove.path import Formula, Term, current


@dataclass(slots=True)
class Stored:
    """A descriptor was written: the index of its cell in all table memory (page * 512 + slot), what stood there, what stands there now."""

    cell: Term
    old: Term
    new: Term

    def show(self, value: Callable[[Term], int]) -> str:
        """In words, with the values of a counterexample."""
        cell = value(self.cell)
        return f"store page {cell // 512} slot {cell % 512}: {value(self.old):#x} -> {value(self.new):#x}"


@dataclass(slots=True)
class Called:
    """A barrier, a TLB or cache operation, a lock: its name and, where it has one, its argument."""

    name: str
    argument: Term | None = None

    def show(self, value: Callable[[Term], int]) -> str:
        """In words, with the values of a counterexample."""
        return self.name if self.argument is None else f"{self.name} {value(self.argument):#x}"


Event = Stored | Called


def events() -> list[Event]:
    """What has happened on this path so far."""
    return current().events


def called(name: str, argument: Term | None = None) -> None:
    """Note an operation."""
    events().append(Called(name, argument))


def is_valid(descriptor: Term) -> Formula:
    """Bit 0: the processor uses the descriptor."""
    return z3.Extract(0, 0, descriptor) == 1


def retired(store: Stored) -> Formula:
    """A store after which a translation that the processor may hold is no longer the table's."""
    return z3.And(is_valid(store.old), store.old != store.new)
