# SPDX-License-Identifier: Apache-2.0
"""The device-tree reader against an independent writer and against dtc, and against trees that somebody spoiled."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from fdt_writer import Dt, board, cells64, value, view, write
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.machine import Machine, describe
from delphyne.lang import View, text, u8, u64

NAMES = st.from_regex(r"[a-z][a-z0-9,._+-]{0,12}(@[0-9a-f]{1,8})?", fullmatch=True)
VALUES = st.one_of(st.none(), st.binary(max_size=20), st.lists(st.integers(0, 2**32 - 1), max_size=4))
TREES = st.recursive(
    st.builds(Dt, st.dictionaries(NAMES, VALUES, max_size=4)),
    lambda inner: st.builds(Dt, st.dictionaries(NAMES, VALUES, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)


def raw_bytes(data: View[u8]) -> bytes:
    return bytes(int(data[i]) for i in range(int(data.length)))


def opened(raw: View[u8]) -> fdt.Tree:
    tree = fdt.open_tree(raw)
    assert not isinstance(tree, Err)
    return tree


def nodes_of(raw: View[u8], tree: fdt.Tree) -> list[tuple[int, str]]:
    found = []
    node = fdt.root(raw, tree)
    while not isinstance(node, Err):
        found.append((int(node.depth), raw_bytes(fdt.node_name(raw, node)).decode()))
        node = fdt.next_node(raw, tree, node)
    assert node is Err.NOT_FOUND
    return found


def expected_nodes(name: str, node: Dt, depth: int = 1) -> list[tuple[int, str]]:
    return [(depth, name), *(item for child, inner in node.children.items() for item in expected_nodes(child, inner, depth + 1))]


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_every_node_and_property_is_read_as_written(root: Dt) -> None:
    raw = view(write(root))
    tree = opened(raw)
    assert nodes_of(raw, tree) == expected_nodes("", root)

    def check(path: str, node: Dt) -> None:
        found = fdt.find_path(raw, tree, text(path.encode() or b"/"), fdt.Trail())
        assert not isinstance(found, Err)
        for name, data in node.properties.items():
            held = fdt.find_property(raw, tree, found, text(name.encode()))
            assert not isinstance(held, Err)
            assert raw_bytes(fdt.property_bytes(raw, held)) == value(data)
        assert fdt.find_property(raw, tree, found, text(b"not-there")) is Err.NOT_FOUND
        for child, inner in node.children.items():
            if "@" in child or not any(other.startswith(child + "@") for other in node.children):
                check(f"{path}/{child}", inner)

    check("", root)


def exercise(blob: bytes) -> None:
    """Whatever the bytes are, only values and errors come back."""
    raw = view(blob)
    machine = Machine()
    tree = describe(raw, machine)
    if isinstance(tree, Err):
        tree = fdt.open_tree(raw)
    if isinstance(tree, Err):
        return
    node = fdt.root(raw, tree)
    trail = fdt.Trail()
    while not isinstance(node, Err):
        trail.nodes[node.depth - 1] = node
        for index in range(3):
            fdt.read_region(raw, tree, trail, node, u64(index))
        fdt.is_available(raw, tree, node)
        node = fdt.next_node(raw, tree, node)
    for path in (b"/", b"//", b"x", b"/cpus/cpu", b"/soc/uart@1000/"):
        fdt.find_path(raw, tree, text(path), trail)


@given(st.integers(0, len(write(board()))), st.data())
@settings(max_examples=40, deadline=None)
def test_a_truncated_tree_is_refused(length: int, data: st.DataObject) -> None:
    blob = write(board())[:length]
    whole = length == len(write(board()))
    assert isinstance(fdt.open_tree(view(blob)), Err) is not whole
    exercise(blob)
    shrunk = bytearray(blob)
    if length >= 8:
        shrunk[4:8] = struct.pack(">I", data.draw(st.integers(0, length)))
        exercise(bytes(shrunk))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_no_changed_byte_reaches_a_trap(changes: list[tuple[int, int]]) -> None:
    blob = bytearray(write(board(), [(0x4800_0000, 0x1000)]))
    for at, byte in changes:
        blob[at % len(blob)] = byte
    exercise(bytes(blob))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([0, 1, 2, 3, 4, 9, 0xFFFF_FFFF, 0x8000_0000, 0x7FFF_FFFF])), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_no_changed_word_reaches_a_trap(changes: list[tuple[int, int]]) -> None:
    blob = bytearray(write(board(), [(0x4800_0000, 0x1000)]))
    for at, word in changes:
        start = at % (len(blob) // 4) * 4
        blob[start : start + 4] = struct.pack(">I", word)
    exercise(bytes(blob))


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_random_bytes_are_no_tree(blob: bytes) -> None:
    assert isinstance(fdt.open_tree(view(blob)), Err)
    assert isinstance(fdt.open_tree(view(b"\xd0\x0d\xfe\xed" + blob)), Err)


def header(**changes: int) -> bytes:
    """A legal blob whose header fields are overwritten by name."""
    places = {"total": 4, "structure": 8, "strings": 12, "reserve": 16, "version": 20, "compatible": 24, "strings_size": 32, "structure_size": 36}
    blob = bytearray(write(board()))
    for name, number in changes.items():
        blob[places[name] : places[name] + 4] = struct.pack(">I", number)
    return bytes(blob)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 16}, Err.UNSUPPORTED),
        ({"compatible": 18}, Err.UNSUPPORTED),
        ({"total": 0xFFFF_FFFF}, Err.TRUNCATED),
        ({"structure": 0xFFFF_FFFC}, Err.TRUNCATED),
        ({"structure_size": 0xFFFF_FFFF}, Err.TRUNCATED),
        ({"structure_size": 8}, Err.TRUNCATED),
        ({"structure": 57}, Err.ALIGNMENT),
        ({"strings": 0xFFFF_FFFF}, Err.TRUNCATED),
        ({"strings_size": 0xFFFF_FFFF}, Err.TRUNCATED),
        ({"strings_size": 0}, Err.TRUNCATED),
        ({"reserve": 0xFFFF_FFFF}, Err.TRUNCATED),
    ],
)
def test_a_wrong_header_is_refused(changes: dict[str, int], error: Err) -> None:
    assert fdt.open_tree(view(header(**changes))) is error


@pytest.mark.parametrize(
    ("tokens", "error"),
    [
        ([9], Err.MALFORMED),
        ([2, 9], Err.MALFORMED),
        ([1, 0, 9], Err.MALFORMED),
        ([1, 0, 2, 1, 0, 2, 9], Err.MALFORMED),
        ([1, 0, 1, 0x61000000, 2, 3, 0, 0, 2, 9], Err.MALFORMED),
        ([3, 0, 0, 9], Err.MALFORMED),
        ([1, 0, 5, 2, 9], Err.MALFORMED),
        ([1, 0, 2], Err.TRUNCATED),
        ([1, 0x61616161], Err.MALFORMED),
        ([1, 0, 3, 0xFFFF_FFF8, 0, 2, 9], Err.TRUNCATED),
        ([1, 0, 3, 0, 0xFFFF_FFFF, 2, 9], Err.TRUNCATED),
        ([1, 0] * 33 + [2] * 33 + [9], Err.UNSUPPORTED),
    ],
)
def test_a_wrong_structure_is_refused(tokens: list[int], error: Err) -> None:
    structure = struct.pack(f">{len(tokens)}I", *tokens)
    blob = struct.pack(">10I", 0xD00DFEED, 56 + len(structure) + 2, 56, 56 + len(structure), 40, 17, 16, 0, 2, len(structure))
    assert fdt.open_tree(view(blob + bytes(16) + structure + b"a\0")) is error


def test_thirty_two_levels_are_read() -> None:
    root = inner = Dt()
    for _ in range(31):
        inner.children["n"] = inner = Dt()
    raw = view(write(root))
    assert nodes_of(raw, opened(raw))[-1] == (32, "n")


def test_a_name_without_end_is_refused_after_a_bounded_look() -> None:
    blob = write(Dt({"a" * 300: None}))
    assert fdt.open_tree(view(blob)) is Err.MALFORMED


def region(root: Dt, path: bytes, index: int) -> fdt.Region | Err:
    raw = view(write(root))
    tree, trail = opened(raw), fdt.Trail()
    node = fdt.find_path(raw, tree, text(path), trail)
    assert not isinstance(node, Err)
    return fdt.read_region(raw, tree, trail, node, u64(index))


def bus(ranges: bytes | list[int] | None, cells: tuple[int, int] = (1, 1), *, mapped: bool = True) -> Dt:
    properties: dict[str, bytes | str | list[int] | list[str] | None] = {"#address-cells": [cells[0]], "#size-cells": [cells[1]]}
    if mapped:
        properties["ranges"] = ranges
    device = Dt({"reg": [0x2000, 0x100, 0x5000, 0x10]})
    return Dt({"#address-cells": [2], "#size-cells": [2]}, {"bus": Dt(properties, {"dev": device})})


@pytest.mark.parametrize(
    ("root", "index", "result"),
    [
        (bus(None), 0, (0x2000, 0x100)),
        (bus(None), 1, (0x5000, 0x10)),
        (bus(None), 2, Err.NOT_FOUND),
        (bus([0x1000, 0x8, 0x0, 0x2000]), 0, (0x8_0000_1000, 0x100)),
        (bus([0x1000, 0x8, 0x0, 0x2000]), 1, Err.INVALID),
        (bus([0x9000, 0, 0, 0x10, 0x5000, 0, 0x7000_0000, 0x10]), 1, (0x7000_0000, 0x10)),
        (bus([0x2000, 0, 0, 0xFF]), 0, Err.INVALID),
        (bus([0x1000, 0xFFFF_FFFF, 0xFFFF_F000, 0x2000]), 0, Err.RANGE),
        (bus(None, mapped=False), 0, Err.INVALID),
        (bus(None, (3, 1)), 0, Err.UNSUPPORTED),
        (bus(None, (0, 0)), 0, Err.NOT_FOUND),
    ],
)
def test_addresses_go_through_the_ranges_of_each_bus(root: Dt, index: int, result: tuple[int, int] | Err) -> None:
    found = region(root, b"/bus/dev", index)
    assert (found if isinstance(found, Err) else (int(found.base.raw), int(found.size))) == result


def test_two_buses_are_two_translations() -> None:
    inner = bus([0x2000, 0x300, 0x1000], (1, 1)).children["bus"]
    outer = Dt({"#address-cells": [1], "#size-cells": [1], "ranges": [0x300, 0x1, 0x0, 0x1000]}, {"inner": inner})
    found = region(Dt({}, {"outer": outer}), b"/outer/inner/dev", 0)
    assert not isinstance(found, Err)
    assert (int(found.base.raw), int(found.size)) == (0x1_0000_0000, 0x100)


def test_reservations_end_at_the_empty_entry() -> None:
    raw = view(write(board(), [(0x1000, 0x10), (0, 5), (2**64 - 1, 2)]))
    tree = opened(raw)
    first, second = fdt.reserved_entry(raw, tree, u64(0)), fdt.reserved_entry(raw, tree, u64(1))
    assert not isinstance(first, Err)
    assert not isinstance(second, Err)
    assert (int(first.base.raw), int(first.size), int(second.size)) == (0x1000, 0x10, 5)
    assert fdt.reserved_entry(raw, tree, u64(2)) is Err.RANGE
    assert fdt.reserved_entry(raw, tree, u64(3)) is Err.NOT_FOUND
    assert fdt.reserved_entry(raw, tree, u64(10**15)) is Err.TRUNCATED


def test_dtc_writes_what_the_reader_reads(tmp_path: Path) -> None:
    assert shutil.which("dtc"), "install the Debian package device-tree-compiler"
    source = tmp_path / "board.dts"
    source.write_text("""
        /dts-v1/;
        /memreserve/ 0x48000000 0x1000;
        / { #address-cells = <2>; #size-cells = <1>;
            memory@80000000 { device_type = "memory"; reg = <0 0x80000000 0x1000 1 0 0x2000>; };
            a { b@1 { value = /bits/ 64 <0x123456789abcdef0>; names = "one", "two"; }; b@2 { }; }; };
    """)
    subprocess.run(["dtc", "-I", "dts", "-O", "dtb", "-q", "-o", str(tmp_path / "board.dtb"), str(source)], check=True)
    raw = view((tmp_path / "board.dtb").read_bytes())
    tree, trail = opened(raw), fdt.Trail()
    assert nodes_of(raw, tree) == [(1, ""), (2, "memory@80000000"), (2, "a"), (3, "b@1"), (3, "b@2")]
    node = fdt.find_path(raw, tree, text(b"/a/b"), trail)
    assert not isinstance(node, Err)
    found = fdt.find_property(raw, tree, node, text(b"value"))
    assert not isinstance(found, Err)
    assert fdt.read_number(raw, found, u64(0), u64(2)) == u64(0x1234_5678_9ABC_DEF0)
    assert fdt.holds_string(raw, tree, node, text(b"names"), text(b"two"))
    assert not fdt.holds_string(raw, tree, node, text(b"names"), text(b"tw"))
    memory = fdt.find_path(raw, tree, text(b"/memory@80000000"), trail)
    assert not isinstance(memory, Err)
    second = fdt.read_region(raw, tree, trail, memory, u64(1))
    assert not isinstance(second, Err)
    assert (int(second.base.raw), int(second.size)) == (0x1_0000_0000, 0x2000)
    entry = fdt.reserved_entry(raw, tree, u64(0))
    assert not isinstance(entry, Err)
    assert int(entry.base.raw) == 0x4800_0000


def test_cells_of_more_than_64_bits_are_refused() -> None:
    raw = view(write(Dt({"three": cells64(1, 2)[:3]})))
    tree = opened(raw)
    node = fdt.root(raw, tree)
    assert not isinstance(node, Err)
    found = fdt.find_property(raw, tree, node, text(b"three"))
    assert not isinstance(found, Err)
    assert fdt.read_number(raw, found, u64(0), u64(3)) is Err.UNSUPPORTED
    assert fdt.read_number(raw, found, u64(2), u64(2)) is Err.TRUNCATED
    assert fdt.read_number(raw, found, u64(4), u64(1)) is Err.TRUNCATED
