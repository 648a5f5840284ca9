# SPDX-License-Identifier: Apache-2.0
"""Statements: the body of one generated function.

Every statement is one line, so that the line of a trap names it. Loops have few rounds and calls form no cycle; `cost` keeps the product small.
"""

from __future__ import annotations

from collections.abc import Callable

from delphyne.fuzz.memory import Memory
from delphyne.fuzz.scope import COST_LIMIT
from delphyne.fuzz.shapes import (
    Array,
    Atomic,
    BitClass,
    Bool,
    Enumeration,
    Int,
    Option,
    PoolOf,
    Result,
    Shape,
    Slice,
    Struct,
    Tuple,
    Value,
    is_scalar,
)


class Statements(Memory):
    """Chooses among all statements."""

    def block(self, longest: int) -> bool:
        """Some statements; True where the end of the block cannot be reached."""
        for _ in range(longest):
            if self.budget <= 0 or self.cost > COST_LIMIT or self.choices.below(8) == 0:
                break
            if self.statement():
                return True
        return False

    def statement(self) -> bool:
        """One statement; True where what follows it cannot be reached."""
        self.budget -= 1
        self.cost += self.rounds
        makers: list[tuple[int, Callable[[], bool]]] = [
            (14, self.declare_scalar),
            (8, self.assign_local),
            (2, self.declare_on_both_ways),
            (3, self.exchange),
            (14, self.store),
            (12, self.update),
            (5, self.declare_place),
            (4, self.declare_slice),
            (5, self.declare_option),
            (3, self.alias),
            (10, self.branch),
            (6, self.count_loop),
            (4, self.while_loop),
            (9, self.call_statement),
            (4, self.use_option),
            (3 + 9 * self.callable(Result), self.use_result),
            (1 + 6 * self.callable(Tuple), self.use_tuple),
            (8, self.hold_lock),
            (5, self.select),
            (6, self.bulk),
            (3, self.store_bytes),
            (2 + 5 * self.has_static(Atomic), self.atomic_statement),
            (1 + 12 * self.has_static(PoolOf), self.use_pool),
            (2, self.claim),
            (3, self.leave),
        ]
        return self.choices.weighted(makers)()

    def callable(self, result: type) -> bool:
        """Whether there is a function with such a result."""
        return any(isinstance(routine.result, result) for routine in self.draft.routines)

    def has_static(self, kind: type) -> bool:
        """Whether there is such an object at the top of the module."""
        return any(isinstance(static.shape, kind) for static in self.draft.statics)


def digest(text: str, shape: Shape, into: str = "d") -> list[str]:
    """Lines that mix everything in `text` into the local `into`, indentation not included."""
    if isinstance(shape, Int):
        return [f"{into} = mix({into}, {text})" if shape.bits == 64 else f"{into} = mix({into}, u64({text}))"]
    if isinstance(shape, Bool):
        return [f"{into} = mix({into}, u64({text}))"]
    if isinstance(shape, Enumeration | BitClass):
        return digest(f"{text}.raw", Int(shape.bits), into)
    if isinstance(shape, Tuple):
        return [line for number, part in enumerate(shape.items) for line in digest(f"{text}[{number}]", part, into)]
    if isinstance(shape, Struct | Value):
        return [line for name, part in shape.fields for line in digest(f"{text}.{name}", part, into)]
    if isinstance(shape, Atomic):
        return digest(f"{text}.load(Order.RELAXED)", Int(shape.bits), into)
    if isinstance(shape, Array | Slice):
        length = f"u64({shape.length})" if isinstance(shape, Array) else f"{text}.length"
        name = f"k{text.count('[')}"
        inner = digest(f"{text}[{name}]", shape.item, into)
        return [f"for {name} in u64.range({length}):", *(f"    {line}" for line in inner)] if inner else []
    if isinstance(shape, Option) and is_scalar(shape.item):
        return [f"if {text} is not None:", *(f"    {line}" for line in digest(text, shape.item, into)), "else:", f"    {into} = mix({into}, u64(77))"]
    return []
