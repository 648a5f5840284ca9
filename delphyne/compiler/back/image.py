# SPDX-License-Identifier: Apache-2.0
"""A program and its assembly files as the image that runs at EL2.

The image is linked at 0 and holds only relative references, so it runs at any page. It is linked twice: the first link tells where calls
return to, the second carries that table in `.delphyne.sites`. The table stands behind the text, so the text cannot move; that it did not is
checked.

A linker script has to place `.delphyne.sites` between `__sites_start` and `__sites_end`, after the text, and to keep `.delphyne.frames`, in
which each assembly function has a pair of u64: its address and the bytes of stack that it uses.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from delphyne.compiler import tree
from delphyne.compiler.back import checks, disassembly, layout, lines, sites, tools
from delphyne.compiler.back.errors import BackError
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower

STACK_BYTES, EMERGENCY_BYTES = 16384, 8192


@dataclass(frozen=True, slots=True)
class Stacks:
    """How much stack there is, in bytes, and the functions that change to a stack of their own, which a failed check ends on."""

    size: int = STACK_BYTES
    own: Mapping[str, int] = field(default_factory=lambda: {"__trap": EMERGENCY_BYTES, "crash": EMERGENCY_BYTES})


@dataclass(frozen=True, slots=True)
class Built:
    """What a build wrote, and what it found out."""

    elf: Path
    image: Path
    listing: Path
    ir: Path
    sites: bytes
    frames: dict[str, int]
    depths: list[checks.Depth]
    text_bytes: int
    constant_bytes: int


def build_image(
    program: tree.Program,
    assembly: Sequence[Path],
    script: Path,
    out: Path,
    *,
    name: str = "delphyne",
    opt: int = 2,
    stacks: Stacks | None = None,
    symbols: Sequence[str] = (),
) -> Built:
    """Write `name`.elf, .img, .lst, .ll and .sites into the folder `out`. Raises BackError with every finding of the checks, a line each.
    `symbols` are defined in the assembly files."""
    out.mkdir(parents=True, exist_ok=True)
    emitted = emit(program, AARCH64)
    ir = out / f"{name}.ll"
    ir.write_text(emitted.text)
    (out / "offsets.inc").write_text(layout.offsets_inc(program))
    lowered = lower(emitted.text, AARCH64, opt=opt)
    objects = [out / f"{name}.python.o"]
    objects[0].write_bytes(lowered.data)
    for source in assembly:
        objects.append(out / f"{name}.{source.stem}.o")
        tools.assemble(source, objects[-1], out, symbols)
    _raise(finding for item in objects for finding in checks.absolute_relocations(item))

    elf = out / f"{name}.elf"
    _link(objects, script, elf, sites.pack(emitted.sites, []), out)
    first = disassembly.read(elf)
    table = sites.pack(emitted.sites, lines.returns(elf, first, program))
    _link(objects, script, elf, table, out)
    codes = disassembly.read(elf)
    if [code.shape() for code in first] != [code.shape() for code in codes]:
        raise BackError("the text moved between the two links: .delphyne.sites has to stand behind it")
    (out / f"{name}.sites").write_bytes(table)

    hand_written = assembly_frames(elf)
    frames = {**lowered.frames, **hand_written}
    depths = _check(elf, codes, program, frames, set(hand_written), stacks or Stacks())
    image, listing = out / f"{name}.img", out / f"{name}.lst"
    tools.run("objcopy", "-O", "binary", elf, image)
    listing.write_text(tools.run("objdump", "-d", "--no-show-raw-insn", elf.name, cwd=out))
    text, constants = _sizes(elf)
    return Built(elf, image, listing, ir, table, frames, depths, text, constants)


def _link(objects: Sequence[Path], script: Path, elf: Path, table: bytes, out: Path) -> None:
    source, blob = out / "sites.S", out / "sites.o"
    rows = [".byte " + ",".join(map(str, table[at : at + 32])) for at in range(0, len(table), 32)]
    source.write_text("\n".join(['.section .delphyne.sites, "a", %progbits', ".balign 8", *rows, ""]))
    tools.run("as", "-o", blob.name, source.name, cwd=out)
    flags = ["--no-undefined", "--build-id=none", "-z", "noexecstack", "-z", "max-page-size=4096", "-z", "separate-code", "--orphan-handling=place"]
    inputs = [item.name for item in objects]
    tools.run("ld", *flags, "-T", script.resolve(), "-o", elf.name, *inputs, blob.name, cwd=out)


def assembly_frames(elf: Path) -> dict[str, int]:
    """Bytes of stack of each assembly function, by symbol, from `.delphyne.frames`."""
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        section, symbols = file.get_section_by_name(".delphyne.frames"), file.get_section_by_name(".symtab")
        if section is None or not isinstance(symbols, SymbolTableSection):
            return {}
        names: dict[int, list[str]] = {}
        for item in symbols.iter_symbols():
            if item["st_info"]["type"] == "STT_FUNC":
                names.setdefault(item["st_value"], []).append(item.name)
        pairs = struct.iter_unpack("<QQ", section.data())
        return {name: size for address, size in pairs for name in names.get(address, [])}


def _check(
    elf: Path, codes: list[disassembly.Code], program: tree.Program, frames: dict[str, int], hand_written: set[str], stacks: Stacks
) -> list[checks.Depth]:
    simd = {function.symbol for function in program.functions.values() if function.simd}
    depths, recursion = checks.stack_depths(codes, frames, set(stacks.own))
    _raise(
        [
            *checks.undefined_symbols(elf),
            *checks.writable_code(elf),
            *checks.simd_registers(codes, simd | hand_written),
            *checks.mmio_accesses(codes),
            *checks.indirect_branches(codes, hand_written),
            *recursion,
            *checks.stack_bound(depths, stacks.own, stacks.size),
        ]
    )
    return depths


def _raise(findings: object) -> None:
    found = list(findings)  # type: ignore[call-overload]
    if found:
        raise BackError("\n".join(found))


def _sizes(elf: Path) -> tuple[int, int]:
    with elf.open("rb") as stream:
        sections = list(ELFFile(stream).iter_sections())
    loaded = [item for item in sections if item["sh_flags"] & checks.SHF_ALLOC and item["sh_type"] == "SHT_PROGBITS"]
    text = sum(item["sh_size"] for item in loaded if item["sh_flags"] & 4)
    constants = sum(item["sh_size"] for item in loaded if not item["sh_flags"] & 5)
    return text, constants
