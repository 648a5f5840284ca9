# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor and its kernel (modules/hostile_table) offer a protected guest frames that are not to be its: `IMAGE GIC EL2`, where EL2
is the physical address of a page of the hypervisor's.

    vcpu     each frame of the running vCPU's structure: nobody gets it, and the guest goes on when the offer is taken back
    mmu      the same of that part of its VM's structure which EL2 uses
    self     a table that names itself: where it is the guest's, it leads nowhere any more
    root     the first table of KVM's
    own, el2, other   a frame that is the guest's already, EL2's, another protected guest's: the guest is stopped, and nobody else

One line for each. Threads: those of the monitor, and one that takes an offer back once the guest was entered with it often enough; it shares `served`
and what it is told with the monitor's.
"""

from __future__ import annotations

import os
import sys
import threading

from delphyne.client.bare_guest import DEVICE, PROTECTED, SMALL, Command, Monitor, pin
from delphyne.client.hostile_monitor import plaintext
from delphyne.client.kvm import Vcpu
from delphyne.client.memory import PAGE
from delphyne.client.module import tell
from delphyne.client.steps import Steps, ending, once, stays_stopped

CONTROL = "/dev/hostile_table"
FRAMES = 6
"""More than a vCPU's structure has."""
ENTRIES = 50
"""So often is the guest entered with an offer that nobody takes."""


def heard() -> dict[str, int]:
    """How often the guest was entered (`entries`), how many frames its vCPU's structure has (`frames`), that part of its VM's which EL2 uses (`mmu`)
    and all of that (`vm`), and how many entries are `left` in the table that was offered last."""
    with open(CONTROL, encoding="ascii") as device:
        words = device.read().split()[1:]
    return {name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)}


class Giver(Monitor):
    """While the guest touches one page after the other, the second and all after it are offered by `offers`, each a word and what follows the
    address; `own` is a frame of the guest's own. `waits` says that the guest cannot go on with them: then each is taken back, and `held` counts
    those with which it did not."""

    def __init__(self, image: bytes, gic: int, offers: list[str], *, waits: bool) -> None:
        super().__init__(image, [Command("fill-4k", False, 1 + len(offers)), once("nothing")], 1, gic, protected=True)
        self.offers, self.waits = offers, waits
        self.served = self.held = self._touched = 0
        tell(CONTROL, f"on {os.getpid()}")

    def _serve(self, vcpu: Vcpu) -> None:
        access = vcpu.mmio()
        super()._serve(vcpu)
        self.served += 1
        if access.is_write or access.address != DEVICE + PROTECTED or self._touched >= len(self.offers):
            return
        offer = self.offers[self._touched]
        self._touched += 1
        guest = SMALL + self._touched * PAGE
        word, _, rest = (f"frame {self.kept.frame(0):x}" if offer == "own" else offer).partition(" ")
        tell(CONTROL, f"{word} {guest:x} {rest}")
        if self.waits:
            threading.Thread(target=self._take_back, args=(guest, self.served, heard()["entries"]), daemon=True).start()

    def _take_back(self, guest: int, served: int, entered: int) -> None:
        pin(1)
        while heard()["entries"] < entered + ENTRIES and self.served == served:
            pass
        self.held += self.served == served
        tell(CONTROL, f"mend {guest:x}")


class Parked(Exception):
    """A guest has stopped where it was, and can be run on."""


class Waiting(Steps):
    """A guest that is parked after its first command, once."""

    def __init__(self, image: bytes, gic: int) -> None:
        super().__init__(image, gic, [once("soak", 2), once("soak", 1)], [])
        self.parked = False

    def _serve(self, vcpu: Vcpu) -> None:
        super()._serve(vcpu)
        if self.current is not None and len(self.commands) == 0 and not self.parked:
            self.parked = True
            raise Parked


def frames_of_the_vcpu(image: bytes, gic: int) -> str:
    """Each of them at least once."""
    giver = Giver(image, gic, [f"vcpu {number:x}" for number in range(FRAMES)], waits=True)
    end = ending(giver)
    return f"{end} frames {heard()['frames']} offers {FRAMES} held {giver.held}"


def frames_of_the_vm(image: bytes, gic: int) -> str:
    """The same."""
    giver = Giver(image, gic, [f"mmu {number:x}" for number in range(FRAMES)], waits=True)
    end = ending(giver)
    return f"{end} frames {heard()['mmu']} of {heard()['vm']} offers {FRAMES} held {giver.held}"


def tables(image: bytes, gic: int, kind: str) -> str:
    """The guest has the table's frame, zeroed, and gives it up."""
    end = ending(Giver(image, gic, [kind], waits=False))
    return f"{end} left {heard()['left']}"


def stopped(image: bytes, gic: int, offer: str) -> str:
    """The end of a guest to which a frame is offered that is somebody's."""
    giver = Giver(image, gic, [offer], waits=False)
    end = ending(giver)
    return f"{end} stays {end == 'stopped' and stays_stopped(giver):d}"


def own(image: bytes, gic: int) -> str:
    """One of the guest's frames at a second address."""
    giver = Giver(image, gic, ["own"], waits=False)
    giver.commands.insert(0, once("soak", 2))
    end = ending(giver)
    return f"{end} stays {end == 'stopped' and stays_stopped(giver):d} plaintext {plaintext(giver.kept)}"


def other(image: bytes, gic: int) -> str:
    """A frame of a guest that waits, and goes on afterwards."""
    waiting = Waiting(image, gic)
    try:
        end = ending(waiting)
    except Parked:
        end = "parked"
    said = stopped(image, gic, f"frame {waiting.kept.frame(0):x}")
    return f"{said} waited {end} {ending(waiting)} plaintext {plaintext(waiting.kept)}"


def main(arguments: list[str]) -> int:
    """`IMAGE GIC EL2`."""
    path, version, el2 = arguments
    gic = int(version)
    with open(path, "rb") as file:
        image = file.read()
    print(f"hostile table: vcpu {frames_of_the_vcpu(image, gic)}", flush=True)
    print(f"hostile table: mmu {frames_of_the_vm(image, gic)}", flush=True)
    print(f"hostile table: self {tables(image, gic, 'self')}", flush=True)
    print(f"hostile table: own {own(image, gic)}", flush=True)
    print(f"hostile table: el2 {stopped(image, gic, f'frame {el2}')}", flush=True)
    print(f"hostile table: other {other(image, gic)}", flush=True)
    print(f"hostile table: root {tables(image, gic, 'root')}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # threads may be at work, and the guests that were stopped are never ended
