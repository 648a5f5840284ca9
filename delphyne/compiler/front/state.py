# SPDX-License-Identifier: Apache-2.0
"""What is known about each variable at one point of a function: assigned or not, narrowed how, referring to what.

A `State` maps variable names to `Known`; a name that is absent is not assigned on every path. Control flow joins states with `join`; None
stands for a point that is not reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from delphyne.compiler import tree


class RootKind(Enum):
    """Where a reference comes from."""

    PARAMETER = "parameter"
    LOCAL = "local"
    STATIC = "static"
    WINDOW = "window"
    VIEW = "view"
    """Not a place but a mark: reached through a View, so not to be written."""


@dataclass(frozen=True, slots=True)
class Root:
    """One origin of a reference: a parameter, the slot of a local, a static's symbol or an `owned` window."""

    kind: RootKind
    name: str


Roots = frozenset[Root]
NO_ROOTS: Roots = frozenset()


class Step(Enum):
    """One narrowing: which half of an option or a result a variable is known to hold."""

    SOME = "some"
    NONE = "none"
    OK = "ok"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Known:
    """`steps` narrow the declared type from the outside in; `roots` say what a reference may refer to."""

    steps: tuple[Step, ...] = ()
    roots: Roots = NO_ROOTS


State = dict[str, Known]


def join(left: State | None, right: State | None) -> State | None:
    """What holds on both ways."""
    if left is None:
        return right
    if right is None or left is right:
        return left
    joined: State = {}
    for name, one in left.items():
        other = right.get(name)
        if other is None:
            continue
        if one == other:
            joined[name] = one
            continue
        steps = []
        for a, b in zip(one.steps, other.steps, strict=False):
            if a is not b:
                break
            steps.append(a)
        joined[name] = Known(tuple(steps), one.roots | other.roots)
    return joined


def narrowed_type(declared: tree.Type, steps: tuple[Step, ...]) -> tree.Type | None:
    """The type after narrowing; None where the variable is known to be None."""
    ty: tree.Type = declared
    for step in steps:
        match step:
            case Step.SOME | Step.OK:
                assert isinstance(ty, (tree.OptionT, tree.ResultT))
                ty = ty.item
            case Step.ERROR:
                assert isinstance(ty, tree.ResultT)
                ty = ty.error
            case Step.NONE:
                return None
    return ty


def narrowed_read(name: str, declared: tree.Type, steps: tuple[Step, ...], loc: tree.Loc) -> tree.Expr:
    """The expression that reads a narrowed variable."""
    expr: tree.Expr = tree.Local(name, declared, loc)
    ty: tree.Type = declared
    for step in steps:
        match step:
            case Step.SOME:
                assert isinstance(ty, tree.OptionT)
                expr, ty = tree.OptionItem(expr, ty.item, loc), ty.item
            case Step.OK:
                assert isinstance(ty, tree.ResultT)
                expr, ty = tree.ResultItem(expr, ty.item, loc), ty.item
            case Step.ERROR:
                assert isinstance(ty, tree.ResultT)
                expr, ty = tree.ResultError(expr, ty.error, loc), ty.error
            case Step.NONE:
                break
    return expr
