# SPDX-License-Identifier: Apache-2.0
"""What a guest's manifest names goes into its digests, page by page and piece by piece: which bytes, in which order, and what becomes of the guest.

As theorems of `private`: one page, one frame, by the contracts of `one_page`; the manifest is the segment that the guard is at. By induction over
pieces and pages each segment's digest is over all of its bytes, once and in order, whoever did the pieces.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import guards, manifest, measurement, measuring
from delphyne.el2.guest.guards import Phase
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.sealing import engine, sha256
from delphyne.lang import Array, Ipa, SimdArea, Slice, View, log, u8, u64
from delphyne.prove.one_page import PRIVATE, Bytes, Page
from delphyne.prove.path import Term
from delphyne.prove.symbolic import decide, integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.theorems.private import CONTRACTS, COUNTS, TRUSTS

PIECE, PAGE = int(measuring.PIECE), 4096
about = partial(theorem, assumes=(*CONTRACTS, "manifest.rows", "guards.stop"), trusts=TRUSTS, bounds=(COUNTS,))


class Image:
    """The segment that a guard is at, of `pages` pages, and its page of the number `page`, which is the one that `held` is about."""

    def __init__(self, given: Given, held: Page) -> None:
        self.given, self.held, guard = given, held, held.guard
        self.base, self.page, self.pages = (given.word(name, 64) for name in ("segment at", "page", "pages"))
        self.number = given.u64("segment")
        given.assume(z3.ULT(self.pages, 1 << 32), z3.ULT(self.page, self.pages), z3.ULT(term(self.number), 24))
        given.assume(z3.ULT(self.base, 1 << 40), held.where == self.base + self.page * PAGE)
        guard.page, guard.segment, guard.measured = integer(self.page), self.number, u64(0)
        guard.phase, guard.manifest, guard.digest = Phase.MEASURING, Array[u8, 4096](), object()
        self.steps: list[Any] = []
        """What is done to the digest and to the guest, in order."""
        for function, stand_in in (
            (manifest.segment, self._segment), (manifest.segment_digest, self._digest), (engine.start, self._start),
            (sha256.update, self._update), (sha256.finish, self._finish), (engine.same, self._same), (guards.stop, self._stop),
            (measurement.write_seeds, self._write_seeds), (log, lambda level, text: None),
        ):
            given.replace(function, stand_in)

    def _of_segment(self, number: u64) -> None:
        self.given.require(term(number) == term(self.number), "the segment that the guard is at")

    def _segment(self, copy: View[u8], number: u64) -> Any:
        self._of_segment(number)
        return SimpleNamespace(ipa=Ipa(integer(self.base)), pages=integer(self.pages))

    def _digest(self, copy: View[u8], number: u64) -> str:
        self._of_segment(number)
        return "what the manifest says"

    def _of_guard(self, digest: object) -> None:
        self.given.require(digest is self.held.guard.digest, "the guard's own digest")

    def _start(self, digest: object) -> None:
        self._of_guard(digest)
        self.steps.append("start")

    def _update(self, digest: object, area: SimdArea, data: Bytes) -> None:
        self._of_guard(digest)
        self.held.touch("digest", False)
        self.steps.append((int(data.part.start), int(data.part.stop)))

    def _finish(self, digest: object, area: SimdArea, out: Slice[u8]) -> None:
        self._of_guard(digest)
        self.given.require(int(out.length) == 32, "a digest of SHA-256")
        self.steps.append("finish")

    def _same(self, one: object, other: object) -> bool:
        self.given.require(other == "what the manifest says" and self.steps[-1] == "finish", "the digest is compared when it is finished")
        self.right = self.given.boolean("the digest is right")
        return self.right

    def _stop(self, index: u64) -> None:
        self.given.require(term(index).eq(term(self.held.index)), "this guest")
        self.steps.append("stop")

    def _write_seeds(self, copy: View[u8], page: Ipa, content: Bytes) -> None:
        self.given.require(term(page) == self.held.where, "seeds of this page")
        self.held.touch("seeds", True)
        self.steps.append("seeds")


def _at(given: Given, image: Image, page: Term, segment: Term, measured: int) -> None:
    """The guard is so far."""
    guard = image.held.guard
    given.require(z3.And(term(guard.page) == page, term(guard.segment) == segment), "the page and the segment that come next")
    given.require(int(guard.measured) == measured, "and how much of it is measured")


@about(measuring.go_on, measuring._end_page, outcomes=("not its turn", "a part", "a page", "a segment", "altered"))
def go_on(given: Given) -> None:
    """The next bytes of the page go into the digest, which begins with the first page of a segment. With the last of them the seeds are written, and
    the next page is the next one of the segment; or the first one of the next segment, where the digest is what the manifest says; or the guest is
    stopped. The page stays HELD. Nothing changes where it is not this CPU's turn."""
    held = Page(given, ("held",))
    held.in_space()
    held.dirty_of_guest = False  # It was cleaned when it was taken, and is mapped nowhere.
    image, quick = Image(given, held), given.boolean("crypto extensions")
    start = 0 if quick else given.one_of("measured", (0, PIECE, PAGE - PIECE))
    held.quick, held.guard.measured = quick, u64(start)
    held.is_turn = is_turn = given.boolean("it is this CPU's turn")
    result = held.run(measuring.go_on, held.index)
    held.requires("held", held.packed(PRIVATE), "out")
    if not quick and not is_turn:
        given.outcome("not its turn")
        given.require(result is None and not image.steps and not held.written, "nothing is done")
        _at(given, image, image.page, term(image.number), start)
        return
    end = PAGE if quick else start + PIECE
    begun = ["start"] if start == 0 and decide(image.page == 0) else []
    last = end == PAGE and bool(decide(image.page + 1 == image.pages))
    wanted = [*begun, (start, end), *(["seeds"] if end == PAGE else []), *(["finish"] if last else [])]
    over = [] if quick else ["over"]
    given.require(held.written == ["digest", *(["seeds"] if end == PAGE else []), *over], "a piece, in its turn; seeds behind all of the page")
    if last and not image.right:
        given.outcome("altered")
        given.require(result is Err.INTEGRITY and image.steps == [*wanted, "stop"], "the guest is stopped")
        return
    given.require(result is None and image.steps == wanted, "these bytes, and no others")
    if last:
        given.outcome("a segment")
        _at(given, image, z3.BitVecVal(0, 64), term(image.number) + 1, 0)
    elif end == PAGE:
        given.outcome("a page")
        _at(given, image, image.page + 1, term(image.number), 0)
    else:
        given.outcome("a part")
        _at(given, image, image.page, term(image.number), end)


@about(measuring.next_page, measuring.is_under_way, outcomes=("under way", "not"))
def is_under_way(given: Given) -> None:
    """Exactly the page that is next, while the guest is MEASURING, and where a part of it is measured."""
    held = Page(given, ("held",))
    image, real = Image(given, held), given.boolean("the page that is next")
    held.guard.measured = u64(given.one_of("measured", (0, PIECE)))
    held.guard.phase = given.one_of("phase", tuple(Phase))
    asked = held.ipa if real else Ipa(given.u64("another page"))
    if not real:
        given.assume(term(asked) != held.where)
    given.replace(measuring.is_under_way, IS_UNDER_WAY)
    with GUESTS_LOCK:
        given.require(term(measuring.next_page(held.index)) == image.base + image.page * PAGE, "so many pages into its segment")
        result = bool(measuring.is_under_way(held.index, asked))
    given.outcome("under way" if result else "not")
    given.require(result == (real and held.guard.measured != 0 and held.guard.phase is Phase.MEASURING), "exactly then")


IS_UNDER_WAY = measuring.is_under_way


@about(measuring.is_over, outcomes=("over", "not"))
def is_over(given: Given) -> None:
    """Where as many segments are measured as the manifest has."""
    held = Page(given, ("held",))
    image, count = Image(given, held), given.u64("segments")
    given.replace(manifest.segment_count, lambda copy: count)
    with GUESTS_LOCK:
        result = bool(measuring.is_over(held.index))
    given.outcome("over" if result else "not")
    given.require((term(count) == term(image.number)) == result, "all, and no more")


@about(measuring.is_turn, outcomes=("turn", "not"))
def is_turn(given: Given) -> None:
    """At any time with the crypto extensions, else in its turn."""
    held = Page(given, ("held",))
    held.quick, held.is_turn = given.boolean("crypto extensions"), given.boolean("it is this CPU's turn")
    with FRAMES_LOCK:
        result = bool(measuring.is_turn())
    given.outcome("turn" if result else "not")
    given.require(result == (held.quick or held.is_turn), "exactly then")
