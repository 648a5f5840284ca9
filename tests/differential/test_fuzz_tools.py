# SPDX-License-Identifier: Apache-2.0
"""The fuzzer's own parts: programs are the same everywhere, workers survive their programs, failures are made small, kept and replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from wrong import addition_wraps, dies

from delphyne.fuzz.campaign import Failure, keep, replay, run_seeds, simplest
from delphyne.fuzz.choices import Recorded
from delphyne.fuzz.generate import Program, generate, recorded, seeded
from delphyne.fuzz.outcome import Outcome
from delphyne.fuzz.shrink import shrink
from delphyne.fuzz.ways import disagreement
from delphyne.fuzz.workers import Worker

ENDLESS = """from __future__ import annotations

from delphyne.lang import u64


def run(a: u64, b: u64) -> u64:
    while True:
        a = a ^ b


def checksum() -> u64:
    return u64(0)
"""


def test_a_seed_is_one_program() -> None:
    assert seeded(5) == seeded(5)
    assert seeded(5) != seeded(6)


def test_decisions_make_the_program_that_made_them() -> None:
    for seed in range(30):
        program = seeded(seed)
        assert recorded(program.made) == program


def test_no_decisions_make_the_simplest_program() -> None:
    program = generate(Recorded([]))
    assert set(program.made) == {0}
    assert program.source.count("\n") == 30


def test_numbers_out_of_bounds_are_clipped() -> None:
    choices = Recorded([7, 3])
    assert [choices.below(5), choices.below(2), choices.below(9)] == [4, 1, 0]


def test_chance_is_false_where_it_is_simplest() -> None:
    assert not Recorded([0]).chance(99)


def test_shrinking_keeps_what_fails() -> None:
    program = next(seeded(seed) for seed in range(100) if "with LOCK" in seeded(seed).source)
    small = shrink(program, lambda candidate: "with LOCK" in candidate.source)
    assert "with LOCK" in small.source
    assert len(small.source) < len(program.source) // 2


def test_a_program_without_end_is_given_up_and_the_next_one_runs() -> None:
    with Worker(seconds=3.0) as worker:
        found = worker.run(Program(ENDLESS, ((1, 2),), ()))
        assert "no answer" in found["CPython"][0].broken
        assert not disagreement(worker.run(seeded(0)))


def test_a_compiler_that_dies_is_reported() -> None:
    with Worker(hook=dies) as worker:
        for seed in range(2):
            found = worker.run(seeded(seed))
            assert found["compiler"][0].broken == "the process ended with status -6"
            assert disagreement(found)


def test_a_failure_is_made_small_kept_and_replayed(tmp_path: Path) -> None:
    with Worker(hook=addition_wraps) as worker:
        failure = next(run_seeds(range(50), worker, aarch64=False))
        small = simplest(failure, worker, budget=40)
    assert len(small.program.source) < len(failure.program.source)
    assert disagreement(small.found)
    assert "OVERFLOW" in small.report()
    assert replay(keep(small, tmp_path)) == small.program


@pytest.mark.parametrize("content", ["{}", "[-1]", "no json"])
def test_a_file_that_holds_no_program_is_refused(tmp_path: Path, content: str) -> None:
    place = tmp_path / "broken.json"
    place.write_text(content)
    done = subprocess.run([sys.executable, "-m", "delphyne.fuzz", "--replay", str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert str(place) in done.stderr


def test_replay_shows_every_way(tmp_path: Path) -> None:
    program = seeded(0)
    place = keep(Failure(0, program, {"CPython": [Outcome(1), Outcome(2)]}), tmp_path)
    assert json.loads(place.read_text()) == list(program.made)
    done = subprocess.run([sys.executable, "-m", "delphyne.fuzz", "--replay", str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for way in ("CPython", "solver", "native O0", "native O2", "AArch64"):
        assert f"{way}, input 0: " in done.stdout
