# SPDX-License-Identifier: Apache-2.0
"""What a protected guest takes from its host between two runs, whatever stands in the `kvm_vcpu` that the host writes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from guest_runs import VCPU_BYTES
from guests_world import GUEST_MEMORY, a_layout, a_machine
from hypothesis import given
from hypothesis import strategies as st

from delphyne.el2.arch.exception import AbortIss, Esr, ExceptionClass
from delphyne.el2.arch.world import Places, answer_word, asked_word
from delphyne.el2.guest import processors, registers
from delphyne.el2.guest.processors import PROCESSORS, Power
from delphyne.el2.guest.registers import OWN, Expects, Refused
from delphyne.el2.kvm import controls, places, protected_run, stage
from delphyne.el2.kvm.exit_codes import EXIT_TRAP
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Ipa, Pa, u8, u32, u64, wipe
from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine import switch

GUARD = u64(2)
PC = 0x1000
OWN_X, HOST_X = 0x1111, 0xFEDC_BA98_7654_3210
RAISED = int(controls.PENDING_EXCEPTION)
DONE = int(controls.INCREMENT_PC)
words = st.integers(0, 2**64 - 1)


class Exits:
    """A protected guest's CPU that has left, and the host's structure for it."""

    def __init__(self) -> None:
        self.places = Places()
        assert places.fill(a_layout(), self.places) is None
        registers.MEMORY.base = Pa(u64(GUEST_MEMORY + 0x1_0000))
        with GUESTS_LOCK:
            made = processors.create(GUARD, u64(0))
        assert isinstance(made, u64)
        registers.reset(made, u64(0), u64(PC), u64(0), False)
        self.seat = Seat()
        self.seat.at, self.seat.own, self.seat.processor = Pa(u64(GUEST_MEMORY)), registers.base_of(made), made
        for number in range(31):
            registers.put_general(self.seat.own, u64(number), u64(OWN_X + number))
            answer_word(self.seat.at, self.places.regs + u64(number) * 8, u64(HOST_X))

    def show(self, kind: ExceptionClass, iss: int, what: Expects, target: int = 0) -> None:
        stage.show(self.seat, self.places, Esr(ec=kind.raw, il=True, iss=u32(iss)), what, u64(target))

    def take(self, flags: int) -> None:
        self.seat.asked.iflags = u64(flags)
        protected_run.take_answer(self.seat, self.places)

    @property
    def general(self) -> list[int]:
        return [int(registers.general(self.seat.own, u64(number))) for number in range(31)]

    @property
    def pc(self) -> int:
        return int(asked_word(self.seat.own, OWN.pc))

    @property
    def refused(self) -> int:
        return int(asked_word(self.seat.own, registers.REFUSED))


@pytest.fixture
def exits() -> Iterator[Exits]:
    yield from _exits()


def _exits() -> Iterator[Exits]:
    try:
        with a_machine():
            yield Exits()
    finally:
        forget_held_locks()
        for number in range(4):
            wipe(PROCESSORS[number])


def unchanged() -> list[int]:
    return [OWN_X + number for number in range(31)]


@pytest.mark.parametrize("flags", [RAISED, RAISED | 6, DONE, 0, 0xFF])
def test_after_an_interrupt_or_a_fault_the_host_gives_nothing(exits: Exits, flags: int) -> None:
    """Nor is what it gives kept for an exit to come."""
    exits.take(flags)
    assert (exits.general, exits.pc, exits.refused) == (unchanged(), PC, 0)
    assert exits.seat.asked.iflags & controls.TO_ADJUST == 0


def test_a_fault_shows_its_page_and_where_in_it_and_is_not_completed(exits: Exits) -> None:
    """What the host finds after a fault in memory: syndrome, offset and page, by one writing; nothing that it gives is taken."""
    syndrome = Esr(ec=ExceptionClass.DATA_ABORT_LOWER.raw, il=True, iss=u32(AbortIss(fsc=u8(7), wnr=True).raw))
    code = stage.show_access(exits.seat, exits.places, syndrome, Expects.NOTHING, u64(0), u64(0x123), stage.page_register(Ipa(u64(0x8123_4000))))
    shown = [int(asked_word(exits.seat.at, where)) for where in (exits.places.fault_esr, exits.places.fault_far, exits.places.fault_hpfar)]
    assert shown == [int(syndrome.raw), 0x123, 0x8123_4000 >> 8]
    assert (code, int(asked_word(exits.seat.own, registers.EXPECTS))) == (EXIT_TRAP, int(Expects.NOTHING.raw))
    exits.take(DONE)
    assert (exits.general, exits.pc, exits.refused) == (unchanged(), PC, 0)


@pytest.mark.parametrize("flags", [RAISED, RAISED | 6])
def test_a_wait_cannot_fail(exits: Exits, flags: int) -> None:
    exits.show(ExceptionClass.WFX, 1, Expects.WAIT)
    exits.take(flags)
    assert (exits.general, exits.pc, exits.refused) == (unchanged(), PC, 0)
    exits.show(ExceptionClass.WFX, 1, Expects.WAIT)
    exits.take(DONE)
    assert (exits.general, exits.pc, exits.refused) == (unchanged(), PC + 4, 0)


def test_an_exception_is_that_of_the_exit_and_follows_the_cpu_not_the_seat(exits: Exits) -> None:
    exits.show(ExceptionClass.SYS64, 1, Expects.READ, 5)
    exits.take(RAISED)
    assert exits.refused == Refused.UNDEFINED.raw
    exits.show(ExceptionClass.DATA_ABORT_LOWER, int(AbortIss(isv=True).raw), Expects.READ, 5)
    exits.take(RAISED)
    assert exits.refused == Refused.ABORT.raw
    assert (exits.general, exits.pc) == (unchanged(), PC)
    registers.reset(exits.seat.processor, u64(0), u64(PC), u64(0), False)
    assert exits.refused == Refused.NO.raw


def ordered(x: int, size: int, big_endian: bool) -> int:
    """The lowest 2**size bytes of `x`, in the other order where the guest is big-endian."""
    return int.from_bytes((x & (1 << (8 << size)) - 1).to_bytes(1 << size, "little"), "big" if big_endian else "little")


@given(words, st.integers(0, 3), st.booleans(), st.booleans(), st.integers(0, 31), st.booleans())
def test_a_load_gives_as_much_as_its_size_says(x: int, size: int, signed: bool, wide: bool, target: int, big_endian: bool) -> None:
    for exits in _exits():
        answer_word(exits.seat.at, exits.places.regs + u64(target) * 8, u64(x))
        iss = AbortIss(isv=True, sas=u8(size), sse=signed, sf=wide or size == 3, srt=u8(target))
        exits.show(ExceptionClass.DATA_ABORT_LOWER, int(iss.raw), Expects.READ, target)
        answer_word(exits.seat.own, registers.BIG_ENDIAN, u64(big_endian))
        exits.take(DONE)
        want = unchanged()
        bits = 8 << size
        part = ordered(x, size, big_endian)
        if target < 31:
            negative = signed and part >> (bits - 1)
            want[target] = (part - (1 << bits)) & ((1 << 64) - 1 if wide else (1 << 32) - 1) if negative and bits < 64 else part
        assert (exits.general, exits.pc) == (want, PC + 4)


@given(words, st.integers(0, 3), st.integers(0, 31), st.booleans())
def test_a_store_shows_as_much_as_its_size_says(x: int, size: int, target: int, big_endian: bool) -> None:
    for exits in _exits():
        registers.put_general(exits.seat.own, u64(target), u64(x))
        before = [switch.load(GUEST_MEMORY + at) for at in range(0, VCPU_BYTES, 8)]
        stage.show_stored(exits.seat, exits.places, AbortIss(isv=True, wnr=True, sas=u8(size), srt=u8(target)), big_endian)
        after = [switch.load(GUEST_MEMORY + at) for at in range(0, VCPU_BYTES, 8)]
        place = int(exits.places.regs) // 8 + target
        if target < 31:
            before[place] = ordered(x, size, big_endian)
        assert after == before


def test_a_cpu_that_has_begun_was_turned_on_whatever_the_host_says(exits: Exits) -> None:
    for has_begun in (False, True):
        with GUESTS_LOCK:
            turned = processors.turn_on(GUARD, u64(1), u64(0x8000), u64(7), False)
            assert isinstance(turned, u64)
            assert not has_begun or processors.begin(turned)
        exits.show(ExceptionClass.HVC64, 0, Expects.POWER_ON, int(turned))
        exits.take(0)
        assert exits.general[0] == (0 if has_begun else HOST_X)
        with GUESTS_LOCK:
            assert PROCESSORS[turned].power is (Power.ON if has_begun else Power.OFF)


def test_cpus_that_a_guest_has_not_got_take_no_room_from_others(exits: Exits) -> None:
    """Its host refuses each of them. One that a vCPU plays already is remembered."""
    for number in range(1, 2 * int(registers.LIMIT)):
        with GUESTS_LOCK:
            turned = processors.turn_on(GUARD, u64(number), u64(0x8000), u64(7), False)
            assert isinstance(turned, u64)
        exits.show(ExceptionClass.HVC64, 0, Expects.POWER_ON, int(turned))
        exits.take(0)
        assert exits.general[0] == HOST_X
    with GUESTS_LOCK:
        turned = processors.turn_on(GUARD, u64(1), u64(0x8000), u64(7), False)
        assert isinstance(turned, u64)
        assert processors.bind(GUARD, u64(1), u64(0x4000)) == turned
        assert processors.undo_turn_on(turned)
        assert processors.of_mpidr(GUARD, u64(1)) == turned


@pytest.mark.parametrize("big_endian", [False, True])
def test_a_cpu_begins_in_the_order_of_bytes_of_its_caller(exits: Exits, big_endian: bool) -> None:
    """And one that is turned on again in that of its next caller."""
    for order in (big_endian, not big_endian):
        with GUESTS_LOCK:
            turned = processors.turn_on(GUARD, u64(1), u64(0x8000), u64(7), order)
            assert isinstance(turned, u64)
            assert processors.begin(turned)
        assert bool(int(asked_word(registers.base_of(turned), OWN.sctlr)) >> 25 & 1) is order
        with GUESTS_LOCK:
            processors.turn_off(turned)
