# SPDX-License-Identifier: Apache-2.0
"""True random numbers of the firmware (Arm DEN0098) and of the processor (FEAT_RNG). No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import psci
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.identification import ID_AA64ISAR0_EL1
from delphyne.lang import Slice, assembly, boot, store_le64, u8, u32, u64, wipe

TRNG_VERSION: Final = u64(0x8400_0050)
TRNG_RND64: Final = u64(0xC400_0053)
TRNG_1_0: Final = u32(1 << 16)
TRNG_BITS: Final = u64(192)
"""The most that one call gives: in x1 to x3."""
TRNG_NO_ENTROPY: Final = u64(0xFFFF_FFFF_FFFF_FFFD)
TRIES: Final = u64(64)
"""How often a source that has nothing at the moment is asked for the same bits."""


@assembly
def random_number() -> u64:
    """RNDRRS (Arm ARM D24.2): 64 random bits of a generator that was seeded for them; 0 where it had none in time. Only with FEAT_RNG."""
    return u64(0)


@boot
def of_firmware(out: Slice[u8]) -> bool:
    """Fill `out`, a multiple of 24 bytes, by TRNG_RND64. False where the firmware cannot; what is in `out` then counts for nothing.

    Only where the conduit is SMC."""
    if not psci.has_smccc_1_1() or not psci.is_at_least(TRNG_VERSION, TRNG_1_0):
        return False
    frame = Frame()
    done = u64(0)
    while done < out.length and _ask_firmware(frame):
        for n in u64.range(3):
            store_le64(out, done + n * 8, frame.x[n + 1])
        done += 24
    wipe(frame)
    return done == out.length


def _ask_firmware(frame: Frame) -> bool:
    """192 bits into x1 to x3."""
    for _ in u64.range(TRIES):
        frame.x[0] = TRNG_RND64
        frame.x[1] = TRNG_BITS
        psci.smc_relay(frame)
        if frame.x[0] != TRNG_NO_ENTROPY:
            return frame.x[0] == psci.PSCI_SUCCESS
    return False


@boot
def of_processor(out: Slice[u8]) -> bool:
    """Fill `out`, a multiple of 8 bytes, by RNDRRS. False where the processor cannot; what is in `out` then counts for nothing."""
    if ID_AA64ISAR0_EL1.read().rndr == 0:
        return False
    for at in u64.range(0, out.length, 8):
        number = _ask_processor()
        if number == 0:
            return False
        store_le64(out, at, number)
    return True


def _ask_processor() -> u64:
    """64 bits; 0 where there are none."""
    for _ in u64.range(TRIES):
        number = random_number()
        if number != 0:
            return number
    return u64(0)
