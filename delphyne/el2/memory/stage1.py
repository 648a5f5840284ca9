# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of EL2: what EL2's own virtual addresses lead to. Nothing is both writable and executable.

EL2 reaches the RAM that it owns, and its devices, at their physical addresses. Lock: that of the space (see `tables`). Blocks are never split
here: break-before-make would take away the code that does it, so the map is built of the pieces that are needed later.

Invariants: those of `tables`; a leaf is executable only if it is read-only.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE, Shareability, Stage1Leaf, level_size
from delphyne.el2.memory import pages, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Regime, Space
from delphyne.lang import Enum8, Pa, Va, u8, u16, u64

ADDRESS_BITS: Final = u64(48)
"""EL2's virtual addresses: TCR_EL2.T0SZ is 16, so that the walk starts at level 0 with one table."""

MAIR_NORMAL: Final = u64(0)
"""Index of normal memory, inner and outer write-back, read- and write-allocate."""
MAIR_DEVICE: Final = u64(1)
"""Index of Device-nGnRE."""
MAIR: Final = u64(0x04FF)
"""MAIR_EL2 for these indices."""


class Use(Enum8):
    """What a piece of EL2's map is for, which decides what may be done with it."""

    TEXT = 0
    """Read and execute."""
    CONSTANTS = 1
    """Read."""
    DATA = 2
    """Read and write."""
    DEVICE = 3
    """Read and write device registers."""


def create(space: Space) -> None | Err:
    """Make `space`, which is no space yet, EL2's empty map. Err.EXISTS where it is one, Err.NO_MEMORY."""
    if space.roots != 0:
        return Err.EXISTS
    root = pages.allocate(PoolName.EL2)
    if isinstance(root, Err):
        return root
    space.regime = Regime.EL2
    space.bits = ADDRESS_BITS
    space.start = u64(0)
    space.root = root
    space.roots = u64(1)
    space.pool = PoolName.EL2
    space.vmid = u16(0)
    return None


def attributes(use: Use) -> u64:
    """The bits of a leaf other than valid, page and frame."""
    made = Stage1Leaf(
        attribute=u8(MAIR_DEVICE if use is Use.DEVICE else MAIR_NORMAL),
        access_res1=True,
        read_only=use is Use.TEXT or use is Use.CONSTANTS,
        shareability=Shareability.INNER,
        accessed=True,
        execute_never=use is not Use.TEXT,
    )
    return made.raw


def map_range(space: Space, va: Va, pa: Pa, size: u64, use: Use) -> None | Err:
    """Map `size` bytes by the largest leaves that fit. Errors as `tables.map_range`."""
    return tables.map_range(space, va.raw, pa.raw, size, attributes(use))


def unmap_leaf(space: Space, va: Va) -> u64 | Err:
    """Unmap the leaf that `va` leads to and return its size in bytes. Err.RANGE, Err.NOT_FOUND where there is none."""
    if not tables.covers(space, va.raw, u64(1)):
        return Err.RANGE
    found = tables.unmap_leaf(space, va.raw)
    if isinstance(found, Err):
        return found
    return level_size(found.level)


def translate(space: Space, va: Va) -> Pa | None:
    """What `va` leads to, or None where nothing is mapped."""
    if not tables.covers(space, va.raw, u64(1)):
        return None
    found = tables.walk(space, va.raw)
    if not found.descriptor.valid:
        return None
    return Pa(found.descriptor.frame * PAGE_SIZE + (va.raw & (level_size(found.level) - 1)))
