# SPDX-License-Identifier: Apache-2.0
"""Which functions run so rarely that they are made small rather than fast.

Those are the functions marked `@cold`, and what nothing but them reaches. A function that something else reaches too stays fast, wherever
it is called from, so that no mark changes code that a program also uses where time matters.
"""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.back.nodes import inside


def rare(program: tree.Program) -> frozenset[str]:
    """Their symbols."""
    functions = program.functions
    calls = {symbol: {node.symbol for node in inside(function.body) if isinstance(node, tree.Call)} for symbol, function in functions.items()}
    called = set().union(*calls.values())
    waiting = [symbol for symbol, function in functions.items() if function.exported or symbol not in called]
    often: set[str] = set()
    while waiting:
        symbol = waiting.pop()
        if symbol in functions and not functions[symbol].cold and symbol not in often:
            often.add(symbol)
            waiting += calls[symbol]
    return frozenset(functions.keys() - often)
