# SPDX-License-Identifier: Apache-2.0
"""The bare guest's monitor changes the manifest by which its guest would be protected, or lets another vCPU run while that happens: `IMAGE GIC`.

The guest's stub gives up where EL2 refuses it. One line for each way. Threads: those of the monitor.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading

from delphyne.client import kvm_abi as abi
from delphyne.client import registers
from delphyne.client.bare_guest import RAM, STUB, Monitor, pin
from delphyne.client.kvm import Vcpu
from delphyne.client.memory import PAGE
from delphyne.client.steps import ending, once

MANIFEST = STUB - RAM + PAGE
"""Offset of the manifest in the guest's RAM; the offsets below are those of docs/guest-abi.md."""
VERSION, FLAGS, ENTRY, TREE, TREE_BYTES, WINDOWS, SEGMENTS, SEED, SIGNATURE = 8, 12, 16, 24, 32, 36, 38, 40, 3072
FIRST_WINDOW, WINDOW_BYTES = 64, 24
FIRST_SEGMENT, SEGMENT_BYTES = 448, 56
WORD = (1 << 64) - 1
SPARE = 1 << 19
"""An offset in the guest's RAM at which nothing lies."""
PATIENCE = 20.0
"""Seconds for the other vCPU's last exit."""
LOOP = 0x1400_0000
"""B ."""
CHANGES = {
    "magic": (0, "<Q", 0x4542_5544),
    "version": (VERSION, "<I", 2),
    "flags": (FLAGS, "<I", 1),
    "entry-odd": (ENTRY, "<Q", RAM + 2),
    "entry-outside": (ENTRY, "<Q", RAM + SPARE),
    "tree-odd": (TREE, "<Q", STUB - PAGE + 4),
    "tree-outside": (TREE, "<Q", WORD - 7),
    "tree-huge": (TREE_BYTES, "<I", 0xFFFF_FFFF),
    "no-windows": (WINDOWS, "<H", 0),
    "many-windows": (WINDOWS, "<H", 0xFFFF),
    "fewer-windows": (WINDOWS, "<H", 2),
    "no-segments": (SEGMENTS, "<H", 0),
    "many-segments": (SEGMENTS, "<H", 0xFFFF),
    "seed-outside": (SEED, "<Q", RAM),
    "window-unaligned": (FIRST_WINDOW, "<Q", 0x0800_0001),
    "window-huge": (FIRST_WINDOW + 8, "<Q", 1 << 40),
    "window-wraps": (FIRST_WINDOW + 8, "<Q", WORD - 4095),
    "window-empty": (FIRST_WINDOW + 8, "<Q", 0),
    "window-of-no-kind": (FIRST_WINDOW + 16, "<I", 3),
    "windows-overlap": (FIRST_WINDOW + WINDOW_BYTES, "<Q", 0x0800_1000),
    "segment-unaligned": (FIRST_SEGMENT, "<Q", RAM + 8),
    "segment-outside": (FIRST_SEGMENT, "<Q", 1 << 39),
    "segment-huge": (FIRST_SEGMENT + 8, "<I", 0xFFFF_FFFF),
    "segment-empty": (FIRST_SEGMENT + 8, "<I", 0),
    "segment-without-rights": (FIRST_SEGMENT + 12, "<I", 0),
    "segment-with-more-rights": (FIRST_SEGMENT + 12, "<I", 15),
    "segments-overlap": (FIRST_SEGMENT + SEGMENT_BYTES, "<Q", RAM),
    "digest": (FIRST_SEGMENT + 16, "<Q", 0),
    "second-digest": (FIRST_SEGMENT + SEGMENT_BYTES + 16, "<Q", 0),
    "signed": (SIGNATURE, "<Q", WORD),
}
"""What is changed: where in the manifest, and to what."""


class Changed(Monitor):
    """A guest with one change in its manifest."""

    def __init__(self, image: bytes, gic: int, change: tuple[int, str, int]) -> None:
        super().__init__(image, [once("named")], 1, gic, protected=True)
        at, layout, value = change
        self.ram.write(MANIFEST + at, struct.pack(layout, value))


class Crowded(Monitor):
    """A guest of one CPU whose second vCPU runs at `place` of its RAM before the first begins, until KVM is told that it may not (`refused`)."""

    def __init__(self, image: bytes, gic: int, place: int) -> None:
        super().__init__(image, [once("named")], 2, gic, protected=True)
        self.ram.write(SPARE, struct.pack("<I", LOOP))
        self.vcpus[1].set(registers.PC, RAM + place)
        self.vcpus[1].send(abi.SET_MP_STATE, abi.MP_STATE, 0)
        self.cpus = 1
        self.refused = False
        self._begun = threading.Event()

    def _run_other(self, vcpu: Vcpu) -> None:
        pin(vcpu.number)
        self._begun.set()
        try:
            while vcpu.run() == abi.EXIT_INTR:
                pass
        except OSError as error:
            self.refused = error.errno == errno.EINVAL

    def crowd(self) -> str:
        """How the guest ends, and whether the other vCPU was refused."""
        other = threading.Thread(target=self._run_other, args=(self.vcpus.pop(),), daemon=True)
        other.start()
        self._begun.wait()
        end = ending(self)
        other.join(PATIENCE)
        return f"{end} refused {self.refused:d}"


def main(arguments: list[str]) -> int:
    """`IMAGE GIC`."""
    path, version = arguments
    gic = int(version)
    with open(path, "rb") as file:
        image = file.read()
    for name, change in CHANGES.items():
        print(f"hostile manifest: {name} {ending(Changed(image, gic, change))}", flush=True)
    print(f"hostile manifest: other-runs {Crowded(image, gic, SPARE).crowd()}", flush=True)
    print(f"hostile manifest: both-begin {Crowded(image, gic, STUB - RAM).crowd()}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the other vCPUs' threads are inside KVM and never return
