# SPDX-License-Identifier: Apache-2.0
"""What EL2 takes from a kernel: complete where everything is there, and never more than the structures hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from btf_writer import Writer, image
from guests_world import a_layout

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.world import Places
from delphyne.el2.kvm import layout as layouts
from delphyne.el2.kvm import names, places
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.names import Call, Field, Register, Subject
from delphyne.kernel import profile
from delphyne.lang import u8, u16, u32, u64

STRUCTURES = {Subject.VCPU: "kvm_vcpu", Subject.MMU: "kvm_s2_mmu", Subject.ARCH: "kvm_arch", Subject.VGIC: "vgic_v3_cpu_if"}
CALLS = {call.name: 2 * call.value for call in Call if call is not Call.UNKNOWN}
REGISTERS = {register.name: register.value + 1 for register in Register}


def call_name(call: str) -> str:
    text, ends = bytes(names.CALL_NAMES), [int(names.CALL_ENDS[i]) for i in range(len(names.CALL_ENDS))]
    number = Call[call].value - 1
    return text[ends[number] : ends[number + 1]].decode()


def a_kernel(
    without: Field | None = None, calls: dict[str, int] = CALLS, registers: dict[str, int] = REGISTERS, older: bool = False
) -> bytes:
    """An image with everything EL2 looks for but one field. Member n of a path's structure stands at byte 16 * n. `older`: its KVM has EL2 save the
    host's SIMD registers."""
    w = Writer()
    long = w.integer("long", 8)
    members: dict[Subject, dict[str, object]] = {subject: {} for subject in STRUCTURES}
    for field, subject, path in profile.members():
        if field is not without and (older or field is not Field.VCPU_HOST_FP):
            place = members[subject]
            *outer, last = path.split(".")
            for part in outer:
                place = place.setdefault(part, {})  # type: ignore[assignment]
            place[last] = long

    def build(name: str, inside: dict[str, object]) -> int:
        made = [(called, build("", what) if isinstance(what, dict) else long, 128 * at) for at, (called, what) in enumerate(inside.items())]
        return w.struct(name, 4096, made)

    for subject, name in STRUCTURES.items():
        build(name, members[subject])
    w.enum("__kvm_host_smccc_func", {call_name(call): number for call, number in calls.items()})
    w.enum("vcpu_sysreg", registers)
    return image(w.blob())


def read(data: bytes, layout: Layout) -> Err | None:
    return profile.read(data, layout, 64)


def test_a_whole_kernel_is_complete() -> None:
    made = Layout()
    assert read(a_kernel(), made) is None
    assert layouts.is_complete(made)
    assert layouts.first_absent(made) is None
    assert all(made.sizes[u64(subject.raw)] == 4096 for subject in STRUCTURES)
    assert layouts.offset(made, Field.MMU_PGD) == 16
    for call in Call:
        if call is not Call.UNKNOWN:
            assert made.calls[2 * call.value] == call.raw
            assert made.calls[2 * call.value + 1] == 0
            assert layouts.has_call(made, call)
    for register in Register:
        assert made.registers[u64(register.raw)] == u16(register.value + 1)


@pytest.mark.parametrize("field", list(Field))
def test_a_kernel_without_one_member_is_complete_only_if_it_is_not_needed(field: Field) -> None:
    made = Layout()
    assert read(a_kernel(without=field), made) is None
    assert layouts.offset(made, field) == layouts.ABSENT
    needed = names.PATH_NEEDED[u64(field.raw)] == 1
    assert layouts.is_complete(made) == (not needed)
    assert layouts.first_absent(made) is (field if needed else None)


def test_a_kernel_that_leaves_saving_its_simd_registers_to_el2_is_not_complete() -> None:
    made = Layout()
    assert read(a_kernel(older=True), made) is None
    assert layouts.first_absent(made) is None
    assert not layouts.is_complete(made)


def test_one_of_the_two_places_of_vtcr_is_needed() -> None:
    made = Layout()
    assert read(a_kernel(), made) is None
    made.offsets[u64(Field.MMU_VTCR.raw)] = layouts.ABSENT
    assert layouts.is_complete(made)
    made.offsets[u64(Field.ARCH_VTCR.raw)] = layouts.ABSENT
    assert layouts.first_absent(made) is Field.MMU_VTCR


@pytest.mark.parametrize("call", ["VCPU_RUN", "TIMER_SET_CNTVOFF", "TLB_FLUSH_VMID_RANGE"])
def test_calls_with_numbers_outside_the_table_are_absent(call: str) -> None:
    for changed in ({**CALLS, call: 64}, {**CALLS, call: 0xFFFFFFFF}, {name: number for name, number in CALLS.items() if name != call}):
        made = Layout()
        assert read(a_kernel(calls=changed), made) is None
        assert not layouts.has_call(made, Call[call])
        assert all(made.calls[i] != Call[call].raw for i in range(64))
        assert layouts.is_complete(made) == (call == "TLB_FLUSH_VMID_RANGE")


def test_registers_outside_the_structure_are_absent() -> None:
    made = Layout()
    assert read(a_kernel(), made) is None
    last = (4096 - int(layouts.offset(made, Field.VCPU_SYS_REGS))) // 8 - 1
    for number, present in ((last, True), (last + 1, False), (0xFFFF, False), (0xFFFFFFFF, False)):
        assert read(a_kernel(registers={**REGISTERS, "SCTLR_EL1": number}), made) is None
        assert (made.registers[u64(Register.SCTLR_EL1.raw)] != layouts.NO_REGISTER) == present
        assert layouts.is_complete(made) == present


def test_an_error_changes_nothing() -> None:
    made = Layout()
    made.offsets.fill(u32(7))
    made.calls.fill(u8(3))
    before = repr(made)
    assert read(bytes(4096), made) == Err.NOT_FOUND
    assert profile.read(a_kernel(), made, 0) == Err.NO_MEMORY
    assert repr(made) == before


def test_an_absent_definition_is_no_error() -> None:
    made = Layout()
    w = Writer()
    w.struct("kvm_vcpu", 64, [])
    assert read(image(w.blob()), made) is None
    assert not layouts.is_complete(made)
    assert made.sizes[u64(Subject.ARCH.raw)] == 0


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(a_kernel())
    assert profile.main([str(path)]) == 0
    assert "kvm_s2_mmu.pgd_phys" in capsys.readouterr().out
    assert profile.main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["offsets"]["kvm_s2_mmu.pgd_phys"] == 16


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "no arm64 Image"), (b"\x1f\x8b" + bytes(100), "no arm64 Image"), (image(b""), "CONFIG_DEBUG_INFO_BTF")]
)
def test_what_is_no_kernel_is_refused_in_one_line(data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "thing"
    path.write_bytes(data)
    assert profile.main([str(path)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("host", "guest", "counters"), [(64, 72, 64), (64, 68, 32), (72, 64, 32), (64, 64, 32)])
def test_members_of_counters_may_stand_in_any_order(host: int, guest: int, counters: int) -> None:
    made, placed = a_layout(), Places()
    made.offsets[u64(Field.VCPU_PMU_HOST.raw)], made.offsets[u64(Field.VCPU_PMU_GUEST.raw)] = u32(host), u32(guest)
    assert places.fill(made, placed) is None
    assert (placed.pmu_host, placed.pmu_guest, placed.pmu_counters) == (host, guest, (1 << counters) - 1)
