# SPDX-License-Identifier: Apache-2.0
"""Text on the serial port. The port is chosen once at boot.

Nothing here takes a lock: who wants whole lines holds `log.CONSOLE_LOCK`, and who reports a crash cannot.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import uart
from delphyne.lang import Array, View, boot, constant, count_leading_zeros, frozen, struct, u8, u64

NEWLINE: Final = u8(0x0A)
RETURN: Final = u8(0x0D)
ZERO: Final = u8(0x30)
DIGITS: Final = constant(Array[u8, 16].of(list(b"0123456789abcdef")))


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


def put_byte(byte: u8) -> None:
    """One byte; a newline becomes CR LF. A byte that the port does not take is lost."""
    if byte == NEWLINE:
        uart.put(CONSOLE.port, RETURN)
    uart.put(CONSOLE.port, byte)


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
