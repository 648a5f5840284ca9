# SPDX-License-Identifier: Apache-2.0
"""What mypy --strict accepts and rejects of programs in the language. Each line marked `# wrong` must be the place of an error."""

from __future__ import annotations

import re
from pathlib import Path

from mypy import api

ACCEPTED = """
from __future__ import annotations

from typing import Final

from delphyne.lang import (
    Array, AtomicU32, AtomicU64, Bits64, BootArray, Domain, Enum8, ErrorEnum, Handle, Hostile, Ipa, Level, Lock, Order, Pa, Pool, Secret, Slice,
    SysReg, Tainted, View, boot, bits, checked_add, constant, declassify, dsb, guarded, holds, load_be32, log, owned, per_cpu, placed,
    rotate_right, secret, store_le64, struct, text, u8, u32, u64, value, wipe, wrap_add,
)

PAGE_SIZE: Final = u64(4096)
SLOTS: Final = 16


class State(Enum8):
    FREE = 0
    TAKEN = 1


class Err(ErrorEnum):
    NOTHING = 1


class Esr(Bits64):
    iss: u32 = bits(24, 0)
    il: bool = bits(25)
    state: State = bits(31, 26)


@value
class Walk:
    leaf: u64
    level: u32

    def __lt__(self, other: Walk) -> bool:
        return self.leaf < other.leaf


@struct(align=64, export="VM")
class Vm:
    number: u64
    walk: Walk
    table: Array[Array[AtomicU64, 512], 2]
    page: Array[u8, PAGE_SIZE]
    parent: Handle[Vm]
    key: Secret[u64]


@struct
class Cpu:
    number: u32


LOCK: Final = Lock("vms", rank=10)
VMS: Final = guarded(LOCK, Pool[Vm, SLOTS]())
TABLE: Final = constant(Array[u32, 4].of([1, 2, 3, 4]))
PAGES: Final = BootArray[Array[AtomicU64, 512]]()
CPUS: Final = per_cpu(Cpu, 8)
COUNT: Final = placed(".counters", AtomicU32(), align=64)
ESR_EL2: Final = SysReg(Esr, "ESR_EL2", 3, 4, 5, 2, 0)
FAR_EL2: Final = SysReg(u64, "FAR_EL2", 3, 4, 6, 0, 0)


@boot
def start(base: u64) -> None:
    PAGES.attach(base, u64(4))
    dsb(Domain.ISH)


@holds(LOCK)
def find(handle: Handle[Vm]) -> Vm | None:
    return VMS.get(handle)


def make(x: u64) -> Handle[Vm] | Err:
    with LOCK:
        handle = VMS.allocate()
        if handle is None:
            return Err.NOTHING
        vm = find(handle)
        if vm is None:
            return Err.NOTHING
        vm.number = 2 * x + 1
        scratch = Vm()
        scratch.copy_from(vm)
        vm.table[u64(1)][0].store(x, Order.RELEASE)
        vm.page[x] = u8(3)
        vm.parent = handle
        vm.key = wrap_add(secret(x), vm.key) ^ rotate_right(vm.key, 7) ^ x
        return handle


def use(x: u64, s: Slice[u8], hostile: Hostile) -> u64:
    made = make(x)
    if isinstance(made, Err):
        return u64(made.raw)
    tainted = hostile.read_once_u64(x)
    if tainted is None:
        return u64(0)
    small = tainted.below(PAGE_SIZE)
    if small is None:
        return u64(0)
    view: View[u8] = s
    part: Slice[u8] = s[small : s.length]
    store_le64(part, u64(0), u64(load_be32(view[1:], 0)))
    wipe(part)
    total = checked_add(x, 1)
    e = ESR_EL2.read().replace(il=True)
    if e.state is State.TAKEN or Esr(iss=u32(4)).il:
        ESR_EL2.write(e)
    FAR_EL2.write(declassify(secret(x)))
    with owned(Pa(x), PAGE_SIZE) as window:
        window.copy_from(view)
    for i in u64.range(u64(0), small, 8):
        x = x + i + u64(TABLE[i]) + u64(PAGES[i][0].add(i, Order.RELAXED) > i)
    log(Level.INFO, f"{x:x} {CPUS.mine().number}")
    name: View[u8] = text(b"name")
    return min(x, name.length) if total is None else max(total, u64(1))
"""

WRONG = """

def everything(x: u64, y: u32, vm: Vm, s: Slice[u8], view: View[u8], p: Pa, q: Ipa, tainted: Tainted[u64], key: Secret[u64]) -> u64:
    x + y  # wrong
    x - y  # wrong
    x << y  # wrong
    x == y  # wrong
    x < y  # wrong
    a: u64 = 5  # wrong
    b: u32 = x  # wrong
    find(5)  # wrong
    Walk(5, y)  # wrong
    Walk(x, x)  # wrong
    Walk(x)  # wrong
    Walk(x, y).leaf = x  # wrong
    p + q  # wrong
    p - q  # wrong
    p < q  # wrong
    p + y  # wrong
    c: Pa = x  # wrong
    VMS.allocate().index  # wrong
    find(vm.parent).number  # wrong
    make(x).index  # wrong
    vm.number = y  # wrong
    vm.unknown  # wrong
    vm.copy_from(x)  # wrong
    Vm(number=x)  # wrong
    vm.page[y]  # wrong
    vm.page[0] = y  # wrong
    vm.page[0:] = s  # wrong
    vm.table[0] = 5  # wrong
    s[0] = 5  # wrong
    view[0] = u8(1)  # wrong
    s.copy_from(vm.table)  # wrong
    d: Slice[u8] = view  # wrong
    e: Slice[u32] = s  # wrong
    f: Array[u32, 4] = vm.page  # wrong
    Esr(il=u32(1))  # wrong
    Esr(unknown=x)  # wrong
    Esr.of(y)  # wrong
    Esr.of(x).replace(iss=x)  # wrong
    State.of(x)  # wrong
    ESR_EL2.write(x)  # wrong
    FAR_EL2.write(ESR_EL2.read())  # wrong
    COUNT.add(x, Order.RELAXED)  # wrong
    COUNT.load()  # wrong
    wrap_add(x, y)  # wrong
    rotate_right(y, x)  # wrong
    load_be32(vm.table[0][:], 0)  # wrong
    tainted + x  # wrong
    key + x  # wrong
    log("info", "x")  # wrong
    for i in u64.range(y):  # wrong
        pass
    h: Handle[Cpu] = vm.parent  # wrong
    g: Array[u32] = TABLE  # wrong
    return y  # wrong
"""


def errors_of(tmp_path: Path, program: str) -> dict[int, str]:
    """Errors of mypy --strict by line."""
    file = tmp_path / "program.py"
    file.write_text(program)
    settings = tmp_path / "mypy.ini"
    settings.write_text("[mypy]\nstrict = True\nplugins = delphyne.lang.mypy_plugin\n")
    out, problems, _ = api.run(["--config-file", str(settings), "--cache-dir", str(tmp_path / "cache"), "--follow-imports", "silent", str(file)])
    assert problems == ""
    found: dict[int, str] = {}
    for line in out.splitlines():
        match = re.fullmatch(r".*program\.py:(\d+): error: (.*)", line)
        if match:
            found.setdefault(int(match[1]), match[2])
    return found


def test_mypy_accepts_the_language_and_rejects_the_rest(tmp_path: Path) -> None:
    program = ACCEPTED + WRONG
    lines = program.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    found = errors_of(tmp_path, program)
    assert {lines[number - 1]: message for number, message in found.items() if number not in wrong} == {}
    assert [lines[number - 1] for number in sorted(wrong - set(found))] == []
