# SPDX-License-Identifier: Apache-2.0
"""What the language offers by name: conversions, arithmetic by name, bytes, secrets. Hardware is in `hardware`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, expressions, messages, operands, references, types
from delphyne.compiler.front.context import Context, Literal, Operand, Value

Rule = Callable[[Context, ast.Call, str], Operand]


def plain_arguments(ctx: Context, node: ast.Call, name: str, count: int) -> list[ast.expr]:
    """Exactly `count` arguments by position."""
    if len(node.args) != count or node.keywords:
        raise ctx.fault(node, "E0208", f"`{name}` takes {count} argument{'s' if count != 1 else ''} by position")
    return node.args


def convert(ctx: Context, width: int, node: ast.Call) -> Operand:
    """`u64(x)`."""
    ty = tree.IntT(width)
    (argument,) = plain_arguments(ctx, node, types.show(ty), 1)
    given = expressions.operand(ctx, argument)
    loc = ctx.loc(node)
    if isinstance(given, Literal):
        return operands.constant(ctx, given.value, ty, argument)
    found = operands.value(ctx, given, argument)
    match found.ty:
        case tree.IntT(bits=bits):
            if bits == width:
                return found
            if isinstance(found.expr, tree.Const) and found.expr.value < 1 << width:
                return Value(tree.Const(found.expr.value, ty, loc), ty)
            kind = tree.ConvertKind.WIDEN if bits < width else tree.ConvertKind.NARROW
            return Value(tree.Convert(kind, found.expr, ty, loc), ty)
        case tree.BoolT():
            return Value(tree.Convert(tree.ConvertKind.FROM_BOOL, found.expr, ty, loc), ty)
    raise _no_number(ctx, found.ty, types.show(ty), argument)


def _no_number(ctx: Context, ty: Any, target: str, node: ast.expr) -> diagnostics.Fault:
    match ty:
        case tree.EnumT() | tree.BitsT():
            return ctx.fault(node, "E0201", f"{types.show(ty)} is no integer", f"take its number: `{target}({ast.unparse(node)}.raw)`")
        case types.SecretT():
            return ctx.fault(node, "E0602", "a conversion of a secret could trap")
        case tree.OptionT():
            return ctx.fault(node, "E0501", f"this may be None: {types.show(ty)}")
        case tree.ResultT():
            return ctx.fault(node, "E0502", f"this may be an error: {types.show(ty)}")
    return ctx.fault(node, "E0201", f"{types.show(ty)} is no integer", "take a number out of it, such as `.raw`")


def on_integer_class(ctx: Context, width: int, func: ast.Attribute, node: ast.Call) -> Operand:
    """`u32.wrap(x)`; `u64.range` belongs to `for`."""
    ty = tree.IntT(width)
    if func.attr == "range":
        raise ctx.fault(node, "E0107", f"`{types.show(ty)}.range` stands only in `for`")
    if func.attr != "wrap":
        raise ctx.fault(func, "E0207", f"{types.show(ty)} has no `{func.attr}`")
    (argument,) = plain_arguments(ctx, node, f"{types.show(ty)}.wrap", 1)
    found = expressions.value(ctx, argument)
    if not isinstance(found.ty, tree.IntT):
        raise _no_number(ctx, found.ty, f"{types.show(ty)}.wrap", argument)
    if found.ty.bits == width:
        return found
    assert isinstance(found.ty, tree.IntT)
    kind = tree.ConvertKind.WIDEN if found.ty.bits < width else tree.ConvertKind.TRUNCATE
    return Value(tree.Convert(kind, found.expr, ty, ctx.loc(node)), ty)


def _pair(ctx: Context, node: ast.Call, name: str) -> tuple[Value, Value]:
    """Two operands of one width, of which one may be a literal."""
    left_node, right_node = plain_arguments(ctx, node, name, 2)
    left, right = expressions.operand(ctx, left_node), expressions.operand(ctx, right_node)
    if isinstance(left, Literal):
        second = operands.value(ctx, right, right_node)
        return operands.constant(ctx, left.value, second.ty, left_node), second
    first = operands.value(ctx, left, left_node)
    if isinstance(right, Literal):
        return first, operands.constant(ctx, right.value, first.ty, right_node)
    return first, operands.value(ctx, right, right_node)


def _integers(ctx: Context, node: ast.Call, name: str, pair: tuple[Value, Value] | None = None) -> tuple[Value, Value, tree.IntT]:
    left, right = pair or _pair(ctx, node, name)
    for side, where in ((left, node.args[0]), (right, node.args[1])):
        if isinstance(side.ty, types.SecretT):
            raise ctx.fault(where, "E0601", f"`{name}` of a secret would show it")
        if not isinstance(side.ty, tree.IntT):
            raise _no_number(ctx, side.ty, name, where)
    if left.ty != right.ty:
        raise ctx.fault(node, "E0202", f"`{name}` of {types.show(left.ty)} and {types.show(right.ty)}")
    return left, right, left.ty


def _wrapping(ctx: Context, node: ast.Call, name: str) -> Operand:
    op = tree.BinOp(name)
    left, right = _pair(ctx, node, name)
    loc = ctx.loc(node)
    if op is tree.BinOp.WRAP_ADD and any(isinstance(side.ty, types.SecretT) for side in (left, right)):
        widths = [side.ty.item if isinstance(side.ty, types.SecretT) else side.ty for side in (left, right)]
        if widths[0] != widths[1]:
            raise ctx.fault(node, "E0202", f"`{name}` of {types.show(left.ty)} and {types.show(right.ty)}")
        secret: Any = types.SecretT(widths[0])
        return Value(tree.Binary(op, left.expr, right.expr, secret, loc), secret)
    left, right, ty = _integers(ctx, node, name, (left, right))
    return Value(tree.Binary(op, left.expr, right.expr, ty, loc), ty)


def _checked(ctx: Context, node: ast.Call, name: str) -> Operand:
    left, right, ty = _integers(ctx, node, name)
    option = tree.OptionT(ty)
    return Value(tree.Builtin(name, [left.expr, right.expr], option, ctx.loc(node)), option)


def _two(ctx: Context, node: ast.Call, name: str) -> Operand:
    left, right, ty = _integers(ctx, node, name)
    return Value(tree.Builtin(name, [left.expr, right.expr], ty, ctx.loc(node)), ty)


def _rotate(ctx: Context, node: ast.Call, name: str) -> Operand:
    left, right = _pair(ctx, node, name)
    if isinstance(right.ty, types.SecretT):
        raise ctx.fault(node.args[1], "E0601", "a secret amount of a rotation")
    if isinstance(left.ty, types.SecretT):
        if right.ty != left.ty.item:
            raise ctx.fault(node, "E0202", f"`{name}` of {types.show(left.ty)} by {types.show(right.ty)}")
        secret: Any = left.ty
        return Value(tree.Builtin(name, [left.expr, right.expr], secret, ctx.loc(node)), secret)
    left, right, ty = _integers(ctx, node, name, (left, right))
    return Value(tree.Builtin(name, [left.expr, right.expr], ty, ctx.loc(node)), ty)


def _one(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    found = expressions.value(ctx, argument)
    if isinstance(found.ty, types.SecretT):
        raise ctx.fault(argument, "E0601", f"`{name}` of a secret")
    if not isinstance(found.ty, tree.IntT):
        raise _no_number(ctx, found.ty, name, argument)
    if name == "byte_swap" and found.ty == types.U8:
        raise ctx.fault(argument, "E0209", "a u8 has one byte")
    return Value(tree.Builtin(name, [found.expr], found.ty, ctx.loc(node)), found.ty)


def _sign_extend(ctx: Context, node: ast.Call, name: str) -> Operand:
    argument, count = plain_arguments(ctx, node, name, 2)
    found = expressions.value(ctx, argument)
    if not isinstance(found.ty, tree.IntT):
        raise _no_number(ctx, found.ty, name, argument)
    assert isinstance(found.ty, tree.IntT)
    bits = expressions.operand(ctx, count)
    if not isinstance(bits, Literal) or not 0 < bits.value <= found.ty.bits:
        raise ctx.fault(count, "E0208", f"the number of bits is a literal from 1 to {found.ty.bits}")
    return Value(tree.Builtin(name, [found.expr], found.ty, ctx.loc(node), {"from_bits": bits.value}), found.ty)


def _load(ctx: Context, node: ast.Call, name: str) -> Operand:
    source, offset = plain_arguments(ctx, node, name, 2)
    ty = tree.IntT(int(name[-2:]))
    whole = expressions.value(ctx, source, types.BYTES)
    at = expressions.index(ctx, offset)
    attrs: dict[str, int | str] = {"bits": ty.bits, "big": int("_be" in name)}
    return Value(tree.Builtin("load_bytes", [whole.expr, at.expr], ty, ctx.loc(node), attrs), ty)


def _store(ctx: Context, node: ast.Call, name: str) -> Operand:
    target, offset, value = plain_arguments(ctx, node, name, 3)
    ty = tree.IntT(int(name[-2:]))
    whole = expressions.value(ctx, target, tree.SliceT(types.U8, True))
    at = expressions.index(ctx, offset)
    given = expressions.value(ctx, value, ty)
    references.check_write(ctx, whole.roots, target)
    attrs: dict[str, int | str] = {"bits": ty.bits, "big": int("_be" in name)}
    return Value(tree.Builtin("store_bytes", [whole.expr, at.expr, given.expr], types.UNIT, ctx.loc(node), attrs), types.UNIT)


def _text(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    if not isinstance(argument, ast.Constant) or not isinstance(argument.value, bytes):
        raise ctx.fault(argument, "E0208", "`text` takes a byte string in quotes: `text(b'..')`")
    return Value(tree.ConstBytes(argument.value, types.BYTES, ctx.loc(node)), types.BYTES)


def _unreachable(ctx: Context, node: ast.Call, name: str) -> Operand:
    raise ctx.fault(node, "E0102", "`unreachable()` stands as a statement of its own")


def _secret(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    found = expressions.value(ctx, argument)
    if not isinstance(found.ty, tree.IntT):
        raise _no_number(ctx, found.ty, name, argument)
    assert isinstance(found.ty, tree.IntT)
    ctx.builder.secrets = True
    return Value(found.expr, types.SecretT(found.ty))


def _declassify(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    found = expressions.value(ctx, argument)
    if not isinstance(found.ty, types.SecretT):
        raise ctx.fault(argument, "E0201", f"{types.show(found.ty)} is no secret")
    return Value(found.expr, found.ty.item)


def _secret_equal(ctx: Context, node: ast.Call, name: str) -> Operand:
    given = []
    for argument in plain_arguments(ctx, node, name, 2):
        found = expressions.value(ctx, argument)
        item = found.ty.item if isinstance(found.ty, tree.SliceT) else None
        if item not in (types.U8, types.SecretT(types.U8)):
            raise ctx.fault(argument, "E0201", f"this is {types.show(found.ty)}, and `{name}` compares slices of bytes")
        given.append(found.expr)
    symbol = ctx.builder.runtime(name, ctx, node)
    return Value(tree.Call(symbol, given, types.BOOL, ctx.loc(node)), types.BOOL)


def _wipe(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    found = expressions.value(ctx, argument)
    if not isinstance(found.ty, (tree.RefT, tree.SliceT)) or isinstance(getattr(found.ty, "target", None), tree.LockT):
        raise ctx.fault(argument, "E0201", f"{types.show(found.ty)} is no place that can be wiped")
    if isinstance(found.ty, tree.SliceT) and not found.ty.writable:
        raise ctx.fault(argument, "E0303", f"{types.show(found.ty)} is read only")
    references.check_write(ctx, found.roots, argument)
    return Value(tree.Builtin("wipe", [found.expr], types.UNIT, ctx.loc(node)), types.UNIT)


def _nospec(ctx: Context, node: ast.Call, name: str) -> Operand:
    index, limit = plain_arguments(ctx, node, name, 2)
    first, second = expressions.value(ctx, index, types.U64), expressions.value(ctx, limit, types.U64)
    return Value(tree.Builtin(name, [first.expr, second.expr], types.U64, ctx.loc(node)), types.U64)


RULES: dict[str, Rule] = {}
"""The primitives by the name under which `delphyne.lang` exports them (see `subset`)."""


def _log_format(ctx: Context, node: ast.Call, name: str) -> Operand:
    (argument,) = plain_arguments(ctx, node, name, 1)
    number = expressions.value(ctx, argument, types.U64)
    option = tree.OptionT(types.BYTES)
    return Value(tree.Builtin(name, [number.expr], option, ctx.loc(node)), option)


def rules() -> dict[str, Rule]:
    """The primitives of this module."""
    found: dict[str, Rule] = {
        "byte_swap": _one,
        "count_leading_zeros": _one,
        "count_trailing_zeros": _one,
        "declassify": _declassify,
        "log": messages.log,
        "log_format": _log_format,
        "max": _two,
        "min": _two,
        "nospec": _nospec,
        "rotate_left": _rotate,
        "rotate_right": _rotate,
        "secret": _secret,
        "secret_equal": _secret_equal,
        "sign_extend": _sign_extend,
        "text": _text,
        "unreachable": _unreachable,
        "wipe": _wipe,
    }
    for name in ("add", "sub", "mul"):
        found[f"wrap_{name}"] = _wrapping
        found[f"checked_{name}"] = _checked
    for order in ("be", "le"):
        for bits in (16, 32, 64):
            found[f"load_{order}{bits}"] = _load
            found[f"store_{order}{bits}"] = _store
    return found
