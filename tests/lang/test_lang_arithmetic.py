# SPDX-License-Identifier: Apache-2.0
"""Arithmetic by name against plain int arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lang_numbers import double, pairs

from delphyne.lang import (
    byte_swap,
    checked_add,
    checked_mul,
    checked_sub,
    count_leading_zeros,
    count_trailing_zeros,
    rotate_left,
    rotate_right,
    sign_extend,
    u8,
    u16,
    u32,
    u64,
    wrap_add,
    wrap_mul,
    wrap_sub,
)


@given(case=pairs())
def test_wrapping_and_checked(case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    for wrap, checked, exact in (
        (wrap_add, checked_add, a + b),
        (wrap_sub, checked_sub, a - b),
        (wrap_mul, checked_mul, a * b),
    ):
        assert wrap(cls(a), cls(b)) == cls(exact % (cls.LIMIT + 1))
        assert wrap(cls(a), b) == wrap(a, cls(b)) == wrap(cls(a), cls(b))
        found: Any = checked(cls(a), cls(b))
        assert (found is None) is not (0 <= exact <= cls.LIMIT)
        assert found is None or found == cls(exact)


@given(case=pairs())
def test_rotations(case: tuple[Any, int, int]) -> None:
    cls, a, b = case
    bits = format(a, f"0{cls.BITS}b")
    by = b % cls.BITS
    assert rotate_left(cls(a), cls(b)) == int(bits[by:] + bits[:by], 2)
    assert rotate_right(cls(a), cls(b)) == int(bits[len(bits) - by :] + bits[: len(bits) - by], 2)


@given(case=pairs())
def test_counting(case: tuple[Any, int, int]) -> None:
    cls, a, _ = case
    bits = format(a, f"0{cls.BITS}b")
    assert count_leading_zeros(cls(a)) == cls(len(bits) - len(bits.lstrip("0")))
    assert count_trailing_zeros(cls(a)) == cls(len(bits) - len(bits.rstrip("0")))


def test_byte_swap() -> None:
    assert byte_swap(u16(0x1234)) == u16(0x3412)
    assert byte_swap(u32(0x12345678)) == u32(0x78563412)
    assert byte_swap(u64(0x0102030405060708)) == u64(0x0807060504030201)
    with pytest.raises(TypeError):
        byte_swap(u8(1))


@given(case=pairs(), data=st.data())
def test_sign_extension(case: tuple[Any, int, int], data: st.DataObject) -> None:
    cls, a, _ = case
    width = data.draw(st.integers(1, cls.BITS))
    low = a % 2**width
    signed = low - 2**width if low >= 2 ** (width - 1) else low
    assert sign_extend(cls(a), width) == cls(signed % 2**cls.BITS)
    for bad in (0, cls.BITS + 1, cls(1)):
        with pytest.raises(TypeError):
            sign_extend(cls(a), bad)


@pytest.mark.parametrize("function", [wrap_add, wrap_sub, wrap_mul, checked_add, checked_sub, checked_mul, rotate_left, rotate_right])
def test_mixed_operands_are_refused(function: Any) -> None:
    for a, b in [(u64(1), u32(1)), (1, 2), (u64(1), True), (u64(1), "x"), (u8(1), 256)]:
        with pytest.raises(TypeError):
            function(a, b)


def test_single_operands_of_other_types_are_refused() -> None:
    for function in (count_leading_zeros, count_trailing_zeros, byte_swap):
        with pytest.raises(TypeError):
            function(5)


def test_stand_ins_take_over() -> None:
    x = double("x")
    assert wrap_add(u64(1), x) == ("wrap_add", (u64(1), x))
    assert checked_mul(x, 3) == ("checked_mul", (x, 3))
    assert rotate_left(x, u64(3)) == ("rotate_left", (x, u64(3)))
    assert count_leading_zeros(x) == ("count_leading_zeros", (x,))
    assert sign_extend(x, 12) == ("sign_extend", (x, 12))
