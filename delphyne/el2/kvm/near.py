# SPDX-License-Identifier: Apache-2.0
"""Where the last tables for the pages lie that a CPU's guest touched last, the host's and the shadow's: what a processor keeps in its walk caches.

They are worth something until the shadow's epoch ends: that is when the host makes a call after which a processor would have forgotten them too, or
when the shadow loses its tables. Lock: GUESTS_LOCK, and `frames.LOCK` where they are looked up.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE
from delphyne.el2.guest.vms import Vm
from delphyne.el2.kvm import host_tables
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames, shadow, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Ipa, holds, u64

BLOCK_SHIFT: Final = u64(21)
"""Addresses that one table of pages serves."""


@holds(GUESTS_LOCK)
def is_known(seat: Seat, vm: Vm, page: Ipa) -> bool:
    """Whether the last tables for a page of the seat's VM are known."""
    return seat.near_block == (page.raw >> BLOCK_SHIFT) + 1 and seat.near_epoch == vm.shadow.epoch


@holds(GUESTS_LOCK)
def read(seat: Seat, vm: Vm, page: Ipa) -> Walked:
    """What the host's table says of a page for which `is_known`."""
    return host_tables.read_page(seat.near_host, seat.near_index, page, vm.table.wide)


@holds(GUESTS_LOCK)
def is_vacant(seat: Seat, page: Ipa) -> bool:
    """Whether the host's table has zero for a page for which `is_known`: a quicker look than `read`."""
    return host_tables.is_vacant(seat.near_host, seat.near_index, page)


@holds(GUESTS_LOCK)
def find(seat: Seat, page: Ipa) -> Walk:
    """What `tables.walk` finds in the shadow for a page for which `is_known`."""
    return tables.in_last_table(seat.near_shadow - 1, page.raw)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def remember(seat: Seat, vm: Vm, found: Walked, page: Ipa) -> None:
    """Where the last tables for a page are, if there are both."""
    seat.near_block = u64(0)
    if found.level != LAST_LEVEL:
        return
    near = shadow.table_at(vm.shadow, page)
    if near is None:
        return
    table = found.at.align_down(PAGE_SIZE)
    index = frames.index_of(table)
    if index is not None:
        seat.near_block = (page.raw >> BLOCK_SHIFT) + 1
        seat.near_epoch = vm.shadow.epoch
        seat.near_host = table
        seat.near_index = index
        seat.near_shadow = near + 1
