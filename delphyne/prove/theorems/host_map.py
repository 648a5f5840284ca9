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
from delphyne.el2.arch.pagetable import LAST_LEVEL, Stage2Memory
from delphyne.el2.memory import host_map, stage2, tables
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Space
from delphyne.lang import Pa, u64
from delphyne.prove.path import Infeasible, Term
from delphyne.prove.spaces import Map, Translation, attributes_of
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "HOST_LOCK is held: nobody else changes the host's map meanwhile"
SPLIT = "host_map.remove: where a block is split, from then on as from an arbitrary map that has the page (tables.split keeps the rest)"
EVERYTHING = 0x7FC
"""S2AP, shareable, accessed, normal memory, executable: bits 11:2 of a leaf, of which 63:48 are zero."""
NEVER_FREED = "host_map.remove: no table of pages leaves the map without `forget_table` (nothing here frees one)"
about = partial(theorem, trusts=(LOCKED,))


class Machine(Map):
    """An arbitrary host's map, and the page that an operation is about, by an address in it."""

    def __init__(self, given: Given) -> None:
        super().__init__(given, (PoolName.HOST,))
        given.replace(host_map.HOST_SPACE, self.space)
        self.page = self.input("page")
        self.pa = Pa(integer(z3.Concat(z3.Extract(63, 12, term(self.page)), given.word("byte in the page", 12))))

    def remembers(self) -> Any:
        """What LAST may say: the table of the page's 2 MiB, where the walk ends in one, or another's, or none."""
        last = SimpleNamespace(block=self.given.u64("block of the last table"), table=self.given.u64("last table"))
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
        return found

    given.replace(tables.split, split)
    with HOST_LOCK:
        result = host_map.remove(machine.pa)
    given.outcome("refused" if isinstance(result, Err) else "out")
    if isinstance(result, Err):
        machine.requires_unchanged()
        given.require(z3.And(term(last.block) == before[0], term(last.table) == before[1]), "nor what is remembered")
        return
    there = tables.walk(machine.space, machine.page)
    given.require(z3.And(term(last.block) == machine.block(), there.level == 3, term(last.table) == term(there.table)), "its table is remembered")
    machine.requires_order(term(machine.page))
    inside, asked = machine.beside(machine.page, 3)
    if inside:
        given.require(machine.translation(asked, now=False).valid, "the host reached it")
        given.require(z3.Not(machine.translation(asked, now=True).valid), "the host reaches it no more")
    machine.requires_others(asked, inside)


@about(host_map.restore, assumes=("tables.walk", "tables.map_leaf", "pages.addresses"),
       bounds=("host_map.restore: of a page that `remove` took out, so that its table is there and its slot is empty",))
def restore(given: Given) -> None:
    """The page is mapped to itself with all rights, as before it was taken out, without a new table; every other address leads where it did."""
    machine = Machine(given)
    before = tables.walk(machine.space, machine.page)
    if before.descriptor.valid or int(before.level) != int(LAST_LEVEL):
        raise Infeasible
    with HOST_LOCK:
        host_map.restore(machine.pa)
    given.require(not machine.supply.taken and not machine.supply.freed, "no table is taken or freed")
    machine.requires_order(term(machine.page))
    inside, asked = machine.beside(machine.page, 3)
    if inside:
        same = z3.Extract(47, 0, asked)
        wanted = Translation(z3.BoolVal(True), same, attributes_of(z3.BitVecVal(EVERYTHING, 64)))
        given.require(machine.translation(asked, now=True) == wanted, "to itself, with all rights")
    machine.requires_others(asked, inside)


@about(host_map.create, host_map.forget_table, host_map.add, host_map.is_mapped, outcomes=("done", "refused"),
       assumes=("stages.create_stage2", "stages.passed_on", "stages.translate_stage2"))
def passed_on(given: Given) -> None:
    """Each goes to stage 2 with the host's own space, pools and VMID; what is added is added to itself, with all rights; answers pass."""
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
    given.outcome("refused" if refused else "done")
    with HOST_LOCK:
        given.require(host_map.create(at) is answer and host_map.add(at, size) is answer, "errors pass")
        given.require(host_map.is_mapped(at) == refused, "mapped where a translation is found")
    created, added, asked = seen
    given.require(last.block == 0, "of an empty map nothing is remembered")
    given.require(created[0] is space and added[0] is space and asked[0] is space, "the host's space")
    given.require(created[2] is PoolName.STARTS and created[3] is PoolName.HOST and created[4] == 0, "its pools and VMID")
    given.require(z3.And(term(created[1]) == term(at), term(asked[1]) == term(at)), "as asked for")
    given.require(z3.And([term(value) == wanted for value, wanted in zip(added[1:4], (term(at), term(at), term(size)), strict=True)]), "to itself")
    rights = added[5]
    given.require(added[4] is Stage2Memory.NORMAL and rights.read and rights.write and rights.execute, "as memory, with all rights")
