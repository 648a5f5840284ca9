# SPDX-License-Identifier: Apache-2.0
"""Typed trees as data: every node of one, and several programs made one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

from delphyne.compiler import tree

SHARED = "delphyne.lang.pool."
"""Instances of the library's generic classes: the same name may mean another struct in another program."""


def nodes(part: object) -> Iterator[object]:
    """Every statement, expression and place of a part of a tree."""
    if isinstance(part, list | tuple):
        for item in part:
            yield from nodes(item)
    elif is_dataclass(part) and not isinstance(part, tree.Loc):
        yield part
        for one in fields(part):
            if one.name != "ty":
                yield from nodes(getattr(part, one.name))


def merged(parts: Sequence[tuple[str, tree.Program]]) -> tree.Program:
    """One program made of several, each with the name of its module; `run` and `checksum` of each are kept by the linker.

    Changes the parts: functions of generic classes get names of their own."""
    whole = tree.Program({}, {}, [], [])
    for module, part in dict(parts).items():
        _rename(module, part)
        whole.functions.update(part.functions)
        whole.statics.update(part.statics)
        for name in ("run", "checksum"):
            part.functions[f"{module}.{name}"].exported = True
    return whole


def _rename(module: str, part: tree.Program) -> None:
    names = {symbol: f"{module}:{symbol}" for symbol in part.functions if symbol.startswith(SHARED)}
    if not names:
        return
    for function in part.functions.values():
        function.symbol = names.get(function.symbol, function.symbol)
        for node in nodes(function.body):
            if isinstance(node, tree.Call):
                node.symbol = names.get(node.symbol, node.symbol)
    part.functions = {function.symbol: function for function in part.functions.values()}
