# SPDX-License-Identifier: Apache-2.0
"""Generated programs mean the same in CPython, on the prover's integers, as native code at O0 and O2, and at EL2 in QEMU."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from delphyne.fuzz.campaign import judge
from delphyne.fuzz.generate import Program, programs
from delphyne.fuzz.ways import disagreement
from delphyne.fuzz.workers import Worker

PIECES = 4
EACH = 50


@pytest.mark.parametrize("piece", range(PIECES))
def test_programs_of_fixed_seeds_agree(piece: int) -> None:
    with Worker() as worker:
        failures = judge(range(piece * EACH, (piece + 1) * EACH), worker, aarch64=True, most=1)
    assert not failures, "\n\n".join(failure.report() for failure in failures)


def test_programs_that_hypothesis_makes_agree() -> None:
    with Worker() as worker:

        @settings(
            max_examples=40,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(programs())
        def agree(program: Program) -> None:
            found = worker.run(program)
            assert not disagreement(found), f"{program.listing()}\n{disagreement(found)}"

        agree()
