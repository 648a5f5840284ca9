# SPDX-License-Identifier: Apache-2.0
"""Small Debian userlands as initramfs: one static busybox, an `/init`, and what else the caller puts in. Hosts and guests are made of it.

Kept under `build/cache`, named after their content.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from delphyne.board.cpio import Archive
from delphyne.board.debian import CACHE, AptRoot, PackageError, exclusive, unpack

PACKAGES = ("busybox-static",)
FOLDERS = ("proc", "sys", "dev", "tmp", "root", "sbin", "usr/bin", "usr/sbin", "etc", "mnt")

MOUNTS = """#!/bin/busybox sh
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
"""
"""How each `/init` begins."""


def busybox(archives: list[Path], folder: Path) -> bytes:
    """The program out of the packages' files."""
    userland = folder / "userland"
    for archive in archives:
        unpack(archive, userland)
    found = next((path for path in (userland / "bin/busybox", userland / "usr/bin/busybox") if path.exists()), None)
    if found is None:
        raise PackageError("busybox-static holds no busybox: has Debian moved it?")
    return found.read_bytes()


@exclusive()
def initramfs(name: str, init: str, files: dict[str, bytes], *, folder: Path = CACHE, apt: AptRoot | None = None) -> Path:
    """The archive NAME-DIGEST.cpio.gz with `init` and `files` (path -> content, all executable); made once for the same content."""
    archives = (apt or AptRoot()).download(*PACKAGES)
    content_key = [init, *(f"{path} {hashlib.sha256(data).hexdigest()}" for path, data in sorted(files.items())), *(path.name for path in archives)]
    digest = hashlib.sha256("\n".join(content_key).encode()).hexdigest()[:16]
    image = folder / f"{name}-{digest}.cpio.gz"
    if image.exists():
        return image
    content = Archive()
    for directory in FOLDERS:
        content.directory(directory)
    content.file("bin/busybox", busybox(archives, folder), 0o755)
    content.link("bin/sh", "busybox")
    content.device("dev/console", 5, 1)
    content.file("init", init.encode(), 0o755)
    for path, data in files.items():
        content.file(path, data, 0o755)
    partial = image.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content.pack())
    partial.replace(image)
    return image
