# SPDX-License-Identifier: Apache-2.0
"""Instructions that export and import of a page take, with what saving the SIMD registers costs: EL2's own assembly is linked."""

from __future__ import annotations

import re
from pathlib import Path

from delphyne.board.bare import bare
from delphyne.board.bare.bare import Buffer, Case, Ending, Machine
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.layout import offsets_inc
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules

SEALING = "delphyne.el2.sealing"
ASSEMBLY = Path(__file__).resolve().parents[1] / "el2" / "entry" / "el2.S"
PAGE = 4096
IPA = 0x4000_0000
VERSION = 5


def objects(folder: Path) -> list[Path]:
    """The cryptography of pages, and `simd_enter` and `simd_leave` as the image has them."""
    compiled = compile_modules([f"{SEALING}.{name}" for name in ("page", "aes256", "engine")])
    for name in ("page.begin_export", "page.begin_import", "page.step", "aes256.expand", "engine.choose"):
        compiled.functions[f"{SEALING}.{name}"].exported = True
    program, support, source = folder / "pages.o", folder / "pages_simd.o", folder / "pages_simd.S"
    program.write_bytes(lower(emit(compiled, AARCH64, debug=False).text, AARCH64).data)
    (folder / "offsets.inc").write_text(offsets_inc(compiled))
    head, *parts = re.split(r"^// --- (.+?) -+$", ASSEMBLY.read_text(), flags=re.MULTILINE)
    named = dict(zip(parts[::2], parts[1::2], strict=True))
    source.write_text(head + named["macros"] + named["SIMD registers"])
    bare.tool([bare.AS, "-I", folder, "-o", support, source])
    return [program, support]


def count(folder: Path) -> dict[str, int]:
    """The figures by name. Raises BareError where what was imported is not what was exported."""
    parts = objects(folder)
    return _count(folder, parts, extensions=True, piece=PAGE) | _count(folder, parts, extensions=False, piece=1024)


def _count(folder: Path, parts: list[Path], *, extensions: bool, piece: int) -> dict[str, int]:
    """Export and import of one page in pieces. The record is at the job's sixteenth byte, where the import finds it too."""
    step = Case(f"{SEALING}.page.step", ("job", "area", "key", "page", PAGE, piece), dump=("page", PAGE))
    pieces = PAGE // piece
    prepare = [Case(f"{SEALING}.aes256.expand", ("key", "material", 32))]
    prepare += [Case(f"{SEALING}.engine.choose")] if extensions else []
    export = [Case(f"{SEALING}.page.begin_export", ("job", "area", 1, IPA, VERSION)), *[step] * pieces]
    back = [Case(f"{SEALING}.page.begin_import", ("job", "area", 1, IPA, "job + 16")), *[step] * (2 * pieces)]
    page = bytes(n * 7 & 0xFF for n in range(PAGE))
    held = [Buffer("key", bytes(240)), Buffer("material", bytes(range(32))), Buffer("job", bytes(256)), Buffer("area", bytes(16384))]
    image = bare.build(parts, [*prepare, *export, *back], folder / "pages.elf", buffers=[*held, Buffer("page", page)])
    outcomes = bare.run(image, Machine(icount=True))[len(prepare) :]
    done = len(export)
    if any(o.ending is not Ending.VALUE for o in outcomes) or outcomes[done - 1].dump == page or outcomes[-1].dump != page:
        raise bare.BareError("a page that was exported does not come back")
    way = "crypto extensions" if extensions else f"general registers, {pieces} pieces"
    return {
        f"export of a page, {way}": sum(o.instructions for o in outcomes[:done]),
        f"import of a page, {way}": sum(o.instructions for o in outcomes[done:]),
    }
