# SPDX-License-Identifier: Apache-2.0
"""The prover finds planted faults, proves what is right, and takes no silence for a proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import subject_bank as subject
import z3  # type: ignore[import-untyped]

from delphyne.lang import Trap, TrapKind, u32, u64
from delphyne.prove.engine import Result, Verdict, prove, run_concrete
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Atomics, Cells, Words, Write, filling
from delphyne.prove.path import Limits
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, Theorem, theorem


def verdict(body: Callable[[Given], None], outcomes: Sequence[str] = (), limits: Limits | None = None) -> Result:
    registry: dict[str, Theorem] = {}
    return prove(theorem(subject.donate, outcomes=outcomes, limits=limits, registry=registry)(body))


def donating(operation: Callable[[u64], Any]) -> Callable[[Given], None]:
    """A frame of the guest is mapped by nobody else: kept by `operation`, for tables of any length."""

    def body(given: Given) -> None:
        length, frame, other = given.u64("length"), given.u64("frame"), given.word("any frame", 64)
        entries = Cells("entry", u64, lambda at, raw: z3.Implies(z3.Extract(7, 0, raw) != 0, z3.Extract(23, 8, raw) == 0))
        given.replace(subject.ENTRIES, Atomics(entries, length))
        given.assume(z3.ULT(term(frame), term(length)), z3.ULT(other, term(length)))
        entries.recall(term(frame))
        entries.recall(other)
        given.assume(z3.ULE(z3.Extract(7, 0, entries.first(term(frame))), 1))
        with subject.LOCK:
            result = operation(frame)
        given.outcome("refused" if isinstance(result, subject.Err) else "done")
        now = entries(other)
        given.require(z3.Implies(z3.Extract(7, 0, now) != 0, z3.Extract(23, 8, now) == 0), "a guest's frame is mapped by nobody else")

    return body


def test_what_is_right_is_proved() -> None:
    result = verdict(donating(subject.donate), outcomes=("done", "refused"))
    assert result.verdict is Verdict.PROVED
    assert result.paths == 2
    assert result.queries > 0


def test_a_donation_that_forgets_mappings_is_refuted_and_fails_again_in_plain_cpython() -> None:
    result = verdict(donating(subject.donate_forgetting_mappings), outcomes=("done",))
    assert result.verdict is Verdict.REFUTED
    found = result.counterexample
    assert found is not None
    assert found.what == "required: a guest's frame is mapped by nobody else"
    assert found.inputs["frame"] == found.inputs["any frame"] < found.inputs["length"]
    assert found.replayed == found.what


def test_a_trap_is_a_counterexample_with_place_and_values() -> None:
    result = verdict(lambda given: given.require(subject.last_of(given.u64("length")) is not None, "answers"))
    assert result.verdict is Verdict.REFUTED
    found = result.counterexample
    assert found is not None
    assert found.what == "trap OVERFLOW(0x0, 0x1)"
    assert found.where.startswith("subject_bank.py:")
    assert found.inputs == {"length": 0}
    assert found.replayed == found.what


def test_off_by_one_at_the_end_of_an_array_is_found() -> None:
    result = verdict(lambda given: given.require(subject.put(given.u64("index"), given.u32("value")) in (True, False), "answers"))
    assert result.counterexample is not None
    assert result.counterexample.what == "trap INDEX(0x8, 0x8)"
    assert result.counterexample.inputs["index"] == 8
    assert result.counterexample.replayed == "trap INDEX(0x8, 0x8)"


def test_a_narrowing_that_does_not_fit_is_found() -> None:
    result = verdict(lambda given: given.require(subject.narrow(given.u64("x")) is not None, "answers"))
    assert result.detail.startswith("trap NARROW(")


def test_an_error_that_changed_something_is_found() -> None:
    def body(given: Given) -> None:
        shelf = subject.Shelf()
        shelf.used = given.u64("used")
        given.assume(z3.ULE(term(shelf.used), 100))
        given.replace(subject.SHELF, shelf)
        before = term(shelf.used)
        result = subject.reserve_leaking(given.u64("first"), given.u64("second"))
        if isinstance(result, subject.Err):
            given.require(term(shelf.used) == before, "Err changes nothing")

    result = verdict(body)
    assert result.detail == "required: Err changes nothing"
    assert result.counterexample is not None
    assert result.counterexample.replayed == "required: Err changes nothing"


def test_no_feasible_path_is_no_proof() -> None:
    def body(given: Given) -> None:
        x = given.u64("x")
        given.assume(z3.ULT(term(x), 3), z3.UGT(term(x), 5))
        given.require(False, "never asked")

    result = verdict(body)
    assert result.verdict is Verdict.VACUOUS
    assert result.paths == 0


def test_an_outcome_that_is_never_reached_is_no_proof() -> None:
    def body(given: Given) -> None:
        given.assume(z3.ULT(term(given.u64("x")), 3))
        given.outcome("small")

    result = verdict(body, outcomes=("small", "large"))
    assert (result.verdict, result.detail) == (Verdict.VACUOUS, "never reached: large")


def test_a_solver_that_gives_up_has_proved_nothing() -> None:
    def body(given: Given) -> None:
        x, y = given.u64("x"), given.u64("y")
        given.assume(z3.UGT(term(x), 1 << 20), z3.UGT(term(y), 1 << 20), z3.ULT(term(x), 1 << 32), z3.ULT(term(y), 1 << 32))
        given.require(not subject.hard(x, y), "no such factors")

    result = verdict(body, limits=Limits(quick=1000, query_ms=20))
    assert result.verdict is Verdict.UNKNOWN
    assert result.detail.startswith("the solver gave up")


@pytest.mark.parametrize(("limits", "words"), [(Limits(paths=3), "more than 3 paths"), (Limits(decisions=4), "more than 4 decisions")])
def test_a_limit_that_is_met_is_no_proof(limits: Limits, words: str) -> None:
    result = verdict(lambda given: given.require(subject.sum_below(given.u64("count")) is not None, "ends"), limits=limits)
    assert result.verdict is Verdict.UNKNOWN
    assert words in result.detail


def test_a_lock_that_stays_held_is_found() -> None:
    result = verdict(lambda given: subject.LOCK.__enter__())
    assert result.detail == "required: owners is released on every way out"


def test_loops_are_followed_round_by_round() -> None:
    def body(given: Given) -> None:
        count = given.u64("count")
        given.assume(z3.ULT(term(count), 5))
        given.require(term(subject.sum_below(count)) * 2 == term(count) * (term(count) - 1), "the sum")

    result = verdict(body)
    assert (result.verdict, result.paths) == (Verdict.PROVED, 5)


def clearing(invariant: Callable[[Any, Any, Any], Any]) -> Callable[[Given], None]:
    """clear_row by induction, over cells, with an invariant of the content of an arbitrary cell before a round."""

    def body(given: Given) -> None:
        cells, count, asked = Cells("element", u32), given.u64("count"), given.word("any index", 64)
        given.assume(z3.ULE(term(count), 8), z3.ULT(asked, term(count)))
        rows = Words(cells, u64(8))

        def state(here: Any) -> None:
            cells.writes.append(Write(lambda at: z3.ULT(at, here), lambda at: z3.BitVecVal(0, 32)))

        given.rule(subject.clear_row, Rule(lambda here: invariant(asked, here, cells(asked)), state))
        subject.clear_row(rows, count)  # type: ignore[arg-type]
        given.require(cells(asked) == 0, "the element is zero")

    return body


def test_a_loop_is_proved_by_induction() -> None:
    result = verdict(clearing(lambda asked, here, value: z3.Implies(z3.ULT(asked, here), value == 0)))
    assert (result.verdict, result.paths) == (Verdict.PROVED, 2)


def test_an_invariant_that_a_round_breaks_is_refuted() -> None:
    result = verdict(clearing(lambda asked, here, value: z3.Implies(z3.ULE(asked, here), value == 0)))
    assert result.verdict is Verdict.REFUTED
    assert "the loop invariant holds before" in result.detail


@pytest.mark.parametrize(("whole", "wanted"), [(True, Verdict.PROVED), (False, Verdict.REFUTED)])
def test_a_loop_that_counts_by_two_ends_at_a_whole_number_of_steps(whole: bool, wanted: Verdict) -> None:
    def body(given: Given) -> None:
        cells, count, asked = Cells("element", u32), given.u64("count"), given.word("any index", 64)
        given.assume(z3.ULE(term(count), 8), z3.ULT(asked, term(count)), asked & 1 == 0)
        if whole:
            given.assume(term(count) & 1 == 0)

        def write(words: Cells, here: Any) -> Write:
            return Write(lambda at: z3.And(z3.ULT(at, here), at & 1 == 0), lambda at: z3.BitVecVal(0, 32))

        given.rule(subject.clear_even, filling([cells], write))
        subject.clear_even(Words(cells, u64(8)), count)  # type: ignore[arg-type]
        given.require(cells(asked) == 0, "the element is zero")

    result = verdict(body)
    assert result.verdict is wanted
    assert whole or "a whole number of steps" in result.detail


def test_a_loop_that_carries_a_local_has_no_rule() -> None:
    def body(given: Given) -> None:
        given.rule(subject.sum_below, Rule(lambda here: z3.BoolVal(True)))
        subject.sum_below(given.u64("count"))

    result = verdict(body)
    assert result.verdict is Verdict.ERROR
    assert "the loop carries total" in result.detail


def test_constants_run_as_in_cpython() -> None:
    assert run_concrete(subject.sum_below, [u64(5)]) == u64(10)
    assert type(run_concrete(subject.sum_below, [u64(5)])) is u64
    with pytest.raises(Trap) as caught:
        run_concrete(subject.last_of, [u64(0)])
    assert (caught.value.kind, caught.value.a, caught.value.b) == (TrapKind.OVERFLOW, 0, 1)


def test_a_round_that_writes_beside_its_cell_is_found() -> None:
    def body(given: Given) -> None:
        cells, count = Cells("element", u32), given.u64("count")
        given.assume(z3.ULE(term(count), 7))
        given.rule(subject.clear_row, filling([cells], lambda words, here: Write(lambda at: z3.ULT(at, here - 1), lambda at: z3.BitVecVal(0, 32))))
        subject.clear_row(Words(cells, u64(8)), count)  # type: ignore[arg-type]

    result = verdict(body)
    assert result.verdict is Verdict.REFUTED
    assert "the loop invariant holds before" in result.detail
