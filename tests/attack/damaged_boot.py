# SPDX-License-Identifier: Apache-2.0
"""Boots EL2 as a loader would that hands over anything at all: a device tree and files at addresses, without QEMU's own care for them.

A few instructions put the address of the tree into x0 and jump to the image; QEMU only places the files. The undamaged tree is the one that QEMU
makes for the same machine with its boot modules.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.elf.elffile import ELFFile

from delphyne.board import host, qemu
from delphyne.compiler.back.image import Built
from delphyne.el2.arch import cpu

RAM_AT = 0x4000_0000
TREE_AT = 0x4E00_0000
START_AT = 0x4F00_0000


def machine() -> qemu.Machine:
    return qemu.Machine(cpu="cortex-a57", cpus=2, memory=512)


def _start() -> bytes:
    """ldr x0, tree; ldr x1, image; br x1; and the two numbers."""
    return struct.pack("<4I2Q", 0x5800_0080, 0x5800_00A1, 0xD61F_0020, 0xD503_201F, TREE_AT, qemu.VIRT_IMAGE_BASE)


@dataclass(frozen=True)
class Boot:
    """Files by the address at which they lie, and the tree that names them."""

    files: dict[int, Path]
    tree: bytes


def undamaged(built: Built, folder: Path, script: str) -> Boot:
    """What the ordinary boot of a host is made of. A kernel that panics turns the machine off."""
    line = host.command(host.Host(machine=machine(), script=script, arguments="panic=-1"), built.image)
    dump = folder / "tree"
    done = qemu.run_command([*line, "-machine", f"dumpdtb={dump}"], timeout=60.0)
    if not dump.exists():
        raise qemu.BoardError(f"QEMU gave no device tree: {done.complaint}")
    places = {host.KERNEL_AT: "kernel=", host.INITRD_AT: "initrd="}
    files = {}
    for part in line:
        for at, key in places.items():
            if part.startswith(f"guest-loader,addr={at:#x},{key}"):
                files[at] = Path(part.split(key)[1].split(",")[0])
    return Boot(files, dump.read_bytes())


def run(boot: Boot, built: Built, folder: Path, *, until: str) -> qemu.Run:
    """Boots it; ends when the machine turns itself off, has said `until`, or after half a minute."""
    tree, start = folder / "damaged", folder / "start"
    tree.write_bytes(boot.tree)
    start.write_bytes(_start())
    memory = folder / "memory"
    backed = ("-object", f"memory-backend-file,id=ram,size={machine().memory}M,mem-path={memory},share=on", "-machine", "memory-backend=ram")
    line = qemu.command(built.image, replace(machine(), extra=backed))
    at = line.index("-kernel")
    del line[at : at + 2]
    for address, file in {qemu.VIRT_IMAGE_BASE: built.image, TREE_AT: tree, START_AT: start, **boot.files}.items():
        line += ["-device", f"loader,file={file},addr={address:#x},force-raw=on"]
    done = qemu.run_command([*line, "-device", f"loader,addr={START_AT:#x},cpu-num=0"], timeout=30.0, until=until)
    assert not _has_failed(memory, built), f"EL2 trapped or crashed\n{done.console}"
    return done


def _has_failed(memory: Path, built: Built) -> bool:
    """Whether CPU 0 was on its emergency stack, which no console has to say."""
    with built.elf.open("rb") as file:
        cpus = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(f"{cpu.__name__}.CPUS")[0]["st_value"]
    with memory.open("rb") as file:
        file.seek(qemu.VIRT_IMAGE_BASE - RAM_AT + cpus)
        index, _, stack_top, _, crashing = struct.unpack("<5Q", file.read(40))
    return bool(index != 0 or crashing != 0 or stack_top == 0)


def edited(tree: bytes, edit: Callable[[str], str]) -> bytes:
    """The tree after changes to its source, however little sense they make."""
    source = _dtc(tree, "dtb", "dts").decode()
    changed = edit(source)
    assert changed != source, "the edit fits no tree"
    return _dtc(changed.encode(), "dts", "dtb")


def _dtc(data: bytes, given: str, wanted: str) -> bytes:
    return subprocess.run(["dtc", "-q", "-f", "-I", given, "-O", wanted], input=data, capture_output=True, check=True).stdout


def patched(tree: bytes, at: int, word: int) -> bytes:
    """The tree with one big-endian word of its header changed."""
    return tree[:at] + struct.pack(">I", word) + tree[at + 4 :]
