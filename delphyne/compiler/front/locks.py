# SPDX-License-Identifier: Apache-2.0
"""Who may touch a guarded static, who may call what holds a lock, and the order in which locks are taken."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delphyne.compiler.front.context import Context
    from delphyne.compiler.front.functions import FunctionInfo
    from delphyne.compiler.front.statics import LockInfo, StaticInfo


def is_held(ctx: Context, lock: LockInfo) -> bool:
    return any(other.symbol == lock.symbol for other in ctx.held)


def check_guard(ctx: Context, static: StaticInfo, node: ast.AST) -> None:
    """A guarded static is touched only while its lock is held."""
    if static.lock is not None and not is_held(ctx, static.lock):
        shown, lock = static.symbol.rsplit(".", 1)[-1], static.lock.symbol.rsplit(".", 1)[-1]
        ctx.fail(node, "E0401", f"`{shown}` is guarded by `{lock}`, which is not held here", f"take the lock with `with {lock}:`, or mark the function @holds({lock})")


def check_take(ctx: Context, lock: LockInfo, node: ast.AST, through: str = "") -> None:
    """A lock is taken while only locks of lower rank are held, and never twice."""
    for other in ctx.held:
        if other.symbol == lock.symbol:
            ctx.fail(node, "E0411", f"{through}`{lock.name}` is taken while it is already held")
        if other.rank >= lock.rank:
            ctx.fail(node, "E0403", f"{through}`{lock.name}` (rank {lock.rank}) is taken while `{other.name}` (rank {other.rank}) is held")
    ctx.function.summary.takes[lock.symbol] = lock


def check_call(ctx: Context, callee: FunctionInfo, node: ast.AST) -> None:
    """What the callee must find held is held; what it takes may be taken here."""
    for lock in callee.holds:
        if not is_held(ctx, lock):
            shown = lock.symbol.rsplit(".", 1)[-1]
            ctx.fail(node, "E0402", f"`{callee.node.name}` must be called with `{shown}` held", f"call it inside `with {shown}:`, or mark the caller @holds({shown})")
    for lock in callee.summary.takes.values():
        check_take(ctx, lock, node, f"in `{callee.node.name}`, ")
