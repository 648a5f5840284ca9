# SPDX-License-Identifier: Apache-2.0
"""Which mutants the theorems notice, which the model tests notice, and which survive for a stated reason.

A mutant is put in place by exchanging the function's code in a forked child, so every module that imported the function sees it. Asked are
the theorems that ran the function when they were proved, those about it first; one that no longer holds, for whatever reason, kills.
"""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from delphyne.prove.engine import Result, Verdict, prove
from delphyne.prove.mutate import Mutant, functions_of, mutants_of
from delphyne.prove.theorem import Theorem
from delphyne.prove.workers import parallel

JUSTIFICATIONS = Path(__file__).parent / "equivalent.txt"
MODEL_TESTS = Path(__file__).parent.parent.parent / "tests" / "memory"
NATIVE = "test_native_memory.py"
"""Runs what the compiler made of the source, where a mutant is not."""
SECONDS = 900.0


def model_tests() -> list[str]:
    """Pytest's arguments for the tests that compare the memory room with models; none where the tests are not installed."""
    return [str(MODEL_TESTS), f"--ignore={MODEL_TESTS / NATIVE}"] if MODEL_TESTS.is_dir() else []


@dataclass(frozen=True, slots=True)
class Fate:
    """`by` is the theorem that noticed, or None where none did in time; `tests` whether the model tests noticed, None where not asked."""

    mutant: Mutant
    by: str | None
    tests: bool | None


def read_justifications(file: Path = JUSTIFICATIONS) -> dict[str, str]:
    """Mutants that mean the same as the original: one a line, `name  why`. Lines that begin with # are comments."""
    if not file.exists():
        return {}
    lines = [line.strip() for line in file.read_text().splitlines()]
    pairs = [line.split(None, 1) for line in lines if line and not line.startswith("#")]
    return {pair[0]: pair[1] if len(pair) > 1 else "" for pair in pairs}


def all_mutants(results: Sequence[Result], theorems: dict[str, Theorem]) -> list[Mutant]:
    """Every mutant of every function that is named by a proved theorem."""
    proved = [theorems[result.theorem] for result in results if result.verdict is Verdict.PROVED]
    named = {name_of(function) for theorem in proved for function in theorem.of}
    modules = sorted({name.partition(":")[0] for name in named})
    return [mutant for module in modules for mutant in mutants_of(import_module(module)) if mutant.function in named]


def name_of(function: Any) -> str:
    """A function or property as `module:qualified.name`."""
    plain = getattr(function, "fget", None) or function
    return f"{plain.__module__}:{plain.__qualname__}"


def selection(all_of_them: Sequence[Mutant], count: int) -> list[Mutant]:
    """A spread of `count` mutants, the same ones for the same source."""
    return sorted(random.Random(1).sample(list(all_of_them), min(count, len(all_of_them))), key=lambda mutant: mutant.name)


def judge(
    chosen: Sequence[Mutant], results: Sequence[Result], theorems: dict[str, Theorem], tests: Sequence[str], each: Callable[[Fate], None]
) -> list[Fate]:
    """The fate of each mutant; `each` hears of it at once. `tests` are pytest's arguments for the model tests, empty to leave them out."""
    jobs = [partial(_judge, mutant, _relevant(mutant, results, theorems), list(tests)) for mutant in chosen]
    fates: list[Fate] = []
    for number, answer in parallel(jobs, SECONDS):
        by, noticed = answer if answer is not None else (None, None)
        fates.append(Fate(chosen[number], by, noticed))
        each(fates[-1])
    return sorted(fates, key=lambda fate: fate.mutant.name)


def _relevant(mutant: Mutant, results: Sequence[Result], theorems: dict[str, Theorem]) -> list[Theorem]:
    """Theorems about the function first, then those that only run it, quick ones first."""
    running = [result for result in results if mutant.function in result.executed]
    about = {result.theorem for result in running if mutant.function in map(name_of, theorems[result.theorem].of)}
    return [theorems[result.theorem] for result in sorted(running, key=lambda result: (result.theorem not in about, result.seconds))]


def _judge(mutant: Mutant, asked: list[Theorem], tests: list[str]) -> tuple[str | None, bool | None]:
    module, _, qualified = mutant.function.partition(":")
    functions_of(import_module(module))[qualified].__code__ = mutant.code
    by = None
    for theorem in asked:
        result = prove(theorem, replay=False)
        if result.verdict is not Verdict.PROVED:
            by = f"{theorem.name}: {result.detail}"
            break
    return by, _noticed(tests) if tests else None


def _noticed(tests: list[str]) -> bool:
    """Whether the model tests fail, in this process, with the mutant in place. One failure is enough: hypothesis need not shrink it."""
    import hypothesis
    import pytest

    hypothesis.settings.register_profile("mutant", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], database=None)
    hypothesis.settings.load_profile("mutant")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        sys.argv = ["pytest"]
        return pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]) != 0
