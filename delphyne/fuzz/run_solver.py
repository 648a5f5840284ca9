# SPDX-License-Identifier: Apache-2.0
"""Runs a program on the prover's integers, each a constant: what proofs compute with must mean what CPython computes."""

from __future__ import annotations

from pathlib import Path

from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome
from delphyne.fuzz.run_cpython import run_with
from delphyne.prove.engine import run_concrete


def run(program: Program, path: Path) -> list[Outcome]:
    """The outcome for each input. `path` holds the program's source."""
    return run_with(program, path, lambda function, arguments: run_concrete(function, arguments), "solver")
