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
    release: bool

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


TLBI = {"stage 2": ("tlbi ipas2e1is", "tlbi vmalle1is"), "all of stage 2": ("tlbi vmalls12e1is",), "EL2": ("tlbi vae2is",)}
PERMISSIONS = 0x07E8_0000_0000_04C0
"""S2AP, AF, DBM, XN of a stage-2 leaf: what may change in a live descriptor without break-before-make (Arm ARM D8.17.1); and bits 58:55, which are
software's and which no processor looks at (D8.3.2)."""


@dataclass(slots=True)
class Order:
    """The rules for one operation on the tables of a space, for one address."""

    regime: str
    address: Term
    register: str
    wanted: Term
    """What `register` must hold while TLB operations of stage 2 run."""
    detached: Callable[[Term], bool]
    """Whether no walker gets to a page: it is not linked in yet, or cut off already."""
    require: Callable[[Formula | bool, str], None]

    def check(self) -> None:
        """Every store is followed by what it needs, and stage 2 of whoever was current is current again."""
        happened = events()
        for number, event in enumerate(happened):
            if isinstance(event, Stored) and not self.detached(event.cell):
                later = happened[number + 1 :]
                was_valid, is_now = (current().branch(is_valid(word)) for word in (event.old, event.new))
                if was_valid:
                    if is_now:
                        same = (event.old & ~z3.BitVecVal(PERMISSIONS, 64)) == (event.new & ~z3.BitVecVal(PERMISSIONS, 64))
                        self.require(same, "a live descriptor changes only its permissions")
                    self._flushed(event, later, number)
                elif is_now:
                    self._published(later)
        initial = z3.BitVec(f"register {self.register}", 64)
        self.require(self._register(len(happened)) == initial, f"{self.register} holds again what it held")

    def _register(self, until: int) -> Term:
        value: Term = z3.BitVec(f"register {self.register}", 64)
        for event in events()[:until]:
            if isinstance(event, Called) and event.name == f"msr {self.register}":
                value = event.argument
        return value

    def _published(self, later: list[Event]) -> None:
        names = [event.name for event in later if isinstance(event, Called)]
        self.require("dsb ishst" in names or "dsb ish" in names, "walkers see a new descriptor before the operation ends")
        if self.regime == "EL2":
            self.require("isb" in names, "this processor sees a new descriptor before the operation ends")

    def _flushed(self, store: Stored, later: list[Event], before: int) -> None:
        """DSB, then TLBI for the address with the right VMID, then DSB, then ISB, before anything is freed or put in the same place."""
        steps = ["dsb"]
        for name in TLBI[self.regime]:
            steps += [name, "dsb ish"]
        steps.append("isb")
        unsynchronised = False
        for number, event in enumerate(later, before + 1):
            if not steps:
                return
            if isinstance(event, Stored):
                self.require(not (store.cell.eq(event.cell)), "nothing is put in a place before its old translation is forgotten")
                continue
            self.require(not event.name.startswith("free page"), "a table is freed only when no processor walks it")
            unsynchronised = event.name.startswith("msr") or (unsynchronised and event.name != "isb")
            if event.name == steps[0] or (steps[0] == "dsb" and event.name in ("dsb ishst", "dsb ish", "dsb sy")):
                steps.pop(0)
                if event.name.startswith("tlbi"):
                    self.require(not unsynchronised, "an ISB stands between the change of VMID and the TLBI")
                    if event.argument is not None:
                        self.require(z3.LShR(event.argument, 12) == z3.LShR(self.address, 12), "the TLBI is for the address")
                    if self.regime != "EL2":
                        self.require(self._register(number) == self.wanted, "the TLBI is for this VMID")
        self.require(not steps, f"a retired translation is forgotten when the operation ends (missing: {', '.join(steps)})")
