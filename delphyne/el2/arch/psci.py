# SPDX-License-Identifier: Apache-2.0
"""Calls of the firmware: SMC Calling Convention (Arm DEN0028) and PSCI (Arm DEN0022), 64-bit. No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.frame import Frame
from delphyne.lang import Enum8, assembly, u32, u64

PSCI_VERSION: Final = u64(0x8400_0000)
PSCI_FEATURES: Final = u64(0x8400_000A)
PSCI_CPU_ON: Final = u64(0xC400_0003)
PSCI_SYSTEM_OFF: Final = u64(0x8400_0008)
SMCCC_VERSION: Final = u64(0x8000_0000)
SMCCC_ARCH_FEATURES: Final = u64(0x8000_0001)
SMCCC_ARCH_WORKAROUND_1: Final = u64(0x8000_8000)
SMCCC_ARCH_WORKAROUND_2: Final = u64(0x8000_7FFF)
SMCCC_ARCH_WORKAROUND_3: Final = u64(0x8000_3FFF)

PSCI_SUCCESS: Final = u64(0)
NOT_SUPPORTED: Final = u64(0xFFFF_FFFF_FFFF_FFFF)
"""-1, by SMCCC and PSCI alike."""

ABSENT: Final = u32(0xFFFF_FFFF)
NEGATIVE: Final = u32(1 << 31)
PSCI_1_0: Final = u32(1 << 16)
SMCCC_1_1: Final = u32(1 << 16 | 1)

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
def smc_relay(frame: Frame) -> None:
    """The SMC with the frame's x0 to x17, and its results into them. In CPython there is no firmware."""
    frame.x[0] = NOT_SUPPORTED


@assembly
def hvc_call(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
    """HVC with four arguments, for a program at EL1 that finds itself below a hypervisor."""
    return NOT_SUPPORTED


def system_off() -> u64:
    """Turns the machine off. Returns only where the firmware cannot."""
    return smc_call(PSCI_SYSTEM_OFF, u64(0), u64(0), u64(0))


def architecture_feature(function: u64) -> u32:
    """What the firmware says of an SMCCC architecture call on this CPU: ABSENT, or what DEN0028 lets it say of that call, 0 and more.

    Only where the conduit is SMC."""
    if not has_smccc_1_1():
        return ABSENT
    answer = u32.wrap(smc_call(SMCCC_ARCH_FEATURES, function, u64(0), u64(0)))
    return ABSENT if answer & NEGATIVE != 0 else answer


def has_smccc_1_1() -> bool:
    """Whether the firmware answers every number of SMCCC, if only by NOT_SUPPORTED. Only where the conduit is SMC.

    A number that PSCI is not known to answer for may be an undefined instruction to firmware of before SMCCC 1.1, so that each step asks whether
    the next exists (DEN0028, discovery)."""
    if not is_at_least(PSCI_VERSION, PSCI_1_0):
        return False
    if u32.wrap(smc_call(PSCI_FEATURES, SMCCC_VERSION, u64(0), u64(0))) & NEGATIVE != 0:
        return False
    return is_at_least(SMCCC_VERSION, SMCCC_1_1)


def is_at_least(function: u64, least: u32) -> bool:
    """Whether a call that answers with a version answers with this one or a newer."""
    version = u32.wrap(smc_call(function, u64(0), u64(0), u64(0)))
    return version & NEGATIVE == 0 and version >= least
