# SPDX-License-Identifier: Apache-2.0
"""Log messages: an f-string becomes a number, which the reader turns into text again, and at most six arguments."""

from __future__ import annotations

import ast
import re
import sys

from delphyne.compiler import tree
from delphyne.compiler.front import bits, calls, diagnostics, expressions, operands, types
from delphyne.compiler.front.context import Context, Operand, Value

RECORDER = "delphyne.el2.control.log"
"""The module whose `record(level, number, count, a0, .., a5)` keeps messages."""
MOST = 6
_SPEC = re.compile(r"#?(0?[1-9][0-9]?)?[xd]?")


def log(ctx: Context, node: ast.Call, name: str) -> Operand:
    """`log(Level.INFO, f"..")`."""
    if len(node.args) != 2 or node.keywords:
        raise ctx.fault(node, "E0220", "`log` takes a level and a message")
    level = expressions.value(ctx, node.args[0])
    level = operands.coerce(ctx, level, ctx.builder.type_of(ctx.builder.lang("Level")), node.args[0])
    text, given = _message(ctx, node.args[1])
    if len(given) > MOST:
        raise ctx.fault(node.args[1], "E0220", f"the message has {len(given)} arguments, and {MOST} is the most")
    loc = ctx.loc(node)
    module = sys.modules.get(RECORDER)
    recorder = getattr(module, "record", None)
    info = ctx.builder.function_of(recorder) if recorder is not None else None
    if info is None:
        return Value(_evaluated(given, loc), types.UNIT)
    if info.broken:
        raise diagnostics.Fault(None)
    number = ctx.builder.format(text, loc)
    zero = tree.Const(0, types.U64, loc)
    numbers = [Value(tree.Const(number, types.U32, loc), types.U32), Value(tree.Const(len(given), types.U32, loc), types.U32)]
    rest = [Value(expr, types.U64) for expr in [*given, *([zero] * (MOST - len(given)))]]
    values = [level, *numbers, *rest]
    if len(info.params) != len(values):
        raise ctx.fault(node, "E0208", f"`{RECORDER}.record` does not take {len(values)} arguments")
    fitted = [operands.coerce(ctx, value, ty, node) for value, (_, ty) in zip(values, info.params, strict=True)]
    return calls.finish(ctx, info, fitted, [node] * len(fitted), [], node)


def _evaluated(given: list[tree.Expr], loc: tree.Loc) -> tree.Expr:
    """The arguments of a message that nobody keeps: what they do, they do."""
    if all(isinstance(one, tree.Const) for one in given):
        return tree.Const(0, types.UNIT, loc)
    return tree.MakeRecord(given, tree.TupleT(tuple(one.ty for one in given)), loc)


def _message(ctx: Context, node: ast.expr) -> tuple[str, list[tree.Expr]]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _escape(node.value), []
    if not isinstance(node, ast.JoinedStr):
        raise ctx.fault(node, "E0220", "the message is an f-string or a string in quotes")
    text, given = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += _escape(str(part.value))
            continue
        assert isinstance(part, ast.FormattedValue)
        spec = _spec(ctx, part)
        value = expressions.value(ctx, part.value)
        given.append(_number(ctx, value, part.value))
        text += "{" + (":" + spec if spec else "") + "}"
    return text, given


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _spec(ctx: Context, part: ast.FormattedValue) -> str:
    if part.conversion != -1:
        raise ctx.fault(part.value, "E0220", "`!` in a message")
    if part.format_spec is None:
        return ""
    texts = part.format_spec.values if isinstance(part.format_spec, ast.JoinedStr) else []
    spec = "".join(str(item.value) for item in texts if isinstance(item, ast.Constant))
    if any(not isinstance(item, ast.Constant) for item in texts) or not _SPEC.fullmatch(spec):
        raise ctx.fault(part.value, "E0220", f"the format `{spec}` is not one of {{x}}, {{x:x}}, {{x:#x}}, {{x:08x}}")
    return spec


def _number(ctx: Context, value: Value, node: ast.expr) -> tree.Expr:
    """An argument as the u64 that is kept."""
    loc = ctx.loc(node)
    match value.ty:
        case tree.IntT(bits=width):
            return bits.resize(value.expr, width, 64, loc)
        case tree.BoolT():
            return tree.Convert(tree.ConvertKind.FROM_BOOL, value.expr, types.U64, loc)
        case tree.EnumT(bits=width) | tree.BitsT(bits=width):
            return bits.resize(bits.relabel(value.expr, tree.IntT(width), loc), width, 64, loc)
        case tree.ValueT(fields=((("raw", tree.IntT(bits=64))),)):
            return tree.Part(value.expr, 0, types.U64, loc)
        case types.SecretT():
            raise ctx.fault(node, "E0601", "a message would show a secret")
    raise ctx.fault(node, "E0220", f"{types.show(value.ty)} in a message: only integers, bools, enums and addresses")
