# SPDX-License-Identifier: Apache-2.0
"""Serial ports, numbers as text, messages, and the ring of the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fdt_writer import Dt, board, view, write
from hypothesis import given, settings
from hypothesis import strategies as st
from serial_port import BASE, SerialPort, console_on

from delphyne.el2.arch import fdt, uart, variant
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.uart import Uart, UartKind
from delphyne.el2.control import console, log
from delphyne.el2.control.log import HEAD, RECORDS, read_record, record, render
from delphyne.lang import Array, Level, Order, Pa, text, u8, u32, u64, wipe
from delphyne.lang.machine import Machine
from delphyne.lang.messages import FORMATS


def console_of(root: Dt) -> Uart | Err:
    raw = view(write(root))
    tree = fdt.open_tree(raw)
    assert not isinstance(tree, Err)
    return uart.find_console(raw, tree)


def with_uart(properties: dict[str, bytes | str | list[int] | list[str] | None], path: str = "/soc/uart@1000") -> Dt:
    root = board()
    root.children["soc"].children["uart@1000"] = Dt({"reg": [0x1000, 0x1000], **properties})
    root.children["chosen"].properties["stdout-path"] = path
    return root


@pytest.mark.parametrize(
    ("properties", "kind", "shift", "wide"),
    [
        ({"compatible": ["arm,pl011", "arm,primecell"]}, UartKind.PL011, 0, True),
        ({"compatible": "arm,sbsa-uart"}, UartKind.PL011, 0, True),
        ({"compatible": "ns16550a"}, UartKind.NS16550, 0, False),
        ({"compatible": ["rockchip,rk3399-uart", "snps,dw-apb-uart"], "reg-shift": [2], "reg-io-width": [4]}, UartKind.NS16550, 2, True),
        ({"compatible": "ns16550", "reg-shift": [2]}, UartKind.NS16550, 2, False),
        ({"compatible": ["xlnx,zynqmp-uart", "cdns,uart-r1p12"]}, UartKind.CADENCE, 0, True),
        ({"compatible": ["fsl,imx8mq-uart", "fsl,imx6q-uart"]}, UartKind.IMX, 0, True),
    ],
)
def test_a_port_is_chosen_by_compatible(
    properties: dict[str, bytes | str | list[int] | list[str] | None], kind: UartKind, shift: int, wide: bool
) -> None:
    found = console_of(with_uart(properties))
    assert not isinstance(found, Err)
    assert (found.kind, int(found.base.raw), int(found.shift), found.wide) == (kind, 0x0900_1000, shift, wide)


@pytest.mark.parametrize("path", ["/soc/uart@1000", "/soc/uart", "/soc/uart@1000:115200n8", "serial0", "serial0:9600", "serial1"])
def test_ways_to_name_the_console(path: str) -> None:
    root = with_uart({"compatible": "arm,pl011"}, path)
    root.children["aliases"].properties["serial1"] = "/soc/uart@1000:57600"
    assert isinstance(console_of(root), Uart)


@pytest.mark.parametrize(
    ("root", "error"),
    [
        (with_uart({"compatible": "acme,laser-printer"}), Err.UNSUPPORTED),
        (with_uart({"compatible": "ns16550", "reg-shift": [4]}), Err.UNSUPPORTED),
        (with_uart({"compatible": "ns16550", "reg-io-width": [2]}), Err.UNSUPPORTED),
        (with_uart({"compatible": "ns16550", "reg-io-width": [4]}), Err.UNSUPPORTED),
        (with_uart({"compatible": "ns16550", "reg-shift": b"\0"}), Err.TRUNCATED),
        (with_uart({"compatible": "arm,pl011", "reg": [0x1000, 0x10]}), Err.MALFORMED),
        (with_uart({"compatible": "arm,pl011", "reg": [0x1001, 0x1000]}), Err.MALFORMED),
        (with_uart({"compatible": "fsl,imx21-uart", "reg": [0x1000, 0xB4]}), Err.MALFORMED),
        (with_uart({"compatible": "arm,pl011", "reg": []}), Err.NOT_FOUND),
        (with_uart({"compatible": "arm,pl011"}, "serial9"), Err.NOT_FOUND),
        (with_uart({"compatible": "arm,pl011"}, "/nowhere"), Err.NOT_FOUND),
        (Dt({}, {"chosen": Dt()}), Err.NOT_FOUND),
        (Dt(), Err.NOT_FOUND),
    ],
)
def test_a_console_that_is_not_there_is_an_answer(root: Dt, error: Err) -> None:
    assert console_of(root) is error


@pytest.mark.parametrize("kind", [UartKind.PL011, UartKind.NS16550, UartKind.CADENCE, UartKind.IMX])
@pytest.mark.parametrize("busy", [0, 3])
def test_every_family_sends_when_the_port_is_ready(kind: UartKind, busy: int) -> None:
    with Machine() as machine:
        port = console_on(machine, kind, busy)
        console.put_text(text(b"ab\n"))
        assert port.sent == b"ab\r\n"


def test_an_old_16550_has_bytes_at_a_distance() -> None:
    with Machine() as machine:
        port = SerialPort(UartKind.NS16550, busy=1, shift=2, wide=False)
        machine.add_device(BASE, 0x1000, port)
        assert uart.put(Uart(UartKind.NS16550, Pa(u64(BASE)), u64(2), False), u8(0x41), u64(9)) == 8
        assert port.sent == b"A"


@pytest.fixture
def unhurried() -> Iterator[None]:
    yield
    wipe(console.HURRIED)


def test_a_port_that_never_is_ready_costs_a_line_and_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_POLLS", u64(50))
    with Machine() as machine:
        port = console_on(machine, busy=10**9)
        console.begin_line()
        console.put_text(text(b"lost"))
        assert (port.sent, port.polls) == (b"", 50 + len("lost"))


def test_a_host_cannot_make_a_line_wait_for_long(unhurried: None) -> None:
    """It owns the port too, and may turn it off: every call that it makes in vain writes a line, with interrupts masked."""
    with Machine() as machine:
        port = console_on(machine, busy=10**9)
        console.hurry()
        for _ in range(2):
            port.polls = 0
            console.begin_line()
            console.put_text(text(b"lost"))
            assert port.polls == int(console.HOST_LINE_POLLS) + len("lost")


def test_a_line_in_a_hurry_is_whole_where_the_port_keeps_up(unhurried: None) -> None:
    with Machine() as machine:
        port = console_on(machine, busy=3)
        console.hurry()
        console.begin_line()
        console.put_text(text(b"a host call\n"))
        assert port.text == "a host call\n"


def test_a_report_has_time_even_after_a_line_that_had_none(unhurried: None) -> None:
    with Machine() as machine:
        console.hurry()
        port = console_on(machine, busy=int(console.HOST_LINE_POLLS) + 1)
        console.put_text(text(b"ab"))
        console.begin_report()
        console.put_text(text(b"cd"))
        assert port.text == "bcd"


def test_without_a_port_nothing_is_touched() -> None:
    with Machine():
        uart.put(Uart(UartKind.NONE, Pa(u64(0)), u64(0), False), u8(0x41), u64(1))


SPECS = ["", ":x", ":#x", ":08x", ":016x", ":#010x", ":3", ":05"]


@given(st.integers(0, 2**64 - 1) | st.integers(0, 300), st.sampled_from(SPECS))
@settings(max_examples=100, deadline=None)
def test_numbers_read_as_python_prints_them(number: int, spec: str) -> None:
    wanted = ("{" + spec.replace(":3", ":03") + "}").format(number)
    with Machine() as machine:
        port = console_on(machine)
        arguments = Array[u64, 6]()
        arguments[0] = u64(number)
        render(text(b"{" + spec.encode() + b"}"), arguments[:])
        assert port.text == wanted


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        (b"plain", "plain"),
        (b"{} {} {} {} {} {}", "1 2 3 4 5 6"),
        (b"{{{}}} }}{{", "{1} }{"),
        (b"{} {", "1 2"),
        (b"}", "}"),
        (b"{}{}{}{}{}{}{}", "123456"),
        (b"{:999999999999999999999x}", "0" * 98 + "1"),
        (b"", ""),
    ],
)
def test_formats_and_what_is_none(form: bytes, wanted: str) -> None:
    with Machine() as machine:
        port = console_on(machine)
        arguments = Array[u64, 6]()
        for at in range(6):
            arguments[at] = u64(at + 1)
        render(text(form), arguments[:])
        assert port.text == wanted


def send(level: Level, number: int, *arguments: int) -> None:
    padded = [u64(x) for x in (*arguments, *[0] * (6 - len(arguments)))]
    record(level, u32(number), u32(len(arguments)), *padded)


def test_messages_are_lines_with_the_cpu_and_the_level() -> None:
    FORMATS[:] = [b"ram at {:#x}", b"trouble {}"]
    with Machine(cpus=2) as machine:
        port = console_on(machine)
        CPUS.of(1).index = u64(1)
        send(Level.INFO, 0, 0x4000_0000)
        with machine.on(1):
            send(Level.ERROR, 1, 7)
            send(Level.WARNING, 1, 8)
            send(Level.DEBUG, 1, 9)
        send(Level.INFO, 99)
        log.show_text(text(b"hi \x1b[2J\x7f\xff"))
        assert port.text == (
            "delphyne/0: ram at 0x40000000\ndelphyne/1: error: trouble 7\ndelphyne/1: warning: trouble 8\n"
            "delphyne/0: message 99\ndelphyne/0: hi .[2J..\n"
        )


@pytest.mark.parametrize("debug", [False, True])
def test_what_a_host_provokes_is_in_the_ring_and_on_the_port_of_a_debug_image_only(
    unhurried: None, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setattr(variant, "DEBUG", debug)
    FORMATS[:] = [b"host call {}"]
    kept = Array[u64, 8]()
    with Machine() as machine:
        port = console_on(machine)
        send(Level.WARNING, 0, 1)
        assert port.text == "delphyne/0: warning: host call 1\n"
        console.hurry()
        first = int(HEAD.load(Order.RELAXED))
        send(Level.WARNING, 0, 2)
        send(Level.INFO, 0, 3)
        shown = "delphyne/0: warning: host call 2\ndelphyne/0: host call 3\n"
        assert port.text == "delphyne/0: warning: host call 1\n" + (shown if debug else "")
        for at in range(2):
            assert read_record(u64(first + at), kept[:])
            assert int(kept[2]) == 2 + at
        port.sent = b""
        send(Level.ERROR, 0, 4)
        assert port.text == "delphyne/0: error: host call 4\n", "what ends the machine is said by every image"


def test_the_ring_keeps_the_last_records() -> None:
    FORMATS[:] = [b"n {}"]
    kept = Array[u64, 8]()
    with Machine() as machine:
        console_on(machine)
        first = int(HEAD.load(Order.RELAXED))
        for number in range(5):
            send(Level.DEBUG, 0, number, 0xABCD)
        for number in range(5):
            assert read_record(u64(first + number), kept[:])
            assert int(kept[0]) == first + number + 1
            assert (int(kept[1]) & 0xFF, int(kept[1]) >> 8 & 0xFF, int(kept[1]) >> 32) == (4, 2, 0)
            assert (int(kept[2]), int(kept[3]), int(kept[4])) == (number, 0xABCD, 0)
        assert not read_record(u64(first + 5), kept[:])
        for number in range(int(RECORDS)):
            send(Level.DEBUG, 0, number)
        assert not read_record(u64(first + 4), kept[:])
        assert read_record(u64(first + 5), kept[:])
