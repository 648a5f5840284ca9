# SPDX-License-Identifier: Apache-2.0
"""The answer to a kernel that asks at which level it was booted, and the calls of KVM's initialisation."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from delphyne.el2.arch import el1, gic
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.world import Places
from delphyne.el2.kvm import bootmode, hostcalls, seats
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.names import Call
from delphyne.lang import Hostile, Pa, u8, u64
from delphyne.lang.machine import Machine

CODE_AT = 0x4100_0000
X30 = 0x4200_0000
OFF_STATE = 0x3C5
MSR_SCTLR, ISB, MSR_ELR, MOVZ, ERET = 0xD518_1000, 0xD503_3FDF, 0xD518_403E, 0x5281_C220, 0xD69F_03E0
SPSR = (0xD2A0_0000, 0xF280_78A0, 0xD518_4000)
KERNEL_6_1 = (MSR_SCTLR, ISB, *SPSR, MSR_ELR, MOVZ, ERET)
"""init_el1 of Debian's 6.1 and 6.12, as their images hold it (the latter has one more ISB before the write)."""
KERNEL_WITH_KEYS = (MSR_SCTLR, ISB, 0xD280_0001, 0xD518_2101, *SPSR, MSR_ELR, 0xD503_201F, MOVZ, ERET)
TVM = 1 << 26


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(0x4000_0000, 0x0400_0000, registers={"HCR_EL2": TVM | 1}) as made:
        seats.stand_up(seats.SEATS.mine())
        yield made


def trapped(machine: Machine, words: tuple[int, ...], *, iss: int | None = None, x0: int = 0x30D0_0800, size: int | None = None) -> Frame:
    """The frame after the first of these instructions trapped."""
    code = struct.pack(f"<{len(words)}I", *words)
    machine.memory.write(CODE_AT, code.ljust(128, b"\0"))
    frame = Frame()
    frame.elr, frame.x[0], frame.x[30] = u64(CODE_AT), u64(x0), u64(X30)
    syndrome = el1.SystemIss.of(u64(int(el1.SCTLR_ISS) if iss is None else iss))
    assert bootmode.serve_write(frame, syndrome, Hostile(Pa(u64(CODE_AT)), u64(128 if size is None else size)))
    return frame


@pytest.mark.parametrize("words", [KERNEL_6_1, KERNEL_WITH_KEYS])
def test_a_kernel_hears_that_it_was_booted_at_el2(machine: Machine, words: tuple[int, ...]) -> None:
    frame = trapped(machine, words)
    assert (int(frame.x[0]), int(frame.elr), int(frame.spsr)) == (0xE12, X30, OFF_STATE)
    assert machine.read_register("SCTLR_EL1") == 0x30D0_0800
    assert machine.read_register("HCR_EL2") & TVM == 0


@pytest.mark.parametrize(
    "words",
    [
        (MSR_SCTLR, ISB, *SPSR, MOVZ, ERET),
        (MSR_SCTLR, ISB, *SPSR, MOVZ, ERET, MSR_ELR),
        (MSR_SCTLR, ISB, *SPSR, MSR_ELR, MOVZ, ISB, ERET),
        (MSR_SCTLR, ISB, *SPSR, MSR_ELR, MOVZ + 0x20, ERET),
        (MSR_SCTLR, ISB, *SPSR, MSR_ELR, ERET),
        (MSR_SCTLR, *((ISB,) * 13), MSR_ELR, MOVZ, ERET),
        (MSR_SCTLR,),
    ],
)
def test_any_other_code_gets_its_write_and_goes_on(machine: Machine, words: tuple[int, ...]) -> None:
    frame = trapped(machine, words)
    assert (int(frame.x[0]), int(frame.elr)) == (0x30D0_0800, CODE_AT + 4)
    assert machine.read_register("HCR_EL2") & TVM


def test_a_kernel_that_turns_its_mmu_on_unasked_is_trapped_no_more(machine: Machine) -> None:
    frame = trapped(machine, (MSR_SCTLR, ISB), x0=0x30D0_0801)
    assert (int(frame.x[0]), int(frame.elr)) == (0x30D0_0801, CODE_AT + 4)
    assert machine.read_register("HCR_EL2") & TVM == 0


def test_the_sequence_counts_only_while_the_mmu_is_off(machine: Machine) -> None:
    machine.write_register("SCTLR_EL1", 1)
    assert int(trapped(machine, KERNEL_6_1).elr) == CODE_AT + 4


def test_code_that_is_not_all_the_hosts_is_not_read(machine: Machine) -> None:
    assert int(trapped(machine, KERNEL_6_1, size=0).elr) == CODE_AT + 4
    assert int(trapped(machine, KERNEL_6_1, size=int(bootmode.WINDOW_BYTES) - 1).elr) == CODE_AT + 4


@pytest.mark.parametrize(
    ("iss", "name"),
    [
        (el1.TTBR0_ISS, "TTBR0_EL1"), (el1.TTBR1_ISS, "TTBR1_EL1"), (el1.TCR_ISS, "TCR_EL1"), (el1.MAIR_ISS, "MAIR_EL1"),
        (el1.AMAIR_ISS, "AMAIR_EL1"), (el1.CONTEXTIDR_ISS, "CONTEXTIDR_EL1"), (el1.ESR_ISS, "ESR_EL1"), (el1.FAR_ISS, "FAR_EL1"),
        (el1.AFSR0_ISS, "AFSR0_EL1"), (el1.AFSR1_ISS, "AFSR1_EL1"),
    ],
)
def test_other_trapped_registers_are_written_as_they_were_meant(machine: Machine, iss: u64, name: str) -> None:
    frame = trapped(machine, KERNEL_6_1, iss=int(iss), x0=0x1234_5678)
    assert machine.read_register(name) == 0x1234_5678
    assert int(frame.elr) == CODE_AT + 4


def test_register_31_is_zero(machine: Machine) -> None:
    machine.write_register("TCR_EL1", 5)
    trapped(machine, KERNEL_6_1, iss=int(el1.TCR_ISS) | 31 << 5)
    assert machine.read_register("TCR_EL1") == 0


def test_reads_and_registers_that_do_not_trap_are_not_served(machine: Machine) -> None:
    for iss in (int(el1.SCTLR_ISS) | 1, int(el1.encoding(3, 0, 12, 0, 0)), 0):
        frame = Frame()
        assert not bootmode.serve_write(frame, el1.SystemIss.of(u64(iss)), Hostile(Pa(u64(CODE_AT)), u64(128)))


def called(function: int, *arguments: int, known: bool = True, numbers: dict[int, Call] | None = None) -> Frame:
    layout = Layout()
    for number, call in (numbers or {}).items():
        layout.calls[number] = u8(call.raw)
    frame = Frame()
    for i, x in enumerate((function, *arguments)):
        frame.x[i] = u64(x)
    frame.elr = u64(CODE_AT)
    hostcalls.serve(frame, layout, Places(), known)
    return frame


def test_the_stubs_calls_answer_as_a_kernel_at_el2_would(machine: Machine) -> None:
    assert int(called(0, 0x4000_0000).x[0]) == 0
    assert int(called(2).x[0]) == 0
    for function in (3, 4, 99, 0xC600_0040, 2**64 - 1):
        assert int(called(function).x[0]) == 0xBAD_CA11


def test_a_soft_restart_begins_the_next_kernel_with_its_mmu_off(machine: Machine) -> None:
    machine.write_register("HCR_EL2", 1)
    machine.write_register("SCTLR_EL1", 0x30D0_0801)
    frame = called(1, 0x5480_0000, 11, 12, 13)
    assert (int(frame.elr), int(frame.spsr)) == (0x5480_0000, OFF_STATE)
    assert [int(frame.x[i]) for i in range(4)] == [11, 12, 13, 0]
    assert machine.read_register("SCTLR_EL1") == 0x30D0_0800
    assert machine.read_register("HCR_EL2") & TVM


def test_calls_of_kvm_need_a_layout(machine: Machine) -> None:
    machine.write_register("MDCR_EL2", 6)
    numbers = {1: Call.GET_MDCR_EL2, 63: Call.GET_MDCR_EL2}
    assert int(called(0xC600_0000, numbers=numbers).x[0]) == 0
    for number in numbers:
        frame = called(0xC600_0000 + number, numbers=numbers)
        assert (int(frame.x[0]), int(frame.x[1])) == (0, 6)
    for number in (0, 1, 5):
        assert int(called(0xC600_0000 + number, known=False, numbers=numbers).x[0]) == 2**64 - 1
    assert int(called(0xC600_0005, numbers=numbers).x[0]) == 2**64 - 1
    assert int(called(0xC600_0002, numbers={2: Call.VCPU_RUN}).x[0]) == 2**64 - 1


def test_a_host_that_wants_speculation_at_el2_hears_yes_and_gets_none(machine: Machine) -> None:
    """DSSBS would let loads overtake stores at EL2, where the host has no say."""
    machine.write_register("ID_AA64PFR1_EL1", 2 << 4)
    machine.write_register("SCTLR_EL2", 0x30C5_183D)
    assert int(called(0xC600_0001, numbers={1: Call.ENABLE_SSBS}).x[0]) == 0
    assert machine.read_register("SCTLR_EL2") == 0x30C5_183D


def test_the_interrupt_controller_is_described_only_where_it_has_registers(machine: Machine) -> None:
    numbers = {1: Call.VGIC_V3_GET_GIC_CONFIG, 2: Call.VGIC_V3_INIT_LRS}
    assert int(called(0xC600_0001, numbers=numbers).x[1]) == 0
    machine.write_register("ID_AA64PFR0_EL1", 1 << 24)
    assert int(called(0xC600_0001, numbers=numbers).x[1]) == 0, "firmware keeps the registers from EL2"
    gic.allow_el1()
    machine.write_register("ICH_VTR_EL2", 3)
    for number in range(16):
        machine.write_register(f"ICH_LR{number}_EL2", 7)
    assert int(called(0xC600_0001, numbers=numbers).x[1]) & 0xFFFF_FFFF == 3
    assert int(called(0xC600_0002, numbers=numbers).x[0]) == 0
    assert [machine.read_register(f"ICH_LR{number}_EL2") for number in (0, 3, 4)] == [0, 0, 7]


def test_a_restart_of_a_kernel_that_is_not_served_asks_no_mode(machine: Machine) -> None:
    called(1, 0x5480_0000, known=False)
    assert machine.read_register("HCR_EL2") & TVM == 0


def test_an_interface_that_firmware_keeps_from_el2_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """ICC_SRE_EL2.SRE reads 0 after it was written: an access to an ICH register would be undefined at EL2 itself."""
    with Machine(0x4000_0000, 0x10_0000, registers={"ID_AA64PFR0_EL1": 1 << 24, "HCR_EL2": 1}) as machine:
        written: list[str] = []
        monkeypatch.setattr(machine, "write_register", lambda name, _: written.append(name))
        numbers = {1: Call.VGIC_V3_GET_GIC_CONFIG, 2: Call.VGIC_V3_INIT_LRS}
        gic.allow_el1()
        assert int(called(0xC600_0001, numbers=numbers).x[1]) == 0
        assert int(called(0xC600_0002, numbers=numbers).x[0]) == 0
        assert written == ["ICC_SRE_EL2"]
