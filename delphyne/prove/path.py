# SPDX-License-Identifier: Apache-2.0
"""One path through a function: the decisions taken, what they imply, and what the solver says about the next one.

A path is found by running the function again from its start with a list of decisions to repeat (`prefix`); past its end, a branch that can
go both ways takes True and leaves its twin in `alternatives`. Three rules keep this honest: the path's condition is satisfiable at every
moment (so what holds on it does not hold vacuously); an obligation is asked of the solver once, on the first path that reaches it; a solver
that gives up raises `Unknown`, which no caller may take for an answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import z3  # type: ignore[import-untyped]

Term = Any
"""A z3 bit vector or array; z3 carries no types."""
Formula = Any
"""A z3 boolean."""


MODELS_KEPT = 8
"""Models that are asked before the solver is."""


class ProverError(Exception):
    """The run proves nothing: the engine, or the function under it, did something that has no symbolic meaning."""


class Unknown(ProverError):
    """The solver, or a limit, gave up."""


class Infeasible(Exception):
    """An assumption contradicts the path: the path does not exist."""


class Finished(Exception):
    """The path has shown what it had to show before the function returned."""


class Refuted(Exception):
    """An obligation is false on this path; `model` says for which inputs."""

    def __init__(self, what: str, model: Any) -> None:
        super().__init__(what)
        self.what = what
        self.model = model


@dataclass(slots=True)
class Limits:
    """Where the prover gives up. Each limit that is met makes the theorem fail."""

    quick: int = 60_000
    """In the solver's own units, so that it does not depend on how busy the machine is: for the solver that keeps what it learned along the path.
    A query that it gives up on goes to one that starts afresh."""
    query_ms: int = 120_000
    seconds: float = 600.0
    paths: int = 5_000
    decisions: int = 2_000
    values: int = 64


@dataclass(slots=True)
class Statistics:
    """Queries are calls of the solver; decisions that a known model answers cost none and are not counted."""

    paths: int = 0
    infeasible: int = 0
    queries: int = 0


@dataclass(slots=True)
class Decision:
    """`condition` is kept so that a replay that takes another road is noticed."""

    condition: Formula
    taken: bool
    value: int | None = None
    """For a choice among numbers: the one that was tried."""


@dataclass(slots=True)
class Path:
    """The state of one run. `deadline` is in the time of `time.process_time`: a busy machine makes no proof fail."""

    prefix: list[Decision]
    limits: Limits
    statistics: Statistics
    deadline: float
    alternatives: list[list[Decision]] = field(default_factory=list)
    taken: list[Decision] = field(default_factory=list)
    condition: list[Formula] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    """What the function did to the hardware, in order: see `trace`."""
    inputs: dict[str, Term] = field(default_factory=dict)
    """What a counterexample prints, by name."""
    rules: dict[str, list[Any]] = field(default_factory=dict)
    """Loop rules by the qualified name of the function, in the order of its loops."""
    locals: dict[str, Any] = field(default_factory=dict)
    """Of the function whose loop is being proved, when the loop began."""
    fresh: int = 0
    keep_constants: bool = False
    """Whether constants stay solver terms, for a differential run."""
    solver: Any = None
    models: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.solver = z3.Solver()
        self.solver.set("rlimit", self.limits.quick)

    @property
    def replaying(self) -> bool:
        """Whether the decisions of an earlier run are still being repeated: every obligation met now has been discharged there."""
        return len(self.taken) < len(self.prefix)

    def check(self, formula: Formula) -> Any | None:
        """A model of the path's condition and `formula`, or None where there is none."""
        for model in self.models:
            if z3.is_true(model.eval(formula, model_completion=True)):
                return model
        if time.process_time() > self.deadline:
            raise Unknown(f"gave up after {self.limits.seconds:.0f} s of processor time")
        self.statistics.queries += 1
        solver, answer = self.solver, self.solver.check(formula)
        if answer == z3.unknown:
            solver = z3.Tactic("qfufbv").solver()
            solver.set("timeout", self.limits.query_ms)
            solver.add(self.condition)
            solver.add(formula)
            answer = solver.check()
        if answer == z3.unsat:
            return None
        if answer != z3.sat:
            raise Unknown(f"the solver gave up: {solver.reason_unknown()}")
        model = solver.model()
        self.models = [model, *self.models[:MODELS_KEPT - 1]]
        return model

    def add(self, formula: Formula) -> None:
        """Put `formula`, known to be satisfiable together with the path's condition, into it."""
        self.condition.append(formula)
        self.solver.add(formula)
        self.models = [model for model in self.models if z3.is_true(model.eval(formula, model_completion=True))]

    def assume(self, formula: Formula) -> None:
        """Restrict the path. Raises Infeasible where nothing is left of it."""
        formula = z3.simplify(formula)
        if z3.is_true(formula):
            return
        if z3.is_false(formula) or (not self.replaying and self.check(formula) is None):
            raise Infeasible
        self.add(formula)

    def normal(self, term: Term) -> Term:
        """`term` in the form in which equal ones are recognised."""
        return z3.simplify(term)

    def choose(self, term: Term) -> int:
        """Each value that `term` can have, on a path of its own; for the few places where only a number will do."""
        term = z3.simplify(term)
        if z3.is_bv_value(term):
            return int(term.as_long())
        for _ in range(self.limits.values):
            known = self.prefix[len(self.taken)].value if self.replaying else None
            value = int(self.model().eval(term, model_completion=True).as_long()) if known is None else known
            if self.branch(term == value, value):
                return value
        raise Unknown(f"a value with more than {self.limits.values} possibilities was used as a plain number")

    def branch(self, formula: Formula, value: int | None = None) -> bool:
        """Decide `formula`: as before while replaying, else True where it can be."""
        formula = z3.simplify(formula)
        if value is None and z3.is_true(formula):
            return True
        if value is None and z3.is_false(formula):
            return False
        if len(self.taken) >= self.limits.decisions:
            raise Unknown(f"more than {self.limits.decisions} decisions on one path")
        if self.replaying:
            decision = self.prefix[len(self.taken)]
            if not decision.condition.eq(formula):
                raise ProverError("the function does not run the same way twice")
        else:
            can_be_true = self.check(formula) is not None
            if can_be_true and self.check(z3.Not(formula)) is not None:
                self.alternatives.append([*self.taken, Decision(formula, False, value)])
            decision = Decision(formula, can_be_true, value)
        self.taken.append(decision)
        self.add(formula if decision.taken else z3.Not(formula))
        return decision.taken

    def fresh_word(self, name: str, bits: int) -> Term:
        """An arbitrary bit vector that no input and no other step of this path knows."""
        self.fresh += 1
        return z3.BitVec(f"{name} #{self.fresh}", bits)

    def model(self) -> Any:
        """A model of the path's condition."""
        model = self.check(z3.BoolVal(True))
        if model is None:
            raise ProverError("a path without a model was followed")
        return model

    def violation(self, formula: Formula) -> Any | None:
        """A model in which `formula` is false here, or None where it always holds (or was shown to on an earlier run)."""
        formula = z3.simplify(formula)
        if self.replaying or z3.is_true(formula):
            return None
        return self.check(z3.Not(formula))

    def require(self, formula: Formula, what: str) -> None:
        """An obligation. Raises Refuted with a counterexample unless `formula` always holds here."""
        model = self.violation(formula)
        if model is not None:
            raise Refuted(what, model)


class Replay(Path):
    """The run of a counterexample: every term has the value that `found` gives it, so the function sees plain CPython integers only."""

    def __init__(self, found: Any, limits: Limits) -> None:
        super().__init__(prefix=[], limits=limits, statistics=Statistics(), deadline=float("inf"))
        self.found = found

    def holds(self, formula: Formula) -> bool:
        """Whether `formula` is true for the inputs of the counterexample."""
        return bool(z3.is_true(self.found.eval(formula, model_completion=True)))

    def check(self, formula: Formula) -> Any | None:
        """The one model there is, where it fits."""
        return self.found if self.holds(formula) else None

    def add(self, formula: Formula) -> None:
        """Nothing to restrict: every input is known."""
        self.condition.append(formula)

    def branch(self, formula: Formula, value: int | None = None) -> bool:
        """The one way that these inputs go."""
        return self.holds(formula)

    def normal(self, term: Term) -> Term:
        """The value, as a term."""
        return self.found.eval(term, model_completion=True)

    def choose(self, term: Term) -> int:
        """The value."""
        return int(self.found.eval(term, model_completion=True).as_long())


_current: Path | None = None


def current() -> Path:
    """The path that is being run."""
    if _current is None:
        raise ProverError("a symbolic value was used outside a proof")
    return _current


@contextmanager
def running(path: Path) -> Iterator[Path]:
    """Make `path` the current one."""
    global _current
    before = _current
    _current = path
    try:
        yield path
    finally:
        _current = before
