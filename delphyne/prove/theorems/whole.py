# SPDX-License-Identifier: Apache-2.0
"""Blocks of protected guests: a table becomes one exactly if all of it is the guest's own in one block of memory, and the same table comes back."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.pagetable import SLOTS, Descriptor
from delphyne.el2.guest import guards, whole
from delphyne.el2.memory import blocks, frames, pages, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.tables import Space, Walk
from delphyne.lang import Ipa, Pa, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Looked, Tables, cell
from delphyne.prove.path import Term
from delphyne.prove.symbolic import constant, integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "frames.LOCK and GUESTS_LOCK are held: nobody else changes a guest's tables meanwhile"
about = partial(theorem, trusts=(LOCKED,))
MARK, ALL_RIGHTS = 8, 0b11 << 6
EXECUTE_NEVER = 1 << 54


class Guest:
    """A guard's number, and the tables of its guest."""

    def __init__(self, given: Given) -> None:
        self.index, self.space = given.u64("guard"), Space()

        def shadow_of(index: u64) -> Any:
            given.require(term(index) == term(self.index), "of this guest")
            return SimpleNamespace(space=self.space)

        given.replace(guards.shadow_of, shadow_of)


def frame_of(word: Term) -> Term:
    """The address that a leaf leads to."""
    return z3.Concat(z3.BitVecVal(0, 16), z3.Extract(47, 12, word), z3.BitVecVal(0, 12))


@about(whole.is_block, outcomes=("a block", "none"))
def is_block(given: Given) -> None:
    """A leaf above the last level, with the mark of a page of the guest's own."""
    level, word = given.one_of("level", (0, 1, 2, 3)), given.word("descriptor", 64)
    found = Walk(given.u64("table"), given.u64("slot"), u64(level), Descriptor.of(integer(word)))
    result = whole.is_block(found)
    given.outcome("a block" if result else "none")
    wanted = z3.And(z3.Extract(0, 0, word) == 1, z3.Extract(58, 55, word) == MARK)
    given.require((wanted if level != 3 else z3.BoolVal(False)) == bool(result), "exactly then")


@theorem(whole._is_in_place, outcomes=("in place", "not"))
def is_in_place(given: Given) -> None:
    """Whether every slot of a table leads one page further than the slot before, with the same bits."""
    cells, table, first = Looked("word", u64), given.u64("table"), given.u64("first")
    given.replace(pages.TABLES, Tables(cells, given.u64("pages")))
    given.assume(z3.ULT(term(table), 1 << 32), z3.ULT(term(table), z3.BitVec("pages", 64)), z3.ULT(term(first), 1 << 63))
    given.replace(SLOTS, constant(SLOTS))
    other = z3.ZeroExt(55, given.word("other slot", 9))

    def placed(slot: Term) -> Any:
        return cells.first(cell(term(table), slot)) == term(first) + (slot << 12)

    given.rule(whole._is_in_place, Rule(lambda here: z3.Implies(z3.ULT(other, here), placed(other))))
    found = whole._is_in_place(table, first)
    given.outcome("in place" if found else "not")
    given.require(not cells.writes, "nothing changes")
    if found:
        given.require(placed(other), "every slot is")
        return
    astray = [z3.And(z3.LShR(at, 9) == term(table), cells.first(at) != term(first) + ((at & 511) << 12)) for at in cells.looked]
    given.require(z3.Or(astray), "some slot is not")


@about(whole.close, whole._first, outcomes=("a block", "left"), assumes=("whole.is_in_place", "blocks.behind", "tables.merge"),
       bounds=("whole.close: a leaf with the mark leads to a frame of RAM",))
def close(given: Given) -> None:
    """A table all of whose slots are private pages with all rights, each at its place in 2 MiB, becomes a block, behind which it is found again; any
    other stays as it is."""
    cells, ipa, table = Looked("word", u64), Ipa(given.u64("ipa")), given.u64("table")
    guest = Guest(given)
    given.replace(pages.TABLES, Tables(cells, given.u64("pages")))
    given.assume(z3.ULT(term(table), 1 << 32), z3.ULT(term(table), z3.BitVec("pages", 64)))
    first, in_place, index = cells.first(cell(term(table), z3.BitVecVal(0, 64))), given.boolean("in place"), given.u64("index of the first frame")
    done: list[str] = []

    def is_in_place(asked: u64, word: u64) -> Any:
        given.require(z3.And(term(asked) == term(table), term(word) == first), "this table, by its first slot")
        return in_place

    def index_of(pa: Pa) -> Any:
        given.require(term(pa) == frame_of(first), "the block's first frame")
        return index

    def put_behind(asked: u64, behind: u64) -> None:
        given.require(z3.And(term(asked) == term(index), term(behind) == term(table)), "this table, behind this frame")
        done.append("behind")

    def closed(asked: Any, address: u64, last: u64) -> None:
        given.require(asked is guest.space and done == ["behind"], "once it can be found again")
        given.require(z3.And(term(address) == term(ipa), term(last) == term(table)), "this table")
        done.append("closed")

    for function, stand_in in (
        (whole._is_in_place, is_in_place), (frames.index_of, index_of), (blocks.put_behind, put_behind), (tables.close, closed)
    ):
        given.replace(function, stand_in)
    with FRAMES_LOCK, GUESTS_LOCK:
        whole.close(guest.index, ipa, table)
    given.outcome("a block" if done else "left")
    own = z3.And(z3.Extract(0, 0, first) == 1, z3.Extract(58, 55, first) == MARK, first & ALL_RIGHTS == ALL_RIGHTS, first & EXECUTE_NEVER == 0)
    wanted = z3.And(own, z3.Extract(20, 12, first) == 0)
    given.require(z3.And(wanted, bool(in_place)) == (done == ["behind", "closed"]), "exactly then")
    given.require(not cells.writes, "no slot of the table changes")


@about(whole.opened, whole._first, assumes=("blocks.behind", "tables.open_again", "tables.in_last_table"),
       bounds=("whole.opened: of a block of the guest's own, which leads to RAM",))
def opened(given: Given) -> None:
    """The table that stands behind the block comes back, and the page is found in it."""
    guest, ipa, table, index = Guest(given), Ipa(given.u64("ipa")), given.u64("table"), given.u64("index of the first frame")
    word = given.word("descriptor", 64)
    block = Walk(given.u64("table above"), given.u64("slot above"), u64(2), Descriptor.of(integer(word)))
    done: list[str] = []

    def index_of(pa: Pa) -> Any:
        given.require(term(pa) == frame_of(word), "the block's first frame")
        return index

    def behind(asked: u64) -> u64:
        given.require(z3.And(term(asked) == term(index), not done), "of this block")
        return table

    def put_behind(asked: u64, times: u64) -> None:
        given.require(done == ["opened"], "when the table is back")
        given.require(z3.And(term(asked) == term(index), times == whole.PATIENCE), "of this block")
        done.append("patience")

    def open_again(asked: Any, address: u64, found: Walk, back: u64) -> None:
        given.require(asked is guest.space and found is block and not done, "this block, once")
        given.require(z3.And(term(address) == term(ipa), term(back) == term(table)), "by the table behind it")
        done.append("opened")

    def in_last_table(asked: u64, address: u64) -> Any:
        given.require(done == ["opened", "patience"], "when the table is back")
        given.require(z3.And(term(asked) == term(table), term(address) == term(ipa)), "the page in it")
        return answer

    answer: Any = SimpleNamespace()
    for function, stand_in in (
        (frames.index_of, index_of), (blocks.behind, behind), (blocks.put_behind, put_behind), (tables.open_again, open_again),
        (tables.in_last_table, in_last_table),
    ):  # fmt: skip
        given.replace(function, stand_in)
    with FRAMES_LOCK, GUESTS_LOCK:
        given.require(whole.opened(guest.index, ipa, block) is answer, "where the page stands")
    given.require(done == ["opened", "patience"], "once")


@about(whole.close_again, outcomes=("closed", "later", "no block"), assumes=("whole.close", "blocks.behind"))
def close_again(given: Given) -> None:
    """At the last of the times that are left a table is looked at, at any other there is one time less; where no block of RAM can begin, nothing."""
    guard, ipa, pa, table = given.u64("guard"), Ipa(given.u64("ipa")), Pa(given.u64("pa")), given.u64("table")
    is_ram, index, left = given.boolean("the block begins in RAM"), given.u64("index of the first frame"), given.u64("times")
    kept: list[u64] = []
    closed: list[bool] = []

    def index_of(at: Pa) -> Any:
        given.require(term(at) == z3.Concat(z3.Extract(63, 21, term(pa)), z3.BitVecVal(0, 21)), "the first frame of the 2 MiB")
        return index if is_ram else None

    def behind(asked: u64) -> u64:
        given.require(term(asked) == term(index), "of this block")
        return left

    def put_behind(asked: u64, times: u64) -> None:
        given.require(term(asked) == term(index), "of this block")
        kept.append(times)

    def close(asked: u64, where: Ipa, last: u64) -> None:
        given.require(z3.And(term(asked) == term(guard), term(where) == term(ipa), term(last) == term(table)), "this table")
        closed.append(True)

    for function, stand_in in ((frames.index_of, index_of), (blocks.behind, behind), (blocks.put_behind, put_behind), (whole.close, close)):
        given.replace(function, stand_in)
    with FRAMES_LOCK, GUESTS_LOCK:
        whole.close_again(guard, ipa, pa, table)
    given.outcome("closed" if closed else "later" if kept else "no block")
    given.require(len(closed) + len(kept) == int(bool(is_ram)), "one or the other")
    given.require(z3.And(term(left) == 0, bool(is_ram)) == bool(closed), "closed at the last")
    given.require(not kept or term(kept[0]) == term(left) - 1, "a time less")
