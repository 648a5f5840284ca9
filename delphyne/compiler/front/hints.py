# SPDX-License-Identifier: Apache-2.0
"""From an annotation to a type: the annotation is evaluated by Python in its module, and the object that comes out is recognised."""

from __future__ import annotations

import ast
import builtins
import types as python_types
import typing
from typing import TYPE_CHECKING, Any

from delphyne.compiler import tree
from delphyne.compiler.front import diagnostics, library, types
from delphyne.lang.enums import ErrorEnum, SizedEnum

if TYPE_CHECKING:
    from delphyne.compiler.front.program import Builder


class NoType(Exception):
    """The object is no type of the language; the message says why."""


def of_object(builder: Builder, obj: Any) -> Any:
    """The type that a Python object stands for in an annotation, places as places."""
    if obj is None or obj is type(None):
        return types.UNIT
    if obj is bool:
        return types.BOOL
    if obj is typing.NoReturn or obj is typing.Never:
        return types.NEVER
    if isinstance(obj, python_types.UnionType) or typing.get_origin(obj) is typing.Union:
        return _union(builder, typing.get_args(obj))
    if typing.get_origin(obj) is tuple:
        items = typing.get_args(obj)
        if Ellipsis in items or not items:
            raise NoType("a tuple needs a type for each item")
        return tree.TupleT(tuple(_item(builder, item, "a tuple") for item in items))
    bits = library.integer_bits(obj)
    if bits is not None:
        return tree.IntT(bits)
    if isinstance(obj, type) and issubclass(obj, SizedEnum):
        return builder.records.of_class(obj).ty
    generic = library.generic(obj)
    if generic is not None:
        return _generic(builder, *generic)
    simple = library.simple_type(obj)
    if simple is not None:
        return simple
    if isinstance(obj, type):
        record = builder.records.find(obj)
        if record is not None:
            return record.ty
    if obj is int:
        raise NoType("int has no width; use u8, u16, u32 or u64")
    raise NoType(f"{getattr(obj, '__name__', None) or obj!r} is no type of the language")


def _item(builder: Builder, obj: Any, holder: str) -> Any:
    ty = of_object(builder, obj)
    if isinstance(ty, (tree.UnitT, tree.NeverT)):
        raise NoType(f"{holder} of {types.show(ty)}")
    return ty


def _union(builder: Builder, parts: tuple[Any, ...]) -> Any:
    errors = [part for part in parts if isinstance(part, type) and issubclass(part, ErrorEnum)]
    others = [part for part in parts if part not in errors and part is not type(None)]
    optional = type(None) in parts
    if len(errors) > 1 or len(others) > 1:
        raise NoType("a union joins one type with None, with one ErrorEnum, or with both")
    if not errors:
        return tree.OptionT(_item(builder, others[0], "an option"))
    error = builder.records.of_class(errors[0]).ty
    if not others:
        return tree.ResultT(types.UNIT, error)
    item = _item(builder, others[0], "a result")
    return tree.ResultT(tree.OptionT(item) if optional else item, error)


def _generic(builder: Builder, name: str, arguments: tuple[Any, ...]) -> Any:
    """Array[T, N], Slice[T], View[T], BootArray[T], Secret[T]."""
    item: Any = _item(builder, arguments[0], name)
    if name == "Array":
        length = int(arguments[1])
        if not (types.storable(item) or types.is_place(item)):
            raise NoType(f"an array of {types.show(item)}")
        return tree.ArrayT(item, length)
    if name in ("Slice", "View"):
        return tree.SliceT(item, name == "Slice")
    if name == "BootArray":
        return tree.BootArrayT(item)
    if name == "Secret":
        if not isinstance(item, tree.IntT):
            raise NoType(f"a secret {types.show(item)}: only integers can be secret")
        builder.secrets = True
        return types.SecretT(item)
    raise NoType(f"{name} is no type of the language")


_SHAPES = (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.BitOr, ast.Constant, ast.Tuple, ast.Load)


def evaluate(file: str, node: ast.expr, namespace: dict[str, Any]) -> Any:
    """The object an annotation stands for."""
    for part in ast.walk(node):
        if not isinstance(part, _SHAPES):
            raise diagnostics.Fault(diagnostics.at(file, part, "E0206", "this is no type"))
    if isinstance(node, ast.Name):
        for names in (namespace, vars(builtins)):
            if node.id in names:
                return names[node.id]
        raise diagnostics.Fault(diagnostics.at(file, node, "E0205", f"`{node.id}` is not defined"))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        raise diagnostics.Fault(diagnostics.at(file, node, "E0206", "write the type without quotes"))
    try:
        return eval(compile(ast.Expression(node), file, "eval"), namespace)
    except NameError as error:
        raise diagnostics.Fault(diagnostics.at(file, node, "E0205", str(error))) from None
    except Exception as error:
        raise diagnostics.Fault(diagnostics.at(file, node, "E0206", f"{type(error).__name__}: {error}")) from None


def read(builder: Builder, file: str, node: ast.expr, namespace: dict[str, Any]) -> Any:
    """The type that an annotation says; a Fault at the annotation where it says none."""
    if isinstance(node, ast.Constant) and node.value is None:
        return types.UNIT
    obj = evaluate(file, node, namespace)
    try:
        return of_object(builder, obj)
    except NoType as problem:
        raise diagnostics.Fault(diagnostics.at(file, node, "E0206", str(problem))) from None
