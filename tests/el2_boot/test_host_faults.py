# SPDX-License-Identifier: Apache-2.0
"""A host that begins on the simulated machine: its map, its faults, its restart into another kernel."""

from __future__ import annotations

import itertools
import struct

import pytest
import test_boot_scenario as scenario
from fdt_writer import Dt, board, cells64, write

from delphyne.el2.arch import el1, image, psci
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.entry import cpus, dispatch, firmware, host, host_modules, main, next_kernel, own_map
from delphyne.el2.kvm import layout, places
from delphyne.el2.memory import host_map, pages
from delphyne.lang import Hostile, Order, Pa, u64, wipe
from delphyne.lang.machine import Access, GuestFault, Machine

booted = scenario.booted
Booted = tuple[Machine, scenario.SerialPort, scenario.Firmware]
RAM, RAM_BYTES, DEVICE = scenario.RAM, scenario.RAM_BYTES, scenario.UART_AT
KERNEL_AT, NEXT_AT = 0x4280_0000, 0x4300_0000
RESERVED = 0x4180_0000


def arm_image(size: int) -> bytes:
    return bytes(16) + struct.pack("<QQ", size, 0xA) + bytes(24) + b"ARM\x64" + bytes(4036)


def start(machine: Machine) -> Frame:
    """Boots a host without BTF; its first state."""
    for static in (host_map.HOST_SPACE, host_modules.WANTED):
        wipe(static)
    machine.memory.write(KERNEL_AT, arm_image(0x10_0000))
    root = board(cells64(RAM, RAM_BYTES))
    node = Dt({"compatible": ["multiboot,kernel", "multiboot,module"], "reg": cells64(KERNEL_AT, 4096), "bootargs": "quiet"})
    root.children["chosen"].children = {"module@1": node}
    return scenario.boot(machine, write(root, [(RESERVED, 0x1000)]))


def mapped(machine: Machine, at: int, access: Access = Access.WRITE) -> bool:
    try:
        return machine.stage2_translate(at, access) == at
    except GuestFault:
        return False


def abort(at: int, fsc: int = 0x05, instruction: bool = False) -> Frame:
    frame = Frame()
    frame.esr = u64((0x20 if instruction else 0x24) << 26 | 1 << 25 | fsc)
    frame.hpfar, frame.far, frame.elr, frame.spsr = u64(at >> 12 << 4), u64(at), u64(KERNEL_AT), u64(0x3C5)
    dispatch.el2_lower(frame, u64(0))
    return frame


def test_a_host_begins_at_its_kernel_with_its_own_tree(booted: Booted) -> None:
    machine, _, firmware_calls = booted
    frame = start(machine)
    assert (int(frame.elr), int(frame.spsr)) == (KERNEL_AT, 0x3C5)
    assert int(frame.x[0]) == int(host.HOST.tree_at.raw)
    assert machine.memory.read(int(frame.x[0]), 4) == b"\xd0\x0d\xfe\xed"
    assert any("it boots without /dev/kvm" in line for line in scenario.said(machine))
    assert all(call[0] != psci.PSCI_CPU_ON for call in firmware_calls.calls), "the other CPUs are the host's to start"
    assert not machine.read_register("HCR_EL2") & 1 << 26, "a kernel that is not served is not asked"


def test_all_ram_but_el2s_is_mapped_before_the_first_instruction(booted: Booted) -> None:
    machine, _, _ = booted
    start(machine)
    image_end = int(own_map.own_image_end(MACHINE).raw)
    own = [(int(image.image_start().raw), image_end), (int(pages.REGION.base.raw), int(pages.REGION.base.raw + own_map.own_bytes()))]
    for at in range(RAM, RAM + RAM_BYTES, 0x1_0000):
        inside = any(first <= at < last for first, last in own)
        for access in (Access.READ, Access.WRITE, Access.EXECUTE):
            assert mapped(machine, at, access) is not inside, hex(at)
    for first, last in own:
        assert mapped(machine, first - 1) or first == RAM
        assert not mapped(machine, last - 1)


def test_a_device_is_mapped_when_it_is_touched(booted: Booted) -> None:
    machine, _, _ = booted
    start(machine)
    assert not mapped(machine, DEVICE)
    frame = abort(DEVICE)
    assert int(frame.elr) == KERNEL_AT, "the access is made again"
    assert mapped(machine, DEVICE)
    assert int(abort(DEVICE).elr) == KERNEL_AT, "another CPU was faster"


def test_el2s_memory_is_an_external_abort(booted: Booted) -> None:
    machine, _, _ = booted
    start(machine)
    machine.write_register("VBAR_EL1", 0x8_0000)
    for at, instruction in itertools.product((int(image.image_start().raw), int(pages.REGION.base.raw)), (False, True)):
        frame = abort(at, instruction=instruction)
        assert int(frame.elr) == 0x8_0200
        assert machine.read_register("ESR_EL1") == (0x21 if instruction else 0x25) << 26 | 1 << 25 | 0x10
        assert machine.read_register("FAR_EL1") == at
        assert not mapped(machine, at)
        assert f"touches {at:#x}, which is not its own" in scenario.said(machine)[-1]


def test_whose_memory_is_whose(booted: Booted) -> None:
    start(booted[0])
    last = RAM + RAM_BYTES - 8
    theirs = [(RAM, 8), (last, 8), (RESERVED - 1, 1), (RESERVED + 0x1000, 1)]
    others = [(RAM, 0), (RAM - 1, 2), (last, 9), (RESERVED + 0xFFF, 1), (RESERVED - 1, 2), (2**64 - 1, 2), (int(pages.REGION.base.raw) - 1, 2)]
    assert [host.is_hosts(Pa(u64(at)), u64(size)) for at, size in theirs] == [True] * len(theirs)
    assert [host.is_hosts(Pa(u64(at)), u64(size)) for at, size in others] == [False] * len(others)


@pytest.mark.parametrize("call", [0xC400_000E, 0xC400_0001], ids=["SYSTEM_SUSPEND", "CPU_SUSPEND"])
def test_a_resume_is_a_start_at_the_hosts_entry(booted: Booted, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """The firmware has the CPU begin at EL2's entry, all registers lost: the host's map and controls are set anew, and it may ask its mode again."""
    machine, _, _ = booted
    start(machine)
    host.HOST.layout_known = True
    monkeypatch.setattr(firmware, "smc_relay", lambda frame: None)
    frame = Frame()
    arguments = (call, 0x4140_0000, 9) if call == 0xC400_000E else (call, 0x1_0000, 0x4140_0000, 9)
    for at, x in enumerate(arguments):
        frame.x[at] = u64(x)
    firmware.serve(frame)
    kept = {name: machine.read_register(name) for name in ("VTTBR_EL2", "VTCR_EL2", "HCR_EL2", "MDCR_EL2")}
    for name in kept:
        machine.write_register(name, 0)
    with pytest.raises(scenario.Entered) as entered:
        main.el2_secondary(CPUS.of(0))
    begun = entered.value.frame
    assert (int(begun.elr), int(begun.x[0]), int(begun.spsr)) == (0x4140_0000, 9, 0x3C5)
    found = {name: machine.read_register(name) for name in kept}
    assert found == {**kept, "HCR_EL2": kept["HCR_EL2"] | 1 << 26}


PIECES = 3


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """What the firmware says of each CPU by affinity: 0 on, 1 off."""
    known = {0: 0, 1: 1}
    monkeypatch.setattr(firmware, "smc_call", lambda function, x1, x2, x3: u64(known[int(x1)]))
    return known


@pytest.fixture
def restarted(booted: Booted, power: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A host whose kernel could be read, just restarted; the sizes of the images that were begun since. Reading one takes PIECES pieces."""
    machine, _, _ = booted
    start(machine)
    cpus.prepare_others(MACHINE)
    begun: list[int] = []

    def begin(reading: layout.Reading, file: Hostile) -> None:
        begun.append(int(file.size))
        reading.item, reading.phase = u64(0), layout.Phase.SEARCH

    def go_on(reading: layout.Reading, checkpoints: object, found: object) -> bool:
        reading.item += 1
        if reading.item == PIECES:
            reading.phase = layout.Phase.DONE
        return reading.item == PIECES

    monkeypatch.setattr(layout, "begin", begin)
    monkeypatch.setattr(layout, "go_on", go_on)
    monkeypatch.setattr(layout, "is_complete", lambda found: True)
    monkeypatch.setattr(places, "fill", lambda found, made: None)
    wipe(next_kernel.NEXT)
    host.HOST.layout_known = True
    CPUS.of(0).restarted = True
    machine.memory.write(NEXT_AT, arm_image(0x20_0000))
    return begun


def running(at: int) -> bool:
    """Whether the host has to execute the instruction at `at` once more."""
    frame = Frame()
    frame.elr = u64(at)
    again = next_kernel.look(frame)
    assert int(frame.elr) == at
    return again


def read_to_the_end(at: int) -> None:
    """As the host does that only executes its instruction until it is through."""
    pieces = 0
    while running(at):
        assert not host.HOST.layout_known
        pieces += 1
    assert pieces == PIECES


def test_the_next_kernel_is_read_once_and_in_pieces(restarted: list[int]) -> None:
    assert not running(0x4200_0000)
    assert (restarted, CPUS.of(0).restarted) == ([], True), "not a kernel yet"
    read_to_the_end(NEXT_AT + 0x1F_FFFC)
    assert (restarted, CPUS.of(0).restarted, host.HOST.layout_known) == ([0x20_0000], False, True)
    assert not running(NEXT_AT)
    assert restarted == [0x20_0000]


def test_the_trapped_instruction_is_executed_again_after_each_piece(booted: Booted, restarted: list[int]) -> None:
    """By the exception itself: the register is written, and the program counter moves, only once the kernel is read."""
    machine = booted[0]
    frame = Frame()
    frame.elr, frame.esr = u64(NEXT_AT + 8), u64(0x18 << 26 | 1 << 25 | int(el1.TCR_ISS) | 3 << 5)
    frame.x[3] = u64(0x77)
    for _ in range(PIECES):
        dispatch.el2_lower(frame, u64(0))
        assert int(frame.elr) == NEXT_AT + 8
        assert machine.read_register("TCR_EL1") == 0
    dispatch.el2_lower(frame, u64(0))
    assert int(frame.elr) == NEXT_AT + 12
    assert machine.read_register("TCR_EL1") == 0x77


def test_while_other_cpus_run_it_is_not_read(restarted: list[int]) -> None:
    CPUS.of(1).power.store(firmware.POWER_ON, Order.RELEASE)
    assert not running(NEXT_AT + 8)
    assert (restarted, host.HOST.layout_known) == ([], False)
    assert int(host.memory_from(Pa(u64(NEXT_AT))).size) == 0


def test_a_cpu_that_the_firmware_does_not_let_go_is_on(
    booted: Booted, restarted: list[int], power: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU 1 asks to be switched off, and CPU 0 restarts while the firmware thinks about it: it answers DENIED, and CPU 1 runs the host again."""
    power[1] = 0

    def thinks(frame: Frame) -> None:
        with booted[0].on(0):
            assert CPUS.of(1).power.load(Order.RELAXED) == firmware.POWER_OFF
            assert not running(NEXT_AT)
        frame.x[0] = u64(2**64 - 3)

    monkeypatch.setattr(firmware, "smc_relay", thinks)
    CPUS.of(1).power.store(firmware.POWER_ON, Order.RELEASE)
    frame = Frame()
    frame.x[0] = u64(0x8400_0002)
    with booted[0].on(1):
        firmware.serve(frame)
    assert CPUS.of(1).power.load(Order.RELAXED) == firmware.POWER_ON
    assert (restarted, host.HOST.layout_known) == ([], False)


def test_a_cpu_that_is_started_between_two_pieces_spoils_the_reading(restarted: list[int]) -> None:
    assert running(NEXT_AT)
    CPUS.of(1).power.store(firmware.POWER_ON, Order.RELEASE)
    while running(NEXT_AT):
        pass
    assert (restarted, host.HOST.layout_known) == ([0x20_0000], False)
    assert not running(NEXT_AT)


def test_two_cpus_never_read_at_once(booted: Booted, restarted: list[int], power: dict[int, int]) -> None:
    """CPU 0 begins, starts CPU 1 and is switched off; CPU 1 restarts and begins; CPU 0 comes back and finds that it is not its reading."""
    assert running(NEXT_AT)
    CPUS.of(0).power.store(firmware.POWER_OFF, Order.RELEASE)
    CPUS.of(1).power.store(firmware.POWER_ON, Order.RELEASE)
    power.update({0: 1, 1: 0})
    CPUS.of(1).restarted = True
    with booted[0].on(1):
        assert running(NEXT_AT)
        assert running(NEXT_AT)
    CPUS.of(0).power.store(firmware.POWER_ON, Order.RELEASE)
    power.update({0: 0})
    assert not running(NEXT_AT)
    assert restarted == [0x20_0000, 0x20_0000]
    with booted[0].on(1):
        while running(NEXT_AT):
            pass
    assert not host.HOST.layout_known


def test_code_that_is_in_no_image_is_left(restarted: list[int]) -> None:
    for at in (0, 8, 2**64 - 4, RAM - 4, DEVICE, 0x4020_0000, RAM + RAM_BYTES):
        assert not running(at)
    assert restarted == []
    assert host.HOST.layout_known
