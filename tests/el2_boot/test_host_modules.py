# SPDX-License-Identifier: Apache-2.0
"""The boot modules that a device tree names, and what is told apart among the files that people hand over as a kernel."""

from __future__ import annotations

import struct

import pytest
from fdt_writer import Dt, board, cells64, view, write
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import fdt, linux_image, modules
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.linux_image import Trouble
from delphyne.lang import Pa, u64

KERNEL = ["multiboot,kernel", "multiboot,module"]
RAMDISK = ["multiboot,ramdisk", "multiboot,module"]


def module(kind: list[str], base: int, size: int, arguments: str | None = None) -> Dt:
    node = Dt({"compatible": kind, "reg": cells64(base, size)})
    if arguments is not None:
        node.properties["bootargs"] = arguments
    return node


def found(nodes: dict[str, Dt], chosen: dict[str, list[int]] | None = None) -> modules.Modules | Err:
    root = board()
    root.children["chosen"].children = nodes
    root.children["chosen"].properties.update(chosen or {})
    raw = view(write(root))
    tree = fdt.open_tree(raw)
    assert not isinstance(tree, Err)
    result = modules.Modules()
    answer = modules.find(raw, tree, result)
    return answer if isinstance(answer, Err) else result


def region(one: fdt.Region) -> tuple[int, int]:
    return int(one.base.raw), int(one.size)


def arguments(result: modules.Modules) -> bytes:
    return bytes(int(result.arguments[i]) for i in range(int(result.arguments_length)))


def test_a_kernel_with_its_arguments_and_a_ramdisk() -> None:
    result = found({"module@1": module(RAMDISK, 0x5800_0000, 0x200), "module@2": module(KERNEL, 0x5000_0000, 0x100, "console=x")})
    assert isinstance(result, modules.Modules)
    assert region(result.kernel) == (0x5000_0000, 0x100)
    assert region(result.ramdisk) == (0x5800_0000, 0x200)
    assert arguments(result) == b"console=x"


def test_a_kernel_alone_has_an_empty_ramdisk_and_no_arguments() -> None:
    result = found({"module@1": module(KERNEL, 0x5000_0000, 0x100)})
    assert isinstance(result, modules.Modules)
    assert int(result.ramdisk.size) == 0
    assert int(result.arguments_length) == 0


def test_a_command_line_longer_than_a_kernels_is_refused() -> None:
    longest = "x" * int(modules.ARGUMENTS_BYTES)
    result = found({"module@1": module(KERNEL, 0x5000_0000, 0x100, longest)})
    assert isinstance(result, modules.Modules)
    assert arguments(result) == longest.encode()
    assert found({"module@1": module(KERNEL, 0x5000_0000, 0x100, longest + "y")}) is Err.OVERFLOW


def test_chosen_may_set_its_own_cells() -> None:
    node = Dt({"compatible": KERNEL, "reg": [0x5000_0000, 0x100]})
    result = found({"module@1": node}, {"#address-cells": [1], "#size-cells": [1]})
    assert isinstance(result, modules.Modules)
    assert region(result.kernel) == (0x5000_0000, 0x100)


def test_only_children_of_chosen_that_are_modules_count() -> None:
    deeper = Dt({"compatible": "other"}, {"module@1": module(KERNEL, 0x5000_0000, 0x100)})
    plain = Dt({"compatible": "multiboot,kernel", "reg": cells64(0x5000_0000, 0x100)})
    for nodes in ({}, {"wrapper": deeper}, {"kernel@1": plain}, {"module@1": module(RAMDISK, 0x5800_0000, 0x200)}):
        assert found(nodes) is Err.NOT_FOUND


def test_an_unknown_kind_of_module_is_passed_over() -> None:
    nodes = {"module@0": module(["multiboot,xsm", "multiboot,module"], 0x4000_0000, 1), "module@1": module(KERNEL, 0x5000_0000, 0x100)}
    assert isinstance(found(nodes), modules.Modules)


@pytest.mark.parametrize("kind", [KERNEL, RAMDISK])
def test_two_of_a_kind_are_refused(kind: list[str]) -> None:
    assert found({"module@1": module(kind, 0x5000_0000, 0x100), "module@2": module(kind, 0x6000_0000, 0x100)}) is Err.EXISTS


@pytest.mark.parametrize(
    ("properties", "error"),
    [
        ({}, Err.INVALID),
        ({"reg": cells64(0x5000_0000, 0)}, Err.INVALID),
        ({"reg": cells64(2**64 - 16, 17)}, Err.RANGE),
        ({"reg": [0, 0x5000_0000, 0]}, Err.TRUNCATED),
        ({"reg": []}, Err.TRUNCATED),
    ],
)
def test_a_module_without_a_place_is_refused(properties: dict[str, list[int]], error: Err) -> None:
    assert found({"module@1": Dt({"compatible": KERNEL, **properties})}) is error


@given(st.dictionaries(st.integers(0, 400), st.integers(0, 255), max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_tree_with_spoiled_bytes_gives_modules_or_an_error(changes: dict[int, int]) -> None:
    root = board()
    root.children["chosen"].children = {"module@1": module(KERNEL, 0x5000_0000, 0x100, "a b"), "module@2": module(RAMDISK, 1 << 40, 5)}
    blob = bytearray(write(root))
    first = blob.index(b"module@1")
    for at, byte in changes.items():
        if first + at < len(blob):
            blob[first + at] = byte
    raw = view(bytes(blob))
    tree = fdt.open_tree(raw)
    if isinstance(tree, Err):
        return
    result = modules.Modules()
    if not isinstance(modules.find(raw, tree, result), Err):
        assert int(result.kernel.size) > 0
        assert arguments(result) in bytes(blob)
        for one in (result.kernel, result.ramdisk):
            assert sum(region(one)) < 2**64


def test_an_address_lies_inside_from_the_first_byte_to_the_last() -> None:
    one = fdt.Region(Pa(u64(0x1000)), u64(0x10))
    assert [modules.is_inside(one, Pa(u64(at))) for at in (0xFFF, 0x1000, 0x100F, 0x1010)] == [False, True, True, False]


def image(size: int = 0x20_0000, flags: int = 0xA, magic: bytes = b"ARM\x64", start: bytes = b"MZ") -> bytes:
    head = start.ljust(16, b"\0") + struct.pack("<QQ", size, flags)
    return head.ljust(56, b"\0") + magic + b"\0" * 68


def test_an_image_says_how_much_memory_it_takes() -> None:
    header = linux_image.read(view(image()))
    assert isinstance(header, linux_image.LinuxImage)
    assert (int(header.size), int(header.page_size)) == (0x20_0000, 1)


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (image()[:63], Trouble.TRUNCATED),
        (b"", Trouble.TRUNCATED),
        (image(start=b"\x1f\x8b\x08", magic=b"\0\0\0\0"), Trouble.COMPRESSED),
        (image(magic=b"\0\0\0\0"), Trouble.OTHER_ARCHITECTURE),
        (image(start=b"MZ\0\0zimg", magic=b"\0\0\0\0"), Trouble.COMPRESSED),
        (b"\0" * 0x206 + b"HdrS" + b"\0" * 100, Trouble.OTHER_ARCHITECTURE),
        (image(flags=1), Trouble.BIG_ENDIAN),
        (image(size=0), Trouble.OLD),
    ],
)
def test_what_cannot_be_run_is_told_apart(data: bytes, trouble: Trouble) -> None:
    assert linux_image.trouble(view(data)) == trouble
    assert linux_image.read(view(data)) is Err.UNSUPPORTED


def stub(sections: list[tuple[int, int]], length: int = 4096, count: int | None = None) -> bytes:
    """An image with an EFI stub whose PE sections have these offsets and sizes in the file."""
    pe = struct.pack("<IHHIIIHH", 0x4550, 0xAA64, len(sections) if count is None else count, 0, 0, 0, 8, 0) + b"\0" * 8
    table = b"".join(struct.pack("<8sIIIIIIHHI", b".text", 0, 0, size, at, 0, 0, 0, 0, 0) for at, size in sections)
    return (image()[:60] + struct.pack("<I", 64) + pe + table).ljust(length, b"\0")[:length]


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (stub([(512, 1000), (1512, 4096 - 1512)]), None),
        (stub([(512, 1000), (1512, 4097 - 1512)]), Trouble.TRUNCATED),
        (stub([(2**32 - 1, 2**32 - 1)]), Trouble.TRUNCATED),
        (stub([(512, 1000)], count=0xFFFF), Trouble.TRUNCATED),
        (stub([(64, 64)], length=130), Trouble.TRUNCATED),
        (stub([(64, 64)], length=70), None),
        (image()[:60] + b"\xff" * 4 + b"\0" * 64, None),
    ],
)
def test_a_file_that_ends_early_is_found_by_its_efi_header(data: bytes, trouble: Trouble | None) -> None:
    assert linux_image.trouble(view(data)) == trouble
