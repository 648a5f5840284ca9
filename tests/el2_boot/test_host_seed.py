# SPDX-License-Identifier: Apache-2.0
"""The seed of the device tree: EL2 takes it and leaves nothing of it, the host gets another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fdt_writer import board, cells64, write

from delphyne.el2.arch import fdt, fdt_edit
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.entry import host_seed
from delphyne.el2.sealing import drbg, entropy, generator
from delphyne.lang import Array, Pa, SimdArea, owned, u8, u64, wipe
from delphyne.lang.machine import Machine

RAM, RAM_BYTES = 0x4000_0000, 0x0400_0000
BLOB_AT = 0x4100_0000
SEED = bytes(range(100, 132))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine(RAM, RAM_BYTES, registers={"ID_AA64ISAR0_EL1": 0, "ID_AA64PFR0_EL1": 0, "CNTPCT_EL0": 0}) as made:
        MACHINE.banks[0], MACHINE.bank_count = fdt.Region(Pa(u64(RAM)), u64(RAM_BYTES)), u64(1)
        yield made
    for static in (MACHINE, entropy.SOURCES, generator.GENERATOR):
        wipe(static)


def taken(machine: Machine, chosen: dict[str, Any] | None) -> tuple[fdt_edit.HostTree, bytes]:
    """What the host is told, and the tree's bytes as they are in memory then."""
    root = board(cells64(RAM, RAM_BYTES))
    if chosen is None:
        del root.children["chosen"]
    else:
        root.children["chosen"].properties |= chosen
    blob = write(root)
    machine.memory.write(BLOB_AT, blob)
    host = fdt_edit.HostTree()
    region = fdt.Region(Pa(u64(BLOB_AT)), u64(len(blob)))
    with owned(region.base, region.size) as raw:
        tree = fdt.open_tree(raw)
        assert not isinstance(tree, Err)
        host_seed.take(raw, tree, region, host)
    return host, machine.memory.read(BLOB_AT, len(blob))


def test_el2_takes_the_seed_and_the_host_gets_another(machine: Machine) -> None:
    host, left = taken(machine, {"rng-seed": SEED})
    assert entropy.SOURCES.tree
    assert SEED not in left
    seed = BLOB_AT + left.index(bytes(32))
    cleaned = {event.address for event in machine.events if event.name == "dc civac"}
    assert {at & ~63 for at in (seed, seed + 31)} <= cleaned, "the host may look past the caches"
    expected = drbg.Drbg()
    drbg.instantiate(expected, SimdArea(), Array[u8, 136]()[:], Array[u8, 32].of(SEED)[:], Array[u8, 8].of(b"Delphyne")[:])
    out = Array[u8, 32]()
    drbg.generate(expected, SimdArea(), out[:0], out[:])
    assert host.seeded
    assert bytes(host.seed) == bytes(out)


@pytest.mark.parametrize("chosen", [None, {}])
def test_without_a_seed_the_host_gets_none(machine: Machine, chosen: dict[str, Any] | None) -> None:
    host, _ = taken(machine, chosen)
    assert not host.seeded
    assert not entropy.SOURCES.tree


def test_a_short_seed_is_wiped_and_gives_the_host_none(machine: Machine) -> None:
    host, left = taken(machine, {"rng-seed": SEED[:16]})
    assert not host.seeded
    assert SEED[:16] not in left


def test_a_machine_for_development_is_marked_in_its_tree(machine: Machine) -> None:
    host, left = taken(machine, {"rng-seed": SEED[:16], "delphyne,development": b""})
    assert entropy.SOURCES.weak
    assert host.seeded
    assert SEED[:16] not in left


def test_a_seed_that_cannot_be_wiped_does_not_count(machine: Machine) -> None:
    MACHINE.bank_count = u64(0)
    host, left = taken(machine, {"rng-seed": SEED})
    assert not host.seeded
    assert not entropy.SOURCES.tree
    assert SEED in left
