# SPDX-License-Identifier: Apache-2.0
"""Writes an initramfs: a cpio archive in the `newc` format, gzip-compressed, the same bytes for the same content.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel. Owner and group are root and all times are zero whatever
the files on disk say, so no root is needed and the result depends on nothing but names, modes and content.
"""

from __future__ import annotations

import gzip
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True, slots=True)
class Node:
    """One file: `mode` with its type bits; `data` is the content, or the target of a symbolic link; `device` (major, minor) of a device node."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Archive:
    """Files by absolute path inside the archive, without the leading slash."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def _add(self, path: str, node: Node) -> None:
        name = str(PurePosixPath(path.lstrip("/")))
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) != ".":
                self.nodes.setdefault(str(parent), Node(stat.S_IFDIR | 0o755))
        self.nodes[name] = node

    def directory(self, path: str, mode: int = 0o755) -> None:
        """An empty directory."""
        self._add(path, Node(stat.S_IFDIR | mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._add(path, Node(stat.S_IFREG | mode, data))

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, Node(stat.S_IFLNK | 0o777, target.encode()))

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device, readable and writable by root."""
        self._add(path, Node(stat.S_IFCHR | 0o600, device=(major, minor)))

    def tree(self, folder: Path, prefix: str = "") -> None:
        """Everything below `folder`, links kept as links."""
        for path in sorted(folder.rglob("*")):
            name = f"{prefix}/{path.relative_to(folder).as_posix()}"
            if path.is_symlink():
                self.link(name, os.readlink(path))
            elif path.is_dir():
                self.directory(name, stat.S_IMODE(path.stat().st_mode))
            elif path.is_file():
                self.file(name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))

    def pack(self) -> bytes:
        """The gzip-compressed archive."""
        out = bytearray()
        for number, name in enumerate(sorted(self.nodes), 1):
            out += _entry(number, name, self.nodes[name])
        out += _entry(0, _TRAILER, Node(0))
        return gzip.compress(bytes(out), compresslevel=6, mtime=0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _entry(number: int, name: str, node: Node) -> bytes:
    links = 2 if stat.S_ISDIR(node.mode) else 1
    major, minor = node.device
    fields = (number, node.mode, 0, 0, links, 0, len(node.data), 0, 0, major, minor, len(name) + 1, 0)
    header = _MAGIC + "".join(f"{value:08X}" for value in fields)
    return _padded(header.encode() + name.encode() + b"\0") + _padded(node.data)
