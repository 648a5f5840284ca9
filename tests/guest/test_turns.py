# SPDX-License-Identifier: Apache-2.0
"""Turns for pieces: of many CPUs that want the locks none waits for more than one piece, somebody always goes on, who is refused changes nothing."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import pytest
from calling_guest import ROOMY, Caller, a_caller, differences, drawing, page_of, picture
from private_world import FIRST, HOST_AT, IPA, PAGE, SECOND, World, a_world
from test_becoming_protected import BEGIN, COMMIT, MEASURE, PAPER_AT, Stub

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import abi, ending, moving, private, processors, registers, steps, turns
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import protected_calls, protected_flushes, seats
from delphyne.el2.kvm.exit_codes import COMMITTED, EXIT_IRQ, GUEST_GOES_ON
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import entropy
from delphyne.lang import Ipa, Pa, current, u64, wipe
from delphyne.lang.machine import Machine

CPUS = 6
WORD = 1 << 32


class Tickets:
    """`frames.LOCK` as its words are: the ticket that is served, and the next one."""

    def __init__(self, first: int) -> None:
        self.served = self.taken = first

    def word(self) -> u64:
        return u64(self.served % WORD << 32 | self.taken % WORD)


@dataclass
class Waiting:
    """A CPU's ticket, how many pieces of others it has seen from their beginning or their middle, and whether it wants to do one."""

    ticket: int
    wants: bool
    waited: int = 0


@pytest.fixture
def clean() -> Iterator[None]:
    wipe(turns.TURNS)
    yield
    wipe(turns.TURNS)


@pytest.mark.parametrize("first", [0, WORD - 3, 7 * WORD - 1])
@pytest.mark.parametrize("seed", range(8))
def test_nobody_waits_for_more_than_one_piece_and_somebody_goes_on(clean: None, first: int, seed: int) -> None:
    """A queue as a ticket lock makes it. CPUs come at any time, also while a piece is done and between its end and the locks' release."""
    rng, tickets, queue = random.Random(seed), Tickets(first), deque[Waiting]()
    pieces = refused = longest = 0
    eager = rng.choice((0.3, 0.9, 1.0))

    def come(most: int) -> None:
        for _ in range(rng.randrange(most + 1)):
            if len(queue) < CPUS:
                queue.append(Waiting(tickets.taken, rng.random() < eager))
                tickets.taken += 1

    with mock.patch.object(turns, "frames_tickets", tickets.word):
        for _ in range(3000):
            come(CPUS)
            if not queue:
                continue
            holder = queue[0]
            assert holder.ticket == tickets.served
            with frames.LOCK:
                if holder.wants and turns.is_mine():
                    come(CPUS)
                    assert holder.waited == 0, "who waited for a piece does none"
                    turns.over()
                    assert not turns.is_mine(), "one piece under a ticket"
                    pieces, refused = pieces + 1, 0
                    for other in list(queue)[1:]:
                        other.waited += 1
                        longest = max(longest, other.waited)
                    come(1)
                elif holder.wants:
                    refused += 1
                    assert refused < CPUS, "all are refused"
            queue.popleft()
            tickets.served += 1
    assert longest == 1
    assert pieces > 100


def test_tickets_that_wrapped_while_no_piece_was_done_refuse_a_few_at_most(clean: None) -> None:
    tickets = Tickets(5)
    with mock.patch.object(turns, "frames_tickets", tickets.word), frames.LOCK:
        tickets.taken += CPUS
        turns.over()
        for rest in (WORD // 2, WORD - 1, WORD, WORD + 3):
            tickets.served, tickets.taken = 5 + rest, 5 + rest + 1
            refused = 0
            while not turns.is_mine():
                tickets.served, tickets.taken, refused = tickets.served + 1, tickets.taken + 1, refused + 1
            assert refused <= CPUS + 1


@pytest.fixture
def world() -> Iterator[World]:
    with a_world(pieces=True) as made:
        assert made.admit(FIRST, IPA, HOST_AT) is None
        made.put(FIRST, IPA, b"a secret")
        yield made
        made.check()


def held(world: World, operation: object, *arguments: object) -> object:
    """With the locks, and whosever turn it is."""
    index = u64(world.guard(FIRST))
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        return operation(index, Ipa(u64(IPA)), *arguments)  # type: ignore[operator]


def test_cpus_that_waited_for_a_piece_leave_the_page_as_it_is(world: World) -> None:
    tickets = Tickets(0)
    with mock.patch.object(turns, "frames_tickets", tickets.word):
        tickets.taken = 1 + 3
        assert held(world, private.export) is Err.BUSY
        for _ in range(3):
            before = world.progress()
            tickets.served += 1
            assert held(world, private.export) is Err.BUSY
            assert world.progress() == before
        tickets.served, tickets.taken = tickets.served + 1, tickets.taken + 1
        assert held(world, private.export) is Err.BUSY
        assert world.progress() != before


def test_a_page_does_not_leave_or_come_out_of_turn(world: World) -> None:
    out_of_turn = mock.patch.object(turns, "is_mine", return_value=False)
    with out_of_turn:
        assert held(world, private.export) is Err.BUSY
    assert world.move_of(FIRST, IPA) is None
    assert world.content(FIRST, IPA) == b"a secret".ljust(PAGE, b"\0")
    assert world.touch(HOST_AT) is not None
    found = world.do(steps.find, u64(world.guard(FIRST)), Ipa(u64(IPA)))
    seen = world.content(None, HOST_AT)
    with out_of_turn:
        assert held(world, private.admit, Pa(u64(HOST_AT)), found) is Err.BUSY
    assert world.move_of(FIRST, IPA) is None
    assert world.content(None, HOST_AT) == seen
    assert world.refusals >= PAGE // int(moving.PIECE)


def test_a_stay_that_helps_another_move_begins_none(world: World) -> None:
    for n in range(1, int(moving.LIMIT) + 1):
        assert world.admit(FIRST, IPA + n * PAGE, HOST_AT + n * PAGE) is None
        assert world.do(private.export, u64(world.guard(FIRST)), Ipa(u64(IPA + n * PAGE))) is Err.BUSY
    before = world.progress()
    assert held(world, private.export) is Err.BUSY
    assert world.move_of(FIRST, IPA) is None
    assert [one != other for one, other in zip(before, world.progress(), strict=True)] == [True] + [False] * (int(moving.LIMIT) - 1)


def test_measure_and_commit_wait_for_their_turn() -> None:
    """The guest calls again; nothing was measured, and nothing taken from the host."""
    with a_world(pieces=True) as world, drawing():
        try:
            stub = Stub(world)
            out_of_turn = mock.patch.object(turns, "is_mine", return_value=False)
            assert stub.answer(BEGIN, PAPER_AT) == 0
            before = stub.seen()
            with out_of_turn:
                assert stub.call(MEASURE)[0] == int(EXIT_IRQ)
            assert int(world.machine.read_register("ELR_EL2")) == 0x1000 - 4
            assert {key for key, x in stub.seen().items() if before.get(key) != x} <= {"ELR_EL2"}
            assert stub.measure() == 0
            with mock.patch.object(turns, "over") as over, out_of_turn:
                assert stub.call(COMMIT)[0] == int(EXIT_IRQ)
                assert not over.called
            assert not GUARDS.slots[stub.seat.guard - 1].committed
            with mock.patch.object(turns, "over") as over:
                assert stub.call(COMMIT)[0] == int(COMMITTED)
                assert over.call_count == 1
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)
            GUARDS.closed = False


@pytest.mark.parametrize("end", [ending.end_some, ending.wipe_next])
@pytest.mark.parametrize("pieces", [False, True])
def test_a_guest_ends_a_piece_in_a_turn(end: object, pieces: bool) -> None:
    """With the crypto extensions too; who is refused gives no page back, and a CPU that stays does no second piece."""
    tickets, arguments = Tickets(0), () if end is ending.wipe_next else (u64(FIRST),)
    with a_world(pieces=pieces) as world:
        for n in range(int(ending.PAGES) + 1):
            assert world.admit(FIRST, IPA + n * PAGE, HOST_AT + n * PAGE) is None
            world.put(FIRST, IPA + n * PAGE, b"a secret")
        last = IPA + int(ending.PAGES) * PAGE
        guard, limit = GUARDS.slots[FIRST], 1 << int(steps.space_of(u64(FIRST)).bits)

        def stay() -> bool:
            """A CPU that comes, does what it may, and tries to do more. Whether it did a piece that was not the last one."""
            before = int(guard.ended)
            with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
                ended[0] = end(*arguments) is True or bool(guard.wiped)  # type: ignore[operator]
                after = int(guard.ended)
                if not ended[0] and after < limit:
                    assert end(*arguments) is False  # type: ignore[operator]
                    assert int(guard.ended) == after, "two pieces under a ticket"
            tickets.served += 1
            tickets.taken = max(tickets.taken, tickets.served + 1)
            return after > before

        ended = [False]
        with mock.patch.object(turns, "frames_tickets", tickets.word):
            tickets.taken = 1 + 3
            assert stay()
            left = int(guard.ended)
            assert left < limit
            assert [stay() for _ in range(3)] == [False] * 3, "they waited for it"
            assert guard.phase is Phase.STOPPED
            assert (int(guard.ended), int(guard.private)) == (left, 1)
            assert world.content(FIRST, last) == b"a secret".ljust(PAGE, b"\0")
            while not ended[0]:
                assert stay() or ended[0], "whoever comes alone is served"
        for n in range(int(ending.PAGES) + 1):
            assert world.content(None, HOST_AT + n * PAGE) == bytes(PAGE)
        world.check()


def test_the_end_of_a_guest_without_pages_needs_no_turn() -> None:
    """What is left then is short."""
    with a_world() as world:
        while not world.do(ending._give_back_some, u64(FIRST)):
            pass
        out_of_turn = mock.patch.object(turns, "is_mine", return_value=False)
        with out_of_turn, mock.patch.object(turns, "over") as over:
            assert world.do(ending._give_back_some, u64(FIRST)) is True
        assert not over.called


def test_one_stay_does_the_last_piece_of_one_dead_guest() -> None:
    """A new VM looks for those that are gone: each is one piece from its end, and the second waits for the next stay."""
    with a_world() as world, mock.patch.object(seats, "_is_gone", return_value=True):
        ended = []
        with mock.patch.object(ending, "STEPS", u64(1 << 20)):
            for _ in range(3):
                with frames.LOCK, HOST_LOCK, GUESTS_LOCK, mock.patch.object(turns, "over", wraps=turns.over) as over:
                    later = seats._end_dead(Layout())
                ended.append((later, over.call_count, bool(GUARDS.slots[FIRST].used), bool(GUARDS.slots[SECOND].used)))
        assert ended == [(True, 1, False, True), (False, 1, False, False), (False, 0, False, False)]
        world.check()


@pytest.fixture
def caller() -> Iterator[Caller]:
    """Its host's table leads to none of the pages that its guest has."""
    with a_caller() as made:
        yield made
    wipe(seats.SEATS.mine())


def flush(caller: Caller, count: int, start: int = IPA) -> object:
    """The host's call about TLBs, as this CPU makes it once."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        return protected_flushes.pages(u64(FIRST), Ipa(u64(start)), u64(count))


@pytest.mark.parametrize("count", [2, 64, 512])
def test_a_call_about_tlbs_for_many_pages_does_nothing_out_of_turn(caller: Caller, count: int) -> None:
    """And what was done of it before stays done."""
    out_of_turn = mock.patch.object(turns, "is_mine", return_value=False)
    for start in (IPA, page_of("clean")):
        before = picture(caller.world)
        with out_of_turn, mock.patch.object(turns, "over") as over:
            assert flush(caller, count, start) is Err.BUSY
        assert not over.called
        assert differences(before, picture(caller.world)) == []
        with mock.patch.object(turns, "over") as over:
            flush(caller, count, start)
        assert over.call_count == 1
        caller.world.check()


def test_a_call_about_one_page_needs_no_turn(caller: Caller) -> None:
    """It is as long as any other operation on a page."""
    with mock.patch.object(turns, "is_mine", return_value=False) as asked, mock.patch.object(turns, "over") as over:
        assert flush(caller, 1, page_of("private")) is None
    assert not asked.called
    assert not over.called
    assert caller.fate(page_of("private")) == "EXPORTED"


def test_cpus_that_call_about_tlbs_at_once_wait_for_one_piece_each(caller: Caller) -> None:
    """Eight of them for all of the guest's memory: who waited for a piece does none, and all come to their end."""
    tickets, waiting = Tickets(0), deque(range(8))
    tickets.taken = len(waiting)
    pieces = in_a_row = 0
    with mock.patch.object(turns, "frames_tickets", tickets.word):
        while waiting:
            cpu = waiting.popleft()
            with mock.patch.object(turns, "over", wraps=turns.over) as over:
                done = flush(caller, 64 + cpu)
            in_a_row = 0 if over.called else in_a_row + 1
            pieces += over.called
            assert in_a_row < 8, "somebody may"
            assert over.called or done is Err.BUSY
            if done is not None:
                waiting.append(cpu)
            tickets.served += 1
            tickets.taken = tickets.served + len(waiting)
    assert pieces >= 8
    assert {caller.fate(page_of(state)) for state in ("private", "clean", "held")} == {"EXPORTED"}
    caller.world.check()


@pytest.mark.parametrize("pieces", [False, True])
def test_a_call_to_share_many_pages_does_one_out_of_turn(pieces: bool) -> None:
    with a_caller() as caller:
        first = ROOMY + (1 << 30)
        with (
            mock.patch.object(turns, "is_mine", return_value=False), mock.patch.object(turns, "over") as over,
            mock.patch.object(protected_calls.engine, "is_quick", return_value=not pieces),
        ):  # fmt: skip
            answered = caller.call(int(abi.SHARE_RANGE), first, 64)
        assert (answered.code, answered.x[:2]) == (int(GUEST_GOES_ON), (0, 1))
        assert not over.called
        with mock.patch.object(turns, "over") as over, mock.patch.object(protected_calls.engine, "is_quick", return_value=not pieces):
            answered = caller.call(int(abi.SHARE_RANGE), first + PAGE, 64)
        assert answered.x[:2] == (0, 1 if pieces else int(protected_calls.SHARES))
        assert over.call_count == (not pieces)
        caller.world.check()


def test_a_call_to_share_many_pages_takes_the_locks_once() -> None:
    """Each time that it took them it could wait for a piece."""
    with a_caller() as caller:
        before = frames.LOCK.tickets, GUESTS_LOCK.tickets
        assert caller.call(int(abi.SHARE_RANGE), ROOMY + (1 << 30), 64).x[1] == int(protected_calls.SHARES)
        after = frames.LOCK.tickets, GUESTS_LOCK.tickets
        assert [a[1] - b[1] for a, b in zip(after, before, strict=True)] == [1, 1]


def test_the_simulated_lock_counts_its_tickets() -> None:
    with Machine(0x4000_0000, 0x20_0000, 1):
        assert current.cpu_number() == 0
        before = frames.LOCK.tickets
        with frames.LOCK:
            assert frames.LOCK.tickets == (before[0], before[1] + 1)
            word = int(turns.frames_tickets())
            assert (word >> 32, word % WORD) == frames.LOCK.tickets
        after = frames.LOCK.tickets
        assert after[0] == after[1] == before[1] + 1
