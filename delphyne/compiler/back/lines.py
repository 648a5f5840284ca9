# SPDX-License-Identifier: Apache-2.0
"""Reads a linked image's DWARF: which source line each address belongs to."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path, PurePosixPath

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
    """Every return address of the image that has a source line."""
    table, owners, out = LineTable(image), Owners(program), []
    for code in codes:
        for item in code.instructions:
            if item.mnemonic != "bl" or (item.target is not None and item.target[0] == trap):
                continue
            place = table.at(item.address)
            if place is not None and place[1]:
                out.append(Return(item.address + 4, place[0], place[1], owners.at(*place) or code.name))
    return out
