# SPDX-License-Identifier: Apache-2.0
"""What hardware primitives become on AArch64, read from the assembly text LLVM writes, and how LLVM's own failures are reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from delphyne.compiler import tree
from delphyne.compiler.back import native
from delphyne.compiler.back.errors import BackError
from delphyne.compiler.back.ir import AARCH64, NATIVE, emit_ir
from delphyne.compiler.back.lower import lower
from delphyne.compiler.tree import TrapKind
from tests.compiler.back.trees import (
    BYTES,
    LOC,
    U32,
    U64,
    UNIT,
    builtin,
    call,
    const,
    deref,
    discard,
    function,
    load,
    local,
    program,
    ref,
    ret,
    static,
    variable,
)

LEVELS = pytest.mark.parametrize("opt", [0, 2])
HCR = {"name": "HCR_EL2", "op0": 3, "op1": 4, "crn": 1, "crm": 1, "op2": 0}


def _assembly(*items: tree.Function | tree.Static, opt: int = 2, exports: tuple[tree.StructT, ...] = ()) -> str:
    """The text of the functions given, without those that every module has."""
    text = lower(emit_ir(program(*items, exports=exports), AARCH64, debug=False), AARCH64, emit="asm", opt=opt).data.decode()
    return text.split("\t.globl\tmemcpy")[0]


@LEVELS
def test_system_registers(opt: int) -> None:
    body = [discard(builtin("sysreg_write", [local("x")], **HCR)), ret(builtin("sysreg_read", [], U64, **HCR))]
    text = _assembly(function("f", [("x", U64)], U64, body, exported=True), opt=opt)
    assert re.search(r"msr\s+HCR_EL2, x", text)
    assert re.search(r"mrs\s+x\d+, HCR_EL2", text)


@LEVELS
def test_two_reads_of_a_system_register_stay_two(opt: int) -> None:
    read = builtin("sysreg_read", [], U64, **HCR)
    text = _assembly(function("f", [], U64, [discard(read), ret(read)], exported=True), opt=opt)
    assert len(re.findall(r"mrs\s+x\w+, HCR_EL2", text)) == 2


@LEVELS
@pytest.mark.parametrize(
    ("kind", "domain", "text"),
    [("dsb", "ish", r"dsb\s+ish$"), ("dmb", "ishld", r"dmb\s+ishld$"), ("isb", "sy", r"isb$"), ("dsb", "sy", r"dsb\s+sy$")],
)
def test_barriers(opt: int, kind: str, domain: str, text: str) -> None:
    made = function("f", [], UNIT, [discard(builtin("barrier", [], kind=kind, domain=domain))], exported=True)
    assert re.search(text, _assembly(made, opt=opt), re.MULTILINE)


@LEVELS
def test_per_cpu_data_is_where_tpidr_el2_points(opt: int) -> None:
    cpu = tree.StructT("Cpu", (("a", U64), ("b", U64)))
    place = tree.FieldPlace(tree.MinePlace("CPUS", cpu, LOC), 1, U64, LOC)
    made = function("f", [], U64, [ret(load(place))], exported=True)
    text = _assembly(made, variable("CPUS", tree.ArrayT(cpu, 4)), opt=opt)
    assert re.search(r"mrs\s+x\d+, TPIDR_EL2", text)
    assert "CPUS" not in text.split(".Lfunc_end0")[0]


@LEVELS
def test_other_per_cpu_data_is_found_by_the_index_of_the_cpu(opt: int) -> None:
    cpu = tree.StructT("Cpu", (("a", U64), ("index", U64)), exported=tree.PER_CPU_ANCHOR)
    seat = tree.StructT("Seat", (("x", U64), ("y", U64), ("z", U64)))
    place = tree.FieldPlace(tree.MinePlace("SEATS", seat, LOC), 2, U64, LOC)
    made = function("f", [], U64, [ret(load(place))], exported=True)
    text = _assembly(made, variable("SEATS", tree.ArrayT(seat, 4)), opt=opt, exports=(cpu,)).split(".Lfunc_end0")[0]
    assert "SEATS" in text
    assert re.search(r"ldr\s+x\d+, \[x\d+, #8\]", text), "the index of the CPU that TPIDR_EL2 points to"


@LEVELS
def test_wiping_a_dead_local_stays(opt: int) -> None:
    key = tree.ArrayT(U64, 8)
    body: list[tree.Stmt] = [
        tree.ZeroLocal("k", LOC),
        tree.Store(local("x"), tree.IndexPlace(tree.LocalPlace("k", key, LOC), const(3), U64, LOC), LOC),
        discard(builtin("wipe", [ref(tree.LocalPlace("k", key, LOC))])),
    ]
    text = _assembly(function("f", [("x", U64)], UNIT, body, exported=True, k=key), opt=opt)
    assert len(re.findall(r"stp\s+xzr, xzr|st[up]*r\s+(?:xzr|x8)|bl\s+memset", text)) >= 4


@LEVELS
@pytest.mark.parametrize(("order", "load_text"), [("relaxed", r"\bldr\s+w"), ("acquire", r"\bldar\s+w")])
def test_atomics_are_single_instructions_or_exclusive_loops(opt: int, order: str, load_text: str) -> None:
    place = deref("a", tree.AtomicT(32))
    read = function("f", [("a", tree.RefT(tree.AtomicT(32)))], U32, [ret(builtin("atomic_load", [ref(place)], U32, order=order))], exported=True)
    assert re.search(load_text, _assembly(read, opt=opt))
    update = builtin("atomic_add", [ref(place), const(1, U32)], U32, order="acq_rel")
    text = _assembly(function("f", [("a", tree.RefT(tree.AtomicT(32)))], U32, [ret(update)], exported=True), opt=opt)
    assert re.search(r"ldaxr\s+w", text)
    assert re.search(r"stlxr\s+w", text)
    assert "__aarch64" not in text


def test_a_trap_leaves_one_compare_and_branch_on_the_hot_path() -> None:
    array = tree.ArrayT(U64, 8)
    place = tree.IndexPlace(deref("a", array), local("i"), U64, LOC)
    text = _assembly(function("f", [("a", tree.RefT(array)), ("i", U64)], U64, [ret(load(place))], exported=True))
    hot = [line.split()[0] for line in text.split("\nf:")[1].split("\tret")[0].splitlines()[1:] if line.startswith("\t")]
    assert hot == ["cmp", "b.hi", "ldr"]


@LEVELS
def test_assembly_functions_get_extended_operands(opt: int) -> None:
    small = function("poke", [("x", tree.IntT(8))], UNIT, [], external=True)
    made = function(
        "f",
        [("x", U64)],
        UNIT,
        [discard(call("poke", [tree.Convert(tree.ConvertKind.TRUNCATE, local("x"), tree.IntT(8), LOC)], UNIT))],
        exported=True,
    )
    assert re.search(r"and\s+w\d, w\d+, #0xff|uxtb\s+w\d|ldrb\s+w0", _assembly(small, made, opt=opt))


@LEVELS
def test_no_register_of_the_simd_file_moves_data(opt: int) -> None:
    block = tree.ArrayT(U64, 32)
    copy = builtin("copy_place", [ref(deref("a", block)), ref(deref("b", block))])
    text = _assembly(function("f", [("a", tree.RefT(block)), ("b", tree.RefT(block))], UNIT, [discard(copy)], exported=True), opt=opt)
    assert not re.search(r"\b[qvd]\d+\b", text)


@LEVELS
@pytest.mark.parametrize(
    ("op", "arity", "instruction"),
    [
        ("aese", 2, "aese"),
        ("aesd", 2, "aesd"),
        ("aesmc", 1, "aesmc"),
        ("aesimc", 1, "aesimc"),
        ("sha256h", 3, "sha256h"),
        ("sha256h2", 3, "sha256h2"),
        ("sha256su0", 2, "sha256su0"),
        ("sha256su1", 3, "sha256su1"),
        ("xor", 2, "eor"),
        ("and", 2, "and"),
        ("or", 2, "orr"),
        ("add32", 2, r"add\s+v\d+\.4s"),
        ("add64", 2, r"add\s+v\d+\.2d"),
        ("rev32_8", 1, "rev32|tbl"),
        ("ext8", 2, "ext|tbl"),
        ("dup_low", 1, r"dup|tbl|mov\s+v\d+\.d\[1\]"),
    ],
)
def test_simd_operations(opt: int, op: str, arity: int, instruction: str) -> None:
    v128 = tree.V128T()
    operands: list[tree.Expr] = [builtin("v128_load", [local("s", BYTES), const(16 * index)], v128) for index in range(arity)]
    result = builtin("v128_op", operands, v128, op=op)
    body: list[tree.Stmt] = [discard(builtin("v128_store", [local("s", BYTES), const(64), result]))]
    text = _assembly(function("f", [("s", BYTES)], UNIT, body, exported=True, simd=True), opt=opt)
    assert re.search(rf"^\t(?:{instruction})", text, re.MULTILINE)


def test_simd_registers_to_and_from_numbers() -> None:
    v128 = tree.V128T()
    made = builtin("v128_from_u64", [local("a"), local("b")], v128)
    text = _assembly(function("f", [("a", U64), ("b", U64)], U64, [ret(builtin("v128_lane", [made], U64, lane=1))], exported=True, simd=True))
    assert re.search(r"mov\s+x0, x1", text)


def test_hardware_traps_on_the_native_target() -> None:
    read = function("f", [], U64, [ret(builtin("sysreg_read", [], U64, **HCR))])
    outside = function("g", [], U64, [], external=True)
    barrier = function("h", [], UNIT, [discard(builtin("barrier", [], kind="dsb", domain="sy"))])
    module = native.load(program(read, outside, barrier))
    for symbol in ("f", "g"):
        with pytest.raises(native.NativeTrap) as caught:
            module.call(symbol)
        assert caught.value.kind is TrapKind.UNREACHABLE
    assert module.call("h") is None


def test_statics_are_reached_relatively() -> None:
    text = _assembly(function("f", [], U64, [ret(load(static("S", U64)))], exported=True), variable("S", U64, 5))
    assert "adrp" in text
    assert ":got:" not in text


def test_llvm_refusing_is_one_line() -> None:
    with pytest.raises(BackError, match=r"^LLVM refused the program: [^\n]+$"):
        lower("this is no IR", AARCH64)


def test_llvm_ending_its_process_is_one_line() -> None:
    text = f"""target triple = "{AARCH64.triple}"
declare <16 x i8> @llvm.aarch64.crypto.aesmc(<16 x i8>)
define <16 x i8> @f(<16 x i8> %v) {{
  %w = call <16 x i8> @llvm.aarch64.crypto.aesmc(<16 x i8> %v)
  ret <16 x i8> %w
}}
"""
    with pytest.raises(BackError, match=r"^LLVM refused the program: [^\n]*[Cc]annot select[^\n]*$"):
        lower(text, AARCH64)


def test_native_modules_can_be_written_as_assembly_too() -> None:
    made = function("f", [("x", U64)], U64, [ret(tree.Binary(tree.BinOp.ADD, local("x"), const(1), U64, LOC))], exported=True)
    text = lower(emit_ir(program(made), NATIVE), NATIVE, emit="asm").data.decode()
    assert "__trap" in text


def test_a_builtin_and_a_function_may_name_the_same_assembly() -> None:
    mask = function("nospec", [("i", U64), ("n", U64)], U64, [], external=True)
    body: list[tree.Stmt] = [discard(builtin("nospec", [local("x"), const(4)], U64)), ret(call("nospec", [local("x"), const(4)]))]
    assert "nospec" in _assembly(mask, function("f", [("x", U64)], U64, body, exported=True))


@LEVELS
def test_the_child_finds_its_modules_from_any_folder(opt: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lower(emit_ir(program(function("f", [], UNIT, [ret()], exported=True)), AARCH64), AARCH64, opt=opt).data.startswith(b"\x7fELF")


def test_memory_at_address_zero_is_memory() -> None:
    window = builtin("slice_at", [const(0), const(8)], BYTES)
    place = tree.SliceIndexPlace(window, const(0), tree.IntT(8), LOC)
    text = _assembly(function("f", [], UNIT, [tree.Store(tree.Const(1, tree.IntT(8), LOC), place, LOC)], exported=True))
    assert re.search(r"strb\s+w\d+, \[x", text)
