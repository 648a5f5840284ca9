# SPDX-License-Identifier: Apache-2.0
"""The device by which the monitor tells the bare guest what to do and hears what came of it (client/bare_guest.py is the other side).

One page of 64-bit registers. No lock: CPU 0 alone uses it, but for a report that ends the guest.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Pa, mmio_read64, mmio_write64, u64

BASE: Final = Pa(u64(0x0A00_0000))
ECHO: Final = u64(0x00)
"""Keeps what is written and gives its complement."""
COMMAND: Final = u64(0x08)
"""The next command: kind in bits 0-7, with SIMD in bit 8, times in bits 16-31. The monitor answers 0 where there is none left."""
RESULT: Final = u64(0x10)
"""Ends a command: 0, or what was wrong."""
UNMAP: Final = u64(0x18)
"""The monitor drops the pages from this guest address on, UNMAP_PAGES of them one by one, from its own memory; some of it comes back as it was."""
FAULT: Final = u64(0x20)
"""Three words, one after the other: what the guest died of."""
GIC_VERSION: Final = u64(0x28)
"""2 or 3."""
CPUS: Final = u64(0x30)
"""How many vCPUs there are."""
TICKS: Final = u64(0x38)
"""Before RESULT: steps of the virtual counter between all marks of the command."""
PROTECTED: Final = u64(0x40)
"""1 where the guest is to be a protected one, whose memory is zero when it first touches it."""

SHOWN: Final = u64(0x48)
"""What is written the monitor keeps for whoever compares it."""


def read(register: u64) -> u64:
    """A register of the device."""
    return mmio_read64(BASE + register)


def write(register: u64, x: u64) -> None:
    """Sets a register of the device."""
    mmio_write64(BASE + register, x)
