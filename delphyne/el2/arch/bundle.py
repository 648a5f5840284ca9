# SPDX-License-Identifier: Apache-2.0
"""A host kernel, its initrd and its command line behind EL2's own image, for boot loaders that load a single file.

The file is the image, padded to its size in memory, and then the header: little-endian u64 words, offsets from the header's first byte.

    0  magic        8  bytes of all     16 kernel's offset   24 its bytes
    32 initrd's offset   40 its bytes   48 command line's offset   56 its bytes

The kernel lies where booting.rst wants it (2 MiB aligned), the initrd behind all memory that the kernel takes for itself. That there is a header
follows from the arm64 Image header of EL2's image, whose size the bundle enlarges: memory behind an image of its own size is never looked at.
`delphyne.board.bundle` writes it. No lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import fdt, image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.modules import ARGUMENTS_BYTES, Modules
from delphyne.lang import Pa, View, load_le64, owned, u8, u64

MAGIC: Final = u64(int.from_bytes(b"DELPHYNB", "little"))
HEADER_BYTES: Final = u64(64)
IMAGE_SIZE_AT: Final = u64(16)
"""Where the arm64 Image header has its size in memory."""


def room() -> u64:
    """How many bytes of a bundle lie behind this image; 0 where it is alone."""
    with owned(image.image_start(), u64(64)) as head:
        size = load_le64(head, IMAGE_SIZE_AT)
    own = image.image_end() - image.image_start()
    return size - own if size > own else u64(0)


def read(raw: View[u8], base: Pa, modules: Modules) -> None | Err:
    """The modules of the bundle `raw`, which lies at `base`.

    Errors: TRUNCATED without a whole header, NOT_FOUND without its magic, MALFORMED for parts that lie outside, OVERFLOW for a command line that is
    longer than a kernel's; `modules` is then undefined."""
    if raw.length < HEADER_BYTES:
        return Err.TRUNCATED
    if load_le64(raw, u64(0)) != MAGIC:
        return Err.NOT_FOUND
    if load_le64(raw, u64(8)) > raw.length:
        return Err.TRUNCATED
    kernel = _part(raw, u64(16))
    if isinstance(kernel, Err):
        return kernel
    ramdisk = _part(raw, u64(32))
    if isinstance(ramdisk, Err):
        return ramdisk
    arguments = _part(raw, u64(48))
    if isinstance(arguments, Err):
        return arguments
    if kernel.size == 0:
        return Err.MALFORMED
    if arguments.size > ARGUMENTS_BYTES:
        return Err.OVERFLOW
    modules.kernel = fdt.Region(base + kernel.base.raw, kernel.size)
    modules.ramdisk = fdt.Region(base + ramdisk.base.raw, ramdisk.size)
    at = arguments.base.raw
    modules.arguments[: arguments.size].copy_from(raw[at : at + arguments.size])
    modules.arguments_length = arguments.size
    return None


def _part(raw: View[u8], at: u64) -> fdt.Region | Err:
    """One part by its two words, as offset and size."""
    offset = load_le64(raw, at)
    size = load_le64(raw, at + 8)
    if offset > raw.length or size > raw.length - offset:
        return Err.MALFORMED
    return fdt.Region(Pa(offset), size)
