# SPDX-License-Identifier: Apache-2.0
"""Whether EL2's statics, as a finished machine left them in its memory, agree with each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from delphyne.board.el2_statics import Memory
from delphyne.el2.memory.frames import FrameEntry, State
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import u64

PAGE = 4096
SLOTS = 512
ADDRESS = 0x0000_FFFF_FFFF_F000
LAST_LEVEL = 3
WANTED = ("VMS", "VCPUS", "CLAIMS", "POOLS", "TABLES", "GRAVEYARD", "ENTRIES", "LAYOUT", "LEAVES", "NAMED", "ITS_TABLES", "QUEUES", "ITTS")


@dataclass(frozen=True)
class Left:
    """What EL2 still knows of guests: counts of VMs, of vCPUs, of pinned frames, and of pages of tables that are in use or wait to be emptied."""

    vms: int
    vcpus: int
    pins: int
    tables: int
    waiting: int


class Frames:
    """The frame table."""

    def __init__(self, memory: Memory) -> None:
        layout = memory.statics["LAYOUT"]
        self._banks = layout["banks"][: layout["count"]]
        self.words = memory.numbers(memory.statics["ENTRIES"]["data"], layout["frames"])

    def index(self, pa: int) -> int | None:
        """The number of the frame at `pa`; None where that is no RAM."""
        for bank in self._banks:
            if bank["base"]["raw"] <= pa < bank["base"]["raw"] + bank["frames"] * PAGE:
                return int(bank["first"] + (pa - bank["base"]["raw"]) // PAGE)
        return None

    def span(self, pa: int, size: int) -> range:
        """The numbers of the frames that so many bytes lie in."""
        first = self.index(pa & ~(PAGE - 1))
        assert first is not None, f"{pa:#x} is no RAM"
        return range(first, first + (pa % PAGE + size + PAGE - 1) // PAGE)


class _Walk:
    """Every table and every leaf of all guests."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._tables = memory.statics["TABLES"]
        self.pages: list[int] = []
        """Tables below the start tables, by number."""
        self.leaves: list[tuple[int, int]] = []
        """Where each leaf leads, and how many frames it spans."""

    def slots(self, page: int, level: int, first: int = 0) -> None:
        """The slots of one table from `first` on, and all below."""
        words = self._memory.numbers(self._tables["data"] + page * PAGE, SLOTS)
        assert not any(words[:first]), f"table {page} was emptied up to slot {first}, and is not empty there"
        for word in words[first:]:
            if not word & 1:
                assert word == 0, f"table {page} has {word:#x}"
            elif word & 2 and level < LAST_LEVEL:
                self.add((((word & ADDRESS) - self._tables["data"]) // PAGE), level + 1)
            else:
                self.leaves.append((word & ADDRESS, SLOTS ** (LAST_LEVEL - level)))

    def add(self, page: int, level: int, first: int = 0) -> None:
        assert 0 <= page < self._tables["length"], f"a table at page {page} of {self._tables['length']}"
        self.pages.append(page)
        self.slots(page, level, first)


def check(memory: Memory) -> Left:
    """Holds everything that EL2 keeps about guests against everything else it keeps; what is left."""
    statics = memory.statics
    vms = [vm for vm in statics["VMS"]["slots"] if vm["used"]]
    vcpus = [vcpu for vcpu in statics["VCPUS"]["slots"] if vcpu["used"]]
    frames = Frames(memory)
    running = [index for index, word in enumerate(statics["CLAIMS"]) if word & 0xFFFF not in (0, 0xFFFF)]
    assert not running, f"vCPUs {running} are claimed and no CPU is on"
    owners = Counter(vcpu["vm"] for vcpu in vcpus)
    seats = {index: vm["seats"] for index, vm in enumerate(statics["VMS"]["slots"]) if vm["used"] and vm["seats"]}
    assert dict(owners) == seats, "VMs count vCPUs that they do not have"

    pins = Counter(frame for vm in vms for frame in frames.span(vm["mmu_at"]["raw"], vm["mmu_size"]))
    for vcpu in vcpus:
        pins.update(frames.span(vcpu["at"]["raw"], vcpu["size"]))
        if vcpu["vector_bytes"]:
            pins.update(frames.span(vcpu["vectors"]["raw"], vcpu["vector_bytes"]))
    entries = {index: FrameEntry.of(u64(word)) for index, word in enumerate(frames.words) if word & 0xFFFF != int(State.HOST.raw)}
    pinned = {index: int(entry.pins) for index, entry in entries.items() if entry.pins != 0}
    named = (table for place in statics["NAMED"] for table in place["tables"] if table["size"])
    of_the_gic = Counter(frame for table in named for frame in frames.span(table["base"]["raw"], table["size"]))
    on_the_way = [queue["mapping"]["after"] for queue in statics["QUEUES"] if queue["mapping"]["outstanding"]]
    for itt in (*(itt["memory"] for itt in statics["ITTS"]), *on_the_way):
        if itt["size"]:
            of_the_gic.update(frames.span(itt["base"]["raw"], itt["size"]))
    assert pinned == dict(pins + of_the_gic), "pins of frames are not those of the VMs and vCPUs that there are, and of the GIC's tables"
    others = {index for index, entry in entries.items() if entry.state is not State.HOST}
    assert all(entries[index].state is State.EL2 for index in others), "a frame is neither the host's nor EL2's"
    held = [table["held"] for its in statics["ITS_TABLES"] for table in its["tables"] if table["held"]["size"]]
    taken = [frame for table in held for frame in frames.span(table["base"]["raw"], table["size"])]
    assert others.issuperset(taken), "a table of an ITS is the host's"
    assert len(taken) == len(set(taken)), "two tables of ITSes lie in one frame"

    walk = _Walk(memory)
    for vm in vms:
        for number in range(vm["shadow"]["space"]["roots"]):
            walk.slots(vm["shadow"]["space"]["root"] + number, vm["shadow"]["space"]["start"])
    in_use = len(walk.pages)
    graveyard = statics["GRAVEYARD"]
    for grave in graveyard["graves"][: graveyard["count"]]:
        walk.add(grave["page"], grave["level"], grave["cursor"])
    assert len(walk.pages) == len(set(walk.pages)), "a table stands in two places"
    pool = statics["POOLS"][int(PoolName.GUESTS.raw)]
    assert pool["used"] == len(walk.pages), f"{pool['used']} pages of guests' tables are in use, {len(walk.pages)} can be reached"
    assert pool["reserved"] == 0
    starts = sum(statics["POOLS"][int(name.raw)]["used"] for name in (PoolName.GUEST_STARTS, PoolName.STARTS))
    assert starts == len(vms) + 1, f"{starts} start tables for {len(vms)} VMs and the host"
    runs: Counter[int] = Counter()
    for output, size in walk.leaves:
        first, last = frames.index(output), frames.index(output + (size - 1) * PAGE)
        assert (first is None) is (last is None), f"a leaf leads to {output:#x}, in RAM in part"
        if first is not None and last is not None:
            assert not others.intersection(range(first, last + 1)), f"a guest's leaf leads to {output:#x}, which is EL2's"
            runs.update({first // SLOTS, last // SLOTS})
    counted = memory.numbers(statics["LEAVES"]["data"], statics["LEAVES"]["length"], 4)
    assert counted == [runs[run] for run in range(len(counted))], "leaves are not as many as were counted"
    return Left(len(vms), len(vcpus), sum(pins.values()), in_use, len(walk.pages) - in_use)
