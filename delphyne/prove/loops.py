# SPDX-License-Identifier: Apache-2.0
"""Loops of any length, by induction: a theorem states what holds before each round, and one arbitrary round shows that it goes on to hold.

A rule replaces `for i in u64.range(..)` of one function. The invariant is required before the first round. Then the run splits: on one path the
body runs once, for an arbitrary `i`, from any state that satisfies the invariant at `i`, and the invariant at the next `i` is required when it
comes round again; on the other the loop is over and the invariant holds at its end. `state` puts an arbitrary such state in place of the memory that
the loop writes. A loop that carries a local from round to round has no such rule; that is noticed and refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.prove.path import Finished, Formula, ProverError, Term, current
from delphyne.prove.symbolic import FUNCTIONS, decide, integer, term


@dataclass(frozen=True, slots=True)
class Rule:
    """`holds(i)`: what is true before round `i`, of the memory as it is. `state(i)` makes memory what the earlier rounds left behind: only
    `memory.filling` does, whose `holds` says of every cell that the rounds leave just that."""

    holds: Callable[[Term], Formula]
    state: Callable[[Term], None] = lambda _: None


def _range(cls: Any, start: Any, stop: Any, step: int) -> Iterator[Any]:
    """The rounds of a loop: by the next rule for the function that runs it, else each of them."""
    rules = current().rules.get(_caller().f_code.co_qualname)
    return _by_rule(rules.pop(0), cls, term(start), term(stop), step) if rules else _UNROLLED(cls, start, stop, step)


def _by_rule(rule: Rule, cls: Any, start: Term, stop: Term, step: int) -> Iterator[Any]:
    path = current()
    path.locals = _locals(sys._getframe(1))
    if step & (step - 1):
        raise ProverError("a loop rule counts by a power of two")
    path.require(z3.Or(z3.UGE(start, stop), (stop - start) & (step - 1) == 0), "the loop ends at a whole number of steps")
    path.require(rule.holds(start), "the loop invariant holds before the first round")
    here = path.fresh_word("round", cls.BITS)
    if decide(path.fresh_word("inside a loop", 1) == 1):
        path.assume(z3.And(z3.UGE(here, start), z3.ULT(here, stop), (here - start) & (step - 1) == 0))
        rule.state(here)
        path.assume(rule.holds(here))
        number = integer(here, cls)
        before = _locals(sys._getframe(1))
        yield number
        _refuse_carried(before, _locals(sys._getframe(1)), number)
        path.require(rule.holds(here + step), "the loop invariant holds before the next round")
        raise Finished
    end = z3.If(z3.UGT(stop, start), stop, start)
    rule.state(end)
    path.assume(rule.holds(end))


def _caller() -> FrameType:
    """The function whose loop this is: the first that belongs neither to the integers nor to their stand-ins."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "delphyne.prove.symbolic", "delphyne.lang.ints"):
        frame = frame.f_back
    assert frame is not None
    return frame


_UNROLLED = FUNCTIONS["range"]
FUNCTIONS["range"] = _range


def _locals(frame: FrameType) -> dict[str, object]:
    return dict(frame.f_locals)


def _refuse_carried(before: dict[str, object], after: dict[str, object], number: object) -> None:
    """Whatever the function knew when the round began is unchanged, but for the loop variable."""
    changed = [name for name, value in before.items() if after.get(name) is not value and after.get(name) is not number]
    if changed:
        raise ProverError(f"the loop carries {', '.join(changed)} from round to round")
