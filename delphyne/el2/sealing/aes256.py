# SPDX-License-Identifier: Apache-2.0
"""AES-256 in counter mode (FIPS 197, SP 800-38A) in general registers, in constant time: no table, no branch and no address depends on a secret.

Four blocks are worked on at once, bit by bit ("bitsliced"): the word q[n] holds bit n of all 64 bytes. The byte at row r and column c of
block b has bit 16 * r + 4 * c + b in each word, so ShiftRows turns the four 16-bit rows of a word, and MixColumns turns whole words by 16.

Invariants: no lock is taken; a key belongs to its caller, who wipes it (`forget`); what is derived from it here is wiped before return.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing import residue
from delphyne.lang import (
    Array,
    Secret,
    Slice,
    View,
    byte_swap,
    cold,
    declassify,
    load_le64,
    rotate_right,
    secret,
    store_le64,
    struct,
    u8,
    u64,
    value,
    wipe,
    wrap_add,
)

BLOCK_SIZE: Final = u64(16)
BATCH_SIZE: Final = u64(64)
KEY_SIZE: Final = u64(32)


@struct
class Key:
    """The key schedule of FIPS 197: fifteen round keys of sixteen bytes, each two little-endian words."""

    words: Array[Secret[u64], 30]


KEY_BYTES: Final = u64(240)


@value
class Counter:
    """The 128-bit counter block, as the big-endian number that SP 800-38A counts up."""

    high: u64
    low: u64

    def plus(self, blocks: u64) -> Counter:
        """The counter `blocks` further on, modulo 2^128."""
        low = wrap_add(self.low, blocks)
        return Counter(wrap_add(self.high, u64(low < blocks)), low)


def _substitute(q: Array[Secret[u64], 8]) -> None:
    """SubBytes on 64 bytes: the circuit of 115 gates by Boyar and Peralta ("A depth-16 circuit for the AES S-box", 2011).

    Linear, then the inverse in GF(2^8) through GF(2^4), then linear; the paper's names are kept: x and s count from the highest bit."""
    x0 = q[7]
    x1 = q[6]
    x2 = q[5]
    x3 = q[4]
    x4 = q[3]
    x5 = q[2]
    x6 = q[1]
    x7 = q[0]
    y14 = x3 ^ x5
    y13 = x0 ^ x6
    y9 = x0 ^ x3
    y8 = x0 ^ x5
    t0 = x1 ^ x2
    y1 = t0 ^ x7
    y4 = y1 ^ x3
    y12 = y13 ^ y14
    y2 = y1 ^ x0
    y5 = y1 ^ x6
    y3 = y5 ^ y8
    t1 = x4 ^ y12
    y15 = t1 ^ x5
    y20 = t1 ^ x1
    y6 = y15 ^ x7
    y10 = y15 ^ t0
    y11 = y20 ^ y9
    y7 = x7 ^ y11
    y17 = y10 ^ y11
    y19 = y10 ^ y8
    y16 = t0 ^ y11
    y21 = y13 ^ y16
    y18 = x0 ^ y16

    t2 = y12 & y15
    t4 = (y3 & y6) ^ t2
    t6 = (y4 & x7) ^ t2
    t7 = y13 & y16
    t9 = (y5 & y1) ^ t7
    t11 = (y2 & y7) ^ t7
    t12 = y9 & y11
    t14 = (y14 & y17) ^ t12
    t16 = (y8 & y10) ^ t12
    t21 = t4 ^ t14 ^ y20
    t22 = t6 ^ t16 ^ y19
    t23 = t9 ^ t14 ^ y21
    t24 = t11 ^ t16 ^ y18
    t25 = t21 ^ t22
    t26 = t21 & t23
    t27 = t24 ^ t26
    t29 = (t25 & t27) ^ t22
    t33 = ((t22 ^ t26) & (t23 ^ t24)) ^ t24
    t36 = t24 & (t27 ^ t33)
    t37 = t36 ^ t23 ^ t33
    t40 = t25 ^ (t29 & (t27 ^ t36))
    t41 = t40 ^ t37
    t42 = t29 ^ t33
    t43 = t29 ^ t40
    t44 = t33 ^ t37
    t45 = t42 ^ t41

    z0 = t44 & y15
    z1 = t37 & y6
    z2 = t33 & x7
    z3 = t43 & y16
    z4 = t40 & y1
    z5 = t29 & y7
    z6 = t42 & y11
    z7 = t45 & y17
    z8 = t41 & y10
    z9 = t44 & y12
    z10 = t37 & y3
    z11 = t33 & y4
    z12 = t43 & y13
    z13 = t40 & y5
    z14 = t29 & y2
    z15 = t42 & y9
    z16 = t45 & y14
    z17 = t41 & y8
    t46 = z15 ^ z16
    t48 = z5 ^ z13
    t53 = z0 ^ z3
    t54 = z6 ^ z7
    t57 = z2 ^ z12 ^ t53
    t58 = z4 ^ t46
    t59 = z3 ^ t54
    t60 = t46 ^ t57
    t62 = z7 ^ z8 ^ t58
    t63 = z9 ^ z10 ^ t58
    t64 = z4 ^ t59
    t65 = z14 ^ t57 ^ t62
    t66 = z1 ^ t63
    s3 = t53 ^ t66
    q[7] = t59 ^ t63
    q[6] = t64 ^ ~s3
    q[5] = z16 ^ z17 ^ ~(t64 ^ t65)
    q[4] = s3
    q[3] = z2 ^ z5 ^ t66
    q[2] = z10 ^ z11 ^ t65
    q[1] = z12 ^ t48 ^ ~t62
    q[0] = t48 ^ ~t60


def _shift_rows(x: Secret[u64]) -> Secret[u64]:
    """Row r of a word, its bits 16 * r to 16 * r + 15, turned right by r columns of four bits."""
    row1 = ((x & 0xFFF0_0000) >> 4) | ((x & 0x000F_0000) << 12)
    row2 = ((x & 0xFF00_0000_0000) >> 8) | ((x & 0x00FF_0000_0000) << 8)
    row3 = ((x & 0xF000_0000_0000_0000) >> 12) | ((x & 0x0FFF_0000_0000_0000) << 4)
    return (x & 0xFFFF) | row1 | row2 | row3


def _mix_columns(q: Array[Secret[u64], 8]) -> None:
    """MixColumns after ShiftRows: each byte a becomes 2 (a + a') + a' + a'' + a''', where ' is the next row and 2 b is b shifted, reduced by 0x1b."""
    a0 = _shift_rows(q[0])
    a1 = _shift_rows(q[1])
    a2 = _shift_rows(q[2])
    a3 = _shift_rows(q[3])
    a4 = _shift_rows(q[4])
    a5 = _shift_rows(q[5])
    a6 = _shift_rows(q[6])
    a7 = _shift_rows(q[7])
    b0 = a0 ^ rotate_right(a0, 16)
    b1 = a1 ^ rotate_right(a1, 16)
    b2 = a2 ^ rotate_right(a2, 16)
    b3 = a3 ^ rotate_right(a3, 16)
    b4 = a4 ^ rotate_right(a4, 16)
    b5 = a5 ^ rotate_right(a5, 16)
    b6 = a6 ^ rotate_right(a6, 16)
    b7 = a7 ^ rotate_right(a7, 16)
    q[0] = b7 ^ rotate_right(a0, 16) ^ rotate_right(b0, 32)
    q[1] = b0 ^ b7 ^ rotate_right(a1, 16) ^ rotate_right(b1, 32)
    q[2] = b1 ^ rotate_right(a2, 16) ^ rotate_right(b2, 32)
    q[3] = b2 ^ b7 ^ rotate_right(a3, 16) ^ rotate_right(b3, 32)
    q[4] = b3 ^ b7 ^ rotate_right(a4, 16) ^ rotate_right(b4, 32)
    q[5] = b4 ^ rotate_right(a5, 16) ^ rotate_right(b5, 32)
    q[6] = b5 ^ rotate_right(a6, 16) ^ rotate_right(b6, 32)
    q[7] = b6 ^ rotate_right(a7, 16) ^ rotate_right(b7, 32)


def _add_round_key(q: Array[Secret[u64], 8], keys: Array[Secret[u64], 120], first: u64) -> None:
    for n in u64.range(8):
        q[n] = q[n] ^ keys[first + n]


def _encrypt(q: Array[Secret[u64], 8], keys: Array[Secret[u64], 120]) -> None:
    """The fourteen rounds on four sliced blocks."""
    _add_round_key(q, keys, u64(0))
    for first in u64.range(8, 112, 8):
        _substitute(q)
        _mix_columns(q)
        _add_round_key(q, keys, first)
    _substitute(q)
    for n in u64.range(8):
        q[n] = _shift_rows(q[n])
    _add_round_key(q, keys, u64(112))


def _exchange(q: Array[Secret[u64], 8], low: u64, high: u64, shift: u64, mask: u64) -> None:
    """Trade the bits `mask << shift` of q[low] for the bits `mask` of q[high]."""
    difference = ((q[low] >> shift) ^ q[high]) & mask
    q[high] = q[high] ^ difference
    q[low] = q[low] ^ (difference << shift)


def _transpose(q: Array[Secret[u64], 8]) -> None:
    """In each of the eight byte columns of the eight words, turn the 8 x 8 bits over their diagonal: its own inverse."""
    for n in u64.range(0, 8, 2):
        _exchange(q, n, n + 1, u64(1), u64(0x5555_5555_5555_5555))
    for n in u64.range(0, 8, 4):
        _exchange(q, n, n + 2, u64(2), u64(0x3333_3333_3333_3333))
        _exchange(q, n + 1, n + 3, u64(2), u64(0x3333_3333_3333_3333))
    for n in u64.range(4):
        _exchange(q, n, n + 4, u64(4), u64(0x0F0F_0F0F_0F0F_0F0F))


def _swap_inside(x: Secret[u64], shift: u64, mask: u64) -> Secret[u64]:
    """Trade the bits `mask << shift` of x for its bits `mask`."""
    difference = ((x >> shift) ^ x) & mask
    return x ^ difference ^ (difference << shift)


def _put_block(q: Array[Secret[u64], 8], b: u64, low: Secret[u64], high: Secret[u64]) -> None:
    """Lay out block `b` for the transposition: columns 0 and 2 byte by byte in q[b], columns 1 and 3 in q[b + 4]."""
    even = (low & 0xFFFF_FFFF) | (high << 32)
    odd = (low >> 32) | (high & 0xFFFF_FFFF_0000_0000)
    q[b] = _swap_inside(_swap_inside(even, u64(16), u64(0xFFFF_0000)), u64(8), u64(0x0000_FF00_0000_FF00))
    q[b + 4] = _swap_inside(_swap_inside(odd, u64(16), u64(0xFFFF_0000)), u64(8), u64(0x0000_FF00_0000_FF00))


def _xor_block(q: Array[Secret[u64], 8], b: u64, data: Slice[u8]) -> None:
    """Undo `_put_block` and add the block to sixteen bytes of data."""
    even = _swap_inside(_swap_inside(q[b], u64(8), u64(0x0000_FF00_0000_FF00)), u64(16), u64(0xFFFF_0000))
    odd = _swap_inside(_swap_inside(q[b + 4], u64(8), u64(0x0000_FF00_0000_FF00)), u64(16), u64(0xFFFF_0000))
    low = (even & 0xFFFF_FFFF) | (odd << 32)
    high = (even >> 32) | (odd & 0xFFFF_FFFF_0000_0000)
    store_le64(data, 0, declassify(low ^ load_le64(data, 0)))
    store_le64(data, 8, declassify(high ^ load_le64(data, 8)))


def _substitute_word(x: Secret[u64], q: Array[Secret[u64], 8]) -> Secret[u64]:
    """SubWord of the low four bytes of x; the upper half of the result is zero. `q` is scratch."""
    q.fill(secret(u64(0)))
    q[0] = x
    _transpose(q)
    _substitute(q)
    _transpose(q)
    return q[0] & 0xFFFF_FFFF


@cold
def _expand(key: Key, material: View[u8]) -> None:
    """The key schedule, two of its words at a time, low half first."""
    q = Array[Secret[u64], 8]()
    a = secret(load_le64(material, 0))
    b = secret(load_le64(material, 8))
    c = secret(load_le64(material, 16))
    d = secret(load_le64(material, 24))
    key.words[0] = a
    key.words[1] = b
    key.words[2] = c
    key.words[3] = d
    round_constant = u64(1)
    for n in u64.range(4, 28, 4):
        last = d >> 32
        a = a ^ _substitute_word((last >> 8) | (last << 24), q) ^ round_constant
        a = a ^ (a << 32)
        b = b ^ (a >> 32)
        b = b ^ (b << 32)
        c = c ^ _substitute_word(b >> 32, q)
        c = c ^ (c << 32)
        d = d ^ (c >> 32)
        d = d ^ (d << 32)
        key.words[n] = a
        key.words[n + 1] = b
        key.words[n + 2] = c
        key.words[n + 3] = d
        round_constant = round_constant << 1
    last = d >> 32
    a = a ^ _substitute_word((last >> 8) | (last << 24), q) ^ round_constant
    a = a ^ (a << 32)
    b = b ^ (a >> 32)
    key.words[28] = a
    key.words[29] = b ^ (b << 32)
    wipe(q)


def expand(key: Key, material: View[u8]) -> None:
    """The key schedule of FIPS 197 section 5.2 from 32 bytes of key; traps INDEX on fewer."""
    _expand(key, material)
    residue.scrub()


def forget(key: Key) -> None:
    """Wipe a key that is no longer wanted."""
    wipe(key)


def _slice_keys(key: Key, keys: Array[Secret[u64], 120], q: Array[Secret[u64], 8]) -> None:
    """The round keys as `_encrypt` wants them: each the same for the four blocks."""
    for r in u64.range(15):
        for b in u64.range(4):
            _put_block(q, b, key.words[r * 2], key.words[r * 2 + 1])
        _transpose(q)
        for n in u64.range(8):
            keys[r * 8 + n] = q[n]


def _apply_batch(keys: Array[Secret[u64], 120], counter: Counter, data: Slice[u8], q: Array[Secret[u64], 8]) -> None:
    """Add the key stream of four blocks to 64 bytes of data."""
    for b in u64.range(4):
        block = counter.plus(b)
        _put_block(q, b, secret(byte_swap(block.high)), secret(byte_swap(block.low)))
    _transpose(q)
    _encrypt(q, keys)
    _transpose(q)
    for b in u64.range(4):
        _xor_block(q, b, data[b * BLOCK_SIZE : (b + 1) * BLOCK_SIZE])


def apply(key: Key, counter: Counter, data: Slice[u8]) -> None:
    """Encrypt or decrypt `data`, of any length, in place; its first byte is the first that `counter` is used for."""
    keys = Array[Secret[u64], 120]()
    q = Array[Secret[u64], 8]()
    _slice_keys(key, keys, q)
    whole = data.length & ~(BATCH_SIZE - 1)
    block = counter
    for start in u64.range(0, whole, 64):
        _apply_batch(keys, block, data[start : start + BATCH_SIZE], q)
        block = block.plus(u64(4))
    if whole < data.length:
        rest = data.length - whole
        batch = Array[u8, 64]()
        batch[:rest].copy_from(data[whole:])
        _apply_batch(keys, block, batch[:], q)
        data[whole:].copy_from(batch[:rest])
        wipe(batch)
    wipe(keys)
    wipe(q)
