# SPDX-License-Identifier: Apache-2.0
"""The MMIO guard of a protected guest: once it has enrolled, its accesses go out to those pages of its MMIO windows alone that it has mapped
(docs/guest-abi.md; the calls are those of Android's pKVM).

What is mapped is a list of ranges of pages by number, an address divided by PAGE_SIZE. Only narrows: whether a page lies in an MMIO window is the
manifest's to say, and whoever asks here has asked there.

Lock: GUESTS_LOCK (24), as a list is part of its guest's guard (`guards`), with which it begins and ends empty. A call holds it, and so does an exit
while it asks: an access that begins after an UNMAP on another CPU was answered does not go out.

Invariant: each range has a page, and there is a page between a range and the next, so that pages in a row are in one range.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Array, struct, u64

RANGES: Final = u64(32)


@struct
class MmioGuard:
    """Range number n are the pages from `firsts[n]` up to but not including `ends[n]`; the first `count` of them are in use, in rising order."""

    enrolled: bool
    count: u64
    firsts: Array[u64, 32]
    ends: Array[u64, 32]


def enroll(guard: MmioGuard) -> None:
    """From now on only what is mapped goes out. What was mapped since an earlier call stays."""
    guard.enrolled = True


def is_mapped(guard: MmioGuard, first: u64, last: u64) -> bool:
    """Whether all pages from `first` to `last` are mapped, which is what an access of a guest that has enrolled needs."""
    begun = _begun(guard, first)
    return begun != 0 and last < guard.ends[begun - 1]


def map_page(guard: MmioGuard, page: u64) -> None | Err:
    """Accesses to the page go out. Of a guest that has not enrolled nothing is noted. Err.NO_MEMORY where that takes one range more than there may
    be: nothing has changed."""
    if not guard.enrolled:
        return None
    begun = _begun(guard, page)
    if begun != 0 and page < guard.ends[begun - 1]:
        return None
    follows = begun != 0 and guard.ends[begun - 1] == page
    precedes = begun != guard.count and guard.firsts[begun] == page + 1
    if follows and precedes:
        guard.ends[begun - 1] = guard.ends[begun]
        _remove(guard, begun)
    elif follows:
        guard.ends[begun - 1] = page + 1
    elif precedes:
        guard.firsts[begun] = page
    else:
        return _insert(guard, begun, page, page + 1)
    return None


def unmap_page(guard: MmioGuard, page: u64) -> None | Err:
    """Accesses to the page go out no more. Of a guest that has not enrolled nothing is noted. Err.NO_MEMORY where the page leaves a hole in a range,
    and there may be no more ranges: nothing has changed."""
    if not guard.enrolled:
        return None
    begun = _begun(guard, page)
    if begun == 0 or page >= guard.ends[begun - 1]:
        return None
    first, end = guard.firsts[begun - 1], guard.ends[begun - 1]
    if first != page and end != page + 1:
        inserted = _insert(guard, begun, page + 1, end)
        if not isinstance(inserted, Err):
            guard.ends[begun - 1] = page
        return inserted
    if first != page:
        guard.ends[begun - 1] = page
    elif end != page + 1:
        guard.firsts[begun - 1] = page + 1
    else:
        _remove(guard, begun - 1)
    return None


def _begun(guard: MmioGuard, page: u64) -> u64:
    """How many ranges begin at `page` or before it: the last of these has the page, or none has."""
    for number in u64.range(guard.count):
        if guard.firsts[number] > page:
            return number
    return guard.count


def _insert(guard: MmioGuard, at: u64, first: u64, end: u64) -> None | Err:
    """A range more, as number `at`. Err.NO_MEMORY where all are in use."""
    if guard.count == RANGES:
        return Err.NO_MEMORY
    for behind in u64.range(guard.count - at):
        number = guard.count - behind
        guard.firsts[number] = guard.firsts[number - 1]
        guard.ends[number] = guard.ends[number - 1]
    guard.firsts[at] = first
    guard.ends[at] = end
    guard.count += 1
    return None


def _remove(guard: MmioGuard, at: u64) -> None:
    """Range number `at` is no more."""
    guard.count -= 1
    for number in u64.range(at, guard.count):
        guard.firsts[number] = guard.firsts[number + 1]
        guard.ends[number] = guard.ends[number + 1]
