# SPDX-License-Identifier: Apache-2.0
"""A host on the simulated machine that stores to its interrupt controller's registers, and what EL2 keeps of that controller's memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
import test_boot_scenario as scenario
from fdt_writer import Dt, board, cells64, write
from gic_device import ITS, REDISTRIBUTORS, Gic

from delphyne.el2.arch import image
from delphyne.el2.arch.frame import Frame
from delphyne.el2.entry import dispatch, host_modules, its_queue, its_tables
from delphyne.el2.memory import frames, host_map
from delphyne.el2.memory.frames import State
from delphyne.lang import Ipa, Pa, current, u16, u64, wipe
from delphyne.lang.machine import Access, GuestFault, Machine

booted = scenario.booted
Booted = tuple[Machine, scenario.SerialPort, scenario.Firmware]
EL2 = int(image.image_start().raw)
RAM, RAM_BYTES = scenario.RAM, scenario.RAM_BYTES
KERNEL_AT, RESERVED = 0x4280_0000, 0x4180_0000
FREE = 0x4300_0000
"""From here on 2 MiB are the host's."""
PC = 0xFFFF_8000_0000_1000
ONE, TWO = REDISTRIBUTORS, REDISTRIBUTORS + 0x2_0000
PAGE = 0x1000
OWNER = u16(1)
PIECES_LIMIT = 1000


@dataclass
class Host:
    """A host that has begun, and what it can do to the interrupt controller."""

    machine: Machine
    gic: Gic
    register: int = 3

    def access(self, at: int, value: int | None, size: int = 8, **changed: int) -> Frame:
        """A load, or a store of `value`, as its exception says it."""
        iss = {"isv": 1, "sas": size.bit_length() - 1, "sse": 0, "srt": self.register, "sf": int(size == 8), "cm": 0, "s1ptw": 0} | changed
        frame = Frame()
        frame.esr = u64(
            0x24 << 26 | 1 << 25 | iss["isv"] << 24 | iss["sas"] << 22 | iss["sse"] << 21 | iss["srt"] << 16 | iss["sf"] << 15 | iss["cm"] << 8
            | iss["s1ptw"] << 7 | int(value is not None) << 6 | 7
        )
        frame.hpfar, frame.far, frame.elr, frame.spsr = u64(at >> 12 << 4), u64(PC & ~0xFFF | at & 0xFFF), u64(PC), u64(0x3C5)
        if value is not None and iss["srt"] != 31:
            frame.x[iss["srt"]] = u64(value)
        dispatch.el2_lower(frame, u64(0))
        return frame

    def store(self, at: int, value: int, size: int = 8) -> bool:
        """Whether EL2 did not complain. What is done in pieces is made again, as a processor does."""
        before = len(self.machine.messages)
        for _ in range(PIECES_LIMIT):
            frame = self.access(at, value, size)
            if int(frame.elr) != PC:
                break
        assert int(frame.elr) == PC + 4
        said = [text for _, text in self.machine.messages[before:]]
        assert all("may not write" in text or "ITS" in text for text in said)
        return not any("may not write" in text for text in said)

    def load(self, at: int, size: int = 8) -> int:
        frame = self.access(at, None, size)
        assert int(frame.elr) == PC + 4
        return int(frame.x[self.register])

    def is_bus_error(self, at: int, value: int | None, size: int = 8, **changed: int) -> bool:
        """Whether the access is an external abort, and nothing reached a device."""
        before = [list(one.written) for one in self.devices()]
        frame = self.access(at, value, size, **changed)
        assert [list(one.written) for one in self.devices()] == before
        return int(frame.elr) == 0x8_0200

    def devices(self) -> list:  # type: ignore[type-arg]
        return [self.gic.its, *self.gic.redistributors, *self.gic.virtual]


def its_node(**more: str) -> Dt:
    return Dt({"compatible": "arm,gic-v3-its", "reg": cells64(ITS, 0x2_0000), **more})


def start(booted: Booted, **more: str) -> Host:
    machine, _, firmware = booted
    for static in (host_map.HOST_SPACE, host_modules.WANTED):
        wipe(static)
    kernel = bytes(16) + (0x10_0000).to_bytes(8, "little") + b"\x0a" + bytes(31) + b"ARM\x64" + bytes(4036)
    machine.memory.write(KERNEL_AT, kernel)
    root = board(cells64(RAM, RAM_BYTES), its_at_1=its_node(**more))
    node = Dt({"compatible": ["multiboot,kernel", "multiboot,module"], "reg": cells64(KERNEL_AT, 4096), "bootargs": "quiet"})
    root.children["chosen"].children = {"module@1": node}
    scenario.boot(machine, write(root, [(RESERVED, 0x1000)]))
    machine.write_register("VBAR_EL1", 0x8_0000)
    return Host(machine, firmware.gic)


@pytest.fixture
def host(booted: Booted) -> Host:
    return start(booted)


def pins() -> dict[int, int]:
    """How often each frame of RAM is pinned, of those that are. All of the table at once: entry by entry takes long."""
    return {at: entry >> 4 & 0xFFF for at, entry in _entries() if entry >> 4 & 0xFFF}


def withdrawn() -> dict[int, int]:
    """The frames that tables of an ITS have, once each. They are EL2's, and the host does not reach them."""
    held = [its_tables.ITS_TABLES[its].tables[number].held for its in range(16) for number in range(8)]
    found = pages_of(*(range(int(one.base.raw), int(one.base.raw + one.size)) for one in held))
    for at in found:
        entry = frames.entry_of(Pa(u64(at)))
        assert entry is not None
        assert entry.state is State.EL2
        with pytest.raises(GuestFault):
            current.machine().stage2_translate(at, Access.READ)
    return found


def held_frames() -> dict[int, int]:
    """What the controller may use: as often as each frame is pinned or a table's."""
    found = pins()
    for at, count in withdrawn().items():
        found[at] = found.get(at, 0) + count
    return found


def own_queues() -> list[range]:
    """The queues of EL2's that ITSes have."""
    starts = [int(its_queue.QUEUES[its].own.raw) for its in range(16)]
    return [range(start, start + PAGE) for start in starts if start]


def _entries() -> list[tuple[int, int]]:
    size = int(frames.LAYOUT.frames) * 8
    table = current.machine().memory.read(int(frames.LAYOUT.table.raw), size)
    return [(RAM + number * PAGE, entry) for number, entry in enumerate(struct.unpack(f"<{size // 8}Q", table))]


def pages_of(*ranges: range) -> dict[int, int]:
    """The same, of what these ranges touch."""
    found: dict[int, int] = {}
    for one in ranges:
        for at in range(one.start // PAGE * PAGE, one.stop, PAGE):
            found[at] = found.get(at, 0) + 1
    return found


def make_private(at: int, page: int = 0x8000_0000) -> None:
    with frames.LOCK:
        assert frames.take(Pa(u64(at)), OWNER, Ipa(u64(page))) is None
        assert frames.settle(Pa(u64(at)), OWNER, Ipa(u64(page))) is None
