# SPDX-License-Identifier: Apache-2.0
"""Conditions and what they teach: comparisons, `and or not`, `is None`, `isinstance(x, Err)`.

`test` gives the condition and the two states in which it leaves the function: where it holds and where it does not.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import arithmetic, calls, expressions, operands, types
from delphyne.compiler.front.context import Context, Entity, Literal, Value
from delphyne.compiler.front.state import State, Step, join, narrowed_type

_COMPARISONS: dict[type[ast.cmpop], tuple[tree.CmpOp, str, str]] = {
    ast.Eq: (tree.CmpOp.EQ, "==", "__eq__"),
    ast.NotEq: (tree.CmpOp.NE, "!=", "__ne__"),
    ast.Lt: (tree.CmpOp.LT, "<", "__lt__"),
    ast.LtE: (tree.CmpOp.LE, "<=", "__le__"),
    ast.Gt: (tree.CmpOp.GT, ">", "__gt__"),
    ast.GtE: (tree.CmpOp.GE, ">=", "__ge__"),
}

Tested = tuple[tree.Expr, State | None, State | None]


def test(ctx: Context, node: ast.expr) -> Tested:
    """A condition, with the states after it."""
    match node:
        case ast.BoolOp():
            return _bool_op(ctx, node)
        case ast.UnaryOp(op=ast.Not()):
            expr, yes, no = test(ctx, node.operand)
            return tree.Not(expr, types.BOOL, ctx.loc(node)), no, yes
        case ast.Compare():
            return _compare(ctx, node)
        case ast.Call(func=ast.Name(id="isinstance")) if "isinstance" not in ctx.names:
            return _isinstance(ctx, node)
    given = expressions.value(ctx, node) if not isinstance(node, ast.Constant) or isinstance(node.value, bool) else None
    if given is None or not isinstance(given.ty, tree.BoolT):
        _no_condition(ctx, node, given)
    return given.expr, ctx.state, ctx.state


def _no_condition(ctx: Context, node: ast.expr, given: Value | None) -> Any:
    if given is None:
        ctx.fail(node, "E0204", "a literal is no condition")
    match given.ty:
        case types.SecretT():
            ctx.fail(node, "E0601", "a condition would show a secret")
        case tree.OptionT():
            ctx.fail(node, "E0204", f"{types.show(given.ty)} is no condition", "ask `is None` or `is not None`")
        case tree.ResultT():
            ctx.fail(node, "E0204", f"{types.show(given.ty)} is no condition", f"ask `isinstance(.., {types.show(given.ty.error)})`")
        case tree.IntT():
            ctx.fail(node, "E0204", f"{types.show(given.ty)} is no condition", "compare it: `!= 0`")
    ctx.fail(node, "E0204", f"{types.show(given.ty)} is no condition", "compare it")


def _bool_op(ctx: Context, node: ast.BoolOp) -> Tested:
    is_and = isinstance(node.op, ast.And)
    expr, yes, no = test(ctx, node.values[0])
    for operand in node.values[1:]:
        ctx.state = yes if is_and else no
        right, right_yes, right_no = test(ctx, operand)
        yes, no = (right_yes, join(no, right_no)) if is_and else (join(yes, right_yes), right_no)
        expr = tree.ShortCircuit(is_and, expr, right, types.BOOL, ctx.loc(node))
    return expr, yes, no


def _compare(ctx: Context, node: ast.Compare) -> Tested:
    if len(node.ops) == 1 and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
        right = node.comparators[0]
        positive = isinstance(node.ops[0], ast.Is)
        if isinstance(right, ast.Constant) and right.value is None:
            return _is_none(ctx, node, positive)
        left = _whole(ctx, node.left)
        if isinstance(left.ty, tree.OptionT) and isinstance(left.ty.item, tree.EnumT):
            return _is_member(ctx, node, left, positive)
    expr = _chain(ctx, node)
    return expr, ctx.state, ctx.state


def _chain(ctx: Context, node: ast.Compare) -> tree.Expr:
    """`a < b < c`: each operand is evaluated once, and not at all where an earlier comparison failed."""
    result: tree.Expr | None = None
    left_node, left = node.left, expressions.operand(ctx, node.left)
    for position, (op, right_node) in enumerate(zip(node.ops, node.comparators)):
        right = expressions.operand(ctx, right_node)
        if isinstance(left, Literal) and isinstance(right, Literal):
            ctx.fail(node, "E0203", "two literals are compared", "one side must have a width")
        if isinstance(left, Literal):
            second = operands.value(ctx, right, right_node)
            first = operands.constant(ctx, left.value, second.ty, left_node)
        else:
            first = operands.value(ctx, left, left_node)
            second = operands.constant(ctx, right.value, first.ty, right_node) if isinstance(right, Literal) else operands.value(ctx, right, right_node)
        following: Any = right
        if position + 1 < len(node.ops) and not isinstance(right, Literal):
            keep, again = operands.bind(ctx, second)
            second = Value(keep, second.ty, second.roots)
            following = Value(again, second.ty, second.roots)
        compared = _compare_two(ctx, op, first, second, node, right_node)
        result = compared if result is None else tree.ShortCircuit(True, result, compared, types.BOOL, ctx.loc(node))
        left_node, left = right_node, following
    assert result is not None
    return result


def _compare_two(ctx: Context, op: ast.cmpop, left: Value, right: Value, node: ast.Compare, right_node: ast.expr) -> tree.Expr:
    loc = ctx.loc(node)
    for side in (left, right):
        if types.holds_secret(side.ty):
            ctx.fail(node, "E0601", "a comparison would show a secret", "use secret_equal, or declassify")
    if isinstance(op, (ast.Is, ast.IsNot)):
        if not isinstance(left.ty, tree.EnumT) or left.ty != right.ty:
            ctx.fail(node, "E0209", f"`is` between {types.show(left.ty)} and {types.show(right.ty)}", "`is` asks for None and for members of an enum; compare with `==`")
        return tree.Compare(tree.CmpOp.EQ if isinstance(op, ast.Is) else tree.CmpOp.NE, left.expr, right.expr, types.BOOL, loc)
    if type(op) not in _COMPARISONS:
        ctx.fail(node, "E0209", "`in` is no operator of the language", "compare with each")
    comparison, shown, method = _COMPARISONS[type(op)]
    equality = comparison in (tree.CmpOp.EQ, tree.CmpOp.NE)
    if left.ty == right.ty:
        if isinstance(left.ty, tree.IntT) or (equality and isinstance(left.ty, (*types.SCALARS, tree.TupleT))):
            _check_comparable(ctx, left.ty, node)
            return tree.Compare(comparison, left.expr, right.expr, types.BOOL, loc)
        if equality and isinstance(left.ty, tree.ValueT):
            return _equal_values(ctx, comparison, left, right, node, right_node)
    if isinstance(left.ty, tree.ValueT) and not equality:
        record = ctx.builder.records.of_type(left.ty)
        found = ctx.builder.records.method(record, method) if record is not None else None
        if found is not None:
            made = operands.value(ctx, calls.of_operator(ctx, found[1], left, right, node, right_node), node)
            return operands.coerce(ctx, made, types.BOOL, node).expr
    _not_comparable(ctx, shown, left, right, node)


def _equal_values(ctx: Context, comparison: tree.CmpOp, left: Value, right: Value, node: ast.Compare, right_node: ast.expr) -> tree.Expr:
    """Field by field, or by the class's own `__eq__`."""
    record = ctx.builder.records.of_type(left.ty)
    found = ctx.builder.records.method(record, "__eq__") if record is not None else None
    loc = ctx.loc(node)
    if found is None:
        return tree.Compare(comparison, left.expr, right.expr, types.BOOL, loc)
    made = operands.coerce(ctx, operands.value(ctx, calls.of_operator(ctx, found[1], left, right, node, right_node), node), types.BOOL, node).expr
    return made if comparison is tree.CmpOp.EQ else tree.Not(made, types.BOOL, loc)


def _check_comparable(ctx: Context, ty: Any, node: ast.AST) -> None:
    for item in ty.items if isinstance(ty, tree.TupleT) else ():
        if not types.storable(item):
            ctx.fail(node, "E0209", f"{types.show(ty)} cannot be compared")


def _not_comparable(ctx: Context, shown: str, left: Value, right: Value, node: ast.AST) -> Any:
    for side in (left, right):
        if isinstance(side.ty, tree.OptionT):
            ctx.fail(node, "E0501", f"an operand of `{shown}` may be None: {types.show(side.ty)}")
        if isinstance(side.ty, tree.ResultT):
            ctx.fail(node, "E0502", f"an operand of `{shown}` may be an error: {types.show(side.ty)}")
        if side.ty is types.NONE:
            ctx.fail(node, "E0209", "None is compared with `is`")
    if isinstance(left.ty, tree.IntT) and isinstance(right.ty, tree.IntT):
        ctx.fail(node, "E0202", f"{types.show(left.ty)} {shown} {types.show(right.ty)}")
    ctx.fail(node, "E0209", f"`{shown}` is not defined for {types.show(left.ty)} and {types.show(right.ty)}")


def _variable(ctx: Context, node: ast.expr, halves: tuple[Step, Step]) -> tuple[str, Any, State] | None:
    """Where the operand is a variable: its name, its type and the state without what an earlier test of the same kind has taught.

    A test may be repeated: on the way that cannot be taken, it is believed all the same."""
    if not isinstance(node, ast.Name) or node.id not in ctx.names:
        return None
    state = ctx.known()
    known, declared = state.get(node.id), ctx.declared.get(node.id)
    if known is None or declared is None or declared is types.POISON:
        return None
    if known.steps and known.steps[-1] in halves:
        known = replace(known, steps=known.steps[:-1])
        state = {**state, node.id: known}
    return node.id, narrowed_type(declared, known.steps), state


def _with_step(state: State, name: str, step: Step) -> State:
    known = state[name]
    return {**state, name: replace(known, steps=(*known.steps, step))}


def _tested(ctx: Context, node: ast.expr, variable: tuple[str, Any, State] | None) -> Value:
    """The option or result that is tested."""
    if variable is None:
        return _whole(ctx, node)
    before, ctx.state = ctx.state, variable[2]
    given = _whole(ctx, node)
    ctx.state = before
    return given


def _is_none(ctx: Context, node: ast.Compare, positive: bool) -> Tested:
    loc = ctx.loc(node)
    variable = _variable(ctx, node.left, (Step.SOME, Step.NONE))
    given = _tested(ctx, node.left, variable)
    if not isinstance(given.ty, tree.OptionT):
        if isinstance(given.ty, tree.ResultT):
            ctx.fail(node, "E0502", f"this may be an error: {types.show(given.ty)}")
        ctx.fail(node, "E0504", f"this is never None: {types.show(given.ty)}")
    some: tree.Expr = tree.IsSome(given.expr, types.BOOL, loc)
    if variable is None:
        return (tree.Not(some, types.BOOL, loc) if positive else some), ctx.state, ctx.state
    full, empty = _with_step(variable[2], variable[0], Step.SOME), _with_step(variable[2], variable[0], Step.NONE)
    return (tree.Not(some, types.BOOL, loc), empty, full) if positive else (some, full, empty)


def _is_member(ctx: Context, node: ast.Compare, left: Value, positive: bool) -> Tested:
    """`x is State.A` where x may be None: it is there, and it is that member."""
    loc = ctx.loc(node)
    variable = _variable(ctx, node.left, (Step.SOME, Step.NONE))
    member = expressions.value(ctx, node.comparators[0], left.ty.item)
    keep, again = operands.bind(ctx, left)
    same = tree.Compare(tree.CmpOp.EQ, tree.OptionItem(again, left.ty.item, loc), member.expr, types.BOOL, loc)
    expr: tree.Expr = tree.ShortCircuit(True, tree.IsSome(keep, types.BOOL, loc), same, types.BOOL, loc)
    yes, no = ctx.state, ctx.state
    if variable is not None:
        yes = _with_step(variable[2], variable[0], Step.SOME)
    return (expr, yes, no) if positive else (tree.Not(expr, types.BOOL, loc), no, yes)


def _whole(ctx: Context, node: ast.expr) -> Value:
    given = expressions.operand(ctx, node)
    return operands.value(ctx, given, node)


def _isinstance(ctx: Context, node: ast.Call) -> Tested:
    loc = ctx.loc(node)
    if len(node.args) != 2 or node.keywords:
        ctx.fail(node, "E0208", "isinstance takes a variable and an error class")
    variable = _variable(ctx, node.args[0], (Step.OK, Step.ERROR))
    given = _tested(ctx, node.args[0], variable)
    error = expressions.operand(ctx, node.args[1])
    cls = error.obj if isinstance(error, Entity) else None
    record = ctx.builder.records.find(cls) if isinstance(cls, type) else None
    if not isinstance(given.ty, tree.ResultT):
        if record is not None and given.ty == record.ty:
            ctx.fail(node, "E0504", f"this is always {types.show(given.ty)} here")
        ctx.fail(node, "E0505", f"this is {types.show(given.ty)}, which is no error or result")
    if record is None or record.ty != given.ty.error:
        ctx.fail(node.args[1], "E0505", f"the error of {types.show(given.ty)} is {types.show(given.ty.error)}")
    test_expr = tree.IsError(given.expr, types.BOOL, loc)
    if variable is None:
        return test_expr, ctx.state, ctx.state
    return test_expr, _with_step(variable[2], variable[0], Step.ERROR), _with_step(variable[2], variable[0], Step.OK)
