# SPDX-License-Identifier: Apache-2.0
"""Hashes up to three blocks made from the inputs."""

from __future__ import annotations

from typing import Final

from delphyne.el2.sealing import sha256
from delphyne.lang import Array, Lock, guarded, holds, rotate_left, u8, u32, u64, wrap_mul

INPUTS = [(0, 0), (63, 1), (64, 2), (130, 0xFFFF_FFFF_FFFF_FFFF), (192, 0x1234_5678_9ABC_DEF0)]
LOCK: Final = Lock("differential", rank=1)
DATA: Final = guarded(LOCK, Array[u8, 192]())
STATE: Final = guarded(LOCK, Array[u32, 8]())


@holds(LOCK)
def fill(seed: u64) -> None:
    x = seed
    for i in u64.range(DATA.length):
        x = wrap_mul(x ^ (i + 1), u64(0x9E37_79B9_7F4A_7C15))
        DATA[i] = u8.wrap(x >> 56)


def run(a: u64, b: u64) -> u64:
    with LOCK:
        fill(b)
        STATE.fill(u32(0x6A09_E667))
        sha256.compress(STATE, DATA[: a % 193])
        return u64(STATE[0]) << 32 | u64(STATE[7])


@holds(LOCK)
def checksum() -> u64:
    d = u64(0)
    for i in u64.range(8):
        d = rotate_left(d, u64(9)) ^ u64(STATE[i])
    return d
