# SPDX-License-Identifier: Apache-2.0
"""A protected guest's manifest: no bytes make its reader trap, it reads what docs/guest-abi.md says, and what `check` accepts keeps each rule.

A manifest is an unknown byte for each offset. The format is stated here again, in numbers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import manifest
from delphyne.el2.guest.manifest import WindowKind
from delphyne.lang import Ipa, load_le16, load_le32, load_le64, u16, u32, u64
from delphyne.lang.traps import TrapKind
from delphyne.prove.loops import Rule
from delphyne.prove.path import Formula, Term
from delphyne.prove.places import index_term
from delphyne.prove.symbolic import decide, integer, term, trap
from delphyne.prove.theorem import Given, theorem

BYTES, LIMIT = 4096, 1 << 40
FIRST_WINDOW, WINDOW_BYTES, FIRST_SEGMENT, SEGMENT_BYTES = 64, 24, 448, 56
RAM, MMIO = 1, 2
READ, WRITE, EXECUTE = 1, 2, 4
FEW = "manifest: {} of at most two; more by ring 1's test of arbitrary bytes"
KINDS = {WindowKind.NONE: 0, WindowKind.RAM: RAM, WindowKind.MMIO: MMIO}


class Manifest:
    """Arbitrary bytes, as a view."""

    def __init__(self, given: Given, length: u64 | None = None) -> None:
        self.length = u64(BYTES) if length is None else length
        self.loaded: list[Term] = []
        self.byte: Any = z3.Function("byte", z3.BitVecSort(64), z3.BitVecSort(8))
        for function, kind in ((load_le16, u16), (load_le32, u32), (load_le64, u64)):
            given.replace(function, partial(self._load, kind))

    def __getitem__(self, key: slice) -> tuple[Term, Term]:
        low, high = index_term(key.start), index_term(key.stop)
        if decide(z3.Or(z3.UGT(high, term(self.length)), z3.UGT(low, high))):
            trap(TrapKind.INDEX, low, high)
        return low, high

    def _load(self, kind: Any, view: Any, offset: Any) -> Any:
        """As the language's loads: little-endian, and INDEX beyond the end."""
        at, size = index_term(offset), kind.BITS // 8
        self.loaded.append(at)
        if decide(z3.Or(z3.ULT(term(self.length), size), z3.UGT(at, term(self.length) - size))):
            trap(TrapKind.INDEX, at, term(self.length))
        return integer(self.word(at, size), kind)

    def word(self, at: Term | int, size: int = 8) -> Term:
        """The `size` bytes from an offset, of which the first is the least."""
        start = z3.BitVecVal(at, 64) if isinstance(at, int) else at
        return z3.Concat(*(self.byte(z3.simplify(start + number)) for number in reversed(range(size))))

    def window(self, index: Term) -> tuple[Term, Term, Term]:
        """Base, size and kind of a window."""
        at = FIRST_WINDOW + index * WINDOW_BYTES
        return self.word(at), self.word(at + 8), self.word(at + 16, 4)

    def lies_in(self, address: Term, index: Term) -> Formula:
        """Whether a window has an address."""
        base, size, _ = self.window(index)
        return z3.And(z3.UGE(address, base), z3.ULT(address - base, size))

    def segment(self, index: Term) -> tuple[Term, Term, Term]:
        """Address, bytes and flags of a segment."""
        at = FIRST_SEGMENT + index * SEGMENT_BYTES
        return self.word(at), z3.ZeroExt(32, self.word(at + 8, 4)) << 12, self.word(at + 12, 4)


def is_range(base: Term, size: Term) -> Formula:
    """Whole pages, at least one, below the limit."""
    return z3.And((base | size) & 4095 == 0, size != 0, z3.ULT(base, LIMIT), z3.ULE(size, LIMIT - base))


def few(given: Given, name: str) -> int:
    """A count that a loop can be run for."""
    return int(given.one_of(name, (0, 1, 2)))


def number(value: int) -> Term:
    """A constant."""
    return z3.BitVecVal(value, 64)


@theorem(manifest.entry, manifest.tree, manifest.rng_seed, manifest.kaslr_seed, manifest.window_count, manifest.segment_count)
def fields(given: Given) -> None:
    """Each field is read from where the format has it."""
    data: Any = Manifest(given)
    for found, wanted in (
        (manifest.entry(data), data.word(16)), (manifest.tree(data), data.word(24)), (manifest.rng_seed(data), data.word(40)),
        (manifest.kaslr_seed(data), data.word(48)), (manifest.window_count(data), z3.ZeroExt(48, data.word(36, 2))),
        (manifest.segment_count(data), z3.ZeroExt(48, data.word(38, 2))),
    ):
        given.require(term(found) == wanted, "what stands there")


@theorem(manifest.window, manifest.segment, manifest.segment_digest)
def rows(given: Given) -> None:
    """A window is its 24 bytes, a segment its 56; a kind that there is not is none; a right is there exactly if its bit is."""
    data: Any = Manifest(given)
    index = given.u64("index")
    given.assume(z3.ULT(term(index), 16))
    found, (base, size, kind) = manifest.window(data, index), data.window(term(index))
    given.require(z3.And(term(found.base) == base, term(found.size) == size), "base and size")
    expected = z3.If(kind == RAM, number(RAM), z3.If(kind == MMIO, number(MMIO), number(0)))
    given.require(expected == KINDS[found.kind], "the kind")
    part, (start, length, flags) = manifest.segment(data, index), data.segment(term(index))
    given.require(z3.And(term(part.ipa) == start, term(part.pages) << 12 == length), "address and pages")
    for right, bit in ((part.rights.read, READ), (part.rights.write, WRITE), (part.rights.execute, EXECUTE)):
        given.require((flags & bit != 0) == right, "the right")
    digest: Any = manifest.segment_digest(data, index)
    low, high = digest
    given.require(z3.And(low == FIRST_SEGMENT + term(index) * SEGMENT_BYTES + 16, high == low + 32), "the digest's bytes")


@theorem(manifest.window_of, manifest.kind_of, outcomes=("RAM", "MMIO", "nothing"), assumes=("manifest.rows", "manifest.check"),
         bounds=("manifest.window_of: of a manifest that `check` accepts, as far as that it has 16 windows at most, each of a kind",))
def window_of(given: Given) -> None:
    """The first window that has the address, one of nothing where no window has it."""
    data: Any = Manifest(given)
    ipa, window, windows = given.u64("ipa"), given.word("any window", 64), z3.ZeroExt(48, data.word(36, 2))
    given.assume(z3.ULE(windows, 16))
    asked: list[Term] = []
    whole = manifest.window

    def noted(view: Any, index: u64) -> Any:
        asked.append(term(index))
        kind = data.window(asked[-1])[2]
        given.assume(z3.Or(kind == RAM, kind == MMIO))
        return whole(view, index)

    given.replace(whole, noted)
    given.rule(manifest.window_of, Rule(lambda here: z3.Implies(z3.ULT(window, here), z3.Not(data.lies_in(term(ipa), window)))))
    one = manifest.window_of(data, Ipa(ipa))
    found = one.kind
    given.replace(manifest.window_of, lambda view, at: one if view is data and at.raw is ipa else None)
    given.require(manifest.kind_of(data, Ipa(ipa)) is found, "its kind is what the address is")
    given.outcome({WindowKind.RAM: "RAM", WindowKind.MMIO: "MMIO", WindowKind.NONE: "nothing"}[found])
    if found is WindowKind.NONE:
        given.require(z3.Implies(z3.ULT(window, windows), z3.Not(data.lies_in(term(ipa), window))), "no window has it")
        given.require(term(one.size) == 0, "a window of nothing")
        return
    base, size, _ = data.window(asked[-1])
    given.require(z3.And(term(one.base) == base, term(one.size) == size), "with its addresses")
    given.require(z3.And(z3.ULT(asked[-1], windows), data.lies_in(term(ipa), asked[-1])), "a window has it")
    given.require(data.window(asked[-1])[2] == KINDS[found], "of this kind")
    given.require(z3.Implies(z3.ULT(window, asked[-1]), z3.Not(data.lies_in(term(ipa), window))), "and none before it")


@theorem(manifest._is_zero, outcomes=("zero", "not zero"))
def is_zero(given: Given) -> None:
    """True exactly if every byte from one offset to the other is zero."""
    data: Any = Manifest(given)
    start, end, at = (z3.Concat(given.word(name, 61), z3.BitVecVal(0, 3)) for name in ("start", "end", "any word"))
    given.assume(z3.ULE(start, end), z3.ULE(end, BYTES))
    given.rule(manifest._is_zero, Rule(lambda here: z3.Implies(z3.And(z3.UGE(at, start), z3.ULT(at, here)), data.word(at) == 0)))
    found = manifest._is_zero(data, integer(start), integer(end))
    given.outcome("zero" if found else "not zero")
    if found:
        given.require(z3.Implies(z3.And(z3.UGE(at, start), z3.ULT(at, end)), data.word(at) == 0), "every word is zero")
    else:
        last = data.loaded[-1]
        given.require(z3.And(z3.UGE(last, start), z3.ULT(last, end), data.word(last) != 0), "some word of them is not zero")


@theorem(manifest._is_range)
def ranges(given: Given) -> None:
    """A range is whole pages, at least one, below 1 << 40."""
    base, size = given.u64("base"), given.u64("size")
    given.require(is_range(term(base), term(size)) == manifest._is_range(base, size), "whole pages below the limit")


@theorem(manifest._is_seed, bounds=("manifest._is_seed: of a tree in one of the segments",))
def seeds(given: Given) -> None:
    """A seed is none, or bytes of the tree that lie in one page."""
    seed, length = given.u64("seed"), given.one_of("length", (8, 32))
    at, size = z3.ZeroExt(24, given.word("tree", 40)), z3.ZeroExt(32, given.word("bytes of the tree", 32))
    end = term(seed) + length
    inside = z3.And(z3.ULT(term(seed), 1 << 41), z3.UGE(term(seed), at), z3.ULE(end, at + size))
    in_page = z3.LShR(term(seed), 12) == z3.LShR(end - 1, 12)
    found = manifest._is_seed(seed, u64(length), integer(at), integer(size))
    given.require(z3.Or(term(seed) == 0, z3.And(inside, in_page)) == found, "exactly these")


@theorem(manifest._windows_are_sound, outcomes=("sound", "not sound"), assumes=("manifest.rows", "manifest.ranges"),
         bounds=(FEW.format("windows"),))
def windows_are_sound(given: Given) -> None:
    """Each window has a kind, no bits of none, is a range, and begins where the one before it has ended or later."""
    data: Any = Manifest(given)
    count = few(given, "windows")
    found = manifest._windows_are_sound(data, u64(count))
    given.outcome("sound" if found else "not sound")
    rules, end = [], number(0)
    for index in range(count):
        base, size, kind = data.window(number(index))
        unused = data.word(FIRST_WINDOW + index * WINDOW_BYTES + 20, 4) == 0
        rules += [z3.Or(kind == RAM, kind == MMIO), unused, is_range(base, size), z3.UGE(base, end)]
        end = base + size
    given.require(z3.And(rules) == found, "sound exactly if each keeps the rules")


@theorem(manifest._segments_are_sound, outcomes=("sound", "not sound"), assumes=("manifest.ranges", "manifest.is_memory"),
         bounds=(FEW.format("segments"),))
def segments_are_sound(given: Given) -> None:
    """Each segment may be read, has no bits of none, is a range of one RAM window, and begins where the one before it has ended or later."""
    data: Any = Manifest(given)
    count, windows = few(given, "segments"), given.u64("windows")
    is_memory = z3.Function("is memory", z3.BitVecSort(64), z3.BitVecSort(64), z3.BoolSort())

    def asked(view: Any, known: u64, base: u64, size: u64) -> bool:
        given.require(term(known) == term(windows), "of all windows")
        return given.holds(is_memory(term(base), term(size)))

    given.replace(manifest._is_memory, asked)
    found = manifest._segments_are_sound(data, windows, u64(count))
    given.outcome("sound" if found else "not sound")
    rules, end = [], number(0)
    for index in range(count):
        base, size, flags = data.segment(number(index))
        unused = data.word(FIRST_SEGMENT + index * SEGMENT_BYTES + 48) == 0
        rules += [z3.ULE(flags, 7), flags & READ != 0, unused, is_range(base, size), z3.UGE(base, end), is_memory(base, size)]
        end = base + size
    given.require(z3.And(rules) == found, "sound exactly if each keeps the rules")


@theorem(manifest._is_memory, outcomes=("memory", "no memory"), assumes=("manifest.rows",),
         bounds=("manifest._is_memory: of 16 windows at most, of which no two have one address",))
def is_memory(given: Given) -> None:
    """True exactly if one RAM window has all of the bytes, of which there is at least one."""
    data: Any = Manifest(given)
    windows, base, size, window = given.u64("windows"), given.u64("base"), given.u64("size"), given.word("any window", 64)
    given.assume(z3.ULE(term(windows), 16), term(size) != 0)
    asked: list[Term] = []
    whole = manifest.window

    def noted(view: Any, index: u64) -> Any:
        asked.append(term(index))
        apart = z3.Not(z3.And(data.lies_in(term(base), asked[-1]), data.lies_in(term(base), window)))
        given.assume(z3.Implies(z3.And(asked[-1] != window, z3.ULT(window, term(windows))), apart))
        return whole(view, index)

    def has_all(index: Term) -> Formula:
        start, length, kind = data.window(index)
        inside = z3.And(z3.UGE(term(base), start), z3.ULT(term(base) - start, length), z3.ULE(term(size), length - (term(base) - start)))
        return z3.And(kind == RAM, inside)

    given.replace(whole, noted)
    given.rule(manifest._is_memory, Rule(lambda here: z3.Implies(z3.ULT(window, here), z3.Not(has_all(window)))))
    found = manifest._is_memory(data, windows, base, size)
    given.outcome("memory" if found else "no memory")
    if found:
        given.require(z3.And(z3.ULT(asked[-1], term(windows)), has_all(asked[-1])), "one window has all")
    else:
        given.require(z3.Implies(z3.ULT(window, term(windows)), z3.Not(has_all(window))), "no window has all")


class _Part:
    """A segment whose rights are decided when somebody asks for them."""

    def __init__(self, given: Given, base: Term, size: Term, write: Formula, execute: Formula) -> None:
        self.given, self.ipa, self.pages, self.rights = given, Ipa(integer(base)), integer(z3.LShR(size, 12)), self
        self._write, self._execute = write, execute

    @property
    def write(self) -> bool:
        """Whether the guest may write it."""
        return self.given.holds(self._write)

    @property
    def execute(self) -> bool:
        """Whether the guest may execute it."""
        return self.given.holds(self._execute)


@theorem(manifest._places_are_sound, outcomes=("sound", "not sound"), assumes=("manifest.fields", "manifest.rows", "manifest.seeds"),
         bounds=("manifest._places_are_sound: at most one segment, which is a range; more by ring 1's tests",))
def places_are_sound(given: Given) -> None:
    """The entry is a word of an executable segment, the tree lies in one that may be written, and the seeds are seeds of the tree."""
    data: Any = Manifest(given)
    count = given.one_of("segments", (0, 1))
    seeds: list[tuple[Any, ...]] = []

    def is_seed(*arguments: Any) -> bool:
        seeds.append(arguments)
        return given.boolean(f"seed {len(seeds)} is sound")

    given.replace(manifest._is_seed, is_seed)
    entry, tree, size = data.word(16), data.word(24), z3.ZeroExt(32, data.word(32, 4))
    parts, executable, writable = [], [], []
    for index in range(count):
        base, pages = (z3.ZeroExt(24, z3.Concat(given.word(f"{what} {index}", 28), z3.BitVecVal(0, 12))) for what in ("page", "pages"))
        write, execute = (given.word(f"{right} {index}", 1) == 1 for right in ("write", "execute"))
        given.assume(z3.ULE(base + pages, LIMIT))
        parts.append(_Part(given, base, pages, write, execute))
        executable.append(z3.And(execute, z3.UGE(entry, base), z3.ULT(entry - base, pages)))
        inside = z3.And(z3.UGE(tree, base), z3.ULT(tree - base, pages), z3.ULE(size, pages - (tree - base)))
        writable.append(z3.And(write, inside))
    given.replace(manifest.segment, lambda view, index: parts[int(index)])
    found = manifest._places_are_sound(data, u64(count))
    given.outcome("sound" if found else "not sound")
    places = z3.And(entry & 3 == 0, tree & 7 == 0, size != 0, z3.Or(executable), z3.Or(writable))
    answers = [z3.BitVec(f"seed {which} is sound", 1) == 1 for which in range(1, len(seeds) + 1)]
    given.require(z3.And(places, *answers) == found if len(seeds) == 2 or found else z3.Not(z3.And(places, *answers)), "sound exactly if all are")
    if found:
        given.require(len(seeds) == 2, "both seeds are looked at")
    for (seed, length, at, bytes_of), (offset, wanted) in zip(seeds, ((40, 32), (48, 8)), strict=False):
        of_tree = z3.And(term(at) == tree, term(bytes_of) == size)
        given.require(z3.And(term(seed) == data.word(offset), term(length) == wanted, of_tree), "each as a seed of the tree")


@theorem(manifest.check, outcomes=("accepted", "refused"),
         assumes=("manifest.is_zero", "manifest.windows_are_sound", "manifest.segments_are_sound", "manifest.places_are_sound"))
def check(given: Given) -> None:
    """Accepted exactly if it is a page, begins as a manifest of version 1 does, has one to 16 windows and one to 24 segments, is zero where nothing
    is said, and windows, segments and places are sound."""
    data: Any = Manifest(given, given.u64("length"))
    zeroes: list[tuple[Term, Term]] = []
    sound: list[str] = []
    windows, segments = z3.ZeroExt(48, data.word(36, 2)), z3.ZeroExt(48, data.word(38, 2))

    def is_zero(view: Any, start: u64, end: u64) -> bool:
        zeroes.append((term(start), term(end)))
        return given.boolean(f"zero {len(zeroes)}")

    def answering(name: str, *wanted: Term) -> Any:
        def answer(view: Any, *counts: u64) -> bool:
            given.require(z3.And([term(count) == expected for count, expected in zip(counts, wanted, strict=True)]), "all of them")
            sound.append(name)
            return given.boolean(name)

        return answer

    given.replace(manifest._is_zero, is_zero)
    given.replace(manifest._windows_are_sound, answering("windows", windows))
    given.replace(manifest._segments_are_sound, answering("segments", windows, segments))
    given.replace(manifest._places_are_sound, answering("places", segments))
    refused = isinstance(manifest.check(data), Err)
    given.outcome("refused" if refused else "accepted")
    magic = int.from_bytes(b"DELPHYNE", "little")
    head = z3.And(term(data.length) == BYTES, data.word(0) == magic, data.word(8, 4) == 1, data.word(12, 4) == 0, data.word(56) == 0)
    counts = z3.And(z3.UGE(windows, 1), z3.ULE(windows, 16), z3.UGE(segments, 1), z3.ULE(segments, 24))
    answers = [z3.BitVec(name, 1) == 1 for name in (*(f"zero {which}" for which in range(1, len(zeroes) + 1)), *sound)]
    given.require(z3.And(head, counts, *answers) == (not refused) if not refused or len(answers) == 5 else z3.Not(z3.And(head, counts, *answers)),
                  "accepted exactly if all is as it should be")
    if not refused:
        ends = (FIRST_WINDOW + windows * WINDOW_BYTES, number(FIRST_SEGMENT), FIRST_SEGMENT + segments * SEGMENT_BYTES, number(BYTES))
        given.require(z3.And([got == wanted for got, wanted in zip(sum(zeroes, ()), ends, strict=True)]), "what nobody says anything about is zero")
        given.require(sorted(sound) == ["places", "segments", "windows"], "everything is looked at")
