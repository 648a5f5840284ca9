# SPDX-License-Identifier: Apache-2.0
"""Random numbers for protected guests, of EL2's own generator (SMCCC TRNG, Arm DEN0098), and what EL2 says of itself.

Lock: that of the generator.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import abi, registers
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.sealing import entropy, generator
from delphyne.lang import Array, load_le64, u8, u64, wipe

TRNG_1_0: Final = u64(0x1_0000)
TRNG_INVALID: Final = u64(0xFFFF_FFFF_FFFF_FFFE)
TRNG_NO_ENTROPY: Final = u64(0xFFFF_FFFF_FFFF_FFFD)
MOST_BITS_64: Final = u64(192)
MOST_BITS_32: Final = u64(96)


def describe(seat: Seat, function: u64) -> u64:
    """TRNG_VERSION, TRNG_FEATURES and TRNG_GET_UUID; NOT_SUPPORTED for any other function. The result for x0."""
    if function == abi.TRNG_VERSION:
        return TRNG_1_0
    if function == abi.TRNG_FEATURES:
        asked = registers.general(seat.own, u64(1)) & 0xFFFF_FFFF
        known = (asked >= abi.TRNG_VERSION and asked <= abi.TRNG_RND32) or asked == abi.TRNG_RND64
        return abi.SUCCESS if known else abi.NOT_SUPPORTED
    if function == abi.TRNG_GET_UUID:
        registers.put_general(seat.own, u64(1), abi.TRNG_UUID1)
        registers.put_general(seat.own, u64(2), abi.TRNG_UUID2)
        registers.put_general(seat.own, u64(3), abi.TRNG_UUID3)
        return abi.TRNG_UUID0
    return abi.NOT_SUPPORTED


def serve(seat: Seat, wide: bool) -> None:
    """TRNG_RND: x1 bits (w1 in the call of 32 bits), in x3, x2 and x1, the least significant in x3."""
    wanted = registers.general(seat.own, u64(1)) & (u64.MAX if wide else u64(0xFFFF_FFFF))
    width = u64(64) if wide else u64(32)
    if wanted == 0 or wanted > (MOST_BITS_64 if wide else MOST_BITS_32):
        registers.put_general(seat.own, u64(0), TRNG_INVALID)
        return
    drawn = Array[u8, 24]()
    filled = generator.fill(CPUS.mine().simd, drawn[:])
    if isinstance(filled, Err):
        registers.put_general(seat.own, u64(0), TRNG_NO_ENTROPY)
        return
    for number in u64.range(3):
        bits = min(width, wanted - min(wanted, number * width))
        word = load_le64(drawn[:], number * 8)
        registers.put_general(seat.own, 3 - number, word & ((u64(1) << bits) - 1) if bits < 64 else word)
    wipe(drawn)
    registers.put_general(seat.own, u64(0), abi.SUCCESS)


def status() -> u64:
    """Of STATUS: bit 1, whether this machine is marked as development; bit 2, whether devices are isolated, which EL2 does not do yet."""
    return u64(2) if entropy.SOURCES.development else u64(0)
