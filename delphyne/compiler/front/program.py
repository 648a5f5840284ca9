# SPDX-License-Identifier: Apache-2.0
"""The whole program: which functions are reached, checked once each, callees before their callers' calls are judged."""

from __future__ import annotations

import ast
import sys
import types as python_types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delphyne.compiler import tree
from delphyne.compiler.front import body, diagnostics, functions, hints, library, source, structure, types
from delphyne.compiler.front.functions import FunctionInfo, Progress
from delphyne.compiler.front.records import Record, Records
from delphyne.compiler.front.statics import Statics
from delphyne.lang.meta import FunctionMeta, function_meta

if TYPE_CHECKING:
    from delphyne.compiler.front.context import Context


@dataclass(slots=True)
class Builder:
    """Everything known about the program so far."""

    sink: diagnostics.Sink = field(default_factory=diagnostics.Sink)
    modules: dict[str, source.Module | None] = field(default_factory=dict)
    functions: dict[tuple[int, str], FunctionInfo] = field(default_factory=dict)
    finished: dict[str, tree.Function] = field(default_factory=dict)
    exports: list[tree.StructT] = field(default_factory=list)
    formats: list[tree.Format] = field(default_factory=list)
    secrets: bool = False
    """Whether secrets have been met, which must be erased."""
    primitives: library.Primitives = field(default_factory=library.Primitives)
    records: Records = field(init=False)
    statics: Statics = field(init=False)
    _names: dict[int, tuple[Any, str, source.Module]] = field(default_factory=dict)
    _running: list[FunctionInfo] = field(default_factory=list)
    _followed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.records = Records(self)
        self.statics = Statics(self)
        types.forget()

    # --- modules -----------------------------------------------------------------------------------------------------------------

    def add_module(self, module: source.Module) -> None:
        """Takes a module into the program: its names, and whether it may import what it imports."""
        if module.name in self.modules:
            return
        self.modules[module.name] = module
        for name in module.assigned:
            obj = vars(module.py).get(name)
            if obj is not None and id(obj) not in self._names:
                self._names[id(obj)] = (obj, name, module)
        structure.check_imports(self.sink, module)

    def module_named(self, name: str) -> source.Module | None:
        """A module that is imported already, taken into the program; None where it has no source."""
        if name not in self.modules:
            py = sys.modules.get(name)
            if py is None:
                return None
            try:
                self.add_module(source.of_object(py))
            except diagnostics.Fault:
                self.modules[name] = None
        return self.modules[name]

    def module_of(self, obj: Any) -> source.Module | None:
        """The module in which a class or function was written."""
        return self.module_named(getattr(obj, "__module__", None) or "")

    def _named(self, obj: Any) -> tuple[str, source.Module] | None:
        """The name that an object has at the top level of the module that assigns it."""
        found = self._names.get(id(obj))
        while found is None and self._follow_imports():
            found = self._names.get(id(obj))
        return (found[1], found[2]) if found is not None and found[0] is obj else None

    def _follow_imports(self) -> bool:
        """Takes in the modules that the known ones import; False where there are no more."""
        known = len(self.modules)
        for module in list(self.modules.values()):
            if module is None or module.name in self._followed:
                continue
            self._followed.add(module.name)
            for name in structure.imported_modules(module):
                if name.split(".")[0] not in sys.stdlib_module_names and not structure.is_outside(name):
                    self.module_named(name)
        return len(self.modules) > known

    def name_of_object(self, obj: Any) -> str | None:
        """The symbol of a static."""
        found = self._named(obj)
        return f"{found[1].name}.{found[0]}" if found is not None else None

    def loc_of_object(self, obj: Any) -> tree.Loc:
        """Where a static is assigned."""
        found = self._named(obj)
        if found is None:
            return tree.Loc("", 0, 0, 0, 0)
        name, module = found
        node = module.assigned[name]
        return tree.Loc(module.path, node.lineno, node.col_offset, node.end_lineno or node.lineno, node.end_col_offset or 0)

    # --- types and library -------------------------------------------------------------------------------------------------------

    def type_of(self, obj: Any) -> Any:
        """The type that a class stands for, None where it stands for none."""
        try:
            return hints.of_object(self, obj)
        except hints.NoType:
            return None

    def lang(self, name: str) -> Any:
        """An object of `delphyne.lang`."""
        return getattr(library.package(), name)

    def format(self, text: str, loc: tree.Loc) -> int:
        """The number of a log message."""
        for number, known in enumerate(self.formats):
            if known.text == text and known.loc == loc:
                return number
        self.formats.append(tree.Format(text, loc))
        return len(self.formats) - 1

    def runtime(self, name: str, ctx: Context, node: ast.AST) -> str:
        """The symbol of a function that the compiler brings along, written in the language."""
        from delphyne.compiler.front import runtime

        info = self.function_of(getattr(runtime, name))
        assert info is not None
        self.check_body(info, ctx, node)
        return info.symbol

    # --- functions ---------------------------------------------------------------------------------------------------------------

    def function(self, function: Any, module: source.Module, node: ast.FunctionDef, owner: Record | None, static: bool) -> FunctionInfo:
        """The signature of a function or method, read once."""
        key = (id(function), "" if owner is None else owner.ty.name)
        known = self.functions.get(key)
        if known is None:
            prefix = f"{module.name}." if owner is None else f"{owner.ty.name}."
            known = self.functions[key] = functions.make(self, function, module, node, owner, static, prefix + node.name)
        return known

    def function_of(self, function: Any) -> FunctionInfo | None:
        """The signature of a plain function; None where it cannot be compiled."""
        function = functions.unwrapped(function)
        if not isinstance(function, python_types.FunctionType):
            return None
        module = self.module_of(function)
        if module is None or "." in function.__qualname__:
            return None
        meta = function_meta(function) if hasattr(function, "__delphyne__") else FunctionMeta()
        if module.name.startswith("delphyne.lang") and not meta.assembly:
            return None
        if structure.is_outside(module.name):
            return None
        node = module.functions.get(function.__qualname__)
        return self.function(function, module, node, None, static=False) if node is not None else None

    def external(self, function: Any) -> FunctionInfo:
        """A function of the language's library that is written in assembly."""
        module = self.module_of(function)
        assert module is not None
        node = module.functions[function.__qualname__]
        info = self.function(function, module, node, None, static=False)
        info.external, info.symbol = True, node.name
        return info

    def check_body(self, info: FunctionInfo, caller: Context | None, node: ast.AST) -> None:
        """Checks the body of a function where that has not been done; a call of a function that is being checked is a recursion."""
        if info.progress is Progress.RUNNING:
            assert caller is not None
            chain = self._running[self._running.index(info) :]
            shown = " -> ".join(f"`{one.node.name}`" for one in [*chain, info])
            raise caller.fault(node, "E0404", f"a recursion: {shown}")
        if info.progress is Progress.DONE or info.broken:
            return
        info.progress = Progress.RUNNING
        self._running.append(info)
        try:
            made = body.check(self, info)
        finally:
            self._running.pop()
            info.progress = Progress.DONE
        other = self.finished.get(info.symbol)
        if other is not None and not info.external:
            self.sink.add(diagnostics.at(info.module.path, info.node, "E0208", f"the symbol `{info.symbol}` is defined twice"))
        self.finished[info.symbol] = made

    def finish(self) -> tree.Program:
        """The program; raises Refused where anything was refused."""
        found = self.sink.sorted()
        if found:
            raise diagnostics.Refused(found)
        exports = sorted(self.exports, key=lambda one: one.name)
        return tree.Program(dict(sorted(self.finished.items())), dict(sorted(self.statics.used.items())), self.formats, exports)
