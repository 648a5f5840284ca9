# SPDX-License-Identifier: Apache-2.0
"""The instructions of a linked image, function by function, as objdump reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from delphyne.compiler.back import tools

_HEAD = re.compile(r"^([0-9a-f]+) <(.+)>:$")
_LINE = re.compile(r"^\s*([0-9a-f]+):\t(\S+)(?:\t(.*))?$")
_TARGET = re.compile(r"\b([0-9a-f]+) <([^>+]+)(?:\+0x([0-9a-f]+))?>$")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `target` is the function that a branch leaves for, with the distance into it, or None."""

    address: int
    mnemonic: str
    operands: str
    target: tuple[str, int] | None


@dataclass(slots=True)
class Code:
    """A stretch of text under one symbol."""

    name: str
    address: int
    instructions: list[Instruction] = field(default_factory=list)

    def shape(self) -> tuple[str, list[tuple[int, str]]]:
        """Name, addresses and mnemonics: what no change of data addresses can change."""
        return self.name, [(item.address, item.mnemonic) for item in self.instructions]

    def calls(self) -> set[str]:
        """Symbols that this one calls, or leaves for by a branch."""
        return {item.target[0] for item in self.instructions if item.target is not None and item.target[0] != self.name and _is_branch(item.mnemonic)}


def _is_branch(mnemonic: str) -> bool:
    return mnemonic in ("b", "bl", "cbz", "cbnz", "tbz", "tbnz") or mnemonic.startswith("b.")


def read(image: Path) -> list[Code]:
    """All text of an ELF file, in the order of addresses. Words of data in the text have no mnemonic and are left out."""
    out: list[Code] = []
    for line in tools.run("objdump", "-d", "--no-show-raw-insn", "-M", "no-aliases", image).splitlines():
        head = _HEAD.match(line)
        if head is not None:
            out.append(Code(head[2], int(head[1], 16)))
            continue
        row = _LINE.match(line)
        if row is None or not out or row[2].startswith("."):
            continue
        operands = (row[3] or "").split("\t//")[0].split(" // ")[0].strip()
        found = _TARGET.search(operands)
        target = (found[2], int(found[3] or "0", 16)) if found is not None else None
        out[-1].instructions.append(Instruction(int(row[1], 16), row[2], operands, target))
    return out
