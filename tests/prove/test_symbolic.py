# SPDX-License-Identifier: Apache-2.0
"""Integers of solver terms do what plain ones do: values, traps and operands, on constants and at the edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne import lang
from delphyne.lang import Array, Bits32, Enum8, Trap, bits, u8, u16, u32, u64
from delphyne.prove.engine import run_concrete

WIDTHS: list[Any] = [u8, u16, u32, u64]
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "//": lambda a, b: a // b, "%": lambda a, b: a % b,
    "&": lambda a, b: a & b, "|": lambda a, b: a | b, "^": lambda a, b: a ^ b, "<<": lambda a, b: a << b, ">>": lambda a, b: a >> b,
    "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b, "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b, "min": min, "max": max, "wrap_add": lang.wrap_add, "wrap_sub": lang.wrap_sub, "wrap_mul": lang.wrap_mul,
    "checked_add": lang.checked_add, "checked_sub": lang.checked_sub, "checked_mul": lang.checked_mul,
    "rotate_left": lang.rotate_left, "rotate_right": lang.rotate_right,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "~": lambda x: ~x, "count_leading_zeros": lang.count_leading_zeros, "count_trailing_zeros": lang.count_trailing_zeros,
    "sign_extend": lambda x: lang.sign_extend(x, 5), "to u8": lambda x: u8(x), "to u16": lambda x: u16(x), "to u64": lambda x: u64(x),
    "wrap u8": lambda x: u8.wrap(x), "wrap u32": lambda x: u32.wrap(x), "plus literal": lambda x: x + 1, "literal minus": lambda x: 200 - x,
}


def outcome(run: Callable[[], Any]) -> Any:
    try:
        result = run()
    except Trap as trap:
        return trap.kind, trap.a, trap.b
    return type(result), result


def edges(cls: Any) -> st.SearchStrategy[int]:
    near = [0, 1, 2, 7, 8, cls.BITS - 1, cls.BITS, cls.LIMIT // 2, cls.LIMIT // 2 + 1, cls.LIMIT - 1, cls.LIMIT]
    return st.sampled_from(near) | st.integers(0, cls.LIMIT)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_operations_agree_with_plain_integers(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(WIDTHS))
    name = data.draw(st.sampled_from([*BINARY, *UNARY]))
    a = cls(data.draw(edges(cls)))
    if name in UNARY:
        assert outcome(lambda: run_concrete(UNARY[name], [a])) == outcome(lambda: UNARY[name](a))
    else:
        b = cls(data.draw(edges(cls)))
        assert outcome(lambda: run_concrete(BINARY[name], [a, b])) == outcome(lambda: BINARY[name](a, b))


@pytest.mark.parametrize("cls", WIDTHS[1:])
def test_byte_swap_agrees(cls: Any) -> None:
    x = cls(0x1234_5678_9ABC_DEF0 & cls.LIMIT)
    assert run_concrete(lang.byte_swap, [x]) == lang.byte_swap(x)


def test_widths_do_not_mix() -> None:
    with pytest.raises(TypeError, match="SymU32 beside u64"):
        run_concrete(lambda a, b: a + b, [u64(1), u32(1)])


class Colour(Enum8):
    """Three of 256."""

    RED = 0
    GREEN = 1
    BLUE = 7


class Word(Bits32):
    """Fields of each sort."""

    low: u8 = bits(4, 0)
    flag: bool = bits(5)
    colour: Colour = bits(10, 8)
    high: u16 = bits(31, 16)


def get_fields(raw: u32) -> tuple[u8, bool, u16]:
    word = Word.of(raw)
    return word.low, word.flag, word.high


def set_fields(raw: u32, low: u8) -> u32:
    return Word.of(raw).replace(low=low, flag=True, colour=Colour.BLUE, high=u16(0xABCD)).raw


def get_colour(raw: u32) -> u8:
    return Word.of(raw).colour.raw


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 0xFFFF_FFFF), st.integers(0, 255))
def test_bit_fields_agree(raw: int, low: int) -> None:
    assert run_concrete(get_fields, [u32(raw)]) == get_fields(u32(raw))
    for function, arguments in ((set_fields, [u32(raw), u8(low)]), (get_colour, [u32(raw)])):
        plain, terms = outcome(lambda: function(*arguments)), outcome(lambda: run_concrete(function, arguments))  # noqa: B023
        assert terms == plain


def element(index: u64) -> u32:
    row = Array[u32, 4]()
    row[index] = u32(9)
    return row[index] + row[0]


def load(offset: u64) -> u32:
    data = Array[u8, 8]()
    for number in u64.range(8):
        data[number] = u8(number)
    lang.store_le16(data[1:], offset, u16(0xBEEF))
    return lang.load_be32(data[:], offset)


def cut(low: u64, high: u64) -> u64:
    return Array[u8, 8]()[low:high].length


@pytest.mark.parametrize("index", [0, 1, 3, 4, 1 << 63])
def test_arrays_agree(index: int) -> None:
    for function in (element, load):
        assert outcome(lambda: run_concrete(function, [u64(index)])) == outcome(lambda: function(u64(index)))  # noqa: B023


@pytest.mark.parametrize(("low", "high"), [(0, 8), (3, 3), (4, 3), (0, 9), (9, 9)])
def test_slices_agree(low: int, high: int) -> None:
    assert outcome(lambda: run_concrete(cut, [u64(low), u64(high)])) == outcome(lambda: cut(u64(low), u64(high)))
