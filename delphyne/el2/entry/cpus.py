# SPDX-License-Identifier: Apache-2.0
"""Each CPU's start: its own data, its stacks, its EL2 registers; and starting the others through PSCI.

CPU 0 is the one that the firmware started; the others follow in the order of the device tree. No lock: while the boot CPU starts the
others one after the other, it alone writes their data.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import image, timer
from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.cpu import CPUS, EMERGENCY_BYTES, EMERGENCY_OFFSET, SLOT_BYTES, STACK_BYTES, STACK_OFFSET, Cpu, come_online
from delphyne.el2.arch.exception import TPIDR_EL2
from delphyne.el2.arch.hypervisor import (
    CNTHCTL_EL2,
    CNTVOFF_EL2,
    CPTR_EL2,
    CPTR_NO_TRAPS,
    HSTR_EL2,
    MDCR_EL2,
    VMPIDR_EL2,
    VPIDR_EL2,
    Cnthctl,
    Mdcr,
)
from delphyne.el2.arch.identification import ID_AA64DFR0_EL1, MIDR_EL1, MPIDR_EL1, PMCR_EL0
from delphyne.el2.arch.machine import Machine
from delphyne.el2.arch.psci import AFFINITY_MASK, PSCI_CPU_ON, PSCI_SUCCESS, Conduit, smc_call
from delphyne.lang import Domain, Level, Order, address_of, boot, dsb, isb, log, tlbi_alle1, u8, u64

START_BYTES: Final = u64(128)
"""What `secondary_entry` reads of a `Cpu` lies in this many bytes from its start."""
START_MILLISECONDS: Final = u64(2000)
"""How long the boot CPU waits for a started CPU before it goes on without it."""


@boot
def adopt_boot_cpu() -> None:
    """Makes the CPU that runs CPU 0. First of all: everything else asks who is running."""
    mine = CPUS.of(0)
    _prepare(mine, u64(0), MPIDR_EL1.read().raw & AFFINITY_MASK)
    TPIDR_EL2.write(address_of(mine).raw)
    isb()
    come_online(mine)
    set_controls()


@boot
def _prepare(cpu: Cpu, index: u64, mpidr: u64) -> None:
    """Who this CPU is, and where its stacks end."""
    slot = image.image_stacks_start() + index * SLOT_BYTES
    cpu.index = index
    cpu.mpidr = mpidr
    cpu.stack_top = (slot + (STACK_OFFSET + STACK_BYTES)).raw
    cpu.emergency_top = (slot + (EMERGENCY_OFFSET + EMERGENCY_BYTES)).raw


def set_controls() -> None:
    """EL2's registers of this CPU that a lower level feels, none of which has a defined value after reset (Arm ARM D24.2).

    FP and SIMD at EL1 and EL0 are not trapped, timers and counters are theirs, debug and performance monitors too, and they see this CPU's
    own identity."""
    CPTR_EL2.write(CPTR_NO_TRAPS)
    CNTHCTL_EL2.write(Cnthctl(el1pcten=True, el1pcen=True))
    CNTVOFF_EL2.write(u64(0))
    HSTR_EL2.write(u64(0))
    pmu = ID_AA64DFR0_EL1.read().pmu
    counters = PMCR_EL0.read().counters if pmu != 0 and pmu != 15 else u8(0)
    MDCR_EL2.write(Mdcr(hpmn=counters))
    VPIDR_EL2.write(MIDR_EL1.read().raw)
    VMPIDR_EL2.write(MPIDR_EL1.read().raw)
    isb()
    tlbi_alle1()
    dsb(Domain.NSH)
    isb()


@boot
def start_others(machine: Machine) -> u64:
    """Starts every other CPU of the machine, one after the other; returns how many run, the boot CPU included."""
    running = u64(1)
    index = u64(1)
    for i in u64.range(machine.cpu_count):
        if machine.cpus[i] != CPUS.of(0).mpidr and index < machine.cpu_count:
            if _start(machine, index, machine.cpus[i]):
                running += 1
            index += 1
    return running


@boot
def prepare_others(machine: Machine) -> None:
    """Makes every CPU of the machine ready to be started, by whoever starts it: this one too may leave and come back."""
    clean_range(address_of(CPUS.of(0)), START_BYTES)
    index = u64(1)
    for i in u64.range(machine.cpu_count):
        if machine.cpus[i] != CPUS.of(0).mpidr and index < machine.cpu_count:
            _prepare_other(index, machine.cpus[i])
            index += 1


@boot
def _prepare_other(index: u64, mpidr: u64) -> None:
    """What `secondary_entry` loads with the MMU off, down to memory."""
    first = CPUS.of(0)
    cpu = CPUS.of(index)
    _prepare(cpu, index, mpidr)
    cpu.tcr = first.tcr
    cpu.mair = first.mair
    cpu.ttbr = first.ttbr
    cpu.sctlr = first.sctlr
    clean_range(address_of(cpu), START_BYTES)


@boot
def _start(machine: Machine, index: u64, mpidr: u64) -> bool:
    """Starts one CPU and waits until it runs."""
    cpu = CPUS.of(index)
    _prepare_other(index, mpidr)
    if machine.conduit is not Conduit.SMC:
        log(Level.WARNING, f"CPU {index} is not started: the device tree has no PSCI by SMC")
        return False
    answer = smc_call(PSCI_CPU_ON, mpidr, image.secondary_entry_address().raw, address_of(cpu).raw)
    if answer != PSCI_SUCCESS:
        log(Level.WARNING, f"CPU {index} (affinity {mpidr:x}) is not started: PSCI says {answer:#x}")
        return False
    begun = timer.now()
    limit = timer.ticks(START_MILLISECONDS)
    while not timer.has_passed(begun, limit):
        if cpu.online.load(Order.ACQUIRE) != 0:
            return True
    log(Level.WARNING, f"CPU {index} (affinity {mpidr:x}) was started and does not arrive")
    return False
