# SPDX-License-Identifier: Apache-2.0
"""Memory that somebody else may change at any moment, and the numbers that come out of it.

Written in the language itself. Nothing refers into hostile memory: it is read once, copied in or copied out. What is read once is tainted
until it was compared with a limit, and the limit holds under speculation too.

A copy in ends with a barrier: LLVM would otherwise read hostile memory again in place of a copy of the copy, and what was checked would not be
what is used.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from delphyne.lang.address import Pa
from delphyne.lang.arrays import Slice, View
from delphyne.lang.atomics import AtomicU32, AtomicU64, Order
from delphyne.lang.generics import instantiate
from delphyne.lang.hardware import Domain, dmb
from delphyne.lang.ints import u8, u32, u64
from delphyne.lang.memory import nospec, place_at, slice_at
from delphyne.lang.records import value

T = TypeVar("T", u32, u64)


@value
class Tainted(Generic[T]):
    """A number from hostile memory. It can be compared, and it can be used once it is known to be below a limit."""

    _raw: T

    def __class_getitem__(cls, item: Any) -> Any:
        return cls if isinstance(item, TypeVar) else instantiate(cls, ("T",), item, value)

    def below(self, limit: T) -> T | None:
        """The number where it is below `limit`, else None; a processor that guesses sees 0 at worst."""
        if self._raw >= limit:
            return None
        return T.wrap(nospec(u64(self._raw), u64(limit)))  # type: ignore[misc, no-any-return]

    def equals(self, other: T) -> bool:
        """Whether it is that number."""
        return self._raw == other


@value
class Hostile:
    """`size` bytes at `base` that belong to a host or guest."""

    base: Pa
    size: u64

    def _holds(self, offset: u64, length: u64) -> bool:
        return offset <= self.size and length <= self.size - offset

    def read_once_u32(self, offset: u64) -> Tainted[u32] | None:
        """One single load of an aligned u32; None where it does not lie inside or is not aligned."""
        if not self._holds(offset, u64(4)) or not (self.base + offset).is_aligned(u64(4)):
            return None
        return Tainted[u32](place_at(AtomicU32, self.base.raw + offset).load(Order.RELAXED))

    def read_once_u64(self, offset: u64) -> Tainted[u64] | None:
        """One single load of an aligned u64; None where it does not lie inside or is not aligned."""
        if not self._holds(offset, u64(8)) or not (self.base + offset).is_aligned(u64(8)):
            return None
        return Tainted[u64](place_at(AtomicU64, self.base.raw + offset).load(Order.RELAXED))

    def compare_exchange_u64(self, offset: u64, expected: u64, wanted: u64) -> bool:
        """Writes `wanted` where an aligned u64 is `expected` still, as one step; whether it did. False where it does not lie inside."""
        if not self._holds(offset, u64(8)) or not (self.base + offset).is_aligned(u64(8)):
            return False
        return place_at(AtomicU64, self.base.raw + offset).compare_exchange(expected, wanted, Order.ACQ_REL) == expected

    def copy_in(self, to: Slice[u8], offset: u64) -> bool:
        """Fills `to` from `offset`; False, and nothing copied, where that does not lie inside."""
        if not self._holds(offset, to.length):
            return False
        to.copy_from(slice_at(self.base.raw + offset, to.length))
        dmb(Domain.ISHLD)
        return True

    def copy_out(self, offset: u64, source: View[u8]) -> bool:
        """Writes `source` at `offset`; False, and nothing written, where that does not lie inside."""
        if not self._holds(offset, source.length):
            return False
        slice_at(self.base.raw + offset, source.length).copy_from(source)
        return True
