# SPDX-License-Identifier: Apache-2.0
"""Compilers that are wrong in one point each, made by changing the typed tree before it is lowered. The fuzzer must notice every one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import fields

from delphyne.compiler import tree
from delphyne.fuzz.trees import nodes


def every(program: tree.Program, change: Callable[[object], None]) -> None:
    for function in program.functions.values():
        for node in list(nodes(function.body)):
            change(node)


def blocks(program: tree.Program) -> Iterator[tuple[tree.Function, list[tree.Stmt]]]:
    """Every list of statements with the function that it belongs to."""
    for function in program.functions.values():
        for node in [function, *nodes(function.body)]:
            for one in fields(node):  # type: ignore[arg-type]
                value = getattr(node, one.name)
                if isinstance(value, list) and value and isinstance(value[0], tree.Stmt):
                    yield function, value
            if isinstance(node, tree.Switch):
                for _, body in node.cases:
                    yield function, body


def hoist(program: tree.Program, expressions: Callable[[tree.Stmt], list[tuple[object, str]]]) -> None:
    """Evaluate parts of a statement, given as (node, attribute), before the statement."""
    number = 0
    for function, body in list(blocks(program)):
        changed: list[tree.Stmt] = []
        for statement in body:
            for holder, attribute in expressions(statement):
                part = getattr(holder, attribute)
                name = f"wrong{number}"
                number += 1
                function.locals[name] = part.ty
                changed.append(tree.SetLocal(name, part, part.loc))
                setattr(holder, attribute, tree.Local(name, part.ty, part.loc))
            changed.append(statement)
        body[:] = changed


def index_before_value(program: tree.Program) -> None:
    """a[i()] = f() calls i first."""

    def parts(statement: tree.Stmt) -> list[tuple[object, str]]:
        if not isinstance(statement, tree.Store):
            return []
        return [(place, "index") for place in nodes(statement.place) if isinstance(place, tree.IndexPlace | tree.SliceIndexPlace)][:1]

    hoist(program, parts)


def value_before_update(program: tree.Program) -> None:
    """a[i()] += f() calls f first, and reads the element after it."""
    hoist(program, lambda statement: [(statement, "value")] if isinstance(statement, tree.Update) else [])


def wraps_silently(program: tree.Program, op: tree.BinOp, wrapping: tree.BinOp) -> None:
    def change(node: object) -> None:
        if isinstance(node, tree.Binary | tree.Update) and node.op is op:
            node.op = wrapping

    every(program, change)


def addition_wraps(program: tree.Program) -> None:
    wraps_silently(program, tree.BinOp.ADD, tree.BinOp.WRAP_ADD)


def subtraction_wraps(program: tree.Program) -> None:
    wraps_silently(program, tree.BinOp.SUB, tree.BinOp.WRAP_SUB)


def multiplication_wraps(program: tree.Program) -> None:
    wraps_silently(program, tree.BinOp.MUL, tree.BinOp.WRAP_MUL)


def narrowing_truncates(program: tree.Program) -> None:
    def change(node: object) -> None:
        if isinstance(node, tree.Convert) and node.kind is tree.ConvertKind.NARROW:
            node.kind = tree.ConvertKind.TRUNCATE

    every(program, change)


def both_sides_of_and(program: tree.Program) -> None:
    """`x and f()` calls f always."""

    def change(node: object) -> None:
        # The item of an option that is None, and the middle of a chain before it is computed, have no value: what LLVM makes of that need not end.
        if isinstance(node, tree.ShortCircuit) and node.is_and and not any(isinstance(part, tree.OptionItem | tree.Bind) for part in nodes(node)):
            test = tree.Conditional(node.right, tree.Const(1, node.ty, node.loc), tree.Const(0, node.ty, node.loc), node.ty, node.loc)
            node.left, node.right = test, node.left

    every(program, change)


def smaller_for_larger(program: tree.Program) -> None:
    def change(node: object) -> None:
        if isinstance(node, tree.Builtin) and node.name == "maximum":
            node.name = "minimum"

    every(program, change)


def last_round_missing(program: tree.Program) -> None:
    """A loop with a step stops one step early."""

    def change(node: object) -> None:
        if isinstance(node, tree.ForRange):
            node.stop = tree.Binary(tree.BinOp.WRAP_SUB, node.stop, tree.Const(1, node.stop.ty, node.loc), node.stop.ty, node.loc)

    every(program, change)


def old_contents_kept(program: tree.Program) -> None:
    """`x = T()` in a loop keeps what the round before left."""
    for _, body in list(blocks(program)):
        body[:] = [statement for statement in body if not isinstance(statement, tree.ZeroLocal)]


def locks_kept_by_return(program: tree.Program) -> None:
    """`with` releases only at its end."""
    for _, body in list(blocks(program)):
        flat: list[tree.Stmt] = []
        for statement in body:
            flat += [*statement.enter, *statement.body, *statement.leave] if isinstance(statement, tree.Scoped) else [statement]
        body[:] = flat


def bytes_swapped(program: tree.Program) -> None:
    def change(node: object) -> None:
        if isinstance(node, tree.Builtin) and node.name == "load_bytes":
            node.attrs["big"] = 1 - int(node.attrs["big"])

    every(program, change)


WRONG = (
    index_before_value,
    value_before_update,
    addition_wraps,
    subtraction_wraps,
    multiplication_wraps,
    narrowing_truncates,
    both_sides_of_and,
    smaller_for_larger,
    last_round_missing,
    old_contents_kept,
    bytes_swapped,
    locks_kept_by_return,
)


def dies(program: tree.Program) -> None:
    """What LLVM does on what it cannot lower."""
    os.abort()
