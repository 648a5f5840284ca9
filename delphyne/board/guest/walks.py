# SPDX-License-Identifier: Apache-2.0
"""A protected guest whose own translation tables lie where tables should not: in pages that its host has taken, in pages that both can write, in a
device, in nothing, in themselves (catalogue line G5).

The table of level 1 at ROOT maps code, stacks and device as the usual one does, and leads to the odd ones from 2 GiB on. CPU 0 alone does this, and
translates by it while it does. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.board.guest import calls, device, start
from delphyne.lang import Array, AtomicU64, Order, Pa, constant, mmio_read64, mmio_write64, u64

PAGE: Final = u64(4096)
SLOT: Final = u64(8)
TABLES: Final = Pa(u64(0x8C00_0000))
"""Eight pages that the monitor takes on request (KEPT of `program`): ROOT, MIDDLE, LAST, and what LAST maps."""
ROOT: Final = TABLES
MIDDLE: Final = TABLES + PAGE
LAST: Final = TABLES + PAGE * 2
DATA: Final = TABLES + PAGE * 3
WINDOW: Final = u64(0x8000_0000)
"""Where the odd tables translate: entry 2 of ROOT, entry 0 of MIDDLE, entry 0 of LAST."""
TABLE: Final = u64(3)
LEAF: Final = u64(0x707)
"""A page: normal memory, inner shareable, accessed, EL1 reads and writes."""
DATA_ABORT: Final = u64(0x25)
EC_SHIFT: Final = u64(26)
STATUS: Final = u64(0x3F)
EXTERNAL_ABORT: Final = u64(0x10)
"""Fault status of what nobody answers, as EL2 and KVM make it: not that of one on a walk (0x14 and more)."""
_NOWHERE = (0x0A00_0000, 0x0B00_0000, 0x0800_0000, 0x7FFF_F000, 0x8840_0000, 0x4020_0000, 0x3F_FFFF_F000)
NOWHERE: Final = constant(Array[u64, len(_NOWHERE)].of(_NOWHERE))
"""The monitor's device, the interrupt controller, and addresses in no window."""
CYCLES: Final = u64(8)

CAME: Final = AtomicU64()
"""What came of the step that was wrong."""


def first_wrong(seed: u64) -> u64:
    """The first step that did not end as it has to, or 0. The usual table translates again afterwards."""
    _make(seed)
    start.use_table(ROOT.raw)
    wrong = _steps(seed)
    start.use_table(start.usual_table())
    return wrong


def _make(seed: u64) -> None:
    usual = Pa(start.usual_table())
    for at in u64.range(0, PAGE, 8):
        mmio_write64(ROOT + at, mmio_read64(usual + at))
        mmio_write64(MIDDLE + at, u64(0))
        mmio_write64(LAST + at, u64(0))
    mmio_write64(ROOT + SLOT * 2, MIDDLE.raw | TABLE)
    mmio_write64(MIDDLE, LAST.raw | TABLE)
    mmio_write64(LAST, DATA.raw | LEAF)
    # The window's GiB also held what the usual table maps there; the pages of the tables are reached through it.
    mmio_write64(MIDDLE + (TABLES.raw - WINDOW) // (PAGE * 512) * SLOT, TABLES.raw | 0x705)
    mmio_write64(DATA, seed)


def _steps(seed: u64) -> u64:
    if not _reads(seed):
        return u64(1)
    # Every table of the walk, and what it leads to, is ciphertext at the host; each comes back by the walk itself.
    device.write(device.UNMAP, TABLES.raw)
    start.use_table(ROOT.raw)
    if not _reads(seed):
        return u64(2)
    device.write(device.UNMAP, TABLES.raw)
    start.use_table(ROOT.raw)
    came = start.try_load(WINDOW + PAGE)
    if came >> EC_SHIFT != DATA_ABORT:
        CAME.store(came, Order.RELEASE)
        return u64(3)
    shared = _shared(seed)
    if shared != 0:
        return shared
    wrong = _nowhere()
    return wrong if wrong != 0 else _cyclic(seed)


def _reads(seed: u64) -> bool:
    came = start.try_load(WINDOW)
    CAME.store(came, Order.RELEASE)
    return came == 0 and mmio_read64(Pa(WINDOW)) == seed


def _shared(seed: u64) -> u64:
    """The last table is one that the host may write: it leads to pages of the guest's or nowhere, whatever stands there."""
    if start.hypercall(calls.MEM_SHARE, LAST.raw, u64(0), u64(0)) != calls.SUCCESS:
        return u64(4)
    start.use_table(ROOT.raw)
    if not _reads(seed):
        return u64(5)
    device.write(device.UNMAP, TABLES.raw)
    start.use_table(ROOT.raw)
    if not _reads(seed):
        return u64(6)
    if start.hypercall(calls.MEM_UNSHARE, LAST.raw, u64(0), u64(0)) != calls.SUCCESS:
        return u64(7)
    start.use_table(ROOT.raw)
    return u64(0) if _reads(seed) else u64(8)


def _nowhere() -> u64:
    """A walk through a device, or through what is no memory of the guest's, is an external abort, and nobody's access to the device."""
    for number in u64.range(NOWHERE.length):
        mmio_write64(MIDDLE, NOWHERE[number] | TABLE)
        start.use_table(ROOT.raw)
        came = start.try_load(WINDOW)
        if came >> EC_SHIFT != DATA_ABORT or came & STATUS != EXTERNAL_ABORT:
            CAME.store(came, Order.RELEASE)
            return 16 + number
    return u64(0)


def _cyclic(seed: u64) -> u64:
    """A table that is its own next one: a walk has four levels at most, and comes to an end."""
    mmio_write64(MIDDLE, MIDDLE.raw | TABLE)
    start.use_table(ROOT.raw)
    for number in u64.range(CYCLES):
        came = start.try_load(WINDOW + PAGE * number)
        if came != 0 and came >> EC_SHIFT != DATA_ABORT:
            CAME.store(came, Order.RELEASE)
            return 32 + number
    mmio_write64(MIDDLE, LAST.raw | TABLE)
    start.use_table(ROOT.raw)
    return u64(0) if _reads(seed) else u64(40)
