# SPDX-License-Identifier: Apache-2.0
"""A simulated machine with page pools and a host stage 2, and a look at its tables that shares nothing with EL2's own code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from delphyne.el2.memory import frames, pages, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.tables import Space
from delphyne.lang import Pa, u8, u16, u64, wipe
from delphyne.lang.machine import Machine

RAM = 0x4000_0000
RAM_SIZE = 0x0100_0000
PAGES_AT = RAM
BOOKKEEPING_AT = RAM + 0x0080_0000
FRAMES_AT = RAM + 0x0090_0000


def forget_statics() -> None:
    """What a reset of the machine does to the statics of the memory room."""
    for static in (pages.POOLS, pages.REGION, frames.LAYOUT):
        wipe(static)


@contextmanager
def machine_with_pools(
    cpus: int = 1, el2: int = 8, host: int = 32, guests: int = 16, start_unit: int = 16, starts: int = 2, guest_starts: int = 2
) -> Iterator[Machine]:
    """A machine whose pools have these many units; a page that is freed is checked to be empty and known to no TLB."""
    with Machine(RAM, RAM_SIZE, cpus) as machine:
        assign_pools(el2, host, guests, start_unit, starts, guest_starts)
        yield machine


def assign_pools(el2: int = 8, host: int = 32, guests: int = 16, start_unit: int = 16, starts: int = 2, guest_starts: int = 2) -> None:
    """Attach the region and cut it, on the current machine."""
    forget_statics()
    count = starts * start_unit + 2 * guest_starts + el2 + host + guests
    assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(count)) is None
    cut = ((PoolName.STARTS, start_unit, starts), (PoolName.GUEST_STARTS, 2, guest_starts))
    for name, unit, units in (*cut, (PoolName.EL2, 1, el2), (PoolName.HOST, 1, host), (PoolName.GUESTS, 1, guests)):
        assert pages.assign(name, u64(unit), u64(units)) is None


def new_space(bits: int = 40, pool: PoolName = PoolName.HOST, vmid: int = 0) -> Space:
    space = Space()
    assert stage2.create(space, u64(bits), PoolName.STARTS, pool, u16(vmid)) is None
    return space


def use(machine: Machine, space: Space) -> None:
    """Make this stage 2 current on every CPU."""
    for number in range(len(machine.cpus)):
        with machine.on(number):
            machine.write_register("VTTBR_EL2", int(tables.vttbr_of(space).raw))
            machine.write_register("VTCR_EL2", int(stage2.vtcr(space, u8(5)).raw))
            machine.write_register("HCR_EL2", 1 << 31 | 1)


@dataclass(frozen=True)
class RawLeaf:
    """A valid leaf as it stands in memory."""

    address: int
    size: int
    output: int
    raw: int


def raw_leaves(machine: Machine, space: Space) -> tuple[list[RawLeaf], list[int]]:
    """Every leaf that a walk can reach, in rising order, and the address of every table below the start tables.

    Decoded here by hand (Arm ARM D8.3): bit 0 valid, bit 1 table or page, bits 47:12 address.
    """
    leaves: list[RawLeaf] = []
    found: list[int] = []

    def visit(table: int, level: int, base: int, slots: int) -> None:
        span = 1 << (39 - 9 * level)
        words = struct.unpack(f"<{slots}Q", machine.memory.read(table, 8 * slots, True))
        for slot, raw in [(slot, raw) for slot, raw in enumerate(words) if raw]:
            address = base + slot * span
            assert raw & 1, f"slot {slot} of {table:#x} holds {raw:#x}"
            if level < 3 and raw & 2:
                below = raw & 0x0000_FFFF_FFFF_F000
                assert below not in found, f"two slots lead to {below:#x}"
                found.append(below)
                visit(below, level + 1, address, 512)
            else:
                assert level != 0, "a block at level 0"
                assert level < 3 or raw & 2, "a page descriptor without bit 1"
                output = raw & 0x0000_FFFF_FFFF_F000
                assert output % span == 0, f"a leaf of {span:#x} bytes leads to {output:#x}"
                leaves.append(RawLeaf(address, span, output, raw))

    bits = int(space.bits)
    start = 0 if bits > 43 else 1
    slots = 1 << bits - (39 - 9 * start)
    visit(PAGES_AT + 4096 * int(space.root), start, 0, slots)
    return leaves, found


def used(name: PoolName) -> int:
    """Units of a pool that are in use."""
    return int(pages.POOLS[u64(name.raw)].used)


def region_bytes(machine: Machine) -> bytes:
    """All pages and all bookkeeping, to see that nothing changed."""
    count = int(pages.TABLES.length)
    pools = repr([pages.POOLS[i] for i in range(len(PoolName))]).encode()
    return machine.memory.read(PAGES_AT, 4096 * count, True) + machine.memory.read(BOOKKEEPING_AT, 8 * count, True) + pools
