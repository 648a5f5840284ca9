# SPDX-License-Identifier: Apache-2.0
"""The integers against plain int arithmetic, and what must be refused."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lang_numbers import WIDTHS, double, pairs

from delphyne.lang import Trap, TrapKind, u8, u32, u64


def outcome(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except Trap as trap:
        return trap.kind, trap.a, trap.b


@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@given(case=pairs())
def test_overflow_traps(name: str, case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    operate = getattr(operator, name)
    exact = operate(a, b)
    expected = cls(exact) if 0 <= exact <= cls.LIMIT else (TrapKind.OVERFLOW, a, b)
    assert outcome(lambda: operate(cls(a), cls(b))) == expected
    assert outcome(lambda: operate(cls(a), b)) == expected
    assert outcome(lambda: operate(a, cls(b))) == expected


@pytest.mark.parametrize("name", ["floordiv", "mod"])
@given(case=pairs())
def test_division_by_zero_traps(name: str, case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    operate = getattr(operator, name)
    expected = cls(operate(a, b)) if b else (TrapKind.DIVIDE, a, 0)
    assert outcome(lambda: operate(cls(a), cls(b))) == expected
    assert outcome(lambda: operate(a, cls(b))) == expected


@pytest.mark.parametrize("name", ["lshift", "rshift"])
@given(case=pairs())
def test_wide_shifts_trap_and_lose_bits(name: str, case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    operate = getattr(operator, name)
    expected = cls(operate(a, b) & cls.LIMIT) if b < cls.BITS else (TrapKind.SHIFT, a, b)
    assert outcome(lambda: operate(cls(a), cls(b))) == expected
    assert outcome(lambda: operate(a, cls(b))) == expected


@given(case=pairs())
def test_bits_and_comparisons(case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    x, y = cls(a), cls(b)
    for operate in (operator.and_, operator.or_, operator.xor):
        assert operate(x, y) == operate(x, b) == operate(a, y) == cls(operate(a, b))
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        assert compare(x, y) is compare(x, b) is compare(a, y) is compare(a, b)
    assert ~x == cls(a ^ cls.LIMIT)
    assert (hash(x) == hash(y)) or a != b
    assert min(x, y) == min(a, b)
    assert max(x, y) == max(a, b)


@given(case=pairs(), other=st.sampled_from(WIDTHS))
def test_conversions(case: tuple[Any, int, int], other: Any) -> None:
    cls, a, _ = case
    x = cls(a)
    assert outcome(lambda: other(x)) == (other(a) if a <= other.LIMIT else (TrapKind.NARROW, a, other.LIMIT))
    assert other.wrap(x) == other(a & other.LIMIT)
    assert type(other.wrap(x)) is other
    assert (int(x), operator.index(x), str(x), f"{x:#x}", f"{x:08x}", f"{x}") == (a, a, str(a), f"{a:#x}", f"{a:08x}", str(a))
    assert repr(x) == f"{cls.__name__}({a:#x})"
    assert copy.deepcopy(x) is x
    assert copy.copy(x) is x


def test_limits_and_bool() -> None:
    assert [int(cls.MAX) for cls in WIDTHS] == [2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1]
    assert u32(True) == 1
    assert u32(False) == 0


@pytest.mark.parametrize(
    "operate",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.floordiv,
        operator.mod,
        operator.lshift,
        operator.rshift,
        operator.and_,
        operator.or_,
        operator.xor,
        operator.eq,
        operator.ne,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
    ],
)
def test_widths_and_foreign_types_never_mix(operate: Callable[[Any, Any], Any]) -> None:
    for a, b in [(u64(1), u32(1)), (u8(1), u64(1)), (u64(1), True), (True, u64(1)), (u64(1), -1), (u8(1), 256), (-1, u64(1))]:
        with pytest.raises(TypeError):
            operate(a, b)


def test_no_condition_no_true_division_no_sign() -> None:
    for refused in (
        lambda: bool(u64(1)),
        lambda: u64(1) / u64(1),
        lambda: -u64(1),
        lambda: u64(1) ** u64(1),
        lambda: u64(-1),
        lambda: u8(256),
        lambda: u64("1"),
        lambda: u64(1.0),
        lambda: u32.wrap(5),
        lambda: u64(1) + 1.0,
    ):
        with pytest.raises(TypeError):
            refused()


@given(case=pairs(), step=st.integers(1, 300))
def test_range(case: tuple[Any, int, int], step: int) -> None:
    cls, a, b = case
    b = min(b, a + 50 * step)
    assert [int(i) for i in cls.range(cls(a), cls(b), step)] == list(range(a, b, step))
    assert [int(i) for i in cls.range(cls(b & 0x3F))] == list(range(b & 0x3F))
    assert all(type(i) is cls for i in cls.range(0, 3))


def test_range_ends_are_of_one_width_and_the_step_is_literal() -> None:
    for bad in (lambda: u64.range(u32(3)), lambda: u64.range(u64(0), u64(4), 0), lambda: u64.range(u64(0), u64(4), u64(1)), lambda: u64.range(-1, 4)):
        with pytest.raises(TypeError):
            bad()


def test_a_range_is_not_changed_by_its_body() -> None:
    seen = []
    n = u64(3)
    for i in u64.range(n):
        seen.append(int(i))
        n = u64(100)
        i = i + 50
    assert seen == [0, 1, 2]
    assert n == 100


def test_stand_ins_take_over() -> None:
    x = double("x")
    assert u64(1) + x == "1 + x"
    assert u32(x) == ("convert", (u32, x))
    assert u32.wrap(x) == ("wrap", (u32, x))
    assert u64.range(x) == ("range", (u64, u64(0), x, 1))
