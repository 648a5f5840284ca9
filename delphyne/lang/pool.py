# SPDX-License-Identifier: Apache-2.0
"""Pools of objects and the handles that name them.

Written in the language itself and instantiated for each `Pool[T, N]` (see `generics`). Lock order: a pool is guarded by its user's lock
and takes none.

Invariants, for a slot i: its generation is odd while it is allocated and even while it is free; slots at and above `fresh` were never
used; a free slot below `fresh` is on the list that begins at `head` (slot + 1, 0 ends it) and goes on through `links`, unless its
generation is used up: then it is retired, so that no handle ever names two objects. A free slot is all zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from delphyne.lang.arithmetic import wrap_add
from delphyne.lang.arrays import Array
from delphyne.lang.generics import instantiate
from delphyne.lang.ints import u32, u64
from delphyne.lang.memory import wipe
from delphyne.lang.records import struct, value

T = TypeVar("T")
N: Final = 0
"""Stands for the number of slots; bound in each instance."""


@value
class Handle(Generic[T]):
    """Names an object of a pool: the slot and the generation it had. Zero names nothing."""

    index: u32
    generation: u32

    def __class_getitem__(cls, item: Any) -> Any:
        return cls if isinstance(item, TypeVar) else instantiate(cls, ("T",), item, value)


@struct
class PoolOf(Generic[T]):
    """Up to N objects of type T, all zero when allocated."""

    items: Array[T, N]
    generations: Array[u32, N]
    links: Array[u32, N]
    head: u32
    fresh: u32

    def allocate(self) -> Handle[T] | None:
        """A zero object nobody else has, or None where all N are taken."""
        index = self.head
        if index == 0:
            if u64(self.fresh) == self.items.length:
                return None
            index = self.fresh
            self.fresh = index + 1
        else:
            index = index - 1
            self.head = self.links[u64(index)]
        generation = self.generations[u64(index)] + 1
        self.generations[u64(index)] = generation
        return Handle[T](index, generation)

    def get(self, handle: Handle[T]) -> T | None:
        """The object, or None where the handle is stale or names nothing."""
        index = u64(handle.index)
        if index >= self.items.length:
            return None
        if handle.generation % 2 == 0 or self.generations[index] != handle.generation:
            return None
        return self.items[index]

    def free(self, handle: Handle[T]) -> bool:
        """Ends the object: zeroes it and makes every handle to it stale. False where the handle was stale already."""
        item = self.get(handle)
        if item is None:
            return False
        wipe(item)
        index = u64(handle.index)
        generation = wrap_add(handle.generation, 1)
        self.generations[index] = generation
        if generation != 0:
            self.links[index] = self.head
            self.head = handle.index + 1
        return True


class _PoolMaker:
    """`Pool[T, N]`: the class for an element type and a number of slots."""

    if TYPE_CHECKING:

        def __getitem__(self, key: tuple[type[T], u64 | int]) -> type[PoolOf[T]]: ...
    else:

        def __getitem__(self, key):
            return instantiate(PoolOf, ("T", "N"), key, struct)


Pool = _PoolMaker()
