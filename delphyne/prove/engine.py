# SPDX-License-Identifier: Apache-2.0
"""Run a theorem along every path, give it one verdict, and replay its counterexample in plain CPython."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path as FilePath
from types import FrameType, TracebackType
from typing import Any

from delphyne.lang import current
from delphyne.lang.locks import forget_held_locks, held_locks
from delphyne.lang.traps import Trap
from delphyne.prove.machine import TraceMachine
from delphyne.prove.path import Decision, Finished, Infeasible, Limits, Path, Refuted, Replay, Statistics, Unknown, running
from delphyne.prove.statics import Substitution
from delphyne.prove.symbolic import constant, plain, value_of
from delphyne.prove.theorem import Given, Theorem

PACKAGE = FilePath(__file__).parent.parent


class Verdict(Enum):
    """Only PROVED is good."""

    PROVED = "proved"
    REFUTED = "REFUTED"
    VACUOUS = "VACUOUS"
    UNKNOWN = "UNKNOWN"
    ERROR = "ERROR"


@dataclass(slots=True)
class Counterexample:
    """`inputs` are the theorem's own, `events` what the hardware saw on the way, `where` the place in the source; `replayed` is what plain CPython
    did with the same inputs, None where it did something else."""

    what: str
    where: str
    inputs: dict[str, int]
    events: list[str]
    replayed: str | None


@dataclass(slots=True)
class Result:
    """`executed` are the EL2 functions that ran on some path, as `module:qualified.name`."""

    theorem: str
    verdict: Verdict
    paths: int
    queries: int
    seconds: float
    detail: str = ""
    counterexample: Counterexample | None = None
    executed: set[str] = field(default_factory=set)


class Watch:
    """Notes which EL2 functions run, by the interpreter's profile hook."""

    def __init__(self) -> None:
        self.executed: set[str] = set()
        self._seen: set[Any] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """What `sys.setprofile` calls."""
        code = frame.f_code
        if event == "call" and code not in self._seen:
            self._seen.add(code)
            module = str(frame.f_globals.get("__name__", ""))
            if module.startswith(("delphyne.el2", "delphyne.lang.pool")) or module.rpartition(".")[2].startswith("subject"):
                self.executed.add(f"{module}:{code.co_qualname}")


def prove(theorem: Theorem, replay: bool = True) -> Result:
    """The verdict on one theorem. Never raises for what the theorem or its subject does."""
    statistics = Statistics()
    started = time.monotonic()
    outcomes: set[str] = set()
    watch = Watch()

    def finish(verdict: Verdict, detail: str = "", found: Counterexample | None = None) -> Result:
        elapsed = time.monotonic() - started
        return Result(theorem.name, verdict, statistics.paths, statistics.queries, elapsed, detail, found, watch.executed)

    sys.setprofile(watch)
    try:
        _explore(theorem, statistics, outcomes)
    except _Failure as failed:
        sys.setprofile(None)
        return finish(Verdict.REFUTED, failed.what, _counterexample(theorem, failed) if replay else None)
    except Unknown as unknown:
        return finish(Verdict.UNKNOWN, str(unknown))
    except RecursionError:
        return finish(Verdict.ERROR, "recursion without end")
    except Exception as error:
        return finish(Verdict.ERROR, f"{type(error).__name__}: {error} ({_place(error.__traceback__)})")
    finally:
        sys.setprofile(None)
    if statistics.paths == 0:
        return finish(Verdict.VACUOUS, "no path is feasible")
    missing = [outcome for outcome in theorem.outcomes if outcome not in outcomes]
    if missing:
        return finish(Verdict.VACUOUS, f"never reached: {', '.join(missing)}")
    surprising = sorted(outcomes.difference(theorem.outcomes))
    if surprising:
        return finish(Verdict.ERROR, f"outcome not announced: {', '.join(surprising)}")
    return finish(Verdict.PROVED)


class _Failure(Exception):
    """A path on which the theorem is false."""

    def __init__(self, what: str, where: str, model: Any, path: Path) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.model = model
        self.path = path


def _explore(theorem: Theorem, statistics: Statistics, outcomes: set[str]) -> None:
    limits = theorem.limits
    deadline = time.process_time() + limits.seconds
    work: list[list[Decision]] = [[]]
    while work:
        if statistics.paths + statistics.infeasible >= limits.paths:
            raise Unknown(f"more than {limits.paths} paths")
        path = Path(work.pop(), limits, statistics, deadline)
        try:
            _run(theorem, path, outcomes)
            statistics.paths += 1
        except Infeasible:
            statistics.infeasible += 1
        work.extend(path.alternatives)


def _run(theorem: Theorem, path: Path, outcomes: set[str]) -> None:
    """One run on one path; raises _Failure where the theorem is false."""
    substitution = Substitution()
    given = Given(substitution)
    machine: Any = TraceMachine()
    forget_held_locks()
    with running(path):
        current.enter(machine)
        try:
            theorem.body(given)
            if held_locks(0):
                raise Refuted(f"{held_locks(0)[-1].name} is released on every way out", path.model())
        except Finished:
            pass
        except Refuted as refuted:
            raise _Failure(f"required: {refuted.what}", _place(refuted.__traceback__), refuted.model, path) from refuted
        except Trap as trap:
            raise _Failure(f"trap {describe(trap)}", _place(trap.__traceback__), path.model(), path) from trap
        except AssertionError as failed:
            raise _Failure(f"trap ASSERT: {failed}", _place(failed.__traceback__), path.model(), path) from failed
        finally:
            current.leave(machine)
            substitution.undo()
    outcomes |= given.outcomes


def describe(trap: Trap) -> str:
    """The kind and, where they are plain numbers, the operands of a trap."""
    operands = [operand for operand in (value_of(trap.a), value_of(trap.b)) if operand is not None]
    return f"{trap.kind.name}({', '.join(f'{operand:#x}' for operand in operands)})"


def _counterexample(theorem: Theorem, failed: _Failure) -> Counterexample:
    def value(term: Any) -> int:
        return int(failed.model.eval(term, model_completion=True).as_long())

    inputs = {name: value(term) for name, term in failed.path.inputs.items()}
    events = [event.show(value) for event in failed.path.events]
    return Counterexample(failed.what, failed.where, inputs, events, _replay(theorem, failed))


def _replay(theorem: Theorem, failed: _Failure) -> str | None:
    """What plain CPython integers do with the inputs of a counterexample: the failure in words, None where nothing fails."""
    try:
        _run(theorem, Replay(failed.model, theorem.limits), set())
    except _Failure as again:
        return again.what
    except Exception:
        return None
    return None


def _place(trace: TracebackType | None) -> str:
    """The innermost line that belongs neither to the language nor to the prover's machinery."""
    place = "?"
    for frame in traceback.extract_tb(trace):
        file = FilePath(frame.filename)
        inside = PACKAGE in file.parents
        if not inside or "el2" in file.parts or "theorems" in file.parts:
            if "z3" in file.parts:
                continue
            shown = file.relative_to(PACKAGE.parent) if inside else file.name
            place = f"{shown}:{frame.lineno}"
    return place


def run_concrete(function: Callable[..., Any], arguments: list[Any]) -> Any:
    """Call `function` with solver terms in place of the integers among `arguments`, each a constant, and give its result in plain integers.

    Integers inside records, arrays and statics are the caller's own. Raises `lang.Trap` as CPython does, operands in plain integers."""
    limits = Limits()
    path = Path([], limits, Statistics(), time.process_time() + limits.seconds, keep_constants=True)
    with running(path):
        try:
            return plain(function(*[constant(argument) for argument in arguments]))
        except Trap as trap:
            raise Trap(trap.kind, value_of(trap.a) or 0, value_of(trap.b) or 0) from None
