# SPDX-License-Identifier: Apache-2.0
"""The numbers of docs/guest-abi.md: what a guest may call, and what it is answered. No lock, no state."""

from __future__ import annotations

from typing import Final

from delphyne.lang import u32, u64

ADDRESS_LIMIT: Final = u64(1 << 40)
"""Guests that are protected have addresses below this."""
EL2_VERSION: Final = u32(0 << 16 | 1 << 8 | 0)
"""Major, minor and patch of this EL2, in the launch measurement."""

SUCCESS: Final = u64(0)
NOT_SUPPORTED: Final = u64(0xFFFF_FFFF_FFFF_FFFF)
INVALID: Final = u64(0xFFFF_FFFF_FFFF_FFFD)
DENIED: Final = u64(0xFFFF_FFFF_FFFF_FFFC)
NO_MEMORY: Final = u64(0xFFFF_FFFF_FFFF_FFFB)

SMCCC_VERSION: Final = u64(0x8000_0000)
SMCCC_1_1: Final = u64(0x1_0001)
UNAFFECTED: Final = u64(1)
"""Of ARCH_FEATURES about a workaround: the call may be made and is needed nowhere (DEN0028)."""
TRNG_VERSION: Final = u64(0x8400_0050)
TRNG_FEATURES: Final = u64(0x8400_0051)
TRNG_GET_UUID: Final = u64(0x8400_0052)
TRNG_RND32: Final = u64(0x8400_0053)
TRNG_RND64: Final = u64(0xC400_0053)
TRNG_UUID0: Final = u64(0x6C12_0F4B)
TRNG_UUID1: Final = u64(0x41D4_93B7)
TRNG_UUID2: Final = u64(0x2E05_8EA9)
TRNG_UUID3: Final = u64(0x19C7_64D3)
"""A name for EL2's generator (DEN0098): 128 bits, chosen at random once."""

VENDOR_UID: Final = u64(0x8600_FF01)
UID0: Final = u64(0xB66F_B428)
UID1: Final = u64(0xE911_C52E)
UID2: Final = u64(0x564B_CAA9)
UID3: Final = u64(0x743A_004D)
"""28b46fb6-2ec5-11e9-a9ca-4b564d003a74 in the order of bytes that Linux wants (include/linux/arm-smccc.h)."""
FEATURES: Final = u64(0x8600_0000)
MEMINFO: Final = u64(0xC600_0002)
MEM_SHARE: Final = u64(0xC600_0003)
MEM_UNSHARE: Final = u64(0xC600_0004)
MMIO_GUARD_INFO: Final = u64(0xC600_0005)
MMIO_GUARD_ENROLL: Final = u64(0xC600_0006)
MMIO_GUARD_MAP: Final = u64(0xC600_0007)
MMIO_GUARD_UNMAP: Final = u64(0xC600_0008)
RELINQUISH: Final = u64(0xC600_0009)
FEATURE_BITS: Final = u64(0b11_1111_1101)
"""FEATURES itself, then MEMINFO to RELINQUISH."""

VERSION: Final = u64(1)
STATUS: Final = u64(0xC600_DE00)
PROTECT_BEGIN: Final = u64(0xC600_DE01)
PROTECT_MEASURE: Final = u64(0xC600_DE02)
PROTECT_COMMIT: Final = u64(0xC600_DE03)
SHARE_RANGE: Final = u64(0xC600_DE04)
UNSHARE_RANGE: Final = u64(0xC600_DE05)
MEASUREMENT: Final = u64(0xC600_DE06)
SIGNED_BYTES: Final = u64(3072)
"""Bytes of a manifest before the room for its signature."""
