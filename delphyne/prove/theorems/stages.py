# SPDX-License-Identifier: Apache-2.0
"""Stage 1 of EL2 and stage 2: what they add to `tables`: spaces made and ended, attributes, rights, translation.

A function that only passes its arguments on is proved against a stand-in that notes them: what is behind it has theorems of its own.
"""

from __future__ import annotations

from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import errata
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.errata import Errata
from delphyne.el2.arch.pagetable import Descriptor, Stage2Memory, Vttbr
from delphyne.el2.memory import flush, pages, stage1, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Regime, Space, Walk
from delphyne.lang import Ipa, Pa, Va, u32, u64
from delphyne.prove.path import Infeasible, Term
from delphyne.prove.spaces import Map
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, events

LOCKED = "the lock of the space is held: nobody else changes its tables meanwhile"
about = partial(theorem, trusts=(LOCKED,))
NO_WALKS = 1 << 7 | 1 << 23
"""TCR_EL1.EPD0 and EPD1."""
walking = partial(about, assumes=("tables.walk", "pages.addresses"))


def bit(word: Term, number: int) -> Any:
    """Whether a bit is set."""
    return z3.Extract(number, number, word) == 1


@theorem(stage1.attributes)
def w_xor_x(given: Given) -> None:
    """No leaf of EL2's own map is both writable and executable; devices have the attribute of devices; frame, valid and page are left free."""
    use = given.one_of("use", tuple(Use))
    word = term(stage1.attributes(use))
    writable, executable = z3.Not(bit(word, 7)), z3.Not(bit(word, 54))
    given.require(z3.Not(z3.And(writable, executable)), "writable or executable, not both")
    given.require(writable == (use in (Use.DATA, Use.DEVICE)), "writable where it should be")
    given.require(executable == (use is Use.TEXT), "executable where it should be")
    given.require(z3.Extract(4, 2, word) == (1 if use is Use.DEVICE else 0), "the index in MAIR_EL2")
    given.require(z3.And(bit(word, 6), bit(word, 10), z3.Extract(9, 8, word) == 3), "RES1, accessed, inner shareable")
    given.require(z3.And(z3.Extract(1, 0, word) == 0, z3.Extract(53, 11, word) == 0, z3.Extract(63, 55, word) == 0), "nothing else is set")


@theorem(stage2.attributes)
def rights_of_leaves(given: Given) -> None:
    """A stage-2 leaf allows exactly the rights that are given."""
    rights = Rights(given.boolean("read"), given.boolean("write"), given.boolean("execute"))
    memory = given.one_of("memory", tuple(Stage2Memory))
    word = term(stage2.attributes(memory, rights))
    given.require(z3.And(bit(word, 6) == rights.read, bit(word, 7) == rights.write, bit(word, 54) == (not rights.execute)), "S2AP and XN")
    given.require(z3.And(z3.Extract(5, 2, word) == memory.value, bit(word, 10), z3.Extract(9, 8, word) == 3), "memory type, accessed, shareable")
    given.require(z3.And(z3.Extract(1, 0, word) == 0, z3.Extract(53, 11, word) == 0, z3.Extract(63, 55, word) == 0), "nothing else is set")


class AnyRights:
    """Arbitrary rights, each on two paths once somebody asks for it."""

    def __init__(self, given: Given) -> None:
        self.given = given

    @cached_property
    def read(self) -> bool:
        """Whether reading is allowed."""
        return self.given.boolean("read")

    @cached_property
    def write(self) -> bool:
        """Whether writing is."""
        return self.given.boolean("write")

    @cached_property
    def execute(self) -> bool:
        """Whether executing is."""
        return self.given.boolean("execute")


def _fresh_space(given: Given) -> Space:
    """No space yet, or one that is."""
    space = Space()
    space.roots = u64(0) if given.boolean("no space yet") else u64(1)
    return space


def _allocating(given: Given, answer: Any) -> list[PoolName]:
    """Let `pages.allocate` give `answer`; the pools that it is asked of, as they come."""
    asked: list[PoolName] = []

    def allocate(name: PoolName) -> Any:
        asked.append(name)
        return answer

    given.replace(pages.allocate, allocate)
    return asked


@theorem(stage1.create, outcomes=("made", "refused"), assumes=("pages.allocate",))
def create_stage1(given: Given) -> None:
    """EL2's map starts at level 0 in one zero page of its pool; with Err nothing changes."""
    space, left = _fresh_space(given), given.boolean("a page is left")
    root = given.u64("root")
    asked = _allocating(given, root if left else Err.NO_MEMORY)
    new = space.roots == 0
    result = stage1.create(space)
    done = not isinstance(result, Err)
    given.outcome("made" if done else "refused")
    given.require(done == (new and left), "refused where there is one, or no page")
    given.require(asked == ([PoolName.EL2] if new else []), "a page of its own pool, and only where it is wanted")
    if done:
        given.require(term(space.root) == term(root), "the page is its root")
        given.require(space.regime is Regime.EL2 and space.pool is PoolName.EL2, "EL2's")
        given.require(space.bits == 48 and space.start == 0 and space.roots == 1, "48 bits from one table at level 0")
    else:
        given.require(space.roots == (0 if new else 1) and space.root == 0, "Err changes nothing")


@theorem(stage2.create, outcomes=("made", "refused"), assumes=("pages.allocate", "pages.available"))
def create_stage2(given: Given) -> None:
    """A space of 39 to 48 bits starts where the manual says, in as many zero pages in a row as it takes; with Err nothing changes."""
    space, left = _fresh_space(given), given.boolean("a unit is left")
    bits, unit, vmid, root = given.u64("bits"), given.u64("pages to a unit"), given.u16("vmid"), given.u64("root")
    given.replace(pages.unit_of, lambda name: unit)
    asked = _allocating(given, root if left else Err.NO_MEMORY)
    new = space.roots == 0
    starts = given.one_of("start tables of", (PoolName.STARTS, PoolName.GUEST_STARTS))
    done = not isinstance(stage2.create(space, bits, starts, PoolName.GUESTS, vmid), Err)
    given.outcome("made" if done else "refused")
    size = term(bits)
    concatenated = z3.And(z3.UGE(size, 39), z3.ULE(size, 43))
    count = z3.If(concatenated, z3.BitVecVal(1, 64) << (size - 39), z3.BitVecVal(1, 64))
    allowed = z3.And(new, left, z3.UGE(size, 39), z3.ULE(size, 48), z3.ULE(count, term(unit)))
    given.require(allowed == done, "refused for another size, a unit that is too small, or no memory")
    if not done:
        given.require(space.roots == (0 if new else 1) and space.root == 0 and space.bits == 0, "Err changes nothing")
        return
    given.require(asked == [starts], "from the pool of start tables")
    level = z3.If(concatenated, z3.BitVecVal(1, 64), z3.BitVecVal(0, 64))
    given.require(z3.And(term(space.roots) == count, term(space.start) == level), "level and tables")
    given.require(z3.And(term(space.root) == term(root), term(space.bits) == size, term(space.vmid) == term(vmid)), "as it was asked for")
    given.require(space.regime is Regime.STAGE2 and space.pool is PoolName.GUESTS, "a stage 2 below which the named pool serves")
    given.require(space.starts is starts, "which knows where its start tables came from")


def _flushed(given: Given, operations: list[str], run: Any) -> list[Called]:
    """`run` with arbitrary tables does just these operations, under the tables' VMID, which is current only for them, and while which TCR_EL1 lets no
    walk of EL1's stage 1 begin (errata 1319367 and 1319537)."""
    wanted, before = given.u64("tables"), z3.BitVec("register VTTBR_EL2", 64)
    run(Vttbr.of(wanted))
    seen = [event for event in events() if isinstance(event, Called)]
    current = given.holds(before == term(wanted))
    change, back = ([], []) if current else (["msr TCR_EL1", "isb", "msr VTTBR_EL2", "isb"], ["msr VTTBR_EL2", "isb", "msr TCR_EL1"])
    given.require([event.name for event in seen] == ["dsb ishst", *change, *operations, *back], "these operations in this order")
    if not current:
        values = [event.argument for event in seen if event.name == "msr VTTBR_EL2"]
        given.require(z3.And(values[0] == term(wanted), values[1] == before), "under this VMID, and then the one before")
        controls, was = [event.argument for event in seen if event.name == "msr TCR_EL1"], z3.BitVec("register TCR_EL1", 64)
        given.require(z3.And(controls[0] == was | NO_WALKS, controls[1] == was), "no walk meanwhile, and then as before")
    return seen


def _as_often(given: Given, operations: list[str]) -> list[str]:
    """These operations, which are done twice where some processor forgets late, and an ISB behind them."""
    twice = given.boolean("some processor forgets late")
    given.replace(flush.REPEATED, SimpleNamespace(load=lambda order: u32(1 if twice else 0)))
    return [*operations, *(operations if twice else []), "isb"]


@theorem(flush.stage2_address, flush._stage2_address_again, flush.enter, flush.leave)
def flush_stage2(given: Given) -> None:
    """DSB, TLBI by IPA, DSB, TLBI of combined entries, DSB, as often as processors need it, ISB, under the VMID of the tables (Arm ARM D8.16)."""
    ipa = given.u64("ipa")
    operations = _as_often(given, ["tlbi ipas2e1is", "dsb ish", "tlbi vmalle1is", "dsb ish"])
    seen = _flushed(given, operations, lambda wanted: flush.stage2_address(wanted, Ipa(ipa)))
    by_address = [event.argument == term(ipa) for event in seen if event.name == "tlbi ipas2e1is"]
    given.require(z3.And(by_address), "for this address")


@theorem(flush.stage2_all)
def flush_all(given: Given) -> None:
    """DSB, TLBI of the whole VMID, DSB, as often as processors need it, ISB, under the VMID of the tables."""
    _flushed(given, _as_often(given, ["tlbi vmalls12e1is", "dsb ish"]), flush.stage2_all)


@theorem(flush.el2_address)
def flush_el2(given: Given) -> None:
    """DSB, TLBI by address, DSB, as often as processors need it, ISB."""
    va, operations = given.u64("va"), _as_often(given, ["tlbi vae2is", "dsb ish"])
    flush.el2_address(Va(va))
    seen = [event for event in events() if isinstance(event, Called)]
    given.require([event.name for event in seen] == ["dsb ishst", *operations], "these operations in this order")
    given.require(z3.And([event.argument == term(va) for event in seen if event.name == "tlbi vae2is"]), "for this address")


@theorem(flush.note_processor, outcomes=("late", "in time"))
def note_processor(given: Given) -> None:
    """From a processor on that forgets late, all is done twice."""
    late, stored = given.boolean("it forgets late"), []
    given.replace(errata.find, lambda: Errata(repeat_invalidation=late))
    given.replace(flush.REPEATED, SimpleNamespace(store=lambda value, order: stored.append(value)))
    flush.note_processor()
    given.outcome("late" if stored else "in time")
    given.require(stored == ([1] if late else []), "exactly then, and it is never taken back")
    seen = [event.name for event in events() if isinstance(event, Called)]
    given.require(seen == (["dsb ish"] if late else []), "and whoever invalidates sees it before this processor translates")


@theorem(stage2.destroy, outcomes=("ended", "refused"), assumes=("tables.is_empty", "tables.vttbr_of", "pages.free"),
         bounds=("stage2.destroy: the start tables of a space are in use",))
def destroy(given: Given) -> None:
    """An empty space is forgotten by the TLBs before its start tables are free; with Err nothing changes."""
    space, empty = Space(), given.boolean("empty")
    space.roots = u64(1) if given.boolean("a space") else u64(0)
    space.root, space.vmid = given.u64("root"), given.u16("vmid")
    space.starts = given.one_of("start tables of", (PoolName.STARTS, PoolName.GUEST_STARTS))
    there = space.roots == 1
    wanted = integer(z3.Concat(term(space.vmid), given.word("start address", 48)))
    freed: list[Any] = []

    def free(name: PoolName, page: u64) -> None:
        freed.append((name, page, [event.name for event in events() if isinstance(event, Called)]))

    given.replace(tables.is_empty, lambda asked: empty)
    given.replace(tables.vttbr_of, lambda asked: Vttbr.of(wanted))
    given.replace(pages.free, free)
    done = not isinstance(stage2.destroy(space), Err)
    given.outcome("ended" if done else "refused")
    given.require(done == (there and empty), "only an empty space")
    if not done:
        given.require(not freed and not events() and space.roots == (1 if there else 0), "Err changes nothing")
        return
    given.require(len(freed) == 1 and freed[0][0] is space.starts, "the start tables go back to their pool")
    given.require(term(freed[0][1]) == term(space.root), "this space's")
    names = freed[0][2]
    tlbi = names.index("tlbi vmalls12e1is") if "tlbi vmalls12e1is" in names else len(names)
    given.require("dsb ishst" in names[:tlbi] and "dsb ish" in names[tlbi:], "stores, TLBI and its completion come first")
    held = [event.argument for event in events() if isinstance(event, Called) and event.name == "msr VTTBR_EL2"]
    before = z3.BitVec("register VTTBR_EL2", 64)
    given.require(z3.Or(before == term(wanted), len(held) == 2), "the TLBI is for this VMID")
    if held:
        given.require(z3.And(held[0] == term(wanted), held[1] == before), "and what was current is current again")
        given.require(names.index("msr VTTBR_EL2") < tlbi and names[names.index("msr VTTBR_EL2") + 1] == "isb", "before the TLBI, with an ISB")
    given.require(space.roots == 0, "it is no space any more")


@theorem(stage2.vtcr)
def vtcr(given: Given) -> None:
    """VTCR_EL2 has T0SZ and SL0 of the space, and walks that the caches see."""
    space, bits, size = Space(), given.u64("bits"), given.u8("physical size")
    given.assume(z3.UGE(term(bits), 39), z3.ULE(term(bits), 48), z3.ULT(term(size), 8))
    start = given.one_of("start level", (0, 1))
    space.bits, space.start = bits, u64(start)
    word = term(stage2.vtcr(space, size).raw)
    given.require(z3.ZeroExt(58, z3.Extract(5, 0, word)) == 64 - term(bits), "T0SZ")
    given.require(z3.Extract(7, 6, word) == 2 - start, "SL0 with the 4 KiB granule")
    given.require(z3.And(z3.Extract(13, 8, word) == 0b110101, z3.Extract(15, 14, word) == 0), "write-back, inner shareable, 4 KiB")
    given.require(z3.And(z3.ZeroExt(5, z3.Extract(18, 16, word)) == term(size), z3.Extract(63, 19, word) == 1 << 12), "PS and RES1")


@walking(stage1.translate, outcomes=("mapped", "nothing", "outside"))
def translate_stage1(given: Given) -> None:
    """What the processor's walk finds, or None."""
    _translated(given, PoolName.EL2, lambda tree, address: stage1.translate(tree.space, Va(address)))


@walking(stage2.translate, outcomes=("mapped", "nothing", "outside"))
def translate_stage2(given: Given) -> None:
    """What the processor's walk finds, with the leaf's rights, or None."""
    found, there = _translated(given, PoolName.HOST, lambda tree, address: stage2.translate(tree.space, Ipa(address)))
    if found is not None:
        rights = there.attributes
        given.require(z3.And(bit(rights, 4) == found.rights.read, bit(rights, 5) == found.rights.write), "S2AP")
        given.require(bit(rights, 16) == (not found.rights.execute), "XN")
        given.require(z3.Or([term(found.size) == 1 << shift for shift in (12, 21, 30)]), "the size of a leaf")


def _translated(given: Given, pool: PoolName, translate: Any) -> tuple[Any, Any]:
    tree = Map(given, (pool,))
    address = given.u64("address")
    found = translate(tree, address)
    inside = given.holds(z3.ULT(term(address), z3.BitVecVal(1, 64) << tree.bits))
    given.outcome("outside" if not inside else "nothing" if found is None else "mapped")
    tree.requires_unchanged()
    if not inside:
        given.require(found is None, "nothing outside the address space")
        return None, None
    there = tree.translation(term(address), now=False)
    given.require(there.valid == (found is not None), "mapped where the processor finds a leaf")
    if found is not None:
        pa = found if isinstance(found, Pa) else found.pa
        given.require(term(pa) == z3.ZeroExt(16, there.output), "to the same address")
    return found, there


@about(stage1.map_range, stage1.unmap_leaf, stage2.map_range, stage2.map_page, stage2.unmap_range, outcomes=("done", "refused"),
       assumes=("tables.map_range", "tables.unmap_leaf", "tables.unmap_range"))
def passed_on(given: Given) -> None:
    """Arguments and results go through unchanged; attributes are those of the use or the rights; an unmapped leaf's size is its level's."""
    space, address, size = Space(), given.u64("address"), given.u64("size")
    pa, refused, seen = given.u64("pa"), given.boolean("refused"), []
    space.bits = u64(48)
    level = given.one_of("level", (1, 2, 3))

    def noted(*arguments: Any) -> Any:
        seen.append(arguments[1:])
        return Err.EXISTS if refused else None

    given.replace(tables.map_range, noted)
    given.replace(tables.unmap_leaf, lambda *_: Err.NOT_FOUND if refused else Walk(u64(0), u64(0), u64(level), Descriptor.of(u64(1))))
    given.replace(tables.unmap_range, lambda *arguments: noted(*arguments) or size)
    rights = Rights(True, True, False)
    results = [
        stage1.map_range(space, Va(address), Pa(pa), size, Use.DATA),
        stage2.map_range(space, Ipa(address), Pa(pa), size, Stage2Memory.NORMAL, rights),
        stage2.map_page(space, Ipa(address), Pa(pa), Stage2Memory.NORMAL, rights),
    ]
    given.outcome("refused" if refused else "done")
    given.require(all(isinstance(result, Err) == refused for result in results), "errors pass")
    normal = stage2.attributes(Stage2Memory.NORMAL, rights)
    for (at, to, length, attributes), wanted, known in zip(seen, (size, size, u64(4096)), (stage1.attributes(Use.DATA), normal, normal), strict=True):
        same = z3.And(term(at) == term(address), term(to) == term(pa), term(length) == term(wanted), term(attributes) == term(known))
        given.require(same, "arguments pass")
    given.require(isinstance(stage2.unmap_range(space, Ipa(address), size), Err) == refused, "errors of unmapping pass")
    given.require(z3.And(term(seen[-1][0]) == term(address), term(seen[-1][1]) == term(size)), "arguments of unmapping pass")
    inside = z3.ULT(term(address), 1 << 48)
    unmapped = stage1.unmap_leaf(space, Va(address))
    given.require(z3.And(inside, not refused) == (not isinstance(unmapped, Err)), "unmapped where it is an address")
    if not isinstance(unmapped, Err):
        given.require(term(unmapped) == 1 << (12 + 9 * (3 - level)), "the size of the leaf")


@about(stage2.protect, stage2._level_of, outcomes=("changed", "refused"), assumes=("tables.walk", "tables.split", "tables.change", "pages.addresses"),
       bounds=("stage2.protect: where a block is split, from then on as from an arbitrary state that has the leaf (tables.split keeps the rest)",))
def protect(given: Given) -> None:
    """The leaf of that size gets exactly these rights and keeps its output; anything else is refused and changes nothing."""
    tree = Map(given, (PoolName.HOST,))
    address, size = given.u64("address"), given.u64("size")
    rights: Any = AnyRights(given)
    changed: list[Any] = []
    split_refused = given.boolean("split is refused")

    def split(space: Any, at: u64, level: u64) -> Any:
        found = tables.walk(space, at)
        if not found.descriptor.valid or split_refused:
            return Err.NOT_FOUND
        if int(found.level) != int(level):
            raise Infeasible
        return None

    given.replace(tables.split, split)
    given.replace(tables.change, lambda space, at, found, word: changed.append((at, found, word)))
    done = not isinstance(stage2.protect(tree.space, Ipa(address), size, rights), Err)
    given.outcome("changed" if done else "refused")
    tree.requires_unchanged()
    given.require(len(changed) == (1 if done else 0), "one leaf changes, or none")
    if not done:
        return
    at, found, word = changed[0]
    old, new = term(found.descriptor.raw), term(word.raw)
    given.require(z3.And(term(at) == term(address), bit(old, 0)), "the leaf of the address")
    given.require(term(size) == 1 << (12 + 9 * (3 - int(found.level))), "a leaf of that size")
    given.require(z3.And(term(address) & (term(size) - 1) == 0, z3.ULT(term(address), z3.BitVecVal(1, 64) << tree.bits)), "aligned, in the space")
    given.require(z3.And(bit(new, 6) == rights.read, bit(new, 7) == rights.write, bit(new, 54) == (not rights.execute)), "these rights")
    mask = ~z3.BitVecVal(1 << 6 | 1 << 7 | 1 << 54, 64)
    given.require(old & mask == new & mask, "nothing else changes")

