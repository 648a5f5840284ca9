# SPDX-License-Identifier: Apache-2.0
"""Arrays, slices and views.

An array is a place: `Array[u32, 64]` is a class of its own, made once, whose elements live in `_cells`, a list or a window on the memory of
a simulated machine. A slice is a piece of somebody's cells; a view is a slice that may not be written.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from delphyne.lang.ints import Integer, stood_for, u8, u16, u32, u64
from delphyne.lang.traps import Trap, TrapKind
from delphyne.lang.types import Place, accepts, is_place, is_value, zero

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Index = u64 | int
if TYPE_CHECKING:
    Range = slice[Index, Index, None] | slice[None, Index, None] | slice[Index, None, None] | slice[None, None, None]


def _position(index: object, length: int) -> int:
    """`index` as an element number below `length`; traps INDEX."""
    if type(index) is u64:
        number = index._v
    elif type(index) is int:
        number = index
        if number < 0:
            raise TypeError("an index is not negative")
    else:
        raise TypeError(f"an index is u64, not {type(index).__name__}")
    if number >= length:
        raise Trap(TrapKind.INDEX, number, length)
    return number


def _piece(key: slice, length: int) -> tuple[int, int]:
    """Start and element count of `[low:high]`; traps INDEX unless low <= high <= length."""
    if key.step is not None:
        raise TypeError("a slice has no step")
    low, high = (default if end is None else _end(end) for end, default in ((key.start, 0), (key.stop, length)))
    if high > length:
        raise Trap(TrapKind.INDEX, high, length)
    if low > high:
        raise Trap(TrapKind.INDEX, low, high)
    return low, high - low


def _end(end: object) -> int:
    if type(end) is u64:
        return end._v
    if type(end) is int and end >= 0:
        return end
    raise TypeError(f"the end of a slice is u64, not {type(end).__name__}")


def _symbolic(*operands: object) -> bool:
    return any(isinstance(x, u64) and type(x) is not u64 for x in operands)


class LazyCells(MutableSequence[Any]):
    """Elements made when they are first asked for, so that large arrays of records cost nothing until used."""

    def __init__(self, item: Any, length: int) -> None:
        self._item = item
        self._length = length
        self._made: dict[int, Any] = {}
        self._placed = is_place(item)

    def __getitem__(self, index: Any) -> Any:
        cell = self._made.get(index)
        if cell is None:
            cell = self._made[index] = zero(self._item)
        return cell

    def _assignable(self, value: Any) -> None:
        """TypeError unless one element may become `value`."""
        if self._placed:
            raise TypeError("a place is not assigned: use copy_from")
        _storable(self._item, value)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._assignable(value)
        self._made[index] = value

    def __delitem__(self, index: Any) -> None:
        raise TypeError("an array keeps its length")

    def __len__(self) -> int:
        return self._length

    def insert(self, index: int, value: Any) -> None:
        """Refused."""
        raise TypeError("an array keeps its length")


class View(Generic[T_co]):
    """`length` elements in a row that may be read. Not made by name: slice an array or another view, or write `text(b"..")`."""

    __slots__ = ("_cells", "_item", "_length", "_start")

    def __init__(self, item: Any, cells: Any, start: int, length: int) -> None:
        self._item = item
        self._cells = cells
        self._start = start
        self._length = length

    @property
    def length(self) -> u64:
        """The number of elements."""
        return u64(self._length)

    @overload
    def __getitem__(self, key: Index) -> T_co: ...
    @overload
    def __getitem__(self, key: Range) -> View[T_co]: ...
    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice:
            if _symbolic(key.start, key.stop):
                return stood_for("slice", self, key.start, key.stop)
            low, length = _piece(key, self._length)
            return type(self)(self._item, self._cells, self._start + low, length)
        if _symbolic(key):
            return stood_for("index", self, key)
        return self._cells[self._start + _position(key, self._length)]

    def __len__(self) -> int:
        return self._length

    def __bytes__(self) -> bytes:
        """The bytes of a view of u8, for what is around the program (tests, devices)."""
        return bytes(self._cells[self._start : self._start + self._length])

    def __bool__(self) -> bool:
        raise TypeError("a slice is no condition: compare its length")

    def __eq__(self, other: object) -> bool:
        raise TypeError("slices are not compared: compare their elements")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(repr(self._cells[self._start + i]) for i in range(min(self._length, 8)))
        return f"{type(self).__name__}({shown}{', ..' if self._length > 8 else ''})"


class Slice(View[T]):
    """`length` elements in a row that may be written."""

    __slots__ = ()

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: Index) -> T: ...
        @overload
        def __getitem__(self, key: Range) -> Slice[T]: ...
        def __getitem__(self, key: Any) -> Any: ...

    def __setitem__(self, key: Index, value: T) -> None:
        if _symbolic(key):
            stood_for("store", self, key, value)
            return
        index = self._start + _position(key, self._length)
        _storable(self._item, value)
        self._cells[index] = value

    def copy_from(self, other: View[T]) -> None:
        """Copies `other`, which may overlap; traps INDEX unless the lengths are equal."""
        _copy(self, other)

    def fill(self, value: T) -> None:
        """Every element becomes `value`."""
        _storable(self._item, value)
        self._cells[self._start : self._start + self._length] = [value] * self._length


def _storable(item: Any, value: object) -> None:
    if type(value) is not item and not accepts(item, value):
        raise TypeError(f"an element is {item.__name__}, not {type(value).__name__}")


def _copy(to: Any, source: Any) -> None:
    if not isinstance(source, View | ArrayOf) or source._item is not to._item:
        raise TypeError(f"copy_from({type(source).__name__})")
    if source._length != to._length:
        raise Trap(TrapKind.INDEX, source._length, to._length)
    if is_place(to._item):
        order = range(to._length) if to._start <= source._start else range(to._length - 1, -1, -1)
        for i in order:
            to._cells[to._start + i].copy_from(source._cells[source._start + i])
        return
    taken = source._cells[source._start : source._start + source._length]
    to._cells[to._start : to._start + to._length] = taken


class ArrayOf(Place, Generic[T]):
    """What `Array[T, N]` derives from: `_item` and `_length` are the class's, `_cells` the object's."""

    __slots__ = ("__weakref__", "_cells", "_read_only")
    _item: Any = None
    _length: int = 0
    _start = 0

    def __init__(self) -> None:
        if self._item is None:
            raise TypeError("Array[T, N]() needs its element type and length")
        self._read_only = False
        self._cells: Any = LazyCells(self._item, self._length) if is_place(self._item) else [zero(self._item)] * self._length

    @classmethod
    def of(cls, items: Iterable[Any]) -> Self:
        """An array with these elements, literals allowed; at module top level only."""
        made = cls()
        given = [cls._item(x) if type(x) is int and issubclass(cls._item, Integer) else x for x in items]
        if len(given) != cls._length:
            raise TypeError(f"{cls.__name__}.of got {len(given)} elements")
        for value in given:
            _storable(cls._item, value)
        made._cells = given
        return made

    @property
    def length(self) -> u64:
        """The number of elements."""
        return u64(self._length)

    @overload
    def __getitem__(self, key: Index) -> T: ...
    @overload
    def __getitem__(self, key: Range) -> Slice[T]: ...
    def __getitem__(self, key: Any) -> Any:
        if type(key) is slice:
            if _symbolic(key.start, key.stop):
                return stood_for("slice", self, key.start, key.stop)
            low, length = _piece(key, self._length)
            return (View if self._read_only else Slice)(self._item, self._cells, low, length)
        if _symbolic(key):
            return stood_for("index", self, key)
        return self._cells[_position(key, self._length)]

    def __setitem__(self, key: Index, value: T) -> None:
        if self._read_only:
            raise TypeError("a constant is not written")
        if _symbolic(key):
            stood_for("store", self, key, value)
            return
        index = _position(key, self._length)
        if type(value) is not self._item:
            _storable(self._item, value)
        self._cells[index] = value

    def copy_from(self, other: Self) -> None:
        """Copies every element of an array of the same type."""
        if self._read_only:
            raise TypeError("a constant is not written")
        _copy(self, other)

    def fill(self, value: T) -> None:
        """Every element becomes `value`."""
        if self._read_only:
            raise TypeError("a constant is not written")
        _storable(self._item, value)
        self._cells[0 : self._length] = [value] * self._length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Any:
        raise TypeError("an array is not iterated: count with u64.range")

    def __bytes__(self) -> bytes:
        """The bytes of an array of u8, for what is around the program (tests, devices)."""
        return bytes(self._cells[0 : self._length])

    def __bool__(self) -> bool:
        raise TypeError("an array is no condition")

    def __repr__(self) -> str:
        shown = ", ".join(repr(self._cells[i]) for i in range(min(self._length, 8)))
        return f"{type(self).__name__}({shown}{', ..' if self._length > 8 else ''})"


class _ArrayMaker:
    """`Array[T, N]`: the class for an element type and a length, one for each pair."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, int], Any] = {}

    def __getitem__(self, key: tuple[type[T], Index]) -> type[ArrayOf[T]]:
        if not isinstance(key, tuple) or len(key) != 2:
            raise TypeError("Array[T, N] takes an element type and a length")
        item, length = key[0], int(key[1])
        known: Any = self._known.get((item, length))
        if known is None:
            if not (is_value(item) or is_place(item)):
                raise TypeError(f"{item!r} cannot be an element")
            if length < 0:
                raise TypeError("the length of an array is not negative")
            name = f"Array[{item.__name__}, {length}]"
            known = type(name, (ArrayOf,), {"_item": item, "_length": length, "__slots__": (), "__module__": __name__})
            self._known[item, length] = known
        return known  # type: ignore[no-any-return]


Array = _ArrayMaker()


def text(data: bytes) -> View[u8]:
    """A read-only byte string."""
    if type(data) is not bytes:
        raise TypeError("text takes a bytes literal")
    return View(u8, [u8(x) for x in data], 0, len(data))


def _load(s: Any, offset: Any, size: int, order: Any) -> int:
    if not isinstance(s, View) or s._item is not u8:
        raise TypeError(f"bytes are loaded from View[u8], not {type(s).__name__}")
    start = _end(offset)
    if start + size > s._length:
        raise Trap(TrapKind.INDEX, start, s._length)
    at = s._start + start
    return int.from_bytes(bytes(s._cells[at : at + size]), order)


def _store(s: Any, offset: Any, value: Integer, size: int, order: Any) -> None:
    if not isinstance(s, Slice) or s._item is not u8:
        raise TypeError(f"bytes are stored to Slice[u8], not {type(s).__name__}")
    start = _end(offset)
    if start + size > s._length:
        raise Trap(TrapKind.INDEX, start, s._length)
    at = s._start + start
    s._cells[at : at + size] = [u8(byte) for byte in int(value).to_bytes(size, order)]


def _load_or_ask(name: str, s: Any, offset: Any, kind: Any, order: str) -> Any:
    if _symbolic(offset) or hasattr(s, "_function"):
        return stood_for(name, s, offset)
    return kind(_load(s, offset, kind.BITS // 8, order))


def _store_or_ask(name: str, s: Any, offset: Any, value: Any, kind: Any, order: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} stores {kind.__name__}, not {type(value).__name__}")
    if type(value) is not kind or _symbolic(offset) or hasattr(s, "_function"):
        stood_for(name, s, offset, value)
    else:
        _store(s, offset, value, kind.BITS // 8, order)


def load_be16(s: View[u8], offset: Index) -> u16:
    """Two bytes at `offset`, the high one first; traps INDEX."""
    return _load_or_ask("load_be16", s, offset, u16, "big")  # type: ignore[no-any-return]


def load_be32(s: View[u8], offset: Index) -> u32:
    """Four bytes at `offset`, the highest first; traps INDEX."""
    return _load_or_ask("load_be32", s, offset, u32, "big")  # type: ignore[no-any-return]


def load_be64(s: View[u8], offset: Index) -> u64:
    """Eight bytes at `offset`, the highest first; traps INDEX."""
    return _load_or_ask("load_be64", s, offset, u64, "big")  # type: ignore[no-any-return]


def load_le16(s: View[u8], offset: Index) -> u16:
    """Two bytes at `offset`, the low one first; traps INDEX."""
    return _load_or_ask("load_le16", s, offset, u16, "little")  # type: ignore[no-any-return]


def load_le32(s: View[u8], offset: Index) -> u32:
    """Four bytes at `offset`, the lowest first; traps INDEX."""
    return _load_or_ask("load_le32", s, offset, u32, "little")  # type: ignore[no-any-return]


def load_le64(s: View[u8], offset: Index) -> u64:
    """Eight bytes at `offset`, the lowest first; traps INDEX."""
    return _load_or_ask("load_le64", s, offset, u64, "little")  # type: ignore[no-any-return]


def store_be16(s: Slice[u8], offset: Index, x: u16) -> None:
    """Stores x at `offset`, the high byte first; traps INDEX."""
    _store_or_ask("store_be16", s, offset, x, u16, "big")


def store_be32(s: Slice[u8], offset: Index, x: u32) -> None:
    """Stores x at `offset`, the highest byte first; traps INDEX."""
    _store_or_ask("store_be32", s, offset, x, u32, "big")


def store_be64(s: Slice[u8], offset: Index, x: u64) -> None:
    """Stores x at `offset`, the highest byte first; traps INDEX."""
    _store_or_ask("store_be64", s, offset, x, u64, "big")


def store_le16(s: Slice[u8], offset: Index, x: u16) -> None:
    """Stores x at `offset`, the low byte first; traps INDEX."""
    _store_or_ask("store_le16", s, offset, x, u16, "little")


def store_le32(s: Slice[u8], offset: Index, x: u32) -> None:
    """Stores x at `offset`, the lowest byte first; traps INDEX."""
    _store_or_ask("store_le32", s, offset, x, u32, "little")


def store_le64(s: Slice[u8], offset: Index, x: u64) -> None:
    """Stores x at `offset`, the lowest byte first; traps INDEX."""
    _store_or_ask("store_le64", s, offset, x, u64, "little")
