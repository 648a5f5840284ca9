# SPDX-License-Identifier: Apache-2.0
"""The trap registers of newer architectures around a run: HCRX_EL2 and the fine-grained ones (Arm ARM D24.2).

A guest gets none of what they open; the host gets back what it had. No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from delphyne.el2.kvm import host_state
from delphyne.el2.kvm.host_state import HCRX_EL2, HFGRTR_EL2, HFGWTR_EL2, FineGrainedTraps, Hcrx
from delphyne.el2.kvm.seats import Seat


def enter(seat: Seat) -> None:
    """Closed for the guest."""
    if seat.abilities.hcrx:
        HCRX_EL2.write(Hcrx())
    if seat.abilities.fine_grained:
        HFGRTR_EL2.write(FineGrainedTraps())
        HFGWTR_EL2.write(FineGrainedTraps())


def leave(seat: Seat) -> None:
    """As the host has them."""
    if seat.abilities.hcrx:
        HCRX_EL2.write(host_state.host_hcrx())
    if seat.abilities.fine_grained:
        HFGRTR_EL2.write(host_state.host_traps())
        HFGWTR_EL2.write(host_state.host_traps())
