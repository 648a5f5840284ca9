# SPDX-License-Identifier: Apache-2.0
"""One function body: from its syntax to `tree.Function`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from delphyne.compiler import tree
from delphyne.compiler.front import functions, statements, subset, types
from delphyne.compiler.front.context import Context
from delphyne.compiler.front.functions import FunctionInfo
from delphyne.compiler.front.state import NO_ROOTS, Known, Root, RootKind

if TYPE_CHECKING:
    from delphyne.compiler.front.program import Builder


def _names(node: ast.FunctionDef) -> tuple[frozenset[str], frozenset[str]]:
    """Python's locals, and those of them that exactly one plain assignment of a call without arguments sets."""
    stores: dict[str, int] = {}
    candidates: set[str] = set()
    for statement in node.body:
        for part in ast.walk(statement):
            if isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
                stores[part.id] = stores.get(part.id, 0) + 1
            target = part.targets[0] if isinstance(part, ast.Assign) else part.target if isinstance(part, ast.AnnAssign) else None
            if isinstance(target, ast.Name) and isinstance(part, (ast.Assign, ast.AnnAssign)) and isinstance(part.value, ast.Call):
                candidates.add(target.id)
    params = {argument.arg for argument in node.args.args}
    single = frozenset(name for name in candidates if stores[name] == 1 and name not in params)
    return frozenset(stores) | params, single


def check(builder: Builder, info: FunctionInfo) -> tree.Function:
    """Checks the body and gives the finished function; what is refused goes to the builder's sink."""
    assert statements.RULES and subset
    names, single = _names(info.node)
    ctx = Context(builder, info, names=names, single_slots=single, simd=info.meta.simd, held=list(info.holds))
    loc = ctx.loc(info.node)
    if info.external:
        return functions.tree_function(builder, info, {}, [], loc)
    for name, ty in info.params:
        ctx.declared[name] = ty
        roots = frozenset({Root(RootKind.PARAMETER, name)}) if types.carries(ty) else NO_ROOTS
        ctx.assign_state(name, Known((), roots))
        if isinstance(ty, tree.V128T) and not info.meta.simd:
            ctx.report(info.node, "E0605", f"`{name}` is a V128, and `{info.node.name}` is not marked @simd")
    made = statements.block(ctx, info.node.body)
    # A refused statement may have been the one that returns.
    if ctx.state is not None and not ctx.found and not isinstance(info.result, tree.UnitT):
        if isinstance(info.result, tree.NeverT):
            reason = f"`{info.node.name}` returns, and says that it does not"
            ctx.report(info.node, "E0213", reason, "end it with `unreachable()` or a loop without end")
        else:
            ctx.report(info.node, "E0213", f"`{info.node.name}` can end without returning {types.show(info.result)}")
    for diagnostic in ctx.found:
        builder.sink.add(diagnostic)
    parameters = {name for name, _ in info.params}
    locals_ = {name: ty for name, ty in ctx.locals.items() if name not in parameters and not isinstance(ty, types.PoisonT)}
    return functions.tree_function(builder, info, locals_, made, loc)
