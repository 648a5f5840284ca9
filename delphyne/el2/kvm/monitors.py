# SPDX-License-Identifier: Apache-2.0
"""Debug registers, performance monitors and profiling around a run (KVM: hyp/debug-sr.c, hyp/include/hyp/switch.h).

No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.world import (
    DEBUG_BYTES,
    Places,
    answer_byte,
    answer_word,
    asked_word,
    debug_bring,
    debug_keep,
    debug_load,
    debug_save,
    profiling_sync,
    trace_sync,
)
from delphyne.el2.kvm import controls
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import Domain, Pa, SysReg, dsb, isb, u64

PMSELR_EL0: Final = SysReg(u64, "PMSELR_EL0", 3, 3, 9, 12, 5)
PMUSERENR_EL0: Final = SysReg(u64, "PMUSERENR_EL0", 3, 3, 9, 14, 0)
PMCNTENSET_EL0: Final = SysReg(u64, "PMCNTENSET_EL0", 3, 3, 9, 12, 1)
PMCNTENCLR_EL0: Final = SysReg(u64, "PMCNTENCLR_EL0", 3, 3, 9, 12, 2)
MDCCINT_EL1: Final = SysReg(u64, "MDCCINT_EL1", 2, 0, 0, 2, 0)
PMBLIMITR_EL1: Final = SysReg(u64, "PMBLIMITR_EL1", 3, 0, 9, 10, 0)
PMSCR_EL1: Final = SysReg(u64, "PMSCR_EL1", 3, 0, 9, 9, 0)
TRBLIMITR_EL1: Final = SysReg(u64, "TRBLIMITR_EL1", 3, 0, 9, 11, 0)
TRFCR_EL1: Final = SysReg(u64, "TRFCR_EL1", 3, 0, 1, 2, 1)

USER_ALL: Final = u64(0xF)
"""PMUSERENR_EL0: nothing traps to EL1, so that MDCR_EL2 traps it to EL2."""
BUFFER_ENABLED: Final = u64(1)
"""PMBLIMITR_EL1.E and TRBLIMITR_EL1.E."""


def enter(seat: Seat, places: Places) -> None:
    """Counters that are to count for the guest instead of the host; and accesses of EL0 to them come to EL2."""
    if not seat.abilities.pmu:
        return
    PMSELR_EL0.write(u64(0))
    seat.pmuserenr = PMUSERENR_EL0.read()
    PMUSERENR_EL0.write(USER_ALL)
    seat.host_counters = asked_word(seat.at, places.pmu_host) & places.pmu_counters
    seat.guest_counters = asked_word(seat.at, places.pmu_guest) & places.pmu_counters
    if seat.host_counters | seat.guest_counters != 0:
        PMCNTENCLR_EL0.write(seat.host_counters)
        PMCNTENSET_EL0.write(seat.guest_counters)


def leave(seat: Seat) -> None:
    """And the other way."""
    if not seat.abilities.pmu:
        return
    if seat.host_counters | seat.guest_counters != 0:
        PMCNTENCLR_EL0.write(seat.guest_counters)
        PMCNTENSET_EL0.write(seat.host_counters)
    PMUSERENR_EL0.write(seat.pmuserenr)


def find_debug(seat: Seat, places: Places) -> None:
    """Whether the guest's own debug registers go into the processor for this run, and where they lie: the host says so, and keeps them in the
    vCPU's structure."""
    seat.debug_at = Pa(u64(0))
    if seat.asked.iflags & controls.DEBUG_DIRTY == 0:
        return
    address = asked_word(seat.at, places.debug_ptr)
    if address < seat.address or address % 8 != 0:
        return
    offset = address - seat.address
    if offset <= seat.size and seat.size - offset >= DEBUG_BYTES:
        seat.debug_at = seat.at + offset


def is_dirty(seat: Seat) -> bool:
    """Whether the guest's own debug registers go into the processor for this run."""
    return seat.debug_at.raw != 0


def debug_enter(seat: Seat, places: Places) -> None:
    """The host's debug registers are kept, the guest's loaded."""
    breakpoints = u64(seat.abilities.breakpoints)
    watchpoints = u64(seat.abilities.watchpoints)
    debug_keep(seat.debug, breakpoints, watchpoints)
    seat.mdccint = MDCCINT_EL1.read()
    debug_load(seat.debug_at, breakpoints, watchpoints)
    MDCCINT_EL1.write(asked_word(seat.at, places.mdccint))


def debug_leave(seat: Seat, places: Places) -> None:
    """And the other way; the host's flag is cleared, as KVM's own EL2 code does."""
    breakpoints = u64(seat.abilities.breakpoints)
    watchpoints = u64(seat.abilities.watchpoints)
    debug_save(seat.debug_at, breakpoints, watchpoints)
    answer_word(seat.at, places.mdccint, MDCCINT_EL1.read())
    debug_bring(seat.debug, breakpoints, watchpoints)
    MDCCINT_EL1.write(seat.mdccint)
    answer_byte(seat.at, places.iflags, seat.asked.iflags & ~controls.DEBUG_DIRTY)


def buffers_enter(seat: Seat) -> None:
    """The host's profiling and trace stop, and what they hold reaches memory while the host's stage 1 is there to find it by."""
    if not seat.abilities.profiling and not seat.abilities.trace_buffer:
        return
    seat.pmscr = u64(0)
    seat.trfcr = u64(0)
    if seat.abilities.profiling and PMBLIMITR_EL1.read() & BUFFER_ENABLED != 0:
        seat.pmscr = PMSCR_EL1.read()
        PMSCR_EL1.write(u64(0))
        isb()
        profiling_sync()
        dsb(Domain.NSH)
    if seat.abilities.trace_buffer and TRBLIMITR_EL1.read() & BUFFER_ENABLED != 0:
        seat.trfcr = TRFCR_EL1.read()
        TRFCR_EL1.write(u64(0))
        isb()
        trace_sync()
        dsb(Domain.NSH)


def buffers_leave(seat: Seat) -> None:
    """They go on, after the host's registers are back."""
    if seat.pmscr != 0:
        isb()
        PMSCR_EL1.write(seat.pmscr)
    if seat.trfcr != 0:
        TRFCR_EL1.write(seat.trfcr)
