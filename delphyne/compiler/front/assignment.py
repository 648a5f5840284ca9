# SPDX-License-Identifier: Apache-2.0
"""Assignments: to variables, fields and elements, of places that are built, and of tuples taken apart."""

from __future__ import annotations

import ast
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import arithmetic, expressions, functions, operands, references, types
from delphyne.compiler.front.context import Context, Entity, Literal, Placed, Value
from delphyne.compiler.front.state import NO_ROOTS, Known, Root, RootKind

Stmts = list[tree.Stmt]


def poison(ctx: Context, name: str) -> None:
    """The variable holds something unknown; it is not reported again."""
    ctx.declared[name] = types.POISON if name not in ctx.declared else ctx.declared[name]
    ctx.assign_state(name, Known())


def assign(ctx: Context, node: ast.Assign) -> Stmts:
    """`target = value`."""
    if len(node.targets) != 1:
        ctx.fail(node, "E0106", "two targets of one assignment", "write two assignments")
    target = node.targets[0]
    if isinstance(target, (ast.Tuple, ast.List)):
        return _take_apart(ctx, target, node.value)
    if isinstance(target, ast.Name):
        built = _built(ctx, node.value)
        if built is not None:
            return _build(ctx, target, built, None, node)
        declared = ctx.declared.get(target.id)
        value = _value(ctx, node.value, declared)
        return set_variable(ctx, target, value, node.value)
    place = _target(ctx, target)
    value = expressions.value(ctx, node.value, place.ty)
    return [tree.Store(value.expr, place.place, ctx.loc(node))]


def _value(ctx: Context, node: ast.expr, declared: Any) -> Value:
    """The value for a variable; a tuple or a choice is built of the declared types."""
    if (isinstance(declared, tree.TupleT) and isinstance(node, ast.Tuple)) or (isinstance(node, ast.IfExp) and declared not in (None, types.POISON)):
        return expressions.value(ctx, node, declared)
    return expressions.value(ctx, node)


def annotated(ctx: Context, node: ast.AnnAssign) -> Stmts:
    """`name: T = value`, and `name: T` on its own."""
    if not isinstance(node.target, ast.Name):
        ctx.fail(node.target, "E0106", "only a variable is annotated")
    ty = functions.variable_type(ctx.builder, ctx.function, node.annotation)
    known = ctx.declared.get(node.target.id)
    if known is not None and known is not types.POISON and known != ty:
        ctx.fail(node, "E0211", f"`{node.target.id}` is {types.show(known)} already")
    _check_variable_type(ctx, ty, node.annotation)
    if node.value is None:
        _declare(ctx, node.target, ty)
        return []
    built = _built(ctx, node.value)
    if built is not None:
        return _build(ctx, node.target, built, ty, node)
    given = _value(ctx, node.value, ty)
    _declare(ctx, node.target, ty)
    return set_variable(ctx, node.target, given, node.value)


def _check_variable_type(ctx: Context, ty: Any, node: ast.AST) -> None:
    if isinstance(ty, (tree.UnitT, tree.NeverT)) or ty is types.NONE:
        ctx.fail(node, "E0201", f"a variable of type {types.show(ty)}", "annotate it: `x: T | None = None`" if ty is types.NONE else "")
    if ty is types.V128 and not ctx.function.meta.simd:
        ctx.fail(node, "E0605", f"`{ctx.function.node.name}` is not marked @simd")


def _declare(ctx: Context, target: ast.Name, ty: Any) -> None:
    if ctx.declared.get(target.id) in (None, types.POISON):
        ctx.declared[target.id] = ty
        ctx.locals[target.id] = ty


def set_variable(ctx: Context, target: ast.Name, given: Value, node: ast.expr) -> Stmts:
    """A variable takes a value; its first assignment decides its type."""
    name = target.id
    declared = ctx.declared.get(name)
    if declared is types.POISON:
        ctx.assign_state(name, Known())
        return []
    if declared is None:
        _check_variable_type(ctx, given.ty, node)
        _declare(ctx, target, given.ty)
        declared = given.ty
    if name in ctx.slots:
        ctx.fail(node, "E0211", f"`{name}` is a place that was built here; assigning would make it refer to another", "use a second variable, or `copy_from`")
    fitted = operands.fit(given, declared, ctx.loc(node))
    if fitted is None:
        if isinstance(declared, tree.IntT) and isinstance(given.ty, tree.IntT):
            operands.coerce(ctx, given, declared, node)
        ctx.fail(node, "E0211", f"`{name}` is {types.show(declared)}, and this is {types.show(given.ty)}")
    roots = given.roots if types.carries(declared) else NO_ROOTS
    ctx.assign_state(name, Known(operands.steps_after(given.ty, declared), roots))
    return [tree.SetLocal(name, fitted.expr, ctx.loc(target))]


def _built(ctx: Context, node: ast.expr) -> Any:
    """The struct or array type that `Vm()` or `Array[u32, 4]()` builds; None for any other expression."""
    if not isinstance(node, ast.Call) or node.args or node.keywords or not isinstance(node.func, (ast.Name, ast.Attribute, ast.Subscript)):
        return None
    base = node.func
    while isinstance(base, (ast.Attribute, ast.Subscript)):
        base = base.value  # type: ignore[assignment]
    if not isinstance(base, ast.Name) or base.id in ctx.names:
        return None
    if isinstance(node.func, ast.Attribute) and not isinstance(expressions.operand(ctx, node.func.value), Entity):
        return None
    found = expressions.operand(ctx, node.func)
    if not isinstance(found, Entity) or not isinstance(found.obj, type):
        return None
    ty = ctx.builder.type_of(found.obj)
    return ty if isinstance(ty, (tree.StructT, tree.ArrayT, tree.AtomicT)) else None


def _build(ctx: Context, target: ast.Name, ty: Any, annotated_type: Any, node: ast.stmt) -> Stmts:
    """`x = Vm()`: the place is a slot of its own, all zero. A variable that is never anything else is the slot itself."""
    name, loc = target.id, ctx.loc(node)
    reference = tree.RefT(ty)
    declared = annotated_type or ctx.declared.get(name)
    if name in ctx.single_slots and (declared is None or declared == reference):
        references.check_rebuilt(ctx, name, name, node)
        ctx.declared[name], ctx.locals[name] = reference, ty
        ctx.slots.add(name)
        ctx.assign_state(name, Known((), frozenset({Root(RootKind.LOCAL, name)})))
        return [tree.ZeroLocal(name, loc)]
    slot = f"{name}.{node.lineno}"
    references.check_rebuilt(ctx, slot, name, node)
    ctx.locals[slot] = ty
    made = Value(tree.AddrOf(tree.LocalPlace(slot, ty, loc), reference, loc), reference, frozenset({Root(RootKind.LOCAL, slot)}))
    if annotated_type is not None:
        _declare(ctx, target, annotated_type)
    return [tree.ZeroLocal(slot, loc), *set_variable(ctx, target, made, getattr(node, "value", target))]


def _target(ctx: Context, node: ast.expr) -> Placed:
    """The place that is assigned: a field or element that may be written and holds a value."""
    if isinstance(node, ast.Starred):
        ctx.fail(node, "E0106", "`*` in an assignment")
    if not isinstance(node, (ast.Attribute, ast.Subscript)):
        ctx.fail(node, "E0106", f"`{ast.unparse(node)}` cannot be assigned")
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
        ctx.fail(node, "E0106", "a slice is not assigned", "use `a[lo:hi].copy_from(..)` or `.fill(..)`")
    base = expressions.operand(ctx, node.value)
    if isinstance(base, Entity):
        ctx.fail(node, "E0408", f"`{ast.unparse(node)}` belongs to a module or class")
    if isinstance(base, (Value, Placed)):
        if isinstance(base.ty, (tree.ValueT, tree.BitsT, tree.EnumT, tree.TupleT)):
            more = " with `.replace(..)`" if isinstance(base.ty, tree.BitsT) else ""
            ctx.fail(node, "E0217", f"{types.show(base.ty)} is a value and does not change", f"build a new one{more}")
        if isinstance(base.ty, tree.SliceT) and not base.ty.writable:
            ctx.fail(node, "E0303", f"{types.show(base.ty)} is read only")
    found = expressions.operand(ctx, node)
    if not isinstance(found, Placed):
        ctx.fail(node, "E0106", f"`{ast.unparse(node)}` is no place that can be assigned")
    if types.is_place(found.ty):
        ctx.fail(node, "E0302", f"{types.show(found.ty)} is a place: it is not assigned, its contents are copied")
    references.check_write(ctx, found.roots, node)
    return found


def augmented(ctx: Context, node: ast.AugAssign) -> Stmts:
    """`target op= value`."""
    if not isinstance(node.target, ast.Name):
        return arithmetic.augmented(ctx, node, _target(ctx, node.target))
    target = ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target)
    if target.id not in ctx.declared and target.id not in ctx.known():
        ctx.fail(node.target, "E0212", f"`{target.id}` is not assigned before this")
    whole = ast.copy_location(ast.BinOp(target, node.op, node.value), node)
    made = arithmetic.binary(ctx, whole)
    if isinstance(made, Literal):
        ctx.fail(node, "E0203", "two literals")
    return set_variable(ctx, node.target, operands.value(ctx, made, node), node.value)


def _take_apart(ctx: Context, target: ast.Tuple | ast.List, node: ast.expr) -> Stmts:
    """`a, b = f()`: the whole is evaluated first, then the targets from left to right."""
    loc = ctx.loc(node)
    given = expressions.value(ctx, node)
    if not isinstance(given.ty, tree.TupleT):
        code = "E0501" if isinstance(given.ty, tree.OptionT) else "E0502" if isinstance(given.ty, tree.ResultT) else "E0106"
        ctx.fail(node, code, f"this is {types.show(given.ty)}, not a tuple")
    if len(given.ty.items) != len(target.elts):
        ctx.fail(target, "E0106", f"{len(target.elts)} targets for {len(given.ty.items)} items")
    temporary = ctx.temporary(given.ty)
    made: Stmts = [tree.SetLocal(temporary, given.expr, loc)]
    whole = tree.Local(temporary, given.ty, loc)
    for position, (element, ty) in enumerate(zip(target.elts, given.ty.items)):
        part = Value(tree.Part(whole, position, ty, loc), ty, given.roots if types.carries(ty) else NO_ROOTS)
        if isinstance(element, ast.Name):
            made += set_variable(ctx, element, part, node)
        else:
            place = _target(ctx, element)
            made.append(tree.Store(operands.coerce(ctx, part, place.ty, node).expr, place.place, loc))
    return made
