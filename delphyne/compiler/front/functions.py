# SPDX-License-Identifier: Apache-2.0
"""Signatures of functions, and what their bodies turned out to do (`Summary`), which is all that a caller needs to know."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, hints, types
from delphyne.compiler.front.source import Module
from delphyne.compiler.front.state import Root
from delphyne.lang.meta import FunctionMeta, function_meta

if TYPE_CHECKING:
    from delphyne.compiler.front.program import Builder
    from delphyne.compiler.front.records import Record
    from delphyne.compiler.front.statics import LockInfo


class Progress(Enum):
    """How far the body of a function has been checked."""

    NEW = "new"
    RUNNING = "running"
    DONE = "done"


@dataclass(slots=True)
class Summary:
    """What callers must know of a body."""

    writes: set[str] = field(default_factory=set)
    """Parameters through which something is written."""
    returns: set[Root] = field(default_factory=set)
    """Origins of the references in the result."""
    takes: dict[str, LockInfo] = field(default_factory=dict)
    """Locks taken by the body or by what it calls."""


@dataclass(slots=True)
class FunctionInfo:
    """A function or method of the program. `owner` is the record whose method it is; names in the body are looked up in
    `namespace`, the function's globals."""

    symbol: str
    module: Module
    node: ast.FunctionDef
    meta: FunctionMeta
    owner: Record | None = None
    namespace: dict[str, Any] = field(default_factory=dict)
    params: list[tuple[str, Any]] = field(default_factory=list)
    result: Any = types.UNIT
    external: bool = False
    """Written in assembly."""
    broken: bool = False
    """The signature was refused."""
    holds: list[LockInfo] = field(default_factory=list)
    progress: Progress = Progress.NEW
    summary: Summary = field(default_factory=Summary)

    @property
    def library(self) -> bool:
        """Written in the language's own library."""
        return self.module.name.startswith("delphyne.lang")


_DECORATORS = frozenset({"boot", "holds", "simd", "cold", "apart", "merged", "entry", "assembly", "twin", "property", "staticmethod"})


def _decorator_name(node: ast.expr) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else "?"


def unwrapped(function: Any) -> Any:
    """The function that was written, under what `@twin` put around it, with the marks that decorators left on the outside."""
    outside = function
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    if function is not outside and hasattr(outside, "__delphyne__"):
        function.__delphyne__ = outside.__delphyne__
    return function


def make(builder: Builder, function: Any, module: Module, node: ast.FunctionDef, owner: Record | None, static: bool, name: str) -> FunctionInfo:
    """Reads the signature. Faults are reported and leave the function `broken`."""
    meta = function_meta(function) if hasattr(function, "__delphyne__") else FunctionMeta()
    symbol = meta.entry or (node.name if meta.assembly else name)
    info = FunctionInfo(symbol, module, node, meta, owner, function.__globals__, external=meta.assembly)
    try:
        _check_shape(info)
        _read_parameters(builder, info, static)
        info.holds = [builder.statics.lock(lock) for lock in meta.holds]
    except diagnostics.Fault as fault:
        info.broken = True
        if fault.diagnostic is not None:
            builder.sink.add(fault.diagnostic)
    return info


def _fault(info: FunctionInfo, node: ast.AST, code: str, reason: str, remedy: str = "") -> diagnostics.Fault:
    return diagnostics.Fault(diagnostics.at(info.module.path, node, code, reason, remedy))


def _check_shape(info: FunctionInfo) -> None:
    node, arguments = info.node, info.node.args
    for decorator in node.decorator_list:
        name = _decorator_name(decorator)
        if name not in _DECORATORS and not info.library:
            raise _fault(info, decorator, "E0111", f"`@{name}` is no decorator of the language")
    for extra, what in ((arguments.vararg, "`*` parameter"), (arguments.kwarg, "`**` parameter")):
        if extra is not None:
            raise _fault(info, extra, "E0103", f"`{extra.arg}` is a {what}")
    for several, what in ((arguments.posonlyargs, "positional-only"), (arguments.kwonlyargs, "keyword-only")):
        if several:
            raise _fault(info, several[0], "E0103", f"`{several[0].arg}` is {what}")
    for default in (*arguments.defaults, *arguments.kw_defaults):
        if default is not None:
            raise _fault(info, default, "E0103", "a parameter has a default")


def _read_parameters(builder: Builder, info: FunctionInfo, static: bool) -> None:
    node = info.node
    arguments = list(node.args.args)
    if info.owner is not None and not static:
        if not arguments:
            raise _fault(info, node, "E0103", f"`{node.name}` has no self")
        info.params.append((arguments.pop(0).arg, types.as_variable(info.owner.ty)))
    for argument in arguments:
        if argument.annotation is None:
            raise _fault(info, argument, "E0104", f"the parameter `{argument.arg}` has no type")
        info.params.append((argument.arg, variable_type(builder, info, argument.annotation)))
    if node.returns is None:
        raise _fault(info, node, "E0104", f"the result of `{node.name}` has no type", "write `-> None` where there is none")
    info.result = variable_type(builder, info, node.returns)


def variable_type(builder: Builder, info: FunctionInfo, node: ast.expr) -> Any:
    """The type that an annotation inside a function gives to a variable."""
    return types.as_variable(hints.read(builder, info.module.path, node, info.namespace))


def tree_function(builder: Builder, info: FunctionInfo, locals_: dict[str, Any], body: list[tree.Stmt], loc: tree.Loc) -> tree.Function:
    """The finished function, secrets erased."""
    if builder.secrets:
        types.erase_nodes(body)
    return tree.Function(
        info.symbol,
        [(name, types.erase(ty)) for name, ty in info.params],
        types.erase(info.result),
        {name: types.erase(ty) for name, ty in locals_.items()},
        body,
        loc,
        external=info.external,
        exported=info.meta.entry is not None,
        simd=info.meta.simd,
        cold=info.meta.cold,
        apart=info.meta.apart,
        merged=info.meta.merged,
    )
