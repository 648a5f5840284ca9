# SPDX-License-Identifier: Apache-2.0
"""Looks through all RAM that a kernel shows its root, for pages of a protected guest's and for pages of a text that the host had itself: `FILE TEXT`,
where FILE is /proc/kcore, the memory of the kernel that runs, or /proc/vmcore, that of the kernel which crashed before it.

Both are ELF core files with a segment for each range of RAM (Linux fs/proc/kcore.c, fs/proc/vmcore.c). What else kcore has, the virtual ranges of the
kernel, has no physical address there.
"""

from __future__ import annotations

import os
import struct
import sys

from delphyne.client.memory import PAGE
from delphyne.client.soak import MARK

HEADER, PHDR = "<16sHHIQQQIHHHHHH", "<IIQQQQQQ"
"""An ELF header and a program header of 64 bits (elf(5))."""
LOAD = 1
NOWHERE = (1 << 64) - 1
PIECE = 64 * PAGE
ENOUGH = 16
"""So many times a page has to hold a mark: the one that is looked for lies in this process too."""


def segments(file: int) -> list[tuple[int, int]]:
    """Where each range of RAM is in the file, and its size in bytes. ValueError where the file is no such core file."""
    header = struct.unpack(HEADER, os.pread(file, struct.calcsize(HEADER), 0))
    if header[0][:5] != b"\x7fELF\x02":
        raise ValueError("no ELF file of 64 bits")
    first, size, count = header[5], header[9], header[10]
    found = []
    for number in range(count):
        kind, _, offset, _, physical, length, _, _ = struct.unpack(PHDR, os.pread(file, size, first + number * size))
        if kind == LOAD and physical != NOWHERE:
            found.append((offset, length))
    return found


def pages_with(data: bytes, mark: bytes) -> int:
    """How many pages of `data` hold `mark` often."""
    if mark not in data:
        return 0
    return sum(data.count(mark, at, at + PAGE) >= ENOUGH for at in range(0, len(data), PAGE))


def search(file: int, marks: list[bytes]) -> tuple[int, list[int]]:
    """How many bytes of RAM could be read, and in how many pages each mark was found. What a kernel does not let its root read is passed over by
    the page. `file` is a file descriptor."""
    looked, found = 0, [0] * len(marks)
    for start, length in segments(file):
        at = start
        while at < start + length:
            try:
                data = os.pread(file, min(PIECE, start + length - at), at)
            except OSError:
                data = b""
            looked += len(data)
            found = [number + pages_with(data, mark) for number, mark in zip(found, marks, strict=True)]
            at += len(data) or PAGE
    return looked, found


def main(arguments: list[str]) -> int:
    """`FILE TEXT`."""
    path, text = arguments
    file = os.open(path, os.O_RDONLY)
    looked, (guest, own) = search(file, [MARK, text.encode()])
    os.close(file)
    print(f"hostile search: {path} mib {looked >> 20} guest {guest} host {own}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
