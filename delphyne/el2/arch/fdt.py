# SPDX-License-Identifier: Apache-2.0
"""Reader of flattened device trees (Devicetree Specification 0.4, chapter 5).

The tree comes from firmware or from whoever loaded the image: any byte of it may be wrong. `open_tree` goes through the whole structure
once; what it accepts is well nested and every name and value lies inside. The other functions check their bounds all the same and answer
`Err`, so that no tree whatever reaches a trap. All work is linear in the tree's size for each call. No lock, no state.

Offsets are from the first byte of the tree, in bytes. A node's depth is 1 for the root.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Enum32, Pa, View, load_be32, load_be64, struct, text, u8, u32, u64, value

MAGIC: Final = u32(0xD00D_FEED)
HEADER_BYTES: Final = u64(40)
MAX_DEPTH: Final = u64(32)
"""Deepest node that is read; deeper trees are refused."""
MAX_NAME: Final = u64(255)
"""Longest name that is read. The specification allows 31 bytes; real trees go beyond, and some bound keeps the work linear."""

AT_SIGN: Final = u8(0x40)
COLON: Final = u8(0x3A)
SLASH: Final = u8(0x2F)


class Token(Enum32):
    """What the structure block is made of."""

    BEGIN_NODE = 1
    END_NODE = 2
    PROP = 3
    NOP = 4
    END = 9


@value
class Tree:
    """Where the blocks of an accepted tree lie: first byte, and first byte after."""

    struct_start: u64
    struct_end: u64
    strings_start: u64
    strings_end: u64
    reserve_start: u64
    total: u64


@value
class Item:
    """One token with what belongs to it. `name` is a node's or a property's; `at` and `length` are a property's value."""

    token: Token
    name: u64
    name_length: u64
    at: u64
    length: u64
    next: u64


@value
class Node:
    """A node: where its first token lies, its name, its depth."""

    at: u64
    name: u64
    name_length: u64
    depth: u64


@value
class Property:
    """Where a property's value lies."""

    at: u64
    length: u64


@value
class Region:
    """`size` bytes of physical addresses from `base` on; base + size does not wrap."""

    base: Pa
    size: u64


@value
class Cells:
    """How many 32-bit cells an address and a size take in the `reg` of a node's children."""

    address: u64
    size: u64


@struct
class Trail:
    """The nodes from the root (index 0) down to some node; entry i has depth i + 1."""

    nodes: Array[Node, 32]


def equal(a: View[u8], b: View[u8]) -> bool:
    """Whether two byte strings are the same."""
    if a.length != b.length:
        return False
    for i in u64.range(a.length):
        if a[i] != b[i]:
            return False
    return True


def _string_length(raw: View[u8], start: u64, end: u64) -> u64 | Err:
    """Bytes before the NUL of the string at `start`, which must come before `end` and within MAX_NAME bytes."""
    if start >= end or end > raw.length:
        return Err.TRUNCATED
    for i in u64.range(min(end - start, MAX_NAME + 1)):
        if raw[start + i] == 0:
            return i
    return Err.MALFORMED


def open_tree(raw: View[u8]) -> Tree | Err:
    """The tree in `raw`, once all of it was found to be well formed. `raw` may be longer than the tree.

    Errors: TRUNCATED, MALFORMED, UNSUPPORTED (a version before 17, or nodes deeper than MAX_DEPTH)."""
    if raw.length < HEADER_BYTES:
        return Err.TRUNCATED
    if load_be32(raw, u64(0)) != MAGIC:
        return Err.MALFORMED
    total = u64(load_be32(raw, u64(4)))
    if total > raw.length:
        return Err.TRUNCATED
    if load_be32(raw, u64(20)) < 17 or load_be32(raw, u64(24)) > 17:
        return Err.UNSUPPORTED
    struct_start = u64(load_be32(raw, u64(8)))
    struct_end = struct_start + u64(load_be32(raw, u64(36)))
    strings_start = u64(load_be32(raw, u64(12)))
    strings_end = strings_start + u64(load_be32(raw, u64(32)))
    reserve_start = u64(load_be32(raw, u64(16)))
    if struct_end > total or strings_end > total or reserve_start > total:
        return Err.TRUNCATED
    if struct_start % 4 != 0:
        return Err.ALIGNMENT
    tree = Tree(struct_start, struct_end, strings_start, strings_end, reserve_start, total)
    checked = _check_structure(raw, tree)
    if isinstance(checked, Err):
        return checked
    return tree


def _check_structure(raw: View[u8], tree: Tree) -> None | Err:
    """Whether the tokens are one node that holds properties first and nodes after, then END."""
    offset = tree.struct_start
    depth = u64(0)
    properties_allowed = False
    root_seen = False
    while True:
        item = item_at(raw, tree, offset)
        if isinstance(item, Err):
            return item
        offset = item.next
        match item.token:
            case Token.BEGIN_NODE:
                if depth == 0 and root_seen:
                    return Err.MALFORMED
                if depth >= MAX_DEPTH:
                    return Err.UNSUPPORTED
                root_seen = True
                depth += 1
                properties_allowed = True
            case Token.END_NODE:
                if depth == 0:
                    return Err.MALFORMED
                depth -= 1
                properties_allowed = False
            case Token.PROP:
                if not properties_allowed:
                    return Err.MALFORMED
            case Token.NOP:
                pass
            case Token.END:
                if depth != 0 or not root_seen:
                    return Err.MALFORMED
                return None


def item_at(raw: View[u8], tree: Tree, offset: u64) -> Item | Err:
    """The token at `offset` of the structure block, with its name and value inside their blocks."""
    if tree.struct_end > raw.length or offset < tree.struct_start or offset > tree.struct_end:
        return Err.RANGE
    if tree.struct_end - offset < 4:
        return Err.TRUNCATED
    token = Token.of(load_be32(raw, offset))
    if token is None:
        return Err.MALFORMED
    at = offset + 4
    match token:
        case Token.BEGIN_NODE:
            length = _string_length(raw, at, tree.struct_end)
            if isinstance(length, Err):
                return length
            return Item(token, at, length, u64(0), u64(0), _next_token(tree, at + length + 1))
        case Token.PROP:
            if tree.struct_end - at < 8:
                return Err.TRUNCATED
            size = u64(load_be32(raw, at))
            name = tree.strings_start + u64(load_be32(raw, at + 4))
            if tree.struct_end - (at + 8) < size:
                return Err.TRUNCATED
            length = _string_length(raw, name, tree.strings_end)
            if isinstance(length, Err):
                return length
            return Item(token, name, length, at + 8, size, _next_token(tree, at + 8 + size))
        case Token.END_NODE | Token.NOP | Token.END:
            return Item(token, u64(0), u64(0), u64(0), u64(0), at)


def _next_token(tree: Tree, offset: u64) -> u64:
    """`offset` rounded up to a token, which are aligned from the start of the structure block on."""
    return tree.struct_start + (offset - tree.struct_start + 3) // 4 * 4


def root(raw: View[u8], tree: Tree) -> Node | Err:
    """The root node."""
    return next_node(raw, tree, Node(tree.struct_start, u64(0), u64(0), u64(0)))


def next_node(raw: View[u8], tree: Tree, node: Node) -> Node | Err:
    """The node that begins next after `node` does: its first child, or its next sibling, or that of an ancestor. NOT_FOUND at the end."""
    offset = node.at
    depth = node.depth
    while True:
        item = item_at(raw, tree, offset)
        if isinstance(item, Err):
            return item
        offset = item.next
        match item.token:
            case Token.BEGIN_NODE:
                if depth >= MAX_DEPTH:
                    return Err.UNSUPPORTED
                return Node(offset, item.name, item.name_length, depth + 1)
            case Token.END_NODE:
                if depth == 0:
                    return Err.MALFORMED
                depth -= 1
            case Token.END:
                return Err.NOT_FOUND
            case Token.PROP | Token.NOP:
                pass


def node_name(raw: View[u8], node: Node) -> View[u8]:
    """The name of a node that this tree answered, unit address included."""
    return raw[node.name:node.name + node.name_length]


def name_is(raw: View[u8], node: Node, name: View[u8]) -> bool:
    """Whether the node is called `name`, with its unit address or, where `name` has none, without."""
    full = node_name(raw, node)
    if full.length < name.length or not equal(full[:name.length], name):
        return False
    return full.length == name.length or full[name.length] == AT_SIGN


def find_property(raw: View[u8], tree: Tree, node: Node, name: View[u8]) -> Property | Err:
    """The node's own property of that name, or NOT_FOUND."""
    offset = node.at
    while True:
        item = item_at(raw, tree, offset)
        if isinstance(item, Err):
            return item
        offset = item.next
        match item.token:
            case Token.PROP:
                if equal(raw[item.name:item.name + item.name_length], name):
                    return Property(item.at, item.length)
            case Token.NOP:
                pass
            case Token.BEGIN_NODE | Token.END_NODE | Token.END:
                return Err.NOT_FOUND


def property_bytes(raw: View[u8], found: Property) -> View[u8]:
    """The value of a property that this tree answered."""
    return raw[found.at:found.at + found.length]


def read_number(raw: View[u8], found: Property, cell: u64, cells: u64) -> u64 | Err:
    """The number of one or two cells that starts at cell `cell` of the value; no cells at all are 0.

    Errors: TRUNCATED where the value ends before, UNSUPPORTED for more than two cells."""
    data = property_bytes(raw, found)
    have = data.length // 4
    if cells > 2:
        return Err.UNSUPPORTED
    if cell > have or have - cell < cells:
        return Err.TRUNCATED
    if cells == 0:
        return u64(0)
    if cells == 1:
        return u64(load_be32(data, cell * 4))
    return load_be64(data, cell * 4)


def read_cell(raw: View[u8], tree: Tree, node: Node, name: View[u8], missing: u64) -> u64 | Err:
    """The one-cell property of that name, or `missing` where there is none."""
    found = find_property(raw, tree, node, name)
    if isinstance(found, Err):
        if found is Err.NOT_FOUND:
            return missing
        return found
    return read_number(raw, found, u64(0), u64(1))


def cells_of(raw: View[u8], tree: Tree, node: Node) -> Cells | Err:
    """The cell counts that `node` sets for its children; 2 and 1 where it says nothing. UNSUPPORTED beyond two cells."""
    address = read_cell(raw, tree, node, text(b"#address-cells"), u64(2))
    if isinstance(address, Err):
        return address
    size = read_cell(raw, tree, node, text(b"#size-cells"), u64(1))
    if isinstance(size, Err):
        return size
    if address > 2 or size > 2:
        return Err.UNSUPPORTED
    return Cells(address, size)


def holds_string(raw: View[u8], tree: Tree, node: Node, name: View[u8], wanted: View[u8]) -> bool:
    """Whether the property `name` is a list of NUL-terminated strings of which one is `wanted`."""
    found = find_property(raw, tree, node, name)
    if isinstance(found, Err):
        return False
    data = property_bytes(raw, found)
    start = u64(0)
    for i in u64.range(data.length):
        if data[i] == 0:
            if equal(data[start:i], wanted):
                return True
            start = i + 1
    return False


def is_compatible(raw: View[u8], tree: Tree, node: Node, wanted: View[u8]) -> bool:
    """Whether `compatible` lists `wanted`."""
    return holds_string(raw, tree, node, text(b"compatible"), wanted)


def is_available(raw: View[u8], tree: Tree, node: Node) -> bool:
    """Whether `status` is absent, "okay" or "ok"."""
    found = find_property(raw, tree, node, text(b"status"))
    if isinstance(found, Err):
        return found is Err.NOT_FOUND
    data = property_bytes(raw, found)
    return equal(data, text(b"okay\x00")) or equal(data, text(b"ok\x00"))


def find_path(raw: View[u8], tree: Tree, path: View[u8], trail: Trail) -> Node | Err:
    """The node at an absolute path, its ancestors and itself in `trail`. A component without unit address finds the first of that name."""
    at_root = root(raw, tree)
    if isinstance(at_root, Err):
        return at_root
    here = at_root
    trail.nodes[0] = here
    start = u64(0)
    while start < path.length:
        if path[start] != SLASH:
            return Err.INVALID
        start += 1
        end = start
        while end < path.length and path[end] != SLASH:
            end += 1
        if end > start:
            child = _find_child(raw, tree, here, path[start:end])
            if isinstance(child, Err):
                return child
            here = child
            trail.nodes[here.depth - 1] = here
        start = end
    return here


def _find_child(raw: View[u8], tree: Tree, parent: Node, name: View[u8]) -> Node | Err:
    """The first child of that name."""
    here = parent
    while True:
        following = next_node(raw, tree, here)
        if isinstance(following, Err):
            return following
        here = following
        if here.depth <= parent.depth:
            return Err.NOT_FOUND
        if here.depth == parent.depth + 1 and name_is(raw, here, name):
            return here


def read_region(raw: View[u8], tree: Tree, trail: Trail, node: Node, index: u64) -> Region | Err:
    """Entry `index` of the node's `reg`, as the processor addresses it. `trail` holds the node's ancestors.

    Errors: NOT_FOUND (no such entry), INVALID (a bus on the way does not map it up), RANGE (it wraps), UNSUPPORTED (more than two cells)."""
    if node.depth < 2:
        return Err.NOT_FOUND
    cells = cells_of(raw, tree, trail.nodes[node.depth - 2])
    if isinstance(cells, Err):
        return cells
    found = find_property(raw, tree, node, text(b"reg"))
    if isinstance(found, Err):
        return found
    each = cells.address + cells.size
    if each == 0 or index >= found.length // (each * 4):
        return Err.NOT_FOUND
    first = read_number(raw, found, index * each, cells.address)
    if isinstance(first, Err):
        return first
    size = read_number(raw, found, index * each + cells.address, cells.size)
    if isinstance(size, Err):
        return size
    base: u64 = first
    for up in u64.range(node.depth - 2):
        moved = _through_ranges(raw, tree, trail, node.depth - 2 - up, base, size)
        if isinstance(moved, Err):
            return moved
        base = moved
    if size > u64.MAX - base:
        return Err.RANGE
    return Region(Pa(base), size)


def _through_ranges(raw: View[u8], tree: Tree, trail: Trail, bus_index: u64, base: u64, size: u64) -> u64 | Err:
    """An address on the bus `trail.nodes[bus_index]` as its parent addresses it, by the bus's `ranges`."""
    bus = trail.nodes[bus_index]
    found = find_property(raw, tree, bus, text(b"ranges"))
    if isinstance(found, Err):
        return Err.INVALID if found is Err.NOT_FOUND else found
    if found.length == 0:
        return base
    inner = cells_of(raw, tree, bus)
    if isinstance(inner, Err):
        return inner
    outer = cells_of(raw, tree, trail.nodes[bus_index - 1])
    if isinstance(outer, Err):
        return outer
    each = inner.address + outer.address + inner.size
    if each == 0:
        return Err.MALFORMED
    for i in u64.range(found.length // (each * 4)):
        child = read_number(raw, found, i * each, inner.address)
        if isinstance(child, Err):
            return child
        parent = read_number(raw, found, i * each + inner.address, outer.address)
        if isinstance(parent, Err):
            return parent
        length = read_number(raw, found, i * each + inner.address + outer.address, inner.size)
        if isinstance(length, Err):
            return length
        if base >= child and base - child < length and size <= length - (base - child):
            if base - child > u64.MAX - parent:
                return Err.RANGE
            return parent + (base - child)
    return Err.INVALID


def reserved_entry(raw: View[u8], tree: Tree, index: u64) -> Region | Err:
    """Entry `index` of the memory reservation block. NOT_FOUND after the last."""
    if tree.total > raw.length or tree.reserve_start > tree.total:
        return Err.RANGE
    if index >= (tree.total - tree.reserve_start) // 16:
        return Err.TRUNCATED
    base = load_be64(raw, tree.reserve_start + index * 16)
    size = load_be64(raw, tree.reserve_start + index * 16 + 8)
    if base == 0 and size == 0:
        return Err.NOT_FOUND
    if size > u64.MAX - base:
        return Err.RANGE
    return Region(Pa(base), size)
