# SPDX-License-Identifier: Apache-2.0
"""Runs a program as compiled code on the machine that runs the tests, at the optimisation levels 0 and 2."""

from __future__ import annotations

import ctypes

from delphyne.compiler import tree
from delphyne.compiler.back import native
from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome, Trapped
from delphyne.fuzz.run_cpython import place


def run(program: Program, compiled: tree.Program, module: str, opt: int) -> list[Outcome]:
    """The outcome for each input. `module` is the name under which the program was compiled."""
    loaded = native.load(compiled, opt)
    found = []
    for a, b in program.inputs:
        loaded.reset()
        result: int | Trapped
        try:
            result = _number(loaded.call(f"{module}.run", a, b))
            held = _held(loaded)
            if held:
                found.append(Outcome(broken=f"{held} is held after the return"))
                continue
        except native.NativeTrap as trap:
            result = Trapped(trap.kind.name, place(*trap.loc[:2]), trap.a, trap.b)
        found.append(Outcome(result, _number(loaded.call(f"{module}.checksum"))))
    return found


def _held(loaded: native.NativeModule) -> str:
    """A lock whose tickets are not all served: a trap leaves locks held, a return must not."""
    for symbol, static in loaded.program.statics.items():
        if isinstance(static.ty, tree.LockT):
            taken, served = ctypes.c_uint32.from_address(loaded.address(symbol)), ctypes.c_uint32.from_address(loaded.address(symbol) + 4)
            if taken.value != served.value:
                return symbol.rsplit(".", 1)[-1]
    return ""


def _number(answer: object) -> int:
    assert isinstance(answer, int)
    return answer
