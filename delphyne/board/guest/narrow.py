# SPDX-License-Identifier: Apache-2.0
"""A protected guest that runs AArch32 at EL0, which its identification registers deny and no register of EL2's takes away where a processor has it
(catalogue line G2). Every program comes back to EL1 by an exception that a processor gives, those that EL2 traps among them.

The table of level 1 at ROOT is the usual one, but for memory and device being EL0's too. CPU 0 alone does this, and translates by it while it does.
No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import device, start
from delphyne.lang import Array, AtomicU64, Order, Pa, SysReg, constant, isb, mmio_read64, mmio_write32, mmio_write64, u32, u64

CNTKCTL_EL1: Final = SysReg(u64, "CNTKCTL_EL1", 3, 0, 14, 1, 0)
ALL_COUNTERS: Final = u64(0x303)
"""EL0 uses both timers and both counters, as far as EL1 has a say."""
PAGE: Final = u64(4096)
CODE: Final = Pa(u64(0x8000_0000))
ROOT: Final = CODE + PAGE
MEMORY: Final = u64(2)
"""The entry of ROOT for the GiB that has CODE."""
FOR_EL0: Final = u64(0x40)
"""AP[1] of a leaf. What EL0 may write EL1 does not execute."""
EC_SHIFT: Final = u64(26)
UNDEFINED, WAIT, CP15, CP15_WIDE, CP14, CP14_MEMORY, SVC, DATA_ABORT, BREAKPOINT = 0, 1, 3, 4, 5, 6, 0x11, 0x24, 0x38
EQUAL: Final = u64(1)
"""Of the SVC by which a program says that it found what it should."""
_LEAVE = 0xEF00_0007  # SVC #7
_PROGRAMS: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((0xEF00_0000,), (SVC,)),  # SVC #0
    ((0xE7F0_00F0,), (UNDEFINED,)),  # UDF #0
    ((0xEE10_0F10,), (UNDEFINED,)),  # MRC p15, 0, r0, c0, c0, 0: MIDR
    ((0xEE11_0F10,), (UNDEFINED,)),  # MRC p15, 0, r0, c1, c0, 0: SCTLR
    ((0xEE1F_0F10,), (UNDEFINED, CP15)),  # MRC p15, 0, r0, c15, c0, 0: nobody's
    ((0xEE19_0F1C,), (UNDEFINED, CP15)),  # MRC p15, 0, r0, c9, c12, 0: PMCR
    ((0xEE09_0F1C,), (UNDEFINED, CP15)),  # MCR of it
    ((0xEE1D_0F70,), (SVC,)),  # MRC p15, 0, r0, c13, c0, 3: TPIDRURO
    ((0xEC51_0F1E,), (SVC,)),  # MRRC p15, 1, r0, r1, c14: CNTVCT
    ((0xEC51_0F0E,), (SVC, UNDEFINED)),  # MRRC p15, 0, r0, r1, c14: CNTPCT
    ((0xEE0E_0F32,), (UNDEFINED,)),  # MCR p15, 0, r0, c14, c2, 1: CNTP_CTL, which EL2 has trapped
    ((0xEE1E_0F12,), (UNDEFINED,)),  # MRC p15, 0, r0, c14, c2, 0: CNTP_TVAL
    ((0xEC51_0F2E,), (UNDEFINED,)),  # MRRC p15, 2, r0, r1, c14: CNTP_CVAL
    ((0xEE10_0E10,), (UNDEFINED, CP14, SVC)),  # MRC p14, 0, r0, c0, c0, 0: DBGDIDR
    ((0xEE10_0E15,), (UNDEFINED, CP14, SVC)),  # MRC p14, 0, r0, c0, c5, 0: DBGDTRRXint
    ((0xECA1_5E01,), (UNDEFINED, CP14_MEMORY, DATA_ABORT)),  # STC p14, c5, [r1], #4
    ((0xE140_0070,), (UNDEFINED,)),  # HVC #0
    ((0xE160_0070,), (UNDEFINED,)),  # SMC #0
    ((0xE120_0070,), (BREAKPOINT,)),  # BKPT #0
    ((0xE320_F003,), (WAIT, SVC)),  # WFI
    ((0xE320_F002,), (WAIT, SVC)),  # WFE
    ((0xF220_0840,), (SVC,)),  # VADD.I32 q0, q0, q0
    ((0xEEF0_0A10,), (UNDEFINED,)),  # VMRS r0, FPSID
    ((0xE250_0001, 0x1AFF_FFFD), (SVC,)),  # SUBS r0, r0, #1; BNE to it: interrupts come meanwhile
    ((0xE891_000C,), (DATA_ABORT,)),  # LDM r1, {r2, r3}, of the device: nobody can tell what it is
    # STR r0, [r1]; LDR r2, [r1]; MVN r2, r2; CMP r2, r0; SVCEQ #1
    ((0xE581_0000, 0xE591_2000, 0xE1E0_2002, 0xE152_0000, 0x0F00_0001), (SVC,)),
)
ROW: Final = u64(6)
"""Words of a program; what is left of them is SVC #7."""
_ROWS = [(*words, *(_LEAVE for _ in range(6 - len(words)))) for words, _ in _PROGRAMS]
WORDS: Final = constant(Array[u32, 6 * len(_PROGRAMS)].of(word for row in _ROWS for word in row))
ENDS: Final = constant(Array[u64, len(_PROGRAMS)].of(sum(1 << ec for ec in ends) for _, ends in _PROGRAMS))
"""The exception classes that each may come back by, a bit for each."""
LAST: Final = u64(len(_PROGRAMS) - 1)
"""What it wrote to the monitor's device, and what came back, it has to have compared."""
ROUNDS: Final = u64(1 << 22)
"""What r0 holds in the beginning."""

CAME: Final = AtomicU64()
"""What came of the first one that was wrong."""


def first_wrong() -> u64:
    """The first program, counted from 1, that did not end as it has to; 0 where there is none."""
    usual = Pa(start.usual_table())
    for at in u64.range(0, PAGE, 8):
        mmio_write64(ROOT + at, mmio_read64(usual + at))
    mmio_write64(ROOT, mmio_read64(usual) | FOR_EL0)
    mmio_write64(ROOT + MEMORY * 8, mmio_read64(usual + MEMORY * 8) | FOR_EL0)
    counters = CNTKCTL_EL1.read()
    CNTKCTL_EL1.write(ALL_COUNTERS)
    isb()
    start.use_table(ROOT.raw)
    wrong = _programs()
    start.use_table(start.usual_table())
    CNTKCTL_EL1.write(counters)
    isb()
    return wrong


def _programs() -> u64:
    for number in u64.range(ENDS.length):
        for word in u64.range(ROW):
            mmio_write32(CODE + word * 4, WORDS[number * ROW + word])
        came = start.try_narrow(CODE.raw, ROUNDS, device.BASE.raw)
        if ENDS[number] >> (came >> EC_SHIFT) & 1 == 0 or (number == LAST and came & 0xFFFF != EQUAL):
            CAME.store(came, Order.RELEASE)
            return number + 1
    return u64(0)
