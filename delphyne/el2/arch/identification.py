# SPDX-License-Identifier: Apache-2.0
"""What processor this is and what it can do: identification registers (Arm ARM D24.2). No lock, no state.

Fields are integers: each new architecture gives them new values, all of which are legal. Signed fields (FP, AdvSIMD, the granules) say so.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Bits64, SysReg, bits, u8, u16


class Midr(Bits64):
    """MIDR_EL1."""

    revision: u8 = bits(3, 0)
    part: u16 = bits(15, 4)
    architecture: u8 = bits(19, 16)
    variant: u8 = bits(23, 20)
    implementer: u8 = bits(31, 24)


class Mpidr(Bits64):
    """MPIDR_EL1."""

    aff0: u8 = bits(7, 0)
    aff1: u8 = bits(15, 8)
    aff2: u8 = bits(23, 16)
    mt: bool = bits(24)
    u: bool = bits(30)
    aff3: u8 = bits(39, 32)


class Ctr(Bits64):
    """CTR_EL0. The line sizes are log2 of words of four bytes."""

    imin_line: u8 = bits(3, 0)
    l1ip: u8 = bits(15, 14)
    dmin_line: u8 = bits(19, 16)
    erg: u8 = bits(23, 20)
    cwg: u8 = bits(27, 24)
    idc: bool = bits(28)
    dic: bool = bits(29)


class Dczid(Bits64):
    """DCZID_EL0. The block size is log2 of words of four bytes, at most 2 KiB."""

    block: u8 = bits(3, 0)
    prohibited: bool = bits(4)


class IdAa64pfr0(Bits64):
    """ID_AA64PFR0_EL1. `fp` and `advsimd` are signed: 15 means absent."""

    el0: u8 = bits(3, 0)
    el1: u8 = bits(7, 4)
    el2: u8 = bits(11, 8)
    el3: u8 = bits(15, 12)
    fp: u8 = bits(19, 16)
    advsimd: u8 = bits(23, 20)
    gic: u8 = bits(27, 24)
    ras: u8 = bits(31, 28)
    sve: u8 = bits(35, 32)
    amu: u8 = bits(47, 44)
    dit: u8 = bits(51, 48)
    csv2: u8 = bits(59, 56)


class IdAa64isar0(Bits64):
    """ID_AA64ISAR0_EL1: the crypto extensions, atomics, random numbers."""

    aes: u8 = bits(7, 4)
    sha1: u8 = bits(11, 8)
    sha2: u8 = bits(15, 12)
    crc32: u8 = bits(19, 16)
    atomic: u8 = bits(23, 20)
    tlb: u8 = bits(59, 56)
    rndr: u8 = bits(63, 60)


class IdAa64dfr0(Bits64):
    """ID_AA64DFR0_EL1. `pmu` is signed: 15 means a performance monitor of another architecture."""

    debug: u8 = bits(3, 0)
    pmu: u8 = bits(11, 8)
    breakpoints: u8 = bits(15, 12)
    """Their number, less one, as the next."""
    watchpoints: u8 = bits(23, 20)
    profiling: u8 = bits(35, 32)
    trace_filter: u8 = bits(43, 40)
    trace_buffer: u8 = bits(47, 44)
    branch_records: u8 = bits(55, 52)


class Pmcr(Bits64):
    """PMCR_EL0."""

    counters: u8 = bits(15, 11)


class IdAa64mmfr0(Bits64):
    """ID_AA64MMFR0_EL1. `tgran4` is signed: 15 means that there is no 4 KiB granule."""

    pa_range: u8 = bits(3, 0)
    asid_bits: u8 = bits(7, 4)
    tgran16: u8 = bits(23, 20)
    tgran64: u8 = bits(27, 24)
    tgran4: u8 = bits(31, 28)
    tgran4_2: u8 = bits(43, 40)
    fgt: u8 = bits(59, 56)


class IdAa64mmfr1(Bits64):
    """ID_AA64MMFR1_EL1."""

    hafdbs: u8 = bits(3, 0)
    vmid_bits: u8 = bits(7, 4)
    vh: u8 = bits(11, 8)
    hcx: u8 = bits(43, 40)
    ecbhb: u8 = bits(63, 60)


class IdAa64mmfr2(Bits64):
    """ID_AA64MMFR2_EL1."""

    va_range: u8 = bits(19, 16)
    fwb: u8 = bits(43, 40)
    ttl: u8 = bits(51, 48)
    bbm: u8 = bits(55, 52)


MIDR_EL1: Final = SysReg(Midr, "MIDR_EL1", 3, 0, 0, 0, 0)
MPIDR_EL1: Final = SysReg(Mpidr, "MPIDR_EL1", 3, 0, 0, 0, 5)
CTR_EL0: Final = SysReg(Ctr, "CTR_EL0", 3, 3, 0, 0, 1)
DCZID_EL0: Final = SysReg(Dczid, "DCZID_EL0", 3, 3, 0, 0, 7)
ID_AA64PFR0_EL1: Final = SysReg(IdAa64pfr0, "ID_AA64PFR0_EL1", 3, 0, 0, 4, 0)
ID_AA64DFR0_EL1: Final = SysReg(IdAa64dfr0, "ID_AA64DFR0_EL1", 3, 0, 0, 5, 0)
ID_AA64ISAR0_EL1: Final = SysReg(IdAa64isar0, "ID_AA64ISAR0_EL1", 3, 0, 0, 6, 0)
ID_AA64MMFR0_EL1: Final = SysReg(IdAa64mmfr0, "ID_AA64MMFR0_EL1", 3, 0, 0, 7, 0)
ID_AA64MMFR1_EL1: Final = SysReg(IdAa64mmfr1, "ID_AA64MMFR1_EL1", 3, 0, 0, 7, 1)
ID_AA64MMFR2_EL1: Final = SysReg(IdAa64mmfr2, "ID_AA64MMFR2_EL1", 3, 0, 0, 7, 2)
PMCR_EL0: Final = SysReg(Pmcr, "PMCR_EL0", 3, 3, 9, 12, 0)
