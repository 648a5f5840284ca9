# SPDX-License-Identifier: Apache-2.0
"""Index checks that leave their loops still trap at the element where the loop goes too far, and only then."""

from __future__ import annotations

import re

import pytest

from delphyne.compiler import tree
from delphyne.compiler.back import native
from delphyne.compiler.back.bounds import assigned_in
from delphyne.compiler.back.ir import AARCH64, emit_ir
from delphyne.compiler.back.lower import lower
from delphyne.compiler.tree import BinOp, TrapKind
from tests.compiler.back.trees import LOC, U8, U64, add, assign, binary, const, function, load, local, program, ret, slice_element, store

LEVELS = pytest.mark.parametrize("opt", [0, 2])
WORDS = tree.SliceT(U64, True)
EIGHT = tree.ArrayT(U64, 8)


def _count(index: tree.Expr, *before: tree.Stmt, after: tuple[tree.Stmt, ...] = (), **locals_: tree.Type) -> tree.Function:
    """Adds one to `s[index]` for every i below `stop`."""
    body: list[tree.Stmt] = [*before, tree.Update(slice_element("s", WORDS, index), BinOp.ADD, const(1), LOC), *after]
    loop = tree.ForRange("i", const(0), local("stop"), 1, body, LOC)
    return function("run", [("s", WORDS), ("stop", U64), ("k", U64)], U64, [loop, ret(const(0))], i=U64, **locals_)


def _run(made: tree.Function, opt: int, length: int, stop: int, k: int) -> tuple[object, tuple[int, int] | None]:
    module = native.load(program(made), opt)
    items = native.Buffer(EIGHT)
    try:
        module.call("run", (items, 0, length), stop, k)
    except native.NativeTrap as trap:
        return items.get(), (trap.a, trap.b) if trap.kind is TrapKind.INDEX else None
    return items.get(), None


@LEVELS
@pytest.mark.parametrize(("length", "stop"), [(8, 8), (8, 3), (3, 3), (0, 0), (3, 8), (0, 1), (7, 8)])
def test_the_counter_itself(opt: int, length: int, stop: int) -> None:
    items, trap = _run(_count(local("i")), opt, length, stop, 0)
    done = min(length, stop)
    assert items == [1] * done + [0] * (8 - done)
    assert trap == ((length, length) if stop > length else None)


@LEVELS
@pytest.mark.parametrize(("length", "stop", "k"), [(8, 4, 4), (8, 5, 4), (3, 2, 4), (8, 0, 99), (8, 1, 99), (8, 8, 0), (2, 1, 2), (2, 1, 1)])
def test_the_counter_moved(opt: int, length: int, stop: int, k: int) -> None:
    for index in (add(local("i"), local("k")), add(local("k"), local("i"))):
        items, trap = _run(_count(index), opt, length, stop, k)
        done = max(0, min(length - k, stop))
        assert items == [1 if k <= at < k + done else 0 for at in range(8)]
        assert trap == ((k + done, length) if done < stop else None)


@LEVELS
def test_a_counter_that_the_body_assigns_is_no_bound(opt: int) -> None:
    made = _count(local("i"), assign("i", add(local("i"), local("k"))))
    assert _run(made, opt, 8, 2, 7)[1] == (8, 8)


@LEVELS
def test_a_distance_that_the_body_assigns_is_no_bound(opt: int) -> None:
    made = _count(add(local("i"), local("d")), assign("d", add(local("k"), local("i"))), d=U64)
    assert _run(made, opt, 8, 5, 1)[1] == (9, 8)


@LEVELS
def test_an_inner_loop_may_use_the_same_name(opt: int) -> None:
    inner = tree.ForRange("i", const(0), const(6), 1, [tree.Update(slice_element("s", WORDS, local("i")), BinOp.ADD, const(1), LOC)], LOC)
    items, trap = _run(_count(local("i"), inner), opt, 6, 2, 0)
    assert trap is None
    assert items == [2, 2, 2, 2, 2, 4, 0, 0]


def test_what_statements_assign() -> None:
    bind = tree.Bind("b", const(1), U64, LOC)
    body: list[tree.Stmt] = [
        tree.If(tree.Const(1, tree.BoolT(), LOC), [assign("a", add(bind, const(2)))], [tree.ForRange("c", const(0), const(1), 1, [], LOC)], LOC),
        tree.Switch(local("x", tree.EnumT("E", 8, ())), [([1], [assign("d", const(1))])], [assign("e", const(1))], LOC),
        tree.Scoped([assign("f", const(1))], [], [assign("g", const(1))], LOC),
        store(local("x"), slice_element("s", WORDS, binary(BinOp.AND, local("y"), const(1)))),
    ]
    assert assigned_in(body) == set("abcdefg")


def test_no_comparison_of_the_index_stays_in_the_loop() -> None:
    made = _count(add(local("i"), local("k")))
    made.exported = True
    text = lower(emit_ir(program(made), AARCH64, debug=False), AARCH64, emit="asm").data.decode().split("\nmemcpy:")[0]
    loops = [match[2] for match in re.finditer(r"(\.LBB0_\d+):((?:\n\t.*)+?)\n\tb\.\w+\t\1\n", text)]
    assert any("\tldr\t" in body and body.count("\tcmp\t") == 1 for body in loops), text


@LEVELS
def test_numbers_that_are_no_length_trap(opt: int) -> None:
    bytes_ = tree.SliceT(U8, True)
    raw = tree.Builtin("slice_at", [local("a"), local("n")], bytes_, LOC)
    module = native.load(program(function("f", [("a", U64), ("n", U64)], U64, [ret(tree.Length(raw, U64, LOC))])), opt)
    assert module.call("f", 0, (1 << 56) - 1) == (1 << 56) - 1
    for length in (1 << 56, (1 << 64) - 1):
        with pytest.raises(native.NativeTrap) as caught:
            module.call("f", 0, length)
        assert (caught.value.kind, caught.value.a, caught.value.b) == (TrapKind.INDEX, length, 1 << 56)


@LEVELS
def test_an_index_near_the_top_of_its_width_does_not_wrap(opt: int) -> None:
    made = function("f", [("s", WORDS), ("i", U64)], U64, [ret(load(slice_element("s", WORDS, binary(BinOp.WRAP_ADD, local("i"), const(1)))))])
    module = native.load(program(made), opt)
    items = native.Buffer(EIGHT, list(range(8)))
    assert module.call("f", items, (1 << 64) - 1) == 0
    with pytest.raises(native.NativeTrap):
        module.call("f", items, (1 << 64) - 2)
