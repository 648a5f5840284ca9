# SPDX-License-Identifier: Apache-2.0
"""System registers, barriers, addresses, MMIO and SIMD registers.

`may_use_addresses` is the one list of modules that may turn numbers into places.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import calls, expressions, hints, operands, references, types
from delphyne.compiler.front.context import Context, Entity, Operand, Placed, Value
from delphyne.lang.hardware import Domain, SysReg

ADDRESS_MODULES = (
    "delphyne.lang",
    "delphyne.board.guest",
    "delphyne.el2.arch.gic_tables",
    "delphyne.el2.arch.uart",
    "delphyne.el2.entry.cpus",
    "delphyne.el2.entry.farewell",
    "delphyne.el2.entry.firmware",
)
"""Modules and packages that may use `address_of`, `place_at`, `slice_at`, MMIO and another CPU's data: the language's own library, the
bare guest of tests and measurements, the devices that EL2 uses, and the code that starts CPUs."""


def may_use_addresses(ctx: Context) -> bool:
    """Whether the function's module is on the list."""
    name = ctx.function.module.name
    return any(name == allowed or name.startswith(allowed + ".") for allowed in ADDRESS_MODULES)


def _gate(ctx: Context, node: ast.AST, name: str) -> None:
    if not may_use_addresses(ctx):
        raise ctx.fault(node, "E0604", f"`{name}` reaches any memory, and `{ctx.function.module.name}` is not among the modules that may")


def _arguments(ctx: Context, node: ast.Call, name: str, count: int) -> list[ast.expr]:
    if len(node.args) != count or node.keywords:
        raise ctx.fault(node, "E0208", f"`{name}` takes {count} argument{'s' if count != 1 else ''} by position")
    return node.args


def system_register(ctx: Context, register: SysReg[Any], func: ast.Attribute, node: ast.Call) -> Operand:
    """`HCR_EL2.read()` and `HCR_EL2.write(v)`."""
    loc = ctx.loc(node)
    ty = hints.of_object(ctx.builder, register.kind)
    encoding = dict(zip(("op0", "op1", "crn", "crm", "op2"), register.encoding, strict=True))
    attrs: dict[str, int | str] = {"name": register.name, **encoding}
    if func.attr == "read":
        _arguments(ctx, node, "read", 0)
        raw: tree.Expr = tree.Builtin("sysreg_read", [], types.U64, loc, attrs)
        return Value(raw if ty == types.U64 else tree.Convert(tree.ConvertKind.RELABEL, raw, ty, loc), ty)
    if func.attr == "write":
        (argument,) = _arguments(ctx, node, "write", 1)
        given = expressions.value(ctx, argument, ty).expr
        word = given if ty == types.U64 else tree.Convert(tree.ConvertKind.RELABEL, given, types.U64, loc)
        return Value(tree.Builtin("sysreg_write", [word], types.UNIT, loc, attrs), types.UNIT)
    raise ctx.fault(func, "E0207", f"a system register has `read` and `write`, not `{func.attr}`")


def _barrier(ctx: Context, node: ast.Call, name: str) -> Operand:
    domain = "sy"
    if name == "isb":
        _arguments(ctx, node, name, 0)
    else:
        (argument,) = _arguments(ctx, node, name, 1)
        given = expressions.operand(ctx, argument)
        if not isinstance(given, Entity) or not isinstance(given.obj, Domain):
            raise ctx.fault(argument, "E0208", f"`{name}` takes a domain: `{name}(Domain.ISH)`")
        domain = str(given.obj.value)
    return Value(tree.Builtin("barrier", [], types.UNIT, ctx.loc(node), {"kind": name, "domain": domain}), types.UNIT)


def _address_of(ctx: Context, node: ast.Call, name: str) -> Operand:
    _gate(ctx, node, name)
    (argument,) = _arguments(ctx, node, name, 1)
    given = expressions.operand(ctx, argument)
    if not isinstance(given, Placed) or not types.is_place(given.ty):
        raise ctx.fault(argument, "E0201", "only statics and references have an address")
    loc = ctx.loc(node)
    reference = operands.value(ctx, given, argument)
    number = tree.Builtin("address_of", [reference.expr], types.U64, loc)
    va = hints.of_object(ctx.builder, ctx.builder.lang("Va"))
    return Value(tree.MakeRecord([number], va, loc), va)


def _place_at(ctx: Context, node: ast.Call, name: str) -> Operand:
    _gate(ctx, node, name)
    cls, address = _arguments(ctx, node, name, 2)
    target = hints.read(ctx.builder, ctx.file, cls, ctx.function.namespace)
    if not types.is_place(target):
        raise ctx.fault(cls, "E0201", f"{types.show(target)} does not live at a place")
    given = expressions.value(ctx, address, types.U64)
    ty = tree.RefT(target)
    return operands.as_operand(Value(tree.Builtin("place_at", [given.expr], ty, ctx.loc(node)), ty))


def _slice_at(ctx: Context, node: ast.Call, name: str) -> Operand:
    _gate(ctx, node, name)
    address, length = _arguments(ctx, node, name, 2)
    first, second = expressions.value(ctx, address, types.U64), expressions.value(ctx, length, types.U64)
    ty = tree.SliceT(types.U8, True)
    return Value(tree.Builtin("slice_at", [first.expr, second.expr], ty, ctx.loc(node)), ty)


def _mmio(ctx: Context, node: ast.Call, name: str) -> Operand:
    """An accessor in assembly, so that no compiler can turn it into a write-back or paired access."""
    _gate(ctx, node, name)
    return calls.of_function(ctx, ctx.builder.external(ctx.builder.lang(name)), [], node)


_VECTORS: dict[str, tuple[str, int]] = {
    "vxor": ("xor", 2),
    "vand": ("and", 2),
    "vor": ("or", 2),
    "vadd32": ("add32", 2),
    "vadd64": ("add64", 2),
    "aese": ("aese", 2),
    "aesd": ("aesd", 2),
    "aesmc": ("aesmc", 1),
    "aesimc": ("aesimc", 1),
    "sha256h": ("sha256h", 3),
    "sha256h2": ("sha256h2", 3),
    "sha256su0": ("sha256su0", 2),
    "sha256su1": ("sha256su1", 3),
    "vrev32": ("rev32_8", 1),
    "vext8": ("ext8", 2),
    "vdup_low": ("dup_low", 1),
}


def _in_simd(ctx: Context, node: ast.AST, name: str) -> None:
    if not ctx.function.meta.simd:
        raise ctx.fault(node, "E0605", f"`{name}` is a SIMD instruction, and `{ctx.function.node.name}` is not marked @simd")


def _vector(ctx: Context, node: ast.Call, name: str) -> Operand:
    _in_simd(ctx, node, name)
    op, count = _VECTORS[name]
    given = [expressions.value(ctx, argument, types.V128).expr for argument in _arguments(ctx, node, name, count)]
    return Value(tree.Builtin("v128_op", given, types.V128, ctx.loc(node), {"op": op}), types.V128)


def _v128_load(ctx: Context, node: ast.Call, name: str) -> Operand:
    _in_simd(ctx, node, name)
    source, offset = _arguments(ctx, node, name, 2)
    whole, at = expressions.value(ctx, source, types.BYTES), expressions.index(ctx, offset)
    return Value(tree.Builtin(name, [whole.expr, at.expr], types.V128, ctx.loc(node)), types.V128)


def _v128_store(ctx: Context, node: ast.Call, name: str) -> Operand:
    _in_simd(ctx, node, name)
    target, offset, value = _arguments(ctx, node, name, 3)
    whole, at = expressions.value(ctx, target, tree.SliceT(types.U8, True)), expressions.index(ctx, offset)
    given = expressions.value(ctx, value, types.V128)
    references.check_write(ctx, whole.roots, target)
    return Value(tree.Builtin(name, [whole.expr, at.expr, given.expr], types.UNIT, ctx.loc(node)), types.UNIT)


def _v128_from(ctx: Context, node: ast.Call, name: str) -> Operand:
    _in_simd(ctx, node, name)
    low, high = (expressions.value(ctx, argument, types.U64) for argument in _arguments(ctx, node, name, 2))
    return Value(tree.Builtin(name, [low.expr, high.expr], types.V128, ctx.loc(node)), types.V128)


def _v128_lane(ctx: Context, node: ast.Call, name: str) -> Operand:
    _in_simd(ctx, node, name)
    (argument,) = _arguments(ctx, node, name, 1)
    given = expressions.value(ctx, argument, types.V128)
    return Value(tree.Builtin("v128_lane", [given.expr], types.U64, ctx.loc(node), {"lane": int(name == "v128_high")}), types.U64)


def _only_in_with(ctx: Context, node: ast.Call, name: str) -> Operand:
    raise ctx.fault(node, "E0112", f"`{name}(..)` stands only in a `with`")


def rules() -> dict[str, Callable[[Context, ast.Call, str], Operand]]:
    """The primitives of this module."""
    found: dict[str, Callable[[Context, ast.Call, str], Operand]] = {
        "address_of": _address_of,
        "dmb": _barrier,
        "dsb": _barrier,
        "isb": _barrier,
        "owned": _only_in_with,
        "place_at": _place_at,
        "simd": _only_in_with,
        "simd_enter": _only_in_with,
        "simd_leave": _only_in_with,
        "slice_at": _slice_at,
        "v128_from_u64": _v128_from,
        "v128_high": _v128_lane,
        "v128_load": _v128_load,
        "v128_low": _v128_lane,
        "v128_store": _v128_store,
    }
    for name in _VECTORS:
        found[name] = _vector
    for bits in (8, 32, 64):
        found[f"mmio_read{bits}"] = found[f"mmio_write{bits}"] = _mmio
    return found
