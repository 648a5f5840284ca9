# SPDX-License-Identifier: Apache-2.0
"""The demo image: the EL2 files with the small program at EL1, built, run in QEMU, and run under gdb."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from delphyne.board import qemu
from delphyne.compiler import front
from delphyne.compiler.back.image import Built, build_image
from delphyne.el2.arch import variant

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "delphyne" / "el2" / "entry"
MODULES = (
    "delphyne.el2.entry.main",
    "delphyne.el2.entry.cpus",
    "delphyne.el2.entry.dispatch",
    "delphyne.el2.control.report",
    "delphyne.el2.control.log",
)
"""Modules that assembly calls into; the others follow from their calls. The log's own is named because messages are turned into its calls."""
GDB = "gdb-multiarch"
ARGUMENTS = "delphyne.demo"
"""EL2's own command line that asks for the program at EL1 in place of a host."""


def build(out: Path, *, quiet: bool = True, debug: bool = False, stays: bool = False) -> Built:
    """Checks, compiles and links the EL2 files into the folder `out`. Raises front.Refused or BackError with all that is wrong.

    `debug`: the image that shows what a host may not see (`el2/arch/variant.py`). `stays`: one that measures how long each CPU stays at EL2
    (`bench/stays_inside.py`)."""
    console = Console(stderr=True, quiet=quiet)
    with console.status("checking the EL2 files and making the typed tree"), patch.object(variant, "DEBUG", debug):
        program = front.compile_modules(MODULES)
    with console.status(f"compiling {len(program.functions)} functions and linking"):
        built = build_image(program, [ENTRY / "el2.S"], ENTRY / "el2.ld", out, symbols=("STAYS",) if stays else ())
    sizes = f"{built.text_bytes} bytes of text, {built.constant_bytes} of constants"
    console.print(f"built {built.image.name}{' for debugging' if debug else ''}: {len(program.functions)} functions, {sizes}")
    return built


def build_demo(out: Path) -> Path:
    """The bootable image `delphyne.img` in the folder `out`, with its ELF, listing and table of sites beside it."""
    return build(out, quiet=False).image


def run_demo(out: Path, machine: qemu.Machine | None = None, *, timeout: float = 60.0) -> int:
    """Builds and boots the demo with its console on stdout; 0 where the machine turned itself off after its deliberate trap."""
    image = build_demo(out)

    def show(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    done = qemu.run(image, replace(machine or qemu.Machine(), arguments=ARGUMENTS), timeout=timeout, show=show)
    if done.ending is not qemu.Ending.OFF:
        raise qemu.BoardError(f"the demo did not end by itself: {done.ending.value} after {done.seconds:.0f} s {done.complaint}".rstrip())
    if "*** end of report" not in done.console:
        raise qemu.BoardError("the demo turned off before its deliberate trap; its console above says why")
    return 0


def gdb_settings() -> list[str]:
    """What gdb needs to know of any image of ours."""
    return ["set confirm off", "set pagination off", "set architecture aarch64", f"directory {ROOT}"]


def gdb_commands(elf: Path, socket: Path) -> list[str]:
    """What gdb needs to know: symbols at the address the image runs at, where sources lie, and where the machine waits."""
    return [
        *gdb_settings(),
        f"add-symbol-file {elf} -o {qemu.VIRT_IMAGE_BASE:#x}",
        f"target remote {socket}",
    ]


def gdb_demo(out: Path, machine: qemu.Machine | None = None) -> int:
    """Builds the demo and hands the terminal to gdb, stopped before the first instruction. Returns gdb's exit code."""
    if shutil.which(GDB) is None:
        raise qemu.BoardError(f"{GDB} is not installed; install the Debian package {GDB}")
    built = build(out, quiet=False)
    with tempfile.TemporaryDirectory() as folder:
        socket, console = Path(folder) / "gdb", out / "console.txt"
        line = qemu.command(built.image, replace(machine or qemu.Machine(cpus=1), arguments=ARGUMENTS))
        with qemu.stopped_for_gdb(line, socket, console):
            print(f"the machine's console goes to {os.path.relpath(console)}; try: hbreak el2_main, continue")
            commands = [part for line in gdb_commands(built.elf, socket) for part in ("-ex", line)]
            return subprocess.run([GDB, "-q", *commands], check=False).returncode
