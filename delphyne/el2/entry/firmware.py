# SPDX-License-Identifier: Apache-2.0
"""The host's calls of the firmware: every SMC of it traps here, and only what is on a list goes on to EL3.

PSCI calls that name an entry point are made with EL2's own, so that no CPU ever runs at EL1 before EL2 has prepared it; the host's entry and
context wait in that CPU's `Cpu`. SMCCC's architecture calls and the entropy source carry no addresses and pass as they are. All else gets
NOT_SUPPORTED: vendor calls, trusted-application interfaces, and numbers that nobody defined (Arm DEN0022, DEN0028, DEN0098).

No lock: who may start a CPU is decided by one compare-and-exchange of its `power`.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import image
from delphyne.el2.arch.cpu import CPUS, Cpu
from delphyne.el2.arch.entropy import TRNG_VERSION
from delphyne.el2.arch.frame import Frame, skip
from delphyne.el2.arch.psci import (
    AFFINITY_MASK,
    NOT_SUPPORTED,
    PSCI_FEATURES,
    PSCI_SUCCESS,
    PSCI_VERSION,
    SMCCC_ARCH_FEATURES,
    SMCCC_ARCH_WORKAROUND_1,
    SMCCC_ARCH_WORKAROUND_2,
    SMCCC_ARCH_WORKAROUND_3,
    SMCCC_VERSION,
    smc_call,
    smc_relay,
)
from delphyne.lang import Domain, Order, address_of, dsb, u32, u64

FUNCTION_MASK: Final = u64(0xFFFF_FFFF)
"""SMCCC: the function number is w0."""
NO_VECTORS_HINT: Final = u64(1 << 16)
"""Set in the number of any call by a caller that has nothing in its SVE registers (SMCCC 1.3): not part of what is called."""
WIDE: Final = u64(0x4000_0000)
"""Set in the number of a call with 64-bit arguments."""

CPU_SUSPEND: Final = u64(0x8400_0001)
CPU_OFF: Final = u64(0x8400_0002)
CPU_ON: Final = u64(0x8400_0003)
AFFINITY_INFO: Final = u64(0x8400_0004)
MIGRATE_INFO_TYPE: Final = u64(0x8400_0006)
SYSTEM_OFF: Final = u64(0x8400_0008)
SYSTEM_RESET: Final = u64(0x8400_0009)
SYSTEM_SUSPEND: Final = u64(0x8400_000E)
SET_SUSPEND_MODE: Final = u64(0x8400_000F)
SYSTEM_RESET2: Final = u64(0x8400_0012)
TRNG_LAST: Final = u64(0x8400_0053)
SMCCC_ARCH_SOC_ID: Final = u64(0x8000_0002)

ALREADY_ON: Final = u64(0xFFFF_FFFF_FFFF_FFFC)
INVALID_PARAMETERS: Final = u64(0xFFFF_FFFF_FFFF_FFFE)

AFFINITY_OFF: Final = u64(1)
"""AFFINITY_INFO's answer for a CPU that is off."""

POWER_OFF: Final = u32(0)
POWER_ON: Final = u32(1)
"""A CPU that runs, or that somebody is starting: which of the two is the firmware's to know."""


def serve(frame: Frame) -> None:
    """One SMC of the host; the program counter is behind it afterwards."""
    skip(frame)
    number = frame.x[0] & FUNCTION_MASK & ~NO_VECTORS_HINT
    frame.x[0] = number
    wide = number & WIDE != 0
    base = number & ~WIDE
    if base == CPU_ON:
        _cpu_on(frame, wide)
    elif base == CPU_SUSPEND:
        _suspend(frame, frame.x[2], frame.x[3], wide)
    elif base == SYSTEM_SUSPEND:
        _suspend(frame, frame.x[1], frame.x[2], wide)
    elif number == CPU_OFF:
        _cpu_off(frame)
    elif number == PSCI_FEATURES and not _is_offered(frame.x[1] & FUNCTION_MASK):
        frame.x[0] = NOT_SUPPORTED
    elif _passes(number, base, wide):
        smc_relay(frame)
    else:
        frame.x[0] = NOT_SUPPORTED


def ends_machine(frame: Frame) -> bool:
    """Whether an SMC turns the machine off or begins it anew."""
    number = frame.x[0] & FUNCTION_MASK & ~NO_VECTORS_HINT
    return number == SYSTEM_OFF or number == SYSTEM_RESET or number & ~WIDE == SYSTEM_RESET2


def _is_offered(number: u64) -> bool:
    """Whether the host can make this call at all: what the firmware has beyond that is not for it to find."""
    base = number & ~WIDE
    return base == CPU_ON or base == CPU_SUSPEND or base == SYSTEM_SUSPEND or number == CPU_OFF or _passes(number, base, number != base)


def _passes(number: u64, base: u64, wide: bool) -> bool:
    """Calls that name no address and start nothing."""
    if base == AFFINITY_INFO or base == SYSTEM_RESET2:
        return True
    if TRNG_VERSION <= base <= TRNG_LAST:
        return not wide or base == TRNG_LAST
    if wide:
        return False
    return (
        number == PSCI_VERSION or number == MIGRATE_INFO_TYPE or number == SYSTEM_OFF or number == SYSTEM_RESET or number == PSCI_FEATURES
        or number == SET_SUSPEND_MODE or _is_architecture_call(number)
    )


def _is_architecture_call(number: u64) -> bool:
    return (
        number == SMCCC_VERSION or number == SMCCC_ARCH_FEATURES or number == SMCCC_ARCH_SOC_ID or number == SMCCC_ARCH_WORKAROUND_1
        or number == SMCCC_ARCH_WORKAROUND_2 or number == SMCCC_ARCH_WORKAROUND_3
    )


def _cpu_on(frame: Frame, wide: bool) -> None:
    """Starts a CPU at EL2; it goes on to the host's entry by itself. What the host says of it is kept only when the CPU was off."""
    target = frame.x[1] if wide else frame.x[1] & FUNCTION_MASK
    index = index_of(target)
    if index is None:
        frame.x[0] = INVALID_PARAMETERS
        return
    cpu = CPUS.of(index)
    if cpu.power.compare_exchange(POWER_OFF, POWER_ON, Order.ACQ_REL) != POWER_OFF:
        frame.x[0] = ALREADY_ON
        return
    _keep(cpu, frame.x[2], frame.x[3], wide)
    frame.x[0] = CPU_ON | WIDE
    frame.x[1] = target
    frame.x[2] = image.secondary_entry_address().raw
    frame.x[3] = address_of(cpu).raw
    smc_relay(frame)
    if frame.x[0] != PSCI_SUCCESS:
        cpu.power.store(POWER_OFF, Order.RELEASE)


def _cpu_off(frame: Frame) -> None:
    """This CPU leaves; nothing it holds at EL2 is needed again. Returns only where the firmware refuses."""
    mine = CPUS.mine()
    mine.power.store(POWER_OFF, Order.RELEASE)
    smc_relay(frame)
    mine.power.store(POWER_ON, Order.RELEASE)


def _suspend(frame: Frame, entry: u64, context: u64, wide: bool) -> None:
    """A state that keeps registers returns behind the call; one that loses them comes back through `secondary_entry`."""
    mine = CPUS.mine()
    _keep(mine, entry, context, wide)
    system = (frame.x[0] & ~WIDE) == SYSTEM_SUSPEND
    if system:
        frame.x[0] = SYSTEM_SUSPEND | WIDE
        frame.x[1] = image.secondary_entry_address().raw
        frame.x[2] = address_of(mine).raw
    else:
        frame.x[0] = CPU_SUSPEND | WIDE
        frame.x[2] = image.secondary_entry_address().raw
        frame.x[3] = address_of(mine).raw
    smc_relay(frame)


def _keep(cpu: Cpu, entry: u64, context: u64, wide: bool) -> None:
    """Where the host wants this CPU to begin; the CPU that the firmware starts after this sees it."""
    cpu.host_entry = entry if wide else entry & FUNCTION_MASK
    cpu.host_context = context if wide else context & FUNCTION_MASK
    dsb(Domain.ISH)


def index_of(target: u64) -> u64 | None:
    """The CPU with this affinity, as PSCI names it."""
    if target & ~AFFINITY_MASK != 0:
        return None
    for index in u64.range(CPUS.length):
        cpu = CPUS.of(index)
        if cpu.stack_top != 0 and cpu.mpidr == target:
            return index
    return None


def others_are_off(index: u64) -> bool:
    """Whether every CPU but this one is off, by what the host asked for and by what the firmware made of it: until CPU_OFF is done, a CPU that
    the host switches off may come back from the call (DEN0022, CPU_OFF, DENIED). One of which the firmware says OFF starts only by a CPU_ON."""
    for other in u64.range(CPUS.length):
        if other != index:
            cpu = CPUS.of(other)
            if cpu.power.load(Order.ACQUIRE) != POWER_OFF:
                return False
            if cpu.stack_top != 0 and smc_call(AFFINITY_INFO | WIDE, cpu.mpidr, u64(0), u64(0)) != AFFINITY_OFF:
                return False
    return True
