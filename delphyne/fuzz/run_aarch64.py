# SPDX-License-Identifier: Apache-2.0
"""Runs many programs as AArch64 code at EL2 in one boot of QEMU. Each runs once, with its first input: statics are not reset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from delphyne.board.bare import bare
from delphyne.compiler import tree
from delphyne.compiler.back.body import Site
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome, Trapped
from delphyne.fuzz.run_cpython import place
from delphyne.fuzz.trees import merged

SUPPORT = Path(__file__).with_name("support.S")
CALLS = 3
"""Calls that each program takes: make ready, run, checksum."""


def run(programs: Sequence[tuple[str, Program, tree.Program]], folder: Path, opt: int = 2) -> list[Outcome]:
    """The outcome of each (module name, program, compiled program) for its first input. Raises BareError and BackError."""
    emitted = emit(merged([(module, compiled) for module, _, compiled in programs]), AARCH64, debug=False)
    code, support = folder / "programs.o", folder / "support.o"
    code.write_bytes(lower(emitted.text, AARCH64, opt=opt).data)
    bare.tool([bare.AS, "-march=armv8-a", "-o", support, SUPPORT])
    cases: list[bare.Case] = []
    for module, program, _ in programs:
        cases += [bare.Case("fuzz_begin"), bare.Case(f"{module}.run", program.inputs[0]), bare.Case(f"{module}.checksum")]
    image = bare.build([code, support], cases, folder / "programs.elf")
    ended = bare.run(image)
    return [_outcome(ended[at + 1], ended[at + 2], emitted.sites) for at in range(0, len(ended), CALLS)]


def _outcome(ran: bare.Outcome, checked: bare.Outcome, sites: Sequence[Site]) -> Outcome:
    for part in (ran, checked):
        if part.ending is bare.Ending.EXCEPTION:
            return Outcome(broken=f"AArch64: exception ESR {part.numbers[0]:#x} ELR {part.numbers[1]:#x} FAR {part.numbers[2]:#x}")
    if checked.ending is not bare.Ending.VALUE:
        return Outcome(broken=f"AArch64: the checksum trapped at site {checked.numbers[0]}")
    result: int | Trapped = ran.numbers[0]
    if ran.ending is bare.Ending.TRAP:
        site = sites[ran.numbers[0] & 0xFFFF_FFFF]
        result = Trapped(site.kind.name, place(site.file, site.line), ran.numbers[1], ran.numbers[2])
    return Outcome(result, checked.numbers[0])
