# SPDX-License-Identifier: Apache-2.0
"""Mutants are made from the source, the right ones, under names that last; and the theorems notice a selection of them."""

from __future__ import annotations

import pytest
import subject_bank as subject

from delphyne.el2.memory import tables
from delphyne.prove.command import load, prove_all
from delphyne.prove.engine import Verdict, prove
from delphyne.prove.killing import all_mutants, judge, read_justifications, selection
from delphyne.prove.mutate import functions_of, mutants_of

QUICK = ("frames.take", "frames.pin", "frames.release", "pool.get", "pool.allocate", "layout.table_size", "stages.w_xor_x", "tables.alone",
         "records.promise", "records.release", "guards.stop", "guards.next_version", "host_map.passed_on",
         "private.give_up", "lent.drop_all", "manifest.ranges", "manifest.fields", "near.is_known",
         "host_tables.geometry", "host_tables.leaf_of")


def of(function: str) -> dict[str, str]:
    return {mutant.name.partition(":")[2]: mutant.change for mutant in mutants_of(subject) if mutant.function.endswith(f":{function}")}


def test_each_kind_of_mutant_is_made() -> None:
    assert of("put") == {
        "put:drop:1": "drop `if index > SLOTS:`",
        "put:edge:1": "index > SLOTS: GtE",
        "put:negate:1": "not (index > SLOTS)",
        "put:flip:1": "False flipped",
        "put:drop:2": "drop `SHELF.row[index] = value`",
        "put:flip:2": "True flipped",
    }
    assert {"donate:drop:2", "donate:constant:1", "donate:edge:1"} <= set(of("donate"))
    assert of("last_of") == {"last_of:operator:1": "length - 1: Add", "last_of:constant:1": "1 to 2"}


def test_what_the_compiler_would_refuse_is_not_made() -> None:
    assert "drop `total = u64(0)`" not in of("sum_below").values()
    assert "drop `return total`" not in of("sum_below").values()


def test_a_mutant_changes_what_the_function_does() -> None:
    mutant = next(mutant for mutant in mutants_of(subject) if mutant.name.endswith("last_of:operator:1"))
    function = functions_of(subject)["last_of"]
    original = function.__code__
    try:
        function.__code__ = mutant.code
        assert subject.last_of(subject.u64(3)) == 4
    finally:
        function.__code__ = original
    assert subject.last_of(subject.u64(3)) == 2


def test_the_theorems_kill_a_selection() -> None:
    known = load()
    chosen = {name: known[name] for name in QUICK}
    results = prove_all(chosen, lambda result: None)
    assert {result.theorem: result.detail for result in results if result.verdict.value != "proved"} == {}
    fates = judge(selection(all_mutants(results, chosen), 20), results, chosen, [], lambda fate: None)
    justified = read_justifications()
    assert len(fates) == 20
    assert [fate.mutant.name for fate in fates if fate.by is None and fate.mutant.name not in justified] == []


def test_every_justification_names_a_mutant_and_says_why() -> None:
    modules = {name.partition(":")[0] for name in read_justifications()}
    known = {mutant.name for module in modules for mutant in mutants_of(__import__(module, fromlist=["_"]))}
    for name, why in read_justifications().items():
        assert name in known
        assert len(why) > 20


@pytest.mark.parametrize(
    ("function", "change", "theorem", "what"),
    [
        ("unmap_leaf", "drop `_flush(space, address)`", "tables.unmap_leaf", "a table is freed only when no processor walks it"),
        ("_split_once", "drop `_flush(space, address)`", "tables.split", "nothing is put in a place before its old translation is forgotten"),
        ("_split_once", "drop `_clear(block.table, block.slot)`", "tables.split", "a live descriptor changes only its permissions"),
        pytest.param("map_found", "level - found.level: Add", "tables.map_leaf", "nothing stays reserved", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_table_operation_fails_in_plain_cpython_too(function: str, change: str, theorem: str, what: str) -> None:
    mutant = next(mutant for mutant in mutants_of(tables) if mutant.function.endswith(f":{function}") and mutant.change == change)
    subject_function = functions_of(tables)[function]
    original = subject_function.__code__
    try:
        subject_function.__code__ = mutant.code
        result = prove(load()[theorem])
    finally:
        subject_function.__code__ = original
    assert result.verdict is Verdict.REFUTED
    assert what in result.detail
    assert result.counterexample is not None
    assert result.counterexample.events
    assert result.counterexample.replayed == result.detail
