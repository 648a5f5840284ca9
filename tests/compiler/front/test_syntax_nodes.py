# SPDX-License-Identifier: Apache-2.0
"""Every kind of statement and expression that Python 3.11 has is either in the subset or refused in words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from delphyne.compiler import front
from delphyne.compiler.front import expressions, statements, subset

HEAD = """
from typing import Final

from delphyne.lang import AtomicU64, Enum8, Lock, Order, Pa, Level, log, u64

LOCK: Final = Lock("nodes", rank=1)
COUNT: Final = AtomicU64()


class State(Enum8):
    FREE = 0
    USED = 1


def example(x: u64, flag: bool, state: State) -> u64:
"""

SUPPORTED_STATEMENTS = {
    ast.Expr: "    COUNT.store(x, Order.RELAXED)",
    ast.Assign: "    y = x",
    ast.AnnAssign: "    y: u64 = x",
    ast.AugAssign: "    x += 1",
    ast.If: "    if flag:\n        x = x + 1",
    ast.While: "    while x > 3:\n        x = x - 1",
    ast.For: "    for i in u64.range(3):\n        x = x + i",
    ast.Return: "    if flag:\n        return x",
    ast.Assert: "    assert flag, 'text'",
    ast.Pass: "    pass",
    ast.Break: "    while True:\n        break",
    ast.Continue: "    while x > 3:\n        x = x - 1\n        continue",
    ast.Match: "    match state:\n        case State.FREE:\n            x = x + 1\n        case _:\n            pass",
    ast.With: "    with LOCK:\n        x = x + 1",
}

REFUSED_STATEMENTS = {
    ast.FunctionDef: ("    def f() -> None:\n        pass", "E0105"),
    ast.AsyncFunctionDef: ("    async def f() -> None:\n        pass", "E0105"),
    ast.ClassDef: ("    class C:\n        pass", "E0105"),
    ast.Delete: ("    del x", "E0101"),
    ast.AsyncFor: ("    async for i in x:\n        pass", "E0101"),
    ast.AsyncWith: ("    async with LOCK:\n        pass", "E0101"),
    ast.Raise: ("    raise x", "E0101"),
    ast.Try: ("    try:\n        pass\n    finally:\n        pass", "E0101"),
    ast.TryStar: ("    try:\n        pass\n    except* ValueError:\n        pass", "E0101"),
    ast.Import: ("    import os", "E0101"),
    ast.ImportFrom: ("    from os import path", "E0101"),
    ast.Global: ("    global COUNT", "E0101"),
    ast.Nonlocal: ("    nonlocal COUNT", "E0101"),
}

SUPPORTED_EXPRESSIONS = {
    ast.Constant: "x + 1",
    ast.Name: "x",
    ast.Attribute: "u64.MAX",
    ast.Subscript: "(x, x)[1]",
    ast.Tuple: "(x, x)[0]",
    ast.IfExp: "x if flag else x + 1",
    ast.BoolOp: "u64(flag and x > 1 or x < 2)",
    ast.Compare: "u64(1 < x <= 3)",
    ast.UnaryOp: "~x",
    ast.BinOp: "x * x",
    ast.Call: "u64(state.raw)",
}

REFUSED_EXPRESSIONS = {
    ast.NamedExpr: ("(y := x)", "E0102"),
    ast.Lambda: ("lambda: x", "E0102"),
    ast.Dict: ("{x: x}", "E0102"),
    ast.Set: ("{x}", "E0102"),
    ast.List: ("[x]", "E0102"),
    ast.ListComp: ("[y for y in x]", "E0102"),
    ast.SetComp: ("{y for y in x}", "E0102"),
    ast.DictComp: ("{y: y for y in x}", "E0102"),
    ast.GeneratorExp: ("(y for y in x)", "E0102"),
    ast.Await: ("await x", "E0102"),
    ast.Yield: ("(yield x)", "E0102"),
    ast.YieldFrom: ("(yield from x)", "E0102"),
    ast.JoinedStr: ("f'{x}'", "E0102"),
    ast.FormattedValue: ("f'{x}{x}'", "E0102"),
    ast.Starred: ("(*x, x)", "E0102"),
    ast.Slice: ("x[1:2]", "E0209"),
}


def _check(tmp_path: Path, body: str) -> list[str]:
    path = tmp_path / "nodes.py"
    path.write_text(HEAD.lstrip() + body + "\n    return x\n", encoding="utf-8")
    return [one.code for one in front.check_paths([path])]


def _classes(base: type[ast.AST]) -> set[type[ast.AST]]:
    """The classes of syntax nodes of this Python, without the names that are kept for old programs."""
    old = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice"}
    return {cls for cls in vars(ast).values() if isinstance(cls, type) and issubclass(cls, base) and cls is not base and cls.__name__ not in old}


def test_every_statement_class_is_decided() -> None:
    assert subset
    assert set(statements.RULES) == set(SUPPORTED_STATEMENTS)
    assert set(SUPPORTED_STATEMENTS) | set(REFUSED_STATEMENTS) == _classes(ast.stmt)


def test_every_expression_class_is_decided() -> None:
    assert set(expressions.RULES) == set(SUPPORTED_EXPRESSIONS)
    assert set(SUPPORTED_EXPRESSIONS) | set(REFUSED_EXPRESSIONS) == _classes(ast.expr)


@pytest.mark.parametrize("node", SUPPORTED_STATEMENTS, ids=lambda node: node.__name__)
def test_statement_is_accepted(node: type[ast.stmt], tmp_path: Path) -> None:
    body = SUPPORTED_STATEMENTS[node]
    assert any(isinstance(part, node) for part in ast.walk(ast.parse("def f():\n" + body)))
    assert _check(tmp_path, body) == []


@pytest.mark.parametrize("node", REFUSED_STATEMENTS, ids=lambda node: node.__name__)
def test_statement_is_refused(node: type[ast.stmt], tmp_path: Path) -> None:
    body, code = REFUSED_STATEMENTS[node]
    if node in (ast.AsyncFor, ast.AsyncWith, ast.Nonlocal):
        # Python itself reads these only inside `async def` or a nested function: it refuses the module.
        assert _check(tmp_path, body) == ["E0110"]
        return
    assert _check(tmp_path, body) == [code]


@pytest.mark.parametrize("node", SUPPORTED_EXPRESSIONS, ids=lambda node: node.__name__)
def test_expression_is_accepted(node: type[ast.expr], tmp_path: Path) -> None:
    text = SUPPORTED_EXPRESSIONS[node]
    assert any(isinstance(part, node) for part in ast.walk(ast.parse(text)))
    assert _check(tmp_path, f"    y = {text}\n    x = x + y") == []


@pytest.mark.parametrize("node", REFUSED_EXPRESSIONS, ids=lambda node: node.__name__)
def test_expression_is_refused(node: type[ast.expr], tmp_path: Path) -> None:
    text, code = REFUSED_EXPRESSIONS[node]
    assert any(isinstance(part, node) for part in ast.walk(ast.parse(text, mode="eval")))
    if node is ast.Await:
        assert _check(tmp_path, f"    y = {text}") == ["E0110"]
        return
    assert _check(tmp_path, f"    y = {text}") == [code]
