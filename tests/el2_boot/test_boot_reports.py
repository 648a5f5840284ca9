# SPDX-License-Identifier: Apache-2.0
"""The table of sites against the build's own writer and reader, and what is printed when EL2 fails."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from fdt_writer import view
from hypothesis import given, settings
from hypothesis import strategies as st
from serial_port import SerialPort, console_on

from delphyne.compiler import tree
from delphyne.compiler.back import sites as build_sites
from delphyne.compiler.back.body import Site
from delphyne.el2.arch import cpu, image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame
from delphyne.el2.control import console, report, sites, stop
from delphyne.lang import Order, Pa, View, u8, u64, wipe
from delphyne.lang.machine import Machine

IMAGE = 0x4020_0000
TABLE_AT = 0x4010_0000
STACKS = IMAGE + 0x4000
FILES = st.sampled_from(["delphyne/el2/a.py", "delphyne/el2/b.py", "delphyne/el2/entry/el2.S", "x.py"])
FUNCTIONS = st.sampled_from(["delphyne.el2.a.f", "delphyne.el2.a.Of.f", "delphyne.el2.af", "lower", "x.g", "a.f"])
LINES = st.integers(1, 600) | st.integers(1, 9999)
SITES = st.lists(st.builds(Site, st.sampled_from(tree.TrapKind), FILES, LINES, st.just(0), FUNCTIONS), max_size=8)
RETURNS = st.lists(
    st.builds(build_sites.Return, (st.integers(0, 60) | st.integers(0, 3000)).map(lambda n: n * 4), FILES, LINES, FUNCTIONS),
    max_size=12,
)


def string(data: View[u8]) -> str:
    return bytes(int(data[i]) for i in range(int(data.length))).decode()


def shown(table: View[u8], site: sites.Site) -> tuple[str, int, str]:
    """File, line and function as a report puts them together."""
    out: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(console, "put_byte", lambda byte: out.append(int(byte)))
        report._put_place(table, site)
    place, function = bytes(out).decode().split(" in ")
    file, line = place.split(":")
    return file, int(line), function


def chain(table: View[u8], call: u64) -> list[tuple[str, int, str]]:
    """The calls from that one on outwards."""
    out = []
    while call != 0:
        found = sites.call_at(table, call)
        assert not isinstance(found, Err)
        out.append(shown(table, found.site))
        call = found.around
    return out


@given(SITES, RETURNS)
@settings(max_examples=60, deadline=None)
def test_the_table_reads_as_the_build_wrote_it(traps: list[Site], returns: list[build_sites.Return]) -> None:
    packed = build_sites.pack(traps, returns)
    table, build = view(packed), build_sites.Table(packed)
    for number, trap in enumerate(traps):
        found = sites.find_site(table, u64(number))
        assert not isinstance(found, Err)
        assert (*shown(table, found), int(found.kind)) == (trap.file, trap.line, trap.function, trap.kind.value)
        assert build.site(number) == (trap.kind.value, trap.file, trap.line, trap.function)
    assert sites.find_site(table, u64(len(traps))) is Err.NOT_FOUND
    addresses = {item.address for item in returns}
    for address in sorted({*range(0, 260, 4), *addresses, *(item + 2 for item in addresses), *(item - 1 for item in addresses if item)}):
        last = max((item for item in addresses if item <= address), default=None)
        caller = sites.find_caller(table, u64(address))
        if last is None:
            assert caller is Err.NOT_FOUND
            continue
        assert not isinstance(caller, Err)
        assert int(caller.address) == last
        wanted = [(item.file, item.line, item.function) for item in returns if item.address == last]
        assert chain(table, caller.call) == build.callers(last) == wanted
    assert sites.call_at(table, u64(0)) is Err.NOT_FOUND
    assert sites.call_at(table, u64(len(returns) + 1)) is Err.NOT_FOUND


@given(st.lists(st.integers(1, 9999), min_size=1, max_size=20), st.integers(250, 520))
@settings(max_examples=20, deadline=None)
def test_functions_of_any_length_are_found(lines: list[int], run: int) -> None:
    traps = [Site(tree.TrapKind.NARROW, "x.py", line, 0, "x.g") for line in [*lines, *range(100, 100 + run)]]
    table = view(build_sites.pack(traps, []))
    for number in [*range(len(lines)), len(lines) + 254, len(lines) + 255, len(traps) - 1]:
        found = sites.find_site(table, u64(min(number, len(traps) - 1)))
        assert not isinstance(found, Err)
        assert int(found.line) == traps[min(number, len(traps) - 1)].line


@given(SITES, RETURNS, st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=5), st.integers(0, 10**4))
@settings(max_examples=200, deadline=None)
def test_a_spoiled_table_is_no_second_trap(
    traps: list[Site], returns: list[build_sites.Return], changes: list[tuple[int, int]], length: int
) -> None:
    blob = bytearray(build_sites.pack(traps, returns))
    for at, byte in changes:
        blob[at % len(blob)] = byte
    table = view(bytes(blob[: length % (len(blob) + 1)]))
    for number in (0, 1, 3, 2**64 - 1):
        sites.find_caller(table, u64(number))
        call = sites.call_at(table, u64(number))
        for found in (sites.find_site(table, u64(number)), call if isinstance(call, Err) else call.site):
            if not isinstance(found, Err):
                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(console, "put_byte", lambda byte: None)
                    report._put_place(table, found)


def test_calls_that_are_inlined_into_one_another_are_refused() -> None:
    blob = bytearray(build_sites.pack([], [build_sites.Return(4, "x.py", 1, "x.f")]))
    at = build_sites.HEADER_BYTES + build_sites.RETURN_BYTES + 2
    blob[at : at + 2] = (1).to_bytes(2, "little")
    assert sites.call_at(view(bytes(blob)), u64(1)) is Err.MALFORMED


class Parked(Exception):
    """The CPU does nothing any more."""


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Machine, SerialPort]]:
    """A machine in which EL2 may fail: a console, a table of sites, a stack; `park` ends the test's call."""

    def park() -> None:
        raise Parked

    monkeypatch.setattr(stop, "park", park)
    for static in (stop.STOPPING, stop.STOPPED, cpu.ONLINE, report.HIDING):
        wipe(static)
    blob = build_sites.pack(
        [Site(tree.TrapKind.INDEX, "delphyne/el2/a.py", 12, 4, "delphyne.el2.a.first")],
        [
            build_sites.Return(0x48, "delphyne/el2/a.py", 40, "delphyne.el2.a.around"),
            build_sites.Return(0x100, "delphyne/el2/b.py", 20, "delphyne.el2.b.second"),
            build_sites.Return(0x100, "delphyne/el2/b.py", 25, "delphyne.el2.b.third"),
            build_sites.Return(0x200, "delphyne/el2/entry/el2.S", 33, "lower"),
        ],
    )
    with Machine(ram_base=0x4000_0000, ram_size=0x0100_0000, registers={"CNTFRQ_EL0": 1000, "CNTPCT_EL0": 5, **EL1}) as machine:
        machine.memory.write(TABLE_AT, blob)
        monkeypatch.setattr(image, "image_sites_start", lambda: Pa(u64(TABLE_AT)))
        monkeypatch.setattr(image, "image_sites_end", lambda: Pa(u64(TABLE_AT + len(blob))))
        yield machine, console_on(machine)
    for static in (stop.STOPPING, stop.STOPPED, cpu.ONLINE, report.HIDING):
        wipe(static)


def frame_record(machine: Machine, at: int, following: int, back: int) -> None:
    machine.memory.write(at, struct.pack("<QQ", following, back))


EL1 = {
    "SCTLR_EL1": 0x30D0_0801, "TCR_EL1": 0x11, "TTBR0_EL1": 0x12, "TTBR1_EL1": 0x13, "ESR_EL1": 0x5600_0000, "FAR_EL1": 0x15, "ELR_EL1": 0x16,
    "SPSR_EL1": 0x3C5, "SP_EL1": 0x18, "VBAR_EL1": 0x19,
}
EL1_LINES = [
    "  EL1:",
    "  SCTLR 0000000030d00801 TCR 0000000000000011",
    "  TTBR0 0000000000000012 TTBR1 0000000000000013",
    "  ESR 0000000056000000 FAR 0000000000000015",
    "  ELR 0000000000000016 SPSR 00000000000003c5",
    "  SP 0000000000000018 VBAR 0000000000000019",
]


def test_a_trap_is_reported_with_values_place_and_callers(failing: tuple[Machine, SerialPort]) -> None:
    machine, port = failing
    stack = STACKS + int(cpu.STACK_OFFSET) + 0x100
    frame_record(machine, stack, stack + 0x40, IMAGE + 0x100)
    frame_record(machine, stack + 0x40, 0, IMAGE + 0x200)
    frame = Frame()
    frame.x[29], frame.elr = u64(stack), u64(IMAGE + 0x44)
    report.trap_report(u64(0), u64(9), u64(4), frame)
    assert port.text.splitlines() == [
        "",
        "*** delphyne stopped on CPU 0: index out of range",
        "  values: 9 (0x9), 4 (0x4)",
        "  at      delphyne/el2/a.py:12 in delphyne.el2.a.first",
        "  called  delphyne/el2/a.py:40 in delphyne.el2.a.around",
        "  called  delphyne/el2/b.py:20 in delphyne.el2.b.second",
        "  called  delphyne/el2/b.py:25 in delphyne.el2.b.third",
        "  called  delphyne/el2/entry/el2.S:33 in lower",
        *EL1_LINES,
        "  stopped 0 of 0 other CPUs",
        "*** end of report",
    ]


def test_a_report_shows_no_register_of_a_guest(failing: tuple[Machine, SerialPort]) -> None:
    machine, port = failing
    machine.write_register("VTTBR_EL2", 5 << 48 | 0x4000_0000)
    frame = Frame()
    frame.elr = u64(IMAGE + 0x44)
    report.trap_report(u64(0), u64(9), u64(4), frame)
    assert port.text.splitlines()[-3:] == ["  EL1: a guest", "  stopped 0 of 0 other CPUs", "*** end of report"]
    assert "SCTLR" not in port.text


def test_a_site_that_is_not_in_the_table_is_shown_by_number(failing: tuple[Machine, SerialPort]) -> None:
    frame = Frame()
    frame.elr = u64(IMAGE + 0x44)
    report.trap_report(u64(77), u64(1), u64(2), frame)
    assert "trap at unknown site 77\n  values: 1 (0x1), 2 (0x2)\n  at      image + 0x44\n" in failing[1].text


@pytest.mark.parametrize(
    "record",
    [
        0,
        STACKS - 16,
        STACKS,
        STACKS + int(cpu.EMERGENCY_OFFSET),
        STACKS + int(cpu.STACK_OFFSET) - 16,
        STACKS + int(cpu.STACK_OFFSET) + 4,
        STACKS + int(cpu.SLOT_BYTES) - 8,
        STACKS + 64 * int(cpu.SLOT_BYTES),
        2**64 - 16,
    ],
)
def test_callers_are_only_looked_for_on_stacks(failing: tuple[Machine, SerialPort], record: int) -> None:
    machine, port = failing
    if machine.memory.holds(record, 16):
        frame_record(machine, record, 0, IMAGE + 0x100)
    frame = Frame()
    frame.x[29] = u64(record)
    report.trap_report(u64(0), u64(0), u64(0), frame)
    assert "called" not in port.text


def test_a_chain_that_runs_in_a_circle_ends(failing: tuple[Machine, SerialPort]) -> None:
    machine, port = failing
    stack = STACKS + int(cpu.STACK_OFFSET)
    frame_record(machine, stack, stack + 16, IMAGE + 0x100)
    frame_record(machine, stack + 16, stack, IMAGE + 0x100)
    frame = Frame()
    frame.x[29] = u64(stack)
    report.trap_report(u64(0), u64(0), u64(0), frame)
    assert port.text.count("called  delphyne/el2/b.py:20") == 2


def test_a_long_chain_is_cut(failing: tuple[Machine, SerialPort]) -> None:
    machine, port = failing
    stack = STACKS + int(cpu.STACK_OFFSET)
    for number in range(100):
        frame_record(machine, stack + number * 16, stack + (number + 1) * 16, IMAGE + 0x100)
    frame = Frame()
    frame.x[29] = u64(stack)
    report.trap_report(u64(0), u64(0), u64(0), frame)
    assert port.text.count("called  delphyne/el2/b.py:20") == int(report.MAX_CALLERS)


def test_a_crash_shows_the_syndrome_and_every_register(failing: tuple[Machine, SerialPort]) -> None:
    frame = Frame()
    for number in range(31):
        frame.x[number] = u64(0x1000 + number)
    frame.esr, frame.far, frame.elr, frame.sp, frame.spsr = u64(0x96000047), u64(0xDEAD), u64(IMAGE + 0x104), u64(0x55), u64(0x3C9)
    report.crash_report(frame, u64(0))
    text = failing[1].text
    assert "unexpected exception at EL2: data abort\n" in text
    assert "ESR_EL2 0000000096000047 FAR_EL2 000000000000dead" in text
    assert all(f"x{number:02} 000000000000{0x1000 + number:04x}" in text for number in range(31))
    assert "  at      image + 0x104, after delphyne/el2/b.py:20 in delphyne.el2.b.second\n" in text
    assert "\n".join(EL1_LINES) in text


@pytest.mark.parametrize(
    ("esr", "vector", "words"),
    [
        (0x86 << 24, 0, "instruction abort"),
        (0x26 << 26, 0, "stack pointer alignment"),
        (0x07 << 26, 0, "access to SIMD registers"),
        (0x00, 0, "undefined instruction"),
        (0x3F << 26, 0, "unknown class"),
        (0x3C << 26, 0, "other synchronous exception"),
        (0, 3, "interrupt or SError"),
    ],
)
def test_crashes_have_a_name(failing: tuple[Machine, SerialPort], esr: int, vector: int, words: str) -> None:
    frame = Frame()
    frame.esr = u64(esr)
    report.crash_report(frame, u64(vector))
    assert f"unexpected exception at EL2: {words}\n" in failing[1].text


def test_every_kind_of_trap_has_words_and_the_compilers_number(failing: tuple[Machine, SerialPort]) -> None:
    assert {kind.name: kind.value for kind in report.TrapKind} == {kind.name: kind.value for kind in tree.TrapKind}
    words = {string(report.kind_name(u64(kind.value))) for kind in tree.TrapKind}
    assert len(words) == len(tree.TrapKind)
    assert string(report.kind_name(u64(99))) == "unknown trap"


def test_the_second_cpu_that_fails_says_nothing(failing: tuple[Machine, SerialPort]) -> None:
    assert stop.begin_stop()
    with pytest.raises(Parked):
        report.trap_report(u64(0), u64(0), u64(0), Frame())
    assert failing[1].text == ""
    assert int(stop.STOPPED.load(Order.RELAXED)) == 1


def test_no_general_register_is_shown_once_there_are_keys(failing: tuple[Machine, SerialPort]) -> None:
    report.hide_registers()
    frame = Frame()
    for number in range(31):
        frame.x[number] = u64(0x5EC2_E700 + number)
    frame.esr, frame.elr = u64(0x96000047), u64(IMAGE + 0x104)
    report.crash_report(frame, u64(0))
    text = failing[1].text
    assert "5ec2e7" not in text
    assert "ESR_EL2 0000000096000047" in text
    assert "  at      image + 0x104, after delphyne/el2/b.py:20" in text
