# SPDX-License-Identifier: Apache-2.0
"""The end of EL2: once STOPPING is set, no CPU does anything more for a host or guest.

The CPU that fails sets it; every other CPU sees it at its next exception to EL2, or in `lock_acquire` while it waits for a lock that may
never be released. No lock: a failed CPU may hold any of them.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch import timer
from delphyne.el2.arch.image import park, wake_all
from delphyne.lang import AtomicU32, Order, cold, entry, u32, u64

STOPPING: Final = AtomicU32()
"""Not 0 once EL2 stops. el2.S reads it under this name."""

STOPPED: Final = AtomicU32()
"""CPUs that have seen STOPPING and do nothing more."""
STOP_MILLISECONDS: Final = u64(500)
"""How long the failed CPU waits for the others."""


def is_stopping() -> bool:
    """Whether EL2 is stopping."""
    return STOPPING.load(Order.ACQUIRE) != 0


def begin_stop() -> bool:
    """Sets STOPPING and wakes every CPU that waits; True for the one caller who was first."""
    first = STOPPING.compare_exchange(u32(0), u32(1), Order.ACQ_REL) == 0
    wake_all()
    return first


def wait_for_stop(others: u32) -> u32:
    """Gives `others` CPUs some time to stop; returns how many did. One that runs at a lower level stops when it next comes to EL2."""
    begun = timer.now()
    limit = timer.ticks(STOP_MILLISECONDS)
    while STOPPED.load(Order.ACQUIRE) < others and not timer.has_passed(begun, limit):
        pass
    return STOPPED.load(Order.ACQUIRE)


@cold
@entry("el2_stopped")
def stopped() -> Never:
    """Where every CPU ends that finds EL2 stopping."""
    STOPPED.add(u32(1), Order.RELEASE)
    park()
