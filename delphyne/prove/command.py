# SPDX-License-Identifier: Apache-2.0
"""`delphyne prove`: choose theorems, prove them side by side, say what was found."""

from __future__ import annotations

import argparse
import pkgutil
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module

from delphyne.prove import theorems as files
from delphyne.prove.engine import Result, Verdict, prove
from delphyne.prove.killing import Fate, all_mutants, judge, model_tests, name_of, read_justifications
from delphyne.prove.mutate import functions_of
from delphyne.prove.report import Report, as_json, as_table
from delphyne.prove.theorem import REGISTRY, Theorem
from delphyne.prove.workers import parallel


def load() -> dict[str, Theorem]:
    """Every theorem of `delphyne.prove.theorems`, by name."""
    for module in pkgutil.iter_modules(files.__path__):
        import_module(f"{files.__name__}.{module.name}")
    return dict(sorted(REGISTRY.items()))


def choose(known: dict[str, Theorem], names: list[str] | None) -> dict[str, Theorem]:
    """The theorems that are named, by full name or by subject; all of them for no names. Raises LookupError for a name that is neither."""
    if not names:
        return known
    chosen: dict[str, Theorem] = {}
    for name in names:
        found = {theorem.name: theorem for theorem in known.values() if name in (theorem.name, theorem.subject)}
        if not found:
            raise LookupError(name)
        chosen.update(found)
    return chosen


def prove_all(chosen: dict[str, Theorem], each: Callable[[Result], None]) -> list[Result]:
    """The verdict on each theorem, in the order of names; `each` hears of one as soon as it is known."""
    asked = list(chosen.values())
    results: dict[str, Result] = {}
    allowed = 4 * max((theorem.limits.seconds for theorem in asked), default=0.0)
    for number, answer in parallel([partial(prove, theorem) for theorem in asked], allowed):
        name = asked[number].name
        results[name] = answer or Result(name, Verdict.UNKNOWN, 0, 0, allowed, "the prover died or gave no answer in time")
        each(results[name])
    return [results[name] for name in chosen]


def check_assumptions(results: list[Result], known: dict[str, Theorem], chosen: dict[str, Theorem]) -> None:
    """A theorem that leans on another falls with it; one that leans on nothing known is an error."""
    verdicts = {result.theorem: result.verdict for result in results}
    for result in results:
        for leaned in chosen[result.theorem].assumes:
            if leaned not in known:
                result.verdict, result.detail = Verdict.ERROR, f"assumes {leaned}, which is no theorem"
            elif verdicts.get(leaned, Verdict.PROVED) is not Verdict.PROVED:
                result.verdict, result.detail = Verdict.UNKNOWN, f"assumes {leaned}, which does not hold"


def without_theorem(known: dict[str, Theorem]) -> list[str]:
    """Functions of the proved modules that no theorem is about."""
    about = {name_of(function) for theorem in known.values() for function in theorem.of}
    modules = sorted({name.partition(":")[0] for name in about})
    return [f"{module}:{name}" for module in modules for name in functions_of(import_module(module)) if f"{module}:{name}" not in about]


def run(names: list[str] | None = None, json: bool = False, mutants: bool = False) -> int:
    """Prove, report on standard output, give the exit code: 0 if all hold, 1 if something does not, 2 for a name that is no theorem's."""
    known = load()
    try:
        chosen = choose(known, names)
    except LookupError as unknown:
        subjects = ", ".join(sorted({theorem.subject for theorem in known.values()}))
        print(f"delphyne prove: there is no theorem or subject {unknown.args[0]!r}; subjects: {subjects}", file=sys.stderr)
        return 2

    def progress(text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{text[:110]}", end="", file=sys.stderr, flush=True)

    started = time.monotonic()
    results = prove_all(chosen, lambda result: progress(f"{result.verdict.value} {result.theorem}"))
    check_assumptions(results, known, chosen)
    fates: list[Fate] | None = None
    if mutants:
        made = all_mutants(results, chosen)
        fates = judge(made, results, chosen, model_tests(), lambda fate: progress(f"{'killed' if fate.by else 'alive'} {fate.mutant.name}"))
    progress("")
    unproved = [name for name in without_theorem(known) if not names]
    report = Report(results, chosen, unproved, fates, read_justifications(), time.monotonic() - started)
    print(as_json(report) if json else as_table(report))
    return 0 if report.holds else 1


def main(arguments: list[str] | None = None) -> int:
    """`python -m delphyne.prove`."""
    parser = argparse.ArgumentParser(prog="delphyne prove", description="Prove the theorems about EL2's files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a theorem or a subject (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--mutants", action="store_true", help="also ask which of all mutants the theorems and the model tests notice (minutes)")
    given = parser.parse_args(arguments)
    return run(given.names or None, given.json, given.mutants)
