# SPDX-License-Identifier: Apache-2.0
"""A stock host with modules/hostile in it: boots, is told what to try, and hands back what it saw, what EL2 said and what memory holds."""

from __future__ import annotations

import mmap
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from delphyne.bench.boot import own_memory
from delphyne.board import host, kmodule, qemu
from delphyne.compiler.back.image import Built
from delphyne.el2.arch.cpu import SLOT_BYTES

RAM_AT = 0x4000_0000
RAM_MIB = 512
CPUS = 2
PAGE = 4096
MARK_AT = 0x100
"""Where in a page the module stores, and what: mark() of its source."""

PREPARE = """
dmesg -n 1
insmod /hostile.ko || exit
try() { echo "$*" > /dev/hostile || echo "not taken: $*"; }
"""
FINISH = """
cat /dev/hostile
ls /dev/kvm && echo host complete
"""
TOUCH = re.compile(r"delphyne/\d+: warning: the host at (0x[0-9a-f]+) touches (0x[0-9a-f]+), which is not its own: write ([01]), fault status 0x")


def mark(page: int) -> int:
    return page ^ 0x6C69_6174_736F_6800


@dataclass(frozen=True)
class Layout:
    """Where EL2 lies: physical addresses."""

    image: range
    tables: range
    fixed: int
    """Bytes from the start of the image on that never change: text and constants."""

    @property
    def pages(self) -> list[int]:
        return [page for part in (self.image, self.tables) for page in range(part.start, part.stop, PAGE)]


def layout(built: Built) -> Layout:
    """From the linked file, and from what EL2 says on a short boot of the same machine. `Seen.check` holds it against the boot under attack."""
    line = host.command(host.Host(machine=machine("cortex-a57", CPUS)), built.image)
    console = qemu.run_command(line, timeout=60.0, until="the host begins").console
    tables_at = re.search(r"tables at (0x[0-9a-f]+)", console)
    assert tables_at is not None, console
    base = int(tables_at[1], 16)
    end = base + own_memory(built.image, RAM_MIB << 20, CPUS).tables
    assert end <= RAM_AT + (RAM_MIB << 20), console
    with built.elf.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        symbols = {name: table.get_symbol_by_name(name)[0]["st_value"] for name in ("__stacks_start", "__rodata_end")}
    image_end = qemu.VIRT_IMAGE_BASE + symbols["__stacks_start"] + CPUS * int(SLOT_BYTES)
    return Layout(range(qemu.VIRT_IMAGE_BASE, image_end), range(base, end), symbols["__rodata_end"])


def machine(cpu: str, cpus: int, *, gic: int = 3, extra: tuple[str, ...] = ()) -> qemu.Machine:
    return qemu.Machine(cpu=cpu, cpus=cpus, memory=RAM_MIB, gic=gic, extra=extra)


@dataclass(frozen=True)
class Touch:
    """One line of EL2's: at which instruction the host touched which page."""

    pc: int
    page: int
    write: bool


@dataclass(frozen=True)
class Seen:
    """What came out of a boot."""

    console: str
    memory: Path
    places: Layout
    built: Built

    @property
    def touches(self) -> list[Touch]:
        return [Touch(int(pc, 16), int(page, 16), write == "1") for pc, page, write in TOUCH.findall(self.console)]

    def lines(self, start: str) -> list[str]:
        """What the module said, without its name, of lines that start so."""
        return [line.removeprefix("hostile: ") for line in self.console.splitlines() if line.startswith(f"hostile: {start}")]

    def check(self) -> None:
        """Nothing stopped, EL2's memory is what it was, and the host went on to its end."""
        assert "host complete" in self.console, self.console
        assert "not taken" not in self.console, self.console
        assert "*** delphyne" not in self.console, self.console
        assert f"tables at {self.places.tables.start:#x}" in self.console, self.console
        assert f"image at {self.places.image.start:#x}" in self.console, self.console
        with self.memory.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram:
            start = self.places.image.start - RAM_AT
            image = self.built.image.read_bytes()[: self.places.fixed]
            assert ram[start : start + len(image)] == image, "text or constants of EL2 changed"
            marked = [page for page in self.places.pages if _stored(ram, page)]
        assert not marked, f"the host wrote to {[hex(page) for page in marked]}"


def _stored(ram: mmap.mmap, page: int) -> bool:
    at = page - RAM_AT + MARK_AT
    return int.from_bytes(ram[at : at + 8], "little") == mark(page)


def attack(built: Built, places: Layout, folder: Path, kernel: str, cpu: str, cpus: int, script: str, *, gic: int = 3) -> Seen:
    """Boots the host and runs `script`, in which `try ATTACK ..` tells the module what to do."""
    memory = folder / "memory"
    backed = ("-object", f"memory-backend-file,id=ram,size={RAM_MIB}M,mem-path={memory},share=on", "-machine", "memory-backend=ram")
    files = (("hostile.ko", kmodule.build("hostile", kernel).read_bytes()),)
    started = host.Host(kernel=kernel, machine=machine(cpu, cpus, gic=gic, extra=backed), script=PREPARE + script + FINISH, files=files)
    done = host.run(started, built.image, timeout=120.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    seen = Seen(done.console, memory, places, built)
    seen.check()
    return seen


def by_page(touches: list[Touch], *, write: bool) -> Counter[int]:
    """How often each page was touched in this way."""
    return Counter(touch.page for touch in touches if touch.write is write)
