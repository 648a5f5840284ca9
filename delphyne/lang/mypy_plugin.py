# SPDX-License-Identifier: Apache-2.0
"""A plugin for mypy: what the language says that Python's type system has no word for.

- `Array[T, N]` and `Pool[T, N]` as annotations: mypy sees the element type; the length is the compiler's to check.
- Structs have `copy_from`.
- The constructor of a class of bit fields takes each field by name, all of them optional.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mypy.nodes import ARG_NAMED_OPT, ARG_POS, Argument, AssignmentStmt, NameExpr, Var
from mypy.plugin import AnalyzeTypeContext, ClassDefContext, Plugin
from mypy.plugins.common import add_method_to_class
from mypy.types import AnyType, Instance, NoneType, Type, TypeOfAny
from mypy.typevars import fill_typevars

_SIZED = {
    "delphyne.lang.arrays.Array": "delphyne.lang.arrays.ArrayOf",
    "delphyne.lang.pool.Pool": "delphyne.lang.pool.PoolOf",
}
_BITS = {f"delphyne.lang.bitfields.Bits{width}" for width in (8, 16, 32, 64)}


def _sized(sized: str, ctx: AnalyzeTypeContext) -> Type:
    """`Array[T, N]` is `ArrayOf[T]` to mypy, whose full name is `sized`."""
    if len(ctx.type.args) != 2:
        ctx.api.fail(f"{ctx.type.name} takes an element type and a length", ctx.context)
        return AnyType(TypeOfAny.from_error)
    return ctx.api.named_type(sized, [ctx.api.analyze_type(ctx.type.args[0])])


def _bits_constructor(ctx: ClassDefContext) -> None:
    """Gives a class of bit fields its `__init__` and `replace`; asks for another round while a field's type is not known yet."""
    arguments = []
    for statement in ctx.cls.defs.body:
        if not isinstance(statement, AssignmentStmt) or statement.unanalyzed_type is None or not isinstance(statement.lvalues[0], NameExpr):
            continue
        kind = ctx.api.anal_type(statement.unanalyzed_type)
        if kind is None:
            ctx.api.defer()
            return
        arguments.append(Argument(Var(statement.lvalues[0].name, kind), kind, None, ARG_NAMED_OPT))
    add_method_to_class(ctx.api, ctx.cls, "__init__", args=arguments, return_type=NoneType())
    add_method_to_class(ctx.api, ctx.cls, "replace", args=arguments, return_type=Instance(ctx.cls.info, []))


def _struct_methods(ctx: ClassDefContext) -> None:
    """Gives a struct its `copy_from`."""
    own = fill_typevars(ctx.cls.info)
    other = Argument(Var("other", own), own, None, ARG_POS)
    add_method_to_class(ctx.api, ctx.cls, "copy_from", args=[other], return_type=NoneType())


class LanguagePlugin(Plugin):
    """The hooks that mypy asks for."""

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        """For `Array` and `Pool`."""
        return partial(_sized, _SIZED[fullname]) if fullname in _SIZED else None

    def get_base_class_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """For classes of bit fields."""
        return _bits_constructor if fullname in _BITS else None

    def get_class_decorator_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        """For structs."""
        return _struct_methods if fullname == "delphyne.lang.records.struct" else None


def plugin(version: str) -> type[Plugin]:
    """What mypy calls."""
    return LanguagePlugin
