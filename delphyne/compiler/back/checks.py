# SPDX-License-Identifier: Apache-2.0
"""What every object and every image must satisfy before it may run at EL2.

Each check returns findings, one line each; none means it holds. Assembly functions are known by their rows in `.delphyne.frames`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from delphyne.compiler.back.disassembly import Code

SHF_ALLOC, PF_X, PF_W = 2, 1, 2
_RELATIVE = {0, 256, *range(260, 263), *range(273, 281), *range(282, 287), 299, 314}
"""Relocations of the AArch64 ELF specification that stay right when the image moves by whole pages: NONE, PREL*, ADR_PREL_*, the low twelve
bits (ADD_ABS_LO12_NC, LDST*_ABS_LO12_NC), TSTBR14, CONDBR19, JUMP26, CALL26, PLT32."""
_CLONE = re.compile(r"\.(?:specialized|part|llvm)\.\d+$")
"""What LLVM appends to a function's name where it makes another one of it."""
_SIMD = re.compile(r"(?<![\w.])[vqdshb](?:[12]?[0-9]|3[01])(?:\.\w+)?(?:\[\d+\])?(?![\w.])")
_MMIO = re.compile(r"(?:^|\.)mmio_(?:read|write)(?:8|16|32|64)$")


def absolute_relocations(path: Path) -> list[str]:
    """Relocations in loaded sections of an object that would need a loader."""
    out = []
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        for section in elf.iter_sections():
            if not isinstance(section, RelocationSection):
                continue
            target = elf.get_section(section["sh_info"])
            if target is None or not target["sh_flags"] & SHF_ALLOC:
                continue
            symbols = elf.get_section(section["sh_link"])
            for item in section.iter_relocations():
                kind = item["r_info_type"]
                if kind not in _RELATIVE:
                    name = symbols.get_symbol(item["r_info_sym"]).name if isinstance(symbols, SymbolTableSection) else ""
                    out.append(f"{path.name}: absolute relocation {kind} in {target.name} at {item['r_offset']:#x} for {name or 'a section'}")
    return out


def undefined_symbols(path: Path) -> list[str]:
    """Symbols of a linked file that nothing defines."""
    with path.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            return [f"{path.name}: no symbol table"]
        names = [item.name for item in table.iter_symbols() if item["st_shndx"] == "SHN_UNDEF" and item.name]
    return [f"{path.name}: undefined symbol {name}" for name in names]


def writable_code(path: Path) -> list[str]:
    """Loaded segments and sections that are both writable and executable."""
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        segments = [
            f"{path.name}: segment at {item['p_vaddr']:#x} is writable and executable"
            for item in elf.iter_segments()
            if item["p_type"] == "PT_LOAD" and item["p_flags"] & PF_W and item["p_flags"] & PF_X
        ]
        sections = [f"{path.name}: section {item.name} is writable and executable" for item in elf.iter_sections() if item["sh_flags"] & 7 == 7]
    return segments + sections


def simd_registers(codes: Iterable[Code], allowed: set[str]) -> list[str]:
    """Uses of SIMD or floating-point registers outside the functions that may."""
    out = []
    for code in codes:
        if _CLONE.sub("", code.name) in allowed:
            continue
        for item in code.instructions:
            # An operand with a symbol is an address: a branch to b28 touches no register of that name.
            if "<" not in item.operands and _SIMD.search(item.operands):
                out.append(f"{code.name}: SIMD register at {item.address:#x}: {item.mnemonic} {item.operands}")
                break
    return out


def mmio_accesses(codes: Iterable[Code]) -> list[str]:
    """MMIO accessors whose access is paired or moves its base: a trap on those has no syndrome."""
    out = []
    for code in codes:
        if not _MMIO.search(code.name):
            continue
        accesses = [item for item in code.instructions if item.mnemonic.startswith(("ld", "st"))]
        for item in accesses:
            if item.mnemonic.startswith(("ldp", "stp", "ldnp", "stnp")):
                out.append(f"{code.name}: paired access at {item.address:#x}: {item.mnemonic} {item.operands}")
            elif "!" in item.operands or re.search(r"\],", item.operands):
                out.append(f"{code.name}: write-back access at {item.address:#x}: {item.mnemonic} {item.operands}")
        if len(accesses) != 1:
            out.append(f"{code.name}: {len(accesses)} memory accesses where one is wanted")
    return out


def indirect_branches(codes: Iterable[Code], assembly: set[str]) -> list[str]:
    """Calls through a register anywhere, and jumps through one in compiled code: no check could follow them."""
    out = []
    for code in codes:
        for item in code.instructions:
            if item.mnemonic.startswith("blr") or (item.mnemonic.startswith("br") and item.mnemonic != "brk" and code.name not in assembly):
                out.append(f"{code.name}: indirect branch at {item.address:#x}: {item.mnemonic} {item.operands}")
    return out


@dataclass(frozen=True, slots=True)
class Depth:
    """The deepest stack from one root, in bytes, and the calls that reach it."""

    root: str
    size: int
    chain: tuple[str, ...]


def stack_depths(codes: Iterable[Code], frames: Mapping[str, int], cut: set[str]) -> tuple[list[Depth], list[str]]:
    """The worst depth from every function that nothing calls and from every one in `cut`, and findings about recursion.

    Calls of the functions in `cut` change to another stack, so they end a chain and begin one of their own.
    """
    graph = {code.name: code.calls() - cut for code in codes}
    called = set().union(*graph.values()) if graph else set()
    best: dict[str, tuple[int, tuple[str, ...]]] = {}
    findings: list[str] = []
    state: dict[str, int] = {}

    def visit(name: str, path: list[str]) -> tuple[int, tuple[str, ...]]:
        if name in best:
            return best[name]
        if state.get(name):
            findings.append("recursion: " + " -> ".join([*path[path.index(name) :], name]))
            return 0, ()
        state[name] = 1
        deepest, chain = 0, tuple[str, ...]()
        for callee in sorted(graph.get(name, ())):
            size, below = visit(callee, [*path, name])
            if size > deepest:
                deepest, chain = size, below
        state[name] = 0
        best[name] = frames.get(name, 0) + deepest, (name, *chain)
        return best[name]

    roots = sorted(name for name in graph if name not in called or name in cut)
    looked = [Depth(root, *visit(root, [])) for root in roots]
    for name in sorted(graph):
        visit(name, [])
    return looked, sorted(set(findings))


def stack_bound(depths: Iterable[Depth], limits: Mapping[str, int], default: int) -> list[str]:
    """Roots whose worst depth is larger than their stack."""
    return [
        f"stack: {item.size} bytes from {item.root} do not fit in {limits.get(item.root, default)}: {' -> '.join(item.chain)}"
        for item in depths
        if item.size > limits.get(item.root, default)
    ]
