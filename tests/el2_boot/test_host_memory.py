# SPDX-License-Identifier: Apache-2.0
"""Which of the host's memory EL2 looks at: never where its own map has nothing, whatever the host's program counter says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from delphyne.el2.arch.exception import AbortIss
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.machine import MACHINE
from delphyne.el2.entry import host
from delphyne.lang import Pa, u8, u64
from delphyne.lang.machine import Machine

RAM, RAM_END = 0x4000_0000, 0x4010_0800
OWN, RESERVED = 0x4004_0000, 0x4008_0000


def _region(base: int, end: int) -> Region:
    return Region(Pa(u64(base)), u64(end - base))


@pytest.fixture(autouse=True)
def layout() -> Iterator[None]:
    """One bank that ends within a page, two pages of EL2's, one reserved."""
    MACHINE.banks[0], MACHINE.bank_count = _region(RAM, RAM_END), u64(1)
    MACHINE.reserved[0], MACHINE.reserved_count = _region(RESERVED, RESERVED + 0x1000), u64(1)
    host.HOST.tree.holes[0], host.HOST.tree.hole_count = _region(OWN, OWN + 0x2000), u64(1)
    host.HOST.layout_known = True
    yield
    host.HOST.layout_known = False
    MACHINE.bank_count = MACHINE.reserved_count = host.HOST.tree.hole_count = u64(0)


@pytest.mark.parametrize(
    ("at", "size"),
    [
        (RAM, 0x2000),
        (RAM + 0x1FFC, 0x1004),
        (OWN - 0x2000, 0x2000),
        (OWN - 4, 4),
        (OWN, 0),
        (OWN + 0x1FFC, 0),
        (OWN + 0x2000, 0x2000),
        (RESERVED - 4, 4),
        (RESERVED, 0),
        (RESERVED + 0xFFC, 0),
        (RESERVED + 0x1000, 0x2000),
        (0x400F_FFFC, 4),
        (0x4010_0000, 0),
        (RAM - 4, 0),
        (0, 0),
        (0xFFFF_FFFF_FFFF_FFFC, 0),
    ],
)
def test_only_whole_pages_that_el2_maps_are_read(at: int, size: int) -> None:
    seen = host.memory_from(Pa(u64(at)))
    assert (int(seen.base.raw), int(seen.size)) == (at, size)


@pytest.mark.parametrize(
    ("at", "size", "is_hosts"),
    [
        (RAM, 0x1000, True),
        (RAM + 8, 8, True),
        (RAM, 0, False),
        (RAM, RAM_END - RAM, False),
        (0x400F_F000, 0x1000, True),
        (0x4010_0000, 8, False),
        (RESERVED - 0x1000, 0x1000, True),
        (RESERVED + 0x800, 8, False),
        (RESERVED + 0x1000, 8, True),
        (OWN - 8, 8, True),
        (OWN - 8, 16, False),
        (OWN + 0x2000, 8, True),
        (2**64 - 4, 4, False),
        (2**64 - 4, 2**64 - 1, False),
    ],
)
def test_memory_is_the_hosts_by_whole_frames(at: int, size: int, is_hosts: bool) -> None:
    """A frame of which a part is reserved, or beyond the end of a bank, is in no map of EL2's: to read there would be a fault of its own."""
    MACHINE.reserved[0] = _region(RESERVED, RESERVED + 0x800)
    assert host.is_hosts(Pa(u64(at)), u64(size)) is is_hosts


STATUSES = [(4, True), (5, True), (6, True), (7, True), (0, False), (9, False), (0x15, False), (0x30, False)]


@pytest.mark.parametrize(("status", "is_looked_up"), STATUSES)
def test_only_translation_faults_are_filled(monkeypatch: pytest.MonkeyPatch, status: int, is_looked_up: bool) -> None:
    """An external abort on a walk, a TLB conflict: to try again would not end, and HPFAR_EL2 names no address."""
    asked: list[u64] = []

    def fill(ipa: u64) -> bool:
        asked.append(ipa)
        return True

    monkeypatch.setattr(host, "_fill", fill)
    with Machine(RAM, 0x10_0000, registers={"VBAR_EL1": 0x8000}) as machine:
        frame = Frame()
        frame.elr, frame.hpfar, frame.spsr = u64(0x1000), u64(0x0900_0000 >> 8), u64(5)
        host.serve_abort(frame, AbortIss(fsc=u8(status)), False)
        assert ([int(ipa) for ipa in asked] == [0x0900_0000]) is is_looked_up
        assert int(frame.elr) == (0x1000 if is_looked_up else 0x8200)
        assert (machine.read_register("ESR_EL1") == 0) is is_looked_up
