# SPDX-License-Identifier: Apache-2.0
"""Expressions: one function for each kind of syntax node, and a table that says which there are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import arithmetic, bits, calls, conditions, diagnostics, hints, methods, operands, types
from delphyne.compiler.front.context import Context, Entity, Literal, Method, Operand, Placed, Value
from delphyne.compiler.front.state import Root, RootKind, join

THROUGH_VIEW = Root(RootKind.VIEW, "")


def operand(ctx: Context, node: ast.expr) -> Operand:
    """What an expression stands for, not read yet where it is a place."""
    rule = RULES.get(type(node))
    if rule is None:
        raise ctx.fault(node, "E0102", f"{_describe(node)} is not part of the language")
    return rule(ctx, node)


def value(ctx: Context, node: ast.expr, expected: Any = None) -> Value:
    """The value of an expression, fitted to `expected` where that is given."""
    if expected is not None and isinstance(node, ast.Tuple) and isinstance(expected, tree.TupleT) and len(node.elts) == len(expected.items):
        parts = [value(ctx, item, ty) for item, ty in zip(node.elts, expected.items, strict=True)]
        return Value(tree.MakeRecord([part.expr for part in parts], expected, ctx.loc(node)), expected, operands.union(*parts))
    if expected is not None and isinstance(node, ast.IfExp):
        return _conditional_of(ctx, node, expected)
    given = operands.value(ctx, operand(ctx, node), node)
    return given if expected is None else operands.coerce(ctx, given, expected, node)


def beside(ctx: Context, node: ast.expr, ty: Any) -> Value:
    """The value of an expression in a position where a literal takes the width `ty`."""
    given = operand(ctx, node)
    if isinstance(given, Literal):
        return operands.constant(ctx, given.value, ty, node)
    return operands.coerce(ctx, operands.value(ctx, given, node), ty, node)


def index(ctx: Context, node: ast.expr) -> Value:
    """An index, offset or slice end: u64 or a literal, and public."""
    given = operand(ctx, node)
    if isinstance(given, Literal):
        return operands.constant(ctx, given.value, types.U64, node)
    found = operands.value(ctx, given, node)
    if isinstance(found.ty, types.SecretT):
        raise ctx.fault(node, "E0601", "an index or offset would show a secret")
    return operands.coerce(ctx, found, types.U64, node)


def _describe(node: ast.expr) -> str:
    return _NAMES.get(type(node), type(node).__name__)


_NAMES: dict[type[ast.AST], str] = {
    ast.Lambda: "a lambda",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a generator",
    ast.Dict: "a dictionary",
    ast.Set: "a set",
    ast.List: "a list",
    ast.Await: "await",
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.JoinedStr: "an f-string outside `log`",
    ast.FormattedValue: "an f-string outside `log`",
    ast.Starred: "`*`",
    ast.NamedExpr: "`:=`",
    ast.Slice: "a slice on its own",
}


def rule_constant(ctx: Context, node: ast.expr) -> Operand:
    """True, False, None, and integers, which have no width of their own."""
    assert isinstance(node, ast.Constant)
    loc = ctx.loc(node)
    match node.value:
        case bool():
            return Value(tree.Const(int(node.value), types.BOOL, loc), types.BOOL)
        case int():
            return Literal(node.value)
        case None:
            return operands.none(loc)
        case bytes():
            raise ctx.fault(node, "E0102", "a byte string on its own", f"write `text({node.value!r})`, a View[u8]")
        case str():
            raise ctx.fault(node, "E0102", "a string is no value here", "strings stand only in `log` and `assert`; bytes are `text(b'..')`")
    raise ctx.fault(node, "E0102", f"`{ast.unparse(node)}` is not part of the language")


def rule_name(ctx: Context, node: ast.expr) -> Operand:
    """A name."""
    assert isinstance(node, ast.Name)
    return operands.name(ctx, node)


def rule_attribute(ctx: Context, node: ast.expr) -> Operand:
    """`a.b`."""
    assert isinstance(node, ast.Attribute)
    base = operand(ctx, node.value)
    match base:
        case Entity(obj=obj):
            if not hasattr(obj, node.attr):
                raise ctx.fault(node, "E0207", f"`{ast.unparse(node.value)}` has no `{node.attr}`")
            return operands.object_(ctx, getattr(obj, node.attr), node)
        case Literal() | Method():
            operands.value(ctx, base, node.value)
    assert isinstance(base, (Value, Placed))
    return member(ctx, base, node.attr, node)


def member(ctx: Context, base: Value | Placed, name: str, node: ast.expr) -> Operand:
    """A field, property or method of a value or place."""
    loc = ctx.loc(node)
    ty = base.ty
    record = ctx.builder.records.of_type(ty)
    if record is not None:
        _check_private(ctx, record.cls, name, node)
        if name in record.fields:
            position, field_type = record.fields[name]
            if isinstance(base, Placed):
                return Placed(tree.FieldPlace(base.place, position, field_type, loc), field_type, base.roots)
            return Value(tree.Part(base.expr, position, field_type, loc), field_type)
        found = ctx.builder.records.method(record, name)
        if found is not None:
            kind, function = found
            return calls.of_property(ctx, base, function, node) if kind == "property" else Method(base, name)
    match ty:
        case tree.BitsT() | tree.EnumT() if name == "raw":
            return bits.raw(ctx, operands.value(ctx, base, node), node)
        case tree.BitsT() if record is not None and name in record.bits:
            return bits.read_field(ctx, operands.value(ctx, base, node), record.bits[name], loc)
        case tree.ArrayT() if name == "length":
            return Value(tree.Const(ty.length, types.U64, loc), types.U64)
        case tree.SliceT() if name == "length":
            return Value(tree.Length(operands.value(ctx, base, node).expr, types.U64, loc), types.U64)
        case tree.BootArrayT() if name == "length":
            return Value(tree.Length(operands.value(ctx, base, node).expr, types.U64, loc), types.U64)
    if name in methods.NAMES.get(type(ty), ()):
        return Method(base, name)
    raise _no_member(ctx, ty, name, node)


def _no_member(ctx: Context, ty: Any, name: str, node: ast.expr) -> diagnostics.Fault:
    if isinstance(ty, tree.OptionT):
        return ctx.fault(node, "E0501", f"this may be None: `{types.show(ty)}`")
    if isinstance(ty, tree.ResultT):
        return ctx.fault(node, "E0502", f"this may be an error: `{types.show(ty)}`")
    return ctx.fault(node, "E0207", f"{types.show(ty)} has no `{name}`")


def _check_private(ctx: Context, cls: type, name: str, node: ast.AST) -> None:
    if name.startswith("_") and not name.startswith("__") and cls.__module__ != ctx.function.module.name:
        raise ctx.fault(node, "E0207", f"`{name}` belongs to {cls.__name__} alone")


def rule_subscript(ctx: Context, node: ast.expr) -> Operand:
    """`a[i]`, `a[lo:hi]`, and types such as `Handle[Vm]`."""
    assert isinstance(node, ast.Subscript)
    base = operand(ctx, node.value)
    if isinstance(base, Entity):
        return Entity(hints.evaluate(ctx.file, node, ctx.function.namespace))
    if not isinstance(base, (Value, Placed)):
        operands.value(ctx, base, node.value)
        raise AssertionError
    if isinstance(node.slice, ast.Slice):
        return _slice(ctx, base, node, node.slice)
    loc = ctx.loc(node)
    match base.ty:
        case tree.ArrayT(item=item) if isinstance(base, Placed):
            return Placed(tree.IndexPlace(base.place, index(ctx, node.slice).expr, item, loc), item, base.roots)
        case tree.BootArrayT(item=item) if isinstance(base, Placed):
            return Placed(tree.BootIndexPlace(base.place, index(ctx, node.slice).expr, item, loc), item, base.roots)
        case tree.SliceT(item=item):
            whole = operands.value(ctx, base, node.value)
            roots = base.roots if base.ty.writable else base.roots | {THROUGH_VIEW}
            return Placed(tree.SliceIndexPlace(whole.expr, index(ctx, node.slice).expr, item, loc), item, roots)
        case tree.TupleT(items=items):
            position = operand(ctx, node.slice)
            if not isinstance(position, Literal) or not 0 <= position.value < len(items):
                raise ctx.fault(node.slice, "E0209", f"an item of {types.show(base.ty)} is chosen by a literal from 0 to {len(items) - 1}")
            whole = operands.value(ctx, base, node.value)
            ty = items[position.value]
            return operands.as_operand(Value(tree.Part(whole.expr, position.value, ty, loc), ty, base.roots))
        case tree.OptionT() | tree.ResultT():
            raise _no_member(ctx, base.ty, "[..]", node)
    raise ctx.fault(node, "E0209", f"{types.show(base.ty)} has no elements")


def _slice(ctx: Context, base: Value | Placed, node: ast.Subscript, ends: ast.Slice) -> Operand:
    if ends.step is not None:
        raise ctx.fault(ends.step, "E0102", "a slice has no step")
    if not isinstance(base.ty, (tree.ArrayT, tree.SliceT)):
        raise ctx.fault(node, "E0209", f"{types.show(base.ty)} cannot be sliced")
    whole = operands.value(ctx, base, node.value)
    low = index(ctx, ends.lower).expr if ends.lower is not None else None
    high = index(ctx, ends.upper).expr if ends.upper is not None else None
    writable = base.ty.writable if isinstance(base.ty, tree.SliceT) else not ctx.builder.statics.read_only(base.roots)
    ty = tree.SliceT(base.ty.item, writable)
    return Value(tree.MakeSlice(whole.expr, low, high, ty, ctx.loc(node)), ty, base.roots)


def rule_tuple(ctx: Context, node: ast.expr) -> Operand:
    """`a, b`."""
    assert isinstance(node, ast.Tuple)
    parts = [value(ctx, item) for item in node.elts]
    for part, item in zip(parts, node.elts, strict=True):
        if part.ty is types.NONE or isinstance(part.ty, tree.UnitT):
            raise ctx.fault(item, "E0201", "an item of a tuple is None")
    ty = tree.TupleT(tuple(part.ty for part in parts))
    return Value(tree.MakeRecord([part.expr for part in parts], ty, ctx.loc(node)), ty, operands.union(*parts))


def _ways(ctx: Context, node: ast.IfExp, expected: Any) -> tuple[tree.Expr, Value, Value]:
    test, yes, no = conditions.test(ctx, node.test)
    ctx.state = yes
    then, after_then = value(ctx, node.body, expected), ctx.state
    ctx.state = no
    other, after_other = value(ctx, node.orelse, expected), ctx.state
    ctx.state = join(after_then, after_other)
    return test, then, other


def _conditional_of(ctx: Context, node: ast.IfExp, expected: Any) -> Value:
    """`a if c else b` where a type is expected: each way is fitted to it by itself."""
    test, then, other = _ways(ctx, node, expected)
    return Value(tree.Conditional(test, then.expr, other.expr, expected, ctx.loc(node)), expected, then.roots | other.roots)


def rule_conditional(ctx: Context, node: ast.IfExp) -> Operand:
    """`a if c else b` with nothing expected: both ways have one type, or one of them is that type with None or an error added."""
    test, then, other = _ways(ctx, node, None)
    loc = ctx.loc(node)
    ty = then.ty
    if operands.fit(other, ty, loc) is None:
        ty = other.ty
    if ty is types.NONE or isinstance(ty, tree.NeverT):
        raise ctx.fault(node, "E0201", f"both ways must have one type: {types.show(then.ty)} and {types.show(other.ty)}")
    then, other = operands.coerce(ctx, then, ty, node.body), operands.coerce(ctx, other, ty, node.orelse)
    return operands.as_operand(Value(tree.Conditional(test, then.expr, other.expr, ty, loc), ty, then.roots | other.roots))


def rule_condition(ctx: Context, node: ast.expr) -> Operand:
    """Comparisons, `and`, `or` and `not` as values."""
    test, yes, no = conditions.test(ctx, node)
    ctx.state = join(yes, no)
    return Value(test, types.BOOL)


def rule_unary(ctx: Context, node: ast.expr) -> Operand:
    """`not`, `~`, and `-` on literals."""
    assert isinstance(node, ast.UnaryOp)
    return rule_condition(ctx, node) if isinstance(node.op, ast.Not) else arithmetic.unary(ctx, node)


RULES: dict[type[ast.expr], Callable[[Context, Any], Operand]] = {}
"""The expressions of the language (see `subset`); every other is refused."""
