# SPDX-License-Identifier: Apache-2.0
"""Short names for building typed trees by hand, so that the back end is tested without the front end."""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.tree import BinOp, CmpOp, Expr, Loc, Place, Stmt, Type

LOC = Loc("room.py", 7, 4, 7, 20)
U8, U16, U32, U64, BOOL, UNIT = tree.IntT(8), tree.IntT(16), tree.IntT(32), tree.IntT(64), tree.BoolT(), tree.UnitT()
BYTES = tree.SliceT(U8, True)


def at(line: int) -> Loc:
    """A place in the pretended source file."""
    return Loc("room.py", line, 4, line, 20)


def const(value: int, ty: Type = U64) -> tree.Const:
    return tree.Const(value, ty, LOC)


def local(name: str, ty: Type = U64) -> tree.Local:
    return tree.Local(name, ty, LOC)


def binary(op: BinOp, left: Expr, right: Expr, loc: Loc = LOC) -> tree.Binary:
    return tree.Binary(op, left, right, left.ty, loc)


def add(left: Expr, right: Expr) -> tree.Binary:
    return binary(BinOp.ADD, left, right)


def compare(op: CmpOp, left: Expr, right: Expr) -> tree.Compare:
    return tree.Compare(op, left, right, BOOL, LOC)


def builtin(primitive: str, args: list[Expr], ty: Type = UNIT, /, **attrs: int | str) -> tree.Builtin:
    return tree.Builtin(primitive, args, ty, LOC, attrs)


def call(symbol: str, args: list[Expr], ty: Type = U64, loc: Loc = LOC) -> tree.Call:
    return tree.Call(symbol, args, ty, loc)


def deref(name: str, target: Type) -> tree.DerefPlace:
    return tree.DerefPlace(tree.Local(name, tree.RefT(target), LOC), target, LOC)


def field(base: Place, index: int) -> tree.FieldPlace:
    assert isinstance(base.ty, tree.StructT)
    return tree.FieldPlace(base, index, base.ty.fields[index][1], LOC)


def element(base: Place, index: Expr) -> tree.IndexPlace:
    assert isinstance(base.ty, tree.ArrayT)
    return tree.IndexPlace(base, index, base.ty.item, LOC)


def slice_element(name: str, ty: tree.SliceT, index: Expr) -> tree.SliceIndexPlace:
    return tree.SliceIndexPlace(local(name, ty), index, ty.item, LOC)


def static(symbol: str, ty: Type) -> tree.StaticPlace:
    return tree.StaticPlace(symbol, ty, LOC)


def load(place: Place) -> tree.Load:
    return tree.Load(place, place.ty, LOC)


def ref(place: Place) -> tree.AddrOf:
    return tree.AddrOf(place, tree.RefT(place.ty), LOC)


def assign(name: str, value: Expr) -> tree.SetLocal:
    return tree.SetLocal(name, value, LOC)


def store(value: Expr, place: Place) -> tree.Store:
    return tree.Store(value, place, LOC)


def ret(value: Expr | None = None) -> tree.Return:
    return tree.Return(value, LOC)


def discard(expr: Expr) -> tree.Discard:
    return tree.Discard(expr, LOC)


def function(
    symbol: str,
    params: list[tuple[str, Type]],
    result: Type,
    body: list[Stmt],
    *,
    exported: bool = False,
    external: bool = False,
    simd: bool = False,
    loc: Loc = LOC,
    **locals_: Type,
) -> tree.Function:
    return tree.Function(symbol, params, result, dict(locals_), body, loc, external=external, exported=exported, simd=simd)


def variable(symbol: str, ty: Type, init: object = None, *, constant: bool = False, section: str | None = None) -> tree.Static:
    return tree.Static(symbol, ty, init, constant, section, 0, LOC)


def program(*items: tree.Function | tree.Static, formats: tuple[str, ...] = (), exports: tuple[tree.StructT, ...] = ()) -> tree.Program:
    functions = {item.symbol: item for item in items if isinstance(item, tree.Function)}
    statics = {item.symbol: item for item in items if isinstance(item, tree.Static)}
    return tree.Program(functions, statics, [tree.Format(text, LOC) for text in formats], list(exports))
