# SPDX-License-Identifier: Apache-2.0
"""The storm of `soak`, on memory that the host's kernel may merge, move and swap as it likes, with the dirty log going on and off meanwhile:
`IMAGE GIC SEED COUNT`.

Threads: those of `soak`.
"""

from __future__ import annotations

import os
import sys

from delphyne.client import kvm_abi as abi
from delphyne.client.bare_guest import KEPT, KEPT_SLOT
from delphyne.client.ksm import scans
from delphyne.client.memory import PAGE
from delphyne.client.soak import Soak

WAYS = ("touch", "swap")
"""Anonymous memory that is dropped is lost."""


def counter(name: str) -> int:
    """A counter of the kernel's (/proc/vmstat)."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(f"{name} ")), 0)


class Stormy(Soak):
    """`logs` times the dirty log was turned on and read; `dirty` pages were in it."""

    def __init__(self, image: bytes, gic: int, seed: int, count: int) -> None:
        super().__init__(image, gic, seed, count)
        self.use_mergeable()
        self.storm.memory = self.kept
        self.storm.ways = WAYS
        self.logs = self.dirty = 0
        self._logged = False

    def _next(self) -> int:
        if self._logged:
            self.dirty += len(self.vm.dirty_log(KEPT_SLOT, self.kept.size // PAGE))
            self.logs += 1
        self._logged = not self._logged
        self.vm.add_memory(KEPT_SLOT, KEPT, self.kept, abi.MEM_LOG_DIRTY_PAGES if self._logged else 0)
        return super()._next()


def main(arguments: list[str]) -> int:
    """`IMAGE GIC SEED COUNT`."""
    path, gic, seed, count = arguments
    with open(path, "rb") as file:
        image = file.read()
    before = {name: counter(name) for name in ("pswpout", "pgmigrate_success", "compact_migrate_scanned")}
    scanned = scans()
    stormy = Stormy(image, int(gic), int(seed), int(count))
    failures = stormy.run()
    happened = " ".join(f"{name} {counter(name) - start}" for name, start in before.items())
    said = f"failures {failures} plaintext {stormy.storm.plaintext} exports {sum(stormy.storm.exports.values())} rounds {stormy.rounds}"
    print(f"hostile storm: {said} logs {stormy.logs} dirty {stormy.dirty} scans {scans() - scanned} {happened}", flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the storm's thread may be at work
