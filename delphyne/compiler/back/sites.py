# SPDX-License-Identifier: Apache-2.0
"""The table beside the image that turns trap sites and return addresses into Python files, lines and functions.

Little-endian, between the linker's symbols __sites_start and __sites_end, 4-byte aligned throughout:

    offset  0  u32  magic 0x54495344 ("DSIT")
            4  u32  number of trap sites
            8  u32  number of return addresses
           12  u32  number of files
           16  u32  number of functions
           20  u32  offset of the trap sites
           24  u32  offset of the return addresses
           28  u32  offset of the files
           32  u32  offset of the functions
           36  u32  size of the whole table
    trap site, 8 bytes, at index site:    u32 kind << 24 | line;  u16 file;  u16 function
    return address, 12 bytes, ascending:  u32 address from the start of the image;  u32 line;  u16 file;  u16 function
    file or function, 8 bytes:            u32 offset of its name;  u32 length of its name
    names: UTF-8, not terminated

A return address is what a caller finds in x30: the instruction after the `bl`; its line is that of the call. Where calls were inlined around
it, rows with the same address follow, the innermost call first. Of calls of the trap handler there are only the rows of inlined calls, since
the trap site says the rest. Code without debug information has no entries.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from delphyne.compiler.back.body import Site

MAGIC = 0x54495344
HEADER_BYTES, SITE_BYTES, RETURN_BYTES, NAME_BYTES = 40, 8, 12, 8


@dataclass(frozen=True, slots=True)
class Return:
    """The place in the source of the call that returns to `address`."""

    address: int
    file: str
    line: int
    function: str


class _Names:
    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, name: str) -> int:
        return self.numbers.setdefault(name, len(self.numbers))


def pack(sites: Sequence[Site], returns: Sequence[Return]) -> bytes:
    """The table."""
    files, functions = _Names(), _Names()
    rows = b"".join(
        struct.pack("<IHH", site.kind.value << 24 | site.line, files.number(site.file), functions.number(site.function)) for site in sites
    )
    calls = b"".join(
        struct.pack("<IIHH", item.address, item.line, files.number(item.file), functions.number(item.function))
        for item in sorted(returns, key=lambda item: item.address)
    )
    at_sites = HEADER_BYTES
    at_returns = at_sites + len(rows)
    at_files = at_returns + len(calls)
    at_functions = at_files + NAME_BYTES * len(files.numbers)
    at_names = at_functions + NAME_BYTES * len(functions.numbers)
    index, names = b"", b""
    for name in [*files.numbers, *functions.numbers]:
        encoded = name.encode()
        index += struct.pack("<II", at_names + len(names), len(encoded))
        names += encoded
    names += b"\0" * (-len(names) % 8)
    header = (MAGIC, len(sites), len(returns), len(files.numbers), len(functions.numbers), at_sites, at_returns, at_files, at_functions)
    return struct.pack("<10I", *header, at_names + len(names)) + rows + calls + index + names


class Table:
    """A packed table, read back."""

    def __init__(self, data: bytes) -> None:
        """Read the header; raises ValueError where it is no such table."""
        self._data = data
        words = struct.unpack_from("<10I", data)
        if words[0] != MAGIC or words[9] != len(data):
            raise ValueError("not a table of trap sites")
        self.site_count, self.return_count = words[1], words[2]
        self._sites, self._returns, self._files, self._functions = words[5:9]

    def _name(self, base: int, number: int) -> str:
        offset, length = struct.unpack_from("<II", self._data, base + NAME_BYTES * number)
        return self._data[offset : offset + length].decode()

    def site(self, number: int) -> tuple[int, str, int, str]:
        """Kind, file, line and function of a trap site."""
        word, file, function = struct.unpack_from("<IHH", self._data, self._sites + SITE_BYTES * number)
        return word >> 24, self._name(self._files, file), word & 0xFFFFFF, self._name(self._functions, function)

    def callers(self, address: int) -> list[tuple[str, int, str]]:
        """File, line and function of the call that returns to `address`, counted from the start of the image, and of those inlined around it."""
        rows = [struct.unpack_from("<IIHH", self._data, self._returns + RETURN_BYTES * n) for n in range(self.return_count)]
        found = [row for row in rows if row[0] == address]
        return [(self._name(self._files, file), line, self._name(self._functions, function)) for _, line, file, function in found]
