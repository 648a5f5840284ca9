# SPDX-License-Identifier: Apache-2.0
"""Bit-field classes and enums: their operations in terms of shifts, masks and checked conversions."""

from __future__ import annotations

import ast
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import expressions, operands, types
from delphyne.compiler.front.context import Context, Value
from delphyne.compiler.front.records import BitsField, Record


def raw(ctx: Context, given: Value, node: ast.AST) -> Value:
    """`.raw` of an enum or bit-field value."""
    ty = tree.IntT(given.ty.bits)
    return Value(relabel(given.expr, ty, ctx.loc(node)), ty)


def relabel(expr: tree.Expr, ty: Any, loc: tree.Loc) -> tree.Expr:
    """The same number under another type of the same width."""
    if isinstance(expr, tree.Const):
        return tree.Const(expr.value, ty, loc)
    return tree.Convert(tree.ConvertKind.RELABEL, expr, ty, loc)


def resize(expr: tree.Expr, source: int, target: int, loc: tree.Loc) -> tree.Expr:
    """A number that is known to fit, at another width."""
    if source == target:
        return expr
    ty = tree.IntT(target)
    if isinstance(expr, tree.Const):
        return tree.Const(expr.value, ty, loc)
    return tree.Convert(tree.ConvertKind.WIDEN if source < target else tree.ConvertKind.TRUNCATE, expr, ty, loc)


def read_field(ctx: Context, given: Value, field: BitsField, loc: tree.Loc) -> Value:
    """One field of a bit-field value; an enum field that holds no member traps ENUM."""
    word = tree.IntT(given.ty.bits)
    number: tree.Expr = relabel(given.expr, word, loc)
    if isinstance(field.ty, tree.BoolT):
        masked = tree.Binary(tree.BinOp.AND, number, tree.Const(1 << field.low, word, loc), word, loc)
        return Value(tree.Compare(tree.CmpOp.NE, masked, tree.Const(0, word, loc), types.BOOL, loc), types.BOOL)
    if field.low:
        number = tree.Binary(tree.BinOp.SHR, number, tree.Const(field.low, word, loc), word, loc)
    if field.high + 1 < word.bits:
        number = tree.Binary(tree.BinOp.AND, number, tree.Const((1 << field.width) - 1, word, loc), word, loc)
    number = resize(number, word.bits, field.ty.bits, loc)
    if isinstance(field.ty, tree.EnumT):
        return Value(tree.Convert(tree.ConvertKind.TO_ENUM, number, field.ty, loc), field.ty)
    return Value(relabel(number, field.ty, loc) if isinstance(field.ty, tree.BitsT) else number, field.ty)


def _field_value(ctx: Context, field: BitsField, name: str, node: ast.expr) -> Value:
    given = expressions.beside(ctx, node, field.ty) if isinstance(field.ty, tree.IntT) else expressions.value(ctx, node, field.ty)
    if isinstance(given.expr, tree.Const) and given.expr.value >> field.width:
        ctx.fail(node, "E0210", f"{given.expr.value} does not fit the {field.width} bits of `{name}`")
    return given


def _in_place(field: BitsField, expr: tree.Expr, word: tree.IntT, loc: tree.Loc) -> tree.Expr:
    """A field's value, checked to fit and moved to its bits."""
    if isinstance(expr, tree.Const):
        return tree.Const(expr.value << field.low, word, loc)
    if isinstance(field.ty, tree.BoolT):
        number: tree.Expr = tree.Convert(tree.ConvertKind.FROM_BOOL, expr, word, loc)
    else:
        plain = tree.IntT(field.ty.bits)
        number = expr if isinstance(field.ty, tree.IntT) else relabel(expr, plain, loc)
        if field.width < plain.bits:
            number = tree.Builtin("fit", [number], plain, loc, {"bits": field.width})
        number = resize(number, plain.bits, word.bits, loc)
    if field.low == 0:
        return number
    return tree.Binary(tree.BinOp.SHL, number, tree.Const(field.low, word, loc), word, loc)


def build(ctx: Context, record: Record, base: Value | None, node: ast.Call) -> Value:
    """`Esr(il=True)` (no `base`) or `e.replace(il=False)`: the arguments are evaluated in order, then checked to fit, in order."""
    loc = ctx.loc(node)
    ty = record.ty
    word = tree.IntT(ty.bits)
    if node.args:
        ctx.fail(node.args[0], "E0208", f"the fields of {types.show(ty)} are given by name")
    given: list[tuple[BitsField, Value]] = []
    seen: set[str] = set()
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in record.bits or keyword.arg in seen:
            ctx.fail(keyword.value, "E0208", f"{types.show(ty)} has no field `{keyword.arg}`, or it is given twice")
        seen.add(keyword.arg)
        field = record.bits[keyword.arg]
        given.append((field, _field_value(ctx, field, keyword.arg, keyword.value)))
    first: list[tree.Expr] = []
    several = sum(not isinstance(value.expr, tree.Const) for _, value in given) > 1
    if base is not None and several:
        keep, again = operands.bind(ctx, base)
        first.append(keep)
        base = Value(again, base.ty)
    number: tree.Expr = tree.Const(0, word, loc) if base is None else relabel(base.expr, word, loc)
    cleared = (1 << word.bits) - 1
    parts: list[tree.Expr] = []
    for field, value in given:
        expr = value.expr
        if several and not isinstance(expr, tree.Const):
            keep, expr = operands.bind(ctx, value)
            first.append(keep)
        parts.append(_in_place(field, expr, word, loc))
        cleared &= ~(((1 << field.width) - 1) << field.low)
    if base is not None and given:
        number = tree.Binary(tree.BinOp.AND, number, tree.Const(cleared, word, loc), word, loc)
    for part in parts:
        if isinstance(number, tree.Const) and isinstance(part, tree.Const):
            number = tree.Const(number.value | part.value, word, loc)
        elif isinstance(number, tree.Const) and number.value == 0:
            number = part
        else:
            number = tree.Binary(tree.BinOp.OR, number, part, word, loc)
    return Value(operands.sequence(ctx, first, relabel(number, ty, loc), ty, loc), ty)


def enum_of(ctx: Context, record: Record, node: ast.Call) -> Value:
    """`State.of(raw) -> State | None`."""
    if len(node.args) != 1 or node.keywords:
        ctx.fail(node, "E0208", f"`{types.show(record.ty)}.of` takes one number")
    loc = ctx.loc(node)
    word = tree.IntT(record.ty.bits)
    keep, again = operands.bind(ctx, expressions.value(ctx, node.args[0], word))
    option = tree.OptionT(record.ty)
    numbers = sorted(number for _, number in record.ty.members)
    test: tree.Expr | None = None
    reader = keep
    for low, high in _runs(numbers):
        if low == high:
            one: tree.Expr = tree.Compare(tree.CmpOp.EQ, reader, tree.Const(low, word, loc), types.BOOL, loc)
        elif low == 0:
            one = tree.Compare(tree.CmpOp.LE, reader, tree.Const(high, word, loc), types.BOOL, loc)
        else:
            above = tree.Compare(tree.CmpOp.GE, reader, tree.Const(low, word, loc), types.BOOL, loc)
            one = tree.ShortCircuit(True, above, tree.Compare(tree.CmpOp.LE, again, tree.Const(high, word, loc), types.BOOL, loc), types.BOOL, loc)
        test = one if test is None else tree.ShortCircuit(False, test, one, types.BOOL, loc)
        reader = again
    assert test is not None
    found = tree.MakeOption(relabel(again, record.ty, loc), option, loc)
    return Value(tree.Conditional(test, found, tree.MakeOption(None, option, loc), option, loc), option)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Neighbouring numbers as ranges."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] + 1 == number:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def bits_of(ctx: Context, record: Record, node: ast.Call) -> Value:
    """`Esr.of(raw)`."""
    if len(node.args) != 1 or node.keywords:
        ctx.fail(node, "E0208", f"`{types.show(record.ty)}.of` takes one number")
    given = expressions.value(ctx, node.args[0], tree.IntT(record.ty.bits))
    return Value(relabel(given.expr, record.ty, ctx.loc(node)), record.ty)
