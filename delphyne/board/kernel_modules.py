# SPDX-License-Identifier: Apache-2.0
"""Modules of Debian's arm64 kernels that an `/init` loads: the named ones and all they depend on, in the order in which they have to be loaded.

Debian's package carries no `modules.dep` (that is made when it is installed), so dependencies are read out of the modules themselves: section
`.modinfo`, entry `depends=` (kernel: scripts/mod/modpost.c). What a module asks for by name at run time (ext4: crc32c) is the caller's to name.
Newer kernels ship modules as .ko.xz; they are unpacked here, where that is cheap, and not on the emulated machine.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from elftools.elf.elffile import ELFFile

from delphyne.board.debian import PackageError

FOLDER = "modules"
"""Where an image keeps modules; the file ORDER in it names them, one a line with its options, in the order of loading."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A module that was built for a kernel and is not in its package, with insmod's `options` for it."""

    name: str
    data: bytes
    options: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """One module: its file's name without suffix, the unpacked ELF, and the names of those that come before it."""

    name: str
    data: bytes
    needs: tuple[str, ...]


def tree_of(vmlinuz: Path) -> Path:
    """The folder with the modules of a kernel that lies as Debian packages it (boot/vmlinuz-VERSION)."""
    tree = vmlinuz.parent.parent / "lib" / "modules" / vmlinuz.name.removeprefix("vmlinuz-")
    if not tree.is_dir():
        raise PackageError(f"{vmlinuz} has no modules beside it ({tree}): give a kernel of a Debian package")
    return tree


def _files(tree: Path) -> dict[str, Path]:
    """Module name (with underscores) -> its file."""
    return {path.name.split(".ko")[0].replace("-", "_"): path for path in tree.rglob("*.ko*")}


def _read(path: Path) -> Module:
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    section = ELFFile(io.BytesIO(data)).get_section_by_name(".modinfo")
    if section is None:
        raise PackageError(f"{path} is no kernel module: it has no .modinfo")
    entries = [entry.decode().partition("=") for entry in section.data().split(b"\0") if entry]
    needs = [name for key, _, value in entries if key == "depends" for name in value.split(",") if name]
    return Module(path.name.split(".ko")[0].replace("-", "_"), data, tuple(name.replace("-", "_") for name in needs))


def closure(vmlinuz: Path, names: tuple[str, ...]) -> tuple[Module, ...]:
    """The modules `names` of a kernel and what they need, dependencies first. A name that the kernel has built in is passed over; one
    that it does not know at all raises PackageError."""
    if not names:
        return ()
    tree = tree_of(vmlinuz)
    files = _files(tree)
    inside = {Path(line).name.split(".ko")[0].replace("-", "_") for line in (tree / "modules.builtin").read_text().split()}
    ordered: dict[str, Module] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in ordered or name in inside:
            return
        if name not in files:
            raise PackageError(f"{vmlinuz.name} has no module {name}")
        module = _read(files[name])
        for needed in module.needs:
            add(needed)
        ordered[name] = module

    for name in names:
        add(name)
    return tuple(ordered.values())


def image_files(
    vmlinuz: Path, names: tuple[str, ...], first: tuple[Foreign, ...] = (), options: Mapping[str, str] = MappingProxyType({})
) -> dict[str, bytes]:
    """The modules as files of an image, with the list ORDER; those that are `first` are loaded before all others. `options` are insmod's for the
    kernel's own modules."""
    modules = closure(vmlinuz, names)
    files = {f"{FOLDER}/{module.name}.ko": module.data for module in modules}
    files |= {f"{FOLDER}/{module.name}.ko": module.data for module in first}
    loaded = [(module.name, module.options) for module in first] + [(module.name, options.get(module.name, "")) for module in modules]
    files[f"{FOLDER}/ORDER"] = "".join(f"{' '.join(words).rstrip()}\n" for words in loaded).encode()
    return files


LOAD = f'while read -r module options; do insmod "/{FOLDER}/$module.ko" $options; done < /{FOLDER}/ORDER\n'
"""What an `/init` says to load them all."""
