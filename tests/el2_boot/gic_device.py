# SPDX-License-Identifier: Apache-2.0
"""A GICv3 of the simulated machine, as far as its registers name memory, written from IHI 0069: distributor, redistributors of two frames, one ITS.

It remembers what it would use: `in_use` are the addresses that it may read or write by itself from now on. The ITS executes commands: it reads its
queue, and reads and writes its tables and those of devices, past all caches."""

from __future__ import annotations

from collections.abc import Callable

from delphyne.lang.machine import Machine

DISTRIBUTOR, REDISTRIBUTORS, ITS = 0x0800_0000, 0x080A_0000, 0x0808_0000
VALID, INDIRECT = 1 << 63, 1 << 62
TYPER, PROPBASER, PENDBASER = 0x8, 0x70, 0x78
CBASER, CWRITER, CREADR, BASER = 0x80, 0x88, 0x90, 0x100
QUIESCENT = 1 << 31
DEVICES, VPES, COLLECTIONS = 1, 2, 4
ID_BITS = 16


class Registers:
    """64-bit registers by offset, halves included."""

    def __init__(self, start: dict[int, int]) -> None:
        self.held = dict(start)
        self.written: list[tuple[int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        word = self.held.get(offset & ~7, 0)
        return word >> (offset % 8 * 8) & ((1 << size * 8) - 1)

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, size, value))
        low, mask = offset % 8 * 8, (1 << size * 8) - 1
        word = self.held.get(offset & ~7, 0)
        self.store(offset & ~7, word & ~(mask << low) | value << low)

    def store(self, word: int, value: int) -> None:
        self.held[word] = value


class Redistributor(Registers):
    """RD_base and SGI_base. `sticky`: LPIs that are on stay on."""

    def __init__(self, last: bool, vlpis: bool = False, number: int = 0) -> None:
        super().__init__({TYPER: 1 | int(vlpis) << 1 | int(last) << 4 | number << 8 | number << 32})
        self.sticky = False

    def store(self, word: int, value: int) -> None:
        if word == 0 and self.sticky and self.held.get(0, 0) & 1:
            value |= 1
        if word == PENDBASER:
            value &= ~(1 << 62)
        if word != TYPER:
            self.held[word] = value

    def in_use(self) -> list[range]:
        if not self.held.get(0, 0) & 1:
            return []
        bits = min((self.held.get(PROPBASER, 0) & 31) + 1, ID_BITS)
        properties, pending = self.held.get(PROPBASER, 0) & (1 << 52) - 0x1000, self.held.get(PENDBASER, 0) & (1 << 52) - 0x1_0000
        return [range(properties, properties + (1 << bits) - 8192), range(pending, pending + (1 << bits) // 8)]


Words = tuple[int, int, int, int]
MOVI, INT, CLEAR, SYNC, MAPD, MAPC, MAPTI, MAPI, INV, INVALL, MOVALL, DISCARD = 1, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15
VMAPP, VMAPTI, VMOVP, VSYNC = 0x29, 0x2A, 0x22, 0x25
COMMAND, DTE, ITE = 32, 8, 12
TYPER_BITS = 1 | (ITE - 1) << 4 | (ID_BITS - 1) << 8 | 15 << 13
"""Physical LPIs, bytes of an entry of an ITT, bits of an event's and of a device's number."""
TARGET = (1 << 52) - 0x1_0000


class Its(Registers):
    """An ITS of GICv4, with tables of devices, of vPEs and of collections. `page_size`: the only one that its tables can have, or None. `slow`:
    commands are executed by `run` only. `stalls`: at a command that is wrong. `watch` is told of each address that is read or written. What is
    executed and what was wrong is kept. The format of its tables is its own: bit 0 valid, of a device bits 5:1 the size and from 8 on the ITT."""

    def __init__(self, machine: Machine) -> None:
        tables = {BASER + 8 * n: kind << 56 | (DTE - 1) << 48 for n, kind in enumerate((DEVICES, VPES, COLLECTIONS))}
        super().__init__({0: QUIESCENT, TYPER: TYPER_BITS | 1 << 1 | 1 << 37 | 7 << 39, **tables})
        self.memory = machine.memory
        self.page_size: int | None = None
        self.slow = self.stalls = False
        self.targets: set[int] = set()
        self.executed: list[Words] = []
        self.wrong: list[Words] = []
        self.watch: Callable[[int, int], None] = lambda at, size: None

    def store(self, word: int, value: int) -> None:
        if word in (TYPER, CREADR):
            return
        if word == 0:
            self.held[0] = value & 1 | QUIESCENT
        elif BASER <= word < BASER + 64:
            fixed = 7 << 56 | 31 << 48
            if not self.held.get(word, 0) & 7 << 56:
                return
            value = value & ~fixed | self.held[word] & fixed
            if self.page_size is not None:
                value = value & ~(3 << 8) | self.page_size << 8
            self.held[word] = value
        elif word == CWRITER:
            if value & 1:
                self.held[CREADR] = self.held.get(CREADR, 0) & ~1
            self.held[word] = value & ~1
        else:
            if word == CBASER:
                self.held[CREADR] = 0
            self.held[word] = value
        if not self.slow:
            self.run()

    def table(self, value: int) -> range:
        size = (0x1000, 0x4000, 0x1_0000, 0x1_0000)[value >> 8 & 3]
        address = value & (1 << 48) - size | (value >> 12 & 15) << 48 if size == 0x1_0000 else value & (1 << 48) - 0x1000
        return range(address, address + ((value & 255) + 1) * size)

    def queue(self) -> range:
        """Where commands are read; nowhere without a valid queue."""
        value = self.held.get(CBASER, 0)
        at = value & (1 << 52) - 0x1000
        return range(at, at + ((value & 255) + 1) * 0x1000) if value & VALID else range(0)

    def in_use(self) -> list[range]:
        if not self.held[0] & 1:
            return []
        return [*(self.table(value) for word, value in self.held.items() if word >= BASER and value & VALID), *filter(len, [self.queue()])]

    def run(self, limit: int = 1 << 20) -> None:
        """Up to `limit` commands, while it is on, has a queue and does not stall."""
        queue = self.queue()
        while limit and self.held[0] & 1 and queue and not self.held.get(CREADR, 0) & 1 and self.held[CREADR] != self.held.get(CWRITER, 0):
            at = self.held[CREADR]
            data = self._read(queue.start + at, COMMAND)
            words = tuple(int.from_bytes(data[n : n + 8], "little") for n in range(0, COMMAND, 8))
            if not self._execute(*words):
                self.wrong.append(words)
                if self.stalls:
                    self.held[CREADR] |= 1
                    return
            self.executed.append(words)
            self.held[CREADR] = (at + COMMAND) % len(queue)
            limit -= 1

    def deliver(self, device: int, event: int) -> int | None:
        """A device's message: which interrupt it becomes."""
        entry = self._translation(device, event)
        if entry is None or not self.held[0] & 1:
            return None
        low = int.from_bytes(self._read(entry, 8), "little")
        return low >> 1 & 0xFFFF_FFFF if low & 1 else None

    def _read(self, at: int, size: int) -> bytes:
        self.watch(at, size)
        return self.memory.read(at, size, cacheable=False)

    def _write(self, at: int, data: bytes) -> None:
        self.watch(at, len(data))
        self.memory.write(at, data, cacheable=False)

    def _entry(self, kind: int, index: int) -> int | None:
        """Where an entry of its own table lies."""
        for word, value in self.held.items():
            if word >= BASER and value >> 56 & 7 == kind and value & VALID:
                table = self.table(value)
                return table.start + index * DTE if (index + 1) * DTE <= len(table) else None
        return None

    def _translation(self, device: int, event: int) -> int | None:
        """Where the entry of an ITT lies."""
        at = self._entry(DEVICES, device)
        entry = 0 if at is None else int.from_bytes(self._read(at, DTE), "little")
        if not entry & 1 or event >= 2 << (entry >> 1 & 31):
            return None
        return (entry & (1 << 52) - 0x100) + event * ITE

    def _execute(self, first: int, second: int, third: int, fourth: int) -> bool:
        """One command; False where it is wrong."""
        number, device, event = first & 0xFF, first >> 32, second & 0xFFFF_FFFF
        if number == MAPD:
            at = self._entry(DEVICES, device)
            if at is None or device >> 16 or second & 31 > ID_BITS - 1:
                return False
            self._write(at, ((third & (1 << 52) - 0x100 | (second & 31) << 1 | 1) if third & VALID else 0).to_bytes(DTE, "little"))
            return True
        if number == MAPC:
            at = self._entry(COLLECTIONS, third & 0xFFFF)
            if at is None or (third & VALID and third & TARGET not in self.targets):
                return False
            self._write(at, (third & TARGET | 1 if third & VALID else 0).to_bytes(DTE, "little"))
            return True
        if number in (SYNC, MOVALL):
            return third & TARGET in self.targets and (number == SYNC or fourth & TARGET in self.targets)
        if number in (MAPTI, MAPI, MOVI, INT, CLEAR, INV, DISCARD):
            entry = self._translation(device, event)
            if entry is None:
                return False
            if number in (MAPTI, MAPI):
                interrupt = second >> 32 if number == MAPTI else event
                self._write(entry, (interrupt << 1 | 1).to_bytes(8, "little") + (third & 0xFFFF).to_bytes(4, "little"))
            elif number == DISCARD:
                self._write(entry, bytes(ITE))
            else:
                self._read(entry, ITE)
            return True
        return number == INVALL


class Gic:
    """All of it, put on a machine in the place of any that is there."""

    def __init__(self, machine: Machine, cpus: int = 2, vlpis: bool = False) -> None:
        machine._devices[:] = [device for device in machine._devices if not isinstance(device[2], Registers)]
        self.distributor = Registers({0: (ID_BITS - 1) << 19 << 32})
        self.redistributors = [Redistributor(number == cpus - 1, vlpis, number) for number in range(cpus)]
        self.virtual = [Registers({}) for _ in range(cpus if vlpis else 0)]
        self.its = Its(machine)
        self.its.targets = {number << 16 for number in range(cpus)}
        self.stride = 0x4_0000 if vlpis else 0x2_0000
        machine.add_device(DISTRIBUTOR, 0x1_0000, self.distributor)
        for number, one in enumerate(self.redistributors):
            machine.add_device(REDISTRIBUTORS + number * self.stride, 0x2_0000, one)
        for number, virtual in enumerate(self.virtual):
            machine.add_device(REDISTRIBUTORS + number * self.stride + 0x2_0000, 0x1_0000, virtual)
        machine.add_device(ITS, 0x2_0000, self.its)

    def in_use(self) -> list[range]:
        return [part for one in (self.its, *self.redistributors) for part in one.in_use()]
