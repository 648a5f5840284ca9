# SPDX-License-Identifier: Apache-2.0
"""The frame table against a dictionary, its invariants after every step, and two CPUs that want one frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from memory_world import FRAMES_AT, RAM, RAM_SIZE, forget_statics

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import blocks, frames, invariants
from delphyne.el2.memory.frames import FrameEntry, State
from delphyne.lang import Ipa, Pa, u16, u64
from delphyne.lang.machine import Machine, Scenario, explore

PAGE = 4096
BANKS = [(RAM, 6 * PAGE), (0x8000_0000, 3 * PAGE), (0x10_0000_0000, 5 * PAGE)]
EDGE = (1 << 48) - PAGE


@contextmanager
def machine_with_frames(cpus: int = 1) -> Iterator[Machine]:
    """Three banks. All frames of the first and second are the host's; the third is EL2's."""
    with Machine(RAM, RAM_SIZE, cpus) as machine:
        make_frames()
        yield machine


def make_frames() -> None:
    forget_statics()
    for base, size in BANKS:
        assert frames.add_bank(Pa(u64(base)), u64(size)) is None
    assert frames.attach(Pa(u64(FRAMES_AT))) is None
    for base, size in BANKS[:2]:
        assert frames.admit(Pa(u64(base)), u64(size)) is None


@dataclass(frozen=True)
class Frame:
    state: State
    owner: int = 0
    page: int = 0
    pins: int = 0


ADDRESSES = [base + offset for base, size in BANKS for offset in range(0, size, PAGE)]
OUTSIDE = [0, RAM - 1, RAM + 6 * PAGE, 0x8000_0000 - 1, 0x8000_3000, 0x10_0000_5000, 2**64 - 1]
NEAR = st.sampled_from(ADDRESSES[:3] + ADDRESSES[-1:]) | st.sampled_from(ADDRESSES) | st.sampled_from(OUTSIDE)
OWNERS = st.sampled_from([1, 2, 1, 2, 4095, 0, 4096, 65535])
GUEST_PAGES = st.sampled_from([0, PAGE, PAGE, EDGE, 1 << 48, 2**64 - 1])
INSIDE = st.sampled_from([0, 0, 0, 1, PAGE - 1])
MOVES: dict[str, tuple[Callable[[Pa, u16, Ipa], Err | None], State, State]] = {
    "take": (frames.take, State.HOST, State.BUSY),
    "settle": (frames.settle, State.BUSY, State.PRIVATE),
    "give": (frames.give, State.PRIVATE, State.BUSY),
    "release": (frames.release, State.BUSY, State.HOST),
    "share": (frames.share, State.PRIVATE, State.SHARED),
    "unshare": (frames.unshare, State.SHARED, State.PRIVATE),
}


class Table(RuleBasedStateMachine):
    """Random transitions, most of them near each other, many of them wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.context = machine_with_frames()
        self.context.__enter__()
        self.model = {address: Frame(State.EL2 if address >= BANKS[2][0] else State.HOST) for address in ADDRESSES}
        self.withdrawn: set[int] = set()
        self.passed = sum(frame.state is State.HOST for frame in self.model.values())

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    def expected_of_move(self, name: str, frame: Frame | None, owner: int, page: int) -> Err | None:
        _, before, _ = MOVES[name]
        if frame is None:
            return Err.RANGE
        if not 0 < owner < 4096:
            return Err.INVALID
        if page >= 1 << 48:
            return Err.RANGE
        if name == "take":
            return Err.OWNER if frame.state is not State.HOST else Err.BUSY if frame.pins else None
        return None if (frame.state, frame.owner, frame.page) == (before, owner, page & ~(PAGE - 1)) else Err.OWNER

    @rule(name=st.sampled_from(sorted(MOVES)), address=NEAR, inside=INSIDE, owner=OWNERS, page=GUEST_PAGES)
    def move(self, name: str, address: int, inside: int, owner: int, page: int) -> None:
        operation, _, after = MOVES[name]
        frame = self.model.get(address)
        where = address + inside if frame is not None else address
        within = page + inside if page < EDGE + 1 else page
        expected = self.expected_of_move(name, frame, owner, within)
        with frames.LOCK:
            assert operation(Pa(u64(where)), u16(owner), Ipa(u64(within))) == expected
        if expected is None:
            held = after is not State.HOST
            self.model[address] = Frame(after, owner if held else 0, within & ~(PAGE - 1) if held else 0)

    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        """A transition that fits one frame's present state."""
        address = data.draw(st.sampled_from(ADDRESSES))
        frame = self.model[address]
        names = [name for name, (_, before, _) in MOVES.items() if before is frame.state and not frame.pins]
        if names:
            fresh = frame.state is State.HOST
            owner = data.draw(st.integers(1, 3)) if fresh else frame.owner
            page = data.draw(st.integers(0, 3)) * PAGE if fresh else frame.page
            self.move(data.draw(st.sampled_from(names)), address, 0, owner, page)

    @rule(address=NEAR, inside=INSIDE)
    def pin(self, address: int, inside: int) -> None:
        frame = self.model.get(address)
        expected = Err.RANGE if frame is None else None if frame.state is State.HOST else Err.OWNER
        with frames.LOCK:
            assert frames.pin(Pa(u64(address + inside if frame else address))) == expected
        if expected is None and frame is not None:
            self.model[address] = replace(frame, pins=frame.pins + 1)

    @rule(address=NEAR)
    def unpin(self, address: int) -> None:
        frame = self.model.get(address)
        expected = Err.RANGE if frame is None else None if frame.pins else Err.STATE
        with frames.LOCK:
            assert frames.unpin(Pa(u64(address))) == expected
        if expected is None and frame is not None:
            self.model[address] = replace(frame, pins=frame.pins - 1)

    @rule(address=NEAR, inside=INSIDE)
    def withdraw(self, address: int, inside: int) -> None:
        frame = self.model.get(address)
        expected = Err.RANGE if frame is None else Err.OWNER if frame.state is not State.HOST else Err.BUSY if frame.pins else None
        with frames.LOCK:
            assert frames.withdraw(Pa(u64(address + inside if frame else address))) == expected
        if expected is None:
            self.model[address] = Frame(State.EL2)
            self.withdrawn.add(address)

    @rule(address=NEAR, inside=INSIDE)
    def readmit(self, address: int, inside: int) -> None:
        """Of what is EL2's, only what was withdrawn: that is the caller's to know."""
        frame = self.model.get(address)
        if frame is not None and frame.state is State.EL2 and address not in self.withdrawn:
            return
        expected = Err.RANGE if frame is None else None if frame.state is State.EL2 else Err.OWNER
        with frames.LOCK:
            assert frames.readmit(Pa(u64(address + inside if frame else address))) == expected
        if expected is None:
            self.model[address] = Frame(State.HOST)
            self.withdrawn.discard(address)

    @rule(first=st.integers(0, len(ADDRESSES) - 1), count=st.integers(0, 4), ragged=st.booleans())
    def admit(self, first: int, count: int, ragged: bool) -> None:
        run = [ADDRESSES[first] + PAGE * i for i in range(count)]
        expected = None
        if ragged:
            expected = Err.ALIGNMENT
        elif any(address not in self.model for address in run):
            expected = Err.RANGE
        elif first < self.passed and run:
            expected = Err.STATE
        assert frames.admit(Pa(u64(ADDRESSES[first])), u64(count * PAGE + (8 if ragged else 0))) == expected
        if expected is None:
            assert all(self.model[address] == Frame(State.EL2) for address in run)
            self.model.update((address, Frame(State.HOST)) for address in run)
            self.passed = first + count if run else self.passed

    @invariant()
    def agree(self) -> None:
        for address, frame in self.model.items():
            entry = frames.entry_of(Pa(u64(address)))
            assert entry is not None
            assert Frame(entry.state, int(entry.owner), int(entry.page) * PAGE, int(entry.pins)) == frame
            assert invariants.entry_is_sound(entry)

    @invariant()
    def index_is_a_bijection(self) -> None:
        assert [frames.index_of(Pa(u64(address))) for address in ADDRESSES] == [u64(i) for i in range(len(ADDRESSES))]
        assert all(frames.index_of(Pa(u64(address))) is None for address in OUTSIDE)


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_entry_is_laid_out_as_the_design_says() -> None:
    entry = frames.held(State.SHARED, u16(0xABC), Ipa(u64(0x1234_5678_9FFF)))
    assert isinstance(entry, FrameEntry)
    assert int(entry.raw) == 0x1_2345_6789 << 28 | 0xABC << 16 | 3
    assert int(FrameEntry(pins=u16(0xFFF)).raw) == 0xFFF0
    assert int(frames.ENTRY_BYTES) == 8


def test_a_run_is_looked_at_anew_when_a_frame_leaves_the_host_or_comes_back() -> None:
    """What is remembered of a run, either way, is forgotten."""
    with machine_with_frames():
        at, index = Pa(u64(ADDRESSES[0])), u64(0)
        for operation, all_hosts in ((frames.withdraw, False), (frames.readmit, True)):
            for learned in (False, True):
                blocks.learn(index, learned)
                with frames.LOCK:
                    assert operation(at) is None
                    assert blocks.known(index) == blocks.UNKNOWN
                    assert frames.is_hosts(at) is all_hosts
                    assert (frames.readmit if operation is frames.withdraw else frames.withdraw)(at) is None
            with frames.LOCK:
                assert operation(at) is None


def test_pins_end_at_their_limit() -> None:
    with machine_with_frames(), frames.LOCK:
        frames.ENTRIES[0].store(FrameEntry(state=State.HOST, pins=u16(4094)).raw, frames.Order.RELEASE)
        assert frames.pin(Pa(u64(RAM))) is None
        assert frames.pin(Pa(u64(RAM))) == Err.BUSY
        assert frames.unpin(Pa(u64(RAM))) is None


@settings(max_examples=100, deadline=None)
@given(
    banks=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12), *[st.sampled_from([0, 1, PAGE - 1])] * 2), max_size=20),
)
def test_banks_are_whole_frames_without_overlap(banks: list[tuple[int, int, int, int]]) -> None:
    forget_statics()
    owned: list[int] = []
    added = 0
    for start, length, low, high in banks:
        base, size = start * PAGE + low, length * PAGE + high
        whole = [at for at in range(start, start + length + 2) if base <= at * PAGE and (at + 1) * PAGE <= base + size]
        got = frames.add_bank(Pa(u64(base)), u64(size))
        if not whole:
            assert got is None
        elif set(whole) & set(owned):
            assert got == Err.EXISTS
        elif added == 16:
            assert got == Err.NO_MEMORY
        else:
            assert got is None
            added += 1
            owned += whole
    for at in range(60):
        index = frames.index_of(Pa(u64(at * PAGE)))
        assert index == u64(owned.index(at)) if at in owned else index is None
    assert frames.table_size() == (len(owned) * 8 + PAGE - 1) // PAGE * PAGE + (PAGE if owned else 0), "entries, and two words for each 512"


def test_ram_beyond_48_bits_is_refused() -> None:
    forget_statics()
    assert frames.add_bank(Pa(u64(1 << 48)), u64(PAGE)) == Err.RANGE
    assert frames.add_bank(Pa(u64(2**64 - PAGE)), u64(PAGE)) == Err.RANGE
    assert frames.add_bank(Pa(u64((1 << 48) - PAGE)), u64(2 * PAGE)) == Err.RANGE
    assert frames.add_bank(Pa(u64((1 << 48) - PAGE)), u64(PAGE)) is None
    assert frames.index_of(Pa(u64((1 << 48) - 1))) == u64(0)


def test_the_table_starts_as_el2s_whatever_was_in_its_memory() -> None:
    with Machine(RAM, RAM_SIZE) as machine:
        forget_statics()
        assert frames.add_bank(Pa(u64(RAM)), u64(RAM_SIZE)) is None
        machine.memory.write(FRAMES_AT, b"\xff" * int(frames.table_size()), True)
        assert frames.attach(Pa(u64(FRAMES_AT + 8))) == Err.ALIGNMENT
        assert frames.attach(Pa(u64(FRAMES_AT))) is None
        assert all(frames.entry_at(u64(i)) == FrameEntry(state=State.EL2) for i in range(RAM_SIZE // PAGE))


@pytest.mark.parametrize("raw", [5, 15, 1 << 16, 1 << 28, 0x10, 1 | 1 << 16, 1 | 1 << 28, 2, 3, 4, 2 | 1 << 16 | 0x10])
def test_unsound_entries_are_seen(raw: int) -> None:
    assert not invariants.entry_is_sound(FrameEntry.of(u64(raw)))


def test_two_live_frames_at_one_page_are_seen() -> None:
    private, shared, busy = (FrameEntry(state=state, owner=u16(1), page=u64(7)) for state in (State.PRIVATE, State.SHARED, State.BUSY))
    other = FrameEntry(state=State.PRIVATE, owner=u16(2), page=u64(7))
    assert not invariants.entries_are_exclusive(private, shared)
    assert not invariants.entries_are_exclusive(private, private)
    assert invariants.entries_are_exclusive(private, other)
    assert invariants.entries_are_exclusive(private, busy)


def test_of_two_cpus_one_gets_the_frame() -> None:
    """One CPU pins what the other takes: never both, in any order, and never neither."""
    results: list[tuple[str, Err | None]] = []

    def build() -> Scenario:
        results.clear()

        def pinner() -> None:
            with frames.LOCK:
                results.append(("pin", frames.pin(Pa(u64(RAM)))))

        def taker() -> None:
            with frames.LOCK:
                results.append(("take", frames.take(Pa(u64(RAM)), u16(1), Ipa(u64(0)))))

        def check() -> None:
            assert sorted(results, key=str) in (
                [("pin", None), ("take", Err.BUSY)],
                [("pin", Err.OWNER), ("take", None)],
            )

        return Scenario(Machine(RAM, RAM_SIZE, 2), [pinner, taker], check, prepare=make_frames)

    explored = explore(build, preemptions=2)
    assert explored.complete
    assert explored.runs > 10
