# SPDX-License-Identifier: Apache-2.0
"""What a theorem is and how it is written.

A theorem is a function that takes a `Given`, builds an arbitrary state that satisfies the invariants, calls an EL2 function, and requires
something of what came out:

    @theorem(clamp, outcomes=("low", "high"))
    def clamp_stays_below(given: Given) -> None:
        "For every x, clamp(x) is at most 7."
        x = given.u64("x")
        y = clamp(x)
        given.outcome("low" if x < 7 else "high")
        given.require(z3.ULE(term(y), 7), "result is at most 7")

It runs once for each path. That no trap is reachable need not be said: a trap on any path refutes the theorem. Every outcome that is named must
be reached, or the theorem is vacuous. What it leans on is said in `trusts` (words: nobody proves it), `assumes` (names of theorems that
state the contract of a stand-in) and `bounds` (what is left out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.lang.ints import u8, u16, u32, u64
from delphyne.prove.loops import Rule
from delphyne.prove.path import Formula, Limits, Path, ProverError, Term, current
from delphyne.prove.statics import Substitution
from delphyne.prove.symbolic import integer, term


class Given:
    """The arbitrary inputs and state of one theorem, on one path."""

    def __init__(self, substitution: Substitution) -> None:
        self.substitution = substitution
        self.outcomes: set[str] = set()

    @property
    def path(self) -> Path:
        """The path that is being run."""
        return current()

    def word(self, name: str, bits: int) -> Term:
        """An arbitrary bit vector that a counterexample prints as `name`."""
        if name in self.path.inputs:
            raise ProverError(f"two inputs are called {name}")
        made = z3.BitVec(name, bits)
        self.path.inputs[name] = made
        return made

    def u64(self, name: str) -> u64:
        """An arbitrary u64."""
        made: u64 = integer(self.word(name, 64), u64)
        return made

    def u32(self, name: str) -> u32:
        """An arbitrary u32."""
        made: u32 = integer(self.word(name, 32), u32)
        return made

    def u16(self, name: str) -> u16:
        """An arbitrary u16."""
        made: u16 = integer(self.word(name, 16), u16)
        return made

    def u8(self, name: str) -> u8:
        """An arbitrary u8."""
        made: u8 = integer(self.word(name, 8), u8)
        return made

    def boolean(self, name: str) -> bool:
        """Both bools, on two paths."""
        return self.path.branch(self.word(name, 1) == 1)

    def one_of(self, name: str, members: Sequence[Any]) -> Any:
        """Each of `members`, on a path of its own."""
        chosen = self.word(name, 8)
        self.assume(z3.ULT(chosen, len(members)))
        for number, member in enumerate(members[:-1]):
            if self.path.branch(chosen == number):
                return member
        return members[-1]

    def assume(self, *formulas: Formula | bool) -> None:
        """Restrict inputs and state to what the theorem is about."""
        for formula in formulas:
            self.path.assume(_formula(formula))

    def require(self, formula: Formula | bool, what: str) -> None:
        """What must hold here."""
        self.path.require(_formula(formula), what)

    def lemma(self, formula: Formula | bool, what: str) -> None:
        """A step on the way: required, and from then on known to the solver."""
        self.require(formula, what)
        self.path.add(_formula(formula))

    def holds(self, formula: Formula | bool) -> bool:
        """Decide `formula`: both ways, on two paths, where both are possible."""
        return self.path.branch(_formula(formula))

    def outcome(self, name: str) -> None:
        """Say that this path ended in the named way."""
        self.outcomes.add(name)

    def rule(self, function: Any, *rules: Rule) -> None:
        """Prove the loops of `function` by induction: a rule for each, in their order."""
        self.path.rules[function.__qualname__] = list(rules)

    def replace(self, static: object, stand_in: object) -> None:
        """Let every module of Delphyne that names `static` see `stand_in`, until the end of this path."""
        self.substitution.replace(static, stand_in)


def _formula(formula: Formula | bool) -> Formula:
    return z3.BoolVal(formula) if isinstance(formula, bool) else formula


@dataclass(frozen=True, slots=True)
class Theorem:
    """`subject` is the file it stands in; `of` the functions it is about."""

    name: str
    subject: str
    statement: str
    body: Callable[[Given], None]
    of: tuple[Any, ...]
    outcomes: tuple[str, ...]
    assumes: tuple[str, ...]
    trusts: tuple[str, ...]
    bounds: tuple[str, ...]
    limits: Limits


REGISTRY: dict[str, Theorem] = {}


def theorem(
    *of: Any,
    outcomes: Sequence[str] = (),
    assumes: Sequence[str] = (),
    trusts: Sequence[str] = (),
    bounds: Sequence[str] = (),
    limits: Limits | None = None,
    registry: dict[str, Theorem] | None = None,
) -> Callable[[Callable[[Given], None]], Theorem]:
    """Register a theorem about the functions `of`, under `file.function`."""

    def register(body: Callable[[Given], None]) -> Theorem:
        subject = body.__module__.rpartition(".")[2]
        made = Theorem(
            f"{subject}.{body.__name__}", subject, " ".join((body.__doc__ or "").split()), body, of, tuple(outcomes), tuple(assumes), tuple(trusts),
            tuple(bounds), limits or Limits(),
        )
        known = REGISTRY if registry is None else registry
        if made.name in known:
            raise ProverError(f"two theorems are called {made.name}")
        known[made.name] = made
        return made

    return register


__all__ = ["REGISTRY", "Given", "Theorem", "term", "theorem"]
