# SPDX-License-Identifier: Apache-2.0
"""The frame table: each transition does exactly what it says, keeps the invariants, and touches no other frame.

The table has any length and any content that satisfies `invariants`. An operation's theorem compares the entry of an arbitrary frame before and
after with the specification: a condition, and a new entry. The layout of an entry is stated again here, in bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import blocks, frames, invariants
from delphyne.el2.memory.frames import FrameEntry
from delphyne.lang import Ipa, Pa, u16, u32, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Atomics, Cells, Write, filling
from delphyne.prove.path import Formula, Term
from delphyne.prove.predicate import Predicate
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

SOUND = Predicate(lambda raw: invariants.entry_is_sound(FrameEntry.of(raw)), 64)
EXCLUSIVE = Predicate(lambda one, other: invariants.entries_are_exclusive(FrameEntry.of(one), FrameEntry.of(other)), 64, 64)
LOCKED = "frames.LOCK is held: nobody else changes entries meanwhile (the interleaving explorer of ring 1 looks at that)"
TOP = 1 << 48


class Table:
    """An arbitrary sound frame table. `index` is what `index_of` answers for the address at hand, by its own theorem."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.length = given.u64("frames")
        given.assume(z3.ULE(term(self.length), 1 << 36))
        self.entries = Cells("entry", u64, lambda at, raw: SOUND(raw))
        given.replace(frames.ENTRIES, Atomics(self.entries, self.length))
        self.runs = Cells("known of run", u32)
        given.replace(blocks.HOSTS, Atomics(self.runs, integer(z3.LShR(term(self.length) + 511, 9))))
        given.replace(frames.LAYOUT, SimpleNamespace(frames=self.length))
        self.exempt: Callable[[Term], Formula] = lambda frame: z3.BoolVal(True)
        self.index: Term = z3.BitVec("index of pa", 64)
        self.is_ram = given.boolean("pa is RAM")
        given.assume(z3.ULT(self.index, term(self.length)))
        given.replace(frames.index_of, lambda pa: integer(self.index) if self.is_ram else None)

    def was(self, frame: Term) -> Term:
        """The entry of a frame when the theorem began."""
        self.entries.recall(frame)
        return self.entries.first(frame)

    def only_frame_of(self, owner: Term, page: Term) -> None:
        """Assume that no frame but the one at `index` is live at this page."""
        self.exempt = lambda frame: z3.Or(frame == self.index, EXCLUSIVE(self.was(frame), packed(PRIVATE, owner, page)))

    def requires(self, changed: Formula, new: Callable[[Term], Term]) -> None:
        """The frame at `index` has a new entry if `changed`, every other one has its old; all are sound and exclusive; a run that is known to be the
        host's is."""
        one, other = self.given.word("any frame", 64), self.given.word("another frame", 64)
        self.given.assume(z3.ULT(one, term(self.length)), z3.ULT(other, term(self.length)), one != other)
        was, beside = self.was(one), self.was(other)
        self.given.assume(EXCLUSIVE(was, beside), self.exempt(one), self.exempt(other))
        expected = z3.If(z3.And(changed, one == self.index), new(was), was)
        self.given.require(self.entries(one) == expected, "every frame has the entry that is specified")
        self.given.require(SOUND(self.entries(one)), "every entry is sound")
        self.given.require(EXCLUSIVE(self.entries(one), self.entries(other)), "no two frames are live at one page of one VM")
        self.requires_known(one)

    def knows(self, frame: Term) -> None:
        """Assume that the run of this frame is the host's where it is known to be."""
        self.given.assume(z3.Implies(self.runs.first(z3.LShR(frame, 9)) == ALL, state_is(self.was(frame), HOST)))

    def requires_known(self, frame: Term) -> None:
        """An arbitrary frame whose run is known to be the host's is the host's, if that was so before."""
        self.knows(frame)
        self.given.require(z3.Implies(self.runs(z3.LShR(frame, 9)) == ALL, state_is(self.entries(frame), HOST)), "what is known of runs is so")


def packed(state: int, owner: Term, page: Term) -> Term:
    """The entry of a frame that nobody pins: state in bits 3:0, owner in 27:16, guest page in 63:28."""
    return z3.Concat(z3.Extract(47, 12, page), z3.Extract(11, 0, owner), z3.BitVecVal(state, 16))


def state_is(entry: Term, state: int) -> Formula:
    """The entry's state."""
    return z3.Extract(3, 0, entry) == state


def pins(entry: Term) -> Term:
    """How often the frame is pinned."""
    return z3.Extract(15, 4, entry)


def is_owner(owner: Term, page: Term) -> Formula:
    """Whether a VM may have that number and a guest page that address."""
    return z3.And(owner != 0, z3.ULT(owner, 4096), z3.ULT(page, TOP))


EL2, HOST, PRIVATE, SHARED, BUSY = 0, 1, 2, 3, 4
ALL, NOT_ALL = 1, 2
"""What may be known of a run."""
Entry = Callable[[Term, Term], Term]
"""The entry of a frame that (owner, page) holds."""


def _moves(given: Given, operation: Callable[[Pa, u16, Ipa], Any], before: Entry, after: Entry, live: bool = False) -> None:
    """`operation` turns the entry `before(owner, page)` into `after(owner, page)`, and refuses any other.

    `live`: the frame becomes live at the page; the caller knows that no other is."""
    table = Table(given)
    pa, owner, page = Pa(given.u64("pa")), given.u16("owner"), Ipa(given.u64("page"))
    who, where = term(owner), term(page)
    with frames.LOCK:
        result = operation(pa, owner, page)
    allowed = z3.And(z3.BoolVal(table.is_ram), is_owner(who, where), table.was(table.index) == before(who, where))
    given.outcome("refused" if isinstance(result, Err) else "done")
    given.require(allowed == (not isinstance(result, Err)), "done where it is allowed, refused where it is not")
    if live:
        table.only_frame_of(who, where)
    table.requires(allowed, lambda was: after(who, where))


def host(who: Term, where: Term) -> Term:
    """The entry of an unpinned frame of the host."""
    return z3.BitVecVal(HOST, 64)


def busy(who: Term, where: Term) -> Term:
    """The entry of a frame on its way."""
    return packed(BUSY, who, where)


def private(who: Term, where: Term) -> Term:
    """The entry of a VM's own frame."""
    return packed(PRIVATE, who, where)


def shared(who: Term, where: Term) -> Term:
    """The entry of a frame that a VM shares with the host."""
    return packed(SHARED, who, where)


transition = partial(theorem, outcomes=("done", "refused"), assumes=("layout.index_of", "layout.entries_differ"), trusts=(LOCKED,))


@transition(frames.take, frames.held)
def take(given: Given) -> None:
    """An unpinned frame of the host becomes busy for (owner, page)."""
    _moves(given, frames.take, host, busy)


@transition(frames.settle, frames._move, frames._held_index, bounds=("frames.settle: the caller knows that no other frame is live at (owner, page)",))
def settle(given: Given) -> None:
    """A frame that is busy for (owner, page) becomes private there."""
    _moves(given, frames.settle, busy, private, live=True)


@transition(frames.give)
def give(given: Given) -> None:
    """A private frame of (owner, page) becomes busy."""
    _moves(given, frames.give, private, busy)


@transition(frames.release)
def release(given: Given) -> None:
    """A frame that is busy for (owner, page) becomes the host's and forgets both."""
    _moves(given, frames.release, busy, host)


@transition(frames.share)
def share(given: Given) -> None:
    """A private frame of (owner, page) becomes shared."""
    _moves(given, frames.share, private, shared)


@transition(frames.unshare)
def unshare(given: Given) -> None:
    """A shared frame of (owner, page) becomes private."""
    _moves(given, frames.unshare, shared, private)


def _changes_side(given: Given, operation: Callable[[Pa], Any], before: int, after: int) -> None:
    """`operation` turns an unpinned frame in the state `before`, which has no owner, into one in the state `after`, and refuses any other."""
    table = Table(given)
    with frames.LOCK:
        result = operation(Pa(given.u64("pa")))
    allowed = z3.And(z3.BoolVal(table.is_ram), table.was(table.index) == before)
    given.outcome("refused" if isinstance(result, Err) else "done")
    given.require(allowed == (not isinstance(result, Err)), "done where it is allowed, refused where it is not")
    table.requires(allowed, lambda was: z3.BitVecVal(after, 64))


@transition(frames.withdraw)
def withdraw(given: Given) -> None:
    """An unpinned frame of the host becomes EL2's."""
    _changes_side(given, frames.withdraw, HOST, EL2)


@transition(frames.readmit)
def readmit(given: Given) -> None:
    """A frame of EL2's becomes the host's."""
    _changes_side(given, frames.readmit, EL2, HOST)


def _pinned(given: Given, operation: Callable[[Pa], Any], limit: int, step: int) -> None:
    """`operation` changes the pins of a frame of the host by `step`, unless they are at `limit`."""
    table = Table(given)
    with frames.LOCK:
        result = operation(Pa(given.u64("pa")))
    was = table.was(table.index)
    allowed = z3.And(z3.BoolVal(table.is_ram), state_is(was, HOST), pins(was) != limit)
    given.outcome("refused" if isinstance(result, Err) else "done")
    given.require(allowed == (not isinstance(result, Err)), "done where it is allowed, refused where it is not")
    table.requires(allowed, lambda entry: entry + (step << 4))


@transition(frames.pin)
def pin(given: Given) -> None:
    """A frame of the host has one pin more, up to 4095."""
    _pinned(given, frames.pin, 4095, 1)


@transition(frames.unpin)
def unpin(given: Given) -> None:
    """A pinned frame has one pin less."""
    _pinned(given, frames.unpin, 0, -1)


@theorem(frames.entry_at, frames.entry_of, outcomes=("RAM", "no RAM"), assumes=("layout.index_of", "layout.entries_differ"))
def entry_of(given: Given) -> None:
    """What is read is what is there, and reading changes nothing."""
    table = Table(given)
    found = frames.entry_of(Pa(given.u64("pa")))
    given.outcome("no RAM" if found is None else "RAM")
    given.require((found is not None) == table.is_ram, "None where the address is no RAM")
    if found is not None:
        given.require(term(found) == table.was(table.index), "the entry of the frame")
    table.requires(z3.BoolVal(False), lambda entry: entry)


@theorem(frames.is_hosts, outcomes=("the host's", "not the host's"), assumes=("layout.index_of",), trusts=(LOCKED,))
def is_hosts(given: Given) -> None:
    """RAM whose entry says so, and nothing else."""
    table = Table(given)
    with frames.LOCK:
        found = frames.is_hosts(Pa(given.u64("pa")))
    given.outcome("the host's" if found else "not the host's")
    given.require(z3.And(z3.BoolVal(table.is_ram), state_is(table.was(table.index), HOST)) == found, "the host's exactly if the entry says so")
    table.requires(z3.BoolVal(False), lambda entry: entry)


@theorem(frames._is_hosts_run, outcomes=("all", "not all"), assumes=("blocks.known",), trusts=(LOCKED,))
def is_hosts_run(given: Given) -> None:
    """Where the answer is yes, every frame of the run is the host's, and it is remembered only then."""
    table, index, frame = Table(given), given.u64("index"), given.word("any frame", 64)
    run = z3.LShR(term(index), 9)
    given.assume(z3.ULT(term(index), term(table.length)), z3.ULT(frame, term(table.length)))
    table.entries.recall(frame)
    table.knows(frame)
    inside = z3.LShR(frame, 9) == run
    given.rule(frames._is_hosts_run, Rule(lambda here: z3.Implies(z3.And(inside, z3.ULT(frame, here)), state_is(table.entries(frame), HOST))))
    with frames.LOCK:
        found = frames._is_hosts_run(index)
    given.outcome("all" if found else "not all")
    if found:
        given.require(z3.Implies(inside, state_is(table.was(frame), HOST)), "every frame of the run is the host's")
    given.require(table.entries(frame) == table.was(frame), "no entry changes")
    table.requires_known(frame)


@theorem(frames.is_hosts_block, outcomes=("all", "not all"), assumes=("layout.index_of", "layout.frames_from", "frames.is_hosts_run"),
         trusts=(LOCKED,))
def is_hosts_block(given: Given) -> None:
    """Where the answer is yes, all 512 frames from the address on are one bank's, and the host's."""
    table, offset, left = Table(given), given.word("any frame of the block", 64), given.u64("frames in its bank")
    given.assume(z3.ULT(offset, 512), z3.ULE(term(left), term(table.length) - table.index))
    given.replace(frames._frames_from, lambda pa: left if table.is_ram else u64(0))
    frame = table.index + offset
    asked: list[Any] = []

    def is_hosts_run(index: u64) -> bool:
        given.require(z3.ULT(term(index), term(table.length)), "of a frame of the table")
        answer = given.boolean(f"run {len(asked)} is the host's")
        asked.append(index)
        given.assume(z3.Implies(z3.And(z3.BoolVal(answer), z3.LShR(frame, 9) == z3.LShR(term(index), 9)), state_is(table.was(frame), HOST)))
        return answer

    given.replace(frames._is_hosts_run, is_hosts_run)
    with frames.LOCK:
        found = frames.is_hosts_block(Pa(given.u64("pa")))
    given.outcome("all" if found else "not all")
    if found:
        given.require(z3.And(z3.BoolVal(table.is_ram), z3.ULE(512, term(left))), "one bank's")
        given.require(state_is(table.was(frame), HOST), "the host's")


class Row:
    """RAM and other memory in a row: page n from `first` is RAM where `is_ram(n)`, with the entry `index(n)`, and no two have one entry."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.length = given.u64("frames")
        given.assume(z3.ULE(term(self.length), 1 << 36))
        self.first = given.word("first page", 52)
        self.index: Any = z3.Function("index of page", z3.BitVecSort(64), z3.BitVecSort(64))
        self.page: Any = z3.Function("page of index", z3.BitVecSort(64), z3.BitVecSort(64))
        self.is_ram: Any = z3.Function("page is RAM", z3.BitVecSort(64), z3.BoolSort())
        self.entries = Cells("entry", u64, lambda at, raw: SOUND(raw))
        given.replace(frames.ENTRIES, Atomics(self.entries, self.length))
        self.known: Callable[[Term], Formula] = lambda page: z3.BoolVal(True)
        given.replace(frames.index_of, self._index_of)

    def address(self) -> Term:
        """Where the row begins."""
        return z3.Concat(self.first, z3.BitVecVal(0, 12))

    def facts(self, page: Term) -> Formula:
        """What the layout's theorems say of a page."""
        return z3.Implies(self.is_ram(page), z3.And(z3.ULT(self.index(page), term(self.length)), self.page(self.index(page)) == page))

    def _index_of(self, pa: Pa) -> u64 | None:
        page = z3.simplify(z3.LShR(term(pa) - self.address(), 12))
        self.given.assume(self.facts(page), self.known(page))
        return integer(self.index(page)) if self.given.holds(self.is_ram(page)) else None

    def pinned(self, until: Term, step: int) -> Write:
        """The pages before `until` have `step` pins more."""
        def where(at: Term) -> Formula:
            page = self.page(at)
            return z3.And(z3.ULT(page, until), self.is_ram(page), self.index(page) == at)

        return Write(where, lambda at: self.entries.first(at) + (step << 4))


@theorem(frames.unpin_all, frames._unpin_pages, frames._pages_from, assumes=("layout.index_of", "layout.entries_differ"), trusts=(LOCKED,),
         bounds=("frames.unpin_all: every frame of it is pinned; it ends below 63 bits",))
def unpin_all(given: Given) -> None:
    """Every frame that holds a byte of it has one pin less, and no other changes."""
    row, at, size, frame = Row(given), given.u64("at"), given.u64("size"), given.word("any frame", 64)
    given.assume(z3.ULT(term(at), 1 << 62), z3.ULT(term(size), 1 << 62), row.address() == term(at) & ~z3.BitVecVal(4095, 64))
    pages = z3.LShR(term(at) + term(size) + 4095, 12) - z3.LShR(term(at), 12)

    def is_pinned(page: Term) -> Formula:
        entry = row.entries.first(row.index(page))
        return z3.Implies(z3.ULT(page, pages), z3.And(row.is_ram(page), state_is(entry, HOST), pins(entry) != 0))

    row.known = is_pinned
    given.rule(frames._unpin_pages, filling([row.entries], lambda _, here: row.pinned(here, -1)))
    with frames.LOCK:
        frames.unpin_all(Pa(at), size)
    page = row.page(frame)
    given.assume(row.facts(page))
    inside = z3.And(z3.ULT(page, pages), row.is_ram(page), row.index(page) == frame)
    given.require(row.entries(frame) == z3.If(inside, row.entries.first(frame) - 16, row.entries.first(frame)), "these and no others")


@theorem(frames.pin_all, outcomes=("done", "refused"), assumes=("layout.index_of", "layout.entries_differ", "frames.unpin_all"), trusts=(LOCKED,),
         bounds=("frames.pin_all: it ends below 63 bits",))
def pin_all(given: Given) -> None:
    """Every frame that holds a byte of it is the host's and has one pin more, or no entry changes."""
    row, at, size, frame = Row(given), given.u64("at"), given.u64("size"), given.word("any frame", 64)
    given.assume(z3.ULT(term(at), 1 << 62), z3.ULT(term(size), 1 << 62), row.address() == term(at) & ~z3.BitVecVal(4095, 64))
    pages = z3.LShR(term(at) + term(size) + 4095, 12) - z3.LShR(term(at), 12)
    undone: list[Term] = []

    def unpin_pages(first: Pa, count: u64) -> None:
        given.require(term(first) == row.address(), "from the first page on")
        undone.append(term(count))

    given.replace(frames._unpin_pages, unpin_pages)
    some = given.word("any page of it", 64)
    given.assume(z3.ULT(some, pages))
    pinned = filling([row.entries], lambda _, here: row.pinned(here, 1))
    is_hosts = z3.And(row.is_ram(some), state_is(row.entries.first(row.index(some)), HOST))
    given.rule(frames.pin_all, Rule(lambda here: z3.And(pinned.holds(here), z3.Implies(z3.ULT(some, here), is_hosts)), pinned.state))
    with frames.LOCK:
        result = frames.pin_all(Pa(at), size)
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "done")
    page = row.page(frame)
    given.assume(row.facts(page))
    mine = z3.And(row.is_ram(page), row.index(page) == frame)
    before = row.entries.first(frame)
    if refused:
        given.require(len(undone) == 1, "what was pinned is let go")
        taken_back = z3.If(z3.And(mine, z3.ULT(page, undone[0])), row.entries(frame) - 16, row.entries(frame))
        given.require(taken_back == before, "nothing stays changed")
        return
    given.require(not undone, "nothing is let go")
    given.require(is_hosts, "every page of it is RAM, and the host's")
    given.require(row.entries(frame) == z3.If(z3.And(mine, z3.ULT(page, pages)), before + 16, before), "these and no others")
