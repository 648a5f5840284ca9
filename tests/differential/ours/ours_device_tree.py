# SPDX-License-Identifier: Apache-2.0
"""Reads a small device tree in which the inputs damage two bytes: the position and the new value come from each."""

from __future__ import annotations

import random
from typing import Final

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Lock, constant, guarded, holds, rotate_left, text, u8, u64


def _word(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


STRINGS = b"#address-cells\0#size-cells\0reg\0ranges\0compatible\0"


def _property(name: bytes, data: bytes) -> bytes:
    return _word(3, len(data), STRINGS.index(name + b"\0")) + _padded(data)


def _node(name: bytes, *parts: bytes) -> bytes:
    return _word(1) + _padded(name + b"\0") + b"".join(parts) + _word(2)


CELLS = _property(b"#address-cells", _word(2)) + _property(b"#size-cells", _word(2))
NARROW = _property(b"#address-cells", _word(1)) + _property(b"#size-cells", _word(1))
UART = _node(b"uart@9000", _property(b"compatible", b"arm,pl011\0arm,primecell\0"), _property(b"reg", _word(0x9000, 0x1000)))
BUS = _node(b"soc", NARROW, _property(b"ranges", _word(0, 0, 0x0900_0000, 0x10000)), UART)
MEMORY = _node(b"memory@40000000", _property(b"reg", _word(0, 0x4000_0000, 0, 0x1000_0000, 8, 0, 0, 0x1000)))
STRUCTURE = _node(b"", CELLS, MEMORY, BUS) + _word(9)
RESERVED = _word(0, 0x4800_0000, 0, 0x1000, 0, 0, 0, 0)
AT = 40 + len(RESERVED)
TOTAL = AT + len(STRUCTURE) + len(STRINGS)
HEADER = _word(0xD00D_FEED, TOTAL, AT, AT + len(STRUCTURE), 40, 17, 16, 0, len(STRINGS), len(STRUCTURE))
BLOB = HEADER + RESERVED + STRUCTURE + STRINGS

_source = random.Random(2)
INPUTS = [(0, 0)] + [(_source.getrandbits(64), _source.getrandbits(64)) for _ in range(25)]

SOUND: Final = constant(Array[u8, len(BLOB)].of(list(BLOB)))
LOCK: Final = Lock("differential", rank=1)
DATA: Final = guarded(LOCK, Array[u8, len(BLOB)]())


def mix(d: u64, x: u64) -> u64:
    return rotate_left(d, u64(7)) ^ x


@holds(LOCK)
def damage(by: u64) -> None:
    if by != 0:
        DATA[(by >> 8) % DATA.length] = u8.wrap(by)


@holds(LOCK)
def regions(d: u64, tree: fdt.Tree, path_of_uart: bool) -> u64:
    trail = fdt.Trail()
    path = text(b"/soc/uart@9000")
    if not path_of_uart:
        path = text(b"/memory")
    node = fdt.find_path(DATA[:], tree, path, trail)
    if isinstance(node, Err):
        return mix(d, u64(node.raw))
    for index in u64.range(3):
        found = fdt.read_region(DATA[:], tree, trail, node, index)
        d = mix(d, u64(found.raw) + 1) if isinstance(found, Err) else mix(mix(d, found.base.raw), found.size)
    if fdt.is_compatible(DATA[:], tree, node, text(b"arm,primecell")):
        d = mix(d, u64(3))
    return d


@holds(LOCK)
def read(tree: fdt.Tree) -> u64:
    d = mix(tree.struct_end, tree.strings_end)
    here = fdt.root(DATA[:], tree)
    for _ in u64.range(16):
        if isinstance(here, Err):
            d = mix(d, u64(here.raw))
            break
        d = mix(mix(d, here.at), here.name_length + (here.depth << 8))
        cells = fdt.cells_of(DATA[:], tree, here)
        if not isinstance(cells, Err):
            d = mix(d, cells.address << 4 | cells.size)
        here = fdt.next_node(DATA[:], tree, here)
    reserved = fdt.reserved_entry(DATA[:], tree, u64(0))
    if not isinstance(reserved, Err):
        d = mix(d, reserved.base.raw)
    return regions(regions(d, tree, True), tree, False)


def run(a: u64, b: u64) -> u64:
    with LOCK:
        DATA.copy_from(SOUND)
        damage(a)
        damage(b)
        tree = fdt.open_tree(DATA[:])
        if isinstance(tree, Err):
            return u64(tree.raw)
        return read(tree)


@holds(LOCK)
def checksum() -> u64:
    d = u64(0)
    for i in u64.range(DATA.length):
        d = mix(d, u64(DATA[i]))
    return d
