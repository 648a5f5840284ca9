# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor as an enemy of its protected guest: what userspace can do to a guest by KVM's own calls, without the kernel's help.

    initialise IMAGE GIC   resets vCPU 0 and sets all its registers at each of its exits (KVM_ARM_VCPU_INIT, KVM_SET_ONE_REG), after a look at them
    alias IMAGE GIC        offers the guest's own frames at a second address
    identity IMAGE GIC     has KVM say less in every identification register, to a guest that is to be protected and to an ordinary one
    share IMAGE GIC        gives the guest's memory to an ordinary VM as well, before and after it is the guest's

Each prints one line of what came of it. Threads: those of the monitor; one process for each attack.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys

from delphyne.client import kvm_abi as abi
from delphyne.client import registers, vgic
from delphyne.client.bare_guest import DEVICE, KEPT, PATTERN, RAM, RAM_BYTES, SMALL, SMALL_SLOT, Command, Monitor
from delphyne.client.kvm import Kvm, Vcpu
from delphyne.client.memory import PAGE, Memory
from delphyne.client.soak import MARK, PAGES
from delphyne.client.steps import late

KINDS = (0x0010, 0x0013)
"""Of the registers' numbers: core and system registers."""
SPARED = {registers.MPIDR_EL1, registers.TIMER_CTL, registers.TIMER_CVAL, registers.TIMER_CNT, registers.PHYSICAL_CNT}
"""By the first four KVM finds the vCPU for an interrupt, and times the guest's sleep: without them it gets no interrupts, which is no secret of its.
The last one runs on."""
KEPT_ZERO = {registers.PSTATE: 0x3FF, registers.SCTLR_EL1: 3 << 24}
KEPT_ONE = {registers.PSTATE: 0x3C5}
"""KVM swaps the bytes of what a guest reads where these say that it is big-endian, and cuts registers where they say AArch32."""
SHOWN = {registers.PC, registers.PSTATE}
"""What each exit shows, whatever the guest's are."""
GENERAL = {registers.x(number) for number in range(31)}
REWRITTEN = ("mmio", "take-4k", "bring-4k", "ipi")
WATCHED = "mmio"
"""All exits of this command are the monitor's, so that nothing else shows a register meanwhile."""
SECONDS = 10.0
"""For one read of the ordinary VM's, which may never be answered."""
READER = (0xF940_0001, 0xF900_0041, 0x17FF_FFFE)
"""LDR X1, [X0]; STR X1, [X2]; and again."""


class Rewriter(Monitor):
    """`rounds` exits of a command were followed by a reset and other values of `written` registers; `leaks` registers held something else at an exit
    than was put there or than that exit shows."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, [Command(kind, False, 4) for kind in REWRITTEN], 2, gic, protected=True)
        self.rounds = self.leaks = self.written = 0
        self._put: dict[int, int] = {}
        self._answered: set[int] = set()
        self._all = [one for one in self.vcpus[0].register_list() if one >> 16 & 0xFFF in KINDS and one not in SPARED]

    def _serve(self, vcpu: Vcpu) -> None:
        if self.current is not None and self.current.name == WATCHED:
            self._look(vcpu)
        super()._serve(vcpu)
        if self.current is None:
            return
        start = abi.RUN_EXIT + 8
        self._answered = {int.from_bytes(vcpu.page[start : start + 8], "little")}
        self._rewrite(vcpu)

    def _look(self, vcpu: Vcpu) -> None:
        access = vcpu.mmio()
        expected = self._answered | ({access.data} if access.is_write else set())
        for register, value in self._put.items():
            now = vcpu.get(register)
            if now == value or register in SHOWN or (register in GENERAL and now in expected):
                continue
            self.leaks += 1
            print(f"hostile monitor: register {register:#x} was {value:#x} and is {now:#x}", flush=True)

    def _rewrite(self, vcpu: Vcpu) -> None:
        vcpu.initialise(abi.FEATURE_PSCI_0_2)
        self.rounds += 1
        taken = []
        for number, register in enumerate(self._all):
            value = (0xBAD0_0000_0000_0000 | self.rounds << 32 | number << 4) & (1 << 8 * min(registers.size(register), 8)) - 1
            value = value & ~KEPT_ZERO.get(register, 0) | KEPT_ONE.get(register, 0)
            try:
                vcpu.set(register, value)
            except OSError:
                continue
            taken.append(register)
        # Some have only some of their bits.
        self._put = {register: vcpu.get(register) for register in taken}
        self.written = len(self._put)


class Aliaser(Monitor):
    """The memory at KEPT is at SMALL too."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, [Command("soak", False, 2), Command("fill-4k", False, 1)], 1, gic, protected=True)
        self.vm.set_memory(SMALL_SLOT, SMALL, 0, self.small.address)
        self.small = self.kept
        self.vm.add_memory(SMALL_SLOT, SMALL, self.kept)


class Stranger:
    """An ordinary VM whose vCPU reads one word at `address` of `memory`, which it has at KEPT, and says it."""

    def __init__(self, memory: Memory, address: int, gic: int) -> None:
        vm = Kvm().create_vm()
        self._ram = Memory(RAM_BYTES)
        self._ram.write(0, struct.pack(f"<{len(READER)}I", *READER))
        vm.add_memory(0, RAM, self._ram)
        vm.add_memory(1, KEPT, memory)
        controller = vgic.create(vm, gic)
        self._vcpu = vm.create_vcpu(0)
        self._vcpu.initialise(abi.FEATURE_PSCI_0_2)
        vgic.initialise(controller)
        for register, value in ((registers.PC, RAM), (registers.x(0), address), (registers.x(2), DEVICE)):
            self._vcpu.set(register, value)

    def read(self) -> int | None:
        """What it read; None where it got no answer."""
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            return self._vcpu.mmio().data if self._vcpu.run() == abi.EXIT_MMIO else None
        except TimeoutError:
            return None
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


class Sharer(Monitor):
    """What the ordinary VM read `before` the memory was the guest's, and `after` the guest wrote to it."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, [Command("soak", False, 2)], 1, gic, protected=True)
        self.kept.write(8, PATTERN)
        self._stranger = Stranger(self.kept, KEPT + 8, gic)
        self.before = self._stranger.read()
        self.after: int | None = None

    def _ended(self, wrong: int) -> None:
        self.after = self._stranger.read()
        super()._ended(wrong)


class Liar(Monitor):
    """Of the identification registers, `changed` say less than they did before the guest ran, if `lies`."""

    def __init__(self, image: bytes, gic: int, *, lies: bool, protected: bool) -> None:
        super().__init__(image, [Command("identity", False, 1)], 1, gic, protected=protected)
        self.changed = sum(self._lower(one) for one in self.vcpus[0].register_list() if lies and registers.is_identification(one))

    def _lower(self, register: int) -> bool:
        """Every field of a register that KVM lets be less is. Whether there was one."""
        vcpu = self.vcpus[0]
        before = vcpu.get(register)
        for shift in range(0, 64, 4):
            now = vcpu.get(register)
            field = now >> shift & 15
            for less in range(field):
                try:
                    vcpu.set(register, now - (field - less << shift))
                except OSError:
                    continue
                break
        return vcpu.get(register) != before


def identities(image: bytes, gic: int) -> str:
    """How many registers the guests have shown, how many of them the lies changed for a protected guest and for an ordinary one."""
    seen: dict[bool, int] = {}
    shown = changed = failures = 0
    for protected in (True, False):
        honest, liar = (Liar(image, gic, lies=lies, protected=protected) for lies in (False, True))
        failures += honest.run() + liar.run()
        shown = len(honest.shown)
        changed = liar.changed
        seen[protected] = sum(one != other for one, other in zip(honest.shown, liar.shown, strict=True))
    return f"shown {shown} changed {changed} protected {seen[True]} ordinary {seen[False]} failures {failures}"


def is_stopped(monitor: Monitor) -> bool:
    """Whether KVM refuses to run the guest on."""
    try:
        monitor.run()
    except OSError as error:
        return error.errno == errno.EINVAL
    return False


def plaintext(memory: Memory) -> int:
    """How many of the pages that the guest wrote show the process what it wrote."""
    return sum(MARK in memory.read(page * PAGE, PAGE) for page in range(PAGES))


def main(arguments: list[str]) -> int:
    """`ATTACK IMAGE GIC`."""
    attack, path, gic = arguments
    with open(path, "rb") as file:
        image = file.read()
    signal.signal(signal.SIGALRM, late)
    if attack == "initialise":
        rewriter = Rewriter(image, int(gic))
        failures = rewriter.run()
        said = f"rounds {rewriter.rounds} registers {rewriter.written} leaks {rewriter.leaks} failures {failures}"
    elif attack == "alias":
        aliaser = Aliaser(image, int(gic))
        said = f"stopped {is_stopped(aliaser):d} plaintext {plaintext(aliaser.kept)}"
    elif attack == "identity":
        said = identities(image, int(gic))
    else:
        sharer = Sharer(image, int(gic))
        failures = sharer.run()
        before = sharer.before == int.from_bytes(PATTERN, "little")
        after = sharer.after is not None and MARK in sharer.after.to_bytes(8, "little")
        said = f"before {before:d} after {after:d} answered {sharer.after is not None:d} failures {failures} plaintext {plaintext(sharer.kept)}"
    print(f"hostile monitor: {attack} {said}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the other vCPUs' threads are inside KVM and never return
