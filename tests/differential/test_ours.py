# SPDX-License-Identifier: Apache-2.0
"""Functions of EL2 itself mean the same in every way, on inputs that damage what they read."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.fuzz import run_aarch64
from delphyne.fuzz.generate import Program
from delphyne.fuzz.run_cpython import imported
from delphyne.fuzz.ways import CPYTHON, disagreement, run_here

OURS = sorted((Path(__file__).parent / "ours").glob("ours_*.py"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_functions_of_el2_agree(path: Path, tmp_path: Path) -> None:
    with imported(path) as module:
        inputs = tuple(module.INPUTS)
    source = path.read_text(encoding="utf-8")
    place = tmp_path / f"program_{path.name}"
    ran = run_here(Program(source, inputs, ()), place, lambda way: None)
    assert not disagreement(ran.outcomes), f"{path.name}\n{disagreement(ran.outcomes)}"
    assert ran.compiled is not None
    # Each run starts by filling its statics anew, so that all inputs can share one boot.
    parts = [(place.stem, Program(source, (pair,), ()), ran.compiled) for pair in inputs]
    assert run_aarch64.run(parts, tmp_path) == ran.outcomes[CPYTHON]
