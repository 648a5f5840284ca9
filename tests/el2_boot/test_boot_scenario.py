# SPDX-License-Identifier: Apache-2.0
"""The boot itself in CPython: the same functions that run at EL2, on the simulated machine, up to the trap on purpose."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fdt_writer import board, cells64, write
from gic_device import Gic
from serial_port import SerialPort

from delphyne.el2.arch import caches, cpu, image, psci
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.arch.uart import UartKind
from delphyne.el2.control import console, stop
from delphyne.el2.entry import cpus, demo, dispatch, gic_guard, gic_places, host, host_modules, its_queue, its_tables, main, own_map
from delphyne.el2.memory import frames, pages
from delphyne.el2.sealing import engine
from delphyne.lang import Order, Pa, Trap, TrapKind, Va, address_of, u32, u64, wipe
from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine import Access, GuestFault, Machine

RAM, RAM_BYTES = 0x4000_0000, 0x0400_0000
BLOB_AT = 0x4100_0000
UART_AT = 0x0900_1000
REGISTERS = {
    "MIDR_EL1": 0x411F_D070,
    "ID_AA64MMFR0_EL1": 0x4,
    "ID_AA64ISAR0_EL1": 0x1_1120,
    "ID_AA64DFR0_EL1": 0x100,
    "PMCR_EL0": 6 << 11,
    "HCR_EL2": 1 << 31,
    "CNTFRQ_EL0": 0,
    "CNTPCT_EL0": 0,
}


class Entered(Exception):
    """EL1 would run now, from the frame."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame


class Idle(Exception):
    """A CPU waits for an event."""


class Parked(Exception):
    """A CPU does nothing any more."""


class Firmware:
    """PSCI as the machine's firmware has it, and the interrupt controller.

    CPUs whose number is in `refused` do not start; those in `lost` start and never arrive."""

    gic: Gic

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.calls: list[tuple[int, ...]] = []
        self.refused: set[int] = set()
        self.lost: set[int] = set()

    def call(self, function: u64, x1: u64, x2: u64, x3: u64) -> u64:
        self.calls.append((int(function), int(x1), int(x2), int(x3)))
        if function != psci.PSCI_CPU_ON:
            return u64(0)
        number = int(x1)
        if number in self.refused:
            return u64(2**64 - 2)
        if number not in self.lost:
            with self.machine.on(number), pytest.raises(Idle):
                main.el2_secondary(CPUS.of(number))
        return u64(0)


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, SerialPort, Firmware]]:
    """A machine that is ready to call `el2_main`."""

    def raising(error: type[Exception]) -> object:
        def function(*given: object) -> None:
            raise error(*given)

        return function

    statics = [MACHINE, own_map.EL2_SPACE, demo.DEMO_SPACE, pages.POOLS, pages.REGION, cpu.ONLINE, stop.STOPPING, stop.STOPPED]
    statics += [console.CONSOLE, engine.CHOICE, host.HOST, host_modules.WANTED, frames.LAYOUT]
    statics += [gic_places.PLACES, gic_guard.NAMED, its_queue.QUEUES, its_queue.ITTS, its_tables.ITS_TABLES]
    forget_held_locks()
    for static in statics:
        wipe(static)
    for number in range(4):
        wipe(CPUS.of(number))
    monkeypatch.setattr(image, "enter_lower", raising(Entered))
    monkeypatch.setattr(image, "wait_for_event", raising(Idle))
    monkeypatch.setattr(stop, "park", raising(Parked))
    with Machine(RAM, RAM_BYTES, cpus=2, registers=REGISTERS) as machine:
        firmware = Firmware(machine)
        monkeypatch.setattr(psci, "smc_call", firmware.call)
        monkeypatch.setattr(cpus, "smc_call", firmware.call)
        port = SerialPort(UartKind.PL011)
        machine.add_device(UART_AT, 0x1000, port)
        firmware.gic = Gic(machine)
        tick = iter(range(10**9))
        read = machine.read_register
        monkeypatch.setattr(machine, "read_register", lambda name: next(tick) * 10**8 if name == "CNTPCT_EL0" else read(name))
        yield machine, port, firmware
    forget_held_locks()
    for static in statics:
        wipe(static)


def boot(machine: Machine, blob: bytes) -> Frame:
    """Runs `el2_main`; the state with which it enters EL1."""
    machine.memory.write(BLOB_AT, blob)
    with pytest.raises(Entered) as entered:
        main.el2_main(u64(BLOB_AT), u64(len(blob)))
    return entered.value.frame


def said(machine: Machine) -> list[str]:
    """What was logged; in CPython messages are kept by the machine and do not reach the port."""
    return [message for _, message in machine.messages]


def use_own_map(machine: Machine) -> None:
    """What `switch_map` writes, on the simulated machine."""
    mine = CPUS.of(0)
    for name, value in (("TCR_EL2", mine.tcr), ("MAIR_EL2", mine.mair), ("TTBR0_EL2", mine.ttbr), ("SCTLR_EL2", mine.sctlr)):
        machine.write_register(name, int(value))


def rights(machine: Machine, va: int) -> str:
    """r, w, x: what EL2's own map allows at an address that it maps to itself."""
    allowed = ""
    for letter, access in (("r", Access.READ), ("w", Access.WRITE), ("x", Access.EXECUTE)):
        try:
            assert machine.el2_translate(va, access) == va
        except GuestFault:
            continue
        allowed += letter
    return allowed


def test_the_boot_reaches_el1_and_says_so(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, port, firmware = booted
    frame = boot(machine, write(board(cells64(RAM, RAM_BYTES)), [(0x4300_0000, 0x1000)]))
    assert int(frame.elr) == int(demo.DEMO_IPA)
    assert int(frame.spsr) == 0x3C5
    assert port.text == "delphyne/0: Delphyne, a hypervisor in typed Python\n"
    lines = said(machine)
    assert lines[:2] == [
        "running at EL2, image at 0x40200000, device tree at 0x41000000",
        "processor: implementer 0x41, part 0xd07, 44 address bits",
    ]
    assert "machine: 2 CPUs, 64 MiB of RAM, GICv3" in lines
    assert "RAM 0x40000000 to 0x44000000" in lines
    assert "reserved 0x43000000 to 0x43001000" in lines
    assert sum("ba7816bf8f01cfea..b410ff61f20015ad is right" in line for line in lines) == 2
    assert "2 of 2 CPUs run at EL2" in lines
    assert [call[0] for call in firmware.calls] == [0xC400_0003]
    assert firmware.calls[0][1:] == (1, int(image.secondary_entry_address().raw), int(address_of(CPUS.of(1)).raw))
    assert machine.cpus[0].registers["TPIDR_EL2"] == int(address_of(CPUS.of(0)).raw)
    for number in range(2):
        registers = machine.cpus[number].registers
        assert registers["CPTR_EL2"] == 0x22FF
        assert registers["MDCR_EL2"] == 6
        assert registers["CNTHCTL_EL2"] == 3
        assert registers["VMPIDR_EL2"] == 1 << 31 | number
    started = CPUS.of(1)
    assert (int(started.ttbr), int(started.tcr)) == (int(CPUS.of(0).ttbr), int(CPUS.of(0).tcr))
    assert (int(started.index), int(started.mpidr)) == (1, 1)


def test_el2s_own_map_gives_each_page_its_rights_and_no_more(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    boot(machine, write(board(cells64(RAM, RAM_BYTES)), [(0x4300_0000, 0x1000)]))
    use_own_map(machine)
    start = int(image.image_start().raw)
    stacks = int(image.image_stacks_start().raw)
    assert rights(machine, start) == "rx"
    assert rights(machine, int(image.image_text_end().raw)) == "r"
    assert rights(machine, int(image.image_rodata_end().raw)) == "rw"
    assert rights(machine, int(image.image_data_end().raw)) == "", "the tables of the first map"
    for slot in range(3):
        base = stacks + slot * int(cpu.SLOT_BYTES)
        used = slot < 2
        guards = [base, base + int(cpu.STACK_OFFSET) - 0x1000]
        for page in range(base, base + int(cpu.SLOT_BYTES), 0x1000):
            assert rights(machine, page) == ("" if used and page in guards else "rw"), "a stack, or RAM where there is no such CPU"
        assert int(CPUS.of(slot).stack_top) == (base + int(cpu.SLOT_BYTES) if used else 0)
    assert rights(machine, BLOB_AT) == "rw", "its seed is wiped"
    assert rights(machine, UART_AT & ~0xFFF) == "rw"
    assert rights(machine, RAM) == rights(machine, RAM + RAM_BYTES - 8) == "rw"
    assert rights(machine, 0x4300_0000) == "", "reserved"
    assert rights(machine, 0x4300_1000) == "rw"
    assert rights(machine, RAM - 0x1000) == rights(machine, RAM + RAM_BYTES) == ""


def call(frame: Frame, x: list[int]) -> Frame:
    """One HVC of the program with these first registers."""
    for number, value in enumerate(x):
        frame.x[number] = u64(value)
    dispatch.el2_call(frame)
    return frame


def lower(frame: Frame, x: list[int], ec: int = 0x16, vector: int = 0) -> Frame:
    """One exception of the program with these first registers that is no HVC from AArch64."""
    for number, value in enumerate(x):
        frame.x[number] = u64(value)
    frame.esr = u64(ec << 26 | 1 << 25)
    dispatch.el2_lower(frame, u64(vector))
    return frame


def test_the_program_at_el1_is_served(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, port, _ = booted
    frame = boot(machine, write(board(cells64(RAM, RAM_BYTES))))
    assert machine.stage2_translate(int(demo.DEMO_IPA), Access.EXECUTE) == int(demo.demo_page_address().raw)
    with pytest.raises(GuestFault):
        machine.stage2_translate(int(demo.DEMO_IPA), Access.WRITE)
    with pytest.raises(GuestFault):
        machine.stage2_translate(int(demo.DEMO_IPA) + 0x1000)
    machine.memory.write(int(demo.demo_page_address().raw) + 0xFF0, b"sixteen bytes  !")
    assert int(call(frame, [1, int(demo.DEMO_IPA) + 0xFF0, 16]).x[0]) == 0
    assert port.text.endswith("delphyne/0: sixteen bytes  !\n")
    for at, length in ((0xFF1, 16), (0xFF0, 65), (0x1000, 1), (2**63, 1), (0xFF0, 2**64 - 1)):
        assert int(call(frame, [1, int(demo.DEMO_IPA) + at, length]).x[0]) == 2**64 - 1, (at, length)
    assert int(call(frame, [99]).x[0]) == 2**64 - 1
    frame.esr = u64(0x24 << 26 | 1 << 25 | 1 << 24 | 3 << 16 | 0x05)
    frame.far, frame.hpfar, frame.elr = u64(0x9000_0024), u64(0x9_0000 << 4), u64(0x1000_001C)
    frame.x[3] = u64(77)
    dispatch.el2_lower(frame, u64(0))
    assert "stage-2 abort: EL1 at 0x1000001c accesses 0x90000024, write False, fault status 0x5" in said(machine)
    assert (int(frame.x[3]), int(frame.elr)) == (0, 0x1000_0020)
    assert int(call(frame, [3, 40, 2]).x[0]) == 42
    with pytest.raises(Trap) as trap:
        call(frame, [3, 2**64 - 16, 17])
    assert trap.value.kind is TrapKind.OVERFLOW


@pytest.mark.parametrize(("ec", "vector"), [(0x17, 0), (0x20, 0), (0x3F, 0), (0x16, 1), (0x16, 5)])
def test_what_is_not_served_ends_the_machine(booted: tuple[Machine, SerialPort, Firmware], ec: int, vector: int) -> None:
    machine, _, firmware = booted
    frame = boot(machine, write(board(cells64(RAM, RAM_BYTES))))
    with pytest.raises(Parked):
        lower(frame, [1], ec, vector)
    assert f"EL1 at 0x10000000 raises what is not served: vector {vector}, ESR_EL2 {ec << 26 | 1 << 25:#x}, FAR_EL2 0x0" in said(machine)
    assert firmware.calls[-1][0] == 0x8400_0008
    assert stop.is_stopping()


def test_a_cpu_that_comes_to_el2_while_it_stops_does_not_go_back(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    frame = boot(machine, write(board(cells64(RAM, RAM_BYTES))))
    assert stop.begin_stop()
    with pytest.raises(Parked):
        lower(frame, [1])
    assert int(stop.STOPPED.load(Order.RELAXED)) == 1


@pytest.mark.parametrize(
    ("refused", "lost", "line"),
    [
        ({1}, set(), "CPU 1 (affinity 1) is not started: PSCI says 0xfffffffffffffffe"),
        (set(), {1}, "CPU 1 (affinity 1) was started and does not arrive"),
    ],
)
def test_a_cpu_that_does_not_start_is_named_and_left(
    booted: tuple[Machine, SerialPort, Firmware], refused: set[int], lost: set[int], line: str
) -> None:
    machine, _, firmware = booted
    firmware.refused, firmware.lost = refused, lost
    boot(machine, write(board(cells64(RAM, RAM_BYTES))))
    assert line in said(machine)
    assert "1 of 2 CPUs run at EL2" in said(machine)


def test_without_psci_the_others_are_left(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    root = board(cells64(RAM, RAM_BYTES))
    del root.children["psci"]
    boot(machine, write(root))
    assert "CPU 1 is not started: the device tree has no PSCI by SMC" in said(machine)


def refusal(machine: Machine, blob: bytes, length: int | None = None) -> None:
    machine.memory.write(BLOB_AT, blob)
    with pytest.raises(Parked):
        main.el2_main(u64(BLOB_AT), u64(len(blob) if length is None else length))


def test_a_tree_that_cannot_be_used_is_refused_in_words(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, port, firmware = booted
    refusal(machine, write(board(cells64(RAM, 0x2000, RAM + 0x1000, 0x1000))))
    assert port.text.endswith("delphyne/0: the device tree cannot be used\n")
    assert said(machine)[-1] == "error 8; EL2 does not start"
    assert firmware.calls[-1][0] == 0x8400_0008


def test_every_frame_has_an_owner(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    reserved = 0x4300_0000, 0x4300_1000
    boot(machine, write(board(cells64(RAM, RAM_BYTES)), [(reserved[0], 0x1000)]))
    own = int(pages.REGION.base.raw), int(pages.REGION.base.raw) + int(own_map.own_bytes())
    image_range = int(image.image_start().raw), int(own_map.own_image_end(MACHINE).raw)
    for number in range(RAM_BYTES >> 12):
        address = RAM + (number << 12)
        entry = frames.entry_of(Pa(u64(address)))
        assert entry is not None
        mine = any(start <= address < end for start, end in (own, image_range, reserved))
        assert entry == frames.FrameEntry(state=frames.State.EL2 if mine else frames.State.HOST), hex(address)


def test_without_a_tree_the_machine_is_left_alone(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, port, firmware = booted
    refusal(machine, b"", 0)
    assert port.text == ""
    assert firmware.calls[-1][0] == 0x8400_0008


def test_too_little_ram_is_refused_in_words(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, port, _ = booted
    refusal(machine, write(board(cells64(RAM, 0x10_0000))))
    assert "delphyne/0: too little RAM\n" in port.text


@pytest.mark.parametrize(
    ("register", "number", "words"),
    [
        ("ID_AA64MMFR0_EL1", 0xF000_0004, "this processor has no 4 KiB pages"),
        ("HCR_EL2", 1 << 34 | 1 << 31, "this processor runs EL2 with E2H only"),
    ],
)
def test_a_processor_that_cannot_run_el2_is_named(
    booted: tuple[Machine, SerialPort, Firmware], register: str, number: int, words: str
) -> None:
    machine, port, _ = booted
    machine.write_register(register, number)
    refusal(machine, write(board(cells64(RAM, RAM_BYTES))))
    assert f"delphyne/0: {words}\n" in port.text


def test_a_processor_without_sha_instructions_uses_general_registers(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    machine.write_register("ID_AA64ISAR0_EL1", 0)
    boot(machine, write(board(cells64(RAM, RAM_BYTES))))
    assert "this processor has no SHA-256 instructions" in said(machine)
    assert not engine.CHOICE.sha256


@pytest.mark.parametrize("method", ["smc", "hvc"])
def test_entered_at_el1_it_says_so_and_turns_off(
    booted: tuple[Machine, SerialPort, Firmware], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    machine, port, firmware = booted
    root = board(cells64(RAM, RAM_BYTES))
    root.children["psci"].properties["method"] = method
    blob = write(root)
    machine.memory.write(BLOB_AT, blob)
    above: list[int] = []

    def hypervisor(function: u64, *rest: u64) -> u64:
        above.append(int(function))
        return u64(0)

    def park() -> None:
        raise Parked

    monkeypatch.setattr(psci, "hvc_call", hypervisor)
    monkeypatch.setattr(image, "park", park)
    with pytest.raises(Parked):
        main.el1_main(u64(BLOB_AT), u64(len(blob)))
    assert port.text == "delphyne: entered at EL1; this image needs EL2 (QEMU: -machine virt,virtualization=on)\n"
    assert [call[0] for call in firmware.calls] + above == [0x8400_0008]
    assert len(above) == (method == "hvc")


def test_cleaning_touches_every_line_of_a_range(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    machine, _, _ = booted
    machine.write_register("CTR_EL0", 4 << 16)
    before = len(machine.events)
    caches.clean_range(Va(u64(RAM + 70)), u64(130))
    lines = [event.address for event in machine.events[before:] if event.name == "dc civac"]
    assert lines == [RAM + 64, RAM + 128, RAM + 192]
    assert machine.events[-1].name == "dsb sy"


@pytest.mark.parametrize("prohibited", [False, True])
@pytest.mark.parametrize("block", [3, 4])
def test_a_page_is_cleared_whole_and_nothing_beside_it(booted: tuple[Machine, SerialPort, Firmware], prohibited: bool, block: int) -> None:
    """And memory has it, where blocks are lines and where they are less."""
    machine, _, _ = booted
    machine.write_register("DCZID_EL0", block | prohibited << 4)
    machine.write_register("CTR_EL0", 4 << 16)
    page = RAM + 0x40_0000
    machine.memory.write(page - 8, bytes([0xAA]) * (4096 + 16))
    before = len(machine.events)
    caches.clear_page(Pa(u64(page)))
    assert machine.memory.read(page - 8, 4096 + 16) == bytes([0xAA]) * 8 + bytes(4096) + bytes([0xAA]) * 8
    assert not machine.memory.is_dirty(page)
    assert machine.memory.read(page, 4096, cacheable=False) == bytes(4096)
    names = [event.name for event in machine.events[before:]]
    assert ("dc zva" in names) == (not prohibited)
    assert names[-1] == "dsb sy"
    assert names.count("dc civac") == 64


@pytest.mark.parametrize("prohibited", [False, True])
def test_a_page_is_zeroed_whole_and_nothing_beside_it(booted: tuple[Machine, SerialPort, Firmware], prohibited: bool) -> None:
    machine, _, _ = booted
    machine.write_register("DCZID_EL0", 4 | prohibited << 4)
    page = RAM + 0x40_0000
    machine.memory.write(page - 8, bytes([0xAA]) * (4096 + 16))
    before = len(machine.events)
    caches.zero_page(Pa(u64(page)))
    assert machine.memory.read(page - 8, 4096 + 16) == bytes([0xAA]) * 8 + bytes(4096) + bytes([0xAA]) * 8
    assert ("dc zva" in {event.name for event in machine.events[before:]}) == (not prohibited)


def test_every_cpu_can_start_with_its_caches_off(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    """The one that booted too: the host may switch it off and on again, or suspend it."""
    machine, _, _ = booted
    machine.write_register("CTR_EL0", 4 << 16)
    MACHINE.cpus[1], MACHINE.cpu_count = u64(1), u64(2)
    before = len(machine.events)
    cpus.prepare_others(MACHINE)
    cleaned = {event.address for event in machine.events[before:] if event.name == "dc civac"}
    for number in range(2):
        start = int(address_of(CPUS.of(number)).raw)
        assert set(range(start, start + int(cpus.START_BYTES), 64)) <= cleaned


def test_the_report_waits_for_the_others_but_not_for_ever(booted: tuple[Machine, SerialPort, Firmware]) -> None:
    stop.STOPPED.add(u32(1), Order.RELAXED)
    assert int(stop.wait_for_stop(u32(1))) == 1
    assert int(stop.wait_for_stop(u32(3))) == 1
    assert int(cpu.online_count()) == 1
