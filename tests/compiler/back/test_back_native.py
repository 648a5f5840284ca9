# SPDX-License-Identifier: Apache-2.0
"""What compiled programs compute on the machine the compiler runs on, at both optimisation levels."""

from __future__ import annotations

import pytest

from delphyne.compiler import tree
from delphyne.compiler.back import native
from delphyne.compiler.tree import BinOp, CmpOp, TrapKind
from tests.compiler.back.trees import (
    BOOL,
    BYTES,
    LOC,
    U8,
    U32,
    U64,
    UNIT,
    add,
    assign,
    binary,
    builtin,
    call,
    compare,
    const,
    deref,
    element,
    field,
    function,
    load,
    local,
    program,
    ref,
    ret,
    slice_element,
    static,
    store,
    variable,
)

EIGHT = tree.ArrayT(U64, 8)
LEVELS = pytest.mark.parametrize("opt", [0, 2])


def _trap(module: native.NativeModule, symbol: str, *args: object) -> tuple[TrapKind, int, int]:
    with pytest.raises(native.NativeTrap) as caught:
        module.call(symbol, *args)
    return caught.value.kind, caught.value.a, caught.value.b


@LEVELS
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_checked_arithmetic_at_the_edges(opt: int, bits: int) -> None:
    ty, top = tree.IntT(bits), (1 << bits) - 1
    functions = [
        function(op.value, [("x", ty), ("y", ty)], ty, [ret(binary(op, local("x", ty), local("y", ty)))])
        for op in (BinOp.ADD, BinOp.SUB, BinOp.MUL, BinOp.DIV, BinOp.MOD, BinOp.SHL, BinOp.SHR, BinOp.WRAP_ADD, BinOp.WRAP_SUB, BinOp.WRAP_MUL)
    ]
    module = native.load(program(*functions), opt)
    assert module.call("add", top - 1, 1) == top
    assert _trap(module, "add", top, 1) == (TrapKind.OVERFLOW, top, 1)
    assert module.call("sub", 5, 5) == 0
    assert _trap(module, "sub", 4, 5) == (TrapKind.OVERFLOW, 4, 5)
    assert module.call("mul", top, 1) == top
    assert _trap(module, "mul", top, 2) == (TrapKind.OVERFLOW, top, 2)
    assert module.call("div", top, 3) == top // 3
    assert _trap(module, "div", 7, 0) == (TrapKind.DIVIDE, 7, 0)
    assert module.call("mod", 17, 5) == 2
    assert _trap(module, "mod", 7, 0) == (TrapKind.DIVIDE, 7, 0)
    assert module.call("shl", top, bits - 1) == 1 << (bits - 1)
    assert _trap(module, "shl", 1, bits) == (TrapKind.SHIFT, 1, bits)
    assert module.call("shr", top, bits - 1) == 1
    assert _trap(module, "shr", top, top) == (TrapKind.SHIFT, top, top)
    assert module.call("wrap_add", top, 2) == 1
    assert module.call("wrap_sub", 0, 1) == top
    assert module.call("wrap_mul", top, top) == 1


@LEVELS
def test_loops_arrays_and_index_traps(opt: int) -> None:
    total = function(
        "total",
        [("count", U64), ("items", tree.RefT(EIGHT))],
        U64,
        [
            assign("sum", const(0)),
            tree.ForRange(
                "i", const(0), local("count"), 1, [assign("sum", add(local("sum"), load(element(deref("items", EIGHT), local("i")))))], LOC
            ),
            ret(local("sum")),
        ],
        sum=U64,
        i=U64,
    )
    module = native.load(program(total), opt)
    items = native.Buffer(EIGHT, list(range(8)))
    assert module.call("total", 8, items) == 28
    assert module.call("total", 0, items) == 0
    assert _trap(module, "total", 9, items) == (TrapKind.INDEX, 8, 8)


@LEVELS
@pytest.mark.parametrize("step", [1, 3, 8])
def test_ranges_end_at_the_last_value_of_their_width(opt: int, step: int) -> None:
    count = function(
        "count",
        [("start", U8), ("stop", U8)],
        U32,
        [
            assign("n", const(0, U32)),
            tree.ForRange("i", local("start", U8), local("stop", U8), step, [assign("n", add(local("n", U32), const(1, U32)))], LOC),
            ret(local("n", U32)),
        ],
        n=U32,
        i=U8,
    )
    module = native.load(program(count), opt)
    for start, stop in [(0, 255), (250, 255), (255, 255), (9, 3), (0, 0), (254, 255), (0, 1)]:
        assert module.call("count", start, stop) == len(range(start, stop, step))


@LEVELS
def test_structs_statics_and_references_to_the_same_place(opt: int) -> None:
    struct = tree.StructT("Pair", (("small", U8), ("flag", BOOL), ("big", U64), ("row", tree.ArrayT(U32, 3))))
    both = function(
        "both",
        [("a", tree.RefT(struct)), ("b", tree.RefT(struct))],
        U64,
        [
            store(const(5), field(deref("a", struct), 2)),
            store(const(6), field(deref("b", struct), 2)),
            store(const(1, BOOL), field(deref("b", struct), 1)),
            store(const(9, U32), element(field(deref("b", struct), 3), const(2))),
            ret(load(field(deref("a", struct), 2))),
        ],
    )
    mine = function("mine", [], U64, [ret(call("both", [ref(static("S", struct)), ref(static("S", struct))]))])
    module = native.load(program(both, mine, variable("S", struct, [7, False, 1, [1, 2, 3]])), opt)
    one, two = native.Buffer(struct), native.Buffer(struct)
    assert module.call("both", one, two) == 5
    assert two.get() == [0, True, 6, [0, 0, 9]]
    assert module.call("mine") == 6
    assert module.read("S") == [7, True, 6, [1, 2, 9]]
    module.reset()
    assert module.read("S") == [7, False, 1, [1, 2, 3]]


@LEVELS
def test_value_is_evaluated_before_its_place(opt: int) -> None:
    bump = function("bump", [], U64, [tree.Update(static("N", U64), BinOp.ADD, const(1), LOC), ret(load(static("N", U64)))])
    run = function("run", [], UNIT, [store(call("bump", []), element(static("A", EIGHT), call("bump", [])))])
    module = native.load(program(bump, run, variable("N", U64), variable("A", EIGHT)), opt)
    module.call("run")
    assert module.read("A") == [0, 0, 1, 0, 0, 0, 0, 0]


@LEVELS
def test_with_leaves_on_every_way_out(opt: int) -> None:
    note = lambda n: tree.Update(static("N", U64), BinOp.ADD, const(n), LOC)  # noqa: E731
    body: list[tree.Stmt] = [
        tree.ForRange(
            "i",
            const(0),
            const(9),
            1,
            [
                tree.Scoped(
                    [note(1)],
                    [
                        tree.If(compare(CmpOp.EQ, local("i"), const(1)), [tree.Continue(LOC)], [], LOC),
                        tree.If(compare(CmpOp.EQ, local("i"), local("stop")), [tree.Break(LOC)], [], LOC),
                        tree.If(compare(CmpOp.EQ, local("i"), local("out")), [ret(load(static("N", U64)))], [], LOC),
                    ],
                    [note(100)],
                    LOC,
                )
            ],
            LOC,
        ),
        ret(const(0)),
    ]
    run = function("run", [("stop", U64), ("out", U64)], U64, body, i=U64)
    module = native.load(program(run, variable("N", U64)), opt)
    assert module.call("run", 3, 99) == 0
    assert module.read("N") == 404
    module.reset()
    assert module.call("run", 99, 2) == 203, "a result is evaluated before the scope is left"
    assert module.read("N") == 303


@LEVELS
def test_options_results_records_and_slices_cross_calls(opt: int) -> None:
    walk = tree.ValueT("Walk", (("leaf", U64), ("valid", BOOL), ("level", U8)))
    error = tree.EnumT("Err", 8, (("DENIED", 1), ("FULL", 200)))
    result = tree.ResultT(walk, error)
    make = function(
        "make",
        [("x", U64)],
        result,
        [
            tree.If(
                compare(CmpOp.GT, local("x"), const(9)),
                [ret(tree.MakeResult(None, tree.Const(200, error, LOC), result, LOC))],
                [],
                LOC,
            ),
            ret(tree.MakeResult(tree.MakeRecord([local("x"), compare(CmpOp.LT, local("x"), const(5)), const(3, U8)], walk, LOC), None, result, LOC)),
        ],
    )
    option = tree.OptionT(walk)
    outer = function(
        "outer",
        [("x", U64)],
        option,
        [
            assign("r", call("make", [local("x")], result)),
            tree.If(tree.IsError(local("r", result), BOOL, LOC), [ret(tree.MakeOption(None, option, LOC))], [], LOC),
            ret(tree.MakeOption(tree.ResultItem(local("r", result), walk, LOC), option, LOC)),
        ],
        r=result,
    )
    same = function("same", [("a", walk), ("b", walk)], BOOL, [ret(compare(CmpOp.EQ, local("a", walk), local("b", walk)))])
    tail = function("tail", [("s", BYTES), ("n", U64)], BYTES, [ret(tree.MakeSlice(local("s", BYTES), local("n"), None, BYTES, LOC))])
    first = function(
        "first",
        [("s", BYTES), ("n", U64)],
        U8,
        [assign("t", call("tail", [local("s", BYTES), local("n")], BYTES)), ret(load(slice_element("t", BYTES, const(0))))],
        t=BYTES,
    )
    module = native.load(program(make, outer, same, tail, first), opt)
    assert module.call("make", 4) == ("ok", (4, True, 3))
    assert module.call("make", 10) == ("err", 200)
    assert module.call("outer", 7) == (7, False, 3)
    assert module.call("outer", 70) is None
    assert module.call("same", (1, True, 2), (1, True, 2)) is True
    assert module.call("same", (1, True, 2), (1, False, 2)) is False
    data = native.Buffer(tree.ArrayT(U8, 16), bytes(range(16)))
    assert module.call("first", data, 5) == 5
    assert module.call("first", (data, 4, 8), 3) == 7
    assert _trap(module, "first", (data, 4, 8), 4) == (TrapKind.INDEX, 0, 0)
    assert _trap(module, "first", (data, 4, 8), 5) == (TrapKind.INDEX, 5, 4)


@LEVELS
def test_byte_access_is_bounded_without_wrapping(opt: int) -> None:
    get = function("get", [("s", BYTES), ("o", U64)], U32, [ret(builtin("load_bytes", [local("s", BYTES), local("o")], U32, bits=32, big=1))])
    module = native.load(program(get), opt)
    data = native.Buffer(tree.ArrayT(U8, 8), bytes(range(8)))
    assert module.call("get", data, 4) == 0x04050607
    for offset in (5, 8, 2**64 - 1, 2**64 - 4):
        assert _trap(module, "get", data, offset) == (TrapKind.INDEX, offset, 8)
    assert _trap(module, "get", (data, 0, 3), 0) == (TrapKind.INDEX, 0, 3)
