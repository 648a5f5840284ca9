# SPDX-License-Identifier: Apache-2.0
"""States of EL1 and EL0 that EL2 makes and returns to: whatever a host or guest says, never one of EL2 or EL3, and never an illegal return.

PSTATE is any 64 bits. What a return needs is written here from the Arm ARM (D1.4, IllegalExceptionReturn), by mode and not as the function has it.
"""

from __future__ import annotations

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import aarch64
from delphyne.lang import u8, u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

EL0, EL1T, EL1H = 0b00000, 0b00100, 0b00101
USER, PRIVILEGED = 0b10000, (0b10001, 0b10010, 0b10011, 0b10111, 0b11011, 0b11111)
"""Of AArch32: FIQ, IRQ, Supervisor, Abort, Undefined and System. Monitor is EL3's, Hyp EL2's."""
AARCH32 = 1 << 4
MASKED = 0b1111 << 6
"""D, A, I and F."""
BRANCH, STEP, ILLEGAL = 0b11 << 10, 1 << 21, 1 << 20
SSBS, ALLINT, PAN, UAO, DIT, TCO, FLAGS = 1 << 12, 1 << 13, 1 << 22, 1 << 23, 1 << 24, 1 << 25, 0b1111 << 28
SPAN, DSSBS, NMI, SPINTMASK = 23, 44, 61, 62
"""SCTLR_EL1."""
CHOICES = 1 << SPAN | 1 << DSSBS | 1 << NMI | 1 << SPINTMASK


def mode(pstate: Term) -> Term:
    """M[4:0]."""
    return pstate & 0b11111


def is_one_of(pstate: Term, *modes: int) -> Formula:
    """Whether it has one of these modes."""
    return z3.Or([mode(pstate) == each for each in modes])


def is_legal(pstate: Term, aarch32_el1: bool, aarch32_el0: bool) -> Formula:
    """Whether the processor takes a return to it for legal: to EL1 in the state that HCR_EL2.RW says, to EL0 in AArch64 below EL1 in AArch64, and in
    AArch32 below EL1 in AArch32 or where EL0 can be so. EL2, EL3 and what is reserved are not."""
    if aarch32_el1:
        return is_one_of(pstate, USER, *PRIVILEGED)
    return is_one_of(pstate, EL0, EL1T, EL1H, *((USER,) if aarch32_el0 else ()))


@theorem(aarch64.legal_pstate, aarch64._is_privileged32, outcomes=("legal", "illegal"))
def legal_pstate(given: Given) -> None:
    """For any PSTATE: True exactly if a return to it is legal, which none to EL2, EL3, Hyp or Monitor mode or a reserved one is."""
    pstate, aarch32_el1, aarch32_el0 = given.u64("pstate"), given.boolean("EL1 is AArch32"), given.boolean("EL0 can be AArch32")
    legal = aarch64.legal_pstate(pstate, aarch32_el1, aarch32_el0)
    given.outcome("legal" if legal else "illegal")
    given.require(is_legal(term(pstate), aarch32_el1, aarch32_el0) == legal, "as the processor has it")
    level = z3.Extract(3, 2, term(pstate))
    given.require(not legal or z3.Or(term(pstate) & AARCH32 != 0, z3.ULE(level, 1)), "no level above EL1 in AArch64")


@theorem(aarch64._vector, outcomes=("EL0", "EL0 in AArch32", "EL1 on SP_EL0", "EL1"))
def vector(given: Given) -> None:
    """The synchronous one of the four of a table of vectors, by the level and the state that the exception came from: for any mode."""
    came = given.u8("mode")
    given.assume(z3.ULT(term(came), 32))
    before, offset = z3.ZeroExt(56, term(came)), term(aarch64._vector(came))
    aarch32 = before & AARCH32 != 0
    given.outcome("EL0 in AArch32" if given.holds(aarch32) else "EL1" if given.holds(before == EL1H)
                  else "EL1 on SP_EL0" if given.holds(before == EL1T) else "EL0")
    lower = z3.If(aarch32, z3.BitVecVal(0x600, 64), z3.BitVecVal(0x400, 64))
    same = z3.If(before == EL1H, z3.BitVecVal(0x200, 64), z3.BitVecVal(0, 64))
    given.require(offset == z3.If(is_one_of(before, EL1T, EL1H), same, lower), "of the level and state that it came from")


@theorem(aarch64.enter_el1, assumes=("aarch64.vector",),
         bounds=("aarch64.enter_el1: any flags, or any choice of SCTLR_EL1 and tags, but not both at a time: each field is made by itself",))
def enter_el1(given: Given) -> None:
    """From any state, with any VBAR_EL1 and SCTLR_EL1: EL1 goes on at its own vector with everything masked, in a state that EL2 may return to, and
    its SPSR_EL1 and ELR_EL1 say what was. Of the state before only flags, PAN and DIT last."""
    pstate, pc, vbar, sctlr = (given.u64(name) for name in ("pstate", "pc", "vbar", "sctlr"))
    before, control, asked = term(pstate), term(sctlr), []
    if given.boolean("flags"):
        tags = False
        given.assume(control & CHOICES == 1 << SPAN)
    else:
        tags = given.boolean("tags")
        given.assume(before & (FLAGS | DIT) == 0)
    offset = given.word("offset of the vector", 64)
    given.assume(z3.ULT(offset, 0x800))
    at: u64 = integer(offset)

    def vector(came: u8) -> u64:
        asked.append(came)
        return at

    given.replace(aarch64._vector, vector)
    entered = aarch64.enter_el1(pstate, pc, vbar, sctlr, tags)
    after = term(entered.pstate)

    def bit(number: int) -> Formula:
        return z3.Extract(number, number, control) == 1

    given.require(mode(after) == EL1H, "EL1 in AArch64 on its own stack pointer, whatever was before")
    given.require(z3.And(is_legal(after, False, False), is_legal(after, False, True)), "to which a return is legal")
    given.require(after & MASKED == MASKED, "nothing interrupts it")
    given.require(after & (BRANCH | STEP | ILLEGAL | UAO) == 0, "no step, no branch target, no illegal state")
    given.require(after & ~z3.BitVecVal(0x1F | MASKED | SSBS | ALLINT | PAN | DIT | TCO | FLAGS, 64) == 0, "no bit that PSTATE does not have")
    given.require(after & (FLAGS | DIT) == before & (FLAGS | DIT), "flags and DIT last")
    given.require((after & PAN != 0) == z3.Or(before & PAN != 0, z3.Not(bit(SPAN))), "PAN is set unless EL1 says that it stays")
    given.require((after & SSBS != 0) == bit(DSSBS), "SSBS as EL1 wants it")
    given.require((after & ALLINT != 0) == z3.And(bit(NMI), z3.Not(bit(SPINTMASK))), "and ALLINT")
    given.require((after & TCO != 0) == tags, "tags unchecked where there are any")
    given.require(z3.And(term(entered.spsr) == before, term(entered.elr) == term(pc)), "the whole state from which it came")
    given.require(term(entered.pc) == (term(vbar) & ~z3.BitVecVal(0x7FF, 64)) + offset, "at the vector of EL1's own table")
    given.require(term(asked[0]) == z3.Extract(7, 0, mode(before)), "which is that of the mode before")


@theorem(aarch64.skip, outcomes=("next", "wrapped"))
def skip(given: Given) -> None:
    """For any program counter, the last of the address space too, and any state: the next instruction, and a state as legal as before, in which only
    a step and a branch have ended."""
    pc, pstate = given.u64("pc"), given.u64("pstate")
    behind = aarch64.skip(pc, pstate)
    given.outcome("next" if given.holds(z3.ULT(term(pc), term(behind.pc))) else "wrapped")
    given.require(term(behind.pc) - term(pc) == 4, "four bytes on")
    given.require(term(behind.pstate) == term(pstate) & ~z3.BitVecVal(STEP | BRANCH, 64), "what ends with an instruction has ended")
    for aarch32_el1, aarch32_el0 in ((False, False), (False, True), (True, True)):
        as_before = is_legal(term(behind.pstate), aarch32_el1, aarch32_el0) == is_legal(term(pstate), aarch32_el1, aarch32_el0)
        given.require(as_before, "a return to it is as legal as it was")


@theorem(aarch64.is_aarch32, outcomes=("AArch32", "AArch64"))
def is_aarch32(given: Given) -> None:
    """By the mode alone: the states of AArch32, and what EL2 may return to of AArch64 is none of them."""
    pstate = given.u64("pstate")
    found = aarch64.is_aarch32(pstate)
    given.outcome("AArch32" if found else "AArch64")
    given.require((term(pstate) & AARCH32 != 0) == found, "M[4]")
    given.require(z3.Implies(is_one_of(term(pstate), EL0, EL1T, EL1H), not found), "no mode of AArch64")
