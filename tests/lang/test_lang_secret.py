# SPDX-License-Identifier: Apache-2.0
"""Secrets: what may be done with them, and that nothing else can."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lang_numbers import pairs

from delphyne.lang import (
    Array,
    Secret,
    Trap,
    TrapKind,
    declassify,
    rotate_left,
    rotate_right,
    secret,
    secret_equal,
    struct,
    u8,
    u32,
    u64,
    wipe,
    wrap_add,
    wrap_mul,
)


@struct
class Keys:
    words: Array[Secret[u32], 4]
    last: Secret[u64]


@given(case=pairs(), n=st.integers(0, 7))
def test_secrets_compute_as_their_numbers_do(case: tuple[Any, int, int], n: int) -> None:
    cls, a, b = case
    s: Any = secret(cls(a))
    t: Any = secret(cls(b))
    assert isinstance(s, Secret[cls])
    for found, expected in (
        (s & t, cls(a & b)),
        (s | t, cls(a | b)),
        (s ^ t, cls(a ^ b)),
        (s ^ cls(b), cls(a ^ b)),
        (s & 0x55, cls(a & 0x55)),
        (0x55 | s, cls(a | 0x55)),
        (~s, ~cls(a)),
        (s << n, cls(a) << n),
        (s >> cls(n), cls(a) >> n),
        (rotate_left(s, n), rotate_left(cls(a), n)),
        (rotate_right(s, cls(n)), rotate_right(cls(a), n)),
        (wrap_add(s, t), wrap_add(cls(a), cls(b))),
        (wrap_add(s, cls(b)), wrap_add(cls(a), cls(b))),
    ):
        assert type(found) is Secret[cls]
        assert declassify(found) == expected


def test_a_secret_decides_nothing() -> None:
    s: Any = secret(u64(5))
    for bad in (
        lambda: bool(s),
        lambda: s == 5,
        lambda: s != 5,
        lambda: s < s,
        lambda: s >= 1,
        lambda: int(s),
        lambda: f"{s}",
        lambda: f"{s:x}",
        lambda: str(s),
        lambda: hash(s),
        lambda: Array[u8, 8]()[s],
        lambda: s + 1,
        lambda: s - s,
        lambda: s * s,
        lambda: s // 2,
        lambda: s << s,
        lambda: 1 << s,
        lambda: rotate_left(u64(1), s),
        lambda: rotate_left(s, s),
        lambda: wrap_mul(s, s),
        lambda: u64(s),
        lambda: u32.wrap(s),
        lambda: u64.range(s),
        lambda: s ^ u32(1),
        lambda: s ^ True,
        lambda: secret(s),
        lambda: secret(5),
        lambda: declassify(u64(1)),
        lambda: Secret[bool],
    ):
        with pytest.raises(TypeError):
            bad()
    assert repr(s) == "Secret[u64](..)"


def test_secrets_live_in_places() -> None:
    keys = Keys()
    keys.words[u64(2)] = secret(u32(7))
    keys.last = secret(u64(9))
    assert (declassify(keys.words[2]), declassify(keys.words[0]), declassify(keys.last)) == (u32(7), u32(0), u64(9))
    wipe(keys)
    assert (declassify(keys.words[2]), declassify(keys.last)) == (u32(0), u64(0))
    bad: Any
    for bad in (u32(1), secret(u64(1))):
        with pytest.raises(TypeError):
            keys.words[0] = bad


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_secret_equal(a: bytes, b: bytes) -> None:
    left, right = Array[u8, len(a)].of(a)[:], Array[u8, len(b)].of(b)[:]
    if len(a) == len(b):
        assert secret_equal(left, right) is (a == b)
        assert secret_equal(left, left) is True
    else:
        with pytest.raises(Trap) as trap:
            secret_equal(left, right)
        assert (trap.value.kind, trap.value.a, trap.value.b) == (TrapKind.INDEX, max(len(a), len(b)), min(len(a), len(b)))


def test_secret_equal_of_secret_bytes_and_of_nothing_else() -> None:
    hidden: Any = Array[Secret[u8], 2]()
    assert secret_equal(hidden[:], Array[u8, 2]()[:]) is True
    hidden[1] = secret(u8(1))
    assert secret_equal(hidden[:], Array[u8, 2]()[:]) is False
    for bad in (b"ab", Array[u32, 2]()[:]):
        with pytest.raises(TypeError):
            secret_equal(hidden[:], bad)
