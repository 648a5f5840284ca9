# SPDX-License-Identifier: Apache-2.0
"""Wrong programs of all kinds, made by damaging right ones at random: each is accepted or refused, and none makes the compiler itself fail."""

from __future__ import annotations

import ast
import copy
import importlib.util
import random
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from delphyne.compiler import front

EACH = 40
"""Damaged programs for each seed."""


def _rules() -> ModuleType:
    """The programs of the tests beside this file, found by path: test folders are no packages."""
    spec = importlib.util.spec_from_file_location("rules_for_damage", Path(__file__).with_name("test_rules.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RULES = _rules()
SOURCES = [RULES.HEAD + program for program in RULES.ACCEPTED.values()] + [RULES.HEAD + program for _, program in RULES.REFUSED.values()]
FUNCTIONS = [node for source in SOURCES for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
EXPRESSIONS = [node for one in FUNCTIONS for node in ast.walk(one) if isinstance(node, ast.expr) and not isinstance(node, ast.FormattedValue)]
STATEMENTS = [node for function in FUNCTIONS for node in function.body]


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def _damage(tree: ast.Module, rng: random.Random) -> None:
    function = rng.choice([node for node in tree.body if isinstance(node, ast.FunctionDef)][-3:])
    if rng.random() < 0.7:
        messages = {id(part) for whole in ast.walk(function) if isinstance(whole, ast.JoinedStr) for part in ast.walk(whole) if part is not whole}
        old = rng.choice([part for part in ast.walk(function) if isinstance(part, ast.expr) and id(part) not in messages])
        new = copy.deepcopy(rng.choice(EXPRESSIONS))
        if hasattr(old, "ctx") and hasattr(new, "ctx"):
            new.ctx = old.ctx
        _Replace(old, new).visit(function)
        return
    body = rng.choice([part.body for part in ast.walk(function) if isinstance(getattr(part, "body", None), list)])
    statement = copy.deepcopy(rng.choice(STATEMENTS))
    if rng.random() < 0.5:
        body.insert(rng.randint(0, len(body)), statement)
    else:
        body[rng.randrange(len(body))] = statement


@pytest.mark.parametrize("seed", range(4))
def test_damaged_programs_make_no_traceback(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    path = tmp_path / "damaged.py"
    refused = 0
    for _ in range(EACH):
        tree = ast.parse(rng.choice(SOURCES))
        for _ in range(rng.randint(1, 3)):
            _damage(tree, rng)
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            found = front.check_paths([path])
        refused += bool(found)
        for one in found:
            assert one.render().count("\n") >= 1
    assert refused > EACH // 2
