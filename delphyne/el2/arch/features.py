# SPDX-License-Identifier: Apache-2.0
"""Which architecture extensions this processor has, as far as EL2 must open or close something for them (Arm ARM D24.2, ID_AA64*).

Each question reads the register again: the answer is this CPU's, and CPUs may differ. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
)
from delphyne.lang import Bits64, SysReg, bits, u8


class IdAa64pfr1(Bits64):
    """ID_AA64PFR1_EL1."""

    bt: u8 = bits(3, 0)
    mte: u8 = bits(11, 8)
    sme: u8 = bits(27, 24)
    csv2_frac: u8 = bits(35, 32)
    nmi: u8 = bits(39, 36)


class IdAa64isar1(Bits64):
    """ID_AA64ISAR1_EL1: pointer authentication by the algorithms of its four fields."""

    apa: u8 = bits(7, 4)
    api: u8 = bits(11, 8)
    gpa: u8 = bits(27, 24)
    gpi: u8 = bits(31, 28)
    ls64: u8 = bits(63, 60)


class IdAa64isar2(Bits64):
    """ID_AA64ISAR2_EL1."""

    gpa3: u8 = bits(11, 8)
    apa3: u8 = bits(15, 12)
    mops: u8 = bits(19, 16)
    clrbhb: u8 = bits(31, 28)


class IdAa64mmfr3(Bits64):
    """ID_AA64MMFR3_EL1."""

    tcrx: u8 = bits(3, 0)


class IdAa64smfr0(Bits64):
    """ID_AA64SMFR0_EL1."""

    fa64: bool = bits(63)


ID_AA64PFR1_EL1: Final = SysReg(IdAa64pfr1, "ID_AA64PFR1_EL1", 3, 0, 0, 4, 1)
ID_AA64SMFR0_EL1: Final = SysReg(IdAa64smfr0, "ID_AA64SMFR0_EL1", 3, 0, 0, 4, 5)
ID_AA64ISAR1_EL1: Final = SysReg(IdAa64isar1, "ID_AA64ISAR1_EL1", 3, 0, 0, 6, 1)
ID_AA64ISAR2_EL1: Final = SysReg(IdAa64isar2, "ID_AA64ISAR2_EL1", 3, 0, 0, 6, 2)
ID_AA64MMFR3_EL1: Final = SysReg(IdAa64mmfr3, "ID_AA64MMFR3_EL1", 3, 0, 0, 7, 3)


def has_gic_registers() -> bool:
    """The GIC CPU interface as system registers (GICv3)."""
    return ID_AA64PFR0_EL1.read().gic != 0


def has_pointer_authentication() -> bool:
    """Any algorithm of FEAT_PAuth, for addresses or generic."""
    first = ID_AA64ISAR1_EL1.read()
    second = ID_AA64ISAR2_EL1.read()
    return first.apa != 0 or first.api != 0 or first.gpa != 0 or first.gpi != 0 or second.apa3 != 0 or second.gpa3 != 0


def has_memory_tags() -> bool:
    """FEAT_MTE2: tags in memory."""
    return ID_AA64PFR1_EL1.read().mte >= 2


def has_sve() -> bool:
    """FEAT_SVE."""
    return ID_AA64PFR0_EL1.read().sve != 0


def has_sme() -> bool:
    """FEAT_SME."""
    return ID_AA64PFR1_EL1.read().sme != 0


def has_profiling() -> bool:
    """FEAT_SPE."""
    return ID_AA64DFR0_EL1.read().profiling != 0


def has_trace_filter() -> bool:
    """FEAT_TRF: TRFCR_EL2 exists."""
    return ID_AA64DFR0_EL1.read().trace_filter != 0


def has_branch_records() -> bool:
    """FEAT_BRBE."""
    return ID_AA64DFR0_EL1.read().branch_records != 0


def can_stop_event_counters() -> bool:
    """FEAT_PMUv3p1: MDCR_EL2.HPMD exists."""
    return 4 <= ID_AA64DFR0_EL1.read().pmu < 15


def can_stop_cycle_counter() -> bool:
    """FEAT_PMUv3p5: MDCR_EL2.HCCD exists."""
    return 6 <= ID_AA64DFR0_EL1.read().pmu < 15


def has_trace_buffer() -> bool:
    """FEAT_TRBE."""
    return ID_AA64DFR0_EL1.read().trace_buffer != 0


def has_fine_grained_traps() -> bool:
    """FEAT_FGT."""
    return ID_AA64MMFR0_EL1.read().fgt != 0


def has_hcrx() -> bool:
    """FEAT_HCX: HCRX_EL2 exists."""
    return ID_AA64MMFR1_EL1.read().hcx != 0


def has_memory_operations() -> bool:
    """FEAT_MOPS."""
    return ID_AA64ISAR2_EL1.read().mops != 0


def has_tcr2() -> bool:
    """FEAT_TCR2."""
    return ID_AA64MMFR3_EL1.read().tcrx != 0


def has_context_number() -> bool:
    """SCXTNUM_ELx exist (FEAT_CSV2_2 or FEAT_CSV2_1p2)."""
    csv2 = ID_AA64PFR0_EL1.read().csv2
    return csv2 >= 2 or (csv2 == 1 and ID_AA64PFR1_EL1.read().csv2_frac >= 2)


def has_forced_write_back() -> bool:
    """FEAT_S2FWB."""
    return ID_AA64MMFR2_EL1.read().fwb != 0


def has_activity_monitors() -> bool:
    """FEAT_AMUv1."""
    return ID_AA64PFR0_EL1.read().amu != 0


def has_clear_history() -> bool:
    """FEAT_CLRBHB: the instruction that clears the branch history."""
    return ID_AA64ISAR2_EL1.read().clrbhb != 0


def exceptions_clear_history() -> bool:
    """FEAT_ECBHB: no branch history survives an exception to a higher level."""
    return ID_AA64MMFR1_EL1.read().ecbhb != 0
