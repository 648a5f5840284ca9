# SPDX-License-Identifier: Apache-2.0
"""The host's pages in the tables of a guest that becomes protected: each of them is in its guard's list, and leaves the tables with it."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Descriptor, Stage2Leaf
from delphyne.el2.guest import guards, lent
from delphyne.el2.memory import frames, shadow, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import HostLeaf, Shadow
from delphyne.el2.memory.tables import Walk
from delphyne.lang import Array, Ipa, u64
from delphyne.prove.memory import Only
from delphyne.prove.path import Limits, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

PLACES = 8
TRUSTS = (
    "frames.LOCK and GUESTS_LOCK are held: nobody else changes guests' tables meanwhile",
    "a leaf that came from one page is dropped without Err: shadow.drop is refused by the graveyard alone, which such a leaf does not need",
)
about = partial(theorem, trusts=TRUSTS)


class List:
    """A guard with an arbitrary list, of which any number of places is in use, and its guest's tables."""

    def __init__(self, given: Given) -> None:
        self.given, self.index, self.lent = given, given.u64("index"), given.u64("lent")
        given.assume(z3.ULT(term(self.index), 32))
        self.count = given.one_of("places in use", tuple(range(PLACES + 1)))
        self.pages: Any = Array[u64, PLACES]()
        for number in range(PLACES):
            self.pages[number] = given.u64(f"page {number}")
        self.was = [term(self.pages[number]) for number in range(PLACES)]
        self.guard: Any = SimpleNamespace(lent=self.pages, lent_count=u64(self.count))
        self.all: Any = SimpleNamespace(slots=Only(self.index, self.guard), lent=self.lent)
        self.shadow = Shadow()
        self.dropped: list[Term] = []
        given.replace(guards.GUARDS, self.all)
        given.replace(guards.shadow_of, lambda index: Only(self.index, self.shadow)[index])
        given.replace(shadow.drop, self._drop)
        self.bit = z3.BitVecVal(1, 64) << term(self.index)

    def _drop(self, which: Shadow, ipa: Ipa) -> None:
        self.given.require(which is self.shadow, "from its own guest's tables")
        self.dropped.append(term(ipa))

    def requires_dropped(self) -> None:
        """Every page of the list left the tables, once and in its order."""
        same = [got == wanted for got, wanted in zip(self.dropped, self.was[:self.count], strict=True)]
        self.given.require(z3.And(same), "every page of the list leaves the tables")


@about(lent.drop_all, assumes=("shadow.drop",))
def drop_all(given: Given) -> None:
    """Every page of the list leaves the guest's tables; the list is empty, and the guard's bit is clear, which no other's becomes."""
    known = List(given)
    with frames.LOCK, GUESTS_LOCK:
        lent.drop_all(known.index)
    known.requires_dropped()
    given.require(known.guard.lent_count == 0, "the list is empty")
    given.require(term(known.all.lent) == term(known.lent) & ~known.bit, "and the guard's bit says so")


@about(lent.drop_everybodys, assumes=("lent.drop_all",), bounds=("lent.drop_everybodys: at most three guards have such pages",),
       limits=Limits(decisions=60))
def drop_everybodys(given: Given) -> None:
    """The list of every guard whose bit is set is dropped, and of no other."""
    bits, asked, guard = given.u64("lent"), [], given.word("any guard", 64)
    rest = term(bits)
    for _ in range(3):
        rest = rest & (rest - 1)
    given.assume(rest == 0, z3.ULT(guard, 64))
    given.replace(guards.GUARDS, SimpleNamespace(lent=bits))
    given.replace(lent.drop_all, lambda index: asked.append(term(index)))
    with frames.LOCK, GUESTS_LOCK:
        lent.drop_everybodys()
    has = z3.LShR(term(bits), guard) & 1 == 1
    given.require(has == z3.Or([number == guard for number in asked]), "exactly the guards that have such pages")


@about(lent.fill, outcomes=("filled", "filled anew", "refused"), assumes=("lent.drop_all", "shadow.fill", "tables.walk"),
       bounds=("lent.fill: of a leaf of the host's whose addresses are below 1 << 48",))
def fill(given: Given) -> None:
    """The page of the host's leaf is in the guest's tables as a single page, and in the list; where the list was full, all that was in it left first.
    With Err the page is in neither."""
    known, page = List(given), z3.Concat(z3.BitVecVal(0, 16), given.word("page", 36), z3.BitVecVal(0, 12))
    level = given.one_of("level of the host's leaf", (1, 2, 3))
    low = 12 + 9 * (3 - level)
    output = z3.Concat(z3.BitVecVal(0, 16), given.word("output", 48 - low), z3.BitVecVal(0, low))
    host = HostLeaf(u64(level), integer(output), Stage2Leaf.of(given.u64("leaf")))
    bits, word = given.u64("input bits"), given.u64("slot")
    given.assume(z3.UGE(term(bits), 39), z3.ULE(term(bits), 48))
    known.shadow.space.bits = bits
    given.replace(tables.walk, lambda space, at: Walk(u64(0), u64(0), u64(3), Descriptor.of(word)))
    filled: list[Any] = []

    def fills(which: Shadow, ipa: Ipa, leaf: HostLeaf) -> Err | None:
        given.require(which is known.shadow and term(ipa).eq(z3.simplify(page)), "its own guest's tables, at the page")
        if given.boolean("the page cannot be filled"):
            return Err.OWNER
        filled.append(leaf)
        return None

    given.replace(shadow.fill, fills)
    with frames.LOCK, GUESTS_LOCK:
        result = lent.fill(known.index, Ipa(integer(page)), host)
    full = bool(known.dropped)
    given.outcome("refused" if isinstance(result, Err) else "filled anew" if full else "filled")
    given.require(not full or known.count == PLACES, "pages leave only where the list is full")
    if full:
        known.requires_dropped()
    before = 0 if full else known.count
    if isinstance(result, Err):
        given.require(not filled and known.guard.lent_count == before, "Err lends nothing")
        given.require(term(known.all.lent) == (term(known.lent) & ~known.bit if full else term(known.lent)), "and says nothing else of anybody")
        return
    given.require(z3.And(z3.ULT(page, z3.BitVecVal(1, 64) << term(bits)), term(word) == 0), "an address of the guest's where nothing is")
    leaf = filled[0]
    given.require(len(filled) == 1 and leaf.level == 3, "one page")
    given.require(term(leaf.output) == output | (page & ((1 << low) - 1)), "where the host's leaf has it")
    given.require(term(leaf.leaf.raw) == term(host.leaf.raw), "as the host's leaf says")
    given.require(known.guard.lent_count == before + 1 and term(known.pages[u64(before)]).eq(z3.simplify(page)), "it is the last of the list")
    stay = [term(known.pages[u64(number)]) == known.was[number] for number in range(before)]
    given.require(z3.And(stay), "of which the others stay")
    given.require(term(known.all.lent) == term(known.lent) | known.bit, "and the guard's bit is set")
