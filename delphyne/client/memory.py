# SPDX-License-Identifier: Apache-2.0
"""Memory of the monitor that becomes a guest's RAM."""

from __future__ import annotations

import ctypes
import mmap
import os

PAGE = 4096
BLOCK = 2 << 20
PAGE_OUT = 21
"""MADV_PAGEOUT (include/uapi/asm-generic/mman-common.h), which Python's mmap does not name."""


class Memory:
    """`size` bytes, aligned to 2 MiB so that the host may map it by blocks; `huge` asks for transparent huge pages, or for none of them. `kept` is
    memory of a file that is nowhere else (memfd_create(2)), which has what this process drops; else it is anonymous."""

    def __init__(self, size: int, huge: bool = False, *, kept: bool = False) -> None:
        self.size = size
        if kept:
            file = os.memfd_create("guest")
            os.ftruncate(file, size + BLOCK)
            self._mapping = mmap.mmap(file, size + BLOCK)
            os.close(file)
        else:
            self._mapping = mmap.mmap(-1, size + BLOCK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))
        self._offset = -start % BLOCK
        self.address = start + self._offset
        self._mapping.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)

    def write(self, at: int, data: bytes) -> None:
        """Stores `data` at the offset `at`."""
        self._check(at, len(data))
        self._mapping[self._offset + at : self._offset + at + len(data)] = data

    def read(self, at: int, size: int) -> bytes:
        """`size` bytes at the offset `at`."""
        self._check(at, size)
        return self._mapping[self._offset + at : self._offset + at + size]

    def drop(self, at: int, size: int) -> None:
        """The pages are given back: the next access finds zeroes, or where they are kept the same again (madvise(2), MADV_DONTNEED)."""
        self._check(at, size)
        self._mapping.madvise(mmap.MADV_DONTNEED, self._offset + at, size)

    def merge(self) -> None:
        """Pages with the same content may become one (madvise(2), MADV_MERGEABLE); not of memory that is `kept`."""
        self._mapping.madvise(mmap.MADV_MERGEABLE, self._offset, self.size)

    def frame(self, at: int) -> int:
        """The physical address of the page at the offset `at`, told to root alone (/proc/self/pagemap); 0 where there is none."""
        self._check(at, 1)
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            word = int.from_bytes(os.pread(file.fileno(), 8, (self.address + at) // PAGE * 8), "little")
        return (word & (1 << 55) - 1) * PAGE if word >> 63 else 0

    def page_out(self, at: int, size: int) -> None:
        """The pages go to swap, where there is any (madvise(2), MADV_PAGEOUT), but for those that are used meanwhile."""
        self._check(at, size)
        # What a guest used since it was last asked, 6.1 only marks as unused (mm/vmscan.c: reclaim_folio_list, folio_check_references).
        for _ in range(2):
            self._mapping.madvise(PAGE_OUT, self._offset + at, size)

    def _check(self, at: int, size: int) -> None:
        if at < 0 or size < 0 or at + size > self.size:
            raise ValueError(f"{size} bytes at {at:#x} are not inside {self.size} bytes of guest memory")
