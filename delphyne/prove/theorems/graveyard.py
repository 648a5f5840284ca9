# SPDX-License-Identifier: Apache-2.0
"""Tables on their way back to their pool: each slot is emptied once, each leaf counted no more, each table below put into the list, and a page is
freed only when all of its slots are zero."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Descriptor
from delphyne.el2.memory import blocks, frames, graveyard, pages
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK, Grave
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import Pa, u64
from delphyne.prove.memory import Cells, Records, Tables, cell
from delphyne.prove.path import Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "frames.LOCK and GUESTS_LOCK are held: nobody else changes the list or the tables in it meanwhile"
PLACES, KEPT, SLOTS = 512, 3, 512
about = partial(theorem, trusts=(LOCKED,))


class Yard:
    """An arbitrary list, the words of any tables, and what is freed and counted no more."""

    def __init__(self, given: Given) -> None:
        self.given, self.count = given, given.u64("count")
        given.assume(z3.ULE(term(self.count), PLACES))
        self.fields = {name: Cells(f"grave's {name}", u64) for name in ("page", "level", "cursor")}
        self.yard: Any = SimpleNamespace(graves=Records(Grave, self.fields, u64(PLACES), {}), count=self.count)
        given.replace(graveyard.GRAVEYARD, self.yard)
        self.words, self.length = Cells("word", u64), given.word("pages", 32)
        given.replace(pages.TABLES, Tables(self.words, integer(z3.ZeroExt(32, self.length))))
        self.freed: list[Term] = []
        self.uncounted: list[tuple[Term, Term]] = []
        given.replace(pages.free, self._free)
        self.any = given.word("any place", 64)
        given.assume(z3.ULT(self.any, PLACES))

    def _free(self, name: PoolName, page: u64) -> Err | None:
        self.given.require(name is PoolName.GUESTS, "to the guests' pool")
        self.freed.append(term(page))
        return None

    def requires_others(self, *changed: Term) -> None:
        """Every other place of the list is what it was."""
        same = [cells(self.any) == cells.first(self.any) for cells in self.fields.values()]
        self.given.require(z3.Implies(z3.And([self.any != place for place in changed]), z3.And(same)), "every other place is as it was")

    def requires_added(self, place: Term, page: Term, level: Term) -> None:
        """A table stands at that place, of which nothing is emptied yet."""
        found = {name: cells(place) for name, cells in self.fields.items()}
        self.given.require(z3.And(found["page"] == page, found["level"] == level, found["cursor"] == 0), "the table, with all its slots to go")


@about(graveyard.has_room, graveyard.is_empty, outcomes=("empty", "room", "full"))
def room(given: Given) -> None:
    """A table may be added as long as so many places stay free as the tables below one can need."""
    yard = Yard(given)
    with GUESTS_LOCK:
        has_room, empty = graveyard.has_room(), graveyard.is_empty()
    given.outcome("empty" if empty else "room" if has_room else "full")
    given.require((term(yard.count) == 0) == empty, "empty where no place is in use")
    given.require(z3.ULT(term(yard.count), PLACES - KEPT) == has_room, "the last places are kept")


@about(graveyard.add)
def add(given: Given) -> None:
    """The table is the last of the list, with all its slots to go; the others stay what they are."""
    yard, page, level = Yard(given), given.u64("page"), given.u64("level")
    given.assume(z3.ULT(term(yard.count), PLACES))
    with GUESTS_LOCK:
        graveyard.add(page, level)
    yard.requires_added(term(yard.count), term(page), term(level))
    yard.requires_others(term(yard.count))
    given.require(term(yard.yard.count) == term(yard.count) + 1, "one more")


@about(graveyard._step, outcomes=("freed", "nothing there", "a leaf", "a table"),
       assumes=("pages.free", "pages.addresses", "graveyard.add", "graveyard.uncount_leaf"),
       bounds=("graveyard._step: a place is left for each level below the last table's (`has_room`, and levels that grow along the list)",))
def step(given: Given) -> None:
    """The next slot of the last table is zero, and what it led to is counted no more or comes behind it in the list; or, when all its slots are zero,
    the table is freed and no longer in the list."""
    yard = Yard(given)
    given.assume(z3.UGE(term(yard.count), 1), z3.ULT(term(yard.count), PLACES))
    last = z3.simplify(term(yard.count) - 1)
    page, level, cursor = (yard.fields[name].first(last) for name in ("page", "level", "cursor"))
    depth = given.one_of("level", (1, 2, 3))
    given.assume(level == depth, z3.ULE(cursor, SLOTS), z3.ULT(page, z3.ZeroExt(32, yard.length)))
    below = given.u64("page below")

    def page_of(pa: Pa) -> u64:
        given.require(term(pa) == yard.words.first(cell(page, cursor)) & (0xFFFF_FFFF_F000), "the table that the slot led to")
        return below

    given.replace(pages.page_of_address, page_of)
    given.replace(graveyard.uncount_leaf, lambda word, at: yard.uncounted.append((term(word.raw), term(at))))
    with FRAMES_LOCK, GUESTS_LOCK:
        graveyard._step()
    if yard.freed:
        given.outcome("freed")
        given.require(z3.And(cursor == SLOTS, yard.freed[0] == page), "a table all of whose slots are zero")
        given.require(term(yard.yard.count) == last, "is no longer in the list")
        given.require(not yard.words.writes and not yard.uncounted and len(yard.freed) == 1, "and nothing else happens")
        yard.requires_others()
        return
    at = cell(page, cursor)
    word, other = yard.words.first(at), given.word("any word", 64)
    valid = z3.Extract(0, 0, word) == 1
    leads = z3.And(valid, z3.Extract(1, 1, word) == 1, z3.BoolVal(depth < 3))
    kind = "a table" if given.holds(leads) else "a leaf" if given.holds(valid) else "nothing there"
    given.outcome(kind)
    given.require(z3.ULT(cursor, SLOTS), "a slot of the table")
    given.require(yard.fields["cursor"](last) == cursor + 1, "the next one is next")
    given.require(z3.And(yard.fields["page"](last) == page, yard.fields["level"](last) == depth), "of the same table")
    given.require(z3.Extract(0, 0, yard.words(at)) == 0, "the slot leads nowhere")
    given.require(z3.Implies(other != at, yard.words(other) == yard.words.first(other)), "no other slot changes")
    if kind == "a table":
        yard.requires_added(term(yard.count), term(below), z3.BitVecVal(depth + 1, 64))
    given.require(term(yard.yard.count) == term(yard.count) + (1 if kind == "a table" else 0), "what it led to comes next")
    yard.requires_others(last, term(yard.count))
    given.require(len(yard.uncounted) == (1 if kind == "a leaf" else 0), "a leaf is counted no more")
    if yard.uncounted:
        given.require(z3.And(yard.uncounted[0][0] == word, yard.uncounted[0][1] == depth), "by what it was")


@about(graveyard.work, outcomes=("empty", "a piece"), assumes=("graveyard.step",))
def work(given: Given) -> None:
    """Steps only while the list has a table, and 64 of them at most."""
    yard, steps = Yard(given), []

    def one_step() -> None:
        given.require(term(yard.yard.count) != 0, "only where something waits")
        steps.append(True)
        yard.yard.count = given.u64(f"count after step {len(steps)}") if len(steps) < 3 else u64(0)

    given.replace(graveyard._step, one_step)
    with FRAMES_LOCK, GUESTS_LOCK:
        graveyard.work()
    given.outcome("a piece" if steps else "empty")
    given.require((term(yard.count) == 0) == (not steps), "nothing for an empty list")


@about(graveyard.work)
def work_ends(given: Given) -> None:
    """A list that never empties gets 64 steps."""
    yard, steps = Yard(given), []
    given.assume(term(yard.count) != 0)
    given.replace(graveyard._step, lambda: steps.append(True))
    with FRAMES_LOCK, GUESTS_LOCK:
        graveyard.work()
    given.require(len(steps) == 64, "one piece")


@about(graveyard.uncount_leaf, outcomes=("RAM", "no RAM"), assumes=("layout.index_of", "blocks.count"))
def uncount_leaf(given: Given) -> None:
    """A leaf to RAM is counted no more, for all the frames that it spans."""
    word, level, ram = given.u64("word"), given.one_of("level", (2, 3)), given.boolean("RAM")
    index, done = z3.ZeroExt(28, given.word("index", 36)), []

    def index_of(pa: Pa) -> u64 | None:
        given.require(term(pa) == term(word) & 0xFFFF_FFFF_F000, "of where the leaf led")
        return integer(index) if ram else None

    given.replace(frames.index_of, index_of)
    given.replace(blocks.uncount, lambda first, last: done.append((term(first), term(last))))
    with FRAMES_LOCK:
        graveyard.uncount_leaf(Descriptor.of(word), u64(level))
    given.outcome("RAM" if ram else "no RAM")
    given.require(len(done) == (1 if ram else 0), "RAM alone is counted")
    if done:
        given.require(z3.And(done[0][0] == index, done[0][1] == index + (511 if level == 2 else 0)), "all the frames that it spans")
