# SPDX-License-Identifier: Apache-2.0
"""Numbers of vCPU registers for KVM_GET_ONE_REG and KVM_SET_ONE_REG (arch/arm64/include/uapi/asm/kvm.h)."""

from __future__ import annotations

_ARM64 = 0x6000_0000_0000_0000
_U32, _U64, _U128 = 2 << 52, 3 << 52, 4 << 52
_CORE = 0x0010 << 16
_SYSREG = 0x0013 << 16
_FIRMWARE = 0x0014 << 16
_FP_REGISTERS = 0x54
"""Of struct kvm_regs, in 32-bit words: 31 general registers, SP, PC, PSTATE, SP_EL1, ELR_EL1, five SPSRs, and a hole before 16-byte alignment."""


def x(number: int) -> int:
    """General register `number`, 0 to 30."""
    return _ARM64 | _U64 | _CORE | number * 2


def v(number: int) -> int:
    """SIMD register `number`, 128 bits."""
    return _ARM64 | _U128 | _CORE | _FP_REGISTERS + number * 4


SP_EL0, PC, PSTATE, SP_EL1, ELR_EL1 = (x(number) for number in range(31, 36))
PSCI_VERSION = _ARM64 | _U64 | _FIRMWARE


def system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    """A system register by its encoding."""
    return _ARM64 | _U64 | _SYSREG | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


CTR_EL0 = system(3, 3, 0, 0, 1)
MPIDR_EL1 = system(3, 0, 0, 0, 5)
SCTLR_EL1 = system(3, 0, 1, 0, 0)
VBAR_EL1 = system(3, 0, 12, 0, 0)
TIMER_CTL = system(3, 3, 14, 3, 1)
TIMER_CVAL = system(3, 3, 14, 0, 2)
"""CNTVCT and CNTV_CVAL are exchanged in the interface; this is what reads CNTV_CVAL."""
TIMER_CNT = system(3, 3, 14, 3, 2)
PHYSICAL_CNT = system(3, 3, 14, 0, 1)
"""CNTPCT_EL0, which 6.12 lets its VMM set and which runs on."""


def is_identification(register: int) -> bool:
    """Whether it is one of ID_AA64* or CTR_EL0, by what KVM_GET_REG_LIST gives."""
    return register == CTR_EL0 or system(3, 0, 0, 4, 0) <= register <= system(3, 0, 0, 7, 7)


def size(register: int) -> int:
    """Bytes of a register."""
    return 1 << (register >> 52 & 15)
