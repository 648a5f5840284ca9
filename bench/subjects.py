# SPDX-License-Identifier: Apache-2.0
"""Typed Python that drives what is measured, and the radix look-up, which EL2 does not have yet.

Everything here has its twin of the same name in the C files beside it. Numbers come from a multiplicative generator, so that both visit the same
addresses; results are folded into one number, so that they can be compared and nothing is optimised away. No lock is taken.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE, Descriptor
from delphyne.el2.kvm import btf
from delphyne.el2.kvm.btf import Sections
from delphyne.el2.memory import pages, tables
from delphyne.el2.memory.tables import Regime, Space
from delphyne.lang import Array, Hostile, Order, Pa, View, boot, frozen, struct, u8, u16, u32, u64, wrap_add, wrap_mul

FACTOR: Final = u64(6364136223846793005)
INCREMENT: Final = u64(1442695040888963407)


def _next(state: u64) -> u64:
    return wrap_add(wrap_mul(state, FACTOR), INCREMENT)


@boot
def walk_prepare(space: Space, base: u64, count: u64) -> None:
    """Make `space` map sixteen megabytes by pages, in `count` (at least ten) pages of tables at `base`."""
    pages.TABLES.attach(base, count)
    pages.REGION.base = Pa(base)
    space.regime = Regime.STAGE2
    space.bits = u64(39)
    space.start = u64(1)
    space.roots = u64(1)
    pages.TABLES[0][0].store(Descriptor(valid=True, table=True, frame=base // PAGE_SIZE + 1).raw, Order.RELAXED)
    for block in u64.range(8):
        lower = Descriptor(valid=True, table=True, frame=base // PAGE_SIZE + 2 + block)
        pages.TABLES[1][block].store(lower.raw, Order.RELAXED)
        for slot in u64.range(512):
            leaf = Descriptor(valid=True, table=True, frame=block * 512 + slot)
            pages.TABLES[block + 2][slot].store(leaf.raw, Order.RELAXED)


def walk_many(space: Space, count: u64) -> u64:
    """Walk `count` addresses."""
    state = u64(1)
    total = u64(0)
    for _ in u64.range(count):
        state = _next(state)
        found = tables.walk(space, (state >> 32) & 0xFF_FFFF)
        total = wrap_add(total, found.descriptor.raw ^ found.level)
    return total


READER: Final = frozen(btf.Reader())


@boot
def btf_scan(base: u64, types: u64, strings: u64, names: View[u8], ends: View[u16]) -> u64:
    """Index all types and look for the twelve names; 0 where the types are malformed. Both sections stand in a row, so many bytes each."""
    found = Array[u32, 12]()
    checkpoints = Array[u32, 256]()
    reader = READER
    reader.image = Hostile(Pa(base), types + strings)
    reader.sections = Sections(u64(0), types, types, types + strings)
    reader.effort = btf.UNBOUNDED
    reader.next = u64(0)
    reader.count = u64(0)
    done = btf.index(reader, names, ends, found[:], checkpoints[:])
    if isinstance(done, Err) or not done:
        return u64(0)
    total = reader.count
    for i in u64.range(12):
        total = wrap_add(wrap_mul(total, u64(31)), u64(found[i]))
    for i in u64.range(256):
        total = wrap_add(total, u64(checkpoints[i]))
    return total


@struct
class Node:
    """Sixty-four branches: the number of a node below, or at the bottom a value; 0 is none."""

    branches: Array[u32, 64]


@struct
class Radix:
    """A tree of three levels over keys of eighteen bits. Node 0 is never used, node 1 the root."""

    nodes: Array[Node, 80]


RADIX: Final = frozen(Radix())


@boot
def radix_prepare() -> None:
    """Fill the tree: every fourth key below 2^18 in one of sixty-four subtrees has a value."""
    for top in u64.range(64):
        RADIX.nodes[1].branches[top] = u32(2)
    for middle in u64.range(0, 64, 4):
        RADIX.nodes[2].branches[middle] = u32(3 + middle)
        for bottom in u64.range(64):
            RADIX.nodes[3 + middle].branches[bottom] = u32(middle * 64 + bottom + 1)


def radix_find(tree: Radix, key: u64) -> u32 | None:
    """The value at `key`, or None."""
    node = u32(1)
    for level in u64.range(3):
        branch = (key >> (12 - level * 6)) & 63
        node = tree.nodes[u64(node)].branches[branch]
        if node == 0:
            return None
    return node


def radix_many(count: u64) -> u64:
    """Look up `count` keys."""
    state = u64(1)
    total = u64(0)
    for _ in u64.range(count):
        state = _next(state)
        found = radix_find(RADIX, (state >> 32) & 0x3FFFF)
        if found is not None:
            total = wrap_add(total, u64(found))
    return total
