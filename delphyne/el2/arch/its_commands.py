# SPDX-License-Identifier: Apache-2.0
"""Commands of a GICv3's interrupt translation service (ITS): four words of 64 bits each, in the order of little-endian bytes (IHI 0069, 5.3).

MAPD alone names memory: a device's interrupt translation table (ITT). MAPC, MOVALL and SYNC name redistributors, by their number, or by their
address where GITS_TYPER.PTA says so. Calculations on values: no lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.fdt import Region
from delphyne.lang import Bits64, Pa, bits, u8, u64, value

COMMAND_BYTES: Final = u64(32)

MOVI: Final = u8(0x01)
INT: Final = u8(0x03)
CLEAR: Final = u8(0x04)
SYNC: Final = u8(0x05)
MAPD: Final = u8(0x08)
MAPC: Final = u8(0x09)
MAPTI: Final = u8(0x0A)
MAPI: Final = u8(0x0B)
INV: Final = u8(0x0C)
INVALL: Final = u8(0x0D)
MOVALL: Final = u8(0x0E)
DISCARD: Final = u8(0x0F)

DEVICE_AND_NUMBER: Final = u64(0xFFFF_FFFF_0000_00FF)
NUMBER: Final = u64(0xFF)
EVENT: Final = u64(0xFFFF_FFFF)
COLLECTION: Final = u64(0xFFFF)
TARGET: Final = u64(0xF_FFFF_FFFF_0000)
"""Bits 51 to 16, where a redistributor is named."""
ITT_ADDRESS: Final = u64(0xF_FFFF_FFFF_FF00)
ITT_SIZE: Final = u64(0x1F)
VALID: Final = u64(1 << 63)


class GitsTyper(Bits64):
    """GITS_TYPER."""

    entry_size: u8 = bits(7, 4)
    """Bytes of an entry of an ITT, less one."""
    id_bits: u8 = bits(12, 8)
    """Bits of an event's number, less one."""
    device_bits: u8 = bits(17, 13)
    """Bits of a device's number, less one."""
    pta: bool = bits(19)
    """A redistributor is named by its address, not by its number."""
    hcc: u8 = bits(31, 24)
    """Collections that need no table."""


class First(Bits64):
    """The first word."""

    number: u8 = bits(7, 0)
    device: u64 = bits(63, 32)


@value
class Command:
    """One command."""

    first: u64
    second: u64
    third: u64
    fourth: u64

    @property
    def number(self) -> u8:
        """Which it is."""
        return First.of(self.first).number

    @property
    def device(self) -> u64:
        """For which device."""
        return First.of(self.first).device

    @property
    def collection(self) -> u64:
        """Of MAPC: which collection."""
        return self.third & COLLECTION

    @property
    def valid(self) -> bool:
        """Of MAPD and MAPC: to be mapped, not unmapped."""
        return self.third & VALID != 0


def shape(number: u8) -> Command | None:
    """The bits that this command defines, set; None for what is no command of a GICv3's: those for virtual LPIs, and what is reserved."""
    if number == MAPD:
        return Command(DEVICE_AND_NUMBER, ITT_SIZE, VALID | ITT_ADDRESS, u64(0))
    if number == MAPC:
        return Command(NUMBER, u64(0), VALID | TARGET | COLLECTION, u64(0))
    if number == MAPTI or number == MAPI or number == MOVI:
        return Command(DEVICE_AND_NUMBER, u64.MAX, COLLECTION, u64(0))
    if number == INT or number == CLEAR or number == DISCARD or number == INV:
        return Command(DEVICE_AND_NUMBER, EVENT, u64(0), u64(0))
    if number == INVALL:
        return Command(NUMBER, u64(0), COLLECTION, u64(0))
    if number == MOVALL:
        return Command(NUMBER, u64(0), TARGET, TARGET)
    return Command(NUMBER, u64(0), TARGET, u64(0)) if number == SYNC else None


def reduced(command: Command) -> Command | None:
    """The command without bits that it does not define; None where there is no such command. What unmaps names nothing."""
    kept = shape(command.number)
    if kept is None:
        return None
    third = command.third & kept.third
    if (command.number == MAPD or command.number == MAPC) and not command.valid:
        third &= COLLECTION if command.number == MAPC else u64(0)
    return Command(command.first & kept.first, command.second & kept.second, third, command.fourth & kept.fourth)


def names_redistributor(command: Command) -> bool:
    """Whether the third word of a reduced command names one. Of MOVALL the fourth does too."""
    return command.number == SYNC or command.number == MOVALL or (command.number == MAPC and command.valid)


def sync(target: u64) -> Command:
    """SYNC for the redistributor that `target`, a field in its place, names."""
    return Command(u64(SYNC), u64(0), target, u64(0))


def translation_table(command: Command, own_type: GitsTyper) -> Region | None:
    """The ITT that a reduced MAPD names; None where it is for more events than the ITS can tell apart."""
    size = command.second & ITT_SIZE
    if size > u64(own_type.id_bits):
        return None
    return Region(Pa(command.third & ITT_ADDRESS), (u64(1) << (size + 1)) * (u64(own_type.entry_size) + 1))
