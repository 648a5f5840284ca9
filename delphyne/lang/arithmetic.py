# SPDX-License-Identifier: Apache-2.0
"""Arithmetic by name: what wraps, what answers None instead of trapping, and what operates on bits.

All of it takes and gives one width. Secrets go through `rotate_left`, `rotate_right` and `wrap_add` as well: they bring their own
`_function` (see `ints`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from delphyne.lang.ints import PLAIN, I, Integer, stood_for, u8

if TYPE_CHECKING:
    from delphyne.lang.secret import Secret


def _pair(name: str, a: Any, b: Any) -> tuple[Any, int, int] | None:
    """Width and numbers of two plain operands of which one may be a literal; None where a stand-in takes part."""
    kind = type(a) if type(a) in PLAIN else type(b)
    if kind not in PLAIN or not all(type(x) is kind or type(x) is int for x in (a, b)):
        if any(hasattr(x, "_function") for x in (a, b)):
            return None
        raise TypeError(f"{name}({type(a).__name__}, {type(b).__name__})")
    return kind, kind._beside(a)._v, kind._beside(b)._v


def _plain(name: str, x: Any) -> bool:
    if type(x) in PLAIN:
        return True
    if hasattr(x, "_function"):
        return False
    raise TypeError(f"{name}({type(x).__name__})")


@overload
def wrap_add(a: I, b: I | int) -> I: ...
@overload
def wrap_add(a: Secret[I], b: Secret[I] | I | int) -> Secret[I]: ...
def wrap_add(a: Any, b: Any) -> Any:
    """a + b, modulo the width."""
    pair = _pair("wrap_add", a, b)
    if pair is None:
        return stood_for("wrap_add", a, b)
    return pair[0]((pair[1] + pair[2]) & pair[0].LIMIT)


def wrap_sub(a: I, b: I | int) -> I:
    """a - b, modulo the width."""
    pair = _pair("wrap_sub", a, b)
    if pair is None:
        return stood_for("wrap_sub", a, b)  # type: ignore[no-any-return]
    return pair[0]((pair[1] - pair[2]) & pair[0].LIMIT)  # type: ignore[no-any-return]


def wrap_mul(a: I, b: I | int) -> I:
    """a * b, modulo the width."""
    pair = _pair("wrap_mul", a, b)
    if pair is None:
        return stood_for("wrap_mul", a, b)  # type: ignore[no-any-return]
    return pair[0]((pair[1] * pair[2]) & pair[0].LIMIT)  # type: ignore[no-any-return]


def _checked(kind: Any, number: int) -> Any:
    return kind(number) if 0 <= number <= kind.LIMIT else None


def checked_add(a: I, b: I | int) -> I | None:
    """a + b, or None where it leaves the width."""
    pair = _pair("checked_add", a, b)
    if pair is None:
        return stood_for("checked_add", a, b)  # type: ignore[no-any-return]
    return _checked(pair[0], pair[1] + pair[2])  # type: ignore[no-any-return]


def checked_sub(a: I, b: I | int) -> I | None:
    """a - b, or None where it would be negative."""
    pair = _pair("checked_sub", a, b)
    if pair is None:
        return stood_for("checked_sub", a, b)  # type: ignore[no-any-return]
    return _checked(pair[0], pair[1] - pair[2])  # type: ignore[no-any-return]


def checked_mul(a: I, b: I | int) -> I | None:
    """a * b, or None where it leaves the width."""
    pair = _pair("checked_mul", a, b)
    if pair is None:
        return stood_for("checked_mul", a, b)  # type: ignore[no-any-return]
    return _checked(pair[0], pair[1] * pair[2])  # type: ignore[no-any-return]


def _rotated(kind: type[Integer], number: int, left: int) -> Any:
    left %= kind.BITS
    return kind(((number << left) | (number >> (kind.BITS - left))) & kind.LIMIT)


@overload
def rotate_left(x: I, n: I | int) -> I: ...
@overload
def rotate_left(x: Secret[I], n: I | int) -> Secret[I]: ...
def rotate_left(x: Any, n: Any) -> Any:
    """x rotated towards its high end by n modulo the width."""
    pair = _pair("rotate_left", x, n)
    return stood_for("rotate_left", x, n) if pair is None else _rotated(pair[0], pair[1], pair[2])


@overload
def rotate_right(x: I, n: I | int) -> I: ...
@overload
def rotate_right(x: Secret[I], n: I | int) -> Secret[I]: ...
def rotate_right(x: Any, n: Any) -> Any:
    """x rotated towards its low end by n modulo the width."""
    pair = _pair("rotate_right", x, n)
    return stood_for("rotate_right", x, n) if pair is None else _rotated(pair[0], pair[1], -pair[2])


def count_leading_zeros(x: I) -> I:
    """Zero bits above the highest one bit; the width for zero."""
    if not _plain("count_leading_zeros", x):
        return stood_for("count_leading_zeros", x)  # type: ignore[no-any-return]
    return type(x)(x.BITS - x._v.bit_length())


def count_trailing_zeros(x: I) -> I:
    """Zero bits below the lowest one bit; the width for zero."""
    if not _plain("count_trailing_zeros", x):
        return stood_for("count_trailing_zeros", x)  # type: ignore[no-any-return]
    return type(x)((x._v & -x._v).bit_length() - 1 if x._v else x.BITS)


def byte_swap(x: I) -> I:
    """x with its bytes in the opposite order."""
    if not _plain("byte_swap", x):
        return stood_for("byte_swap", x)  # type: ignore[no-any-return]
    if type(x) is u8:
        raise TypeError("byte_swap(u8)")
    return type(x)(int.from_bytes(x._v.to_bytes(x.BITS // 8, "little"), "big"))


def sign_extend(x: I, from_bits: int) -> I:
    """The low `from_bits` bits (a literal) of x as a two's complement number, widened to the width of x."""
    if type(from_bits) is not int or not 0 < from_bits <= x.BITS:
        raise TypeError(f"sign_extend from {from_bits!r} bits")
    if not _plain("sign_extend", x):
        return stood_for("sign_extend", x, from_bits)  # type: ignore[no-any-return]
    low = x._v & ((1 << from_bits) - 1)
    return type(x)((low - ((low >> (from_bits - 1)) << from_bits)) & x.LIMIT)
