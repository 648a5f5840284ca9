# SPDX-License-Identifier: Apache-2.0
"""A host that runs vCPUs by `vcpu_run.serve` on the simulated machine, and the guests in them, which tests play.

`Runs` is one vCPU of a world of `guests_world`. Its structure holds a different number at each place, and so does each register of the processor, so
that whatever goes astray shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from guests_world import HostVm, World

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame, Vector
from delphyne.el2.arch.world import Places
from delphyne.el2.kvm import abilities, places, seats, vcpu_run
from delphyne.el2.kvm.names import Field
from delphyne.lang import u64
from delphyne.lang.machine import switch

IRQ, SYNC, SERROR = int(Vector.IRQ.raw), int(Vector.SYNC.raw), int(Vector.SERROR.raw)
EL1H, EL0T, SVC32 = 0b0101, 0b0000, 0b1_0011
VCPU_BYTES = 4096
WORD = (1 << 64) - 1
LIST_REGISTERS = 4
BREAKPOINTS, WATCHPOINTS = 6, 4
DEBUG_BYTES = 512
BIGGEST = 528
"""Bytes of the biggest member."""

PLAIN_CPU = {
    "ID_AA64PFR0_EL1": 0x0100_0022,  # GIC, AArch32 at EL0 and EL1
    "ID_AA64DFR0_EL1": (WATCHPOINTS - 1) << 20 | (BREAKPOINTS - 1) << 12 | 1 << 8 | 6,
    "ICC_SRE_EL2": 0xF,
    "ICH_VTR_EL2": LIST_REGISTERS - 1,
}
"""ARMv8.0, with a GIC and performance monitors."""
RAS, SVE = 1 << 28, 1 << 32
"""ID_AA64PFR0_EL1."""
AUTHENTICATION = {"ID_AA64ISAR1_EL1": 1 << 4}

HOST_HCR = 1 << 31 | 1 << 19
HOST_CONTROLS = {
    "HCR_EL2": HOST_HCR, "VTCR_EL2": 0x8002_3558, "CPTR_EL2": 0x32FF & ~(1 << 8 | 1 << 12), "MDCR_EL2": 0x3006, "CNTHCTL_EL2": 3, "HSTR_EL2": 0,
}  # fmt: skip
HOST_EL1 = (*switch.SHARED, *switch.ALONE)
"""The registers that are the host's or a guest's."""


def widths(name: str) -> int:
    """Bytes of a field in the structure."""
    return {"iflags": 1, "cflags": 1, "gic_hcr": 4, "gic_sre": 4, "used_lrs": 4, "gic_vmcr": 4}.get(name, 8)


@dataclass
class Left:
    """How a guest ends one of its stays: through which vector, and with which syndrome."""

    vector: int = IRQ
    syndrome: int = 0


class Runs:
    """One vCPU on this CPU. `stays` are what the guest does from entry to entry; it leaves by an interrupt when none is left."""

    def __init__(self, world: World, vm: HostVm, number: int = 0, seed: int = 0, cpu: dict[str, int] | None = None) -> None:
        self.world, self.machine, self.vm = world, world.machine, vm
        self.vcpu = vm.vcpus[number]
        self.places = Places()
        assert places.fill(world.layout, self.places) is None
        self.debug = self.vcpu + VCPU_BYTES - DEBUG_BYTES
        """Room for the guest's debug registers, behind the last member."""
        assert max(int(getattr(self.places, name)) for name in Places.__annotations__ if name != "pmu_counters") + BIGGEST <= VCPU_BYTES - DEBUG_BYTES
        self.numbers = random.Random(seed)
        self.stays: list[Callable[[], Left]] = []
        self.entries = 0
        for name, value in {**PLAIN_CPU, **HOST_CONTROLS, **(cpu or {})}.items():
            self.machine.write_register(name, value)
        self._fill()
        self.machine.guest = self._enter

    def _fill(self) -> None:
        """Numbers everywhere in the structure; then what has to mean something."""
        self.machine.memory.write(self.vcpu, self.numbers.randbytes(VCPU_BYTES))
        for one in (Field.VCPU_SVE_STATE, Field.VCPU_SVE_MAX_VL):
            self.world.write(self.world.at(self.vcpu, one), 0)
        for name in ("iflags", "cflags", "gic_hcr", "used_lrs", "its_vm", "pmu_host", "pmu_guest"):
            self.put(name, 0)
        self.put("gic_sre", 1)
        self.put("hw_mmu", self.vm.mmu)
        self.put("pstate", EL1H)
        self.put("hcr", 1 << 31)
        self.put("mdcr", 0)

    # --- the structure, as the host reads and writes it --------------------------------------------------------------------------------

    def at(self, name: str) -> int:
        return self.vcpu + int(getattr(self.places, name))

    def put(self, name: str, value: int) -> None:
        width = widths(name)
        self.machine.memory.write(self.at(name), (value & (1 << 8 * width) - 1).to_bytes(width, "little"))

    def get(self, name: str) -> int:
        return int.from_bytes(self.machine.memory.read(self.at(name), widths(name)), "little")

    def word(self, name: str, index: int, value: int | None = None) -> int:
        """One word of what begins at a place."""
        at = self.at(name) + 8 * index
        if value is not None:
            self.world.write(at, value)
        return self.world.read(at)

    def bytes(self) -> bytes:
        return self.machine.memory.read(self.vcpu, VCPU_BYTES)

    # --- the processor -----------------------------------------------------------------------------------------------------------------

    def registers(self, names: list[str]) -> dict[str, int]:
        return {name: self.machine.read_register(name) for name in names}

    def scramble(self, names: list[str]) -> dict[str, int]:
        """A new number in each of these registers."""
        made = {name: self.numbers.getrandbits(64) for name in names}
        for name, value in made.items():
            self.machine.write_register(name, value)
        return made

    def host_registers(self) -> dict[str, int]:
        """The host's own EL1, with its MMU off."""
        made = self.scramble([register for _, register in HOST_EL1])
        made["SCTLR_EL1"] &= ~1
        self.machine.write_register("SCTLR_EL1", made["SCTLR_EL1"])
        return made

    def _enter(self, general: int) -> int:
        assert general == self.at("regs")
        self.entries += 1
        left = self.stays.pop(0)() if self.stays else Left()
        self.machine.write_register("ESR_EL2", left.syndrome)
        return left.vector

    def run(self) -> int | Err:
        """__kvm_vcpu_run, on a CPU that is as PLAIN_CPU says."""
        seats.equip(seats.SEATS.mine(), abilities.find())
        frame = Frame()
        frame.x[1] = u64(self.vcpu)
        code = vcpu_run.serve(frame, self.world.layout, self.places)
        return code if isinstance(code, Err) else int(code)


