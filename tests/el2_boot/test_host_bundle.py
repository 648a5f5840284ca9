# SPDX-License-Identifier: Apache-2.0
"""The file with everything inside: what the tool writes is what EL2 reads, and what is spoiled is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.board import bundle as tool
from delphyne.board.qemu import BoardError
from delphyne.el2.arch import bundle, image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.modules import ARGUMENTS_BYTES, Modules
from delphyne.lang import Pa, owned, u64
from delphyne.lang.machine import Machine

BASE = 0x4040_0000


def arm_image(size: int, content: bytes = b"") -> bytes:
    return (bytes(16) + struct.pack("<QQ", size, 0xA) + bytes(24) + b"ARM\x64" + bytes(4) + content)


EL2 = arm_image(0x5000)
KERNEL = arm_image(3 << 20, b"kernel" * 100)


def read(raw: bytes) -> Modules | Err:
    modules = Modules()
    with Machine(0x4000_0000, 0x0100_0000) as machine:
        machine.memory.write(BASE, raw)
        with owned(Pa(u64(BASE)), u64(len(raw))) as there:
            answer = bundle.read(there, Pa(u64(BASE)), modules)
    return answer if isinstance(answer, Err) else modules


def test_what_is_written_is_found_again() -> None:
    made = tool.make(EL2, KERNEL, b"initrd", "console=x quiet")
    assert made[:16] == EL2[:16]
    assert made[24 : len(EL2)] == EL2[24:]
    assert int.from_bytes(made[16:24], "little") == len(made)
    modules = read(made[0x5000:])
    assert isinstance(modules, Modules)
    kernel, ramdisk = (int(region.base.raw) - BASE + 0x5000 for region in (modules.kernel, modules.ramdisk))
    assert made[kernel : kernel + int(modules.kernel.size)] == KERNEL
    assert made[ramdisk : ramdisk + int(modules.ramdisk.size)] == b"initrd"
    assert kernel % (2 << 20) == 0
    assert ramdisk >= kernel + (3 << 20), "behind all memory that the kernel takes"
    assert bytes(int(modules.arguments[i]) for i in range(int(modules.arguments_length))) == b"console=x quiet"


def test_an_initrd_may_be_missing() -> None:
    modules = read(tool.make(EL2, KERNEL, b"", "")[0x5000:])
    assert isinstance(modules, Modules)
    assert int(modules.ramdisk.size) == 0


@pytest.mark.parametrize(("kernel", "line"), [(b"\x1f\x8b" + bytes(100), ""), (KERNEL, "x" * 2048)])
def test_what_cannot_be_booted_is_not_bundled(kernel: bytes, line: str) -> None:
    with pytest.raises(BoardError):
        tool.make(EL2, kernel, b"", line)


def header(*words: int, magic: bytes = b"DELPHYNB", room: int = 4096) -> bytes:
    return (magic + struct.pack("<7Q", *words)).ljust(room, b"\0")


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"DELPHYNB", Err.TRUNCATED),
        (header(4096, 64, 1, 0, 0, 0, 0, magic=b"DELPHYNE"), Err.NOT_FOUND),
        (header(4097, 64, 1, 0, 0, 0, 0), Err.TRUNCATED),
        (header(4096, 64, 0, 0, 0, 0, 0), Err.MALFORMED),
        (header(4096, 4096, 1, 0, 0, 0, 0), Err.MALFORMED),
        (header(4096, 2**64 - 1, 2, 0, 0, 0, 0), Err.MALFORMED),
        (header(4096, 64, 1, 64, 2**64 - 1, 0, 0), Err.MALFORMED),
        (header(4096, 64, 1, 0, 0, 0, int(ARGUMENTS_BYTES) + 1), Err.OVERFLOW),
    ],
)
def test_a_spoiled_bundle_is_refused(raw: bytes, error: Err) -> None:
    assert read(raw) is error


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5000), min_size=7, max_size=7))
@settings(max_examples=100, deadline=None)
def test_no_header_leads_outside(words: list[int]) -> None:
    modules = read(header(*words))
    if isinstance(modules, Modules):
        for region in (modules.kernel, modules.ramdisk):
            assert BASE <= int(region.base.raw) <= int(region.base.raw) + int(region.size) <= BASE + 4096


@pytest.mark.parametrize("behind", [0, 0x1000, 0x40_0000])
def test_only_the_header_of_the_image_says_that_there_is_a_bundle(behind: int) -> None:
    start = int(image.image_start().raw)
    own = int(image.image_end().raw) - start
    with Machine(0x4000_0000, 0x0100_0000) as machine:
        assert int(bundle.room()) == 0
        machine.memory.write(start + 16, struct.pack("<Q", own + behind))
        assert int(bundle.room()) == behind
