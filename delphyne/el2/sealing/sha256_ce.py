# SPDX-License-Identifier: Apache-2.0
"""The compression of SHA-256 by the Armv8 crypto extensions (FEAT_SHA256): four rounds an instruction pair.

Invariants: no lock is taken; called only where ID_AA64ISAR0_EL1.SHA2 says that the instructions exist. Constant time by construction.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing.sha256_constants import ROUNDS
from delphyne.lang import (
    Array,
    View,
    constant,
    sha256h,
    sha256h2,
    sha256su0,
    sha256su1,
    simd,
    u8,
    u32,
    u64,
    v128_from_u64,
    v128_high,
    v128_load,
    v128_low,
    vadd32,
    vrev32,
)

BLOCK_SIZE: Final = u64(64)
ROUND_BYTES: Final = constant(Array[u8, 256].of(b"".join(int(ROUNDS[n]).to_bytes(4, "little") for n in range(64))))


def _joined(low: u32, high: u32) -> u64:
    return u64(low) | u64(high) << 32


@simd
def compress(state: Array[u32, 8], data: View[u8]) -> None:
    """Hash the whole 64-byte blocks of `data` into `state`. The sixteen vectors of constants stay in registers from block to block."""
    k0 = v128_load(ROUND_BYTES[:], 0)
    k1 = v128_load(ROUND_BYTES[:], 16)
    k2 = v128_load(ROUND_BYTES[:], 32)
    k3 = v128_load(ROUND_BYTES[:], 48)
    k4 = v128_load(ROUND_BYTES[:], 64)
    k5 = v128_load(ROUND_BYTES[:], 80)
    k6 = v128_load(ROUND_BYTES[:], 96)
    k7 = v128_load(ROUND_BYTES[:], 112)
    k8 = v128_load(ROUND_BYTES[:], 128)
    k9 = v128_load(ROUND_BYTES[:], 144)
    k10 = v128_load(ROUND_BYTES[:], 160)
    k11 = v128_load(ROUND_BYTES[:], 176)
    k12 = v128_load(ROUND_BYTES[:], 192)
    k13 = v128_load(ROUND_BYTES[:], 208)
    k14 = v128_load(ROUND_BYTES[:], 224)
    k15 = v128_load(ROUND_BYTES[:], 240)
    abcd = v128_from_u64(_joined(state[0], state[1]), _joined(state[2], state[3]))
    efgh = v128_from_u64(_joined(state[4], state[5]), _joined(state[6], state[7]))
    for start in u64.range(0, data.length & ~(BLOCK_SIZE - 1), 64):
        block = data[start : start + BLOCK_SIZE]
        w0 = vrev32(v128_load(block, 0))
        w1 = vrev32(v128_load(block, 16))
        w2 = vrev32(v128_load(block, 32))
        w3 = vrev32(v128_load(block, 48))
        x = abcd
        y = efgh
        sums = vadd32(w0, k0)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w0 = sha256su1(sha256su0(w0, w1), w2, w3)
        sums = vadd32(w1, k1)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w1 = sha256su1(sha256su0(w1, w2), w3, w0)
        sums = vadd32(w2, k2)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w2 = sha256su1(sha256su0(w2, w3), w0, w1)
        sums = vadd32(w3, k3)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w3 = sha256su1(sha256su0(w3, w0), w1, w2)
        sums = vadd32(w0, k4)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w0 = sha256su1(sha256su0(w0, w1), w2, w3)
        sums = vadd32(w1, k5)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w1 = sha256su1(sha256su0(w1, w2), w3, w0)
        sums = vadd32(w2, k6)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w2 = sha256su1(sha256su0(w2, w3), w0, w1)
        sums = vadd32(w3, k7)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w3 = sha256su1(sha256su0(w3, w0), w1, w2)
        sums = vadd32(w0, k8)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w0 = sha256su1(sha256su0(w0, w1), w2, w3)
        sums = vadd32(w1, k9)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w1 = sha256su1(sha256su0(w1, w2), w3, w0)
        sums = vadd32(w2, k10)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w2 = sha256su1(sha256su0(w2, w3), w0, w1)
        sums = vadd32(w3, k11)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        w3 = sha256su1(sha256su0(w3, w0), w1, w2)
        sums = vadd32(w0, k12)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        sums = vadd32(w1, k13)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        sums = vadd32(w2, k14)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        sums = vadd32(w3, k15)
        before = x
        x = sha256h(x, y, sums)
        y = sha256h2(y, before, sums)
        abcd = vadd32(abcd, x)
        efgh = vadd32(efgh, y)
    state[0] = u32.wrap(v128_low(abcd))
    state[1] = u32.wrap(v128_low(abcd) >> 32)
    state[2] = u32.wrap(v128_high(abcd))
    state[3] = u32.wrap(v128_high(abcd) >> 32)
    state[4] = u32.wrap(v128_low(efgh))
    state[5] = u32.wrap(v128_low(efgh) >> 32)
    state[6] = u32.wrap(v128_high(efgh))
    state[7] = u32.wrap(v128_high(efgh) >> 32)
