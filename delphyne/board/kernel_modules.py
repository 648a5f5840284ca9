# SPDX-License-Identifier: Apache-2.0
"""Loadable modules of a Debian kernel for the host's initramfs: what a display needs, each after those that it depends on.

Dependencies are read from the modules themselves (`depends=` in the section .modinfo); the package has no list of them before it is installed.
"""

from __future__ import annotations

import io
import lzma
from pathlib import Path

from elftools.elf.elffile import ELFFile

FOLDER = "modules"
"""Where in the initramfs they lie, named so that their order is that in which they are to be loaded."""


def files(kernel: Path, names: tuple[str, ...]) -> tuple[tuple[str, bytes], ...]:
    """The modules `names` and all that they depend on, as (path in the image, content). Those that the kernel has built in, and all of a kernel
    that was not unpacked from a package, are left out."""
    known = {_name(path): path for path in kernel.parents[1].glob("lib/modules/*/kernel/**/*.ko*")} if names else {}
    order: list[str] = []
    for name in names:
        _add(_plain(name), known, order)
    return tuple((f"{FOLDER}/{number:02}-{name}.ko", _content(known[name])) for number, name in enumerate(order))


def _plain(name: str) -> str:
    """Modules are called with either of the two dashes."""
    return name.replace("-", "_")


def _name(path: Path) -> str:
    return _plain(path.name.partition(".")[0])


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _add(name: str, known: dict[str, Path], order: list[str]) -> None:
    if name in order or name not in known:
        return
    for needed in _depends(_content(known[name])):
        _add(needed, known, order)
    order.append(name)


def _depends(module: bytes) -> list[str]:
    section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
    entries = section.data().split(b"\0") if section is not None else []
    named = [entry.removeprefix(b"depends=").decode() for entry in entries if entry.startswith(b"depends=")]
    return [_plain(name) for line in named for name in line.split(",") if name]
