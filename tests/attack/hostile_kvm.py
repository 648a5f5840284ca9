# SPDX-License-Identifier: Apache-2.0
"""A stock host with modules/hostile_kvm in it, and, where wanted, the bare guest under its KVM at the same time."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass, replace
from pathlib import Path

import el2_memory
from hostile_host import PAGE, RAM_AT, RAM_MIB, Layout, machine

from delphyne.bench import kvm, stays, stays_inside
from delphyne.board import bare_guest, host, host_python, kmodule, qemu
from delphyne.board.el2_statics import Memory
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built

NOTHING = 0x0B00_0000
"""A physical address of QEMU's virt machine at which nothing answers."""
WELL = "; a guest runs"
NUMBERS = re.compile(r"(\w+) ([0-9a-f]+)(?= |$)")
KINDS = ("hypercall", "mmio", "vgic", "ipi", "eoi", "timer", "wfi", "fill-4k", "fill-2m", "refill-4k")
TIMES = 4
TROUBLE = ("WARNING: CPU", "BUG:", "Oops", "rcu_sched", "rcu_preempt", "soft lockup", "not taken", "*** delphyne")
PREPARE = """
dmesg -n 4
echo 0 > /sys/module/kvm/parameters/halt_poll_ns
insmod /hostile_kvm.ko || exit
try() { echo "$*" > /dev/hostile_kvm || echo "not taken: $*"; }
"""
FINISH = """
cat /dev/hostile_kvm
ls /dev/kvm && echo host complete
"""


@dataclass(frozen=True)
class Outcome:
    """One line of the module's: what was tried, and the numbers that came of it."""

    what: str
    numbers: dict[str, int]


@dataclass(frozen=True)
class Seen:
    """What came out of a boot."""

    console: str
    outcomes: list[Outcome]
    left: el2_memory.Left

    def of(self, what: str) -> dict[str, int]:
        """The numbers of the one line about `what`."""
        (found,) = [outcome.numbers for outcome in self.outcomes if outcome.what == what]
        return found


def outcomes(console: str) -> list[Outcome]:
    """The module's lines. Numbers of the field `classes` are hexadecimal, all others decimal."""
    found = []
    for line in console.splitlines():
        if line.startswith("hostile_kvm: "):
            assert line.endswith(WELL), f"{line}\n{console}"
            what, _, rest = line.removeprefix("hostile_kvm: ").removesuffix(WELL).partition(": ")
            kind = rest.split()[0] if what in ("controls", "reach", "flip", "listed") else ""
            name = f"{what} {kind}" if kind else what
            numbers = {key: int(number, 16 if key == "classes" else 10) for key, number in NUMBERS.findall(rest.removeprefix(f"{kind} "))}
            found.append(Outcome(name, numbers))
    return found


def target(places: Layout) -> str:
    """The command that names EL2's image and, behind it, nothing: what guests try to reach."""
    return f"try target {places.image.start:x} {len(places.image) // PAGE:x}\n"


@dataclass(frozen=True)
class Beside:
    """A script in which KVM runs the bare guest while an attack goes on, the files that it needs, and how many commands the guest is given."""

    script: str
    files: tuple[tuple[str, bytes], ...]
    commands: int


def beside_guest(guest: guest_build.Guest, script: str) -> Beside:
    """`script` in the background, the guest meanwhile, and once more the guest when both are over. The first says what it found when nobody else
    writes to the console."""
    commands = bare_guest.words(KINDS, TIMES)
    run = host_python.command("bare_guest", f"/{bare_guest.IMAGE}", "2", "3", *commands)
    text = f"({script}) &\n{run} > /tmp/beside\nwait\ncat /tmp/beside\n{run}\n"
    return Beside(text, (*host_python.files(), (bare_guest.IMAGE, guest.image.read_bytes())), 2 * len(commands))


def has_passed(console: str, beside: Beside) -> bool:
    """Whether the guest found everything right, both times."""
    return console.count(f"bare guest: 0{bare_guest.END}") == 2 and console.count("\nPASS ") == beside.commands


def _measured_host(kernel: str, cpu: str, cpus: int, script: str) -> host.Host:
    files = (("hostile_kvm.ko", kmodule.build("hostile_kvm", kernel).read_bytes()),)
    return replace(kvm.measured_host(kernel, cpu, plain=False, cpus=cpus), script=PREPARE + script + FINISH, files=files)


def measured(built: Built, kernel: str, cpu: str, script: str) -> stays.Reader:
    """How long EL2 was at work at a time while a host ran `script`, as in `attack`."""
    return stays.measure(_measured_host(kernel, cpu, 2, script), built)


@dataclass(frozen=True)
class Measured:
    """What EL2 measured of itself, and what the module said."""

    stays: stays_inside.Stays
    console: str
    outcomes: list[Outcome]

    def of(self, what: str) -> dict[str, int]:
        """The numbers of the one line about `what`."""
        (found,) = [outcome.numbers for outcome in self.outcomes if outcome.what == what]
        return found


def measured_inside(measuring: Built, kernel: str, cpu: str, script: str) -> Measured:
    """The same by EL2 itself, in an image that was built with `stays`, on a machine of one CPU."""
    found, console = stays_inside.measure(_measured_host(kernel, cpu, 1, script), measuring)
    assert "host complete" in console, console
    return Measured(found, console, outcomes(console))


def measured_both_ways(measuring: Built, kernel: str, cpu: str, script: str) -> tuple[stays.Reader, stays_inside.Stays]:
    """The same stays of the same machine, by QEMU's log of blocks and by EL2 itself."""
    of = _measured_host(kernel, cpu, 1, script)
    with stays_inside.marked(stays.between_marks(of), measuring) as (ready, marks):
        return stays.logged(ready, measuring, marks.forget), marks.read()


def attack(
    built: Built, folder: Path, kernel: str, cpu: str, cpus: int, script: str, *, gic: int = 3, timeout: float = 120.0,
    files: tuple[tuple[str, bytes], ...] = (),
) -> Seen:
    """Boots the host and runs `script`, in which `try COMMAND ..` tells the module what to do. Everything that must hold afterwards is checked."""
    memory = folder / "memory"
    backed = ("-object", f"memory-backend-file,id=ram,size={RAM_MIB}M,mem-path={memory},share=on", "-machine", "memory-backend=ram")
    packed = (("hostile_kvm.ko", kmodule.build("hostile_kvm", kernel).read_bytes()), *files)
    started = host.Host(kernel=kernel, machine=machine(cpu, cpus, gic=gic, extra=backed), script=PREPARE + script + FINISH, files=packed)
    done = host.run(started, built.image, timeout=timeout)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
    assert "host complete" in done.console, done.console[-20000:]
    with memory.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram:
        left = el2_memory.check(Memory(built, ram, RAM_AT, el2_memory.WANTED))
    return Seen(done.console, outcomes(done.console), left)
