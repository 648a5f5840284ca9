# SPDX-License-Identifier: Apache-2.0
"""Arrays, slices and byte strings at an index that is not a number.

Arrays of integers answer with a choice over their elements, so one path stays one; for records and atomics, and for the ends of a slice, every
element that the index can mean gets a path of its own.
"""

from __future__ import annotations

from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.lang.arrays import Slice, View
from delphyne.lang.ints import PLAIN, u16, u32, u64
from delphyne.lang.traps import TrapKind
from delphyne.lang.types import accepts
from delphyne.prove.path import Term, current
from delphyne.prove.symbolic import FUNCTIONS, decide, integer, term, trap

WIDEST_CHOICE = 64
"""Longer arrays get a path for each element instead."""


def index_term(index: Any) -> Term:
    """The term of an index or slice end, a literal included."""
    if type(index) is int:
        return z3.BitVecVal(index, 64)
    if not isinstance(index, u64):
        raise TypeError(f"an index is u64, not {type(index).__name__}")
    return term(index)


def bounded(index: Any, length: int) -> Term:
    """The term of an index that is below `length`; traps INDEX."""
    at = index_term(index)
    if decide(z3.UGE(at, length)):
        trap(TrapKind.INDEX, at, z3.BitVecVal(length, 64))
    return at


def _start(place: Any) -> int:
    return int(getattr(place, "_start", 0))


def _is_choice(place: Any) -> bool:
    return place._item in PLAIN and place._length <= WIDEST_CHOICE


def _index(place: Any, index: Any) -> Any:
    at = bounded(index, place._length)
    if not _is_choice(place):
        return place._cells[_start(place) + current().choose(at)]
    value = term(place._cells[_start(place) + place._length - 1])
    for number in reversed(range(place._length - 1)):
        value = z3.If(at == number, term(place._cells[_start(place) + number]), value)
    return integer(value, place._item)


def _store(place: Any, index: Any, value: Any) -> None:
    at = bounded(index, place._length)
    if not accepts(place._item, value):
        raise TypeError(f"an element is {place._item.__name__}, not {type(value).__name__}")
    if not _is_choice(place):
        place._cells[_start(place) + current().choose(at)] = value
        return
    for number in range(_start(place), _start(place) + place._length):
        place._cells[number] = integer(z3.If(at == number - _start(place), term(value), term(place._cells[number])), place._item)


def _slice(place: Any, low: Any, high: Any) -> Any:
    length = z3.BitVecVal(place._length, 64)
    first = index_term(0 if low is None else low)
    last = length if high is None else index_term(high)
    if decide(z3.UGT(last, length)):
        trap(TrapKind.INDEX, last, length)
    if decide(z3.UGT(first, last)):
        trap(TrapKind.INDEX, first, last)
    start = current().choose(first)
    kind = type(place) if isinstance(place, View) else View if place._read_only else Slice
    return kind(place._item, place._cells, _start(place) + start, current().choose(last) - start)


def _bytes_at(place: Any, offset: Any, size: int) -> int:
    """The first of `size` bytes at `offset`, as an index of cells; traps INDEX."""
    at = index_term(offset)
    outside = z3.BoolVal(True) if place._length < size else z3.UGT(at, place._length - size)
    if decide(outside):
        trap(TrapKind.INDEX, at, z3.BitVecVal(place._length, 64))
    return _start(place) + current().choose(at)


def _loading(kind: Any, big: bool) -> Any:
    def run(place: Any, offset: Any) -> Any:
        size = kind.BITS // 8
        at = _bytes_at(place, offset, size)
        parts = [term(place._cells[at + number]) for number in range(size)]
        return integer(z3.Concat(*(parts if big else reversed(parts))), kind)

    return run


def _storing(kind: Any, big: bool) -> Any:
    def run(place: Any, offset: Any, value: Any) -> None:
        size = kind.BITS // 8
        at = _bytes_at(place, offset, size)
        for number in range(size):
            low = 8 * (size - 1 - number if big else number)
            place._cells[at + number] = integer(z3.Extract(low + 7, low, term(value)), place._item)

    return run


def _nospec(index: Any, limit: Any) -> Any:
    return integer(z3.If(z3.ULT(index_term(index), index_term(limit)), index_term(index), z3.BitVecVal(0, 64)), u64)


FUNCTIONS.update({"index": _index, "store": _store, "slice": _slice, "nospec": _nospec})
for _kind in (u16, u32, u64):
    for _order in ("be", "le"):
        FUNCTIONS[f"load_{_order}{_kind.BITS}"] = _loading(_kind, _order == "be")
        FUNCTIONS[f"store_{_order}{_kind.BITS}"] = _storing(_kind, _order == "be")

__all__ = ["bounded", "index_term"]
