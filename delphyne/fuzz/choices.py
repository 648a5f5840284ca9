# SPDX-License-Identifier: Apache-2.0
"""Where the generator's decisions come from: a seed, a recording, or hypothesis.

Every decision is one number below a bound, and 0 is always the simplest answer. So a program is a list of numbers, and a list with numbers
taken out or made smaller is a simpler program: that is all that shrinking needs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Choices:
    """Decisions, recorded as they are made in `made`."""

    def __init__(self) -> None:
        """No decision is made yet."""
        self.made: list[int] = []

    def _next(self, bound: int) -> int:
        raise NotImplementedError

    def below(self, bound: int) -> int:
        """A number in [0, bound)."""
        number = self._next(bound)
        self.made.append(number)
        return number

    def pick(self, items: Sequence[T]) -> T:
        """One of the items; the first is the simplest."""
        return items[self.below(len(items))]

    def chance(self, percent: int) -> bool:
        """True in about `percent` of a hundred; the simplest answer is False."""
        return self.below(100) >= 100 - percent

    def weighted(self, items: Sequence[tuple[int, T]]) -> T:
        """One of the items, by weight; the first is the simplest."""
        number = self.below(sum(weight for weight, _ in items))
        for weight, item in items:
            if number < weight:
                return item
            number -= weight
        raise AssertionError("weights do not add up")


class Seeded(Choices):
    """Decisions from a seed; the same on every machine."""

    def __init__(self, seed: int) -> None:
        """Every seed is a sequence of its own."""
        super().__init__()
        self._random = random.Random(seed)

    def _next(self, bound: int) -> int:
        return self._random.randrange(bound)


class Recorded(Choices):
    """Decisions made before; numbers out of bounds are clipped, and everything after the end is 0."""

    def __init__(self, numbers: Sequence[int]) -> None:
        """`numbers` are what `made` held."""
        super().__init__()
        self._numbers = numbers
        self._at = 0

    def _next(self, bound: int) -> int:
        self._at += 1
        return min(self._numbers[self._at - 1], bound - 1) if self._at <= len(self._numbers) else 0


class Drawn(Choices):
    """Decisions drawn by hypothesis, which then shrinks them."""

    def __init__(self, draw: Callable[[st.SearchStrategy[int]], Any]) -> None:
        """`draw` is what hypothesis gives to a composite strategy."""
        super().__init__()
        self._draw = draw

    def _next(self, bound: int) -> int:
        return int(self._draw(st.integers(0, bound - 1))) if bound > 1 else 0
