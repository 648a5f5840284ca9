# SPDX-License-Identifier: Apache-2.0
"""Statics: objects at module top level, and who may touch them. Marks are kept by identity (`meta.static_meta`); the compiler enforces them."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from delphyne.lang import current
from delphyne.lang.arrays import ArrayOf, Index, LazyCells, _position, _symbolic
from delphyne.lang.ints import stood_for, u64
from delphyne.lang.locks import Lock
from delphyne.lang.meta import StaticKind, mark_static
from delphyne.lang.records import fields_of
from delphyne.lang.traps import Trap, TrapKind
from delphyne.lang.types import Place, is_place

T = TypeVar("T")


def _marked(x: Any, kind: StaticKind) -> Any:
    meta = mark_static(x)
    if meta.kind is not StaticKind.BARE:
        raise TypeError(f"a static is {meta.kind.value} already")
    meta.kind = kind
    return meta


def _freeze(x: Any) -> None:
    if isinstance(x, ArrayOf):
        x._read_only = True
        if is_place(x._item):
            for i in range(x._length):
                _freeze(x._cells[i])


def constant(x: T) -> T:
    """Read only, in the constants section."""
    _marked(x, StaticKind.CONSTANT)
    _freeze(x)
    return x


def frozen(x: T) -> T:
    """Written only in `@boot` functions."""
    _marked(x, StaticKind.FROZEN)
    return x


def guarded(lock: Lock, x: T) -> T:
    """Touched only inside `with lock:` or in functions marked `@holds(lock)`."""
    if not isinstance(lock, Lock):
        raise TypeError("guarded(LOCK, x)")
    _marked(x, StaticKind.GUARDED).lock = lock
    return x


def placed(section: str, x: T, align: int = 0) -> T:
    """In this section of the image, aligned to `align` bytes."""
    meta = mark_static(x)
    meta.section = section
    meta.align = align
    return x


class PerCpu(Generic[T]):
    """One object of a struct class for each CPU."""

    def __init__(self, cls: type[T], count: int) -> None:
        fields_of(cls)
        self.cls = cls
        self.count = count
        self._cells = LazyCells(cls, count)

    def mine(self) -> T:
        """The object of the CPU that runs."""
        number = current.cpu_number()
        if number >= self.count:
            raise Trap(TrapKind.INDEX, number, self.count)
        return self._cells[number]  # type: ignore[no-any-return]

    def of(self, index: Index) -> T:
        """The object of CPU `index`; in `@boot` functions and named modules. Traps INDEX."""
        return self._cells[_position(index, self.count)]  # type: ignore[no-any-return]

    @property
    def length(self) -> u64:
        """The number of CPUs there is room for."""
        return u64(self.count)


def per_cpu(cls: type[T], count: Index) -> PerCpu[T]:
    """One `cls` for each of `count` CPUs; TPIDR_EL2 holds the address of a CPU's own."""
    made = PerCpu(cls, int(count))
    mark_static(made).kind = StaticKind.PER_CPU
    return made


class BootArray(Place, Generic[T]):
    """An array whose address and length are set once, at boot.

    Where a machine with memory at that address is current, the elements lie there; otherwise they are plain objects, zero at first."""

    _known: ClassVar[dict[Any, Any]] = {}
    _item: Any = None

    def __init__(self) -> None:
        if self._item is None:
            raise TypeError("BootArray[T]() needs its element type")
        self._cells: Any = None
        self._length = 0

    def __class_getitem__(cls, item: Any) -> Any:
        if isinstance(item, TypeVar):
            return cls
        known = BootArray._known.get(item)
        if known is None:
            known = type(f"BootArray[{item.__name__}]", (BootArray,), {"_item": item, "__module__": __name__})
            BootArray._known[item] = known
        return known

    def attach(self, address: u64, length: u64) -> None:
        """Says where the elements lie and how many there are. Once, in `@boot`; traps ASSERT the second time."""
        if self._cells is not None:
            raise Trap(TrapKind.ASSERT, 0, 0)
        found = current.find_machine()
        self._length = int(length)
        self._cells = LazyCells(self._item, self._length) if found is None else found.attach(self, int(address))

    def detach(self) -> None:
        """Forgets `attach`: what a test does between two boots."""
        self._cells, self._length = None, 0

    @property
    def length(self) -> u64:
        """The number of elements; 0 before `attach`."""
        return u64(self._length)

    def __getitem__(self, index: Index) -> T:
        if _symbolic(index):
            return stood_for("index", self, index)  # type: ignore[no-any-return]
        return self._cells[_position(index, self._length)]  # type: ignore[no-any-return]

    def __setitem__(self, index: Index, value: T) -> None:
        if _symbolic(index):
            stood_for("store", self, index, value)
            return
        self._cells[_position(index, self._length)] = value
