# SPDX-License-Identifier: Apache-2.0
"""The host's stage-2 table of a guest, walked as the processor would walk it.

It is only advice: hostile memory, read one descriptor at a time, each while `frames.LOCK` keeps the frame it stands in the host's. What it says is
checked where it is used (`memory.shadow`). Geometry is the host's own VTCR_EL2, of which a walk can go wrong but not astray.

Lock: `frames.LOCK`.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import (
    LAST_LEVEL,
    PAGE_SIZE,
    SLOTS,
    Descriptor,
    Shareability,
    Stage2Leaf,
    is_table,
    level_shift,
    level_size,
    slot_of,
)
from delphyne.el2.guest.vms import HostTable
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import HostLeaf
from delphyne.lang import Bits64, Hostile, Ipa, Pa, bits, holds, u8, u64, unreachable, value

HIGHEST_BITS: Final = u64(48)
LOWEST_BITS: Final = u64(25)
WIDE_ADDRESS: Final = u64(0x0003_0000_0000_0300)
"""Bits 51 to 48 of an address in a descriptor of FEAT_LPA2. Nothing that Delphyne runs on has memory there."""


class HostVtcr(Bits64):
    """VTCR_EL2 as a host's KVM computes it: what of it decides how a walk goes."""

    t0sz: u8 = bits(5, 0)
    sl0: u8 = bits(7, 6)
    granule: u8 = bits(15, 14)
    hardware_access: bool = bits(21)
    wide: bool = bits(32)
    """DS: descriptors have 52 bits of address (FEAT_LPA2)."""


@value
class Walked:
    """Where a walk of the host's table ended: at `level`, with a leaf or, where `leaf` is all zero, with nothing. `at` is where that stands."""

    level: u64
    descriptor: u64
    at: Pa


def geometry(root: u64, vtcr: HostVtcr) -> HostTable | Err:
    """A table of the host's. Err.UNSUPPORTED for a granule other than 4 KiB or addresses of more than 48 bits, Err.INVALID for what no
    processor walks."""
    if vtcr.granule != 0:
        return Err.UNSUPPORTED
    if u64(vtcr.t0sz) > 64 - LOWEST_BITS or vtcr.sl0 > 2:
        return Err.INVALID
    width = 64 - u64(vtcr.t0sz)
    if width > HIGHEST_BITS:
        return Err.UNSUPPORTED
    start = 2 - u64(vtcr.sl0)
    shift = level_shift(start)
    if width <= shift:
        return Err.INVALID
    slots = u64(1) << (width - shift)
    roots = (slots + SLOTS - 1) // SLOTS
    if roots > 16 or root % PAGE_SIZE != 0 or root >> 48 != 0:
        return Err.INVALID
    return HostTable(Pa(root), width, start, roots, vtcr.hardware_access, vtcr.wide)


@holds(frames.LOCK)
def walk(table: HostTable, ipa: Ipa) -> Walked:
    """Follow `ipa` through the host's table, as far as its tables are the host's."""
    if ipa.raw >> table.bits != 0:
        return Walked(u64(0), u64(0), Pa(u64(0)))
    index = ipa.raw >> level_shift(table.start)
    at = table.root + (index // SLOTS * PAGE_SIZE + index % SLOTS * 8)
    for level in u64.range(table.start, LAST_LEVEL + 1):
        raw = _read(at)
        if not _is_sound(raw, level, table.wide):
            return Walked(level, u64(0), at)
        descriptor = Descriptor.of(raw)
        if not is_table(descriptor, level):
            return Walked(level, raw, at)
        at = Pa(descriptor.frame * PAGE_SIZE + slot_of(ipa.raw, level + 1) * 8)
    unreachable()


@holds(GUESTS_LOCK)
def read_page(table: Pa, index: u64, ipa: Ipa, wide: bool) -> Walked:
    """The end of a walk whose last table is known: `table`, of which `index` is the entry in the frame table.

    Without `frames.LOCK`: a frame that was taken from the host holds nothing of its new owner's before who took it has passed GUESTS_LOCK."""
    at = table + slot_of(ipa.raw, LAST_LEVEL) * 8
    raw = u64(0)
    if frames.entry_at(index).state is State.HOST:
        word = Hostile(at, u64(8)).read_once_u64(u64(0))
        read = None if word is None else word.below(u64.MAX)
        raw = u64(0) if read is None else read
    return Walked(LAST_LEVEL, raw if _is_sound(raw, LAST_LEVEL, wide) else u64(0), at)


@holds(GUESTS_LOCK)
def is_vacant(table: Pa, index: u64, ipa: Ipa) -> bool:
    """Whether there is zero where `read_page` would read; False too where the frame is not the host's."""
    if frames.entry_at(index).state is not State.HOST:
        return False
    word = Hostile(table + slot_of(ipa.raw, LAST_LEVEL) * 8, u64(8)).read_once_u64(u64(0))
    return word is not None and word.equals(u64(0))


@holds(frames.LOCK)
def _read(at: Pa) -> u64:
    """One descriptor; 0 where it does not lie in the host's RAM."""
    if not frames.is_hosts(at):
        return u64(0)
    word = Hostile(at, u64(8)).read_once_u64(u64(0))
    raw = None if word is None else word.below(u64.MAX)
    return u64(0) if raw is None else raw


@holds(frames.LOCK)
def raw_at(found: Walked) -> u64:
    """What stands by now where a walk ended."""
    return u64(0) if found.at.raw == 0 else _read(found.at)


def _is_sound(raw: u64, level: u64, wide: bool) -> bool:
    """Whether a descriptor is valid and of a form that is understood: a table, a block at level 1 or 2, a page, to 48 bits of address."""
    descriptor = Descriptor.of(raw)
    if not descriptor.valid or (wide and raw & WIDE_ADDRESS != 0):
        return False
    if level == LAST_LEVEL:
        return descriptor.table
    return descriptor.table or level != 0


def leaf_of(found: Walked, wide: bool) -> HostLeaf:
    """The leaf that a walk found. A wide one has no shareability of its own: VTCR_EL2 says it for all, and KVM says inner.

    Of a block's output the bits below what it spans are no address."""
    leaf = Stage2Leaf.of(found.descriptor)
    output = leaf.frame * PAGE_SIZE & ~(level_size(found.level) - 1)
    return HostLeaf(found.level, output, leaf.replace(shareability=Shareability.INNER) if wide else leaf)


@holds(frames.LOCK)
def set_accessed(found: Walked) -> bool:
    """Sets a leaf's access flag as a processor with FEAT_HAFDBS would; False where the descriptor is another by now."""
    wanted = Stage2Leaf.of(found.descriptor).replace(accessed=True).raw
    return Hostile(found.at, u64(8)).compare_exchange_u64(u64(0), found.descriptor, wanted)
