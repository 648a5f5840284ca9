# SPDX-License-Identifier: Apache-2.0
"""AArch64 states of EL1 and EL0: what an exception makes of one, and which of them EL2 may return to (Arm ARM D1.3, D1.4; AArch64.TakeException and
IllegalExceptionReturn in its pseudocode). Calculations on values, for the host and for guests alike: no lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.exception import MODE_AARCH32, MODE_EL0T, MODE_EL1H, MODE_EL1T, Spsr
from delphyne.lang import Bits64, bits, u8, u64, value, wrap_add

VECTORS_BASE: Final = u64(0xFFFF_FFFF_FFFF_F800)
"""The bits of VBAR_EL1 that count; the others are RES0, which does not say that they read as zero."""

MODE_USER: Final = u8(0b10000)


class EntrySctlr(Bits64):
    """SCTLR_EL1: what decides about the state after an exception."""

    span: bool = bits(23)
    """Exceptions leave PSTATE.PAN as it is."""
    dssbs: bool = bits(44)
    """PSTATE.SSBS after an exception."""
    nmi: bool = bits(61)
    spintmask: bool = bits(62)


@value
class Entry:
    """After an exception: EL1's state, where it goes on, and what its SPSR_EL1 and ELR_EL1 hold."""

    pstate: u64
    pc: u64
    spsr: u64
    elr: u64


@value
class Behind:
    """Behind an instruction that was done in somebody's place: where they go on, and in which state."""

    pc: u64
    pstate: u64


def skip(pc: u64, pstate: u64) -> Behind:
    """As if the AArch64 instruction at `pc` had been executed: that ends a single step and the state after a branch.

    The program counter is the lower level's to choose, up to the last four bytes of the address space: it wraps there."""
    return Behind(wrap_add(pc, 4), Spsr.of(pstate).replace(ss=False, btype=u8(0)).raw)


def is_aarch32(pstate: u64) -> bool:
    """Whether that is a state of AArch32."""
    return Spsr.of(pstate).mode & MODE_AARCH32 != 0


def enter_el1(pstate: u64, pc: u64, vbar: u64, sctlr: u64, tags: bool) -> Entry:
    """A synchronous exception to EL1 in AArch64, from EL1 or from EL0 in either state; `pstate` is as SPSR_EL2 has it.

    `vbar` and `sctlr` are VBAR_EL1 and SCTLR_EL1; `tags`: who runs there has FEAT_MTE2."""
    before = Spsr.of(pstate)
    control = EntrySctlr.of(sctlr)
    after = Spsr(
        mode=MODE_EL1H,
        debug_masked=True,
        serror_masked=True,
        irq_masked=True,
        fiq_masked=True,
        ssbs=control.dssbs,
        allint=control.nmi and not control.spintmask,
        pan=before.pan or not control.span,
        dit=before.dit,
        tco=tags,
        v=before.v,
        c=before.c,
        z=before.z,
        n=before.n,
    )
    return Entry(after.raw, (vbar & VECTORS_BASE) + _vector(before.mode), pstate, pc)


def _vector(mode: u8) -> u64:
    """Offset of the synchronous vector for an exception from that mode."""
    if mode & MODE_AARCH32 != 0:
        return u64(0x600)
    if mode == MODE_EL1H:
        return u64(0x200)
    return u64(0) if mode == MODE_EL1T else u64(0x400)


def legal_pstate(pstate: u64, aarch32_el1: bool, aarch32_el0: bool) -> bool:
    """Whether ERET at EL2 with that SPSR_EL2 is a legal return to EL1 or EL0, HCR_EL2.TGE being 0.

    `aarch32_el1`: HCR_EL2.RW is 0. `aarch32_el0`: EL0 can be in AArch32 (ID_AA64PFR0_EL1.EL0 is 2), as it must where EL1 is. SPSR_EL2.IL makes no
    return illegal: the next instruction then takes an exception to EL1."""
    mode = Spsr.of(pstate).mode
    if mode & MODE_AARCH32 == 0:
        return not aarch32_el1 and (mode == MODE_EL0T or mode == MODE_EL1T or mode == MODE_EL1H)
    if mode == MODE_USER:
        return aarch32_el1 or aarch32_el0
    return aarch32_el1 and _is_privileged32(mode)


def _is_privileged32(mode: u8) -> bool:
    """FIQ, IRQ, Supervisor, Abort, Undefined or System: the modes of AArch32 that are EL1 where EL3, if there is one, is in AArch64."""
    low = mode & 0b1111
    return 1 <= low <= 3 or low == 0b0111 or low == 0b1011 or low == 0b1111
