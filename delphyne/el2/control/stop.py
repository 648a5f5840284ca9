# SPDX-License-Identifier: Apache-2.0
"""The end of EL2: once STOPPING is set, no CPU does anything more for a host or guest.

The CPU that fails sets it; every other CPU sees it at its next exception to EL2, or in `lock_acquire` while it waits for a lock that may
never be released. No lock: a failed CPU may hold any of them.
"""

from __future__ import annotations

from typing import Final, Never

from delphyne.el2.arch.image import park, wake_all
from delphyne.lang import AtomicU32, Order, cold, entry, u32

STOPPING: Final = AtomicU32()
"""Not 0 once EL2 stops. el2.S reads it under this name."""


def is_stopping() -> bool:
    """Whether EL2 is stopping."""
    return STOPPING.load(Order.ACQUIRE) != 0


def begin_stop() -> bool:
    """Sets STOPPING and wakes every CPU that waits; True for the one caller who was first."""
    first = STOPPING.compare_exchange(u32(0), u32(1), Order.ACQ_REL) == 0
    wake_all()
    return first


@cold
@entry("el2_stopped")
def stopped() -> Never:
    """Where every CPU ends that finds EL2 stopping."""
    park()
