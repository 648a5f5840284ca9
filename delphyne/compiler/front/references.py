# SPDX-License-Identifier: Apache-2.0
"""The rules of references: where they come from decides who may write through them, return them, and how long they live."""

from __future__ import annotations

import ast

from delphyne.compiler.front import diagnostics
from delphyne.compiler.front.context import Context, Value
from delphyne.compiler.front.state import Root, RootKind, Roots, State
from delphyne.compiler.front.types import carries
from delphyne.lang.meta import StaticKind


def check_write(ctx: Context, roots: Roots, node: ast.AST, boot: bool = False) -> None:
    """Refuses a write through a reference with these origins, and notes writes through parameters for the callers."""
    for root in sorted(roots, key=lambda one: (one.kind.value, one.name)):
        if root.kind is RootKind.PARAMETER:
            ctx.function.summary.writes.add(root.name)
        elif root.kind is RootKind.VIEW:
            raise ctx.fault(node, "E0303", "this was reached through a View, and is only read")
        elif root.kind is RootKind.STATIC:
            static = ctx.builder.statics.by_symbol(root.name)
            if static is None:
                continue
            name = root.name.rsplit(".", 1)[-1]
            if static.kind is StaticKind.CONSTANT:
                raise ctx.fault(node, "E0303", f"`{name}` is constant, and this writes to it")
            if static.kind is StaticKind.FROZEN and not (boot or ctx.function.meta.boot):
                raise ctx.fault(node, "E0405", f"`{name}` is frozen, and `{ctx.function.node.name}` is no @boot function")


def check_passed(ctx: Context, roots: Roots, node: ast.expr, callee: str, parameter: str, boot: bool) -> None:
    """Refuses to pass a reference to a parameter through which the callee writes. A @boot callee may write to what is frozen."""
    try:
        check_write(ctx, roots, node, boot)
    except diagnostics.Fault as fault:
        if fault.diagnostic is None:
            raise
        reason = f"`{callee}` writes through `{parameter}`: {fault.diagnostic.reason}"
        raise ctx.fault(node, fault.diagnostic.code, reason) from None


def check_return(ctx: Context, value: Value, node: ast.AST) -> None:
    """Refuses to return a reference to something that ends with the function or with an enclosing `with`."""
    if not carries(value.ty):
        return
    for root in sorted(value.roots, key=lambda one: (one.kind.value, one.name)):
        match root.kind:
            case RootKind.LOCAL:
                raise ctx.fault(node, "E0301", f"this refers to `{root.name.split('.')[0]}`, a local that ends with the function")
            case RootKind.WINDOW:
                raise ctx.fault(node, "E0301", f"this refers to the window `{root.name.split('@')[0]}`, which ends with its `with`")
            case RootKind.STATIC:
                _check_lock_stays(ctx, root, node)
        ctx.function.summary.returns.add(root)


def _check_lock_stays(ctx: Context, root: Root, node: ast.AST) -> None:
    static = ctx.builder.statics.by_symbol(root.name)
    if static is None or static.lock is None:
        return
    if all(lock.symbol != static.lock.symbol for lock in ctx.function.holds):
        shown = static.lock.symbol.rsplit(".", 1)[-1]
        raise ctx.fault(node, "E0301", f"this refers to what the lock `{shown}` guards, and the lock is released on the way out")


def expire(state: State | None, expired: dict[str, str], ended: Roots, what: str) -> State | None:
    """The state after a `with`: variables that referred into it are no longer assigned."""
    if state is None:
        return None
    kept: State = {}
    for name, known in state.items():
        if known.roots & ended:
            expired[name] = what
        else:
            kept[name] = known
    return kept


def guarded_roots(ctx: Context, symbol: str, states: list[State | None]) -> Roots:
    """Every origin in these states that the lock guards."""
    found: set[Root] = set()
    for state in states:
        for known in (state or {}).values():
            for root in known.roots:
                if root.kind is RootKind.STATIC:
                    static = ctx.builder.statics.by_symbol(root.name)
                    if static is not None and static.lock is not None and static.lock.symbol == symbol:
                        found.add(root)
    return frozenset(found)


def check_rebuilt(ctx: Context, slot: str, target: str, node: ast.AST) -> None:
    """Refuses to build a place again while another variable still refers to the old one: Python would keep both."""
    root = Root(RootKind.LOCAL, slot)
    for name, known in ctx.known().items():
        if name != target and root in known.roots:
            raise ctx.fault(node, "E0305", f"`{name}` still refers to what `{target}` was built as before")
