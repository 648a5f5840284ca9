# SPDX-License-Identifier: Apache-2.0
"""The ways into the front end."""

from __future__ import annotations

import ast
import sys
import types as python_types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, functions, hints, source
from delphyne.compiler.front.diagnostics import Diagnostic, Refused
from delphyne.compiler.front.program import Builder

_DEPTH = 20_000
"""Python frames that checking may nest: callees are checked from inside their callers."""


def _load(builder: Builder, names: Iterable[str | Path]) -> list[source.Module]:
    loaded = []
    for name in names:
        try:
            module = source.load(name)
        except diagnostics.Fault as fault:
            if fault.diagnostic is not None:
                builder.sink.add(fault.diagnostic)
            continue
        builder.add_module(module)
        loaded.append(module)
    return loaded


def _check_function(builder: Builder, function: Any) -> None:
    info = builder.function_of(function)
    if info is not None:
        builder.check_body(info, None, info.node)


def _check_class(builder: Builder, module: source.Module, cls: type) -> None:
    try:
        record = builder.records.find(cls)
    except diagnostics.Fault as fault:
        if fault.diagnostic is not None:
            builder.sink.add(fault.diagnostic)
        return
    except hints.NoType as problem:
        node = module.classes[cls.__qualname__]
        builder.sink.add(diagnostics.at(module.path, node, "E0215", str(problem)))
        return
    if record is None:
        return
    node = module.classes[cls.__qualname__]
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            found = builder.records.method(record, member.name)
            if found is not None:
                builder.check_body(found[1], None, member)
            else:
                place = member.decorator_list[0] if member.decorator_list else member
                builder.sink.add(diagnostics.at(module.path, place, "E0111", f"`{member.name}` cannot be compiled as it is decorated"))


def _build_time(module: source.Module) -> set[str]:
    """Functions that run when the program is built: called by statements at the top level, and what those call."""
    found: set[str] = set()
    open_nodes: list[ast.AST] = [node for node in module.syntax.body if isinstance(node, (ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.For))]
    while open_nodes:
        for part in ast.walk(open_nodes.pop()):
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in module.functions and part.func.id not in found:
                found.add(part.func.id)
                open_nodes.append(module.functions[part.func.id])
    return found


def _check_module(builder: Builder, module: source.Module) -> None:
    """Every function and method that the module defines, those that only run at build time left out."""
    build_time = _build_time(module)
    for name, obj in list(vars(module.py).items()):
        if isinstance(obj, type) and obj.__module__ == module.name and name in module.classes:
            _check_class(builder, module, obj)
    for statement in module.syntax.body:
        if isinstance(statement, ast.AsyncFunctionDef):
            builder.sink.add(diagnostics.at(module.path, statement, "E0101", f"`{statement.name}` is `async`"))
    for name in module.functions:
        if name in build_time:
            continue
        obj = vars(module.py).get(name)
        function = functions.unwrapped(obj)
        if isinstance(function, python_types.FunctionType) and function.__module__ == module.name:
            _check_function(builder, function)


def _build(names: Sequence[str | Path], roots: Sequence[Callable[..., Any]] | None) -> Builder:
    builder = Builder()
    modules = _load(builder, names)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, _DEPTH))
    try:
        if roots is None:
            for module in modules:
                _check_module(builder, module)
        else:
            for function in roots:
                _check_function(builder, function)
    except diagnostics.Fault as fault:
        if fault.diagnostic is not None:
            builder.sink.add(fault.diagnostic)
    finally:
        sys.setrecursionlimit(limit)
    return builder


def compile_modules(names: Sequence[str | Path], roots: Sequence[Callable[..., Any]] | None = None) -> tree.Program:
    """The typed tree of these modules (dotted names or paths): of everything in them, or of what `roots` reach. Raises Refused."""
    return _build(names, roots).finish()


def compile_paths(paths: Sequence[str | Path]) -> tree.Program:
    """The typed tree of these files. Raises Refused."""
    return compile_modules(paths)


def compile_functions(functions: Sequence[Callable[..., Any]]) -> tree.Program:
    """The typed tree of what these functions of imported modules reach. Raises Refused."""
    return _build([], functions).finish()


def check(names: Sequence[str | Path], roots: Sequence[Callable[..., Any]] | None = None) -> list[Diagnostic]:
    """The diagnostics alone, in the order of the source."""
    try:
        compile_modules(names, roots)
    except Refused as refused:
        return refused.diagnostics
    return []


def check_as(path: Path, name: str) -> list[Diagnostic]:
    """The diagnostics of a file that is taken for the module `name`; for tests of rules that depend on where a module is."""
    builder = Builder()
    try:
        module = source.load_alone(path, name)
        builder.add_module(module)
        _check_module(builder, module)
        builder.finish()
    except diagnostics.Fault as fault:
        return [fault.diagnostic] if fault.diagnostic is not None else []
    except Refused as refused:
        return refused.diagnostics
    finally:
        sys.modules.pop(name, None)
    return []


def check_paths(paths: Sequence[str | Path]) -> list[Diagnostic]:
    """What `delphyne check` prints for these files."""
    return check(paths)
