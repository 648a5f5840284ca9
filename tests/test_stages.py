# SPDX-License-Identifier: Apache-2.0
"""The stages of `delphyne test`: each slow test is in just one of the night's, and a stage can be chosen by its name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from delphyne.stages import NIGHTLY, QUICK, ROOT, StageError, chosen


def _collected(arguments: tuple[str, ...]) -> list[str]:
    """The tests that pytest finds by a command's arguments."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-q", *arguments]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [line.rpartition(": ") for line in said.splitlines() if line.startswith("tests/")]
    return [file for file, _, count in files for _ in range(int(count))]


def test_each_slow_test_is_in_one_of_the_nights_stages() -> None:
    stages = [stage for stage in NIGHTLY if stage.name.startswith("long: ")]
    assert len(stages) == 6
    found: list[str] = []
    for stage in stages:
        place = stage.command.index("-n")
        own = _collected((*stage.command[3:place], *stage.command[place + 2 :]))
        assert own, stage.name
        found += own
    assert sorted(found) == sorted(_collected(("-m", "slow")))


def test_stages_are_chosen_by_a_part_of_their_name() -> None:
    assert chosen(QUICK, []) == QUICK
    assert [stage.name for stage in chosen(NIGHTLY, ["proofs", "types"])] == ["types", "ring 2: proofs"]
    with pytest.raises(StageError, match="no stage is called 'nothing'; there are: style; types;"):
        chosen(QUICK, ["types", "nothing"])
