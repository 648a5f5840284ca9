# SPDX-License-Identifier: Apache-2.0
"""Debug information as LLVM metadata, from which LLVM writes DWARF.

A function's name in DWARF is its Python name, its linkage name the full symbol, so that gdb tells functions of one name apart. Types and
statics have their Python names alone, since gdb takes a dot in an expression for a field. Bit-field types become structures with bit members, so that
gdb prints a register by its fields; references become pointers; a slice becomes a pointer and a length. Locals are described at their stack
slots, and LLVM follows the values where optimisation takes them. Locals that the compiler made are not shown.
"""

from __future__ import annotations

import re

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.tools import shown

DWARF_VERSION = 4
"""The version that pyelftools, gdb 13 and GNU as agree on without extra sections."""

_LANGUAGE = "DW_LANG_Python"


def short_name(symbol: str) -> str:
    """The Python name in a dotted symbol: `f`, or `Class.method`."""
    parts = symbol.split(".")
    if len(parts) > 1 and parts[-2].lstrip("_")[:1].isupper():
        return ".".join(parts[-2:])
    return parts[-1]


def _type_name(name: str) -> str:
    """A type's name, and those of its parameters, without their modules."""
    return re.sub(r"(?:\w+\.)+(?=\w)", "", name)


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\5C").replace('"', "\\22") + '"'


class Debug:
    """The debug metadata of one module, under construction."""

    def __init__(self, first: int) -> None:
        """Number nodes from `first`."""
        self._first = first
        self._nodes: list[str] = []
        self._known: dict[object, int] = {}
        self._functions: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._locations: dict[tuple[int, int, int, str], int] = {}
        self._globals: list[int] = []
        self._unit = self._add("")

    def _add(self, text: str) -> int:
        self._nodes.append(text)
        return self._first + len(self._nodes) - 1

    def _intern(self, text: str) -> int:
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._add(text)
        return known

    def _list(self, items: list[int]) -> int:
        return self._intern("!{" + ", ".join(f"!{item}" for item in items) + "}")

    def _file(self, name: str) -> int:
        return self._intern(f'!DIFile(filename: {_text(shown(name))}, directory: ".")')

    # --- types ---

    def _base(self, name: str, bits: int, encoding: str = "DW_ATE_unsigned") -> int:
        return self._intern(f'!DIBasicType(name: "{name}", size: {bits}, encoding: {encoding})')

    def _pointer(self, target: int) -> int:
        return self._intern(f"!DIDerivedType(tag: DW_TAG_pointer_type, baseType: !{target}, size: 64)")

    def _structure(self, name: str, size: int, align: int, members: list[tuple[str, int, int, int]]) -> int:
        """`members` are (name, type, offset in bytes, size in bytes)."""
        nodes = [
            self._intern(f"!DIDerivedType(tag: DW_TAG_member, name: {_text(item)}, baseType: !{ty}, size: {length * 8}, offset: {offset * 8})")
            for item, ty, offset, length in members
        ]
        label = f", name: {_text(name)}" if name else ""
        return self._intern(
            f"!DICompositeType(tag: DW_TAG_structure_type{label}, size: {size * 8}, align: {align * 8}, elements: !{self._list(nodes)})"
        )

    def _record(self, name: str, ty: tree.Type, names: list[str]) -> int:
        record = layout.record_of(ty)
        parts = zip(names, record.types, record.offsets, strict=True)
        return self._structure(name, record.size, record.align, [(item, self.type(t), offset, layout.size_of(t)) for item, t, offset in parts])

    def _words(self, name: str, first: tuple[str, int], second: tuple[str, int], size: int) -> int:
        return self._structure(name, 2 * size, size, [(*first, 0, size), (*second, size, size)])

    def _bit_fields(self, ty: tree.BitsT) -> int:
        base = self._base(f"u{ty.bits}", ty.bits)
        members = [
            self._intern(
                f"!DIDerivedType(tag: DW_TAG_member, name: {_text(name)}, baseType: !{base}, size: {high - low + 1}, offset: {low}, "
                f"flags: DIFlagBitField, extraData: i64 0)"
            )
            for name, high, low in ty.fields
        ]
        return self._intern(
            f"!DICompositeType(tag: DW_TAG_structure_type, name: {_text(_type_name(ty.name))}, size: {ty.bits}, elements: !{self._list(members)})"
        )

    def _enumeration(self, ty: tree.EnumT) -> int:
        members = [self._intern(f"!DIEnumerator(name: {_text(name)}, value: {value}, isUnsigned: true)") for name, value in ty.members]
        return self._intern(
            f"!DICompositeType(tag: DW_TAG_enumeration_type, name: {_text(_type_name(ty.name))}, baseType: !{self._base(f'u{ty.bits}', ty.bits)}, "
            f"size: {ty.bits}, elements: !{self._list(members)})"
        )

    def _array(self, item: tree.Type, length: int) -> int:
        rows = self._list([self._intern(f"!DISubrange(count: {length})")])
        return self._intern(
            f"!DICompositeType(tag: DW_TAG_array_type, baseType: !{self.type(item)}, size: {layout.size_of(item) * length * 8}, elements: !{rows})"
        )

    def type(self, ty: tree.Type) -> int:
        """The node of a type."""
        key = ("type", id(ty) if isinstance(ty, tree.StructT) else ty)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._type(ty)
        return known

    def _type(self, ty: tree.Type) -> int:
        match ty:
            case tree.IntT():
                return self._base(f"u{ty.bits}", ty.bits)
            case tree.AtomicT():
                return self._base(f"AtomicU{ty.bits}", ty.bits)
            case tree.BoolT():
                return self._base("bool", 8, "DW_ATE_boolean")
            case tree.EnumT():
                return self._enumeration(ty)
            case tree.BitsT():
                return self._bit_fields(ty)
            case tree.ValueT() | tree.StructT():
                return self._record(_type_name(ty.name), ty, [name for name, _ in ty.fields])
            case tree.TupleT():
                return self._record("", ty, [f"item{index}" for index in range(len(ty.items))])
            case tree.OptionT():
                return self.type(ty.item) if layout.is_pointer(ty) else self._record("", ty, ["present", "item"])
            case tree.ResultT():
                return self._record("", ty, ["error", "item"] if len(layout.record_of(ty).types) > 1 else ["error"])
            case tree.V128T():
                return self._array(tree.IntT(8), 16)
            case tree.ArrayT():
                return self._array(ty.item, ty.length)
            case tree.LockT():
                word = self._base("u32", 32)
                return self._words("Lock", ("next", word), ("owner", word), 4)
            case tree.BootArrayT() | tree.SliceT():
                name = "BootArray" if isinstance(ty, tree.BootArrayT) else "Slice" if ty.writable else "View"
                return self._words(name, ("data", self._pointer(self.type(ty.item))), ("length", self._base("u64", 64)), 8)
            case tree.RefT():
                return self._pointer(self.type(ty.target))
        return self._base("None", 8)

    # --- functions, variables, lines ---

    def function(self, function: tree.Function) -> int:
        """The subprogram node of a function."""
        known = self._functions.get(function.symbol)
        if known is None:
            types = [
                "null" if isinstance(ty, (tree.UnitT, tree.NeverT)) else f"!{self.type(ty)}"
                for ty in (function.result, *(ty for _, ty in function.params))
            ]
            signature = self._intern(f"!DISubroutineType(types: !{self._intern('!{' + ', '.join(types) + '}')})")
            file = self._file(function.loc.file)
            linkage = "" if short_name(function.symbol) == function.symbol else f"linkageName: {_text(function.symbol)}, "
            kept = self._kept[function.symbol] = self._add("!{}")
            known = self._functions[function.symbol] = self._add(
                f"distinct !DISubprogram(name: {_text(short_name(function.symbol))}, {linkage}scope: !{file}, file: !{file}, "
                f"line: {function.loc.line}, type: !{signature}, scopeLine: {function.loc.line}, "
                f"spFlags: {'' if function.exported else 'DISPFlagLocalToUnit | '}DISPFlagDefinition, unit: !{self._unit}, "
                f"retainedNodes: !{kept})"
            )
        return known

    def location(self, loc: tree.Loc, scope: int, function: tree.Function) -> int:
        """The node of a source position inside a function."""
        key = (loc.line, loc.col, scope, loc.file)
        known = self._locations.get(key)
        if known is None:
            if loc.file != function.loc.file:
                scope = self._intern(f"!DILexicalBlockFile(scope: !{scope}, file: !{self._file(loc.file)}, discriminator: 0)")
            known = self._locations[key] = self._add(f"!DILocation(line: {loc.line}, column: {loc.col + 1}, scope: !{scope})")
        return known

    def variables(self, function: tree.Function, slots: dict[str, tuple[str, tree.Type]]) -> list[str]:
        """Records that declare parameters and locals at their slots. They stay declared where optimisation leaves no trace of them."""
        scope, out, kept = self.function(function), [], []
        where = self.location(function.loc, scope, function)
        positions = {name: index + 1 for index, (name, _) in enumerate(function.params)}
        for name, (slot, ty) in slots.items():
            if not name.isidentifier() or isinstance(ty, (tree.UnitT, tree.NeverT)):
                continue
            arg = f", arg: {positions[name]}" if name in positions else ""
            node = self._add(
                f"!DILocalVariable(name: {_text(name)}{arg}, scope: !{scope}, file: !{self._file(function.loc.file)}, "
                f"line: {function.loc.line}, type: !{self.type(ty)})"
            )
            kept.append(f"!{node}")
            out.append(f"    #dbg_declare(ptr {slot}, !{node}, !DIExpression(), !{where})")
        self._nodes[self._kept[function.symbol] - self._first] = "!{" + ", ".join(kept) + "}"
        return out

    def static(self, static: tree.Static) -> str:
        """What a global's definition ends with."""
        variable = self._add(
            f"distinct !DIGlobalVariable(name: {_text(short_name(static.symbol))}, scope: !{self._unit}, "
            f"file: !{self._file(static.loc.file)}, line: {static.loc.line}, type: !{self.type(static.ty)}, isLocal: false, isDefinition: true)"
        )
        node = self._add(f"!DIGlobalVariableExpression(var: !{variable}, expr: !DIExpression())")
        self._globals.append(node)
        return f", !dbg !{node}"

    def lines(self, main_file: str) -> list[str]:
        """All nodes, and the module's named ones."""
        unit = (
            f'distinct !DICompileUnit(language: {_LANGUAGE}, file: !{self._file(main_file)}, producer: "delphyne", isOptimized: true, '
            f"runtimeVersion: 0, emissionKind: FullDebug, globals: !{self._list(self._globals)}, nameTableKind: None)"
        )
        version = self._add(f'!{{i32 7, !"Dwarf Version", i32 {DWARF_VERSION}}}')
        schema = self._add('!{i32 2, !"Debug Info Version", i32 3}')
        self._nodes[self._unit - self._first] = unit
        out = [f"!llvm.dbg.cu = !{{!{self._unit}}}", f"!llvm.module.flags = !{{!{version}, !{schema}}}"]
        return out + [f"!{self._first + index} = {text}" for index, text in enumerate(self._nodes)]
