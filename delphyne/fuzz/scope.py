# SPDX-License-Identifier: Apache-2.0
"""What a function body can name: variables, statics, the parts inside them, and the functions that it may call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from delphyne.fuzz.choices import Choices
from delphyne.fuzz.declare import Draft, Routine
from delphyne.fuzz.shapes import (
    U64,
    Atomic,
    Int,
    Option,
    Path,
    Shape,
    Slice,
    is_place,
    paths,
)

RISK = 12
"""Percent of operations that are left unfenced."""

COST_LIMIT = 1500
"""Bound on the statements that one run of a function executes."""

Maker = Callable[[], str]


@dataclass(frozen=True)
class Variable:
    """A local or parameter. `writable`: its parts may be changed through it; `fixed`: it is not to be assigned again."""

    name: str
    shape: Shape
    writable: bool = True
    fixed: bool = False


class Scope:
    """Knows what is in scope, and leaves it to others how an expression of a type is made."""

    def __init__(self, draft: Draft, choices: Choices) -> None:
        """`draft` holds what the module declares so far."""
        self.draft = draft
        self.choices = choices
        self.scope: list[Variable] = []
        self.held: tuple[int, ...] = ()
        self.takes: set[int] = set()
        self.rounds = 1
        self.cost = 0
        self.asked: list[str] = []

    # --- what is in scope ------------------------------------------------------------------------------------------------------

    def roots(self) -> list[tuple[str, Shape, bool]]:
        """Name, type and whether it may be written, of everything that may be named here."""
        found = [(variable.name, variable.shape, variable.writable) for variable in self.scope]
        for static in self.draft.statics:
            if static.lock is None or static.lock in self.held:
                found.append((static.root, static.shape, static.writable))
        return found

    def hide(self, *names: str) -> None:
        """From here to the end of the block the names are not used: what is known of them is more than their types say."""
        self.scope = [variable for variable in self.scope if variable.name not in names]

    def after(self, asked: int, make: Callable[[], str]) -> str:
        """An expression that is evaluated after the questions from number `asked` on were answered, and so does not ask them again."""
        visible = self.scope
        self.hide(*self.asked[asked:])
        text = make()
        self.scope = visible
        return text

    def walk(self, root: str, path: Path, depth: int) -> str:
        """The part of `root` that lies at `path`, with an index made for each array on the way."""
        text = root
        for step in path.steps:
            if isinstance(step, str):
                text += step if step.startswith("[") else f".{step}"
            else:
                text += f"[{self.index(step, text, depth)}]"
        return text

    def reach(self, wanted: Callable[[Path], bool], depth: int) -> tuple[str, Path] | None:
        """A part of something in scope, chosen among all that are wanted."""
        found = [(root, path) for root, shape, writable in self.roots() for path in paths(shape, writable) if wanted(path)]
        if not found:
            return None
        root, path = self.choices.pick(found)
        return self.walk(root, path, depth), path

    def readable(self, shape: Shape, depth: int) -> str | None:
        """Something of that type in scope, read."""
        found = self.reach(lambda path: path.target == shape, depth)
        return found[0] if found else None

    def reference(self, shape: Shape, writable: bool = True) -> str | None:
        """A struct, array or atomic in scope. Only objects that may be written stand for a parameter that may."""
        found = [
            (root, path)
            for root, whole, may_write in self.roots()
            if may_write or not writable
            for path in paths(whole, may_write)
            if path.target == shape
        ]
        if not found:
            return None
        root, path = self.choices.pick(found)
        return self.walk(root, path, 2)

    def index(self, length: int | None, text: str, depth: int) -> str:
        """An index for an array of `length`, or for the slice `text` where that is None."""
        choices = self.choices
        kind = choices.below(100)
        if length is None:
            if kind < RISK // 2:
                return str(choices.below(3))
            if kind < 100 - RISK // 4:
                return f"{self.integer(U64, depth - 1)} % ({text}.length | 1)"
        elif kind < 40 or depth <= 0:
            return str(choices.below(length))
        elif kind < 100 - RISK // 4:
            if length & (length - 1):
                return f"{self.integer(U64, depth - 1)} % {length}"
            return f"{self.integer(U64, depth - 1)} & {length - 1}"
        return self.integer(U64, depth - 1)

    def routines(self, wanted: Callable[[Routine], bool]) -> list[Routine]:
        """Functions that may be called here."""
        top = max(self.held, default=0)
        return [
            routine
            for routine in self.draft.routines
            if set(routine.holds) <= set(self.held)
            and all(rank > top for rank in routine.takes)
            and self.cost + self.rounds * routine.cost <= COST_LIMIT
            and wanted(routine)
        ]

    def call(self, routine: Routine, depth: int) -> str | None:
        """A call of the routine, or None where there is nothing in scope to pass."""
        arguments: list[str] = []
        for _, shape in routine.params:
            text = self.argument(shape, depth)
            if text is None:
                return None
            arguments.append(text)
        self.cost += self.rounds * routine.cost
        self.takes |= routine.takes
        if len(arguments) > 1 and self.choices.chance(20):
            named = [f"{name}={text}" for (name, _), text in zip(routine.params[1:], arguments[1:], strict=True)]
            turn = self.choices.below(len(named))
            arguments = [arguments[0], *named[turn:], *named[:turn]]
        if routine.method:
            return f"{arguments[0]}.{routine.method}({', '.join(arguments[1:])})"
        return f"{routine.name}({', '.join(arguments)})"

    def argument(self, shape: Shape, depth: int) -> str | None:
        """Something to pass for a parameter, or None where nothing in scope serves."""
        if isinstance(shape, Slice):
            return self.slice(shape, depth - 1)
        if is_place(shape) or isinstance(shape, Atomic):
            return self.reference(shape)
        if isinstance(shape, Option):
            return self.option(shape, depth - 1)
        return self.expression(shape, depth - 1)

    def called(self, shape: Shape, depth: int) -> str | None:
        """A call whose result has that type."""
        found = self.routines(lambda routine: routine.result == shape)
        return self.call(self.choices.pick(found), depth) if found else None

    def integer(self, shape: Int, depth: int) -> str:
        """A number of that width."""
        raise NotImplementedError

    def expression(self, shape: Shape, depth: int) -> str:
        """An operand of any type that has values."""
        raise NotImplementedError

    def option(self, shape: Option, depth: int) -> str:
        """An argument or a result that may be None."""
        raise NotImplementedError

    def slice(self, shape: Slice, depth: int) -> str | None:
        """A slice or view of something in scope, or None where nothing serves."""
        raise NotImplementedError
