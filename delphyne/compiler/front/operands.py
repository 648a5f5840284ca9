# SPDX-License-Identifier: Apache-2.0
"""Reading names, turning operands into values, and fitting a value to the type that is expected."""

from __future__ import annotations

import ast
import builtins
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, hints, locks, types
from delphyne.compiler.front.context import Context, Entity, Literal, Method, Operand, Placed, Value
from delphyne.compiler.front.state import NO_ROOTS, Root, RootKind, Roots, Step, narrowed_read, narrowed_type
from delphyne.compiler.front.statics import NoStatic
from delphyne.lang.meta import StaticKind


def name(ctx: Context, node: ast.Name) -> Operand:
    """What a name stands for: a variable, else an object of the module, else one of Python's own."""
    if node.id in ctx.names:
        return variable(ctx, node)
    namespace = ctx.function.namespace
    if node.id in namespace:
        return object_(ctx, namespace[node.id], node)
    if hasattr(builtins, node.id):
        return Entity(getattr(builtins, node.id))
    raise ctx.fault(node, "E0205", f"`{node.id}` is not defined")


def variable(ctx: Context, node: ast.Name) -> Operand:
    """A read of a variable, narrowed as far as is known."""
    declared = ctx.declared.get(node.id)
    known = ctx.known().get(node.id)
    if declared is types.POISON:
        raise diagnostics.Fault(None)
    if known is None or declared is None:
        if node.id in ctx.expired:
            raise ctx.fault(node, "E0306", f"`{node.id}` refers into {ctx.expired[node.id]}, which has ended")
        raise ctx.fault(node, "E0212", f"`{node.id}` is not assigned on every way that leads here")
    loc = ctx.loc(node)
    if node.id in ctx.slots:
        return Placed(tree.LocalPlace(node.id, declared.target, loc), declared.target, known.roots)
    ty = narrowed_type(declared, known.steps)
    if ty is None:
        return none(loc)
    expr = narrowed_read(node.id, declared, known.steps, loc)
    return as_operand(Value(expr, ty, known.roots))


def none(loc: tree.Loc) -> Value:
    """The literal None."""
    return Value(tree.Const(0, types.UNIT, loc), types.NONE)


def as_operand(value: Value) -> Value | Placed:
    """A reference becomes the place that it refers to."""
    if isinstance(value.ty, tree.RefT):
        return Placed(tree.DerefPlace(value.expr, value.ty.target, value.expr.loc), value.ty.target, value.roots)
    return value


def object_(ctx: Context, obj: Any, node: ast.expr) -> Operand:
    """What an object of an imported module is in a function body."""
    loc = ctx.loc(node)
    if type(obj) is int:
        return Literal(obj)
    try:
        constant = ctx.builder.statics.constant(obj, loc)
        if constant is not None:
            return Value(*constant)
        static = ctx.builder.statics.find(obj)
    except NoStatic as problem:
        raise ctx.fault(node, problem.code, str(problem)) from None
    except hints.NoType as problem:
        raise ctx.fault(node, "E0410", str(problem)) from None
    if static is None or static.kind is StaticKind.PER_CPU:
        return Entity(obj)
    locks.check_guard(ctx, static, node)
    return Placed(tree.StaticPlace(static.symbol, static.ty, loc), static.ty, frozenset({Root(RootKind.STATIC, static.symbol)}))


def value(ctx: Context, operand: Operand, node: ast.expr) -> Value:
    """The value of an operand; places of aggregates become references."""
    match operand:
        case Value():
            return operand
        case Placed(place=place, ty=ty, roots=roots):
            if types.is_place(ty):
                return Value(reference(place, ty, ctx.loc(node)), tree.RefT(ty), roots)
            return Value(tree.Load(place, ty, ctx.loc(node)), ty)
        case Literal(value=number):
            raise ctx.fault(node, "E0203", f"`{ast.unparse(node)}` has no width here", f"give the literal a width: `u64({number})`")
        case Method(name=method):
            raise ctx.fault(node, "E0214", f"`{method}` is a method", f"call it: `{method}(..)`")
        case Entity(obj=obj):
            shown = getattr(obj, "__name__", None) or type(obj).__name__
            raise ctx.fault(node, "E0214", f"`{shown}` is a {_kind(obj)}, not a value")


def _kind(obj: Any) -> str:
    if isinstance(obj, type):
        return "class"
    return "function" if callable(obj) else type(obj).__name__


def reference(place: tree.Place, ty: Any, loc: tree.Loc) -> tree.Expr:
    """A reference to a place."""
    return place.ref if isinstance(place, tree.DerefPlace) else tree.AddrOf(place, tree.RefT(ty), loc)


def constant(ctx: Context, number: int, ty: Any, node: ast.expr) -> Value:
    """A literal of the width of `ty`."""
    plain = ty.item if isinstance(ty, types.SecretT) else ty
    if ty is types.NONE:
        raise ctx.fault(node, "E0501", "the other operand is None here")
    if not isinstance(plain, tree.IntT):
        raise ctx.fault(node, "E0201", f"{number} stands where {types.show(ty)} is expected")
    if not 0 <= number < 1 << plain.bits:
        raise ctx.fault(node, "E0210", f"{number} does not fit {types.show(plain)}")
    return Value(tree.Const(number, plain, ctx.loc(node)), plain)


def coerce(ctx: Context, given: Value, expected: Any, node: ast.AST) -> Value:
    """`given` as a value of type `expected`, wrapped into an option or result where one is expected; else refuses."""
    fitted = fit(given, expected, ctx.loc(node))
    if fitted is not None:
        return fitted
    code, remedy = "E0201", ""
    if isinstance(given.ty, tree.IntT) and isinstance(expected, tree.IntT):
        code = "E0202"
        widen = given.ty.bits < expected.bits
        shown = types.show(expected)
        remedy = f"widen it: `{shown}(..)`" if widen else f"narrow it: `{shown}(..)` traps, `{shown}.wrap(..)` cuts"
    elif isinstance(given.ty, tree.OptionT) and given.ty.item == expected:
        code = "E0501"
    elif isinstance(given.ty, tree.ResultT) and given.ty.item == expected:
        code = "E0502"
    elif isinstance(expected, tree.SliceT) and isinstance(given.ty, tree.SliceT) and given.ty.item == expected.item:
        code = "E0303"
    elif isinstance(given.ty, types.SecretT):
        code = "E0601"
    raise ctx.fault(node, code, f"this is {types.show(given.ty)}, and {types.show(expected)} is expected", remedy)


def fit(given: Value, expected: Any, loc: tree.Loc) -> Value | None:
    """`given` as `expected`, or None where it does not fit."""
    ty = given.ty
    if ty == expected or ty == types.NEVER:
        return given
    if isinstance(expected, tree.SliceT) and isinstance(ty, tree.SliceT) and ty.item == expected.item and ty.writable:
        return Value(given.expr, expected, given.roots)
    if ty is types.NONE and isinstance(expected, tree.UnitT):
        return Value(given.expr, types.UNIT)
    if isinstance(expected, types.SecretT) and ty is expected.item:
        return None
    if isinstance(expected, tree.OptionT):
        if ty is types.NONE:
            return Value(tree.MakeOption(None, expected, loc), expected)
        inner = fit(given, expected.item, loc)
        return None if inner is None else Value(tree.MakeOption(inner.expr, expected, loc), expected, inner.roots)
    if isinstance(expected, tree.ResultT):
        if ty == expected.error:
            return Value(tree.MakeResult(None, given.expr, expected, loc), expected)
        if ty is types.NONE and isinstance(expected.item, tree.UnitT):
            return Value(tree.MakeResult(None, None, expected, loc), expected)
        inner = fit(given, expected.item, loc)
        return None if inner is None else Value(tree.MakeResult(inner.expr, None, expected, loc), expected, inner.roots)
    if isinstance(expected, tree.TupleT) and isinstance(given.expr, tree.MakeRecord) and isinstance(ty, tree.TupleT):
        if len(ty.items) != len(expected.items):
            return None
        parts = [fit(Value(part, item), wanted, loc) for part, item, wanted in zip(given.expr.parts, ty.items, expected.items, strict=True)]
        if any(part is None for part in parts):
            return None
        return Value(tree.MakeRecord([part.expr for part in parts if part is not None], expected, loc), expected, given.roots)
    return None


def steps_after(given: Any, declared: Any) -> tuple[Step, ...]:
    """How a variable of type `declared` is narrowed when a value of type `given` has just been assigned to it."""
    if given == declared or given == types.NEVER:
        return ()
    if isinstance(declared, tree.OptionT):
        return (Step.NONE,) if given is types.NONE else (Step.SOME, *steps_after(given, declared.item))
    if isinstance(declared, tree.ResultT):
        if given == declared.error:
            return (Step.ERROR,)
        if given is types.NONE and isinstance(declared.item, tree.UnitT):
            return (Step.OK,)
        return (Step.OK, *steps_after(given, declared.item))
    return ()


def union(*values: Value) -> Roots:
    """All origins of several values."""
    found: Roots = NO_ROOTS
    for one in values:
        found |= one.roots
    return found


def sequence(ctx: Context, first: list[tree.Expr], last: tree.Expr, ty: Any, loc: tree.Loc) -> tree.Expr:
    """Evaluates `first` in order, for their effects and binds, then yields `last`."""
    if not first:
        return last
    whole = tree.TupleT((*(expr.ty for expr in first), ty))
    return tree.Part(tree.MakeRecord([*first, last], whole, loc), len(first), ty, loc)


def bind(ctx: Context, given: Value) -> tuple[tree.Expr, tree.Expr]:
    """An expression that evaluates and keeps the value, and one that reads it again. Constants and variables need no keeping."""
    if isinstance(given.expr, tree.Const):
        return given.expr, given.expr
    temporary = ctx.temporary(given.ty)
    loc = given.expr.loc
    return tree.Bind(temporary, given.expr, given.ty, loc), tree.Local(temporary, given.ty, loc)
