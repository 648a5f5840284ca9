# SPDX-License-Identifier: Apache-2.0
"""Operators on integers, secrets and values with operator methods."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import calls, diagnostics, expressions, operands, types
from delphyne.compiler.front.context import Context, Literal, Operand, Placed, Value

OPERATORS: dict[type[ast.operator], tuple[tree.BinOp, str, str]] = {
    ast.Add: (tree.BinOp.ADD, "+", "__add__"),
    ast.Sub: (tree.BinOp.SUB, "-", "__sub__"),
    ast.Mult: (tree.BinOp.MUL, "*", "__mul__"),
    ast.FloorDiv: (tree.BinOp.DIV, "//", "__floordiv__"),
    ast.Mod: (tree.BinOp.MOD, "%", "__mod__"),
    ast.BitAnd: (tree.BinOp.AND, "&", "__and__"),
    ast.BitOr: (tree.BinOp.OR, "|", "__or__"),
    ast.BitXor: (tree.BinOp.XOR, "^", "__xor__"),
    ast.LShift: (tree.BinOp.SHL, "<<", "__lshift__"),
    ast.RShift: (tree.BinOp.SHR, ">>", "__rshift__"),
}

_ON_LITERALS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}

_SHIFTS = (tree.BinOp.SHL, tree.BinOp.SHR)
_SECRET = (tree.BinOp.AND, tree.BinOp.OR, tree.BinOp.XOR, *_SHIFTS)
_LARGEST_LITERAL = 1 << 256


def operation(ctx: Context, op: ast.operator, node: ast.AST) -> tuple[tree.BinOp, str, str]:
    """The operation of a syntax operator; refuses `/`, `**` and `@`."""
    found = OPERATORS.get(type(op))
    if found is None:
        shown = {ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}.get(type(op), "?")
        raise ctx.fault(node, "E0209", f"`{shown}` is no operator of the language", "use `//` to divide" if shown == "/" else "")
    return found


def binary(ctx: Context, node: ast.BinOp) -> Operand:
    """`left op right`."""
    op, shown, method = operation(ctx, node.op, node)
    left = expressions.operand(ctx, node.left)
    right = expressions.operand(ctx, node.right)
    if isinstance(left, Literal) and isinstance(right, Literal):
        return _fold(ctx, node, left.value, right.value)
    # Reading a place comes where Python evaluates it: the left one before the right one.
    if isinstance(left, Literal):
        second = operands.value(ctx, right, node.right)
        first = operands.constant(ctx, left.value, _width(ctx, second, node, shown), node.left)
    elif isinstance(right, Literal):
        first = operands.value(ctx, left, node.left)
        if isinstance(first.ty, tree.ValueT):
            operands.value(ctx, right, node.right)
        second = operands.constant(ctx, right.value, _width(ctx, first, node, shown), node.right)
    else:
        first, second = operands.value(ctx, left, node.left), operands.value(ctx, right, node.right)
    return combine(ctx, op, shown, method, first, second, node, node.right)


def _fold(ctx: Context, node: ast.BinOp, left: int, right: int) -> Literal:
    try:
        if isinstance(node.op, ast.LShift) and right > 256:
            raise OverflowError
        found = _ON_LITERALS[type(node.op)](left, right)
    except (ZeroDivisionError, ValueError, OverflowError):
        raise ctx.fault(node, "E0210", f"`{ast.unparse(node)}` has no value") from None
    if not -_LARGEST_LITERAL < found < _LARGEST_LITERAL:
        raise ctx.fault(node, "E0210", f"`{ast.unparse(node)}` is too large")
    return Literal(found)


def _width(ctx: Context, beside: Value, node: ast.BinOp, shown: str) -> Any:
    """The type that a literal takes beside a value."""
    if isinstance(beside.ty, (tree.OptionT, tree.ResultT)):
        raise _undefined(ctx, beside, beside, shown, node)
    if not isinstance(beside.ty, (tree.IntT, types.SecretT)):
        raise ctx.fault(node, "E0209", f"`{shown}` is not defined for {types.show(beside.ty)} and a literal")
    return beside.ty


def combine(ctx: Context, op: tree.BinOp, shown: str, method: str, left: Value, right: Value, node: ast.expr, right_node: ast.expr) -> Operand:
    """`left op right` on two evaluated operands."""
    loc = ctx.loc(node)
    if isinstance(left.ty, types.SecretT) or isinstance(right.ty, types.SecretT):
        return _secret(ctx, op, shown, left, right, node)
    if isinstance(left.ty, tree.IntT) and isinstance(right.ty, tree.IntT):
        if left.ty != right.ty:
            raise ctx.fault(node, "E0202", f"{types.show(left.ty)} {shown} {types.show(right.ty)}")
        return Value(tree.Binary(op, left.expr, right.expr, left.ty, loc), left.ty)
    if isinstance(left.ty, tree.ValueT):
        record = ctx.builder.records.of_type(left.ty)
        found = ctx.builder.records.method(record, method) if record is not None else None
        if found is not None:
            return calls.of_operator(ctx, found[1], left, right, node, right_node)
    raise _undefined(ctx, left, right, shown, node)


def _undefined(ctx: Context, left: Value, right: Value, shown: str, node: ast.expr) -> diagnostics.Fault:
    for side in (left, right):
        if isinstance(side.ty, tree.OptionT):
            return ctx.fault(node, "E0501", f"an operand of `{shown}` may be None: {types.show(side.ty)}")
        if isinstance(side.ty, tree.ResultT):
            return ctx.fault(node, "E0502", f"an operand of `{shown}` may be an error: {types.show(side.ty)}")
    return ctx.fault(node, "E0209", f"`{shown}` is not defined for {types.show(left.ty)} and {types.show(right.ty)}")


def _secret(ctx: Context, op: tree.BinOp, shown: str, left: Value, right: Value, node: ast.expr) -> Operand:
    if op not in _SECRET:
        code = "E0601" if op in (tree.BinOp.DIV, tree.BinOp.MOD) else "E0602"
        raise ctx.fault(node, code, f"`{shown}` could trap, or take a time that shows a secret")
    if op in _SHIFTS and isinstance(right.ty, types.SecretT):
        raise ctx.fault(node, "E0601", "a secret amount of a shift could trap")
    width = left.ty.item if isinstance(left.ty, types.SecretT) else left.ty
    other = right.ty.item if isinstance(right.ty, types.SecretT) else right.ty
    if width != other:
        code = "E0202" if isinstance(width, tree.IntT) and isinstance(other, tree.IntT) else "E0209"
        raise ctx.fault(node, code, f"{types.show(left.ty)} {shown} {types.show(right.ty)}")
    ty: Any = types.SecretT(width)
    return Value(tree.Binary(op, left.expr, right.expr, ty, ctx.loc(node)), ty)


def unary(ctx: Context, node: ast.UnaryOp) -> Operand:
    """`~x`, and `-1` where a literal is folded."""
    inner = expressions.operand(ctx, node.operand)
    if isinstance(inner, Literal):
        return Literal(-inner.value if isinstance(node.op, ast.USub) else ~inner.value if isinstance(node.op, ast.Invert) else inner.value)
    given = operands.value(ctx, inner, node.operand)
    shown = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}[type(node.op)]
    if not isinstance(node.op, ast.Invert) or not isinstance(given.ty, (tree.IntT, types.SecretT)):
        remedy = "integers are unsigned: subtract" if shown == "-" else ""
        raise ctx.fault(node, "E0209", f"`{shown}` is not defined for {types.show(given.ty)}", remedy)
    ty: Any = given.ty
    return Value(tree.Invert(given.expr, ty, ctx.loc(node)), ty)


def augmented(ctx: Context, node: ast.AugAssign, target: Placed) -> list[tree.Stmt]:
    """`place op= value` on an integer place; the place is evaluated and read first, as Python does."""
    op, shown, method = operation(ctx, node.op, node)
    loc = ctx.loc(node)
    if isinstance(target.ty, tree.IntT):
        given = expressions.beside(ctx, node.value, target.ty) if not isinstance(node.value, ast.Tuple) else expressions.value(ctx, node.value)
        return [tree.Update(target.place, op, given.expr, loc)]
    read = operands.value(ctx, target, node.target)
    second = expressions.operand(ctx, node.value)
    right = operands.constant(ctx, second.value, read.ty, node.value) if isinstance(second, Literal) else operands.value(ctx, second, node.value)
    made = combine(ctx, op, shown, method, read, right, _as_expression(node), node.value)
    if isinstance(target.ty, types.SecretT):
        operands.coerce(ctx, operands.value(ctx, made, node.target), target.ty, node)
        return [tree.Update(target.place, op, right.expr, loc)]
    result = operands.coerce(ctx, operands.value(ctx, made, node.target), target.ty, node)
    if not _simple(target.place):
        reason = f"`{shown}=` on {types.show(target.ty)} would evaluate this place twice"
        raise ctx.fault(node.target, "E0209", reason, "write it as `a = a + b` with names for the parts")
    return [tree.Store(result.expr, target.place, loc)]


def _as_expression(node: ast.AugAssign) -> ast.expr:
    whole = ast.BinOp(node.target, node.op, node.value)
    return ast.copy_location(whole, node)


def _simple(place: Any) -> bool:
    """Evaluating the place again has no effect and gives the same."""
    match place:
        case tree.LocalPlace() | tree.StaticPlace() | tree.MinePlace():
            return True
        case tree.DerefPlace(ref=ref):
            return isinstance(ref, tree.Local)
        case tree.FieldPlace(base=base):
            return _simple(base)
        case tree.IndexPlace(base=base, index=index) | tree.BootIndexPlace(base=base, index=index):
            return _simple(base) and isinstance(index, (tree.Const, tree.Local))
        case tree.SliceIndexPlace(base=base, index=index):
            return isinstance(base, tree.Local) and isinstance(index, (tree.Const, tree.Local))
    return False
