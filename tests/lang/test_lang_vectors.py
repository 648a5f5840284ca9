# SPDX-License-Identifier: Apache-2.0
"""SIMD instructions: SHA-256 and AES built of them, against hashlib and cryptography; the rest against plain arithmetic."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.lang import (
    V128,
    Array,
    SimdArea,
    Trap,
    aesd,
    aese,
    aesimc,
    aesmc,
    sha256h,
    sha256h2,
    sha256su0,
    sha256su1,
    simd,
    text,
    u8,
    u64,
    v128_from_u64,
    v128_high,
    v128_load,
    v128_low,
    v128_store,
    vadd32,
    vadd64,
    vand,
    vdup_low,
    vext8,
    vor,
    vrev32,
    vxor,
)
from delphyne.lang.meta import function_meta

SIXTEEN = st.binary(min_size=16, max_size=16)


def vector(data: bytes) -> V128:
    return v128_load(text(data), 0)


def data_of(v: V128) -> bytes:
    return int(v128_low(v)).to_bytes(8, "little") + int(v128_high(v)).to_bytes(8, "little")


def lanes(data: bytes, size: int) -> list[int]:
    return [int.from_bytes(data[i : i + size], "little") for i in range(0, 16, size)]


@given(SIXTEEN, SIXTEEN)
def test_plain_operations(a: bytes, b: bytes) -> None:
    x, y = vector(a), vector(b)
    assert data_of(x) == a
    assert data_of(vxor(x, y)) == bytes(p ^ q for p, q in zip(a, b, strict=True))
    assert data_of(vand(x, y)) == bytes(p & q for p, q in zip(a, b, strict=True))
    assert data_of(vor(x, y)) == bytes(p | q for p, q in zip(a, b, strict=True))
    assert lanes(data_of(vadd32(x, y)), 4) == [(p + q) % 2**32 for p, q in zip(lanes(a, 4), lanes(b, 4), strict=True)]
    assert lanes(data_of(vadd64(x, y)), 8) == [(p + q) % 2**64 for p, q in zip(lanes(a, 8), lanes(b, 8), strict=True)]
    assert data_of(vrev32(x)) == b"".join(a[i : i + 4][::-1] for i in range(0, 16, 4))
    assert data_of(vext8(x, y)) == a[8:] + b[:8]
    assert data_of(vdup_low(x)) == a[:8] * 2
    assert data_of(v128_from_u64(v128_low(x), v128_high(y))) == a[:8] + b[8:]


def test_loads_and_stores_trap_outside() -> None:
    array = Array[u8, 20]()
    v128_store(array[:], u64(3), vector(bytes(range(1, 17))))
    assert bytes(array) == bytes(3) + bytes(range(1, 17)) + b"\0"
    assert data_of(v128_load(array[:], u64(3))) == bytes(range(1, 17))
    for bad in (lambda: v128_load(array[:], u64(5)), lambda: v128_store(array[:], 5, vector(bytes(16)))):
        with pytest.raises(Trap):
            bad()
    for refused in (lambda: V128(-1), lambda: v128_from_u64(1, 2), lambda: vector(bytes(16)) == vector(bytes(16))):
        with pytest.raises(TypeError):
            refused()


def expanded(key: bytes) -> list[bytes]:
    """Round keys of AES-256 by FIPS 197, 5.2. SubWord is AESE with a zero key of four equal words, which shifting rows leaves alone."""

    def substituted(word: bytes) -> bytes:
        return data_of(aese(vector(word * 4), vector(bytes(16))))[:4]

    words = [key[i : i + 4] for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[i - 1]
        if i % 8 == 0:
            word = substituted(word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant <<= 1
        elif i % 8 == 4:
            word = substituted(word)
        words.append(bytes(p ^ q for p, q in zip(word, words[i - 8], strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


@settings(max_examples=15)
@given(key=st.binary(min_size=32, max_size=32), block=SIXTEEN)
def test_aes_256(key: bytes, block: bytes) -> None:
    keys = [vector(k) for k in expanded(key)]
    state = vector(block)
    for k in keys[:13]:
        state = aesmc(aese(state, k))
    state = vxor(aese(state, keys[13]), keys[14])
    cipher = Cipher(algorithms.AES(key), modes.ECB())
    assert data_of(state) == cipher.encryptor().update(block)
    state = aesd(state, keys[14])
    for k in keys[13:0:-1]:
        state = aesd(aesimc(state), aesimc(k))
    assert data_of(vxor(state, keys[0])) == block


def roots(count: int, power: int) -> list[int]:
    """The first 32 bits of the fractional parts of square (2) or cube (3) roots of the first primes (FIPS 180-4, 4.2.2)."""
    primes = [n for n in range(2, 400) if all(n % d for d in range(2, n))][:count]
    found = []
    for prime in primes:
        wanted = prime << 32 * power
        low, high = 0, 1 << 40
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= wanted else (low, middle)
        found.append(low % 2**32)
    return found


CONSTANTS = roots(64, 3)
START = roots(8, 2)


def packed(words: list[int]) -> V128:
    return vector(b"".join(word.to_bytes(4, "little") for word in words))


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_sha_256(message: bytes) -> None:
    padded = message + b"\x80" + bytes(-(len(message) + 9) % 64) + (8 * len(message)).to_bytes(8, "big")
    abcd, efgh = packed(START[:4]), packed(START[4:])
    for at in range(0, len(padded), 64):
        w = [vrev32(vector(padded[at + 16 * i : at + 16 * i + 16])) for i in range(4)]
        x, y = abcd, efgh
        for turn in range(16):
            if turn >= 4:
                w.append(sha256su1(sha256su0(w[turn - 4], w[turn - 3]), w[turn - 2], w[turn - 1]))
            mixed = vadd32(w[turn], packed(CONSTANTS[4 * turn : 4 * turn + 4]))
            x, y = sha256h(x, y, mixed), sha256h2(y, x, mixed)
        abcd, efgh = vadd32(abcd, x), vadd32(efgh, y)
    assert data_of(vrev32(abcd)) + data_of(vrev32(efgh)) == hashlib.sha256(message).digest()


def test_simd_marks_a_function_and_brackets_a_body() -> None:
    @simd
    def work() -> u64:
        return u64(1)

    assert function_meta(work).simd
    area = SimdArea()
    with simd(area):
        assert work() == 1
        assert area.depth == 1
        with pytest.raises(AssertionError), simd(area):
            pass
    assert area.depth == 0
    bad: Any = area
    with pytest.raises(AttributeError):
        bad.unknown  # noqa: B018
