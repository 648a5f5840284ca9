# SPDX-License-Identifier: Apache-2.0
"""What looks through a host's RAM finds what is there, and only in RAM."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from delphyne.client.hostile_search import HEADER, LOAD, NOWHERE, PHDR, pages_with, search, segments
from delphyne.client.memory import PAGE

NOTE = 4
MARK, OTHER = b"a mark", b"another"


def core(path: Path, parts: list[tuple[int, int, bytes]]) -> int:
    """A core file with segments of (kind, physical address, content), open."""
    first = struct.calcsize(HEADER)
    at = first + len(parts) * struct.calcsize(PHDR)
    headers, contents = b"", b""
    for kind, physical, content in parts:
        headers += struct.pack(PHDR, kind, 7, at + len(contents), 0, physical, len(content), len(content), 0)
        contents += content
    header = struct.pack(HEADER, b"\x7fELF\x02\x01\x01", 4, 183, 1, 0, first, 0, 0, first, struct.calcsize(PHDR), len(parts), 0, 0, 0)
    path.write_bytes(header + headers + contents)
    return os.open(path, os.O_RDONLY)


def page(text: bytes, times: int) -> bytes:
    return (text * times).ljust(PAGE, b"\0")


def test_pages_are_counted_in_ram_alone(tmp_path: Path) -> None:
    ram = page(MARK, 100) + page(MARK, 3) + page(OTHER, 50) + page(MARK, 600)
    file = core(tmp_path / "core", [(NOTE, 0, page(MARK, 100)), (LOAD, 0x4000_0000, ram), (LOAD, NOWHERE, ram), (LOAD, 0x8000_0000, page(OTHER, 16))])
    assert [length for _, length in segments(file)] == [len(ram), PAGE]
    assert search(file, [MARK, OTHER]) == (len(ram) + PAGE, [2, 2])
    os.close(file)


def test_a_page_that_only_mentions_a_mark_is_none() -> None:
    assert pages_with(page(MARK, 15), MARK) == 0
    assert pages_with(page(MARK, 15) + page(MARK, 16), MARK) == 1


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(PAGE))
    file = os.open(tmp_path / "text", os.O_RDONLY)
    with pytest.raises(ValueError, match="ELF"):
        segments(file)
    os.close(file)
