# SPDX-License-Identifier: Apache-2.0
"""Errata of processors that EL2 must know of while it runs guests: by core and release, as Arm's and other makers' notices say and Linux collects
them (arch/arm64/kernel/cpu_errata.c, arch/arm64/Kconfig). Releases are written as rNpM: r1p2 is 0x12.

What needs no flag, because the code does it on every processor:

- walks of EL1's stage 1 that begin on their own while the registers of two regimes are mixed (1165522, 1319367, 1319537, 1530923): the order of the
  switch, arch/world.py;
- AArch32 registers that are lost when they are loaded after EL1's (852523 of Cortex-A57, 853709 of Cortex-A72): they come first in that order.

What is the host's and its guests' own business, which EL2 neither causes nor hides: 1418040, 1463225, 1542419 (instruction fetch after invalidation
from EL0), 858921 and what concerns memory types that only they use. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import cores
from delphyne.el2.arch.cores import is_between
from delphyne.el2.arch.identification import MIDR_EL1
from delphyne.lang import Array, Bits64, bits, constant, u8, u32, u64


class Errata(Bits64):
    """What this CPU suffers from. It fits a word of `Cpu`."""

    hpfar_unsure: bool = bits(0)
    """834220 of Cortex-A57: a load across two pages that faults at stage 1 may be reported as a fault of stage 2, with an HPFAR_EL2 that means
    nothing. A stage-2 fault that is not of a table walk is real only where AT S1E1R finds its address; otherwise the guest goes on and takes its own
    fault."""
    barrier_before_entry: bool = bits(1)
    """1508412 of Cortex-A77: a read of PAR_EL1 near a load from a device may stop the processor. DMB SY comes before and after each read, and before
    ERET."""
    step_spoils_spsr: bool = bits(2)
    """2077057 of Cortex-A510: a pointer-authentication trap while EL2 steps EL1 may copy SPSR_EL1 into SPSR_EL2, by which EL1 would choose the level
    that EL2 returns to. SPSR_EL2 is then to be taken as it was at the last entry."""
    repeat_invalidation: bool = bits(3)
    """Accesses by a translation may still be in flight when the DSB behind its TLBI has completed (1286807, 2441007, 2441009, 4118414 and its kin,
    Qualcomm's 1009): TLBI and DSB are to be done twice."""
    trap_translation_writes: bool = bits(4)
    """219 of ThunderX2, where threads share a core: a guest's own write of TTBRx_EL1 may fault another thread. HCR_EL2.TVM traps them, and EL2 does
    them."""


_INVALIDATION = [
    cores.CORTEX_A55, cores.CORTEX_A76, cores.CORTEX_A76AE, cores.CORTEX_A77, cores.CORTEX_A78, cores.CORTEX_A78AE, cores.CORTEX_A78C,
    cores.CORTEX_A710, cores.CORTEX_X1, cores.CORTEX_X1C, cores.CORTEX_X2, cores.CORTEX_X3, cores.CORTEX_X4, cores.CORTEX_X925, cores.C1_PREMIUM,
    cores.C1_ULTRA, cores.NEOVERSE_N1, cores.NEOVERSE_N2, cores.NEOVERSE_V1, cores.NEOVERSE_V2, cores.NEOVERSE_V3, cores.NEOVERSE_V3AE, cores.OLYMPUS,
    cores.AZURE_COBALT_100,
]  # fmt: skip
INVALIDATION: Final = constant(Array[u32, len(_INVALIDATION)].of(_INVALIDATION))
"""Cores whose invalidation must be repeated in every release."""


def find() -> Errata:
    """This CPU's errata, by MIDR_EL1."""
    midr = MIDR_EL1.read()
    core = cores.core_of(midr)
    return Errata(
        hpfar_unsure=is_between(midr, cores.CORTEX_A57, u8(0x00), u8(0x12)),
        barrier_before_entry=is_between(midr, cores.CORTEX_A77, u8(0x00), u8(0x10)),
        step_spoils_spsr=is_between(midr, cores.CORTEX_A510, u8(0x00), u8(0x02)),
        repeat_invalidation=_invalidates_late(core)
        or is_between(midr, cores.CORTEX_A510, u8(0x00), u8(0x11))
        or is_between(midr, cores.KRYO_4XX_GOLD, u8(0xCE), u8(0xFE))
        or is_between(midr, cores.FALKOR_V1, u8(0x00), u8(0x00))
        or core & cores.KRYO_MASK == cores.KRYO,
        trap_translation_writes=core == cores.THUNDERX2 or core == cores.VULCAN,
    )


def _invalidates_late(core: u32) -> bool:
    for index in u64.range(INVALIDATION.length):
        if INVALIDATION[index] == core:
            return True
    return False
