# SPDX-License-Identifier: Apache-2.0
"""A restricted DMA pool in a guest's device tree: where it lies, which devices have it, and what it leaves alone."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from test_protected_image import INITRD, LINE, MIB, VIRT_IMAGE_BASE, dump, kernel, part

from delphyne.board import devicetree, protected_image, restricted_dma
from delphyne.board.devicetree import Node
from delphyne.board.protected_image import ImageError
from delphyne.board.qemu import BoardError

RAM_END = 0x4000_0000 + 256 * MIB


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return dump(tmp_path_factory.mktemp("tree"), "gic-version=3,its=off")


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children.values():
        yield from nodes(child)


def test_every_virtio_device_has_the_pool_and_nothing_else_changes(tree: bytes) -> None:
    before, after = devicetree.read(tree), devicetree.read(tree)
    assert restricted_dma.add(after, RAM_END, 16 * MIB) == RAM_END - 16 * MIB
    reserved = after.children.pop("reserved-memory")
    assert reserved.properties == {"#address-cells": b"\0\0\0\2", "#size-cells": b"\0\0\0\2", "ranges": b""}
    ((name, pool),) = reserved.children.items()
    assert name == "pool@4f000000"
    assert pool.properties["compatible"] == b"restricted-dma-pool\0"
    assert pool.properties["reg"] == struct.pack(">QQ", 0x4F00_0000, 16 * MIB)
    phandle = pool.properties["phandle"]
    assert phandle not in [node.properties.get("phandle") for node in nodes(before)]
    have = [node for node in nodes(after) if node.properties.pop("memory-region", None) == phandle]
    kinds = [node.strings("compatible")[0] for node in have]
    assert sorted(kinds) == ["pci-host-ecam-generic", *["virtio,mmio"] * 32]
    assert before == after


def test_the_pool_lies_at_whole_2_mib(tree: bytes) -> None:
    assert restricted_dma.add(devicetree.read(tree), RAM_END - 4096, 4 * MIB) == RAM_END - 6 * MIB


def test_an_image_with_a_pool_has_the_same_windows_and_its_seeds_in_place(tree: bytes) -> None:
    without = protected_image.unpack(protected_image.manifest_of(protected_image.build(kernel(), INITRD, tree, LINE)))
    image = protected_image.build(kernel(), INITRD, tree, LINE, 16 * MIB)
    found = protected_image.unpack(protected_image.manifest_of(image))
    assert found.windows == without.windows
    blob = bytearray(part(image, found.tree, found.tree_size))
    for ipa, size in ((found.rng_seed, 32), (found.kaslr_seed, 8)):
        blob[ipa - found.tree : ipa - found.tree + size] = b"\xa5" * size
    root = devicetree.read(bytes(blob))
    assert (root.children["chosen"].properties["rng-seed"], root.children["chosen"].properties["kaslr-seed"]) == (b"\xa5" * 32, b"\xa5" * 8)
    assert "pool@4f000000" in root.children["reserved-memory"].children


def test_what_leaves_no_room_for_a_pool_is_refused(tree: bytes) -> None:
    taken = len(protected_image.build(kernel(), INITRD, tree, LINE))
    room = (RAM_END - VIRT_IMAGE_BASE - taken) // (2 * MIB) * 2 * MIB
    assert len(protected_image.build(kernel(), INITRD, tree, LINE, room)) >= taken
    with pytest.raises(ImageError, match=rf"RAM does not hold the image beside a DMA pool of {(room >> 20) + 2} MiB: . MiB from 0x40200000 on"):
        protected_image.build(kernel(), INITRD, tree, LINE, room + 2 * MIB)
    with pytest.raises(BoardError, match="a DMA pool of 4096 bytes: it has to be a multiple of 2 MiB"):
        protected_image.build(kernel(), INITRD, tree, LINE, 4096)
    with pytest.raises(BoardError, match="no device for a DMA pool"):
        restricted_dma.add(Node(), RAM_END, 2 * MIB)
