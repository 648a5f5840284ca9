# SPDX-License-Identifier: Apache-2.0
"""The lists of vendors' firmware calls: what passes on which board, and whose memory an argument may name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from fdt_writer import board, view, write

from delphyne.el2.arch import fdt, vendors
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.entry import host, vendor
from delphyne.lang import Pa, u64, wipe

RAM, RAM_BYTES = 0x4000_0000, 0x1000_0000
OWN, RESERVED = 0x4800_0000, 0x4A00_0000
EEMI = 0xC200_0000


@pytest.fixture
def relayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A ZynqMP with EL2's memory and a reserved region in its RAM; what reached the firmware."""
    calls: list[int] = []
    statics = (MACHINE, host.HOST, vendor.BOARD)
    for static in statics:
        wipe(static)
    MACHINE.banks[0], MACHINE.bank_count = fdt.Region(Pa(u64(RAM)), u64(RAM_BYTES)), u64(1)
    MACHINE.reserved[0], MACHINE.reserved_count = fdt.Region(Pa(u64(RESERVED)), u64(0x1000)), u64(1)
    host.HOST.tree.holes[0], host.HOST.tree.hole_count = fdt.Region(Pa(u64(OWN)), u64(0x1000)), u64(1)
    monkeypatch.setattr(vendor, "smc_relay", lambda frame: calls.append(int(frame.x[0])))
    find("xlnx,zynqmp")
    yield calls
    for static in statics:
        wipe(static)


def find(compatible: str) -> None:
    root = board()
    root.properties["compatible"] = ["some,board", compatible]
    raw = view(write(root))
    tree = fdt.open_tree(raw)
    assert not isinstance(tree, Err)
    wipe(vendor.BOARD)
    vendor.find(raw, tree)


def call(*x: int) -> bool:
    frame = Frame()
    for i, number in enumerate(x):
        frame.x[i] = u64(number)
    frame.elr = u64(0x1000)
    served = vendor.serve(frame)
    assert int(frame.elr) == (0x1004 if served else 0x1000)
    return served


@pytest.mark.parametrize("number", [1, 5, 12, 13, 15, 21, 23, 24, 28, 34, 35, 44, 63, 0xA01, 0xA04])
def test_calls_without_addresses_pass(relayed: list[int], number: int) -> None:
    assert call(EEMI + number, 77)
    assert relayed == [EEMI + number]


@pytest.mark.parametrize("number", [0, 2, 7, 8, 10, 16, 19, 20, 25, 27, 45, 46, 47, 53, 62, 64, 0xA00, 0xA05, 0x1_0001])
def test_calls_that_no_rule_names_do_not(relayed: list[int], number: int) -> None:
    assert not call(EEMI + number, 77)
    assert relayed == []


def test_processors_are_not_reset(relayed: list[int]) -> None:
    assert [call(EEMI + 17, reset) for reset in (1016, 1017, 1026, 1027, 5 << 32 | 1020)] == [True, False, False, True, False]


@pytest.mark.parametrize(
    ("address", "size", "passes"),
    [
        (RAM, 1, True), (RAM, 0, False), (OWN, 1, False), (OWN - 1, 2, False), (OWN - 1, 1, True), (OWN + 0x1000, 16, True),
        (RESERVED + 0xFFF, 1, False), (RAM + RAM_BYTES - 1, 1, True), (RAM + RAM_BYTES - 1, 2, False), (RAM - 1, 2, False),
        (2**64 - 1, 2**32 - 1, False), (RAM, 2**32 - 1, False),
    ],
)
def test_an_address_has_to_be_the_hosts(relayed: list[int], address: int, size: int, passes: bool) -> None:
    swapped = address >> 32 | (address & 0xFFFF_FFFF) << 32
    assert call(EEMI + 22, address, 3 << 32 | size) is passes
    assert call(EEMI + 26, swapped, 1 << 32 | size) is passes
    assert len(relayed) == 2 * passes


def test_other_boards_have_no_list(relayed: list[int]) -> None:
    find("test,board")
    assert not call(EEMI + 1)
    assert relayed == []


def test_rules_are_in_order_and_no_two_overlap() -> None:
    for rules in vendors.BOARDS.values():
        ordered = sorted(rules, key=lambda rule: rule.first)
        assert all(before.last < after.first for before, after in itertools.pairwise(ordered))
        assert all(rule.first <= rule.last for rule in rules)
