# SPDX-License-Identifier: Apache-2.0
"""A protected guest has left, through any vector, with any syndrome and any registers: EL2 never traps, the host is shown a wait, an interrupt
controller's or a timer's register, or what the parts for memory and for calls show, and nothing else; whatever the guest has not got is an undefined
exception of its own.

What general registers hold is an unknown function of their number. Callees are written down, and what was called, with what, in which order is
required: so a register that is not in that list was not shown.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import el1, inject, world
from delphyne.el2.arch.exception import ESR_EL2
from delphyne.el2.guest import registers
from delphyne.el2.guest.registers import OWN, Expects
from delphyne.el2.kvm import exits, gic_access, identity, protected_calls, protected_exits, protected_faults, stage, vgic
from delphyne.lang import Pa, u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.recorded import Call, Choice, Recorder
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, called, events

IRQ, SERROR, TRAP, GOES_ON = 0, 1, 2, 0xFFFF
PENDING = 1 << 31
WFX, FP_ACCESS, HVC, SMC, SYSTEM, INSTRUCTION_ABORT, DATA_ABORT = 0x01, 0x07, 0x16, 0x17, 0x18, 0x20, 0x24
KNOWN = (WFX, FP_ACCESS, HVC, SMC, SYSTEM, INSTRUCTION_ABORT, DATA_ABORT)
FROM_HOST = ((3, 0, 12, 11, 5), (3, 0, 12, 11, 6), (3, 0, 12, 11, 7), (3, 3, 14, 2, 0), (3, 3, 14, 2, 1), (3, 3, 14, 2, 2))
"""Registers that KVM emulates, as op0, op1, CRn, CRm, op2: ICC_SGI1R, ICC_ASGI1R and ICC_SGI0R, and the physical timer's TVAL, CTL and CVAL."""
ACTLR = (3, 0, 1, 0, 1)
about = partial(theorem, trusts=("the stand-ins of callees do no more than their docstrings say",))


class Exit:
    """A seat whose guest has left, with any registers; every callee is written down."""

    def __init__(self, given: Given) -> None:
        self.given, self.log = given, Recorder(given)
        self.own = z3.Concat(z3.BitVecVal(0, 16), given.word("own", 48))
        self.seat: Any = SimpleNamespace(own=Pa(integer(self.own)), fp_live=False, abilities=SimpleNamespace(trap_translation_writes=False))
        self.places: Any = object()
        self.general = z3.Function("general register", z3.BitVecSort(64), z3.BitVecSort(64))
        self.syndrome = z3.BitVec("register ESR_EL2", 64)
        self.answer, self.back = given.u64("answer of the host's part"), z3.BitVec("register ELR_EL2", 64)
        given.path.inputs["ESR_EL2"] = self.syndrome
        given.replace(registers.general, self._general)
        quiet: dict[str, object] = {"put": registers.put_general, "undefined": inject.undefined_to_guest, "skip": exits.skip,
                                    "show nothing": stage.show_nothing, "show general": stage.show_general}
        for name, function in quiet.items():
            self.log.stand_in(name, function)
        parts: dict[str, object] = {"show": stage.show, "fault": protected_faults.serve, "call": protected_calls.serve}
        for name, function in parts.items():
            self.log.stand_in(name, function, lambda *arguments: self.answer)

    def _general(self, base: Pa, number: u64) -> u64:
        self.given.require(z3.And(term(base) == self.own, z3.ULE(term(number), 31)), "a general register of this CPU's is read")
        made: u64 = integer(self.general(term(number)))
        return made

    def bits(self, high: int, low: int) -> Term:
        """Of the syndrome, as 64 bits."""
        return z3.ZeroExt(63 - high + low, z3.Extract(high, low, self.syndrome))

    def is_register(self, op0: int, op1: int, crn: int, crm: int, op2: int) -> Formula:
        """Whether the syndrome names it."""
        fields = ((21, 20, op0), (16, 14, op1), (13, 10, crn), (4, 1, crm), (19, 17, op2))
        return z3.And([z3.Extract(high, low, self.syndrome) == value for high, low, value in fields])

    def requires(self, code: u64, wanted: int | u64 | Term, calls: list[Call], what: str) -> None:
        """The code, and the calls."""
        expected = wanted if isinstance(wanted, z3.ExprRef) else z3.BitVecVal(wanted, 64) if isinstance(wanted, int) else term(wanted)
        self.given.require(term(code) == expected, f"{what}: the code")
        self.log.requires(calls, what)

    def requires_registers(self, wanted: list[tuple[str, Term | int]], what: str) -> None:
        """Just these registers of EL2's were written, with barriers and what else was noted, in this order."""
        made = [event for event in events() if isinstance(event, Called)]
        self.given.require([event.name for event in made] == [name for name, _ in wanted], f"{what}: registers are written in order")
        for event, (_, value) in zip(made, wanted, strict=True):
            self.given.require(event.argument is None or event.argument == value, f"{what}: {event.name} has the right value")


@about(protected_exits.serve, outcomes=("interrupt", "error", "error on the way", "synchronous"),
       assumes=("protected_exits.synchronous", "exits.pending_serror"))
def serve(given: Given) -> None:
    """Of an interrupt the host hears the code alone; of an error, and none of another's, the class and ISS of its syndrome too. Where an error came
    with a synchronous exit the guest does the same again, at the instruction that trapped, and the host hears of nothing else."""
    at, vector = Exit(given), given.u64("vector")
    is_pending = given.boolean("an error is pending")
    pending = PENDING if is_pending else 0
    at.log.stand_in("pending", exits.pending_serror, lambda *arguments: u64(pending))
    at.log.stand_in("synchronous", protected_exits._serve_synchronous, lambda *arguments: at.answer)
    code = protected_exits.serve(at.seat, at.places, vector)
    kind, asked = given.path.choose(term(vector) & 3), ("pending", at.seat, at.places)
    if kind in (1, 2):
        given.outcome("interrupt")
        at.requires(code, IRQ | pending, [asked], "an interrupt")
        at.requires_registers([], "an interrupt")
    elif kind == 3:
        given.outcome("error")
        shown = (at.bits(31, 26) << 26) | (1 << 25) | at.bits(24, 0)
        at.requires(code, SERROR | pending, [asked, ("show nothing", at.seat, at.places, shown)], "an error")
        at.requires_registers([], "an error")
    elif is_pending:
        given.outcome("error on the way")
        at.requires(code, IRQ | pending, [asked], "an error on the way")
        moved = given.holds(at.bits(31, 26) == HVC)
        at.requires_registers([("msr ELR_EL2", at.back - 4)] if moved else [], "an error on the way")
    else:
        given.outcome("synchronous")
        at.requires(code, at.answer, [asked, ("synchronous", at.seat, at.places, at.syndrome)], "any other")
        at.requires_registers([], "any other")


@about(protected_exits._serve_synchronous, outcomes=("memory", "register", "call", "wait", "SIMD", "undefined"),
       assumes=("protected_exits.register",))
def synchronous(given: Given) -> None:
    """Memory, system registers and calls go to their parts; of a wait the host is shown which one it was and no more; SIMD registers are loaded once,
    where the guest has not got them yet; everything else is undefined in the guest, and nothing of it is shown."""
    at = Exit(given)
    at.seat.fp_live = given.boolean("SIMD registers are the guest's")
    had = at.seat.fp_live
    at.log.stand_in("register", protected_exits._serve_register, lambda *arguments: at.answer)
    given.replace(world.fp_load, lambda place: called("load", term(place)))
    code = protected_exits._serve_synchronous(at.seat, at.places, ESR_EL2.read())
    kind = next((known for known in KNOWN if given.holds(at.bits(31, 26) == known)), None)
    given.require(at.seat.fp_live == (had or kind == FP_ACCESS), "SIMD registers are the guest's from its first access on")
    if kind == FP_ACCESS and not had:
        given.outcome("SIMD")
        at.requires(code, GOES_ON, [], "SIMD")
        untrapped = next(event.argument for event in events() if isinstance(event, Called) and event.argument is not None)
        at.requires_registers([("msr CPTR_EL2", untrapped), ("isb", 0), ("load", at.own + term(OWN.fp))], "SIMD")
        given.require((untrapped & (1 << 10 | 1 << 8 | 1 << 12 | 1 << 20 | 1 << 30)) == (1 << 8 | 1 << 12 | 1 << 20 | 1 << 30),
                      "SIMD traps no more; SVE, SME, trace and activity monitors do")
        return
    at.requires_registers([], "no register of EL2's")
    here = (at.seat, at.places)
    if kind in (DATA_ABORT, INSTRUCTION_ABORT):
        given.outcome("memory")
        at.requires(code, at.answer, [("fault", *here, at.syndrome, kind == INSTRUCTION_ABORT)], "memory")
    elif kind == SYSTEM:
        given.outcome("register")
        at.requires(code, at.answer, [("register", *here, at.syndrome)], "a register")
    elif kind in (HVC, SMC):
        given.outcome("call")
        at.requires(code, at.answer, [*([("skip", at.syndrome)] if kind == SMC else []), ("call", *here)], "a call")
    elif kind == WFX:
        given.outcome("wait")
        shown = at.bits(31, 25) << 25 | at.bits(1, 0)
        at.requires(code, at.answer, [("show", *here, shown, Expects.WAIT, u64(0))], "a wait")
    else:
        given.outcome("undefined")
        at.requires(code, GOES_ON, [("undefined",)], "whatever the guest has not got")


@about(protected_exits._serve_register, protected_exits._show_register, protected_exits._serve_interrupts, protected_exits._is_ignored,
       outcomes=("shown, read", "shown, written", "identification", "translation", "ignored, read", "ignored, written", "interrupts", "undefined"))
def register(given: Given) -> None:
    """The host is shown six registers alone, and of the guest's own the one that it writes to them. Identification is EL2's to answer, what is of
    no use to the guest reads as zero, stage 1 and interrupts are served where they are trapped; any other is undefined."""
    at, there, trapped = Exit(given), Choice(given, "the guest has it"), Choice(given, "stage 1 is trapped")
    has_interrupts, lists, x = Choice(given, "interrupts are trapped"), given.u64("list registers"), given.u64("what is read")
    at.seat.abilities.trap_translation_writes = trapped
    at.log.stand_in("identification", identity.read, lambda *arguments: x)
    at.log.stand_in("stage 1", el1.write, lambda *arguments: there)
    at.log.stand_in("interrupts", gic_access.perform, lambda *arguments: SimpleNamespace(served=there, x=x))
    given.replace(vgic.is_trapped, lambda seat: has_interrupts if seat is at.seat else None)
    given.replace(vgic.used, lambda seat: lists if seat is at.seat else None)
    code = protected_exits._serve_register(at.seat, at.places, ESR_EL2.read())
    at.requires_registers([], "no register of EL2's")
    read, number, iss = given.holds(at.bits(0, 0) == 1), at.bits(9, 5), at.bits(24, 0)
    name, held, done = iss & 0x3FFC1E, at.general(number), ("skip", at.syndrome)
    here = (at.seat, at.places)
    if given.holds(z3.Or([at.is_register(*known) for known in FROM_HOST])):
        given.outcome("shown, read" if read else "shown, written")
        shown = ("show", *here, at.syndrome, Expects.READ if read else Expects.DONE, number)
        at.requires(code, at.answer, [shown] if read else [("show general", *here, number), shown], "one that KVM emulates")
        return
    calls: list[Call] = []
    ends: list[Call] = [done]
    outcome = ""
    by_set_and_way = z3.And(at.bits(21, 20) == 1, at.bits(16, 14) == 0, at.bits(13, 10) == 7, at.bits(19, 17) == 2)
    ignored = z3.Or(at.bits(21, 20) == 2, by_set_and_way, at.is_register(*ACTLR))
    identifies = z3.And(at.bits(21, 20) == 3, at.bits(16, 14) == 0, at.bits(13, 10) == 0, at.bits(4, 1) != 0, z3.ULE(at.bits(4, 1), 7))
    if read and given.holds(identifies):
        given.outcome("identification")
        at.requires(code, GOES_ON, [("identification", iss), ("put", at.own, number, x), done], "an identification register")
        return
    if not read and trapped:
        calls.append(("stage 1", name, held))
        outcome = "translation" if there else ""
    if not outcome and given.holds(ignored):
        outcome = "ignored, read" if read else "ignored, written"
        calls += [("put", at.own, number, u64(0))] if read else []
    elif not outcome and has_interrupts:
        calls.append(("interrupts", iss, lists, held))
        outcome = "interrupts" if there else ""
        calls += [("put", at.own, number, x)] if there and read else []
    if not outcome:
        outcome, ends = "undefined", [("undefined",)]
    given.outcome(outcome)
    at.requires(code, GOES_ON, calls + ends, outcome)
