# SPDX-License-Identifier: Apache-2.0
"""Statements: one function for each kind of syntax node, and a table that says which there are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import assignment, conditions, diagnostics, expressions, operands, references, types
from delphyne.compiler.front.context import Context, Entity
from delphyne.compiler.front.state import State, join

Stmts = list[tree.Stmt]


def block(ctx: Context, body: list[ast.stmt]) -> Stmts:
    """Statements in order. A refused one is reported, and checking goes on behind it."""
    made: Stmts = []
    for statement in body:
        if ctx.state is None:
            if _says_unreachable(statement):
                continue
            ctx.report(statement, "E0109", "control never comes here")
            break
        rule = RULES.get(type(statement))
        try:
            if rule is None:
                ctx.fail(statement, *_refusal(statement))
            made += rule(ctx, statement)
        except diagnostics.Fault as fault:
            ctx.record(fault)
            poison(ctx, statement)
            if isinstance(statement, (ast.Return, ast.Break, ast.Continue)):
                ctx.state = None
    return made


def _says_unreachable(statement: ast.stmt) -> bool:
    """`unreachable()` may stand where control cannot come: it tells Python's type checkers what the compiler knows."""
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="unreachable"))):
            return True
    return False


def _refusal(statement: ast.stmt) -> tuple[str, str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return "E0105", f"`{statement.name}` is defined inside a function"
    return "E0101", f"{_NAMES.get(type(statement), type(statement).__name__)} is not part of the language"


_NAMES: dict[type[ast.stmt], str] = {
    ast.Try: "try",
    ast.TryStar: "try",
    ast.Raise: "raise",
    ast.Delete: "del",
    ast.Global: "global",
    ast.Nonlocal: "nonlocal",
    ast.Import: "import inside a function",
    ast.ImportFrom: "import inside a function",
    ast.AsyncFor: "async",
    ast.AsyncWith: "async",
}


def poison(ctx: Context, node: ast.AST) -> None:
    """Variables that a refused statement would have assigned: what they hold is unknown, and is not reported again."""
    if ctx.state is None:
        ctx.state = {}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            assignment.poison(ctx, part.id)


def rule_expression(ctx: Context, node: ast.Expr) -> Stmts:
    loc = ctx.loc(node)
    if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return []
    if not isinstance(node.value, ast.Call):
        ctx.fail(node, "E0101", "an expression on its own does nothing")
    if _is_primitive(ctx, node.value, "unreachable"):
        if node.value.args or node.value.keywords:
            ctx.fail(node, "E0208", "`unreachable` takes no arguments")
        ctx.state = None
        return [tree.Trap(tree.TrapKind.UNREACHABLE, loc)]
    given = operands.value(ctx, expressions.operand(ctx, node.value), node.value)
    if isinstance(given.ty, (tree.OptionT, tree.ResultT)):
        ctx.fail(node, "E0503", f"the result, {types.show(given.ty)}, is thrown away")
    if isinstance(given.ty, tree.NeverT):
        ctx.state = None
    if isinstance(given.expr, tree.Const):
        return []
    return [tree.Discard(given.expr, loc)]


def _is_primitive(ctx: Context, node: ast.Call, name: str) -> bool:
    if not isinstance(node.func, (ast.Name, ast.Attribute)) or (isinstance(node.func, ast.Name) and node.func.id in ctx.names):
        return False
    if (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) != name:
        return False
    found = expressions.operand(ctx, node.func)
    return isinstance(found, Entity) and ctx.builder.primitives.name(found.obj) == name


def rule_if(ctx: Context, node: ast.If) -> Stmts:
    yes: State | None
    no: State | None
    try:
        test, yes, no = conditions.test(ctx, node.test)
    except diagnostics.Fault as fault:
        ctx.record(fault)
        test, yes, no = tree.Const(1, types.BOOL, ctx.loc(node)), ctx.state, ctx.state
    ctx.state = yes
    then, after_then = block(ctx, node.body), ctx.state
    ctx.state = no
    other, after_other = block(ctx, node.orelse), ctx.state
    ctx.state = join(after_then, after_other)
    return [tree.If(test, then, other, ctx.loc(node))]


def rule_return(ctx: Context, node: ast.Return) -> Stmts:
    loc, result = ctx.loc(node), ctx.function.result
    if isinstance(result, tree.NeverT):
        ctx.fail(node, "E0201", f"`{ctx.function.node.name}` does not return")
    if node.value is None:
        if not isinstance(result, tree.UnitT):
            ctx.fail(node, "E0201", f"`return` without a value, and {types.show(result)} is expected")
        ctx.state = None
        return [tree.Return(None, loc)]
    value = expressions.value(ctx, node.value, result)
    references.check_return(ctx, value, node.value)
    ctx.state = None
    if isinstance(result, tree.UnitT):
        if isinstance(value.expr, tree.Const):
            return [tree.Return(None, loc)]
        return [tree.Discard(value.expr, loc), tree.Return(None, loc)]
    return [tree.Return(value.expr, loc)]


def rule_assert(ctx: Context, node: ast.Assert) -> Stmts:
    loc = ctx.loc(node)
    test, yes, _ = conditions.test(ctx, node.test)
    if node.msg is not None and not (isinstance(node.msg, ast.Constant) and isinstance(node.msg.value, str)):
        ctx.fail(node.msg, "E0102", "the text of an assert is a string in quotes")
    ctx.state = yes
    return [tree.If(tree.Not(test, types.BOOL, loc), [tree.Trap(tree.TrapKind.ASSERT, loc)], [], loc)]


def rule_pass(ctx: Context, node: ast.Pass) -> Stmts:
    return []


def rule_break(ctx: Context, node: ast.Break) -> Stmts:
    ctx.loops[-1].breaks.append(ctx.known())
    ctx.state = None
    return [tree.Break(ctx.loc(node))]


def rule_continue(ctx: Context, node: ast.Continue) -> Stmts:
    ctx.loops[-1].continues.append(ctx.known())
    ctx.state = None
    return [tree.Continue(ctx.loc(node))]


def rule_match(ctx: Context, node: ast.Match) -> Stmts:
    loc = ctx.loc(node)
    subject = expressions.value(ctx, node.subject)
    if not isinstance(subject.ty, tree.EnumT):
        ctx.fail(node.subject, "E0108", f"{types.show(subject.ty)} is matched, which is no enum")
    before, after = ctx.state, None
    cases: list[tuple[list[int], Stmts]] = []
    default: Stmts | None = None
    seen: set[int] = set()
    for case in node.cases:
        if case.guard is not None:
            ctx.fail(case.guard, "E0108", "a `case` has no `if`")
        if default is not None:
            ctx.fail(case.pattern, "E0108", "nothing is left for this `case`")
        numbers = _pattern(ctx, case.pattern, subject.ty)
        ctx.state = before
        if numbers is None:
            default = block(ctx, case.body)
        else:
            if seen & set(numbers):
                ctx.fail(case.pattern, "E0108", "a member is matched twice")
            seen |= set(numbers)
            cases.append((numbers, block(ctx, case.body)))
        after = join(after, ctx.state)
    if default is None:
        complete = seen == {number for _, number in subject.ty.members}
        default = [tree.Trap(tree.TrapKind.UNREACHABLE, loc)] if complete else []
        after = after if complete else join(after, before)
    ctx.state = after
    return [tree.Switch(subject.expr, cases, default, loc)]


def _pattern(ctx: Context, pattern: ast.pattern, ty: tree.EnumT) -> list[int] | None:
    """The numbers that a pattern matches; None for `_`."""
    match pattern:
        case ast.MatchAs(pattern=None, name=None):
            return None
        case ast.MatchOr(patterns=parts):
            found: list[int] = []
            for part in parts:
                numbers = _pattern(ctx, part, ty)
                if numbers is None:
                    ctx.fail(part, "E0108", "`_` stands alone")
                found += numbers
            return found
        case ast.MatchValue(value=value):
            member = expressions.value(ctx, value)
            if member.ty == ty and isinstance(member.expr, tree.Const):
                return [member.expr.value]
            ctx.fail(value, "E0108", f"`{ast.unparse(value)}` is no member of {types.show(ty)}")
    ctx.fail(pattern, "E0108", "a pattern is a member of the enum, several joined by `|`, or `_`")


RULES: dict[type[ast.stmt], Callable[[Context, Any], Stmts]] = {}
"""The statements of the language (see `subset`); every other is refused."""
