# SPDX-License-Identifier: Apache-2.0
"""What is known of each run of 512 frames, which is what a 2 MiB block of a stage-2 table spans: whether all are the host's, how many leaves of
ordinary guests lead into it, and which table stands behind a block of a protected guest's that begins in it.

The first is remembered from one look at the frame table to the next; whoever changes a frame's owner makes it forgotten (`frames`). The second
tells who takes a frame whether any guest's table has to be searched. The third is the table of pages that the block stands in the stead of
(`guest/whole.py`): no two blocks begin in one run.

Lock: `frames.LOCK`, which is held in every function here but the first two. Runs are counted in entries of the frame table, so that one at the
edge of a bank may hold frames of two.

Invariants: HOSTS of a run is ALL only while every frame of it is the host's. LEAVES of a run is at least the number of guests' leaves, block or
page, whose first or last frame lies in it.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.lang import AtomicU32, BootArray, Order, Pa, boot, owned, u8, u32, u64

RUN: Final = u64(512)
"""Frames in a run."""
ENTRY_BYTES: Final = u64(12)
"""What the arrays take for a run."""

UNKNOWN: Final = u32(0)
ALL: Final = u32(1)
NOT_ALL: Final = u32(2)

HOSTS: Final = BootArray[AtomicU32]()
LEAVES: Final = BootArray[AtomicU32]()
BEHIND: Final = BootArray[AtomicU32]()


def table_size(frames: u64) -> u64:
    """Bytes that the arrays take for so many frames, whole pages."""
    runs = (frames + RUN - 1) // RUN
    return (runs * ENTRY_BYTES + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


@boot
def attach(at: Pa, frames: u64) -> None:
    """Put the arrays at `at`, `table_size(frames)` bytes of EL2's own. Once."""
    runs = (frames + RUN - 1) // RUN
    with owned(at, runs * ENTRY_BYTES) as window:
        window.fill(u8(0))
    HOSTS.attach(at.raw, runs)
    LEAVES.attach((at + runs * 4).raw, runs)
    BEHIND.attach((at + runs * 8).raw, runs)


def known(index: u64) -> u32:
    """What is known of the run of the frame with this index: UNKNOWN, ALL or NOT_ALL."""
    return HOSTS[index // RUN].load(Order.RELAXED)


def learn(index: u64, all_hosts: bool) -> None:
    """Remember it."""
    HOSTS[index // RUN].store(ALL if all_hosts else NOT_ALL, Order.RELAXED)


@boot
def learn_all_hosts(first: u64, frames: u64) -> None:
    """So many frames from the one with this index are the host's: the runs among them that are whole are remembered."""
    start = (first + RUN - 1) // RUN
    for run in u64.range(start, max((first + frames) // RUN, start)):
        HOSTS[run].store(ALL, Order.RELAXED)


def forget(index: u64) -> None:
    """The frame with this index changes its owner."""
    HOSTS[index // RUN].store(UNKNOWN, Order.RELAXED)


def count(first: u64, last: u64) -> None:
    """A guest's leaf leads to the frames with these indices and those between."""
    LEAVES[first // RUN].add(u32(1), Order.RELAXED)
    if last // RUN != first // RUN:
        LEAVES[last // RUN].add(u32(1), Order.RELAXED)


def uncount(first: u64, last: u64) -> None:
    """It no longer does."""
    LEAVES[first // RUN].sub(u32(1), Order.RELAXED)
    if last // RUN != first // RUN:
        LEAVES[last // RUN].sub(u32(1), Order.RELAXED)


def leaves(index: u64) -> u32:
    """How many guests' leaves may lead to the frame with this index, at least."""
    return LEAVES[index // RUN].load(Order.RELAXED)


def put_behind(index: u64, table: u64) -> None:
    """A protected guest's block begins with the frame with this index, in the stead of this table, a page of `pages.TABLES`; or none does, and this
    is for whoever makes one to know."""
    BEHIND[index // RUN].store(u32(table), Order.RELAXED)


def behind(index: u64) -> u64:
    """What was put there."""
    return u64(BEHIND[index // RUN].load(Order.RELAXED))
