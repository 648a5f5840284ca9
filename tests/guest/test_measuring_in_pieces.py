# SPDX-License-Identifier: Apache-2.0
"""MEASURE in pieces, as without the crypto extensions: who may do what between two of them, and that each digest is over what was taken."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest import mock

import pytest
from calling_guest import drawing
from private_world import FIRST, HOST_AT, IPA, ORDINARY, PAGE, a_world
from test_becoming_protected import AGAIN, BEGIN, COMMIT, CONTENT, DENIED, IMAGE, MEASURE, PAPER, PAPER_AT, SOUND, Stub

from delphyne.board.protected_image import EXECUTE, READ, WRITE
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import ending, measuring, moving, private, processors, registers, steps, touch, turns, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.guest.steps import Fate
from delphyne.el2.kvm import protected_flushes, seats
from delphyne.el2.kvm.exit_codes import COMMITTED, EXIT_IRQ, GUEST_GOES_ON
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import entropy, generator, records
from delphyne.lang import Ipa, Pa, Slice, u8, u64, wipe

PIECE = int(measuring.PIECE)
PIECES, EXPORT = PAGE // PIECE, PAGE // int(moving.PIECE)
"""Of a page that is measured, and of one that goes to the host."""
OTHER = HOST_AT + 12 * PAGE


@pytest.fixture
def stub() -> Iterator[Stub]:
    """It has called BEGIN."""
    with a_world(pieces=True, cpus=2) as world, drawing():
        try:
            made = Stub(world)
            assert made.answer(BEGIN, PAPER_AT) == 0
            yield made
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)
            wipe(seats.SEATS.mine())


def index_of(stub: Stub) -> u64:
    return u64(stub.world.guard(ORDINARY))


def page_at(number: int) -> Ipa:
    return Ipa(u64(IPA + number * PAGE))


def so_far(stub: Stub) -> tuple[int, int, int]:
    """Segment, page and bytes of it."""
    guard = GUARDS.slots[index_of(stub)]
    return int(guard.segment), int(guard.page), int(guard.measured)


def measured(stub: Stub, pieces: int) -> None:
    """So many pieces by calls of the guest's."""
    for _ in range(pieces):
        assert stub.answer(MEASURE) == AGAIN


def fate_of(stub: Stub, number: int) -> Fate:
    absent = steps.absent_of(stub.world.do(steps.look, index_of(stub), page_at(number)))  # type: ignore[arg-type]
    return absent.fate


def nobody_reaches(stub: Stub, number: int) -> None:
    """A page that is measured in part is the guest's alone, mapped nowhere."""
    world, pa = stub.world, IMAGE + number * PAGE
    assert world.entry(pa).state is State.PRIVATE
    assert fate_of(stub, number) is Fate.HELD
    assert world.reach(None, pa) is None
    assert world.reach(ORDINARY, IPA + number * PAGE) is None
    assert world.lend_to_stub(ORDINARY, IPA + number * PAGE, OTHER) is Err.EXISTS
    world.check()


def begins_protected(stub: Stub, pages: int = 2) -> None:
    """What is left is measured, and the guest has its image."""
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)
    for number in range(pages):
        if fate_of(stub, number) is Fate.HELD:
            stub.world.page(private.reveal, ORDINARY, IPA + number * PAGE)
        assert stub.world.content(ORDINARY, IPA + number * PAGE) == CONTENT[number]
    stub.world.check()


def stays_ordinary(stub: Stub) -> None:
    """The image is not what the manifest says: every page goes back as it came, or as the host got it meanwhile."""
    assert stub.measure() == DENIED
    assert vms.VMS.slots[ORDINARY].guard == 0
    assert {stub.world.entry(IMAGE + number * PAGE).state for number in range(2)} == {State.HOST}
    stub.world.check()


def test_a_page_is_so_many_stays_and_nobody_reaches_it_meanwhile(stub: Stub) -> None:
    for number in range(2):
        for piece in range(PIECES):
            assert so_far(stub) == (0, number, piece * PIECE)
            with mock.patch.object(turns, "over", wraps=turns.over) as over:
                measured(stub, 1)
            assert over.call_count == 1, "one piece in a stay, and a turn for each"
            nobody_reaches(stub, number)
            if (number, piece) != (1, PIECES - 1):
                assert stub.answer(COMMIT) == DENIED
            assert stub.answer(BEGIN, PAPER_AT) == DENIED
    assert so_far(stub) == (1, 0, 0)
    begins_protected(stub)


def test_the_crypto_extensions_measure_several_pages_in_one_stay_and_turn() -> None:
    with a_world() as world, drawing():
        try:
            made = Stub(world)
            assert made.answer(BEGIN, PAPER_AT) == 0
            with mock.patch.object(turns, "is_mine", return_value=False):
                assert made.call(MEASURE)[0] == int(EXIT_IRQ)
                assert so_far(made) == (0, 0, 0)
            with mock.patch.object(turns, "over") as over:
                assert made.answer(MEASURE) == 0
            assert over.call_count == 1, "eight of them are a piece"
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)


SEGMENTS = ((READ | EXECUTE, 2), (READ | WRITE, 1), (READ, 3), (READ | WRITE | EXECUTE, 1))
"""Rights and pages, one segment behind the other."""


def test_pages_of_all_kinds_are_measured_and_become_what_the_manifest_says() -> None:
    """Also with seeds: the page is measured as it came, all of it, and then gets them."""
    contents = [bytes([n]) * 100 + hashlib.shake_256(bytes([n])).digest(PAGE - 100) for n in range(sum(pages for _, pages in SEGMENTS))]
    segments, first = [], 0
    for rights, pages in SEGMENTS:
        segments.append((IPA + first * PAGE, pages, rights, hashlib.sha256(b"".join(contents[first : first + pages])).digest()))
        first += pages
    tree, seed = IPA + 2 * PAGE, IPA + 2 * PAGE + PAGE - 32
    paper = replace(SOUND, segments=tuple(segments), entry=IPA, tree=tree, tree_size=PAGE, rng_seed=seed, kaslr_seed=tree)
    with a_world(pieces=True) as world, drawing():
        try:
            made = Stub(world)
            for number, content in enumerate(contents):
                world.put(None, IMAGE + number * PAGE, content)
                made.host.lead(IPA + number * PAGE, IMAGE + number * PAGE)
            world.put(None, PAPER, paper.pack())
            made.host.lead(PAPER_AT, PAPER)
            assert made.answer(BEGIN, PAPER_AT) == 0
            with mock.patch.object(generator, "fill", filled):
                measured(made, PIECES * len(contents))
            assert made.answer(MEASURE) == 0
            assert made.call(COMMIT)[0] == int(COMMITTED)
            number = 0
            for rights, pages in SEGMENTS:
                for _ in range(pages):
                    world.page(private.reveal, ORDINARY, IPA + number * PAGE)
                    wanted = contents[number]
                    if number == 2:
                        wanted = b"\xee" * 8 + wanted[8:-32] + b"\xee" * 32
                    assert world.content(ORDINARY, IPA + number * PAGE) == wanted
                    raw = world.descriptors(ORDINARY)[IPA + number * PAGE]
                    assert (bool(raw >> 7 & 1), not raw >> 54 & 1) == (bool(rights & WRITE), bool(rights & EXECUTE))
                    number += 1
            world.check()
        finally:
            wipe(processors.PROCESSORS)
            wipe(registers.MEMORY)
            wipe(entropy.SOURCES)


def filled(area: object, out: Slice[u8]) -> None:
    """In place of the generator."""
    out.fill(u8(0xEE))


@pytest.mark.parametrize("at", [0, PIECE - 1, PIECE, 2 * PIECE + 77, PAGE - PIECE, PAGE - 1])
@pytest.mark.parametrize("number", [0, 1])
def test_every_byte_of_every_piece_counts(stub: Stub, number: int, at: int) -> None:
    altered = bytearray(CONTENT[number])
    altered[at] ^= 1
    stub.world.put(None, IMAGE + number * PAGE, bytes(altered))
    stays_ordinary(stub)
    assert stub.world.content(None, IMAGE + number * PAGE) == bytes(altered)


@pytest.mark.parametrize("pieces", [1, PIECES - 1])
@pytest.mark.parametrize("wants", ["touch", "unmap"])
def test_a_host_that_wants_the_page_measures_it_to_its_end_before_it_leaves(stub: Stub, pieces: int, wants: str) -> None:
    """The host reads or unmaps it: a piece of the measurement with each try, then one of the export. The rest is measured by the guest's calls."""
    world = stub.world
    measured(stub, pieces)
    stub.host.lead_nowhere(IPA)

    def try_it() -> None:
        if wants == "touch":
            assert world.do(touch.serve, Pa(u64(IMAGE))) is True
        else:
            done = world.do(protected_flushes.pages, u64(ORDINARY), page_at(0), u64(1))
            assert (done is None) == (world.entry(IMAGE).state is State.HOST)

    for piece in range(pieces, PIECES):
        assert so_far(stub) == (0, 0, piece * PIECE)
        nobody_reaches(stub, 0)
        try_it()
    assert so_far(stub) == (0, 1, 0)
    nobody_reaches(stub, 0)
    for _ in range(EXPORT):
        assert world.entry(IMAGE).state is not State.HOST
        try_it()
    assert world.entry(IMAGE).state is State.HOST
    assert world.content(None, IMAGE) != CONTENT[0]
    assert fate_of(stub, 0) is Fate.EXPORTED
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)
    assert world.admit(ORDINARY, IPA, IMAGE) is None
    assert world.content(ORDINARY, IPA) == CONTENT[0]


def test_the_host_takes_a_page_that_was_measured_while_the_next_one_is(stub: Stub) -> None:
    """It does no piece of the other page's, whose digest goes on where it was."""
    world = stub.world
    measured(stub, PIECES + 1)
    for _ in range(EXPORT):
        assert so_far(stub) == (0, 1, PIECE)
        assert world.do(touch.serve, Pa(u64(IMAGE))) is True
    assert world.entry(IMAGE).state is State.HOST
    nobody_reaches(stub, 1)
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)
    assert world.admit(ORDINARY, IPA, IMAGE) is None
    assert world.content(ORDINARY, IPA) == CONTENT[0]


@pytest.mark.parametrize("pieces", [1, PIECES - 1])
def test_another_frame_in_the_hosts_table_is_not_what_is_measured(stub: Stub, pieces: int) -> None:
    """Neither is the one that was taken changed through it."""
    world = stub.world
    measured(stub, pieces)
    world.put(None, OTHER, b"what the host would rather have measured")
    stub.host.lead(IPA, OTHER)
    measured(stub, PIECES - pieces)
    assert world.entry(OTHER).state is State.HOST
    begins_protected(stub)


def test_the_frame_is_nobody_elses_meanwhile(stub: Stub) -> None:
    world = stub.world
    measured(stub, 1)
    with frames.LOCK:
        assert frames.pin(Pa(u64(IMAGE))) is Err.OWNER
    assert world.admit(FIRST, IPA, IMAGE) is Err.OWNER
    assert world.do(private.hold, index_of(stub), page_at(0), Pa(u64(OTHER)), steps.FULL) is Err.EXISTS
    assert world.do(private.hold, index_of(stub), page_at(5), Pa(u64(IMAGE)), steps.FULL) is Err.OWNER
    stub.host.lead(IPA + PAGE, IMAGE)
    measured(stub, PIECES - 1)
    assert stub.answer(MEASURE) == DENIED, "one frame for two pages"
    stub.host.lead(IPA + PAGE, IMAGE + PAGE)
    begins_protected(stub)


def test_nothing_is_measured_out_of_turn(stub: Stub) -> None:
    """Whether the guest asks or the host, and between two pieces too."""
    world, index = stub.world, index_of(stub)
    for pieces in range(PIECES):
        assert so_far(stub) == (0, 0, pieces * PIECE)
        before = stub.seen()
        with mock.patch.object(turns, "is_mine", return_value=False), mock.patch.object(turns, "over") as over:
            assert stub.call(MEASURE)[0] == int(EXIT_IRQ)
            assert int(world.machine.read_register("ELR_EL2")) == 0x1000 - 4, "the guest makes its call again"
            if pieces:
                with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
                    assert private.export(index, page_at(0)) is Err.BUSY
            assert not over.called
        assert {key for key, x in stub.seen().items() if before.get(key) != x} <= {"ELR_EL2"}
        measured(stub, 1)


def test_pieces_by_turns_on_two_cpus(stub: Stub) -> None:
    """The state of the digest belongs to the guard: the host moves the vCPU, and touches the page on the other CPU meanwhile."""
    machine = stub.world.machine
    for name, x in machine.cpus[0].registers.items():
        machine.cpus[1].registers.setdefault(name, x)
    for number in range(PIECES):
        with machine.on(1 - number % 2):
            measured(stub, 1)
        with machine.on(number % 2):
            assert stub.world.do(touch.serve, Pa(u64(IMAGE))) is True
        if so_far(stub)[1] == 1:
            break
    assert so_far(stub) == (0, 1, 0)
    assert stub.measure() == 0
    assert stub.call(COMMIT)[0] == int(COMMITTED)


@pytest.mark.parametrize("end", ["the VM", "the machine"])
@pytest.mark.parametrize("pieces", [1, PIECES - 1, PIECES + 2])
def test_a_host_that_ends_the_vm_in_the_middle_has_its_pages_as_they_were(stub: Stub, pieces: int, end: str) -> None:
    """And the next guest in that place begins its digest anew."""
    world, index = stub.world, index_of(stub)
    measured(stub, pieces)
    operation: Callable[..., object] = ending.end_some if end == "the VM" else ending.wipe_next
    for _ in range(4096):
        if world.do(operation, *([index] if end == "the VM" else [])):
            break
    assert [world.content(None, IMAGE + number * PAGE) for number in range(2)] == list(CONTENT)
    assert (int(records.LEDGER.promised), int(records.LEDGER.taken)) == (0, 0)
    world.check()
    if end == "the machine":
        stays_ordinary(stub)
    stub.seat.guard = u64(0)
    assert stub.answer(BEGIN, PAPER_AT) == 0
    assert index_of(stub) == index
    assert so_far(stub) == (0, 0, 0)
    begins_protected(stub)


def test_a_host_that_does_the_last_piece_of_a_wrong_image_has_its_page_as_it_came(stub: Stub) -> None:
    """It finds out itself, and the guest at its next call. Nothing of the image is zeroed."""
    world, altered = stub.world, CONTENT[1][:-1] + b"\0"
    world.put(None, IMAGE + PAGE, altered)
    measured(stub, 2 * PIECES - 1)
    assert world.do(touch.serve, Pa(u64(IMAGE + PAGE))) is True
    assert GUARDS.slots[index_of(stub)].phase is Phase.STOPPED
    nobody_reaches(stub, 1)
    for number in (1, 0):
        assert world.do(touch.serve, Pa(u64(IMAGE + number * PAGE))) is True
        assert world.content(None, IMAGE + number * PAGE) == (CONTENT[0], altered)[number]
    code, _ = stub.call(MEASURE)
    assert code in (int(EXIT_IRQ), int(GUEST_GOES_ON))
    stays_ordinary(stub)
    assert [world.content(None, IMAGE + number * PAGE) for number in range(2)] == [CONTENT[0], altered]

