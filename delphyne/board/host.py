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

from delphyne.board import bundle, demo, hostimage, kernel_modules, qemu, showing, vmm
from delphyne.board.kernels import kernel_file
from delphyne.compiler.back.image import Built

KERNEL_AT = 0x5000_0000
INITRD_AT = 0x5800_0000
BUILD = Path(__file__).resolve().parents[2] / "build"
ZCU102 = "xlnx-zcu102"
SCRIPT = "delphyne-run.sh"
SPICE = BUILD / "spice.sock"
DISPLAY = (
    "-device", "virtio-gpu-pci", "-device", "virtio-keyboard-pci", "-device", "virtio-tablet-pci",
    "-spice", f"unix=on,addr={SPICE},disable-ticketing=on",
)
DISPLAY_MODULES = ("virtio_pci", "virtio_gpu", "virtio_input")
"""What a Debian kernel needs for these devices."""


DEVELOPMENT = "delphyne.development"
"""On EL2's own command line: guests whose images nobody signed may be protected on this machine, and keys may be made of weak randomness."""


GENERAL_REGISTERS = "delphyne.general-registers"
"""On EL2's own command line: it leaves the crypto extensions unused, as a processor without them would have it."""


@dataclass(frozen=True, slots=True)
class Host:
    """What to boot. `kernel` is a line such as "6.1" or "6.12-rt", a Debian package name, or a file; `arguments` are added to the command line;
    `script` is run in place of the shell; `files` go into its initramfs. A host with `guest_kernels` has the disk with QEMU and these kernels (as
    `kernel`) for guests, with the images of those that are to be `protected` (their machine is marked as development), and a network that reaches
    nothing but, by `forwards`, from a TCP port of this machine's loopback to one of the host."""

    kernel: str = "6.1"
    machine: qemu.Machine = field(default_factory=lambda: qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024))
    arguments: str = ""
    script: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    plain: bool = False
    graphics: bool = False
    guest_kernels: tuple[str, ...] = ()
    protected: tuple[vmm.Guest, ...] = ()
    forwards: tuple[tuple[int, int], ...] = ()


def zcu102(kernel: Path, memory: int = 2048) -> qemu.Machine:
    """QEMU's ZCU102 with the device tree that the kernel's own package has for it. Raises BoardError where there is none."""
    trees = list(kernel.parents[1].glob("usr/lib/linux-image-*/xilinx/zynqmp-zcu102-rev1.0.dtb"))
    if not trees:
        raise qemu.BoardError(f"{kernel}: no device tree for the ZCU102 beside it; take a kernel by the name of its Debian package")
    return qemu.Machine(board=ZCU102, cpus=4, memory=memory, extra=("-dtb", str(trees[0]), "-audiodev", "none,id=none"))


def marked(machine: qemu.Machine) -> str:
    """EL2's own command line for a machine on which guests may be protected."""
    return f"{machine.arguments} {DEVELOPMENT}".strip()


def _arguments(host: Host) -> str:
    """The kernel's command line."""
    console = "earlycon keep_bootcon" if host.machine.board == ZCU102 else "console=ttyAMA0"
    script = "" if host.script is None else f" delphyne.run={SCRIPT}"
    return f"{console} {host.arguments}".strip() + script


def command(host: Host, image: Path) -> list[str]:
    """QEMU's command line; the serial port is on stdin and stdout. Fetches and builds what it needs."""
    guest_devices = _guest_devices(host)
    kernel = kernel_file(host.kernel)
    display = kernel_modules.image_files(kernel, DISPLAY_MODULES) | {hostimage.SETUP: kernel_modules.LOAD.encode()} if host.graphics else {}
    files = dict(host.files) | display | (vmm.host_files(kernel, DISPLAY_MODULES if host.graphics else ()) if host.guest_kernels else {})
    initrd = hostimage.build({} if host.script is None else {SCRIPT: host.script}, files=files)
    arguments = _arguments(host)
    own = marked(host.machine) if host.protected and not host.plain else host.machine.arguments
    machine = replace(host.machine, arguments=own, extra=(*guest_devices, *host.machine.extra, *(DISPLAY if host.graphics else ())))
    if host.plain:
        loaded: tuple[str, ...] = ("-initrd", str(initrd), "-append", f"{arguments} kvm-arm.mode=nvhe")
        return qemu.command(kernel, replace(machine, extra=(*machine.extra, *loaded)))
    if machine.board == ZCU102:
        return qemu.command(bundle.write(BUILD / "zcu102-bundle.img", image, kernel, initrd, arguments), machine)
    loaded = (
        "-device", f"guest-loader,addr={KERNEL_AT:#x},kernel={kernel},bootargs={arguments.replace(',', ',,')}",
        "-device", f"guest-loader,addr={INITRD_AT:#x},initrd={initrd}",
    )
    return qemu.command(image, replace(machine, extra=(*machine.extra, *loaded)))


def _guest_devices(host: Host) -> tuple[str, ...]:
    """The disk that a host with guests has, its first, and its network."""
    if not host.guest_kernels:
        return ()
    if host.machine.board != "virt":
        raise qemu.BoardError(f"guests need a host on the board virt: {host.machine.board} has no disk that this can use")
    tools = vmm.build({name: kernel_file(name) for name in host.guest_kernels}, protected=host.protected)
    ports = "".join(f",hostfwd=tcp:127.0.0.1:{near}-{vmm.HOST_ADDRESS}:{far}" for near, far in host.forwards)
    drive = ("-drive", f"if=none,id=tools,file={tools},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=tools")
    return (*drive, "-netdev", f"user,id=host,restrict=on{ports}", "-device", "virtio-net-pci,netdev=host,romfile=")


def build(out: Path = BUILD, *, quiet: bool = False, debug: bool = False, stays: bool = False) -> Built:
    """The bootable image and its ELF in `out`; `debug` and `stays` as in `demo.build`."""
    return demo.build(out, quiet=quiet, debug=debug, stays=stays)


def run(host: Host, image: Path, *, timeout: float = 120.0, show: Callable[[str], None] | None = None) -> qemu.Run:
    """Boots the host without a terminal until it turns itself off."""
    return qemu.run_command(command(host, image), timeout=timeout, show=show)


REPORT = """echo
uname -a
dmesg | grep -E 'CPU: All CPU|Hyp .*mode init'
ls -l /dev/kvm
"""
"""What the host shows where nobody is there to type."""


def with_guest(host: Host, guest: vmm.Guest, *, terminal: bool) -> Host:
    """The host that starts `guest`: at a terminal one lands in the guest's console, without one the guest reports, then the host."""
    host = replace(host, guest_kernels=(guest.kernel,))
    if guest.protected:
        shown = showing.shown(guest, terminal=terminal)
        host = replace(host, protected=(shown,), files=(*host.files, *showing.programs(shown, terminal=terminal)))
        return replace(host, files=(*host.files, (hostimage.START, b"guest\n"))) if terminal else replace(host, script=f"guest\n{REPORT}")
    if not terminal:
        return replace(host, script=vmm.report_command(guest) + REPORT)
    programs = (("bin/guest", vmm.console_command(guest).encode()), (hostimage.START, b"guest\n"))
    return replace(host, files=(*host.files, *programs))


def _unattended(host: Host) -> Host:
    """The host with something to do where nobody can type: without a terminal, and on the ZCU102, whose UART has no driver at work, since its clock
    comes from a firmware that QEMU has not. There the kernel's log is the way out, which its boot console shows."""
    if host.script is not None:
        return host
    if host.machine.board == ZCU102:
        return replace(host, script=f"exec > /dev/kmsg 2>&1\n{REPORT}")
    return host if sys.stdin.isatty() else replace(host, script=REPORT)


def interactive(host: Host, *, guest: vmm.Guest | None = None, gdb_port: int | None = None, debug: bool = False) -> int:
    """Builds what is needed, says what it boots, and hands the terminal to the machine. QEMU's exit code.

    Where nobody can type the host shows REPORT and turns itself off."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    host = _unattended(host) if guest is None else with_guest(host, guest, terminal=sys.stdin.isatty())
    if gdb_port is not None:
        host = replace(host, arguments=f"nokaslr {host.arguments}".strip())
    if host.graphics:
        qemu.require_spice()
        SPICE.parent.mkdir(parents=True, exist_ok=True)
        SPICE.unlink(missing_ok=True)
    image = BUILD / "delphyne.img" if host.plain else build(debug=debug).image
    with console.status("fetching the kernel and building the host's userland (Debian packages, kept in build/cache)"):
        line = command(host, image)
    line[line.index("-monitor") + 1 : line.index("-monitor") + 4] = ["none", "-serial", "mon:stdio"]
    if gdb_port is not None:
        line += ["-gdb", f"tcp:127.0.0.1:{gdb_port}", "-S"]
        console.print(f"stopped for gdb at 127.0.0.1:{gdb_port}: make gdb, in another terminal, attaches")
    if host.graphics:
        console.print(f"graphics: SPICE at {SPICE} (remote-viewer spice+unix://{SPICE})")
    console.print("Ctrl-A X ends the machine")
    try:
        return subprocess.run(line, check=False, stdin=sys.stdin).returncode
    except FileNotFoundError:
        raise qemu.BoardError(f"{qemu.QEMU} is not installed; install the Debian package {qemu.PACKAGE}") from None
