# SPDX-License-Identifier: Apache-2.0
"""Checked and plain integer arithmetic, comparisons and conversions, as LLVM sees them best.

Subtraction, shifts and divisions are checked by a comparison in front, because LLVM's range reasoning understands comparisons and then
removes later ones; additions and multiplications by the overflow intrinsics, which become one flag-setting instruction.
"""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.back.body import Body, value_type
from delphyne.compiler.back.layout import record_of
from delphyne.compiler.tree import BinOp, CmpOp, TrapKind

_PLAIN = {
    BinOp.ADD: "add",
    BinOp.SUB: "sub",
    BinOp.MUL: "mul",
    BinOp.WRAP_ADD: "add",
    BinOp.WRAP_SUB: "sub",
    BinOp.WRAP_MUL: "mul",
    BinOp.AND: "and",
    BinOp.OR: "or",
    BinOp.XOR: "xor",
    BinOp.SHL: "shl",
    BinOp.SHR: "lshr",
    BinOp.DIV: "udiv",
    BinOp.MOD: "urem",
}
_PREDICATE = {CmpOp.EQ: "eq", CmpOp.NE: "ne", CmpOp.LT: "ult", CmpOp.LE: "ule", CmpOp.GT: "ugt", CmpOp.GE: "uge"}


def width(ty: tree.Type) -> int:
    """Bits of an integer-like type."""
    if isinstance(ty, tree.BoolT):
        return 1
    assert isinstance(ty, (tree.IntT, tree.EnumT, tree.BitsT)), ty
    return ty.bits


def with_overflow(b: Body, op: BinOp, bits: int, x: str, y: str) -> tuple[str, str]:
    """The wrapped result and the i1 that says whether it left its width."""
    pair = b.intrinsic(f"llvm.u{op.value}.with.overflow.i{bits}", f"{{ i{bits}, i1 }}", (f"i{bits}", x), (f"i{bits}", y))
    result = b.op(f"extractvalue {{ i{bits}, i1 }} {pair}, 0")
    return result, b.op(f"extractvalue {{ i{bits}, i1 }} {pair}, 1")


def binary(b: Body, op: BinOp, ty: tree.Type, x: str, y: str) -> str:
    """`x op y` of one width, with its trap."""
    bits = width(ty)
    operands = (x, bits), (y, bits)
    match op:
        case BinOp.ADD | BinOp.MUL if b.checks(TrapKind.OVERFLOW):
            result, over = with_overflow(b, op, bits, x, y)
            b.trap_if(over, TrapKind.OVERFLOW, *operands)
            return result
        case BinOp.SUB if b.checks(TrapKind.OVERFLOW):
            b.trap_if(b.op(f"icmp ult i{bits} {x}, {y}"), TrapKind.OVERFLOW, *operands)
            return b.op(f"sub nuw i{bits} {x}, {y}")
        case BinOp.SHL | BinOp.SHR:
            known = y.isdigit() and int(y) < bits
            if not known and b.checks(TrapKind.SHIFT):
                b.trap_unless(b.op(f"icmp ult i{bits} {y}, {bits}"), TrapKind.SHIFT, *operands)
        case BinOp.DIV | BinOp.MOD:
            known = y.isdigit() and int(y) > 0
            if not known and b.checks(TrapKind.DIVIDE):
                b.trap_if(b.op(f"icmp eq i{bits} {y}, 0"), TrapKind.DIVIDE, (x, bits), ("0", 64))
    return b.op(f"{_PLAIN[op]} {value_type(ty)} {x}, {y}")


def _record_equal(b: Body, ty: tree.ValueT | tree.TupleT, x: str, y: str) -> str:
    whole, equal = value_type(ty), "true"
    for index, item in enumerate(record_of(ty).types):
        same = compare(b, CmpOp.EQ, item, b.part(x, whole, index, item), b.part(y, whole, index, item))
        equal = same if equal == "true" else b.op(f"and i1 {equal}, {same}")
    return equal


def compare(b: Body, op: CmpOp, ty: tree.Type, x: str, y: str) -> str:
    """Unsigned comparison of two operands of one type, as i1."""
    if isinstance(ty, (tree.ValueT, tree.TupleT)):
        equal = _record_equal(b, ty, x, y)
        return equal if op is CmpOp.EQ else b.op(f"xor i1 {equal}, true")
    return b.op(f"icmp {_PREDICATE[op]} {value_type(ty)} {x}, {y}")


def _member_runs(ty: tree.EnumT) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in sorted({value for _, value in ty.members}):
        if runs and value == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def is_member(b: Body, ty: tree.EnumT, raw: str) -> str:
    """Whether an integer of the enum's width is the value of a member, as i1."""
    found = "false"
    for low, high in _member_runs(ty):
        distance = raw if low == 0 else b.op(f"sub i{ty.bits} {raw}, {low}")
        inside = b.op(f"icmp ule i{ty.bits} {distance}, {high - low}")
        found = inside if found == "false" else b.op(f"or i1 {found}, {inside}")
    return found


def convert(b: Body, kind: tree.ConvertKind, source: tree.Type, ty: tree.Type, x: str) -> str:
    """A conversion between integer-like types, with its trap."""
    old, new = width(source), width(ty)
    match kind:
        case tree.ConvertKind.NARROW if old > new:
            largest = (1 << new) - 1
            if not b.checks(TrapKind.NARROW):
                return b.op(f"trunc i{old} {x} to i{new}")
            b.trap_if(b.op(f"icmp ugt i{old} {x}, {largest}"), TrapKind.NARROW, (x, old), (str(largest), 64))
            return b.op(f"trunc nuw i{old} {x} to i{new}")
        case tree.ConvertKind.TRUNCATE if old > new:
            return b.op(f"trunc i{old} {x} to i{new}")
        case tree.ConvertKind.TO_ENUM:
            assert isinstance(ty, tree.EnumT)
            if b.checks(TrapKind.ENUM):
                b.trap_unless(is_member(b, ty, x), TrapKind.ENUM, (x, old), ("0", 64))
            return x
        case tree.ConvertKind.WIDEN | tree.ConvertKind.FROM_BOOL | tree.ConvertKind.NARROW if old < new:
            return b.op(f"zext i{old} {x} to i{new}")
    return x
