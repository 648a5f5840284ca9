# SPDX-License-Identifier: Apache-2.0
"""The ways to run one program in this process, and what each came to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from delphyne.compiler import tree
from delphyne.compiler.back.errors import BackError
from delphyne.compiler.front import Refused, compile_modules
from delphyne.fuzz import run_cpython, run_native, run_solver
from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome

CPYTHON = "CPython"

Hook = Callable[[tree.Program], None]
"""Changes the compiled program before it is lowered: how tests see whether a wrong compiler would be found."""


def compiled(path: Path) -> tree.Program | str:
    """The typed tree of the program at `path`, or what the compiler refused."""
    try:
        return compile_modules([path])
    except Refused as refused:
        return "; ".join(f"{found.code} line {found.line}: {found.reason}" for found in refused.diagnostics)
    finally:
        sys.modules.pop(path.stem, None)


@dataclass(frozen=True)
class Run:
    """A program with its outcomes for each input, by way, and its typed tree if the compiler took it."""

    program: Program
    outcomes: dict[str, list[Outcome]]
    compiled: tree.Program | None


def run_here(program: Program, path: Path, announce: Callable[[str], None], hook: Hook | None = None) -> Run:
    """Write the program to `path` and run it. `announce` is told the way that is about to begin, should it end the process."""
    path.write_text(program.source, encoding="utf-8")
    announce(CPYTHON)
    found = {CPYTHON: run_cpython.run(program, path)}
    announce("compiler")
    code = compiled(path)
    if isinstance(code, str):
        found["compiler"] = [Outcome(broken=f"refused: {code}")] * len(program.inputs)
        return Run(program, found, None)
    if hook is not None:
        hook(code)
    announce("solver")
    found["solver"] = run_solver.run(program, path)
    for way, opt in (("native O0", 0), ("native O2", 2)):
        announce(way)
        try:
            found[way] = run_native.run(program, code, path.stem, opt)
        except BackError as error:
            found[way] = [Outcome(broken=str(error))] * len(program.inputs)
    return Run(program, found, code)


def disagreement(found: dict[str, list[Outcome]]) -> str:
    """What the ways do not agree on, in words; empty where they agree."""
    reference = found[CPYTHON]
    lines = []
    for way, results in found.items():
        for number, (expected, outcome) in enumerate(zip(reference, results, strict=True)):
            if outcome != expected or outcome.broken:
                lines.append(f"input {number}: CPython {expected}; {way} {outcome}" if way != CPYTHON else f"input {number}: {outcome}")
    return "\n".join(lines)
