# SPDX-License-Identifier: Apache-2.0
"""SHA-256 in CPython, by general registers and by the crypto extensions: the vectors of FIPS 180-4, and hashlib."""

from __future__ import annotations

import hashlib

import pytest
from bytes_of_the_language import array, piece
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.sealing import sha256
from delphyne.lang import Array, SimdArea, Trap, TrapKind, u8, u64

VECTORS = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    ),
]


def digest(parts: list[bytes], extensions: bool) -> bytes:
    area = SimdArea()
    state = sha256.Sha256()
    sha256.start(state, extensions)
    for part in parts:
        sha256.update(state, area, piece(part))
    out = Array[u8, 32]()
    sha256.finish(state, area, out[:])
    return bytes(out)


@pytest.mark.parametrize("extensions", [False, True])
@pytest.mark.parametrize(("message", "expected"), VECTORS)
def test_published_vectors(message: bytes, expected: str, extensions: bool) -> None:
    assert digest([message], extensions).hex() == expected


@pytest.mark.parametrize("extensions", [False, True])
@settings(deadline=None, max_examples=40)
@given(parts=st.lists(st.binary(max_size=150), max_size=4))
def test_equals_hashlib_however_the_data_is_cut(parts: list[bytes], extensions: bool) -> None:
    assert digest(parts, extensions) == hashlib.sha256(b"".join(parts)).digest()


@pytest.mark.parametrize("extensions", [False, True])
@pytest.mark.parametrize("length", [55, 56, 63, 64, 65, 119, 120, 128])
def test_padding_at_the_edges_of_a_block(length: int, extensions: bool) -> None:
    message = bytes(range(256))[:length]
    assert digest([message], extensions) == hashlib.sha256(message).digest()


def test_finish_leaves_nothing_of_the_message() -> None:
    area, state, out = SimdArea(), sha256.Sha256(), Array[u8, 32]()
    sha256.start(state, False)
    sha256.update(state, area, piece(b"a secret message"))
    sha256.finish(state, area, out[:])
    assert bytes(state.tail) == bytes(64)
    assert all(state.state[n] == 0 for n in range(8))


def test_a_length_that_has_no_bit_count_traps() -> None:
    area, state, out = SimdArea(), sha256.Sha256(), Array[u8, 32]()
    sha256.start(state, False)
    state.length = u64(1 << 61)
    with pytest.raises(Trap) as trapped:
        sha256.finish(state, area, out[:])
    assert trapped.value.kind is TrapKind.OVERFLOW


def test_a_digest_needs_its_32_bytes() -> None:
    area, state = SimdArea(), sha256.Sha256()
    sha256.start(state, False)
    with pytest.raises(Trap) as trapped:
        sha256.finish(state, area, array(bytes(32))[:31])
    assert trapped.value.kind is TrapKind.INDEX
