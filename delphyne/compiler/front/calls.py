# SPDX-License-Identifier: Apache-2.0
"""Calls: of functions and methods of the program, of classes, and of what the language itself offers."""

from __future__ import annotations

import ast
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import bits, diagnostics, expressions, hardware, hints, locks, methods, operands, primitives, references, types
from delphyne.compiler.front.context import Context, Entity, Method, Operand, Placed, Value
from delphyne.compiler.front.functions import FunctionInfo
from delphyne.compiler.front.library import integer_bits
from delphyne.compiler.front.records import Record
from delphyne.compiler.front.state import NO_ROOTS, RootKind, Roots
from delphyne.lang.arrays import ArrayOf
from delphyne.lang.hardware import SysReg
from delphyne.lang.meta import StaticKind
from delphyne.lang.statics import PerCpu


def call(ctx: Context, node: ast.Call) -> Operand:
    """Any call."""
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            raise ctx.fault(argument, "E0102", "`*` in a call")
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ctx.fault(keyword.value, "E0102", "`**` in a call")
    if isinstance(node.func, ast.Name) and node.func.id == "isinstance" and "isinstance" not in ctx.names:
        return expressions.rule_condition(ctx, node)
    if isinstance(node.func, ast.Attribute):
        base = expressions.operand(ctx, node.func.value)
        if isinstance(base, Entity):
            return _of_entity_attribute(ctx, base.obj, node.func, node)
        if isinstance(base, (Value, Placed)):
            found = expressions.member(ctx, base, node.func.attr, node.func)
            if isinstance(found, Method):
                return _of_method(ctx, found, node)
            raise ctx.fault(node.func, "E0214", f"`{node.func.attr}` is no method")
    func = expressions.operand(ctx, node.func)
    if not isinstance(func, Entity):
        raise ctx.fault(node.func, "E0214", f"`{ast.unparse(node.func)}` is not a function")
    return _of_entity(ctx, func.obj, node)


def _of_entity_attribute(ctx: Context, obj: Any, func: ast.Attribute, node: ast.Call) -> Operand:
    """`State.of(..)`, `u32.wrap(..)`, `frames.take(..)`, `HCR_EL2.read()`, `CPUS.mine()`."""
    if isinstance(obj, SysReg):
        return hardware.system_register(ctx, obj, func, node)
    if isinstance(obj, PerCpu):
        return _per_cpu(ctx, obj, func, node)
    if isinstance(obj, type):
        width = integer_bits(obj)
        if width is not None:
            return primitives.on_integer_class(ctx, width, func, node)
        record = _record(ctx, obj, func)
        if record is not None:
            found = ctx.builder.records.method(record, func.attr)
            if found is not None and found[0] == "static":
                return of_function(ctx, found[1], [], node)
            if func.attr == "of" and isinstance(record.ty, tree.EnumT):
                return bits.enum_of(ctx, record, node)
            if func.attr == "of" and isinstance(record.ty, tree.BitsT):
                return bits.bits_of(ctx, record, node)
        if issubclass(obj, ArrayOf):
            raise ctx.fault(node, "E0304", "an array with contents is built at module top level only")
        raise ctx.fault(func, "E0207", f"{getattr(obj, '__name__', obj)} has no static method `{func.attr}`")
    if not hasattr(obj, func.attr):
        raise ctx.fault(func, "E0207", f"`{ast.unparse(func.value)}` has no `{func.attr}`")
    found_object = operands.object_(ctx, getattr(obj, func.attr), func)
    if not isinstance(found_object, Entity):
        raise ctx.fault(func, "E0214", f"`{ast.unparse(func)}` is not a function")
    return _of_entity(ctx, found_object.obj, node)


def _record(ctx: Context, cls: type, node: ast.AST) -> Record | None:
    try:
        return ctx.builder.records.find(cls)
    except hints.NoType as problem:
        raise ctx.fault(node, "E0206", str(problem)) from None


def _of_entity(ctx: Context, obj: Any, node: ast.Call) -> Operand:
    width = integer_bits(obj)
    if width is not None:
        return primitives.convert(ctx, width, node)
    name = ctx.builder.primitives.name(obj)
    if name is not None and name in primitives.RULES:
        return primitives.RULES[name](ctx, node, name)
    if obj is min or obj is max:
        return primitives.RULES["min" if obj is min else "max"](ctx, node, "minimum" if obj is min else "maximum")
    if isinstance(obj, type):
        record = _record(ctx, obj, node)
        if record is not None:
            return _construct(ctx, record, node)
        if issubclass(obj, ArrayOf):
            raise ctx.fault(node, "E0304", f"{obj.__name__} is built inside an expression")
        raise ctx.fault(node.func, "E0214", f"`{obj.__name__}` cannot be built in a function")
    info = ctx.builder.function_of(obj)
    if info is not None:
        return of_function(ctx, info, [], node)
    shown = ast.unparse(node.func)
    raise ctx.fault(node.func, "E0214", f"`{shown}` cannot be called in a function of the language")


def _construct(ctx: Context, record: Record, node: ast.Call) -> Operand:
    match record.ty:
        case tree.BitsT():
            return bits.build(ctx, record, None, node)
        case tree.StructT():
            raise ctx.fault(node, "E0304", f"{types.show(record.ty)} is built inside an expression")
        case tree.EnumT():
            shown = types.show(record.ty)
            raise ctx.fault(node, "E0214", f"{shown} is not called", f"write `{shown}.of(raw)`, which gives None for what is no member")
    loc = ctx.loc(node)
    params = [(name, ty) for name, (_, ty) in record.fields.items()]
    if any(name.startswith("_") for name, _ in params) and record.cls.__module__ != ctx.function.module.name:
        raise ctx.fault(node, "E0214", f"{types.show(record.ty)} is built by its own module only")
    first, given = arguments(ctx, node, types.show(record.ty), params)
    made = tree.MakeRecord([one.expr for one in given], record.ty, loc)
    return Value(operands.sequence(ctx, first, made, record.ty, loc), record.ty)


def arguments(ctx: Context, node: ast.Call, callee: str, params: list[tuple[str, Any]]) -> tuple[list[tree.Expr], list[Value]]:
    """The arguments in the order of the parameters, and what must be evaluated before them where keywords are in another order."""
    written: list[tuple[int, ast.expr]] = []
    if len(node.args) > len(params):
        raise ctx.fault(node.args[len(params)], "E0208", f"`{callee}` takes {_count(len(params))}, and {len(node.args)} are given")
    for position, argument in enumerate(node.args):
        written.append((position, argument))
    names = [name for name, _ in params]
    for keyword in node.keywords:
        if keyword.arg not in names:
            raise ctx.fault(keyword.value, "E0208", f"`{callee}` has no parameter `{keyword.arg}`")
        position = names.index(keyword.arg)
        if any(position == other for other, _ in written):
            raise ctx.fault(keyword.value, "E0208", f"`{keyword.arg}` is given twice")
        written.append((position, keyword.value))
    if len(written) < len(params):
        missing = next(name for position, name in enumerate(names) if all(position != other for other, _ in written))
        raise ctx.fault(node, "E0208", f"`{callee}` takes {_count(len(params))}: `{missing}` is missing")
    in_order = [position for position, _ in written] == sorted(position for position, _ in written)
    first: list[tree.Expr] = []
    given: dict[int, Value] = {}
    for position, argument in written:
        one = expressions.value(ctx, argument, params[position][1])
        if not in_order and not isinstance(one.expr, tree.Const):
            keep, again = operands.bind(ctx, one)
            first.append(keep)
            one = Value(again, one.ty, one.roots)
        given[position] = one
    return first, [given[position] for position in range(len(params))]


def _count(number: int) -> str:
    return "no arguments" if number == 0 else "one argument" if number == 1 else f"{number} arguments"


def _argument_nodes(node: ast.Call, params: list[tuple[str, Any]]) -> list[ast.expr]:
    found: list[ast.expr] = list(node.args)
    for name, _ in params[len(node.args) :]:
        found.append(next(keyword.value for keyword in node.keywords if keyword.arg == name))
    return found


def of_function(ctx: Context, info: FunctionInfo, receiver: list[tuple[Value, ast.expr]], node: ast.Call) -> Operand:
    """Call of a function of the program; `receiver` is the evaluated self of a method."""
    if info.broken:
        raise diagnostics.Fault(None)
    rest = info.params[len(receiver) :]
    first, given = arguments(ctx, node, info.node.name, rest)
    values = [value for value, _ in receiver] + given
    nodes = [where for _, where in receiver] + _argument_nodes(node, rest)
    if first and receiver:
        keep, again = operands.bind(ctx, values[0])
        first.insert(0, keep)
        values[0] = Value(again, values[0].ty, values[0].roots)
    return finish(ctx, info, values, nodes, first, node)


def finish(ctx: Context, info: FunctionInfo, values: list[Value], nodes: list[ast.expr], first: list[tree.Expr], node: ast.expr) -> Operand:
    """The checks that a call needs, and its node."""
    ctx.builder.check_body(info, ctx, node)
    _check_callable(ctx, info, node)
    loc = ctx.loc(node)
    roots: Roots = NO_ROOTS
    for (name, _), one, where in zip(info.params, values, nodes, strict=True):
        if name in info.summary.writes:
            references.check_passed(ctx, one.roots, where, info.node.name, name, info.meta.boot)
    if types.carries(info.result):
        for root in info.summary.returns:
            if root.kind is RootKind.PARAMETER:
                for (name, _), one in zip(info.params, values, strict=True):
                    if name == root.name:
                        roots |= one.roots
            else:
                roots |= {root}
    made = tree.Call(info.symbol, [one.expr for one in values], info.result, loc)
    return operands.as_operand(Value(operands.sequence(ctx, first, made, info.result, loc), info.result, roots))


def _check_callable(ctx: Context, info: FunctionInfo, node: ast.AST) -> None:
    caller = ctx.function
    name = info.node.name
    if info.meta.boot and not (caller.meta.boot or caller.meta.entry is not None):
        raise ctx.fault(node, "E0406", f"`{name}` is a @boot function, and `{caller.node.name}` is neither one nor an @entry point")
    if info.meta.simd and not ctx.simd:
        raise ctx.fault(node, "E0603", f"`{name}` uses SIMD registers, which hold somebody else's values here")
    locks.check_call(ctx, info, node)


def of_property(ctx: Context, base: Value | Placed, info: FunctionInfo, node: ast.expr) -> Operand:
    """Read of a property."""
    if info.broken:
        raise diagnostics.Fault(None)
    return finish(ctx, info, [operands.value(ctx, base, node)], [node], [], node)


def of_operator(ctx: Context, info: FunctionInfo, left: Value, right: Value, node: ast.expr, right_node: ast.expr) -> Operand:
    """Call of an operator method on two evaluated operands."""
    if info.broken:
        raise diagnostics.Fault(None)
    if len(info.params) != 2:
        raise ctx.fault(node, "E0208", f"`{info.node.name}` does not take one operand")
    second = operands.coerce(ctx, right, info.params[1][1], right_node)
    return finish(ctx, info, [left, second], [node, right_node], [], node)


def _of_method(ctx: Context, method: Method, node: ast.Call) -> Operand:
    assert isinstance(node.func, ast.Attribute)
    receiver = method.receiver
    record = ctx.builder.records.of_type(receiver.ty)
    if record is not None:
        found = ctx.builder.records.method(record, method.name)
        if found is not None:
            given = [] if found[0] == "static" else [(operands.value(ctx, receiver, node.func.value), node.func.value)]
            return of_function(ctx, found[1], given, node)
        if method.name == "replace" and isinstance(record.ty, tree.BitsT):
            return bits.build(ctx, record, operands.value(ctx, receiver, node.func.value), node)
    return methods.call(ctx, method, node)


def _per_cpu(ctx: Context, obj: PerCpu[Any], func: ast.Attribute, node: ast.Call) -> Operand:
    """`CPUS.mine()`, `CPUS.of(i)` and `CPUS.length`."""
    static = ctx.builder.statics.find(obj)
    assert static is not None and static.kind is StaticKind.PER_CPU
    loc = ctx.loc(node)
    roots = ctx.builder.statics.roots(static)
    if func.attr == "mine" and not node.args and not node.keywords:
        return Placed(tree.MinePlace(static.symbol, static.ty.item, loc), static.ty.item, roots)
    if func.attr == "of" and len(node.args) == 1 and not node.keywords:
        if not ctx.function.meta.boot and not hardware.may_use_addresses(ctx):
            raise ctx.fault(node, "E0409", "`.of(i)` reaches another CPU's data outside @boot functions and the named modules")
        whole = tree.StaticPlace(static.symbol, static.ty, loc)
        return Placed(tree.IndexPlace(whole, expressions.index(ctx, node.args[0]).expr, static.ty.item, loc), static.ty.item, roots)
    raise ctx.fault(func, "E0207", f"per-CPU data has `.mine()` and `.of(i)`, not `{func.attr}`")
