# SPDX-License-Identifier: Apache-2.0
"""Writes the device tree that the host kernel gets: the machine's own, changed where EL2 stands between the two.

What changes: memory that is EL2's is gone from the memory nodes; `/chosen` names the kernel's command line and its initrd instead of the boot
modules they came as (Linux Documentation/devicetree/bindings, chosen), and a seed that is not EL2's; PSCI is called by SMC, since an HVC would
reach EL2 as a call of KVM's.
Everything else is copied token by token, so that what this file does not know stays as it was.

The input is a tree that `fdt.open_tree` accepted; the output never overlaps it. Work is linear in the tree, but for the search of memory nodes'
`device_type`, which is linear in each node. An Err leaves the output unfinished and the caller without a tree: there is no half-edited result
to use by mistake. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Slice, View, constant, load_be32, store_be32, store_be64, struct, text, u8, u32, u64

VERSION: Final = u32(17)
LAST_COMPATIBLE: Final = u32(16)

_NAMES: Final = b"method\0bootargs\0linux,initrd-start\0linux,initrd-end\0reg\0rng-seed\0"
NAMES: Final = constant(Array[u8, len(_NAMES)].of(list(_NAMES)))
"""The property names that are written, after the old ones."""
METHOD_NAME: Final = u64(_NAMES.index(b"method"))
BOOTARGS_NAME: Final = u64(_NAMES.index(b"bootargs"))
INITRD_START_NAME: Final = u64(_NAMES.index(b"linux,initrd-start"))
INITRD_END_NAME: Final = u64(_NAMES.index(b"linux,initrd-end"))
REG_NAME: Final = u64(_NAMES.index(b"reg"))
SEED_NAME: Final = u64(_NAMES.index(b"rng-seed"))


@struct
class HostTree:
    """What is to be changed. `arguments` is the command line without its NUL; `initrd` is empty where there is none; `holes` are what is
    taken out of memory; `seed` is the host's `rng-seed` where it is `seeded`."""

    arguments: Array[u8, 2047]
    arguments_length: u64
    initrd: fdt.Region
    holes: Array[fdt.Region, 4]
    hole_count: u64
    seed: Array[u8, 32]
    seeded: bool


@struct
class Writer:
    """How far the output is written; `room` is the first byte that may not be written."""

    at: u64
    room: u64


def edit(raw: View[u8], tree: fdt.Tree, out: Slice[u8], host: HostTree) -> u64 | Err:
    """Writes the host's tree to the start of `out`; its size in bytes.

    Errors: NO_MEMORY where `out` is too small; those of the reader."""
    writer = Writer()
    writer.room = out.length
    writer.at = fdt.HEADER_BYTES
    reserved = _copy_reservations(raw, tree, out, writer)
    if isinstance(reserved, Err):
        return reserved
    struct_start = writer.at
    copied = _copy_structure(raw, tree, out, writer, host)
    if isinstance(copied, Err):
        return copied
    struct_bytes = writer.at - struct_start
    strings_start = writer.at
    strings = _write_strings(raw, tree, out, writer)
    if isinstance(strings, Err):
        return strings
    store_be32(out, u64(0), fdt.MAGIC)
    store_be32(out, u64(4), u32(writer.at))
    store_be32(out, u64(8), u32(struct_start))
    store_be32(out, u64(12), u32(strings_start))
    store_be32(out, u64(16), u32(fdt.HEADER_BYTES))
    store_be32(out, u64(20), VERSION)
    store_be32(out, u64(24), LAST_COMPATIBLE)
    store_be32(out, u64(28), load_be32(raw, u64(28)))
    store_be32(out, u64(32), u32(writer.at - strings_start))
    store_be32(out, u64(36), u32(struct_bytes))
    return writer.at


def _copy_reservations(raw: View[u8], tree: fdt.Tree, out: Slice[u8], writer: Writer) -> None | Err:
    """The reservation block as it is, with its end."""
    index = u64(0)
    while True:
        region = fdt.reserved_entry(raw, tree, index)
        if isinstance(region, Err) and region is not Err.NOT_FOUND:
            return region
        if writer.room - writer.at < 16:
            return Err.NO_MEMORY
        if isinstance(region, Err):
            store_be64(out, writer.at, u64(0))
            store_be64(out, writer.at + 8, u64(0))
            writer.at += 16
            return None
        store_be64(out, writer.at, region.base.raw)
        store_be64(out, writer.at + 8, region.size)
        writer.at += 16
        index += 1


def _copy_structure(raw: View[u8], tree: fdt.Tree, out: Slice[u8], writer: Writer, host: HostTree) -> None | Err:
    """Every token but those of boot modules and of properties that are replaced."""
    trail = fdt.Trail()
    offset = tree.struct_start
    depth = u64(0)
    skipping = u64(0)
    while True:
        item = fdt.item_at(raw, tree, offset)
        if isinstance(item, Err):
            return item
        match item.token:
            case fdt.Token.BEGIN_NODE:
                if depth >= fdt.MAX_DEPTH:
                    return Err.UNSUPPORTED
                node = fdt.Node(item.next, item.name, item.name_length, depth + 1)
                trail.nodes[depth] = node
                depth += 1
                if skipping > 0 or _is_module(raw, tree, trail, node):
                    skipping += 1
                else:
                    begun = _begin_node(raw, tree, trail, node, out, writer, host, offset, item.next)
                    if isinstance(begun, Err):
                        return begun
            case fdt.Token.END_NODE:
                depth -= 1
                if skipping > 0:
                    skipping -= 1
                else:
                    ended = _copy(raw, offset, item.next, out, writer)
                    if isinstance(ended, Err):
                        return ended
            case fdt.Token.PROP:
                if skipping == 0 and not _is_replaced(raw, tree, trail, trail.nodes[depth - 1], item):
                    kept = _copy(raw, offset, item.next, out, writer)
                    if isinstance(kept, Err):
                        return kept
            case fdt.Token.NOP:
                pass
            case fdt.Token.END:
                return _copy(raw, offset, item.next, out, writer)
        offset = item.next


def _is_module(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node) -> bool:
    """Whether `node` is a boot module of Xen's protocol."""
    return node.depth == 3 and fdt.name_is(raw, trail.nodes[1], text(b"chosen")) and fdt.is_compatible(raw, tree, node, text(b"multiboot,module"))


def _is_memory(raw: View[u8], tree: fdt.Tree, node: fdt.Node) -> bool:
    return node.depth == 2 and fdt.holds_string(raw, tree, node, text(b"device_type"), text(b"memory"))


def _is_replaced(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, item: fdt.Item) -> bool:
    """Whether `_begin_node` wrote this property of `node` anew, or it must not be there."""
    if node.depth != 2:
        return False
    name = raw[item.name:item.name + item.name_length]
    if fdt.name_is(raw, node, text(b"chosen")):
        return (
            fdt.equal(name, text(b"bootargs")) or fdt.equal(name, text(b"linux,initrd-start")) or fdt.equal(name, text(b"linux,initrd-end"))
            or fdt.equal(name, text(b"xen,xen-bootargs")) or fdt.equal(name, text(b"xen,dom0-bootargs")) or fdt.equal(name, text(b"rng-seed"))
        )
    if fdt.name_is(raw, node, text(b"psci")):
        return fdt.equal(name, text(b"method"))
    return fdt.equal(name, text(b"reg")) and _is_memory(raw, tree, node)


def _begin_node(
    raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, out: Slice[u8], writer: Writer, host: HostTree, start: u64, end: u64
) -> None | Err:
    """The node's first token and the properties that are written anew."""
    copied = _copy(raw, start, end, out, writer)
    if isinstance(copied, Err):
        return copied
    if node.depth != 2:
        return None
    if fdt.name_is(raw, node, text(b"chosen")):
        return _write_chosen(tree, out, writer, host)
    if fdt.name_is(raw, node, text(b"psci")):
        return _write_property(tree, out, writer, METHOD_NAME, text(b"smc\x00"))
    if _is_memory(raw, tree, node):
        return _write_memory(raw, tree, trail, node, out, writer, host)
    return None


def _write_chosen(tree: fdt.Tree, out: Slice[u8], writer: Writer, host: HostTree) -> None | Err:
    """Command line, seed and initrd."""
    opened = _open_property(tree, out, writer, BOOTARGS_NAME, host.arguments_length + 1)
    if isinstance(opened, Err):
        return opened
    out[writer.at:writer.at + host.arguments_length].copy_from(host.arguments[:host.arguments_length])
    _close_property(out, writer, host.arguments_length, host.arguments_length + 1)
    if host.seeded:
        seeded = _write_property(tree, out, writer, SEED_NAME, host.seed[:])
        if isinstance(seeded, Err):
            return seeded
    if host.initrd.size == 0:
        return None
    begins = _write_number(tree, out, writer, INITRD_START_NAME, host.initrd.base.raw)
    if isinstance(begins, Err):
        return begins
    return _write_number(tree, out, writer, INITRD_END_NAME, host.initrd.base.raw + host.initrd.size)


def _write_memory(
    raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, out: Slice[u8], writer: Writer, host: HostTree
) -> None | Err:
    """`reg` of a memory node without the holes. The length is known only afterwards, so it is written last."""
    cells = fdt.cells_of(raw, tree, trail.nodes[0])
    if isinstance(cells, Err):
        return cells
    opened = _open_property(tree, out, writer, REG_NAME, u64(0))
    if isinstance(opened, Err):
        return opened
    start = writer.at
    index = u64(0)
    while True:
        region = fdt.read_region(raw, tree, trail, node, index)
        if isinstance(region, Err):
            if region is not Err.NOT_FOUND:
                return region
            store_be32(out, start - 8, u32(writer.at - start))
            return None
        written = _write_without_holes(region, cells, out, writer, host)
        if isinstance(written, Err):
            return written
        index += 1


def _write_without_holes(region: fdt.Region, cells: fdt.Cells, out: Slice[u8], writer: Writer, host: HostTree) -> None | Err:
    """The pieces of `region` that no hole touches, upwards. Holes may lie anywhere and overlap one another."""
    at = region.base.raw
    end = region.base.raw + region.size
    while at < end:
        hole_end = _hole_end(host, at)
        if hole_end is not None:
            at = hole_end
        else:
            stop = min(end, _next_hole(host, at))
            written = _write_cells(out, writer, cells.address, at)
            if isinstance(written, Err):
                return written
            sized = _write_cells(out, writer, cells.size, stop - at)
            if isinstance(sized, Err):
                return sized
            at = stop
    return None


def _hole_end(host: HostTree, at: u64) -> u64 | None:
    """The end of a hole that `at` lies in."""
    for i in u64.range(host.hole_count):
        hole = host.holes[i]
        if hole.base.raw <= at and at - hole.base.raw < hole.size:
            return hole.base.raw + hole.size
    return None


def _next_hole(host: HostTree, at: u64) -> u64:
    """The lowest address from `at` on at which a hole begins."""
    nearest = u64.MAX
    for i in u64.range(host.hole_count):
        base = host.holes[i].base.raw
        if base >= at and host.holes[i].size > 0:
            nearest = min(nearest, base)
    return nearest


def _write_cells(out: Slice[u8], writer: Writer, cells: u64, number: u64) -> None | Err:
    """A number of one or two cells; UNSUPPORTED where it does not fit the tree's own cell count."""
    if writer.room - writer.at < cells * 4:
        return Err.NO_MEMORY
    if cells == 2:
        store_be64(out, writer.at, number)
    elif cells == 1 and number <= u64(u32.MAX):
        store_be32(out, writer.at, u32(number))
    else:
        return Err.UNSUPPORTED
    writer.at += cells * 4
    return None


def _copy(raw: View[u8], start: u64, end: u64, out: Slice[u8], writer: Writer) -> None | Err:
    """Tokens as they are."""
    size = end - start
    if writer.room - writer.at < size:
        return Err.NO_MEMORY
    out[writer.at:writer.at + size].copy_from(raw[start:end])
    writer.at += size
    return None


def _open_property(tree: fdt.Tree, out: Slice[u8], writer: Writer, name: u64, length: u64) -> None | Err:
    """The head of a property with one of NAMES; there is room for its value when this succeeds."""
    if writer.room - writer.at < 16 or writer.room - writer.at - 16 < length:
        return Err.NO_MEMORY
    store_be32(out, writer.at, fdt.Token.PROP.raw)
    store_be32(out, writer.at + 4, u32(length))
    store_be32(out, writer.at + 8, u32(tree.strings_end - tree.strings_start + name))
    writer.at += 12
    return None


def _close_property(out: Slice[u8], writer: Writer, written: u64, length: u64) -> None:
    """Zeroes from the `written` bytes of a value to its padded end, and steps over it."""
    padded = (length + 3) & ~u64(3)
    out[writer.at + written:writer.at + padded].fill(u8(0))
    writer.at += padded


def _write_property(tree: fdt.Tree, out: Slice[u8], writer: Writer, name: u64, data: View[u8]) -> None | Err:
    opened = _open_property(tree, out, writer, name, data.length)
    if isinstance(opened, Err):
        return opened
    out[writer.at:writer.at + data.length].copy_from(data)
    _close_property(out, writer, data.length, data.length)
    return None


def _write_number(tree: fdt.Tree, out: Slice[u8], writer: Writer, name: u64, number: u64) -> None | Err:
    opened = _open_property(tree, out, writer, name, u64(8))
    if isinstance(opened, Err):
        return opened
    store_be64(out, writer.at, number)
    writer.at += 8
    return None


def _write_strings(raw: View[u8], tree: fdt.Tree, out: Slice[u8], writer: Writer) -> None | Err:
    """The old names where they were, then NAMES."""
    names = NAMES[:]
    old = tree.strings_end - tree.strings_start
    if writer.room - writer.at < old + names.length:
        return Err.NO_MEMORY
    out[writer.at:writer.at + old].copy_from(raw[tree.strings_start:tree.strings_end])
    out[writer.at + old:writer.at + old + names.length].copy_from(names)
    writer.at += old + names.length
    return None
