# SPDX-License-Identifier: Apache-2.0
"""Objects at module top level: constants, statics with their first contents, locks.

A static is found by identity; its symbol is the module that assigns it and the name it has there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delphyne.compiler import tree
from delphyne.compiler.front import hints, library, types
from delphyne.compiler.front.state import Root, RootKind, Roots
from delphyne.lang.arrays import ArrayOf
from delphyne.lang.atomics import Atomic
from delphyne.lang.bitfields import Bits
from delphyne.lang.enums import SizedEnum
from delphyne.lang.locks import Lock
from delphyne.lang.meta import StaticKind, class_meta, static_meta
from delphyne.lang.secret import Secret
from delphyne.lang.statics import BootArray, PerCpu

if TYPE_CHECKING:
    from delphyne.compiler.front.program import Builder


@dataclass(frozen=True, slots=True)
class LockInfo:
    """A lock of the program."""

    symbol: str
    name: str
    rank: int


@dataclass(slots=True)
class StaticInfo:
    """A static of the program. `lock` guards it where `kind` is GUARDED. For a per-CPU static `ty` is the array of all CPUs' elements."""

    symbol: str
    ty: Any
    kind: StaticKind
    lock: LockInfo | None
    obj: Any


class NoStatic(Exception):
    """The object cannot be a static; code and reason."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(reason)


@dataclass(slots=True)
class Statics:
    """All statics and locks seen so far."""

    builder: Builder
    _by_identity: dict[int, StaticInfo] = field(default_factory=dict)
    _by_symbol: dict[str, StaticInfo] = field(default_factory=dict)
    _locks: dict[int, LockInfo] = field(default_factory=dict)
    used: dict[str, tree.Static] = field(default_factory=dict)

    def by_symbol(self, symbol: str) -> StaticInfo | None:
        return self._by_symbol.get(symbol)

    def lock(self, lock: Lock) -> LockInfo:
        """The lock of a Lock object; its place becomes a static."""
        known = self._locks.get(id(lock))
        if known is None:
            symbol = self.builder.name_of_object(lock) or f"lock.{lock.name}"
            known = self._locks[id(lock)] = LockInfo(symbol, lock.name, lock.rank)
            self.used[symbol] = tree.Static(symbol, tree.LockT(), None, False, None, 0, self.builder.loc_of_object(lock))
        return known

    def find(self, obj: Any) -> StaticInfo | None:
        """The static that an object is, None where it is of no type that lives at a place; NoStatic where it must not be one."""
        known = self._by_identity.get(id(obj))
        if known is not None:
            return known
        ty = self._place_type(obj)
        if ty is None:
            return None
        meta = static_meta(obj)
        symbol = self.builder.name_of_object(obj)
        if symbol is None:
            raise NoStatic("E0410", "this object has no name at the top level of a module of the program")
        if meta.kind is StaticKind.BARE and not self._bare(ty):
            raise NoStatic("E0407", f"`{symbol.rsplit('.', 1)[-1]}` is {types.show(ty)}, which could be written by anyone")
        lock = self.lock(meta.lock) if meta.kind is StaticKind.GUARDED else None
        info = StaticInfo(symbol, ty, meta.kind, lock, obj)
        self._by_identity[id(obj)] = self._by_symbol[symbol] = info
        loc = self.builder.loc_of_object(obj)
        init = None if meta.kind is StaticKind.PER_CPU else contents(obj, ty)
        self.used[symbol] = tree.Static(symbol, types.erase(ty), init, meta.kind is StaticKind.CONSTANT, meta.section, meta.align, loc)
        return info

    def roots(self, static: StaticInfo) -> Roots:
        """The origin of a reference to a static."""
        return frozenset({Root(RootKind.STATIC, static.symbol)})

    def read_only(self, roots: Roots) -> bool:
        """Whether something with these origins may be a constant, of which slices are views."""
        for root in roots:
            static = self._by_symbol.get(root.name) if root.kind is RootKind.STATIC else None
            if static is not None and static.kind is StaticKind.CONSTANT:
                return True
        return False

    def _place_type(self, obj: Any) -> Any:
        cls = type(obj)
        if isinstance(obj, PerCpu):
            return tree.ArrayT(hints.of_object(self.builder, obj.cls), obj.count)
        if isinstance(obj, (ArrayOf, Atomic, BootArray)):
            return hints.of_object(self.builder, cls)
        if class_meta(cls) is not None:
            ty = hints.of_object(self.builder, cls)
            return ty if isinstance(ty, tree.StructT) else None
        return None

    def _bare(self, ty: Any) -> bool:
        """Safe without a keeper: atomics, arrays of them, boot arrays of them."""
        if isinstance(ty, (tree.ArrayT, tree.BootArrayT)):
            return self._bare(ty.item)
        return isinstance(ty, tree.AtomicT)

    def constant(self, obj: Any, loc: tree.Loc) -> tuple[tree.Expr, Any] | None:
        """The node and type of a module-level object that is a value; None for anything else."""
        integer = library.integer_value(obj)
        if integer is not None:
            return tree.Const(integer.value, integer.ty, loc), integer.ty
        if isinstance(obj, bool):
            return tree.Const(int(obj), types.BOOL, loc), types.BOOL
        if isinstance(obj, SizedEnum):
            ty = self.builder.records.of_class(type(obj)).ty
            return tree.Const(int(obj.value), ty, loc), ty
        if isinstance(obj, Bits):
            ty = self.builder.records.of_class(type(obj)).ty
            return tree.Const(int(obj._raw), ty, loc), ty
        if class_meta(type(obj)) is not None:
            record = self.builder.records.of_class(type(obj))
            if isinstance(record.ty, tree.ValueT):
                parts = [self.constant(getattr(obj, name), loc) for name in record.fields]
                return tree.MakeRecord([part[0] for part in parts if part is not None], record.ty, loc), record.ty
        return None


def contents(obj: Any, ty: Any) -> object:
    """First contents of a static as the tree has them: int, list or bytes; None where all is zero."""
    found = _contents(obj, ty)
    return None if _zero(found) else found


def _contents(obj: Any, ty: Any) -> Any:
    match ty:
        case tree.ArrayT(item=item):
            cells = obj._cells
            if not isinstance(cells, list):
                made = getattr(cells, "_made", None)
                if made is not None and not made:
                    return 0
                cells = [cells[i] for i in range(len(cells))]
            if item == types.U8:
                return bytes(int(cell) for cell in cells)
            return [_contents(cell, item) for cell in cells]
        case tree.StructT(fields=members) | tree.ValueT(fields=members):
            return [_contents(getattr(obj, name), item) for name, item in members]
        case tree.AtomicT():
            return int(obj._get())
        case tree.EnumT():
            return int(obj.value)
        case tree.BitsT():
            return int(obj._raw)
        case types.SecretT():
            assert isinstance(obj, Secret)
            return int(obj._hidden)
        case tree.BootArrayT():
            return 0
        case _:
            return int(obj)


def _zero(found: Any) -> bool:
    if isinstance(found, int):
        return found == 0
    if isinstance(found, bytes):
        return not any(found)
    return all(_zero(item) for item in found)
