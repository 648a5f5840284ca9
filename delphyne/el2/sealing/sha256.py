# SPDX-License-Identifier: Apache-2.0
"""SHA-256 (FIPS 180-4): digests of records, manifests and pages, in general registers or, where they exist, by the crypto extensions.

Invariants: no lock is taken; a digest under way belongs to its caller. Instructions and addresses depend on the length of the data and on
nothing else, so that a digest may be taken over secrets. `state` is the intermediate hash value H, `tail` the last `length % 64` bytes,
which are not hashed yet.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing import sha256_ce
from delphyne.el2.sealing.sha256_constants import INITIAL, ROUNDS
from delphyne.lang import (
    Array,
    SimdArea,
    Slice,
    View,
    apart,
    load_be32,
    rotate_right,
    simd,
    store_be32,
    store_be64,
    struct,
    u8,
    u32,
    u64,
    wipe,
    wrap_add,
)

BLOCK_SIZE: Final = u64(64)
DIGEST_SIZE: Final = u64(32)


@struct
class Sha256:
    """A digest under way. `length` counts the bytes given so far; `extensions` says which instructions are used."""

    state: Array[u32, 8]
    tail: Array[u8, 64]
    length: u64
    extensions: bool


def _first(e: u32, f: u32, g: u32, h: u32) -> u32:
    """T1 of a round without its constant and its schedule word."""
    mixed = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25)
    return wrap_add(wrap_add(h, mixed), (e & f) ^ (~e & g))


def _second(a: u32, b: u32, c: u32) -> u32:
    """T2 of a round."""
    mixed = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22)
    return wrap_add(mixed, (a & b) | (c & (a | b)))


def _small0(x: u32) -> u32:
    return rotate_right(x, 7) ^ rotate_right(x, 18) ^ (x >> 3)


def _small1(x: u32) -> u32:
    return rotate_right(x, 17) ^ rotate_right(x, 19) ^ (x >> 10)


def compress(state: Array[u32, 8], data: View[u8]) -> None:
    """Hash the whole 64-byte blocks of `data` into `state`; the bytes after the last whole block are not touched.

    The eight working variables trade names from round to round instead of values; the schedule is kept as a window of sixteen words."""
    for start in u64.range(0, data.length & ~(BLOCK_SIZE - 1), 64):
        block = data[start : start + BLOCK_SIZE]
        w0 = load_be32(block, 0)
        w1 = load_be32(block, 4)
        w2 = load_be32(block, 8)
        w3 = load_be32(block, 12)
        w4 = load_be32(block, 16)
        w5 = load_be32(block, 20)
        w6 = load_be32(block, 24)
        w7 = load_be32(block, 28)
        w8 = load_be32(block, 32)
        w9 = load_be32(block, 36)
        w10 = load_be32(block, 40)
        w11 = load_be32(block, 44)
        w12 = load_be32(block, 48)
        w13 = load_be32(block, 52)
        w14 = load_be32(block, 56)
        w15 = load_be32(block, 60)
        a = state[0]
        b = state[1]
        c = state[2]
        d = state[3]
        e = state[4]
        f = state[5]
        g = state[6]
        h = state[7]
        for i in u64.range(0, 64, 16):
            if i != 0:
                w0 = wrap_add(wrap_add(w0, w9), wrap_add(_small0(w1), _small1(w14)))
                w1 = wrap_add(wrap_add(w1, w10), wrap_add(_small0(w2), _small1(w15)))
                w2 = wrap_add(wrap_add(w2, w11), wrap_add(_small0(w3), _small1(w0)))
                w3 = wrap_add(wrap_add(w3, w12), wrap_add(_small0(w4), _small1(w1)))
                w4 = wrap_add(wrap_add(w4, w13), wrap_add(_small0(w5), _small1(w2)))
                w5 = wrap_add(wrap_add(w5, w14), wrap_add(_small0(w6), _small1(w3)))
                w6 = wrap_add(wrap_add(w6, w15), wrap_add(_small0(w7), _small1(w4)))
                w7 = wrap_add(wrap_add(w7, w0), wrap_add(_small0(w8), _small1(w5)))
                w8 = wrap_add(wrap_add(w8, w1), wrap_add(_small0(w9), _small1(w6)))
                w9 = wrap_add(wrap_add(w9, w2), wrap_add(_small0(w10), _small1(w7)))
                w10 = wrap_add(wrap_add(w10, w3), wrap_add(_small0(w11), _small1(w8)))
                w11 = wrap_add(wrap_add(w11, w4), wrap_add(_small0(w12), _small1(w9)))
                w12 = wrap_add(wrap_add(w12, w5), wrap_add(_small0(w13), _small1(w10)))
                w13 = wrap_add(wrap_add(w13, w6), wrap_add(_small0(w14), _small1(w11)))
                w14 = wrap_add(wrap_add(w14, w7), wrap_add(_small0(w15), _small1(w12)))
                w15 = wrap_add(wrap_add(w15, w8), wrap_add(_small0(w0), _small1(w13)))
            h = wrap_add(_first(e, f, g, h), wrap_add(ROUNDS[i], w0))
            d = wrap_add(d, h)
            h = wrap_add(h, _second(a, b, c))
            g = wrap_add(_first(d, e, f, g), wrap_add(ROUNDS[i + 1], w1))
            c = wrap_add(c, g)
            g = wrap_add(g, _second(h, a, b))
            f = wrap_add(_first(c, d, e, f), wrap_add(ROUNDS[i + 2], w2))
            b = wrap_add(b, f)
            f = wrap_add(f, _second(g, h, a))
            e = wrap_add(_first(b, c, d, e), wrap_add(ROUNDS[i + 3], w3))
            a = wrap_add(a, e)
            e = wrap_add(e, _second(f, g, h))
            d = wrap_add(_first(a, b, c, d), wrap_add(ROUNDS[i + 4], w4))
            h = wrap_add(h, d)
            d = wrap_add(d, _second(e, f, g))
            c = wrap_add(_first(h, a, b, c), wrap_add(ROUNDS[i + 5], w5))
            g = wrap_add(g, c)
            c = wrap_add(c, _second(d, e, f))
            b = wrap_add(_first(g, h, a, b), wrap_add(ROUNDS[i + 6], w6))
            f = wrap_add(f, b)
            b = wrap_add(b, _second(c, d, e))
            a = wrap_add(_first(f, g, h, a), wrap_add(ROUNDS[i + 7], w7))
            e = wrap_add(e, a)
            a = wrap_add(a, _second(b, c, d))
            h = wrap_add(_first(e, f, g, h), wrap_add(ROUNDS[i + 8], w8))
            d = wrap_add(d, h)
            h = wrap_add(h, _second(a, b, c))
            g = wrap_add(_first(d, e, f, g), wrap_add(ROUNDS[i + 9], w9))
            c = wrap_add(c, g)
            g = wrap_add(g, _second(h, a, b))
            f = wrap_add(_first(c, d, e, f), wrap_add(ROUNDS[i + 10], w10))
            b = wrap_add(b, f)
            f = wrap_add(f, _second(g, h, a))
            e = wrap_add(_first(b, c, d, e), wrap_add(ROUNDS[i + 11], w11))
            a = wrap_add(a, e)
            e = wrap_add(e, _second(f, g, h))
            d = wrap_add(_first(a, b, c, d), wrap_add(ROUNDS[i + 12], w12))
            h = wrap_add(h, d)
            d = wrap_add(d, _second(e, f, g))
            c = wrap_add(_first(h, a, b, c), wrap_add(ROUNDS[i + 13], w13))
            g = wrap_add(g, c)
            c = wrap_add(c, _second(d, e, f))
            b = wrap_add(_first(g, h, a, b), wrap_add(ROUNDS[i + 14], w14))
            f = wrap_add(f, b)
            b = wrap_add(b, _second(c, d, e))
            a = wrap_add(_first(f, g, h, a), wrap_add(ROUNDS[i + 15], w15))
            e = wrap_add(e, a)
            a = wrap_add(a, _second(b, c, d))
        state[0] = wrap_add(state[0], a)
        state[1] = wrap_add(state[1], b)
        state[2] = wrap_add(state[2], c)
        state[3] = wrap_add(state[3], d)
        state[4] = wrap_add(state[4], e)
        state[5] = wrap_add(state[5], f)
        state[6] = wrap_add(state[6], g)
        state[7] = wrap_add(state[7], h)


def start(hash: Sha256, extensions: bool) -> None:
    """Begin a digest; what `hash` held is lost. `extensions` only where the processor has them (`engine` knows)."""
    hash.state.copy_from(INITIAL)
    hash.length = u64(0)
    hash.extensions = extensions


def _blocks(hash: Sha256, area: SimdArea, data: View[u8]) -> None:
    if hash.extensions:
        with simd(area):
            sha256_ce.compress(hash.state, data)
    else:
        compress(hash.state, data)


@apart
def update(hash: Sha256, area: SimdArea, data: View[u8]) -> None:
    """Add `data` to the digest; traps OVERFLOW where all of it together passes 2^64 bytes. `area` is this CPU's."""
    fill = hash.length & (BLOCK_SIZE - 1)
    hash.length = hash.length + data.length
    taken = u64(0)
    if fill > 0:
        taken = min(BLOCK_SIZE - fill, data.length)
        hash.tail[fill : fill + taken].copy_from(data[:taken])
        if fill + taken < BLOCK_SIZE:
            return
        _blocks(hash, area, hash.tail[:])
    rest = data[taken:]
    whole = rest.length & ~(BLOCK_SIZE - 1)
    _blocks(hash, area, rest[:whole])
    hash.tail[: rest.length - whole].copy_from(rest[whole:])


def finish(hash: Sha256, area: SimdArea, digest: Slice[u8]) -> None:
    """Write the 32 bytes of the digest and wipe what led to them; traps OVERFLOW beyond 2^61 bytes, INDEX where `digest` is shorter."""
    bits = hash.length * 8
    fill = hash.length & (BLOCK_SIZE - 1)
    hash.tail[fill:].fill(u8(0))
    hash.tail[fill] = u8(0x80)
    if fill >= 56:
        _blocks(hash, area, hash.tail[:])
        hash.tail.fill(u8(0))
    store_be64(hash.tail[:], 56, bits)
    _blocks(hash, area, hash.tail[:])
    for n in u64.range(8):
        store_be32(digest, n * 4, hash.state[n])
    wipe(hash)
