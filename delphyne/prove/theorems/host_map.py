# SPDX-License-Identifier: Apache-2.0
"""The host's map: a page is taken out and comes back, and nothing else of the map changes.

`tables` proves what splitting, emptying and filling do to every address; here is what the two together do. That a block is split first, and what
that does, is the theorem `tables.split`: from then on the map is an arbitrary one that has a page there. LAST names nothing, or a table of pages
in which the walk of each of its addresses ends: that is assumed, and shown of what `remove` leaves in it.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, SLOTS, Stage2Memory
from delphyne.el2.memory import host_map, stage2, tables
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Space, Walk
from delphyne.lang import Pa, owned, u32, u64
from delphyne.prove.memory import Cells, Words, cell, clearing
from delphyne.prove.path import Infeasible, Term
from delphyne.prove.spaces import Map, Translation, attributes_of
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "HOST_LOCK is held: nobody else changes the host's map meanwhile"
SPLIT = "host_map.remove: where a block is split, from then on as from an arbitrary map that has the page (tables.split keeps the rest)"
EVERYTHING = 0x7FC
"""S2AP, shareable, accessed, normal memory, executable: bits 11:2 of a leaf, of which 63:48 are zero."""
NEVER_FREED = "host_map.remove: no table of pages leaves the map without `forget_table` (`restore` alone takes one out, and does)"
about = partial(theorem, trusts=(LOCKED,))


class Machine(Map):
    """An arbitrary host's map, and the page that an operation is about, by an address in it. Of a last table OUT is what the invariants say."""

    def __init__(self, given: Given) -> None:
        super().__init__(given, (PoolName.HOST,))
        given.replace(host_map.HOST_SPACE, self.space)
        self.out = Cells("out", u32)
        given.replace(host_map.OUT, Words(self.out, integer(z3.ZeroExt(32, self.length))))
        self.page = self.input("page")
        self.pa = Pa(integer(z3.Concat(z3.Extract(63, 12, term(self.page)), given.word("byte in the page", 12))))

    def assumes_count(self, table: Term, empty: bool) -> Term:
        """What is counted of a table of which some slot is `empty`, or is not."""
        least, most = (1, int(SLOTS)) if empty else (0, int(SLOTS) - 1)
        count, ragged = self.out.first(table), z3.BitVecVal(int(host_map.RAGGED), 32)
        was_block = z3.And(z3.UGE(count, least), z3.ULE(count, most))
        self.given.assume(z3.Or(was_block, z3.And(z3.UGE(count, ragged + least), z3.ULE(count, ragged + most))))
        return count

    def requires_counted(self, table: Term, by: int) -> None:
        """Of this table a page more is out, or one less; of no other table is anything counted."""
        any_table = self.given.word("any counted table", 64)
        self.given.require(self.out(table) == self.out.first(table) + by, "the page is counted")
        self.given.require(z3.Implies(any_table != table, self.out(any_table) == self.out.first(any_table)), "of no other table")

    def remembers(self) -> Any:
        """What LAST may say: the table of the page's 2 MiB, where the walk ends in one, or another's, or none."""
        last = SimpleNamespace(block=self.given.u64("block of the last table"), table=self.given.u64("last table"), is_out=False)
        self.given.replace(host_map.LAST, last)
        if self.given.boolean("the table is remembered"):
            found = tables.walk(self.space, self.page)
            if int(found.level) != int(LAST_LEVEL):
                raise Infeasible
            last.block, last.table = integer(self.block()), found.table
        else:
            self.given.assume(term(last.block) != self.block())
        return last

    def block(self) -> Term:
        """What LAST has for the page's 2 MiB."""
        return z3.LShR(term(self.page), 21) + 1

    def requires_others(self, asked: Term, inside: bool) -> None:
        """An address of another page leads where it did."""
        if not inside:
            self.requires_same(asked)


@about(host_map.remove, host_map._find_table, outcomes=("out", "refused"),
       assumes=("tables.walk", "tables.in_last_table", "tables.split", "tables.empty_slot", "pages.addresses"), bounds=(SPLIT, NEVER_FREED))
def remove(given: Given) -> None:
    """The page's leaf is gone, from the TLBs too, with its table still there, which is remembered; every other address leads where it did; with Err
    nothing changes."""
    machine = Machine(given)
    last = machine.remembers()
    before = (term(last.block), term(last.table))
    if not given.holds(term(last.block) != machine.block()):
        machine.assumes_count(term(last.table), empty=not tables.walk(machine.space, machine.page).descriptor.valid)

    def split(space: Space, at: u64, level: u64) -> Any:
        given.require(space is machine.space and int(level) == 3, "down to a page of the host's map")
        given.require(term(at) == term(machine.page), "at the page's address")
        found = tables.walk(space, at)
        if not found.descriptor.valid:
            return Err.NOT_FOUND
        if int(found.level) != 3:
            if given.boolean("a table is missing"):
                return Err.NO_MEMORY
            raise Infeasible
        machine.assumes_count(term(found.table), empty=False)
        return found

    given.replace(tables.split, split)
    with HOST_LOCK:
        result = host_map.remove(machine.pa)
    given.outcome("refused" if isinstance(result, Err) else "out")
    if isinstance(result, Err):
        machine.requires_unchanged()
        given.require(not machine.out.writes, "Err counts nothing")
        given.require(z3.And(term(last.block) == before[0], term(last.table) == before[1]), "nor is anything else remembered")
        return
    there = tables.walk(machine.space, machine.page)
    given.require(z3.And(term(last.block) == machine.block(), there.level == 3, term(last.table) == term(there.table)), "its table is remembered")
    machine.requires_counted(term(there.table), 1)
    given.require((machine.out(term(there.table)) == 512) == given.holds(last.is_out), "and whether the block is out as a whole")
    machine.requires_order(term(machine.page))
    inside, asked = machine.beside(machine.page, 3)
    if inside:
        given.require(machine.translation(asked, now=False).valid, "the host reached it")
        given.require(z3.Not(machine.translation(asked, now=True).valid), "the host reaches it no more")
    machine.requires_others(asked, inside)


@about(host_map.restore, outcomes=("a page", "the last page"), assumes=("tables.walk", "tables.map_leaf", "tables.merge", "pages.addresses"),
       bounds=("host_map.restore: of a page that `remove` took out, so that its table is there and its slot is empty",))
def restore(given: Given) -> None:
    """The page is mapped to itself with all rights, as before it was taken out, without a new table; every other address leads where it did. Where
    it was the last one out of a table that was a block, and only there, that becomes a block again."""
    machine = Machine(given)
    before = tables.walk(machine.space, machine.page)
    if before.descriptor.valid or int(before.level) != int(LAST_LEVEL):
        raise Infeasible
    merged: list[bool] = []
    known = SimpleNamespace(block=given.u64("block of the last table"), table=given.u64("last table"))
    given.replace(host_map.LAST, known)
    last = machine.assumes_count(term(before.table), empty=True) == 1

    def merge(space: Space, at: u64, found: Walk) -> None:
        """In place of `tables.merge`: what it demands of this slot. Of all others the invariant of OUT says it, as no other page is out."""
        given.require(space is machine.space and not merged, "once, in the host's map")
        given.require(z3.And(term(at) == term(machine.page), term(found.table) == term(before.table)), "the page's table")
        given.require(machine.tree(cell(term(before.table), term(before.slot))) == own_leaf(term(machine.page)), "with every page in its place")
        given.require(machine.out(term(before.table)) == 0, "of a table that is none nothing is counted")
        given.require(known.block == 0, "nor is it remembered")
        merged.append(True)

    given.replace(tables.merge, merge)
    with HOST_LOCK:
        host_map.restore(machine.pa)
    given.outcome("the last page" if merged else "a page")
    given.require(last == bool(merged), "a block is made of the table exactly when its last page is back")
    given.require(not machine.supply.taken and not machine.supply.freed, "no table is taken or freed")
    machine.requires_counted(term(before.table), -1)
    machine.requires_order(term(machine.page))
    inside, asked = machine.beside(machine.page, 3)
    if inside:
        same = z3.Extract(47, 0, asked)
        wanted = Translation(z3.BoolVal(True), same, attributes_of(z3.BitVecVal(EVERYTHING, 64)))
        given.require(machine.translation(asked, now=True) == wanted, "to itself, with all rights")
    machine.requires_others(asked, inside)


@about(host_map.is_block_out, outcomes=("out", "not out"))
def is_block_out(given: Given) -> None:
    """What `remove` left of it."""
    said = given.boolean("out")
    given.replace(host_map.LAST, SimpleNamespace(is_out=said))
    with HOST_LOCK:
        found = host_map.is_block_out()
    given.outcome("out" if found else "not out")
    given.require(found == said, "as it was")


def own_leaf(page: Term) -> Term:
    """The leaf of a page that leads to itself with all rights."""
    return z3.Concat(z3.BitVecVal(0, 16), z3.Extract(47, 12, page), z3.BitVecVal(EVERYTHING | 3, 12))


@about(host_map._mark, outcomes=("marked", "left"), assumes=("tables.walk",))
def mark(given: Given) -> None:
    """A last table of which nothing is counted is one that never was a block, as one that was has pages out; of no other is anything counted."""
    machine = Machine(given)
    found = tables.walk(machine.space, machine.page)
    count, table = machine.out.first(term(found.table)), term(found.table)
    with HOST_LOCK:
        host_map._mark(machine.page)
    given.outcome("marked" if machine.out.writes else "left")
    marks = z3.And(count == 0, z3.BoolVal(int(found.level) == 3))
    given.require(machine.out(table) == z3.If(marks, z3.BitVecVal(int(host_map.RAGGED), 32), count), "exactly a fresh last table is marked")
    any_table = given.word("any counted table", 64)
    given.require(z3.Implies(any_table != table, machine.out(any_table) == machine.out.first(any_table)), "no other")
    machine.requires_unchanged()


@about(host_map.attach)
def attach(given: Given) -> None:
    """OUT has a count for each page, all zero, in the memory that it was given and in no other."""
    at, count, cells = given.u64("at"), given.u64("pages"), Cells("out", u32)
    given.assume(z3.ULT(term(count), 1 << 32), z3.ULT(term(at), 1 << 47))
    made = Words(cells)
    lent, cleared = clearing(term(at), term(count) * 4)
    given.replace(host_map.OUT, made)
    given.replace(owned, lent)
    host_map.attach(Pa(at), count)
    given.require(cleared == [True], "cleared once")
    given.require(z3.And(term(made.address) == term(at), term(made.length) == term(count)), "where it was said, as many as there are pages")


@about(host_map.create, host_map.forget_table, host_map.add, host_map.is_mapped, outcomes=("done", "refused"),
       assumes=("stages.create_stage2", "stages.passed_on", "stages.translate_stage2", "host_map.mark"))
def passed_on(given: Given) -> None:
    """Each goes to stage 2 with the host's own space, pools and VMID; what is added is added to itself, with all rights, and the tables at its ends
    are marked; answers pass."""
    space, at, size, refused = Space(), given.u64("at"), given.u64("size"), given.boolean("refused")
    answer = Err.NO_MEMORY if refused else None
    seen: list[tuple[Any, ...]] = []

    def noted(*arguments: Any) -> Any:
        seen.append(arguments)
        return answer

    last = SimpleNamespace(block=given.u64("block of the last table"), table=given.u64("last table"))
    given.replace(host_map.LAST, last)
    given.replace(host_map.HOST_SPACE, space)
    for static in (stage2.create, stage2.map_range, stage2.translate):
        given.replace(static, noted)
    marked: list[Term] = []
    given.replace(host_map._mark, lambda end: marked.append(term(end)))
    given.assume(z3.ULE(term(size), (1 << 48) - 1), z3.ULT(term(at), 1 << 48))
    given.outcome("refused" if refused else "done")
    with HOST_LOCK:
        given.require(host_map.create(at) is answer and host_map.add(at, size) is answer, "errors pass")
        given.require(host_map.is_mapped(at) == refused, "mapped where a translation is found")
    ends = (term(at), term(at) + term(size) - 1)
    nothing = refused or given.holds(term(size) == 0)
    given.require(not marked if nothing else z3.And([got == end for got, end in zip(marked, ends, strict=True)]), "both ends of what was added")
    created, added, asked = seen
    given.require(last.block == 0, "of an empty map nothing is remembered")
    given.require(created[0] is space and added[0] is space and asked[0] is space, "the host's space")
    given.require(created[2] is PoolName.STARTS and created[3] is PoolName.HOST and created[4] == 0, "its pools and VMID")
    given.require(z3.And(term(created[1]) == term(at), term(asked[1]) == term(at)), "as asked for")
    given.require(z3.And([term(value) == wanted for value, wanted in zip(added[1:4], (term(at), term(at), term(size)), strict=True)]), "to itself")
    rights = added[5]
    given.require(added[4] is Stage2Memory.NORMAL and rights.read and rights.write and rights.execute, "as memory, with all rights")
