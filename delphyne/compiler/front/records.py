# SPDX-License-Identifier: Apache-2.0
"""Classes of the program: values, structs, bit fields and enums, with their fields and methods."""

from __future__ import annotations

import ast
import inspect
import types as python_types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, hints, types
from delphyne.compiler.front.functions import FunctionInfo, unwrapped
from delphyne.lang.bitfields import BitField
from delphyne.lang.enums import SizedEnum, width_of
from delphyne.lang.meta import Kind, class_meta, field_annotations

if TYPE_CHECKING:
    from delphyne.compiler.front.program import Builder


@dataclass(frozen=True, slots=True)
class BitsField:
    """One field of a bit-field class."""

    high: int
    low: int
    ty: Any

    @property
    def width(self) -> int:
        """The number of bits."""
        return self.high - self.low + 1


@dataclass(slots=True)
class Record:
    """A class of the program. `fields` gives position and type; `bits` the fields of a bit-field class."""

    cls: type
    ty: Any
    fields: dict[str, tuple[int, Any]] = field(default_factory=dict)
    bits: dict[str, BitsField] = field(default_factory=dict)
    methods: dict[str, tuple[str, FunctionInfo] | None] = field(default_factory=dict)


def _of_library(cls: type) -> bool:
    return cls.__module__.startswith("delphyne.lang")


@dataclass(slots=True)
class Records:
    """All classes seen so far, by identity and by the name of their type."""

    builder: Builder
    _by_class: dict[type, Record] = field(default_factory=dict)
    _by_name: dict[str, Record] = field(default_factory=dict)
    _open: list[type] = field(default_factory=list)

    def of_type(self, ty: Any) -> Record | None:
        """The record of a value, struct, enum or bit-field type."""
        name = getattr(ty, "name", None)
        return self._by_name.get(name) if isinstance(name, str) else None

    def find(self, cls: type) -> Record | None:
        """The record of a class, None where it is no class of the language."""
        if cls in self._by_class:
            return self._by_class[cls]
        if class_meta(cls) is None and not issubclass(cls, SizedEnum):
            return None
        return self.of_class(cls)

    def of_class(self, cls: type) -> Record:
        """The record of a class of the language."""
        known = self._by_class.get(cls)
        if known is not None:
            return known
        if cls in self._open:
            raise hints.NoType(f"{cls.__name__} contains itself")
        self._open.append(cls)
        try:
            record = self._make(cls)
        finally:
            self._open.pop()
        self._by_class[cls] = record
        self._by_name[record.ty.name] = record
        return record

    def _name(self, cls: type) -> str:
        name = f"{cls.__module__}.{cls.__qualname__}"
        number = 1
        while (unique := name if number == 1 else f"{name}'{number}") in self._by_name:
            number += 1
        return unique

    def _make(self, cls: type) -> Record:
        name = self._name(cls)
        if issubclass(cls, SizedEnum):
            members = tuple((member.name, int(member.value)) for member in cls)
            return Record(cls, tree.EnumT(name, width_of(cls).BITS, members))
        meta = class_meta(cls)
        if meta is None:
            raise hints.NoType(f"{cls.__name__} is neither @value nor @struct")
        plain = len(cls.__bases__) == 1 if meta.kind is Kind.BITS else cls.__bases__ == (object,)
        if not plain and "__template__" not in cls.__dict__ and not _of_library(cls):
            base = cls.__bases__[-1].__name__
            raise self._fault(cls, "", "E0215", f"{cls.__name__} derives from {base}")
        members_of = self._fields(cls)
        if meta.kind is Kind.BITS:
            bits = {}
            for field_name, ty in members_of:
                declared = cls.__dict__[field_name]
                assert isinstance(declared, BitField)
                bits[field_name] = BitsField(declared.high, declared.low, ty)
            shown = tuple((field_name, one.high, one.low) for field_name, one in bits.items())
            return Record(cls, tree.BitsT(name, meta.bits, shown), bits=bits)
        fields = {field_name: (position, ty) for position, (field_name, ty) in enumerate(members_of)}
        if meta.kind is Kind.VALUE:
            return Record(cls, tree.ValueT(name, tuple(members_of)), fields)
        struct = tree.StructT(name, tuple(members_of), meta.align, meta.export)
        if meta.export is not None:
            self.builder.exports.append(struct)
        return Record(cls, struct, fields)

    def _fields(self, cls: type) -> list[tuple[str, Any]]:
        meta = class_meta(cls)
        assert meta is not None
        found = []
        pairs = field_annotations(cls)
        for name in list(inspect.get_annotations(cls)):
            try:
                _, obj = next(pairs)
                ty = hints.of_object(self.builder, obj)
            except hints.NoType as problem:
                raise self._fault(cls, name, "E0206", f"`{name}`: {problem}") from None
            except diagnostics.Fault:
                raise
            except Exception as error:
                raise self._fault(cls, name, "E0206", f"`{name}`: {error}") from None
            if meta.kind is not Kind.BITS and name in cls.__dict__:
                raise self._fault(cls, name, "E0216", f"`{name}` has a first value", "a struct begins all zero, and a value is built with all fields")
            allowed = types.storable(ty) or (meta.kind is Kind.STRUCT and isinstance(ty, (tree.StructT, tree.ArrayT, tree.AtomicT)))
            if meta.kind is Kind.BITS:
                allowed = isinstance(ty, types.SCALARS)
            if not allowed:
                code = "E0302" if types.carries(ty) or (meta.kind is Kind.VALUE and types.is_place(ty)) else "E0216"
                raise self._fault(cls, name, code, f"`{name}` is {types.show(ty)}, which cannot be a field of {cls.__name__}")
            found.append((name, ty))
        return found

    def _fault(self, cls: type, name: str, code: str, reason: str, remedy: str = "") -> diagnostics.Fault:
        """A fault at the field's line, where the class has source."""
        module = self.builder.module_of(cls)
        if module is None:
            return diagnostics.Fault(diagnostics.at("", ast.Pass(), code, reason, remedy))
        node: ast.AST = module.classes.get(cls.__qualname__, module.syntax)
        for statement in getattr(node, "body", []):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id == name:
                node = statement
        return diagnostics.Fault(diagnostics.at(module.path, node, code, reason, remedy))

    def method(self, record: Record, name: str) -> tuple[str, FunctionInfo] | None:
        """A method that the class itself defines: ("method" | "property" | "static", function)."""
        if name not in record.methods:
            record.methods[name] = self._find_method(record, name)
        return record.methods[name]

    def _find_method(self, record: Record, name: str) -> tuple[str, FunctionInfo] | None:
        member = record.cls.__dict__.get(name)
        template = record.cls.__dict__.get("__template__")
        kind = "method"
        function: Any = member
        if isinstance(member, property):
            kind, function = "property", member.fget
        elif isinstance(member, staticmethod):
            kind, function = "static", member.__func__
        function = unwrapped(function)
        if not isinstance(function, python_types.FunctionType):
            return None
        if function.__module__ != record.cls.__module__:
            # what the decorators of the language put into a class
            return None
        module = self.builder.module_of(function)
        node = module.functions.get(f"{(template or record.cls).__qualname__}.{name}") if module is not None else None
        if module is None or node is None:
            return None
        return kind, self.builder.function(function, module, node, record, static=kind == "static")
