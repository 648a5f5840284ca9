# SPDX-License-Identifier: Apache-2.0
"""KVM's userspace interface for arm64, as far as it is used: request numbers, structures and constants.

Names and numbers are those of include/uapi/linux/kvm.h and arch/arm64/include/uapi/asm/kvm.h of Linux (6.1 and 6.12 agree in all of them); how a
request number is made is in include/uapi/asm-generic/ioctl.h. Structures are `struct` formats, little-endian and without implicit padding.
"""

from __future__ import annotations

from struct import calcsize

KVMIO = 0xAE
_WRITE, _READ = 1, 2


def _io(number: int) -> int:
    return KVMIO << 8 | number


def _iow(number: int, size: int) -> int:
    return _WRITE << 30 | size << 16 | _io(number)


def _ior(number: int, size: int) -> int:
    return _READ << 30 | size << 16 | _io(number)


def _iowr(number: int, size: int) -> int:
    return (_READ | _WRITE) << 30 | size << 16 | _io(number)


USERSPACE_MEMORY_REGION = "<IIQQQ"
"""slot, flags, guest_phys_addr, memory_size, userspace_addr."""
DIRTY_LOG = "<IIQ"
"""slot, padding, dirty_bitmap."""
CLEAR_DIRTY_LOG = "<IIQQ"
"""slot, num_pages, first_page, dirty_bitmap."""
IRQ_LEVEL = "<II"
"""irq, level."""
CREATE_DEVICE = "<III"
"""type, fd (out), flags."""
DEVICE_ATTR = "<IIQQ"
"""flags, group, attr, addr."""
ONE_REG = "<QQ"
"""id, addr."""
VCPU_INIT = "<I7I"
"""target, features."""
MP_STATE = "<I"
ENABLE_CAP = "<II4Q64x"
"""cap, flags, args."""
IRQFD = "<IIII16x"
"""fd, gsi, flags, resamplefd."""
IOEVENTFD = "<QQIiI36x"
"""datamatch, addr, len, fd, flags."""
REG_LIST = "<Q"
"""n; as many register ids follow."""

GET_API_VERSION = _io(0x00)
CREATE_VM = _io(0x01)
CHECK_EXTENSION = _io(0x03)
GET_VCPU_MMAP_SIZE = _io(0x04)
CREATE_VCPU = _io(0x41)
GET_DIRTY_LOG = _iow(0x42, calcsize(DIRTY_LOG))
SET_USER_MEMORY_REGION = _iow(0x46, calcsize(USERSPACE_MEMORY_REGION))
IRQ_LINE = _iow(0x61, calcsize(IRQ_LEVEL))
SET_IRQFD = _iow(0x76, calcsize(IRQFD))
SET_IOEVENTFD = _iow(0x79, calcsize(IOEVENTFD))
RUN = _io(0x80)
GET_MP_STATE = _ior(0x98, calcsize(MP_STATE))
SET_MP_STATE = _iow(0x99, calcsize(MP_STATE))
SET_ENABLE_CAP = _iow(0xA3, calcsize(ENABLE_CAP))
GET_ONE_REG = _iow(0xAB, calcsize(ONE_REG))
SET_ONE_REG = _iow(0xAC, calcsize(ONE_REG))
ARM_VCPU_INIT = _iow(0xAE, calcsize(VCPU_INIT))
ARM_PREFERRED_TARGET = _ior(0xAF, calcsize(VCPU_INIT))
GET_REG_LIST = _iowr(0xB0, calcsize(REG_LIST))
SET_CLEAR_DIRTY_LOG = _iowr(0xC0, calcsize(CLEAR_DIRTY_LOG))
NEW_DEVICE = _iowr(0xE0, calcsize(CREATE_DEVICE))
SET_DEVICE_ATTR = _iow(0xE1, calcsize(DEVICE_ATTR))
GET_DEVICE_ATTR = _iow(0xE2, calcsize(DEVICE_ATTR))
HAS_DEVICE_ATTR = _iow(0xE3, calcsize(DEVICE_ATTR))

API_VERSION = 12
MEM_LOG_DIRTY_PAGES = 1
MEM_READONLY = 2

CAP_NR_MEMSLOTS = 10
CAP_MAX_VCPUS = 66
CAP_ARM_EL1_32BIT = 93
CAP_ARM_PMU_V3 = 126
CAP_ARM_VM_IPA_SIZE = 165
CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168
CAP_ARM_SVE = 170

FEATURE_POWER_OFF = 0
FEATURE_EL1_32BIT = 1
FEATURE_PSCI_0_2 = 2
FEATURE_PMU_V3 = 3
FEATURE_SVE = 4
FEATURE_PTRAUTH_ADDRESS = 5
FEATURE_PTRAUTH_GENERIC = 6

DEVICE_VGIC_V2 = 5
DEVICE_VGIC_V3 = 7
VGIC_GROUP_ADDR = 0
VGIC_GROUP_NR_IRQS = 3
VGIC_GROUP_CTRL = 4
VGIC_CTRL_INIT = 0
VGIC_V2_DISTRIBUTOR = 0
VGIC_V2_CPU_INTERFACE = 1
VGIC_V3_DISTRIBUTOR = 2
VGIC_V3_REDISTRIBUTORS = 3

IRQ_TYPE_SHIFT = 24
IRQ_VCPU_SHIFT = 16
IRQ_TYPE_SPI = 1
IRQ_TYPE_PPI = 2

EXIT_DEBUG = 4
EXIT_MMIO = 6
EXIT_FAIL_ENTRY = 9
EXIT_INTR = 10
EXIT_INTERNAL_ERROR = 17
EXIT_SYSTEM_EVENT = 24
EXIT_ARM_NISV = 28
EXIT_NAMES = {
    EXIT_DEBUG: "DEBUG", EXIT_MMIO: "MMIO", EXIT_FAIL_ENTRY: "FAIL_ENTRY", EXIT_INTR: "INTR", EXIT_INTERNAL_ERROR: "INTERNAL_ERROR",
    EXIT_SYSTEM_EVENT: "SYSTEM_EVENT", EXIT_ARM_NISV: "ARM_NISV",
}
SYSTEM_EVENT_SHUTDOWN = 1
SYSTEM_EVENT_RESET = 2

RUN_IMMEDIATE_EXIT = 1
RUN_EXIT_REASON = 8
RUN_EXIT = 32
"""Byte offsets in struct kvm_run: two fields, and the union whose meaning the reason gives."""
RUN_MMIO = "<Q8sIB"
"""phys_addr, data, len, is_write."""
RUN_SYSTEM_EVENT = "<I"
RUN_FAIL_ENTRY = "<QI"
"""hardware_entry_failure_reason, cpu."""
RUN_ARM_NISV = "<QQ"
"""esr_iss, fault_ipa."""
