# SPDX-License-Identifier: Apache-2.0
"""Translation tables: walk, map, unmap, split, change, from any sound set of tables.

What an operation does is said of the processor's walk for one arbitrary address, before and after; the walk is stated here again, without the
code that is proved. What the processor may still remember is said of the order of stores, barriers and TLB operations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import SLOTS, Descriptor
from delphyne.el2.memory import flush, pages, tables
from delphyne.lang import u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Cells, Tables, Write, cell
from delphyne.prove.path import Formula, Term
from delphyne.prove.spaces import Map, Translation, attributes_of
from delphyne.prove.symbolic import constant, integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import PERMISSIONS

POOLS = ("pages.reserve", "pages.unreserve", "pages.take_reserved", "pages.free", "pages.addresses")
LOCKED = "the lock of the space is held: nobody else changes its tables meanwhile"
STARTS = "tables: walks that start at level 0 are those of EL2's map, walks that start at level 1 those of stage 2"
about = partial(theorem, assumes=POOLS, trusts=(LOCKED,), bounds=(STARTS,))


class Watched(Cells):
    """Cells that remember which of them were loaded."""

    def __init__(self, name: str, cls: type) -> None:
        super().__init__(name, cls)
        self.loaded: list[Term] = []

    def load(self, at: Term) -> u64:
        """The value of a cell, which is remembered."""
        self.loaded.append(at)
        value: u64 = super().load(at)
        return value


@about(tables.walk, tables.walk_to, tables._load, tables._next_table)
def walk(given: Given) -> None:
    """The walk finds what the processor's walk finds, and changes nothing."""
    tree = Map(given)
    address = tree.input("address")
    found = tables.walk(tree.space, address)
    there = tree.translation(term(address), now=False)
    given.require(there.valid == found.descriptor.valid, "valid where the processor's is")
    word = term(found.descriptor)
    given.require(z3.Implies(there.valid, attributes_of(word) == there.attributes), "with its attributes")
    tree.requires_unchanged()


@about(tables.map_leaf, tables._install, tables._is_free, tables._publish, tables._table_descriptor, tables.leaf, outcomes=("mapped", "refused"),
       bounds=(STARTS, "tables.map_leaf: address and output are aligned to the leaf and in range, as its text demands",))
def map_leaf(given: Given) -> None:
    """One leaf is added: the addresses of its slot lead where they should, all others where they did; with Err nothing changes."""
    tree = Map(given)
    level = given.one_of("level", (1, 2, 3))
    low = 12 + 9 * (3 - level)
    address = tree.input("address", level)
    output, attributes = given.u64("output"), given.u64("attributes")
    given.assume(z3.ULT(term(output), 1 << 48), z3.Extract(low - 1, 0, term(output)) == 0)
    given.assume(z3.Extract(47, 12, term(attributes)) == 0, z3.Extract(1, 0, term(attributes)) == 0)
    result = tables.map_leaf(tree.space, address, output, u64(level), attributes)
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "mapped")
    if refused:
        tree.requires_unchanged()
        return
    tree.requires_order(term(address))
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, level)
    if inside:
        output_there = z3.Concat(z3.Extract(47, low, term(output)), z3.Extract(low - 1, 0, asked))
        wanted = Translation(z3.BoolVal(True), output_there, attributes_of(term(attributes)))
        given.require(tree.translation(asked, now=True) == wanted, "the leaf's addresses lead to its output")
        given.require(z3.Not(tree.translation(asked, now=False).valid), "nothing was mapped there")
    else:
        tree.requires_same(asked)


@theorem(tables._alone, outcomes=("alone", "in company"))
def alone(given: Given) -> None:
    """Whether every other slot of a table is zero."""
    cells, table, slot = Watched("word", u64), given.u64("table"), given.u64("slot")
    given.replace(pages.TABLES, Tables(cells, given.u64("pages")))
    given.assume(z3.ULT(term(table), 1 << 32), z3.ULT(term(table), z3.BitVec("pages", 64)), z3.ULT(term(slot), 512))
    given.replace(SLOTS, constant(SLOTS))
    other = z3.ZeroExt(55, given.word("other slot", 9))
    steps = z3.ZeroExt(55, z3.Extract(8, 0, other - term(slot)))
    given.rule(tables._alone, Rule(lambda here: z3.Implies(z3.And(z3.ULT(steps, here), steps != 0), cells.first(cell(term(table), other)) == 0)))
    found = tables._alone(table, slot)
    given.outcome("alone" if found else "in company")
    given.require(not cells.writes, "nothing changes")
    if found:
        given.require(z3.Implies(other != term(slot), cells.first(cell(term(table), other)) == 0), "every other slot is zero")
        return
    company = [z3.And(cells.first(at) != 0, z3.LShR(at, 9) == term(table), at != cell(term(table), term(slot))) for at in cells.loaded]
    given.require(z3.Or(company), "some other slot is not zero")


@about(tables.unmap_leaf, tables._highest_alone, tables._dismantle, tables._clear, tables._flush, flush.el2_address, flush.stage2_address,
       flush._enter, flush._leave, outcomes=("unmapped", "refused"), assumes=(*POOLS, "tables.alone"))
def unmap_leaf(given: Given) -> None:
    """The leaf that an address leads to is gone, from the TLBs too, with the tables that held nothing else; with Err nothing changes."""
    tree = Map(given)
    address = tree.input("address")
    found = tables.unmap_leaf(tree.space, address)
    refused = isinstance(found, Err)
    given.outcome("refused" if refused else "unmapped")
    if isinstance(found, Err):
        given.require(z3.Not(tree.translation(term(address), now=False).valid), "refused only where nothing is mapped")
        tree.requires_unchanged()
        return
    tree.requires_order(term(address))
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, int(found.level))
    if inside:
        given.require(tree.translation(asked, now=False).valid, "what is unmapped was mapped")
        given.require(z3.Not(tree.translation(asked, now=True).valid), "nothing leads there any more")
    else:
        tree.requires_same(asked)


def _pieces(given: Given, tree: Map, name: str) -> Rule:
    """Before round i, the new table says in its first i slots what the block said of those addresses."""
    slot = z3.ZeroExt(55, given.word(name, 9))

    def piece(known: dict[str, Any], at: Term) -> Term:
        block, level = term(known["block"].descriptor), int(known["level"])
        pieces = [z3.Extract(47, 21 if level == 3 else 30, block), z3.Extract(8, 0, at), *([] if level == 3 else [z3.BitVecVal(0, 9)])]
        return z3.simplify(z3.Concat(z3.Extract(63, 48, block), *pieces, z3.Extract(11, 2, block), z3.BitVecVal(3 if level == 3 else 1, 2)))

    def holds(here: Term) -> Formula:
        known = given.path.locals
        return z3.Implies(z3.ULT(slot, here), tree.tree(cell(term(known["table"]), slot)) == piece(known, slot))

    def state(here: Term) -> None:
        known = given.path.locals
        page = term(known["table"])

        def where(at: Term) -> Formula:
            return z3.And(given.path.normal(z3.LShR(at, 9)) == page, z3.ULT(z3.ZeroExt(55, z3.Extract(8, 0, at)), here))

        tree.tree.writes.append(Write(where, lambda at: piece(known, at)))

    return Rule(holds, state)


@about(tables.split, tables._split_once, outcomes=("split", "fine enough", "refused"))
def split(given: Given) -> None:
    """Every address leads where it did with the attributes it had, by leaves of the level or finer; with Err nothing changes."""
    tree = Map(given)
    address, level = tree.input("address"), given.one_of("level", (2, 3))
    given.rule(tables._split_once, _pieces(given, tree, "any slot"), _pieces(given, tree, "any slot below"))
    result = tables.split(tree.space, address, u64(level))
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "split" if tree.tree.writes else "fine enough")
    if refused or not tree.tree.writes:
        tree.requires_unchanged()
        return
    tree.requires_order(term(address))
    given.require(int(tables.walk(tree.space, address).level) == level, "the leaf is of the level asked for")
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, level - len(tree.supply.taken))
    if inside:
        given.require(tree.translation(asked, now=True) == tree.translation(asked, now=False), "the block's addresses lead where they did")
    else:
        tree.requires_same(asked)


@about(tables.change)
def change(given: Given) -> None:
    """The leaf has new permissions, its output and everything else stay, and no processor uses the old ones."""
    tree = Map(given)
    address = tree.input("address")
    found = tables.walk(tree.space, address)
    given.assume(term(found.descriptor.raw) & 1 == 1)
    word, changed = term(found.descriptor.raw), given.word("changed", 64)
    given.assume((word & ~z3.BitVecVal(PERMISSIONS, 64)) == (changed & ~z3.BitVecVal(PERMISSIONS, 64)))
    tables.change(tree.space, address, found, Descriptor.of(integer(changed)))
    tree.requires_order(term(address))
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, int(found.level))
    if inside:
        before, after = tree.translation(asked, now=False), tree.translation(asked, now=True)
        given.require(z3.And(after.valid, after.output == before.output, after.attributes == attributes_of(changed)), "new permissions, old output")
    else:
        tree.requires_same(asked)
