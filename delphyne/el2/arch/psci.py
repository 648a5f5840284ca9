# SPDX-License-Identifier: Apache-2.0
"""Calls of the firmware: SMC Calling Convention (Arm DEN0028) and PSCI (Arm DEN0022), 64-bit. No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Enum8, assembly, u64

PSCI_CPU_ON: Final = u64(0xC400_0003)
PSCI_SYSTEM_OFF: Final = u64(0x8400_0008)

PSCI_SUCCESS: Final = u64(0)
NOT_SUPPORTED: Final = u64(0xFFFF_FFFF_FFFF_FFFF)
"""-1, by SMCCC and PSCI alike."""

AFFINITY_MASK: Final = u64(0xFF_00FF_FFFF)
"""The bits of MPIDR_EL1 that PSCI takes as a target: Aff3 to Aff0."""


class Conduit(Enum8):
    """How the device tree says that PSCI is called."""

    NONE = 0
    SMC = 1
    HVC = 2


@assembly
def smc_call(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
    """SMC with four arguments; the first result. In CPython there is no firmware."""
    return NOT_SUPPORTED


@assembly
def hvc_call(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
    """HVC with four arguments, for a program at EL1 that finds itself below a hypervisor."""
    return NOT_SUPPORTED


def system_off() -> u64:
    """Turns the machine off. Returns only where the firmware cannot."""
    return smc_call(PSCI_SYSTEM_OFF, u64(0), u64(0), u64(0))
