# SPDX-License-Identifier: Apache-2.0
"""A protected guest that has enrolled in the MMIO guard gets to those pages of its devices alone that it has mapped (docs/guest-abi.md).

CPU 0 alone does this. However it ends, all devices are mapped afterwards, so that the monitor hears of it. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import calls, device, gic, start, walks
from delphyne.lang import AtomicU64, Order, Pa, u64

PAGE: Final = u64(4096)
GIC_PAGES: Final = u64(256)
"""Of the interrupt controller's window, from the distributor on."""
ENROLL: Final = u64(0xC600_0006)
MAP: Final = u64(0xC600_0007)
UNMAP: Final = u64(0xC600_0008)
IN_RAM: Final = Pa(u64(0x8800_0000))
NOWHERE: Final = Pa(u64(0x0B00_0000))

CAME: Final = AtomicU64()
"""What came of the step that was wrong."""


def first_wrong(seed: u64) -> u64:
    """The first step that did not end as it has to, or 0."""
    wrong = _steps(seed)
    unmapped = _call(MAP, device.BASE)
    for number in u64.range(GIC_PAGES):
        unmapped |= _call(MAP, gic.DISTRIBUTOR + PAGE * number)
    if wrong == 0 and unmapped != calls.SUCCESS:
        return u64(20)
    return wrong


def _steps(seed: u64) -> u64:
    if _call(ENROLL, device.BASE) != calls.SUCCESS:
        return u64(1)
    if _call(UNMAP, device.BASE) != calls.SUCCESS:
        return u64(2)
    if not _is_out_of_reach(device.BASE):
        return u64(3)
    if _call(MAP, IN_RAM) != calls.INVALID or _call(MAP, NOWHERE) != calls.INVALID:
        return u64(4)
    if not _is_out_of_reach(NOWHERE):
        return u64(5)
    if _call(MAP, device.BASE) != calls.SUCCESS:
        return u64(6)
    device.write(device.ECHO, seed)
    if device.read(device.ECHO) != ~seed:
        return u64(7)
    if _call(UNMAP, device.BASE) != calls.SUCCESS:
        return u64(8)
    return u64(0) if _is_out_of_reach(device.BASE) else u64(9)


def _call(function: u64, at: Pa) -> u64:
    return start.hypercall(function, at.raw, u64(0), u64(0))


def _is_out_of_reach(at: Pa) -> bool:
    """A load there is an external abort."""
    came = start.try_load(at.raw)
    CAME.store(came, Order.RELEASE)
    return came >> walks.EC_SHIFT == walks.DATA_ABORT and came & walks.STATUS == walks.EXTERNAL_ABORT
