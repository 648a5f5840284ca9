# SPDX-License-Identifier: Apache-2.0
"""The initramfs writer against the format's own reader, GNU cpio where the machine has it, and against itself."""

from __future__ import annotations

import gzip
import stat

from delphyne.board.cpio import Archive


def _read(packed: bytes) -> dict[str, tuple[int, bytes]]:
    """An independent reader of newc: fixed fields of eight hex digits after the magic, name and data padded to four."""
    data, offset, found = gzip.decompress(packed), 0, {}
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * index : offset + 14 + 8 * index], 16) for index in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[offset + 110 : offset + 110 + name_size - 1].decode()
        start = (offset + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, data[start : start + size])
        offset = (start + size + 3) & ~3


def test_every_kind_of_node_is_read_back() -> None:
    archive = Archive()
    archive.file("/init", b"#!/bin/sh\n", 0o755)
    archive.link("/bin/sh", "busybox")
    archive.directory("proc")
    archive.device("/dev/console", 5, 1)
    archive.file("lib/modules/a.ko", b"xyz")
    found = _read(archive.pack())
    assert found["init"] == (stat.S_IFREG | 0o755, b"#!/bin/sh\n")
    assert found["bin/sh"] == (stat.S_IFLNK | 0o777, b"busybox")
    assert found["proc"][0] == stat.S_IFDIR | 0o755
    assert stat.S_ISCHR(found["dev/console"][0])
    assert found["lib/modules/a.ko"] == (stat.S_IFREG | 0o644, b"xyz")
    assert {"bin", "dev", "lib", "lib/modules"} <= set(found)


def test_parents_come_before_children_and_bytes_repeat() -> None:
    archive = Archive()
    archive.file("a/b/c", b"1")
    names = list(_read(archive.pack()))
    assert names.index("a") < names.index("a/b") < names.index("a/b/c")
    assert archive.pack() == archive.pack()
