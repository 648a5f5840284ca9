# SPDX-License-Identifier: Apache-2.0
"""Sizes, alignments and offsets of the language's types, as C lays them out on a 64-bit little-endian machine.

The emitter addresses fields by these offsets, the debug information repeats them, and the assembly file gets them by name, so there is one
computation and no second opinion. A bool takes one byte; a slice is a pointer and a count; an option that is no reference is a presence
byte followed by its item; a result is a u32 error number followed by its item.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from delphyne.compiler import tree

POINTER = 8


@dataclass(frozen=True, slots=True)
class Record:
    """A laid out record: field types and offsets, its size (a multiple of `align`) and its alignment, in bytes."""

    types: tuple[tree.Type, ...]
    offsets: tuple[int, ...]
    size: int
    align: int


def align_up(value: int, align: int) -> int:
    """`value` rounded up to a multiple of `align`."""
    return (value + align - 1) // align * align


def _record(types: tuple[tree.Type, ...], least_align: int = 1) -> Record:
    offset, align, offsets = 0, least_align, []
    for ty in types:
        offset = align_up(offset, align_of(ty))
        offsets.append(offset)
        offset += size_of(ty)
        align = max(align, align_of(ty))
    return Record(types, tuple(offsets), align_up(offset, align), align)


_U8, _U32, _U64 = tree.IntT(8), tree.IntT(32), tree.IntT(64)
_structs: dict[int, tuple[tree.StructT, Record]] = {}


@cache
def _plain(ty: tree.Type) -> Record:
    match ty:
        case tree.ValueT():
            return _record(tuple(item for _, item in ty.fields))
        case tree.TupleT():
            return _record(ty.items)
        case tree.OptionT():
            return _record((_U8, ty.item))
        case tree.ResultT(item=tree.UnitT()):
            return _record((_U32,))
        case tree.ResultT():
            return _record((_U32, ty.item))
        case tree.SliceT() | tree.BootArrayT():
            return _record((_U64, _U64))
        case tree.LockT():
            return _record((_U32, _U32))
    raise TypeError(f"no record: {ty}")


def record_of(ty: tree.Type) -> Record:
    """The layout of any type that has parts."""
    if isinstance(ty, tree.StructT):
        known = _structs.get(id(ty))
        if known is None:
            known = _structs[id(ty)] = (ty, _record(tuple(item for _, item in ty.fields), max(1, ty.align)))
        return known[1]
    return _plain(ty)


def is_pointer(ty: tree.Type) -> bool:
    """Whether a value of this type is one machine pointer."""
    return isinstance(ty, tree.RefT) or (isinstance(ty, tree.OptionT) and isinstance(ty.item, tree.RefT))


def size_of(ty: tree.Type) -> int:
    """Bytes that one element takes, padding at its end included."""
    match ty:
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT():
            return ty.bits // 8
        case tree.BoolT():
            return 1
        case tree.UnitT() | tree.NeverT():
            return 0
        case tree.V128T():
            return 16
        case tree.ArrayT():
            return ty.length * size_of(ty.item)
    return POINTER if is_pointer(ty) else record_of(ty).size


def align_of(ty: tree.Type) -> int:
    """Natural alignment in bytes."""
    match ty:
        case tree.ArrayT():
            return align_of(ty.item)
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT() | tree.BoolT() | tree.V128T():
            return size_of(ty)
        case tree.UnitT() | tree.NeverT():
            return 1
    return POINTER if is_pointer(ty) else record_of(ty).align


def _lines(prefix: str, struct: tree.StructT, base: int) -> list[str]:
    out = []
    layout = record_of(struct)
    for (name, ty), offset in zip(struct.fields, layout.offsets, strict=True):
        out.append(f".equ {prefix}_{name}, {base + offset:#x}")
        if isinstance(ty, tree.StructT):
            out += _lines(f"{prefix}_{name}", ty, base + offset)
    return out


def offsets_inc(program: tree.Program) -> str:
    """The assembly include: `.equ CPU_field, offset` and `.equ CPU_SIZEOF, size` for each exported structure, nested fields by full path."""
    out: list[str] = []
    for struct in sorted(program.exports, key=lambda item: item.exported or item.name):
        prefix = struct.exported or struct.name
        out += [*_lines(prefix, struct, 0), f".equ {prefix}_SIZEOF, {size_of(struct):#x}"]
    return "".join(line + "\n" for line in out)
