# SPDX-License-Identifier: Apache-2.0
"""A restricted DMA pool in a guest's device tree, for kernels that have the driver for it (Linux: CONFIG_DMA_RESTRICTED_POOL).

    reserved-memory { pool@4f000000 { compatible = "restricted-dma-pool"; reg = <..>; }; };
    virtio_mmio@a000000 { memory-region = <&pool>; };

Linux does all DMA of a device whose node has such a `memory-region` through the pool (dt-schema, reserved-memory/shared-dma-pool.yaml); a device
behind a PCI bridge has that of the bridge. With CONFIG_ARM_PKVM_GUEST it shares the pool, and nothing else, by MEM_SHARE (docs/guest-abi.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from delphyne.board.devicetree import Node
from delphyne.board.qemu import BoardError

COMPATIBLE = "restricted-dma-pool"
DEVICES = ("virtio,mmio", "pci-host-ecam-generic")
"""`compatible` of the nodes whose devices use the pool."""
ALIGNMENT = 2 << 20


def add(root: Node, end: int, size: int) -> int:
    """Put a pool of `size` bytes before `end`, an address in the guest's RAM or just behind it; where it begins. Raises BoardError."""
    if size % ALIGNMENT:
        raise BoardError(f"a DMA pool of {size} bytes: it has to be a multiple of {ALIGNMENT >> 20} MiB")
    devices = [node for node in _nodes(root) if set(DEVICES) & set(node.strings("compatible"))]
    if not devices:
        raise BoardError(f"the device tree has no device for a DMA pool ({' or '.join(DEVICES)})")
    base = (end - size) // ALIGNMENT * ALIGNMENT
    phandle = max((_cell(node, "phandle") for node in _nodes(root)), default=0) + 1
    reserved = root.child("reserved-memory")
    reserved.properties |= {"#address-cells": struct.pack(">I", 2), "#size-cells": struct.pack(">I", 2), "ranges": b""}
    reserved.child(f"pool@{base:x}").properties |= {
        "compatible": COMPATIBLE.encode() + b"\0",
        "reg": struct.pack(">QQ", base, size),
        "phandle": struct.pack(">I", phandle),
    }
    for node in devices:
        node.properties["memory-region"] = struct.pack(">I", phandle)
    return base


def _cell(node: Node, name: str) -> int:
    return (*node.cells(name), 0)[0]


def _nodes(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for child in node.children.values():
        yield from _nodes(child)
