# SPDX-License-Identifier: Apache-2.0
"""One bootable file with EL2, a host kernel, its initrd and its command line inside (`delphyne.el2.arch.bundle` has the layout)."""

from __future__ import annotations

import struct
from pathlib import Path

from delphyne.board.qemu import BoardError

BLOCK = 2 << 20
MAGIC = b"DELPHYNB"
HEADER = struct.Struct("<8s7Q")
SIZE_AT = 16
"""Where an arm64 Image header has its size in memory."""
LONGEST_ARGUMENTS = 2047


def _up(number: int, to: int) -> int:
    return -(-number // to) * to


def _size_in_memory(data: bytes, what: str) -> int:
    if data[56:60] != b"ARM\x64":
        raise BoardError(f"{what} is no arm64 Image; a compressed kernel has to be unpacked first (gunzip)")
    return max(int.from_bytes(data[SIZE_AT : SIZE_AT + 8], "little"), len(data))


def make(image: bytes, kernel: bytes, initrd: bytes, arguments: str) -> bytes:
    """The file's content. Raises BoardError for what cannot be booted."""
    line = arguments.encode()
    if len(line) > LONGEST_ARGUMENTS:
        raise BoardError(f"the command line has {len(line)} bytes, and a kernel takes {LONGEST_ARGUMENTS}")
    header_at = _size_in_memory(image, "the image of EL2")
    kernel_at = _up(header_at + HEADER.size + len(line), BLOCK)
    initrd_at = _up(kernel_at + _size_in_memory(kernel, "the kernel"), BLOCK)
    end = initrd_at + len(initrd)
    content = bytearray(_up(end, 4096))
    content[: len(image)] = image
    struct.pack_into("<Q", content, SIZE_AT, len(content))
    offsets = (kernel_at, len(kernel), initrd_at, len(initrd), header_at + HEADER.size, len(line))
    relative = [number - header_at if i % 2 == 0 else number for i, number in enumerate(offsets)]
    HEADER.pack_into(content, header_at, MAGIC, len(content) - header_at, *relative)
    for at, data in ((header_at + HEADER.size, line), (kernel_at, kernel), (initrd_at, initrd)):
        content[at : at + len(data)] = data
    return bytes(content)


def write(out: Path, image: Path, kernel: Path, initrd: Path | None, arguments: str) -> Path:
    """Makes the file `out` of these files."""
    for path in (kernel, *([initrd] if initrd else [])):
        if not path.is_file():
            raise BoardError(f"{path}: no such file")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(make(image.read_bytes(), kernel.read_bytes(), initrd.read_bytes() if initrd else b"", arguments))
    return out
