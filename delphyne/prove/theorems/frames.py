# SPDX-License-Identifier: Apache-2.0
"""The frame table: each transition does exactly what it says, keeps the invariants, and touches no other frame.

The table has any length and any content that satisfies `invariants`. An operation's theorem compares the entry of an arbitrary frame before and
after with the specification: a condition, and a new entry. The layout of an entry is stated again here, in bits.
"""

from __future__ import annotations

from collections.abc import Callable
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
        self.index: Term = z3.BitVec("index of pa", 64)
        self.is_ram = given.boolean("pa is RAM")
        given.assume(z3.ULT(self.index, term(self.length)))
        given.replace(frames.index_of, lambda pa: integer(self.index) if self.is_ram else None)

    def was(self, frame: Term) -> Term:
        """The entry of a frame when the theorem began."""
        self.entries.recall(frame)
        return self.entries.first(frame)

    def requires(self, changed: Formula, new: Callable[[Term], Term]) -> None:
        """The frame at `index` has a new entry if `changed`, every other one has its old; all are sound and exclusive."""
        one, other = self.given.word("any frame", 64), self.given.word("another frame", 64)
        self.given.assume(z3.ULT(one, term(self.length)), z3.ULT(other, term(self.length)), one != other)
        was, beside = self.was(one), self.was(other)
        self.given.assume(EXCLUSIVE(was, beside), EXCLUSIVE(self.was(self.index), z3.If(one == self.index, beside, was)))
        self.given.require(self.entries(one) == z3.If(z3.And(changed, one == self.index), new(was), was), "every frame has the entry that is specified")
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


def _moves(given: Given, operation: Callable[[Pa, u16, Ipa], Any], before: Callable[[Term, Term], Term], after: Callable[[Term, Term], Term]) -> None:
    """`operation` turns the entry `before(owner, page)` into `after(owner, page)`, and refuses any other."""
    table = Table(given)
    pa, owner, page = Pa(given.u64("pa")), given.u16("owner"), Ipa(given.u64("page"))
    who, where = term(owner), term(page)
    others = given.word("any other frame", 64)
    given.assume(z3.ULT(others, term(table.length)))
    with frames.LOCK:
        result = operation(pa, owner, page)
    allowed = z3.And(z3.BoolVal(table.is_ram), is_owner(who, where), table.was(table.index) == before(who, where))
    given.outcome("refused" if isinstance(result, Err) else "done")
    given.require(allowed == (not isinstance(result, Err)), "done where it is allowed, refused where it is not")
    table.requires(allowed, lambda was: after(who, where))


OF = {"outcomes": ("done", "refused"), "assumes": ("frames.index_of_finds_the_frame",), "trusts": (LOCKED,)}


@theorem(frames.take, frames.held, outcomes=("done", "refused"), assumes=("frames.index_of_finds_the_frame",), trusts=(LOCKED,))
def take(given: Given) -> None:
    """An unpinned frame of the host becomes busy for (owner, page); nothing else changes."""
    _moves(given, frames.take, lambda who, where: z3.BitVecVal(HOST, 64), lambda who, where: packed(BUSY, who, where))
