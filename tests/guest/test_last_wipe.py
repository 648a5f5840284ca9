# SPDX-License-Identifier: Apache-2.0
"""What is left of protected guests where the machine goes off: by the host's call, in pieces, or by EL2's own failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from private_world import FIRST, HOST_AT, IPA, PAGE, SECOND, World, a_world

from delphyne.el2.arch import psci
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.frame import Frame
from delphyne.el2.entry import dispatch, farewell, firmware
from delphyne.el2.guest import ending, guards, private, processors, registers, vcpus
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.memory import frames, graveyard
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import aes256, drbg, generator, records
from delphyne.lang import Pa, u64, wipe
from delphyne.lang.machine.layout import size_of

REGISTERS_AT = HOST_AT + 0x40_0000
SECRET = b"what nobody may find"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two guests with six pages each, of which the first one's CPU 0 has registers; the second shares one page and has another exported."""
    monkeypatch.setattr(farewell.stop, "stopped", parked)
    with a_world() as made:
        registers.MEMORY.base = Pa(u64(REGISTERS_AT))
        for guest, first in ((FIRST, HOST_AT), (SECOND, HOST_AT + 6 * PAGE)):
            for n in range(6):
                assert made.admit(guest, IPA + n * PAGE, first + n * PAGE) is None
                made.put(guest, IPA + n * PAGE, SECRET)
        assert made.page(private.share, SECOND, IPA) is None
        assert made.touch(HOST_AT + 7 * PAGE) is not None
        with GUESTS_LOCK:
            assert processors.create(u64(FIRST), u64(0)) == 0
        registers.put_general(registers.base_of(u64(0)), u64(5), u64(0x5EC2E7))
        yield made
        wipe(processors.PROCESSORS)
        wipe(farewell.SECRETS)
        wipe(registers.MEMORY)
        GUARDS.closed = False


class Parked(Exception):
    """In place of a CPU that does nothing more."""


def parked() -> None:
    raise Parked


def key_of(guest: int) -> list[int]:
    return [int(GUARDS.slots[guest].key.words[i]._hidden) for i in range(30)]


@pytest.mark.parametrize("number", [0x8400_0008, 0x8400_0009, 0x8400_0012, 0xC400_0012, 0x8401_0009])
def test_a_hosts_last_call_waits_until_nothing_is_left(world: World, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[int] = []
    monkeypatch.setattr(firmware, "smc_relay", lambda frame: reached.append(int(frame.x[0])))
    frame = Frame()
    frame.x[0], frame.elr = u64(number), u64(0x1000)
    pieces = 0
    while int(frame.elr) == 0x1000:
        assert reached == [], "the firmware hears of it last"
        dispatch._serve_firmware_call(frame)
        pieces += 1
        assert pieces < 10000
        world.check()
    assert pieces > 2, "no stay is as long as all guests"
    assert len(reached) == 1
    for n in range(12):
        if n not in (6, 7):
            assert world.content(None, HOST_AT + n * PAGE) == bytes(PAGE)
    assert SECRET not in world.machine.memory.read(HOST_AT + 7 * PAGE, PAGE)
    assert key_of(FIRST) == key_of(SECOND) == [0] * 30
    assert int(registers.general(registers.base_of(u64(0)), u64(5))) == 0
    assert int(records.LEDGER.promised) == 0
    assert not GUARDS.closed, "the firmware came back: guests may begin"


def test_no_guest_begins_while_the_machine_ends(world: World) -> None:
    assert not farewell.wipe_next()
    with GUESTS_LOCK:
        made = guards.create(u64(2))
    assert made is Err.STATE
    while not farewell.wipe_next():
        pass
    farewell.go_on()
    with GUESTS_LOCK:
        assert guards.create(u64(2)) == 2
        assert guards.create(u64(3)) == 3


def test_a_guest_whose_cpu_still_runs_loses_its_pages_and_key(world: World) -> None:
    with frames.LOCK, GUESTS_LOCK:
        slot = vcpus.VCPUS.slots[0]
        slot.used, slot.vm = True, u64(FIRST)
        assert vcpus.claim(u64(0), vcpus.claim_word(u64(0)), u64(0))
    while not farewell.wipe_next():
        pass
    assert key_of(FIRST) == [0] * 30
    assert world.content(None, HOST_AT) == bytes(PAGE)
    assert int(registers.general(registers.base_of(u64(0)), u64(5))) == 0x5EC2E7, "they are the CPU's that runs"
    assert world.reach(FIRST, IPA) is None


def test_a_guest_that_was_wiped_ends_with_its_vm(world: World) -> None:
    while not farewell.wipe_next():
        pass
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        while not ending.end_some(u64(FIRST)):
            graveyard.work()
    assert not GUARDS.slots[FIRST].used


def test_el2s_own_stop_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever locks are held; and shared pages and ciphertext, which the host has, stay."""
    calls: list[int] = []

    def call(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
        calls.append(int(function))
        assert SECRET not in world.machine.memory.read(HOST_AT, 6 * PAGE), "the machine goes off last"
        return u64(0)

    monkeypatch.setattr(psci, "smc_call", call)
    generator.GENERATOR.key.fill(type(generator.GENERATOR.key[0])(0x77))
    farewell.prepare()
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK, pytest.raises(Parked):
        farewell.farewell()
    assert calls == [0x8400_0008]
    for n in range(12):
        if n not in (6, 7):
            assert world.machine.memory.read(HOST_AT + n * PAGE, PAGE) == bytes(PAGE)
    assert world.machine.memory.read(HOST_AT + 6 * PAGE, len(SECRET)) == SECRET
    assert key_of(FIRST) == key_of(SECOND) == [0] * 30
    assert bytes(int(generator.GENERATOR.key[i]) for i in range(32)) == bytes(32)
    assert int(registers.general(registers.base_of(u64(0)), u64(5))) == 0


def test_the_sizes_of_what_is_wiped() -> None:
    assert size_of(aes256.Key) == int(aes256.KEY_BYTES)
    assert size_of(drbg.Drbg) == int(drbg.STATE_BYTES)
