# SPDX-License-Identifier: Apache-2.0
"""Types as the front end sees them: those of the tree, and three that leave no trace in it.

A name of struct, array, atomic or lock type in an annotation means a reference wherever a variable is declared (`as_variable`) and the place
itself wherever a field or element is (`hints`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any

from delphyne.compiler import tree


@dataclass(frozen=True, slots=True)
class SecretT:
    """An integer that may steer nothing; erased to `item` when a function has been checked."""

    item: tree.IntT


@dataclass(frozen=True, slots=True)
class NoneT:
    """The type of the literal None before it meets what is expected."""


@dataclass(frozen=True, slots=True)
class PoisonT:
    """The type of a variable whose assignment was refused; its uses are not reported again."""


FrontType = tree.Type | SecretT | NoneT | PoisonT

U8 = tree.IntT(8)
U16 = tree.IntT(16)
U32 = tree.IntT(32)
U64 = tree.IntT(64)
BOOL = tree.BoolT()
UNIT = tree.UnitT()
NEVER = tree.NeverT()
NONE = NoneT()
POISON = PoisonT()
V128 = tree.V128T()
BYTES = tree.SliceT(U8, False)

PLACES = (tree.StructT, tree.ArrayT, tree.AtomicT, tree.LockT, tree.BootArrayT)
SCALARS = (tree.IntT, tree.BoolT, tree.EnumT, tree.BitsT)


def is_place(ty: Any) -> bool:
    """Lives at a place and is never a value."""
    return isinstance(ty, PLACES)


def as_variable(ty: Any) -> Any:
    """The type that a variable, parameter or result annotated with `ty` has."""
    if is_place(ty):
        return tree.RefT(ty)
    if isinstance(ty, tree.OptionT):
        return tree.OptionT(as_variable(ty.item))
    if isinstance(ty, tree.ResultT):
        return tree.ResultT(as_variable(ty.item), ty.error)
    if isinstance(ty, tree.TupleT):
        return tree.TupleT(tuple(as_variable(item) for item in ty.items))
    return ty


@cache
def carries(ty: Any) -> bool:
    """Holds a reference or a slice somewhere."""
    match ty:
        case tree.RefT() | tree.SliceT():
            return True
        case tree.OptionT(item=item) | tree.ResultT(item=item):
            return carries(item)
        case tree.TupleT(items=items):
            return any(carries(item) for item in items)
        case _:
            return False


@cache
def holds_secret(ty: Any) -> bool:
    """A secret is somewhere inside."""
    match ty:
        case SecretT():
            return True
        case tree.OptionT(item=item) | tree.ResultT(item=item) | tree.SliceT(item=item) | tree.ArrayT(item=item):
            return holds_secret(item)
        case tree.RefT(target=target):
            return holds_secret(target)
        case tree.TupleT(items=items):
            return any(holds_secret(item) for item in items)
        case tree.ValueT(fields=members) | tree.StructT(fields=members):
            return any(holds_secret(item) for _, item in members)
        case _:
            return False


def storable(ty: Any) -> bool:
    """May be a field of a value: integers, bool, enums, bit fields, secrets and values."""
    return isinstance(ty, (*SCALARS, SecretT, tree.ValueT))


def short(name: str) -> str:
    """The last part of a dotted class name, type parameters kept."""
    head, bracket, tail = name.partition("[")
    return head.rsplit(".", 1)[-1] + bracket + tail


def show(ty: Any) -> str:
    """A type as the programmer writes it."""
    match ty:
        case tree.IntT(bits=bits):
            return f"u{bits}"
        case tree.BoolT():
            return "bool"
        case tree.UnitT() | NoneT():
            return "None"
        case tree.NeverT():
            return "NoReturn"
        case tree.EnumT(name=name) | tree.BitsT(name=name) | tree.ValueT(name=name) | tree.StructT(name=name):
            return short(name)
        case tree.TupleT(items=items):
            return f"tuple[{', '.join(show(item) for item in items)}]"
        case tree.OptionT(item=item):
            return f"{show(item)} | None"
        case tree.ResultT(item=item, error=error):
            return f"{show(item)} | {show(error)}"
        case tree.V128T():
            return "V128"
        case tree.ArrayT(item=item, length=length):
            return f"Array[{show(item)}, {length}]"
        case tree.AtomicT(bits=bits):
            return f"AtomicU{bits}"
        case tree.LockT():
            return "Lock"
        case tree.BootArrayT(item=item):
            return f"BootArray[{show(item)}]"
        case tree.RefT(target=target):
            return show(target)
        case tree.SliceT(item=item, writable=writable):
            return f"{'Slice' if writable else 'View'}[{show(item)}]"
        case SecretT(item=item):
            return f"Secret[{show(item)}]"
        case PoisonT():
            return "unknown"
    return str(ty)


@cache
def erase(ty: Any) -> Any:
    """The type without secrets, as the back end knows it."""
    if isinstance(ty, SecretT):
        return ty.item
    if isinstance(ty, NoneT):
        return UNIT
    if not holds_secret(ty):
        return ty
    match ty:
        case tree.OptionT() | tree.ResultT() | tree.SliceT() | tree.ArrayT():
            return replace(ty, item=erase(ty.item))
        case tree.RefT(target=target):
            return tree.RefT(erase(target))
        case tree.TupleT(items=items):
            return tree.TupleT(tuple(erase(item) for item in items))
        case _:
            return replace(ty, fields=tuple((name, erase(item)) for name, item in ty.fields))


def forget() -> None:
    """Struct types are told apart by name; another program may use a name for something else."""
    for known in (carries, holds_secret, erase):
        known.cache_clear()


def erase_nodes(node: Any) -> None:
    """Erases the types of a list of statements, in place."""
    if isinstance(node, (list, tuple)):
        for item in node:
            erase_nodes(item)
    elif is_dataclass(node) and not isinstance(node, type):
        for one in fields(node):
            value = getattr(node, one.name)
            if one.name == "ty":
                node.ty = erase(value)  # type: ignore[attr-defined]
            elif isinstance(value, list) or (is_dataclass(value) and not isinstance(value, tree.Loc)):
                erase_nodes(value)
