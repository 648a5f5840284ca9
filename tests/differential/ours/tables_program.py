# SPDX-License-Identifier: Apache-2.0
"""Operations on page pools, a stage-2 space and the frame table, one for each call of `step`, chosen by its arguments.

Lock order: SPACE_LOCK (20), then what the memory room takes."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Memory
from delphyne.el2.memory import frames, pages, stage2
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space
from delphyne.lang import Ipa, Lock, Order, Pa, boot, guarded, rotate_left, u16, u64

TABLES_AT: Final = u64(0x4800_0000)
BOOKKEEPING_AT: Final = u64(0x4880_0000)
FRAMES_AT: Final = u64(0x4890_0000)
RAM_AT: Final = u64(0x4A00_0000)
RAM_SIZE: Final = u64(0x40_0000)
PAGES: Final = u64(48)

SPACE_LOCK: Final = Lock("space", rank=20)
SPACE: Final = guarded(SPACE_LOCK, Space())


def mix(d: u64, x: u64) -> u64:
    return rotate_left(d, u64(7)) ^ x


def verdict(answer: Err | None) -> u64:
    if isinstance(answer, Err):
        return u64(answer.raw)
    return u64(0)


@boot
def begin() -> u64:
    """Attach the pools and the frame table and make a space; the errors of all steps, or-ed."""
    failed = verdict(pages.attach(Pa(TABLES_AT), Pa(BOOKKEEPING_AT), PAGES))
    failed = failed | verdict(pages.assign(PoolName.STARTS, u64(16), u64(1)))
    failed = failed | verdict(pages.assign(PoolName.HOST, u64(1), u64(20)))
    failed = failed | verdict(frames.add_bank(Pa(RAM_AT), RAM_SIZE))
    failed = failed | verdict(frames.attach(Pa(FRAMES_AT)))
    failed = failed | verdict(frames.admit(Pa(RAM_AT), RAM_SIZE))
    with SPACE_LOCK:
        return failed | verdict(stage2.create(SPACE, u64(40), PoolName.STARTS, PoolName.HOST, u16(3)))


def size_from(x: u64) -> u64:
    """A page, a few pages, a block, or something odd."""
    kind = x & 7
    if kind < 3:
        return u64(4096)
    if kind == 3:
        return ((x >> 3) & 15) * 4096
    if kind < 6:
        return u64(0x20_0000)
    if kind == 6:
        return u64(0x20_0000) + 4096 * ((x >> 3) & 3)
    return u64(0x4000_0000)


def address_from(x: u64) -> u64:
    """An address of which many are near each other, most of them aligned."""
    address = (x & 3) * 0x20_0000 + ((x >> 2) & 7) * 4096 + ((x >> 5) & 1) * 0x4000_0000
    return address + ((x >> 6) & 1 & (x >> 7) & (x >> 8))


def rights_from(x: u64) -> Rights:
    return Rights(x & 1 != 0, x & 2 != 0, x & 4 != 0)


def on_space(a: u64, b: u64) -> u64:
    address, size = address_from(a >> 8), size_from(b)
    with SPACE_LOCK:
        if a & 3 == 0:
            return verdict(stage2.map_range(SPACE, Ipa(address), Pa(address_from(b >> 16)), size, Stage2Memory.NORMAL, rights_from(b >> 40)))
        if a & 3 == 1:
            done = stage2.unmap_range(SPACE, Ipa(address), size)
            if isinstance(done, Err):
                return u64(done.raw)
            return done
        if a & 3 == 2:
            return verdict(stage2.protect(SPACE, Ipa(address), size, rights_from(b >> 40)))
        found = stage2.translate(SPACE, Ipa(address))
        if found is None:
            return u64(1)
        return mix(found.pa.raw, found.size) ^ u64(found.rights.write)


def on_frames(a: u64, b: u64) -> u64:
    pa, page, owner = Pa(RAM_AT + ((a >> 8) & 7) * 4096), Ipa(((b >> 4) & 3) * 4096), u16.wrap(b & 3)
    kind = a & 7
    with frames.LOCK:
        if kind == 0:
            return verdict(frames.take(pa, owner, page))
        if kind == 1:
            return verdict(frames.settle(pa, owner, page))
        if kind == 2:
            return verdict(frames.give(pa, owner, page))
        if kind == 3:
            return verdict(frames.release(pa, owner, page))
        if kind == 4:
            return verdict(frames.share(pa, owner, page))
        if kind == 5:
            return verdict(frames.unshare(pa, owner, page))
        if kind == 6:
            return verdict(frames.pin(pa))
        return verdict(frames.unpin(pa))


def step(a: u64, b: u64) -> u64:
    if a >> 60 < 10:
        return on_space(a, b)
    return on_frames(a, b)


def checksum() -> u64:
    """Of every table page that has contents, and of the first frames."""
    d = u64(0)
    for page in u64.range(PAGES):
        for slot in u64.range(512):
            held = pages.TABLES[page][slot].load(Order.RELAXED)
            if held != 0:
                d = mix(mix(d, page << 9 | slot), held)
    for number in u64.range(8):
        entry = frames.entry_of(Pa(RAM_AT + number * 4096))
        if entry is not None:
            d = mix(d, entry.raw)
    return d
