# SPDX-License-Identifier: Apache-2.0
"""Memory by address: the few primitives under `owned`, `Hostile` and boot arrays, and `wipe`.

They act on the memory of the current simulated machine. A static gets an address there when it is first asked for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from delphyne.lang import current
from delphyne.lang.address import Pa, Va
from delphyne.lang.arrays import ArrayOf, Slice
from delphyne.lang.ints import stand_in, stood_for, u8, u64
from delphyne.lang.meta import Kind, class_meta
from delphyne.lang.records import fields_of
from delphyne.lang.types import Place, is_place, zero

T = TypeVar("T")


def address_of(x: object) -> Va:
    """The address of a static or of what a reference refers to."""
    return Va(u64(current.machine().address_of(x)))


def place_at(cls: type[T], address: u64) -> T:
    """The place of type `cls` at an address that EL2 reaches. For the language's own library only."""
    return current.machine().place_at(cls, int(address))  # type: ignore[no-any-return]


def slice_at(address: u64, length: u64) -> Slice[u8]:
    """`length` bytes at an address that EL2 reaches. For the language's own library only."""
    return Slice(u8, current.machine().bytes_at(int(address), int(length)), 0, int(length))


@contextmanager
def owned(pa: Pa, size: u64) -> Iterator[Slice[u8]]:
    """Memory that EL2 owns for the moment, as bytes. The window is closed at the end of the `with`."""
    window = slice_at(pa.raw, size)
    try:
        yield window
    finally:
        window._length = 0


def nospec(index: u64, limit: u64) -> u64:
    """`index` where it is below `limit`, else 0; on the processor also under speculation."""
    if stand_in((index, limit)) is not None:
        return stood_for("nospec", index, limit)  # type: ignore[no-any-return]
    return index if index < limit else u64(0)


def wipe(place: Any) -> None:
    """Makes a place or a slice all zero, and stays when nothing reads it afterwards."""
    if isinstance(place, Slice | ArrayOf):
        for i in range(place._start, place._start + place._length):
            if is_place(place._item):
                wipe(place._cells[i])
            else:
                place._cells[i] = zero(place._item)
    elif isinstance(place, Place):
        place._set(zero(type(place))._get())  # type: ignore[attr-defined]
    elif (meta := class_meta(type(place))) is not None and meta.kind is Kind.STRUCT:
        for name, kind in fields_of(type(place)).items():
            if is_place(kind):
                wipe(getattr(place, name))
            else:
                setattr(place, name, zero(kind))
    else:
        raise TypeError(f"wipe({type(place).__name__})")
