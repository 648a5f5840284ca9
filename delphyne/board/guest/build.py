# SPDX-License-Identifier: Apache-2.0
"""Compiles and links the bare guest: a flat file for the monitor, and its ELF for whoever reads a trace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from delphyne.board.bare.bare import AS, LD, tool
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules

HERE = Path(__file__).parent
OBJCOPY = "aarch64-linux-gnu-objcopy"
MODULE = "delphyne.board.guest.program"


@dataclass(frozen=True, slots=True)
class Guest:
    """The flat `image`, its ELF, and the addresses of its two marks."""

    image: Path
    elf: Path
    begin: int
    end: int


def build(out: Path) -> Guest:
    """Writes guest.elf and guest.img into the folder `out`. Raises front.Refused, BackError or BareError."""
    out.mkdir(parents=True, exist_ok=True)
    program = compile_modules([MODULE])
    objects = [out / "guest.start.o", out / "guest.python.o", out / "guest.library.o"]
    tool([AS, "-march=armv8-a", "-o", objects[0], HERE / "start.S"])
    objects[1].write_bytes(lower(emit(program, AARCH64, debug=False).text, AARCH64).data)
    tool([AS, "-march=armv8-a", "-o", objects[2], HERE.parent / "bare" / "library.S"])
    elf, image = out / "guest.elf", out / "guest.img"
    tool([LD, "-o", elf, "-T", HERE / "guest.ld", "--no-warn-rwx-segments", *objects])
    tool([OBJCOPY, "-O", "binary", elf, image])
    symbols = addresses(elf, "mark_begin", "mark_end")
    return Guest(image, elf, symbols["mark_begin"], symbols["mark_end"])


def addresses(elf: Path, *names: str) -> dict[str, int]:
    """The addresses of symbols of an ELF file."""
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {item.name: item["st_value"] for item in table.iter_symbols() if item.name in names}
