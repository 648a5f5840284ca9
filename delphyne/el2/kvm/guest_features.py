# SPDX-License-Identifier: Apache-2.0
"""What a protected guest is told of SMCCC's architecture calls (Arm DEN0028), and what those that work around a processor's weakness do for it.

A guest's call of WORKAROUND_1 or WORKAROUND_3 is an exit, and each exit does what the CPU needs (`mitigate` in el2.S) before anything is answered: so
there is nothing left to do here. The answers are about all CPUs that run guests, since the host may move the guest to any of them.

No lock.
"""

from __future__ import annotations

from delphyne.el2.arch import mitigation, psci
from delphyne.el2.arch.mitigation import Standing
from delphyne.el2.guest import abi
from delphyne.lang import Order, u64


def feature(asked: u64) -> u64:
    """SMCCC_ARCH_FEATURES of the function `asked`, of which the low half counts: whether it may be called. WORKAROUND_2 is not offered: the
    firmware's state of it is the host's (`entry/firmware.py`)."""
    function = asked & 0xFFFF_FFFF
    if function == abi.SMCCC_VERSION or function == psci.SMCCC_ARCH_FEATURES:
        return abi.SUCCESS
    match _standing(function):
        case Standing.UNAFFECTED:
            return abi.UNAFFECTED
        case Standing.MITIGATED:
            return abi.SUCCESS
        case Standing.VULNERABLE:
            return abi.NOT_SUPPORTED


def call(function: u64) -> u64:
    """A call of a workaround, which this exit has done; NOT_SUPPORTED for one that is not offered, and for any other function."""
    return abi.NOT_SUPPORTED if _standing(function) is Standing.VULNERABLE else abi.SUCCESS


def _standing(function: u64) -> Standing:
    """VULNERABLE too for what is no workaround of EL2's."""
    if function == psci.SMCCC_ARCH_WORKAROUND_1:
        return mitigation.worst(mitigation.TARGETS.load(Order.RELAXED))
    if function == psci.SMCCC_ARCH_WORKAROUND_3:
        return mitigation.worst(mitigation.HISTORY.load(Order.RELAXED))
    return Standing.VULNERABLE
