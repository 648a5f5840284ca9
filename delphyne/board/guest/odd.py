# SPDX-License-Identifier: Apache-2.0
"""Instructions and calls of a protected guest that are not its business: extensions that it has not got, registers of EL2, of counters, of trace and
of profiling, numbers that no firmware knows (catalogue line G2). Each ends at once, in the way that a processor or firmware without it would end it.

CPU 0 alone does this. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import start
from delphyne.lang import Array, AtomicU64, Order, SysReg, constant, isb, u64

CPACR_EL1: Final = SysReg(u64, "CPACR_EL1", 3, 0, 1, 0, 2)
ALL_ALLOWED: Final = u64(0x0333_0000)
"""FPEN, ZEN and SMEN: no vector instruction traps to EL1, so that what comes of it is EL2's to say."""
EC_SHIFT: Final = u64(26)
NOT_SUPPORTED: Final = u64(0xFFFF_FFFF_FFFF_FFFF)

_UNDEFINED = (
    0x0000_0000,  # UDF
    0x04BF_5020,  # RDVL X0, #1 (SVE)
    0xD53B_4240,  # MRS X0, SVCR (SME)
    0xD518_2100,  # MSR APIAKeyLo_EL1, X0
    0xD538_2300,  # MRS X0, APGAKeyLo_EL1
    0xD538_10C0,  # MRS X0, GCR_EL1 (MTE)
    0xD538_10A0,  # MRS X0, RGSR_EL1
    0xF83F_9020,  # ST64B X0, [X1]
    0xD53B_9C00,  # MRS X0, PMCR_EL0
    0xD53B_9D00,  # MRS X0, PMCCNTR_EL0
    0xD51B_9C20,  # MSR PMCNTENSET_EL0, X0
    0xD538_A400,  # MRS X0, LORSA_EL1
    0xD538_5300,  # MRS X0, ERRIDR_EL1
    0xD538_1220,  # MRS X0, TRFCR_EL1
    0xD538_9A20,  # MRS X0, PMBPTR_EL1
    0xD518_9A00,  # MSR PMBLIMITR_EL1, X0
    0xD538_9900,  # MRS X0, PMSCR_EL1
    0xD538_9B20,  # MRS X0, TRBPTR_EL1
    0xD53B_D200,  # MRS X0, AMCR_EL0
    0xD53C_1100,  # MRS X0, HCR_EL2
    0xD51C_2100,  # MSR VTTBR_EL2, X0
    0xD51C_C000,  # MSR VBAR_EL2, X0
    0xD50C_871F,  # TLBI ALLE2
    0xD50C_87DF,  # TLBI VMALLS12E1
    0xD50C_7880,  # AT S12E1R, X0
    0xD53E_1100,  # MRS X0, SCR_EL3
    0xD4A0_0002,  # DCPS2
)
UNDEFINED: Final = constant(Array[u64, len(_UNDEFINED)].of(_UNDEFINED))
"""Undefined on every processor that a guest of this kind runs on."""
_DONE = (
    0xD503_201F,  # NOP
    0xD503_245F,  # BTI C
    0xD503_233F,  # PACIASP, whose keys are off
    0xD503_22BF,  # a hint without a meaning
    0xD530_0240,  # MRS X0, MDSCR_EL1
    0xD510_0080,  # MSR DBGBVR0_EL1, X0
    0xD510_1080,  # MSR OSLAR_EL1, X0
    0xD508_7640,  # DC ISW, X0
    0xD508_7E40,  # DC CISW, X0
    0xD538_1020,  # MRS X0, ACTLR_EL1
    0xD53B_E040,  # MRS X0, CNTVCT_EL0
)
DONE: Final = constant(Array[u64, len(_DONE)].of(_DONE))
"""Done or ignored."""
_ANY = (
    0xD503_1020,  # WFIT X0
    0xD503_1000,  # WFET X0
    0x9AC0_1000,  # IRG X0, X0
    0xD538_D0E0,  # MRS X0, SCXTNUM_EL1
    0xD53B_2400,  # MRS X0, RNDR
    0xD538_2060,  # MRS X0, TCR2_EL1
    0xD400_0001,  # SVC
    0xD420_0000,  # BRK
    0xD440_0000,  # HLT
    0xD500_419F,  # MSR PAN, #1
    0xD500_409F,  # MSR PAN, #0: memory of EL0's (`narrow`) is EL1's too again
)
ANY: Final = constant(Array[u64, len(_ANY)].of(_ANY))
"""Each processor has its own end for these, and each is one."""
HVC: Final = u64(0xD400_0002)
SMC: Final = u64(0xD400_0003)
_IMMEDIATES = (0, 1, 0x7F, 0x4B4, 0xEA1, 0x7FFF, 0x8000, 0xFFFF)
IMMEDIATES: Final = constant(Array[u64, len(_IMMEDIATES)].of(_IMMEDIATES))
"""Xen's among them (0xEA1)."""
_BASES = (
    0x0000_0000, 0x8000_0100, 0x8100_0000, 0x8200_0000, 0x8300_0000, 0x8400_0060, 0x8500_0000, 0x8600_0010, 0x8700_0000, 0xB000_0000, 0xB200_0000,
    0xBF00_0000, 0xC000_0000, 0xC100_0000, 0xC200_0000, 0xC300_0000, 0xC400_0060, 0xC500_0000, 0xC600_0010, 0xC700_0000, 0xF000_0000, 0xF200_0000,
    0x0400_0000, 0x4400_0000,
)  # fmt: skip
BASES: Final = constant(Array[u64, len(_BASES)].of(_BASES))
"""Of 16 function numbers each that nobody offers to a guest: fast and yielding, of every owner, those of the host's own calls among them."""

CAME: Final = AtomicU64()
"""What came of the first one that was wrong."""


def first_wrong() -> u64:
    """The first instruction, or function number, that did not end as it has to; 0 where there is none."""
    usual = CPACR_EL1.read()
    CPACR_EL1.write(ALL_ALLOWED)
    isb()
    wrong = _instructions()
    CPACR_EL1.write(usual)
    isb()
    return wrong if wrong != 0 else _calls()


def _is_undefined(syndrome: u64) -> bool:
    return syndrome != 0 and syndrome >> EC_SHIFT == 0


def _instructions() -> u64:
    for number in u64.range(UNDEFINED.length):
        came = start.try_word(UNDEFINED[number], u64(0))
        if not _is_undefined(came):
            CAME.store(came, Order.RELEASE)
            return UNDEFINED[number] + 1
    for number in u64.range(DONE.length):
        came = start.try_word(DONE[number], u64(0))
        if came != 0:
            CAME.store(came, Order.RELEASE)
            return DONE[number]
    for number in u64.range(ANY.length):
        start.try_word(ANY[number], u64(0))
    return u64(0)


def _calls() -> u64:
    """By both instructions, with each immediate, and by each number."""
    for number in u64.range(IMMEDIATES.length):
        for instruction in u64.range(HVC, SMC + 1):
            came = start.try_word(instruction | IMMEDIATES[number] << 5, NOT_SUPPORTED)
            if came != 0:
                CAME.store(came, Order.RELEASE)
                return instruction | IMMEDIATES[number] << 5
    for number in u64.range(BASES.length):
        for low in u64.range(16):
            function = BASES[number] + low
            came = start.hypercall(function, u64(1), u64(2), u64(3))
            if came == NOT_SUPPORTED:
                came = start.firmware_call(function, u64(1), u64(2), u64(3))
            if came != NOT_SUPPORTED:
                CAME.store(came, Order.RELEASE)
                return function
    return u64(0)
