# SPDX-License-Identifier: Apache-2.0
"""A protected guest's manifest (docs/guest-abi.md): which addresses are memory and which devices, what is in memory at first, and where the guest
begins.

`check` looks at every rule, once, on EL2's own copy; what the other functions say is right of a copy that it accepted. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.guest.abi import ADDRESS_LIMIT
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Enum8, Ipa, View, cold, load_le16, load_le32, load_le64, u8, u32, u64, value

BYTES: Final = u64(4096)
MAGIC: Final = u64(int.from_bytes(b"DELPHYNE", "little"))
VERSION: Final = u32(1)
WINDOWS: Final = u64(16)
SEGMENTS: Final = u64(24)
FIRST_WINDOW: Final = u64(64)
WINDOW_BYTES: Final = u64(24)
FIRST_SEGMENT: Final = u64(448)
SEGMENT_BYTES: Final = u64(56)
END: Final = u64(1792)
"""Everything from here on is zero."""
READ: Final = u32(1)
WRITE: Final = u32(2)
EXECUTE: Final = u32(4)
RNG_SEED_BYTES: Final = u64(32)
KASLR_SEED_BYTES: Final = u64(8)
assert FIRST_WINDOW + WINDOWS * WINDOW_BYTES == FIRST_SEGMENT
assert FIRST_SEGMENT + SEGMENTS * SEGMENT_BYTES == END


class WindowKind(Enum8):
    """What an address is."""

    NONE = 0
    RAM = 1
    MMIO = 2


@value
class Window:
    """Addresses of one kind; `size` in bytes."""

    base: Ipa
    size: u64
    kind: WindowKind


@value
class Segment:
    """Pages that the manifest names: from `ipa` on, with these rights."""

    ipa: Ipa
    pages: u64
    rights: Rights


def entry(manifest: View[u8]) -> Ipa:
    """The first instruction."""
    return Ipa(load_le64(manifest, 16))


def tree(manifest: View[u8]) -> Ipa:
    """The device tree."""
    return Ipa(load_le64(manifest, 24))


def rng_seed(manifest: View[u8]) -> Ipa:
    """RNG_SEED_BYTES that get fresh randomness; 0 where there are none."""
    return Ipa(load_le64(manifest, 40))


def kaslr_seed(manifest: View[u8]) -> Ipa:
    """The same of KASLR_SEED_BYTES."""
    return Ipa(load_le64(manifest, 48))


def window_count(manifest: View[u8]) -> u64:
    """How many windows there are."""
    return u64(load_le16(manifest, 36))


def segment_count(manifest: View[u8]) -> u64:
    """How many segments there are."""
    return u64(load_le16(manifest, 38))


def window(manifest: View[u8], index: u64) -> Window:
    """One of the windows."""
    at = FIRST_WINDOW + index * WINDOW_BYTES
    kind = load_le32(manifest, at + 16)
    found = WindowKind.RAM if kind == 1 else (WindowKind.MMIO if kind == 2 else WindowKind.NONE)
    return Window(Ipa(load_le64(manifest, at)), load_le64(manifest, at + 8), found)


def segment(manifest: View[u8], index: u64) -> Segment:
    """One of the segments."""
    at = FIRST_SEGMENT + index * SEGMENT_BYTES
    flags = load_le32(manifest, at + 12)
    rights = Rights(flags & READ != 0, flags & WRITE != 0, flags & EXECUTE != 0)
    return Segment(Ipa(load_le64(manifest, at)), u64(load_le32(manifest, at + 8)), rights)


def segment_digest(manifest: View[u8], index: u64) -> View[u8]:
    """SHA-256 of a segment's bytes."""
    at = FIRST_SEGMENT + index * SEGMENT_BYTES + 16
    return manifest[at : at + 32]


def window_of(manifest: View[u8], ipa: Ipa) -> Window:
    """In which window an address lies; one of nothing, of kind NONE, where it lies in none."""
    for index in u64.range(window_count(manifest)):
        one = window(manifest, index)
        if one.base <= ipa and ipa - one.base < one.size:
            return one
    return Window(ipa, u64(0), WindowKind.NONE)


def kind_of(manifest: View[u8], ipa: Ipa) -> WindowKind:
    """What an address is."""
    return window_of(manifest, ipa).kind


@cold
def check(manifest: View[u8]) -> None | Err:
    """Whether it keeps every rule. Err.MALFORMED."""
    if manifest.length != BYTES or load_le64(manifest, 0) != MAGIC or load_le32(manifest, 8) != VERSION or load_le32(manifest, 12) != 0:
        return Err.MALFORMED
    windows = window_count(manifest)
    segments = segment_count(manifest)
    if windows == 0 or windows > WINDOWS or segments == 0 or segments > SEGMENTS or load_le64(manifest, 56) != 0:
        return Err.MALFORMED
    used_windows = FIRST_WINDOW + windows * WINDOW_BYTES
    used_segments = FIRST_SEGMENT + segments * SEGMENT_BYTES
    zero = _is_zero(manifest, used_windows, FIRST_SEGMENT) and _is_zero(manifest, used_segments, BYTES)
    if not zero or not _windows_are_sound(manifest, windows) or not _segments_are_sound(manifest, windows, segments):
        return Err.MALFORMED
    return None if _places_are_sound(manifest, segments) else Err.MALFORMED


def _is_zero(manifest: View[u8], start: u64, end: u64) -> bool:
    """A whole number of words."""
    for at in u64.range(start, end, 8):
        if load_le64(manifest, at) != 0:
            return False
    return True


def _is_range(base: u64, size: u64) -> bool:
    """Whole pages, at least one, below the limit."""
    return (base | size) % PAGE_SIZE == 0 and size != 0 and base < ADDRESS_LIMIT and size <= ADDRESS_LIMIT - base


def _windows_are_sound(manifest: View[u8], windows: u64) -> bool:
    end = u64(0)
    for index in u64.range(windows):
        at = FIRST_WINDOW + index * WINDOW_BYTES
        one = window(manifest, index)
        if one.kind is WindowKind.NONE or load_le32(manifest, at + 20) != 0 or not _is_range(one.base.raw, one.size) or one.base.raw < end:
            return False
        end = one.base.raw + one.size
    return True


def _segments_are_sound(manifest: View[u8], windows: u64, segments: u64) -> bool:
    end = u64(0)
    for index in u64.range(segments):
        at = FIRST_SEGMENT + index * SEGMENT_BYTES
        flags = load_le32(manifest, at + 12)
        base = load_le64(manifest, at)
        size = u64(load_le32(manifest, at + 8)) * PAGE_SIZE
        if flags & ~(READ | WRITE | EXECUTE) != 0 or flags & READ == 0 or load_le64(manifest, at + 48) != 0:
            return False
        if not _is_range(base, size) or base < end or not _is_memory(manifest, windows, base, size):
            return False
        end = base + size
    return True


def _is_memory(manifest: View[u8], windows: u64, base: u64, size: u64) -> bool:
    """Whether one RAM window has all of it."""
    for index in u64.range(windows):
        one = window(manifest, index)
        if one.kind is WindowKind.RAM and base >= one.base.raw and base - one.base.raw < one.size:
            return size <= one.size - (base - one.base.raw)
    return False


def _places_are_sound(manifest: View[u8], segments: u64) -> bool:
    """The entry in an executable segment; the tree in one that may be written; the seeds in the tree."""
    begin = entry(manifest).raw
    at = tree(manifest).raw
    size = u64(load_le32(manifest, 32))
    executable = False
    writable = False
    for index in u64.range(segments):
        one = segment(manifest, index)
        bytes_of = one.pages * PAGE_SIZE
        executable = executable or (one.rights.execute and begin >= one.ipa.raw and begin - one.ipa.raw < bytes_of)
        holds = at >= one.ipa.raw and at - one.ipa.raw < bytes_of and size <= bytes_of - (at - one.ipa.raw)
        writable = writable or (one.rights.write and holds)
    if begin % 4 != 0 or at % 8 != 0 or size == 0 or not executable or not writable:
        return False
    return _is_seed(rng_seed(manifest).raw, RNG_SEED_BYTES, at, size) and _is_seed(kaslr_seed(manifest).raw, KASLR_SEED_BYTES, at, size)


def _is_seed(seed: u64, length: u64, at: u64, size: u64) -> bool:
    """None, or bytes of the tree in one page."""
    if seed == 0:
        return True
    if seed < at or seed - at > size or length > size - (seed - at):
        return False
    return seed % PAGE_SIZE <= PAGE_SIZE - length
