# SPDX-License-Identifier: Apache-2.0
"""Which functions are made small: the cold ones and what only they reach, never what anything else needs too."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.compiler import tree
from delphyne.compiler.back.ir import AARCH64, emit_ir
from delphyne.compiler.back.rare import rare
from tests.compiler.back.trees import LOC, U64, UNIT, add, assign, call, const, discard, function, local, program, ret

COUNT = 8


def _program(calls: list[set[int]], cold: set[int], exported: set[int]) -> tree.Program:
    made = []
    for number, callees in enumerate(calls):
        body = [*(discard(call(f"f{callee}", [], UNIT)) for callee in sorted(callees)), ret()]
        one = function(f"f{number}", [], UNIT, body, exported=number in exported)
        one.cold = number in cold
        made.append(one)
    return program(*made)


def _reached(calls: list[set[int]], start: int, cold: set[int]) -> set[int]:
    """What runs because of a function, without passing a cold one."""
    if start in cold:
        return set()
    return {start}.union(*(_reached(calls, callee, cold) for callee in calls[start]))


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[list[set[int]], set[int], set[int]]:
    """Calls of functions with higher numbers, since there is no recursion; cold and exported functions."""
    calls = [draw(st.sets(st.integers(number + 1, COUNT - 1), max_size=3)) if number < COUNT - 1 else set() for number in range(COUNT)]
    numbers = st.sets(st.integers(0, COUNT - 1), max_size=3)
    return calls, draw(numbers), draw(numbers)


@given(_graphs())
@settings(max_examples=200, deadline=None)
def test_only_what_cold_functions_alone_reach_is_rare(graph: tuple[list[set[int]], set[int], set[int]]) -> None:
    calls, cold, exported = graph
    called = set().union(*calls)
    starts = [number for number in range(COUNT) if number in exported or number not in called]
    often = set().union(*(_reached(calls, start, cold) for start in starts))
    assert rare(_program(calls, cold, exported)) == {f"f{number}" for number in range(COUNT) if number not in often}


def test_a_call_counts_wherever_it_stands() -> None:
    one = function("one", [], U64, [ret(const(1))])
    kept = tree.Scoped([], [tree.While(tree.Const(True, tree.BoolT(), LOC), [assign("x", add(call("one", []), local("x")))], LOC)], [], LOC)
    both = [function("cold", [], U64, [ret(call("one", []))]), function("often", [], U64, [kept, ret(const(0))], exported=True, x=U64)]
    both[0].cold = True
    assert rare(program(one, *both)) == {"cold"}


def test_rare_functions_are_optimised_for_size_and_no_others() -> None:
    text = emit_ir(_program([{2}, {3}, {4}, {4}, set(), set(), set(), set()], {0}, {0, 1}), AARCH64)
    marks = dict(re.findall(r'^define \w+ void @"(f\d)"\(\) (.*?) !dbg', text, re.MULTILINE))
    assert {name for name, mark in marks.items() if "optsize" in mark.split()} == {"f0", "f2"}
    assert {name for name, mark in marks.items() if "cold" in mark.split()} == {"f0"}
