# SPDX-License-Identifier: Apache-2.0
"""What EL2 takes from a device tree, and where it puts its own memory."""

from __future__ import annotations

import pytest
from fdt_writer import Dt, board, cells64, view, write
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import fdt, image
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.machine import GicKind, Machine, describe, ram_bytes
from delphyne.el2.arch.psci import Conduit
from delphyne.el2.arch.uart import UartKind
from delphyne.el2.entry import own_map
from delphyne.lang import Pa, u64


def described(root: Dt, reserved: list[tuple[int, int]] | None = None) -> Machine | Err:
    machine = Machine()
    found = describe(view(write(root, reserved)), machine)
    return found if isinstance(found, Err) else machine


def good(root: Dt, reserved: list[tuple[int, int]] | None = None) -> Machine:
    machine = described(root, reserved)
    assert isinstance(machine, Machine)
    return machine


def banks(machine: Machine) -> list[tuple[int, int]]:
    return [(int(machine.banks[i].base.raw), int(machine.banks[i].size)) for i in range(int(machine.bank_count))]


def reserved(machine: Machine) -> list[tuple[int, int]]:
    return [(int(machine.reserved[i].base.raw), int(machine.reserved[i].size)) for i in range(int(machine.reserved_count))]


def test_a_small_board() -> None:
    machine = good(board(), [(0x4800_0000, 0x2000)])
    assert banks(machine) == [(0x4000_0000, 0x1000_0000)]
    assert reserved(machine) == [(0x4800_0000, 0x2000)]
    assert [int(machine.cpus[i]) for i in range(int(machine.cpu_count))] == [0, 1]
    assert machine.conduit is Conduit.SMC
    assert machine.gic_kind is GicKind.GICV3
    assert (int(machine.gic[0].base.raw), int(machine.gic[1].base.raw)) == (0x0800_0000, 0x080A_0000)
    assert machine.console.kind is UartKind.PL011
    assert int(machine.console.base.raw) == 0x0900_1000
    assert int(ram_bytes(machine)) == 0x1000_0000


def test_banks_are_sorted_and_empty_ones_left_out() -> None:
    several = board(cells64(0x9000_0000, 0x1000, 0x4000_0000, 0x2000, 0x5000_0000, 0, 0x8_0000_0000, 0x3000))
    several.children["memory@1"] = Dt({"device_type": "memory", "reg": cells64(0x6000_0000, 0x1000)})
    several.children["memory@2"] = Dt({"device_type": "memory", "reg": cells64(0x7000_0000, 0x1000), "status": "disabled"})
    assert [base for base, _ in banks(good(several))] == [0x4000_0000, 0x6000_0000, 0x9000_0000, 0x8_0000_0000]


@pytest.mark.parametrize(
    ("root", "error"),
    [
        (board(cells64(0x4000_0000, 0x2000, 0x4000_1000, 0x1000)), Err.MALFORMED),
        (board(cells64(0xFFFF_FFFF_FFFF_0000, 0x2_0000)), Err.RANGE),
        (board(cells64(*(part for n in range(33) for part in (n << 20, 0x1000)))), Err.NO_MEMORY),
        (Dt({}, {"cpus": board().children["cpus"]}), Err.NOT_FOUND),
        (Dt({"#address-cells": [2], "#size-cells": [2]}, {"memory@0": board().children["memory@40000000"]}), Err.NOT_FOUND),
        (board(memory_at_1=Dt({"device_type": "memory", "reg": [1]})), None),
        (board(cpus=Dt({"#address-cells": [1]}, {"cpu@0": Dt({"device_type": "cpu", "reg": [0x0100_0000]})})), Err.MALFORMED),
        (board(cpus=Dt({"#address-cells": [1]}, {"cpu@0": Dt({"device_type": "cpu"})})), Err.NOT_FOUND),
    ],
)
def test_boards_that_nobody_has_are_refused(root: Dt, error: Err | None) -> None:
    found = described(root)
    assert (found is error) if error is not None else isinstance(found, Machine)


def test_affinities_of_two_cells_reach_aff3() -> None:
    cpus = Dt({"#address-cells": [2], "#size-cells": [0]}, {f"cpu@{n}": Dt({"device_type": "cpu", "reg": [n, 0x10203]}) for n in (0, 1)})
    machine = good(board(cpus=cpus))
    assert [int(machine.cpus[i]) for i in range(2)] == [0x10203, 0x1_0001_0203]


def test_more_cpus_than_el2_serves_are_left_alone() -> None:
    cpus = Dt({"#address-cells": [1], "#size-cells": [0]}, {f"cpu@{n:x}": Dt({"device_type": "cpu", "reg": [n]}) for n in range(80)})
    assert int(good(board(cpus=cpus)).cpu_count) == 64


def test_only_unmapped_reservations_count() -> None:
    nodes = {
        "secure@1": Dt({"reg": cells64(0x4100_0000, 0x1000, 0x4200_0000, 0x2000), "no-map": None}),
        "cma@2": Dt({"reg": cells64(0x4300_0000, 0x1000)}),
        "off@3": Dt({"reg": cells64(0x4400_0000, 0x1000), "no-map": None, "status": "disabled"}),
    }
    memory = Dt({"#address-cells": [2], "#size-cells": [2], "ranges": None}, nodes)
    root = board(reserved_memory=memory)
    assert reserved(good(root)) == [(0x4100_0000, 0x1000), (0x4200_0000, 0x2000)]
    del memory.properties["ranges"]
    assert described(root) is Err.INVALID


def test_a_reservation_that_is_still_to_be_placed_is_no_hole() -> None:
    """`no-map` with `size` and without `reg`: whoever boots the host chooses the place."""
    pool = Dt({"#address-cells": [2], "#size-cells": [2], "ranges": None}, {"pool": Dt({"size": cells64(0x100), "no-map": None})})
    assert reserved(good(board(reserved_memory=pool))) == []


@pytest.mark.parametrize(
    ("node", "conduit"),
    [
        (Dt({"compatible": "arm,psci-0.2", "method": "hvc"}), Conduit.HVC),
        (Dt({"compatible": "arm,psci-1.0", "method": "smc"}), Conduit.SMC),
        (Dt({"compatible": "arm,psci", "method": "smc"}), Conduit.NONE),
        (Dt({"compatible": "arm,psci-1.0", "method": "fax"}), Conduit.NONE),
    ],
)
def test_psci(node: Dt, conduit: Conduit) -> None:
    assert good(board(psci=node)).conduit is conduit


def test_gicv2_and_a_gic_on_a_bus_of_its_own() -> None:
    root = board()
    del root.children["gic@8000000"]
    assert good(root).gic_kind is GicKind.NONE
    registers = cells64(0x0800_0000, 0x1000, 0x0801_0000, 0x2000)
    far = Dt({"#address-cells": [2], "#size-cells": [2]}, {"gic@0": Dt({"compatible": "arm,gic-400", "reg": registers})})
    root.children["far"] = far
    assert good(root).gic_kind is GicKind.NONE
    root.children["gic@1"] = far.children["gic@0"]
    machine = good(root)
    assert machine.gic_kind is GicKind.GICV2
    assert int(machine.gic[1].base.raw) == 0x0801_0000


REGIONS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 40)), max_size=6)


@given(REGIONS, st.integers(1, 60), st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_memory_is_placed_in_ram_and_in_no_hole(regions: list[tuple[int, int]], pages: int, shift: int) -> None:
    machine, holes = Machine(), own_map.Holes()
    for at, (base, size) in enumerate([(0, 0x40), (0x50, 0x60), (0x200, 0x10)]):
        machine.banks[at] = fdt.Region(Pa(u64(base << 12)), u64(size << 12))
    machine.bank_count = u64(3)
    for base, size in regions:
        assert own_map.add_hole(holes, u64((base << 12) + 17), u64(((base + size) << 12) - 17)) is None
    taken = {frame for base, size in regions for frame in range(base, base + size)}
    ram = {frame for base, size in [(0, 0x40), (0x50, 0x60), (0x200, 0x10)] for frame in range(base, base + size)}
    free = {
        start
        for start in range(0, 0x210, 1 << shift)
        if all(frame in ram and frame not in taken for frame in range(start, start + pages))
        and any(base <= start and start + pages <= base + size for base, size in [(0, 0x40), (0x50, 0x60), (0x200, 0x10)])
    }
    found = own_map.place(machine, holes, u64(pages << 12), u64(0x1000 << shift))
    if isinstance(found, Err):
        assert found is Err.NO_MEMORY
        assert not free
    else:
        assert int(found.raw) >> 12 == max(free)


def test_the_image_is_a_hole_and_the_tree_too() -> None:
    machine, holes = good(board(), [(0x4900_0010, 0x20)]), own_map.Holes()
    assert own_map.find_holes(machine, fdt.Region(Pa(u64(0x4800_0008)), u64(0x1234)), holes) is None
    found = [(int(holes.regions[i].base.raw), int(holes.regions[i].size)) for i in range(int(holes.count))]
    size = int(own_map.own_image_end(machine) - image.image_start())
    assert found == [(0x4020_0000, size), (0x4800_0000, 0x2000), (0x4900_0000, 0x1000)]


def test_cpus_that_wait_for_an_address_in_memory_are_refused() -> None:
    """Such a CPU waits at EL2: whoever can write the address that it waits for would run there."""
    spinning = board()
    spinning.children["cpus"].children["cpu@1"] = Dt(
        {"device_type": "cpu", "reg": [1], "enable-method": "spin-table", "cpu-release-addr": [0, 0x4000_00D8]}
    )
    assert described(spinning) is Err.UNSUPPORTED
    alone = board()
    alone.children["cpus"].children["cpu@1"] = Dt({"device_type": "cpu", "reg": [1]})
    assert isinstance(described(alone), Machine)
