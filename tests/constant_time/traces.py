# SPDX-License-Identifier: Apache-2.0
"""What a bare image executes, instruction by instruction, with the address of every load and store.

QEMU logs the registers before each instruction (one instruction a translation block, no chaining); the addresses follow from the registers
and the disassembly. Only code outside the bare machine itself is traced: its printing depends on the results.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from delphyne.board.bare import bare

OBJDUMP = "aarch64-linux-gnu-objdump"
NM = "aarch64-linux-gnu-nm"
INDEX = r"(?P<index>[xw](?:\d+|zr))(?:, (?P<extend>\w+)(?: #(?P<shift>\d+))?)?"
MEMORY = re.compile(rf"\[(?P<base>x\d+|sp)(?:, (?:#(?P<offset>-?\w+)|{INDEX}))?\]")
BY_REGISTER = re.compile(r"^(?:dc|ic)\s+\w+, (?P<base>x\d+)$")
REGISTER = re.compile(r"(PC|SP|X\d\d)=([0-9a-f]{16})")


@dataclass(frozen=True, slots=True)
class Operand:
    """Where an instruction reaches memory: base, index (extended as named, then shifted), offset in bytes."""

    base: str
    index: str = ""
    extend: str = ""
    shift: int = 0
    offset: int = 0

    def address(self, registers: dict[str, int]) -> int:
        total = registers[self.base] + self.offset
        if self.index and not self.index.endswith("zr"):
            number = registers["X" + self.index[1:].zfill(2)]
            if self.index[0] == "w":
                number &= 0xFFFF_FFFF
                if self.extend == "sxtw" and number >> 31:
                    number -= 1 << 32
            total += number << self.shift
        return total & 0xFFFF_FFFF_FFFF_FFFF


def _register(name: str) -> str:
    return "SP" if name == "sp" else "X" + name[1:].zfill(2)


def operand_of(instruction: str) -> Operand | None:
    """The memory operand of an instruction as objdump writes it, or None. The literal form has a constant address."""
    by_register = BY_REGISTER.match(instruction)
    if by_register:
        return Operand(_register(by_register["base"]))
    found = MEMORY.search(instruction)
    if not found:
        return None
    return Operand(
        _register(found["base"]),
        found["index"] or "",
        found["extend"] or "",
        int(found["shift"] or 0),
        int(found["offset"] or "0", 0),
    )


def operands(image: Path) -> dict[int, Operand]:
    """The memory operands of all instructions of the image, by address."""
    found = {}
    for line in bare.tool([OBJDUMP, "-d", "--no-show-raw-insn", "-j", ".text", image]).splitlines():
        match = re.match(r"\s*([0-9a-f]+):\t(.*)", line)
        operand = operand_of(re.sub(r"\s*//.*", "", match[2]).replace("\t", " ")) if match else None
        if match and operand:
            found[int(match[1], 16)] = operand
    return found


def traced_range(image: Path) -> tuple[int, int]:
    """First and last address of the code that is not the bare machine's."""
    symbols = {line.split()[2]: int(line.split()[0], 16) for line in bare.tool([NM, image]).splitlines() if len(line.split()) == 3}
    return symbols["bare_text_end"], symbols["bare_program_end"] - 1


def trace(image: Path, machine: bare.Machine | None = None) -> list[tuple[int, int | None]]:
    """Each executed instruction of the image's calls: its address, and the address of its load or store."""
    machine = machine or bare.Machine()
    log = image.with_suffix(".log")
    low, high = traced_range(image)
    options = ["-singlestep", "-d", "cpu,nochain", "-D", str(log), "-dfilter", f"{low:#x}..{high:#x}"]
    subprocess.run([*bare.command(image, machine), *options], check=True, capture_output=True, timeout=machine.timeout)
    reached = operands(image)
    steps = []
    for state in log.read_text().split("PSTATE")[:-1]:
        registers = {name: int(number, 16) for name, number in REGISTER.findall(state)}
        pc = registers["PC"]
        steps.append((pc, reached[pc].address(registers) if pc in reached else None))
    log.unlink()
    return steps
