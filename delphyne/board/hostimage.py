# SPDX-License-Identifier: Apache-2.0
"""The host's userland: a small Debian one as an initramfs, built of Debian packages without root.

It holds a static busybox, an `/init` that mounts what a shell needs, loads the modules in /modules in the order of their names, and then either
runs the commands of the kernel parameter `delphyne.run=` (a file name in the image) and powers off, or gives a shell, on a display too where there
is one. Kept under `build/cache`, named after its content.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from delphyne.board.cpio import Archive
from delphyne.board.debian import CACHE, AptRoot, PackageError, exclusive, unpack

PACKAGES = ("busybox-static",)

INIT = """#!/bin/busybox sh
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
hostname delphyne
for module in /modules/*.ko; do [ -e "$module" ] && insmod "$module"; done
script=$(sed -n 's/.*delphyne\\.run=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
if [ -n "$script" ]; then
    sh "$script"
    poweroff -f
fi
[ -e /dev/fb0 ] && (while :; do setsid -c sh </dev/tty1 >/dev/tty1 2>&1; done) &
echo 'A stock Debian kernel above Delphyne. The shell is yours; `poweroff -f` ends the machine.'
exec setsid -c sh
"""


@exclusive()
def build(
    scripts: dict[str, str] | None = None, *, files: dict[str, bytes] | None = None, folder: Path = CACHE, apt: AptRoot | None = None
) -> Path:
    """The initramfs with `scripts` (path in the image -> text) and `files` (path -> content) added; made once for the same content."""
    added = {path: text.encode() for path, text in (scripts or {}).items()} | (files or {})
    archives = (apt or AptRoot()).download(*PACKAGES)
    content_key = [INIT, *(f"{path} {hashlib.sha256(data).hexdigest()}" for path, data in sorted(added.items())), *(path.name for path in archives)]
    digest = hashlib.sha256("\n".join(content_key).encode()).hexdigest()[:16]
    image = folder / f"host-{digest}.cpio.gz"
    if image.exists():
        return image
    userland = folder / "userland"
    for archive in archives:
        unpack(archive, userland)
    busybox = next((path for path in (userland / "bin/busybox", userland / "usr/bin/busybox") if path.exists()), None)
    if busybox is None:
        raise PackageError("busybox-static holds no busybox: has Debian moved it?")
    content = Archive()
    for name in ("proc", "sys", "dev", "tmp", "root", "sbin", "usr/bin", "usr/sbin", "etc"):
        content.directory(name)
    content.file("bin/busybox", busybox.read_bytes(), 0o755)
    content.link("bin/sh", "busybox")
    content.device("dev/console", 5, 1)
    content.file("init", INIT.encode(), 0o755)
    for path, data in added.items():
        content.file(path, data, 0o755)
    partial = image.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content.pack())
    partial.replace(image)
    return image
