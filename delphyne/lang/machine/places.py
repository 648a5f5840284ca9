# SPDX-License-Identifier: Apache-2.0
"""Objects of the language that lie in simulated memory.

`Places.at(cls, address)` is the object for a place at an address, the same each time. `Places.address_of(x)` moves an ordinary object into
memory, where it stays until the machine ends; then `release` gives every such object its contents back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from delphyne.lang.arrays import ArrayOf, LazyCells
from delphyne.lang.atomics import Atomic
from delphyne.lang.ints import u8
from delphyne.lang.machine.errors import MachineError
from delphyne.lang.machine.layout import align_of, decode, encode, offsets, size_of
from delphyne.lang.records import fields_of
from delphyne.lang.types import is_place

IMAGE_BASE = 0x80_0000_0000
"""Where statics get their addresses: RAM of its own, far from the machine's."""
IMAGE_SIZE = 0x1000_0000

_BYTES = [u8(number) for number in range(256)]

Read = Callable[[int, int], bytes]
Write = Callable[[int, bytes], None]


class AtomicBacking:
    """An atomic at an address."""

    __slots__ = ("address", "kind", "places")

    def __init__(self, places: Places, address: int, kind: Any) -> None:
        self.places, self.address, self.kind = places, address, kind

    def load(self) -> Any:
        """The value in memory."""
        return self.kind(int.from_bytes(self.places.read(self.address, self.kind.BITS // 8), "little"))

    def store(self, value: Any) -> None:
        """Sets the value in memory."""
        self.places.write(self.address, int(value).to_bytes(self.kind.BITS // 8, "little"))


class StructBacking:
    """A struct at an address."""

    __slots__ = ("address", "cls", "places")

    def __init__(self, places: Places, address: int, cls: Any) -> None:
        self.places, self.address, self.cls = places, address, cls

    def load(self, name: str) -> Any:
        """A field: the value in memory, or the place that it is."""
        kind, address = fields_of(self.cls)[name], self.address + offsets(self.cls)[name]
        return self.places.at(kind, address) if is_place(kind) else decode(kind, self.places.read(address, size_of(kind)))

    def store(self, name: str, value: Any) -> None:
        """Sets a field in memory."""
        kind = fields_of(self.cls)[name]
        self.places.write(self.address + offsets(self.cls)[name], encode(kind, value))


class MemoryCells(LazyCells):
    """`length` elements in a row at an address."""

    def __init__(self, places: Places, item: Any, address: int, length: int) -> None:
        super().__init__(item, length)
        self.places, self.address = places, address
        self._size = size_of(item)

    @property
    def size(self) -> int:
        """Bytes of all elements."""
        return self._size * self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            numbers = range(*index.indices(self._length))
            if self._item is u8 and len(numbers):
                return [_BYTES[byte] for byte in self.places.read(self.address + numbers.start, len(numbers))]
            return [self[i] for i in numbers]
        address = self.address + index * self._size
        if is_place(self._item):
            return self.places.at(self._item, address)
        return decode(self._item, self.places.read(address, self._size))

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            start = index.indices(self._length)[0]
            self.places.write(self.address + start * self._size, b"".join(encode(self._item, x) for x in value))
        else:
            self._assignable(value)
            self.places.write(self.address + index * self._size, encode(self._item, value))


class Places:
    """The objects that lie in one machine's memory."""

    def __init__(self, read: Read, write: Write) -> None:
        self.read = read
        self.write = write
        self._at: dict[tuple[Any, int], Any] = {}
        self._moved: list[Any] = []
        self._next = IMAGE_BASE

    def at(self, cls: Any, address: int) -> Any:
        """The place of type `cls` at an address."""
        known = self._at.get((cls, address))
        if known is not None:
            return known
        if address % align_of(cls):
            raise MachineError(f"{cls.__name__} at {address:#x} is not aligned")
        made = object.__new__(cls)
        self._back(made, address)
        self._at[cls, address] = made
        return made

    def _back(self, x: Any, address: int) -> None:
        """Let `x` find its contents at `address` from now on."""
        if isinstance(x, ArrayOf):
            x._read_only = getattr(x, "_read_only", False)
            x._cells = MemoryCells(self, x._item, address, x._length)
        elif isinstance(x, Atomic):
            x._value = None
            x._backing = AtomicBacking(self, address, x.KIND)
        else:
            x.__dict__.clear()
            x.__dict__["_backing"] = StructBacking(self, address, type(x))

    @staticmethod
    def _backing(x: Any) -> Any:
        """What says where `x` lies, or None for an ordinary object."""
        if isinstance(x, ArrayOf):
            return x._cells if isinstance(x._cells, MemoryCells) else None
        if not is_place(type(x)):
            raise MachineError(f"{type(x).__name__} has no address")
        return x._backing

    def address_of(self, x: Any) -> int:
        """Where `x` lies; moves it into memory where it lies nowhere yet."""
        backing = self._backing(x)
        if backing is not None:
            if backing.places is not self:
                raise MachineError(f"{type(x).__name__} lies in another machine's memory")
            return int(backing.address)
        cls: Any = type(x)
        align = max(align_of(cls), 64)
        address = (self._next + align - 1) // align * align
        self._next = address + max(size_of(cls), 1)
        if self._next > IMAGE_BASE + IMAGE_SIZE:
            raise MachineError("statics need more memory than the image has")
        self._move(x, address)
        self._moved.append(x)
        return address

    def _move(self, x: Any, address: int) -> None:
        """Put the contents of an ordinary object, and of the places in it, at `address`."""
        if self._backing(x) is not None:
            raise MachineError(f"part of {type(x).__name__} was given an address before the whole")
        cls: Any = type(x)
        if isinstance(x, Atomic):
            self.write(address, encode(x.KIND, x._value))
        elif isinstance(x, ArrayOf):
            size = size_of(x._item)
            if is_place(x._item):
                for number, item in x._cells._made.items():
                    self._move(item, address + number * size)
            elif x._length:
                self.write(address, b"".join(encode(x._item, value) for value in x._cells))
        else:
            for name, kind in fields_of(cls).items():
                at = address + offsets(cls)[name]
                if is_place(kind):
                    self._move(x.__dict__[name], at)
                else:
                    self.write(at, encode(kind, x.__dict__[name]))
        self._back(x, address)
        self._at[cls, address] = x

    def release(self) -> None:
        """Every object that was moved here is an ordinary one again, with the contents it has now."""
        for x in reversed(self._moved):
            self._restore(x)
        self._moved.clear()
        self._at.clear()

    def _restore(self, x: Any) -> None:
        cls: Any = type(x)
        address = self._backing(x).address
        if isinstance(x, Atomic):
            x._value, x._backing = x._backing.load(), None
        elif isinstance(x, ArrayOf) and not is_place(x._item):
            x._cells = [x._cells[number] for number in range(x._length)]
        elif isinstance(x, ArrayOf):
            size, cells = size_of(x._item), LazyCells(x._item, x._length)
            for number in range(x._length):
                at = address + number * size
                if (x._item, at) in self._at or any(self.read(at, size)):
                    cells._made[number] = self.at(x._item, at)
                    self._restore(cells._made[number])
            x._cells = cells
        else:
            found = {name: x._backing.load(name) for name in fields_of(cls)}
            for name, kind in fields_of(cls).items():
                if is_place(kind):
                    self._restore(found[name])
            x.__dict__.update(found)
            x.__dict__["_backing"] = None
