# SPDX-License-Identifier: Apache-2.0
"""The addresses that are computed from the disassembly, and a trace of known assembly."""

from __future__ import annotations

from pathlib import Path

import pytest
import traces

from delphyne.board.bare.bare import AS, Buffer, Case, build, tool

REGISTERS = {"X01": 0x1000, "X02": 0xFFFF_FFFF_FFFF_FFFE, "X03": 3, "SP": 0x8000, "X00": 7}


@pytest.mark.parametrize(
    ("instruction", "address"),
    [
        ("ldr x0, [x1]", 0x1000),
        ("ldr x0, [x1, #8]", 0x1008),
        ("ldur w0, [x1, #-4]", 0xFFC),
        ("str x0, [sp, #-16]!", 0x7FF0),
        ("ldp x4, x5, [x1], #16", 0x1000),
        ("ldrb w0, [x1, x3]", 0x1003),
        ("ldr x0, [x1, x3, lsl #3]", 0x1018),
        ("ldr x0, [x1, x2]", 0xFFE),
        ("ldr w0, [x1, w2, uxtw #2]", 0x1000 + (0xFFFF_FFFE << 2)),
        ("ldr w0, [x1, w2, sxtw #2]", 0xFF8),
        ("ldr x0, [x1, xzr]", 0x1000),
        ("stp q0, q1, [x1, #0x20]", 0x1020),
        ("ld1 {v0.16b}, [x1], x3", 0x1000),
        ("stlxr w4, x5, [x1]", 0x1000),
        ("dc zva, x1", 0x1000),
    ],
)
def test_addresses(instruction: str, address: int) -> None:
    operand = traces.operand_of(instruction)
    assert operand is not None
    assert operand.address(REGISTERS) == address


@pytest.mark.parametrize("instruction", ["add x0, x1, #8", "mov v0.d[1], x1", "eor v0.16b, v1.16b, v2.16b", "b.ne 40200000 <f+0x10>", "ret"])
def test_no_address(instruction: str) -> None:
    assert traces.operand_of(instruction) is None


def test_a_trace_is_what_ran(tmp_path: Path) -> None:
    source = tmp_path / "walker.S"
    source.write_text(".globl walker\nwalker: mov x2, #2\n1: ldr x3, [x0], #8\n str x3, [x1, x2, lsl #3]\n subs x2, x2, #1\n b.ne 1b\n ret\n")
    compiled = tmp_path / "walker.o"
    tool([AS, "-o", compiled, source])
    image = build([compiled], [Case("walker", ("numbers", "numbers"))], tmp_path / "walker.elf", buffers=[Buffer("numbers", bytes(32))])
    steps = traces.trace(image)
    start = steps[0][0]
    assert [pc - start for pc, _ in steps] == [0, 4, 8, 12, 16, 4, 8, 12, 16, 20]
    numbers = steps[1][1]
    assert numbers is not None
    assert [address - numbers for _, address in steps if address is not None] == [0, 16, 8, 8]
