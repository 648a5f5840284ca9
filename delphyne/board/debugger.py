# SPDX-License-Identifier: Apache-2.0
"""gdb on a host above Delphyne: the hypervisor's symbols with its Python source, and the kernel's own where its debug package is there.

Either the machine waits for gdb already (`delphyne run --gdb`, in another terminal, which keeps the host's console), or it is started here, stopped,
with its console in a file. The kernel is started without KASLR, so that its symbols are where it was linked.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from delphyne.board import debian, demo, host, kernels, qemu
from delphyne.board.host import Host

PORT = 1234
ADDRESS = "127.0.0.1"
ZCU102_IMAGE_BASE = 0x20_0000
"""Where QEMU's ZCU102 puts an arm64 Image: RAM begins at 0."""


def is_waiting() -> bool:
    """Whether a machine waits for gdb at PORT of this computer."""
    with socket.socket() as tried:
        tried.settimeout(1.0)
        return tried.connect_ex((ADDRESS, PORT)) == 0


def commands(elf: Path, board: str, target: str, vmlinux: Path | None) -> list[str]:
    """What gdb needs to know of a host. The kernel's file is the main one, which makes room for the hypervisor's beside it."""
    base = ZCU102_IMAGE_BASE if board == host.ZCU102 else qemu.VIRT_IMAGE_BASE
    kernel = [f"file {vmlinux}"] if vmlinux is not None else []
    return [*demo.gdb_settings(), *kernel, f"add-symbol-file {elf} -o {base:#x}", f"target remote {target}"]


def gdb(wanted: Host, *, fetch_symbols: bool = False, debug: bool = False, more: tuple[str, ...] = ()) -> int:
    """Hands the terminal to gdb on a host; its exit code. `fetch_symbols`: get the kernel's debug package too, a gigabyte. `more` is for gdb."""
    if shutil.which(demo.GDB) is None:
        raise qemu.BoardError(f"{demo.GDB} is not installed; install the Debian package {demo.GDB}")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    kernel = kernels.kernel_file(wanted.kernel)
    vmlinux = debian.kernel_symbols(kernel, fetch=fetch_symbols)
    if vmlinux is None:
        console.print("the kernel's symbols are not there: delphyne gdb --kernel-symbols fetches them (about a gigabyte)")
    if is_waiting():
        elf = host.BUILD / "delphyne.elf"
        if not elf.exists():
            raise qemu.BoardError(f"{os.path.relpath(elf)} is not there: is what waits at port {PORT} a machine of this folder?")
        console.print(f"attached to the machine that waits at port {PORT}")
        return _run([*commands(elf, wanted.machine.board, f"{ADDRESS}:{PORT}", vmlinux), *more])
    built = host.build(debug=debug)
    with tempfile.TemporaryDirectory() as folder:
        waiting, said = Path(folder) / "gdb", host.BUILD / "console.txt"
        line = host.command(replace(wanted, arguments=f"nokaslr {wanted.arguments}".strip()), built.image)
        with qemu.stopped_for_gdb(line, waiting, said):
            console.print(f"the host's console goes to {os.path.relpath(said)}; try: hbreak el2_lower, continue")
            return _run([*commands(built.elf, wanted.machine.board, str(waiting), vmlinux), *more])


def _run(lines: list[str]) -> int:
    return subprocess.run([demo.GDB, "-q", *(part for line in lines for part in ("-ex", line))], check=False).returncode
