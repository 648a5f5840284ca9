# SPDX-License-Identifier: Apache-2.0
"""A kernel image that its host changes while EL2 reads it, and one that is made to take long: nothing traps, and no piece of the reading is long."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from btf_writer import Writer, image
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernel_layout import a_kernel

from delphyne.board.bare import bare
from delphyne.board.bare.bare import Buffer, Case, Ending
from delphyne.compiler import tree
from delphyne.compiler.back import layout as shapes
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules
from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import layout as layouts
from delphyne.el2.kvm import names
from delphyne.el2.kvm.layout import Layout, Reading
from delphyne.kernel.profile import KernelMachine
from delphyne.lang import Array, u32

KERNEL = a_kernel()
LAYOUT = "delphyne.el2.kvm.layout"
LONGEST_STAY = 200_000
PIECES_LIMIT = 3000


class ChangingMachine(KernelMachine):
    """Between any two reads of EL2's some bytes of the image change: to those of another kernel, and to anything."""

    def __init__(self, seed: int, changes: int) -> None:
        super().__init__()
        self.source = random.Random(seed)
        self.changes = changes
        self.copies = 0

    def _read(self, address: int, size: int) -> bytes:
        self.copies += 1
        data = bytearray(self.data)
        for _ in range(self.source.randrange(self.changes + 1)):
            at = self.source.randrange(256, len(data))
            data[at] = self.source.choice([0, 1, 4, 6, 13, 0x7F, 0x80, 0xFF, KERNEL[at], KERNEL[at]])
        self.data = bytes(data)
        return super()._read(address, size)


def read_changing(seed: int, changes: int) -> tuple[Layout, bool | Err]:
    reading, made, checkpoints = Reading(), Layout(), Array[u32, 64]()[:]
    with ChangingMachine(seed, changes) as machine:
        layouts.begin(reading, machine.load(KERNEL))
        for _ in range(PIECES_LIMIT):
            done = layouts.go_on(reading, checkpoints, made)
            if isinstance(done, Err) or done:
                return made, done
    raise AssertionError("the reading does not end")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.sampled_from([1, 2, 8, 64]))
def test_no_change_makes_it_trap_or_run_away(seed: int, changes: int) -> None:
    made, done = read_changing(seed, changes)
    if isinstance(done, Err):
        return
    for field in range(int(names.FIELDS)):
        assert made.offsets[field] == layouts.ABSENT or made.offsets[field] < made.sizes[int(names.PATH_SUBJECTS[field])]
    calls = [int(made.calls[number]) for number in range(int(layouts.CALL_NUMBERS))]
    assert all(call <= int(names.CALLS) for call in calls)
    size = int(made.sizes[0])
    first = int(layouts.offset(made, names.Field.VCPU_SYS_REGS))
    for number in range(int(names.REGISTERS)):
        place = made.registers[number]
        assert place == layouts.NO_REGISTER or first + int(place) * 8 + 8 <= size


def test_a_kernel_that_changes_a_little_is_often_read_to_its_end() -> None:
    """Otherwise the test above would look at refusals only."""
    ends = [read_changing(seed, 1)[1] for seed in range(20)]
    assert True in ends
    assert any(isinstance(end, Err) for end in (read_changing(seed, 64)[1] for seed in range(20)))


def full_of_headers() -> bytes:
    """Every stripe begins like a header, and none is sound."""
    return image(struct.pack("<IIII", 0x1EB9F, 24, 0, 64) * 4096)


def full_of_names() -> bytes:
    """Thousands of structures that are almost called what EL2 looks for, their names far from each other."""
    w = Writer()
    spread = [w.name(f"kvm_s2_mm{n}" + "x" * 150) for n in range(64)]
    w.records = [struct.pack("<III", spread[n * 29 % 64], 4 << 24, 8) for n in range(4096)]
    return image(w.blob())


def a_long_way_to_each_member() -> bytes:
    """kvm_vcpu has thousands of members without a name, each of a type that is reached by many names and over many records."""
    w = Writer()
    for step in range(480):
        w.add("", 10, 32 * (step // 32 + 1) + 31 if step < 448 else 480)
    w.struct("", 8, [("x" * 40, 1, 0)])
    w.struct("kvm_vcpu", 0x10000, [("", 31, 64 * n) for n in range(4000)])
    return image(w.blob())


def long_enums() -> bytes:
    """Enumerators that differ from those EL2 looks for in their last letters."""
    w = Writer()
    w.enum("__kvm_host_smccc_func", {f"__KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid_rang{n}": n for n in range(4000)})
    w.enum("vcpu_sysreg", {f"SCTLR_EL1{n}": n for n in range(4000)})
    w.struct("kvm_vcpu", 64, [])
    return image(w.blob())


HARD = {"headers": full_of_headers, "names": full_of_names, "members": a_long_way_to_each_member, "enums": long_enums, "a kernel": lambda: KERNEL}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tree.Program]:
    """The reader as it runs at EL2."""
    program = compile_modules([LAYOUT])
    for name in ("begin", "go_on"):
        program.functions[f"{LAYOUT}.{name}"].exported = True
    out = tmp_path_factory.mktemp("reader") / "layout.o"
    out.write_bytes(lower(emit(program, AARCH64, debug=False).text, AARCH64).data)
    return out, program


@pytest.mark.system
@pytest.mark.parametrize("kind", list(HARD))
def test_no_piece_is_longer_than_el2_may_stay(compiled: tuple[Path, tree.Program], kind: str, tmp_path: Path) -> None:
    """Instructions of each call of `go_on`, counted by QEMU: the last word on what a unit of effort is worth."""
    built, program = compiled
    data = HARD[kind]()
    params = program.functions[f"{LAYOUT}.go_on"].params
    sizes = [shapes.size_of(kind.target) for _, kind in (params[0], params[2]) if isinstance(kind, tree.RefT)]
    buffers = [Buffer("image", data), Buffer("reading", bytes(sizes[0])), Buffer("checkpoints", bytes(4 * 4096)), Buffer("made", bytes(sizes[1]))]
    begin = Case(f"{LAYOUT}.begin", ("reading", "image", len(data)))
    pieces = [Case(f"{LAYOUT}.go_on", ("reading", "checkpoints", 4096, "made"))] * 120
    linked = bare.build([built], [begin, *pieces], tmp_path / "bare.elf", buffers=buffers)
    outcomes = bare.run(linked, bare.Machine(icount=True))
    assert {outcome.ending for outcome in outcomes} == {Ending.VALUE}
    longest = max(outcome.instructions for outcome in outcomes)
    assert 1000 < longest <= LONGEST_STAY
