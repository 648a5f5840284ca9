# SPDX-License-Identifier: Apache-2.0
"""The order of bytes of a guest's data accesses, which is the guest's own choice. No lock: this CPU's registers."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.exception import MODE_AARCH32, MODE_EL0T, SPSR_EL2
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.lang import u64

AARCH32_E: Final = u64(1 << 9)
"""PSTATE.E as SPSR_EL2 has it of an AArch32 state (Arm ARM D19.2)."""


def is_big_endian() -> bool:
    """Of the guest that has left, whose registers are in the processor (Arm ARM J1.3, BigEndian)."""
    state = SPSR_EL2.read()
    if state.mode & MODE_AARCH32 != 0:
        return state.raw & AARCH32_E != 0
    control = SCTLR_EL1.read()
    return control.e0e if state.mode == MODE_EL0T else control.ee


def swapped(x: u64, size: u64) -> u64:
    """The lowest 2**size bytes of `x` in the other order, and zeroes above them; `size` is at most 3."""
    count = u64(1) << size
    result = u64(0)
    for number in u64.range(count):
        result |= (x >> (8 * number) & 0xFF) << (8 * (count - 1 - number))
    return result
