# SPDX-License-Identifier: Apache-2.0
"""Disk images with an ext2 file system, made without root by `mke2fs -d` (package e2fsprogs, part of every Debian installation).

What has the same content is made once: the file is named after it. (Its bytes are not the same elsewhere: mke2fs writes the time.)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from delphyne.board.debian import CACHE, PackageError, exclusive

PROGRAM = "mke2fs"
PACKAGE = "e2fsprogs"
BLOCK = 4096
_SLACK = 2 << 20
"""Bytes for the file system's own tables beyond what files take."""


def _program() -> str:
    found = shutil.which(PROGRAM, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise PackageError(f"no program '{PROGRAM}' on this machine (package {PACKAGE})")
    return found


@exclusive()
def build(name: str, files: dict[str, bytes], *, free: int = 0, folder: Path = CACHE) -> Path:
    """The image NAME-DIGEST.ext2 with `files` (path -> content; all executable) and `free` further bytes. Raises PackageError."""
    digest = hashlib.sha256(f"{free}".encode())
    for path, data in sorted(files.items()):
        digest.update(f"\n{path} {hashlib.sha256(data).hexdigest()}".encode())
    image = folder / f"{name}-{digest.hexdigest()[:16]}.ext2"
    if image.exists():
        return image
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        tree, partial = Path(place, "tree"), Path(place, "image")
        tree.mkdir()
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
            (tree / path).chmod(0o755)
        size = sum(-(-len(data) // BLOCK) * BLOCK + BLOCK for data in files.values()) + free + _SLACK
        size += size // 64  # inode tables, bitmaps, indirect blocks
        settings = ("-q", "-F", "-t", "ext2", "-b", str(BLOCK), "-m", "0", "-E", "root_owner=0:0")
        command = [_program(), *settings, "-d", str(tree), str(partial), f"{size // 1024}k"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PackageError(f"{PROGRAM} made no disk image {name}: {done.stderr.strip()}")
        partial.replace(image)
    return image
