# SPDX-License-Identifier: Apache-2.0
"""Index checks of counted loops, phrased so that they leave the loop.

Inside `for i in u64.range(start, stop)` an index `i` is below `stop`, so `stop <= length` already says that it is in range. Where neither
changes in the loop, LLVM computes that once in front of it, and what stays inside is one branch on the answer. Only where the answer is no
is the index itself compared, so that a loop that goes too far still traps at the element where it does. `i + k` is treated alike, with
`length - k` in the place of the length.
"""

from __future__ import annotations

from dataclasses import dataclass

from delphyne.compiler import tree
from delphyne.compiler.back.nodes import inside


@dataclass(frozen=True, slots=True)
class Counter:
    """A loop around the code in hand: its counter's name, the operand that the counter stays below, and the locals that its body assigns."""

    name: str
    stop: str
    assigned: frozenset[str]


def assigned_in(body: list[tree.Stmt]) -> frozenset[str]:
    """The locals that statements assign, temporaries and counters of inner loops included."""
    return frozenset(node.name for node in inside(body) if isinstance(node, (tree.SetLocal, tree.ForRange, tree.Bind)))


def _steady(counters: list[Counter], node: tree.Expr) -> Counter | None:
    """The loop whose counter an expression is, if that still has the value the loop gave it."""
    if not isinstance(node, tree.Local):
        return None
    found = next((counter for counter in reversed(counters) if counter.name == node.name), None)
    return found if found is not None and found.name not in found.assigned else None


def bound_of(counters: list[Counter], index: tree.Expr) -> tuple[Counter, tree.Expr | None] | None:
    """The loop that bounds an index, and what the index has been moved by, which does not change in that loop."""
    found = _steady(counters, index)
    if found is not None:
        return found, None
    if isinstance(index, tree.Binary) and index.op is tree.BinOp.ADD:
        for counter, moved in ((index.left, index.right), (index.right, index.left)):
            found = _steady(counters, counter)
            if found is not None and _unchanging(moved, found):
                return found, moved
    return None


def _unchanging(node: tree.Expr, counter: Counter) -> bool:
    return isinstance(node, tree.Const) or (isinstance(node, tree.Local) and node.name not in counter.assigned and node.name != counter.name)
