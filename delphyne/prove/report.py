# SPDX-License-Identifier: Apache-2.0
"""The prover's report, as a table of a hundred columns and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from delphyne.prove.engine import Counterexample, Result, Verdict
from delphyne.prove.killing import Fate
from delphyne.prove.theorem import Theorem

COLUMNS = 100


@dataclass(slots=True)
class Report:
    """Everything there is to say. `fates` is None where no mutants were asked about."""

    results: list[Result]
    theorems: dict[str, Theorem]
    unproved: list[str]
    fates: list[Fate] | None
    justified: dict[str, str]
    seconds: float

    @property
    def survivors(self) -> list[Fate]:
        """Mutants that no theorem noticed."""
        return [fate for fate in self.fates or [] if fate.by is None]

    @property
    def unexplained(self) -> list[Fate]:
        """Survivors without a justification."""
        return [fate for fate in self.survivors if not self.justified.get(fate.mutant.name)]

    @property
    def stale(self) -> list[str]:
        """Justifications of mutants that are killed after all, or no longer exist."""
        if self.fates is None:
            return []
        alive = {fate.mutant.name for fate in self.survivors}
        modules = {fate.mutant.name.partition(":")[0] for fate in self.fates}
        return [name for name in self.justified if name not in alive and name.partition(":")[0] in modules]

    @property
    def holds(self) -> bool:
        """Whether every theorem is proved and every surviving mutant explained."""
        return all(result.verdict is Verdict.PROVED for result in self.results) and not self.unexplained and bool(self.results)

    def leaned_on(self, what: str) -> dict[str, list[str]]:
        """Each entry of `assumes`, `trusts` or `bounds` with the theorems that name it."""
        entries: dict[str, list[str]] = {}
        for theorem in self.theorems.values():
            for entry in getattr(theorem, what):
                entries.setdefault(entry, []).append(theorem.name)
        return entries


def as_json(report: Report) -> str:
    """One object; `holds` says what the exit code says."""
    return json.dumps(
        {
            "theorems": [_result(result, report.theorems[result.theorem]) for result in report.results],
            "assumed": report.leaned_on("assumes"),
            "trusted": report.leaned_on("trusts"),
            "bounds": report.leaned_on("bounds"),
            "without_theorem": report.unproved,
            "mutants": _mutants(report),
            "seconds": round(report.seconds, 3),
            "holds": report.holds,
        },
        indent=2,
    )


def _result(result: Result, theorem: Theorem) -> dict[str, Any]:
    found = result.counterexample
    return {
        "name": result.theorem,
        "statement": theorem.statement,
        "verdict": result.verdict.value.lower(),
        "paths": result.paths,
        "queries": result.queries,
        "seconds": round(result.seconds, 3),
        "detail": result.detail,
        "counterexample": asdict(found) if found is not None else None,
    }


def _mutants(report: Report) -> dict[str, Any] | None:
    if report.fates is None:
        return None
    asked = [fate for fate in report.fates if fate.tests is not None]
    return {
        "total": len(report.fates),
        "killed": len(report.fates) - len(report.survivors),
        "killed_by_tests": sum(bool(fate.tests) for fate in asked),
        "asked_of_tests": len(asked),
        "survivors": [_survivor(fate, report) for fate in report.survivors],
        "stale_justifications": report.stale,
    }


def _survivor(fate: Fate, report: Report) -> dict[str, Any]:
    mutant = fate.mutant
    return {"name": mutant.name, "line": mutant.line, "change": mutant.change, "tests": fate.tests, "why": report.justified.get(mutant.name)}


def as_table(report: Report) -> str:
    """Words for people."""
    out = io.StringIO()
    console = Console(file=out, width=COLUMNS, highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("theorem", overflow="fold")
    table.add_column("verdict")
    for name in ("paths", "queries", "seconds"):
        table.add_column(name, justify="right")
    for result in report.results:
        table.add_row(result.theorem, result.verdict.value, str(result.paths), str(result.queries), f"{result.seconds:.1f}")
    console.print(table)
    for result in report.results:
        if result.verdict is not Verdict.PROVED:
            _failure(console, result, report.theorems[result.theorem])
    titles = {"assumes": "Assumed (each a theorem of its own)", "trusts": "Trusted (nobody proves it)", "bounds": "Bounds"}
    for what, title in titles.items():
        entries = report.leaned_on(what)
        if entries:
            console.print(f"\n{title}", markup=False)
            for entry, users in entries.items():
                console.print(f"  {entry} ({len(users)})", markup=False)
    if report.unproved:
        console.print("\nFunctions of these modules without a theorem of their own")
        for name in report.unproved:
            console.print(f"  {name}", markup=False)
    if report.fates is not None:
        _show_mutants(console, report)
    proved = sum(result.verdict is Verdict.PROVED for result in report.results)
    paths, queries = (sum(getattr(result, what) for result in report.results) for what in ("paths", "queries"))
    console.print(f"\n{proved} of {len(report.results)} theorems proved, {paths} paths, {queries} queries, {report.seconds:.1f} s")
    return out.getvalue().rstrip("\n")


def _failure(console: Console, result: Result, theorem: Theorem) -> None:
    console.print(f"\n{result.theorem}: {result.verdict.value}: {result.detail}", markup=False)
    console.print(f"  {theorem.statement}", markup=False)
    if result.counterexample is not None:
        show(console, result.counterexample)


def show(console: Console, found: Counterexample) -> None:
    """A counterexample: place, inputs, what the hardware saw, and the replay."""
    console.print(f"  at {found.where}", markup=False)
    for name, value in found.inputs.items():
        console.print(f"    {name} = {value:#x}", markup=False)
    for event in found.events:
        console.print(f"    then {event}", markup=False)
    agreed = found.replayed == found.what
    replayed = f"the same failure: {found.replayed}" if agreed else f"{found.replayed or 'no failure'}: THE PROVER AND CPYTHON DISAGREE"
    console.print(f"  replayed in plain CPython: {replayed}", markup=False)


def _show_mutants(console: Console, report: Report) -> None:
    assert report.fates is not None
    asked = [fate for fate in report.fates if fate.tests is not None]
    killed = len(report.fates) - len(report.survivors)
    by_tests = sum(bool(fate.tests) for fate in asked)
    console.print(f"\nMutants: {killed} of {len(report.fates)} killed by theorems; by the model tests {by_tests} of {len(asked)}")
    for fate in report.survivors:
        why = report.justified.get(fate.mutant.name) or "NOT EXPLAINED"
        console.print(f"  {fate.mutant.name} (line {fate.mutant.line}): {fate.mutant.change}\n    {why}", markup=False)
    for name in report.stale:
        console.print(f"  justified, but not alive: {name}", markup=False)
