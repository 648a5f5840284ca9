# SPDX-License-Identifier: Apache-2.0
"""Runs programs by the thousand: judges what the ways made of each, shrinks what they do not agree on, and keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from delphyne.fuzz.generate import Program, recorded, seeded
from delphyne.fuzz.outcome import Outcome
from delphyne.fuzz.shrink import shrink
from delphyne.fuzz.ways import CPYTHON, disagreement
from delphyne.fuzz.workers import Worker

AARCH64 = "AArch64"
BATCH = 200
"""Programs in one boot."""


@dataclass(frozen=True)
class Failure:
    """A program on which the ways do not agree."""

    seed: int
    program: Program
    found: dict[str, list[Outcome]]

    def report(self) -> str:
        """For people: the program, its inputs and the results that differ."""
        return f"seed {self.seed}\n{self.program.listing()}\n{disagreement(self.found)}"


def run_seeds(seeds: Sequence[int], worker: Worker, aarch64: bool = True) -> Iterator[Failure]:
    """Runs the programs of these seeds, and gives those on which the ways do not agree."""
    by_source: dict[str, int] = {}
    for seed in seeds:
        program = seeded(seed)
        by_source[program.source] = seed
        found = worker.run(program)
        if disagreement(found):
            yield Failure(seed, program, found)
    if aarch64:
        for program, expected, outcome in worker.boot():
            if outcome != expected:
                yield Failure(by_source[program.source], program, {CPYTHON: [expected], AARCH64: [outcome]})


def simplest(failure: Failure, worker: Worker, budget: int = 400) -> Failure:
    """The same failure of a smaller program."""
    wanted = _kind(failure.found)
    on_aarch64 = AARCH64 in failure.found
    smallest: dict[str, dict[str, list[Outcome]]] = {}

    def fails(program: Program) -> bool:
        found = worker.run(program)
        if on_aarch64:
            found = {key: value for _, expected, outcome in worker.boot() for key, value in ((CPYTHON, [expected]), (AARCH64, [outcome]))}
        if not found or _kind(found) != wanted:
            return False
        smallest[program.source] = found
        return True

    if not fails(failure.program):
        return failure
    program = shrink(failure.program, fails, 60 if on_aarch64 else budget)
    return Failure(failure.seed, program, smallest[program.source])


def _kind(found: dict[str, list[Outcome]]) -> frozenset[tuple[str, str]]:
    """Which ways differ and how, so that shrinking does not end at another failure."""
    kinds = set()
    for way, outcomes in found.items():
        for expected, outcome in zip(found[CPYTHON], outcomes, strict=True):
            if outcome.broken:
                kinds.add((way, outcome.broken.split(" line ")[0][:40]))
            elif outcome != expected:
                kinds.add((way, "differs"))
    return frozenset(kinds)


def keep(failure: Failure, folder: Path) -> Path:
    """Stores a failure under its seed: the program to read, and the decisions to replay it from."""
    folder.mkdir(parents=True, exist_ok=True)
    header = "".join(f"# {line}\n" for line in disagreement(failure.found).splitlines())
    (folder / f"seed{failure.seed}.py").write_text(failure.program.source + "\n" + header, encoding="utf-8")
    place = folder / f"seed{failure.seed}.json"
    place.write_text(json.dumps(list(failure.program.made)), encoding="utf-8")
    return place


def replay(place: Path) -> Program:
    """The program that `keep` stored; raises OSError or ValueError where the file holds none."""
    numbers = json.loads(place.read_text(encoding="utf-8"))
    if not isinstance(numbers, list) or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise ValueError("no list of decisions")
    return recorded(numbers)


def chunks(first: int, count: int, size: int = BATCH) -> list[range]:
    """The seeds in pieces that one boot can run."""
    return [range(first + at, first + min(at + size, count)) for at in range(0, count, size)]


def judge(seeds: range, worker: Worker, aarch64: bool, most: int = 3) -> list[Failure]:
    """The failures of one piece, the first few of them made small."""
    failures = list(run_seeds(seeds, worker, aarch64))
    return [simplest(failure, worker) for failure in failures[:most]] + failures[most:]
