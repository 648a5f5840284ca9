# SPDX-License-Identifier: Apache-2.0
"""Every disagreement that was ever found stays found: the programs in `regressions` mean the same in every way."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.fuzz.generate import Program
from delphyne.fuzz.run_cpython import imported
from delphyne.fuzz.ways import disagreement
from delphyne.fuzz.workers import Worker

FILES = sorted((Path(__file__).parent / "regressions").glob("*.py"))


@pytest.mark.parametrize("piece", range(2))
def test_what_once_differed_agrees(piece: int) -> None:
    with Worker() as worker:
        for path in FILES[piece::2]:
            with imported(path) as module:
                inputs = tuple(module.INPUTS)
            program = Program(path.read_text(encoding="utf-8"), inputs, ())
            found = worker.run(program)
            assert not disagreement(found), f"{path.name}\n{disagreement(found)}"
        for program, expected, outcome in worker.boot():
            assert outcome == expected, f"{program.listing()}\nAArch64 {outcome}, CPython {expected}"
