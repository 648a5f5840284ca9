# SPDX-License-Identifier: Apache-2.0
"""The GICv3 CPU interface as far as EL2 itself must set it up (Arm GIC architecture specification IHI 0069, chapter 12).

Called only where `features.has_gic_registers` says that the registers exist; all but `allow_el1` only where `is_enabled`. No lock: all of it
is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import features
from delphyne.el2.arch.hypervisor import HCR_EL2
from delphyne.lang import Bits64, SysReg, bits, isb, u8, u64


class IccSre(Bits64):
    """ICC_SRE_EL1 and ICC_SRE_EL2; `enable` is EL2's: EL1 may use its own."""

    sre: bool = bits(0)
    dfb: bool = bits(1)
    dib: bool = bits(2)
    enable: bool = bits(3)


class IchVtr(Bits64):
    """ICH_VTR_EL2."""

    list_registers: u8 = bits(4, 0)
    """Their number, less one."""
    preemption_bits: u8 = bits(28, 26)


ICC_SRE_EL1: Final = SysReg(IccSre, "ICC_SRE_EL1", 3, 0, 12, 12, 5)
ICC_SRE_EL2: Final = SysReg(IccSre, "ICC_SRE_EL2", 3, 4, 12, 9, 5)
ICH_HCR_EL2: Final = SysReg(u64, "ICH_HCR_EL2", 3, 4, 12, 11, 0)
ICH_VTR_EL2: Final = SysReg(IchVtr, "ICH_VTR_EL2", 3, 4, 12, 11, 1)
ICH_LR0_EL2: Final = SysReg(u64, "ICH_LR0_EL2", 3, 4, 12, 12, 0)
ICH_LR1_EL2: Final = SysReg(u64, "ICH_LR1_EL2", 3, 4, 12, 12, 1)
ICH_LR2_EL2: Final = SysReg(u64, "ICH_LR2_EL2", 3, 4, 12, 12, 2)
ICH_LR3_EL2: Final = SysReg(u64, "ICH_LR3_EL2", 3, 4, 12, 12, 3)
ICH_LR4_EL2: Final = SysReg(u64, "ICH_LR4_EL2", 3, 4, 12, 12, 4)
ICH_LR5_EL2: Final = SysReg(u64, "ICH_LR5_EL2", 3, 4, 12, 12, 5)
ICH_LR6_EL2: Final = SysReg(u64, "ICH_LR6_EL2", 3, 4, 12, 12, 6)
ICH_LR7_EL2: Final = SysReg(u64, "ICH_LR7_EL2", 3, 4, 12, 12, 7)
ICH_LR8_EL2: Final = SysReg(u64, "ICH_LR8_EL2", 3, 4, 12, 13, 0)
ICH_LR9_EL2: Final = SysReg(u64, "ICH_LR9_EL2", 3, 4, 12, 13, 1)
ICH_LR10_EL2: Final = SysReg(u64, "ICH_LR10_EL2", 3, 4, 12, 13, 2)
ICH_LR11_EL2: Final = SysReg(u64, "ICH_LR11_EL2", 3, 4, 12, 13, 3)
ICH_LR12_EL2: Final = SysReg(u64, "ICH_LR12_EL2", 3, 4, 12, 13, 4)
ICH_LR13_EL2: Final = SysReg(u64, "ICH_LR13_EL2", 3, 4, 12, 13, 5)
ICH_LR14_EL2: Final = SysReg(u64, "ICH_LR14_EL2", 3, 4, 12, 13, 6)
ICH_LR15_EL2: Final = SysReg(u64, "ICH_LR15_EL2", 3, 4, 12, 13, 7)

GICV2_COMPATIBLE: Final = u64(1 << 63)
"""In the answer to the host: system-register access can be turned off, so a GICv2 guest can run."""


def allow_el1() -> None:
    """System-register access for EL2 and EL1, and no virtual interrupts (Linux Documentation/arm64/booting.rst, GICv3)."""
    ICC_SRE_EL2.write(IccSre(sre=True, dfb=True, dib=True, enable=True))
    isb()
    if is_enabled():
        ICH_HCR_EL2.write(u64(0))


def is_enabled() -> bool:
    """Whether EL2 may use these registers: firmware that serves a GICv2 keeps SRE at 0, and the ICH registers are then undefined."""
    return features.has_gic_registers() and ICC_SRE_EL2.read().sre


def describe() -> u64:
    """ICH_VTR_EL2, and GICV2_COMPATIBLE where this interface can do without system registers.

    With IMO, FMO and AMO set an access to ICC_SRE_EL1 is of the virtual interface, which is the one that matters (IHI 0069, ICC_SRE_EL1)."""
    before = HCR_EL2.read()
    HCR_EL2.write(before.replace(amo=True, fmo=True, imo=True))
    isb()
    host = ICC_SRE_EL1.read()
    ICC_SRE_EL1.write(IccSre())
    isb()
    fixed = ICC_SRE_EL1.read().sre
    ICC_SRE_EL1.write(host)
    isb()
    HCR_EL2.write(before)
    isb()
    configuration = ICH_VTR_EL2.read().raw
    return configuration if fixed else configuration | GICV2_COMPATIBLE


def clear_list_registers() -> None:
    """Every list register this interface has becomes empty."""
    for number in u64.range(u64(ICH_VTR_EL2.read().list_registers) + 1):
        write_list_register(number, u64(0))


def write_list_register(number: u64, x: u64) -> None:
    """ICH_LR<number>_EL2; numbers above 15 do nothing."""
    if number < 8:
        _write_low(number, x)
    else:
        _write_high(number, x)


def _write_low(number: u64, x: u64) -> None:
    if number == 0:
        ICH_LR0_EL2.write(x)
    elif number == 1:
        ICH_LR1_EL2.write(x)
    elif number == 2:
        ICH_LR2_EL2.write(x)
    elif number == 3:
        ICH_LR3_EL2.write(x)
    elif number == 4:
        ICH_LR4_EL2.write(x)
    elif number == 5:
        ICH_LR5_EL2.write(x)
    elif number == 6:
        ICH_LR6_EL2.write(x)
    else:
        ICH_LR7_EL2.write(x)


def _write_high(number: u64, x: u64) -> None:
    if number == 8:
        ICH_LR8_EL2.write(x)
    elif number == 9:
        ICH_LR9_EL2.write(x)
    elif number == 10:
        ICH_LR10_EL2.write(x)
    elif number == 11:
        ICH_LR11_EL2.write(x)
    elif number == 12:
        ICH_LR12_EL2.write(x)
    elif number == 13:
        ICH_LR13_EL2.write(x)
    elif number == 14:
        ICH_LR14_EL2.write(x)
    elif number == 15:
        ICH_LR15_EL2.write(x)
