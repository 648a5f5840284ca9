# SPDX-License-Identifier: Apache-2.0
"""EL2's statics as a machine has them in its memory, found by the debug information of the image.

A static is read into plain Python: a structure is a dictionary, an array a list, a reference or a table attached at boot a dictionary of where it
begins and how long it is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from delphyne.board import qemu
from delphyne.compiler.back.image import Built


class Memory:
    """A machine's RAM in a file, and those `statics` of the image that runs in it, or ran, that are `wanted`. They are read once, here; numbers as
    often as they are asked for. `base` is where the RAM begins."""

    def __init__(self, built: Built, ram: mmap.mmap, base: int, wanted: Iterable[str]) -> None:
        names = frozenset(wanted)
        self._ram, self._base = ram, base
        self._found: dict[str, tuple[int, DIE]] = {}
        with built.elf.open("rb") as file:
            for unit in ELFFile(file).get_dwarf_info().iter_CUs():
                for die in unit.get_top_DIE().iter_children():
                    if die.tag == "DW_TAG_variable" and _name(die) in names and "DW_AT_location" in die.attributes:
                        at = int.from_bytes(bytes(die.attributes["DW_AT_location"].value[1:9]), "little")
                        self._found[_name(die)] = qemu.VIRT_IMAGE_BASE + at, _type(die)
            self.statics = {name: self._read(at, die) for name, (at, die) in self._found.items()}

    def number(self, at: int, size: int = 8) -> int:
        """A number in memory, by its physical address."""
        return int.from_bytes(self._ram[at - self._base : at - self._base + size], "little")

    def numbers(self, at: int, count: int, size: int = 8) -> list[int]:
        """So many in a row."""
        data = self._ram[at - self._base : at - self._base + count * size]
        return [int.from_bytes(data[place : place + size], "little") for place in range(0, len(data), size)]

    def _read(self, at: int, die: DIE) -> Any:
        if die.tag == "DW_TAG_structure_type":
            members = [child for child in die.iter_children() if child.tag == "DW_TAG_member" and "DW_AT_data_bit_offset" not in child.attributes]
            size = die.attributes["DW_AT_byte_size"].value
            if not members:
                return self.number(at, size)
            return {_name(child): self._read(at + child.attributes["DW_AT_data_member_location"].value, _type(child)) for child in members}
        if die.tag == "DW_TAG_array_type":
            item = _type(die)
            (span,) = die.iter_children()
            length = span.attributes["DW_AT_count"].value
            size = _size(item)
            return [self._read(at + place * size, item) for place in range(length)]
        return self.number(at, _size(die))


def _name(die: DIE) -> str:
    return str(die.attributes["DW_AT_name"].value.decode())


def _type(die: DIE) -> DIE:
    found = die.get_DIE_from_attribute("DW_AT_type")
    while found.tag in ("DW_TAG_typedef", "DW_TAG_member"):
        found = found.get_DIE_from_attribute("DW_AT_type")
    return found


def _size(die: DIE) -> int:
    if die.tag == "DW_TAG_pointer_type":
        return 8
    if die.tag == "DW_TAG_array_type":
        (span,) = die.iter_children()
        return int(span.attributes["DW_AT_count"].value) * _size(_type(die))
    return int(die.attributes["DW_AT_byte_size"].value)
