# SPDX-License-Identifier: Apache-2.0
"""Trapped accesses of a guest to its interrupt interface: what each register answers, and that nothing a guest writes reaches a trap of EL2.

`Interface` is the same interface written a second time, from the architecture's rules and with sets in place of registers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.kvm import gic_access
from delphyne.lang import Array, u8, u32, u64
from delphyne.lang.machine import Machine

SPURIOUS = 1023
PENDING, ACTIVE, HW, GROUP1 = 1 << 62, 1 << 63, 1 << 61, 1 << 60
ENABLE0, ENABLE1, COMMON, SPLIT = 1, 2, 1 << 4, 1 << 9
PMR, DIR, RPR, CTLR, IGRPEN0, IGRPEN1 = (4, 6, 0), (12, 11, 1), (12, 11, 3), (12, 12, 4), (12, 12, 6), (12, 12, 7)
IAR, EOIR, HPPIR, BPR = [((12, 8, op2), (12, 12, op2)) for op2 in range(4)]
AP = ([(12, 8, 4 + n) for n in range(4)], [(12, 9, n) for n in range(4)])
SERVED_READS = {PMR, RPR, CTLR, IGRPEN0, IGRPEN1, *IAR, *HPPIR, *BPR}
SERVED_WRITES = {PMR, DIR, CTLR, IGRPEN0, IGRPEN1, *EOIR, *BPR}


def vmcr(flags: int = ENABLE0 | ENABLE1, mask: int = 0xF8, bpr0: int = 2, bpr1: int = 3) -> int:
    return flags | mask << 24 | bpr0 << 21 | bpr1 << 18


def held(intid: int, priority: int, state: int = PENDING, group: int = 1, physical: int | None = None) -> int:
    return state | (HW | physical << 32 if physical is not None else 0) | (GROUP1 if group else 0) | priority << 48 | intid


def vtr(registers: int = 16, preemption: int = 5) -> int:
    return (preemption - 1) << 29 | (preemption - 1) << 26 | 1 << 23 | 1 << 21 | registers - 1


def a_machine(lrs: list[int], state: int = vmcr(), configuration: int = vtr()) -> Machine:
    registers = {"ICH_VTR_EL2": configuration, "ICH_VMCR_EL2": state}
    return Machine(0x4000_0000, 0x10_0000, registers={**registers, **{f"ICH_LR{n}_EL2": x for n, x in enumerate(lrs)}})


def iss_of(register: tuple[int, int, int], read: bool) -> SystemIss:
    crn, crm, op2 = register
    return SystemIss(read=read, crm=u8(crm), crn=u8(crn), op2=u8(op2), op0=u8(3), rt=u8(7))


def read(register: tuple[int, int, int], used: int = 16) -> int | None:
    access = gic_access.perform(iss_of(register, True), u64(used), u64(0))
    return int(access.x) if access.served else None


def write(register: tuple[int, int, int], x: int, used: int = 16) -> bool:
    access = gic_access.perform(iss_of(register, False), u64(used), u64(x))
    assert access.x == 0
    return bool(access.served)


# --- one rule each -----------------------------------------------------------------------------------------------------------------


def test_the_most_urgent_interrupt_is_acknowledged_and_ended() -> None:
    with a_machine([held(40, 0xA0), held(41, 0x80), held(42, 0x80)]) as machine:
        assert read(HPPIR[1]) == 41
        assert read(IAR[1]) == 41
        assert machine.read_register("ICH_LR1_EL2") == held(41, 0x80, ACTIVE)
        assert machine.read_register("ICH_AP1R0_EL2") == 1 << 0x10
        assert read(RPR) == 0x80
        assert read(IAR[1]) == SPURIOUS, "an equal priority does not preempt"
        assert write(EOIR[1], 41)
        assert machine.read_register("ICH_LR1_EL2") == held(41, 0x80, 0)
        assert read(RPR) == 0xFF
        assert read(IAR[1]) == 42


@pytest.mark.parametrize(
    ("state", "answer"),
    [
        (vmcr(mask=0xA0), SPURIOUS),
        (vmcr(mask=0xA8), 40),
        (vmcr(flags=ENABLE0), SPURIOUS),
        (vmcr(flags=ENABLE1), 40),
        (0, SPURIOUS),
    ],
)
def test_masks_and_enables_hold_interrupts_back(state: int, answer: int) -> None:
    with a_machine([held(40, 0xA0)], state):
        assert read(IAR[0]) == SPURIOUS, "not its group"
        assert read(IAR[1]) == answer


def test_a_group_that_is_disabled_does_not_hide_the_other() -> None:
    with a_machine([held(40, 0xA0), held(41, 0x20, group=0)], vmcr(flags=ENABLE1)):
        assert read(HPPIR[0]) == SPURIOUS
        assert read(IAR[1]) == 40
    with a_machine([held(40, 0xA0), held(41, 0x20, group=0)]) as machine:
        assert read(IAR[1]) == SPURIOUS, "the most urgent one is of group 0"
        assert read(IAR[0]) == 41
        assert machine.read_register("ICH_AP0R0_EL2") == 1 << 4


def test_ending_without_deactivation_leaves_it_to_dir() -> None:
    with a_machine([held(40, 0xA0, physical=77)], vmcr(flags=ENABLE0 | ENABLE1 | SPLIT)) as machine:
        assert read(IAR[1]) == 40
        assert write(EOIR[1], 40)
        assert (machine.read_register("ICH_LR0_EL2"), read(RPR)) == (held(40, 0xA0, ACTIVE, physical=77), 0xFF)
        assert machine.read_register("ICC_DIR_EL1") == 0
        assert write(DIR, 40)
        assert machine.read_register("ICH_LR0_EL2") == held(40, 0xA0, 0, physical=77)
        assert machine.read_register("ICC_DIR_EL1") == 77, "the physical interrupt goes with it"


def test_dir_does_nothing_where_ending_deactivates() -> None:
    with a_machine([held(40, 0xA0, ACTIVE)]) as machine:
        assert write(DIR, 40)
        assert machine.read_register("ICH_LR0_EL2") == held(40, 0xA0, ACTIVE)


def test_what_is_pending_again_stays_pending() -> None:
    with a_machine([held(40, 0xA0, PENDING | ACTIVE)]) as machine:
        machine.write_register("ICH_AP1R0_EL2", 1 << 0x14)
        assert read(IAR[1]) == SPURIOUS
        assert write(EOIR[1], 40)
        assert machine.read_register("ICH_LR0_EL2") == held(40, 0xA0, PENDING)


@pytest.mark.parametrize(("intid", "active", "counted"), [(50, 1, 1), (50, 0, 0), (9000, 1, 0), (1022, 1, 0)])
def test_ends_of_interrupts_that_no_list_register_holds_are_counted(intid: int, active: int, counted: int) -> None:
    with a_machine([]) as machine:
        machine.write_register("ICH_HCR_EL2", 31 << 27 | 0x1C01)
        machine.write_register("ICH_AP1R0_EL2", active << 3)
        assert write(EOIR[1], intid)
        assert machine.read_register("ICH_HCR_EL2") == (0 if counted else 31 << 27) | 0x1C01, "the count wraps, and nothing else changes"
        assert machine.read_register("ICH_AP1R0_EL2") == (active << 3 if intid == 1022 else 0)


def test_an_end_by_the_wrong_group_drops_the_priority_and_no_more() -> None:
    with a_machine([held(40, 0xA0)]) as machine:
        assert read(IAR[1]) == 40
        assert write(EOIR[0], 40)
        assert (machine.read_register("ICH_LR0_EL2"), read(RPR)) == (held(40, 0xA0, ACTIVE), 0xFF)


def test_lpis_are_deactivated_by_their_end() -> None:
    with a_machine([held(8200, 0xA0)], vmcr(flags=ENABLE1 | SPLIT)) as machine:
        assert read(IAR[1]) == 8200
        assert write(EOIR[1], 8200)
        assert machine.read_register("ICH_LR0_EL2") == held(8200, 0xA0, 0)


def test_a_number_that_names_no_interrupt_goes_without_becoming_active() -> None:
    with a_machine([held(1021, 0x20)]) as machine:
        assert read(IAR[1]) == 1021
        assert (machine.read_register("ICH_LR0_EL2"), machine.read_register("ICH_AP1R0_EL2")) == (held(1021, 0x20, 0), 0)


@pytest.mark.parametrize(("preemption", "least"), [(5, 3), (6, 2), (7, 1)])
def test_binary_points_have_a_least_value(preemption: int, least: int) -> None:
    with a_machine([], configuration=vtr(preemption=preemption)) as machine:
        for x in (0, 7, 2**64 - 8):
            assert write(BPR[0], x)
            assert write(BPR[1], x)
            assert (read(BPR[0]), read(BPR[1])) == (max(x & 7, least - 1), max(x & 7, least))
        for register, x in ((BPR[0], 4), (BPR[1], 6), (CTLR, 1)):
            assert write(register, x)
        assert read(BPR[1]) == 5, "one more than group 0's"
        assert write(BPR[1], 7)
        assert machine.read_register("ICH_VMCR_EL2") >> 18 & 7 == 6, "ignored while it is not in use"
        assert write(BPR[0], 7)
        assert read(BPR[1]) == 7


def test_a_binary_point_keeps_close_priorities_from_preempting() -> None:
    with a_machine([held(40, 0xA0)], vmcr(bpr1=5)) as machine:
        assert read(IAR[1]) == 40
        machine.write_register("ICH_LR1_EL2", held(41, 0x98))
        assert read(IAR[1]) == 41, "0x98 is in the group of 0x80"
        machine.write_register("ICH_LR2_EL2", held(42, 0x88))
        assert read(IAR[1]) == SPURIOUS
        assert read(RPR) == 0x80
        assert write(EOIR[1], 41)
        assert (machine.read_register("ICH_LR1_EL2"), read(RPR)) == (held(41, 0x98, 0), 0xA0)


def test_settings_read_as_they_were_written() -> None:
    with a_machine([], 0) as machine:
        for register, x in ((PMR, 0x1F0), (IGRPEN0, 3), (IGRPEN1, 1), (BPR[0], 5), (BPR[1], 6), (CTLR, 0xFFFF_FFFF)):
            assert write(register, x)
        assert machine.read_register("ICH_VMCR_EL2") == 0xF0 << 24 | 5 << 21 | 6 << 18 | SPLIT | COMMON | ENABLE0 | ENABLE1
        assert (read(PMR), read(IGRPEN0), read(IGRPEN1), read(BPR[0])) == (0xF0, 1, 1, 5)
        assert read(CTLR) == 3 | 4 << 8 | 1 << 11 | 1 << 15
        assert write(CTLR, 0)
        assert (read(CTLR), read(BPR[1])) == (4 << 8 | 1 << 11 | 1 << 15, 6)


@pytest.mark.parametrize(("preemption", "count"), [(5, 1), (6, 2), (7, 4)])
def test_active_priorities_are_there_as_far_as_the_cpu_has_them(preemption: int, count: int) -> None:
    with a_machine([], configuration=vtr(preemption=preemption)) as machine:
        for group in range(2):
            for number in range(4):
                assert write(AP[group][number], 0x5_0000_0010 + number) == (number < count)
                assert read(AP[group][number]) == (0x10 + number if number < count else None)
                assert (f"ICH_AP{group}R{number}_EL2" in machine.cpu.registers) == (number < count), "the others are undefined for EL2 too"
