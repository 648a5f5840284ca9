# SPDX-License-Identifier: Apache-2.0
"""A writer of flattened device trees, straight from the specification, so that the reader is not tested against itself."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from delphyne.lang import Array, View, u8


@dataclass
class Dt:
    """A node: properties are bytes, cells (list of int), strings (str or list of str) or None for an empty one."""

    properties: dict[str, bytes | str | list[int] | list[str] | None] = field(default_factory=dict)
    children: dict[str, Dt] = field(default_factory=dict)


def value(data: bytes | str | list[int] | list[str] | None) -> bytes:
    """What a property's value looks like in the tree."""
    if data is None:
        return b""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str):
        return data.encode() + b"\0"
    return b"".join(struct.pack(">I", item) if isinstance(item, int) else item.encode() + b"\0" for item in data)


def cells64(*numbers: int) -> list[int]:
    """Each number as two cells."""
    return [part for number in numbers for part in (number >> 32, number & 0xFFFF_FFFF)]


class _Writer:
    def __init__(self) -> None:
        self.structure = b""
        self.strings = b""
        self.offsets: dict[str, int] = {}

    def name(self, name: str) -> int:
        if name not in self.offsets:
            self.offsets[name] = len(self.strings)
            self.strings += name.encode() + b"\0"
        return self.offsets[name]

    def word(self, number: int) -> None:
        self.structure += struct.pack(">I", number)

    def padded(self, data: bytes) -> None:
        self.structure += data + b"\0" * (-len(data) % 4)

    def node(self, name: str, node: Dt) -> None:
        self.word(1)
        self.padded(name.encode() + b"\0")
        for key, data in node.properties.items():
            encoded = value(data)
            self.word(3)
            self.word(len(encoded))
            self.word(self.name(key))
            self.padded(encoded)
        self.word(4)  # a NOP, which readers must pass over
        for child, inner in node.children.items():
            self.node(child, inner)
        self.word(2)


def write(root: Dt, reserved: list[tuple[int, int]] | None = None, version: int = 17) -> bytes:
    """The blob."""
    writer = _Writer()
    writer.node("", root)
    writer.word(9)
    reserve = b"".join(struct.pack(">QQ", *entry) for entry in [*(reserved or []), (0, 0)])
    at_structure = 40 + len(reserve)
    at_strings = at_structure + len(writer.structure)
    total = at_strings + len(writer.strings)
    header = (0xD00DFEED, total, at_structure, at_strings, 40, version, 16, 0, len(writer.strings), len(writer.structure))
    return struct.pack(">10I", *header) + reserve + writer.structure + writer.strings


def view(blob: bytes) -> View[u8]:
    """The bytes as EL2 code sees them."""
    return Array[u8, max(len(blob), 1)].of(list(blob) or [0])[:][: len(blob)]


def board(banks: list[int] | None = None, **extra: Dt) -> Dt:
    """A small legal board: two CPUs, 256 MiB, PSCI by SMC, GICv3, a PL011 that is the console; it asks for the demo."""
    return Dt(
        {"#address-cells": [2], "#size-cells": [2], "compatible": "test,board"},
        {
            "chosen": Dt({"stdout-path": "serial0:115200n8", "bootargs": "quiet delphyne.demo"}),
            "aliases": Dt({"serial0": "/soc/uart@1000"}),
            "memory@40000000": Dt({"device_type": "memory", "reg": banks or cells64(0x4000_0000, 0x1000_0000)}),
            "cpus": Dt(
                {"#address-cells": [1], "#size-cells": [0]},
                {f"cpu@{n}": Dt({"device_type": "cpu", "reg": [n], "enable-method": "psci"}) for n in (0, 1)},
            ),
            "psci": Dt({"compatible": ["arm,psci-1.0", "arm,psci-0.2"], "method": "smc"}),
            "gic@8000000": Dt({"compatible": "arm,gic-v3", "reg": cells64(0x0800_0000, 0x10000, 0x080A_0000, 0xF60000)}),
            "soc": Dt(
                {"#address-cells": [1], "#size-cells": [1], "ranges": [0x0, 0x0, 0x0900_0000, 0x10000]},
                {"uart@1000": Dt({"compatible": ["arm,pl011", "arm,primecell"], "reg": [0x1000, 0x1000]})},
            ),
            **{name.replace("_at_", "@").replace("_", "-"): node for name, node in extra.items()},
        },
    )
