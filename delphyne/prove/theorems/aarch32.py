# SPDX-License-Identifier: Apache-2.0
"""AArch32 guests: for any status, syndrome and program counter that a guest can have, what EL2 goes on with is a state that an AArch32 guest may be
in, in 32 bits, and what the architecture says.

Fields of one bit are copied without asking what they are: a path for each of the flags of a status would be too many.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import aarch64
from delphyne.el2.guest import aarch32
from delphyne.lang import u8
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import FUNCTIONS, decide, integer, term
from delphyne.prove.theorem import Given, theorem

CONDITIONAL = (0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0C)
"""Exception classes of instructions that have a condition: WFx, MCR and MRC, MCRR and MRRC, LDC and STC, and those of floating point."""
SMC = 0x13
N, Z, C, V, DIT, SSBS, PAN, SS, E, A, IRQ, F, T = 31, 30, 29, 28, 24, 23, 22, 21, 9, 8, 7, 6, 5
BLOCK = 0x3F << 10 | 3 << 25
"""ITSTATE in its two places."""
field_get = FUNCTIONS["field_get"]


class Bit:
    """A field of one bit that is decided only where it is asked for."""

    def __init__(self, word: Term, number: int) -> None:
        self.raw: u8 = integer(z3.ZeroExt(7, z3.Extract(number, number, word)), u8)

    def __bool__(self) -> bool:
        return decide(term(self.raw) == 1)

    def __eq__(self, other: object) -> bool:
        return bool(self) == bool(other)

    def __ne__(self, other: object) -> bool:
        return bool(self) != bool(other)

    __hash__ = None  # type: ignore[assignment]

    def _function(self, name: str, args: tuple[Any, ...]) -> Any:
        return FUNCTIONS[name](*args)


def late_bits() -> Any:
    """Let one-bit fields be such."""
    return mock.patch.dict(FUNCTIONS, {"field_get": lambda raw, part: Bit(term(raw), part.low) if part.kind is bool else field_get(raw, part)})


def bit(word: Term, number: int) -> Formula:
    """Whether it is set."""
    return z3.Extract(number, number, word) == 1


def block_of(cpsr: Term) -> Term:
    """ITSTATE, of 8 bits."""
    return z3.Concat(z3.Extract(15, 10, cpsr), z3.Extract(26, 25, cpsr))


def passes(condition: Term, cpsr: Term) -> Formula:
    """ConditionHolds of the Arm ARM."""
    n, z, c, v = (bit(cpsr, number) for number in (N, Z, C, V))
    kinds = (z, c, n, v, z3.And(c, z3.Not(z)), n == v, z3.And(n == v, z3.Not(z)))
    right = z3.BoolVal(True)
    for number, met in enumerate(kinds):
        odd = z3.Extract(0, 0, condition) == 1
        right = z3.If(z3.LShR(condition, 1) == number, z3.Xor(met, odd), right)
    return right


@theorem(aarch32._holds, outcomes=("passed", "failed"))
def holds(given: Given) -> None:
    """Each of the sixteen conditions is as the flags say, and the last two always hold."""
    condition, cpsr = z3.ZeroExt(4, given.word("condition", 4)), given.u64("cpsr")
    met = bool(aarch32._holds(integer(condition, u8), aarch32.Cpsr.of(cpsr)))
    given.outcome("passed" if met else "failed")
    given.require(passes(condition, term(cpsr)) == met, "as ConditionHolds")


@theorem(aarch32.is_executed, aarch32._has_condition, aarch32._it_state, assumes=("aarch32.holds",), outcomes=("executed", "skipped"))
def is_executed(given: Given) -> None:
    """An instruction is skipped exactly if it has a condition, in its syndrome or in its IT block, that fails. One without a condition never is."""
    esr, cpsr = given.u64("esr"), given.u64("cpsr")

    def met(condition: u8, flags: aarch32.Cpsr) -> bool:
        given.require(z3.And(term(flags.raw) == term(cpsr), z3.ULT(term(condition), 16)), "of the status of the guest")
        return given.holds(passes(term(condition), term(cpsr)))

    given.replace(aarch32._holds, met)
    done = aarch32.is_executed(esr, cpsr)
    given.outcome("executed" if done else "skipped")
    ec, block = z3.Extract(31, 26, term(esr)), block_of(term(cpsr))
    conditional = z3.Or([ec == number for number in CONDITIONAL] + [z3.And(ec == SMC, bit(term(esr), 19))])
    own = z3.ZeroExt(4, z3.Extract(23, 20, term(esr)))
    met_here = z3.If(bit(term(esr), 24), passes(own, term(cpsr)), z3.Or(block == 0, passes(z3.LShR(block, 4), term(cpsr))))
    given.require(z3.Implies(conditional, met_here) == done, "as its condition says")


@theorem(aarch32.skip, aarch32._it_state, outcomes=("two bytes", "four bytes"))
def skip(given: Given) -> None:
    """Behind the instruction, in 32 bits; the IT block is a step further, a single step is over, and nothing else of the status changes."""
    pc, cpsr, wide = given.u64("pc"), given.u64("cpsr"), given.boolean("wide")
    with late_bits():
        after = aarch32.skip(pc, cpsr, wide)
    was, now, block = term(cpsr), term(after.cpsr), block_of(term(cpsr))
    short = given.holds(bit(was, T)) and not wide
    given.outcome("two bytes" if short else "four bytes")
    length = 2 if short else 4
    given.require(term(after.pc) == z3.ZeroExt(32, z3.Extract(31, 0, term(pc)) + length), "behind it")
    last = z3.Extract(2, 0, block) == 0
    advanced = z3.If(last, z3.BitVecVal(0, 8), z3.Concat(z3.Extract(7, 5, block), z3.Extract(3, 0, block), z3.BitVecVal(0, 1)))
    given.require(block_of(now) == advanced, "ITAdvance")
    given.require(z3.Not(bit(now, SS)), "stepped over")
    given.require((now ^ was) & ~z3.BitVecVal(BLOCK | 1 << SS, 64) == 0, "and nothing else")


TAKEN = {
    "undefined": (aarch32.take_undefined, 4, 2, 0x04, 0x1B), "prefetch abort": (aarch32.take_prefetch_abort, 4, 4, 0x0C, 0x17),
    "data abort": (aarch32.take_data_abort, 8, 8, 0x10, 0x17),
}
"""From the instruction to LR in A32 and T32, vector, mode."""


@theorem(aarch32.take_undefined, aarch32.take_prefetch_abort, aarch32.take_data_abort, aarch32._take, aarch32._vectors, aarch32._banked,
         outcomes=tuple(TAKEN))
def take(given: Given) -> None:
    """Whatever state a guest was in, an exception brings it to its own vector and to Abort or Undefined mode, which is a legal return for ERET, with
    interrupts masked and no IT block; all in 32 bits, and what it was is kept for it."""
    name = given.one_of("exception", tuple(TAKEN))
    function, arm, thumb, vector, mode = TAKEN[name]
    given.outcome(name)
    cpsr, pc, sctlr, vbar = (given.u64(what) for what in ("cpsr", "pc", "sctlr", "vbar"))
    with late_bits():
        taken = function(cpsr, pc, sctlr, vbar)
    was, now, control = term(cpsr), term(taken.cpsr), term(sctlr)
    given.require(aarch64.legal_pstate(taken.cpsr, True, True), "a legal return")
    given.require(z3.Extract(4, 0, now) == mode, "the mode of the exception")
    low = z3.Concat(z3.BitVecVal(0, 32), z3.Extract(31, 5, term(vbar)), z3.BitVecVal(0, 5))
    base = z3.If(bit(control, 13), z3.BitVecVal(0xFFFF_0000, 64), low)
    given.require(term(taken.pc) == base + vector, "the vector of the exception")
    given.require(z3.And(bit(now, IRQ), bit(now, F) == bit(was, F)), "interrupts are masked")
    given.require(bit(now, A) == z3.Or(bit(was, A), mode == 0x17), "and in Abort mode asynchronous aborts too")
    given.require(z3.And(bit(now, T) == bit(control, 30), bit(now, E) == bit(control, 25)), "instruction set and byte order that the guest has set")
    given.require(bit(now, PAN) == z3.Or(bit(was, PAN), z3.Not(bit(control, 23))), "PAN unless SPAN")
    given.require(bit(now, SSBS) == bit(control, 31), "SSBS that the guest has set")
    kept = 0xF << 28 | 1 << 27 | 0xF << 16 | 1 << DIT
    given.require((now ^ was) & kept == 0, "flags, GE and DIT are kept")
    decided = kept | 0x1F | 1 << T | 1 << F | 1 << IRQ | 1 << A | 1 << E | 1 << PAN | 1 << SSBS
    given.require(now & ~z3.BitVecVal(decided, 64) == 0, "no IT block, no step, nothing that is illegal")
    length = z3.If(bit(was, T), z3.BitVecVal(thumb, 32), z3.BitVecVal(arm, 32))
    given.require(term(taken.lr) == z3.ZeroExt(32, z3.Extract(31, 0, term(pc)) + length), "LR in 32 bits")
    banked = z3.Concat(z3.BitVecVal(0, 32), z3.Extract(31, 25, was), z3.BitVecVal(0, 1), z3.Extract(23, 22, was), z3.Extract(24, 24, was),
                       z3.Extract(20, 0, was))
    given.require(term(taken.spsr) == banked, "SPSR as AArch32 has it")
