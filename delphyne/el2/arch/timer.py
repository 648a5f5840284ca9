# SPDX-License-Identifier: Apache-2.0
"""The system counter, for waiting that has an end (Arm ARM D12). No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.lang import SysReg, isb, u64, wrap_sub

CNTPCT_EL0: Final = SysReg(u64, "CNTPCT_EL0", 3, 3, 14, 0, 1)
CNTFRQ_EL0: Final = SysReg(u64, "CNTFRQ_EL0", 3, 3, 14, 0, 0)

FALLBACK_HZ: Final = u64(1_000_000_000)
"""Taken where firmware left CNTFRQ_EL0 at 0: no counter is faster, so that waiting is never too short."""


def now() -> u64:
    """The counter. The barrier keeps a read from being made early, so that a later one is never smaller."""
    isb()
    return CNTPCT_EL0.read()


def ticks(milliseconds: u64) -> u64:
    """The counter's steps in that time, which is at most 60,000 ms. CNTFRQ_EL0 has 32 bits that count."""
    hertz = CNTFRQ_EL0.read() & u64(0xFFFF_FFFF)
    if hertz == 0:
        hertz = FALLBACK_HZ
    return hertz * min(milliseconds, u64(60_000)) // 1000


def has_passed(start: u64, duration: u64) -> bool:
    """Whether `duration` steps have passed since the counter read `start`; also where it runs backwards, as on a few processors with errata."""
    return wrap_sub(now(), start) >= duration
