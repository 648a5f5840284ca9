# SPDX-License-Identifier: Apache-2.0
"""A small BTF encoder, written from the kernel's btf.rst and not from the reader under test."""

from __future__ import annotations

import struct


class Writer:
    """Collects types, which are numbered from 1 in the order in which they are added."""

    def __init__(self) -> None:
        self.strings = bytearray(b"\0")
        self.records: list[bytes] = []

    def name(self, text: str) -> int:
        if not text:
            return 0
        known = self.strings.find(b"\0" + text.encode() + b"\0")
        if known >= 0:
            return known + 1
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def add(self, name: str, kind: int, word: int, tail: bytes = b"", vlen: int = 0, flag: bool = False) -> int:
        self.records.append(struct.pack("<III", self.name(name), (flag << 31) | (kind << 24) | vlen, word) + tail)
        return len(self.records)

    def integer(self, name: str, size: int) -> int:
        return self.add(name, 1, size, struct.pack("<I", size * 8))

    def pointer(self, to: int) -> int:
        return self.add("", 2, to)

    def array(self, of: int, length: int) -> int:
        return self.add("", 3, 0, struct.pack("<III", of, 1, length))

    def struct(self, name: str, size: int, members: list[tuple[str, int, int]], kind: int = 4) -> int:
        """Members are name, type and offset in bits."""
        tail = b"".join(struct.pack("<III", self.name(called), of, bits) for called, of, bits in members)
        return self.add(name, kind, size, tail, len(members))

    def union(self, name: str, size: int, members: list[tuple[str, int, int]]) -> int:
        return self.struct(name, size, members, kind=5)

    def struct_with_widths(self, name: str, size: int, members: list[tuple[str, int, int, int]]) -> int:
        """Members are name, type, offset and width in bits, 0 for what is no bit field."""
        tail = b"".join(struct.pack("<III", self.name(called), of, (width << 24) | bits) for called, of, bits, width in members)
        return self.add(name, 4, size, tail, len(members), flag=True)

    def enum(self, name: str, values: dict[str, int]) -> int:
        return self.add(name, 6, 4, b"".join(struct.pack("<II", self.name(called), number) for called, number in values.items()), len(values))

    def blob(self) -> bytes:
        types = b"".join(self.records)
        return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings)) + types + bytes(self.strings)


def image(blob: bytes, before: int = 256, after: int = 64, data_at: int | None = None) -> bytes:
    """An arm64 Image with the blob at byte `before`; with a PE header that says where data begins if `data_at` is given."""
    head = bytearray(before)
    head[56:60] = b"ARM\x64"
    if data_at is not None:
        head[0:2] = b"MZ"
        struct.pack_into("<I", head, 60, 64)
        head[64:68] = b"PE\0\0"
        struct.pack_into("<HHIIIHH", head, 68, 0xAA64, 2, 0, 0, 0, 0, 0)
        struct.pack_into("<I", head, 64 + 24 + 40 + 20, data_at)
    return bytes(head) + blob + bytes(after)
