# SPDX-License-Identifier: Apache-2.0
"""The monitor of the bare guest (board/guest): gives it commands, checks what it says, and prints a line for each.

Threads: one for each vCPU, on a host CPU of its own where there are as many. The thread of vCPU 0 alone uses the device, prints and ends the
process; the others only run their vCPU. No lock.
"""

from __future__ import annotations

import os
import sys
import threading

from delphyne.client import kvm_abi as abi
from delphyne.client import registers, vgic
from delphyne.client.kvm import Kvm, Vcpu, Vm
from delphyne.client.memory import BLOCK, PAGE, Memory

RAM, SMALL, FRESH, KEPT, LARGE = 0x4000_0000, 0x8000_0000, 0x8800_0000, 0x8C00_0000, 0xC000_0000
RAM_BYTES, SMALL_BYTES = 2 << 20, 4 << 20
STUB = RAM + (1 << 20)
"""Where the image of a guest that becomes protected has what makes it so."""
DEVICE = 0x0A00_0000
ECHO, COMMAND, RESULT, UNMAP, FAULT, GIC_VERSION, CPUS, TICKS, PROTECTED, SHOWN = range(0, 0x50, 8)
UNMAP_PAGES = 8
PATTERN = (0x5EED_0000_0000_0001).to_bytes(8, "little")
KINDS = {
    "nothing": 11, "hypercall": 1, "mmio": 2, "vgic": 3, "ipi": 4, "eoi": 5, "timer": 6, "wfi": 7, "fill-4k": 8, "fill-2m": 9, "refill-4k": 10,
    "debug": 12, "take-4k": 13, "bring-4k": 14, "soak": 16, "order": 25,
}
"""Names of the kinds of exit -> their numbers in board/guest/program.py."""
ATTACKS = {"calls": 15, "odd": 19, "walks": 20, "narrow": 23, "devices": 27}
"""The same of what a protected guest does against the hypervisor, which is no kind of exit."""
WATCHES = {"named": 17, "counter": 18, "exclusive": 21, "physical": 22, "equal": 24, "identity": 26}
"""The same of what a guest looks at while its monitor does something to it (hostile_pages.py)."""
WRONG = (
    "", "an unknown command", "a wrong answer", "an interrupt was lost", "wrong bytes in memory", "SIMD registers changed", "a vCPU did not start",
    "a page may be written that may not", "a counter went back",
)
"""In words, what the guest says as a number (Wrong in board/guest/program.py)."""
SMALL_SLOT, LARGE_SLOT, FRESH_SLOT, KEPT_SLOT = 1, 2, 3, 4
READY = "bare guest: ready"
"""Said, where wanted, before the first command; the monitor then waits for a line. Behind it stand the physical addresses of two pages of the guest's
RAM: of its code, at CODE, and of what a protected guest never reads, at TREE; and where the first is to this process."""
ALLOWED = sorted(os.sched_getaffinity(0))
"""The process's CPUs. A thread inherits the affinity of the one that starts it, which may be pinned by then."""
CODE, TREE = RAM + PAGE, STUB - PAGE
CLEAN = TREE - PAGE
"""A page of a protected guest's that it may only read."""


class Command:
    """One command: the kind of exit, with or without SIMD in the guest, and how often."""

    def __init__(self, name: str, simd: bool, times: int) -> None:
        self.name, self.simd, self.times = name, simd, times

    @property
    def word(self) -> int:
        """As the guest reads it."""
        return (KINDS | ATTACKS | WATCHES)[self.name] | self.simd << 8 | self.times << 16

    def __str__(self) -> str:
        return f"{self.name}{' with SIMD' if self.simd else ''} x {self.times}"


class Monitor:
    """One VM with the bare guest in it."""

    def __init__(self, image: bytes, commands: list[Command], cpus: int, gic: int, *, wait: bool = False, protected: bool = False) -> None:
        self.commands, self.cpus, self.gic, self.wait, self.protected = commands, cpus, gic, wait, protected
        self.current: Command | None = None
        self.echo = 0
        self.ticks = 0
        self.failures = 0
        self.faults: list[int] = []
        self.shown: list[int] = []
        kvm = Kvm()
        self.vm: Vm = kvm.create_vm()
        self.ram = Memory(RAM_BYTES)
        self.ram.write(0, image)
        self.vm.add_memory(0, RAM, self.ram)
        self.small = Memory(SMALL_BYTES)
        self.fresh = Memory(SMALL_BYTES)
        self.kept = Memory(SMALL_BYTES, kept=True)
        self.large = Memory(max([1, *(c.times for c in commands if c.name == "fill-2m")]) * BLOCK, huge=True)
        for memory, step in ((self.small, PAGE), (self.large, BLOCK)):
            for at in range(0, memory.size, step):
                memory.write(at, bytes(8) + PATTERN)
        self.vm.add_memory(SMALL_SLOT, SMALL, self.small)
        self.vm.add_memory(LARGE_SLOT, LARGE, self.large)
        self.vm.add_memory(FRESH_SLOT, FRESH, self.fresh)
        self.vm.add_memory(KEPT_SLOT, KEPT, self.kept)
        controller = vgic.create(self.vm, gic)
        self.vcpus = [self.vm.create_vcpu(number) for number in range(cpus)]
        for vcpu in self.vcpus:
            vcpu.initialise(abi.FEATURE_PSCI_0_2, *([abi.FEATURE_POWER_OFF] if vcpu.number else []))
        vgic.initialise(controller)
        self.vcpus[0].set(registers.PC, STUB if protected else RAM)

    def use_mergeable(self) -> None:
        """KEPT is anonymous memory from now on, whose pages the host's kernel may merge. What is dropped of it is lost."""
        self.vm.set_memory(KEPT_SLOT, KEPT, 0, self.kept.address)
        self.kept = Memory(self.kept.size)
        self.kept.merge()
        self.vm.add_memory(KEPT_SLOT, KEPT, self.kept)

    def run(self) -> int:
        """Runs the guest to its end; how many commands failed."""
        for vcpu in self.vcpus[1:]:
            threading.Thread(target=self._run_other, args=(vcpu,), daemon=True).start()
        pin(0)
        vcpu = self.vcpus[0]
        while True:
            reason = vcpu.run()
            if reason == abi.EXIT_MMIO:
                self._serve(vcpu)
            elif reason == abi.EXIT_SYSTEM_EVENT and vcpu.exit_fields(abi.RUN_SYSTEM_EVENT)[0] == abi.SYSTEM_EVENT_SHUTDOWN:
                break
            elif reason != abi.EXIT_INTR:
                self._fail(f"exit {abi.EXIT_NAMES.get(reason, reason)} at {vcpu.get(registers.PC):#x}")
                break
        if self.current is not None:
            self._fail("the guest ended")
        return self.failures + len(self.commands)

    def _run_other(self, vcpu: Vcpu) -> None:
        pin(vcpu.number)
        while vcpu.run() == abi.EXIT_INTR:
            pass

    def _fail(self, what: str) -> None:
        self.failures += 1
        print(f"FAIL {self.current or 'before the first command'}: {what}", flush=True)

    def _serve(self, vcpu: Vcpu) -> None:
        access = vcpu.mmio()
        register = access.address - DEVICE
        if access.is_write and register == ECHO:
            self.echo = access.data
        elif access.is_write and register == UNMAP:
            start, memory = (KEPT, self.kept) if access.data >= KEPT else (FRESH, self.fresh)
            first = access.data - start
            for at in range(first, first + UNMAP_PAGES * PAGE, PAGE):
                memory.drop(at, PAGE)
        elif access.is_write and register == TICKS:
            self.ticks = access.data
        elif access.is_write and register == SHOWN:
            self.shown.append(access.data)
        elif access.is_write and register == RESULT:
            self._ended(access.data)
        elif access.is_write and register == FAULT:
            self.faults.append(access.data)
            if len(self.faults) == 3:
                self._fail("the guest died: " + " ".join(f"{number:#x}" for number in self.faults))
        elif not access.is_write and register == ECHO:
            vcpu.answer(~self.echo)
        elif not access.is_write and register == COMMAND:
            vcpu.answer(self._next())
        elif not access.is_write and register == GIC_VERSION:
            vcpu.answer(self.gic)
        elif not access.is_write and register == CPUS:
            vcpu.answer(self.cpus)
        elif not access.is_write and register == PROTECTED:
            vcpu.answer(self.protected)
        else:
            self._fail(f"the guest {'writes' if access.is_write else 'reads'} {access.size} bytes at {access.address:#x}")

    def _next(self) -> int:
        if self.wait:
            code, tree = self.ram.frame(CODE - RAM), self.ram.frame(TREE - RAM)
            print(f"{READY} {code:x} {tree:x} {self.ram.address + CODE - RAM:x}", flush=True)
            os.read(0, 1)
            self.wait = False
        if not self.commands:
            return 0
        self.current = self.commands.pop(0)
        if self.current.name == "fill-4k":
            self._forget(SMALL_SLOT, SMALL, self.small)
        elif self.current.name == "fill-2m":
            self._forget(LARGE_SLOT, LARGE, self.large)
        return self.current.word

    def _forget(self, slot: int, guest: int, memory: Memory) -> None:
        """Stage 2 loses the slot's memory, this process keeps it."""
        self.vm.set_memory(slot, guest, 0, memory.address)
        self.vm.add_memory(slot, guest, memory)

    def _ended(self, wrong: int) -> None:
        if wrong:
            self._fail(WRONG[wrong] if wrong < len(WRONG) else f"result {wrong:#x}")
        else:
            print(f"PASS {self.current}, {self.ticks} ticks", flush=True)
        self.current = None


def pin(number: int) -> None:
    """The calling thread stays on one CPU of those that the process may use."""
    os.sched_setaffinity(0, {ALLOWED[number % len(ALLOWED)]})


def main(arguments: list[str]) -> int:
    """`[--wait] [--protected] IMAGE CPUS GIC KIND[+simd]xTIMES ..`; 0 where all commands passed."""
    options = [word for word in arguments if word.startswith("--")]
    path, cpus, gic, *wanted = arguments[len(options) :]
    commands = []
    for word in wanted:
        name, _, times = word.rpartition("x")
        commands.append(Command(name.removesuffix("+simd"), name.endswith("+simd"), int(times)))
    with open(path, "rb") as file:
        image = file.read()
    failures = Monitor(image, commands, int(cpus), int(gic), wait="--wait" in options, protected="--protected" in options).run()
    print(f"bare guest: {failures} failures", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the other vCPUs' threads are inside KVM and never return
