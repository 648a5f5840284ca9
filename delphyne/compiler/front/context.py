# SPDX-License-Identifier: Apache-2.0
"""What the checker of one function carries along, and the shapes in which its parts hand results to each other."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, types
from delphyne.compiler.front.state import NO_ROOTS, Known, Roots, State

if TYPE_CHECKING:
    from delphyne.compiler.front.functions import FunctionInfo
    from delphyne.compiler.front.program import Builder
    from delphyne.compiler.front.statics import LockInfo


@dataclass(slots=True)
class Value:
    """The result of evaluating an expression. `roots` are the origins of the references in it."""

    expr: tree.Expr
    ty: Any
    roots: Roots = NO_ROOTS


@dataclass(slots=True)
class Placed:
    """A place that is not read yet."""

    place: tree.Place
    ty: Any
    roots: Roots = NO_ROOTS


@dataclass(slots=True)
class Literal:
    """A bare integer, which has no width of its own."""

    value: int


@dataclass(slots=True)
class Entity:
    """A Python object of the imported module: a class, a function, a module, a primitive."""

    obj: Any


@dataclass(slots=True)
class Method:
    """A method that is about to be called: of the language (`name`) on `receiver`."""

    receiver: Value | Placed
    name: str


Operand = Value | Placed | Literal | Entity | Method


@dataclass(slots=True)
class Loop:
    """Where `break` and `continue` lead: the states with which they were left."""

    breaks: list[State] = field(default_factory=list)
    continues: list[State] = field(default_factory=list)


@dataclass(slots=True)
class Context:
    """One function being checked."""

    builder: Builder
    function: FunctionInfo
    declared: dict[str, Any] = field(default_factory=dict)
    """Type of each variable, parameters included, from its first assignment on."""
    locals: dict[str, Any] = field(default_factory=dict)
    """What the tree lists: `declared` without parameters, with slots and temporaries."""
    slots: set[str] = field(default_factory=set)
    """Variables that are themselves the slot of a struct or array."""
    state: State | None = field(default_factory=dict)
    expired: dict[str, str] = field(default_factory=dict)
    """Variables whose reference ended with a `with`, and which."""
    loops: list[Loop] = field(default_factory=list)
    held: list[LockInfo] = field(default_factory=list)
    simd: bool = False
    names: frozenset[str] = frozenset()
    """Everything assigned in the function: Python's locals."""
    single_slots: frozenset[str] = frozenset()
    """Names assigned once, by building a place."""
    temporaries: int = 0
    found: list[diagnostics.Diagnostic] = field(default_factory=list)
    """What was refused in this function; handed on when the function has been checked."""

    @property
    def file(self) -> str:
        return self.function.module.path

    def loc(self, node: ast.AST) -> tree.Loc:
        """The place of a syntax node."""
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        end_line, end_column = getattr(node, "end_lineno", line) or line, getattr(node, "end_col_offset", column) or column
        return tree.Loc(self.file, line, column, end_line, end_column)

    def fail(self, node: ast.AST, code: str, reason: str, remedy: str = "") -> NoReturn:
        """Refuses the statement that holds `node`."""
        raise diagnostics.Fault(diagnostics.at(self.file, node, code, reason, remedy))

    def report(self, node: ast.AST, code: str, reason: str, remedy: str = "") -> None:
        """Refuses, and goes on."""
        self.found.append(diagnostics.at(self.file, node, code, reason, remedy))

    def record(self, fault: diagnostics.Fault) -> None:
        if fault.diagnostic is not None:
            self.found.append(fault.diagnostic)

    def temporary(self, ty: Any) -> str:
        """A fresh compiler-made local."""
        self.temporaries += 1
        name = f"{types.short(self.function.node.name)}.{self.temporaries}"
        self.locals[name] = ty
        return name

    def known(self) -> State:
        """The state at a point that is reached."""
        assert self.state is not None
        return self.state

    def assign_state(self, name: str, known: Known) -> None:
        """Records what a variable holds from here on. States are shared, so a new one is made."""
        self.state = {**self.known(), name: known}
        self.expired.pop(name, None)
