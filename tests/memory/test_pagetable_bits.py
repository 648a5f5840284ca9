# SPDX-License-Identifier: Apache-2.0
"""Descriptors and registers bit by bit, computed here from the Arm ARM's tables (D8.3, D24.2) and not by the classes under test."""

from __future__ import annotations

import itertools

import pytest

from delphyne.el2.arch import pagetable
from delphyne.el2.arch.pagetable import Shareability, Stage1Leaf, Stage2Leaf, Stage2Memory, Vtcr, Vttbr
from delphyne.el2.memory import pages, stage1, stage2, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Regime, Space
from delphyne.lang import Pa, u8, u16, u64


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("memory", list(Stage2Memory))
@pytest.mark.parametrize("rights", list(itertools.product([False, True], repeat=3)))
def test_stage2_leaf(level: int, memory: Stage2Memory, rights: tuple[bool, bool, bool]) -> None:
    read, write, execute = rights
    output = 0xABC << 30
    memory_bits = {Stage2Memory.NORMAL: 0b1111, Stage2Memory.DEVICE: 0b0001}[memory]
    expected = 1 | (2 if level == 3 else 0) | memory_bits << 2 | read << 6 | write << 7 | 0b11 << 8 | 1 << 10 | output | (not execute) << 54
    made = tables.leaf(u64(output), u64(level), stage2.attributes(memory, Rights(read, write, execute)))
    assert int(made.raw) == expected


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize(
    ("use", "attribute", "read_only", "never"), [(Use.TEXT, 0, 1, 0), (Use.CONSTANTS, 0, 1, 1), (Use.DATA, 0, 0, 1), (Use.DEVICE, 1, 0, 1)]
)
def test_stage1_leaf(level: int, use: Use, attribute: int, read_only: int, never: int) -> None:
    output = 0x123 << 30
    expected = 1 | (2 if level == 3 else 0) | attribute << 2 | 1 << 6 | read_only << 7 | 0b11 << 8 | 1 << 10 | output | never << 54
    assert int(tables.leaf(u64(output), u64(level), stage1.attributes(use)).raw) == expected


def test_mair_names_the_memory_that_the_indices_mean() -> None:
    mair = int(stage1.MAIR)
    assert mair >> 8 * int(stage1.MAIR_NORMAL) & 0xFF == 0b1111_1111  # write-back, read- and write-allocate, outer and inner
    assert mair >> 8 * int(stage1.MAIR_DEVICE) & 0xFF == 0b0000_0100  # Device-nGnRE


def test_every_field_of_the_leaves_stands_alone() -> None:
    stage_2 = {
        "valid": 1 << 0, "page": 1 << 1, "read": 1 << 6, "write": 1 << 7, "accessed": 1 << 10, "dirty_managed": 1 << 51, "contiguous": 1 << 52,
        "execute_never_privileged": 1 << 53, "execute_never": 1 << 54,
    }  # fmt: skip
    for name, bit in stage_2.items():
        assert int(Stage2Leaf(**{name: True}).raw) == bit
    assert int(Stage2Leaf(software=u8(15)).raw) == 0b1111 << 55
    assert int(Stage2Leaf(frame=u64((1 << 36) - 1)).raw) == 0x0000_FFFF_FFFF_F000
    assert int(Stage2Leaf(shareability=Shareability.OUTER).raw) == 0b10 << 8
    stage_1 = {
        "valid": 1 << 0, "page": 1 << 1, "access_res1": 1 << 6, "read_only": 1 << 7, "accessed": 1 << 10, "guarded": 1 << 50,
        "contiguous": 1 << 52, "execute_never": 1 << 54,
    }  # fmt: skip
    for name, bit in stage_1.items():
        assert int(Stage1Leaf(**{name: True}).raw) == bit
    assert int(Stage1Leaf(attribute=u8(7)).raw) == 0b111 << 2
    assert int(Stage1Leaf(software=u8(15)).raw) == 0b1111 << 55


@pytest.mark.parametrize(
    ("bits", "start", "roots", "sl0"), [(39, 1, 1, 1), (40, 1, 2, 1), (41, 1, 4, 1), (42, 1, 8, 1), (43, 1, 16, 1), (44, 0, 1, 2), (48, 0, 1, 2)]
)
def test_geometry_and_vtcr(bits: int, start: int, roots: int, sl0: int) -> None:
    assert pagetable.stage2_start_level(u64(bits)) == start
    assert pagetable.stage2_start_tables(u64(bits)) == roots
    # each start table resolves nine bits above those of its level
    assert roots * 512 >= 1 << max(0, bits - (39 - 9 * start))
    space = Space()
    space.bits, space.start = u64(bits), u64(start)
    vtcr = int(stage2.vtcr(space, u8(4)).raw)
    # T0SZ, SL0, write-back walks, inner shareable, 4 KiB granule, PS, RES1
    assert vtcr == (64 - bits) | sl0 << 6 | 0b01 << 8 | 0b01 << 10 | 0b11 << 12 | 0b00 << 14 | 4 << 16 | 1 << 31


def test_vttbr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages.REGION, "base", Pa(u64(0x8765_4000_0000)))
    space = Space()
    space.regime, space.root, space.pool, space.vmid = Regime.STAGE2, u64(32), PoolName.GUESTS, u16(0xBEEF)
    assert int(tables.vttbr_of(space).raw) == 0x8765_4002_0000 | 0xBEEF << 48
    assert int(Vttbr(common_not_private=True).raw) == 1
    assert int(Vtcr(wide_vmid=True, hardware_access_flag=True, hardware_dirty=True).raw) == 1 << 19 | 1 << 21 | 1 << 22


def test_levels() -> None:
    assert [int(pagetable.level_shift(u64(level))) for level in range(4)] == [39, 30, 21, 12]
    assert [int(pagetable.level_size(u64(level))) for level in range(4)] == [1 << 39, 1 << 30, 1 << 21, 1 << 12]
    address = 0b1_0000_0001 << 39 | 0b1_1000_0001 << 30 | 0b0_1111_0000 << 21 | 0b1_0101_0101 << 12 | 0xFFF
    assert [int(pagetable.slot_of(u64(address), u64(level))) for level in range(4)] == [0x101, 0x181, 0xF0, 0x155]
