# SPDX-License-Identifier: Apache-2.0
"""Registers of EL1's stage 1 that a host may write while HCR_EL2.TVM traps them, by the encoding that a syndrome gives (Arm ARM D24.2,
HCR_EL2.TVM). No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.translation import SCTLR_EL1, Sctlr
from delphyne.lang import Bits64, SysReg, bits, u8, u64


class SystemIss(Bits64):
    """ISS of a trapped MSR, MRS or system instruction. `register` is op0, op2, op1, CRn and CRm as one number without Rt and direction."""

    read: bool = bits(0)
    crm: u8 = bits(4, 1)
    rt: u8 = bits(9, 5)
    crn: u8 = bits(13, 10)
    op1: u8 = bits(16, 14)
    op2: u8 = bits(19, 17)
    op0: u8 = bits(21, 20)


class Par(Bits64):
    """PAR_EL1 after an address translation instruction."""

    failed: bool = bits(0)
    stage2: bool = bits(9)
    """Of a failure: it was at stage 2."""
    frame: u64 = bits(47, 12)
    """Of a success: the output address, divided by 4 KiB."""


PAR_EL1: Final = SysReg(Par, "PAR_EL1", 3, 0, 7, 4, 0)
TTBR0_EL1: Final = SysReg(u64, "TTBR0_EL1", 3, 0, 2, 0, 0)
TTBR1_EL1: Final = SysReg(u64, "TTBR1_EL1", 3, 0, 2, 0, 1)
TCR_EL1: Final = SysReg(u64, "TCR_EL1", 3, 0, 2, 0, 2)
AFSR0_EL1: Final = SysReg(u64, "AFSR0_EL1", 3, 0, 5, 1, 0)
AFSR1_EL1: Final = SysReg(u64, "AFSR1_EL1", 3, 0, 5, 1, 1)
ESR_EL1: Final = SysReg(u64, "ESR_EL1", 3, 0, 5, 2, 0)
FAR_EL1: Final = SysReg(u64, "FAR_EL1", 3, 0, 6, 0, 0)
MAIR_EL1: Final = SysReg(u64, "MAIR_EL1", 3, 0, 10, 2, 0)
AMAIR_EL1: Final = SysReg(u64, "AMAIR_EL1", 3, 0, 10, 3, 0)
CONTEXTIDR_EL1: Final = SysReg(u64, "CONTEXTIDR_EL1", 3, 0, 13, 0, 1)
VBAR_EL1: Final = SysReg(u64, "VBAR_EL1", 3, 0, 12, 0, 0)
ELR_EL1: Final = SysReg(u64, "ELR_EL1", 3, 0, 4, 0, 1)
SPSR_EL1: Final = SysReg(u64, "SPSR_EL1", 3, 0, 4, 0, 0)
SP_EL1: Final = SysReg(u64, "SP_EL1", 3, 4, 4, 1, 0)

BARE_REGISTER: Final = u64(0x3F_FC1E)
"""The bits of an ISS that name the register."""


def encoding(op0: int, op1: int, crn: int, crm: int, op2: int) -> u64:
    """The register bits of an ISS, at build time."""
    return u64(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1)


SCTLR_ISS: Final = encoding(3, 0, 1, 0, 0)
TTBR0_ISS: Final = encoding(3, 0, 2, 0, 0)
TTBR1_ISS: Final = encoding(3, 0, 2, 0, 1)
TCR_ISS: Final = encoding(3, 0, 2, 0, 2)
AFSR0_ISS: Final = encoding(3, 0, 5, 1, 0)
AFSR1_ISS: Final = encoding(3, 0, 5, 1, 1)
ESR_ISS: Final = encoding(3, 0, 5, 2, 0)
FAR_ISS: Final = encoding(3, 0, 6, 0, 0)
MAIR_ISS: Final = encoding(3, 0, 10, 2, 0)
AMAIR_ISS: Final = encoding(3, 0, 10, 3, 0)
CONTEXTIDR_ISS: Final = encoding(3, 0, 13, 0, 1)


def write(register: u64, x: u64) -> bool:
    """Writes the EL1 register that the bits of an ISS name; False where TVM does not trap it."""
    if register == SCTLR_ISS:
        SCTLR_EL1.write(Sctlr.of(x))
    elif register == TTBR0_ISS:
        TTBR0_EL1.write(x)
    elif register == TTBR1_ISS:
        TTBR1_EL1.write(x)
    elif register == TCR_ISS:
        TCR_EL1.write(x)
    elif register == MAIR_ISS:
        MAIR_EL1.write(x)
    elif register == AMAIR_ISS:
        AMAIR_EL1.write(x)
    elif register == CONTEXTIDR_ISS:
        CONTEXTIDR_EL1.write(x)
    else:
        return _write_fault(register, x)
    return True


def _write_fault(register: u64, x: u64) -> bool:
    if register == ESR_ISS:
        ESR_EL1.write(x)
    elif register == FAR_ISS:
        FAR_EL1.write(x)
    elif register == AFSR0_ISS:
        AFSR0_EL1.write(x)
    elif register == AFSR1_ISS:
        AFSR1_EL1.write(x)
    else:
        return False
    return True
