# SPDX-License-Identifier: Apache-2.0
"""EL2's reader of manifests: what the image maker writes is accepted, every broken rule is refused, and no bytes make it trap."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delphyne.board.protected_image import EXECUTE, FIRST_SEGMENT, FIRST_WINDOW, MMIO, RAM, READ, SEGMENT, WINDOW, WRITE, Manifest, Window
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import manifest
from delphyne.el2.guest.manifest import WindowKind
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Array, Ipa, u8, u64

PAGE = 4096
LIMIT = 1 << 40
KERNEL, TREE = 0x4040_0000, 0x4300_0000
DIGEST = hashlib.sha256(b"content").digest()
SOUND = Manifest(
    entry=KERNEL,
    tree=TREE,
    tree_size=0x1800,
    rng_seed=TREE + 0x100,
    kaslr_seed=TREE + 0x1010,
    windows=(Window(0x0800_0000, 0x0200_0000, MMIO), Window(0x4000_0000, 0x0800_0000, RAM), Window(0x40_1000_0000, 0x1000_0000, MMIO)),
    segments=((KERNEL, 16, READ | WRITE | EXECUTE, DIGEST), (TREE, 2, READ | WRITE, DIGEST)),
)


def view(raw: bytes) -> Array[u8, 4096]:  # type: ignore[type-arg]
    return Array[u8, 4096].of(list(raw))  # type: ignore[attr-defined, no-any-return]


def check(raw: bytes) -> Err | None:
    return manifest.check(view(raw)[:])  # type: ignore[no-any-return]


def test_what_the_image_maker_writes_is_read_as_it_was_meant() -> None:
    read = view(SOUND.pack())[:]
    assert manifest.check(read) is None
    assert (manifest.entry(read).raw, manifest.tree(read).raw) == (KERNEL, TREE)
    assert (manifest.rng_seed(read).raw, manifest.kaslr_seed(read).raw) == (SOUND.rng_seed, SOUND.kaslr_seed)
    assert (manifest.window_count(read), manifest.segment_count(read)) == (3, 2)
    first = manifest.segment(read, u64(0))
    assert (first.ipa.raw, first.pages, first.rights.write, first.rights.execute) == (KERNEL, 16, True, True)
    second = manifest.segment(read, u64(1))
    assert (second.rights.read, second.rights.write, second.rights.execute) == (True, True, False)
    digest = manifest.segment_digest(read, u64(1))
    assert bytes(int(digest[i]) for i in range(32)) == DIGEST
    for at, kind in ((0x0800_0000, WindowKind.MMIO), (0x09FF_FFFF, WindowKind.MMIO), (0x0A00_0000, WindowKind.NONE), (0x47FF_F000, WindowKind.RAM)):
        assert manifest.kind_of(read, Ipa(u64(at))) is kind
    assert manifest.kind_of(read, Ipa(u64(0x4800_0000))) is WindowKind.NONE


def word(at: int, x: int, width: str = "Q") -> Callable[[bytearray], None]:
    return lambda raw: struct.pack_into(f"<{width}", raw, at, x)


def window(number: int, base: int, size: int, kind: int) -> Callable[[bytearray], None]:
    return lambda raw: WINDOW.pack_into(raw, FIRST_WINDOW + number * WINDOW.size, base, size, kind)


def segment(number: int, ipa: int, pages: int, rights: int) -> Callable[[bytearray], None]:
    return lambda raw: SEGMENT.pack_into(raw, FIRST_SEGMENT + number * SEGMENT.size, ipa, pages, rights, DIGEST)


BROKEN: dict[str, Callable[[bytearray], None]] = {
    "magic": word(0, 0),
    "version": word(8, 2, "I"),
    "flags": word(12, 1, "I"),
    "reserved header": word(56, 1),
    "no windows": word(36, 0, "H"),
    "too many windows": word(36, 17, "H"),
    "no segments": word(38, 0, "H"),
    "too many segments": word(38, 25, "H"),
    "an unused window": window(3, 0, PAGE, RAM),
    "an unused segment": segment(2, 0x4000_0000, 1, READ),
    "the room for a signature": word(3072, 1),
    "the last byte": word(4095, 1, "B"),
    "window kind 0": window(0, 0x0800_0000, PAGE, 0),
    "window kind 3": window(0, 0x0800_0000, PAGE, 3),
    "reserved of a window": word(FIRST_WINDOW + 20, 1, "I"),
    "window unaligned": window(0, 0x0800_0800, PAGE, MMIO),
    "window of half a page": window(0, 0x0800_0000, 0x800, MMIO),
    "window of nothing": window(0, 0x0800_0000, 0, MMIO),
    "window beyond the limit": window(2, LIMIT - PAGE, 2 * PAGE, MMIO),
    "window that wraps": window(2, 0x40_1000_0000, (1 << 64) - PAGE, MMIO),
    "windows that overlap": window(0, 0x3FFF_F000, 2 * PAGE, MMIO),
    "windows in falling order": window(0, 0x5000_0000, PAGE, MMIO),
    "segment unaligned": segment(0, KERNEL + 8, 16, READ | EXECUTE),
    "segment of nothing": segment(0, KERNEL, 0, READ | EXECUTE),
    "segment that cannot be read": segment(0, KERNEL, 16, WRITE | EXECUTE),
    "segment with other rights": segment(0, KERNEL, 16, 15),
    "reserved of a segment": word(FIRST_SEGMENT + 48, 1),
    "segment in a device": segment(0, 0x0800_0000, 16, READ | EXECUTE),
    "segment beyond its window": segment(1, TREE, 0x8000, READ | WRITE),
    "segments that overlap": segment(0, TREE - PAGE, 2, READ | WRITE | EXECUTE),
    "segments in falling order": segment(0, TREE + 0x2000, 1, READ | EXECUTE),
    "entry that cannot be executed": word(16, TREE),
    "entry outside": word(16, KERNEL + 16 * PAGE),
    "entry unaligned": word(16, KERNEL + 2),
    "tree unaligned": word(24, TREE + 4),
    "tree outside": word(24, TREE + 0x3000),
    "tree that leaves its segment": word(32, 0x2001, "I"),
    "tree of nothing": word(32, 0, "I"),
    "tree that may not be written": segment(1, TREE, 2, READ),
    "seed before the tree": word(40, TREE - 32),
    "seed that leaves the tree": word(40, TREE + 0x1800 - 31),
    "seed in two pages": word(40, TREE + PAGE - 16),
    "other seed in two pages": word(48, TREE + PAGE - 4),
    "seed far away": word(48, (1 << 64) - 4),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_every_broken_rule_is_refused(rule: str) -> None:
    raw = bytearray(SOUND.pack())
    BROKEN[rule](raw)
    assert check(bytes(raw)) is Err.MALFORMED


def test_another_length_is_refused() -> None:
    short = Array[u8, 4095].of(list(SOUND.pack()[:4095]))  # type: ignore[attr-defined]
    assert manifest.check(short[:]) is Err.MALFORMED


@st.composite
def sound(draw: st.DrawFn) -> Manifest:
    """Windows and segments in rising order, with gaps or without; in the last segment, which may be written, a tree with its seeds."""
    ends = sorted(draw(st.sets(st.integers(0, LIMIT // PAGE), min_size=2, max_size=32)))
    ends = ends[: len(ends) // 2 * 2]
    kinds = draw(st.lists(st.sampled_from([RAM, MMIO]), min_size=len(ends) // 2, max_size=len(ends) // 2))
    kinds[draw(st.integers(0, len(kinds) - 1))] = RAM
    windows = tuple(
        Window(first * PAGE, (last - first) * PAGE, kind) for first, last, kind in zip(ends[::2], ends[1::2], kinds, strict=True)
    )
    memory = [window for window in windows if window.kind == RAM]
    named = []
    for window in draw(st.lists(st.sampled_from(memory), min_size=1, max_size=24, unique=True)):
        pages = draw(st.integers(1, min(window.size // PAGE, 0xFFFF_FFFF)))
        first = draw(st.integers(0, window.size // PAGE - pages))
        rights = READ | draw(st.sampled_from([0, WRITE, EXECUTE, WRITE | EXECUTE]))
        named.append((window.base + first * PAGE, pages, rights, draw(st.binary(min_size=32, max_size=32))))
    named.sort()
    ipa, pages, _, digest = named[-1]
    named[-1] = (ipa, pages, READ | WRITE | EXECUTE, digest)
    size = draw(st.integers(0x200, min(pages * PAGE, 0xFFFF_FFFF)))
    tree = ipa + draw(st.integers(0, (pages * PAGE - size) // 8)) * 8
    entry = ipa + draw(st.integers(0, pages * PAGE // 4 - 1)) * 4
    seeds = [tree + draw(st.integers(0, size - 64)) for _ in range(2)]
    seeds = [seed if seed % PAGE <= PAGE - 32 else seed // PAGE * PAGE + PAGE for seed in seeds]
    rng_seed, kaslr_seed = (draw(st.sampled_from([0, seed])) for seed in seeds)
    return Manifest(entry, tree, size, rng_seed, kaslr_seed, windows, tuple(named))


@given(sound(), st.integers(0, LIMIT + PAGE))
def test_every_sound_manifest_is_accepted_and_read_as_it_was_meant(meant: Manifest, somewhere: int) -> None:
    read = view(meant.pack())[:]
    assert manifest.check(read) is None
    assert (manifest.window_count(read), manifest.segment_count(read)) == (len(meant.windows), len(meant.segments))
    for number, (ipa, pages, rights, digest) in enumerate(meant.segments):
        one = manifest.segment(read, u64(number))
        assert (one.ipa.raw, one.pages, one.rights) == (ipa, pages, Rights(True, rights & WRITE != 0, rights & EXECUTE != 0))
        assert bytes(manifest.segment_digest(read, u64(number))) == digest
    edges = [edge for window in meant.windows for edge in (window.base - 1, window.base, window.base + window.size - 1, window.base + window.size)]
    for ipa in (somewhere, *(edge for edge in edges if edge >= 0)):
        kinds = [window.kind for window in meant.windows if window.base <= ipa < window.base + window.size]
        assert manifest.kind_of(read, Ipa(u64(ipa))).value == (kinds[0] if kinds else 0)


@given(st.lists(st.tuples(st.integers(0, 1800), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6))
def test_no_change_makes_it_trap(changes: list[tuple[int, bytes]]) -> None:
    raw = bytearray(SOUND.pack())
    for at, what in changes:
        raw[at : at + len(what)] = what
    found = check(bytes(raw))
    assert found is None or found is Err.MALFORMED
    if found is None:
        read = view(bytes(raw))[:]
        for number in range(int(manifest.segment_count(read))):
            one = manifest.segment(read, u64(number))
            for page in (0, int(one.pages) - 1):
                assert manifest.kind_of(read, one.ipa + u64(page * PAGE)) is WindowKind.RAM


@given(st.binary(min_size=1, max_size=64))
def test_random_bytes_are_refused(pattern: bytes) -> None:
    assert check((pattern * 4096)[:4096]) is Err.MALFORMED
