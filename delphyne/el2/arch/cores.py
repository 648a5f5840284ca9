# SPDX-License-Identifier: Apache-2.0
"""Processor cores by the implementer and part that MIDR_EL1 gives, for what no identification register says: errata and prediction.

The numbers are each core's technical reference manual's, as Linux collects them (arch/arm64/include/asm/cputype.h). No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.identification import Midr
from delphyne.lang import u8, u32

_ARM = 0x41
_BROADCOM = 0x42
_CAVIUM = 0x43
_HISILICON = 0x48
_NVIDIA = 0x4E
_QUALCOMM = 0x51
_MICROSOFT = 0x6D
_AMPERE = 0xC0


def _core(implementer: int, part: int) -> u32:
    return u32(implementer << 12 | part)


CORTEX_A53: Final = _core(_ARM, 0xD03)
CORTEX_A35: Final = _core(_ARM, 0xD04)
CORTEX_A55: Final = _core(_ARM, 0xD05)
CORTEX_A57: Final = _core(_ARM, 0xD07)
CORTEX_A72: Final = _core(_ARM, 0xD08)
CORTEX_A76: Final = _core(_ARM, 0xD0B)
NEOVERSE_N1: Final = _core(_ARM, 0xD0C)
CORTEX_A77: Final = _core(_ARM, 0xD0D)
CORTEX_A76AE: Final = _core(_ARM, 0xD0E)
NEOVERSE_V1: Final = _core(_ARM, 0xD40)
CORTEX_A78: Final = _core(_ARM, 0xD41)
CORTEX_A78AE: Final = _core(_ARM, 0xD42)
CORTEX_X1: Final = _core(_ARM, 0xD44)
CORTEX_A510: Final = _core(_ARM, 0xD46)
CORTEX_A710: Final = _core(_ARM, 0xD47)
CORTEX_X2: Final = _core(_ARM, 0xD48)
NEOVERSE_N2: Final = _core(_ARM, 0xD49)
CORTEX_A78C: Final = _core(_ARM, 0xD4B)
CORTEX_X1C: Final = _core(_ARM, 0xD4C)
CORTEX_A715: Final = _core(_ARM, 0xD4D)
CORTEX_X3: Final = _core(_ARM, 0xD4E)
NEOVERSE_V2: Final = _core(_ARM, 0xD4F)
CORTEX_A520: Final = _core(_ARM, 0xD80)
CORTEX_A720: Final = _core(_ARM, 0xD81)
CORTEX_X4: Final = _core(_ARM, 0xD82)
NEOVERSE_V3AE: Final = _core(_ARM, 0xD83)
NEOVERSE_V3: Final = _core(_ARM, 0xD84)
CORTEX_X925: Final = _core(_ARM, 0xD85)
C1_ULTRA: Final = _core(_ARM, 0xD8C)
C1_PREMIUM: Final = _core(_ARM, 0xD90)
BRAHMA_B53: Final = _core(_BROADCOM, 0x100)
VULCAN: Final = _core(_BROADCOM, 0x516)
THUNDERX2: Final = _core(_CAVIUM, 0x0AF)
TSV110: Final = _core(_HISILICON, 0xD01)
HIP09: Final = _core(_HISILICON, 0xD02)
OLYMPUS: Final = _core(_NVIDIA, 0x010)
FALKOR_V1: Final = _core(_QUALCOMM, 0x800)
KRYO_2XX_SILVER: Final = _core(_QUALCOMM, 0x801)
KRYO_3XX_SILVER: Final = _core(_QUALCOMM, 0x803)
KRYO_4XX_GOLD: Final = _core(_QUALCOMM, 0x804)
KRYO_4XX_SILVER: Final = _core(_QUALCOMM, 0x805)
KRYO: Final = _core(_QUALCOMM, 0x200)
"""The first Kryo has several parts, which differ in the low byte."""
KRYO_MASK: Final = u32(0xFF_F00)
AZURE_COBALT_100: Final = _core(_MICROSOFT, 0xD49)
"""A Neoverse N2."""
AMPERE1: Final = _core(_AMPERE, 0xAC3)


def core_of(midr: Midr) -> u32:
    """Implementer and part as one number, that of the constants above."""
    return u32(midr.implementer) << 12 | u32(midr.part)


def is_between(midr: Midr, core: u32, first: u8, last: u8) -> bool:
    """Whether this is that core in one of the releases from `first` to `last`: r1p2 is 0x12."""
    release = midr.variant << 4 | midr.revision
    return core_of(midr) == core and first <= release <= last

