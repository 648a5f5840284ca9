# SPDX-License-Identifier: Apache-2.0
"""The pages that a guest's manifest names go into the digests of their segments, one behind the other, before the guest is protected.

Where the processor has the crypto extensions a page is measured in the stay that takes it. Without them that is done in pieces of PIECE bytes, each
in its turn (`turns`), and the page is HELD from the first to the last: its frame is the guest's alone and mapped nowhere, so that neither host nor
guest changes what is not measured yet. How far it is stands in its guard, and a piece belongs to nobody: the guest's next MEASURE does one, and so
does a host that wants the page (`private.export`), since that leaves only once all of it is in the digest. What the host's tables say of the page
meanwhile counts for nothing: the frame is the one that was taken.

Locks, all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24).

Invariant: while a guard is MEASURING and `measured` is not 0, the page that `segment` and `page` name is HELD, and `digest` is over the pages of the
segment before it and `measured` bytes of it.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.guest import guards, manifest, measurement, steps, turns
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.guest.steps import Fate
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import engine, sha256
from delphyne.lang import Array, Ipa, Level, Pa, cold, holds, log, owned, u8, u64

PIECE: Final = u64(1024)
"""Bytes that one stay measures: a quarter of the 124,000 instructions of a page."""
assert PAGE_SIZE % PIECE == 0


@holds(GUESTS_LOCK)
def is_over(index: u64) -> bool:
    """Whether all that the manifest names is measured, and is what it says."""
    guard = GUARDS.slots[index]
    return guard.segment == manifest.segment_count(guard.manifest[:])


@holds(GUESTS_LOCK)
def next_page(index: u64) -> Ipa:
    """The page that is measured next, or is under way; of a guest with pages left."""
    guard = GUARDS.slots[index]
    return manifest.segment(guard.manifest[:], guard.segment).ipa + guard.page * PAGE_SIZE


@holds(GUESTS_LOCK)
def is_under_way(index: u64, ipa: Ipa) -> bool:
    """Whether a part of this page is in the digest, and a part is not."""
    guard = GUARDS.slots[index]
    return guard.measured != 0 and guard.phase is Phase.MEASURING and next_page(index) == ipa


@holds(FRAMES_LOCK)
def is_turn() -> bool:
    """Whether this CPU may measure now: at any time with the crypto extensions, else in its turn."""
    return engine.is_quick() or turns.is_mine()


@cold
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def go_on(index: u64) -> None | Err:
    """The next piece of the next page, which is HELD; all of it with the crypto extensions. Nothing happens where it is not this CPU's turn.
    Err.INTEGRITY where that was the end of a segment that is not what the manifest says: the guest is STOPPED, and will never be protected."""
    if not is_turn():
        return None
    guard = GUARDS.slots[index]
    page = next_page(index)
    held = steps.absent_of(steps.find(index, page))
    assert held.fate is Fate.HELD, "a page that is measured is held"
    start = guard.measured
    end = start + (PAGE_SIZE if engine.is_quick() else PIECE)
    area = CPUS.mine().simd
    if guard.page == 0 and start == 0:
        engine.start(guard.digest)
    with owned(Pa(held.content * PAGE_SIZE), PAGE_SIZE) as window:
        sha256.update(guard.digest, area, window[start:end])
        if end == PAGE_SIZE:
            measurement.write_seeds(guard.manifest[:], page, window)
    if not engine.is_quick():
        turns.over()
    guard.measured = end % PAGE_SIZE
    return _end_page(index) if end == PAGE_SIZE else None


@cold
@holds(GUESTS_LOCK)
def _end_page(index: u64) -> None | Err:
    """All of a page is in the digest: the next one, or the next segment, where this one is what the manifest says."""
    guard = GUARDS.slots[index]
    guard.page += 1
    if guard.page < manifest.segment(guard.manifest[:], guard.segment).pages:
        return None
    digest = Array[u8, 32]()
    sha256.finish(guard.digest, CPUS.mine().simd, digest[:])
    if not engine.same(digest[:], manifest.segment_digest(guard.manifest[:], guard.segment)):
        log(Level.WARNING, f"segment {guard.segment} of a guest's image is not what its manifest says: it stays an ordinary guest")
        guards.stop(index)
        return Err.INTEGRITY
    guard.page = u64(0)
    guard.segment += 1
    return None
