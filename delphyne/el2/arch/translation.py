# SPDX-License-Identifier: Apache-2.0
"""Registers of address translation: EL2's own regime, and the switch of EL1's (Arm ARM D24.2); how wide physical addresses are. Descriptors and
stage 2 are in pagetable.py.

No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.identification import ID_AA64MMFR0_EL1
from delphyne.el2.arch.pagetable import Vtcr
from delphyne.lang import Bits64, SysReg, bits, u8, u64


class Sctlr(Bits64):
    """SCTLR_EL1 and SCTLR_EL2: the fields that both have in one place, and `e0e`, which is SCTLR_EL1's alone."""

    m: bool = bits(0)
    a: bool = bits(1)
    c: bool = bits(2)
    sa: bool = bits(3)
    i: bool = bits(12)
    wxn: bool = bits(19)
    e0e: bool = bits(24)
    ee: bool = bits(25)


SCTLR_EL1_RES1: Final = u64(0x30D0_0800)
"""SCTLR_EL1 with everything off: the bits that ARMv8.0 reads as one."""
SCTLR_EL2_RES1: Final = u64(0x30C5_0830)
"""SCTLR_EL2 with everything off."""


class Tcr2(Bits64):
    """TCR_EL2 without E2H. `res1_31` and `res1_23` are to be set."""

    t0sz: u8 = bits(5, 0)
    irgn0: u8 = bits(9, 8)
    orgn0: u8 = bits(11, 10)
    sh0: u8 = bits(13, 12)
    tg0: u8 = bits(15, 14)
    ps: u8 = bits(18, 16)
    tbi: bool = bits(20)
    res1_23: bool = bits(23)
    ds: bool = bits(32)
    res1_31: bool = bits(31)


SCTLR_EL1: Final = SysReg(Sctlr, "SCTLR_EL1", 3, 0, 1, 0, 0)
VTCR_EL2: Final = SysReg(Vtcr, "VTCR_EL2", 3, 4, 2, 1, 2)


def physical_size() -> u8:
    """This processor's PARange, as TCR_EL2.PS and VTCR_EL2.PS take it: at most 48 bits."""
    return min(ID_AA64MMFR0_EL1.read().pa_range, u8(5))


def physical_bits() -> u64:
    """This processor's physical address bits: at most 48."""
    size = physical_size()
    if size == 0:
        return u64(32)
    if size == 1:
        return u64(36)
    if size == 2:
        return u64(40)
    if size == 3:
        return u64(42)
    return u64(44) if size == 4 else u64(48)
