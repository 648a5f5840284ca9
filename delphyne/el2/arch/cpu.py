# SPDX-License-Identifier: Apache-2.0
"""What EL2 keeps for each CPU, and where the stacks lie.

`CPUS.mine()` is this CPU's `Cpu`; TPIDR_EL2 holds its address from the CPU's first call into Python on. A CPU writes only its own entry;
before a CPU runs, the boot CPU fills in what `secondary_entry` loads with the MMU off (everything before `online`) and cleans it to the
point of coherency.

The stacks are one slot for each CPU, upwards: a guard page, the emergency stack, which only the trap and crash reports use, a guard page, the
stack. The guard pages are mapped nowhere, so that a stack that runs over faults; the emergency stack is the lower one because debuggers
take a caller at a lower address for a corrupt stack. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import AtomicU32, Order, SimdArea, per_cpu, struct, u32, u64

MAX_CPUS: Final = u64(64)
"""CPUs that EL2 can serve; those that the device tree names beyond them are not started."""

STACK_BYTES: Final = u64(16384)
EMERGENCY_BYTES: Final = u64(8192)
SLOT_BYTES: Final = u64(32768)
"""Guard, emergency stack, guard, stack; in el2.ld too."""
STACK_OFFSET: Final = u64(16384)
"""From the start of a slot to the lowest byte of its stack."""
EMERGENCY_OFFSET: Final = u64(4096)
"""From the start of a slot to the lowest byte of its emergency stack."""


@struct(align=64, export="CPU")
class Cpu:
    """One CPU. All addresses are physical and, by EL2's identity map, virtual."""

    index: u64
    mpidr: u64
    """Affinity fields as PSCI takes them: MPIDR_EL1 without the bits that are no affinity."""
    stack_top: u64
    emergency_top: u64
    crashing: u64
    """Not 0 once this CPU is on its emergency stack; a second failure there ends in `park`."""
    tcr: u64
    mair: u64
    ttbr: u64
    sctlr: u64
    online: AtomicU32
    """Not 0 once this CPU runs Python."""
    power: AtomicU32
    """Whether the host has this CPU switched on: `firmware.POWER_OFF` or `POWER_ON`."""
    host_entry: u64
    """Where the host wants this CPU to begin, physical, and what it wants in x0 there."""
    host_context: u64
    restarted: bool
    """Whether the host's kernel on this CPU is about to be another one, which has not been looked at yet (kexec)."""
    mitigation: u64
    """What `mitigate` of el2.S does when a guest leaves this CPU (arch/mitigation.py); 0 for nothing."""
    simd: SimdArea


CPUS: Final = per_cpu(Cpu, 64)


ONLINE: Final = AtomicU32()
"""CPUs that run Python at EL2, failed and stopped ones included."""


def come_online(mine: Cpu) -> None:
    """Counts this CPU, once, and says so to whoever waits for it."""
    ONLINE.add(u32(1), Order.RELAXED)
    mine.online.store(u32(1), Order.RELEASE)


def online_count() -> u32:
    """CPUs that have come online; at least 1 for whoever can ask."""
    return max(ONLINE.load(Order.RELAXED), u32(1))
