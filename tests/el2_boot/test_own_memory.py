# SPDX-License-Identifier: Apache-2.0
"""How much of RAM EL2 takes, for tables, frames, records and its image, and how much of it can be private to guests then."""

from __future__ import annotations

from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
import test_boot_scenario as scenario
from fdt_writer import board, cells64, write
from hypothesis import given

from delphyne.el2.arch import image
from delphyne.el2.arch.cpu import MAX_CPUS, SLOT_BYTES
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.machine import MACHINE, Machine
from delphyne.el2.entry import own_map
from delphyne.el2.memory import frames, host_map, pages
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.sealing import records
from delphyne.lang import Pa, u64, wipe
from delphyne.lang.machine import Machine as Simulated

booted = scenario.booted
RAM_AT = 0x4000_0000
GIB = 1 << 30
IMAGE = 0x14_C000
"""The image without stacks, as large as it is today; tests/system measures it."""


@pytest.fixture(autouse=True)
def uncounted() -> Iterator[None]:
    yield
    wipe(frames.LAYOUT)
    wipe(own_map.PLAN)


def taken(ram: int, cpus: int, reserved: int = 0, banks: int = 1) -> int:
    """Bytes of EL2's, image and all, on a machine whose RAM lies in so many banks."""
    wipe(frames.LAYOUT)
    machine = Machine()
    size = ram // banks
    for number in range(banks):
        machine.banks[number] = Region(Pa(u64(RAM_AT + number * (size + GIB))), u64(size))
        assert frames.add_bank(machine.banks[number].base, u64(size)) is None
    machine.bank_count, machine.cpu_count, machine.reserved_count = u64(banks), u64(cpus), u64(reserved)
    stacks = cpus * int(SLOT_BYTES)
    own_map.plan(machine, u64(IMAGE + stacks))
    return int(own_map.own_bytes()) + IMAGE + stacks


def private() -> float:
    """The part of RAM that can be private at a time."""
    return int(own_map.record_count()) / int(frames.LAYOUT.frames)


@pytest.mark.parametrize(("gib", "cpus", "most"), [(2, 4, 0.478), (2, 8, 0.472), (3, 8, 0.5), (4, 8, 0.5), (8, 64, 0.5), (512, 64, 0.5)])
def test_half_of_ram_is_private_within_a_hundredth_of_it(gib: int, cpus: int, most: float) -> None:
    """At 2 GiB there is room for all but that."""
    assert taken(gib * GIB, cpus) <= gib * GIB // 100
    assert most <= private() <= 0.5


@given(st.integers(64, 1 << 18), st.integers(1, 64), st.integers(0, 64), st.integers(1, 16))
def test_el2_takes_its_share_or_what_a_quarter_needs(mib: int, cpus: int, reserved: int, banks: int) -> None:
    ram = mib << 20
    own = taken(ram, cpus, reserved, banks)
    count = int(frames.LAYOUT.frames)
    assert count // 4 <= int(own_map.record_count()) <= count // 2
    assert own <= ram // 100 or int(own_map.record_count()) == count // 4
    if int(own_map.record_count()) < count // 2 and own <= ram // 100:
        room = count * 4096 // 100 - own
        assert room < 2 * 4096 + int(records.RECORD_BYTES), "all that there is room for"


def test_tables_for_half_of_the_blocks_and_for_what_splits_ram() -> None:
    taken(4 * GIB, 4)
    small = int(own_map.PLAN.el2_pages), int(own_map.PLAN.host_pages), int(own_map.guest_pages())
    assert small[1] >= 1024 + 4
    assert small[2] >= 1024
    taken(4 * GIB, 4, reserved=10, banks=4)
    assert int(own_map.PLAN.el2_pages) == small[0] + 10 * 4 + 3 * 5
    assert int(own_map.PLAN.host_pages) == small[1] + 3 * 5


@pytest.mark.parametrize("banks", [1, 2, 3, 4])
def test_every_page_of_the_tables_is_some_pools(banks: int) -> None:
    """Whatever the pools' sizes are, odd ones too: no page is lost between them."""
    taken(banks * (68 << 20), 1, banks=banks)
    for static in (pages.POOLS, pages.REGION):
        wipe(static)
    with Simulated(RAM_AT, 0x100_0000):
        assert own_map.take_tables(Pa(u64(RAM_AT))) is None
        assert pages.REGION.assigned == pages.TABLES.length
        assert all(pages.POOLS[u64(name.raw)].count != 0 for name in PoolName)
        assert host_map.OUT.length == pages.TABLES.length
    for static in (pages.POOLS, pages.REGION):
        wipe(static)


def test_a_board_with_many_holes_has_tables_for_all_of_them(booted: tuple[object, scenario.SerialPort, scenario.Firmware]) -> None:
    """Sixty reserved pages, each in a block of its own and apart from the next: two tables more for each at most."""
    machine, _, _ = booted
    holes = [(scenario.RAM + 0x20_0000 * number + 0x10_3000, 0x1000) for number in range(9, scenario.RAM_BYTES >> 21)]
    scenario.boot(machine, write(board(cells64(scenario.RAM, scenario.RAM_BYTES)), holes[:60]))  # type: ignore[arg-type]
    pool = pages.POOLS[u64(PoolName.EL2.raw)]
    assert 0 < int(pool.used) <= int(pool.count) - 32


def test_stacks_of_cpus_that_are_not_there_are_the_hosts(booted: tuple[object, scenario.SerialPort, scenario.Firmware]) -> None:
    machine, _, _ = booted
    scenario.boot(machine, write(board(cells64(scenario.RAM, scenario.RAM_BYTES))))  # type: ignore[arg-type]
    assert int(MACHINE.cpu_count) == 2
    stacks, end = int(image.image_stacks_start().raw), int(image.image_end().raw)
    assert end - stacks == int(MAX_CPUS * SLOT_BYTES)
    scenario.use_own_map(machine)  # type: ignore[arg-type]
    for at in range(stacks, end, 0x1000):
        mine = at < stacks + 2 * int(SLOT_BYTES)
        entry = frames.entry_of(Pa(u64(at)))
        assert entry is not None
        assert entry.state is (State.EL2 if mine else State.HOST), hex(at)
        if not mine:
            assert scenario.rights(machine, at) == "rw", "as all RAM"  # type: ignore[arg-type]
