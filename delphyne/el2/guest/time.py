# SPDX-License-Identifier: Apache-2.0
"""The virtual counter of a protected guest: the host may move its offset, as it does when it has stopped the guest for a while, and the counter never
goes back, on any of the guest's CPUs.

All of them run with one offset. It changes only when one CPU runs alone, and only to one under which the counter is not below what any of them can
have seen. What the host sets else is not taken.

No lock: words of `guards`, by guard. RUNS counts the CPUs that run; who has exchanged it from 1 to CHANGING runs alone until it is 1 again, since
nobody enters meanwhile.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import timer
from delphyne.el2.guest import guards
from delphyne.lang import Order, u64, wrap_sub

CHANGING: Final = u64(1 << 32)


def enter(index: u64, wanted: u64) -> u64:
    """One of the guest's CPUs begins to run, and the host wants this offset: the one that it runs with."""
    runs = guards.RUNS[index].load(Order.ACQUIRE)
    while True:
        if runs != CHANGING:
            before = guards.RUNS[index].compare_exchange(runs, runs + 1, Order.ACQ_REL)
            if before == runs:
                break
            runs = before
        else:
            runs = guards.RUNS[index].load(Order.ACQUIRE)
    offset = guards.OFFSETS[index].load(Order.ACQUIRE)
    if offset == wanted or guards.RUNS[index].compare_exchange(u64(1), CHANGING, Order.ACQ_REL) != 1:
        return offset
    now = timer.now()
    changed = min(wanted, now)
    if wrap_sub(now, changed) >= guards.SEEN[index].load(Order.ACQUIRE):
        guards.OFFSETS[index].store(changed, Order.RELEASE)
        offset = changed
    guards.RUNS[index].store(u64(1), Order.RELEASE)
    return offset


def leave(index: u64, offset: u64) -> None:
    """It has run with this offset, and runs no more."""
    count = wrap_sub(timer.now(), offset)
    seen = guards.SEEN[index].load(Order.ACQUIRE)
    while seen < count:
        before = guards.SEEN[index].compare_exchange(seen, count, Order.ACQ_REL)
        if before == seen:
            break
        seen = before
    guards.RUNS[index].sub(u64(1), Order.RELEASE)
