# SPDX-License-Identifier: Apache-2.0
"""Images of protected guests: one file that QEMU loads with `-kernel`, which makes itself protected and then boots a stock kernel.

Layout, from where QEMU's `virt` puts an arm64 Image: a page with the Image header and the stub, the manifest's page, then at multiples of 2 MiB the
kernel and the initramfs, then the device tree. The manifest (docs/guest-abi.md) names all of them but the first two, which nobody has to believe.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from delphyne.board import devicetree, restricted_dma
from delphyne.board.devicetree import Node
from delphyne.board.qemu import PACKAGE, VIRT_IMAGE_BASE, BoardError
from delphyne.compiler.back import tools
from delphyne.el2.arch import linux_image, psci
from delphyne.el2.arch.linux_image import Trouble
from delphyne.el2.guest import abi
from delphyne.lang import text

PAGE = 4096
ALIGNMENT = 2 << 20
TREE_ALIGNMENT = 1 << 16
READ, WRITE, EXECUTE = 1, 2, 4
RAM, MMIO = 1, 2
WINDOWS, SEGMENTS = 16, 24
LIMIT = int(abi.ADDRESS_LIMIT)
MANIFEST = struct.Struct("<8sIIQQIHHQQ8x")
WINDOW = struct.Struct("<QQI4x")
SEGMENT = struct.Struct("<QII32s8x")
FIRST_WINDOW, FIRST_SEGMENT = 64, 448
SEEDS = {"rng-seed": 32, "kaslr-seed": 8}
"""Properties of /chosen that EL2 fills with random bytes, and how many."""
IMAGE_MAGIC = b"ARM\x64"
LONGEST_COMMAND_LINE = 2047
"""Bytes that the kernel keeps (COMMAND_LINE_SIZE in arch/arm64/include/uapi/asm/setup.h, with the zero at the end)."""
TROUBLES = {
    Trouble.TRUNCATED: "is cut off",
    Trouble.COMPRESSED: "is compressed: it has to be unpacked first",
    Trouble.OTHER_ARCHITECTURE: "is no arm64 Image: Debian's vmlinuz is one",
    Trouble.BIG_ENDIAN: "is big-endian",
    Trouble.OLD: "does not say how much memory it takes: Linux 3.17 or newer is needed",
}

STUB = f"""
        b       begin
        .word   0
        .quad   0
        .quad   {{size}}
        .quad   0xa
        .quad   0, 0, 0
        .ascii  "ARM\\x64"
        .word   0
begin:  ldr     x0, ={int(abi.PROTECT_BEGIN):#x}
        adr     x1, manifest
        hvc     #0
        cbnz    x0, failed
measure:
        ldr     x0, ={int(abi.PROTECT_MEASURE):#x}
        hvc     #0
        cmp     x0, #1
        b.eq    measure
        cbnz    x0, failed
        ldr     x0, ={int(abi.PROTECT_COMMIT):#x}
        hvc     #0
failed: ldr     x0, ={int(psci.PSCI_SYSTEM_OFF):#x}
        hvc     #0
stop:   wfi
        b       stop
        .ltorg
        .balign {PAGE}
manifest:
"""
"""The Image header (Linux Documentation/arch/arm64/booting.rst), and the calls. It has no data that it writes, and no stack."""


class ImageError(BoardError):
    """What keeps an image from being made or read, in one line for the user."""


@dataclass(frozen=True, slots=True)
class Window:
    """Addresses of one kind, RAM or MMIO; `size` in bytes."""

    base: int
    size: int
    kind: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes at an address, padded to whole pages, and the guest's rights to them."""

    ipa: int
    content: bytes
    rights: int

    @property
    def pages(self) -> int:
        """How many pages it takes."""
        return len(self.content) // PAGE


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest's fields; digests are those of the segments' content."""

    entry: int
    tree: int
    tree_size: int
    rng_seed: int
    kaslr_seed: int
    windows: tuple[Window, ...]
    segments: tuple[tuple[int, int, int, bytes], ...]
    """Address, pages, rights, SHA-256."""

    def pack(self) -> bytes:
        """Its 4096 bytes."""
        made = bytearray(PAGE)
        counts = (len(self.windows), len(self.segments))
        MANIFEST.pack_into(made, 0, b"DELPHYNE", 1, 0, self.entry, self.tree, self.tree_size, *counts, self.rng_seed, self.kaslr_seed)
        for number, window in enumerate(self.windows):
            WINDOW.pack_into(made, FIRST_WINDOW + number * WINDOW.size, window.base, window.size, window.kind)
        for number, segment in enumerate(self.segments):
            SEGMENT.pack_into(made, FIRST_SEGMENT + number * SEGMENT.size, *segment)
        return bytes(made)


def unpack(raw: bytes) -> Manifest:
    """The manifest in 4096 bytes. Raises ImageError."""
    magic, version, _, entry, tree, tree_size, windows, segments, rng_seed, kaslr_seed = MANIFEST.unpack_from(raw)
    if magic != b"DELPHYNE" or version != 1 or windows > WINDOWS or segments > SEGMENTS:
        raise ImageError("no manifest of version 1")
    found = tuple(Window(*WINDOW.unpack_from(raw, FIRST_WINDOW + number * WINDOW.size)) for number in range(windows))
    named = tuple(SEGMENT.unpack_from(raw, FIRST_SEGMENT + number * SEGMENT.size) for number in range(segments))
    return Manifest(entry, tree, tree_size, rng_seed, kaslr_seed, found, named)


def manifest_of(image: bytes) -> bytes:
    """The manifest's page of an image. Raises ImageError."""
    if len(image) < 2 * PAGE or image[56:60] != IMAGE_MAGIC:
        raise ImageError("not an image of a protected guest")
    raw = image[PAGE : 2 * PAGE]
    unpack(raw)
    return raw


def measure(manifest: bytes) -> bytes:
    """The launch measurement that EL2 will compute: over the manifest without its signature, EL2's version, and that devices are not isolated."""
    signed = manifest[: int(abi.SIGNED_BYTES)]
    return hashlib.sha256(signed + struct.pack("<II", int(abi.EL2_VERSION), 0)).digest()


def describe(image: bytes, *, as_json: bool = False) -> str:
    """What an image's manifest says, for people or for programs. Raises ImageError."""
    raw = manifest_of(image)
    found = unpack(raw)
    kinds = {RAM: "RAM", MMIO: "MMIO"}
    if as_json:
        windows = [{"base": one.base, "size": one.size, "kind": kinds.get(one.kind, "?")} for one in found.windows]
        segments = [{"ipa": ipa, "pages": pages, "rights": _letters(rights), "sha256": digest.hex()} for ipa, pages, rights, digest in found.segments]
        said = {"entry": found.entry, "tree": found.tree, "tree_size": found.tree_size, "rng_seed": found.rng_seed, "kaslr_seed": found.kaslr_seed,
                "windows": windows, "segments": segments, "el2_version": _version(), "dma_isolated": False, "measurement": measure(raw).hex()}
        return json.dumps(said, indent=2)
    lines = [f"entry {found.entry:#x}, device tree at {found.tree:#x} ({found.tree_size} bytes)"]
    lines += [f"{kinds.get(one.kind, '?'):4} {one.base:#x} to {one.base + one.size:#x}" for one in found.windows]
    lines += [f"{_letters(rights)}  {ipa:#x}, {pages} pages, SHA-256 {digest.hex()}" for ipa, pages, rights, digest in found.segments]
    lines += [f"seeds at {found.rng_seed:#x} (rng-seed) and {found.kaslr_seed:#x} (kaslr-seed)"]
    return "\n".join([*lines, f"launch measurement {measure(raw).hex()}, by EL2 {_version()} without dma-isolated"])


def _version() -> str:
    """EL2's version, as people write it."""
    packed = int(abi.EL2_VERSION)
    return f"{packed >> 16}.{packed >> 8 & 0xFF}.{packed & 0xFF}"


def _letters(rights: int) -> str:
    return "".join(letter if rights & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE)))


def build(kernel: bytes, initrd: bytes, tree: bytes, command_line: str, pool: int = 0) -> bytes:
    """The image. `tree` is QEMU's own for the machine that the guest will run on; its virtio devices are told to do their DMA through a pool of so
    many bytes where that is not 0 (`restricted_dma`). Raises ImageError."""
    kernel_at = VIRT_IMAGE_BASE + ALIGNMENT
    initrd_at = _up(kernel_at + _room(kernel), ALIGNMENT)
    if not initrd:
        raise ImageError("the initramfs is empty")
    if len(command_line.encode()) > LONGEST_COMMAND_LINE:
        raise ImageError(f"the command line has {len(command_line.encode())} bytes, and a kernel takes {LONGEST_COMMAND_LINE}")
    tree_at = _up(initrd_at + len(initrd), TREE_ALIGNMENT)
    try:
        root = devicetree.read(tree)
    except devicetree.TreeError as problem:
        raise ImageError(f"the device tree: {problem}") from None
    windows = _windows(root)
    ram_end = next((one.base + one.size for one in windows if one.kind == RAM and 0 <= VIRT_IMAGE_BASE - one.base < one.size), VIRT_IMAGE_BASE)
    room_end = restricted_dma.add(root, ram_end, pool) if pool else ram_end
    blob, rng_seed, kaslr_seed = _edit(root, command_line, initrd_at, len(initrd), tree_at)
    segments = (
        Segment(kernel_at, _pages(kernel), READ | WRITE | EXECUTE),
        # The kernel frees it and puts anything there, modules and programs too.
        Segment(initrd_at, _pages(initrd), READ | WRITE | EXECUTE),
        Segment(tree_at, _pages(blob), READ | WRITE),
    )
    end = _up(tree_at + len(blob), PAGE)
    if end > room_end:
        beside = f" beside a DMA pool of {pool >> 20} MiB" if pool else ""
        raise ImageError(f"the guest's RAM does not hold the image{beside}: {(end - VIRT_IMAGE_BASE) >> 20} MiB from {VIRT_IMAGE_BASE:#x} on")
    named = tuple((one.ipa, one.pages, one.rights, hashlib.sha256(one.content).digest()) for one in segments)
    manifest = Manifest(kernel_at, tree_at, len(blob), rng_seed, kaslr_seed, windows, named)
    made = bytearray(end - VIRT_IMAGE_BASE)
    made[:PAGE] = stub(len(made))
    made[PAGE : 2 * PAGE] = manifest.pack()
    for one in segments:
        made[one.ipa - VIRT_IMAGE_BASE : one.ipa - VIRT_IMAGE_BASE + len(one.content)] = one.content
    return bytes(made)


def _room(kernel: bytes) -> int:
    """Bytes of memory that the kernel takes. Raises ImageError for one whose header EL2 would not take of a host's kernel either."""
    trouble = linux_image.trouble(text(kernel[: int(linux_image.HEADER_BYTES)]))
    if trouble is not None:
        raise ImageError(f"the kernel {TROUBLES[trouble]}")
    (room,) = struct.unpack_from("<Q", kernel, 16)
    return max(int(room), len(kernel))


def _up(x: int, alignment: int) -> int:
    return (x + alignment - 1) // alignment * alignment


def _pages(raw: bytes) -> bytes:
    return raw.ljust(_up(len(raw), PAGE), b"\0")


def stub(size: int) -> bytes:
    """The stub's page, for an image of `size` bytes. It lies at any page, and the manifest's page behind it."""
    with tempfile.TemporaryDirectory(prefix="delphyne-stub-") as folder:
        place = Path(folder)
        (place / "stub.S").write_text(STUB.format(size=size))
        tools.run("as", "-o", "stub.o", "stub.S", cwd=place)
        tools.run("objcopy", "-O", "binary", "-j", ".text", "stub.o", "stub.bin", cwd=place)
        return (place / "stub.bin").read_bytes()


def _edit(root: Node, command_line: str, initrd_at: int, initrd_size: int, tree_at: int) -> tuple[bytes, int, int]:
    """The tree with what a boot loader adds, and where its seeds lie, each inside one page. They are found by digests that nothing else in a tree
    has; what is between them is less than the space that moves both behind the page's end."""
    chosen = root.child("chosen").properties
    chosen["bootargs"] = command_line.encode() + b"\0"
    chosen["linux,initrd-start"] = struct.pack(">Q", initrd_at)
    chosen["linux,initrd-end"] = struct.pack(">Q", initrd_at + initrd_size)
    marks = {name: hashlib.sha256(name.encode()).digest()[:size] for name, size in SEEDS.items()}
    for spacing in range(2):
        for name in ("delphyne,spacing", *SEEDS):
            chosen.pop(name, None)
        if spacing:
            chosen["delphyne,spacing"] = bytes(64)
        chosen |= marks
        blob = devicetree.write(root)
        places = {name: tree_at + blob.index(mark) for name, mark in marks.items()}
        if all(places[name] % PAGE <= PAGE - size for name, size in SEEDS.items()):
            break
    for mark in marks.values():
        blob = blob.replace(mark, bytes(len(mark)))
    return blob, places["rng-seed"], places["kaslr-seed"]


def _windows(root: Node) -> tuple[Window, ...]:
    """The RAM and the devices of a tree. Raises ImageError."""
    memory: list[tuple[int, int]] = []
    devices: list[tuple[int, int]] = []
    cells = ((*root.cells("#address-cells"), 2)[0], (*root.cells("#size-cells"), 1)[0])
    for node in root.children.values():
        if node.strings("device_type")[0] == "memory":
            memory += _ranges(node.cells("reg"), *cells)
        else:
            devices += _device_ranges(node, *cells)
    if not memory:
        raise ImageError("the device tree names no memory: take QEMU's own (-machine ..,dumpdtb=FILE)")
    windows = [Window(base, size, RAM) for base, size in _merged(memory)]
    windows += [Window(base, size, MMIO) for base, size in _merged(one for one in devices if one[0] + one[1] <= LIMIT)]
    windows.sort(key=lambda window: window.base)
    for one, other in itertools.pairwise(windows):
        if one.base + one.size > other.base:
            raise ImageError(f"the device tree has a device in its memory, at {other.base:#x}")
    if len(windows) > WINDOWS:
        raise ImageError(f"the device tree needs {len(windows)} windows; a manifest has {WINDOWS}")
    return tuple(windows)


def _device_ranges(node: Node, address_cells: int, size_cells: int) -> list[tuple[int, int]]:
    """What a device at the root answers to; children count where their addresses are their parent's (an empty `ranges`)."""
    found = list(_ranges(node.cells("reg"), address_cells, size_cells))
    if node.strings("device_type")[0] == "pci":
        step = 3 + address_cells + 2
        cells = node.cells("ranges")
        for start in range(0, len(cells) - step + 1, step):
            found += _ranges(cells[start + 3 : start + step], address_cells, 2)
    elif "ranges" in node.properties and not node.properties["ranges"]:
        for child in node.children.values():
            found += _device_ranges(child, address_cells, size_cells)
    return found


def _ranges(cells: tuple[int, ...], address_cells: int, size_cells: int) -> list[tuple[int, int]]:
    """Address and size of each entry of a `reg`."""
    found = []
    step = address_cells + size_cells
    for start in range(0, len(cells) - step + 1, step):
        base = size = 0
        for cell in cells[start : start + address_cells]:
            base = base << 32 | cell
        for cell in cells[start + address_cells : start + step]:
            size = size << 32 | cell
        if size:
            found.append((base, size))
    return found


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Whole pages, in rising order; what touches is one."""
    merged: list[tuple[int, int]] = []
    for base, size in sorted(ranges):
        start, end = base // PAGE * PAGE, _up(base + size, PAGE)
        if merged and start <= merged[-1][0] + merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][0] + merged[-1][1]) - merged[-1][0])
        else:
            merged.append((start, end - start))
    return merged


def dump_tree(command: list[str], folder: Path) -> bytes:
    """QEMU's own device tree for a machine's command line, whose `-machine` option is its second word. Raises ImageError."""
    where = folder / "machine.dtb"
    line = [command[0], command[1], f"{command[2]},dumpdtb={where}", *command[3:]]
    try:
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ImageError(f"{line[0]} is not installed; install the Debian package {PACKAGE}") from None
    if not where.exists():
        raise ImageError(f"QEMU made no device tree: {done.stderr.strip()}")
    return where.read_bytes()
