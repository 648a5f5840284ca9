# SPDX-License-Identifier: Apache-2.0
"""What the boot loader put into memory for the host, as the device tree names it (Xen's arm64 boot protocol, docs/misc/arm/device-tree/booting).

`/chosen/module@*` nodes of `multiboot,module`: one `multiboot,kernel`, whose `bootargs` are the host's command line, and at most one
`multiboot,ramdisk`. `/chosen` is no bus: its modules' `reg` are physical addresses, with the cells that `/chosen` sets or, where it sets none (as
QEMU's guest-loader writes it), the root's. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt
from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Pa, View, struct, text, u8, u64

ARGUMENTS_BYTES: Final = u64(2047)
"""The longest command line that an arm64 kernel takes (COMMAND_LINE_SIZE), its NUL not included."""


@struct
class Modules:
    """Regions are empty where there is no such module. The command line is a copy, without a NUL."""

    kernel: fdt.Region
    ramdisk: fdt.Region
    arguments: Array[u8, 2047]
    arguments_length: u64


def find(raw: View[u8], tree: fdt.Tree, modules: Modules) -> None | Err:
    """Reads the module nodes into `modules`, which is all zero before.

    Errors: NOT_FOUND without a kernel, EXISTS with two kernels or two ramdisks, INVALID for a module without a place, OVERFLOW for a command line
    that no kernel would take whole; those of the reader."""
    trail = fdt.Trail()
    chosen = fdt.find_path(raw, tree, text(b"/chosen"), trail)
    if isinstance(chosen, Err):
        return chosen
    node = fdt.next_node(raw, tree, chosen)
    while not isinstance(node, Err) and node.depth > chosen.depth:
        trail.nodes[node.depth - 1] = node
        if node.depth == chosen.depth + 1 and fdt.is_compatible(raw, tree, node, text(b"multiboot,module")):
            taken = _take(raw, tree, trail, node, modules)
            if isinstance(taken, Err):
                return taken
        node = fdt.next_node(raw, tree, node)
    if isinstance(node, Err) and node is not Err.NOT_FOUND:
        return node
    return None if modules.kernel.size != 0 else Err.NOT_FOUND


def _take(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node, modules: Modules) -> None | Err:
    region = _region_of(raw, tree, trail, node)
    if isinstance(region, Err):
        return Err.INVALID if region is Err.NOT_FOUND else region
    if region.size == 0:
        return Err.INVALID
    if fdt.is_compatible(raw, tree, node, text(b"multiboot,kernel")):
        if modules.kernel.size != 0:
            return Err.EXISTS
        modules.kernel = region
        return _take_arguments(raw, tree, node, modules)
    if fdt.is_compatible(raw, tree, node, text(b"multiboot,ramdisk")):
        if modules.ramdisk.size != 0:
            return Err.EXISTS
        modules.ramdisk = region
    return None


def _region_of(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail, node: fdt.Node) -> fdt.Region | Err:
    """Where a module lies. NOT_FOUND without `reg`, RANGE where it wraps; errors of the reader."""
    cells = _cells_of(raw, tree, trail)
    if isinstance(cells, Err):
        return cells
    found = fdt.find_property(raw, tree, node, text(b"reg"))
    if isinstance(found, Err):
        return found
    base = fdt.read_number(raw, found, u64(0), cells.address)
    if isinstance(base, Err):
        return base
    size = fdt.read_number(raw, found, cells.address, cells.size)
    if isinstance(size, Err):
        return size
    return Err.RANGE if size > u64.MAX - base else fdt.Region(Pa(base), size)


def _cells_of(raw: View[u8], tree: fdt.Tree, trail: fdt.Trail) -> fdt.Cells | Err:
    own = fdt.find_property(raw, tree, trail.nodes[1], text(b"#address-cells"))
    if isinstance(own, Err):
        return fdt.cells_of(raw, tree, trail.nodes[0])
    return fdt.cells_of(raw, tree, trail.nodes[1])


def _take_arguments(raw: View[u8], tree: fdt.Tree, node: fdt.Node, modules: Modules) -> None | Err:
    """The command line up to its first NUL; a kernel without one gets an empty one."""
    found = fdt.find_property(raw, tree, node, text(b"bootargs"))
    if isinstance(found, Err):
        return None
    data = fdt.property_bytes(raw, found)
    length = u64(0)
    while length < data.length and data[length] != 0:
        length += 1
    if length > ARGUMENTS_BYTES:
        return Err.OVERFLOW
    modules.arguments[:length].copy_from(data[:length])
    modules.arguments_length = length
    return None


def is_inside(region: fdt.Region, at: Pa) -> bool:
    """Whether an address lies in a region."""
    return region.base <= at and at - region.base < region.size
