# SPDX-License-Identifier: Apache-2.0
"""The banks of RAM behind the frame table, and what is done to the table at boot.

Up to sixteen banks of any size: they do not overlap, neither as RAM nor as entries of the table. Loops over banks and over frames are proved by
induction. `index_of` here is the contract that the theorems of `frames` assume.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import blocks, frames
from delphyne.el2.memory.frames import Bank
from delphyne.lang import Pa, owned, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Atomics, Cells, Pattern, Records, Window, Write, filling
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

FRAMES_IN_48_BITS = 1 << 36
AT_BOOT = "one CPU runs at boot"
HOST = 1
"""An entry of the host's that nobody pins."""
OWNED = "owned: its bytes are those of the boot array that was attached at the same address"


class Banks:
    """An arbitrary sound layout, in place of `frames.LAYOUT`."""

    def __init__(self, given: Given) -> None:
        self.given = given
        widths = {"base": (47, 12), "frames": (36, 0), "first": (40, 0)}
        self.cells = {name: Cells(f"bank {name}", u64, bits=bits) for name, bits in widths.items()}
        self.banks: Any = Records(Bank, self.cells, 16, {"base": Pa})
        self.count = given.u64("banks")
        self.frames = given.u64("frames")
        self.count_before, self.frames_before = term(self.count), term(self.frames)
        given.assume(z3.ULE(self.count_before, 16), z3.ULE(self.frames_before, self.count_before << 36))
        self.table: Any = None
        self.fresh: Any = None
        given.replace(frames.LAYOUT, self)

    def now(self, name: str, bank: Term) -> Term:
        """A field of a bank."""
        return self.cells[name](bank)

    def lowest(self, bank: Term) -> Term:
        """The number of a bank's first frame: its address divided by 4 KiB."""
        return z3.LShR(self.now("base", bank), 12)

    def end(self, bank: Term) -> Term:
        """The number of the frame behind a bank."""
        return self.lowest(bank) + self.now("frames", bank)

    def holds(self, bank: Term, pa: Term) -> Formula:
        """Whether an address lies in a bank."""
        return z3.And(z3.ULE(self.lowest(bank), z3.LShR(pa, 12)), z3.ULT(z3.LShR(pa, 12), self.end(bank)))

    def is_sound(self, bank: Term) -> Formula:
        """A bank by itself: aligned, not empty, below 48 bits, its entries in the table."""
        base, count, first = (self.now(name, bank) for name in ("base", "frames", "first"))
        return z3.And(
            z3.Extract(11, 0, base) == 0, count != 0,
            z3.ULE(count, FRAMES_IN_48_BITS), z3.ULT(base, 1 << 48), z3.ULE(self.end(bank), FRAMES_IN_48_BITS),
            z3.ULE(first, 1 << 40), z3.ULE(first + count, term(self.frames)),
        )

    def are_apart(self, one: Term, other: Term) -> Formula:
        """Two different banks share neither RAM nor entries."""
        first = {bank: self.now("first", bank) for bank in (one, other)}
        behind = {bank: first[bank] + self.now("frames", bank) for bank in (one, other)}
        apart = z3.Or(z3.ULE(self.end(one), self.lowest(other)), z3.ULE(self.end(other), self.lowest(one)))
        return z3.Or(one == other, z3.And(apart, z3.Or(z3.ULE(behind[one], first[other]), z3.ULE(behind[other], first[one]))))

    def assume_sound(self, *banks: Term) -> None:
        """Assume the invariants of these banks, where they are banks."""
        known = [z3.ULT(bank, self.count_before) for bank in banks]
        for number, bank in enumerate(banks):
            self.given.assume(z3.Implies(known[number], self.is_sound(bank)))
            for before in range(number):
                self.given.assume(z3.Implies(z3.And(known[number], known[before]), self.are_apart(bank, banks[before])))


class Watched(Records):
    """Banks whose invariants are assumed as soon as one is looked at, together with those of `with_`."""

    def __init__(self, banks: Banks, *with_: Term) -> None:
        super().__init__(Bank, banks.cells, 16, {"base": Pa})
        self.owner = banks
        self.with_ = with_

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        self.owner.assume_sound(*self.with_, *self.touched)
        return found


def _none_before(banks: Banks, pa: Term, bank: Term) -> Rule:
    """No bank before the round holds the address: said of one arbitrary `bank`."""
    return Rule(lambda here: z3.Implies(z3.ULT(bank, here), z3.Not(banks.holds(bank, pa))))


def _inside(banks: Banks, bank: Term, pa: Term) -> Formula:
    """Whether `bank` is one and holds `pa`; where another one was found to hold it, they are one, and its frames count from the same base."""
    banks.assume_sound(bank, *banks.banks.touched)
    inside = z3.And(z3.ULT(bank, term(banks.count)), banks.holds(bank, pa))
    for looked in banks.banks.touched:
        offset = pa - banks.now("base", looked)
        found = z3.And(z3.ULE(banks.now("base", looked), pa), z3.ULT(z3.LShR(offset, 12), banks.now("frames", looked)))
        if banks.given.holds(found):
            banks.given.lemma(z3.LShR(offset, 12) == z3.LShR(pa, 12) - banks.lowest(looked), "frames count from the base")
            banks.given.lemma(z3.Implies(inside, bank == looked), "no address lies in two banks")
    return inside


def _index(banks: Banks, bank: Term, pa: Term) -> Term:
    """The entry of the frame that holds `pa`, which lies in `bank`."""
    return banks.now("first", bank) + (z3.LShR(pa, 12) - banks.lowest(bank))


@theorem(frames.index_of, outcomes=("RAM", "no RAM"))
def index_of(given: Given) -> None:
    """index_of answers for every address of every bank, with an entry of the table that is that frame's, and for no other address."""
    banks, pa, bank = Banks(given), given.u64("pa"), given.word("any bank", 64)
    banks.banks = Watched(banks, bank)
    given.rule(frames.index_of, _none_before(banks, term(pa), bank))
    found = frames.index_of(Pa(pa))
    given.outcome("no RAM" if found is None else "RAM")
    inside = _inside(banks, bank, term(pa))
    if found is None:
        given.require(z3.Not(inside), "no bank holds the address")
    else:
        given.require(z3.Or([banks.holds(looked, term(pa)) for looked in banks.banks.touched]), "some bank holds the address")
        given.require(z3.Implies(inside, term(found) == _index(banks, bank, term(pa))), "the entry is that of the frame")
        given.require(z3.ULT(term(found), term(banks.frames)), "the entry is in the table")


@theorem(frames.index_of)
def entries_differ(given: Given) -> None:
    """Two addresses have one entry exactly if they lie in one frame."""
    banks, one, other = Banks(given), given.u64("pa"), given.u64("another pa")
    first, second = given.word("bank", 64), given.word("another bank", 64)
    given.assume(z3.ULT(first, term(banks.count)), banks.holds(first, term(one)))
    given.assume(z3.ULT(second, term(banks.count)), banks.holds(second, term(other)))
    banks.assume_sound(first, second)
    same = z3.LShR(term(one), 12) == z3.LShR(term(other), 12)
    for pa, bank in ((one, first), (other, second)):
        index = _index(banks, bank, term(pa))
        start = banks.now("first", bank)
        given.lemma(z3.And(z3.ULE(start, index), z3.ULT(index, start + banks.now("frames", bank))), "the entry is the bank's")
    if not given.holds(first == second):
        given.lemma(z3.Not(same), "frames of two banks differ")
    given.require((_index(banks, first, term(one)) == _index(banks, second, term(other))) == same, "one entry for one frame")


@theorem(frames.touches_ram, outcomes=("RAM", "none"))
def touches_ram(given: Given) -> None:
    """A range is said to be free of RAM only where no bank has any byte of it, and to touch RAM only where one has."""
    banks, base, size, bank = Banks(given), given.u64("base"), given.u64("size"), given.word("any bank", 64)
    given.assume(z3.ULT(term(base), 1 << 48), z3.ULE(term(size), 1 << 48))
    banks.banks = Watched(banks, bank)

    def touched(number: Term) -> Formula:
        start = banks.now("base", number)
        return z3.And(z3.ULT(start, term(base) + term(size)), z3.ULT(term(base), start + (banks.now("frames", number) << 12)))

    given.rule(frames.touches_ram, Rule(lambda here: z3.Implies(z3.ULT(bank, here), z3.Not(touched(bank)))))
    found = frames.touches_ram(Pa(base), size)
    given.outcome("RAM" if found else "none")
    if found:
        given.require(z3.Or([touched(looked) for looked in banks.banks.touched]), "some bank has some of it")
    else:
        given.require(z3.Not(z3.And(z3.ULT(bank, term(banks.count)), touched(bank))), "no bank has any of it")


@theorem(frames._frames_from, outcomes=("RAM", "no RAM"))
def frames_from(given: Given) -> None:
    """The frames from an address to the end of its bank, none for an address that is no RAM; their entries are in the table."""
    banks, base, bank = Banks(given), given.u64("base"), given.word("any bank", 64)
    banks.banks = Watched(banks, bank)
    given.rule(frames._frames_from, _none_before(banks, term(base), bank))
    found = frames._frames_from(Pa(base))
    inside = _inside(banks, bank, term(base))
    given.outcome("RAM" if given.holds(inside) else "no RAM")
    left = banks.end(bank) - z3.LShR(term(base), 12)
    given.require(z3.Implies(inside, term(found) == left), "to the end of the bank")
    given.require(z3.Implies(inside, z3.ULE(term(found) + _index(banks, bank, term(base)), term(banks.frames))), "in the table")
    if not banks.banks.touched:
        given.require(term(found) == 0, "nothing where there is no bank")


@theorem(frames.add_bank, outcomes=("added", "too small", "refused"), trusts=(AT_BOOT,))
def add_bank(given: Given) -> None:
    """A bank is added behind the others or, with Err, nothing changes; the layout stays sound."""
    banks, base, size = Banks(given), given.u64("base"), given.u64("size")
    one, other = given.word("any bank", 64), given.word("another bank", 64)
    banks.banks = Watched(banks, one, other)
    start, end = z3.LShR(term(base) + 4095, 12), z3.LShR(term(base) + term(size), 12)

    def apart(bank: Term) -> Formula:
        return z3.Or(z3.ULE(banks.end(bank), start), z3.ULE(end, banks.lowest(bank)))

    given.rule(frames.add_bank, Rule(lambda here: z3.And(*(z3.Implies(z3.ULT(bank, here), apart(bank)) for bank in (one, other)))))
    banks.assume_sound(one, other)
    result = frames.add_bank(Pa(base), size)
    added = term(banks.count) == banks.count_before + 1
    refused = isinstance(result, Err)
    given.outcome("refused" if refused else "added" if given.holds(added) else "too small")
    fits = z3.And(z3.ULT(term(base), 1 << 48), z3.ULE(term(size), (1 << 48) - term(base)))
    given.require(z3.Implies(added, z3.And(fits, z3.ULT(start, end))), "only RAM below 48 bits")
    overlaps = z3.Or([z3.Not(apart(bank)) for bank in banks.banks.touched])
    reason = z3.Or(z3.Not(fits), z3.And(z3.ULT(start, end), z3.Or(overlaps, banks.count_before == 16)))
    given.require(z3.Implies(refused, reason), "refused only for a reason")
    given.require(z3.Implies(z3.Not(fits), refused), "refused where it is out of range")
    given.require(z3.Implies(z3.Not(added), term(banks.count) == banks.count_before), "one bank more, or none")
    given.require(z3.Implies(not refused, z3.Or(added, z3.UGE(start, end))), "nothing is left out but parts of frames")
    new = banks.count_before
    put = z3.And(banks.lowest(new) == start, banks.end(new) == end, banks.now("first", new) == banks.frames_before)
    grown = term(banks.frames) == banks.frames_before + banks.now("frames", new)
    given.require(z3.Implies(added, z3.And(put, grown)), "the new bank is what was asked for")
    given.require(z3.Implies(z3.Not(added), term(banks.frames) == banks.frames_before), "the table grows only with a bank")
    for bank in (one, other):
        same = z3.And(*(banks.now(name, bank) == banks.cells[name].first(bank) for name in banks.cells))
        given.require(z3.Implies(z3.ULT(bank, banks.count_before), same), "the other banks stay")
        given.require(z3.Implies(z3.ULT(bank, term(banks.count)), banks.is_sound(bank)), "every bank is sound")
    both = z3.And(z3.ULT(one, term(banks.count)), z3.ULT(other, term(banks.count)))
    given.require(z3.Implies(both, banks.are_apart(one, other)), "no two banks overlap")
    given.require(z3.And(z3.ULE(term(banks.count), 16), z3.ULE(term(banks.frames), term(banks.count) << 36)), "the numbers stay in their limits")


@theorem(frames.table_size, frames._entries_size, assumes=("blocks.table_size",))
def table_size(given: Given) -> None:
    """Eight bytes for each frame, rounded up to a page, and what is known of runs behind them."""
    banks, known = Banks(given), given.word("pages for what is known", 52)
    behind = z3.ZeroExt(12, known) << 12
    given.assume(z3.ULT(behind, 1 << 40))
    given.replace(blocks.table_size, lambda count: integer(behind))
    size, needed = term(frames.table_size()) - behind, term(banks.frames) << 3
    given.require(z3.And(z3.UGE(size, needed), z3.ULT(size - needed, 4096), z3.Extract(11, 0, size) == 0), "the next multiple of a page")


@theorem(frames.attach, frames._store, outcomes=("attached", "refused"), assumes=("blocks.attach",), trusts=(AT_BOOT, OWNED),
         bounds=("frames.attach: the table ends below 48 bits",))
def attach(given: Given) -> None:
    """Every frame becomes EL2's, whatever the memory of the table held."""
    banks, table = Banks(given), given.u64("table")
    entries, frame = Cells("entry", u64), given.word("any frame", 64)
    array = Atomics(entries)
    given.replace(frames.ENTRIES, array)
    given.replace(owned, contextmanager(array.zeroed))
    behind: list[Any] = []
    given.replace(blocks.attach, lambda at, count: behind.append((term(at), term(count))))
    given.assume(z3.ULT(term(table), 1 << 48), z3.ULT(term(banks.frames), 1 << 40))
    result = frames.attach(Pa(table))
    given.outcome("refused" if isinstance(result, Err) else "attached")
    given.require((z3.Extract(11, 0, term(table)) == 0) == (not isinstance(result, Err)), "refused where it is not aligned")
    is_entry = z3.ULT(frame, term(banks.frames))
    given.require(entries(frame) == z3.If(z3.And(is_entry, not isinstance(result, Err)), 0, entries.first(frame)), "every entry is EL2's")
    given.require(isinstance(result, Err) or term(banks.table) == term(table), "the table is known to lie there")
    given.require(len(behind) == (0 if isinstance(result, Err) else 1), "what is known of runs begins with the table")
    for at, count in behind:
        pages = (term(banks.frames) + 511) >> 9
        given.require(z3.And(at == term(table) + (pages << 12), count == term(banks.frames)), "behind its last page, for as many frames")


@theorem(frames._fill_host, trusts=(AT_BOOT, OWNED))
def fill_host(given: Given) -> None:
    """Every entry of a run becomes the host's, and no other changes."""
    given.require(bytes(frames.HOST_ROW) == int(HOST).to_bytes(8, "little") * 128, "the constant holds entries of the host")
    given.replace(frames.HOST_ROW, Pattern(z3.BitVecVal(HOST, 64), z3.BitVecVal(1024, 64)))
    length, first, count = (given.word(name, 64) for name in ("frames", "first entry", "entries"))
    given.assume(z3.ULE(length, 1 << 40), z3.ULE(count, length), z3.ULE(first, length - count))
    entries, frame = Cells("entry", u64), given.word("any frame", 64)
    array = Atomics(entries, integer(length))

    def filled(until: Term) -> Write:
        return Write(lambda at: z3.And(z3.UGE(at, first), z3.ULT(at, until)), lambda at: z3.BitVecVal(HOST, 64))

    given.rule(frames._fill_host, filling([entries], lambda words, row: filled(first + (row << 7))))
    run: Any = Window(array, first << 3, count << 3)
    frames._fill_host(run)
    inside = z3.And(z3.UGE(frame, first), z3.ULT(frame, first + count))
    given.require(entries(frame) == z3.If(inside, HOST, entries.first(frame)), "these and no others")


GIVEN_AT_BOOT = ("layout.index_of", "layout.frames_from", "layout.fill_host")


@theorem(frames.admit, outcomes=("admitted", "refused"), assumes=GIVEN_AT_BOOT, trusts=(AT_BOOT, OWNED))
def admit(given: Given) -> None:
    """The frames of a range, all EL2's before, become the host's; with Err nothing changes. From LAYOUT.fresh on all frames are EL2's."""
    banks = Banks(given)
    base, size, frame = given.u64("base"), given.u64("size"), given.word("any frame", 64)
    length, first, left = given.u64("entries"), given.u64("index of base"), given.u64("frames in its bank")
    given.assume(z3.ULT(term(first), term(length)), z3.ULE(term(left), term(length) - term(first)), z3.ULE(term(length), 1 << 40))
    is_ram = given.boolean("base is RAM")
    given.replace(frames.index_of, lambda pa: integer(term(first)) if is_ram else None)
    given.replace(frames._frames_from, lambda pa: integer(term(left)) if is_ram else u64(0))
    given.replace(frames._fill_host, lambda run: run.become(z3.BitVecVal(HOST, 64)))
    table, fresh = given.u64("table"), given.u64("fresh")
    given.assume(z3.Extract(11, 0, term(table)) == 0, z3.ULT(term(table), 1 << 48))
    banks.table, banks.fresh = Pa(table), fresh
    entries = Cells("entry", u64)
    given.assume(z3.Implies(z3.UGE(frame, term(fresh)), entries.first(frame) == 0))
    array = Atomics(entries, length)
    array.address = table
    given.replace(owned, contextmanager(array.window))
    result = frames.admit(Pa(base), size)
    done = not isinstance(result, Err)
    given.outcome("admitted" if done else "refused")
    count = z3.LShR(term(size), 12)
    inside = z3.And(count != 0, z3.UGE(frame, term(first)), z3.ULT(frame, term(first) + count))
    aligned = z3.Extract(11, 0, term(base) | term(size)) == 0
    given.require(z3.Implies(done, z3.And(aligned, z3.Or(count == 0, z3.And(is_ram, z3.ULE(count, term(left)))))), "only whole frames of one bank")
    given.require(z3.Implies(z3.And(done, inside), entries.first(frame) == 0), "only frames of EL2")
    reason = z3.And(count != 0, z3.Or(z3.Not(z3.BoolVal(is_ram)), z3.UGT(count, term(left)), z3.ULT(term(first), term(fresh))))
    given.require(z3.Implies(not done, z3.Or(z3.Not(aligned), reason)), "refused only for a reason")
    given.require(entries(frame) == z3.If(z3.And(done, inside), HOST, entries.first(frame)), "these frames and no others become the host's")
    given.require(z3.Implies(z3.UGE(frame, term(banks.fresh)), entries(frame) == 0), "what is not passed yet is EL2's")
