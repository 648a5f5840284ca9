# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor, as root, against what it has to keep of its protected guest: it alters, exchanges and brings back late, it writes while
EL2 takes pages, and it takes the same page again and again.

    forge IMAGE GIC            alters what the guest gets back, a guest for each way; each has to be stopped
    scribble IMAGE GIC COUNT   another thread writes while pages are given, measured and brought back, COUNT guests for each
    often IMAGE GIC COUNT      takes eight pages with the same content COUNT times

Each prints lines of what came of it. Threads: those of the monitor, and one that writes, which shares nothing with them but the guest's memory and
`over`; one process for each attack.
"""

from __future__ import annotations

import os
import sys
import threading

from delphyne.client.bare_guest import CLEAN, DEVICE, KEPT, RAM, TREE, UNMAP, UNMAP_PAGES, Command, Monitor, pin
from delphyne.client.kvm import Vcpu
from delphyne.client.memory import PAGE, Memory
from delphyne.client.steps import Act, Steps, ending, ending_within, once, stays_stopped

FORGED, OTHER = 5 * PAGE, 9 * PAGE
"""Offsets of the two pages that are altered and exchanged."""
QUIET = 512
"""Where in the device tree's page nothing stands: zeroes that the manifest names."""
CODE_BYTES = 4 * PAGE
"""Of the guest's code, at the start of its RAM."""
PATIENCE = 30
"""Seconds for a guest that may go on with anything for its code, if nobody stops it."""
WORD = 8
CHANGE = 0xA5
MORE = {"brought": 3}
"""Where the moment to write in is short: how many times as many guests."""
BLOCK = 16
"""Bytes of a block of AES."""
BLOCKS = 8
"""Of each page that are compared."""


def flip(memory: Memory, at: int) -> None:
    """One bit, by the touch that exports the page."""
    memory.write(at, bytes([memory.read(at, 1)[0] ^ 1]))


def flip_code(steps: Steps) -> None:
    """One bit of each page of the guest's code, in which it is at the moment."""
    for at in range(0, CODE_BYTES, PAGE):
        flip(steps.ram, at)


def exchange(steps: Steps) -> None:
    """Two pages take each other's place."""
    first, second = (steps.kept.read(at, PAGE) for at in (FORGED, OTHER))
    steps.kept.write(FORGED, second)
    steps.kept.write(OTHER, first)


class Past:
    """What a page was exported as: to be brought back to the same guest, whose page it is no more, and to the next one."""

    def __init__(self) -> None:
        self.page = b""

    def keep(self, steps: Steps) -> None:
        """From now on this is the past."""
        self.page = steps.kept.read(FORGED, PAGE)

    def bring(self, steps: Steps) -> None:
        """In place of what the page was exported as last, which is something else."""
        steps.failures += steps.kept.read(FORGED, PAGE) == self.page
        steps.kept.write(FORGED, self.page)


def forge(image: bytes, gic: int) -> None:
    """Every way on a guest of its own. The past of one goes to the next at the same address: another VM, and another run of one image."""
    past = Past()
    ways: list[tuple[str, str, list[Act]]] = [
        ("bit", "soak", [lambda steps: flip(steps.kept, FORGED + 100)]),
        ("last-bit", "soak", [lambda steps: flip(steps.kept, FORGED + PAGE - 1)]),
        ("zeroes", "soak", [lambda steps: steps.kept.write(FORGED, bytes(PAGE))]),
        ("exchanged", "soak", [exchange]),
        ("older", "soak", [past.keep, past.bring]),
        ("of-another-vm", "soak", [past.bring]),
        ("clean", "named", [lambda steps: flip(steps.ram, CLEAN - RAM + 64)]),
        ("tree", "named", [lambda steps: flip(steps.ram, TREE - RAM + QUIET)]),
        ("code", "named", [flip_code]),
    ]
    for name, command, acts in ways:
        steps = Steps(image, gic, [once(command, 2), *(once(command) for _ in acts)], acts)
        end = ending_within(steps, PATIENCE)
        print(f"hostile pages: forge {name} {end} stays {end == 'stopped' and stays_stopped(steps):d} failures {steps.failures}", flush=True)


class Scribbler:
    """Writes to `places` of a memory from the other CPU, all the time: another byte, and then, if `restore`, what was there."""

    def __init__(self, memory: Memory, places: list[int], *, restore: bool) -> None:
        self.memory, self.places, self.restore = memory, places, restore
        self.over = False
        self.writes = 0

    def begin(self, _steps: Steps | None = None) -> None:
        """From now on, until `over`."""
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pin(1)
        while not self.over:
            for at in self.places:
                was = self.memory.read(at, WORD)
                self.memory.write(at, bytes([was[0] ^ CHANGE]) + was[1:])
                if self.restore:
                    self.memory.write(at, was)
                self.writes += 1


def _scribbled(name: str, image: bytes, gic: int, number: int) -> tuple[str, int]:
    """How guest `number` ends, and how often somebody wrote."""
    if name == "given":
        steps = Steps(image, gic, [once("fill-4k", 2)], [])
        scribbler = Scribbler(steps.small, [WORD, PAGE + WORD], restore=number % 2 == 1)
    elif name == "measured":
        steps = Steps(image, gic, [once("named")], [])
        scribbler = Scribbler(steps.ram, [TREE - RAM + QUIET, CLEAN - RAM], restore=True)
    else:
        steps = Steps(image, gic, [once("soak", 2) for _ in range(3)], [])
        scribbler = Scribbler(steps.kept, [page * PAGE + WORD for page in range(number, number + 4)], restore=True)
    if name == "brought":
        steps.acts = [scribbler.begin]
    else:
        scribbler.begin()
    end = ending(steps)
    scribbler.over = True
    return end, scribbler.writes


def scribble(image: bytes, gic: int, count: int) -> None:
    """Pages that a guest touches first, that come back, that are measured: each guest finds what has to be there, or never begins, or is stopped."""
    for name in ("given", "brought", "measured"):
        ends = {"passed": 0, "wrong": 0, "refused": 0, "stopped": 0}
        writes = 0
        for number in range(count * MORE.get(name, 1)):
            end, made = _scribbled(name, image, gic, number)
            ends[end] += 1
            writes += made
        said = " ".join(f"{end} {times}" for end, times in ends.items())
        print(f"hostile pages: scribble {name} {said} writes {writes}", flush=True)


class Taker(Monitor):
    """Looks at the pages that it takes, `pages` by now, all with the same content but for two words; `repeated` blocks of theirs were seen before."""

    def __init__(self, image: bytes, gic: int, count: int) -> None:
        super().__init__(image, [Command("bring-4k", False, 1) for _ in range(count)], 1, gic, protected=True)
        self.pages = self.repeated = 0
        self._seen: set[bytes] = set()

    def _serve(self, vcpu: Vcpu) -> None:
        access = vcpu.mmio()
        super()._serve(vcpu)
        if access.is_write and access.address == DEVICE + UNMAP:
            for page in range(UNMAP_PAGES):
                self._look(self.kept.read(access.data - KEPT + page * PAGE, PAGE))

    def _look(self, page: bytes) -> None:
        self.pages += 1
        for at in range(0, PAGE, PAGE // BLOCKS):
            block = page[at : at + BLOCK]
            self.repeated += block in self._seen
            self._seen.add(block)


def often(image: bytes, gic: int, count: int) -> None:
    """No block of two pages is the same, nor of one page at two times."""
    taker = Taker(image, gic, count)
    print(f"hostile pages: often {ending(taker)} pages {taker.pages} repeated {taker.repeated}", flush=True)


def main(arguments: list[str]) -> int:
    """`ATTACK IMAGE GIC [COUNT]`."""
    attack, path, gic, *count = arguments
    with open(path, "rb") as file:
        image = file.read()
    if attack == "forge":
        forge(image, int(gic))
    elif attack == "scribble":
        scribble(image, int(gic), int(count[0]))
    else:
        often(image, int(gic), int(count[0]))
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads may be at work, and the guests that were stopped are never ended
