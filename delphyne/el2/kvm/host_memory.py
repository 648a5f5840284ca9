# SPDX-License-Identifier: Apache-2.0
"""The host's own addresses, as its kernel hands them to EL2: translated with the host's rights, and accepted only where all of an object lies in
RAM that is the host's.

The processor's own translation is asked (AT S1E1, Arm ARM C5.5), under the host's stage 1 as it stands. Another CPU may be replacing a block of the
host's stage 2 by a table in that moment, so that the walk is tried again where it failed at stage 2.

Lock: `frames.LOCK` is held where frames are looked at, so that they stay the host's until it is released.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.el1 import PAR_EL1, Par
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.memory import frames
from delphyne.lang import Hostile, Pa, Va, at_s1e1r, at_s1e1w, holds, isb, u64

TRIES: Final = u64(16)
OBJECT_LIMIT: Final = u64(1 << 16)
"""No structure of the kernel's that EL2 uses is larger, vectors of SVE included."""


def translate(address: u64, write: bool) -> Par:
    """What the host's stage 1 says of its virtual address, for a read or a write. PAR_EL1, the host's own, is kept."""
    before = PAR_EL1.read()
    found = _ask(address, write)
    for _ in u64.range(TRIES):
        if not found.failed or not found.stage2:
            break
        found = _ask(address, write)
    PAR_EL1.write(before)
    return found


def _ask(address: u64, write: bool) -> Par:
    if write:
        at_s1e1w(Va(address))
    else:
        at_s1e1r(Va(address))
    isb()
    return PAR_EL1.read()


@holds(frames.LOCK)
def object_at(address: u64, size: u64, write: bool) -> Pa | Err:
    """Where an object of the host's lies: `size` bytes in a row, all in frames of the host's.

    Err.INVALID for a null or unaligned address, or one at which it would wrap; Err.RANGE where the host has no such memory, or not in a row;
    Err.OWNER where a frame is not the host's."""
    if address == 0 or address % 8 != 0 or size == 0 or size > OBJECT_LIMIT or address > u64.MAX - size:
        return Err.INVALID
    first = translate(address, write)
    if first.failed:
        return Err.RANGE
    start = first.frame * PAGE_SIZE
    begin = address & ~(PAGE_SIZE - 1)
    for offset in u64.range(0, address - begin + size, 4096):
        page = translate(begin + offset, write)
        if page.failed or page.frame * PAGE_SIZE != start + offset:
            return Err.RANGE
        if not frames.is_hosts(Pa(start + offset)):
            return Err.OWNER
    return Pa(start + (address - begin))


@holds(frames.LOCK)
def read_u64(at: Pa, offset: u64) -> u64 | Err:
    """One word of an object that `object_at` found, read once. Err.ALIGNMENT."""
    word = Hostile(at, offset + 8).read_once_u64(offset)
    if word is None:
        return Err.ALIGNMENT
    x = word.below(u64.MAX)
    return u64(0) if x is None else x
