# SPDX-License-Identifier: Apache-2.0
"""Text on the serial port. The port is chosen once at boot.

The port is the host's as well: it may be turned off or kept full. What EL2 may spend on waiting is bounded for each line, and is little once the host
runs, which can cause as many lines as it likes; what is not taken in time is lost here and kept in the log.

Nothing here takes a lock: who wants whole lines holds `log.CONSOLE_LOCK`, and who reports a crash cannot.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import uart
from delphyne.lang import Array, AtomicU32, AtomicU64, Order, View, boot, constant, count_leading_zeros, frozen, struct, u8, u32, u64

NEWLINE: Final = u8(0x0A)
RETURN: Final = u8(0x0D)
ZERO: Final = u8(0x30)
DIGITS: Final = constant(Array[u8, 16].of(list(b"0123456789abcdef")))

LINE_POLLS: Final = u64(1_000_000)
"""For a line of the boot: a hundred bytes at 9600 baud."""
HOST_LINE_POLLS: Final = u64(2_000)
"""For a line while the host runs, with interrupts masked and others perhaps waiting for the port."""
REPORT_POLLS: Final = u64(50_000_000)
"""For the whole report of a failure: some seconds."""

PATIENCE: Final = AtomicU64()
"""Polls that may still be spent on the line under way."""
HURRIED: Final = AtomicU32()
"""Not 0 once the host runs."""


@struct
class Console:
    """The port that EL2 writes to."""

    port: uart.Uart


CONSOLE: Final = frozen(Console())


@boot
def use_port(port: uart.Uart) -> None:
    """Chooses the port, whose registers are mapped from now on, and has it send."""
    CONSOLE.port = port
    uart.enable(port)
    begin_line()


def hurry() -> None:
    """From now on lines wait only as long as the host may make EL2 wait."""
    HURRIED.store(u32(1), Order.RELAXED)


def is_hurried() -> bool:
    """Whether the host runs, which may be the cause of what is said."""
    return HURRIED.load(Order.RELAXED) != 0


def begin_line() -> None:
    """What follows is a line, and may wait as long as one."""
    PATIENCE.store(HOST_LINE_POLLS if is_hurried() else LINE_POLLS, Order.RELAXED)


def begin_report() -> None:
    """What follows is the report of a failure."""
    PATIENCE.store(REPORT_POLLS, Order.RELAXED)


def put_byte(byte: u8) -> None:
    """One byte; a newline becomes CR LF. A byte that the port does not take is lost."""
    if byte == NEWLINE:
        _put(RETURN)
    _put(byte)


def _put(byte: u8) -> None:
    PATIENCE.store(uart.put(CONSOLE.port, byte, PATIENCE.load(Order.RELAXED)), Order.RELAXED)


def put_text(data: View[u8]) -> None:
    """The bytes of `data`."""
    for i in u64.range(data.length):
        put_byte(data[i])


def put_padding(byte: u8, count: u64) -> None:
    """`byte` that many times."""
    for _ in u64.range(count):
        put_byte(byte)


def put_hex(number: u64, width: u64) -> None:
    """At least `width` hexadecimal digits, with leading zeros; no prefix."""
    count = max((64 - count_leading_zeros(number) + 3) // 4, u64(1))
    if width > count:
        put_padding(ZERO, width - count)
    for i in u64.range(count):
        put_byte(DIGITS[(number >> ((count - 1 - i) * 4)) & 15])


def put_decimal(number: u64, width: u64) -> None:
    """At least `width` decimal digits, with leading zeros."""
    digits = Array[u8, 20]()
    count = u64(0)
    rest = number
    while rest != 0 or count == 0:
        digits[count] = DIGITS[rest % 10]
        rest //= 10
        count += 1
    if width > count:
        put_padding(ZERO, width - count)
    for i in u64.range(count):
        put_byte(digits[count - 1 - i])
