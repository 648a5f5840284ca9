# SPDX-License-Identifier: Apache-2.0
"""The bare machine itself: what it says of calls that return, trap and fault, and that it counts instructions exactly."""

from __future__ import annotations

import pytest

from delphyne.board.bare import bare
from delphyne.board.bare.bare import BareError, Buffer, Case, Ending, Machine

SOURCE = """
        .globl  sum, loop, traps, faults, fills
sum:    add     x0, x0, x7
        mov     x1, #9
        ret
loop:   mov     x1, #1000
1:      subs    x1, x1, #1
        b.ne    1b
        ret
traps:  sub     sp, sp, #512
        mov     x0, #5
        bl      __trap
faults: mov     x0, #-8
        ldr     x0, [x0]
        ret
fills:  mov     x19, x30
        mov     w1, #0x5a
        bl      memset
        ret     x19
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[bare.Outcome]:
    folder = tmp_path_factory.mktemp("bare")
    source = folder / "subject.S"
    source.write_text(SOURCE)
    compiled = folder / "subject.o"
    bare.tool([bare.AS, "-o", compiled, source])
    cases = [
        Case("sum", (1, 0, 0, 0, 0, 0, 0, 41)),
        Case("loop"),
        Case("traps", (0, 2, 3)),
        Case("faults"),
        Case("fills", ("room + 1", 0, 19), dump=("room", 21)),
        Case("sum", ("room_end - room",)),
    ]
    buffers = [Buffer("room", bytes(21)), Buffer("room_end", b"", align=1)]
    return bare.run(bare.build([compiled], cases, folder / "image.elf", buffers=buffers), Machine(icount=True))


def test_a_value(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[0].ending is Ending.VALUE
    assert outcomes[0].numbers == (42, 9)


def test_instructions_are_counted_exactly(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[0].instructions == 3
    assert outcomes[1].instructions == 1 + 2 * 1000 + 1


def test_a_trap_gives_its_site_and_operands_and_the_next_call_runs(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[2].ending is Ending.TRAP
    assert outcomes[2].numbers == (5, 2, 3)


def test_an_exception_gives_its_syndrome(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[3].ending is Ending.EXCEPTION
    syndrome, _, address = outcomes[3].numbers
    assert syndrome >> 26 == 0x25
    assert address == 2**64 - 8


def test_memory_is_shown_and_the_library_fills_it(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[4].dump == b"\0" + b"\x5a" * 19 + b"\0"


def test_arguments_may_be_expressions(outcomes: list[bare.Outcome]) -> None:
    assert outcomes[5].numbers[0] == 21


def test_a_missing_tool_is_one_line_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BareError) as error:
        bare.tool(["aarch64-linux-gnu-gcc", "--version"])
    assert str(error.value) == "aarch64-linux-gnu-gcc is missing: install the Debian package gcc-aarch64-linux-gnu"


def test_too_many_arguments_are_refused() -> None:
    with pytest.raises(BareError, match="at most 8"):
        bare.table([Case("f", range(9))], [])
