# SPDX-License-Identifier: Apache-2.0
"""Who may import whom: the rooms of `delphyne.el2` and the arrows between them."""

from __future__ import annotations

import ast

from delphyne.compiler.front import diagnostics
from delphyne.compiler.front.source import Module, top_level

EL2 = "delphyne.el2"
LANG = "delphyne.lang"
GUEST = "delphyne.board.guest"
"""The bare guest of tests and measurements: the one program of the language that is no part of EL2."""

ARROWS: dict[str, frozenset[str]] = {
    "entry": frozenset({"kvm", "guest", "control", "sealing", "memory", "arch"}),
    "kvm": frozenset({"guest", "sealing", "memory", "arch"}),
    "guest": frozenset({"sealing", "memory", "arch"}),
    "control": frozenset({"arch"}),
    "sealing": frozenset({"memory", "arch"}),
    "memory": frozenset({"arch"}),
    "arch": frozenset(),
}
"""Which other rooms each room may import: those at the end of its arrows, and those behind them."""

_PYTHON = frozenset({"__future__", "typing", "collections.abc"})
"""Modules that name types for the Python that runs when the program is built."""


def is_outside(name: str) -> bool:
    """Whether a module of this name can hold no function of a program: Python's own library and the tools of this project."""
    top = name.split(".")[0]
    if top == "delphyne":
        return not (name.startswith((EL2, LANG, GUEST)) or name == "delphyne.compiler.front.runtime")
    return False


def room(name: str) -> str | None:
    """The room of a module of EL2."""
    parts = name.split(".")
    return parts[2] if name.startswith(EL2 + ".") and len(parts) > 2 else None


def check_imports(sink: diagnostics.Sink, module: Module) -> None:
    """Refuses imports against the arrows, from outside, and of `*`. Modules outside EL2 (tests, examples) may import one another."""
    if module.name.startswith((LANG, "delphyne.compiler")):
        return
    for node in top_level(module.syntax.body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _check(sink, module, node, alias.name)
        elif isinstance(node, ast.ImportFrom):
            if any(alias.name == "*" for alias in node.names):
                sink.add(diagnostics.at(module.path, node, "E0704", f"everything is imported from `{node.module}`"))
            for name in _imported(module, node):
                _check(sink, module, node, name)


def imported_modules(module: Module) -> list[str]:
    """Dotted names of the modules that a module imports."""
    found: list[str] = []
    for node in top_level(module.syntax.body):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            for base in _imported(module, node):
                found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return found


def _imported(module: Module, node: ast.ImportFrom) -> list[str]:
    base = node.module or ""
    if node.level:
        parents = module.name.split(".")[: -node.level]
        base = ".".join([*parents, base] if base else parents)
    if base == EL2:
        return [f"{EL2}.{alias.name}" for alias in node.names]
    return [base]


def _check(sink: diagnostics.Sink, module: Module, node: ast.stmt, name: str) -> None:
    here, there = room(module.name), room(name)
    if here is None:
        return
    if name in _PYTHON or name == LANG or name.startswith(LANG + "."):
        return
    if there is None:
        sink.add(diagnostics.at(module.path, node, "E0703", f"`{name}` is outside EL2"))
    elif here != there and here in ARROWS and there not in ARROWS[here]:
        allowed = ", ".join(sorted(ARROWS[here])) or "no other room"
        sink.add(diagnostics.at(module.path, node, "E0702", f"`{here}` may import {allowed}, not `{there}`"))
