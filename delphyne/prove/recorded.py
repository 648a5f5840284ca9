# SPDX-License-Identifier: Apache-2.0
"""Stand-ins that write down what they were called with: for functions whose whole work is to call the right ones, in the right order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.prove.path import Formula, ProverError
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given

Call = tuple[Any, ...]
"""The name of what was called, then the arguments."""


class Recorder:
    """The calls so far."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.calls: list[Call] = []

    def note(self, *call: Any) -> None:
        """A call, or another step whose place in the order matters."""
        self.calls.append(call)

    def stand_in(self, name: str, function: object, answer: Callable[..., Any] = lambda *arguments: None) -> None:
        """Let `function` be noted by name, and answer as told."""

        def noted(*arguments: Any) -> Any:
            self.note(name, *arguments)
            return answer(*arguments)

        self.given.replace(function, noted)

    def requires(self, wanted: list[Call], what: str) -> None:
        """Just these calls were made, in this order."""
        names = [call[0] for call in self.calls]
        self.given.require(names == [call[0] for call in wanted], f"{what}: the calls are {', '.join(names) or 'none'}")
        for made, asked in zip(self.calls, wanted, strict=True):
            self.given.require(len(made) == len(asked), f"{what}: {made[0]} has its arguments")
            pairs = zip(made[1:], asked[1:], strict=True)
            self.given.require(z3.And([same(one, other) for one, other in pairs]), f"{what}: {made[0]} is given the right arguments")


class Choice:
    """A bool that is decided, both ways, where somebody asks: it makes no paths where nobody does."""

    def __init__(self, given: Given, name: str) -> None:
        self.given, self.name = given, name
        self.known: bool | None = None

    def __bool__(self) -> bool:
        if self.known is None:
            self.known = self.given.boolean(self.name)
        return self.known


def same(one: Any, other: Any) -> Formula | bool:
    """Whether two arguments are equal, where they are words; else whether they are one object."""
    try:
        return _word(one) == _word(other)
    except ProverError:
        return z3.BoolVal(one is other)


def _word(value: Any) -> Any:
    return value if isinstance(value, z3.ExprRef) else term(value)


__all__ = ["Call", "Choice", "Recorder", "same"]
