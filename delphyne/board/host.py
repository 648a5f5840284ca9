# SPDX-License-Identifier: Apache-2.0
"""A stock Linux host in QEMU, above Delphyne or, for comparison, alone on plain nVHE.

Above Delphyne the kernel and its initrd come by Xen's boot protocol, as `-device guest-loader` writes it into the device tree; plain, QEMU boots the
kernel itself. The same userland serves both. Where things lie fits 512 MiB of RAM and more.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from delphyne.board import debian, demo, hostimage, qemu
from delphyne.compiler.back.image import Built

KERNEL_AT = 0x5000_0000
INITRD_AT = 0x5800_0000
BUILD = Path(__file__).resolve().parents[2] / "build"


@dataclass(frozen=True, slots=True)
class Host:
    """What to boot. `kernel` is a line such as "6.1", a Debian package name, or a file; `arguments` are added to the command line;
    `script` is run in place of the shell; `files` go into its initramfs."""

    kernel: str = "6.1"
    machine: qemu.Machine = field(default_factory=lambda: qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024))
    arguments: str = ""
    script: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    plain: bool = False
    graphics: bool = False


def kernel_file(name: str) -> Path:
    """The vmlinuz that `name` means. Raises BoardError or PackageError."""
    path = Path(name)
    if path.suffix or "/" in name or path.exists():
        if path.is_file():
            return path
        if name not in debian.KERNELS:
            raise qemu.BoardError(f"{name}: no such kernel file")
    return debian.kernel(name)


def command(host: Host, image: Path) -> list[str]:
    """QEMU's command line; the serial port is on stdin and stdout. Fetches and builds what it needs."""
    scripts = {} if host.script is None else {"delphyne-run.sh": host.script}
    initrd = hostimage.build(scripts, files=dict(host.files))
    kernel = kernel_file(host.kernel)
    console = "ttyPS0" if host.machine.board.startswith("xlnx") else "ttyAMA0"
    arguments = f"console={console} {host.arguments}" + (" delphyne.run=delphyne-run.sh" if scripts else "")
    graphics = ("-device", "virtio-gpu-pci", "-spice", "unix=on,addr=build/spice.sock,disable-ticketing=on") if host.graphics else ()
    if host.plain:
        loaded = ("-initrd", str(initrd), "-append", f"{arguments} kvm-arm.mode=nvhe")
        return qemu.command(kernel, replace(host.machine, extra=(*host.machine.extra, *loaded, *graphics)))
    loaded = (
        "-device", f"guest-loader,addr={KERNEL_AT:#x},kernel={kernel},bootargs={arguments.strip().replace(',', ',,')}",
        "-device", f"guest-loader,addr={INITRD_AT:#x},initrd={initrd}",
    )
    return qemu.command(image, replace(host.machine, extra=(*host.machine.extra, *loaded, *graphics)))


def build(out: Path = BUILD, *, quiet: bool = False, debug: bool = False) -> Built:
    """The bootable image and its ELF in `out`; `debug` as in `demo.build`."""
    return demo.build(out, quiet=quiet, debug=debug)


def run(host: Host, image: Path, *, timeout: float = 120.0, show: Callable[[str], None] | None = None) -> qemu.Run:
    """Boots the host without a terminal until it turns itself off."""
    return qemu.run_command(command(host, image), timeout=timeout, show=show)


REPORT = """echo
uname -a
dmesg | grep -E 'CPU: All CPU|Hyp .*mode init'
ls -l /dev/kvm
"""
"""What the host shows where nobody is there to type."""


def interactive(host: Host, *, gdb_port: int | None = None) -> int:
    """Builds what is needed, says what it boots, and hands the terminal to the machine. QEMU's exit code.

    Without a terminal on stdin the host shows REPORT and turns itself off."""
    console = Console(stderr=True)
    if not sys.stdin.isatty() and host.script is None:
        host = replace(host, script=REPORT)
    image = BUILD / "delphyne.img" if host.plain else build().image
    with console.status("fetching the kernel and building the host's userland (Debian packages, kept in build/cache)"):
        line = command(host, image)
    line[line.index("-monitor") + 1 : line.index("-monitor") + 4] = ["none", "-serial", "mon:stdio"]
    if gdb_port is not None:
        line += ["-gdb", f"tcp:127.0.0.1:{gdb_port}", "-S"]
        console.print(f"stopped for gdb at 127.0.0.1:{gdb_port}")
    if host.graphics:
        console.print("graphics: SPICE at build/spice.sock (remote-viewer spice+unix://build/spice.sock)")
    console.print("Ctrl-A X ends the machine")
    try:
        return subprocess.run(line, check=False, stdin=sys.stdin).returncode
    except FileNotFoundError:
        raise qemu.BoardError(f"{qemu.QEMU} is not installed; install the Debian package {qemu.PACKAGE}") from None
