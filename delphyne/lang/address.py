# SPDX-License-Identifier: Apache-2.0
"""Physical, intermediate physical and virtual addresses: three types that never mix.

Written in the language itself. The three classes say the same three times because the language has no inheritance and no generics of the
user's own; that they stay equal is tested.
"""

from __future__ import annotations

from delphyne.lang.ints import u64
from delphyne.lang.records import value


@value
class Pa:
    """A physical address: what stage 2 gives and what a page-table descriptor holds."""

    raw: u64

    def __add__(self, other: u64) -> Pa:
        """Traps OVERFLOW past the end of 64 bits."""
        return Pa(self.raw + other)

    def __sub__(self, other: Pa) -> u64:
        """The distance in bytes; traps OVERFLOW where `other` is higher."""
        return self.raw - other.raw

    def __lt__(self, other: Pa) -> bool:
        return self.raw < other.raw

    def __le__(self, other: Pa) -> bool:
        return self.raw <= other.raw

    def __gt__(self, other: Pa) -> bool:
        return self.raw > other.raw

    def __ge__(self, other: Pa) -> bool:
        return self.raw >= other.raw

    def align_down(self, size: u64) -> Pa:
        """The multiple of `size`, a power of two, at or below."""
        return Pa(self.raw & ~(size - 1))

    def align_up(self, size: u64) -> Pa:
        """The multiple of `size`, a power of two, at or above; traps OVERFLOW past the end of 64 bits."""
        return Pa((self.raw + (size - 1)) & ~(size - 1))

    def is_aligned(self, size: u64) -> bool:
        """Whether this is a multiple of `size`, a power of two."""
        return self.raw & (size - 1) == 0


@value
class Ipa:
    """An intermediate physical address: what a host or guest calls physical, and stage 2 translates."""

    raw: u64

    def __add__(self, other: u64) -> Ipa:
        """Traps OVERFLOW past the end of 64 bits."""
        return Ipa(self.raw + other)

    def __sub__(self, other: Ipa) -> u64:
        """The distance in bytes; traps OVERFLOW where `other` is higher."""
        return self.raw - other.raw

    def __lt__(self, other: Ipa) -> bool:
        return self.raw < other.raw

    def __le__(self, other: Ipa) -> bool:
        return self.raw <= other.raw

    def __gt__(self, other: Ipa) -> bool:
        return self.raw > other.raw

    def __ge__(self, other: Ipa) -> bool:
        return self.raw >= other.raw

    def align_down(self, size: u64) -> Ipa:
        """The multiple of `size`, a power of two, at or below."""
        return Ipa(self.raw & ~(size - 1))

    def align_up(self, size: u64) -> Ipa:
        """The multiple of `size`, a power of two, at or above; traps OVERFLOW past the end of 64 bits."""
        return Ipa((self.raw + (size - 1)) & ~(size - 1))

    def is_aligned(self, size: u64) -> bool:
        """Whether this is a multiple of `size`, a power of two."""
        return self.raw & (size - 1) == 0


@value
class Va:
    """A virtual address of EL2, or of a host where a walk of its tables says so."""

    raw: u64

    def __add__(self, other: u64) -> Va:
        """Traps OVERFLOW past the end of 64 bits."""
        return Va(self.raw + other)

    def __sub__(self, other: Va) -> u64:
        """The distance in bytes; traps OVERFLOW where `other` is higher."""
        return self.raw - other.raw

    def __lt__(self, other: Va) -> bool:
        return self.raw < other.raw

    def __le__(self, other: Va) -> bool:
        return self.raw <= other.raw

    def __gt__(self, other: Va) -> bool:
        return self.raw > other.raw

    def __ge__(self, other: Va) -> bool:
        return self.raw >= other.raw

    def align_down(self, size: u64) -> Va:
        """The multiple of `size`, a power of two, at or below."""
        return Va(self.raw & ~(size - 1))

    def align_up(self, size: u64) -> Va:
        """The multiple of `size`, a power of two, at or above; traps OVERFLOW past the end of 64 bits."""
        return Va((self.raw + (size - 1)) & ~(size - 1))

    def is_aligned(self, size: u64) -> bool:
        """Whether this is a multiple of `size`, a power of two."""
        return self.raw & (size - 1) == 0
