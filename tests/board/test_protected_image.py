# SPDX-License-Identifier: Apache-2.0
"""Images of protected guests, without a machine: layout, digests, the edited tree, the measurement, and what is refused and how."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from delphyne import cli
from delphyne.board import devicetree, protected_image
from delphyne.board.devicetree import Node, TreeError
from delphyne.board.protected_image import EXECUTE, MMIO, PAGE, RAM, READ, WRITE, ImageError, Window
from delphyne.board.qemu import QEMU, VIRT_IMAGE_BASE
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.guest import manifest, measurement
from delphyne.lang import Array, u8

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
KERNEL_AT = VIRT_IMAGE_BASE + 2 * MIB
INITRD = b"an initramfs " * 1000
LINE = "console=ttyAMA0 kaslr 64"


def kernel(size: int = 3 * MIB, room: int = 5 * MIB) -> bytes:
    """An arm64 Image as far as its header goes, of `size` bytes that takes `room`."""
    header = struct.pack("<IIQQQ24xII", 0x1400_0010, 0, 0, room, 0b1010, 0x644D_5241, 0)
    return header + bytes(i % 251 for i in range(1 << 10)) + bytes(size - len(header) - (1 << 10))


def dump(folder: Path, options: str) -> bytes:
    """QEMU's own tree."""
    machine = f"virt,dtb-randomness=off,{options}"
    return protected_image.dump_tree([QEMU, "-machine", machine, "-cpu", "cortex-a57", "-m", "256", "-display", "none", "-nodefaults"], folder)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return dump(tmp_path_factory.mktemp("tree"), "gic-version=3,its=off")


@pytest.fixture(scope="module")
def image(tree: bytes) -> bytes:
    return protected_image.build(kernel(), INITRD, tree, LINE)


def part(image: bytes, ipa: int, size: int) -> bytes:
    return image[ipa - VIRT_IMAGE_BASE : ipa - VIRT_IMAGE_BASE + size]


def checked(image: bytes) -> object:
    raw = protected_image.manifest_of(image)
    return manifest.check(Array[u8, 4096].of(list(raw))[:])  # type: ignore[attr-defined]


def test_each_part_lies_where_the_manifest_says_with_the_digest_it_says(image: bytes) -> None:
    found = protected_image.unpack(protected_image.manifest_of(image))
    assert found.entry == KERNEL_AT
    assert found.entry % (2 * MIB) == 0
    # A kernel frees what its initrd took, and puts code there as well; its device tree stays.
    assert [rights for _, _, rights, _ in found.segments] == [READ | WRITE | EXECUTE, READ | WRITE | EXECUTE, READ | WRITE]
    for ipa, pages, _, digest in found.segments:
        content = part(image, ipa, pages * PAGE)
        assert len(content) == pages * PAGE
        assert hashlib.sha256(content).digest() == digest
    (kernel_at, kernel_pages, _, _), (initrd_at, _, _, _), (tree_at, _, _, _) = found.segments
    assert part(image, kernel_at, len(kernel())) == kernel()
    assert kernel_pages * PAGE == len(kernel()), "what the kernel zeroes itself is no part of it"
    assert initrd_at >= kernel_at + 5 * MIB, "the kernel has all the room it asks for"
    assert part(image, initrd_at, len(INITRD)) == INITRD
    assert tree_at == found.tree
    assert checked(image) is None


def test_the_file_is_an_arm64_image_that_may_lie_anywhere(image: bytes) -> None:
    code, _, offset, size, flags, *_, magic, _ = struct.unpack_from("<IIQQQQQQII", image)
    assert code >> 26 == 0b000101, "a branch"
    assert (offset, size, flags, magic) == (0, len(image), 0b1010, 0x644D_5241)
    assert len(image) % PAGE == 0


def test_the_tree_says_what_a_boot_loader_would(tree: bytes, image: bytes) -> None:
    found = protected_image.unpack(protected_image.manifest_of(image))
    before, after = devicetree.read(tree), devicetree.read(part(image, found.tree, found.tree_size))
    chosen = after.children["chosen"].properties
    initrd_at = found.segments[1][0]
    assert chosen["bootargs"] == LINE.encode() + b"\0", "also where the command line looks like something of the tool's"
    assert chosen["linux,initrd-start"] == struct.pack(">Q", initrd_at)
    assert chosen["linux,initrd-end"] == struct.pack(">Q", initrd_at + len(INITRD))
    assert (chosen["rng-seed"], chosen["kaslr-seed"]) == (bytes(32), bytes(8))
    assert chosen["stdout-path"] == before.children["chosen"].properties["stdout-path"]
    del before.children["chosen"], after.children["chosen"]
    assert before == after


def test_seeds_lie_where_the_manifest_says(tree: bytes, image: bytes) -> None:
    found = protected_image.unpack(protected_image.manifest_of(image))
    blob = bytearray(part(image, found.tree, found.tree_size))
    for ipa, size in ((found.rng_seed, 32), (found.kaslr_seed, 8)):
        blob[ipa - found.tree : ipa - found.tree + size] = b"\xa5" * size
    chosen = devicetree.read(bytes(blob)).children["chosen"].properties
    assert (chosen["rng-seed"], chosen["kaslr-seed"]) == (b"\xa5" * 32, b"\xa5" * 8)
    assert chosen["bootargs"] == LINE.encode() + b"\0"


def test_no_seed_lies_in_two_pages(tree: bytes) -> None:
    """A property before both moves them, four bytes a time, over the end of a page."""

    def made(padding: int) -> bytes:
        root = devicetree.read(tree)
        root.properties["padding"] = bytes(padding)
        return protected_image.build(kernel(64 << 10, 64 << 10), INITRD, devicetree.write(root), LINE)

    first = protected_image.unpack(protected_image.manifest_of(made(0)))
    for padding in range((-first.rng_seed - 100) % PAGE // 4 * 4, (-first.rng_seed - 100) % PAGE + 120, 4):
        assert checked(made(padding)) is None


def test_the_windows_are_those_of_the_machine(image: bytes) -> None:
    """As hw/arm/virt.c of QEMU lays it out: flash and behind it the distributor, redistributors and UART, RTC, fw_cfg, GPIO, virtio, PCI."""
    windows = protected_image.unpack(protected_image.manifest_of(image)).windows
    assert windows == (
        Window(0, 0x0801_0000, MMIO),
        Window(0x080A_0000, 0x00F6_1000, MMIO),
        Window(0x0901_0000, PAGE, MMIO),
        Window(0x0902_0000, PAGE, MMIO),
        Window(0x0903_0000, PAGE, MMIO),
        Window(0x0A00_0000, 0x4000, MMIO),
        Window(0x1000_0000, 0x2F00_0000, MMIO),
        Window(0x4000_0000, 256 * MIB, RAM),
        Window(0x40_1000_0000, 0x1000_0000, MMIO),
        Window(0x80_0000_0000, 1 << 39, MMIO),
    )


def test_a_gicv2_has_its_windows(tmp_path: Path) -> None:
    """Distributor, CPU interface, the page for MSIs; hypervisor's and virtual CPU interface are there with virtualization only."""
    tree = dump(tmp_path, "gic-version=2,highmem=off")
    windows = protected_image.unpack(protected_image.manifest_of(protected_image.build(kernel(), INITRD, tree, LINE))).windows
    assert windows[:2] == (Window(0, 0x0802_1000, MMIO), Window(0x0900_0000, 0x1000, MMIO))
    assert windows[-2:] == (Window(0x1000_0000, 0x3000_0000, MMIO), Window(0x4000_0000, 256 * MIB, RAM)), "PCI is below RAM"


def test_the_measurement_is_what_el2_computes(image: bytes) -> None:
    raw = protected_image.manifest_of(image)
    out = Array[u8, 32]()
    measurement.take(CPUS.mine().simd, Array[u8, 4096].of(list(raw))[:], out[:])  # type: ignore[attr-defined]
    assert protected_image.measure(raw) == bytes(out)
    assert protected_image.measure(raw) == hashlib.sha256(raw[:3072] + bytes.fromhex("00010000") + bytes(4)).digest()
    signed = raw[:3072] + b"a signature".ljust(1024, b"\0")
    assert protected_image.measure(signed) == protected_image.measure(raw)


def test_the_version_that_is_measured_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert protected_image._version() == project["version"]


def without(name: str) -> Callable[[Node], None]:
    def change(root: Node) -> None:
        for child in [child for child in root.children if child.startswith(name)]:
            del root.children[child]

    return change


def many_devices(root: Node) -> None:
    for number in range(16):
        root.children[f"device{number}"] = Node({"reg": struct.pack(">4I", 0x20, number << 16, 0, 0x1000)})


def device_in_memory(root: Node) -> None:
    root.children["device"] = Node({"reg": struct.pack(">4I", 0, 0x4800_0000, 0, 0x1000)})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (without("memory"), "names no memory"),
        (many_devices, r"needs 26 windows; a manifest has 16"),
        (device_in_memory, "has a device in its memory, at 0x48000000"),
    ],
)
def test_trees_that_make_no_manifest_are_refused(tree: bytes, change: Callable[[Node], None], what: str) -> None:
    root = devicetree.read(tree)
    change(root)
    with pytest.raises(ImageError, match=what):
        protected_image.build(kernel(), INITRD, devicetree.write(root), LINE)


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"\x1f\x8b" + bytes(100), "is compressed: it has to be unpacked first"),
        (b"MZ\0\0zimg" + bytes(100), "is compressed: it has to be unpacked first"),
        (bytes(100), "is no arm64 Image"),
        (b"MZ", "is cut off"),
        (kernel(room=0), "does not say how much memory it takes"),
    ],
    ids=["gzip", "zboot", "zeros", "two bytes", "no size"],
)
def test_kernels_that_cannot_boot_are_told_apart(tree: bytes, bad: bytes, what: str) -> None:
    with pytest.raises(ImageError, match=f"^the kernel {what}"):
        protected_image.build(bad, INITRD, tree, LINE)


def test_what_does_not_fit_is_refused(tree: bytes) -> None:
    with pytest.raises(ImageError, match=r"RAM does not hold the image: 2.. MiB from 0x40200000 on"):
        protected_image.build(kernel(room=256 * MIB), INITRD, tree, LINE)
    with pytest.raises(ImageError, match="the command line has 2048 bytes, and a kernel takes 2047"):
        protected_image.build(kernel(), INITRD, tree, "x" * 2048)
    with pytest.raises(ImageError, match="the initramfs is empty"):
        protected_image.build(kernel(), b"", tree, LINE)
    with pytest.raises(ImageError, match="not a flattened device tree"):
        protected_image.build(kernel(), INITRD, bytes(100), LINE)


def test_a_missing_qemu_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no-such-qemu is not installed.*qemu-system-arm"):
        protected_image.dump_tree(["no-such-qemu", "-machine", "virt"], tmp_path)


def test_another_reader_reads_the_tree_that_is_written(image: bytes, tmp_path: Path) -> None:
    found = protected_image.unpack(protected_image.manifest_of(image))
    (tmp_path / "dtb").write_bytes(part(image, found.tree, found.tree_size))
    text = subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts", str(tmp_path / "dtb")], capture_output=True, text=True, check=True).stdout
    assert f'bootargs = "{LINE}";' in text
    assert "kaslr-seed = <0x00 0x00>;" in text


@given(st.lists(st.tuples(st.integers(0, 1 << 13), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6), st.integers(0, 1 << 13))
def test_broken_trees_are_refused_in_words(changes: list[tuple[int, bytes]], length: int) -> None:
    raw = bytearray(devicetree.write(SMALL))
    for at, what in changes:
        raw[at % len(raw) : at % len(raw) + len(what)] = what
    with suppress(TreeError):
        devicetree.read(bytes(raw[:length]))


SMALL = Node({"#address-cells": struct.pack(">I", 2)}, {"chosen": Node({"bootargs": b"x\0"}), "memory@0": Node({"reg": bytes(16)}, {"a": Node()})})


def test_a_tree_is_read_as_it_was_written() -> None:
    assert devicetree.read(devicetree.write(SMALL)) == SMALL
    deep = Node()
    for _ in range(40):
        deep = Node({}, {"x": deep})
    with pytest.raises(TreeError, match="more than 32 levels"):
        devicetree.read(devicetree.write(deep))


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, ["guest-image", *map(str, arguments)])
    return done.exit_code, done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)


def test_the_command_makes_shows_and_measures(tree: bytes, image: bytes, tmp_path: Path) -> None:
    files = {"kernel": kernel(), "initrd": INITRD, "dtb": tree}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    made = tmp_path / "guest.img"
    options = [part for name in files for part in (f"--{name}", tmp_path / name)]
    code, said = run(*options, "--cmdline", LINE, "--output", made)
    assert code == 0, said
    assert made.read_bytes() == image, "the same each time"
    measured = protected_image.measure(protected_image.manifest_of(image)).hex()
    assert f"launch measurement {measured}, by EL2 0.1.0" in said
    assert run("--show", made) == (0, said)
    assert "RAM  0x40000000 to 0x50000000\n" in said
    assert f"entry {KERNEL_AT:#x}" in said
    shown = json.loads(run("--show", made, "--json")[1])
    assert (shown["entry"], shown["measurement"], shown["el2_version"], shown["dma_isolated"]) == (KERNEL_AT, measured, "0.1.0", False)
    assert [segment["rights"] for segment in shown["segments"]] == ["rwx", "rwx", "rw-"]
    assert run("--measure", made) == (0, f"{measured}\n")
    assert json.loads(run("--measure", made, "--json")[1]) == {"measurement": measured}


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    assert run("--show", tmp_path / "nothing") == (1, f"{tmp_path}/nothing: No such file or directory")
    assert run("--kernel", tmp_path / "nothing")[1].startswith("an image needs --kernel, --initrd, --dtb and --output")
    (tmp_path / "text").write_text("no image")
    for option in ("--show", "--measure"):
        assert run(option, tmp_path / "text") == (1, "not an image of a protected guest")
