# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for memory of unknown content and unknown length: boot arrays, and the pages of translation tables.

Content is a function from the number of a cell to a word: an uninterpreted one under the list of what was written since, so two names for one
cell are one cell whatever the indices are. A read hands what was there at the start to `known`, where a theorem states what the invariants
say of such a cell; that is how a statement about every cell is used without a quantifier. Atomics are the language's own, with a cell behind
them; nobody else runs between their steps, because a lock is held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.lang.address import Pa
from delphyne.lang.atomics import AtomicU32, AtomicU64, Order
from delphyne.lang.ints import u8, u32, u64
from delphyne.lang.traps import Trap, TrapKind
from delphyne.prove.loops import Rule
from delphyne.prove.path import Formula, Term, current
from delphyne.prove.places import index_term
from delphyne.prove.symbolic import decide, integer, term, trap
from delphyne.prove.trace import Stored, events

SLOTS = 512
Known = Callable[[Term, Term], Formula]
"""What the invariants say of cell number (first argument) whose content is (second)."""


@dataclass(frozen=True, slots=True)
class Write:
    """Every cell for which `where` holds has the value `what`."""

    where: Callable[[Term], Formula]
    what: Callable[[Term], Term]


class Cells:
    """Cells of one integer type, by number."""

    def __init__(self, name: str, cls: Any, known: Known | None = None, traced: bool = False, bits: tuple[int, int] | None = None) -> None:
        """`bits` (high, low): the only ones that may be set at the start, which spares the solver the others."""
        self.origin: Term = z3.BitVecVal(0, 64)
        """What to count cells from: where all indices are this and something, the solver need not add."""
        self.cls = cls
        high, self.low = bits if bits is not None else (int(cls.BITS) - 1, 0)
        self.content = z3.Function(name, z3.BitVecSort(64), z3.BitVecSort(high - self.low + 1))
        self.known = known
        self.traced = traced
        self.writes: list[Write] = []

    def first(self, at: Term) -> Term:
        """Content when the theorem began."""
        known = self.content(z3.simplify(at - self.origin))
        return known if known.size() == self.cls.BITS else z3.ZeroExt(self.cls.BITS - known.size(), known) << self.low

    def __call__(self, at: Term) -> Term:
        """Content now."""
        value = self.first(at)
        for write in self.writes:
            value = z3.If(write.where(at), write.what(at), value)
        return z3.simplify(value)

    def recall(self, at: Term) -> None:
        """Assume what the invariants say of this cell."""
        if self.known is not None:
            current().assume(self.known(at, self.first(at)))

    def load(self, at: Term) -> Any:
        """The value of a cell."""
        self.recall(at)
        return integer(self(at), self.cls)

    def store(self, at: Term, value: Any, release: bool = False) -> None:
        """Change a cell, and note it where stores are traced."""
        if not isinstance(value, self.cls):
            raise TypeError(f"a cell is {self.cls.__name__}, not {type(value).__name__}")
        stored = term(value)
        if self.traced:
            events().append(Stored(at, self(at), stored, release))
        self.writes.append(Write(lambda asked: z3.simplify(asked - self.origin) == z3.simplify(at - self.origin), lambda asked: stored))


def filling(cells: Sequence[Cells], write: Callable[[Cells, Term], Write]) -> Rule:
    """The rule of a loop whose rounds before `i` leave behind just `write(cells, i)`, in each of `cells`: a round writes that and nothing else."""
    before: list[list[Write]] = []
    asked: list[Term] = []

    def content(words: Cells, writes: Sequence[Write]) -> Term:
        value = words.first(asked[0])
        for done in writes:
            value = z3.If(done.where(asked[0]), done.what(asked[0]), value)
        return value

    def expected(number: int, here: Term) -> list[Write]:
        return [*before[number], write(cells[number], here)]

    def holds(here: Term) -> Formula:
        if not asked:
            asked.append(current().fresh_word("any cell", 64))
            before.extend(list(words.writes) for words in cells)
        return z3.And(*(content(words, words.writes) == content(words, expected(number, here)) for number, words in enumerate(cells)))

    def state(here: Term) -> None:
        for number, words in enumerate(cells):
            words.writes = expected(number, here)

    return Rule(holds, state)


class Looked(Cells):
    """Cells that remember which of them were looked at."""

    def __init__(self, name: str, cls: Any) -> None:
        super().__init__(name, cls)
        self.looked: list[Term] = []

    def load(self, at: Term) -> Any:
        """The value of a cell, which is remembered."""
        self.looked.append(at)
        return super().load(at)


class Backing:
    """What an atomic of the language needs behind it: one cell."""

    def __init__(self, cells: Cells, at: Term) -> None:
        self.cells = cells
        self.at = at
        self.release = False

    def load(self) -> Any:
        """The cell's value."""
        return self.cells.load(self.at)

    def store(self, value: Any) -> None:
        """Change it."""
        self.cells.store(self.at, value, self.release)


def _ordered(base: type) -> Any:
    class Ordered(base):  # type: ignore[misc]
        """The atomic of the language; its cell learns of a store that releases."""

        __slots__ = ()

        def store(self, value: Any, order: Order) -> None:
            self._backing.release = order is Order.RELEASE
            super().store(value, order)

    return Ordered


_ORDERED = {u32: _ordered(AtomicU32), u64: _ordered(AtomicU64)}


def _atomic(cells: Cells, at: Term) -> Any:
    made: Any = _ORDERED[cells.cls]()
    made._backing = Backing(cells, at)
    return made


class Unbounded:
    """What stand-ins for boot arrays share: a length that may be unknown (None before `attach`), and the check of an index against it."""

    def __init__(self, cells: Cells, length: Any = None) -> None:
        self.cells = cells
        self.length = length
        self.address: Any = None

    shift = 0
    """Cells to an element, as a power of two."""

    def attach(self, address: u64, length: u64) -> None:
        """As `BootArray.attach`: once."""
        if self.length is not None:
            raise Trap(TrapKind.ASSERT, 0, 0)
        self.length = length
        self.address = address

    def zeroed(self, pa: Pa, size: u64) -> Iterator[Zeroing]:
        """In place of `owned`: bytes from `pa`, which may be filled with zero, and lie where these cells do."""
        yield Zeroing(self, term(pa) - term(self.address), term(size))

    def window(self, pa: Pa, size: u64) -> Iterator[Window]:
        """In place of `owned`: bytes from `pa`."""
        yield Window(self, term(pa) - term(self.address), term(size))

    def at(self, index: Any) -> Term:
        """The term of an index that is below the length; traps INDEX."""
        number = index_term(index)
        if decide(z3.UGE(number, term(self.length))):
            trap(TrapKind.INDEX, number, term(self.length))
        return number


class Zeroing:
    """A window on the memory under a boot array, from byte `start`."""

    def __init__(self, array: Unbounded, start: Term, size: Term) -> None:
        self.array = array
        self.start = start
        self.size = size

    def fill(self, value: u8) -> None:
        """Every byte zero: whole cells, and only those of the array."""
        shift = self.array.cells.cls.BITS.bit_length() - 4
        cells = term(self.array.length) << self.array.shift
        current().require(z3.And(self.start == 0, self.size == cells << shift, term(value) == 0), "exactly the memory of the array is cleared")
        self.array.cells.writes.append(Write(lambda at: z3.ULT(at, cells), lambda at: z3.BitVecVal(0, self.array.cells.cls.BITS)))


def clearing(at: Term, size: Term) -> tuple[Callable[[Pa, u64], Any], list[bool]]:
    """In place of `owned`: the `size` bytes from `at`, which may only be cleared, as a whole. The list has an element for each time they were."""
    cleared: list[bool] = []

    class Bytes:
        """The memory."""

        def fill(self, value: u8) -> None:
            """Every byte."""
            current().require(term(value) == 0, "it is cleared")
            cleared.append(True)

    @contextmanager
    def lent(pa: Pa, length: u64) -> Iterator[Bytes]:
        current().require(z3.And(term(pa) == at, term(length) == size), "all of the memory, and no more")
        yield Bytes()

    return lent, cleared


class Pattern:
    """`size` constant bytes that are one word over and over."""

    def __init__(self, word: Term, size: Term) -> None:
        self.word = word
        self.size = size

    def __getitem__(self, key: slice) -> Pattern:
        low, high = _ends(key, self.size)
        current().require(z3.Extract(2, 0, low) == 0, "the pattern begins with a whole word")
        return Pattern(self.word, high - low)


class Window:
    """A window on the memory under a boot array of words: `size` bytes from byte `start`, to be written by whole words."""

    def __init__(self, array: Unbounded, start: Term, size: Term) -> None:
        self.array = array
        self.start = start
        self.size = size

    @property
    def length(self) -> Any:
        """As of a slice."""
        return integer(self.size)

    def __getitem__(self, key: slice) -> Window:
        low, high = _ends(key, self.size)
        return Window(self.array, self.start + low, high - low)

    def copy_from(self, source: Pattern) -> None:
        """Every word becomes the pattern's; traps INDEX unless the lengths are equal."""
        if decide(source.size != self.size):
            trap(TrapKind.INDEX, source.size, self.size)
        self.become(source.word)

    def become(self, word: Term) -> None:
        """Every word becomes `word`."""
        first, end, length = z3.LShR(self.start, 3), z3.LShR(self.start + self.size, 3), term(self.array.length)
        whole = z3.And(z3.Extract(2, 0, self.start) == 0, z3.Extract(2, 0, self.size) == 0)
        inside = z3.And(z3.ULE(self.size, length << 3), z3.ULE(self.start, (length << 3) - self.size))
        current().require(z3.And(whole, inside), "whole words of the array are written, and nothing else")
        self.array.cells.writes.append(Write(lambda at: z3.And(z3.UGE(at, first), z3.ULT(at, end)), lambda at: word))


def _ends(key: slice, size: Term) -> tuple[Term, Term]:
    """Both ends of a slice of `size` bytes; traps INDEX as a slice does."""
    low = z3.BitVecVal(0, 64) if key.start is None else index_term(key.start)
    high = size if key.stop is None else index_term(key.stop)
    if decide(z3.UGT(high, size)):
        trap(TrapKind.INDEX, high, size)
    if decide(z3.UGT(low, high)):
        trap(TrapKind.INDEX, low, high)
    return low, high


class Words(Unbounded):
    """A `BootArray` of integers."""

    def __getitem__(self, index: Any) -> Any:
        return self.cells.load(self.at(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.cells.store(self.at(index), value)


class Atomics(Unbounded):
    """A `BootArray` of atomics."""

    def __getitem__(self, index: Any) -> Any:
        return _atomic(self.cells, self.at(index))


class Tables(Unbounded):
    """A `BootArray[Array[AtomicU64, 512]]`: slot s of page p is cell p * 512 + s."""

    shift = 9

    def __getitem__(self, page: Any) -> TablePage:
        return TablePage(self.cells, self.at(page))


class Records:
    """An `Array` of structs: field `name` of element i is cell i of `fields[name]`; `wrap` makes a field of its cell."""

    def __init__(self, cls: type, fields: dict[str, Cells], length: int | u64, wrap: dict[str, Callable[[Any], Any]]) -> None:
        self.cls = cls
        self.fields = fields
        self.wrap = wrap
        self.length = u64(length)
        self.touched: list[Term] = []

    def __getitem__(self, index: Any) -> Any:
        number = index_term(index)
        if decide(z3.UGE(number, term(self.length))):
            trap(TrapKind.INDEX, number, term(self.length))
        self.touched.append(number)
        made: Any = object.__new__(self.cls)
        made.__dict__["_backing"] = RecordBacking(self, number)
        return made


class RecordBacking:
    """What a struct of the language needs behind it: one element of `Records`."""

    def __init__(self, records: Records, at: Term) -> None:
        self.records = records
        self.at = at

    def load(self, name: str) -> Any:
        """A field."""
        value = self.records.fields[name].load(self.at)
        return self.records.wrap[name](value) if name in self.records.wrap else value

    def store(self, name: str, value: Any) -> None:
        """Change a field."""
        cells = self.records.fields[name]
        cells.store(self.at, cells.cls(int(value)) if isinstance(value, bool) else integer(term(value), cells.cls))


class Only:
    """In place of an array of which a function uses one element."""

    def __init__(self, index: Any, element: Any) -> None:
        self.index = term(index)
        self.element = element

    def __getitem__(self, index: Any) -> Any:
        current().require(index_term(index) == self.index, "the element that was named, and no other")
        return self.element


class TablePage:
    """One table."""

    length = u64(SLOTS)

    def __init__(self, cells: Cells, page: Term) -> None:
        self.cells = cells
        self.page = page

    def __getitem__(self, slot: Any) -> Any:
        number = index_term(slot)
        if decide(z3.UGE(number, SLOTS)):
            trap(TrapKind.INDEX, number, z3.BitVecVal(SLOTS, 64))
        return _atomic(self.cells, cell(self.page, number))


def cell(page: Term, slot: Term) -> Term:
    """The number of a cell: the page above nine bits of slot."""
    return z3.Concat(z3.Extract(54, 0, page), z3.Extract(8, 0, slot))


__all__ = [
    "Atomics", "Cells", "Looked", "Only", "Pattern", "Records", "TablePage", "Tables", "Window", "Words", "Write", "cell", "clearing", "filling",
]
