# SPDX-License-Identifier: Apache-2.0
"""Shadows: what they show is never more than the host's leaf and the frames' owners allow, and what is dropped is forgotten by every TLB.

A shadow's tables are an arbitrary sound set (`spaces`); of frames only is known whether they are RAM, and the host's. What an operation does is said
of the processor's walk for one arbitrary address, before and after. A leaf's software bits name the level of the host's leaf that it came from; what
came from one block of the host's of 2 MiB stands in one table of pages, and a leaf that came from 1 GiB makes `huge` true: both are
invariants that `fill` keeps.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import SLOTS, Stage2Leaf, Vttbr
from delphyne.el2.memory import blocks, flush, frames, graveyard, pages, shadow, stage2, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.frames import FrameEntry
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.shadow import HostLeaf
from delphyne.el2.memory.tables import Space, Walk
from delphyne.lang import Ipa, Pa, u8, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Looked, Tables, Write, cell
from delphyne.prove.path import Formula, Term
from delphyne.prove.spaces import LEAF, TABLE, Map, Translation, attributes_of, slot_term
from delphyne.prove.symbolic import decide, integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import PERMISSIONS, Called, Stored, called, events

POOLS = ("pages.reserve", "pages.unreserve", "pages.take_reserved", "pages.free", "pages.addresses")
LOCKED = "frames.LOCK and GUESTS_LOCK are held: nobody else changes shadows or frames' owners meanwhile"
STARTS = "shadow: walks that start at level 1, in up to sixteen tables in a row (39 to 43 bits)"
about = partial(theorem, trusts=(LOCKED,))
walking = partial(about, assumes=(*POOLS, "tables.walk"), bounds=(STARTS,))
FRAME = z3.BitVecSort(36)
HOST_STATE = 1
ADDRESS = z3.BitVecVal(0, 16)


def came_from(attributes: Term) -> Term:
    """The software bits, 58:55, of `attributes_of` a word."""
    return z3.Extract(20, 17, attributes)


def shown(host: HostLeaf) -> Term:
    """`attributes_of` the one leaf that may stand for the host's: its memory type, shareability and S2AP; XN unless it lets both EL1 and EL0 execute;
    accessed; its level in the software bits; nothing else."""
    raw = term(host.leaf.raw)
    never = z3.If(z3.Extract(54, 53, raw) == 0, z3.BitVecVal(0, 1), z3.BitVecVal(1, 1))
    return z3.Concat(z3.BitVecVal(0, 5), z3.BitVecVal(int(host.level), 4), never, z3.BitVecVal(0, 6), z3.BitVecVal(0b01, 2), z3.Extract(9, 2, raw))


class Shadows(Map):
    """The tables of an arbitrary shadow."""

    def __init__(self, given: Given) -> None:
        super().__init__(given, (PoolName.GUESTS,))

    def facts(self, at: Term) -> Formula:
        """A shadow has no leaf above level 2, and each came from a leaf of the host's at its own level or above."""
        level, origin = self.level(z3.LShR(at, 9)), z3.Extract(58, 55, self.tree.bits(at))
        own = z3.And(z3.UGE(level, 2), z3.UGE(origin, 1), z3.ULE(origin, z3.ZeroExt(1, level)))
        return z3.And(super().facts(at), z3.Implies(z3.And(self.mine(z3.LShR(at, 9)), self.tree.kind(at) == LEAF), own))


class Guest:
    """An arbitrary shadow, and arbitrary RAM, of which any frames are the host's. What is flushed and counted is noted as it happens."""

    def __init__(self, given: Given) -> None:
        self.given, self.tree = given, Shadows(given)
        self.top, self.epoch = given.u64("top"), given.u64("epoch")
        self.shadow: Any = SimpleNamespace(space=self.tree.space, top=self.top, epoch=self.epoch, huge=given.boolean("huge"))
        given.assume(z3.ULE(term(self.top), self.tree.roots << 9))
        self.ram = z3.Function("RAM", FRAME, z3.BoolSort())
        self.hosts = z3.Function("the host's", FRAME, z3.BoolSort())
        self.whole: list[Term] = []
        self.counted: list[tuple[Term, Term]] = []
        self.uncounted: list[tuple[Term, int]] = []
        for function, stand_in in (
            (frames.index_of, self._index_of), (frames.is_hosts, self._is_hosts), (frames.is_hosts_block, self._is_hosts_block),
            (blocks.count, lambda first, last: self.counted.append((term(first), term(last)))),
            (graveyard.uncount_leaf, lambda word, level: self.uncounted.append((term(word.raw), int(level)))),
            (flush.stage2_address, self._flush_address), (flush.stage2_all, self._flush_all),
        ):
            given.replace(function, stand_in)

    def page_of(self, pa: Pa) -> Term:
        """The number of the frame that holds an address."""
        return self.given.path.normal(z3.Extract(47, 12, term(pa)))

    def _index_of(self, pa: Pa) -> u64 | None:
        page = self.page_of(pa)
        if not decide(z3.And(z3.ULT(term(pa), 1 << 48), self.ram(page))):
            return None
        index: u64 = integer(z3.ZeroExt(28, page))
        return index

    def _is_hosts(self, pa: Pa) -> bool:
        return decide(z3.And(self.ram(self.page_of(pa)), self.hosts(self.page_of(pa))))

    def _is_hosts_block(self, pa: Pa) -> bool:
        whole = self.given.boolean("a block is the host's")
        if whole:
            self.whole.append(self.page_of(pa))
            self.given.assume(self.ram(self.page_of(pa)))
        return whole

    def is_owned(self, page: Term) -> Formula:
        """Whether a frame is RAM and the host's, by all that the operation asked about owners."""
        for first in self.whole:
            inside = z3.Extract(35, 9, page) == z3.Extract(35, 9, first)
            self.given.assume(z3.Implies(inside, z3.And(self.ram(page), self.hosts(page))))
        return z3.And(self.ram(page), self.hosts(page))

    def _vttbr(self, given_tables: Vttbr) -> None:
        root = z3.Extract(47, 0, self.tree.entry(z3.ZeroExt(32, self.tree.root)) & ~z3.BitVecVal(3, 64))
        self.given.require(term(given_tables.raw) == z3.Concat(term(self.tree.space.vmid), root), "flushed under the shadow's own VMID")

    def _flush_address(self, given_tables: Vttbr, ipa: Ipa) -> None:
        self._vttbr(given_tables)
        called("forget address", term(ipa))

    def _flush_all(self, given_tables: Vttbr) -> None:
        self._vttbr(given_tables)
        called("forget all")

    def flushes(self) -> list[Called]:
        """What was flushed since the last store, in order."""
        last = max((number for number, event in enumerate(events()) if isinstance(event, Stored) or event.name == "taken away"), default=-1)
        return [event for event in events()[last + 1 :] if isinstance(event, Called) and event.name.startswith("forget")]

    def host_leaf(self) -> HostLeaf:
        """An arbitrary leaf of the host's, aligned as a leaf is."""
        level = self.given.one_of("level of the host's leaf", (1, 2, 3))
        low = 12 + 9 * (3 - level)
        output = z3.Concat(ADDRESS, self.given.word("output", 48 - low), z3.BitVecVal(0, low))
        return HostLeaf(u64(level), integer(output), Stage2Leaf.of(self.given.u64("leaf")))

    def where_it_leads(self, host: HostLeaf, ipa: Term) -> Term:
        """The 48 bits of the address that the host's leaf gives to `ipa`."""
        low = 12 + 9 * (3 - int(host.level))
        return z3.Concat(z3.Extract(47, low, term(host.output)), z3.Extract(low - 1, 0, ipa))

    def requires_top(self, ipa: u64) -> None:
        """The start slot of an address is below `top`, and no more than that."""
        start = z3.LShR(term(ipa), 30) + 1
        self.given.require(term(self.shadow.top) == z3.If(z3.UGT(start, term(self.top)), start, term(self.top)), "its start slot is below `top`")

    def take(self, where: Any) -> None:
        """Contract of what takes leaves away: the words for which `where` holds are zero."""
        called("taken away")
        self.tree.tree.writes.append(Write(where, lambda at: z3.BitVecVal(0, 64)))


@theorem(shadow.attributes, shadow.may_execute)
def attributes(given: Given) -> None:
    """What a leaf has that stands for one of the host's: memory type, shareability, reading and writing as that; executing if both EL1 and EL0 may.
    """
    host = HostLeaf(u64(given.one_of("level of the host's leaf", (1, 2, 3))), u64(0), Stage2Leaf.of(given.u64("leaf")))
    word = term(shadow.attributes(host))
    given.require(attributes_of(word) == shown(host), "as that, and no more")
    given.require(z3.And(z3.Extract(1, 0, word) == 0, z3.Extract(47, 12, word) == 0), "valid, page and frame are left free")


def _attributes(host: HostLeaf) -> u64:
    """Theorem shadow.attributes."""
    high, low = z3.Extract(25, 10, shown(host)), z3.Extract(9, 0, shown(host))
    made: u64 = integer(z3.Concat(high, z3.BitVecVal(0, 36), low, z3.BitVecVal(0, 2)))
    return made


@walking(shadow.fill, shadow._level_for, shadow._is_showable, shadow._count, shadow.may_show,
         outcomes=("filled", "filled anew", "there already", "not the host's", "outside", "no table", "no room"),
         assumes=(*POOLS, "tables.walk", "tables.map_leaf", "shadow.attributes", "shadow.drop", "frames.is_hosts", "frames.is_hosts_block",
                  "layout.index_of"),
         bounds=(STARTS, "shadow.fill: a leaf of the host's is aligned to what it spans, below 1 << 48"))
def fill(given: Given) -> None:
    """The page of the address leads where the host's leaf says, with its rights and kind and no more, and only to memory that is the host's or no
    RAM; so does what is around it in one block. Where something else led from there it was dropped before. With Err nothing is shown."""
    guest = Guest(given)
    tree, ipa = guest.tree, given.u64("ipa")
    inside = given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits))
    host = guest.host_leaf()
    dropped: list[str] = []
    mapped: list[tuple[Term, Term, int, Term]] = []

    def drop(which: Any, at: Ipa) -> Err | None:
        """Theorem shadow.drop."""
        given.require(which is guest.shadow and term(at).eq(term(ipa)), "what leads from the address itself is dropped")
        dropped.append(given.one_of("what goes", ("one", "everything", "the graveyard is full")))
        if dropped == ["the graveyard is full"]:
            return Err.BUSY
        found = tables.walk(tree.space, at.raw)
        place = given.path.normal(cell(term(found.table), term(found.slot)))
        guest.take(lambda word: z3.Or(word == place, z3.BoolVal(dropped == ["everything"])))
        return None

    def map_found(space: Space, found: Walk, address: u64, output: u64, level: u64, attributes: u64) -> Err | None:
        """Theorem tables.map_leaf, whose demands are that found is what the walk finds, and what is aligned."""
        given.require(space is tree.space and not mapped, "one leaf, in the shadow's tables")
        now = tables.walk(space, ipa)
        given.require(z3.And(term(found.table) == term(now.table), term(found.slot) == term(now.slot)), "where the walk ends now")
        given.require(int(found.level) == int(now.level) <= int(level) and not given.holds(term(found.descriptor.raw) != 0), "where nothing is")
        low = 12 + 9 * (3 - int(level))
        given.require(term(address) == term(ipa) & ~z3.BitVecVal((1 << low) - 1, 64), "at the slot of the address")
        given.require(z3.And(z3.Extract(low - 1, 0, term(output)) == 0, z3.ULT(term(output), 1 << 48)), "an output that a leaf can have")
        if int(found.level) < int(level) and given.boolean("a table is lacking"):
            return Err.NO_MEMORY
        mapped.append((term(address), term(output), int(level), attributes_of(term(attributes))))
        return None

    given.replace(shadow.drop, drop)
    given.replace(shadow.attributes, _attributes)
    given.replace(tables.map_found, map_found)
    result = shadow.fill(guest.shadow, Ipa(ipa), host)
    page = z3.Extract(47, 12, guest.where_it_leads(host, term(ipa)))
    if isinstance(result, Err):
        names = {Err.RANGE: "outside", Err.OWNER: "not the host's", Err.NO_MEMORY: "no table", Err.BUSY: "no room"}
        given.require(result in names, "an error that is named")
        given.outcome(names[result])
        given.require((result is Err.RANGE) == (not inside), "outside exactly where there are no addresses of the shadow's")
        given.require(not guest.counted and not mapped and guest.shadow.top is guest.top, "Err shows nothing")
        if result is Err.OWNER:
            given.require(z3.And(guest.ram(page), z3.Not(guest.hosts(page))), "refused only for RAM that is not the host's")
            given.require(not dropped, "before anything is dropped")
        return
    given.require(inside, "only addresses of the shadow's")
    if not mapped:
        given.outcome("there already")
        there = tree.translation(term(ipa), now=False)
        wanted = Translation(z3.BoolVal(True), guest.where_it_leads(host, term(ipa)), shown(host))
        given.require(there == wanted, "the leaf was there")
        tree.requires_unchanged()
        flushed = guest.flushes()
        given.require(len(flushed) == 1 and flushed[0].argument is not None, "a walker that faulted anyway is told")
        given.require(flushed[0].argument == term(ipa), "of this address")
        given.require(not dropped and not guest.counted, "what is there is counted already")
        return
    given.outcome("filled anew" if dropped else "filled")
    _, output, level, attributes = mapped[0]
    low = 12 + 9 * (3 - level)
    given.require(z3.Extract(47, low, output) == z3.Extract(47, low, guest.where_it_leads(host, term(ipa))), "where the host's leaf leads")
    given.require(attributes == shown(host), "with what it allows and no more")
    shows = z3.Concat(z3.Extract(47, low, output), given.word("below", low))
    asked = z3.Extract(47, 12, shows)
    ram = given.holds(guest.ram(asked))
    given.require(z3.Or(not ram and level == 3, guest.is_owned(asked)), "all of it the host's, or a page that is no RAM")
    given.require(len(guest.counted) == (1 if ram else 0), "a leaf to RAM is counted once")
    if ram:
        given.require(guest.counted[0][1] - guest.counted[0][0] == (511 if level == 2 else 0), "for all that it spans")
        given.require(guest.counted[0][0] == z3.LShR(output, 12), "from where it leads")
    guest.requires_top(ipa)
    given.require(guest.shadow.huge or int(host.level) > 1, "a shadow that has pieces of 1 GiB knows it")


def _sibling(guest: Guest, table: Term, origin: int) -> Any:
    """Whether a word is a leaf of that table that came from a leaf of the host's of that level, as the words were."""
    tree = guest.tree.tree
    return lambda at: z3.And(z3.LShR(at, 9) == table, tree.kind(at) == LEAF, z3.Extract(58, 55, tree.bits(at)) == origin)


class Taking:
    """Contracts of what `clear` and its callers call to take away more than one leaf."""

    def __init__(self, guest: Guest) -> None:
        self.guest, self.given = guest, guest.given
        self.count: Term | None = None
        self.everything = self.refused = False
        self.given.replace(shadow._clear_siblings, self._siblings)
        self.given.replace(shadow.drop_all, self._all)

    def _siblings(self, table: u64, level: u64, origin: u8) -> u64:
        """Theorem shadow.clear_siblings. Where it takes one word, that is any word that matches."""
        given = self.given
        given.require(int(level) == 3, "a table of pages")
        self.match = _sibling(self.guest, term(table), int(origin))
        self.count = given.word("leaves taken away", 64)
        self.only = given.word("one that is taken away", 64)
        given.assume(z3.ULE(self.count, 512), self.match(self.only) == (self.count != 0))
        self.guest.take(self.match)
        made: u64 = integer(self.count)
        return made

    def says(self, at: Term) -> None:
        """What the count says of a word."""
        if self.count is not None:
            self.given.assume(z3.Implies(self.match(at), z3.And(self.count != 0, z3.Or(self.count != 1, at == self.only))))

    def _all(self, which: Any) -> Err | None:
        """Theorem shadow.drop_all."""
        self.given.require(which is self.guest.shadow, "this guest's")
        self.refused = self.given.boolean("the graveyard is full")
        cut = z3.Function("cut", z3.BitVecSort(64), z3.BoolSort())
        self.everything = not self.refused
        self.guest.take(cut if self.refused else lambda at: z3.BoolVal(True))
        called("forget all")
        return Err.BUSY if self.refused else None


@walking(shadow.drop, shadow.drop_found, shadow.clear_found, shadow.flush_after, shadow._clear_slot,
         outcomes=("outside", "nothing", "one", "pieces", "everything", "refused"),
         assumes=(*POOLS, "tables.walk", "tables.vttbr_of", "stages.flush_stage2", "stages.flush_all", "shadow.clear_siblings", "shadow.drop_all"))
def drop(given: Given) -> None:
    """The address leads nowhere, nor does what came from the same leaf of the host's; other addresses lead where they did, unless everything went.
    What went is forgotten by every TLB, and counted no more."""
    guest = Guest(given)
    tree, ipa = guest.tree, given.u64("ipa")
    taking = Taking(guest)
    inside = given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits))
    found = tables.walk(tree.space, ipa) if inside else None
    result = shadow.drop(guest.shadow, Ipa(ipa))
    given.require(isinstance(result, Err) == taking.refused, "refused where the graveyard is full")
    if taking.refused:
        given.outcome("refused")
        return
    if found is None:
        given.outcome("outside")
        tree.requires_unchanged()
        given.require(not guest.flushes(), "nothing to forget")
        return
    given.require(z3.Not(tree.translation(term(ipa), now=True).valid), "the address leads nowhere")
    before = tree.translation(term(ipa), now=False)
    if taking.everything:
        given.outcome("everything")
        given.require(z3.And(before.valid, came_from(before.attributes) == 1), "only because of a leaf of 1 GiB")
        given.require(len(guest.flushes()) == 1, "and forgotten with it, once")
        return
    if taking.count is None and not tree.stores():
        given.outcome("nothing")
        given.require(z3.Not(before.valid), "nothing led from there")
        tree.requires_unchanged()
        given.require(not guest.flushes(), "nothing to forget")
        return
    given.outcome("one" if taking.count is None else "pieces")
    stores = tree.stores()
    place = stores[0].cell if stores else taking.only
    at_own = given.path.normal(cell(term(found.table), term(found.slot)))
    taking.says(at_own)
    level = int(found.level)
    given.require(z3.And(before.valid, came_from(before.attributes) >= 2), "something led from there, and not by 1 GiB")
    if stores:
        given.require(len(stores) == 1, "one word is taken away")
        given.require(stores[0].cell == at_own, "its own slot")
        given.require(came_from(before.attributes) == level, "which is all that the host's leaf was")
        given.require([depth for _, depth in guest.uncounted] == [level], "counted no more")
        given.require(guest.uncounted[0][0] == stores[0].old, "by what it was")
        given.require(guest.flushes()[0].argument is not None, "and nothing else is forgotten")
    beside, asked = tree.beside(ipa, 2)
    flushed = guest.flushes()
    given.require(len(flushed) == 1, "what went is forgotten, once")
    was, now = tree.translation(asked, now=False), tree.translation(asked, now=True)
    own = given.path.normal(_word_of(tree, asked))
    taking.says(own)
    given.require(z3.Implies(now.valid, now == was), "what stays leads where it did")
    lost = z3.And(was.valid, z3.Not(now.valid))
    of_the_block = z3.And(beside, was.valid, came_from(was.attributes) == came_from(before.attributes))
    given.require(z3.Implies(lost, of_the_block), "only what came from the same leaf of the host's goes")
    if taking.count is not None:
        given.require(z3.Implies(of_the_block, lost), "all of it")
    reached = z3.Or(flushed[0].argument is None, own == place if flushed[0].argument is not None else z3.BoolVal(True))
    given.require(z3.Implies(lost, reached), "all that goes is forgotten")
    if flushed[0].argument is not None:
        given.require(z3.And(flushed[0].argument == term(ipa), at_own == place), "the address of what was taken away")


def _word_of(tree: Map, asked: Term) -> Term:
    """The word at which the walk for an address ended, as the tables were."""
    page, words = tree._start_page(asked), []
    for level in range(tree.start, 4):
        words.append(cell(page, slot_term(asked, level)))
        page = tree.tree.page_below(words[-1])
    ends = words[-1]
    for word in reversed(words[:-1]):
        ends = z3.If(tree.tree.kind(word) == TABLE, ends, word)
    return ends


@about(shadow._clear_siblings, shadow._clear_slot, outcomes=("none", "some"), bounds=("shadow._clear_siblings: a table of three slots",))
def clear_siblings(given: Given) -> None:
    """Exactly the leaves of the table that came from a leaf of the host's of that level are zero, each counted no more; their number is returned."""
    cells, table = Looked("word", u64), given.u64("table")
    given.assume(z3.ULT(term(table), 1 << 32))
    given.replace(pages.TABLES, Tables(cells, integer(term(table) + 1)))
    given.replace(SLOTS, u64(3))
    level, origin = given.one_of("level", (2, 3)), given.one_of("the host's level", (2, 3))
    gone: list[Term] = []

    def uncount(word: Any, at: u64) -> None:
        given.require(int(at) == level, "at its level")
        gone.append(term(word.raw))

    given.replace(graveyard.uncount_leaf, uncount)
    with FRAMES_LOCK, GUESTS_LOCK:
        taken = int(shadow._clear_siblings(table, u64(level), u8(origin)))
    given.outcome("some" if taken else "none")
    going: list[Term] = []
    for slot in range(3):
        at = cell(term(table), z3.BitVecVal(slot, 64))
        word = cells.first(at)
        leaf = z3.And(z3.Extract(0, 0, word) == 1, z3.Extract(1, 1, word) == (1 if level == 3 else 0)) if level == 2 else z3.Extract(0, 0, word) == 1
        matches = z3.And(leaf, z3.Extract(58, 55, word) == origin)
        goes = given.holds(matches)
        given.require(cells(at) == (0 if goes else word), "leaves of that origin go, and nothing else")
        going += [word] if goes else []
    given.require(taken == len(going) == len(gone), "as many as are said")
    given.require(z3.And([was == word for was, word in zip(gone, going, strict=True)]), "each is counted no more, by what it was")


class Cutting:
    """The start tables of an arbitrary shadow, whose slots from `top` on are zero, and a graveyard that may be full at any time."""

    def __init__(self, given: Given) -> None:
        self.guest = guest = Guest(given)
        self.given, self.tree = given, guest.tree
        self.waiting: list[Term] = []
        self.room = True
        """What the graveyard said last; before anybody asked, that the caller has."""
        given.replace(graveyard.has_room, self._has_room)
        given.replace(graveyard.add, self._add)
        self.any = given.word("any start slot", 64)
        given.assume(z3.ULT(self.any, self.tree.roots << 9))
        self.word = self.at(self.any)
        self.was = self.tree.tree.first(self.word)
        given.assume(self.tree.facts(self.word), z3.Implies(z3.UGE(self.any, term(guest.top)), self.was == 0))

    def at(self, index: Term) -> Term:
        """The number of the word of a start slot."""
        return cell(z3.ZeroExt(32, self.tree.root) + z3.LShR(index, 9), z3.ZeroExt(55, z3.Extract(8, 0, index)))

    def _has_room(self) -> bool:
        self.room = self.given.path.branch(self.given.path.fresh_word("room", 1) == 1)
        return self.room

    def _add(self, page: u64, level: u64) -> None:
        self.given.require(self.room, "only where there is room")
        self.given.require(int(level) == self.tree.start + 1, "a table below the start tables")
        self.waiting.append(term(page))

    def rule(self) -> Rule:
        """Before round i, the uppermost i of the slots below `top` are cut off."""
        tree, shade, top = self.tree.tree, self.guest.shadow, term(self.guest.top)

        def cut(at: Term, here: Term) -> Formula:
            index = at - (z3.ZeroExt(32, self.tree.root) << 9)
            return z3.And(z3.ULT(index, top), z3.UGE(index, top - here))

        def content(at: Term) -> Term:
            value = self.was
            for write in tree.writes:
                value = z3.If(write.where(at), write.what(at), value)
            return value

        def holds(here: Term) -> Formula:
            return z3.And(term(shade.top) == top - here, content(self.word) == z3.If(cut(self.word, here), z3.BitVecVal(0, 64), self.was))

        def state(here: Term) -> None:
            shade.top = integer(top - here)
            tree.writes[:] = [Write(lambda at: cut(at, here), lambda at: z3.BitVecVal(0, 64))]

        return Rule(holds, state)


@walking(shadow.drop_all, shadow._cut, shadow.forget_tables, outcomes=("all", "refused"),
         assumes=(*POOLS, "tables.vttbr_of", "stages.flush_all"))
def drop_all(given: Given) -> None:
    """No start slot leads anywhere, each table that one led to waits in the graveyard, and every TLB forgot all; with Err.BUSY the lower slots are as
    they were, and what was cut off is forgotten too. Whoever remembers a table learns of it by the epoch."""
    cutting = Cutting(given)
    guest, tree = cutting.guest, cutting.tree
    given.rule(shadow.drop_all, cutting.rule())
    with GUESTS_LOCK:
        result = shadow.drop_all(guest.shadow)
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "all")
    now = term(guest.shadow.top)
    given.require(refused == (not given.holds(now == 0)), "refused where something is left")
    given.require(not refused or not cutting.room, "because there is no room")
    expected = z3.If(z3.ULT(cutting.any, now), cutting.was, z3.BitVecVal(0, 64))
    value = cutting.was
    for write in tree.tree.writes:
        value = z3.If(write.where(cutting.word), write.what(cutting.word), value)
    given.require(value == expected, "slots below `top` are as they were, all others lead nowhere")
    given.require(term(guest.shadow.epoch) == term(guest.epoch) + 1, "another epoch")
    given.require([event.argument for event in guest.flushes()] == [None], "every TLB forgets all of it, behind the last store")
    given.require(refused or not guest.shadow.huge, "an empty shadow has no pieces of 1 GiB")


@walking(shadow._cut, outcomes=("a table", "nothing"))
def cut(given: Given) -> None:
    """A start slot that led to a table leads nowhere, and that table waits in the graveyard; no other slot changes."""
    cutting = Cutting(given)
    tree, index = cutting.tree, given.u64("index")
    given.assume(z3.ULT(term(index), tree.roots << 9))
    with GUESTS_LOCK:
        shadow._cut(tree.space, index)
    place, there = given.path.normal(cutting.at(term(index))), bool(cutting.waiting)
    given.outcome("a table" if there else "nothing")
    was = tree.tree.first(place)
    given.require((was != 0) == there, "cut off where something is")
    if not there:
        tree.requires_unchanged()
        return
    stores = tree.stores()
    given.require(len(stores) == len(cutting.waiting) == 1, "one word, one table")
    given.require(z3.And(stores[0].cell == place, stores[0].new == 0, stores[0].old == tree.entry(cutting.waiting[0])), "the table it led to")


@walking(shadow.drop_pieces, shadow.table_at, outcomes=("outside", "no table", "nothing", "some"),
         assumes=(*POOLS, "tables.walk", "tables.vttbr_of", "stages.flush_all", "shadow.clear_siblings"))
def drop_pieces(given: Given) -> None:
    """What came from a block of the host's of 2 MiB goes from the table around the address, which `table_at` finds, and every TLB forgets it."""
    guest, asked = Guest(given), []
    tree, ipa, taken = guest.tree, given.u64("ipa"), given.u64("taken")

    def siblings(table: u64, level: u64, origin: u8) -> u64:
        given.require(int(level) == 3 and int(origin) == 2, "pages that came from a block")
        asked.append(term(table))
        return taken

    given.replace(shadow._clear_siblings, siblings)
    shadow.drop_pieces(guest.shadow, Ipa(ipa))
    inside = given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits))
    found = tables.walk(tree.space, ipa) if inside else None
    there = found is not None and int(found.level) == 3
    given.require(len(asked) == (1 if there else 0), "where there is a table of pages")
    flushed = [event.argument for event in guest.flushes()]
    if found is None or not there:
        given.outcome("outside" if not inside else "no table")
        given.require(not flushed, "nothing to forget")
        return
    given.require(asked[0] == term(found.table), "the one around the address")
    some = given.holds(term(taken) != 0)
    given.outcome("some" if some else "nothing")
    given.require(flushed == ([None] if some else []), "what went is forgotten")


@walking(shadow.table_at, shadow.find, outcomes=("outside", "a table", "none"))
def table_at(given: Given) -> None:
    """The table of pages in which the walk ends, if it gets to one; the slot that it ends at is the one that `find` says."""
    guest = Guest(given)
    tree, ipa = guest.tree, given.u64("ipa")
    with GUESTS_LOCK:
        table = shadow.table_at(guest.shadow, Ipa(ipa))
        if not given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits)):
            given.outcome("outside")
            given.require(table is None, "no table outside the addresses")
            return
        here = shadow.find(guest.shadow, Ipa(ipa))
    found = tables.walk(tree.space, ipa)
    given.outcome("none" if table is None else "a table")
    given.require((table is None) == (int(found.level) != 3), "where the walk gets to a page's slot")
    given.require(table is None or term(table).eq(term(found.table)), "the table it stands in")
    given.require(int(here.level) == int(found.level) and term(here.table).eq(term(found.table)), "the slot that the walk ends at, and no other")
    tree.requires_unchanged()


@walking(shadow.look, shadow.leaf_at, outcomes=("outside", "nothing", "a leaf"))
def look(given: Given) -> None:
    """What the processor's walk finds, and where the address's own page leads."""
    guest = Guest(given)
    tree, ipa = guest.tree, given.u64("ipa")
    with GUESTS_LOCK:
        stands = shadow.look(guest.shadow, Ipa(ipa))
    seen = None if stands is None else shadow.leaf_at(stands, Ipa(ipa))
    tree.requires_unchanged()
    if not given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits)):
        given.outcome("outside")
        given.require(seen is None, "nothing outside the addresses")
        return
    there = tree.translation(term(ipa), now=False)
    given.outcome("nothing" if seen is None else "a leaf")
    given.require(there.valid == (seen is not None), "what the processor's walk finds")
    if seen is not None:
        given.require(term(seen.output) == z3.Concat(ADDRESS, z3.Extract(47, 12, there.output), z3.BitVecVal(0, 12)), "where its page leads")
        given.require(attributes_of(term(seen.leaf.raw)) == there.attributes, "by the same leaf")


@walking(shadow.deepen, outcomes=("outside", "there", "refused"), assumes=("tables.deepen",))
def deepen(given: Given) -> None:
    """As `tables.deepen` in the shadow's addresses, and its start slot is below `top`; with Err nothing changes."""
    guest = Guest(given)
    tree, ipa, found = guest.tree, given.u64("ipa"), object()
    refused = given.boolean("no table")

    def deeper(space: Space, at: u64) -> Any:
        given.require(space is tree.space and term(at).eq(term(ipa)), "in its tables, for the address")
        return Err.NO_MEMORY if refused else found

    given.replace(tables.deepen, deeper)
    with GUESTS_LOCK:
        result: Any = shadow.deepen(guest.shadow, Ipa(ipa))
    inside = given.holds(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits))
    if not inside or refused:
        given.outcome("outside" if not inside else "refused")
        given.require(result is (Err.NO_MEMORY if inside else Err.RANGE), "as its text says")
        given.require(guest.shadow.top is guest.top, "Err changes nothing")
        return
    given.outcome("there")
    given.require(result is found, "what the walk finds")
    guest.requires_top(ipa)


@about(shadow.fill_page, outcomes=("filled", "left alone"), assumes=("layout.index_of",))
def fill_page(given: Given) -> None:
    """A free slot gets the one leaf that may stand for the host's, if that leads to RAM of the host's; the leaf is counted, and walkers see it when
    this returns. Otherwise nothing changes."""
    cells, table, ipa = Looked("word", u64), given.u64("table"), given.u64("ipa")
    given.assume(z3.ULT(term(table), 1 << 32))
    cells.traced = True
    given.replace(pages.TABLES, Tables(cells, integer(term(table) + 1)))
    frame, entry, ram = given.word("frame", 36), given.u64("entry"), given.boolean("RAM")
    host = HostLeaf(u64(given.one_of("level of the host's leaf", (1, 2, 3))), integer(z3.Concat(ADDRESS, frame, z3.BitVecVal(0, 12))),
                    Stage2Leaf.of(given.u64("leaf")))
    index, counted = given.u64("index"), []

    def index_of(pa: Pa) -> u64 | None:
        given.require(term(pa) == term(host.output), "of where the host's leaf leads")
        return index if ram else None

    def entry_at(asked: u64) -> FrameEntry:
        given.require(term(asked).eq(term(index)), "of that frame")
        return FrameEntry.of(entry)

    given.assume(z3.ULE(z3.Extract(3, 0, term(entry)), 4))
    given.replace(frames.index_of, index_of)
    given.replace(frames.entry_at, entry_at)
    given.replace(blocks.count, lambda first, last: counted.append((term(first), term(last))))
    at = cell(term(table), z3.ZeroExt(55, z3.Extract(20, 12, term(ipa))))
    with GUESTS_LOCK:
        filled = shadow.fill_page(table, Ipa(ipa), host)
    given.outcome("filled" if filled else "left alone")
    may = z3.And(ram, z3.Extract(3, 0, term(entry)) == HOST_STATE, cells.first(at) == 0)
    given.require(may == filled, "exactly where the slot is free and the frame the host's")
    if not filled:
        given.require(not cells.writes and not counted, "nothing changes")
        return
    word = cells(at)
    given.require(len(cells.writes) == 1 and z3.Extract(1, 0, word) == 3, "a page")
    given.require(z3.And(z3.Extract(47, 12, word) == frame, attributes_of(word) == shown(host)), "where the host's leaf leads, as that allows")
    given.require(len(counted) == 1 and z3.And(counted[0][0] == term(index), counted[0][1] == term(index)), "counted once")
    names = ["store" if isinstance(event, Stored) else event.name for event in events()]
    given.require(names[1:-1] == ["store", "dsb ishst"], "seen by walkers when this returns")


@walking(shadow.reopen, assumes=(*POOLS, "tables.walk", "tables.change"),
         bounds=(STARTS, "shadow.reopen: of an address that leads where the host's leaf does, to memory of the same kind (kvm/faults.py asks first)"))
def reopen(given: Given) -> None:
    """The leaf gets the host's rights, and stays what it is otherwise."""
    guest = Guest(given)
    tree, ipa, changed = guest.tree, given.u64("ipa"), []
    given.assume(z3.ULT(term(ipa), z3.BitVecVal(1, 64) << tree.bits))
    found = tables.walk(tree.space, ipa)
    word = term(found.descriptor.raw)
    given.assume(z3.Extract(0, 0, word) == 1)
    host = guest.host_leaf()
    given.assume(z3.Extract(5, 2, word) == z3.Extract(5, 2, term(host.leaf.raw)), z3.Extract(9, 8, word) == z3.Extract(9, 8, term(host.leaf.raw)))
    given.assume(z3.Extract(63, 59, word) == 0, z3.Extract(53, 48, word) == 0, z3.Extract(11, 11, word) == 0)
    given.replace(tables.change, lambda space, at, where, to: changed.append((space, at, where, term(to.raw))))
    shadow.reopen(guest.shadow, Ipa(ipa), host)
    given.require(len(changed) == 1 and changed[0][0] is tree.space and changed[0][1] is ipa, "one leaf, of the address")
    where, new = changed[0][2:]
    given.require(z3.And(term(where.table) == term(found.table), term(where.slot) == term(found.slot)), "the one that the walk finds")
    given.require(int(where.level) == int(found.level), "at its level")
    given.require(attributes_of(new) == shown(host), "with what the host's allows")
    given.require((word & ~z3.BitVecVal(PERMISSIONS, 64)) == (new & ~z3.BitVecVal(PERMISSIONS, 64)), "a live descriptor changes only its permissions")


@theorem(shadow.is_within, shadow.may_execute, outcomes=("within", "not within"))
def is_within(given: Given) -> None:
    """One leaf is within another exactly if it lets nobody do more, and both are memory of one kind; executing is EL1's and EL0's, or nobody's."""
    inner, outer = (HostLeaf(u64(3), u64(0), Stage2Leaf.of(given.u64(name))) for name in ("inner", "outer"))
    found = shadow.is_within(inner, outer)
    given.outcome("within" if found else "not within")

    def rights(host: HostLeaf) -> Term:
        raw = term(host.leaf.raw)
        return z3.Concat(z3.Extract(7, 6, raw), z3.If(z3.Extract(54, 53, raw) == 0, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)))

    kinds = [z3.Concat(z3.Extract(9, 8, term(host.leaf.raw)), z3.Extract(5, 2, term(host.leaf.raw))) for host in (inner, outer)]
    given.require(z3.And(rights(inner) & ~rights(outer) == 0, kinds[0] == kinds[1]) == found, "no right more, the same kind")


@theorem(shadow.may_show)
def may_show(given: Given) -> None:
    """Addresses that a processor has, and no byte beyond them."""
    pa, size = given.u64("pa"), given.u64("size")
    wide = z3.ZeroExt(1, term(pa)) + z3.ZeroExt(1, term(size))
    given.require(z3.And(z3.ULT(term(pa), 1 << 48), z3.ULE(wide, 1 << 48)) == shadow.may_show(Pa(pa), size), "below 1 << 48")


@about(shadow.create, outcomes=("made", "refused"), assumes=("stages.create_stage2",))
def create(given: Given) -> None:
    """A stage 2 whose tables come from the guests' pool, its start tables from the pool with units that are large enough."""
    shade: Any = SimpleNamespace(space=Space())
    bits, vmid, asked = given.u64("bits"), given.u16("vmid"), []
    refused = given.boolean("refused")

    def make(*arguments: Any) -> Err | None:
        asked.append(arguments)
        return Err.NO_MEMORY if refused else None

    given.replace(stage2.create, make)
    with GUESTS_LOCK:
        result = shadow.create(shade, bits, vmid)
    given.outcome("refused" if refused else "made")
    given.require(result is (Err.NO_MEMORY if refused else None), "refused where that is")
    space, size, starts, pool, number = asked[0]
    given.require(space is shade.space and size is bits and number is vmid and pool is PoolName.GUESTS, "its own space, as it was asked for")
    many = z3.And(z3.UGE(term(bits), 41), z3.ULE(term(bits), 43))
    given.require(many == (starts is PoolName.STARTS), "four start tables or more come from the pool of large units")


@about(shadow.destroy, outcomes=("ended", "refused"), assumes=("shadow.drop_all", "pages.free"))
def destroy(given: Given) -> None:
    """Everything is dropped, and forgotten by the TLBs, before the start tables are free; with Err.BUSY the shadow is still there."""
    shade: Any = SimpleNamespace(space=Space())
    starts = given.one_of("start tables of", (PoolName.STARTS, PoolName.GUEST_STARTS))
    shade.space.root, shade.space.roots, shade.space.starts = given.u64("root"), given.u64("roots"), starts
    refused, order = given.boolean("the graveyard is full"), []

    def drop(which: Any) -> Err | None:
        order.append("dropped" if which is shade else "another's")
        return Err.BUSY if refused else None

    def free(name: PoolName, page: u64) -> None:
        given.require(name is starts and term(page).eq(term(given_root)), "its own start tables")
        order.append("freed")

    given_root = shade.space.root
    given.replace(shadow.drop_all, drop)
    given.replace(pages.free, free)
    result = shadow.destroy(shade)
    given.outcome("refused" if refused else "ended")
    given.require(result is (Err.BUSY if refused else None), "refused where something is left")
    given.require(order == (["dropped"] if refused else ["dropped", "freed"]), "freed only when nothing leads there")
    given.require(refused or term(shade.space.roots) == 0, "it is no shadow any more")
