# SPDX-License-Identifier: Apache-2.0
"""The EL2 state of each CPU that a kernel booted at EL2 would have set for its own EL1 half (Linux Documentation/arm64/booting.rst and
facts of Arm ARM D24.2), decided by this CPU's own identification registers.

Everything here is written before the host's first instruction on the CPU, and again whenever the CPU comes back from a state that loses
registers. Nothing of it comes from the host. No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import features, gic, variant
from delphyne.el2.arch.hypervisor import HCR_EL2, MDCR_EL2, Hcr, Mdcr
from delphyne.el2.arch.translation import SCTLR_EL1, SCTLR_EL1_RES1, Sctlr
from delphyne.lang import Bits64, SysReg, bits, isb, u8, u64


class Hcrx(Bits64):
    """HCRX_EL2."""

    tcr2_enabled: bool = bits(14)
    memory_operations_enabled: bool = bits(11)


class FineGrainedTraps(Bits64):
    """HFGRTR_EL2 and HFGWTR_EL2: the two fields that trap while they are 0."""

    no_smpri_trap: bool = bits(54)
    no_tpidr2_trap: bool = bits(55)


class Trfcr(Bits64):
    """TRFCR_EL2: whether EL2 may be traced. EL1 and EL0 are for TRFCR_EL1 to say, as is the time that a trace shows."""

    el2: bool = bits(1)


class Pmscr(Bits64):
    """PMSCR_EL2: samples of EL2 are not taken; what those of EL1 may show is PA and, in PCT, physical time."""

    physical_addresses: bool = bits(4)
    physical_time: u8 = bits(7, 6)


class Pmbidr(Bits64):
    """PMBIDR_EL1: `owned_above` where EL3 keeps the profiling buffer from this state."""

    owned_above: bool = bits(4)


TRFCR_EL2: Final = SysReg(Trfcr, "TRFCR_EL2", 3, 4, 1, 2, 1)
PMSCR_EL2: Final = SysReg(Pmscr, "PMSCR_EL2", 3, 4, 9, 9, 0)
PMBIDR_EL1: Final = SysReg(Pmbidr, "PMBIDR_EL1", 3, 0, 9, 10, 7)
BRBCR_EL2: Final = SysReg(u64, "BRBCR_EL2", 2, 4, 9, 0, 0)
HCRX_EL2: Final = SysReg(Hcrx, "HCRX_EL2", 3, 4, 1, 2, 2)
HFGRTR_EL2: Final = SysReg(FineGrainedTraps, "HFGRTR_EL2", 3, 4, 1, 1, 4)
HFGWTR_EL2: Final = SysReg(FineGrainedTraps, "HFGWTR_EL2", 3, 4, 1, 1, 5)
HFGITR_EL2: Final = SysReg(u64, "HFGITR_EL2", 3, 4, 1, 1, 6)
HDFGRTR_EL2: Final = SysReg(u64, "HDFGRTR_EL2", 3, 4, 3, 1, 4)
HDFGWTR_EL2: Final = SysReg(u64, "HDFGWTR_EL2", 3, 4, 3, 1, 5)
HAFGRTR_EL2: Final = SysReg(u64, "HAFGRTR_EL2", 3, 4, 3, 1, 6)
ZCR_EL2: Final = SysReg(u64, "ZCR_EL2", 3, 4, 1, 2, 0)
SMCR_EL2: Final = SysReg(u64, "SMCR_EL2", 3, 4, 1, 2, 6)

LONGEST_VECTOR: Final = u64(0x1FF)
"""ZCR_EL2.LEN and SMCR_EL2.LEN: whatever the processor can do."""
SME_ALL_INSTRUCTIONS: Final = u64(1 << 31)
"""SMCR_EL2.FA64."""
OWNED_BY_EL1: Final = u8(3)
"""MDCR_EL2.E2PB and E2TB: the buffer is EL1's and its accesses are not trapped."""


def set_host_controls() -> None:
    """Everything that `cpus.set_controls` does not do for any lower level, but stage 2, which is the host space's, and HCR_EL2."""
    SCTLR_EL1.write(Sctlr.of(SCTLR_EL1_RES1))
    _set_monitors()
    _set_vectors()
    _set_fine_grained()
    if features.has_gic_registers():
        gic.allow_el1()
    isb()


def host_hcr(await_boot_mode: bool) -> Hcr:
    """HCR_EL2 while the host runs: AArch64, its own stage 2, SMC trapped; and, until the kernel has asked in which mode it was booted, TVM."""
    authentication = features.has_pointer_authentication()
    return Hcr(
        vm=True,
        swio=True,
        tsc=True,
        rw=True,
        tvm=await_boot_mode,
        apk=authentication,
        api=authentication,
        ata=features.has_memory_tags(),
        enscxt=features.has_context_number(),
    )


def await_boot_mode(waiting: bool) -> None:
    """Trap, or no longer trap, the register writes by which a kernel begins."""
    HCR_EL2.write(host_hcr(waiting))
    isb()


def _set_monitors() -> None:
    """Profiling and trace buffers are the host's, its counters were set with the rest, and none of them sees EL2."""
    profiling = OWNED_BY_EL1 if features.has_profiling() else u8(0)
    trace = OWNED_BY_EL1 if features.has_trace_buffer() else u8(0)
    MDCR_EL2.write(unobserved(MDCR_EL2.read().replace(e2pb=profiling, e2tb=trace)))
    if features.has_profiling() and not PMBIDR_EL1.read().owned_above:
        PMSCR_EL2.write(Pmscr(physical_addresses=True, physical_time=u8(1)))
    if features.has_trace_filter():
        TRFCR_EL2.write(Trfcr(el2=variant.DEBUG))
    if features.has_branch_records():
        BRBCR_EL2.write(u64(0))


def unobserved(controls: Mdcr) -> Mdcr:
    """With what keeps EL1's counters from counting EL2, as far as this processor has it. A debug image lets them.

    An event counter of ARMv8.0 counts EL2 where PMEVTYPER.NSH says so, and nothing but a trap of each access keeps EL1 from that."""
    if variant.DEBUG:
        return controls
    return controls.replace(hpmd=features.can_stop_event_counters(), hccd=features.can_stop_cycle_counter())


def _set_vectors() -> None:
    """Vector lengths up to what the processor has. CPTR_EL2 lets EL1 use them already."""
    if features.has_sve():
        isb()
        ZCR_EL2.write(LONGEST_VECTOR)
    if features.has_sme():
        isb()
        every = SME_ALL_INSTRUCTIONS if features.ID_AA64SMFR0_EL1.read().fa64 else u64(0)
        SMCR_EL2.write(LONGEST_VECTOR | every)


def host_hcrx() -> Hcrx:
    """HCRX_EL2 while the host runs: what the processor has is open."""
    return Hcrx(tcr2_enabled=features.has_tcr2(), memory_operations_enabled=features.has_memory_operations())


def host_traps() -> FineGrainedTraps:
    """HFGRTR_EL2 and HFGWTR_EL2 while the host runs: nothing traps."""
    return FineGrainedTraps(no_smpri_trap=features.has_sme(), no_tpidr2_trap=features.has_sme())


def _set_fine_grained() -> None:
    """No fine-grained trap, and what HCRX_EL2 switches on switched on."""
    if features.has_hcrx():
        HCRX_EL2.write(host_hcrx())
    if not features.has_fine_grained_traps():
        return
    HFGRTR_EL2.write(host_traps())
    HFGWTR_EL2.write(host_traps())
    HFGITR_EL2.write(u64(0))
    HDFGRTR_EL2.write(u64(0))
    HDFGWTR_EL2.write(u64(0))
    if features.has_activity_monitors():
        HAFGRTR_EL2.write(u64(0))
