# SPDX-License-Identifier: Apache-2.0
"""Serial ports of the simulated machine, each family with its own registers, written from the manufacturers' manuals."""

from __future__ import annotations

from delphyne.el2.arch.uart import Uart, UartKind
from delphyne.el2.control import console
from delphyne.lang import Pa, u64
from delphyne.lang.machine import Machine

BASE = 0x0900_0000


class SerialPort:
    """Takes a byte only every `busy` + 1 polls of its status; a byte sent while it is busy is a failure."""

    def __init__(self, kind: UartKind, busy: int = 0, shift: int = 0, wide: bool = True) -> None:
        self.kind, self.busy, self.shift, self.wide = kind, busy, shift, wide
        self.left = busy
        self.sent = b""
        self.polls = 0
        self.control = 0x128
        """The Cadence control register after reset: both directions off."""

    def read(self, offset: int, size: int) -> int:
        if self.kind is UartKind.CADENCE and offset == 0:
            return self.control
        status, bit, means_ready = {
            UartKind.PL011: (0x18, 1 << 5, False),
            UartKind.NS16550: (5 << self.shift, 1 << 5, True),
            UartKind.CADENCE: (0x2C, 1 << 4, False),
            UartKind.IMX: (0xB4, 1 << 4, False),
        }[self.kind]
        assert (offset, size) == (status, 4 if self.wide else 1)
        self.polls += 1
        ready = self.left == 0
        self.left = max(self.left - 1, 0)
        return bit if ready is means_ready else 0

    def write(self, offset: int, size: int, value: int) -> None:
        data = {UartKind.PL011: 0, UartKind.NS16550: 0, UartKind.CADENCE: 0x30, UartKind.IMX: 0x40}[self.kind]
        if self.kind is UartKind.CADENCE and offset == 0:
            self.control = value
            return
        assert (offset, size) == (data, 4 if self.wide else 1)
        assert self.kind is not UartKind.CADENCE or self.control & 0x30 == 0x10, "the transmitter is off"
        assert self.left == 0, "a byte was sent to a full port"
        self.left = self.busy
        self.sent += bytes([value])

    @property
    def text(self) -> str:
        """What was sent, line ends as in Python."""
        return self.sent.decode("latin-1").replace("\r\n", "\n")


def console_on(machine: Machine, kind: UartKind = UartKind.PL011, busy: int = 0) -> SerialPort:
    """A port that EL2's console writes to."""
    shift = 2 if kind is UartKind.NS16550 else 0
    port = SerialPort(kind, busy, shift)
    machine.add_device(BASE, 0x1000, port)
    console.use_port(Uart(kind, Pa(u64(BASE)), u64(shift), True))
    return port
