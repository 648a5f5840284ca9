# SPDX-License-Identifier: Apache-2.0
"""What accepted programs become: each construct as the typed tree that the back end gets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from delphyne.compiler import front, tree


def _helper() -> ModuleType:
    """The printer beside this file, found by path: test folders are no packages."""
    spec = importlib.util.spec_from_file_location("tree_text", Path(__file__).with_name("tree_text.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TEXT = _helper()

HEAD = """from __future__ import annotations

from typing import Final

from delphyne.lang import (
    Array, AtomicU32, AtomicU64, Bits64, BootArray, Domain, Enum8, ErrorEnum, Level, Lock, Order, Pa, Pool, Secret, SimdArea, Slice, SysReg, View,
    apart, bits, boot, checked_add, cold, constant, declassify, dsb, entry, frozen, guarded, load_be32, log, merged, nospec, owned,
    per_cpu, placed, secret,
    secret_equal, sign_extend, simd, store_be32, struct, text, u8, u16, u32, u64, unreachable, v128_from_u64, v128_low, value, wipe, wrap_add,
)


class Err(ErrorEnum):
    ABSENT = 1
    FULL = 2


class State(Enum8):
    FREE = 0
    USED = 1
    DEAD = 5


class Entry(Bits64):
    valid: bool = bits(0)
    state: State = bits(3, 1)
    frame: u64 = bits(47, 12)


@value
class Range:
    start: u64
    size: u64

    def __add__(self, other: u64) -> Range:
        return Range(self.start + other, self.size)


@struct
class Vm:
    number: u64
    state: State
    entries: Array[u64, 8]
    pending: AtomicU32


LOCK: Final = Lock("low", rank=10)
VM: Final = guarded(LOCK, Vm())
TABLE: Final = constant(Array[u64, 4].of([1, 2, 3, 4]))
BYTES: Final = constant(Array[u8, 4].of([1, 2, 3, 4]))
CPUS: Final = per_cpu(Vm, 4)
TICKS: Final = placed(".ticks", AtomicU64(), align=64)
FRAMES: Final = BootArray[AtomicU64]()
HCR: Final = SysReg(Entry, "HCR_EL2", 3, 4, 1, 1, 0)
LIMIT: Final = u64(100)


def find(x: u64) -> u64 | Err:
    return Err.ABSENT if x == 0 else x


"""

CASES = {
    "arithmetic": ("def f(x: u64, y: u64) -> u64:\n    return x + y * 2 - LIMIT", "return ((x + (y * 2:u64)) - 100:u64)"),
    "conversions": ("def f(x: u32, b: bool) -> u64:\n    return u64(x) + u64(b) + u64(u8.wrap(x)) + u64(u16(x))",
                    "return (((widen[u64](x) + from_bool[u64](b)) + widen[u64](truncate[u8](x))) + widen[u64](narrow[u16](x)))"),
    "chained comparison": ("def f(x: u64, y: u64) -> bool:\n    return x < y <= 9", "return ((x < (f.1 := y)) and (f.1 <= 9:u64))"),
    "and or not": ("def f(a: bool, b: bool) -> bool:\n    return a and not b or b", "return ((a and not b) or b)"),
    "choice": ("def f(a: bool, x: u64) -> u64 | None:\n    return x if a else None", "return (some(x) if a else none)"),
    "result": ("def f(x: u64) -> None | Err:\n    if x == 0:\n        return Err.FULL\n    return None",
               "if (x == 0:u64) {return err(2:Err)} else {}; return ok()"),
    "narrowed result": ("def f(x: u64) -> u64 | Err:\n    y = find(x)\n    if isinstance(y, Err):\n        return y\n    return y",
                        "y = find(x); if is_err(y) {return err(err_of(y))} else {}; return ok(ok_of(y))"),
    "narrowed option": ("def f(x: u64) -> u64:\n    y = checked_add(x, 1)\n    return x if y is None else y",
                        "y = <checked_add>(x, 1:u64); return (x if not is_some(y) else item(y))"),
    "loop": ("def f(n: u64) -> u64:\n    t = u64(0)\n    for i in u64.range(1, n, 2):\n        if i == 5:\n            continue\n"
         "        t += i\n    return t",
             "t = 0:u64; for i in 1:u64..n by 2 {if (i == 5:u64) {continue} else {}; t = (t + i)}; return t"),
    "while": ("def f(n: u64) -> u64:\n    while True:\n        if n > 3:\n            break\n        n = n + 1\n    return n",
              "while 1:bool {if (n > 3:u64) {break} else {}; n = (n + 1:u64)}; return n"),
    "fields and elements": ("def f(vm: Vm, i: u64) -> None:\n    vm.entries[i] += 1\n    vm.number = vm.entries[2]",
                            "*vm.2[i] += 1:u64; *vm.0 := *vm.2[2:u64]"),
    "atomics": ("def f(vm: Vm) -> u32:\n    vm.pending.store(u32(1), Order.RELEASE)\n"
         "    return vm.pending.compare_exchange(u32(1), u32(2), Order.ACQ_REL)",
                "<atomic_store order=release>(&*vm.3, 1:u32); return <atomic_compare_exchange order=acq_rel>(&*vm.3, 1:u32, 2:u32)"),
    "a place of its own": ("def f() -> u64:\n    vm = Vm()\n    vm.number = u64(1)\n    return vm.number", "zero vm; vm.0 := 1:u64; return vm.0"),
    "a place that is renamed": ("def f(other: Vm) -> u64:\n    vm = other\n    vm = Vm()\n    return vm.number",
                                "vm = other; zero vm.{line}; vm = &vm.{line}; return *vm.0"),
    "slices": ("def f(s: Slice[u8], n: u64) -> u64:\n    s[1:n].copy_from(s[:n])\n    return s[2:].length",
               "<copy_slice>(s[1:u64:n], s[:n]); return len(s[2:u64:])"),
    "array to slice": ("def f(a: Array[u8, 4]) -> u32:\n    a.fill(u8(1))\n    return load_be32(a[:], 0)",
                       "<fill_slice>(a[:], 1:u8); return <load_bytes bits=32 big=1>(a[:], 0:u64)"),
    "record": ("def f(x: u64) -> Range:\n    return Range(x, x + 1) + x", "return __add__({x, (x + 1:u64)}, x)"),
    "keywords in another order": ("def f(x: u64) -> Range:\n    return Range(size=x + 1, start=x * 2)",
                                  "return {(f.1 := (x + 1:u64)), (f.2 := (x * 2:u64)), {f.2, f.1}}.2"),
    "tuple": ("def f(a: Array[u64, 4]) -> None:\n    a[0], a[1] = a[1], a[0]",
              "f.1 = {*a[1:u64], *a[0:u64]}; *a[0:u64] := f.1.0; *a[1:u64] := f.1.1"),
    "bit field read": ("def f(e: Entry) -> bool:\n    return e.valid and e.frame == 1 and e.state == State.USED",
                       "return ((((relabel[u64](e) & 1:u64) != 0:u64) and (((relabel[u64](e) >> 12:u64) & 68719476735:u64) == 1:u64)) and "
                       "(to_enum[State](truncate[u8](((relabel[u64](e) >> 1:u64) & 7:u64))) == 1:State))"),
    "bit field built": ("def f(n: u64) -> Entry:\n    return Entry(valid=True, frame=n)",
                        "return relabel[Entry]((1:u64 | (<fit bits=36>(n) << 12:u64)))"),
    "bit field constant": ("def f() -> Entry:\n    return Entry(valid=True, state=State.DEAD)", "return 11:Entry"),
    "bit field replaced": ("def f(e: Entry, b: bool) -> Entry:\n    return e.replace(valid=b)",
                           "return relabel[Entry](((relabel[u64](e) & 18446744073709551614:u64) | from_bool[u64](b)))"),
    "enum of a number": ("def f(x: u8) -> State | None:\n    return State.of(x)",
                         "return (some(relabel[State](f.1)) if (((f.1 := x) <= 1:u8) or (f.1 == 5:u8)) else none)"),
    "match": ("def f(x: State) -> u64:\n    match x:\n        case State.FREE | State.USED:\n            return u64(1)\n        case _:\n"
         "            return u64(2)",
              "switch x [0, 1] {return 1:u64} else {return 2:u64}"),
    "match of all members": ("def f(x: State) -> u64:\n    match x:\n        case State.FREE | State.USED | State.DEAD:\n            return u64(1)",
                             "switch x [0, 1, 5] {return 1:u64} else {trap UNREACHABLE}"),
    "lock": ("def f() -> u64:\n    with LOCK:\n        return VM.number",
             "scoped {<lock_acquire>(&@LOCK)} {return @VM.0} {<lock_release>(&@LOCK)}"),
    "owned": ("def f(pa: Pa) -> u64:\n    with owned(pa, u64(16)) as w:\n        return w.length",
              "w = <slice_at>(pa.0, 16:u64); return len(w)"),
    "simd": ("@simd\ndef g(x: u64) -> u64:\n    return v128_low(v128_from_u64(x, x))\n\ndef f(area: SimdArea) -> u64:\n    with simd(area):\n"
             "        return g(u64(1))",
             "scoped {simd_enter((f.1 := area))} {return g(1:u64)} {simd_leave(f.1)}"),
    "assert": ("def f(x: u64) -> None:\n    assert x > 1, 'text'", "if not (x > 1:u64) {trap ASSERT} else {}"),
    "unreachable": ("def f(x: u64) -> u64:\n    if x > 1:\n        unreachable()\n"
         "    return x", "if (x > 1:u64) {trap UNREACHABLE} else {}; return x"),
    "system register": ("def f() -> None:\n    HCR.write(HCR.read())\n    dsb(Domain.ISH)",
                        "<sysreg_write name=HCR_EL2 op0=3 op1=4 crn=1 crm=1 op2=0>(relabel[u64](relabel[Entry]("
                        "<sysreg_read name=HCR_EL2 op0=3 op1=4 crn=1 crm=1 op2=0>()))); <barrier kind=dsb domain=ish>()"),
    "per-CPU data": ("def f() -> u64:\n    return CPUS.mine().number", "return mine(@CPUS).0"),
    "boot array": ("def f(i: u64) -> u64:\n    return FRAMES[i].load(Order.RELAXED)", "return <atomic_load order=relaxed>(&@FRAMES[i])"),
    "secrets leave no trace": ("def f(k: Secret[u64]) -> u64:\n    return declassify(wrap_add(k ^ 1, secret(u64(2))))",
                               "return wrap_add((k ^ 1:u64), 2:u64)"),
    "byte string": ("def f() -> u8:\n    return text(b'ab')[1]", "return b'ab'[1:u64]"),
    "sign extension": ("def f(x: u64) -> u64:\n    return sign_extend(x, 12)", "return <sign_extend from_bits=12>(x)"),
    "wipe": ("def f(vm: Vm) -> None:\n    wipe(vm)", "<wipe>(vm)"),
    "nospec": ("def f(i: u64) -> u64:\n    return TABLE[nospec(i, u64(4))]", "return @TABLE[<nospec>(i, 4:u64)]"),
    "copy": ("def f(a: Vm, b: Vm) -> None:\n    a.copy_from(b)", "<copy_place>(a, b)"),
}


def _compile(tmp_path: Path, text: str) -> tree.Program:
    path = tmp_path / "lowering.py"
    path.write_text(HEAD + text + "\n", encoding="utf-8")
    return front.compile_paths([path])


@pytest.mark.parametrize("name", CASES)
def test_tree(name: str, tmp_path: Path) -> None:
    text, expected = CASES[name]
    program = _compile(tmp_path, text)
    line = next((number for number, one in enumerate((HEAD + text).splitlines(), 1) if one.strip() == "vm = Vm()"), 0)
    assert TEXT.block(program.functions["lowering.f"].body) == expected.replace("{line}", str(line))


def test_the_value_of_a_store_comes_before_its_place(tmp_path: Path) -> None:
    program = _compile(tmp_path, "def f(a: Array[u64, 4], i: u64) -> None:\n    a[i] = i // i")
    (store,) = program.functions["lowering.f"].body
    assert isinstance(store, tree.Store)
    assert [one.name for one in tree.Store.__dataclass_fields__.values()][:2] == ["value", "place"]


def test_locals_list_variables_slots_and_temporaries(tmp_path: Path) -> None:
    program = _compile(tmp_path, "def f(x: u64) -> bool:\n    vm = Vm()\n    y = x\n    return y < x < vm.number")
    function = program.functions["lowering.f"]
    assert function.params == [("x", tree.IntT(64))]
    assert function.result == tree.BoolT()
    assert set(function.locals) == {"vm", "y", "f.1"}
    assert isinstance(function.locals["vm"], tree.StructT)


def test_marks_of_functions(tmp_path: Path) -> None:
    program = _compile(tmp_path, "@cold\n@entry('start')\ndef f() -> None:\n    pass\n\n@simd\ndef g() -> None:\n    pass")
    start, g = program.functions["start"], program.functions["lowering.g"]
    assert (start.cold, start.exported, start.simd, start.external) == (True, True, False, False)
    assert (g.cold, g.exported, g.simd, g.external) == (False, False, True, False)


def test_a_function_apart_is_never_inlined(tmp_path: Path) -> None:
    program = _compile(tmp_path, "@apart\ndef f() -> None:\n    pass\n\n@entry('start')\ndef g() -> None:\n    f()")
    assert program.functions["lowering.f"].apart
    assert not program.functions["start"].apart


def test_a_merged_function_is_part_of_each_caller(tmp_path: Path) -> None:
    program = _compile(tmp_path, "@merged\ndef f() -> None:\n    pass\n\n@entry('start')\ndef g() -> None:\n    f()")
    assert program.functions["lowering.f"].merged
    assert not program.functions["start"].merged


def test_functions_in_assembly_are_external(tmp_path: Path) -> None:
    program = _compile(tmp_path, "from delphyne.lang import assembly, tlbi_vmalle1is\n\n@assembly\ndef park() -> None:\n    pass\n\n"
                       "def f() -> None:\n    park()\n    tlbi_vmalle1is()")
    assert program.functions["park"].external
    assert program.functions["tlbi_vmalle1is"].external
    assert program.functions["park"].body == []


def test_statics_and_their_contents(tmp_path: Path) -> None:
    program = _compile(
        tmp_path, "def f() -> u64:\n    with LOCK:\n"
             "        return VM.number + TABLE[0] + u64(BYTES[0]) + CPUS.mine().number + TICKS.load(Order.RELAXED)"
    )
    statics = {name.rsplit(".", 1)[-1]: static for name, static in program.statics.items()}
    assert set(statics) == {"LOCK", "VM", "TABLE", "BYTES", "CPUS", "TICKS"}
    assert (statics["TABLE"].init, statics["TABLE"].constant) == ([1, 2, 3, 4], True)
    assert statics["BYTES"].init == bytes([1, 2, 3, 4])
    assert (statics["VM"].init, statics["VM"].constant) == (None, False)
    assert statics["CPUS"].ty == tree.ArrayT(statics["VM"].ty, 4)
    assert (statics["TICKS"].section, statics["TICKS"].align) == (".ticks", 64)
    assert isinstance(statics["LOCK"].ty, tree.LockT)
    assert statics["TABLE"].loc.line == next(i for i, line in enumerate(HEAD.splitlines(), 1) if line.startswith("TABLE"))


def test_initial_contents_of_structs(tmp_path: Path) -> None:
    text = """@value
class Pair:
    low: u8
    high: bool

@struct
class Shape:
    pair: Pair
    state: State
    entry: Entry
    ticks: AtomicU64
    row: Array[u16, 2]

SHAPE: Final = frozen(Shape())
SHAPE.pair = Pair(u8(7), True)
SHAPE.state = State.DEAD
SHAPE.entry = Entry(frame=2)
SHAPE.ticks.store(u64(9), Order.RELAXED)
SHAPE.row[1] = u16(4)

def f() -> u8:
    return SHAPE.pair.low"""
    (static,) = [one for name, one in _compile(tmp_path, text).statics.items() if name.endswith("SHAPE")]
    assert static.init == [[7, 1], 5, 0x2000, 9, [0, 4]]


def test_library_classes_are_instantiated(tmp_path: Path) -> None:
    text = "VMS: Final = guarded(LOCK, Pool[Vm, 4]())\n\ndef f() -> bool:\n    with LOCK:\n        h = VMS.allocate()\n        return h is not None"
    program = _compile(tmp_path, text)
    (allocate,) = [name for name in program.functions if name.endswith(".allocate")]
    assert "Pool" in allocate
    assert "[Vm, 4]" in allocate
    assert isinstance(program.functions[allocate].result, tree.OptionT)


def test_messages_become_numbers(tmp_path: Path) -> None:
    import delphyne.el2.control.log  # noqa: F401 - the recorder must be imported to be found

    text = 'def f(x: u8, pa: Pa) -> None:\n    log(Level.INFO, f"{x:02x} at {pa:#x}")\n    log(Level.ERROR, "none")'
    program = _compile(tmp_path, text)
    assert [one.text for one in program.formats] == ["{:02x} at {:#x}", "none"]
    body = TEXT.block(program.functions["lowering.f"].body)
    assert body.startswith("record(3:Level, 0:u32, 2:u32, widen[u64](x), pa.0, 0:u64")
    assert "record(1:Level, 1:u32, 0:u32, 0:u64" in body


def test_exported_structs_are_listed(tmp_path: Path) -> None:
    program = _compile(tmp_path, "@struct(align=4096, export='CPU')\nclass Cpu:\n    current: u64\n\ndef f(cpu: Cpu) -> u64:\n    return cpu.current")
    (cpu,) = [one for one in program.exports if one.exported == "CPU"]
    assert (cpu.align, cpu.fields) == (4096, (("current", tree.IntT(64)),))


def test_roots_decide_what_is_compiled(tmp_path: Path) -> None:
    path = tmp_path / "rooted.py"
    path.write_text("from delphyne.lang import u64\n\ndef g(x: u64) -> u64:\n    return x\n\ndef f(x: u64) -> u64:\n    return g(x)\n\n"
         "def h(x):\n    return x\n")
    assert [one.code for one in front.check_paths([path])] == ["E0104"]
    rooted = sys.modules["rooted"]
    assert set(front.compile_functions([rooted.f]).functions) == {"rooted.f", "rooted.g"}


def test_functions_that_run_at_build_time_are_left_alone(tmp_path: Path) -> None:
    text = (
        "def _table():\n    return [i * i for i in range(4)]\n\nSQUARES: Final = constant(Array[u64, 4].of(_table()))\n\n"
        "def f() -> u64:\n    return SQUARES[2]"
    )
    program = _compile(tmp_path, text)
    (static,) = [one for name, one in program.statics.items() if name.endswith("SQUARES")]
    assert static.init == [0, 1, 4, 9]


def test_a_twin_is_compiled_as_it_is_written(tmp_path: Path) -> None:
    text = (
        "from delphyne.lang import twin\n\ndef quick(x: u64) -> u64:\n    return x\n\n@cold\n@twin(fast=quick)\ndef f(x: u64) -> u64:\n"
        "    return x + 0"
    )
    function = _compile(tmp_path, text).functions["lowering.f"]
    assert TEXT.block(function.body) == "return (x + 0:u64)"
    assert function.cold


def test_every_node_has_a_place_in_the_source(tmp_path: Path) -> None:
    program = _compile(tmp_path, "def f(vm: Vm, x: u64) -> u64:\n    vm.entries[x] = x + 1\n    return vm.entries[x] if x > 2 else x")
    body = program.functions["lowering.f"].body
    first = len(HEAD.splitlines()) + 2
    assert [one.loc.line for one in body] == [first, first + 1]
    assert isinstance(body[0], tree.Store)
    assert (body[0].value.loc.col, body[0].value.loc.end_col) == (20, 25)
