# SPDX-License-Identifier: Apache-2.0
"""Reads a linked image's DWARF: which source line each address belongs to, and through which inlined calls it got there."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path, PurePosixPath
from typing import Any

from elftools.elf.elffile import ELFFile

from delphyne.compiler import tree
from delphyne.compiler.back.disassembly import Code
from delphyne.compiler.back.sites import Return
from delphyne.compiler.back.tools import shown


class LineTable:
    """Addresses to files and lines."""

    def __init__(self, image: Path) -> None:
        """Read every compile unit's line program."""
        rows: dict[int, tuple[str, int] | None] = {}
        with image.open("rb") as stream:
            dwarf = ELFFile(stream).get_dwarf_info()
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is None:
                    continue
                names = _file_names(program.header)
                for entry in program.get_entries():
                    state = entry.state
                    if state is None:
                        continue
                    if state.end_sequence:
                        rows.setdefault(state.address, None)
                    else:
                        rows[state.address] = (names[state.file], state.line)
        self._addresses = sorted(rows)
        self._rows = rows

    def at(self, address: int) -> tuple[str, int] | None:
        """File and line of an instruction, or None where nothing is known."""
        index = bisect_right(self._addresses, address) - 1
        return self._rows[self._addresses[index]] if index >= 0 else None


def _file_names(header: object) -> dict[int, str]:
    entries, folders = header["file_entry"], header["include_directory"]  # type: ignore[index]
    out = {}
    for index, entry in enumerate(entries, start=1):
        folder = folders[entry.dir_index - 1].decode() if entry.dir_index else ""
        out[index] = str(PurePosixPath(folder) / entry.name.decode())
    return out


class InlinedCalls:
    """The calls that the optimiser replaced by the callee's body: address ranges, each with the place of the call."""

    def __init__(self, image: Path) -> None:
        """Read the inlined subroutines of every compile unit."""
        self._ranges: list[tuple[int, int, int, str, int]] = []
        with image.open("rb") as stream:
            dwarf = ELFFile(stream).get_dwarf_info()
            lists = dwarf.range_lists()
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is not None:
                    top = unit.get_top_DIE()
                    self._read(top, 0, _file_names(program.header), lists, _number(top, "DW_AT_low_pc") or 0, unit)
        self._cut()

    def _read(self, die: Any, depth: int, names: dict[int, str], lists: Any, base: int, unit: Any) -> None:
        if die.tag == "DW_TAG_inlined_subroutine":
            place = names.get(die.attributes["DW_AT_call_file"].value, ""), die.attributes["DW_AT_call_line"].value
            self._ranges += [(low, high, depth, *place) for low, high in _ranges(die, lists, base, unit) if low < high]
        for child in die.iter_children():
            self._read(child, depth + 1, names, lists, base, unit)

    def _cut(self) -> None:
        """Cut the address space where a range begins or ends; between two cuts the same calls are inlined everywhere."""
        events = sorted([(item[0], True, item) for item in self._ranges] + [(item[1], False, item) for item in self._ranges])
        self._cuts: list[int] = []
        self._inside: list[list[tuple[str, int]]] = []
        active: list[tuple[int, int, int, str, int]] = []
        for address, begins, item in events:
            if begins:
                active.append(item)
            else:
                active.remove(item)
            innermost_first = sorted(active, key=lambda one: -one[2])
            calls = [(file, line) for *_, file, line in innermost_first]
            if self._cuts and self._cuts[-1] == address:
                self._inside[-1] = calls
            else:
                self._cuts.append(address)
                self._inside.append(calls)

    def at(self, address: int) -> list[tuple[str, int]]:
        """File and line of each call that was inlined around an instruction, the innermost first."""
        index = bisect_right(self._cuts, address) - 1
        return self._inside[index] if index >= 0 else []


def _number(die: Any, name: str) -> int | None:
    found = die.attributes.get(name)
    return int(found.value) if found is not None else None


def _ranges(die: Any, lists: Any, base: int, unit: Any) -> list[tuple[int, int]]:
    """The addresses of a DIE: one range, or a list of them (DWARF 4, 2.17)."""
    low, high = _number(die, "DW_AT_low_pc"), _number(die, "DW_AT_high_pc")
    if low is not None and high is not None:
        return [(low, high if die.attributes["DW_AT_high_pc"].form == "DW_FORM_addr" else low + high)]
    offset = _number(die, "DW_AT_ranges")
    if offset is None or lists is None:
        return []
    found = []
    for entry in lists.get_range_list_at_offset(offset, unit):
        if hasattr(entry, "base_address"):
            base = entry.base_address
        else:
            found.append((base + entry.begin_offset, base + entry.end_offset))
    return found


class Owners:
    """Which function of the program a source line belongs to."""

    def __init__(self, program: tree.Program) -> None:
        """Index the functions by file and first line."""
        self._spans: dict[str, list[tuple[int, int, str]]] = {}
        for function in program.functions.values():
            if not function.external:
                self._spans.setdefault(shown(function.loc.file), []).append((function.loc.line, function.loc.end_line, function.symbol))
        for spans in self._spans.values():
            spans.sort()

    def at(self, file: str, line: int) -> str | None:
        """The symbol of the function around a line."""
        spans = self._spans.get(file, [])
        index = bisect_right(spans, (line, 1 << 60, "")) - 1
        return spans[index][2] if index >= 0 and line <= max(spans[index][1], spans[index][0]) else None


def returns(image: Path, codes: list[Code], program: tree.Program, trap: str = "__trap") -> list[Return]:
    """Every return address of the image that has a source line; where calls were inlined around it, once more for each, innermost first.

    Of calls of the trap handler only those inlined around them are listed: the rest is what the trap site says."""
    table, inlined, owners, out = LineTable(image), InlinedCalls(image), Owners(program), []
    for code in codes:
        for item in code.instructions:
            place = table.at(item.address) if item.mnemonic == "bl" else None
            if place is None or not place[1]:
                continue
            places = [place, *inlined.at(item.address)]
            if item.target is not None and item.target[0] == trap:
                places = places[1:]
            out += [Return(item.address + 4, file, line, owners.at(file, line) or code.name) for file, line in places]
    return out
