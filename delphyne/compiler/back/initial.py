# SPDX-License-Identifier: Apache-2.0
"""First contents of statics as LLVM constants.

Records and arrays of records are written as packed structures with their padding spelled out, so that LLVM's idea of a layout never
matters. A run of zeroes is one `zeroinitializer`.
"""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.body import byte_string


def initializer(ty: tree.Type, value: object) -> str:
    """Type and constant, as they stand after `global`."""
    return " ".join(_constant(ty, value))


def _zero(ty: tree.Type) -> tuple[str, str]:
    return f"[{layout.size_of(ty)} x i8]", "zeroinitializer"


def _constant(ty: tree.Type, value: object) -> tuple[str, str]:
    if value is None:
        return _zero(ty)
    match ty:
        case tree.BoolT():
            return "i8", str(int(bool(value)))
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT():
            assert isinstance(value, int), value
            return f"i{ty.bits}", str(value)
        case tree.ArrayT():
            return _array(ty, value)
    assert isinstance(value, (list, tuple)), (ty, value)
    return _record(ty, list(value))


def _array(ty: tree.ArrayT, value: object) -> tuple[str, str]:
    if isinstance(value, bytes):
        return f"[{len(value)} x i8]", byte_string(value)
    assert isinstance(value, (list, tuple)), (ty, value)
    assert len(value) == ty.length, (ty, value)
    items = [_constant(ty.item, item) for item in value]
    if len({kind for kind, _ in items}) == 1:
        return f"[{ty.length} x {items[0][0]}]", "[" + ", ".join(f"{kind} {text}" for kind, text in items) + "]"
    return _packed(items)


def _packed(items: list[tuple[str, str]]) -> tuple[str, str]:
    return "<{ " + ", ".join(kind for kind, _ in items) + " }>", "<{ " + ", ".join(f"{kind} {text}" for kind, text in items) + " }>"


def _record(ty: tree.Type, values: list[object]) -> tuple[str, str]:
    record = layout.record_of(ty)
    items, at = [], 0
    for item, offset, value in zip(record.types, record.offsets, values, strict=True):
        if offset > at:
            items.append((f"[{offset - at} x i8]", "zeroinitializer"))
        items.append(_constant(item, value))
        at = offset + layout.size_of(item)
    if record.size > at:
        items.append((f"[{record.size - at} x i8]", "zeroinitializer"))
    return _packed(items)
