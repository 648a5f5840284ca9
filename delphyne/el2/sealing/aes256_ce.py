# SPDX-License-Identifier: Apache-2.0
"""AES-256 in counter mode by the Armv8 crypto extensions (FEAT_AES), eight blocks in flight. Constant time by construction.

Invariants: no lock is taken; called only where ID_AA64ISAR0_EL1.AES says that the instructions exist. The key schedule is the one that
`aes256` makes; its words enter SIMD registers here, which `with simd(area)` clears of them by restoring what they held.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing.aes256 import BLOCK_SIZE, Counter, Key
from delphyne.lang import (
    V128,
    Slice,
    aese,
    aesmc,
    byte_swap,
    declassify,
    simd,
    u8,
    u64,
    v128_from_u64,
    v128_high,
    v128_load,
    v128_low,
    v128_store,
    vxor,
    wrap_add,
)

BATCH_SIZE: Final = u64(128)


@simd
def _round_key(key: Key, at: u64) -> V128:
    return v128_from_u64(declassify(key.words[at]), declassify(key.words[at + 1]))


@simd
def _block(high: u64, low: u64) -> V128:
    """The counter block of sixteen bytes, high half already in memory order."""
    return v128_from_u64(high, byte_swap(low))


@simd
def _encrypt(
    b: V128,
    k0: V128, k1: V128, k2: V128, k3: V128, k4: V128, k5: V128, k6: V128, k7: V128,
    k8: V128, k9: V128, k10: V128, k11: V128, k12: V128, k13: V128, k14: V128,
) -> V128:
    """The fourteen rounds of FIPS 197 on one block."""
    b = aesmc(aese(b, k0))
    b = aesmc(aese(b, k1))
    b = aesmc(aese(b, k2))
    b = aesmc(aese(b, k3))
    b = aesmc(aese(b, k4))
    b = aesmc(aese(b, k5))
    b = aesmc(aese(b, k6))
    b = aesmc(aese(b, k7))
    b = aesmc(aese(b, k8))
    b = aesmc(aese(b, k9))
    b = aesmc(aese(b, k10))
    b = aesmc(aese(b, k11))
    b = aesmc(aese(b, k12))
    return vxor(aese(b, k13), k14)


@simd
def apply(key: Key, counter: Counter, data: Slice[u8]) -> None:
    """Encrypt or decrypt `data`, of any length, in place; its first byte is the first that `counter` is used for.

    Batches of eight blocks run only where the low half of the counter does not wrap on the way; single blocks do the rest. Nothing is
    called here (a copy of the last bytes would be a call): the round keys would have to leave their registers for the stack."""
    k0 = _round_key(key, u64(0))
    k1 = _round_key(key, u64(2))
    k2 = _round_key(key, u64(4))
    k3 = _round_key(key, u64(6))
    k4 = _round_key(key, u64(8))
    k5 = _round_key(key, u64(10))
    k6 = _round_key(key, u64(12))
    k7 = _round_key(key, u64(14))
    k8 = _round_key(key, u64(16))
    k9 = _round_key(key, u64(18))
    k10 = _round_key(key, u64(20))
    k11 = _round_key(key, u64(22))
    k12 = _round_key(key, u64(24))
    k13 = _round_key(key, u64(26))
    k14 = _round_key(key, u64(28))
    whole = data.length & ~(BATCH_SIZE - 1)
    if counter.low > u64.MAX - (data.length >> 4):
        whole = u64(0)
    high = byte_swap(counter.high)
    low = counter.low
    for start in u64.range(0, whole, 128):
        batch = data[start : start + BATCH_SIZE]
        s0 = _encrypt(_block(high, low), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s1 = _encrypt(_block(high, wrap_add(low, 1)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s2 = _encrypt(_block(high, wrap_add(low, 2)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s3 = _encrypt(_block(high, wrap_add(low, 3)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s4 = _encrypt(_block(high, wrap_add(low, 4)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s5 = _encrypt(_block(high, wrap_add(low, 5)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s6 = _encrypt(_block(high, wrap_add(low, 6)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        s7 = _encrypt(_block(high, wrap_add(low, 7)), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        x0 = vxor(s0, v128_load(batch, 0))
        x1 = vxor(s1, v128_load(batch, 16))
        x2 = vxor(s2, v128_load(batch, 32))
        x3 = vxor(s3, v128_load(batch, 48))
        x4 = vxor(s4, v128_load(batch, 64))
        x5 = vxor(s5, v128_load(batch, 80))
        x6 = vxor(s6, v128_load(batch, 96))
        x7 = vxor(s7, v128_load(batch, 112))
        v128_store(batch, 0, x0)
        v128_store(batch, 16, x1)
        v128_store(batch, 32, x2)
        v128_store(batch, 48, x3)
        v128_store(batch, 64, x4)
        v128_store(batch, 80, x5)
        v128_store(batch, 96, x6)
        v128_store(batch, 112, x7)
        low = wrap_add(low, 8)
    last = data.length & ~(BLOCK_SIZE - 1)
    block = counter.plus(whole >> 4)
    for start in u64.range(whole, last, 16):
        s0 = _encrypt(_block(byte_swap(block.high), block.low), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        one = data[start : start + BLOCK_SIZE]
        v128_store(one, 0, vxor(s0, v128_load(one, 0)))
        block = block.plus(u64(1))
    if last < data.length:
        s0 = _encrypt(_block(byte_swap(block.high), block.low), k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14)
        near = v128_low(s0)
        far = v128_high(s0)
        for at in u64.range(last, data.length):
            data[at] = data[at] ^ u8.wrap(near)
            near = (near >> 8) | (far << 56)
            far = far >> 8
