# SPDX-License-Identifier: Apache-2.0
"""`with`: locks, owned memory and SIMD registers. What was taken is given back on every way out, and no reference outlives it."""

from __future__ import annotations

import ast
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import hints, assignment, calls, diagnostics, expressions, locks, operands, references, statements, types
from delphyne.compiler.front.context import Context, Entity, Placed, Value
from delphyne.compiler.front.state import Root, RootKind, Roots
from delphyne.lang.locks import Lock

Stmts = list[tree.Stmt]


def with_statement(ctx: Context, node: ast.With) -> Stmts:
    """`with a, b:` is `with a:` around `with b:`."""
    return _items(ctx, node, list(node.items))


def _items(ctx: Context, node: ast.With, items: list[ast.withitem]) -> Stmts:
    if not items:
        return statements.block(ctx, node.body)
    item, rest = items[0], items[1:]
    try:
        if isinstance(item.context_expr, ast.Call):
            name = _primitive(ctx, item.context_expr)
            if name == "owned":
                return _owned(ctx, node, item, rest)
            if name == "simd":
                return _simd(ctx, node, item, rest)
        else:
            found = _entity(ctx, item.context_expr)
            if isinstance(found, Lock):
                return _lock(ctx, node, item, rest, found)
        ctx.fail(item.context_expr, "E0112", f"`{ast.unparse(item.context_expr)}` cannot be entered")
    except diagnostics.Fault as fault:
        # The head is refused; what is inside is checked all the same.
        ctx.record(fault)
        if item.optional_vars is not None:
            statements.poison(ctx, item.optional_vars)
        return _items(ctx, node, rest)


def _entity(ctx: Context, node: ast.expr) -> Any:
    found = expressions.operand(ctx, node)
    return found.obj if isinstance(found, Entity) else None


def _primitive(ctx: Context, node: ast.Call) -> str | None:
    if not isinstance(node.func, (ast.Name, ast.Attribute)):
        return None
    obj = _entity(ctx, node.func)
    return ctx.builder.primitives.name(obj) if obj is not None else None


def _inside(ctx: Context, node: ast.With, rest: list[ast.withitem], ended: Any, what: str) -> Stmts:
    """The body; afterwards every variable with an ended root is unassigned, on all ways out."""
    marks = [(len(loop.breaks), len(loop.continues)) for loop in ctx.loops]
    body = _items(ctx, node, rest)
    for loop, (breaks, continues) in zip(ctx.loops, marks):
        for states, begin in ((loop.breaks, breaks), (loop.continues, continues)):
            for position in range(begin, len(states)):
                kept = references.expire(states[position], ctx.expired, ended([states[position]]), what)
                assert kept is not None
                states[position] = kept
    ctx.state = references.expire(ctx.state, ctx.expired, ended([ctx.state]), what)
    return body


def _lock(ctx: Context, node: ast.With, item: ast.withitem, rest: list[ast.withitem], lock: Lock) -> Stmts:
    if item.optional_vars is not None:
        ctx.fail(item.optional_vars, "E0112", "a lock has no `as`")
    info = ctx.builder.statics.lock(lock)
    try:
        locks.check_take(ctx, info, item.context_expr)
    except diagnostics.Fault as fault:
        ctx.record(fault)
    loc = ctx.loc(item.context_expr)
    ty = tree.RefT(tree.LockT())
    place = tree.StaticPlace(info.symbol, tree.LockT(), loc)
    ctx.held.append(info)
    try:
        body = _inside(ctx, node, rest, lambda states: references.guarded_roots(ctx, info.symbol, states), f"what `{lock.name}` guards")
    finally:
        ctx.held.pop()
    enter: Stmts = [tree.Discard(tree.Builtin("lock_acquire", [tree.AddrOf(place, ty, loc)], types.UNIT, loc), loc)]
    leave: Stmts = [tree.Discard(tree.Builtin("lock_release", [tree.AddrOf(place, ty, loc)], types.UNIT, loc), loc)]
    return [tree.Scoped(enter, body, leave, ctx.loc(node))]


def _owned(ctx: Context, node: ast.With, item: ast.withitem, rest: list[ast.withitem]) -> Stmts:
    call = item.context_expr
    assert isinstance(call, ast.Call)
    if not isinstance(item.optional_vars, ast.Name):
        ctx.fail(call, "E0112", "the window needs a name: `with owned(pa, size) as window:`")
    if len(call.args) != 2 or call.keywords:
        ctx.fail(call, "E0208", "`owned` takes an address and a size")
    pa = hints.of_object(ctx.builder, ctx.builder.lang("Pa"))
    base = expressions.value(ctx, call.args[0], pa)
    size = expressions.value(ctx, call.args[1], types.U64)
    loc = ctx.loc(call)
    ty = tree.SliceT(types.U8, True)
    root = Root(RootKind.WINDOW, f"{item.optional_vars.id}@{call.lineno}:{call.col_offset}")
    window = Value(tree.Builtin("slice_at", [tree.Part(base.expr, 0, types.U64, loc), size.expr], ty, loc), ty, frozenset({root}))
    enter = assignment.set_variable(ctx, item.optional_vars, window, call)
    ended: Roots = frozenset({root})
    return [*enter, *_inside(ctx, node, rest, lambda _: ended, f"the window `{item.optional_vars.id}`")]


def _simd(ctx: Context, node: ast.With, item: ast.withitem, rest: list[ast.withitem]) -> Stmts:
    call = item.context_expr
    assert isinstance(call, ast.Call)
    if item.optional_vars is not None:
        ctx.fail(item.optional_vars, "E0112", "`with simd(area)` has no `as`")
    if ctx.simd:
        ctx.fail(call, "E0112", "`with simd` inside `with simd` or a @simd function", "the registers are free already")
    if len(call.args) != 1 or call.keywords:
        ctx.fail(call, "E0208", "`simd` takes a SimdArea")
    loc = ctx.loc(call)
    area = hints.of_object(ctx.builder, ctx.builder.lang("SimdArea"))
    given = operands.coerce(ctx, expressions.value(ctx, call.args[0]), tree.RefT(area), call.args[0])
    references.check_write(ctx, given.roots, call.args[0])
    keep, again = operands.bind(ctx, given)
    symbols = [ctx.builder.external(ctx.builder.lang(name)) for name in ("simd_enter", "simd_leave")]
    for info in symbols:
        ctx.builder.check_body(info, ctx, call)
    for info in symbols:
        if info is not None:
            ctx.builder.check_body(info, ctx, node)
    ctx.simd = True
    try:
        body = _inside(ctx, node, rest, lambda _: frozenset(), "")
    finally:
        ctx.simd = False
    enter, leave = (tree.Discard(tree.Call(info.symbol, [one], types.UNIT, loc), loc) for info, one in zip(symbols, (keep, again), strict=True))
    return [tree.Scoped([enter], body, [leave], ctx.loc(node))]
