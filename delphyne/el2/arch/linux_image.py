# SPDX-License-Identifier: Apache-2.0
"""The header of an arm64 Linux Image (Linux Documentation/arm64/booting.rst): how much memory it takes and whether it can be run here.

Other things that people hand over by mistake are told apart, so that the console can say what they are. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Bits64, Enum8, View, bits, load_le16, load_le32, load_le64, u8, u16, u32, u64, value

HEADER_BYTES: Final = u64(64)
ALIGNMENT: Final = u64(2 << 20)
MAGIC: Final = u32(0x644D_5241)
"""ARM\\x64"""
GZIP: Final = u16(0x8B1F)
BZIMAGE: Final = u16(0x5A4D)
"""MZ, which an arm64 Image with an EFI stub has as well: looked at only where MAGIC is missing."""
UNKNOWN_SIZE: Final = u64(0)


class Flags(Bits64):
    """The flags of the header."""

    big_endian: bool = bits(0)
    page_size: u8 = bits(2, 1)


class Trouble(Enum8):
    """Why an image cannot be run."""

    TRUNCATED = 1
    COMPRESSED = 2
    OTHER_ARCHITECTURE = 3
    BIG_ENDIAN = 4
    OLD = 5


@value
class LinuxImage:
    """`size` bytes of memory from its first byte on are the kernel's, whatever the file's own length (zeroed data comes after it)."""

    size: u64
    page_size: u8


def read(image: View[u8]) -> LinuxImage | Err:
    """The header at the start of `image`. Err.UNSUPPORTED where it cannot be run: `trouble` says why."""
    if trouble(image) is not None:
        return Err.UNSUPPORTED
    return LinuxImage(load_le64(image, u64(16)), Flags.of(load_le64(image, u64(24))).page_size)


def trouble(image: View[u8]) -> Trouble | None:
    """Why `image` cannot be run, or None."""
    if image.length < HEADER_BYTES:
        return Trouble.TRUNCATED
    if load_le32(image, u64(56)) != MAGIC:
        return Trouble.COMPRESSED if load_le16(image, u64(0)) == GZIP else Trouble.OTHER_ARCHITECTURE
    if Flags.of(load_le64(image, u64(24))).big_endian:
        return Trouble.BIG_ENDIAN
    if load_le64(image, u64(16)) == UNKNOWN_SIZE:
        return Trouble.OLD
    return None
