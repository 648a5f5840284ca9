# SPDX-License-Identifier: Apache-2.0
"""What a protected guest reads from the identification registers (Arm ARM D24.2, ID_AA64*): the processor's own answers, less what the guest does not
get. The host has no say in them.

A field that is not in KEPT reads as zero, so that what a newer processor adds stays hidden until somebody has thought about it. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.arch.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
)
from delphyne.lang import SysReg, u64

ID_AA64PFR1_EL1: Final = SysReg(u64, "ID_AA64PFR1_EL1", 3, 0, 0, 4, 1)
ID_AA64ISAR1_EL1: Final = SysReg(u64, "ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1)

ADDRESS_BITS_40: Final = u64(2)
"""ID_AA64MMFR0_EL1.PARange: as many bits as a shadow has at least."""


def _fields(*lowest: int) -> u64:
    """Fields of four bits, by their lowest."""
    return u64(sum(0xF << bit for bit in lowest))


PFR0: Final = _fields(16, 20, 24, 48, 56, 60)
"""FP, AdvSIMD, GIC, DIT, CSV2, CSV3."""
PFR0_LEVELS: Final = u64(0x11)
"""EL0 and EL1 in AArch64 only; no EL2, no EL3."""
PFR1: Final = _fields(4)
"""SSBS."""
DFR0: Final = u64(0x0010_1006)
"""Debug of ARMv8.0 with two breakpoints and two watchpoints, none of which can be set; no monitors, no trace."""
ISAR0: Final = _fields(4, 8, 12, 16, 20, 28, 32, 36, 40, 44, 48, 52, 56, 60)
"""All but FEAT_TME."""
ISAR1: Final = _fields(0, 12, 16, 20, 32, 36, 44, 48, 52)
"""DPB, JSCVT, FCMA, LRCPC, FRINTTS, SB, BF16, DGH, I8MM."""
MMFR0: Final = _fields(4, 12, 20, 24, 28, 44)
"""ASIDBits, SNSMem, the granules of stage 1, ExS."""
MMFR1: Final = _fields(0, 12, 20, 24, 36, 60)
"""HAFDBS, HPDS, PAN, SpecSEI, ETS, ECBHB."""
MMFR2: Final = _fields(0, 4, 8, 16, 20, 28, 32, 36, 48, 52, 60)
"""CnP, UAO, LSM, VARange, CCIDX, ST, AT, IDS, TTL, BBM, E0PD."""


def is_identification(iss: SystemIss) -> bool:
    """Whether this is one of the registers that HCR_EL2.TID3 traps in AArch64: op0 3, op1 0, CRn 0, CRm 1 to 7."""
    return iss.op0 == 3 and iss.op1 == 0 and iss.crn == 0 and 1 <= iss.crm <= 7


def read(iss: SystemIss) -> u64:
    """What the guest reads there. Registers of AArch32 and those that are not named here read as zero."""
    number = u64(iss.crm) * 8 + u64(iss.op2)
    if number == 32:
        return (ID_AA64PFR0_EL1.read().raw & PFR0) | PFR0_LEVELS
    if number == 33:
        return ID_AA64PFR1_EL1.read() & PFR1
    if number == 40:
        return DFR0 if ID_AA64DFR0_EL1.read().debug >= 6 else u64(0)
    if number == 48:
        return ID_AA64ISAR0_EL1.read().raw & ISAR0
    if number == 49:
        return ID_AA64ISAR1_EL1.read() & ISAR1
    if number == 56:
        granted = ID_AA64MMFR0_EL1.read()
        return (granted.raw & MMFR0) | min(u64(granted.pa_range), ADDRESS_BITS_40)
    if number == 57:
        return ID_AA64MMFR1_EL1.read().raw & MMFR1
    if number == 58:
        return ID_AA64MMFR2_EL1.read().raw & MMFR2
    return u64(0)
