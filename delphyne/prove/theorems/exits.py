# SPDX-License-Identifier: Apache-2.0
"""An ordinary guest has left, through any vector, with any syndrome: EL2 never traps; the guest goes on exactly where EL2 has done what there was to
do, and otherwise the host hears what the processor said, once, with an error that came on the way.

Callees are written down, and what was called, with what, in which order is required.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import el1, world
from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.arch.exception import ESR_EL2
from delphyne.el2.guest import aarch32
from delphyne.el2.kvm import exits, faults, fp, gic_access, protect, vgic
from delphyne.lang import Pa, u64
from delphyne.prove.path import Term
from delphyne.prove.recorded import Call, Choice, Recorder
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, events

IRQ, SERROR, TRAP, GOES_ON = 0, 1, 2, 0xFFFF
PENDING = 1 << 31
CP15, FP_ACCESS, HVC32, HVC, SYSTEM, SVE, INSTRUCTION_ABORT, DATA_ABORT = 0x03, 0x07, 0x12, 0x16, 0x18, 0x19, 0x20, 0x24
KNOWN = (CP15, FP_ACCESS, HVC, SYSTEM, SVE, INSTRUCTION_ABORT, DATA_ABORT)
CTR = 3 << 20 | 1 << 17 | 3 << 14 | 0 << 10 | 0 << 1
"""CTR_EL0 in an ISS: op0 3, op2 1, op1 3, CRn 0, CRm 0."""
about = partial(theorem, trusts=("the stand-ins of callees do no more than their docstrings say",))


class Exit:
    """A seat whose guest has left; every callee is written down."""

    def __init__(self, given: Given) -> None:
        self.given, self.log = given, Recorder(given)
        self.seat: Any = SimpleNamespace(at=Pa(given.u64("where the guest lies")), fp_live=False, fp_ahead=u64(0), ctr=u64(0),
                                         abilities=SimpleNamespace(ras=False, trap_translation_writes=False))
        self.places: Any = SimpleNamespace(regs=given.u64("place of registers"), fault_disr=given.u64("place of DISR"))
        self.at = term(self.seat.at)
        self.here: tuple[Any, Any] = (self.seat, self.places)
        self.syndrome, self.back, self.pstate = (z3.BitVec(f"register {name}_EL2", 64) for name in ("ESR", "ELR", "SPSR"))
        for name, word in (("ESR_EL2", self.syndrome), ("ELR_EL2", self.back), ("SPSR_EL2", self.pstate)):
            given.path.inputs[name] = word
        self.log.stand_in("answer fault", world.answer_fault)
        self.log.stand_in("answer word", world.answer_word)
        told = (z3.BitVec("register FAR_EL2", 64), z3.BitVec("register HPFAR_EL2", 64))
        self.shown: Call = ("answer fault", self.at, self.places, self.syndrome, *told)
        """The host hears what the processor said."""

    def bits(self, high: int, low: int) -> Term:
        """Of the syndrome, as 64 bits."""
        return z3.ZeroExt(63 - high + low, z3.Extract(high, low, self.syndrome))

    def without_skip(self) -> None:
        """Skipping is written down, and so are a guest's general registers."""
        self.log.stand_in("skip", exits.skip)
        self.log.stand_in("put", exits.put)
        self.given.replace(exits.get, self._get)

    def _get(self, seat: Any, places: Any, number: u64) -> u64:
        self.given.require(seat is self.seat and places is self.places, "of this guest")
        made: u64 = integer(self.general(term(number)))
        return made

    @property
    def general(self) -> Any:
        """What general registers hold."""
        return z3.Function("general register", z3.BitVecSort(64), z3.BitVecSort(64))

    def requires_registers(self, wanted: list[tuple[str, Term | int]], what: str) -> None:
        """Just these registers of the processor's were written, in this order."""
        made = [event for event in events() if isinstance(event, Called)]
        self.given.require([event.name for event in made] == [name for name, _ in wanted], f"{what}: registers are written in order")
        for event, (_, value) in zip(made, wanted, strict=True):
            self.given.require(event.argument == value, f"{what}: {event.name} has the right value")


@about(exits.serve, outcomes=("interrupt", "error", "error on the way", "synchronous"),
       assumes=("exits.synchronous", "exits.pending_serror"))
def serve(given: Given) -> None:
    """An error that came with an exit is told with it, whatever the exit was. A synchronous one is then shown as it was, and the guest comes again to
    the instruction that trapped: behind an HVC it goes back, from any other it has not moved."""
    at, vector, is_pending = Exit(given), given.u64("vector"), Choice(given, "an error is pending")
    answer = given.u64("answer")
    at.log.stand_in("pending", exits.pending_serror, lambda *arguments: u64(PENDING if is_pending else 0))
    at.log.stand_in("synchronous", exits._serve_synchronous, lambda *arguments: answer)
    code = exits.serve(at.seat, at.places, vector)
    kind = given.path.choose(term(vector) & 3)
    calls: list[Call] = [("pending", *at.here)]
    pending = PENDING if is_pending else 0
    moved = False
    if kind in (1, 2):
        given.outcome("interrupt")
        given.require(code == IRQ | pending, "an interrupt, and the error")
    elif kind == 3:
        given.outcome("error")
        given.require(code == SERROR | pending, "an error, and the other")
        calls.append(at.shown)
    elif is_pending:
        given.outcome("error on the way")
        given.require(code == TRAP | pending, "an exit, and the error")
        calls.append(at.shown)
        moved = given.holds(z3.Or(at.bits(31, 26) == HVC, at.bits(31, 26) == HVC32))
    else:
        given.outcome("synchronous")
        given.require(term(code) == term(answer), "as the rest says")
        calls.append(("synchronous", *at.here, at.syndrome))
    at.log.requires(calls, "an exit")
    at.requires_registers([("msr ELR_EL2", at.back - 4)] if moved else [], "an exit")


@about(exits.pending_serror, outcomes=("deferred", "taken", "none"))
def pending_serror(given: Given) -> None:
    """Where an error is pending it is the guest's: with RAS the host gets DISR_EL1 as it is, which is then empty, so that it is told once; without,
    it is taken. Where none is, nothing is written."""
    at, taken = Exit(given), Choice(given, "an error was taken")
    at.seat.abilities.ras = given.boolean("RAS")
    at.log.stand_in("take", world.take_serror, lambda: taken)
    said = exits.pending_serror(*at.here)
    deferred = z3.BitVec("register DISR_EL1", 64)
    if not at.seat.abilities.ras:
        at.log.requires([("take",)], "asked by taking it")
        at.requires_registers([], "without RAS")
        given.outcome("taken" if taken else "none")
        given.require(said == (PENDING if taken else 0), "told if it was")
        return
    there = given.holds(deferred != 0)
    given.outcome("deferred" if there else "none")
    given.require(said == (PENDING if there else 0), "told if there was one")
    at.log.requires([("answer word", at.at, term(at.places.fault_disr), deferred)] if there else [], "the host gets it")
    at.requires_registers([("msr DISR_EL1", 0)] if there else [], "and nobody a second time")


@about(exits._serve_synchronous, exits._serve_abort, outcomes=("served", "asked", "memory again", "memory", "SIMD", "shown"),
       assumes=("exits.register", "exits.register32"))
def synchronous(given: Given) -> None:
    """The guest goes on where memory, a register, SIMD or a call of Delphyne's was EL2's to do, which each is for its own class of exits alone; of
    memory the host hears as its own tables would have said it, and of all else as the processor did."""
    at = Exit(given)
    names = ("the register is EL2's", "interrupts are trapped", "so is that of AArch32", "SVE is the guest's", "a call of Delphyne's", "again")
    register, is_trapped, register32, has_sve, is_call, again = (Choice(given, name) for name in names)
    live = at.seat.fp_live = Choice(given, "SIMD registers are the guest's")
    answer, syndrome, page = given.u64("answer"), given.u64("syndrome for the host"), given.u64("page for the host")
    fault = SimpleNamespace(again=again)
    for name, function, result in (
        ("register", exits._serve_register, register), ("register of AArch32", exits._serve_register32, register32), ("fault", faults.serve, fault),
        ("SIMD", fp.load, None), ("call", protect.serve, answer), ("syndrome", faults.syndrome_for, syndrome), ("page", faults.page_for, page),
    ):  # fmt: skip
        at.log.stand_in(name, function, partial(lambda result, *arguments: result, result))
    given.replace(vgic.is_trapped, partial(_of_this_guest, at, is_trapped))
    given.replace(fp.has_sve, partial(_of_this_guest, at, has_sve))
    given.replace(protect.is_call, partial(_of_this_guest, at, is_call))
    code = exits._serve_synchronous(at.seat, at.places, ESR_EL2.read())
    at.requires_registers([], "nothing of the guest's is changed here")
    kind = next((known for known in KNOWN if given.holds(at.bits(31, 26) == known)), None)
    calls: list[Call] = []
    served, told, ahead = False, "asked", 0
    if kind in (DATA_ABORT, INSTRUCTION_ABORT):
        calls.append(("fault", at.seat, at.syndrome, kind == INSTRUCTION_ABORT))
        if not again:
            given.outcome("memory")
            calls += [("syndrome", at.syndrome, fault), ("page", fault), (*at.shown[:3], syndrome, at.shown[4], page)]
            at.log.requires(calls, "a fault that the host hears of")
            given.require(code == TRAP, "which is an exit")
            return
        served, told = True, "memory again"
    elif kind == SYSTEM:
        calls.append(("register", *at.here, at.syndrome))
        served, told = bool(register), "served"
    elif kind == CP15 and is_trapped:
        calls.append(("register of AArch32", *at.here, at.syndrome))
        served, told = bool(register32), "served"
    elif kind in (FP_ACCESS, SVE) and not live and (kind == FP_ACCESS or has_sve):
        calls.append(("SIMD", *at.here))
        served, told, ahead = True, "SIMD", 7
    elif kind == HVC and is_call:
        given.outcome("asked")
        at.log.requires([("call", *at.here)], "a call of Delphyne's")
        given.require(term(code) == term(answer), "answered there")
        return
    given.outcome(told if served else "shown")
    at.log.requires(calls if served else [*calls, at.shown], "shown if it was not served")
    given.require(code == (GOES_ON if served else TRAP), "and an exit then")
    given.require(at.seat.fp_ahead == ahead, "SIMD registers are loaded ahead for some runs after one that asked for them")


def _of_this_guest(at: Exit, result: Choice, seat: Any, *rest: Any) -> Choice:
    at.given.require(seat is at.seat and all(one is at.places for one in rest), "of this guest")
    return result


@about(exits._serve_register, outcomes=("CTR", "stage 1", "interrupts", "not EL2's"), assumes=("exits.general", "exits.skip"))
def register(given: Given) -> None:
    """CTR_EL0 is answered where the host said how, stage 1 written where an erratum trapped it and not the host, interrupts are served where they are
    trapped; the instruction is skipped then and nothing else was done. Of any other register nothing is changed."""
    at, there, is_trapped = Exit(given), Choice(given, "the guest has it"), Choice(given, "interrupts are trapped")
    erratum = at.seat.abilities.trap_translation_writes = Choice(given, "stage 1 is trapped")
    at.seat.ctr, x, lists, hcr = given.u64("CTR for the guest"), given.u64("what is read"), given.u64("list registers"), given.u64("asked HCR")
    at.seat.asked = SimpleNamespace(hcr=hcr)
    at.without_skip()
    at.log.stand_in("stage 1", el1.write, lambda *arguments: there)
    at.log.stand_in("interrupts", gic_access.perform, lambda *arguments: SimpleNamespace(served=there, x=x))
    given.replace(vgic.is_trapped, partial(_of_this_guest, at, is_trapped))
    given.replace(vgic.used, lambda seat: lists if seat is at.seat else None)
    served = exits._serve_register(at.seat, at.places, ESR_EL2.read())
    at.requires_registers([], "nothing else is written")
    read, number, iss = given.holds(at.bits(0, 0) == 1), at.bits(9, 5), at.bits(24, 0)
    calls: list[Call] = []
    name, outcome = iss & 0x3FFC1E, ""
    if read and given.holds(z3.And(name == CTR, term(at.seat.ctr) != 0)):
        calls, outcome = [("put", *at.here, number, term(at.seat.ctr))], "CTR"
    elif not read and erratum and given.holds(z3.Extract(26, 26, term(hcr)) == 0):
        calls = [("stage 1", name, at.general(number))]
        outcome = "stage 1" if there else ""
    if not outcome and is_trapped:
        calls.append(("interrupts", iss, lists, at.general(number)))
        outcome = "interrupts" if there else ""
        calls += [("put", *at.here, number, x)] if there and read else []
    given.outcome(outcome or "not EL2's")
    given.require(bool(served) == bool(outcome), "served or not")
    at.log.requires([*calls, ("skip", at.syndrome)] if outcome else calls, "a register")


@about(exits._serve_register32, exits._serve_interrupts, outcomes=("not executed", "read", "written", "not the guest's"),
       assumes=("exits.general", "exits.skip"))
def register32(given: Given) -> None:
    """An instruction whose condition fails is skipped and does nothing; of one that is executed the access is done, and it is skipped, unless the
    guest has no such register."""
    at, there, executed = Exit(given), Choice(given, "the guest has it"), Choice(given, "executed")
    iss, x, lists = given.u64("ISS of the AArch64 register"), given.u64("what is read"), given.u64("list registers")
    at.without_skip()
    at.log.stand_in("executed", aarch32.is_executed, lambda *arguments: executed)
    at.log.stand_in("named", gic_access.from_cp15, lambda *arguments: SystemIss.of(iss))
    at.log.stand_in("interrupts", gic_access.perform, lambda *arguments: SimpleNamespace(served=there, x=x))
    given.replace(vgic.used, lambda seat: lists if seat is at.seat else None)
    served = exits._serve_register32(at.seat, at.places, ESR_EL2.read())
    at.requires_registers([], "nothing else is written")
    calls: list[Call] = [("executed", at.syndrome, at.pstate)]
    skipped: Call = ("skip", at.syndrome)
    number = z3.ZeroExt(59, z3.Extract(9, 5, term(iss)))
    if not executed:
        given.outcome("not executed")
        calls.append(skipped)
    else:
        read = given.holds(z3.Extract(0, 0, term(iss)) == 1)
        calls += [("named", z3.ZeroExt(7, z3.Extract(24, 0, at.syndrome))), ("interrupts", iss, lists, at.general(number))]
        given.outcome(("read" if read else "written") if there else "not the guest's")
        calls += ([("put", *at.here, number, x)] if read else []) + [skipped] if there else []
    given.require(bool(served) == (not executed or bool(there)), "served or not")
    at.log.requires(calls, "a register of AArch32")


@about(exits.put, exits.get, outcomes=("a register", "the zero register"),
       bounds=("exits.put: the kernel's registers end below 2**64, as its layout was checked",))
def general(given: Given) -> None:
    """Numbers up to 30 are the guest's words, each in its own place among 31; any other reads as zero and writes nothing."""
    at, number, x, held = Exit(given), given.u64("number"), given.u64("x"), given.u64("held")
    given.assume(z3.ULT(term(at.places.regs), 1 << 32))
    at.log.stand_in("asked", world.asked_word, lambda *arguments: held)
    exits.put(*at.here, number, x)
    found = exits.get(*at.here, number)
    is_there = given.holds(z3.ULE(term(number), 30))
    given.outcome("a register" if is_there else "the zero register")
    place = term(at.places.regs) + 8 * term(number)
    given.require(term(found) == (term(held) if is_there else 0), "what the guest has there")
    at.log.requires([("answer word", at.at, place, x), ("asked", at.at, place)] if is_there else [], "one word of the guest's")
    at.requires_registers([], "no register of the processor's")


@about(exits.skip, outcomes=("AArch64", "AArch32", "Thumb"))
def skip(given: Given) -> None:
    """The guest goes on behind the instruction, which may be the last of its addresses, in the mode that it was in: of its state no more changes than
    what an instruction ends, single step, BTYPE or the place in an IT block."""
    at = Exit(given)
    exits.skip(ESR_EL2.read())
    made: dict[str, Any] = {event.name: event.argument for event in events() if isinstance(event, Called)}
    given.require(len(made) == 2 and len(events()) == 2, "two registers are written")
    pc, pstate = made["msr ELR_EL2"], made["msr SPSR_EL2"]
    is32, thumb = given.holds(z3.Extract(4, 4, at.pstate) == 1), z3.And(z3.Extract(5, 5, at.pstate) == 1, z3.Extract(25, 25, at.syndrome) == 0)
    changed = pstate ^ at.pstate
    given.require((pstate & (1 << 21)) == 0, "no single step is left of it")
    if not is32:
        given.outcome("AArch64")
        given.require(pc == at.back + 4, "four bytes on")
        given.require(z3.And((changed & ~z3.BitVecVal(1 << 21 | 0b11 << 10, 64)) == 0, (pstate & (0b11 << 10)) == 0), "nothing else of PSTATE")
        return
    narrow = given.holds(thumb)
    given.outcome("Thumb" if narrow else "AArch32")
    given.require(pc == (at.back + (2 if narrow else 4)) & 0xFFFF_FFFF, "behind an instruction of its width, in 32 bits")
    given.require((changed & ~z3.BitVecVal(1 << 21 | 0x3F << 10 | 0b11 << 25, 64)) == 0, "nothing else of PSTATE")
