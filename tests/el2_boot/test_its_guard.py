# SPDX-License-Identifier: Apache-2.0
"""Commands and tables of an ITS, whose host says anything: the ITS reads EL2's queue, its tables are out of the host's reach, and it never touches
memory that is not pinned or a table's. Each of its accesses is looked at (`Guarded.watch`)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import gic_host
import pytest
from gic_device import (
    BASER,
    CBASER,
    CLEAR,
    COMMAND,
    CREADR,
    CWRITER,
    DISCARD,
    DTE,
    INT,
    INV,
    INVALL,
    ITE,
    ITS,
    MAPC,
    MAPD,
    MAPI,
    MAPTI,
    MOVALL,
    MOVI,
    QUIESCENT,
    REDISTRIBUTORS,
    SYNC,
    TYPER,
    TYPER_BITS,
    VALID,
    VMAPP,
    VMAPTI,
    VMOVP,
    VSYNC,
    Words,
)
from gic_host import EL2, FREE, OWNER, PAGE, PC, RAM, RAM_BYTES, RESERVED, Host, held_frames, make_private, own_queues, pages_of, pins, withdrawn

from delphyne.el2.arch.err import Err
from delphyne.el2.entry import gic_guard, its_queue, its_tables
from delphyne.el2.memory import frames, host_map, pages
from delphyne.el2.memory.frames import State
from delphyne.lang import Ipa, Pa, u64
from delphyne.lang.machine import Access

booted, host = gic_host.booted, gic_host.host
DEVICES_AT, COLLECTIONS_AT, RING_AT, ITT_AT = FREE, FREE + 0x2_0000, FREE + 0x3_0000, FREE + 0x4_0000
TABLE, RING = 0x1_0000, 2 * PAGE
DEVICES_IN_TABLE = TABLE // DTE
SLOTS = RING // COMMAND
LEFT_OUT = "may not execute"


def mapd(device: int, at: int, bits: int = 5, valid: bool = True) -> Words:
    return MAPD | device << 32, bits - 1, at | VALID * valid, 0


def mapc(collection: int, target: int, valid: bool = True) -> Words:
    return MAPC, 0, collection | target | VALID * valid, 0


def mapti(device: int, event: int, interrupt: int, collection: int = 0) -> Words:
    return MAPTI | device << 32, event | interrupt << 32, collection, 0


def sync(target: int = 0) -> Words:
    return SYNC, 0, target, 0


@dataclass
class Guarded:
    """A host whose ITS has tables and a queue and is on."""

    host: Host
    write: int = 0
    messages: list[str] = field(default_factory=list)

    def watch(self, at: int, size: int) -> None:
        """What the ITS may touch."""
        for page in range(at & ~(PAGE - 1), at + size, PAGE):
            entry = frames.entry_of(Pa(u64(page)))
            assert entry is not None
            held = any(its_tables._holds(its_tables.ITS_TABLES[0].tables[number], Pa(u64(page))) for number in range(8))
            pinned = entry.state is State.HOST and entry.pins != 0
            assert pinned or (held and entry.state is State.EL2) or any(page in queue for queue in own_queues()), f"the ITS touches {at:#x}"

    def put(self, *commands: Words) -> None:
        """Into the host's ring, by the host's CPU."""
        for words in commands:
            self.host.machine.memory.write(RING_AT + self.write, b"".join(word.to_bytes(8, "little") for word in words))
            self.write = (self.write + COMMAND) % RING

    def tell(self, *commands: Words) -> int:
        """Puts them, and says so: how many EL2 left out, as far as it said. It says it once in a stay."""
        self.put(*commands)
        before = len(self.host.machine.messages)
        for _ in range(1000):
            frame = self.host.access(ITS + CWRITER, self.write)
            if int(frame.elr) == PC + 4:
                break
        assert int(frame.elr) == PC + 4
        return sum(LEFT_OUT in text for _, text in self.host.machine.messages[before:])

    def do(self, *commands: Words) -> bool:
        """The same, to the end: whether none was left out."""
        left_out = self.tell(*commands)
        assert self.host.load(ITS + CREADR) == self.write
        return left_out == 0

    def is_left_out(self, command: Words) -> bool:
        """Whether the command alone is, the ITS heard of nothing, and no frame is kept or let go."""
        before, executed = held_frames(), len(self.its.executed)
        done = self.do(command)
        assert done or (held_frames(), len(self.its.executed)) == (before, executed)
        return not done

    @property
    def its(self):  # type: ignore[no-untyped-def]
        return self.host.gic.its

    def turn(self, on: bool) -> bool:
        return self.host.store(ITS, int(on), 4)


@pytest.fixture
def guarded(host: Host) -> Guarded:
    """Tables that the host has filled before it names them, and does not have in memory yet."""
    for at, size in ((DEVICES_AT, TABLE), (COLLECTIONS_AT, TABLE)):
        host.machine.memory.write(at, b"\xff" * size)
    assert host.store(ITS + BASER, VALID | DEVICES_AT | TABLE // PAGE - 1)
    assert host.store(ITS + BASER + 16, VALID | COLLECTIONS_AT | TABLE // PAGE - 1)
    assert host.store(ITS + CBASER, VALID | RING_AT | RING // PAGE - 1)
    assert host.store(ITS + CWRITER, 0)
    assert host.store(ITS, 1, 4)
    made = Guarded(host)
    made.its.watch = made.watch
    return made


BASIC = pages_of(range(DEVICES_AT, DEVICES_AT + TABLE), range(COLLECTIONS_AT, COLLECTIONS_AT + TABLE), range(RING_AT, RING_AT + RING))


def test_a_devices_message_becomes_an_interrupt(guarded: Guarded) -> None:
    assert held_frames() == BASIC
    assert guarded.do(mapd(3, ITT_AT), mapc(1, 1 << 16), mapti(3, 2, 8200, 1), sync(1 << 16))
    assert guarded.its.deliver(3, 2) == 8200
    assert guarded.its.deliver(3, 3) is None
    assert guarded.its.deliver(4, 2) is None
    assert guarded.its.wrong == []
    assert held_frames() == BASIC | {ITT_AT: 1}
    assert guarded.its.queue() in own_queues()
    assert guarded.do(mapd(3, 0, valid=False))
    assert guarded.its.deliver(3, 2) is None
    assert held_frames() == BASIC


def test_what_the_host_reads_is_what_it_wrote(guarded: Guarded) -> None:
    host = guarded.host
    assert host.load(ITS + CBASER) == VALID | RING_AT | RING // PAGE - 1
    assert host.load(ITS + CBASER + 4, 4) == VALID >> 32
    assert guarded.do(sync(), sync())
    assert host.load(ITS + CWRITER) == host.load(ITS + CREADR) == 2 * COMMAND
    assert host.load(ITS + CREADR, 4) == 2 * COMMAND
    assert host.store(ITS + CWRITER, 3 * COMMAND, 4)
    assert host.store(ITS + CWRITER + 4, 7, 4)
    assert host.load(ITS + CWRITER) == 3 * COMMAND
    assert guarded.turn(False)
    attributes = 7 << 59 | 3 << 10
    assert host.store(ITS + CBASER, VALID | attributes | RING_AT | RING // PAGE - 1)
    assert host.gic.its.held[CBASER] == VALID | attributes | own_queues()[0].start, "the attributes are the host's"
    assert host.load(ITS + CBASER) == VALID | attributes | RING_AT | RING // PAGE - 1
    assert host.load(ITS + CREADR) == host.load(ITS + CWRITER) == 0
    host.gic.its.held[CBASER] &= ~(3 << 10)
    assert host.load(ITS + CBASER) == VALID | 7 << 59 | RING_AT | RING // PAGE - 1, "a device that is not coherent says so"
    assert host.store(ITS + CBASER, 0)
    assert host.load(ITS + CBASER) == host.gic.its.held[CBASER] == 0
    assert RING_AT not in pins()


def test_an_itt_that_is_not_the_hosts_is_never_named(guarded: Guarded) -> None:
    """Each wrong page, as the first of a table and as its last; what the device had before stays, and the next command is executed."""
    make_private(FREE + 0x10_0000)
    assert guarded.do(mapd(3, ITT_AT), mapti(3, 0, 8200))
    others = {
        "EL2's image": EL2, "EL2's tables": int(pages.REGION.base.raw), "a guest's": FREE + 0x10_0000, "the end of a table": FREE + 0x10_0000 - 0x100,
        "reserved": RESERVED, "below RAM": RAM - PAGE, "above RAM": RAM + RAM_BYTES, "a device": ITS, "high": 1 << 47, "highest": (1 << 52) - 0x100,
        "its own table": DEVICES_AT, "EL2's queue": own_queues()[0].start, "zero": 0,
    }
    for who, at in others.items():
        for device in (3, 4):
            assert guarded.is_left_out(mapd(device, at)), who
    assert guarded.its.deliver(3, 0) == 8200
    assert guarded.do(mapti(3, 1, 8201))
    assert guarded.its.deliver(3, 1) == 8201
    assert held_frames() == BASIC | {ITT_AT: 1}
    assert guarded.do(mapd(4, RING_AT)), "the host's own ring, as any memory of its own"


@pytest.mark.parametrize(("bits", "at", "bytes_named"), [
    (1, 0, 2 * ITE), (5, 0xF00, 32 * ITE), (8, 0, 256 * ITE), (9, 0x100, 512 * ITE), (16, 0, 65536 * ITE),
])
def test_all_of_an_itt_is_pinned(guarded: Guarded, bits: int, at: int, bytes_named: int) -> None:
    start = ITT_AT + at
    assert guarded.do(mapd(9, start, bits))
    assert pins() == pages_of(range(RING_AT, RING_AT + RING), range(start, start + bytes_named))
    assert guarded.do(mapti(9, (1 << bits) - 1, 9000))
    assert guarded.its.deliver(9, (1 << bits) - 1) == 9000
    last = start + bytes_named - 1
    with frames.LOCK:
        assert frames.take(Pa(u64(last)), OWNER, Ipa(u64(0))) is Err.BUSY


def test_what_a_second_mapd_replaces_is_let_go(guarded: Guarded) -> None:
    assert guarded.do(mapd(3, ITT_AT, 12))
    assert guarded.do(mapd(4, ITT_AT, 5)), "two devices may have tables in one page"
    assert pins()[ITT_AT] == 2
    assert guarded.do(mapd(3, ITT_AT + 0x2_0000, 5))
    assert held_frames() == BASIC | {ITT_AT: 1, ITT_AT + 0x2_0000: 1}
    assert guarded.do(mapd(3, ITT_AT + 0x2_0100, 5)), "itself, elsewhere in the same page"
    assert guarded.do(mapd(4, 0, valid=False), mapd(3, 0xFFFF_0000, valid=False), mapd(5, 0, valid=False))
    assert held_frames() == BASIC


def test_a_slow_its_keeps_what_it_may_still_use(guarded: Guarded) -> None:
    """Of both tables, until it has executed MAPD and the SYNC behind it; nothing that follows is fetched before."""
    assert guarded.do(mapd(3, ITT_AT))
    new = ITT_AT + 0x2_0000
    guarded.its.slow = True
    start = guarded.write
    guarded.tell(mapd(3, new), mapti(3, 1, 8200), sync())
    for executed, shown in ((0, 0), (1, 1)):
        assert guarded.host.load(ITS + CREADR) == start + shown * COMMAND
        assert held_frames() == BASIC | {ITT_AT: 1, new: 1}, executed
        guarded.its.run(1)
    assert [words[0] & 0xFF for words in guarded.its.executed[-2:]] == [MAPD, SYNC]
    assert guarded.host.load(ITS + CREADR) == start + COMMAND
    assert held_frames() == BASIC | {new: 1}, "the look went on"
    guarded.its.run()
    assert guarded.host.load(ITS + CREADR) == guarded.write
    assert guarded.its.deliver(3, 1) == 8200


def test_what_is_executed_is_what_was_looked_at(guarded: Guarded) -> None:
    """The host exchanges a command once EL2 has it, and one between two looks."""
    make_private(FREE + 0x10_0000)
    guarded.its.slow = True
    guarded.tell(mapd(3, ITT_AT))
    guarded.write = 0
    guarded.put(mapd(3, FREE + 0x10_0000))
    guarded.its.run()
    assert guarded.its.deliver(3, 0) is None
    assert (guarded.its.executed[0][2] & ~VALID) == ITT_AT
    assert guarded.host.load(ITS + CREADR) == COMMAND


def test_commands_of_a_gicv3_are_executed_and_no_others(guarded: Guarded) -> None:
    known = {MOVI, INT, CLEAR, SYNC, MAPD, MAPC, MAPTI, MAPI, INV, INVALL, MOVALL, DISCARD}
    assert guarded.do(mapd(3, ITT_AT), mapc(0, 0), mapti(3, 0, 8200))
    for number in range(256):
        done = not guarded.is_left_out((number | 3 << 32, 4, 0, 0))
        assert done == (number in known), hex(number)
        if done:
            assert guarded.its.executed[-1][0] & 0xFF in (number, SYNC)
    assert {VMAPP, VMAPTI, VMOVP, VSYNC}.isdisjoint(known)


def test_bits_that_a_command_does_not_define_are_dropped(guarded: Guarded) -> None:
    every = (1 << 64) - 1
    assert guarded.do(mapd(3, ITT_AT, 16))
    for number, words in {
        INT: (0xFFFF_FFFF_0000_00FF, 0xFFFF_FFFF, 0, 0), INVALL: (0xFF, 0, 0xFFFF, 0), MAPTI: (0xFFFF_FFFF_0000_00FF, every, 0xFFFF, 0),
    }.items():
        guarded.do((every & ~0xFF | number, every, every, every))
        assert guarded.its.executed[-1] == (words[0] & ~0xFF | number, *words[1:])
    assert guarded.do(mapd(3, every & ~VALID, 32, False))
    assert guarded.its.executed[-2][1:] == (31, 0, 0), "what unmaps names nothing"


@pytest.mark.parametrize("by_address", [False, True], ids=["numbers", "addresses"])
def test_commands_name_redistributors_that_there_are(guarded: Guarded, by_address: bool) -> None:
    good = [REDISTRIBUTORS, REDISTRIBUTORS + 0x2_0000] if by_address else [0, 1 << 16]
    wrong = [0, 1 << 16, EL2 & ~0xFFFF, FREE, REDISTRIBUTORS + 0x1_0000, ITS] if by_address else [2 << 16, 0xFFFF_0000, REDISTRIBUTORS, EL2 & ~0xFFFF]
    guarded.its.held[TYPER] = TYPER_BITS | int(by_address) << 19
    guarded.its.targets = set(good)
    for target in good:
        assert guarded.do(mapc(1, target), sync(target), (MOVALL, 0, good[0], target))
    for target in wrong:
        assert guarded.is_left_out(mapc(1, target))
        assert guarded.is_left_out(sync(target))
        assert guarded.is_left_out((MOVALL, 0, target, good[0]))
        assert guarded.is_left_out((MOVALL, 0, good[0], target))
        assert guarded.do(mapc(1, target, valid=False)), "what unmaps names none"
    assert guarded.do(mapd(7, ITT_AT))
    assert guarded.its.executed[-1] == (SYNC, 0, good[0], 0), "EL2's own is this processor's"
    assert guarded.its.wrong == []


def test_entries_lie_in_their_tables(guarded: Guarded) -> None:
    for device, fits in ((DEVICES_IN_TABLE - 1, True), (DEVICES_IN_TABLE, False), (0xFFFF, False), (0xFFFF_FFFF, False)):
        assert guarded.is_left_out(mapd(device, ITT_AT)) is not fits, device
        assert guarded.is_left_out(mapd(device, 0, valid=False)) is not fits, device
    for collection, fits in ((TABLE // DTE - 1, True), (TABLE // DTE, False), (0xFFFF, False)):
        assert guarded.is_left_out(mapc(collection, 0)) is not fits, collection
    guarded.its.held[TYPER] = TYPER_BITS & ~(31 << 13) | 7 << 13
    assert guarded.is_left_out(mapd(256, ITT_AT)), "more than the ITS tells apart"
    assert guarded.is_left_out(mapd(3, ITT_AT, 17)), "more events than the ITS tells apart"
    guarded.its.held[TYPER] = TYPER_BITS | 31 << 8 | 15 << 4
    assert guarded.is_left_out(mapd(3, ITT_AT, 17)), "more than one device may pin"
    assert not guarded.is_left_out(mapd(3, ITT_AT, 16))
    assert guarded.do(mapd(3, 0, valid=False))
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, 0)
    assert guarded.host.store(ITS + BASER + 16, 0)
    assert guarded.turn(True)
    assert guarded.is_left_out(mapd(3, ITT_AT)), "without a table"
    assert guarded.is_left_out(mapc(0, 0))
    guarded.its.held[TYPER] = TYPER_BITS | 4 << 24
    assert not guarded.is_left_out(mapc(3, 0)), "collections that the ITS has without one"
    assert guarded.is_left_out(mapc(4, 0))


def test_devices_are_bounded(guarded: Guarded) -> None:
    for device in range(1024):
        assert guarded.do(mapd(device, ITT_AT + device % 256 * 0x100, 1)), device
    before = held_frames()
    assert guarded.is_left_out(mapd(1024, ITT_AT, 1))
    assert guarded.do(mapd(7, ITT_AT, 1)), "one that has a table gets another"
    assert guarded.do(mapd(9, 0, valid=False))
    assert guarded.do(mapd(1024, ITT_AT + 0x900, 1))
    assert sum(held_frames().values()) == sum(before.values())
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, 0)
    assert pins() == pages_of(range(RING_AT, RING_AT + RING)), "with the table of devices goes what it names"


def test_many_commands_are_executed_in_pieces_and_in_order(guarded: Guarded) -> None:
    """More than there is room for in EL2's queue, around the end of both queues several times."""
    assert guarded.do(mapd(3, ITT_AT, 8), mapc(0, 0))
    done = len(guarded.its.executed)
    guarded.put(*[mapti(3, event % 256, 9000 + event) for event in range(SLOTS - 1)])
    stays = 0
    while int(guarded.host.access(ITS + CWRITER, guarded.write).elr) == PC:
        stays += 1
    assert stays == (SLOTS - 2) // int(its_queue.COMMANDS_IN_STAY)
    assert guarded.host.load(ITS + CREADR) == guarded.write
    assert [words[1] >> 32 for words in guarded.its.executed[done:]] == [9000 + event for event in range(SLOTS - 1)]
    for round_ in range(5):
        assert guarded.do(*[mapti(3, event, 8192 + event + round_) for event in range(100)])
        assert all(guarded.its.deliver(3, event) == 8192 + event + round_ for event in range(100))
    assert guarded.its.wrong == []


def test_one_mapd_is_executed_in_a_stay(guarded: Guarded) -> None:
    guarded.put(*[mapd(device, ITT_AT) for device in range(5)])
    for device in range(5):
        frame = guarded.host.access(ITS + CWRITER, guarded.write)
        assert pins()[ITT_AT] == device + 1
        assert (int(frame.elr) == PC) is (device < 4)


def test_a_full_queue_of_a_slow_its_is_not_overwritten(guarded: Guarded) -> None:
    assert guarded.do(mapd(3, ITT_AT, 8))
    guarded.its.slow = True
    start, done = guarded.write, len(guarded.its.executed)
    guarded.tell(*[mapti(3, event, 9000 + event) for event in range(200)])
    assert guarded.host.load(ITS + CREADR) == start
    while guarded.host.load(ITS + CREADR) != guarded.write:
        guarded.its.run(7)
    assert [words[1] >> 32 for words in guarded.its.executed[done:]] == [9000 + event for event in range(200)]


def test_a_stall_is_shown_and_can_be_ended(guarded: Guarded) -> None:
    guarded.its.stalls = True
    guarded.tell(mapti(5, 0, 8200), sync())
    assert guarded.host.load(ITS + CREADR) == 1
    guarded.its.stalls = False
    assert guarded.host.store(ITS + CWRITER, guarded.write | 1)
    assert guarded.host.load(ITS + CREADR) == guarded.write
    assert guarded.host.load(ITS + CWRITER) == guarded.write


def test_an_its_that_is_turned_off_and_on_goes_on_with_its_commands(guarded: Guarded) -> None:
    """Those that it did not execute are fetched anew, and looked at as they are then."""
    assert guarded.do(mapd(3, ITT_AT))
    new = ITT_AT + 0x2_0000
    guarded.its.slow = True
    start = guarded.write
    guarded.tell(mapti(3, 0, 8200), mapd(3, new), mapti(3, 1, 8201))
    guarded.its.run(1)
    assert guarded.turn(False)
    assert guarded.turn(True)
    assert guarded.host.load(ITS + CREADR) == start + COMMAND
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER + 16, 0), "nothing is on its way now"
    assert held_frames() == {page: count for page, count in BASIC.items() if not COLLECTIONS_AT <= page < COLLECTIONS_AT + TABLE} | {ITT_AT: 1}
    make_private(new)
    guarded.its.slow = False
    assert guarded.turn(True)
    assert guarded.host.load(ITS + CREADR) == guarded.write
    assert guarded.its.deliver(3, 0) == 8200, "the new table was left out"
    assert guarded.its.deliver(3, 1) == 8201


def test_commands_wait_until_the_its_is_on(guarded: Guarded) -> None:
    assert guarded.turn(False)
    guarded.tell(mapd(3, ITT_AT))
    assert guarded.host.load(ITS + CREADR) == 0
    assert held_frames() == BASIC
    assert guarded.turn(True)
    assert guarded.host.load(ITS + CREADR) == COMMAND
    assert held_frames() == BASIC | {ITT_AT: 1}


def test_an_its_is_not_turned_on_before_it_rests(guarded: Guarded) -> None:
    assert guarded.turn(False)
    guarded.its.held[0] = 0
    assert not guarded.turn(True)
    guarded.its.held[0] = QUIESCENT
    assert guarded.turn(True)


def test_a_mapd_that_was_executed_when_the_its_went_off_counts(guarded: Guarded) -> None:
    """The SYNC behind it was not, but the ITS rests."""
    assert guarded.do(mapd(3, ITT_AT))
    new = ITT_AT + 0x2_0000
    guarded.its.slow = True
    guarded.tell(mapd(3, new))
    guarded.its.run(1)
    assert guarded.turn(False)
    assert guarded.host.store(ITS + CBASER, 0)
    assert pins() == {new: 1}


def test_a_mapd_that_was_not_executed_when_the_its_went_off_does_not_count(guarded: Guarded) -> None:
    """Nor do those in front of it: the device has the table that it had."""
    assert guarded.do(mapd(3, ITT_AT))
    for ahead in range(3):
        guarded.its.slow = True
        guarded.tell(*[sync()] * ahead, mapd(3, ITT_AT + 0x2_0000))
        assert guarded.turn(False)
        assert guarded.host.store(ITS + CBASER, VALID | RING_AT | RING // PAGE - 1)
        assert pins() == pages_of(range(RING_AT, RING_AT + RING)) | {ITT_AT: 1}
        guarded.write, guarded.its.slow = 0, False
        assert guarded.turn(True)


def test_an_its_that_lost_its_registers_keeps_what_it_may_have(guarded: Guarded) -> None:
    """It went off in the middle and had no power: which of the two tables its table of devices names, nobody knows."""
    assert guarded.do(mapd(3, ITT_AT))
    new = ITT_AT + 0x2_0000
    guarded.its.slow = True
    guarded.tell(sync(), mapd(3, new))
    assert guarded.turn(False)
    guarded.its.held |= {CBASER: 0, CREADR: 0, CWRITER: 0}
    assert guarded.host.store(ITS + CBASER, VALID | RING_AT | RING // PAGE - 1)
    assert pins() == pages_of(range(RING_AT, RING_AT + RING)) | {ITT_AT: 1, new: 1}


def test_a_mapd_does_not_stay_in_the_queue(guarded: Guarded) -> None:
    """Firmware that restores GITS_CWRITER after a suspend has the queue executed again, from its start."""
    assert guarded.do(mapd(3, ITT_AT), mapti(3, 0, 8200), mapd(3, 0, valid=False))
    make_private(ITT_AT)
    queue = own_queues()[0]
    data = guarded.host.machine.memory.read(queue.start, PAGE, cacheable=False)
    numbers = {data[at] for at in range(0, PAGE, COMMAND)}
    assert MAPD not in numbers
    assert {SYNC, MAPTI} <= numbers
    guarded.its.held[CREADR] = 0
    guarded.its.run()
    assert guarded.its.deliver(3, 0) is None


def test_tables_are_zero_before_the_its_has_them_and_after(guarded: Guarded) -> None:
    """In memory, past the caches; what the host's CPU wrote before never comes up again."""
    memory = guarded.host.machine.memory
    assert memory.read(DEVICES_AT, TABLE, cacheable=False) == bytes(TABLE)
    assert guarded.do(mapd(3, ITT_AT))
    assert memory.read(DEVICES_AT, TABLE, cacheable=False) != bytes(TABLE)
    assert not any(memory.is_dirty(at) for at in range(DEVICES_AT, DEVICES_AT + TABLE, PAGE))
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, 0)
    assert memory.read(DEVICES_AT, TABLE, cacheable=False) == memory.read(DEVICES_AT, TABLE) == bytes(TABLE)
    assert guarded.host.machine.stage2_translate(DEVICES_AT, Access.WRITE) == DEVICES_AT
    assert DEVICES_AT not in withdrawn()
    assert pins() == pages_of(range(RING_AT, RING_AT + RING))


def test_a_table_that_is_named_again_keeps_what_it_has(guarded: Guarded) -> None:
    """After a suspend the kernel writes the registers as they were, and goes on with the devices that it had."""
    assert guarded.do(mapd(3, ITT_AT), mapti(3, 0, 8200))
    register = guarded.its.held[BASER]
    assert guarded.turn(False)
    guarded.its.held |= {BASER: register & (7 << 56 | 31 << 48), CBASER: 0, CREADR: 0, CWRITER: 0}
    assert guarded.host.store(ITS + CBASER, VALID | RING_AT | RING // PAGE - 1)
    assert guarded.host.store(ITS + BASER, VALID | DEVICES_AT | TABLE // PAGE - 1)
    guarded.write = 0
    assert guarded.turn(True)
    assert guarded.its.deliver(3, 0) == 8200
    assert pins()[ITT_AT] == 1
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, VALID | DEVICES_AT | 2 * TABLE // PAGE - 1), "more of it"
    assert guarded.turn(True)
    assert guarded.its.deliver(3, 0) == 8200
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, VALID | DEVICES_AT | TABLE // PAGE - 1), "less of it"
    assert guarded.turn(True)
    assert guarded.its.deliver(3, 0) is None
    assert ITT_AT not in pins()


def test_large_tables_change_hands_in_pieces(guarded: Guarded) -> None:
    at = FREE + 0x20_0000
    assert guarded.turn(False)
    stays = 0
    while int(guarded.host.access(ITS + BASER, VALID | 2 << 8 | 63 | at).elr) == PC:
        stays += 1
        assert not guarded.its.held[BASER] & VALID
        assert len(withdrawn()) <= 1024 + TABLE // PAGE
    assert stays >= 1024 // int(its_tables.FRAMES_IN_STAY)
    assert guarded.its.held[BASER] & VALID
    assert guarded.turn(True)
    assert guarded.do(mapd(0xFFFF, ITT_AT), mapti(0xFFFF, 0, 8200))
    assert guarded.its.deliver(0xFFFF, 0) == 8200


def test_a_frame_that_is_given_away_meanwhile_ends_the_taking(guarded: Guarded) -> None:
    """Between two pieces, and with no memory for a table of the host's map: refused, and the host has all of it again."""
    at = FREE + 0x20_0000
    assert guarded.turn(False)
    assert guarded.host.store(ITS + BASER, 0)
    before = held_frames()
    store = (ITS + BASER, VALID | 2 << 8 | 7 | at)
    assert int(guarded.host.access(*store).elr) == PC
    make_private(at + 0x7_0000)
    assert not guarded.host.store(*store)
    assert not guarded.its.held[BASER] & VALID
    assert held_frames() == before
    assert guarded.host.machine.stage2_translate(at, Access.WRITE) == at
    assert not guarded.host.store(*store), "seen at once the second time"
    assert guarded.host.store(ITS + BASER, VALID | 2 << 8 | at)


def test_a_map_without_memory_ends_the_taking(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    at = FREE + 0x20_0000
    assert guarded.turn(False)
    before = held_frames()
    removed = host_map.remove
    monkeypatch.setattr(host_map, "remove", lambda pa: Err.NO_MEMORY if int(pa.raw) == at + 0x2_3000 else removed(pa))
    assert not guarded.host.store(ITS + BASER, VALID | 2 << 8 | 3 | at)
    assert held_frames() == {page: count for page, count in before.items() if not DEVICES_AT <= page < DEVICES_AT + TABLE}
    monkeypatch.undo()
    assert guarded.host.store(ITS + BASER, VALID | 2 << 8 | 3 | at)


def test_a_pinned_frame_is_no_table(guarded: Guarded) -> None:
    assert guarded.do(mapd(3, ITT_AT))
    assert guarded.turn(False)
    before = held_frames()
    for at in (ITT_AT, RING_AT, COLLECTIONS_AT):
        assert not guarded.host.store(ITS + BASER, VALID | at)
        assert held_frames() == before
        assert guarded.its.held[BASER] & VALID
    assert not guarded.host.store(ITS + CBASER, VALID | DEVICES_AT)


@pytest.mark.parametrize("value", [None, 0x4141], ids=["load", "store"])
def test_a_host_that_touches_a_table_gets_it_back_and_loses_its_its(guarded: Guarded, value: int | None) -> None:
    """As the next kernel after a kexec does, which does not know what lies there."""
    host = guarded.host
    assert guarded.do(mapd(3, ITT_AT, 12), mapti(3, 0, 8200))
    touched = DEVICES_AT + 0x3000
    touches = 0
    while True:
        try:
            host.machine.stage2_translate(touched, Access.WRITE)
            break
        except gic_host.GuestFault:
            assert int(host.access(touched, value).elr) == PC, "the access is made again"
            touches += 1
    assert touches <= 3
    assert host.machine.memory.read(touched, PAGE) == bytes(PAGE)
    assert not guarded.its.held[0] & 1
    assert not guarded.its.held[BASER] & VALID
    assert guarded.its.held[BASER + 16] & VALID, "other tables stay"
    assert ITT_AT not in pins()
    assert guarded.its.deliver(3, 0) is None
    assert sum("which is turned off" in text for _, text in host.machine.messages) == 1
    assert host.store(ITS + BASER, VALID | DEVICES_AT | TABLE // PAGE - 1)
    assert guarded.turn(True)
    assert guarded.do(mapd(3, ITT_AT), mapti(3, 0, 8201))
    assert guarded.its.deliver(3, 0) == 8201


def test_an_its_that_does_not_rest_keeps_its_table(guarded: Guarded) -> None:
    guarded.its.held[0] = 0
    before = held_frames()
    assert int(guarded.host.access(DEVICES_AT, 1).elr) == PC
    assert held_frames() == before


def test_maintenance_of_caches_is_left_out(guarded: Guarded) -> None:
    """A kernel whose ITS is not coherent cleans its tables once they are named (Linux, its_setup_baser)."""
    for at in range(DEVICES_AT, DEVICES_AT + TABLE, PAGE):
        assert int(guarded.host.access(at, 0, cm=1, isv=0).elr) == PC + 4
    assert guarded.its.held[0] & 1
    assert held_frames() == BASIC


def test_el2s_own_memory_is_no_table(guarded: Guarded) -> None:
    for at in (EL2, int(pages.REGION.base.raw), own_queues()[0].start):
        assert not gic_guard.reclaim(Pa(u64(at)))
        assert not gic_guard.is_withdrawn(Pa(u64(at)))


def test_a_host_that_tells_its_its_anything(guarded: Guarded) -> None:
    """Random commands, stores and touches, on an ITS that is quick and slow by turns: `watch` looks at each access. In the end all is the host's."""
    seed, host = random.Random(11), guarded.host
    make_private(FREE + 0x10_0000)
    places = [ITT_AT, ITT_AT + 0x5_0000, FREE + 0x10_0000, FREE + 0xF_0000, EL2, DEVICES_AT, RING_AT]
    numbers = [MOVI, INT, CLEAR, SYNC, MAPD, MAPC, MAPTI, MAPI, INV, INVALL, MOVALL, DISCARD, VMAPP, 0]

    def command() -> Words:
        if seed.random() < 0.5:
            return mapd(seed.randrange(5), seed.choice(places) + seed.randrange(16) * 0x100, seed.randrange(1, 14), seed.random() < 0.8)
        return seed.choice(numbers) | seed.randrange(5) << 32, seed.randrange(64) | seed.randrange(8192, 9000) << 32, seed.getrandbits(64), 0

    def name(at: int) -> None:
        """The host's own queue, or something else somewhere, and its own again where it lost it."""
        guarded.turn(False)
        if seed.random() < 0.5:
            host.store(ITS + seed.choice([BASER, BASER + 16]), VALID * (seed.random() < 0.8) | at | 15)
        host.store(ITS + CBASER, VALID | RING_AT | RING // PAGE - 1)
        guarded.write = 0
        for offset, table in ((BASER, DEVICES_AT), (BASER + 16, COLLECTIONS_AT)):
            if not guarded.its.held[offset] & VALID:
                host.store(ITS + offset, VALID | table | TABLE // PAGE - 1)
        guarded.turn(True)

    for _ in range(400):
        guarded.its.slow = seed.random() < 0.3
        what = seed.randrange(20)
        if what < 12:
            guarded.put(*[command() for _ in range(seed.randrange(1, 6))])
            host.access(ITS + CWRITER, guarded.write)
        elif what < 15:
            guarded.its.run(seed.randrange(4))
            host.load(ITS + CREADR)
        elif what < 17:
            guarded.turn(bool(seed.randrange(4)))
        elif what < 19:
            name(seed.choice([DEVICES_AT, RING_AT, FREE + 0x8_0000, EL2]))
        else:
            host.access(DEVICES_AT + seed.randrange(16) * PAGE, None)
        for device in range(5):
            guarded.its.deliver(device, seed.randrange(32))
    assert {words[0] & 0xFF for words in guarded.its.executed} >= {*numbers} - {MOVALL, VMAPP, 0}
    assert len(guarded.its.executed) > 200
    guarded.turn(False)
    for offset in (BASER, BASER + 16, CBASER):
        assert host.store(ITS + offset, 0)
    assert held_frames() == {}
