# SPDX-License-Identifier: Apache-2.0
"""AArch32 guests: what the processor leaves to EL2 when an instruction of one traps, and exceptions that are raised in one (Arm ARM G1.12 to G1.16;
in its pseudocode AArch32.EnterMode, ConditionHolds and ITAdvance). A program status is as SPSR_EL2 has it.

Calculations on values, each of which a guest may have chosen: no lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.exception import Esr, ExceptionClass
from delphyne.lang import Bits32, Bits64, bits, u8, u64, value, wrap_add

LR_ABT: Final = u64(20)
LR_UND: Final = u64(22)
"""LR_abt and LR_und among the general registers as AArch64 sees them (Arm ARM D1, mapping between the Execution states)."""

MODE_ABORT: Final = u8(0b10111)
MODE_UNDEFINED: Final = u8(0b11011)
ADDRESS_BITS: Final = u64(0xFFFF_FFFF)
HIGH_VECTORS: Final = u64(0xFFFF_0000)
VECTORS_BASE: Final = u64(0xFFFF_FFE0)
"""The bits of VBAR that count."""


class Cpsr(Bits64):
    """SPSR_EL2 of an AArch32 state."""

    mode: u8 = bits(4, 0)
    t: bool = bits(5)
    f: bool = bits(6)
    i: bool = bits(7)
    a: bool = bits(8)
    e: bool = bits(9)
    it_high: u8 = bits(15, 10)
    """ITSTATE[7:2]."""
    ge: u8 = bits(19, 16)
    il: bool = bits(20)
    ss: bool = bits(21)
    pan: bool = bits(22)
    ssbs: bool = bits(23)
    dit: bool = bits(24)
    it_low: u8 = bits(26, 25)
    """ITSTATE[1:0]."""
    q: bool = bits(27)
    v: bool = bits(28)
    c: bool = bits(29)
    z: bool = bits(30)
    n: bool = bits(31)


class BankedSpsr(Bits64):
    """SPSR_abt and SPSR_und, in the form that AArch32 gives them: what differs from SPSR_EL2."""

    dit: bool = bits(21)
    reserved_24: bool = bits(24)


class Sctlr32(Bits64):
    """SCTLR, which is SCTLR_EL1: what decides about the state after an exception."""

    v: bool = bits(13)
    """Vectors are at the top of the address space."""
    span: bool = bits(23)
    ee: bool = bits(25)
    te: bool = bits(30)
    dssbs: bool = bits(31)


class ConditionalIss(Bits32):
    """ISS of a trapped instruction that has a condition."""

    may_have_failed: bool = bits(19)
    """CCKNOWNPASS, of an SMC only."""
    condition: u8 = bits(23, 20)
    valid: bool = bits(24)


@value
class Position:
    """Where a guest goes on, and in which state."""

    pc: u64
    cpsr: u64


@value
class Taken32:
    """After an exception: where the guest goes on and in which state, and what the mode's own LR and SPSR hold."""

    pc: u64
    cpsr: u64
    lr: u64
    spsr: u64


def is_executed(esr: u64, cpsr: u64) -> bool:
    """Whether the instruction that trapped passes its condition; those that do not may trap all the same, and are to be skipped."""
    syndrome = Esr.of(esr)
    iss = ConditionalIss.of(syndrome.iss)
    if not _has_condition(syndrome.ec, iss):
        return True
    if iss.valid:
        return _holds(iss.condition, Cpsr.of(cpsr))
    state = _it_state(Cpsr.of(cpsr))
    return state == 0 or _holds(state >> 4, Cpsr.of(cpsr))


def _has_condition(ec: u8, iss: ConditionalIss) -> bool:
    if ec == ExceptionClass.SMC32.raw:
        return iss.may_have_failed
    coprocessor = (
        ec == ExceptionClass.MCR_CP15.raw or ec == ExceptionClass.MCRR_CP15.raw or ec == ExceptionClass.MCR_CP14.raw
        or ec == ExceptionClass.LDC_CP14.raw or ec == ExceptionClass.MRRC_CP14.raw
    )  # fmt: skip
    return coprocessor or ec == ExceptionClass.WFX.raw or ec == ExceptionClass.FP_ACCESS.raw or ec == ExceptionClass.VMRS.raw


def _holds(condition: u8, flags: Cpsr) -> bool:
    """Each odd condition is the even one below it, reversed; but 15 is as 14, always."""
    kind = condition >> 1
    if kind == 7:
        return True
    if kind == 0:
        met = flags.z
    elif kind == 1:
        met = flags.c
    elif kind == 2:
        met = flags.n
    elif kind == 3:
        met = flags.v
    elif kind == 4:
        met = flags.c and not flags.z
    elif kind == 5:
        met = flags.n == flags.v
    else:
        met = flags.n == flags.v and not flags.z
    return met != (condition & 1 != 0)


def _it_state(state: Cpsr) -> u8:
    return state.it_high << 2 | state.it_low


def skip(pc: u64, cpsr: u64, wide: bool) -> Position:
    """Goes on behind an instruction as if it had been executed, or had failed its condition. `wide` is ESR_EL2.IL: it has 32 bits."""
    state = Cpsr.of(cpsr)
    length = u64(4) if wide or not state.t else u64(2)
    block = _it_state(state)
    advanced = u8(0) if block & 0b111 == 0 else block & 0b1110_0000 | u8.wrap(block << 1) & 0b1_1111
    after = state.replace(it_high=advanced >> 2, it_low=advanced & 0b11, ss=False)
    return Position(wrap_add(pc, length) & ADDRESS_BITS, after.raw)


def take_undefined(cpsr: u64, pc: u64, sctlr: u64, vbar: u64) -> Taken32:
    """The instruction at `pc` does not exist. `sctlr` and `vbar` are SCTLR_EL1 and VBAR_EL1, which a guest knows as SCTLR and VBAR."""
    back = u64(2) if Cpsr.of(cpsr).t else u64(4)
    return _take(cpsr, wrap_add(pc, back), sctlr, _vectors(sctlr, vbar) + 0x04, MODE_UNDEFINED)


def take_prefetch_abort(cpsr: u64, pc: u64, sctlr: u64, vbar: u64) -> Taken32:
    """The instruction at `pc` could not be fetched."""
    return _take(cpsr, wrap_add(pc, 4), sctlr, _vectors(sctlr, vbar) + 0x0C, MODE_ABORT)


def take_data_abort(cpsr: u64, pc: u64, sctlr: u64, vbar: u64) -> Taken32:
    """The instruction at `pc` could not load or store."""
    return _take(cpsr, wrap_add(pc, 8), sctlr, _vectors(sctlr, vbar) + 0x10, MODE_ABORT)


def _vectors(sctlr: u64, vbar: u64) -> u64:
    return HIGH_VECTORS if Sctlr32.of(sctlr).v else vbar & VECTORS_BASE


def _take(cpsr: u64, lr: u64, sctlr: u64, vector: u64, mode: u8) -> Taken32:
    before = Cpsr.of(cpsr)
    control = Sctlr32.of(sctlr)
    after = Cpsr(
        mode=mode,
        t=control.te,
        f=before.f,
        i=True,
        a=before.a or mode == MODE_ABORT,
        e=control.ee,
        ge=before.ge,
        pan=before.pan or not control.span,
        ssbs=control.dssbs,
        dit=before.dit,
        q=before.q,
        v=before.v,
        c=before.c,
        z=before.z,
        n=before.n,
    )
    return Taken32(vector, after.raw, lr & ADDRESS_BITS, _banked(before))


def _banked(state: Cpsr) -> u64:
    """A status as AArch32 keeps it: without SS, and DIT in its place."""
    return BankedSpsr.of(state.raw & ADDRESS_BITS).replace(dit=state.dit, reserved_24=False).raw
