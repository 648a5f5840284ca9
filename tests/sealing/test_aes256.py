# SPDX-License-Identifier: Apache-2.0
"""AES-256-CTR in CPython, bitsliced and by the crypto extensions: the vectors of FIPS 197 and SP 800-38A, and the library `cryptography`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from bytes_of_the_language import array, piece
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import example, given, settings
from hypothesis import strategies as st

from delphyne.el2.sealing import aes256, aes256_ce
from delphyne.lang import Array, Secret, Trap, TrapKind, declassify, secret, u64

Apply = Callable[[Any, Any, Any], None]
BOTH = pytest.mark.parametrize("apply", [aes256.apply, aes256_ce.apply], ids=["bitsliced", "extensions"])

KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
COUNTER = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
CIPHER = bytes.fromhex(
    "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
    "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
)


def expanded(material: bytes) -> aes256.Key:
    key = aes256.Key()
    aes256.expand(key, piece(material))
    return key


def counter_of(block: bytes) -> aes256.Counter:
    return aes256.Counter(u64(int.from_bytes(block[:8], "big")), u64(int.from_bytes(block[8:], "big")))


def applied(apply: Apply, material: bytes, counter: bytes, data: bytes) -> bytes:
    held = array(data)
    apply(expanded(material), counter_of(counter), held[: len(data)])
    return bytes(held)[: len(data)]


def expected(material: bytes, counter: bytes, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(material), modes.CTR(counter)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


@BOTH
def test_sp_800_38a_f_5_5(apply: Apply) -> None:
    assert applied(apply, KEY, COUNTER, PLAIN) == CIPHER
    assert applied(apply, KEY, COUNTER, CIPHER) == PLAIN


@BOTH
def test_fips_197_c_3(apply: Apply) -> None:
    block = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert applied(apply, bytes(range(32)), block, bytes(16)).hex() == "8ea2b7ca516745bfeafc49904b496089"


def test_key_schedule_of_fips_197_a_3() -> None:
    key = expanded(KEY)
    schedule = b"".join(int(declassify(key.words[n])).to_bytes(8, "little") for n in range(30))
    assert schedule[:32] == KEY
    assert schedule[32:48].hex() == "9ba354118e6925afa51a8b5f2067fcde"
    assert schedule[-16:].hex() == "fe4890d1e6188d0b046df344706c631e"


@BOTH
@settings(deadline=None, max_examples=25)
@given(
    material=st.binary(min_size=32, max_size=32),
    counter=st.binary(min_size=16, max_size=16),
    data=st.binary(max_size=100),
)
@example(material=KEY, counter=b"\xff" * 16, data=bytes(80))
@example(material=KEY, counter=bytes(8) + b"\xff" * 7 + b"\xfe", data=bytes(64))
def test_equals_the_library(apply: Apply, material: bytes, counter: bytes, data: bytes) -> None:
    assert applied(apply, material, counter, data) == expected(material, counter, data)


@pytest.mark.parametrize("counter", [COUNTER, b"\xff" * 16, b"\xff" * 15 + b"\xf6", b"\xff" * 15 + b"\xf5", b"\xff" * 15 + b"\xf4"])
@pytest.mark.parametrize("length", [127, 128, 145, 176])
def test_batches_of_eight_blocks_wrap_the_counter_as_single_ones_do(counter: bytes, length: int) -> None:
    data = bytes(n & 0xFF for n in range(length))
    assert applied(aes256_ce.apply, KEY, counter, data) == expected(KEY, counter, data)


def test_the_circuit_is_the_s_box() -> None:
    """All 256 bytes at once, 64 at a time, against the definition: the inverse in GF(2^8), then the affine map."""
    box = [_affine(_inverse(n)) for n in range(256)]
    for first in range(0, 256, 64):
        q = Array[Secret[u64], 8]()
        for bit in range(8):
            q[bit] = secret(u64(sum(((first + at) >> bit & 1) << at for at in range(64))))
        aes256._substitute(q)
        words = [int(declassify(q[bit])) for bit in range(8)]
        assert [sum((word >> at & 1) << bit for bit, word in enumerate(words)) for at in range(64)] == box[first : first + 64]


def _product(a: int, b: int) -> int:
    total = 0
    for bit in range(8):
        total ^= (a << bit) if b >> bit & 1 else 0
    for bit in range(14, 7, -1):
        total ^= 0x11B << (bit - 8) if total >> bit & 1 else 0
    return total


def _inverse(a: int) -> int:
    return next((b for b in range(256) if _product(a, b) == 1), 0)


def _affine(a: int) -> int:
    total = 0x63 ^ a
    for turn in (1, 2, 3, 4):
        total ^= (a << turn | a >> (8 - turn)) & 0xFF
    return total


def test_forget_wipes_the_schedule() -> None:
    key = expanded(KEY)
    aes256.forget(key)
    assert all(declassify(key.words[n]) == 0 for n in range(30))


def test_a_short_key_traps() -> None:
    with pytest.raises(Trap) as trapped:
        expanded(KEY[:31])
    assert trapped.value.kind is TrapKind.INDEX
