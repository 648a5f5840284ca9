# SPDX-License-Identifier: Apache-2.0
"""Encrypts up to a hundred bytes in place, counters that wrap included."""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing import aes256
from delphyne.lang import Array, Lock, guarded, holds, rotate_left, u8, u64, wrap_mul

INPUTS = [(0, 1), (15, 2), (64, 0xFFFF_FFFF_FFFF_FFFF), (100, 0xFFFF_FFFF_FFFF_FFFC)]
LOCK: Final = Lock("differential", rank=1)
DATA: Final = guarded(LOCK, Array[u8, 100]())
MATERIAL: Final = guarded(LOCK, Array[u8, 32]())


def run(a: u64, b: u64) -> u64:
    key = aes256.Key()
    with LOCK:
        for i in u64.range(32):
            MATERIAL[i] = u8.wrap(wrap_mul(b ^ i, u64(0x9E37_79B9_7F4A_7C15)) >> 48)
        for i in u64.range(DATA.length):
            DATA[i] = u8.wrap(i)
        aes256.expand(key, MATERIAL[:])
        aes256.apply(key, aes256.Counter(a, b), DATA[: a % 101])
    return a


@holds(LOCK)
def checksum() -> u64:
    d = u64(0)
    for i in u64.range(DATA.length):
        d = rotate_left(d, u64(5)) ^ u64(DATA[i])
    return d
