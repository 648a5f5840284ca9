# SPDX-License-Identifier: Apache-2.0
"""Loops. What is known at the top of a round must hold on every way there, so a body is checked again until nothing new turns up."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import assignment, conditions, diagnostics, expressions, operands, statements, types
from delphyne.compiler.front.context import Context, Entity, Literal, Loop, Value
from delphyne.compiler.front.library import integer_bits
from delphyne.compiler.front.state import State, join

_ROUNDS = 16


def _fixed(ctx: Context, head: State, once: Callable[[State], tuple[Any, Loop]]) -> tuple[Any, Loop, State]:
    """Checks a body until the state at its top covers every way back to it. `once` checks it from a state at the top and leaves
    `ctx.state` at its end."""
    before = (len(ctx.found), ctx.temporaries, dict(ctx.declared), dict(ctx.locals), set(ctx.slots), dict(ctx.expired))
    for _ in range(_ROUNDS):
        del ctx.found[before[0] :]
        ctx.temporaries = before[1]
        ctx.declared, ctx.locals, ctx.slots, ctx.expired = dict(before[2]), dict(before[3]), set(before[4]), dict(before[5])
        made, loop = once(head)
        wider: State | None = head
        for state in [ctx.state, *loop.continues]:
            wider = join(wider, state)
        assert wider is not None
        if wider == head:
            break
        head = wider
    return made, loop, head


def while_loop(ctx: Context, node: ast.While) -> list[tree.Stmt]:
    """`while test:`."""
    if node.orelse:
        ctx.fail(node.orelse[0], "E0107", "`else` of a loop")
    head = ctx.known()
    exits: list[State | None] = []

    def once(start: State) -> tuple[tuple[tree.Expr, list[tree.Stmt]], Loop]:
        ctx.state = start
        yes: State | None
        no: State | None
        try:
            test, yes, no = conditions.test(ctx, node.test)
        except diagnostics.Fault as fault:
            ctx.record(fault)
            test, yes, no = tree.Const(1, types.BOOL, ctx.loc(node)), ctx.state, ctx.state
        exits[:] = [None if _endless(node.test) else no]
        loop = Loop()
        ctx.loops.append(loop)
        ctx.state = yes
        body = statements.block(ctx, node.body)
        ctx.loops.pop()
        return (test, body), loop

    (test, body), loop, _ = _fixed(ctx, head, once)
    after = exits[0]
    for state in loop.breaks:
        after = join(after, state)
    ctx.state = after
    return [tree.While(test, body, ctx.loc(node))]


def _endless(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and test.value is True


def for_loop(ctx: Context, node: ast.For) -> list[tree.Stmt]:
    """`for i in u64.range(..)`."""
    try:
        ty, start, stop, step = _range(ctx, node)
    except diagnostics.Fault as fault:
        ctx.record(fault)
        ty, start, stop, step = types.POISON, None, None, 1
    if node.orelse:
        ctx.fail(node.orelse[0], "E0107", "`else` of a loop")
    if not isinstance(node.target, ast.Name):
        ctx.fail(node.target, "E0107", "the counter of a loop is one variable")
    name, target = node.target.id, node.target
    head = ctx.known()

    def once(at_top: State) -> tuple[list[tree.Stmt], Loop]:
        ctx.state = at_top
        if isinstance(ty, types.PoisonT):
            assignment.poison(ctx, name)
        else:
            assignment.set_variable(ctx, target, Value(tree.Const(0, ty, ctx.loc(target)), ty), target)
        loop = Loop()
        ctx.loops.append(loop)
        body = statements.block(ctx, node.body)
        ctx.loops.pop()
        return body, loop

    body, loop, head = _fixed(ctx, head, once)
    after: State | None = head
    for state in loop.breaks:
        after = join(after, state)
    ctx.state = after
    if start is None or stop is None:
        return []
    return [tree.ForRange(name, start, stop, step, body, ctx.loc(node))]


def _range(ctx: Context, node: ast.For) -> tuple[Any, tree.Expr, tree.Expr, int]:
    call = node.iter
    cls = None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "range":
        base = expressions.operand(ctx, call.func.value)
        cls = base.obj if isinstance(base, Entity) else None
    width = integer_bits(cls)
    if width is None or not isinstance(call, ast.Call):
        ctx.fail(node.iter, "E0107", f"`{ast.unparse(node.iter)}` is no range of the language")
    if call.keywords or not 1 <= len(call.args) <= 3:
        ctx.fail(call, "E0208", "a range takes its end; start and end; or start, end and step")
    ty = tree.IntT(width)
    ends = [_end(ctx, argument, ty) for argument in call.args[:2]]
    start: tree.Expr = tree.Const(0, ty, ctx.loc(call)) if len(ends) == 1 else ends[0]
    step = 1
    if len(call.args) == 3:
        given = expressions.operand(ctx, call.args[2])
        if not isinstance(given, Literal) or not 0 < given.value < 1 << width:
            ctx.fail(call.args[2], "E0107", "the step of a range is a literal of 1 or more")
        step = given.value
    return ty, start, ends[-1], step


def _end(ctx: Context, node: ast.expr, ty: Any) -> tree.Expr:
    given = expressions.operand(ctx, node)
    if isinstance(given, Literal):
        return operands.constant(ctx, given.value, ty, node).expr
    found = operands.value(ctx, given, node)
    if isinstance(found.ty, types.SecretT):
        ctx.fail(node, "E0601", "a secret would decide how often a loop runs")
    return operands.coerce(ctx, found, ty, node).expr
