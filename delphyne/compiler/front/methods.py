# SPDX-License-Identifier: Apache-2.0
"""Methods of the language's own types: arrays, slices, structs, atomics and boot arrays."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import expressions, operands, references, types
from delphyne.compiler.front.context import Context, Entity, Method, Operand, Placed, Value
from delphyne.lang.atomics import Order

_ATOMICS = ("load", "store", "swap", "add", "sub", "or_", "and_", "xor", "compare_exchange")

NAMES: dict[type, tuple[str, ...]] = {
    tree.ArrayT: ("copy_from", "fill"),
    tree.SliceT: ("copy_from", "fill"),
    tree.StructT: ("copy_from",),
    tree.BitsT: ("replace",),
    tree.AtomicT: _ATOMICS,
    tree.BootArrayT: ("attach",),
}


def call(ctx: Context, method: Method, node: ast.Call) -> Operand:
    """Call of a method of the language."""
    if node.keywords and method.name not in _ATOMICS:
        ctx.fail(node.keywords[0].value, "E0208", f"`{method.name}` takes no keywords")
    receiver = method.receiver
    if isinstance(receiver.ty, tree.AtomicT):
        return _atomic(ctx, method, node)
    rule: Callable[[Context, Value | Placed, ast.Call], Operand] = {"copy_from": _copy_from, "fill": _fill, "attach": _attach}[method.name]
    return rule(ctx, receiver, node)


def _take(ctx: Context, node: ast.Call, name: str, count: int) -> None:
    if len(node.args) != count or node.keywords:
        ctx.fail(node, "E0208", f"`{name}` takes {count} argument{'s' if count != 1 else ''}")


def _written(ctx: Context, receiver: Value | Placed, node: ast.AST) -> None:
    """The receiver may be written."""
    if isinstance(receiver.ty, tree.SliceT) and not receiver.ty.writable:
        ctx.fail(node, "E0303", f"{types.show(receiver.ty)} is read only")
    references.check_write(ctx, receiver.roots, node)


def _copy_from(ctx: Context, receiver: Value | Placed, node: ast.Call) -> Operand:
    _take(ctx, node, "copy_from", 1)
    loc = ctx.loc(node)
    to = operands.value(ctx, receiver, node.func)
    if isinstance(receiver.ty, tree.SliceT):
        source = expressions.value(ctx, node.args[0], tree.SliceT(receiver.ty.item, False))
        _written(ctx, receiver, node)
        return Value(tree.Builtin("copy_slice", [to.expr, source.expr], types.UNIT, loc), types.UNIT)
    source = expressions.value(ctx, node.args[0], tree.RefT(receiver.ty))
    _written(ctx, receiver, node)
    return Value(tree.Builtin("copy_place", [to.expr, source.expr], types.UNIT, loc), types.UNIT)


def _fill(ctx: Context, receiver: Value | Placed, node: ast.Call) -> Operand:
    _take(ctx, node, "fill", 1)
    loc = ctx.loc(node)
    item = receiver.ty.item
    if types.is_place(item):
        ctx.fail(node, "E0302", f"{types.show(item)} is a place, and `fill` stores values")
    to = operands.value(ctx, receiver, node.func)
    if isinstance(receiver.ty, tree.ArrayT):
        whole = tree.SliceT(item, True)
        to = Value(tree.MakeSlice(to.expr, None, None, whole, loc), whole, to.roots)
    given = expressions.value(ctx, node.args[0], item)
    _written(ctx, receiver, node)
    return Value(tree.Builtin("fill_slice", [to.expr, given.expr], types.UNIT, loc), types.UNIT)


def _attach(ctx: Context, receiver: Value | Placed, node: ast.Call) -> Operand:
    _take(ctx, node, "attach", 2)
    if not ctx.function.meta.boot:
        ctx.fail(node, "E0405", f"`attach` belongs to boot, and `{ctx.function.node.name}` is no @boot function")
    to = operands.value(ctx, receiver, node.func)
    address = expressions.value(ctx, node.args[0], types.U64)
    length = expressions.value(ctx, node.args[1], types.U64)
    return Value(tree.Builtin("boot_attach", [to.expr, address.expr, length.expr], types.UNIT, ctx.loc(node)), types.UNIT)


_ALLOWED = {"load": ("relaxed", "acquire"), "store": ("relaxed", "release")}


def _order(ctx: Context, name: str, node: ast.expr) -> str:
    given = expressions.operand(ctx, node)
    if not isinstance(given, Entity) or not isinstance(given.obj, Order):
        ctx.fail(node, "E0208", "the last argument is the order: Order.RELAXED, Order.ACQUIRE, ..")
    order = str(given.obj.value)
    if order not in _ALLOWED.get(name, (order,)):
        ctx.fail(node, "E0208", f"`{name}` is {' or '.join(_ALLOWED[name])}, not {order}")
    return order


def _atomic(ctx: Context, method: Method, node: ast.Call) -> Operand:
    name = method.name
    bits = method.receiver.ty.bits
    count = {"load": 0, "compare_exchange": 2}.get(name, 1)
    parameters = {"load": ["order"], "compare_exchange": ["expected", "desired", "order"]}.get(name, ["value", "order"])
    given_nodes = list(node.args)
    for keyword in node.keywords:
        if len(given_nodes) >= len(parameters) or keyword.arg != parameters[len(given_nodes)]:
            ctx.fail(keyword.value, "E0208", f"`{name}` takes {', '.join(parameters)}")
        given_nodes.append(keyword.value)
    if len(given_nodes) != count + 1:
        ctx.fail(node, "E0208", f"`{name}` takes {', '.join(parameters)}")
    to = operands.value(ctx, method.receiver, node.func)
    word: Any = tree.IntT(bits)
    given = [expressions.value(ctx, argument, word).expr for argument in given_nodes[:count]]
    order = _order(ctx, name, given_nodes[count])
    if name != "load":
        references.check_write(ctx, method.receiver.roots, node)
    ty = types.UNIT if name == "store" else word
    return Value(tree.Builtin(f"atomic_{name.rstrip('_')}", [to.expr, *given], ty, ctx.loc(node), {"order": order}), ty)
