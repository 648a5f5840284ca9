# SPDX-License-Identifier: Apache-2.0
"""What the host asks to happen to a vCPU before it goes on: for any flags, any state of the guest and any place it stands at, EL2 never traps; one
thing happens at most, and happens once; no word of the host's is written but the guest's own registers that it is about.

Skipping is calculated as it is; what an exception makes of a state is `aarch64.enter_el1` and `aarch32.take_*`, which are written down.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import aarch64, world
from delphyne.el2.guest import aarch32
from delphyne.el2.kvm import adjust, faults
from delphyne.lang import Pa, u64
from delphyne.prove.path import Term
from delphyne.prove.recorded import Call, Choice, Recorder
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, events

PENDING, INCREMENT, KIND = 0b1, 0b10, 0b1110
SINGLE_STEP, BTYPE, IT = 1 << 21, 0b11 << 10, 0x3F << 10 | 0b11 << 25
LR_ABORT, LR_UNDEFINED = 20, 22
RAISING = (adjust._raise, adjust._raise32, adjust._go_to)
PLACES = ("regs", "iflags", "fault_esr", "vbar", "sctlr", "elr1", "spsr1", "spsr_und", "spsr_abt")
about = partial(theorem, trusts=("the vCPU is claimed: no other CPU changes its registers meanwhile",),
                bounds=("adjust: what the state after an exception is (tests/guest)",
                        "adjust: the kernel's registers end below 2**64, as its layout was checked",))


class Asked:
    """A vCPU with any controls and state; what is written to the host's memory, and read there, is written down."""

    def __init__(self, given: Given) -> None:
        self.given, self.log = given, Recorder(given)
        asked = {name: given.u64(name) for name in ("iflags", "hcr", "pc", "pstate")}
        self.was = {name: term(value) for name, value in asked.items()}
        self.aarch32, self.tags = Choice(given, "the CPU has AArch32 at EL1"), Choice(given, "the CPU has tags")
        self.seat: Any = SimpleNamespace(at=Pa(given.u64("where the guest lies")), asked=SimpleNamespace(**asked),
                                         abilities=SimpleNamespace(aarch32_el1=self.aarch32, tags=self.tags))
        self.places: Any = SimpleNamespace(**{name: integer(z3.ZeroExt(32, given.word(f"place of {name}", 32))) for name in PLACES})
        given.assume(z3.Distinct(*(self.place(name) for name in PLACES)))
        self.content = z3.Function("memory of the host", z3.BitVecSort(64), z3.BitVecSort(64))
        given.replace(world.asked_word, self._asked)
        for name, function in (("word", world.answer_word), ("byte", world.answer_byte), ("completed", faults.completed)):
            self.log.stand_in(name, function)
        self.log.stand_in("state", world.answer)

    def _asked(self, base: Pa, offset: u64) -> u64:
        self.given.require(term(base) == term(self.seat.at), "of this guest")
        self.given.require(z3.Or([term(offset) == self.place(name) for name in ("fault_esr", "vbar", "sctlr")]), "three words of it are read")
        made: u64 = integer(self.content(term(offset)))
        return made

    def place(self, name: str) -> Term:
        """Where something of the guest's lies."""
        return term(getattr(self.places, name))

    def word(self, name: str) -> Term:
        """What the host has there."""
        return self.content(self.place(name))

    @property
    def now(self) -> SimpleNamespace:
        """What EL2 goes on with."""
        return SimpleNamespace(**{name: term(getattr(self.seat.asked, name)) for name in self.was})

    def wrote(self, name: str, x: Term) -> Call:
        """The write of a word."""
        return ("word", self.seat.at, self.place(name), x)

    def run(self) -> None:
        """Do it. The host reads what EL2 goes on with, and nothing but the registers that it is stored in is touched."""
        adjust.apply(self.seat, self.places)
        self.given.require(not [event for event in events() if isinstance(event, Called)], "no register of the processor's is written")
        self.given.require(self.now.hcr == self.was["hcr"], "controls stay as they are")

    def requires_told(self, calls: list[Call], what: str) -> None:
        """These calls, then flags, program counter and PSTATE as they are from now on."""
        now = self.now
        told: list[Call] = [("byte", self.seat.at, self.place("iflags"), now.iflags), ("state", self.seat.at, self.places, now.pc, now.pstate)]
        self.log.requires([*calls, *told], what)

    def requires_flags(self, cleared: int, what: str) -> None:
        """Just these flags are gone."""
        self.given.require(self.now.iflags == self.was["iflags"] & ~z3.BitVecVal(cleared, 64), f"{what}: it happens once, and other flags stay")

    def requires_state(self, pc: Term, pstate: Term, calls: list[Call], what: str) -> None:
        """The guest goes on there, in that state, and the host is told, after these calls."""
        self.given.require(z3.And(self.now.pc == pc, self.now.pstate == pstate), f"{what}: where the guest goes on")
        self.requires_told(calls, what)

    def calculates(self, name: str, function: object, *fields: str) -> Any:
        """`function` is written down, and gives any words."""
        result = SimpleNamespace(**{field: self.given.u64(f"{field} after {name}") for field in fields})
        self.log.stand_in(name, function, lambda *arguments: result)
        return result

    def refuses(self, *functions: object) -> None:
        """None of these is called."""
        for function in functions:
            self.log.stand_in("an exception of the other kind", function)


@about(adjust.apply)
def nothing(given: Given) -> None:
    """Where the host asks for neither, nothing happens, and nothing is written."""
    asked = Asked(given)
    given.assume((asked.was["iflags"] & (PENDING | INCREMENT)) == 0)
    asked.run()
    asked.log.requires([], "nothing was asked for")
    given.require(z3.And([getattr(asked.now, name) == was for name, was in asked.was.items()]), "all is as it was")


@about(adjust.apply, adjust._skip, outcomes=("AArch64", "AArch32", "Thumb"))
def skip(given: Given) -> None:
    """The guest goes on behind its instruction, which may be the last of its addresses, in the mode that it was in; of its state no more changes than
    what an instruction ends. Such a fault of it counts as completed, and it happens once."""
    asked = Asked(given)
    given.assume((asked.was["iflags"] & (PENDING | INCREMENT)) == INCREMENT)
    asked.run()
    now, before = asked.now, asked.was["pstate"]
    asked.requires_flags(INCREMENT, "behind it")
    asked.requires_told([("completed", asked.seat)], "behind it")
    given.require((now.pstate & SINGLE_STEP) == 0, "no single step is left of it")
    changed = now.pstate ^ before
    if given.holds(z3.Extract(4, 4, before) == 0):
        given.outcome("AArch64")
        given.require(now.pc == asked.was["pc"] + 4, "four bytes on")
        given.require(z3.And((changed & ~z3.BitVecVal(SINGLE_STEP | BTYPE, 64)) == 0, (now.pstate & BTYPE) == 0), "nothing else of PSTATE")
        return
    thumb = given.holds(z3.And(z3.Extract(5, 5, before) == 1, z3.Extract(25, 25, asked.word("fault_esr")) == 0))
    given.outcome("Thumb" if thumb else "AArch32")
    given.require(now.pc == (asked.was["pc"] + (2 if thumb else 4)) & 0xFFFF_FFFF, "behind an instruction of its width, in 32 bits")
    given.require((changed & ~z3.BitVecVal(SINGLE_STEP | IT, 64)) == 0, "nothing else of PSTATE")


@about(adjust.apply, *RAISING, outcomes=("raised", "no such exception"))
def raised(given: Given) -> None:
    """A synchronous exception at an AArch64 EL1 is entered from what the guest was, with its own vectors and SCTLR_EL1, and with tags only where the
    host asks for them and the CPU has them. What KVM never asks for raises nothing, and is not asked for again."""
    asked = Asked(given)
    given.assume((asked.was["iflags"] & PENDING) != 0)
    after = asked.calculates("enter", aarch64.enter_el1, "pstate", "pc", "spsr", "elr")
    asked.refuses(aarch32.take_undefined, aarch32.take_prefetch_abort, aarch32.take_data_abort)
    given.assume(z3.Or(z3.Extract(31, 31, asked.was["hcr"]) == 1, z3.BoolVal(not asked.aarch32)))
    asked.run()
    asked.requires_flags(PENDING | KIND, "an exception")
    if not given.holds((asked.was["iflags"] & KIND) == 0):
        given.outcome("no such exception")
        asked.requires_state(asked.was["pc"], asked.was["pstate"], [], "what is no exception")
        return
    given.outcome("raised")
    has_tags = asked.tags if given.holds(z3.Extract(56, 56, asked.was["hcr"]) == 1) else False
    entered: Call = ("enter", asked.was["pstate"], asked.was["pc"], asked.word("vbar"), asked.word("sctlr"), has_tags)
    kept = [asked.wrote("elr1", term(after.elr)), asked.wrote("spsr1", term(after.spsr))]
    asked.requires_state(term(after.pc), term(after.pstate), [entered, *kept], "an exception")


@about(adjust.apply, *RAISING, outcomes=("undefined", "prefetch abort", "data abort", "no such exception"))
def raised32(given: Given) -> None:
    """An exception at an AArch32 EL1 is that of its kind; the mode's own LR and SPSR get what it says, and no other register is written. What KVM
    never asks for raises nothing, and is not asked for again."""
    asked = Asked(given)
    given.assume((asked.was["iflags"] & PENDING) != 0, z3.Extract(31, 31, asked.was["hcr"]) == 0, bool(asked.aarch32))
    names = ("undefined", "prefetch abort", "data abort")
    parts = (aarch32.take_undefined, aarch32.take_prefetch_abort, aarch32.take_data_abort)
    results = [asked.calculates(name, part, "pc", "cpsr", "lr", "spsr") for name, part in zip(names, parts, strict=True)]
    asked.refuses(aarch64.enter_el1)
    asked.run()
    asked.requires_flags(PENDING | KIND, "an exception")
    kind = given.path.choose(z3.Extract(3, 1, asked.was["iflags"]))
    if kind > 2:
        given.outcome("no such exception")
        asked.requires_state(asked.was["pc"], asked.was["pstate"], [], "what is no exception")
        return
    given.outcome(names[kind])
    taken = results[kind]
    number, name = (LR_UNDEFINED, "spsr_und") if kind == 0 else (LR_ABORT, "spsr_abt")
    entered: Call = (names[kind], asked.was["pstate"], asked.was["pc"], asked.word("sctlr"), asked.word("vbar"))
    link: Call = ("word", asked.seat.at, asked.place("regs") + 8 * number, term(taken.lr))
    kept = [asked.wrote(name, term(taken.spsr)), link]
    asked.requires_state(term(taken.pc), term(taken.cpsr), [entered, *kept], "an exception")
