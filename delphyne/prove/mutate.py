# SPDX-License-Identifier: Apache-2.0
"""Small wrong versions of a function, made from its source.

Kinds: `drop` a statement (a store, a call, a guard, a barrier), `negate` a condition, `edge` (`<` to `<=` and the like), `constant` off by one,
`operator` (`+` to `-`, `&` to `|`, ..), `swap` two neighbouring steps, `flip` a boolean. What the compiler would refuse anyway (a local used
before it is set, a function without its return) is not made. A mutant's name stays the same as long as its function does.
"""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

EDGES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.Mod: ast.FloorDiv,
}
SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`function` is `module:qualified.name`; `code` replaces its code object."""

    name: str
    function: str
    line: int
    change: str
    code: CodeType


class _Site:
    """A place in a function that can be changed, and how: `apply` changes the tree it belongs to."""

    def __init__(self, kind: str, line: int, change: str, path: tuple[Any, ...]) -> None:
        self.kind = kind
        self.line = line
        self.change = change
        self.path = path


def functions_of(module: ModuleType) -> dict[str, FunctionType]:
    """The functions and methods whose bodies stand in `module`, by qualified name, without bodies that only CPython runs: those of `@assembly`
    functions, and what makes instances of generic classes."""
    found: dict[str, FunctionType] = {}

    def visit(owner: object, members: dict[str, Any]) -> None:
        for member in members.values():
            plain = member.fget if isinstance(member, property) else member.__func__ if isinstance(member, staticmethod | classmethod) else member
            if isinstance(plain, FunctionType) and plain.__module__ == module.__name__ and plain.__code__.co_filename == module.__file__:
                outside = getattr(getattr(plain, "__delphyne__", None), "assembly", False) or plain.__name__ == "__class_getitem__"
                if not outside:
                    found[plain.__qualname__] = plain
            elif isinstance(plain, type) and plain.__module__ == module.__name__ and plain is not owner and not plain.__name__.startswith("_"):
                visit(plain, dict(vars(plain)))

    visit(None, dict(vars(module)))
    return found


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Every mutant of every function of `module`."""
    source = inspect.getsource(module)
    tree = ast.parse(source)
    for qualified in functions_of(module):
        definition = _definition(tree, qualified)
        if definition is None:
            continue
        alone = _alone(tree, qualified)
        counts: dict[str, int] = {}
        for site in _sites(definition):
            counts[site.kind] = counts.get(site.kind, 0) + 1
            changed = copy.deepcopy(alone)
            mutated = _definition(changed, qualified)
            assert mutated is not None
            _apply(mutated, site)
            ast.fix_missing_locations(changed)
            code = _code(compile(changed, str(module.__file__), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True), qualified)
            name = f"{module.__name__}:{qualified}:{site.kind}:{counts[site.kind]}"
            yield Mutant(name, f"{module.__name__}:{qualified}", site.line, site.change, code)


def _definition(tree: ast.Module, qualified: str) -> ast.FunctionDef | None:
    scope: list[ast.stmt] = tree.body
    *classes, name = qualified.split(".")
    for wanted in classes:
        inner = [node for node in scope if isinstance(node, ast.ClassDef) and node.name == wanted]
        if not inner:
            return None
        scope = inner[0].body
    for node in scope:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    return None


def _alone(tree: ast.Module, qualified: str) -> ast.Module:
    """A module of that function only, in its classes, at its lines."""
    kept: ast.stmt | None = _definition(tree, qualified)
    assert kept is not None
    for name in reversed(qualified.split(".")[:-1]):
        kept = ast.ClassDef(name, bases=[], keywords=[], body=[kept], decorator_list=[])
    return ast.fix_missing_locations(ast.Module([kept], type_ignores=[]))


def _code(code: CodeType, qualified: str) -> CodeType:
    """The code object of the function `qualified` among those nested in `code`."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_qualname == qualified:
                return inner
            if qualified.startswith(inner.co_qualname + "."):
                return _code(inner, qualified)
    raise LookupError(qualified)


def _walk(node: ast.AST, path: tuple[Any, ...] = ()) -> Iterator[tuple[ast.AST, tuple[Any, ...]]]:
    """Every node with the way to it, annotations, docstrings and log texts left out."""
    yield node, path
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        if isinstance(value, ast.AST) and not isinstance(value, ast.JoinedStr):
            yield from _walk(value, (*path, name))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST) and not isinstance(item, ast.JoinedStr):
                    yield from _walk(item, (*path, (name, index)))


def _sites(definition: ast.FunctionDef) -> Iterator[_Site]:
    assigned: set[str] = {argument.arg for argument in definition.args.args}
    for node, path in _walk(definition):
        text = ast.unparse(node).splitlines()[0][:70] if isinstance(node, ast.stmt | ast.expr) and node is not definition else ""
        line = getattr(node, "lineno", 0)
        for field in ("body", "orelse"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                yield from _in_block(block, path, field, assigned)
        if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert) and not isinstance(node.test, ast.Compare | ast.Constant):
            yield _Site("negate", line, f"not ({ast.unparse(node.test)[:60]})", (*path, "test"))
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                if type(operator) in EDGES:
                    yield _Site("edge", line, f"{text}: {EDGES[type(operator)].__name__}", (*path, ("ops", index)))
                if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                    yield _Site("negate", line, f"not ({text})", path)
        if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
            yield _Site("operator", line, f"{text}: {OPERATORS[type(node.op)].__name__}", (*path, "op"))
        if isinstance(node, ast.BoolOp):
            yield _Site("operator", line, f"{text}: {'or' if isinstance(node.op, ast.And) else 'and'}", (*path, "op"))
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            yield _Site("flip", line, f"{text} flipped", path)
        elif isinstance(node, ast.Constant) and isinstance(node.value, int):
            yield _Site("constant", line, f"{node.value} to {node.value + 1}", path)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            assigned.update(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _in_block(block: list[ast.stmt], path: tuple[Any, ...], field: str, assigned: set[str]) -> Iterator[_Site]:
    for index, statement in enumerate(block):
        if index == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        text = ast.unparse(statement).splitlines()[0][:70]
        if _droppable(statement, assigned):
            yield _Site("drop", statement.lineno, f"drop `{text}`", (*path, (field, index)))
        after = block[index + 1] if index + 1 < len(block) else None
        if isinstance(statement, SIMPLE) and isinstance(after, SIMPLE) and _effects(statement) and _effects(after):
            yield _Site("swap", statement.lineno, f"swap `{text}` with the next", (*path, (field, index)))


def _effects(statement: ast.stmt) -> bool:
    """Whether the statement does more than set a local."""
    if isinstance(statement, ast.Assign):
        return not all(isinstance(target, ast.Name | ast.Tuple) for target in statement.targets)
    return isinstance(statement, ast.Expr) or (isinstance(statement, ast.AugAssign) and not isinstance(statement.target, ast.Name))


def _droppable(statement: ast.stmt, assigned: set[str]) -> bool:
    if isinstance(statement, ast.Assign) and not _effects(statement):
        return all(isinstance(target, ast.Name) and target.id in assigned for target in statement.targets)
    if isinstance(statement, ast.If):
        return not statement.orelse and not any(isinstance(inner, ast.Assign) and not _effects(inner) for inner in statement.body)
    if isinstance(statement, ast.Expr):
        return not _logs(statement.value)
    return isinstance(statement, ast.Assign | ast.AugAssign | ast.Assert | ast.Break | ast.Continue)


def _logs(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("log", "unreachable")


def _apply(definition: ast.FunctionDef, site: _Site) -> None:
    owner: Any = definition
    last: Any = site.path[-1]
    for step in site.path[:-1]:
        owner = getattr(owner, step) if isinstance(step, str) else getattr(owner, step[0])[step[1]]
    holder: Any
    key: Any
    holder, key = (owner.__dict__, last) if isinstance(last, str) else (getattr(owner, last[0]), last[1])
    node = holder[key]
    if site.kind == "drop":
        holder[key] = ast.copy_location(ast.Pass(), node)
    elif site.kind == "swap":
        holder[key], holder[key + 1] = holder[key + 1], node
    elif site.kind == "negate":
        holder[key] = ast.copy_location(ast.UnaryOp(ast.Not(), node), node)
    elif site.kind == "edge":
        holder[key] = EDGES[type(node)]()
    elif site.kind == "operator":
        holder[key] = (ast.Or() if isinstance(node, ast.And) else ast.And()) if isinstance(node, ast.boolop) else OPERATORS[type(node)]()
    elif site.kind == "flip":
        holder[key] = ast.copy_location(ast.Constant(not node.value), node)
    elif site.kind == "constant":
        holder[key] = ast.copy_location(ast.Constant(node.value + 1), node)
