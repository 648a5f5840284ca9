# SPDX-License-Identifier: Apache-2.0
"""What this CPU can do, and what it needs, as far as running a guest depends on it: asked once when the CPU begins to serve the host.

No lock: each CPU has its own.
"""

from __future__ import annotations

from delphyne.el2.arch import errata, features, gic
from delphyne.el2.arch.identification import ID_AA64DFR0_EL1, ID_AA64PFR0_EL1
from delphyne.lang import Bits64, bits, u8


class Abilities(Bits64):
    """Extensions and errata of one CPU."""

    gic: bool = bits(0)
    """The GIC's system registers are in use."""
    ras: bool = bits(1)
    pmu: bool = bits(2)
    sve: bool = bits(3)
    sme: bool = bits(4)
    authentication: bool = bits(5)
    tags: bool = bits(6)
    hcrx: bool = bits(7)
    fine_grained: bool = bits(8)
    forced_write_back: bool = bits(9)
    aarch32_el1: bool = bits(10)
    aarch32_el0: bool = bits(11)
    hpfar_unsure: bool = bits(12)
    """HPFAR_EL2 may be wrong after any fault (erratum 834220)."""
    barrier_before_entry: bool = bits(13)
    """Erratum 1508412."""
    profiling: bool = bits(14)
    trace_buffer: bool = bits(15)
    breakpoints: u8 = bits(23, 16)
    watchpoints: u8 = bits(31, 24)
    step_spoils_spsr: bool = bits(32)
    """Erratum 2077057."""
    trap_translation_writes: bool = bits(33)
    """Erratum 219 of ThunderX2."""


def find() -> Abilities:
    """Those of the CPU that runs."""
    first = ID_AA64PFR0_EL1.read()
    debug = ID_AA64DFR0_EL1.read()
    needs = errata.find()
    return Abilities(
        gic=gic.is_enabled(),
        ras=first.ras != 0,
        pmu=debug.pmu != 0 and debug.pmu != 15,
        sve=features.has_sve(),
        sme=features.has_sme(),
        authentication=features.has_pointer_authentication(),
        tags=features.has_memory_tags(),
        hcrx=features.has_hcrx(),
        fine_grained=features.has_fine_grained_traps(),
        forced_write_back=features.has_forced_write_back(),
        aarch32_el1=first.el1 == 2,
        aarch32_el0=first.el0 == 2,
        hpfar_unsure=needs.hpfar_unsure,
        barrier_before_entry=needs.barrier_before_entry,
        profiling=features.has_profiling(),
        trace_buffer=features.has_trace_buffer(),
        breakpoints=debug.breakpoints + 1,
        watchpoints=debug.watchpoints + 1,
        step_spoils_spsr=needs.step_spoils_spsr,
        trap_translation_writes=needs.trap_translation_writes,
    )
