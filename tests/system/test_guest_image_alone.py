# SPDX-License-Identifier: Apache-2.0
"""Images of protected guests on a machine without EL2: the stub ends there, and a stock kernel boots from what the manifest names."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import guestimage, protected_image, qemu
from delphyne.board.kernels import kernel_file
from delphyne.board.protected_image import PAGE
from delphyne.board.qemu import QEMU, VIRT_IMAGE_BASE, Ending
from delphyne.compiler.back import tools

pytestmark = pytest.mark.system

MACHINE = [QEMU, "-machine", "virt,gic-version=3,its=off,dtb-randomness=off", "-cpu", "cortex-a57", "-smp", "2", "-m", "256"]
MACHINE += ["-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot"]
HEADER_BYTES = 64
LINE = "console=ttyAMA0 delphyne.report"

JUMP = """
        ldr     x0, ={tree:#x}
        ldr     x4, ={entry:#x}
        mov     x1, xzr
        mov     x2, xzr
        mov     x3, xzr
        br      x4
"""
"""In place of the calls: what a guest begins with after COMMIT."""


def made(line: str, folder: Path) -> bytes:
    kernel = kernel_file(line)
    initrd = guestimage.build(kernel).initrd
    return protected_image.build(kernel.read_bytes(), initrd.read_bytes(), protected_image.dump_tree(MACHINE, folder), LINE)


def run(image: bytes, folder: Path) -> qemu.Run:
    (folder / "image").write_bytes(image)
    return qemu.run_command([*MACHINE, "-kernel", str(folder / "image")], timeout=120)


def test_the_stub_turns_a_machine_off_that_knows_no_such_call(tmp_path: Path) -> None:
    done = run(made("6.1", tmp_path), tmp_path)
    assert (done.ending, done.console, done.complaint) == (Ending.OFF, "", "")


@pytest.mark.parametrize("line", ["6.1", "6.12"])
def test_a_stock_kernel_boots_from_the_segments(line: str, tmp_path: Path) -> None:
    """Whatever of the image no segment names is spoiled first: the kernel needs nothing else. With seeds as EL2 writes them."""
    image = bytearray(made(line, tmp_path))
    manifest = protected_image.unpack(protected_image.manifest_of(bytes(image)))
    named = {page for ipa, pages, *_ in manifest.segments for page in range(ipa - VIRT_IMAGE_BASE, ipa - VIRT_IMAGE_BASE + pages * PAGE, PAGE)}
    for page in range(PAGE, len(image), PAGE):
        if page not in named:
            image[page : page + PAGE] = b"\xa5" * PAGE
    (tmp_path / "jump.S").write_text(JUMP.format(tree=manifest.tree, entry=manifest.entry))
    tools.run("as", "-o", "jump.o", "jump.S", cwd=tmp_path)
    tools.run("objcopy", "-O", "binary", "-j", ".text", "jump.o", "jump.bin", cwd=tmp_path)
    jump = (tmp_path / "jump.bin").read_bytes()
    image[HEADER_BYTES : HEADER_BYTES + len(jump)] = jump
    for ipa, size in ((manifest.rng_seed, 32), (manifest.kaslr_seed, 8)):
        image[ipa - VIRT_IMAGE_BASE : ipa - VIRT_IMAGE_BASE + size] = bytes(range(1, size + 1))

    done = run(bytes(image), tmp_path)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert f"Kernel command line: {LINE}\n" in done.console, done.console
    assert "KASLR enabled" in done.console, done.console
    assert "Linux guest " + line in done.console, done.console
    assert "CPUs: 2\n" in done.console, done.console
    assert "2 rounds, 0 bad\n" in done.console, done.console
