# SPDX-License-Identifier: Apache-2.0
"""How long a CPU stays at EL2, measured by EL2 itself: nearly as fast as the machine runs without being measured.

An image that was built with `stays` (`demo.build`) reads the physical counter where a stay begins and where it ends, and keeps each CPU's longest
(`stay_begins` and `stay_ends` in entry/el2.S). Under `-icount shift=0` QEMU's counter, of 62.5 MHz, takes a step each 16 instructions. It counts the
instructions of all CPUs, so that a machine under measurement has one. What the image adds, and what runs before the first reading and after the
second, are OUTSIDE instructions at most. The machine gets an interrupt now and then (`exec_log.between`), so that runs differ a little. Numbers are
read from the machine's memory, which lies in a file, when the host says that it is done, and begin at zero when it says that it is ready.
"""

from __future__ import annotations

import json as json_module
import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from delphyne.bench import exec_log, stays
from delphyne.board import host, qemu
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built

TICK = 16
"""Instructions in a step of the counter."""
OUTSIDE = 96
"""Instructions by which a length may be wrong: those of entry and exit that lie outside, those that measuring adds, and a step."""
RAM_AT = 0x4000_0000
CPUS, EACH = 64, 128
LAYOUT = struct.Struct("<40x7Q")
"""Of a CPU's part of `stays`, what is read here; el2.S has the whole as STAY_."""


@dataclass(frozen=True, slots=True)
class Stays:
    """What a machine had since it was ready: how many stays and instructions in them, the longest's length in instructions, whether it began from a
    guest (else from the host), and what ESR_EL2, ELR_EL2 and x0 were as it began."""

    count: int
    total: int
    longest: int
    from_guest: bool
    esr: int
    elr: int
    x0: int

    def __str__(self) -> str:
        origin = "a guest" if self.from_guest else "the host"
        began = f"from {origin}, ESR {self.esr:#x}, ELR {self.elr:#x}, x0 {self.x0:#x}"
        return f"{self.count} stays, {self.total} instructions, the longest {self.longest} ({began})"


class Marks:
    """`stays` in the memory of a machine in which `built` runs."""

    def __init__(self, built: Built, ram: mmap.mmap) -> None:
        self._ram = ram
        self._at = guest_build.addresses(built.elf, "stays")["stays"] + qemu.VIRT_IMAGE_BASE - RAM_AT

    def forget(self) -> None:
        """What was measured up to now. For a machine whose CPU is not at EL2 for long: it waits for a line."""
        self._ram[self._at : self._at + CPUS * EACH] = bytes(CPUS * EACH)

    def read(self) -> Stays:
        """The numbers of all CPUs as one."""
        found = [LAYOUT.unpack_from(self._ram, self._at + cpu * EACH) for cpu in range(CPUS)]
        ticks, origin, esr, elr, x0, _, _ = max(found)
        return Stays(sum(each[5] for each in found), TICK * sum(each[6] for each in found), TICK * ticks, bool(origin), esr, elr, x0)


@contextmanager
def marked(of: host.Host, built: Built) -> Iterator[tuple[host.Host, Marks]]:
    """The host `of`, its memory in a file, and what EL2 leaves there."""
    with tempfile.TemporaryDirectory(prefix="delphyne-stays-") as name:
        memory = Path(name) / "memory"
        size = of.machine.memory << 20
        with memory.open("w+b") as file:
            file.truncate(size)
            backed = ("-object", f"memory-backend-file,id=ram,size={size},mem-path={memory},share=on", "-machine", "memory-backend=ram")
            with mmap.mmap(file.fileno(), size) as ram:
                yield replace(of, machine=replace(of.machine, extra=(*of.machine.extra, *backed))), Marks(built, ram)


def run(
    kernel: str = "6.1", cpu: str = "cortex-a57", *, script: Path | None = None, times: int = 64,
    is_protected: bool = False, general_registers: bool = False, json: bool = False,
) -> bool:  # fmt: skip
    """`stays.run` by this way of measuring."""
    console = Console(stderr=True, quiet=json)
    limit = stays.SLOW_LIMIT if general_registers else stays.LIMIT
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        folder = Path(name)
        built = host.build(folder / "image", quiet=True, stays=True)
        of = stays.storm(kernel, cpu, times, folder, is_protected=is_protected, general_registers=general_registers, cpus=1)
        if script is not None:
            of = replace(of, script=script.read_text())
        with console.status(f"{kernel} above Delphyne on {cpu}, which measures itself"):
            found, _ = measure(of, built)
    ok = found.longest <= limit
    if json:
        print(json_module.dumps({**asdict(found), "limit": limit, "ok": ok}, indent=2))
    else:
        Console(highlight=False, width=200).print(f"{found}: {'' if ok else 'not '}within {limit}")
    return ok


def measure(of: host.Host, built: Built) -> tuple[Stays, str]:
    """Runs the script of `of`, a host with one CPU under icount, above `built`, an image with `stays`; what there was, and the console's text. Raises
    BoardError."""
    with marked(stays.between_marks(of), built) as (ready, marks):
        console = exec_log.between(host.command(ready, built.image), stays.READY, f"{stays.OVER}\n", marks.forget, stirred=True)
        return marks.read(), console
