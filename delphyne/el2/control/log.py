# SPDX-License-Identifier: Apache-2.0
"""The log: a ring of records in memory, and whole lines on the serial port.

`log(Level.INFO, f"..")` is compiled into a call of `record` with the number of the message's format and its arguments. Every CPU may log at
any time, whatever locks it holds: CONSOLE_LOCK has the highest rank of all, and the ring needs no lock, as a record is claimed by one
atomic addition and its sequence number is written last. A reader that finds two different sequence numbers around what it read drops it.

A record is eight words: sequence + 1; level in bits 7:0, argument count in 15:8, CPU in 31:16, format number in 63:32; six arguments.
Once EL2 is stopping, records still reach the ring, but the port belongs to the CPU that reports.

Once the host runs, it can cause any message but an ERROR as often as it likes: a release image keeps them in the ring alone. ERROR is for what ends
EL2 or is nobody's doing below it, so that a console shows few of them.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import cpu, variant
from delphyne.el2.control import console, stop
from delphyne.lang import Array, AtomicU64, Domain, Level, Lock, Order, Slice, View, cold, dmb, log_format, text, u8, u32, u64

RECORDS: Final = u64(1024)
WORDS: Final = u64(8)
ARGUMENTS: Final = u64(6)


CONSOLE_LOCK: Final = Lock("console", rank=1000)

HEAD: Final = AtomicU64()
"""Records ever made; the next one's sequence number."""
RING: Final = Array[AtomicU64, 8192]()


@cold
def record(level: Level, number: u32, count: u32, a0: u64, a1: u64, a2: u64, a3: u64, a4: u64, a5: u64) -> None:
    """Keeps one message, and shows it on the port where it belongs there."""
    arguments = Array[u64, 6]()
    arguments[0] = a0
    arguments[1] = a1
    arguments[2] = a2
    arguments[3] = a3
    arguments[4] = a4
    arguments[5] = a5
    mine = cpu.CPUS.mine().index
    sequence = HEAD.add(u64(1), Order.RELAXED)
    at = sequence % RECORDS * WORDS
    RING[at].store(u64(0), Order.RELAXED)
    dmb(Domain.ISHST)
    RING[at + 1].store(u64(level.raw) | u64(count) << 8 | mine << 16 | u64(number) << 32, Order.RELAXED)
    for i in u64.range(ARGUMENTS):
        RING[at + 2 + i].store(arguments[i], Order.RELAXED)
    RING[at].store(sequence + 1, Order.RELEASE)
    if _is_shown(level) and not stop.is_stopping():
        with CONSOLE_LOCK:
            _show(level, mine, u64(number), arguments[:])


def _is_shown(level: Level) -> bool:
    """Whether messages of this level go to the port now."""
    if level is Level.DEBUG:
        return False
    return variant.DEBUG or level is Level.ERROR or not console.is_hurried()


@cold
def show_text(data: View[u8]) -> None:
    """A line on the port only, for text that is not a message of the program: what a guest says, or a banner. Unprintable bytes become dots."""
    if stop.is_stopping():
        return
    with CONSOLE_LOCK:
        _show_name(cpu.CPUS.mine().index)
        for i in u64.range(data.length):
            byte = data[i]
            console.put_byte(byte if byte >= 0x20 and byte < 0x7F else u8(0x2E))
        console.put_byte(console.NEWLINE)


def _show_name(mine: u64) -> None:
    """The start of a line: who speaks."""
    console.begin_line()
    console.put_text(text(b"delphyne/"))
    console.put_decimal(mine, u64(1))
    console.put_text(text(b": "))


def _show(level: Level, mine: u64, number: u64, arguments: View[u64]) -> None:
    """One line: who, how bad, and the text."""
    _show_name(mine)
    if level is Level.ERROR:
        console.put_text(text(b"error: "))
    elif level is Level.WARNING:
        console.put_text(text(b"warning: "))
    form = log_format(number)
    if form is None:
        console.put_text(text(b"message "))
        console.put_decimal(number, u64(1))
    else:
        render(form, arguments)
    console.put_byte(console.NEWLINE)


def render(form: View[u8], arguments: View[u64]) -> None:
    """Writes a format with its arguments: `{}` decimal, `{:x}` hexadecimal, `#` for 0x, a width with leading zeros; `{{` and `}}`."""
    argument = u64(0)
    at = u64(0)
    while at < form.length:
        byte = form[at]
        at += 1
        if (byte == 0x7B or byte == 0x7D) and at < form.length and form[at] == byte:
            at += 1
            console.put_byte(byte)
        elif byte == 0x7B:
            end = at
            while end < form.length and form[end] != 0x7D:
                end += 1
            if argument < arguments.length:
                _show_number(form[at:end], arguments[argument])
            argument += 1
            at = min(end + 1, form.length)
        else:
            console.put_byte(byte)


def _show_number(spec: View[u8], number: u64) -> None:
    """`spec` is what stands between the braces: nothing, or a colon and `#`, `0`, digits, `x`."""
    width = u64(0)
    prefix = False
    hexadecimal = False
    for i in u64.range(spec.length):
        byte = spec[i]
        if byte == 0x23:
            prefix = True
        elif byte == 0x78:
            hexadecimal = True
        elif byte >= console.ZERO and byte <= 0x39 and width < 10:
            width = width * 10 + u64(byte - console.ZERO)
    if not hexadecimal:
        console.put_decimal(number, width)
        return
    if prefix:
        console.put_text(text(b"0x"))
        width = width - 2 if width > 2 else u64(0)
    console.put_hex(number, width)


def read_record(sequence: u64, to: Slice[u64]) -> bool:
    """Copies the eight words of a record; False where it is not in the ring, or was being written meanwhile. `to` has room for eight."""
    at = sequence % RECORDS * WORDS
    if RING[at].load(Order.ACQUIRE) != sequence + 1:
        return False
    for i in u64.range(WORDS):
        to[i] = RING[at + i].load(Order.RELAXED)
    dmb(Domain.ISHLD)
    return RING[at].load(Order.RELAXED) == sequence + 1
