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
ZBOOT: Final = u32(0x676D_697A)
"""zimg, at offset 4: an EFI program that unpacks the kernel itself."""
UNKNOWN_SIZE: Final = u64(0)
PE_AT: Final = u64(0x3C)
"""Where an image with an EFI stub has the offset of its PE header."""
PE_MAGIC: Final = u32(0x4550)
PE_HEADER_BYTES: Final = u64(24)
SECTION_BYTES: Final = u64(40)


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
        packed = load_le16(image, u64(0)) == GZIP or load_le32(image, u64(4)) == ZBOOT
        return Trouble.COMPRESSED if packed else Trouble.OTHER_ARCHITECTURE
    if Flags.of(load_le64(image, u64(24))).big_endian:
        return Trouble.BIG_ENDIAN
    if load_le64(image, u64(16)) == UNKNOWN_SIZE:
        return Trouble.OLD
    return Trouble.TRUNCATED if _file_bytes(image) > image.length else None


def _file_bytes(image: View[u8]) -> u64:
    """How long the file has to be by the sections of its PE header; 0 where it has none. The arm64 header does not tell."""
    header = u64(load_le32(image, PE_AT))
    if header > image.length or image.length - header < PE_HEADER_BYTES or load_le32(image, header) != PE_MAGIC:
        return u64(0)
    table = header + PE_HEADER_BYTES + u64(load_le16(image, header + 20))
    longest = u64(0)
    for i in u64.range(u64(load_le16(image, header + 6))):
        at = table + i * SECTION_BYTES
        if at > image.length or image.length - at < SECTION_BYTES:
            return at + SECTION_BYTES
        longest = max(longest, u64(load_le32(image, at + 16)) + u64(load_le32(image, at + 20)))
    return longest
