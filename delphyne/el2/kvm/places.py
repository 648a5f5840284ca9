# SPDX-License-Identifier: Apache-2.0
"""The kernel's layout as the switch between host and guest wants it: one offset for each member, all inside `kvm_vcpu`.

`fill` is where it is made sure that whatever the assembly reads and writes at a `Places` lies in the structure whose frames were checked and
pinned. No lock: the caller owns the `Places` and freezes it.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.world import FP_BYTES, GENERAL_BYTES, Places
from delphyne.el2.kvm import layout
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.names import Field, Register, Subject
from delphyne.lang import u16, u64

PC_AT: Final = u64(8 * 32)
PSTATE_AT: Final = u64(8 * 33)
"""In struct user_pt_regs, behind x0 to x30 and SP_EL0."""
LIST_REGISTERS_BYTES: Final = u64(8 * 16)
PRIORITIES_BYTES: Final = u64(4 * 4)
FIRST_COUNTERS: Final = u64(0xFFFF_FFFF)
ALL_COUNTERS: Final = u64(0xFFFF_FFFF_FFFF_FFFF)
SPARE: Final = u64(0)
"""Where registers lie that a kernel does not keep: nowhere that they are moved to, because such a kernel never asks for them."""


def fill(found: Layout, places: Places) -> None | Err:
    """Fill `places` from what a kernel's BTF says. Err.RANGE where a member does not lie in its structure whole; `places` is then of no use."""
    size = u64(found.sizes[u64(Subject.VCPU.raw)])
    general = _member(found, Field.VCPU_REGS)
    fp = _member(found, Field.VCPU_FP_REGS)
    gic = _member(found, Field.VCPU_VGIC)
    if not _fits(general, GENERAL_BYTES, size) or not _fits(fp, FP_BYTES, size) or fp % 16 != 0 or general % 8 != 0:
        return Err.RANGE
    places.regs = general
    places.pc = general + PC_AT
    places.pstate = general + PSTATE_AT
    places.fp = fp
    controls = _fill_controls(found, size, places)
    if isinstance(controls, Err):
        return controls
    interrupts = _fill_interrupts(found, gic, size, places)
    if isinstance(interrupts, Err):
        return interrupts
    mmu = u64(found.sizes[u64(Subject.MMU.raw)])
    places.mmu_pgd = _member(found, Field.MMU_PGD)
    places.mmu_vmid = _member(found, Field.MMU_VMID)
    debug = _member(found, Field.VCPU_DEBUG_PTR)
    vectors = _member(found, Field.VCPU_SVE_STATE)
    if not _fits(debug, u64(8), size) or not _fits(vectors, u64(8), size) or not _fits(_member(found, Field.VCPU_SVE_MAX_VL), u64(4), size):
        return Err.RANGE
    if not _fits(places.mmu_pgd, u64(8), mmu) or not _fits(places.mmu_vmid, u64(8), mmu):
        return Err.RANGE
    _fill_registers(found, places)
    _fill_registers32(found, places)
    _fill_keys(found, places)
    return None


def _fill_controls(found: Layout, size: u64, places: Places) -> None | Err:
    places.hcr = _member(found, Field.VCPU_HCR)
    places.mdcr = _member(found, Field.VCPU_MDCR)
    places.hw_mmu = _member(found, Field.VCPU_HW_MMU)
    places.pmu_host = _member(found, Field.VCPU_PMU_HOST)
    places.pmu_guest = _member(found, Field.VCPU_PMU_GUEST)
    places.pmu_counters = _counters(places.pmu_host, places.pmu_guest)
    places.iflags = _member(found, Field.VCPU_IFLAGS)
    places.cflags = _member(found, Field.VCPU_CFLAGS)
    places.fault_esr = _member(found, Field.VCPU_FAULT_ESR)
    places.fault_far = _member(found, Field.VCPU_FAULT_FAR)
    places.fault_hpfar = _member(found, Field.VCPU_FAULT_HPFAR)
    places.fault_disr = _member(found, Field.VCPU_FAULT_DISR)
    places.vsesr = _member(found, Field.VCPU_VSESR)
    places.spsr_abt = _member(found, Field.VCPU_SPSR_ABT)
    places.spsr_und = _member(found, Field.VCPU_SPSR_UND)
    places.spsr_irq = _member(found, Field.VCPU_SPSR_IRQ)
    places.spsr_fiq = _member(found, Field.VCPU_SPSR_FIQ)
    words = (
        _fits(places.hcr, u64(8), size) and _fits(places.mdcr, u64(8), size) and _fits(places.hw_mmu, u64(8), size)
        and _fits(places.pmu_host, u64(8), size) and _fits(places.pmu_guest, u64(8), size) and _fits(places.vsesr, u64(8), size)
        and _fits(places.fault_disr, u64(8), size)
    )
    faults = _fits(places.fault_esr, u64(8), size) and _fits(places.fault_far, u64(8), size) and _fits(places.fault_hpfar, u64(8), size)
    saved = (
        _fits(places.spsr_abt, u64(8), size) and _fits(places.spsr_und, u64(8), size) and _fits(places.spsr_irq, u64(8), size)
        and _fits(places.spsr_fiq, u64(8), size)
    )
    if not words or not faults or not saved or not _fits(places.iflags, u64(1), size) or not _fits(places.cflags, u64(1), size):
        return Err.RANGE
    return None


def _fill_interrupts(found: Layout, gic: u64, size: u64, places: Places) -> None | Err:
    """struct vgic_v3_cpu_if, which lies in `kvm_vcpu` at `gic`."""
    inside = u64(found.sizes[u64(Subject.VGIC.raw)])
    if not _fits(gic, inside, size):
        return Err.RANGE
    hcr = _member(found, Field.VGIC_HCR)
    vmcr = _member(found, Field.VGIC_VMCR)
    sre = _member(found, Field.VGIC_SRE)
    used = _member(found, Field.VGIC_USED_LRS)
    its = _member(found, Field.VGIC_ITS_VM)
    registers = _member(found, Field.VGIC_LR)
    group0 = _member(found, Field.VGIC_AP0R)
    group1 = _member(found, Field.VGIC_AP1R)
    halves = _fits(hcr, u64(4), inside) and _fits(vmcr, u64(4), inside) and _fits(sre, u64(4), inside) and _fits(used, u64(4), inside)
    arrays = _fits(registers, LIST_REGISTERS_BYTES, inside) and _fits(group0, PRIORITIES_BYTES, inside) and _fits(group1, PRIORITIES_BYTES, inside)
    if not halves or not arrays or not _fits(its, u64(8), inside):
        return Err.RANGE
    places.gic = gic
    places.gic_hcr = gic + hcr
    places.gic_vmcr = gic + vmcr
    places.gic_sre = gic + sre
    places.used_lrs = gic + used
    places.its_vm = gic + its
    places.list_registers = gic + registers
    places.gic_ap0r = gic + group0
    places.gic_ap1r = gic + group1
    return None


def _fill_registers(found: Layout, places: Places) -> None:
    """System registers; that each lies inside `kvm_vcpu` was checked when its index was read (layout.py)."""
    places.csselr = _register(found, Register.CSSELR_EL1)
    places.cpacr = _register(found, Register.CPACR_EL1)
    places.ttbr0 = _register(found, Register.TTBR0_EL1)
    places.ttbr1 = _register(found, Register.TTBR1_EL1)
    places.esr = _register(found, Register.ESR_EL1)
    places.afsr0 = _register(found, Register.AFSR0_EL1)
    places.afsr1 = _register(found, Register.AFSR1_EL1)
    places.far = _register(found, Register.FAR_EL1)
    places.mair = _register(found, Register.MAIR_EL1)
    places.vbar = _register(found, Register.VBAR_EL1)
    places.contextidr = _register(found, Register.CONTEXTIDR_EL1)
    places.amair = _register(found, Register.AMAIR_EL1)
    places.cntkctl = _register(found, Register.CNTKCTL_EL1)
    places.par = _register(found, Register.PAR_EL1)
    places.tpidr1 = _register(found, Register.TPIDR_EL1)
    places.sp1 = _register(found, Register.SP_EL1)
    places.elr1 = _register(found, Register.ELR_EL1)
    places.spsr1 = _register(found, Register.SPSR_EL1)
    places.mdscr = _register(found, Register.MDSCR_EL1)
    places.tpidr0 = _register(found, Register.TPIDR_EL0)
    places.tpidrro = _register(found, Register.TPIDRRO_EL0)
    places.mpidr = _register(found, Register.MPIDR_EL1)
    places.sctlr = _register(found, Register.SCTLR_EL1)
    places.tcr = _register(found, Register.TCR_EL1)
    places.mdccint = _register(found, Register.MDCCINT_EL1)
    places.debug_ptr = _member(found, Field.VCPU_DEBUG_PTR)
    places.disr = _register(found, Register.DISR_EL1)
    places.zcr = _register(found, Register.ZCR_EL1)


def _fill_registers32(found: Layout, places: Places) -> None:
    places.dacr32 = _register(found, Register.DACR32_EL2)
    places.ifsr32 = _register(found, Register.IFSR32_EL2)
    places.fpexc32 = _register(found, Register.FPEXC32_EL2)
    places.dbgvcr32 = _register(found, Register.DBGVCR32_EL2)


def _fill_keys(found: Layout, places: Places) -> None:
    places.apia_low = _register(found, Register.APIAKEYLO_EL1)
    places.apia_high = _register(found, Register.APIAKEYHI_EL1)
    places.apib_low = _register(found, Register.APIBKEYLO_EL1)
    places.apib_high = _register(found, Register.APIBKEYHI_EL1)
    places.apda_low = _register(found, Register.APDAKEYLO_EL1)
    places.apda_high = _register(found, Register.APDAKEYHI_EL1)
    places.apdb_low = _register(found, Register.APDBKEYLO_EL1)
    places.apdb_high = _register(found, Register.APDBKEYHI_EL1)
    places.apga_low = _register(found, Register.APGAKEYLO_EL1)
    places.apga_high = _register(found, Register.APGAKEYHI_EL1)


def _member(found: Layout, field: Field) -> u64:
    """Offset of a member; ABSENT, which is in no structure, where the kernel does not have it."""
    return u64(layout.offset(found, field))


def _counters(host: u64, guest: u64) -> u64:
    """The bits of each member of struct kvm_pmu_events, by where they lie: 6.12 has 64, the last of them for the counter of instructions
    (FEAT_PMUv3_ICNTR); 6.1 has 32, and both in one doubleword."""
    return ALL_COUNTERS if guest == host + 8 else FIRST_COUNTERS


def _register(found: Layout, register: Register) -> u64:
    """Offset of a system register from the start of `kvm_vcpu`."""
    index = found.registers[u64(register.raw)]
    if index == u16(layout.NO_REGISTER):
        return SPARE
    return u64(layout.offset(found, Field.VCPU_SYS_REGS)) + u64(index) * 8


def _fits(at: u64, length: u64, size: u64) -> bool:
    """Whether `length` bytes at `at` lie in a structure of `size` bytes."""
    return at <= size and length <= size - at
