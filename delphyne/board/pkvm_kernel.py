# SPDX-License-Identifier: Apache-2.0
"""A Linux 6.12 for protected guests that needs no module of ours: Debian's source, unpatched, with two options that Debian's own kernels lack.

ARM_PKVM_GUEST (drivers/virt/coco/pkvm-guest) shares and unshares pages by the calls of docs/guest-abi.md. DMA_RESTRICTED_POOL (kernel/dma/swiotlb.c)
has devices do all their DMA through one pool that the device tree names, and shares that. What else is on is little, so that the build takes minutes:
the machine that QEMU calls virt, a console, virtio's disk and network, and what the guests' userland asks for. Nothing is a module.

The Image is kept under `build/cache/pkvm-kernels`, named after its source package, its options and the compiler.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from delphyne.board.debian import CACHE, AptRoot, PackageError, unpack
from delphyne.board.qemu import BoardError

NAME = "6.12-pkvm"
"""How people name it where a kernel is asked for."""
SOURCE = "linux-source-6.12"
TARBALL = f"usr/src/{SOURCE}.tar.xz"
CROSS = "aarch64-linux-gnu-"
TOOLS = {
    f"{CROSS}gcc": "gcc-aarch64-linux-gnu", f"{CROSS}ld": "binutils-aarch64-linux-gnu", "gcc": "gcc", "make": "make", "bc": "bc", "flex": "flex",
    "bison": "bison", "xz": "xz-utils", "tar": "tar",
}  # fmt: skip
"""Programs that a build needs -> their Debian packages; `python3 bootstrap.py kernel-tools` gets those that a machine rarely has."""
LIMIT = 3600.0
"""Seconds that a build may take."""
DRIVER = ("ARM_PKVM_GUEST", "DMA_RESTRICTED_POOL", "SWIOTLB", "VIRT_DRIVERS")
"""What the kernel is built for."""
OPTIONS = (
    *DRIVER,
    # processor and core
    "64BIT", "SMP", "RELOCATABLE", "RANDOMIZE_BASE", "UNMAP_KERNEL_AT_EL0", "HIGH_RES_TIMERS", "NO_HZ_IDLE", "POSIX_TIMERS", "PRINTK", "BUG",
    "KALLSYMS", "MULTIUSER", "FUTEX", "EPOLL", "SIGNALFD", "TIMERFD", "EVENTFD", "SHMEM",
    # programs and file systems
    "BINFMT_ELF", "BINFMT_SCRIPT", "BLK_DEV_INITRD", "RD_GZIP", "DEVTMPFS", "PROC_FS", "PROC_SYSCTL", "SYSFS", "TMPFS", "BLOCK", "EXT4_FS",
    "DEBUG_FS",
    # console
    "TTY", "SERIAL_AMBA_PL011", "SERIAL_AMBA_PL011_CONSOLE",
    # network
    "NET", "INET", "PACKET", "UNIX", "NETDEVICES", "NET_CORE",
    # devices
    "PCI", "PCI_HOST_GENERIC", "VIRTIO_MENU", "VIRTIO_MMIO", "VIRTIO_PCI", "BLK_DEV", "VIRTIO_BLK", "VIRTIO_NET",
)  # fmt: skip
"""The options that are on, without CONFIG_; all that they do not turn on by themselves is off (`make allnoconfig`)."""


def fragment() -> str:
    """The options as kconfig reads them."""
    return "".join(f"CONFIG_{name}=y\n" for name in OPTIONS)


def not_set(config: str) -> list[str]:
    """Which of OPTIONS a `.config` has not."""
    there = set(config.splitlines())
    return [name for name in OPTIONS if f"CONFIG_{name}=y" not in there]


def missing_tools() -> list[str]:
    """Packages of TOOLS that are not there."""
    return sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})


def build(*, folder: Path = CACHE / "pkvm-kernels", jobs: int = 2) -> Path:
    """The Image, built once for the same source package, options and compiler. Raises PackageError for what cannot be had, BoardError where the
    build fails. The cache's lock is not held meanwhile: two processes that begin at once build twice, and the last one's is kept."""
    archive = AptRoot().download(SOURCE)[0]
    missing = missing_tools()
    if missing:
        raise PackageError(f"the kernel's build needs packages that are not here: {', '.join(missing)}; python3 bootstrap.py kernel-tools gets them")
    compiler = subprocess.run([f"{CROSS}gcc", "--version"], capture_output=True, text=True, check=True).stdout
    image = folder / _key(archive.name, compiler) / "Image"
    if image.exists():
        return image
    image.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=image.parent) as place:
        work = Path(place)
        tree = _source(archive, work)
        built = _compile(tree, work, jobs, image.parent / "build.log")
        shutil.copy(work / "objects" / ".config", image.parent / "config")
        built.replace(image)
        (image.parent / "build.log").unlink()
    return image


def _key(archive: str, compiler: str) -> str:
    return hashlib.sha256("\n".join((archive, compiler, fragment())).encode()).hexdigest()[:16]


def _source(archive: Path, work: Path) -> Path:
    """The unpacked source."""
    unpack(archive, work / "package")
    tarball = work / "package" / TARBALL
    if not tarball.is_file():
        raise PackageError(f"{archive.name} holds no {TARBALL}: has Debian moved it?")
    done = subprocess.run(["tar", "-C", str(work), "-xJf", str(tarball)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"{archive.name} cannot be unpacked: {done.stderr.strip()}")
    tarball.unlink()
    return work / SOURCE


def _compile(tree: Path, work: Path, jobs: int, log: Path) -> Path:
    """The Image, from `tree`."""
    objects, wanted = work / "objects", work / "options"
    wanted.write_text(fragment())
    objects.mkdir()
    _make(tree, objects, log, f"KCONFIG_ALLCONFIG={wanted}", "allnoconfig")
    lost = not_set((objects / ".config").read_text())
    if lost:
        raise BoardError(f"{SOURCE} does not take CONFIG_{', CONFIG_'.join(lost)}: does what they depend on have other names there?")
    _make(tree, objects, log, f"-j{jobs}", "Image")
    return objects / "arch" / "arm64" / "boot" / "Image"


def _make(tree: Path, objects: Path, log: Path, *goals: str) -> None:
    """Kbuild; what it says is in `log`, which stays where it fails."""
    command = ["nice", "make", "-s", "-C", str(tree), f"O={objects}", "ARCH=arm64", f"CROSS_COMPILE={CROSS}", *goals]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    environment |= {"KBUILD_BUILD_TIMESTAMP": "1970-01-01", "KBUILD_BUILD_USER": "delphyne", "KBUILD_BUILD_HOST": "delphyne"}
    with log.open("w") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            code = process.wait(LIMIT)
        except BaseException as problem:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            if isinstance(problem, subprocess.TimeoutExpired):
                raise BoardError(f"{SOURCE} was not built in {LIMIT:.0f} seconds") from None
            raise
    if code:
        lines = log.read_text(errors="replace").splitlines()
        first = next((line for line in lines if "rror" in line), "make said nothing")
        raise BoardError(f"{SOURCE} does not build: {first.strip()} ({os.path.relpath(log)} has the rest)")
