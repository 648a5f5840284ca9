# SPDX-License-Identifier: Apache-2.0
"""A GICv3 of the simulated machine, as far as its registers name memory, written from IHI 0069: distributor, redistributors of two frames, one ITS.

It remembers what it would use: `in_use` are the addresses that it may read or write by itself from now on."""

from __future__ import annotations

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

    def __init__(self, last: bool, vlpis: bool = False) -> None:
        super().__init__({TYPER: 1 | int(vlpis) << 1 | int(last) << 4})
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


class Its(Registers):
    """An ITS of GICv4, with tables of devices, of vPEs and of collections. `page_size`: the only one that its tables can have, or None."""

    def __init__(self) -> None:
        tables = {BASER + 8 * n: kind << 56 | 7 << 48 for n, kind in enumerate((DEVICES, VPES, COLLECTIONS))}
        super().__init__({0: QUIESCENT, TYPER: 1 | 1 << 1 | 1 << 37 | 7 << 39 | 15 << 13, **tables})
        self.page_size: int | None = None

    def store(self, word: int, value: int) -> None:
        if word in (TYPER, CREADR):
            return
        if word == 0:
            self.held[0] = value & 1 | QUIESCENT
            return
        if BASER <= word < BASER + 64:
            fixed = 7 << 56 | 31 << 48
            if not self.held.get(word, 0) & 7 << 56:
                return
            value = value & ~fixed | self.held[word] & fixed
            if self.page_size is not None:
                value = value & ~(3 << 8) | self.page_size << 8
        if word == CBASER:
            self.held[CREADR] = 0
        self.held[word] = value

    def table(self, value: int) -> range:
        size = (0x1000, 0x4000, 0x1_0000, 0x1_0000)[value >> 8 & 3]
        address = value & (1 << 48) - size | (value >> 12 & 15) << 48 if size == 0x1_0000 else value & (1 << 48) - 0x1000
        return range(address, address + ((value & 255) + 1) * size)

    def in_use(self) -> list[range]:
        if not self.held[0] & 1:
            return []
        used = [self.table(value) for word, value in self.held.items() if word >= BASER and value & VALID]
        queue = self.held.get(CBASER, 0)
        at = queue & (1 << 52) - 0x1000
        return [*used, range(at, at + ((queue & 255) + 1) * 0x1000)] if queue & VALID else used


class Gic:
    """All of it, put on a machine in the place of any that is there."""

    def __init__(self, machine: Machine, cpus: int = 2, vlpis: bool = False) -> None:
        machine._devices[:] = [device for device in machine._devices if not isinstance(device[2], Registers)]
        self.distributor = Registers({0: (ID_BITS - 1) << 19 << 32})
        self.redistributors = [Redistributor(number == cpus - 1, vlpis) for number in range(cpus)]
        self.virtual = [Registers({}) for _ in range(cpus if vlpis else 0)]
        self.its = Its()
        self.stride = 0x4_0000 if vlpis else 0x2_0000
        machine.add_device(DISTRIBUTOR, 0x1_0000, self.distributor)
        for number, one in enumerate(self.redistributors):
            machine.add_device(REDISTRIBUTORS + number * self.stride, 0x2_0000, one)
        for number, virtual in enumerate(self.virtual):
            machine.add_device(REDISTRIBUTORS + number * self.stride + 0x2_0000, 0x1_0000, virtual)
        machine.add_device(ITS, 0x2_0000, self.its)

    def in_use(self) -> list[range]:
        return [part for one in (self.its, *self.redistributors) for part in one.in_use()]
