# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor against its protected guest by means that every host has, and that the guest is to survive or to be stopped by, one line
for each:

    read-only    the guest's memory may only be read for a while
    clean        pages that the guest may only read go and come back
    counter      the guest's counter is moved back and forth at each exit
    balloon      pages that the guest has given up are lost, and then pages that it has not given up
    exclusive    another thread reads the page in which the guest counts by exclusives
    merge        the host's kernel merges pages of one content in the guest's memory

`IMAGE GIC` does all of them. Threads: those of the monitor, and the one that reads, which shares nothing with them but the guest's memory and `over`.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import threading

from delphyne.client import ksm, registers
from delphyne.client.bare_guest import CLEAN, PATTERN, RAM, Monitor, pin
from delphyne.client.hostile_monitor import plaintext
from delphyne.client.kvm import Vcpu
from delphyne.client.memory import PAGE, Memory
from delphyne.client.steps import Steps, ending, once, stays_stopped

SHIFT = 1 << 33
"""Ticks by which the counter is moved."""
WORD = (1 << 64) - 1
LOOKS = 64
COUNTING = 4
"""Guests that count by exclusives, one after the other."""
GIVEN = 4
"""Pages that the guest gives up."""
EQUAL, OTHERS = 256, 512
"""Pages that the guest fills with one content (EQUAL_PAGES in board/guest/program.py), and pages that only the monitor does."""


def protect(memory: Memory, rights: int) -> None:
    """mprotect(2) of all of it."""
    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(memory.address), ctypes.c_size_t(memory.size), rights):
        raise OSError(ctypes.get_errno(), "mprotect")


def read_only(image: bytes, gic: int) -> str:
    """Nothing leaves in clear because the host may not write it, and the guest goes on when it may be written again."""
    steps = Steps(image, gic, [once("soak", 2), once("soak", 2)], [lambda steps: protect(steps.kept, mmap.PROT_READ)])
    refusals = seen = 0
    while True:
        try:
            return f"{ending(steps)} refusals {refusals} plaintext {seen}"
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
        refusals += 1
        seen += plaintext(steps.kept)
        protect(steps.kept, mmap.PROT_READ | mmap.PROT_WRITE)


def clean(image: bytes, gic: int) -> str:
    """By the host's touch, and by its map: they come back as pages that the guest may only read."""

    def touch(steps: Steps) -> None:
        steps.ram.read(CLEAN - RAM, PAGE)

    def take(steps: Steps) -> None:
        protect(steps.ram, mmap.PROT_READ)
        protect(steps.ram, mmap.PROT_READ | mmap.PROT_WRITE)

    return ending(Steps(image, gic, [once("named") for _ in range(3)], [touch, take]))


class Clock(Monitor):
    """Sets the guest's counter at each of its exits (KVM_SET_ONE_REG)."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, [once("counter", LOOKS)], 1, gic, protected=True)
        self.moves = 0

    def _serve(self, vcpu: Vcpu) -> None:
        super()._serve(vcpu)
        now = vcpu.get(registers.TIMER_CNT)
        vcpu.set(registers.TIMER_CNT, (0, now - SHIFT & WORD, now + SHIFT & WORD, 1, WORD)[self.moves % 5])
        self.moves += 1


def counter(image: bytes, gic: int) -> str:
    """To the start, back, ahead, and to the end of it."""
    clock = Clock(image, gic)
    return f"{ending(clock)} moves {clock.moves}"


def balloon(image: bytes, gic: int) -> str:
    """What a balloon and free page reporting come to: the host drops pages. What the guest has given up is zero for the host too."""
    zero = 0

    def lose(steps: Steps) -> None:
        nonlocal zero
        for at in range(0, GIVEN * PAGE, PAGE):
            zero += steps.small.read(at, PAGE) == bytes(PAGE)
            steps.small.drop(at, PAGE)

    given = ending(Steps(image, gic, [once("fill-4k", GIVEN), once("fill-4k", GIVEN)], [lose]))
    lost = Steps(image, gic, [once("refill-4k")], [])
    end = ending(lost)
    return f"{given} zero {zero} lost {end} stays {end == 'stopped' and stays_stopped(lost):d}"


class Reader(Monitor):
    """The page in which the guest counts is looked at, and changes at `exports` looks."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, [once("exclusive")], 1, gic, protected=True)
        self.exports = 0
        self.over = False

    def look(self) -> None:
        """Until it is over, from the other CPU."""
        pin(1)
        last = b""
        while not self.over:
            page = self.kept.read(0, PAGE)
            self.exports += page != last
            last = page


def exclusive(image: bytes, gic: int) -> str:
    """No addition of any guest's is lost or done twice. The moment in which one could be is short, and only there while both CPUs run."""
    ends, exports = set(), 0
    for _ in range(COUNTING):
        reader = Reader(image, gic)
        threading.Thread(target=reader.look, daemon=True).start()
        ends.add(ending(reader))
        reader.over = True
        exports += reader.exports
    return f"{'/'.join(sorted(ends))} exports {exports}"


def merge(image: bytes, gic: int) -> str:
    """All of EQUAL, and OTHERS that the guest never touches, before it does; then no page of the guest's, though all have one content."""
    counts: list[int] = []

    def scan(_steps: Steps) -> None:
        ksm.merge()
        counts.append(ksm.merged())

    steps = Steps(image, gic, [once("nothing"), *(once("equal") for _ in range(3))], [scan, scan, scan])
    steps.use_mergeable()
    content = PATTERN * (PAGE // len(PATTERN))
    steps.kept.write(0, content * EQUAL)
    steps.kept.write(2 * EQUAL * PAGE, content * OTHERS)
    end = ending(steps)
    return f"{end} merged {' '.join(str(count) for count in counts)}"


ATTACKS = {"read-only": read_only, "clean": clean, "counter": counter, "balloon": balloon, "exclusive": exclusive, "merge": merge}


def main(arguments: list[str]) -> int:
    """`IMAGE GIC`."""
    path, gic = arguments
    with open(path, "rb") as file:
        image = file.read()
    for name, attack in ATTACKS.items():
        print(f"hostile means: {name} {attack(image, int(gic))}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads may be at work, and the guests that were stopped are never ended
