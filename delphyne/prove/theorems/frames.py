# SPDX-License-Identifier: Apache-2.0
"""The frame table: each transition does exactly what it says, keeps the invariants, and touches no other frame.

The table has any length and any content that satisfies `invariants`. An operation's theorem compares the entry of an arbitrary frame before and
after with the specification: a condition, and a new entry. The layout of an entry is stated again here, in bits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import frames, invariants
from delphyne.el2.memory.frames import FrameEntry
from delphyne.lang import Ipa, Pa, u16, u64
from delphyne.prove.memory import Atomics, Cells
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
        """The frame at `index` has a new entry if `changed`, every other one has its old; all are sound and exclusive."""
        one, other = self.given.word("any frame", 64), self.given.word("another frame", 64)
        self.given.assume(z3.ULT(one, term(self.length)), z3.ULT(other, term(self.length)), one != other)
        was, beside = self.was(one), self.was(other)
        self.given.assume(EXCLUSIVE(was, beside), self.exempt(one), self.exempt(other))
        expected = z3.If(z3.And(changed, one == self.index), new(was), was)
        self.given.require(self.entries(one) == expected, "every frame has the entry that is specified")
        self.given.require(SOUND(self.entries(one)), "every entry is sound")
        self.given.require(EXCLUSIVE(self.entries(one), self.entries(other)), "no two frames are live at one page of one VM")


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


HOST, PRIVATE, SHARED, BUSY = 1, 2, 3, 4
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
