# SPDX-License-Identifier: Apache-2.0
"""Invariants that are written in the language, as formulas.

The rooms of EL2 state their invariants once, as functions that give a bool, and their tests evaluate them. Here such a function is run along
all its paths on unknown words, and what it says becomes one formula: true on exactly the inputs for which it gives True without a trap.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import z3  # type: ignore[import-untyped]

from delphyne.lang.ints import u8, u16, u32, u64
from delphyne.lang.traps import Trap
from delphyne.prove.path import Decision, Formula, Limits, Path, ProverError, Statistics, Term, running
from delphyne.prove.symbolic import integer

_CLASSES = {8: u8, 16: u16, 32: u32, 64: u64}


class Predicate:
    """`function` of words with these widths, as a formula over terms."""

    def __init__(self, function: Callable[..., bool], *widths: int) -> None:
        self.function = function
        self.words = [z3.BitVec(f"argument {number}", width) for number, width in enumerate(widths)]
        self._known: Formula | None = None

    def __call__(self, *terms: Term) -> Formula:
        """What the function says of these terms."""
        if self._known is None:
            self._known = _explored(self.function, self.words)
        return z3.substitute(self._known, *zip(self.words, terms, strict=True))


def _explored(function: Callable[..., bool], words: list[Term]) -> Formula:
    limits = Limits()
    work: list[list[Decision]] = [[]]
    true: list[Formula] = []
    while work:
        path = Path(work.pop(), limits, Statistics(), time.process_time() + limits.seconds)
        with running(path):
            try:
                answer = function(*[integer(word, _CLASSES[word.size()]) for word in words])
            except Trap:
                answer = False
        if not isinstance(answer, bool):
            raise ProverError(f"{function.__name__} gives {type(answer).__name__}, no bool")
        if answer:
            true.append(z3.And(path.condition))
        work.extend(path.alternatives)
    return z3.simplify(z3.Or(true))
