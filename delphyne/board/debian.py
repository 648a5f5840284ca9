# SPDX-License-Identifier: Apache-2.0
"""Debian arm64 packages on the developer's machine, without root: kernels, headers and userland.

A private apt root for the architecture arm64 lives under `build/cache/apt`; it reads the machine's own sources, keys and proxy settings, so a
mirror that works for the machine works here. Nothing of the machine's own apt state is touched. What was downloaded once is kept.

Several processes may ask at once (tests do): whoever reads or fills the cache does it inside `exclusive`.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent.parent / "build" / "cache"


class PackageError(Exception):
    """A package that cannot be had; the message says which and what to do."""


_held = 0


@contextmanager
def exclusive() -> Iterator[None]:
    """One process at a time; may be nested. The lock ends with the process, however that ends."""
    global _held  # the depth of this process, which has one thread that asks
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as file:
        if _held == 0:
            fcntl.flock(file, fcntl.LOCK_EX)
        _held += 1
        try:
            yield
        finally:
            _held -= 1


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


class AptRoot:
    """A private apt root below `folder`; one root has packages of one architecture."""

    def __init__(self, folder: Path = CACHE / "apt", architecture: str = "arm64") -> None:
        """Nothing is read or written before the first question."""
        self.folder = folder
        self.architecture = architecture
        self.archives = folder / "cache" / "archives"

    def _apt(self, program: str, *arguments: str) -> str:
        options = {
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "APT::Sandbox::User": "",
            "Dir::State": str(self.folder / "state"),
            "Dir::State::status": str(self.folder / "state" / "status"),
            "Dir::Cache": str(self.folder / "cache"),
            "Debug::NoLocking": "1",
        }
        command = [program, *(part for key, value in options.items() for part in ("-o", f"{key}={value}")), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder)
        except FileNotFoundError:
            raise PackageError(f"no program '{program}' on this machine: packages come from Debian, so a Debian-like machine is needed") from None
        if done.returncode:
            raise PackageError(f"{program} {arguments[0]} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")
        return done.stdout

    @exclusive()
    def update(self) -> None:
        """Read the package lists where this root has none yet."""
        lists = self.folder / "state" / "lists"
        if any(lists.glob("*_Packages*")):
            return
        for place in (lists / "partial", self.archives / "partial"):
            place.mkdir(parents=True, exist_ok=True)
        (self.folder / "state" / "status").touch()
        self._apt("apt-get", "update")
        if not any(lists.glob("*_Packages*")):
            raise PackageError(f"apt-get update brought no {self.architecture} package list: do this machine's apt sources carry that?")

    @exclusive()
    def names(self, pattern: str) -> list[str]:
        """Names of packages that match a regular expression as a whole, oldest version first by the numbers in the name."""
        self.update()
        return sorted((name for name in self._apt("apt-cache", "pkgnames").split() if re.fullmatch(pattern, name)), key=_version)

    @exclusive()
    def download(self, *packages: str, dependencies: bool = False) -> list[Path]:
        """The .deb files of `packages`, with all they depend on where wanted; from the cache where they are there already."""
        self.update()
        verb = "install" if dependencies else "download"
        elsewhere = self.folder / "nothing"  # apt-get does not list what is in its archives already
        (elsewhere / "partial").mkdir(parents=True, exist_ok=True)
        listing = self._apt("apt-get", "-y", "-o", f"Dir::Cache::archives={elsewhere}", "--print-uris", "--no-install-recommends", verb, *packages)
        files = re.findall(r"^'[^']+' (\S+\.deb)", listing, re.MULTILINE)
        if not files:
            raise PackageError(f"no such package for {self.architecture}: {' '.join(packages)}")
        wanted = [self.archives / name for name in files]
        if not all(path.exists() for path in wanted):
            if dependencies:
                self._apt("apt-get", "-y", "--download-only", "--no-install-recommends", "install", *packages)
            else:
                self._fetch_single(packages)
        missing = [path.name for path in wanted if not path.exists()]
        if missing:
            raise PackageError(f"apt-get did not bring {', '.join(missing)}")
        return wanted

    def _fetch_single(self, packages: tuple[str, ...]) -> None:
        self._apt("apt-get", "-o", f"Dir::Cache::archives={self.archives}", "download", *packages)
        for path in self.folder.glob("*.deb"):
            path.rename(self.archives / path.name)


def unpack(archive: Path, folder: Path) -> None:
    """The files of a .deb below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(["dpkg-deb", "-x", str(archive), str(folder)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PackageError("no program 'dpkg-deb' on this machine (package dpkg)") from None
    if done.returncode:
        raise PackageError(f"{archive.name} cannot be unpacked: {done.stderr.strip()}")


KERNELS = {"6.1": r"linux-image-6\.1\.0-\d+-arm64", "6.12": r"linux-image-6\.12\.\d+\+deb12-arm64"}
"""The kernel lines that are carried -> how Debian names their packages (a regular expression)."""
FLAVOURS = {
    f"{line}-{flavour}": pattern.replace("arm64", f"{flavour}-arm64") for line, pattern in KERNELS.items() for flavour in ("rt", "cloud")
}
"""Debian's other configurations of the same lines: preemptible, and for virtual machines in a cloud."""
KERNELS32 = {"6.1-armmp": r"linux-image-6\.1\.0-\d+-armmp-lpae"}
"""Kernels of Debian's armhf, for guests of AArch32."""


def apt_root(line: str) -> AptRoot:
    """The apt root with the packages of kernel `line`, and with programs for it."""
    return AptRoot(CACHE / "apt-armhf", "armhf") if line in KERNELS32 else AptRoot()


@exclusive()
def kernel(line: str, *, apt: AptRoot | None = None, folder: Path = CACHE / "kernels") -> Path:
    """vmlinuz of the newest Debian kernel of `line` (a key of KERNELS, FLAVOURS or KERNELS32, or a whole package name), unpacked and kept."""
    pattern = (KERNELS | FLAVOURS | KERNELS32).get(line, re.escape(line))
    kept = [path for path in folder.glob("*/boot/vmlinuz-*") if re.fullmatch(pattern, path.parent.parent.name)]
    if kept:
        return max(kept, key=lambda path: _version(path.parent.parent.name))
    apt = apt or apt_root(line)
    names = apt.names(pattern)
    if not names:
        raise PackageError(f"{line}: no such file, and no such kernel package in this machine's apt sources (6.12 comes from bookworm-security)")
    package = names[-1]
    for archive in apt.download(package):
        unpack(archive, folder / package)
    images = list((folder / package / "boot").glob("vmlinuz-*"))
    if not images:
        raise PackageError(f"{package} holds no boot/vmlinuz")
    return images[0]


@exclusive()
def kernel_symbols(vmlinuz: Path, *, fetch: bool, apt: AptRoot | None = None, folder: Path = CACHE / "symbols") -> Path | None:
    """The vmlinux with debug information of a kernel that `kernel` unpacked: kept, or fetched where `fetch`; None where it is not there."""
    package = vmlinuz.parent.parent.name
    place = folder / package / "usr/lib/debug/boot" / vmlinuz.name.replace("vmlinuz", "vmlinux")
    if not place.exists() and fetch:
        for archive in (apt or AptRoot()).download(f"{package}-dbg"):
            unpack(archive, folder / package)
        if not place.exists():
            raise PackageError(f"{package}-dbg holds no {place.relative_to(folder / package)}: has Debian moved it?")
    return place if place.exists() else None
