# SPDX-License-Identifier: Apache-2.0
"""Numbers and structures of KVM's interface: as written down, and as a compiler for arm64 reads them in the kernels' own headers."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from delphyne.board import kmodule
from delphyne.client import kvm_abi as abi
from delphyne.client import registers

REQUESTS = {
    "KVM_GET_API_VERSION": (abi.GET_API_VERSION, 0xAE00),
    "KVM_CREATE_VM": (abi.CREATE_VM, 0xAE01),
    "KVM_CHECK_EXTENSION": (abi.CHECK_EXTENSION, 0xAE03),
    "KVM_GET_VCPU_MMAP_SIZE": (abi.GET_VCPU_MMAP_SIZE, 0xAE04),
    "KVM_CREATE_VCPU": (abi.CREATE_VCPU, 0xAE41),
    "KVM_GET_DIRTY_LOG": (abi.GET_DIRTY_LOG, 0x4010_AE42),
    "KVM_SET_USER_MEMORY_REGION": (abi.SET_USER_MEMORY_REGION, 0x4020_AE46),
    "KVM_IRQ_LINE": (abi.IRQ_LINE, 0x4008_AE61),
    "KVM_IRQFD": (abi.SET_IRQFD, 0x4020_AE76),
    "KVM_IOEVENTFD": (abi.SET_IOEVENTFD, 0x4040_AE79),
    "KVM_RUN": (abi.RUN, 0xAE80),
    "KVM_GET_MP_STATE": (abi.GET_MP_STATE, 0x8004_AE98),
    "KVM_SET_MP_STATE": (abi.SET_MP_STATE, 0x4004_AE99),
    "KVM_ENABLE_CAP": (abi.SET_ENABLE_CAP, 0x4068_AEA3),
    "KVM_GET_ONE_REG": (abi.GET_ONE_REG, 0x4010_AEAB),
    "KVM_SET_ONE_REG": (abi.SET_ONE_REG, 0x4010_AEAC),
    "KVM_ARM_VCPU_INIT": (abi.ARM_VCPU_INIT, 0x4020_AEAE),
    "KVM_ARM_PREFERRED_TARGET": (abi.ARM_PREFERRED_TARGET, 0x8020_AEAF),
    "KVM_GET_REG_LIST": (abi.GET_REG_LIST, 0xC008_AEB0),
    "KVM_CLEAR_DIRTY_LOG": (abi.SET_CLEAR_DIRTY_LOG, 0xC018_AEC0),
    "KVM_CREATE_DEVICE": (abi.NEW_DEVICE, 0xC00C_AEE0),
    "KVM_SET_DEVICE_ATTR": (abi.SET_DEVICE_ATTR, 0x4018_AEE1),
    "KVM_GET_DEVICE_ATTR": (abi.GET_DEVICE_ATTR, 0x4018_AEE2),
    "KVM_HAS_DEVICE_ATTR": (abi.HAS_DEVICE_ATTR, 0x4018_AEE3),
}
CONSTANTS = {
    "KVM_API_VERSION": abi.API_VERSION,
    "KVM_MEM_LOG_DIRTY_PAGES": abi.MEM_LOG_DIRTY_PAGES,
    "KVM_MEM_READONLY": abi.MEM_READONLY,
    "KVM_CAP_NR_MEMSLOTS": abi.CAP_NR_MEMSLOTS,
    "KVM_CAP_MAX_VCPUS": abi.CAP_MAX_VCPUS,
    "KVM_CAP_ARM_EL1_32BIT": abi.CAP_ARM_EL1_32BIT,
    "KVM_CAP_ARM_PMU_V3": abi.CAP_ARM_PMU_V3,
    "KVM_CAP_ARM_VM_IPA_SIZE": abi.CAP_ARM_VM_IPA_SIZE,
    "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2": abi.CAP_MANUAL_DIRTY_LOG_PROTECT2,
    "KVM_CAP_ARM_SVE": abi.CAP_ARM_SVE,
    "KVM_ARM_VCPU_POWER_OFF": abi.FEATURE_POWER_OFF,
    "KVM_ARM_VCPU_EL1_32BIT": abi.FEATURE_EL1_32BIT,
    "KVM_ARM_VCPU_PSCI_0_2": abi.FEATURE_PSCI_0_2,
    "KVM_ARM_VCPU_PMU_V3": abi.FEATURE_PMU_V3,
    "KVM_ARM_VCPU_SVE": abi.FEATURE_SVE,
    "KVM_ARM_VCPU_PTRAUTH_ADDRESS": abi.FEATURE_PTRAUTH_ADDRESS,
    "KVM_ARM_VCPU_PTRAUTH_GENERIC": abi.FEATURE_PTRAUTH_GENERIC,
    "KVM_DEV_TYPE_ARM_VGIC_V2": abi.DEVICE_VGIC_V2,
    "KVM_DEV_TYPE_ARM_VGIC_V3": abi.DEVICE_VGIC_V3,
    "KVM_DEV_ARM_VGIC_GRP_ADDR": abi.VGIC_GROUP_ADDR,
    "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": abi.VGIC_GROUP_NR_IRQS,
    "KVM_DEV_ARM_VGIC_GRP_CTRL": abi.VGIC_GROUP_CTRL,
    "KVM_DEV_ARM_VGIC_CTRL_INIT": abi.VGIC_CTRL_INIT,
    "KVM_VGIC_V2_ADDR_TYPE_DIST": abi.VGIC_V2_DISTRIBUTOR,
    "KVM_VGIC_V2_ADDR_TYPE_CPU": abi.VGIC_V2_CPU_INTERFACE,
    "KVM_VGIC_V3_ADDR_TYPE_DIST": abi.VGIC_V3_DISTRIBUTOR,
    "KVM_VGIC_V3_ADDR_TYPE_REDIST": abi.VGIC_V3_REDISTRIBUTORS,
    "KVM_ARM_IRQ_TYPE_SHIFT": abi.IRQ_TYPE_SHIFT,
    "KVM_ARM_IRQ_VCPU_SHIFT": abi.IRQ_VCPU_SHIFT,
    "KVM_ARM_IRQ_TYPE_SPI": abi.IRQ_TYPE_SPI,
    "KVM_ARM_IRQ_TYPE_PPI": abi.IRQ_TYPE_PPI,
    "KVM_EXIT_DEBUG": abi.EXIT_DEBUG,
    "KVM_EXIT_MMIO": abi.EXIT_MMIO,
    "KVM_EXIT_FAIL_ENTRY": abi.EXIT_FAIL_ENTRY,
    "KVM_EXIT_INTR": abi.EXIT_INTR,
    "KVM_EXIT_INTERNAL_ERROR": abi.EXIT_INTERNAL_ERROR,
    "KVM_EXIT_SYSTEM_EVENT": abi.EXIT_SYSTEM_EVENT,
    "KVM_EXIT_ARM_NISV": abi.EXIT_ARM_NISV,
    "KVM_SYSTEM_EVENT_SHUTDOWN": abi.SYSTEM_EVENT_SHUTDOWN,
    "KVM_SYSTEM_EVENT_RESET": abi.SYSTEM_EVENT_RESET,
    "offsetof(struct kvm_run, immediate_exit)": abi.RUN_IMMEDIATE_EXIT,
    "offsetof(struct kvm_run, exit_reason)": abi.RUN_EXIT_REASON,
    "offsetof(struct kvm_run, mmio.phys_addr)": abi.RUN_EXIT,
    "offsetof(struct kvm_run, mmio.data)": abi.RUN_EXIT + 8,
    "offsetof(struct kvm_run, mmio.len)": abi.RUN_EXIT + 16,
    "offsetof(struct kvm_run, mmio.is_write)": abi.RUN_EXIT + 20,
    "offsetof(struct kvm_run, system_event.type)": abi.RUN_EXIT,
    "offsetof(struct kvm_run, fail_entry.cpu)": abi.RUN_EXIT + 8,
    "offsetof(struct kvm_run, arm_nisv.fault_ipa)": abi.RUN_EXIT + 8,
    "offsetof(struct kvm_userspace_memory_region, userspace_addr)": 24,
    "offsetof(struct kvm_create_device, fd)": 4,
    "offsetof(struct kvm_device_attr, addr)": 16,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.regs[7])": registers.x(7),
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.sp)": registers.SP_EL0,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc)": registers.PC,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pstate)": registers.PSTATE,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(sp_el1)": registers.SP_EL1,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(elr_el1)": registers.ELR_EL1,
    "KVM_REG_ARM64 | KVM_REG_SIZE_U128 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(fp_regs.vregs[3])": registers.v(3),
    "KVM_REG_ARM_PSCI_VERSION": registers.PSCI_VERSION,
    "ARM64_SYS_REG(3, 0, 0, 0, 5)": registers.MPIDR_EL1,
    "KVM_REG_ARM_TIMER_CTL": registers.TIMER_CTL,
    "KVM_REG_ARM_TIMER_CVAL": registers.TIMER_CVAL,
    "KVM_REG_ARM_TIMER_CNT": registers.TIMER_CNT,
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_the_known_numbers(name: str) -> None:
    made, known = REQUESTS[name]
    assert made == known


def test_structures_have_no_room_for_padding() -> None:
    assert struct.calcsize(abi.RUN_MMIO) == 21
    for layout in (abi.USERSPACE_MEMORY_REGION, abi.DIRTY_LOG, abi.CLEAR_DIRTY_LOG, abi.DEVICE_ATTR, abi.ONE_REG, abi.VCPU_INIT, abi.IOEVENTFD):
        assert struct.calcsize(layout) == struct.calcsize("@" + layout[1:])


@pytest.mark.parametrize(("register", "size"), [(registers.PC, 8), (registers.v(31), 16), (registers.MPIDR_EL1, 8), (registers.PSCI_VERSION, 8)])
def test_registers_know_their_size(register: int, size: int) -> None:
    assert registers.size(register) == size


@pytest.mark.system
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_the_kernels_headers_agree(kernel: str, tmp_path: Path) -> None:
    """Headers of a kernel are not those that user programs get: one of them, which holds nothing that matters here, is made empty."""
    version = kmodule.kernel_version(kernel)
    common = kmodule.headers(version).parent / f"linux-headers-{version.removesuffix('-arm64')}-common"
    (tmp_path / "linux").mkdir()
    (tmp_path / "linux" / "compiler.h").write_text("#define __user\n#define __force\n")
    wanted = {**{name: made for name, (made, _) in REQUESTS.items()}, **CONSTANTS}
    lines = ["#include <stddef.h>", "#include <linux/kvm.h>"]
    lines += [f"unsigned long value_{number} = {expression};" for number, expression in enumerate(wanted)]
    source = tmp_path / "abi.c"
    source.write_text("\n".join(lines) + "\n")
    generated = kmodule.headers(version)
    folders = [
        tmp_path, common / "arch/arm64/include/uapi", generated / "arch/arm64/include/generated/uapi", common / "include/uapi",
        generated / "include/generated/uapi", common / "include",
    ]
    command = ["aarch64-linux-gnu-gcc", "-ffreestanding", "-w", "-S", "-o", "-", *(f"-I{folder}" for folder in folders), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = {int(number): int(value) for number, value in re.findall(r"value_(\d+):\s+\.xword\s+(-?\d+)", done.stdout)}
    read.update({int(number): 0 for number in re.findall(r"value_(\d+):\s+\.zero\s+8", done.stdout)})
    found = {expression: read[number] & (1 << 64) - 1 for number, expression in enumerate(wanted)}
    assert found == wanted
