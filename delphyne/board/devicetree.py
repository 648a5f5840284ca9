# SPDX-License-Identifier: Apache-2.0
"""Flattened device trees (Devicetree Specification 0.4, chapter 5), read and written whole: for the images of protected guests."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAGIC = 0xD00DFEED
VERSION, COMPATIBLE_VERSION = 17, 16
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
HEADER = struct.Struct(">10I")
DEEPEST = 32
"""As deep as EL2's own reader goes."""


class TreeError(Exception):
    """Not a device tree, in one line for the user."""


@dataclass
class Node:
    """A node: its properties in their order, and its children by name."""

    properties: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)

    def child(self, name: str) -> Node:
        """The child `name`, made where there is none."""
        return self.children.setdefault(name, Node())

    def cells(self, name: str) -> tuple[int, ...]:
        """A property as 32-bit cells; empty where there is none."""
        raw = self.properties.get(name, b"")
        return struct.unpack(f">{len(raw) // 4}I", raw[: len(raw) // 4 * 4])

    def strings(self, name: str) -> tuple[str, ...]:
        """A property as strings."""
        return tuple(self.properties.get(name, b"").decode(errors="replace").rstrip("\0").split("\0"))


def read(blob: bytes) -> Node:
    """The root of a tree. Raises TreeError."""
    try:
        magic, total, structure, strings, _, version, compatible, *_ = HEADER.unpack_from(blob)
        if magic != MAGIC or compatible > VERSION or version < COMPATIBLE_VERSION or total > len(blob):
            raise TreeError("not a flattened device tree of version 16 or 17")
        return _read_nodes(blob, structure, strings)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as problem:
        raise TreeError(f"a device tree that is broken: {problem}") from None


def _read_nodes(blob: bytes, at: int, strings: int) -> Node:
    path: list[Node] = []
    while True:
        (token,) = struct.unpack_from(">I", blob, at)
        at += 4
        if token == BEGIN_NODE:
            end = blob.index(b"\0", at)
            if len(path) == DEEPEST:
                raise ValueError(f"more than {DEEPEST} levels")
            node = path[-1].child(blob[at:end].decode()) if path else Node()
            path.append(node)
            at = (end + 4) & ~3
        elif token == PROP:
            length, name = struct.unpack_from(">II", blob, at)
            at += 8
            key = blob[strings + name : blob.index(b"\0", strings + name)].decode()
            if length > len(blob) - at:
                raise ValueError(f"{key} is cut off")
            path[-1].properties[key] = blob[at : at + length]
            at = (at + length + 3) & ~3
        elif token == END_NODE:
            root = path.pop()
            if not path:
                return root
        elif token != NOP:
            raise ValueError(f"token {token}")


def write(root: Node) -> bytes:
    """The tree as a blob, without memory reservations."""
    names: dict[str, int] = {}
    strings = bytearray()
    body = bytearray()

    def put(name: str, node: Node) -> None:
        body.extend(struct.pack(">I", BEGIN_NODE) + _padded(name.encode() + b"\0"))
        for key, raw in node.properties.items():
            if key not in names:
                names[key] = len(strings)
                strings.extend(key.encode() + b"\0")
            body.extend(struct.pack(">III", PROP, len(raw), names[key]) + _padded(raw))
        for below, child in node.children.items():
            put(below, child)
        body.extend(struct.pack(">I", END_NODE))

    put("", root)
    body.extend(struct.pack(">I", END))
    reservations = HEADER.size
    structure = reservations + 16
    text = structure + len(body)
    total = (text + len(strings) + 7) & ~7
    header = HEADER.pack(MAGIC, total, structure, text, reservations, VERSION, COMPATIBLE_VERSION, 0, len(strings), len(body))
    return (header + bytes(16) + body + strings).ljust(total, b"\0")


def _padded(raw: bytes) -> bytes:
    return raw.ljust((len(raw) + 3) & ~3, b"\0")
