# SPDX-License-Identifier: Apache-2.0
"""Refusals of syntax: E01xx."""

from __future__ import annotations

from typing import Final

from delphyne.compiler.front.entry import Entry

ENTRIES: Final[dict[str, Entry]] = {
    "E0101": Entry(
        "statement outside the subset",
        "EL2 has no exceptions, no import at run time, no globals that a name is bound to anew. What fails says so by its result.",
        "use the statements of docs/language.md: assignment, if, while, for, match, with, return, assert, break, continue, pass, calls",
        """
from delphyne.lang import u64

def half(x: u64) -> u64:
    try:  # <- try
        return x // 2
    finally:
        pass
""",
        """
from delphyne.lang import u64

def half(x: u64) -> u64:
    return x // 2
""",
    ),
    "E0102": Entry(
        "expression outside the subset",
        "There is no heap, so there are no lists, dictionaries, closures or generators; and no strings but those of `log` and `assert`.",
        "use the expressions of docs/language.md: integers, names, fields, elements, slices, operators, `a if c else b`, tuples, calls",
        """
from delphyne.lang import u64

def total(x: u64) -> u64:
    pair = [x, x]  # <- [x, x]
    return pair[0]
""",
        """
from delphyne.lang import u64

def total(x: u64) -> u64:
    pair = (x, x)
    return pair[0]
""",
    ),
    "E0103": Entry(
        "parameters other than plain ones",
        "A call says everything: there are no defaults, no `*`, no `**`, no parameters by position or by keyword alone.",
        "write plain parameters, and pass every argument at the call",
        """
from delphyne.lang import u64

def step(x: u64, by: u64 = u64(1)) -> u64:  # <- u64(1)
    return x + by
""",
        """
from delphyne.lang import u64

def step(x: u64, by: u64) -> u64:
    return x + by
""",
    ),
    "E0104": Entry(
        "missing annotation",
        "Types of parameters and results are the contract between functions; nothing is inferred across a call.",
        "annotate every parameter and the result, `-> None` where there is none",
        """
from delphyne.lang import u64

def step(x) -> u64:  # <- x
    return u64(1)
""",
        """
from delphyne.lang import u64

def step(x: u64) -> u64:
    return x + 1
""",
    ),
    "E0105": Entry(
        "nested function or class",
        "A function inside a function would close over its variables, which end with it.",
        "move it to the top level of the module and pass what it needs",
        """
from delphyne.lang import u64

def twice(x: u64) -> u64:
    def once(y: u64) -> u64:  # <- def
        return y + x
    return x
""",
        """
from delphyne.lang import u64

def once(x: u64, y: u64) -> u64:
    return y + x

def twice(x: u64) -> u64:
    return once(x, x)
""",
    ),
    "E0106": Entry(
        "unsupported assignment",
        "An assignment has one target, or takes a tuple apart into as many as it has items.",
        "assign one thing to one place: a name, a field, an element, or `a, b = ..`",
        """
from delphyne.lang import u64

def both(x: u64) -> u64:
    a = b = x  # <- a = b = x
    return a + b
""",
        """
from delphyne.lang import u64

def both(x: u64) -> u64:
    a = x
    b = x
    return a + b
""",
    ),
    "E0107": Entry(
        "loop outside the subset",
        "A loop counts in a width, so that its counter has a type and its end is known before it starts. `else` of a loop is read wrongly too often.",
        "write `for i in u64.range(start, stop)` or `while condition:`, without else",
        """
from delphyne.lang import u64

def total(n: u64) -> u64:
    sum = u64(0)
    for i in range(4):  # <- range(4)
        sum = sum + n
    return sum
""",
        """
from delphyne.lang import u64

def total(n: u64) -> u64:
    sum = u64(0)
    for i in u64.range(4):
        sum = sum + n
    return sum
""",
    ),
    "E0108": Entry(
        "match outside the subset",
        "`match` is a switch over the members of an enum; on integers mypy would call it unreachable, and patterns that bind hide assignments.",
        "match an enum with `case E.A | E.B:` and `case _:`; use if/elif for anything else",
        """
from delphyne.lang import u64

def name(x: u64) -> u64:
    match x:  # <- x:
        case _:
            return x
""",
        """
from delphyne.lang import Enum8, u64

class State(Enum8):
    FREE = 0
    USED = 1

def number(x: State) -> u64:
    match x:
        case State.FREE:
            return u64(0)
        case _:
            return u64(1)
""",
    ),
    "E0109": Entry(
        "statement never reached",
        "Every way to it returns, breaks, continues or never comes back. It is an oversight, or a leftover.",
        "remove it; `unreachable()` may stand there",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    return x
    x = x + 1  # <- x =
""",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    x = x + 1
    return x
""",
    ),
    "E0110": Entry(
        "not Python",
        "The file is read by Python first, and Python cannot read it.",
        "correct the syntax",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    return x +  # <- x +
""",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    return x + 1
""",
    ),
    "E0111": Entry(
        "unknown decorator",
        "A decorator replaces the function by another object, which the compiler cannot look into.",
        "use the decorators of docs/language.md: @boot, @holds, @simd, @cold, @apart, @merged, @entry, @assembly, @twin, @property, @staticmethod",
        """
import functools

from delphyne.lang import u64

@functools.lru_cache  # <- functools
def one(x: u64) -> u64:
    return x
""",
        """
from delphyne.lang import cold, u64

@cold
def one(x: u64) -> u64:
    return x
""",
    ),
    "E0112": Entry(
        "with-statement outside the subset",
        "Three things can be entered: a lock, memory that EL2 owns for the moment, the SIMD registers.",
        "write `with LOCK:`, `with owned(pa, size) as window:` or `with simd(area):`",
        """
from delphyne.lang import u64

def one(x: u64) -> u64:
    with open("file"):  # <- open
        return x
""",
        """
from typing import Final

from delphyne.lang import Lock, u64

LOCK: Final = Lock("example", rank=10)

def one(x: u64) -> u64:
    with LOCK:
        return x
""",
    ),
}
