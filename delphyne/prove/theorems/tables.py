# SPDX-License-Identifier: Apache-2.0
"""Translation tables: walk, map, unmap, split, change, from any sound set of tables.

What an operation does is said of the processor's walk for one arbitrary address, before and after; the walk is stated here again, without the
code that is proved. What the processor may still remember is said of the order of stores, barriers and TLB operations.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import caches
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import SLOTS, Descriptor
from delphyne.el2.memory import pages, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Space
from delphyne.lang import Pa, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Cells, Looked, Tables, Write, cell, filling
from delphyne.prove.path import Formula, Infeasible, Term
from delphyne.prove.spaces import LEAF, Map, Translation, attributes_of, slot_term
from delphyne.prove.symbolic import constant, integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import PERMISSIONS, Called, events

POOLS = ("pages.reserve", "pages.unreserve", "pages.take_reserved", "pages.free", "pages.addresses")
LOCKED = "the lock of the space is held: nobody else changes its tables meanwhile"
STARTS = "tables: walks that start at level 0 are those of EL2's map, walks that start at level 1 those of stage 2"
about = partial(theorem, assumes=POOLS, trusts=(LOCKED,), bounds=(STARTS,))


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


@about(tables.in_last_table)
def in_last_table(given: Given) -> None:
    """Of a table of pages in which a walk ended, the slot for any of its addresses, with what a walk of that finds; nothing changes."""
    tree = Map(given)
    first = tree.input("address")
    there = tables.walk(tree.space, first)
    if int(there.level) != 3:
        raise Infeasible
    other = z3.Concat(z3.Extract(63, 21, term(first)), given.word("within the table", 21))
    found = tables.in_last_table(there.table, integer(other))
    given.require(z3.And(term(found.table) == term(there.table), found.level == 3), "in that table")
    given.require(term(found.slot) == z3.ZeroExt(55, z3.Extract(20, 12, other)), "the slot of the address")
    asked = tree.translation(other, now=False)
    given.require(asked.valid == found.descriptor.valid, "valid where the processor's is")
    given.require(z3.Implies(asked.valid, attributes_of(term(found.descriptor)) == asked.attributes), "with its attributes")
    tree.requires_unchanged()


@about(tables.map_leaf, tables.map_found, tables._install, tables._is_free, tables._publish, tables._table_descriptor, tables.leaf,
       outcomes=("mapped", "refused"),
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
    cells, table, slot = Looked("word", u64), given.u64("table"), given.u64("slot")
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
    company = [z3.And(cells.first(at) != 0, z3.LShR(at, 9) == term(table), at != cell(term(table), term(slot))) for at in cells.looked]
    given.require(z3.Or(company), "some other slot is not zero")


@about(tables.unmap_leaf, tables._highest_alone, tables._dismantle, tables._clear, tables._flush, outcomes=("unmapped", "refused"),
       assumes=(*POOLS, "tables.alone"))
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


@about(tables.empty_slot)
def empty_slot(given: Given) -> None:
    """A leaf is gone, from the TLBs too; its table stays, even where that is empty now."""
    tree = Map(given)
    address = tree.input("address")
    found = tables.walk(tree.space, address)
    given.assume(term(found.descriptor.raw) & 1 == 1)
    tables.empty_slot(tree.space, address, found)
    tree.requires_order(term(address))
    inside, asked = tree.beside(address, int(found.level))
    if inside:
        given.require(z3.Not(tree.translation(asked, now=True).valid), "nothing leads there any more")
    else:
        tree.requires_same(asked)


@about(tables.deepen, outcomes=("there", "added", "refused"))
def deepen(given: Given) -> None:
    """Empty tables are added down to a page's: no address leads elsewhere than before; with Err nothing changes."""
    tree = Map(given)
    address = tree.input("address")
    before = tables.walk(tree.space, address)
    found = tables.deepen(tree.space, address)
    given.outcome("refused" if isinstance(found, Err) else "added" if tree.tree.writes else "there")
    if isinstance(found, Err) or not tree.tree.writes:
        tree.requires_unchanged()
        return
    given.require(int(found.level) == 3, "the walk gets to the page's slot")
    inside, asked = tree.beside(address, int(before.level))
    if inside:
        given.require(z3.Not(tree.translation(asked, now=False).valid), "nothing was mapped there")
        given.require(z3.Not(tree.translation(asked, now=True).valid), "nor is it now")
    else:
        tree.requires_same(asked)


def _pieces(given: Given, tree: Map) -> Rule:
    """Before round i, the new table says in its first i slots what the block said of those addresses."""
    known: dict[str, Any] = {}

    def piece(at: Term) -> Term:
        block, level = term(known["block"].descriptor), int(known["level"])
        pieces = [z3.Extract(47, 21 if level == 3 else 30, block), z3.Extract(8, 0, at), *([] if level == 3 else [z3.BitVecVal(0, 9)])]
        return z3.simplify(z3.Concat(z3.Extract(63, 48, block), *pieces, z3.Extract(11, 2, block), z3.BitVecVal(3 if level == 3 else 1, 2)))

    def where(at: Term, here: Term) -> Formula:
        return z3.And(given.path.normal(z3.LShR(at, 9)) == term(known["table"]), z3.ULT(z3.ZeroExt(55, z3.Extract(8, 0, at)), here))

    def write(words: Cells, here: Term) -> Write:
        if not known:
            known.update(given.path.locals)
        return Write(lambda at: where(at, here), piece)

    return filling([tree.tree], write)


@about(tables.split, tables._split_once, outcomes=("split", "fine enough", "refused"))
def split(given: Given) -> None:
    """Every address leads where it did with the attributes it had, by leaves of the level or finer; with Err nothing changes."""
    tree = Map(given)
    address, level = tree.input("address"), given.one_of("level", (2, 3))
    given.rule(tables._split_once, _pieces(given, tree), _pieces(given, tree))
    result = tables.split(tree.space, address, u64(level))
    given.outcome("refused" if isinstance(result, Err) else "split" if tree.tree.writes else "fine enough")
    if isinstance(result, Err) or not tree.tree.writes:
        tree.requires_unchanged()
        return
    tree.requires_order(term(address))
    given.require(int(result.level) == level, "the leaf is of the level asked for")
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, level - len(tree.supply.taken))
    if inside:
        given.require(tree.translation(asked, now=True) == tree.translation(asked, now=False), "the block's addresses lead where they did")
    else:
        tree.requires_same(asked)


@about(tables.merge, tables.close, assumes=(*POOLS, "stages.flush_all", "tables.vttbr_of"),
       trusts=(LOCKED, "caches.zero_page zeroes the page, and nothing else"))
def merge(given: Given) -> None:
    """A table whose slots lead to one page after another becomes a block: every address leads where it did with the attributes it had, all that any
    processor remembers of the VMID is forgotten in between, and the table is free."""
    tree = Map(given, (PoolName.HOST,))
    address = tree.input("address")
    found = tables.walk(tree.space, address)
    if int(found.level) != 3:
        raise Infeasible
    table, first = term(found.table), cell(term(found.table), z3.BitVecVal(0, 64))
    frame, bits = given.word("block", 27), given.word("attributes", 64)

    def in_its_place(at: Term) -> Formula:
        """What is known of every slot of the table: it leads to its page of the block."""
        page = z3.Concat(frame, z3.Extract(8, 0, at))
        return z3.And(tree.tree.kind(at) == LEAF, tree.tree.frame(at) == page, tree.tree.bits(at) == bits)

    given.assume(in_its_place(cell(table, term(found.slot))), in_its_place(first))

    def zero(pa: Pa) -> None:
        """In place of `caches.zero_page`: no word of the page is anything but zero. No processor walks it by then."""
        given.require(term(pages.page_of_address(pa)) == table, "the table that is gone, and no other page")
        happened = [event.name for event in events() if isinstance(event, Called)]
        forgotten = "tlbi vmalls12e1is" in happened and "dsb ish" in happened[happened.index("tlbi vmalls12e1is") :]
        given.require(forgotten, "no processor walks what is zeroed")
        tree.tree.writes.append(Write(lambda at: given.path.normal(z3.LShR(at, 9)) == table, lambda at: z3.BitVecVal(0, 64)))

    given.replace(caches.zero_page, zero)
    tables.merge(tree.space, address, found)
    given.require(len(tree.supply.freed) == 1 and not tree.supply.taken, "a table more is free")
    given.require(tree.supply.freed[0] == table, "which is the one")
    tree.requires_order(term(address), whole=True)
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, 2)
    if inside:
        given.assume(in_its_place(cell(table, slot_term(asked, 3))))
        given.require(tree.translation(asked, now=True) == tree.translation(asked, now=False), "the block's addresses lead where they did")
        given.require(int(tables.walk(tree.space, integer(asked)).level) == 2, "by a block")
    else:
        tree.requires_same(asked)


@about(tables.open_again, assumes=("stages.flush_stage2", "tables.vttbr_of"))
def open_again(given: Given) -> None:
    """A block becomes the table that says the same of each of its pages: every address leads where it did with the attributes it had."""
    tree = Map(given, (PoolName.HOST,))
    address = tree.input("address")
    block = tables.walk(tree.space, address)
    if int(block.level) != 2 or not block.descriptor.valid:
        raise Infeasible
    table, word = z3.ZeroExt(32, given.word("kept table", 32)), term(block.descriptor.raw)
    given.assume(tree.supply.holds(table), z3.Not(tree.supply.used(table)))
    tree.supply.taken.append(table)
    """In use, though no slot leads to it: as one that was taken, with these words, before the function began."""
    tree.tree.writes.append(
        Write(lambda at: given.path.normal(z3.LShR(at, 9)) == table, lambda at: word | 2 | (at & 511) << 12)
    )
    tables.open_again(tree.space, address, block, integer(table))
    tree.requires_order(term(address))
    if given.boolean("asked about words"):
        tree.requires_sound()
        return
    inside, asked = tree.beside(address, 2)
    if inside:
        given.require(tree.translation(asked, now=True) == tree.translation(asked, now=False), "the block's addresses lead where they did")
        given.require(int(tables.walk(tree.space, integer(asked)).level) == 3, "by pages")
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


@about(tables.map_range, tables._tables_missing, tables.leaf_level, tables.covers, outcomes=("mapped", "refused"),
       assumes=(*POOLS, "tables.map_leaf"),
       bounds=(STARTS, "tables.map_range: ranges of one leaf, and of two under one table; longer ones by ring 1's models"))
def map_range(given: Given) -> None:
    """A range that is one leaf is mapped as by `map_leaf`, with exactly the tables reserved that are missing; with Err nothing changes."""
    tree = Map(given)
    level = given.one_of("level", (1, 2, 3))
    low = 12 + 9 * (3 - level)
    address = z3.Concat(given.word("address", 64 - low), z3.BitVecVal(0, low))
    output, attributes = z3.Concat(given.word("output", 64 - low), z3.BitVecVal(0, low)), given.u64("attributes")
    installed: list[tuple[Any, ...]] = []

    def install(space: Any, found: Any, at: u64, last: Descriptor, depth: u64) -> None:
        installed.append((found, at, last, depth))
        for _ in range(int(depth) - int(found.level)):
            pages.take_reserved(space.pool)

    given.replace(tables._install, install)
    inside = z3.And(z3.ULT(address, z3.BitVecVal(1, 64) << tree.bits), z3.ULT(output, 1 << 48))
    result = tables.map_range(tree.space, integer(address), integer(output), u64(1 << low), attributes)
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "mapped")
    if refused:
        given.require(not installed, "Err maps nothing")
        tree.requires_unchanged()
        return
    given.require(inside, "only what lies in both address spaces")
    given.require(len(installed) == 1, "one leaf")
    found, at, last, depth = installed[0]
    given.require(int(depth) == level and int(found.level) <= level, "the largest leaf")
    given.require(term(at) == address, "at the address")
    given.require(term(last.raw) & 3 == (3 if level == 3 else 1), "a valid leaf of that level")
    rest = ~z3.BitVecVal(3, 64)
    given.require(term(last.raw) & rest == (output | term(attributes)) & rest, "to the output, with these attributes")
    given.require(z3.Not(tree.translation(address, now=False).valid), "nothing was mapped there")
    given.require(tree.supply.reserved == tree.supply.reserved_before, "all that was reserved is used")


@about(tables.map_range, tables._tables_missing, outcomes=("mapped", "refused"), assumes=(*POOLS, "tables.map_leaf"))
def map_two_leaves(given: Given) -> None:
    """Two pages, or a block and a page, whose first slots stand in one table that is there, are mapped one behind the other."""
    tree = Map(given)
    level = given.one_of("first leaf's level", (2, 3))
    low = 12 + 9 * (3 - level)
    address = z3.Concat(z3.BitVecVal(0, 16), given.word("address", 47 - low), z3.BitVecVal(0, low + 1))
    output, attributes = z3.Concat(given.word("output", 64 - low), z3.BitVecVal(0, low)), given.u64("attributes")
    given.assume(z3.ULT(address, z3.BitVecVal(1, 64) << tree.bits), z3.ULT(output, (1 << 48) - (1 << low)))
    if int(tables.walk(tree.space, integer(address)).level) != level:
        raise Infeasible
    installed: list[tuple[Any, ...]] = []

    def install(space: Any, found: Any, at: u64, last: Descriptor, depth: u64) -> None:
        installed.append((found, at, last, depth))
        for _ in range(int(depth) - int(found.level)):
            pages.take_reserved(space.pool)

    given.replace(tables._install, install)
    refused = isinstance(tables.map_range(tree.space, integer(address), integer(output), u64((1 << low) + 4096), attributes), Err)
    given.outcome("refused" if refused else "mapped")
    given.require(not tree.tree.writes, "tables are changed by _install only")
    given.require(tree.supply.reserved == tree.supply.reserved_before, "all that was reserved is used")
    given.require(len(installed) == (0 if refused else 2), "both, or none")
    for number, (found, at, last, depth) in enumerate(installed):
        offset = number << low
        given.require(z3.And(term(at) == address + offset, term(depth) == (3 if number else level)), "the next leaf at the next address")
        frames = [z3.Extract(47, 12, word & ~term(attributes)) for word in (term(last.raw), output + offset)]
        given.require(frames[0] == frames[1], "its output")
        given.require(z3.Not(tree.translation(address + offset, now=False).valid), "where nothing was mapped")
        given.require(int(found.level) >= level, "from where the walk stopped")


@theorem(tables.map_range, outcomes=("looked for tables", "refused at once"), trusts=(LOCKED,))
def map_range_checks(given: Given) -> None:
    """Any range that is not whole pages inside both address spaces is refused before anything is looked at."""
    space, address, output, size = Space(), given.u64("address"), given.u64("output"), given.u64("size")
    space.bits = given.u64("bits")
    given.assume(z3.UGE(term(space.bits), 39), z3.ULE(term(space.bits), 48))
    looked: list[Any] = []

    def missing(*arguments: Any) -> Err:
        looked.append(arguments)
        return Err.EXISTS

    given.replace(tables._tables_missing, missing)
    given.require(isinstance(tables.map_range(space, address, output, size, u64(0)), Err), "an error is passed on")
    given.outcome("looked for tables" if looked else "refused at once")
    limit = z3.BitVecVal(1, 64) << term(space.bits)
    inside = z3.And(z3.ULT(term(address), limit), z3.ULE(term(size), limit - term(address)))
    fits = z3.And(z3.ULT(term(output), 1 << 48), z3.ULE(term(size), (1 << 48) - term(output)))
    aligned = (term(address) | term(output) | term(size)) & 4095 == 0
    given.require(z3.And(aligned, inside, fits) == bool(looked), "exactly what is allowed goes on")
    if looked:
        same = [term(got) == term(wanted) for got, wanted in zip(looked[0][1:], (address, output, size), strict=True)]
        given.require(z3.And(same), "as it was asked for")


@about(tables._unmap_slot, outcomes=("something", "nothing"), assumes=("tables.unmap_leaf",))
def unmap_slot(given: Given) -> None:
    """The address behind the slot that was emptied, or was empty."""
    tree = Map(given)
    address = tree.input("address")
    before = tables.walk(tree.space, address)
    mapped = given.holds(term(before.descriptor.raw) & 1 == 1)
    given.outcome("something" if mapped else "nothing")
    given.replace(tables.unmap_leaf, lambda space, at: before if mapped else Err.NOT_FOUND)
    behind = term(tables._unmap_slot(tree.space, address))
    low = 12 + 9 * (3 - int(before.level))
    given.require(behind == (z3.LShR(term(address), low) + 1) << low, "the end of the slot")


@theorem(tables.unmap_range, outcomes=("all", "a part", "refused"), assumes=("tables.unmap_slot", "tables.split_edge"),
         trusts=(LOCKED, "tables.unmap_range: what is reserved for both ends is what both splits take (each count is proved, the sum is tested)"))
def unmap_range(given: Given) -> None:
    """Slots are emptied one behind the other from the first address, none beyond the end; the result says how far; with Err nothing happens."""
    address, size, space = given.u64("address"), given.u64("size"), Space()
    at: list[Term] = []
    space.bits = given.u64("bits")
    given.assume(z3.UGE(term(space.bits), 39), z3.ULE(term(space.bits), 48))
    missing = given.boolean("tables are missing")
    split: list[Any] = []
    counted: list[tuple[Term, Term]] = []

    def reserve(name: Any, count: u64) -> Err | None:
        given.require(count == len(counted) * 5 - 2, "what both ends need is reserved")
        return Err.NO_MEMORY if missing else None

    def splits(space: Any, edge: u64, other: u64) -> u64:
        counted.append((term(edge), term(other)))
        return u64(3 if len(counted) == 1 else 5)

    given.replace(pages.reserve, reserve)
    given.replace(tables._splits_at, splits)
    given.replace(tables._split_edge, lambda space, edge: split.append(edge))

    def unmapped(space: Any, here: u64) -> u64:
        given.require(z3.And(z3.UGE(term(here), term(address)), z3.ULT(term(here), term(address) + term(size))), "nothing beyond the range")
        given.require(not at or term(here) == at[-1], "one behind the other")
        behind = given.path.fresh_word("behind", 64)
        given.assume(z3.UGT(behind, term(here)), z3.ULE(behind, 1 << 48))
        at.append(behind)
        made: u64 = integer(behind)
        return made

    given.replace(tables._unmap_slot, unmapped)
    result = tables.unmap_range(space, address, size)
    inside = z3.And(z3.ULT(term(address), z3.BitVecVal(1, 64) << term(space.bits)),
                    z3.ULE(term(size), (z3.BitVecVal(1, 64) << term(space.bits)) - term(address)))
    if isinstance(result, Err):
        given.outcome("refused")
        aligned = (term(address) | term(size)) & 4095 == 0
        given.require(z3.Or(missing, z3.Not(aligned), z3.Not(inside)), "refused only for a reason")
        given.require(not at and not split, "Err changes nothing")
        return
    ends = (term(address), z3.BitVecVal(0, 64), term(address) + term(size), term(address))
    given.require(z3.And([got == wanted for got, wanted in zip(sum(counted, ()), ends, strict=True)]), "counted at both ends, what they share once")
    given.require(not missing, "refused where tables are missing")
    given.require(inside, "only input addresses")
    given.require((term(address) | term(size)) & 4095 == 0, "only whole pages")
    given.require(len(split) == 2, "both ends are split")
    given.require(z3.And(term(split[0]) == term(address), term(split[1]) == term(address) + term(size)), "at the ends of the range")
    done = term(result) == term(size)
    given.outcome("all" if given.holds(done) else "a part")
    if at:
        reached = z3.If(z3.ULT(at[-1], term(address) + term(size)), at[-1], term(address) + term(size))
        given.require(term(result) == reached - term(address), "as far as the result says")
    else:
        given.require(term(size) == 0, "nothing to do")


@theorem(tables.is_empty, outcomes=("empty", "something"))
def is_empty(given: Given) -> None:
    """True exactly if every word of the start tables is zero."""
    cells, space = Looked("word", u64), Space()
    root, roots = z3.ZeroExt(32, given.word("root", 32)), z3.ZeroExt(59, given.word("roots", 5))
    given.assume(z3.ULE(roots, 16))
    space.root, space.roots = integer(root), integer(roots)
    given.replace(pages.TABLES, Tables(cells, integer(root + roots)))
    given.replace(SLOTS, constant(SLOTS))
    table, slot = z3.ZeroExt(59, given.word("any table", 5)), z3.ZeroExt(55, given.word("any slot", 9))
    word = cells.first(cell(root + table, slot))

    def tables_before(here: Term) -> Formula:
        return z3.Implies(z3.ULT(table, here), word == 0)

    def slots_before(here: Term) -> Formula:
        return z3.Implies(z3.And(table == term(given.path.locals["table"]), z3.ULT(slot, here)), word == 0)

    given.rule(tables.is_empty, Rule(tables_before), Rule(slots_before))
    found = tables.is_empty(space)
    given.outcome("empty" if found else "something")
    if found:
        given.require(z3.Implies(z3.ULT(table, roots), word == 0), "every word is zero")
    else:
        looked = [z3.And(cells.first(at) != 0, z3.ULT(z3.LShR(at, 9) - root, roots)) for at in cells.looked]
        given.require(z3.Or(looked), "some word is not zero")


@about(tables.vttbr_of)
def vttbr_of(given: Given) -> None:
    """The register holds the address of the first start table and the VMID."""
    tree = Map(given)
    expected = z3.Concat(term(tree.space.vmid), z3.Extract(47, 0, tree.entry(z3.ZeroExt(32, tree.root)) & ~z3.BitVecVal(3, 64)))
    given.require(term(tables.vttbr_of(tree.space).raw) == expected, "as VTTBR_EL2 wants it")


@theorem(tables.leaf_level)
def leaf_level(given: Given) -> None:
    """The coarsest level from 1 whose slots are no longer than the range and start where both addresses do."""
    address, output, size = given.u64("address"), given.u64("output"), given.u64("size")
    given.assume(z3.UGE(term(size), 4096))
    found = tables.leaf_level(address, output, size)

    def fits(low: int) -> Formula:
        return z3.And(z3.UGE(term(size), 1 << low), (term(address) | term(output)) & ((1 << low) - 1) == 0)

    wanted = z3.If(fits(30), z3.BitVecVal(1, 64), z3.If(fits(21), z3.BitVecVal(2, 64), z3.BitVecVal(3, 64)))
    given.require(term(found) == wanted, "the coarsest that fits")


@about(tables._splits_at, tables._cuts)
def splits_at(given: Given) -> None:
    """One split for each level from the leaf's down at which the edge lies inside a slot, but for those that the other edge splits already."""
    tree = Map(given)
    edge, other = given.u64("edge"), given.u64("other edge")
    found = term(tables._splits_at(tree.space, edge, other))
    tree.requires_unchanged()
    if not given.holds(z3.ULT(term(edge), z3.BitVecVal(1, 64) << tree.bits)):
        given.require(found == 0, "nothing is split outside the address space")
        return
    walked = tables.walk(tree.space, edge)
    splits: Term = z3.BitVecVal(0, 64)
    if walked.descriptor.valid:
        for level in range(int(walked.level), 3):
            low = 12 + 9 * (3 - level)
            inside = [term(at) & ((1 << low) - 1) != 0 for at in (edge, other)]
            shared = z3.And(inside[1], z3.LShR(term(edge), low) == z3.LShR(term(other), low))
            splits = splits + z3.If(z3.And(inside[0], z3.Not(shared)), z3.BitVecVal(1, 64), z3.BitVecVal(0, 64))
    given.require(found == splits, "as many as there are levels to split")


@theorem(tables._split_edge, assumes=("tables.splits_at", "tables.split"))
def split_edge(given: Given) -> None:
    """As many splits at the edge as `_splits_at` counts."""
    space, edge, count = Space(), given.u64("edge"), given.one_of("splits", (0, 1, 2, 3))
    done: list[Any] = []
    given.replace(tables._splits_at, lambda asked, at, other: u64(count if other == 0 else 0))
    given.replace(tables._split_once, lambda asked, at: done.append(at))
    tables._split_edge(space, edge)
    given.require(len(done) == count, "so many splits")
    given.require(z3.And([term(at) == term(edge) for at in done]), "at the edge")
