# SPDX-License-Identifier: Apache-2.0
"""Guests of the host: Debian's own arm64 QEMU and what it boots, on a read-only disk of the host; and QEMU's command line for one guest.

The disk keeps the host's initramfs small: its pages come when they are used, and one disk serves every host of a test run. The host mounts it at
TOOLS, and finds `qemu-system-aarch64` and, where it was built for one guest, `guest` on its PATH.
"""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from delphyne.board import debian, disk, guestimage, host_programs, hostimage, kernel_modules, kmodule, pkvm_kernel
from delphyne.board import protected_image as protected_images
from delphyne.board.debian import CACHE
from delphyne.board.kernel_modules import Foreign
from delphyne.board.qemu import QEMU

TOOLS = "/tools"
PACKAGE = "qemu-system-arm"
PROGRAM = f"usr/bin/{QEMU}"
HOST_MODULES = ("crc32c_generic", "virtio_pci", "virtio_blk", "virtio_net", "ext4", "zram")
DISK = f"{TOOLS}/guest/disk"
CONSOLE_PORT = 4000
HOST_ADDRESS = "10.0.2.15"
"""The address that QEMU's user network forwards ports to; the host takes it without asking."""
BACKINGS = {"memfd": "memory-backend-memfd", "hugetlbfs": "memory-backend-file,mem-path=/hugepages,share=on"}
"""What `Guest.backing` may be -> QEMU's object."""

SETUP = f"""{kernel_modules.LOAD}mkdir -p {TOOLS} /var/tmp
mount -o ro /dev/vda {TOOLS}
ip link set lo up
if ip link set eth0 up 2>/dev/null; then ip addr add {HOST_ADDRESS}/24 dev eth0; fi
echo 1 > /proc/sys/vm/overcommit_memory
"""
"""The host's set-up. Overcommit: a guest may be given more memory than the host has, as long as it does not touch it."""

WRAPPER = f"""#!/bin/sh
exec {TOOLS}/lib/ld-linux-aarch64.so.1 --library-path {TOOLS}/lib/aarch64-linux-gnu:{TOOLS}/usr/lib/aarch64-linux-gnu {TOOLS}/{PROGRAM} "$@"
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """One guest. `kernel` is a line or file as in `host.Host`; `memory` is in MiB; `gic` is "2", "3" or "host", the one that the host has;
    `transport` is "mmio" or "pci"; `backing` is a key of BACKINGS, or "" for anonymous memory; `arguments` are added to the kernel's command line,
    `extra` to QEMU's. A `protected` guest is loaded from one image that has kernel, initramfs, device tree and command line in it (`image_of`), and a
    `report` that it runs where its command line asks for one; `files` (path -> content) are in its initramfs too."""

    kernel: str = "6.1"
    memory: int = 256
    cpus: int = 2
    gic: str = "host"
    its: bool = True
    transport: str = "mmio"
    backing: str = ""
    arguments: str = ""
    extra: tuple[str, ...] = ()
    protected: bool = False
    report: str = guestimage.REPORT
    files: tuple[tuple[str, bytes], ...] = ()


ROOM_FOR_POOL = 256
"""MiB of a protected guest that has room for the pool of modules/guest-dma as it is by itself; smaller ones get SMALL_POOL."""
SMALL_POOL = "size=4"
RESTRICTED_POOL = {True: 16, False: 8}
"""MiB of the pool that the device tree names, for a kernel that needs no module: whether the guest has ROOM_FOR_POOL -> how many."""


def folder_of(kernel: str) -> str:
    """Where a guest kernel's files lie on the host."""
    return f"{TOOLS}/guest/{Path(kernel).name}"


def image_of(guest: Guest) -> str:
    """Where a protected guest's image lies on the host."""
    return f"{TOOLS}/guest/protected-{guest.kernel}-{guest.cpus}-{guest.memory}.img"


def modules_of(kernel: str) -> tuple[str, ...]:
    """What a guest has to load of its kernel's own."""
    return () if kernel == pkvm_kernel.NAME else guestimage.MODULES


def protected_image(guest: Guest, vmlinuz: Path) -> bytes:
    """The image of a protected guest: what of its command line the guest sees is in the device tree that QEMU makes of it here."""
    roomy = guest.memory >= ROOM_FOR_POOL
    first: tuple[Foreign, ...] = ()
    pool = RESTRICTED_POOL[roomy] << 20
    if guest.kernel != pkvm_kernel.NAME:
        first = (Foreign("guest-dma", kmodule.build("guest-dma", str(vmlinuz)).read_bytes(), "" if roomy else SMALL_POOL),)
        pool = 0
    image = guestimage.build(vmlinuz, first=first, modules=modules_of(guest.kernel), report=guest.report, files=dict(guest.files))
    with tempfile.TemporaryDirectory(prefix="delphyne-tree-") as folder:
        line = command(replace(guest, gic="3" if guest.gic == "host" else guest.gic), disk_file="/dev/null", console="null")
        line = [word.replace("accel=kvm,", "") for word in line]
        line[line.index("-cpu") + 1] = "cortex-a57"
        line[line.index("-kernel") + 1] = str(vmlinuz)
        tree = protected_images.dump_tree(line, Path(folder))
    return protected_images.build(vmlinuz.read_bytes(), image.initrd.read_bytes(), tree, f"console=ttyAMA0 {guest.arguments}".strip(), pool)


def build(kernels: dict[str, Path], *, protected: tuple[Guest, ...] = (), folder: Path = CACHE) -> Path:
    """The host's disk with QEMU, the guests' disk, these guest kernels (as in `Guest.kernel` -> vmlinuz) and the images of `protected` guests of
    them. Fetches and builds what it needs."""
    files = dict(host_programs.files(PACKAGE, PROGRAM))
    for name, vmlinuz in kernels.items():
        image = guestimage.build(vmlinuz, modules=modules_of(name), apt=debian.apt_root(name))
        place = folder_of(name).removeprefix(f"{TOOLS}/")
        files |= {f"{place}/vmlinuz": image.kernel.read_bytes(), f"{place}/initrd": image.initrd.read_bytes()}
    for guest in protected:
        files[image_of(guest).removeprefix(f"{TOOLS}/")] = protected_image(guest, kernels[guest.kernel])
    files[DISK.removeprefix(f"{TOOLS}/")] = guestimage.build_disk().read_bytes()
    return disk.build("host-tools", files, folder=folder)


def host_files(host_kernel: Path, more: tuple[str, ...] = ()) -> dict[str, bytes]:
    """What a host that has guests needs in its initramfs, with `more` modules."""
    modules = kernel_modules.image_files(host_kernel, (*HOST_MODULES, *more))
    return modules | {hostimage.SETUP: SETUP.encode(), f"bin/{QEMU}": WRAPPER.encode()}


def _machine(guest: Guest) -> list[str]:
    options = ["virt", "accel=kvm", f"gic-version={guest.gic}"]
    if not guest.its or guest.protected:
        options.append("its=off")
    if guest.protected:
        options += ["dtb-randomness=off", "mem-merge=off"]
    cpu = "host,aarch64=off" if guest.kernel in debian.KERNELS32 else "host"
    line = ["-cpu", cpu, "-smp", str(guest.cpus), "-m", str(guest.memory)]
    if guest.backing:
        options.append("memory-backend=ram")
        line += ["-object", f"{BACKINGS[guest.backing]},id=ram,size={guest.memory}M"]
    return ["-machine", ",".join(options), *line]


def command(guest: Guest, *, disk_file: str, console: str) -> list[str]:
    """QEMU's command line on the host. `disk_file` is the guest's disk, a file of the host; `console` is where QEMU puts its serial port."""
    device = {"mmio": "device", "pci": "pci"}[guest.transport]
    more = ",iommu_platform=on" if guest.protected else ""
    if guest.transport == "pci" and guest.protected:
        more += ",disable-legacy=on"
    rom = ",romfile=" if guest.transport == "pci" else ""
    return [
        QEMU, *_machine(guest), "-nodefaults", "-display", "none", "-serial", console, *_loaded(guest),
        "-drive", f"if=none,id=disk,file={disk_file},format=raw", "-device", f"virtio-blk-{device},drive=disk{more}",
        "-netdev", "user,id=net", "-device", f"virtio-net-{device},netdev=net{rom}{more}", *guest.extra,
    ]  # fmt: skip


def _loaded(guest: Guest) -> list[str]:
    """What QEMU puts into the guest's memory."""
    if guest.protected:
        return ["-global", "virtio-mmio.force-legacy=false", "-kernel", image_of(guest)]
    files = folder_of(guest.kernel)
    return ["-kernel", f"{files}/vmlinuz", "-initrd", f"{files}/initrd", "-append", f"console=ttyAMA0 {guest.arguments}".strip()]


def console_command(guest: Guest) -> str:
    """The host's program `guest`: enters the guest's console, and starts the guest where it does not run.

    The console is a telnet port of QEMU that waits for its first connection, so that nothing of the boot is lost; who leaves it can come back."""
    line = command(guest, disk_file="/tmp/disk", console=f"telnet:127.0.0.1:{CONSOLE_PORT},server=on,wait=on")
    return f"""#!/bin/sh
if ! {{ pid=$(cat /tmp/guest.pid 2>/dev/null) && kill -0 "$pid" 2>/dev/null; }}; then
    cp {DISK} /tmp/disk
    rm -f /tmp/guest.pid
    setsid {shlex.join(line)} -pidfile /tmp/guest.pid "$@" </dev/null >/tmp/guest.log 2>&1 &
    until netstat -ltn | grep -q '127.0.0.1:{CONSOLE_PORT} '; do
        kill -0 $! 2>/dev/null || {{ echo 'the guest did not start:'; cat /tmp/guest.log; exit 1; }}
        usleep 100000
    done
fi
echo 'The guest runs under KVM, in QEMU on the host. Ctrl-] and then e leaves its console for the shell of the host.'
telnet 127.0.0.1 {CONSOLE_PORT}
cat /tmp/guest.log
echo
echo 'This is the shell of the host. `guest` enters the guest (and starts it where it does not run); `poweroff -f` ends the machine.'
"""


def report_command(guest: Guest) -> str:
    """What a host runs where nobody is there to type: the guest's report on the host's console, and how the guest ended."""
    line = command(replace(guest, arguments=f"{guest.arguments} delphyne.report"), disk_file="/tmp/disk", console="stdio")
    return f"""cp {DISK} /tmp/disk
{shlex.join(line)} -no-reboot </dev/null
echo "The guest has ended, QEMU said $?. This is the host:"
"""
