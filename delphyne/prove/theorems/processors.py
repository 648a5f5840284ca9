# SPDX-License-Identifier: Apache-2.0
"""CPUs of protected guests: nobody finds, turns on or ends one of another guest's, and only one that was turned on begins.

Slots hold anything, and a statement about every slot is made of one that is arbitrary. Guests choose MPIDRs, entries and contexts, hosts addresses.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.world import answer_word
from delphyne.el2.guest import processors, registers
from delphyne.el2.guest.processors import Power, Processor
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Pa, u8, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Cells, Records, Write, filling
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import constant, integer, term
from delphyne.prove.theorem import Given, theorem

LIMIT = 128
AFFINITY = 0xFF_00FF_FFFF
OFF, STARTING, ON = (member.value for member in (Power.OFF, Power.STARTING, Power.ON))
FIELDS: dict[str, Any] = {
    "used": u8, "guard": u64, "mpidr": u64, "power": u8, "entry": u64, "context": u64, "big_endian": u8, "address": u64,
}
about = partial(theorem, trusts=("GUESTS_LOCK is held: nobody else changes processors meanwhile",))

UNIQUE = "no two processors of a guard have one MPIDR (processors.py; turn_on keeps it)"


def word(value: Any) -> Term:
    """The term of an index, or the term that it is."""
    return value if isinstance(value, z3.BitVecRef) else term(value)


class Pool:
    """Processors in any state, a guard, and what was done to their registers."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.guard, self.mpidr, self.address = given.u64("guard"), given.u64("mpidr"), given.u64("address")
        bits = {"used": (0, 0), "big_endian": (0, 0), "power": (1, 0)}
        known = {"power": lambda _, power: z3.ULE(power, ON)}
        self.fields = {name: Cells(f"processor's {name}", cls, known.get(name), bits=bits.get(name)) for name, cls in FIELDS.items()}
        wrap: dict[str, Any] = {"used": self._flag, "big_endian": self._flag, "power": Power.of}
        self.slots = Records(Processor, self.fields, LIMIT, wrap)
        given.replace(processors.PROCESSORS, self.slots)
        given.replace(registers.LIMIT, constant(registers.LIMIT))
        self.any = given.word("any processor", 64)
        given.assume(z3.ULT(self.any, LIMIT))
        self.cleared = Cells("cleared", u8)
        given.replace(registers.clear, lambda number: self.cleared.store(term(number), u8(1)))

    @staticmethod
    def _flag(value: Any) -> bool:
        return bool(value != 0)

    def was(self, name: str, at: Any) -> Term:
        """A field before."""
        return self.fields[name].first(word(at))

    def now(self, name: str, at: Any) -> Term:
        """A field now."""
        return self.fields[name](word(at))

    def is_guards(self, at: Any, **wanted: Term) -> Formula:
        """Whether it was a processor of the guard's, with these values."""
        same = [self.was(name, at) == value for name, value in wanted.items()]
        return z3.And(self.was("used", at) == 1, self.was("guard", at) == term(self.guard), *same)

    def affinity(self) -> Term:
        """What PSCI takes of the MPIDR."""
        return term(self.mpidr) & AFFINITY

    def looks(self, function: Any, found: Any) -> None:
        """Prove the loop of `function`: what it is in search of is in no earlier slot."""
        self.given.rule(function, Rule(lambda here: z3.Implies(z3.ULT(self.any, here), z3.Not(found(self.any)))))

    def assume_one_has_it(self) -> None:
        """No two of the guard's processors have the MPIDR: of those that were looked at, and the arbitrary one."""
        has = partial(self.is_guards, mpidr=self.affinity())
        for other in self.slots.touched:
            self.given.assume(z3.Implies(z3.And(has(self.any), has(other)), self.any == other))

    def requires_same(self, *changed: Any, but: tuple[str, ...] = ()) -> None:
        """Every slot but those is as it was; the named fields aside."""
        same = z3.And([self.now(name, self.any) == self.was(name, self.any) for name in self.fields if name not in but])
        self.given.require(z3.Or([same, *(self.any == word(one) for one in changed)]), "every other processor is as it was")

    def requires(self, at: Any, **wanted: Any) -> None:
        """The slot has these values, and is else as it was; so is every other slot."""
        for name in self.fields:
            value = term(wanted[name]) if name in wanted else self.was(name, at)
            self.given.require(self.now(name, at) == value, f"its {name} is what it should be")
        self.requires_same(at)

    def requires_nothing(self) -> None:
        """Nothing changed."""
        self.requires_same()
        self.given.require(not self.cleared.writes, "no register changes")

    def made(self) -> dict[str, Any]:
        """What a processor has that was just made."""
        return {"used": u8(1), "guard": self.guard, "mpidr": integer(self.affinity()), "power": u8(OFF), "big_endian": u8(0), "address": u64(0)}


@about(processors.of_address, processors.of_mpidr, outcomes=("by address", "by affinity", "none"))
def of_guard(given: Given) -> None:
    """What is found is a processor in use of this very guard, with that address or affinity; None only where the guard has none such."""
    pool, by_address = Pool(given), given.boolean("by address")

    def is_it(at: Any) -> Formula:
        return pool.is_guards(at, address=term(pool.address)) if by_address else pool.is_guards(at, mpidr=pool.affinity())

    pool.looks(processors.of_address if by_address else processors.of_mpidr, is_it)
    with GUESTS_LOCK:
        found = processors.of_address(pool.guard, pool.address) if by_address else processors.of_mpidr(pool.guard, pool.mpidr)
    pool.requires_nothing()
    given.outcome("none" if found is None else "by address" if by_address else "by affinity")
    if found is None:
        given.require(z3.Not(is_it(pool.any)), "it has none")
    else:
        given.require(z3.And(z3.ULT(term(found), LIMIT), is_it(found)), "it is that guard's")


@about(processors.create, outcomes=("made", "full"), assumes=("registers.clear",))
def create(given: Given) -> None:
    """A slot that nobody had is a processor of the guard's, off, played by nobody, and nothing is left of its registers; with Err nothing changes."""
    pool = Pool(given)
    pool.looks(processors.create, lambda at: pool.was("used", at) == 0)
    with GUESTS_LOCK:
        made = processors.create(pool.guard, pool.mpidr)
    given.outcome("full" if isinstance(made, Err) else "made")
    if isinstance(made, Err):
        given.require(made is Err.NO_MEMORY, "by its name")
        given.require(pool.was("used", pool.any) == 1, "all are in use")
        pool.requires_nothing()
        return
    given.require(z3.And(z3.ULT(term(made), LIMIT), pool.was("used", made) == 0), "a slot that nobody had")
    pool.requires(made, **pool.made())
    emptied = z3.If(pool.any == term(made), 1, pool.cleared.first(pool.any))
    given.require(pool.cleared(pool.any) == emptied, "its registers are empty, and only its")


@about(processors.bind, outcomes=("bound", "refused"), bounds=(UNIQUE,))
def bind(given: Given) -> None:
    """A `kvm_vcpu` plays a CPU that this guard has and nobody plays yet; else nothing changes. Whoever plays one plays it for good."""
    pool = Pool(given)
    pool.looks(processors.of_mpidr, lambda at: pool.is_guards(at, mpidr=pool.affinity()))
    with GUESTS_LOCK:
        bound = processors.bind(pool.guard, pool.mpidr, pool.address)
    given.outcome("refused" if bound is None else "bound")
    if bound is None:
        pool.requires_nothing()
        pool.assume_one_has_it()
        free = pool.is_guards(pool.any, mpidr=pool.affinity(), address=z3.BitVecVal(0, 64))
        given.require(z3.Or(term(pool.address) == 0, z3.Not(free)), "refused only where the guard has no such CPU without a player")
        return
    given.require(z3.And(z3.ULT(term(bound), LIMIT), term(pool.address) != 0), "a real one")
    given.require(pool.is_guards(bound, mpidr=pool.affinity(), address=z3.BitVecVal(0, 64)), "a CPU of this guard's that nobody played")
    pool.requires(bound, address=pool.address)


@about(processors.turn_on, outcomes=("turned on", "made", "on already", "full"), assumes=("registers.clear",), bounds=(UNIQUE,))
def turn_on(given: Given) -> None:
    """Whatever a guest asks for: the CPU that will begin is the guest's own, with that affinity, was off or is new, and has what the guest gave; no
    other CPU changes. With Err nothing changes, and the CPU is on already or no slot is left."""
    pool = Pool(given)
    entry, context, big_endian = given.u64("entry"), given.u64("context"), given.boolean("big-endian")
    pool.looks(processors.of_mpidr, lambda at: pool.is_guards(at, mpidr=pool.affinity()))
    pool.looks(processors.create, lambda at: pool.was("used", at) == 0)
    with GUESTS_LOCK:
        turned = processors.turn_on(pool.guard, pool.mpidr, entry, context, big_endian)
    known = pool.is_guards(pool.any, mpidr=pool.affinity())
    pool.assume_one_has_it()
    if isinstance(turned, Err):
        given.outcome("on already" if turned is Err.EXISTS else "full")
        pool.requires_nothing()
        if turned is Err.EXISTS:
            given.require(z3.Implies(known, pool.was("power", pool.any) != OFF), "it is on, or about to be")
        else:
            given.require(z3.And(turned is Err.NO_MEMORY, z3.Not(known), pool.was("used", pool.any) == 1), "a new one, and all slots are in use")
        return
    asked = {"power": u8(STARTING), "entry": entry, "context": context, "big_endian": u8(int(big_endian))}
    given.require(z3.ULT(term(turned), LIMIT), "a processor")
    if pool.cleared.writes:
        given.outcome("made")
        given.require(z3.And(pool.was("used", turned) == 0, z3.Not(known)), "a new one in a slot that nobody had")
        pool.requires(turned, **pool.made() | asked)
    else:
        given.outcome("turned on")
        given.require(pool.is_guards(turned, mpidr=pool.affinity(), power=z3.BitVecVal(OFF, 8)), "the guest's own, which was off")
        pool.requires(turned, **asked)


@about(processors.undo_turn_on, outcomes=("undone", "off already", "a lie", "none"))
def undo_turn_on(given: Given) -> None:
    """Whatever the host says, a CPU that has begun stays on, and it is told; one that has not is off, and its place is free where nobody plays it.
    Nothing else changes."""
    pool, number = Pool(given), given.u64("number")
    with GUESTS_LOCK:
        is_off = processors.undo_turn_on(number)
    if given.holds(z3.UGE(term(number), LIMIT)):
        given.outcome("none")
        given.require(is_off, "no processor is on")
        pool.requires_nothing()
        return
    power = pool.was("power", number)
    if given.holds(power == STARTING):
        given.outcome("undone")
        given.require(is_off, "it does not begin")
        pool.requires(number, power=u8(OFF), used=u8(1) if given.holds(pool.was("address", number) != 0) else u8(0))
        return
    given.outcome("off already" if is_off else "a lie")
    given.require((power == OFF) == is_off, "false exactly of one that has begun")
    pool.requires_nothing()


@about(processors.turn_off, assumes=("registers.apart",), bounds=("processors.turn_off: a CPU that runs, and so has a number",))
def turn_off(given: Given) -> None:
    """The CPU is off, and its word that says so is the only one that changes."""
    pool, number, base = Pool(given), given.u64("number"), Pa(given.u64("base"))
    given.assume(z3.ULT(term(number), LIMIT))
    written: list[tuple[Term, Term, Term]] = []

    def base_of(asked: u64) -> Pa:
        given.require(term(asked) == term(number), "of this processor")
        return base

    given.replace(registers.base_of, base_of)
    given.replace(answer_word, lambda at, offset, x: written.append((term(at), term(offset), term(x))))
    with GUESTS_LOCK:
        processors.turn_off(number)
    pool.requires(number, power=u8(OFF))
    given.require(len(written) == 1, "one word")
    at, offset, x = written[0]
    given.require(z3.And(at == term(base), offset == int(registers.RUNNING), x == 0), "that it runs no more")


@about(processors.begin, outcomes=("begun", "never turned on", "none"), assumes=("registers.reset",))
def begin(given: Given) -> None:
    """A CPU begins exactly if it was turned on and has not begun since: with what it was turned on with, and once. Else nothing changes."""
    pool, number, resets = Pool(given), given.u64("number"), []
    given.replace(registers.reset, lambda *arguments: resets.append(arguments))
    with GUESTS_LOCK:
        begun = processors.begin(number)
    real = given.holds(z3.ULT(term(number), LIMIT))
    given.outcome("begun" if begun else "never turned on" if real else "none")
    if not begun:
        given.require(z3.Or(z3.UGE(term(number), LIMIT), pool.was("power", number) != STARTING), "only one that is about to begin does")
        given.require(not resets, "no registers change")
        pool.requires_nothing()
        return
    given.require(z3.And(z3.ULT(term(number), LIMIT), pool.was("power", number) == STARTING), "it was turned on")
    pool.requires(number, power=u8(ON))
    given.require(len(resets) == 1, "its registers are reset once")
    which, mpidr, entry, context, big_endian = resets[0]
    same = [term(mpidr) == pool.was("mpidr", number), term(entry) == pool.was("entry", number), term(context) == pool.was("context", number)]
    given.require(z3.And(term(which) == term(number), *same, (pool.was("big_endian", number) == 1) == big_endian), "as it was turned on")


@about(processors.destroy_all, assumes=("registers.clear",))
def destroy_all(given: Given) -> None:
    """Exactly the guard's processors are free, and nothing is left of their registers; every other guard's are as they were."""
    pool = Pool(given)

    def gone(cells: Cells, here: Term) -> Write:
        value = z3.BitVecVal(1 if cells is pool.cleared else 0, 8)
        return Write(lambda at: z3.And(z3.ULT(at, here), pool.is_guards(at)), lambda at: value)

    given.rule(processors.destroy_all, filling([pool.fields["used"], pool.cleared], gone))
    with GUESTS_LOCK:
        processors.destroy_all(pool.guard)
    mine = pool.is_guards(pool.any)
    given.require(pool.now("used", pool.any) == z3.If(mine, z3.BitVecVal(0, 8), pool.was("used", pool.any)), "free exactly if the guard's")
    given.require(pool.cleared(pool.any) == z3.If(mine, z3.BitVecVal(1, 8), pool.cleared.first(pool.any)), "emptied exactly if the guard's")
    pool.requires_same(but=("used",))
