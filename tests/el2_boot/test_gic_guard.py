# SPDX-License-Identifier: Apache-2.0
"""Registers of the interrupt controller that name memory, written by a host on the simulated machine.

The controller never uses what is not the host's, what it uses stays the host's, and what was refused changed nothing."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import gic_host
import pytest
import test_boot_scenario as scenario
from fdt_writer import Dt, board, cells64, write
from gic_device import (
    BASER,
    CBASER,
    COLLECTIONS,
    CREADR,
    CWRITER,
    DEVICES,
    INDIRECT,
    ITS,
    PENDBASER,
    PROPBASER,
    REDISTRIBUTORS,
    TYPER,
    TYPER_BITS,
    VALID,
    VPES,
    Gic,
)
from gic_host import (
    EL2,
    FREE,
    KERNEL_AT,
    ONE,
    OWNER,
    PAGE,
    PC,
    RAM,
    RAM_BYTES,
    RESERVED,
    TWO,
    Booted,
    Host,
    held_frames,
    make_private,
    own_queues,
    pages_of,
    start,
)

from delphyne.el2.arch import gic_tables
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.gic_tables import Baser
from delphyne.el2.entry import dispatch, gic_places, host_modules
from delphyne.el2.memory import frames, host_map, pages
from delphyne.lang import Ipa, Pa, u64, wipe
from delphyne.lang.machine import Access, GuestFault

booted, host = gic_host.booted, gic_host.host


def others() -> dict[str, int]:
    """Pages that are not the host's, by who they are."""
    make_private(FREE + 0x10_0000)
    return {
        "EL2's image": EL2, "EL2's tables": int(pages.REGION.base.raw) & ~0xFFFF, "a guest's": FREE + 0x10_0000,
        "reserved": RESERVED, "below RAM": RAM - 0x1_0000, "above RAM": RAM + RAM_BYTES, "a device": ITS, "high": 1 << 47,
    }


@dataclass(frozen=True)
class Register:
    """A register, what it holds for a table at an address, and how large that table is."""

    at: int
    flags: int
    size: int


REGISTERS = {
    "GITS_BASER0": Register(ITS + BASER, VALID | 3, 4 * PAGE),
    "GITS_BASER2": Register(ITS + BASER + 16, VALID | 2 << 8, 16 * PAGE),
    "GITS_CBASER": Register(ITS + CBASER, VALID | 15, 16 * PAGE),
    "GICR_PROPBASER": Register(ONE + PROPBASER, 15, 16 * PAGE),
    "GICR_PENDBASER": Register(TWO + PENDBASER, 0, 2 * PAGE),
}


def ready(host: Host, register: Register) -> None:
    """The size of a pending table is another register's to say."""
    if register.at == TWO + PENDBASER:
        assert host.store(TWO + PROPBASER, FREE + 0x18_0000 | 15)


def named(register: Register, at: int) -> range:
    return range(at, at + register.size)


@pytest.mark.parametrize("name", REGISTERS)
def test_what_a_register_names_is_pinned_and_passed_on(host: Host, name: str) -> None:
    register = REGISTERS[name]
    ready(host, register)
    before = held_frames()
    assert host.store(register.at, FREE | register.flags)
    assert host.load(register.at) & ~(63 << 48 | 7 << 56) == FREE | register.flags
    assert held_frames() == before | pages_of(named(register, FREE))
    assert host.store(register.at, FREE + 0x2_0000 | register.flags)
    assert held_frames() == before | pages_of(named(register, FREE + 0x2_0000)), "what it named before is let go"
    with frames.LOCK:
        refused = frames.take(Pa(u64(FREE + 0x2_1000)), OWNER, Ipa(u64(0)))
        assert refused is (Err.OWNER if name.startswith("GITS_BASER") else Err.BUSY)
        assert frames.take(Pa(u64(FREE)), OWNER, Ipa(u64(0))) is None


@pytest.mark.parametrize("name", REGISTERS)
def test_what_is_not_the_hosts_is_never_named(host: Host, name: str) -> None:
    """Each wrong page, as the first of a table and as one of it; by one store and by two halves."""
    register = REGISTERS[name]
    ready(host, register)
    assert host.store(register.at, FREE | register.flags)
    wrong = others()
    last = FREE + 0x8_0000 + register.size - PAGE
    make_private(last, 0x8001_0000)
    before, kept = held_frames(), host.load(register.at)
    for who, at in (*wrong.items(), ("a guest's at the end", FREE + 0x8_0000)):
        value = at | register.flags
        assert not host.store(register.at, value), who
        assert (host.load(register.at), held_frames()) == (kept, before), who
        halves = [host.store(register.at, value & 0xFFFF_FFFF, 4), host.store(register.at + 4, value >> 32, 4)]
        assert not all(halves), who
        assert used_is_kept(host), who
        assert host.store(register.at, kept)


def used_is_kept(host: Host) -> bool:
    """Whether each frame that the controller uses, or that an ITS would use once it is turned on, is pinned as often as it is named."""
    held, its = held_frames(), host.gic.its
    used = [its.table(value) for word, value in its.held.items() if word >= BASER and value & VALID]
    if its.queue():
        assert its.queue() in own_queues(), "the ITS reads EL2's queue"
    used += [part for one in host.gic.redistributors for part in one.in_use()]
    return all(held.get(at, 0) >= count for at, count in pages_of(*used).items())


@pytest.mark.parametrize("name", ["GITS_BASER0", "GITS_BASER2", "GITS_CBASER"])
def test_an_its_that_is_on_keeps_its_tables(host: Host, name: str) -> None:
    register = REGISTERS[name]
    assert host.store(register.at, FREE | register.flags)
    assert host.store(ITS, 1, 4)
    before, kept = held_frames(), host.load(register.at)
    for value in (0, FREE | register.flags, FREE + 0x4_0000 | register.flags):
        assert not host.store(register.at, value)
        assert (held_frames(), host.load(register.at)) == (before, kept)
    assert host.store(ITS, 0, 4)
    host.gic.its.held[0] = 0
    assert not host.store(register.at, 0), "off, and not quiescent yet"
    assert (held_frames(), host.load(register.at)) == (before, kept)
    host.gic.its.held[0] = 1 << 31
    assert host.store(register.at, 0)
    assert held_frames() == {}


def test_lpis_come_on_with_pinned_tables_only_and_keep_them(host: Host) -> None:
    assert not host.store(ONE, 1, 4)
    assert host.store(ONE + PROPBASER, FREE | 15)
    assert not host.store(ONE, 1, 4), "no pending table"
    assert host.store(ONE + PENDBASER, FREE + 0x2_0000 | 1 << 62)
    assert host.gic.redistributors[0].written[-1] == (PENDBASER, 8, FREE + 0x2_0000 | 1 << 62)
    assert host.store(ONE, 1, 4)
    before = held_frames()
    assert before == pages_of(range(FREE, FREE + 0x1_0000), range(FREE + 0x2_0000, FREE + 0x2_2000))
    for offset, value in itertools.product((PROPBASER, PENDBASER), (0, FREE + 0x8_0000 | 15, FREE | 14)):
        kept = host.load(ONE + offset)
        assert not host.store(ONE + offset, value)
        assert (held_frames(), host.load(ONE + offset)) == (before, kept)
    assert host.store(ONE, 1 << 24 | 1, 4), "other bits of it may change"
    assert host.store(ONE, 0, 4)
    host.gic.redistributors[0].held[0] = 8
    assert not host.store(ONE + PROPBASER, FREE + 0x8_0000 | 15), "off, and the write is on its way"
    host.gic.redistributors[0].held[0] = 0
    assert host.store(ONE + PROPBASER, FREE + 0x8_0000 | 15)
    assert host.store(ONE + PENDBASER, FREE + 0x4_0000)
    assert held_frames() == pages_of(range(FREE + 0x8_0000, FREE + 0x9_0000), range(FREE + 0x4_0000, FREE + 0x4_2000))


def test_lpis_that_stay_on_keep_their_tables(host: Host) -> None:
    """Once on they need not go off: the next kernel after a kexec finds what it would find without EL2."""
    host.gic.redistributors[0].sticky = True
    assert host.store(ONE + PROPBASER, FREE | 15)
    assert host.store(ONE + PENDBASER, FREE + 0x2_0000)
    assert host.store(ONE, 1, 4)
    assert host.store(ONE, 0, 4)
    assert host.load(ONE, 4) == 1
    before = held_frames()
    assert not host.store(ONE + PROPBASER, FREE + 0x8_0000 | 15)
    assert held_frames() == before


def test_more_interrupts_make_the_pending_table_larger(host: Host) -> None:
    """GICR_PROPBASER says how large what GICR_PENDBASER names is: where that would reach a guest's page, it is GICR_PROPBASER that is refused."""
    assert host.store(ONE + PROPBASER, FREE | 13)
    assert host.store(ONE + PENDBASER, FREE + 0x10_0000)
    assert held_frames() == pages_of(range(FREE, FREE + 0x4000), range(FREE + 0x10_0000, FREE + 0x10_0800))
    make_private(FREE + 0x10_1000)
    before = held_frames()
    for bits in (15, 31):
        assert not host.store(ONE + PROPBASER, FREE | bits)
        assert (held_frames(), host.load(ONE + PROPBASER)) == (before, FREE | 13)
    assert host.store(ONE + PROPBASER, FREE | 14)
    assert held_frames() == pages_of(range(FREE, FREE + 0x8000), range(FREE + 0x10_0000, FREE + 0x10_1000))


def test_a_pending_table_is_aligned(host: Host) -> None:
    """Whether a device keeps the address bits that are RES0, and what it makes of them, is not left to it."""
    assert host.store(ONE + PROPBASER, FREE | 15)
    assert host.store(ONE + PENDBASER, FREE + 0x2_3000)
    assert host.gic.redistributors[0].held[PENDBASER] == FREE + 0x2_0000
    assert held_frames() == pages_of(range(FREE, FREE + 0x1_0000), range(FREE + 0x2_0000, FREE + 0x2_2000))


def test_two_levels_are_one(host: Host) -> None:
    for value in (INDIRECT, VALID | INDIRECT | FREE):
        assert host.store(ITS + BASER, value)
        assert host.load(ITS + BASER) & INDIRECT == 0
    assert all(not value & INDIRECT for offset, _, value in host.gic.its.written if offset == BASER)


def test_a_table_is_never_used_before_it_was_looked_at(host: Host) -> None:
    """The store that is tried first has no valid bit."""
    assert not host.store(ITS + BASER, EL2 | VALID)
    assert not any(value & VALID for offset, _, value in host.gic.its.written if offset == BASER)


@pytest.mark.parametrize(("fixed", "pinned"), [(0, 1), (1, 4), (2, 16)])
def test_a_page_size_that_is_fixed_counts(host: Host, fixed: int, pinned: int) -> None:
    """What the device makes of the value, not what was written."""
    host.gic.its.page_size = fixed
    assert host.store(ITS + BASER, FREE | VALID)
    assert len(held_frames()) == pinned
    assert host.store(ITS + BASER, 0)
    make_private(FREE + 0x3000)
    assert host.store(ITS + BASER, FREE | VALID) is (fixed == 0)


def test_tables_are_bounded(host: Host) -> None:
    """256 pages of 64 KiB are more than is pinned in a bounded time."""
    at = RESERVED + 0x10_0000
    assert host.store(ITS + BASER, at | VALID | 2 << 8 | 63)
    before = held_frames()
    assert len(before) == 1024
    assert not host.store(ITS + BASER, at | VALID | 2 << 8 | 64)
    assert held_frames() == before


def test_what_is_pinned_at_once_is_bounded(booted: Booted) -> None:
    """Of a controller with 2^24 interrupts, tables for 2^20 can be named: more are not pinned in one stay."""
    booted[2].gic.distributor.held[0] = 23 << 19 << 32
    host = start(booted)
    at = RESERVED + 0x10_0000
    assert host.store(ONE + PROPBASER, at | 19)
    before = held_frames()
    assert len(before) == 256
    assert not host.store(ONE + PROPBASER, at | 20)
    assert held_frames() == before
    assert host.store(ITS + CBASER, VALID | at | 255)
    assert len(held_frames()) == 256


def test_virtual_lpis_are_not_there(host: Host) -> None:
    assert host.load(ITS + TYPER) == TYPER_BITS
    assert host.load(ITS + TYPER + 4, 4) == 0
    assert host.store(ITS + BASER + 8, FREE | VALID)
    assert host.load(ITS + BASER + 8) == 0
    assert host.gic.its.held[BASER + 8] == VPES << 56 | 7 << 48
    assert host.load(ITS + BASER) >> 56 & 7 == DEVICES
    assert host.load(ITS + BASER + 16) >> 56 & 7 == COLLECTIONS
    assert host.store(ITS + BASER + 24, FREE | VALID)
    assert held_frames() == {}


def test_a_gicv4s_redistributors_use_no_virtual_tables(booted: Booted) -> None:
    machine, _, firmware = booted
    firmware.gic = Gic(machine, vlpis=True)
    host = start(booted)
    for number, offset in itertools.product((0, 1), (0x70, 0x78)):
        at = REDISTRIBUTORS + number * 0x4_0000 + 0x2_0000 + offset
        assert not host.store(at, VALID | EL2)
        assert not host.store(at + 4, 1 << 31, 4)
        assert host.load(at) == 0
        assert host.store(at, EL2)
        assert host.load(at) == EL2
    assert host.store(REDISTRIBUTORS + 0x4_0000 + PROPBASER, FREE | 15)


def test_the_write_pointer_stays_in_the_queue(host: Host) -> None:
    assert host.store(ITS + CWRITER, 0)
    assert not host.store(ITS + CWRITER, 32)
    assert host.store(ITS + CBASER, FREE | VALID | 1)
    assert host.store(ITS + CWRITER, 0x1FE0)
    for wrong in (0x2000, 0xF_FFE0):
        assert not host.store(ITS + CWRITER, wrong)
        assert not host.store(ITS + CWRITER, wrong, 4)
    assert host.load(ITS + CWRITER) == 0x1FE0
    assert not host.store(ITS + CREADR, 0x1000)


def test_everything_else_is_passed_on_as_it_is(host: Host) -> None:
    for at, device in ((ITS, host.gic.its), (ONE, host.gic.redistributors[0])):
        assert host.store(at + 0xC0, 0x1234_5678_9ABC_DEF0)
        assert host.load(at + 0xC0) == 0x1234_5678_9ABC_DEF0
        assert host.store(at + 0xC4, 0xFFFF_FFFF_8765_4321, 4)
        assert device.written[-1] == (0xC4, 4, 0x8765_4321)
        assert host.load(at + 0xC4, 4) == 0x8765_4321
        signed = host.access(at + 0xC4, None, 4, sse=1, sf=1)
        assert int(signed.x[3]) == 0xFFFF_FFFF_8765_4321
        host.register = 31
        assert host.store(at + 0xC0, 0)
        host.access(at + 0xC0, None)
        host.register = 3
        assert host.load(at + 0xC0) == 0


def test_what_the_controller_does_not_answer_is_a_bus_error(host: Host) -> None:
    for at in (ITS + 0xC0, ONE + 0xC0):
        for value in (None, 5):
            assert host.is_bus_error(at, value, isv=0)
            assert host.is_bus_error(at, value, 1)
            assert host.is_bus_error(at, value, 2)
            assert host.is_bus_error(at + 4, value, 8)
            assert host.is_bus_error(at + 2, value, 4)
            assert host.is_bus_error(at, value, isv=0, cm=1)
            assert host.is_bus_error(at, value, isv=0, s1ptw=1)
        assert host.is_bus_error(at & ~0xFFF, 1, 8), "64 bits at the control register"
    frame = Frame()
    frame.esr, frame.hpfar, frame.far = u64(0x20 << 26 | 1 << 25 | 1 << 24 | 3 << 22 | 7), u64(ITS >> 12 << 4), u64(ITS + TYPER)
    frame.elr, frame.spsr = u64(PC), u64(0x3C5)
    dispatch.el2_lower(frame, u64(0))
    assert int(frame.elr) == 0x8_0200


def test_the_host_never_reaches_these_pages_by_itself(host: Host) -> None:
    """Whatever it touches around them, and whatever blocks that fills."""
    for at in (0, 0x0800_0000, 0x0900_0000, ITS + PAGE, ITS + 0x1_0000, ONE + PAGE, ONE + 0x1_0000, TWO + 0x1_0000, 0x3EFF_0000):
        frame = host.access(at, None)
        assert int(frame.elr) == PC, "the access is made again"
        assert host.machine.stage2_translate(at, Access.WRITE) == at
    for at in (ITS, ONE, TWO):
        with pytest.raises(GuestFault):
            host.machine.stage2_translate(at, Access.READ)


def test_what_ran_before_leaves_no_tables(booted: Booted) -> None:
    """A loader may have left the ITS on and LPIs too, with tables anywhere."""
    gic = booted[2].gic
    gic.its.held[0] = 1 | 1 << 31
    gic.its.held[BASER] |= VALID | INDIRECT | RAM
    gic.its.held[CBASER] = VALID | RAM
    gic.redistributors[1].held |= {0: 1, PROPBASER: RAM | 15, PENDBASER: RAM + 0x1_0000}
    start(booted)
    assert gic.in_use() == []
    assert not any(value & VALID for word, value in gic.its.held.items() if word >= CBASER)
    assert held_frames() == {}


def test_lpis_that_cannot_be_turned_off_are_taken_over(booted: Booted) -> None:
    stuck = booted[2].gic.redistributors[1]
    stuck.held |= {0: 1, PROPBASER: FREE | 15, PENDBASER: FREE + 0x2_0000}
    stuck.sticky = True
    host = start(booted)
    assert held_frames() == pages_of(range(FREE, FREE + 0x1_0000), range(FREE + 0x2_0000, FREE + 0x2_2000))
    assert not host.store(TWO + PENDBASER, FREE)


def test_lpis_that_use_what_is_not_the_hosts_end_the_boot(booted: Booted) -> None:
    stuck = booted[2].gic.redistributors[1]
    stuck.held |= {0: 1, PROPBASER: EL2 | 15, PENDBASER: FREE}
    stuck.sticky = True
    with pytest.raises(scenario.Parked):
        start(booted)


def test_an_its_that_never_rests_ends_the_boot(booted: Booted, monkeypatch: pytest.MonkeyPatch) -> None:
    its = booted[2].gic.its
    monkeypatch.setattr(its, "store", lambda word, value: None)
    its.held[0] = 1
    with pytest.raises(scenario.Parked):
        start(booted)


def test_an_its_that_is_not_to_be_used_is_nobodys(booted: Booted) -> None:
    host = start(booted, status="disabled")
    assert host.gic.its.written == []
    assert host.is_bus_error(ITS + BASER, None)
    assert host.is_bus_error(ITS + BASER, 0)


def test_regions_and_strides_of_the_tree_are_followed(booted: Booted) -> None:
    machine, _, firmware = booted
    gic = Gic(machine, cpus=1)
    gic.redistributors += [type(gic.redistributors[0])(True)]
    machine.add_device(0x0810_0000, 0x2_0000, gic.redistributors[1])
    firmware.gic = gic
    found = board()
    node = found.children["gic@8000000"]
    node.properties |= {
        "#redistributor-regions": [2], "redistributor-stride": cells64(0x2_0000),
        "reg": cells64(0x0800_0000, 0x1_0000, REDISTRIBUTORS, 0x2_0000, 0x0810_0000, 0x4_0000),
    }
    for static in (host_map.HOST_SPACE, host_modules.WANTED):
        wipe(static)
    machine.memory.write(KERNEL_AT, bytes(16) + (0x10_0000).to_bytes(8, "little") + b"\x0a" + bytes(31) + b"ARM\x64" + bytes(4036))
    kernel = Dt({"compatible": ["multiboot,kernel", "multiboot,module"], "reg": cells64(KERNEL_AT, 4096), "bootargs": "quiet"})
    found.children["chosen"].children = {"module@1": kernel}
    found.children["memory@40000000"].properties["reg"] = cells64(RAM, RAM_BYTES)
    scenario.boot(machine, write(found))
    host = Host(machine, gic)
    assert host.store(0x0810_0000 + PROPBASER, FREE | 15)
    assert gic.redistributors[1].held[PROPBASER] == FREE | 15


def test_a_host_that_writes_anything_anywhere(host: Host) -> None:
    """Random stores of anything: what the controller uses is pinned, and nothing stays pinned that no register names."""
    seed = random.Random(7)
    make_private(FREE + 0x10_0000)
    interesting = [FREE, FREE + 0x8000, FREE + 0xF_0000, FREE + 0x10_0000, EL2, RAM - 0x1_0000]
    places = [ITS, ITS + CBASER, ITS + BASER, ITS + BASER + 16, *(one + offset for one in (ONE, TWO) for offset in (0, PROPBASER, PENDBASER))]
    accepted = 0
    for _ in range(300):
        at = seed.choice(places)
        value = seed.choice(interesting) | seed.randrange(32) | seed.randrange(4) << 8 | seed.randrange(2) * VALID
        control = at in (ITS, ONE, TWO)
        accepted += host.store(at, seed.randrange(2) if control else value, 4 if control else 8)
        assert used_is_kept(host)
    assert accepted > 75
    for one in (ONE, TWO):
        host.store(one, 0, 4)
        assert host.store(one + PROPBASER, 0)
        assert host.store(one + PENDBASER, 0)
    host.store(ITS, 0, 4)
    for offset in (CBASER, BASER, BASER + 16):
        assert host.store(ITS + offset, 0)
    assert held_frames() == {}


@pytest.mark.parametrize(("page_size", "at", "base", "size"), [
    (0, 0x4300_1000, 0x4300_1000, 0x2000), (1, 0x4300_4000, 0x4300_4000, 0x8000), (1, 0x4300_1000, 0x4300_0000, 0x9000),
    (2, 0x4301_0000, 0x4301_0000, 0x2_0000), (3, 0x4301_0000, 0x4301_0000, 0x2_0000), (2, 0x4301_3000, 0x3_0000_4301_0000, 0x2_0000),
])
def test_where_a_table_lies(page_size: int, at: int, base: int, size: int) -> None:
    assert gic_tables.its_table(Baser.of(u64(VALID | at | page_size << 8 | 1))) == Region(Pa(u64(base)), u64(size))


def test_without_a_gicv3_nothing_is_kept(booted: Booted) -> None:
    """PLACES of a machine without one is empty, and every page may be the host's."""
    assert not gic_places.touches(u64(0), u64(1 << 47))
