# SPDX-License-Identifier: Apache-2.0
"""What EL2 wants to know of a kernel, by name: structures, members, host calls, system registers.

The names are the kernel's own (arch/arm64/include/asm/kvm_host.h and kvm_asm.h of 6.1 and 6.12). They are kept as packed strings: name i is the bytes
of a text from `ends[i]` to `ends[i + 1]`. No lock; all constants.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, Enum8, Enum16, constant, u8, u16, u64


class Subject(Enum8):
    """Definitions that are looked for in BTF, in the order of `DEFINITIONS`."""

    VCPU = 0
    MMU = 1
    ARCH = 2
    VGIC = 3
    CALLS = 4
    REGISTERS = 5


class Field(Enum16):
    """Members of the kernel's structures that EL2 reads or writes: the structure, then the member."""

    VCPU_KVM = 0
    VCPU_GUEST_DEBUG = 1
    VCPU_REGS = 2
    VCPU_SPSR_ABT = 3
    VCPU_SPSR_UND = 4
    VCPU_SPSR_IRQ = 5
    VCPU_SPSR_FIQ = 6
    VCPU_FP_REGS = 7
    VCPU_SYS_REGS = 8
    VCPU_SVE_STATE = 9
    VCPU_SVE_MAX_VL = 10
    VCPU_HW_MMU = 11
    VCPU_HCR = 12
    VCPU_HCRX = 13
    VCPU_MDCR = 14
    VCPU_FAULT_ESR = 15
    VCPU_FAULT_FAR = 16
    VCPU_FAULT_HPFAR = 17
    VCPU_FAULT_DISR = 18
    VCPU_FP_STATE = 19
    VCPU_CFLAGS = 20
    VCPU_IFLAGS = 21
    VCPU_DEBUG_PTR = 22
    VCPU_VGIC = 23
    VCPU_PMU_HOST = 24
    VCPU_TARGET = 25
    VCPU_FEATURES = 26
    VCPU_VSESR = 27
    MMU_VMID = 28
    MMU_PGD = 29
    MMU_ARCH = 30
    MMU_VTCR = 31
    ARCH_VTCR = 32
    ARCH_FLAGS = 33
    ARCH_VCPU_FEATURES = 34
    VGIC_HCR = 35
    VGIC_VMCR = 36
    VGIC_SRE = 37
    VGIC_AP0R = 38
    VGIC_AP1R = 39
    VGIC_LR = 40
    VGIC_ITS_VM = 41
    VGIC_USED_LRS = 42
    ARCH_CTR = 43
    ARCH_POFFSET = 44
    VCPU_HOST_FP = 45
    VCPU_PMU_GUEST = 46


class Call(Enum8):
    """Host calls that EL2 serves, outside protected mode. Those after TIMER_SET_CNTVOFF are some kernels' only."""

    UNKNOWN = 0
    GET_MDCR_EL2 = 1
    ENABLE_SSBS = 2
    VGIC_V3_INIT_LRS = 3
    VGIC_V3_GET_GIC_CONFIG = 4
    ADJUST_PC = 5
    VCPU_RUN = 6
    FLUSH_VM_CONTEXT = 7
    TLB_FLUSH_VMID_IPA = 8
    TLB_FLUSH_VMID = 9
    FLUSH_CPU_CONTEXT = 10
    TIMER_SET_CNTVOFF = 11
    TLB_FLUSH_VMID_IPA_NSH = 12
    TLB_FLUSH_VMID_RANGE = 13
    VGIC_V3_READ_VMCR = 14
    VGIC_V3_WRITE_VMCR = 15
    VGIC_V3_SAVE_APRS = 16
    VGIC_V3_RESTORE_APRS = 17
    VGIC_V3_SAVE_VMCR_APRS = 18
    VGIC_V3_RESTORE_VMCR_APRS = 19


class Register(Enum8):
    """Elements of `kvm_cpu_context.sys_regs` that EL2 switches. Those from ZCR_EL1 on are some kernels' only."""

    MPIDR_EL1 = 0
    CSSELR_EL1 = 1
    SCTLR_EL1 = 2
    ACTLR_EL1 = 3
    CPACR_EL1 = 4
    TTBR0_EL1 = 5
    TTBR1_EL1 = 6
    TCR_EL1 = 7
    ESR_EL1 = 8
    AFSR0_EL1 = 9
    AFSR1_EL1 = 10
    FAR_EL1 = 11
    MAIR_EL1 = 12
    VBAR_EL1 = 13
    CONTEXTIDR_EL1 = 14
    TPIDR_EL0 = 15
    TPIDRRO_EL0 = 16
    TPIDR_EL1 = 17
    AMAIR_EL1 = 18
    CNTKCTL_EL1 = 19
    PAR_EL1 = 20
    MDSCR_EL1 = 21
    MDCCINT_EL1 = 22
    ELR_EL1 = 23
    SP_EL1 = 24
    SPSR_EL1 = 25
    DISR_EL1 = 26
    CNTV_CVAL_EL0 = 27
    CNTV_CTL_EL0 = 28
    CNTP_CVAL_EL0 = 29
    CNTP_CTL_EL0 = 30
    APIAKEYLO_EL1 = 31
    APIAKEYHI_EL1 = 32
    APIBKEYLO_EL1 = 33
    APIBKEYHI_EL1 = 34
    APDAKEYLO_EL1 = 35
    APDAKEYHI_EL1 = 36
    APDBKEYLO_EL1 = 37
    APDBKEYHI_EL1 = 38
    APGAKEYLO_EL1 = 39
    APGAKEYHI_EL1 = 40
    DACR32_EL2 = 41
    IFSR32_EL2 = 42
    FPEXC32_EL2 = 43
    DBGVCR32_EL2 = 44
    ZCR_EL1 = 45
    TFSR_EL1 = 46
    TFSRE0_EL1 = 47
    RGSR_EL1 = 48
    GCR_EL1 = 49


_FIELDS: Final[tuple[tuple[Field, Subject, str, bool], ...]] = (
    (Field.VCPU_KVM, Subject.VCPU, "kvm", True),
    (Field.VCPU_GUEST_DEBUG, Subject.VCPU, "guest_debug", True),
    (Field.VCPU_REGS, Subject.VCPU, "arch.ctxt.regs", True),
    (Field.VCPU_SPSR_ABT, Subject.VCPU, "arch.ctxt.spsr_abt", True),
    (Field.VCPU_SPSR_UND, Subject.VCPU, "arch.ctxt.spsr_und", True),
    (Field.VCPU_SPSR_IRQ, Subject.VCPU, "arch.ctxt.spsr_irq", True),
    (Field.VCPU_SPSR_FIQ, Subject.VCPU, "arch.ctxt.spsr_fiq", True),
    (Field.VCPU_FP_REGS, Subject.VCPU, "arch.ctxt.fp_regs", True),
    (Field.VCPU_SYS_REGS, Subject.VCPU, "arch.ctxt.sys_regs", True),
    (Field.VCPU_SVE_STATE, Subject.VCPU, "arch.sve_state", True),
    (Field.VCPU_SVE_MAX_VL, Subject.VCPU, "arch.sve_max_vl", True),
    (Field.VCPU_HW_MMU, Subject.VCPU, "arch.hw_mmu", True),
    (Field.VCPU_HCR, Subject.VCPU, "arch.hcr_el2", True),
    (Field.VCPU_HCRX, Subject.VCPU, "arch.hcrx_el2", False),
    (Field.VCPU_MDCR, Subject.VCPU, "arch.mdcr_el2", True),
    (Field.VCPU_FAULT_ESR, Subject.VCPU, "arch.fault.esr_el2", True),
    (Field.VCPU_FAULT_FAR, Subject.VCPU, "arch.fault.far_el2", True),
    (Field.VCPU_FAULT_HPFAR, Subject.VCPU, "arch.fault.hpfar_el2", True),
    (Field.VCPU_FAULT_DISR, Subject.VCPU, "arch.fault.disr_el1", True),
    (Field.VCPU_FP_STATE, Subject.VCPU, "arch.fp_state", False),
    (Field.VCPU_CFLAGS, Subject.VCPU, "arch.cflags", True),
    (Field.VCPU_IFLAGS, Subject.VCPU, "arch.iflags", True),
    (Field.VCPU_DEBUG_PTR, Subject.VCPU, "arch.debug_ptr", True),
    (Field.VCPU_VGIC, Subject.VCPU, "arch.vgic_cpu.vgic_v3", True),
    (Field.VCPU_PMU_HOST, Subject.VCPU, "arch.pmu.events.events_host", True),
    (Field.VCPU_TARGET, Subject.VCPU, "arch.target", False),
    (Field.VCPU_FEATURES, Subject.VCPU, "arch.features", False),
    (Field.VCPU_VSESR, Subject.VCPU, "arch.vsesr_el2", True),
    (Field.MMU_VMID, Subject.MMU, "vmid.id", True),
    (Field.MMU_PGD, Subject.MMU, "pgd_phys", True),
    (Field.MMU_ARCH, Subject.MMU, "arch", True),
    (Field.MMU_VTCR, Subject.MMU, "vtcr", False),
    (Field.ARCH_VTCR, Subject.ARCH, "vtcr", False),
    (Field.ARCH_FLAGS, Subject.ARCH, "flags", True),
    (Field.ARCH_VCPU_FEATURES, Subject.ARCH, "vcpu_features", False),
    (Field.VGIC_HCR, Subject.VGIC, "vgic_hcr", True),
    (Field.VGIC_VMCR, Subject.VGIC, "vgic_vmcr", True),
    (Field.VGIC_SRE, Subject.VGIC, "vgic_sre", True),
    (Field.VGIC_AP0R, Subject.VGIC, "vgic_ap0r", True),
    (Field.VGIC_AP1R, Subject.VGIC, "vgic_ap1r", True),
    (Field.VGIC_LR, Subject.VGIC, "vgic_lr", True),
    (Field.VGIC_ITS_VM, Subject.VGIC, "its_vpe.its_vm", True),
    (Field.VGIC_USED_LRS, Subject.VGIC, "used_lrs", True),
    (Field.ARCH_CTR, Subject.ARCH, "ctr_el0", False),
    (Field.ARCH_POFFSET, Subject.ARCH, "timer_data.poffset", False),
    (Field.VCPU_HOST_FP, Subject.VCPU, "arch.host_fpsimd_state", False),
    (Field.VCPU_PMU_GUEST, Subject.VCPU, "arch.pmu.events.events_guest", True),
)
"""In the order of `Field`: field, structure, path of the member, and whether EL2 cannot do without it."""
assert [field for field, _, _, _ in _FIELDS] == list(Field)
_CALLS: Final = (
    "__kvm_get_mdcr_el2",
    "__kvm_enable_ssbs",
    "__vgic_v3_init_lrs",
    "__vgic_v3_get_gic_config",
    "__kvm_adjust_pc",
    "__kvm_vcpu_run",
    "__kvm_flush_vm_context",
    "__kvm_tlb_flush_vmid_ipa",
    "__kvm_tlb_flush_vmid",
    "__kvm_flush_cpu_context",
    "__kvm_timer_set_cntvoff",
    "__kvm_tlb_flush_vmid_ipa_nsh",
    "__kvm_tlb_flush_vmid_range",
    "__vgic_v3_read_vmcr",
    "__vgic_v3_write_vmcr",
    "__vgic_v3_save_aprs",
    "__vgic_v3_restore_aprs",
    "__vgic_v3_save_vmcr_aprs",
    "__vgic_v3_restore_vmcr_aprs",
)
"""In the order of `Call`, UNKNOWN left out."""

FIRST_OPTIONAL_CALL: Final = u64(12)
FIRST_OPTIONAL_REGISTER: Final = u64(45)


_GROUPS = {
    "definitions": ["kvm_vcpu", "kvm_s2_mmu", "kvm_arch", "vgic_v3_cpu_if", "__kvm_host_smccc_func", "vcpu_sysreg"],
    "paths": [path for _, _, path, _ in _FIELDS],
    "calls": ["__KVM_HOST_SMCCC_FUNC_" + name for name in _CALLS],
    "registers": [register.name for register in Register],
}
_TEXTS = {group: list("".join(members).encode()) for group, members in _GROUPS.items()}
_ENDS = {group: [sum(map(len, members[:i])) for i in range(len(members) + 1)] for group, members in _GROUPS.items()}

FIELDS: Final = u64(len(_FIELDS))
CALLS: Final = u64(len(_CALLS))
REGISTERS: Final = u64(len(Register))

DEFINITIONS: Final = constant(Array[u8, len(_TEXTS["definitions"])].of(_TEXTS["definitions"]))
DEFINITION_ENDS: Final = constant(Array[u16, len(_ENDS["definitions"])].of(_ENDS["definitions"]))
PATHS: Final = constant(Array[u8, len(_TEXTS["paths"])].of(_TEXTS["paths"]))
PATH_ENDS: Final = constant(Array[u16, len(_ENDS["paths"])].of(_ENDS["paths"]))
PATH_SUBJECTS: Final = constant(Array[u8, len(_FIELDS)].of([int(subject.raw) for _, subject, _, _ in _FIELDS]))
PATH_NEEDED: Final = constant(Array[u8, len(_FIELDS)].of([int(needed) for _, _, _, needed in _FIELDS]))
"""1 where EL2 cannot do without the field."""
CALL_NAMES: Final = constant(Array[u8, len(_TEXTS["calls"])].of(_TEXTS["calls"]))
CALL_ENDS: Final = constant(Array[u16, len(_ENDS["calls"])].of(_ENDS["calls"]))
REGISTER_NAMES: Final = constant(Array[u8, len(_TEXTS["registers"])].of(_TEXTS["registers"]))
REGISTER_ENDS: Final = constant(Array[u16, len(_ENDS["registers"])].of(_ENDS["registers"]))
