# SPDX-License-Identifier: Apache-2.0
"""The primitives that native code can run, against Python's own arithmetic."""

from __future__ import annotations

import pytest

from delphyne.compiler import tree
from delphyne.compiler.back import native
from delphyne.compiler.tree import TrapKind
from tests.compiler.back.trees import (
    BOOL,
    BYTES,
    LOC,
    U8,
    U32,
    U64,
    UNIT,
    builtin,
    compare,
    const,
    deref,
    discard,
    function,
    local,
    program,
    ref,
    ret,
    variable,
)

LEVELS = pytest.mark.parametrize("opt", [0, 2])
WIDTHS = pytest.mark.parametrize("bits", [8, 16, 32, 64])
WORDS = tree.SliceT(U64, True)
VIEW = tree.SliceT(U8, False)


def _trap(module: native.NativeModule, symbol: str, *args: object) -> tuple[TrapKind, int, int]:
    with pytest.raises(native.NativeTrap) as caught:
        module.call(symbol, *args)
    return caught.value.kind, caught.value.a, caught.value.b


@LEVELS
@WIDTHS
def test_bit_operations(opt: int, bits: int) -> None:
    ty, mask = tree.IntT(bits), (1 << bits) - 1
    one = [("x", ty)]
    two = [("x", ty), ("y", ty)]
    names = ["count_leading_zeros", "count_trailing_zeros", "byte_swap"]
    pairs = ["rotate_right", "rotate_left", "minimum", "maximum"]
    functions = [function(name, one, ty, [ret(builtin(name, [local("x", ty)], ty))]) for name in names]
    functions += [function(name, two, ty, [ret(builtin(name, [local("x", ty), local("y", ty)], ty))]) for name in pairs]
    functions.append(function("sign_extend", one, ty, [ret(builtin("sign_extend", [local("x", ty)], ty, from_bits=5))]))
    functions.append(function("fit", one, ty, [ret(builtin("fit", [local("x", ty)], ty, bits=5))]))
    module = native.load(program(*functions), opt)
    for x in (0, 1, 0x16, 0x80 & mask, mask, mask - 1, 0x1234_5678_9ABC_DEF0 & mask):
        assert module.call("count_leading_zeros", x) == bits - x.bit_length()
        assert module.call("count_trailing_zeros", x) == ((x & -x).bit_length() - 1 if x else bits)
        assert module.call("byte_swap", x) == int.from_bytes(x.to_bytes(bits // 8, "little"), "big")
        low = x & 31
        assert module.call("sign_extend", x) == (low | (mask & ~31) if low & 16 else low)
        for n in (0, 1, bits - 1, bits, bits + 3):
            turn = n % bits
            assert module.call("rotate_right", x, n) == (x >> turn | x << (bits - turn)) & mask
            assert module.call("rotate_left", x, n) == (x << turn | x >> (bits - turn)) & mask
            assert module.call("minimum", x, n) == min(x, n)
            assert module.call("maximum", x, n) == max(x, n)
        if x < 32:
            assert module.call("fit", x) == x
        else:
            assert _trap(module, "fit", x) == (TrapKind.NARROW, x, 31)


@LEVELS
@WIDTHS
def test_checked_operations_give_options(opt: int, bits: int) -> None:
    ty, mask = tree.IntT(bits), (1 << bits) - 1
    option = tree.OptionT(ty)
    names = ["checked_add", "checked_sub", "checked_mul"]
    functions = [function(name, [("x", ty), ("y", ty)], option, [ret(builtin(name, [local("x", ty), local("y", ty)], option))]) for name in names]
    module = native.load(program(*functions), opt)
    for x in (0, 1, 7, mask - 1, mask):
        for y in (0, 1, 2, mask):
            assert module.call("checked_add", x, y) == (x + y if x + y <= mask else None)
            assert module.call("checked_sub", x, y) == (x - y if x >= y else None)
            assert module.call("checked_mul", x, y) == (x * y if x * y <= mask else None)


@LEVELS
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("big", [0, 1])
def test_bytes_in_both_orders(opt: int, bits: int, big: int) -> None:
    ty, order = tree.IntT(bits), "big" if big else "little"
    get = function("get", [("s", VIEW), ("o", U64)], ty, [ret(builtin("load_bytes", [local("s", VIEW), local("o")], ty, bits=bits, big=big))])
    value = builtin("store_bytes", [local("s", BYTES), local("o"), local("x", ty)], bits=bits, big=big)
    put = function("put", [("s", BYTES), ("o", U64), ("x", ty)], UNIT, [discard(value)])
    module = native.load(program(get, put), opt)
    data = native.Buffer(tree.ArrayT(U8, 16), bytes(range(1, 17)))
    size = bits // 8
    assert module.call("get", data, 3) == int.from_bytes(bytes(range(4, 4 + size)), order)
    module.call("put", data, 16 - size, 0x11)
    assert bytes(data.get()[16 - size :]) == (0x11).to_bytes(size, order)  # type: ignore[index]
    assert _trap(module, "put", data, 17 - size, 0) == (TrapKind.INDEX, 17 - size, 16)


@LEVELS
def test_slices_are_copied_as_if_through_a_buffer(opt: int) -> None:
    copy = function("copy", [("a", WORDS), ("b", WORDS)], UNIT, [discard(builtin("copy_slice", [local("a", WORDS), local("b", WORDS)]))])
    module = native.load(program(copy), opt)
    for to, source in [((0, 5), (2, 7)), ((2, 7), (0, 5)), ((3, 3), (8, 8)), ((0, 8), (0, 8))]:
        buffer = native.Buffer(tree.ArrayT(U64, 8), list(range(8)))
        expected = list(range(8))
        expected[slice(*to)] = expected[slice(*source)]
        module.call("copy", (buffer, *to), (buffer, *source))
        assert buffer.get() == expected
    assert _trap(module, "copy", (buffer, 0, 3), (buffer, 0, 4)) == (TrapKind.INDEX, 4, 3)


@LEVELS
def test_filling_copying_and_wiping(opt: int) -> None:
    pair = tree.ValueT("Pair", (("a", U32), ("b", BOOL)))
    pairs = tree.SliceT(pair, True)
    array = tree.ArrayT(U64, 8)
    functions = [
        function("words", [("s", WORDS)], UNIT, [discard(builtin("fill_slice", [local("s", WORDS), const(5)]))]),
        function("bytes", [("s", BYTES)], UNIT, [discard(builtin("fill_slice", [local("s", BYTES), const(5, U8)]))]),
        function("pairs", [("s", pairs), ("v", pair)], UNIT, [discard(builtin("fill_slice", [local("s", pairs), local("v", pair)]))]),
        function("wipe", [("s", WORDS)], UNIT, [discard(builtin("wipe", [local("s", WORDS)]))]),
        function("wipe_place", [("r", tree.RefT(array))], UNIT, [discard(builtin("wipe", [ref(deref("r", array))]))]),
        function("copy", [("a", tree.RefT(array)), ("b", tree.RefT(array))], UNIT, [discard(builtin("copy_place", [local("a"), local("b")]))]),
    ]
    copy = functions[-1].body[0]
    assert isinstance(copy, tree.Discard)
    copy.expr = builtin("copy_place", [ref(deref("a", array)), ref(deref("b", array))])
    module = native.load(program(*functions), opt)
    words, other = native.Buffer(array, list(range(8))), native.Buffer(array, [9] * 8)
    module.call("words", (words, 2, 4))
    assert words.get() == [0, 1, 5, 5, 4, 5, 6, 7]
    module.call("words", (words, 4, 4))
    assert words.get() == [0, 1, 5, 5, 4, 5, 6, 7]
    module.call("copy", other, words)
    assert other.get() == words.get()
    module.call("copy", words, words)
    assert other.get() == words.get()
    module.call("wipe", (words, 1, 3))
    assert words.get() == [0, 0, 0, 5, 4, 5, 6, 7]
    module.call("wipe_place", words)
    assert words.get() == [0] * 8
    data = native.Buffer(tree.ArrayT(U8, 5), b"abcde")
    module.call("bytes", (data, 1, 3))
    assert data.get() == [97, 5, 5, 100, 101]
    records = native.Buffer(tree.ArrayT(pair, 3))
    module.call("pairs", (records, 1, 3), (7, True))
    assert records.get() == [(0, False), (7, True), (7, True)]


@LEVELS
@pytest.mark.parametrize("bits", [32, 64])
def test_atomics_return_the_old_value(opt: int, bits: int) -> None:
    ty, atomic, mask = tree.IntT(bits), tree.AtomicT(bits), (1 << bits) - 1
    place = ref(deref("a", atomic))
    results = {
        "atomic_swap": lambda old, x: x,
        "atomic_add": lambda old, x: (old + x) & mask,
        "atomic_sub": lambda old, x: (old - x) & mask,
        "atomic_or": lambda old, x: old | x,
        "atomic_and": lambda old, x: old & x,
        "atomic_xor": lambda old, x: old ^ x,
    }
    params: list[tuple[str, tree.Type]] = [("a", tree.RefT(atomic)), ("x", ty)]
    functions = [
        function(f"{name}.{order}", params, ty, [ret(builtin(name, [place, local("x", ty)], ty, order=order))])
        for name in results
        for order in ("relaxed", "acquire", "release", "acq_rel")
    ]
    functions.append(
        function(
            "exchange",
            [*params, ("y", ty)],
            ty,
            [ret(builtin("atomic_compare_exchange", [place, local("x", ty), local("y", ty)], ty, order="acq_rel"))],
        )
    )
    functions.append(function("store", params, UNIT, [discard(builtin("atomic_store", [place, local("x", ty)], order="release"))]))
    module = native.load(program(*functions), opt)
    cell = native.Buffer(atomic)
    for name, result in results.items():
        for order in ("relaxed", "acquire", "release", "acq_rel"):
            cell.set(0b1100)
            assert module.call(f"{name}.{order}", cell, 0b1010_1010) == 0b1100
            assert cell.get() == result(0b1100, 0b1010_1010)
    module.call("store", cell, 3)
    assert module.call("exchange", cell, 4, 9) == 3
    assert cell.get() == 3
    assert module.call("exchange", cell, 3, 9) == 3
    assert cell.get() == 9


@LEVELS
def test_boot_arrays_are_attached_once(opt: int) -> None:
    boot = tree.BootArrayT(U64)
    place = tree.StaticPlace("B", boot, LOC)
    attach = function("attach", [("at", U64), ("n", U64)], UNIT, [discard(builtin("boot_attach", [ref(place), local("at"), local("n")]))])
    get = function("get", [("i", U64)], U64, [ret(tree.Load(tree.BootIndexPlace(place, local("i"), U64, LOC), U64, LOC))])
    length = function("length", [], U64, [ret(tree.Length(ref(place), U64, LOC))])
    module = native.load(program(attach, get, length, variable("B", boot)), opt)
    memory = native.Buffer(tree.ArrayT(U64, 4), [5, 6, 7, 8])
    assert module.call("length") == 0
    assert _trap(module, "get", 0) == (TrapKind.INDEX, 0, 0)
    module.call("attach", memory.address, 4)
    assert module.call("get", 3) == 8
    assert module.call("length") == 4
    assert _trap(module, "get", 4) == (TrapKind.INDEX, 4, 4)
    assert _trap(module, "attach", memory.address, 4)[0] is TrapKind.ASSERT


@LEVELS
def test_formats_literals_and_raw_places(opt: int) -> None:
    option = tree.OptionT(VIEW)
    functions = [
        function("text", [("n", U64)], option, [ret(builtin("log_format", [local("n")], option))]),
        function("literal", [], VIEW, [ret(tree.ConstBytes(b'a"\\\0\xff', VIEW, LOC))]),
        function("raw", [("at", U64), ("n", U64)], BYTES, [ret(builtin("slice_at", [local("at"), local("n")], BYTES))]),
        function("where", [("r", tree.RefT(tree.ArrayT(U8, 4)))], U64, [ret(builtin("address_of", [ref(deref("r", tree.ArrayT(U8, 4)))], U64))]),
        function("clamp", [("i", U64), ("n", U64)], U64, [ret(builtin("nospec", [local("i"), local("n")], U64))]),
    ]
    module = native.load(program(*functions, formats=("ram {:x}", "", "häßlich {}")), opt)
    assert module.slice_bytes(module.call("text", 0)) == b"ram {:x}"
    assert module.slice_bytes(module.call("text", 1)) == b""
    assert module.slice_bytes(module.call("text", 2)) == "häßlich {}".encode()
    assert module.call("text", 3) is None
    assert module.slice_bytes(module.call("literal")) == b'a"\\\0\xff'
    data = native.Buffer(tree.ArrayT(U8, 4), b"wxyz")
    assert module.call("where", data) == data.address
    assert module.slice_bytes(module.call("raw", data.address, 4)) == b"wxyz"
    assert module.call("clamp", 3, 4) == 3
    assert module.call("clamp", 4, 4) == 0


@LEVELS
def test_conversions(opt: int) -> None:
    state = tree.EnumT("State", 16, (("A", 0), ("B", 1), ("C", 5), ("D", 6), ("E", 0xFFFF)))

    def convert(kind: tree.ConvertKind, source: tree.Type, ty: tree.Type) -> tree.Function:
        return function(kind.value, [("x", source)], ty, [ret(tree.Convert(kind, local("x", source), ty, LOC))])

    kinds = tree.ConvertKind
    u16 = tree.IntT(16)
    module = native.load(
        program(
            convert(kinds.WIDEN, U8, U64),
            convert(kinds.NARROW, U64, U8),
            convert(kinds.TRUNCATE, U64, U8),
            convert(kinds.FROM_BOOL, BOOL, U32),
            convert(kinds.TO_ENUM, u16, state),
            convert(kinds.RELABEL, state, u16),
        ),
        opt,
    )
    assert module.call("widen", 255) == 255
    assert module.call("narrow", 255) == 255
    assert _trap(module, "narrow", 256) == (TrapKind.NARROW, 256, 255)
    assert module.call("truncate", 0x1234) == 0x34
    assert module.call("from_bool", True) == 1
    for raw in (0, 1, 5, 6, 0xFFFF):
        assert module.call("to_enum", raw) == raw
    for raw in (2, 4, 7, 0xFFFE):
        assert _trap(module, "to_enum", raw) == (TrapKind.ENUM, raw, 0)
    assert module.call("relabel", 5) == 5


@LEVELS
def test_switches_conditionals_and_short_circuits(opt: int) -> None:
    state = tree.EnumT("State", 8, (("A", 0), ("B", 1), ("C", 2), ("D", 3)))
    switch = tree.Switch(local("s", state), [([0], [ret(const(10))]), ([1, 2], [ret(const(20))])], [ret(const(30))], LOC)
    divides = compare(tree.CmpOp.EQ, tree.Binary(tree.BinOp.MOD, const(10), local("x"), U64, LOC), const(0))
    guarded = tree.ShortCircuit(True, compare(tree.CmpOp.NE, local("x"), const(0)), divides, BOOL, LOC)
    either = tree.ShortCircuit(False, compare(tree.CmpOp.EQ, local("x"), const(0)), divides, BOOL, LOC)
    choice = tree.Conditional(
        compare(tree.CmpOp.EQ, local("x"), const(0)), const(1), tree.Binary(tree.BinOp.DIV, const(8), local("x"), U64, LOC), U64, LOC
    )
    module = native.load(
        program(
            function("switch", [("s", state)], U64, [switch]),
            function("guarded", [("x", U64)], BOOL, [ret(guarded)]),
            function("either", [("x", U64)], BOOL, [ret(either)]),
            function("choice", [("x", U64)], U64, [ret(choice)]),
        ),
        opt,
    )
    assert [module.call("switch", raw) for raw in range(4)] == [10, 20, 20, 30]
    assert [module.call("guarded", x) for x in (0, 5, 3)] == [False, True, False]
    assert [module.call("either", x) for x in (0, 5, 3)] == [True, True, False]
    assert [module.call("choice", x) for x in (0, 2)] == [1, 4]


@LEVELS
def test_asserts_and_unreachable_trap(opt: int) -> None:
    functions = [function(kind.name, [], UNIT, [tree.Trap(kind, LOC)]) for kind in (TrapKind.ASSERT, TrapKind.UNREACHABLE)]
    module = native.load(program(*functions), opt)
    assert _trap(module, "ASSERT") == (TrapKind.ASSERT, 0, 0)
    assert _trap(module, "UNREACHABLE") == (TrapKind.UNREACHABLE, 0, 0)


@LEVELS
def test_statics_of_every_kind_start_as_written(opt: int) -> None:
    struct = tree.StructT(
        "S", (("a", U8), ("b", U64), ("c", tree.ArrayT(tree.ValueT("V", (("x", U8), ("y", U32))), 2)), ("d", tree.LockT())), align=64
    )
    first = [1, 2, [(3, 4), (5, 6)], (0, 0)]
    module = native.load(
        program(
            variable("S", struct, first),
            variable("T", tree.ArrayT(struct, 2), [first, None]),
            variable("B", tree.ArrayT(U8, 4), b'\0"\\z'),
            variable("Z", tree.ArrayT(U64, 1000)),
            variable("F", BOOL, True),
        ),
        opt,
    )
    assert module.read("S") == first
    assert module.read("T") == [first, [0, 0, [(0, 0), (0, 0)], (0, 0)]]
    assert module.read("B") == [0, 34, 92, 122]
    assert module.read("Z") == [0] * 1000
    assert module.read("F") is True
    assert module.address("S") % 64 == 0
    module.write("Z", list(range(1000)))
    module.reset()
    assert module.read("Z") == [0] * 1000
