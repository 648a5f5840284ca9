# SPDX-License-Identifier: Apache-2.0
"""H7 on a machine: device trees and kernels that are cut off, absurd or overlap, as a loader would hand them over.

Each ends in a host that runs or in the machine being turned off, in words where the tree still names a console; never in a trap of EL2 and never in
silence that lasts. The readers themselves meet generated damage in CPython: tests/el2_boot/test_boot_fdt.py, test_boot_machine.py,
test_host_modules.py, test_host_bundle.py and tests/kvm/test_btf.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import damaged_boot
import pytest
from damaged_boot import Boot, edited, patched

from delphyne.board import host, qemu
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

RUNS = "the host begins"
STOPS = "EL2 does not start"
SILENT = ""
"""No line to expect: the console is named by what was destroyed."""
TOTAL_SIZE, STRUCT_AT, STRINGS_AT, RESERVED_AT = 4, 8, 12, 16
"""Words of the header of a flattened device tree."""


@pytest.fixture(scope="module")
def whole(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Boot:
    return damaged_boot.undamaged(built, tmp_path_factory.mktemp("tree"), "")


def module_reg(base: int, size: int) -> Callable[[str], str]:
    """The kernel's module node names other memory."""
    words = " ".join(f"{part:#x}" for number in (base, size) for part in (number >> 32, number & 0xFFFF_FFFF))

    def edit(source: str) -> str:
        return re.sub(r"(multiboot,kernel[^}]*reg = )<[^>]*>", rf"\1<{words}>", source, count=1)

    return edit


def reg_of(node: str, words: str) -> Callable[[str], str]:
    """The first node whose name begins so has other registers."""

    def edit(source: str) -> str:
        return re.sub(rf"({re.escape(node)}[^}}]*?reg = )<[^>]*>", rf"\1<{words}>", source, count=1)

    return edit


def inserted(text: str) -> Callable[[str], str]:
    """More nodes at the root."""
    return lambda source: re.sub(r"\n\tpsci \{", f"\n{text}\n\tpsci {{", source, count=1)


RESERVE_ALL = "\treserved-memory { #address-cells = <2>; #size-cells = <2>; ranges; all@40000000 { reg = <0 0x40000000 0 0x20000000>; no-map; }; };"
MANY = "".join(f"r@{i:x} {{ reg = <0 {0x40000000 + i * 0x2000:#x} 0 0x1000>; }};" for i in range(300))
RESERVE_MANY = f"\treserved-memory {{ #address-cells = <2>; #size-cells = <2>; ranges; {MANY} }};"
DEEP = "\t" + "deep { " * 400 + "}; " * 400

TREES: dict[str, tuple[Callable[[bytes], bytes], tuple[str, ...]]] = {
    "whole": (lambda tree: tree, (RUNS,)),
    "cut off": (lambda tree: edited(tree, inserted("\tcut { };"))[:4096], (SILENT,)),
    "a length of 4 GiB": (lambda tree: patched(tree, TOTAL_SIZE, 0xFFFF_FFFF), (SILENT,)),
    "structure far outside": (lambda tree: patched(tree, STRUCT_AT, 0xFFFF_FFFC), (SILENT,)),
    "strings far outside": (lambda tree: patched(tree, STRINGS_AT, 0xFFFF_FFFF), (SILENT,)),
    "reservations far outside": (lambda tree: patched(tree, RESERVED_AT, 0xFFFF_FFF8), (SILENT,)),
    "400 nodes deep": (lambda tree: edited(tree, inserted(DEEP)), (SILENT,)),
    "memory that wraps": (lambda tree: edited(tree, reg_of("memory@", "0xffffffff 0xfffff000 0 0x20000000")), (STOPS,)),
    "memory without end": (lambda tree: edited(tree, reg_of("memory@", "0 0x40000000 0xffffffff 0xffffffff")), (STOPS,)),
    "all memory reserved": (lambda tree: edited(tree, inserted(RESERVE_ALL)), (STOPS,)),
    "300 reservations": (lambda tree: edited(tree, inserted(RESERVE_MANY)), (RUNS,)),
    "a console in the image": (lambda tree: edited(tree, reg_of("pl011@", "0 0x40200000 0 0x1000")), (SILENT,)),
    "a console beyond all addresses": (lambda tree: edited(tree, reg_of("pl011@", "0x80000000 0 0 0x1000")), (SILENT,)),
    "kernel in the image": (lambda tree: edited(tree, module_reg(qemu.VIRT_IMAGE_BASE, 0x20_0000)), ("lies in EL2's own memory",)),
    "kernel outside RAM": (lambda tree: edited(tree, module_reg(0x900_0000, 0x20_0000)), ("does not lie in RAM",)),
    "kernel that wraps": (lambda tree: edited(tree, module_reg(0x5000_0000, 2**64 - 0x5000_0000)), (STOPS,)),
    "kernel of no bytes": (lambda tree: edited(tree, module_reg(0x5000_0000, 0)), (STOPS,)),
}


@pytest.mark.parametrize("name", TREES)
def test_a_damaged_tree_is_refused_in_words(name: str, built: Built, whole: Boot, tmp_path: Path) -> None:
    damage, expected = TREES[name]
    _judge(damaged_boot.run(replace(whole, tree=damage(whole.tree)), built, tmp_path, until=RUNS), expected)



KERNELS: dict[str, tuple[Callable[[bytes], bytes], tuple[str, ...]]] = {
    "a size of all memory": (lambda image: image[:16] + struct.pack("<Q", 2**64 - 4096) + image[24:], ("needs more RAM",)),
    "zeros behind a header": (lambda image: image[:64].ljust(len(image), b"\0"), (RUNS,)),
    "cut in its BTF": (lambda image: image[: len(image) * 2 // 3].ljust(len(image), b"\0"), (RUNS,)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_damaged_kernel_does_not_stop_el2(name: str, built: Built, whole: Boot, tmp_path: Path) -> None:
    """What lies behind the header is the host's affair; EL2 only reads its BTF."""
    damage, expected = KERNELS[name]
    kernel = tmp_path / "kernel"
    kernel.write_bytes(damage(whole.files[host.KERNEL_AT].read_bytes()))
    boot = replace(whole, files={**whole.files, host.KERNEL_AT: kernel})
    _judge(damaged_boot.run(boot, built, tmp_path, until=RUNS), expected)


def _judge(done: qemu.Run, expected: tuple[str, ...]) -> None:
    assert done.ending in (qemu.Ending.OFF, qemu.Ending.SEEN), f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "*** delphyne" not in done.console, done.console
    assert any(text in done.console for text in expected), done.console
