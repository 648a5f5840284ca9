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
from delphyne.lang import u8, u32, u64
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


def test_list_registers_beyond_those_in_use_are_left_alone() -> None:
    with a_machine([held(40, 0xA0), held(41, 0x80)]):
        assert read(HPPIR[1], used=1) == 40
        assert read(HPPIR[1], used=0) == SPURIOUS
        assert read(HPPIR[1], used=2**64 - 1) == 41
    with a_machine([held(40, 0xA0), held(41, 0x80)], configuration=vtr(registers=1)):
        assert read(HPPIR[1], used=16) == 40


def test_only_the_interface_is_served() -> None:
    """Every register, both directions: what is not served changes nothing."""
    with a_machine([held(40, 0xA0)]) as machine:
        before = dict(machine.cpu.registers)
        for crn in range(16):
            for crm in range(16):
                for op2 in range(8):
                    register = (crn, crm, op2)
                    if register not in SERVED_READS and register not in (AP[0][0], AP[1][0]):
                        assert read(register) is None, register
                    if register not in SERVED_WRITES and register not in (AP[0][0], AP[1][0]):
                        assert not write(register, 2**64 - 1), register
        for op0, op1 in ((2, 0), (3, 1), (3, 4), (1, 0)):
            for read_it in (False, True):
                iss = iss_of(PMR, read_it).replace(op0=u8(op0), op1=u8(op1))
                assert not gic_access.perform(iss, u64(16), u64(0)).served
                assert not gic_access.perform(iss_of(AP[0][0], read_it).replace(op0=u8(op0), op1=u8(op1)), u64(16), u64(0)).served
        assert machine.cpu.registers == before


def test_cp15_accesses_are_those_of_the_mapped_register() -> None:
    """MRC p15, 0, Rt, c12, c12, 0 is ICC_IAR1; the condition lies where op0 does."""
    for condition in (0, 0xE, 0x1F):
        iss = gic_access.from_cp15(u32(condition << 20 & 0x1FF_FFFF | 12 << 10 | 12 << 1 | 9 << 5 | 1))
        assert iss == iss_of(IAR[1], True).replace(rt=u8(9))
    with a_machine([held(40, 0xA0)]):
        assert gic_access.perform(iss, u64(16), u64(0)) == gic_access.Access(True, u64(40))


# --- the whole interface against a second one --------------------------------------------------------------------------------------


@dataclass
class Interface:
    """The interface by the architecture's rules: `active` are (priority, group) that count for preemption."""

    lrs: list[list[int]]
    """[vINTID, priority, group, pending, active]"""
    bits: int
    enabled: list[bool] = field(default_factory=lambda: [False, False])
    mask: int = 0
    point: list[int] = field(default_factory=lambda: [0, 0])
    common: bool = False
    split: bool = False
    active: set[tuple[int, int]] = field(default_factory=set)
    count: int = 0

    def prefix(self, priority: int, group: int) -> int:
        drop = self.point[1] if group and not self.common else self.point[0] + 1
        return priority >> drop << drop

    def best(self) -> list[int] | None:
        ready = [lr for lr in self.lrs if lr[3] and not lr[4] and self.enabled[lr[2]] and lr[1] < 0xFF]
        return min(ready, key=lambda lr: lr[1]) if ready else None

    def running(self) -> int:
        return min((priority for priority, _ in self.active), default=0xFF)

    def iar(self, group: int) -> int:
        lr = self.best()
        if lr is None or lr[2] != group or lr[1] >= self.mask or self.prefix(lr[1], group) >= self.running():
            return SPURIOUS
        lr[3] = 0
        if lr[0] not in range(1020, 1024):
            lr[4] = 1
            self.active.add((self.prefix(lr[1], group), group))
        return lr[0]

    def hppir(self, group: int) -> int:
        lr = self.best()
        return lr[0] if lr is not None and lr[2] == group else SPURIOUS

    def eoir(self, group: int, intid: int) -> None:
        if intid in range(1020, 1024) or not self.active:
            return
        top = min(self.active, key=lambda pair: (pair[0], -pair[1]))
        self.active.remove(top)
        found = next((lr for lr in self.lrs if lr[4] and lr[0] == intid), None)
        if found is None:
            self.count += intid < 8192
        elif (not self.split or intid >= 8192) and found[2] == group and self.prefix(found[1], group) == top[0]:
            found[4] = 0

    def dir(self, intid: int) -> None:
        if not self.split or intid >= 8192 or intid in range(1020, 1024):
            return
        found = next((lr for lr in self.lrs if lr[4] and lr[0] == intid), None)
        if found is None:
            self.count += 1
        else:
            found[4] = 0


INTIDS = [27, 40, 41, 8192, 8193, 1021, 1023]
intids = st.sampled_from(INTIDS)
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["iar", "hppir", "rpr", "pend"]), st.integers(0, 1), st.integers(0, 3)),
        st.tuples(st.sampled_from(["eoir", "dir"]), st.integers(0, 1), intids),
        st.tuples(st.sampled_from(["pmr", "bpr", "ctlr", "enable"]), st.integers(0, 1), st.integers(0, 0xFF)),
    ),
    max_size=30,
)
list_registers = st.lists(st.tuples(intids, st.integers(0, 31), st.integers(0, 1), st.integers(0, 1)), min_size=4, max_size=4)


@given(list_registers, st.integers(5, 7), operations)
@settings(max_examples=300, deadline=None)
def test_both_interfaces_agree_after_any_accesses(lrs: list[tuple[int, int, int, int]], bits: int, steps: list[tuple[str, int, int]]) -> None:
    other = Interface([[intid, priority << 3, group, pending, 0] for intid, priority, group, pending in lrs], bits)
    least = 8 - bits
    state = vmcr(flags=0, mask=0, bpr0=least - 1, bpr1=least)
    other.point = [least - 1, least]
    first = [held(lr[0], lr[1], PENDING if lr[3] else 0, lr[2]) for lr in other.lrs]
    with a_machine(first, state, vtr(preemption=bits)) as machine:
        for name, group, x in steps:
            if name == "iar":
                assert read(IAR[group]) == other.iar(group)
            elif name == "hppir":
                assert read(HPPIR[group]) == other.hppir(group)
            elif name == "rpr":
                assert read(RPR) == other.running()
            elif name == "pend":
                other.lrs[x][3] = 1
                machine.write_register(f"ICH_LR{x}_EL2", machine.read_register(f"ICH_LR{x}_EL2") | PENDING)
            elif name == "eoir":
                assert write(EOIR[group], x)
                other.eoir(group, x)
            elif name == "dir":
                assert write(DIR, x)
                other.dir(x)
            elif name == "pmr":
                assert write(PMR, x)
                other.mask = x
            elif name == "bpr":
                assert write(BPR[group], x)
                if not (group and other.common):
                    other.point[group] = max(x & 7, least - 1 + group)
            elif name == "ctlr":
                assert write(CTLR, x)
                other.common, other.split = bool(x & 1), bool(x & 2)
            else:
                assert write((IGRPEN0, IGRPEN1)[group], x)
                other.enabled[group] = bool(x & 1)
        wanted = [held(lr[0], lr[1], (PENDING if lr[3] else 0) | (ACTIVE if lr[4] else 0), lr[2]) for lr in other.lrs]
        assert [machine.read_register(f"ICH_LR{n}_EL2") for n in range(4)] == wanted
        assert machine.read_register("ICH_HCR_EL2") >> 27 == other.count % 32


anything = st.integers(0, 2**64 - 1)
registers = st.one_of(st.sampled_from(sorted(SERVED_READS | SERVED_WRITES | set(AP[0]) | set(AP[1]))), st.tuples(*[st.integers(0, 7)] * 3))


@given(anything, st.lists(anything, max_size=16), anything, anything, st.lists(st.tuples(registers, st.booleans(), anything), max_size=12))
@settings(max_examples=300, deadline=None)
def test_no_number_reaches_a_trap(
    used: int, lrs: list[int], state: int, configuration: int, steps: list[tuple[tuple[int, int, int], bool, int]]
) -> None:
    """Whatever a guest writes, a host has put into the list registers, and a processor says of itself."""
    with a_machine(lrs, state, configuration) as machine:
        for name in ("ICH_AP0R0_EL2", "ICH_AP1R0_EL2", "ICH_HCR_EL2"):
            machine.write_register(name, state >> 7)
        for register, is_read, x in steps:
            answer = gic_access.perform(iss_of(register, is_read), u64(used), u64(x))
            assert int(answer.x) < 2**32


@given(anything, anything, anything)
@settings(max_examples=200, deadline=None)
def test_no_syndrome_reaches_a_trap(raw: int, x: int, used: int) -> None:
    with a_machine([held(40, 0xA0)]):
        gic_access.perform(SystemIss.of(u64(raw)), u64(used), u64(x))
        gic_access.perform(gic_access.from_cp15(u32(raw & 0xFFFF_FFFF)), u64(used), u64(x))
