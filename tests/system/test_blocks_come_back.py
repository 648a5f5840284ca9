# SPDX-License-Identifier: Apache-2.0
"""The host's map and a protected guest's tables while the guest lives and after its end, as EL2's memory has them: blocks that pages left are blocks
again, and what the guest has all of is one to it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from guest_session import goes_off, machine, session

from delphyne.board.el2_statics import Memory
from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built
from delphyne.el2.memory.host_map import RAGGED
from delphyne.el2.memory.pages import PoolName

pytestmark = pytest.mark.system

RAM_AT, RAM_MIB, GUEST_MIB = 0x4000_0000, 1536, 128
WANTED = ("HOST_SPACE", "TABLES", "POOLS", "OUT", "VMS", "BEHIND", "LAYOUT")
PAGE, SLOTS, LAST_LEVEL = 4096, 512, 3
ADDRESS = 0x0000_FFFF_FFFF_F000
ITS_FRAMES = 144
"""What a 6.1 gives QEMU's ITS: 512 KiB for devices, 64 KiB for collections."""
MARK = 8
"""Of a leaf to a page that is private to its guest."""
SHAPE = Guest("6.1", GUEST_MIB, 1, arguments="quiet", protected=True)


@dataclass(frozen=True)
class HostMap:
    """The host's map: tables of pages that were blocks, pages that are out of them, blocks of 2 MiB, and tables in use."""

    split: int
    out: int
    blocks: int
    tables: int


def look(built: Built, ram: mmap.mmap) -> HostMap:
    """From the machine's memory, while no guest's page is on its way. What is counted of each table is what is empty in it."""
    memory = Memory(built, ram, RAM_AT, WANTED)
    space, tables, out = (memory.statics[name] for name in ("HOST_SPACE", "TABLES", "OUT"))
    split = gone = blocks = found = 0
    level = space["start"]
    below = [space["root"] + number for number in range(space["roots"])]
    while below:
        words = [word for page in below for word in memory.numbers(tables["data"] + page * PAGE, SLOTS)]
        if level == LAST_LEVEL:
            for number, page in enumerate(below):
                counted, empty = memory.number(out["data"] + page * 4, 4), words[number * SLOTS : (number + 1) * SLOTS].count(0)
                assert counted == empty > 0 or counted >= RAGGED, f"{counted} pages are out of a table with {empty} empty slots"
                split += counted < RAGGED
                gone += empty if counted < RAGGED else 0
            break
        blocks += sum(word & 3 == 1 for word in words) if level == LAST_LEVEL - 1 else 0
        below = [((word & ADDRESS) - tables["data"]) // PAGE for word in words if word & 3 == 3]
        found += len(below)
        level += 1
    assert found == memory.statics["POOLS"][PoolName.HOST.raw]["used"], "every table that is in use is reached"
    return HostMap(split, gone, blocks, found)


def guests_blocks(built: Built, ram: mmap.mmap) -> int:
    """How many blocks stand in the tables of the one guest; behind each stands a table that says the same."""
    memory = Memory(built, ram, RAM_AT, WANTED)
    tables, (bank, *_) = memory.statics["TABLES"], memory.statics["LAYOUT"]["banks"]
    (vm,) = (vm for vm in memory.statics["VMS"]["slots"] if vm["used"])
    space = vm["shadow"]["space"]
    below = [space["root"] + number for number in range(space["roots"])]
    blocks = 0
    for _ in range(space["start"], LAST_LEVEL):
        words = [word for page in below for word in memory.numbers(tables["data"] + page * PAGE, SLOTS)]
        for word in words:
            if word & 3 == 1:
                assert word >> 55 & 15 == MARK
                frame = ((word & ADDRESS) - bank["base"]["raw"]) // PAGE
                behind = memory.number(memory.statics["BEHIND"]["data"] + frame // SLOTS * 4, 4)
                kept = memory.numbers(tables["data"] + behind * PAGE, SLOTS)
                assert kept == [(word | 2) + page * PAGE for page in range(SLOTS)]
                assert behind not in below
                blocks += 1
        below = [((word & ADDRESS) - tables["data"]) // PAGE for word in words if word & 3 == 3]
    return blocks


def test_a_guests_end_leaves_the_host_no_table_of_pages(whole: Built, tmp_path: Path) -> None:
    """Not one of the blocks that its pages were taken from stays split, and its tables are free."""
    path = tmp_path / "ram"
    backed = ("-object", f"memory-backend-file,id=ram,size={RAM_MIB}M,mem-path={path},share=on", "-machine", "memory-backend=ram")
    host = Host(kernel="6.1", machine=replace(machine(memory=RAM_MIB), extra=backed))
    with (
        session(host, whole.image, kernels=("6.1",), protected=(SHAPE,)) as running,
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram,
    ):
        before = look(whole, ram)
        assert before.out == ITS_FRAMES, "the tables of the ITS alone are out"
        guest = running.start_guest(replace(SHAPE, extra=("-no-shutdown",)))
        guest.boot()
        during = look(whole, ram)
        taken = during.out - before.out
        assert taken * PAGE >= GUEST_MIB << 18, "a quarter of the guest's memory, at least, was touched"
        assert during.split >= taken // SLOTS
        print("blocks of the guest's:", blocks := guests_blocks(whole, ram))
        assert blocks >= 4, "of what the guest's kernel has touched all of"
        goes_off(running, guest)
        after = look(whole, ram)
        assert (after.split, after.out) == (before.split, before.out)
        assert after.tables - before.tables <= RAM_MIB // 1024 + 1, "tables of blocks alone: one for each GiB that was a block before"
        guest.end()
        assert running.shell.trouble() == []
