# SPDX-License-Identifier: Apache-2.0
"""The modules of a program: imported by CPython, and parsed once more for the bodies of their functions."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import linecache
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from delphyne.compiler.front import diagnostics


@dataclass(slots=True)
class Module:
    """A module of the program: the imported object and the syntax of everything that may be compiled in it."""

    name: str
    path: str
    py: ModuleType
    syntax: ast.Module
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    """By qualified name, methods of top-level classes included."""
    classes: dict[str, ast.ClassDef] = field(default_factory=dict)
    assigned: dict[str, ast.stmt] = field(default_factory=dict)
    """Names that top-level statements of the module assign, with the last such statement."""


def _index(module: Module) -> None:
    for statement in top_level(module.syntax.body):
        match statement:
            case ast.FunctionDef():
                module.functions[statement.name] = statement
            case ast.ClassDef():
                module.classes[statement.name] = statement
                for member in statement.body:
                    if isinstance(member, ast.FunctionDef):
                        module.functions[f"{statement.name}.{member.name}"] = member
            case _:
                for name in ast.walk(statement):
                    if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store):
                        module.assigned[name.id] = statement


def top_level(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements of the module, those under a top-level `if`, `try` or `with` included."""
    found: list[ast.stmt] = []
    for statement in body:
        if isinstance(statement, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "handlers", "finalbody"):
                for inner in getattr(statement, part, []):
                    found += top_level(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])
        else:
            found.append(statement)
    return found


def _whole_file(path: str, code: str, reason: str, line: int = 0, column: int = 0) -> diagnostics.Fault:
    place = ast.Constant(value=None, lineno=line, col_offset=column, end_lineno=line, end_col_offset=column + 1)
    return diagnostics.Fault(diagnostics.at(path, place, code, reason))


def parse(path: str) -> ast.Module:
    """The syntax of a file; a Fault where there is none."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _whole_file(path, "E0705", f"cannot read it: {error}") from None
    linecache.checkcache(path)
    try:
        return ast.parse(text, path)
    except SyntaxError as error:
        raise _whole_file(path, "E0110", str(error.msg), error.lineno or 0, max(0, (error.offset or 1) - 1)) from None
    except ValueError as error:
        raise _whole_file(path, "E0110", str(error)) from None
    except (RecursionError, MemoryError):
        raise _whole_file(path, "E0110", "an expression is nested too deeply for Python to read it") from None


def _import_fault(path: str, error: BaseException) -> diagnostics.Fault:
    """The failure of an import, placed at the deepest line of the file that was running."""
    if isinstance(error, SyntaxError):
        file = error.filename or path
        return _whole_file(file, "E0110", str(error.msg), error.lineno or 0, max(0, (error.offset or 1) - 1))
    line = 0
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == path and frame.lineno:
            line = frame.lineno
    text = str(error) or type(error).__name__
    return _whole_file(path, "E0701", f"running the module's top level failed: {type(error).__name__}: {text}", line)


def package_name(path: Path) -> tuple[str, Path] | None:
    """Dotted name of a file inside a package, and the folder that must be on the path to import it; None for a file on its own."""
    path = path.resolve()
    if not (path.parent / "__init__.py").exists():
        return None
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), folder


def load_alone(path: Path, name: str = "") -> Module:
    """Imports a file that belongs to no package, under its own name or the given one, anew each time."""
    file = str(path.resolve())
    syntax = parse(file)
    name = name or path.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__delphyne_alone__", False) is not True:
        name = f"alone_{name}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise _whole_file(file, "E0705", "it is no Python file")
    py = importlib.util.module_from_spec(spec)
    py.__delphyne_alone__ = True  # type: ignore[attr-defined]
    sys.modules[name] = py
    try:
        exec(compile(syntax, file, "exec"), py.__dict__)
    except (Exception, SystemExit) as error:
        raise _import_fault(file, error) from None
    return _finish(name, file, py, syntax)


def _finish(name: str, file: str, py: ModuleType, syntax: ast.Module) -> Module:
    module = Module(name, file, py, syntax)
    _index(module)
    return module


def load(name_or_path: str | Path) -> Module:
    """A module by dotted name or by file; a Fault where it cannot be had."""
    text = str(name_or_path)
    path = Path(text)
    if text.endswith(".py") or "/" in text or path.is_file():
        if not path.is_file():
            raise _whole_file(text, "E0705", "there is no such file")
        packaged = package_name(path)
        if packaged is None:
            return load_alone(path)
        name, folder = packaged
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        parse(str(path.resolve()))
    else:
        name = text
    return load_named(name)


def load_named(name: str) -> Module:
    """A module by dotted name, imported where it is not yet."""
    try:
        spec = importlib.util.find_spec(name) if name not in sys.modules else None
        file = str(spec.origin) if spec is not None and spec.origin else ""
    except (ImportError, ValueError) as error:
        raise _whole_file(name, "E0705", f"there is no module of that name: {error}") from None
    except Exception as error:
        raise _import_fault(name, error) from None
    if name not in sys.modules and not file:
        raise _whole_file(name, "E0705", "there is no module of that name")
    if file.endswith(".py"):
        parse(file)
    try:
        py = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _import_fault(file, error) from None
    return of_object(py)


def of_object(py: ModuleType) -> Module:
    """The module of an imported object."""
    file = getattr(py, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        raise _whole_file(py.__name__, "E0705", "it has no Python source")
    return _finish(py.__name__, file, py, parse(file))
