# SPDX-License-Identifier: Apache-2.0
"""The GICv3 CPU interface as far as EL2 itself must set it up, and the registers of its virtual side (Arm GIC architecture specification IHI 0069,
chapter 12).

Called only where `features.has_gic_registers` says that the registers exist; all but `allow_el1` only where `is_enabled`. No lock: all of it
is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import features
from delphyne.el2.arch.hypervisor import HCR_EL2
from delphyne.lang import Bits64, SysReg, bits, isb, u8, u16, u32, u64


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
    a3v: bool = bits(21)
    seis: bool = bits(22)
    id_bits: u8 = bits(25, 23)
    preemption_bits: u8 = bits(28, 26)
    """Their number, less one: 5, 6 or 7."""
    priority_bits: u8 = bits(31, 29)


class IchVmcr(Bits64):
    """ICH_VMCR_EL2, by its fields: what a guest has set in its interface."""

    veng0: bool = bits(0)
    veng1: bool = bits(1)
    vcbpr: bool = bits(4)
    veoim: bool = bits(9)
    vbpr1: u8 = bits(20, 18)
    vbpr0: u8 = bits(23, 21)
    vpmr: u8 = bits(31, 24)


class IchLr(Bits64):
    """ICH_LR<n>_EL2."""

    vintid: u32 = bits(31, 0)
    pintid: u16 = bits(44, 32)
    """Of a list register with `hw`."""
    priority: u8 = bits(55, 48)
    group1: bool = bits(60)
    hw: bool = bits(61)
    pending: bool = bits(62)
    active: bool = bits(63)


class IchHcr(Bits64):
    """ICH_HCR_EL2, as far as fields of it change here."""

    eoi_count: u8 = bits(31, 27)


ICC_SRE_EL1: Final = SysReg(IccSre, "ICC_SRE_EL1", 3, 0, 12, 12, 5)
ICC_SRE_EL2: Final = SysReg(IccSre, "ICC_SRE_EL2", 3, 4, 12, 9, 5)
ICC_DIR_EL1: Final = SysReg(u64, "ICC_DIR_EL1", 3, 0, 12, 11, 1)
ICH_AP0R0_EL2: Final = SysReg(u64, "ICH_AP0R0_EL2", 3, 4, 12, 8, 0)
ICH_AP0R1_EL2: Final = SysReg(u64, "ICH_AP0R1_EL2", 3, 4, 12, 8, 1)
ICH_AP0R2_EL2: Final = SysReg(u64, "ICH_AP0R2_EL2", 3, 4, 12, 8, 2)
ICH_AP0R3_EL2: Final = SysReg(u64, "ICH_AP0R3_EL2", 3, 4, 12, 8, 3)
ICH_AP1R0_EL2: Final = SysReg(u64, "ICH_AP1R0_EL2", 3, 4, 12, 9, 0)
ICH_AP1R1_EL2: Final = SysReg(u64, "ICH_AP1R1_EL2", 3, 4, 12, 9, 1)
ICH_AP1R2_EL2: Final = SysReg(u64, "ICH_AP1R2_EL2", 3, 4, 12, 9, 2)
ICH_AP1R3_EL2: Final = SysReg(u64, "ICH_AP1R3_EL2", 3, 4, 12, 9, 3)
ICH_HCR_EL2: Final = SysReg(u64, "ICH_HCR_EL2", 3, 4, 12, 11, 0)
ICH_VMCR_EL2: Final = SysReg(u64, "ICH_VMCR_EL2", 3, 4, 12, 11, 7)
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
    for number in u64.range(list_register_count()):
        write_list_register(number, u64(0))


def list_register_count() -> u64:
    """How many list registers there are: 1 to 16."""
    return min(u64(ICH_VTR_EL2.read().list_registers) + 1, u64(16))


def preemption_bits() -> u64:
    """Bits of a priority that decide about preemption: 5, 6 or 7."""
    return min(max(u64(ICH_VTR_EL2.read().preemption_bits) + 1, u64(5)), u64(7))


def priority_register_count() -> u64:
    """How many registers of active priorities each group has, 32 priorities in each: 1, 2 or 4. Those beyond are undefined."""
    return u64(1) << (preemption_bits() - 5)


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


def read_list_register(number: u64) -> u64:
    """ICH_LR<number>_EL2; numbers above 15 read as zero."""
    return _read_low(number) if number < 8 else _read_high(number)


def _read_low(number: u64) -> u64:
    if number == 0:
        return ICH_LR0_EL2.read()
    if number == 1:
        return ICH_LR1_EL2.read()
    if number == 2:
        return ICH_LR2_EL2.read()
    if number == 3:
        return ICH_LR3_EL2.read()
    if number == 4:
        return ICH_LR4_EL2.read()
    if number == 5:
        return ICH_LR5_EL2.read()
    if number == 6:
        return ICH_LR6_EL2.read()
    return ICH_LR7_EL2.read()


def _read_high(number: u64) -> u64:
    if number == 8:
        return ICH_LR8_EL2.read()
    if number == 9:
        return ICH_LR9_EL2.read()
    if number == 10:
        return ICH_LR10_EL2.read()
    if number == 11:
        return ICH_LR11_EL2.read()
    if number == 12:
        return ICH_LR12_EL2.read()
    if number == 13:
        return ICH_LR13_EL2.read()
    if number == 14:
        return ICH_LR14_EL2.read()
    return ICH_LR15_EL2.read() if number == 15 else u64(0)


def read_priorities(group1: bool, number: u64) -> u32:
    """Active priorities of a group, from 32 times `number` on; below `priority_register_count`."""
    return u32.wrap(_read_group1(number) if group1 else _read_group0(number))


def write_priorities(group1: bool, number: u64, x: u32) -> None:
    """The same, set."""
    if group1:
        _write_group1(number, u64(x))
    else:
        _write_group0(number, u64(x))


def _read_group0(number: u64) -> u64:
    if number == 0:
        return ICH_AP0R0_EL2.read()
    if number == 1:
        return ICH_AP0R1_EL2.read()
    return ICH_AP0R2_EL2.read() if number == 2 else ICH_AP0R3_EL2.read()


def _write_group0(number: u64, x: u64) -> None:
    if number == 0:
        ICH_AP0R0_EL2.write(x)
    elif number == 1:
        ICH_AP0R1_EL2.write(x)
    elif number == 2:
        ICH_AP0R2_EL2.write(x)
    else:
        ICH_AP0R3_EL2.write(x)


def _read_group1(number: u64) -> u64:
    if number == 0:
        return ICH_AP1R0_EL2.read()
    if number == 1:
        return ICH_AP1R1_EL2.read()
    return ICH_AP1R2_EL2.read() if number == 2 else ICH_AP1R3_EL2.read()


def _write_group1(number: u64, x: u64) -> None:
    if number == 0:
        ICH_AP1R0_EL2.write(x)
    elif number == 1:
        ICH_AP1R1_EL2.write(x)
    elif number == 2:
        ICH_AP1R2_EL2.write(x)
    else:
        ICH_AP1R3_EL2.write(x)
