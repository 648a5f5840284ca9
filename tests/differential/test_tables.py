# SPDX-License-Identifier: Apache-2.0
"""Page pools, stage-2 tables and the frame table: the simulated machine and a processor at EL2 hold the same memory after the same calls."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from ours import tables_program as program

from delphyne.board.bare.bare import AS, Case, Ending, build, run, tool
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules
from delphyne.el2.memory import frames, pages
from delphyne.fuzz.run_aarch64 import SUPPORT
from delphyne.lang import u64, wipe
from delphyne.lang.machine import Machine

RAM_AT, RAM_SIZE = 0x4800_0000, 0x0300_0000
STEPS = 400
EACH = 40
TLBI = """
        .macro  by_address name, operation
        .globl  \\name
\\name: ubfx    x0, x0, #12, #44
        tlbi    \\operation, x0
        ret
        .endm
        .macro  of_all name, operation
        .globl  \\name
\\name: tlbi    \\operation
        ret
        .endm
        by_address tlbi_ipas2e1is, ipas2e1is
        by_address tlbi_vae2is, vae2is
        of_all  tlbi_vmalle1is, vmalle1is
        of_all  tlbi_vmalls12e1is, vmalls12e1is
"""


@pytest.fixture(autouse=True)
def statics_as_imported() -> Iterator[None]:
    """The compiler takes the first contents of statics from the imported modules, which other tests and the simulated machine change."""
    forget()
    yield
    forget()


def forget() -> None:
    for static in (pages.POOLS, pages.REGION, frames.LAYOUT, program.SPACE):
        wipe(static)
    for attached in (pages.TABLES, pages.ORDER, pages.PLACE, frames.ENTRIES):
        attached.detach()


def arguments() -> list[tuple[int, int]]:
    source = random.Random(7)
    return [(source.getrandbits(64), source.getrandbits(64)) for _ in range(STEPS)]


def on_simulated_machine() -> list[int]:
    with Machine(RAM_AT, RAM_SIZE, 1):
        answers = [int(program.begin())]
        for number, (a, b) in enumerate(arguments(), 1):
            answers.append(int(program.step(u64(a), u64(b))))
            if number % EACH == 0:
                answers.append(int(program.checksum()))
    return answers


def at_el2(folder: Path) -> list[int]:
    module = program.__name__
    code = compile_modules([module])
    for name in ("begin", "step", "checksum"):
        code.functions[f"{module}.{name}"].exported = True
    objects = [folder / "code.o", folder / "support.o", folder / "tlbi.o"]
    objects[0].write_bytes(lower(emit(code, AARCH64, debug=False).text, AARCH64).data)
    source = folder / "tlbi.S"
    source.write_text(TLBI)
    for text, made in ((SUPPORT, objects[1]), (source, objects[2])):
        tool([AS, "-march=armv8-a", "-o", made, text])
    cases = [Case(f"{module}.begin")]
    for number, pair in enumerate(arguments(), 1):
        cases.append(Case(f"{module}.step", pair))
        if number % EACH == 0:
            cases.append(Case(f"{module}.checksum"))
    outcomes = run(build(objects, cases, folder / "tables.elf"))
    assert [outcome for outcome in outcomes if outcome.ending is not Ending.VALUE] == []
    return [outcome.numbers[0] for outcome in outcomes]


def test_tables_are_the_same_on_the_simulated_machine_and_at_el2(tmp_path: Path) -> None:
    found = at_el2(tmp_path)
    expected = on_simulated_machine()
    assert expected[0] == 0
    assert len(set(expected)) > 40, "most steps were refused: the arguments do not reach the tables"
    assert found == expected
