# SPDX-License-Identifier: Apache-2.0
"""Pairs of numbers of one width, and a stand-in for the prover's integers."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from delphyne.lang import u8, u16, u32, u64

WIDTHS = (u8, u16, u32, u64)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, int, int]:
    cls = draw(st.sampled_from(WIDTHS))
    edges = st.sampled_from([0, 1, 2, cls.BITS - 1, cls.BITS, cls.LIMIT // 2, cls.LIMIT - 1, cls.LIMIT])
    numbers = edges | st.integers(0, cls.LIMIT)
    return cls, draw(numbers), draw(numbers)


class Double(u64):
    """A stand-in, as the prover makes them: it knows operations that plain integers hand to it."""

    __slots__ = ("term",)
    term: str

    def __radd__(self, other: Any) -> Any:
        return f"{other} + {self.term}"

    def _function(self, name: str, args: tuple[Any, ...]) -> Any:
        return name, args


def double(term: str) -> Any:
    made = object.__new__(Double)
    made.term = term
    return made
