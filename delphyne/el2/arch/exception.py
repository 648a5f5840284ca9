# SPDX-License-Identifier: Apache-2.0
"""Exceptions as EL2 sees them: syndromes, saved program states, fault addresses (Arm ARM D1, D24.2). No lock, no state.

A syndrome's exception class is an integer here and not an enum field: a newer processor may report one that this list does not hold, and
what a guest provokes must never trap EL2. `ExceptionClass.of` decides.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Bits64, Enum8, SysReg, bits, u8, u32, u64


class ExceptionClass(Enum8):
    """ESR_ELx.EC."""

    UNKNOWN = 0x00
    WFX = 0x01
    MCR_CP15 = 0x03
    MCRR_CP15 = 0x04
    MCR_CP14 = 0x05
    LDC_CP14 = 0x06
    FP_ACCESS = 0x07
    VMRS = 0x08
    PAUTH = 0x09
    LS64 = 0x0A
    MRRC_CP14 = 0x0C
    BRANCH_TARGET = 0x0D
    ILLEGAL_STATE = 0x0E
    SVC32 = 0x11
    HVC32 = 0x12
    SMC32 = 0x13
    SVC64 = 0x15
    HVC64 = 0x16
    SMC64 = 0x17
    SYS64 = 0x18
    SVE = 0x19
    ERET = 0x1A
    FPAC = 0x1C
    SME = 0x1D
    INSTRUCTION_ABORT_LOWER = 0x20
    INSTRUCTION_ABORT_SAME = 0x21
    PC_ALIGNMENT = 0x22
    DATA_ABORT_LOWER = 0x24
    DATA_ABORT_SAME = 0x25
    SP_ALIGNMENT = 0x26
    MEMORY_OPERATION = 0x27
    FP_TRAP32 = 0x28
    FP_TRAP64 = 0x2C
    SERROR = 0x2F
    BREAKPOINT_LOWER = 0x30
    BREAKPOINT_SAME = 0x31
    STEP_LOWER = 0x32
    STEP_SAME = 0x33
    WATCHPOINT_LOWER = 0x34
    WATCHPOINT_SAME = 0x35
    BKPT32 = 0x38
    VECTOR_CATCH32 = 0x3A
    BRK64 = 0x3C


class Esr(Bits64):
    """ESR_EL2."""

    iss: u32 = bits(24, 0)
    il: bool = bits(25)
    ec: u8 = bits(31, 26)
    iss2: u32 = bits(55, 32)


class AbortIss(Bits64):
    """The ISS of a data abort; an instruction abort has the fields up to `ea` but no `wnr`. `fsc` is DFSC or IFSC."""

    fsc: u8 = bits(5, 0)
    wnr: bool = bits(6)
    s1ptw: bool = bits(7)
    cm: bool = bits(8)
    ea: bool = bits(9)
    fnv: bool = bits(10)
    ar: bool = bits(14)
    sf: bool = bits(15)
    srt: u8 = bits(20, 16)
    sse: bool = bits(21)
    sas: u8 = bits(23, 22)
    isv: bool = bits(24)


TRANSLATION_FAULT: Final = u8(0b000100)
"""AbortIss.fsc without the level, FAULT_LEVEL."""
ACCESS_FLAG_FAULT: Final = u8(0b001000)
PERMISSION_FAULT: Final = u8(0b001100)
FAULT_LEVEL: Final = u8(0b000011)


class Spsr(Bits64):
    """SPSR_EL2 of an AArch64 state, and PSTATE as it is saved there."""

    mode: u8 = bits(4, 0)
    fiq_masked: bool = bits(6)
    irq_masked: bool = bits(7)
    serror_masked: bool = bits(8)
    debug_masked: bool = bits(9)
    btype: u8 = bits(11, 10)
    ssbs: bool = bits(12)
    allint: bool = bits(13)
    il: bool = bits(20)
    ss: bool = bits(21)
    pan: bool = bits(22)
    uao: bool = bits(23)
    dit: bool = bits(24)
    tco: bool = bits(25)
    v: bool = bits(28)
    c: bool = bits(29)
    z: bool = bits(30)
    n: bool = bits(31)


MODE_EL0T: Final = u8(0b00000)
MODE_EL1T: Final = u8(0b00100)
"""EL1 on SP_EL0."""
MODE_EL1H: Final = u8(0b00101)
"""EL1 on SP_EL1."""
MODE_AARCH32: Final = u8(0b10000)
"""Set in every mode of AArch32."""


class Hpfar(Bits64):
    """HPFAR_EL2: bits 51 to 12 of the faulting intermediate physical address."""

    fipa: u64 = bits(43, 4)
    ns: bool = bits(63)


class CurrentEl(Bits64):
    """CurrentEL."""

    el: u8 = bits(3, 2)


ESR_EL2: Final = SysReg(Esr, "ESR_EL2", 3, 4, 5, 2, 0)
FAR_EL2: Final = SysReg(u64, "FAR_EL2", 3, 4, 6, 0, 0)
HPFAR_EL2: Final = SysReg(Hpfar, "HPFAR_EL2", 3, 4, 6, 0, 4)
ELR_EL2: Final = SysReg(u64, "ELR_EL2", 3, 4, 4, 0, 1)
SPSR_EL2: Final = SysReg(Spsr, "SPSR_EL2", 3, 4, 4, 0, 0)
CURRENT_EL: Final = SysReg(CurrentEl, "CurrentEL", 3, 0, 4, 2, 2)
TPIDR_EL2: Final = SysReg(u64, "TPIDR_EL2", 3, 4, 13, 0, 2)
