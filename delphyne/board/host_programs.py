# SPDX-License-Identifier: Apache-2.0
"""Programs of Debian packages for the host's initramfs, each with the loader and the libraries that it names.

Packages are unpacked together into one folder below `build/cache`, once; what a program needs follows from its own ELF headers, so that nothing
else of the packages gets into the initramfs.
"""

from __future__ import annotations

import os
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import StringTableSection
from elftools.elf.segments import InterpSegment

from delphyne.board.debian import CACHE, AptRoot, PackageError, exclusive, unpack

LIBRARY_FOLDERS = ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu")


@exclusive()
def files(package: str, program: str, *, folder: Path = CACHE / "programs", apt: AptRoot | None = None) -> tuple[tuple[str, bytes], ...]:
    """The file `program` (its path in the package) and all it needs to run, as (path in the image, content)."""
    root = folder / package
    if not (root / program).is_file():
        partial = folder / f"{package}.{os.getpid()}"
        for archive in (apt or AptRoot()).download(package, dependencies=True):
            unpack(archive, partial)
        if not (partial / program).is_file():
            raise PackageError(f"{package} holds no {program}: has Debian moved it?")
        if not root.exists():
            partial.replace(root)
    found: dict[str, bytes] = {}
    waiting = [program]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found[path] = (root / path).read_bytes()
            waiting += _needed(root, path)
    return tuple(sorted(found.items()))


def _needed(root: Path, path: str) -> list[str]:
    """The loader and the libraries that an ELF file names, as paths below `root`."""
    wanted: list[str] = []
    with (root / path).open("rb") as file:
        elf = ELFFile(file)
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                wanted.append(segment.get_interp_name().lstrip("/"))
        dynamic = elf.get_section_by_name(".dynamic")
        if isinstance(dynamic, DynamicSection):
            names = elf.get_section(dynamic["sh_link"])
            if isinstance(names, StringTableSection):
                wanted += [_library(root, names.get_string(tag.entry.d_val)) for tag in dynamic.iter_tags("DT_NEEDED")]
    return wanted


def _library(root: Path, name: str) -> str:
    for folder in LIBRARY_FOLDERS:
        if (root / folder / name).exists():
            return f"{folder}/{name}"
    raise PackageError(f"the packages hold no {name}, which a program of theirs needs")
