# SPDX-License-Identifier: Apache-2.0
"""An arbitrary set of translation tables, of unknown extent, with the invariants that make it one.

Every word of table memory has a kind: zero, a leaf, or a table. What the invariants say of all tables is said by unknown functions: `mine` and
`level` of a page, `child` of a word that leads to a table, `parent` of a page. That a page has one parent says that no two words lead to it.
They are used of the words that a function loads and of those that a theorem asks about, never of all at once.

A load splits the path by kind and answers with a word whose fixed bits are fixed, so that the walk itself costs the solver little. Addresses of
table pages are an unknown one-to-one function of their numbers (theorem pages.addresses).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import pagetable
from delphyne.el2.arch.err import Err
from delphyne.el2.memory import pages, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Regime, Space
from delphyne.lang import Pa, u64
from delphyne.prove.memory import Cells, Tables, Write, cell
from delphyne.prove.path import Formula, ProverError, Term, current
from delphyne.prove.symbolic import constant, decide, integer, term
from delphyne.prove.theorem import Given
from delphyne.prove.trace import Order, Stored, called, events

ZERO, LEAF, TABLE = 0, 1, 2
WORD = z3.BitVecSort(64)


@dataclass(frozen=True, slots=True)
class Translation:
    """What an address leads to: whether to anything, the address behind it, and the leaf's other bits."""

    valid: Formula
    output: Term
    attributes: Term

    def __eq__(self, other: object) -> Formula:
        assert isinstance(other, Translation)
        both = z3.And(self.output == other.output, self.attributes == other.attributes)
        return z3.And(self.valid == other.valid, z3.Implies(self.valid, both))


def leaf_word(level: int, frame: Term, bits: Term) -> Term:
    """A leaf of `level`: its frame with the bits that the span makes zero, and the rest from `bits`."""
    free = 36 - 9 * (3 - level)
    parts = [z3.Extract(63, 48, bits), z3.Extract(35, 36 - free, frame)]
    parts += [z3.BitVecVal(0, 36 - free)] if free < 36 else []
    return z3.Concat(*parts, z3.Extract(11, 2, bits), z3.BitVecVal(3 if level == 3 else 1, 2))


def slot_term(address: Term, level: int) -> Term:
    """The slot that an address selects at a level."""
    low = 12 + 9 * (3 - level)
    return z3.ZeroExt(55, z3.Extract(low + 8, low, address))


def attributes_of(word: Term) -> Term:
    """A leaf without frame, valid and page bits."""
    return z3.Concat(z3.Extract(63, 48, word), z3.Extract(11, 2, word))


class Tree(Cells):
    """The memory of the tables of one space, and of the pages that are free."""

    def __init__(self, owner: Map) -> None:
        super().__init__("word", u64)
        self.owner = owner
        self.kind = z3.Function("kind", WORD, z3.BitVecSort(2))
        self.child = z3.Function("child", WORD, z3.BitVecSort(32))
        self.frame = z3.Function("frame", WORD, z3.BitVecSort(36))
        self.bits = z3.Function("bits", WORD, WORD)
        self.answers: dict[Any, Any] = {}

    def page_below(self, at: Term) -> Term:
        """The page that a word of kind TABLE leads to."""
        return z3.ZeroExt(32, self.child(at))

    def first(self, at: Term) -> Term:
        """Content when the theorem began, by kind."""
        at = current().normal(at)
        if at in self.answers:
            return self.answers[at]
        level = self.owner.level(z3.LShR(at, 9))
        leaf = leaf_word(3, self.frame(at), self.bits(at))
        for number in (2, 1):
            leaf = z3.If(level == number, leaf_word(number, self.frame(at), self.bits(at)), leaf)
        return self._by_kind(at, leaf)

    def _by_kind(self, at: Term, leaf: Term) -> Term:
        return z3.If(self.kind(at) == TABLE, self.owner.entry(self.page_below(at)), z3.If(self.kind(at) == LEAF, leaf, z3.BitVecVal(0, 64)))

    def at_level(self, at: Term, level: int, now: bool) -> Term:
        """Content of a word in a table of that level, now or when the theorem began."""
        value = self.answers[at] if at in self.answers else self._by_kind(at, leaf_word(level, self.frame(at), self.bits(at)))
        for write in self.writes if now else []:
            value = z3.If(write.where(at), write.what(at), value)
        return z3.simplify(value)

    def load(self, at: Term) -> Any:
        """The word, on a path for each kind that it can be of."""
        at = current().normal(at)
        for write in reversed(self.writes):
            if decide(write.where(at)):
                return integer(z3.simplify(write.what(at)))
        if at not in self.answers:
            self.answers[at] = self._untouched(at)
        return integer(self.answers[at])

    def store(self, at: Term, value: Any, release: bool = False) -> None:
        """Change a word; what stood there is noted as this path knows it."""
        stored = term(value)
        events().append(Stored(at, term(self.load(at)), stored, release))
        self.writes.append(Write(lambda asked: asked == at, lambda asked: stored))

    def _untouched(self, at: Term) -> Term:
        owner = self.owner
        page = z3.simplify(z3.LShR(at, 9))
        if decide(owner.is_free(page)):
            current().assume(self.kind(at) == ZERO)
            return z3.BitVecVal(0, 64)
        if decide(z3.Not(owner.mine(page))):
            raise ProverError("a table of another space was read")
        current().assume(owner.facts(at))
        level = current().choose(owner.level(page))
        if decide(self.kind(at) == ZERO):
            return z3.BitVecVal(0, 64)
        if decide(self.kind(at) == LEAF):
            return z3.simplify(leaf_word(level, self.frame(at), self.bits(at)))
        return z3.simplify(owner.entry(self.page_below(at)))


class Supply:
    """The pool that tables come from, by the contracts that the theorems of `pages` prove: which pages are in use, how many are left."""

    def __init__(self, given: Given, name: PoolName) -> None:
        self.given = given
        self.name = name
        self.first, self.count = (z3.ZeroExt(32, given.word(f"pool {what}", 32)) for what in ("first", "count"))
        self.left: Term = z3.ZeroExt(32, given.word("pages left", 32))
        self.reserved: Term = z3.ZeroExt(32, given.word("pages reserved", 32))
        self.left_before, self.reserved_before = self.left, self.reserved
        self.used_first: Any = z3.Function("in use", WORD, z3.BoolSort())
        self.taken: list[Term] = []
        self.freed: list[Term] = []
        for function, stand_in in (
            (pages.reserve, self._reserve), (pages.unreserve, self._unreserve), (pages.take_reserved, self._take), (pages.free, self._free)
        ):
            given.replace(function, stand_in)

    def holds(self, page: Term) -> Formula:
        """Whether a page belongs to the pool."""
        return z3.ULT(page - self.first, self.count)

    def used(self, page: Term) -> Formula:
        """Whether it is in use now."""
        is_used = z3.Or(self.used_first(page), *(page == taken for taken in self.taken))
        return z3.And(is_used, *(page != freed for freed in self.freed))

    def _of(self, name: PoolName) -> None:
        self.given.require(name is self.name, "tables come from the pool of the space")

    def _reserve(self, name: PoolName, count: u64) -> Err | None:
        self._of(name)
        if decide(z3.UGT(term(count), self.left)):
            return Err.NO_MEMORY
        self.left, self.reserved = self.left - term(count), self.reserved + term(count)
        return None

    def _unreserve(self, name: PoolName, count: u64) -> None:
        self._of(name)
        self.given.require(z3.ULE(term(count), self.reserved - self.reserved_before), "no more is given up than was reserved")
        self.left, self.reserved = self.left + term(count), self.reserved - term(count)

    def _take(self, name: PoolName) -> u64:
        self._of(name)
        self.given.require(z3.UGT(self.reserved, self.reserved_before), "what is taken was reserved")
        page = z3.ZeroExt(32, current().fresh_word("page taken", 32))
        current().assume(z3.And(self.holds(page), z3.Not(self.used(page))))
        self.taken.append(page)
        self.reserved = self.reserved - 1
        made: u64 = integer(page)
        return made

    def _free(self, name: PoolName, page: u64) -> Err | None:
        self._of(name)
        if not decide(z3.And(self.holds(term(page)), self.used(term(page)))):
            return Err.STATE
        called("free page", term(page))
        self.freed.append(term(page))
        self.left = self.left + 1
        return None


class Map:
    """An arbitrary sound space in an arbitrary sound region, in place of what the memory room keeps.

    Walks start at level 0 (EL2's own map, 48 bits) or at level 1 in up to sixteen tables in a row (stage 2, 39 to 43 bits)."""

    def __init__(self, given: Given, pools: tuple[PoolName, ...] = (PoolName.EL2, PoolName.HOST)) -> None:
        self.given = given
        self.length = given.word("pages", 32)
        self.supply = Supply(given, given.one_of("pool", pools))
        self.mine_first: Any = z3.Function("mine", WORD, z3.BoolSort())
        self.level: Any = z3.Function("level", WORD, z3.BitVecSort(3))
        self.parent: Any = z3.Function("parent", WORD, WORD)
        self.some_slot: Any = z3.Function("some slot", WORD, z3.BitVecSort(9))
        self.frame_of: Any = z3.Function("frame of page", WORD, z3.BitVecSort(36))
        self.pages: dict[Any, Term] = {}
        self.alone: list[tuple[Term, Term]] = []
        self.others: list[tuple[Term, Term]] = []
        self.cells = self.tree = Tree(self)
        self.space = self._space()
        given.replace(pages.TABLES, Tables(self.tree, integer(z3.ZeroExt(32, self.length))))
        given.replace(pages.address_of_page, self._address_of_page)
        given.replace(pages.page_of_address, self._page_of_address)
        given.replace(tables._alone, self._alone)
        given.replace(pagetable.SLOTS, constant(pagetable.SLOTS))

    def _space(self) -> Space:
        given, made = self.given, Space()
        el2 = self.supply.name is PoolName.EL2
        self.start = 0 if el2 else 1
        self.root = given.word("root", 32)
        self.bits = z3.BitVecVal(48, 64) if el2 else z3.ZeroExt(56, given.word("input bits", 8))
        given.assume(z3.ULE(self.bits, 43 if self.start else 48), z3.UGE(self.bits, 39 if self.start else 44))
        self.roots = z3.BitVecVal(1, 64) << (self.bits - 39) if self.start else z3.BitVecVal(1, 64)
        made.regime, made.pool, made.vmid = Regime.EL2 if el2 else Regime.STAGE2, self.supply.name, given.u16("vmid")
        made.bits, made.start, made.root, made.roots = integer(self.bits), u64(self.start), integer(z3.ZeroExt(32, self.root)), integer(self.roots)
        root, pages_there, supply = z3.ZeroExt(32, self.root), z3.ZeroExt(32, self.length), self.supply
        given.assume(z3.ULE(root + self.roots, pages_there), z3.ULE(supply.first + supply.count, pages_there))
        given.assume(z3.Or(z3.ULE(root + self.roots, supply.first), z3.ULE(supply.first + supply.count, root)))
        return made

    # --- what the invariants say -----------------------------------------------------------------------------------------------

    def is_root(self, page: Term) -> Formula:
        """Whether a page is a start table."""
        return z3.ULT(page - z3.ZeroExt(32, self.root), self.roots)

    def is_free(self, page: Term) -> Formula:
        """Whether it was a free page of the pool."""
        return z3.And(self.supply.holds(page), z3.Not(self.supply.used_first(page)))

    def mine(self, page: Term) -> Formula:
        """Whether it was a table of the space."""
        return z3.Or(self.is_root(page), z3.And(self.mine_first(page), self.supply.holds(page), self.supply.used_first(page)))

    def entry(self, page: Term) -> Term:
        """The word that leads to a page."""
        page = current().normal(page)
        frame = self.frame_of(page)
        self.pages[current().normal(frame)] = page
        return z3.Concat(z3.BitVecVal(0, 16), frame, z3.BitVecVal(3, 12))

    def facts(self, at: Term) -> Formula:
        """The invariants of one word of table memory, as it was."""
        tree, page, below = self.tree, z3.LShR(at, 9), self.tree.page_below(at)
        leads = z3.And(
            z3.ULT(self.level(page), 3), self.level(below) == self.level(page) + 1,
            self.mine(below), z3.Not(self.is_root(below)), self.parent(below) == at,
        )
        mine = z3.And(
            z3.ULE(self.level(page), 3), z3.Implies(self.is_root(page), self.level(page) == self.start), z3.UGE(self.level(page), self.start),
            z3.ULE(tree.kind(at), TABLE), z3.Implies(tree.kind(at) == TABLE, leads), z3.Implies(tree.kind(at) == LEAF, self.level(page) != 0),
        )
        lonely = [z3.Implies(z3.And(page == table, at != cell(table, slot)), tree.kind(at) == ZERO) for table, slot in self.alone]
        return z3.And(z3.Implies(self.mine(page), mine), z3.Implies(self.is_free(page), tree.kind(at) == ZERO), *lonely)

    def input(self, name: str, level: int = 3) -> u64:
        """An arbitrary input address of the space, aligned to what a slot of `level` spans."""
        low = 12 + 9 * (3 - level)
        address = z3.ZeroExt(16, z3.Concat(self.given.word(name, 48 - low), z3.BitVecVal(0, low))) if low else self.given.word(name, 64)
        self.given.assume(z3.ULT(address, z3.BitVecVal(1, 64) << self.bits))
        made: u64 = integer(address)
        return made

    def beside(self, address: u64, level: int) -> tuple[bool, Term]:
        """An arbitrary input address, by the level at which its way parts from that of `address`; first whether it lies in the same slot."""
        given, whole = self.given, term(address)
        parts = given.one_of("parts at level", (*range(self.start, level + 1), level + 1))
        low = 12 + 9 * (3 - min(parts, level))
        high = z3.Extract(63, low + 9 if parts <= level else low, whole)
        pieces = [high]
        if parts <= level:
            if parts == self.start:
                pieces = [z3.BitVecVal(0, 16), given.word("other start", 48 - low)]
                given.assume(pieces[1] != z3.Extract(47, low, whole))
            else:
                pieces.append(given.word("other slot", 9))
                given.assume(pieces[1] != z3.Extract(low + 8, low, whole))
        asked = z3.Concat(*pieces, given.word("below", low))
        given.assume(z3.ULT(asked, z3.BitVecVal(1, 64) << self.bits))
        return parts > level, asked

    # --- stand-ins ---------------------------------------------------------------------------------------------------------------

    def _address_of_page(self, page: u64) -> Pa:
        """As theorem pages.addresses says, with an unknown one-to-one function in place of the sum."""
        self.given.require(z3.ULT(term(page), z3.ZeroExt(32, self.length)), "the address of a page of the region is asked for")
        word = self.entry(term(page))
        return Pa(integer(z3.Concat(z3.Extract(63, 12, word), z3.BitVecVal(0, 12))))

    def _page_of_address(self, address: Pa) -> u64:
        """Its inverse."""
        frame = current().normal(z3.Extract(47, 12, term(address)))
        if frame not in self.pages:
            raise ProverError("the page of an address that is no table's was asked for")
        made: u64 = integer(self.pages[frame])
        return made

    def _alone(self, table: u64, slot: u64) -> bool:
        """The contract of theorem tables.alone: every other word of the table is zero, or some other is not."""
        if self.tree.writes:
            raise ProverError("the contract of _alone is about tables that this operation has not changed")
        page, at = term(table), cell(term(table), term(slot))
        if current().branch(current().fresh_word("alone", 1) == 1):
            self.alone.append((page, term(slot)))
            return True
        other = cell(page, z3.ZeroExt(55, current().fresh_word("other slot", 9)))
        current().assume(z3.And(self.facts(other), self.tree.kind(other) != ZERO, other != at))
        self.others.append((page, other))
        return False

    # --- translation -------------------------------------------------------------------------------------------------------------

    def _start_page(self, address: Term) -> Term:
        return z3.simplify(z3.ZeroExt(32, self.root) + z3.LShR(address, 39)) if self.start else z3.ZeroExt(32, self.root)

    def translation(self, address: Term, now: bool) -> Translation:
        """What the processor's walk finds for `address`, in the tables as they are or as they were. The invariants of the words that it meets
        are assumed of them as they were."""
        return self._walk(address, self._start_page(address), self.start, now)

    def _walk(self, address: Term, page: Term, level: int, now: bool) -> Translation:
        at = current().normal(cell(page, slot_term(address, level)))
        current().assume(self.facts(at))
        word = self.tree.at_level(at, level, now)
        low = 12 + 9 * (3 - level)
        valid = z3.Extract(0, 0, word) == 1
        output = z3.Concat(z3.Extract(47, low, word), z3.Extract(low - 1, 0, address))
        here = Translation(valid, output, attributes_of(word))
        if level == 3:
            return here
        below = self._walk(address, self._below(at, now), level + 1, now)
        leads = z3.And(valid, z3.Extract(1, 1, word) == 1)
        return Translation(
            z3.If(leads, below.valid, valid), z3.If(leads, below.output, output), z3.If(leads, below.attributes, here.attributes)
        )

    def requires_same(self, asked: Term, same: Any = None) -> None:
        """`asked` leads where it did. Along its way each word is the same as before (in the sense of `same`), or the way ends there, before and
        after. The words that its way shares with the operation's own are known, the others are compared where the way gets there."""
        page, reached = self._start_page(asked), z3.BoolVal(True)
        for level in range(self.start, 4):
            at = current().normal(cell(page, slot_term(asked, level)))
            current().assume(self.facts(at))
            old, new = self.tree.at_level(at, level, False), self.tree.at_level(at, level, True)
            if not old.eq(new) and at in self.tree.answers:
                before, after = (self._walk(asked, page, level, now) for now in (False, True))
                self.given.require(same(before, after) if same else before == after, "an address beside leads where it did")
                return
            self.given.require(z3.Implies(reached, old == new), "words beside the operation's own stay as they are")
            known = self.page_in(old)
            if known is None and at in self.tree.answers:
                return
            reached = reached if known is not None else z3.And(reached, self.tree.kind(at) == TABLE)
            page = known if known is not None else self.tree.page_below(at)

    def _below(self, at: Term, now: bool) -> Term:
        below = self.tree.page_below(at)
        for where, page in self.links() if now else []:
            below = z3.If(at == where, page, below)
        return below

    def links(self) -> list[tuple[Term, Term]]:
        """The words that lead to a table since the operation stored them, with its page."""
        return [(store.cell, page) for store in self.stores() if (page := self.page_in(store.new)) is not None]

    def cuts(self) -> list[tuple[Term, Term]]:
        """The words that led to a table before the operation overwrote them, with its page."""
        return [(store.cell, page) for store in self.stores() if (page := self.page_in(store.old)) is not None]

    def stores(self) -> list[Stored]:
        """The stores of the operation, in order."""
        return [event for event in current().events if isinstance(event, Stored)]

    def page_in(self, word: Term) -> Term | None:
        """The page that a word leads to, if it has the form of one that leads to a table."""
        is_table = z3.is_true(current().normal(z3.Extract(1, 0, word) == 3))
        return self.pages.get(current().normal(z3.Extract(47, 12, word))) if is_table else None

    # --- what must be true afterwards ----------------------------------------------------------------------------------------------

    def levels(self) -> list[tuple[Term, int]]:
        """The tables that the operation linked in, with their levels."""
        normal = current().normal
        links = [(normal(z3.LShR(where, 9)), page) for where, page in self.links()]
        known: dict[Any, int] = {}

        def level(page: Term) -> int:
            if page not in known:
                above = [above for above, linked in links if normal(linked).eq(page)]
                known[page] = 1 + level(above[0]) if above else current().choose(self.level(page))
            return known[page]

        return [(page, level(normal(page))) for _, page in links]

    def requires_sound(self) -> None:
        """An arbitrary word of table memory satisfies the invariants, those of other spaces are as they were, nothing stays reserved."""
        given, tree, supply = self.given, self.tree, self.supply
        written = [*{store.cell: None for store in self.stores()}, None]
        at = given.one_of("any word is", written)
        if at is None:
            at = given.word("any word", 64)
            given.assume(*(z3.Not(write.where(at)) for write in tree.writes))
            word, below = tree.first(at), tree.page_below(at)
        else:
            word, below = tree(at), self._below(at, True)
        page = z3.simplify(z3.LShR(at, 9))
        given.assume(z3.ULT(page, z3.ZeroExt(32, self.length)), self.facts(at))
        linked, gone = self.levels(), [gone for _, gone in self.cuts()]

        def mine(asked: Term) -> Formula:
            stays = z3.And(self.mine(asked), *(asked != cut for cut in gone))
            return z3.Or(stays, *(asked == new for new, _ in linked))

        def level(asked: Term) -> Term:
            value = self.level(asked)
            for new, number in linked:
                value = z3.If(asked == new, z3.BitVecVal(number, 3), value)
            return value

        def parent(asked: Term) -> Term:
            value = self.parent(asked)
            for where, new in self.links():
                value = z3.If(asked == new, where, value)
            return value

        at_level, bit = level(page), z3.Extract(1, 1, word)
        aligned = z3.And(z3.Implies(at_level == 2, z3.Extract(20, 12, word) == 0), z3.Implies(at_level == 1, z3.Extract(29, 12, word) == 0))
        is_leaf = z3.And(z3.Extract(0, 0, word) == 1, at_level != 0, (bit == 1) == (at_level == 3), aligned)
        leads = z3.And(
            z3.ULT(at_level, 3), word == self.entry(below), supply.holds(below), supply.used(below), mine(below), z3.Not(self.is_root(below)),
            level(below) == at_level + 1, parent(below) == at,
        )
        sound = z3.Or(word == 0, is_leaf, leads)
        given.require(z3.Implies(mine(page), sound), "every word of a table is zero, an aligned leaf, or leads to a table of its own")
        in_use = z3.Or(self.is_root(page), z3.And(supply.holds(page), supply.used(page)))
        given.require(z3.Implies(mine(page), in_use), "every table is in use")
        free = z3.And(supply.holds(page), z3.Not(supply.used(page)))
        given.require(z3.Implies(free, word == 0), "a page outside all tables is all zero")
        others = z3.Not(z3.Or(self.mine(page), self.is_free(page)))
        given.require(z3.Implies(others, word == tree.first(at)), "other spaces are as they were")
        given.require(supply.reserved == supply.reserved_before, "nothing stays reserved")
        page = given.word("any table", 64)
        self._requires_entries(page, mine)
        self._requires_reached(page, mine, parent)

    def _requires_reached(self, page: Term, mine: Any, parent: Any) -> None:
        """Every table below the start tables is led to by its parent's word; what was one and is none any more is free."""
        given, tree, below = self.given, self.tree, z3.Not(self.is_root(page))
        before, now = z3.simplify(self.parent(page)), z3.simplify(parent(page))
        led = z3.And(self.mine(z3.LShR(before, 9)), tree.kind(before) == TABLE, tree.page_below(before) == page)
        given.assume(self.facts(before), self.facts(now), z3.Implies(z3.And(self.mine(page), below), led))
        leads = z3.And(mine(z3.LShR(now, 9)), tree(now) == self.entry(page))
        given.require(z3.Implies(z3.And(mine(page), below), leads), "every table can be reached")
        lost = z3.And(self.mine(page), z3.Not(mine(page)))
        given.require(z3.Implies(lost, z3.Not(self.supply.used(page))), "no table is lost")

    def _requires_entries(self, page: Term, mine: Any) -> None:
        """No table below the start tables is empty: each had some slot that was not zero, and has one."""
        given, tree = self.given, self.tree
        some = z3.simplify(cell(page, z3.ZeroExt(55, self.some_slot(page))))
        given.assume(self.facts(some), z3.Implies(z3.And(self.mine(page), z3.Not(self.is_root(page))), tree.kind(some) != ZERO))
        candidates = [some, *(other for _, other in self.others), *(store.cell for store in self.stores())]
        not_empty = z3.Or([z3.And(z3.LShR(at, 9) == page, tree(at) != 0) for at in candidates])
        given.require(z3.Implies(z3.And(mine(page), z3.Not(self.is_root(page))), not_empty), "no table below the start tables is empty")

    def requires_order(self, address: Term, whole: bool = False) -> None:
        """Stores, barriers and TLB operations stand in the order that the Arm manual demands; `whole`: for all addresses of the space."""
        stage2 = self.supply.name is not PoolName.EL2
        table = z3.simplify(self.entry(z3.ZeroExt(32, self.root)))
        vttbr = z3.Concat(term(self.space.vmid), z3.Extract(47, 12, table), z3.BitVecVal(0, 12))
        apart = [current().normal(page) for page in (*self.supply.taken, *(gone for _, gone in self.cuts()))]

        def detached(at: Term) -> bool:
            return any(current().normal(z3.LShR(at, 9)).eq(page) for page in apart)

        regime = ("all of stage 2" if whole else "stage 2") if stage2 else "EL2"
        Order(regime, address, "VTTBR_EL2", vttbr, detached, self.given.require).check()

    def requires_unchanged(self) -> None:
        """With Err, nothing happened: no word was stored, nothing is reserved, taken or freed."""
        given, supply = self.given, self.supply
        given.require(not self.tree.writes and not supply.taken and not supply.freed, "Err changes no table")
        given.require(z3.And(supply.reserved == supply.reserved_before, supply.left == supply.left_before), "Err reserves nothing")
