# SPDX-License-Identifier: Apache-2.0
"""A small client of gdb's remote serial protocol: what a debugger says to QEMU's stub, without a debugger.

Packets are `$data#checksum`, acknowledged by `+` (GDB manual, appendix E "Remote Serial Protocol"). Registers of AArch64 in the order of the stub's
`g` packet: x0 to x30, sp, pc (8 bytes each, little-endian), then cpsr (4 bytes).
"""

from __future__ import annotations

import socket
from enum import IntEnum

REGISTERS = 34
PC = 32


class Point(IntEnum):
    """Kinds of `Z` packets."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


class StubError(Exception):
    """The stub said an error, or nothing."""


class Stub:
    """One connection; the machine stops when it is made."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(120)
        self._stream = connection.makefile("rb")

    def close(self) -> None:
        """Detach: the machine goes on."""
        self._send("D")
        self._stream.close()
        self._socket.close()

    def _send(self, text: str) -> None:
        data = text.encode()
        self._socket.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))
        while (byte := self._stream.read(1)) != b"+":
            if byte != b"$":
                raise StubError(f"'{text}' was not acknowledged, but {byte!r}")
            self._receive_rest()  # how the machine stopped when this connection was made

    def _receive(self) -> str:
        while (byte := self._stream.read(1)) != b"$":
            if not byte:
                raise StubError("the stub closed the connection")
        return self._receive_rest()

    def _receive_rest(self) -> str:
        data = bytearray()
        while (byte := self._stream.read(1)) != b"#":
            data += byte
        if int(self._stream.read(2), 16) != sum(data) & 0xFF:
            raise StubError(f"wrong checksum of {data!r}")
        self._socket.sendall(b"+")
        return data.decode()

    def ask(self, text: str) -> str:
        """The stub's answer to one packet."""
        self._send(text)
        return self._receive()

    def _ok(self, text: str) -> None:
        answer = self.ask(text)
        if answer != "OK":
            raise StubError(f"'{text}': {answer or 'not supported'}")

    def insert(self, kind: Point, address: int, length: int = 4) -> None:
        """A breakpoint or watchpoint."""
        self._ok(f"Z{kind},{address:x},{length}")

    def remove(self, kind: Point, address: int, length: int = 4) -> None:
        """Take it away."""
        self._ok(f"z{kind},{address:x},{length}")

    def go(self) -> str:
        """Run until something stops the machine; the stop packet."""
        return self.ask("c")

    def step(self) -> str:
        """One instruction of the CPU that stopped."""
        return self.ask("s")

    def registers(self) -> list[int]:
        """x0 to x30, sp, pc of the CPU that stopped."""
        data = bytes.fromhex(self.ask("g"))
        return [int.from_bytes(data[8 * i : 8 * i + 8], "little") for i in range(REGISTERS - 1)]

    def memory(self, address: int, length: int) -> bytes:
        """Bytes at a virtual address."""
        answer = self.ask(f"m{address:x},{length:x}")
        if answer.startswith("E"):
            raise StubError(f"no memory at {address:#x}: {answer}")
        return bytes.fromhex(answer)
