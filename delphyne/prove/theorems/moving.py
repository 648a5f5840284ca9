# SPDX-License-Identifier: Apache-2.0
"""Pages that move in pieces: how a move begins, what each piece makes of the page, and what becomes of a page that nobody wants any more.

As theorems of `private`: one page, one frame, by the contracts of `one_page`; a piece is done by the functions of `sealing/page.py` themselves. By
induction over the pieces a move ends as the move of a whole page does.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import moving, private, steps
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.sealing import page as sealed
from delphyne.lang import u64
from delphyne.prove.memory import Only
from delphyne.prove.one_page import BUSY, ON_ITS_WAY, PRIVATE, Page
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.theorems.private import CONTRACTS, COUNTS, HOSTS_ENTRY, TRUSTS, bit

PIECE, PAGE = int(moving.PIECE), 4096
PLACES = int(moving.LIMIT)
about = partial(theorem, assumes=CONTRACTS, trusts=TRUSTS, bounds=(COUNTS,))


class Pool:
    """Of the moves those below `free` are in use, and one of them may be the page's."""

    def __init__(self, free: int) -> None:
        self.made = [SimpleNamespace(used=place < free, job=sealed.Job()) for place in range(PLACES)]

    def __getitem__(self, place: u64) -> Any:
        return self.made[int(place)]

    def begun(self) -> list[Any]:
        """The moves that name a page."""
        return [move for move in self.made if hasattr(move, "index")]


def _pool(given: Given, page: Page) -> Pool:
    """The pool, with its first free place: the one that is this page's from now on, where there is one."""
    free = given.one_of("the first free move", (0, PLACES - 1, PLACES))
    given.assume(page.place == free % PLACES)
    pool = Pool(free)
    given.replace(moving.MOVES, SimpleNamespace(slots=pool))
    page.quick = False
    page.is_turn = given.boolean("it is this CPU's turn")
    return pool


def _is_begun(given: Given, page: Page, pool: Pool, importing: bool) -> None:
    """A move in use names the page, its frame and its record."""
    (move,) = pool.begun()
    given.require(move.used and move.importing is importing, "the move is in use")
    given.require(z3.And(term(move.index) == term(page.index), term(move.page) == page.where), "it names the page")
    given.require(z3.And(term(move.frame) == term(page.pa), term(move.record) == z3.ZeroExt(28, page.number)), "its frame and its record")


@about(moving._begin_export, moving._place, moving._fill, outcomes=("begun", "no place", "not its turn"))
def begin_export(given: Given) -> None:
    """The page is MOVING, one piece of it is done, under a version that no page had, and neither guest nor host reaches it; or all moves are in use,
    another one has come nearer to its end, and this page is as it was; or it is not this CPU's turn, and nothing changes."""
    page = Page(given, ("private", "clean", "held"))
    page.in_space()
    pool, clean = _pool(given, page), page.kind == "clean" or (page.kind == "held" and given.holds(page.write == 0))
    is_full, is_turn = all(move.used for move in pool.made), page.is_turn
    helped: list[u64] = []

    def go_on(place: u64) -> Err | None:
        helped.append(place)
        came_to: Err | None = given.one_of("the other move", (None, Err.BUSY, Err.INTEGRITY))
        return came_to

    if is_full:
        given.replace(moving.go_on, go_on)
    result = page.run(private.export, page.index, page.ipa)
    given.require(result is Err.BUSY, "pieces are left")
    given.require(len(helped) == (is_turn and is_full), "another move is helped on, once, where all are in use")
    given.require(all(int(place) == 0 for place in helped), "the same one each time, so that it ends")
    if not pool.begun():
        given.outcome("no place" if is_turn else "not its turn")
        given.require(is_full or not is_turn, "only where all moves are in use, or out of turn")
        page.requires_unchanged()
        return
    given.outcome("begun")
    given.require(is_turn and not is_full, "in its turn, where there is a place")
    _is_begun(given, page, pool, False)
    given.require(page.written == ([] if clean else ["crypt"]) + ["digest", "over"], "one piece, encrypted unless it is clean, and measured")
    given.require(term(page.guard.version) == page.was[6] + 1, "a version is used that no page had")
    page.requires(ON_ITS_WAY, page.packed(BUSY), "out", taken=1)


@about(moving._begin_import, outcomes=("begun", "no place", "not its turn", "refused"), assumes=(*CONTRACTS, "private.drop_ordinary"))
def begin_import(given: Given) -> None:
    """The frame has left the host, and the first piece is verified; nothing is decrypted. With another Err than BUSY nothing changes."""
    page = Page(given, ("exported",))
    page.in_space()
    pool = _pool(given, page)
    is_full, is_turn = all(move.used for move in pool.made), page.is_turn
    if is_full:
        given.replace(moving.go_on, lambda place: Err.BUSY)
    with GUESTS_LOCK:
        where = steps.find(page.index, page.ipa)
    result = page.run(private.admit, page.index, page.ipa, page.pa, where)
    if not pool.begun():
        given.outcome("not its turn" if not is_turn else "no place" if is_full else "refused")
        given.require(isinstance(result, Err) and (is_turn or result is Err.BUSY), "it is said")
        page.requires_unchanged()
        return
    given.outcome("begun")
    given.require(result is Err.BUSY and is_turn, "pieces are left")
    _is_begun(given, page, pool, True)
    given.require(page.was[1] == HOSTS_ENTRY, "the frame was the host's, and nobody's else")
    given.require(page.written == ["digest", "over"], "verified, and nothing else")
    page.requires(ON_ITS_WAY, page.packed(BUSY), "out")


STAGES = {"export": sealed.Phase.EXPORT, "verify": sealed.Phase.VERIFY, "decrypt": sealed.Phase.DECRYPT}


def _on_its_way(given: Given, stage: str, position: int) -> tuple[Page, Any]:
    """A page that is MOVING, with its move: so far in that stage."""
    page = Page(given, (ON_ITS_WAY,))
    page.in_space()
    page.quick = False
    move: Any = SimpleNamespace(
        used=True, importing=stage != "export", index=page.index, page=page.ipa, frame=page.pa, record=integer(z3.ZeroExt(28, page.number)),
        job=sealed.Job(),
    )  # fmt: skip
    move.job.phase, move.job.position = STAGES[stage], u64(position)
    move.job.record.terms = page.record.terms
    if stage == "export":
        page.record.terms = sealed.Terms.of(given.u64("what stands in a record that is not written yet"))
    given.replace(moving.MOVES, SimpleNamespace(slots=Only(integer(page.place), move)))
    if stage == "decrypt":
        given.assume(bit(page.write))
    return page, move


@about(moving.go_on, outcomes=("not its turn", "goes on", "exported", "verified", "altered", "clean", "decrypted"))
def go_on(given: Given) -> None:
    """One piece: until the last of its way the page stays MOVING. Then it is exported, with its record; or the guest's, with the rights of its
    record, after all of it was verified and then decrypted; or exported still where it is not what the record says, and as it came. Nothing changes
    where it is not this CPU's turn."""
    stage, last = given.one_of("stage", tuple(STAGES)), given.boolean("the last piece")
    page, move = _on_its_way(given, stage, PAGE - PIECE if last else PIECE)
    clean, terms = given.holds(page.write == 0), term(move.job.record.terms.raw)
    page.is_turn = is_turn = given.boolean("it is this CPU's turn")
    result = page.run(moving.go_on, integer(page.place))
    if not is_turn:
        given.outcome("not its turn")
        given.require(result is Err.BUSY and move.used and move.job.position == (PAGE - PIECE if last else PIECE), "as far as it was")
        given.require(page.written == [], "nothing is done to the page")
        page.requires(ON_ITS_WAY, page.packed(BUSY), "out")
        return
    touched = {"export": ["digest"] if clean else ["crypt", "digest"], "verify": ["digest"], "decrypt": ["crypt"]}[stage]
    given.require(page.written == [*touched, "over"], "what this stage does, and nothing else, before the turn is over")
    given.require("crypt" not in touched or page.counter == z3.ZeroExt(8, z3.Extract(55, 0, terms)), "under its version")
    if not last:
        given.outcome("goes on")
        given.require(result is Err.BUSY and move.used and move.job.position == 2 * PIECE, "pieces are left")
        page.requires(ON_ITS_WAY, page.packed(BUSY), "out")
    elif stage == "export":
        given.outcome("exported")
        given.require(result is None and not move.used, "the move is over")
        given.require(term(page.record.terms.raw) == terms, "its record says how")
        page.requires("exported", HOSTS_ENTRY, "mapped")
    elif result is Err.INTEGRITY:
        given.outcome("altered")
        given.require(stage == "verify" and not move.used, "found out before anything is decrypted, and the move is over")
        page.requires("exported", HOSTS_ENTRY, "mapped")
    elif stage == "verify" and not clean:
        given.outcome("verified")
        given.require(result is Err.BUSY and move.used and move.job.phase is sealed.Phase.DECRYPT, "decrypted by the next pieces")
        page.requires(ON_ITS_WAY, page.packed(BUSY), "out")
    else:
        given.outcome("clean" if stage == "verify" else "decrypted")
        given.require(result is None and not move.used, "the move is over")
        page.requires("clean" if clean else "private", page.packed(PRIVATE), "out", taken=-1)


@about(private.export, outcomes=("left", "with the host", "with the guest", "altered"))
def export(given: Given) -> None:
    """A page that is MOVING is helped on; whoever wants it exported is to ask again until it is, and not longer."""
    page, _ = _on_its_way(given, "export", PIECE)
    came_to = given.one_of("the piece", ("left", "with the host", "with the guest", "altered"))
    given.outcome(came_to)

    def go_on(place: u64) -> Err | None:
        given.require(term(place) == page.place, "the page's own move")
        if came_to != "left":
            page.word = page.word_of("private" if came_to == "with the guest" else "exported")
        return {"left": Err.BUSY, "altered": Err.INTEGRITY}.get(came_to)

    given.replace(moving.go_on, go_on)
    result = page.run(private.export, page.index, page.ipa)
    given.require(result is (Err.BUSY if came_to in ("left", "with the guest") else None), "until it is with the host")


@about(moving.abandon)
def abandon(given: Given) -> None:
    """A page that is MOVING is untouched: its frame is the host's, zeroed, its record is free, its promise is given up."""
    page, move = _on_its_way(given, given.one_of("stage", tuple(STAGES)), PIECE)
    page.run(private.give_up, page.index, page.ipa)
    given.require(not move.used and page.written == ["zero"], "zeroed before the host reaches it, and the move is over")
    page.requires("untouched", HOSTS_ENTRY, "mapped", promised=-1, taken=-1, private=-1)


@about(moving.frame_of)
def frame_of(given: Given) -> None:
    """The frame of a page that is MOVING is its move's."""
    page, _ = _on_its_way(given, "export", PIECE)
    with GUESTS_LOCK:
        absent = steps.absent_of(steps.find(page.index, page.ipa))
        given.require(term(moving.frame_of(absent)) == term(page.pa), "the frame of this page")
