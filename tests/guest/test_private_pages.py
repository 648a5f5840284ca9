# SPDX-License-Identifier: Apache-2.0
"""Pages of protected guests, each move of a page by itself: who reaches it afterwards, what they read, and that an error changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from private_world import EXECUTE, FIRST, HOST_AT, IPA, ORDINARY, PAGE, SECOND, WRITE, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Stage2Leaf
from delphyne.el2.guest import ending, guards, lent, moving, private, steps, touch, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import seats
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.memory import flush, frames, host_map, pages, shadow, stage2
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, Pa, Trap, u64
from delphyne.lang.machine import MachineError

A, B, C = HOST_AT, HOST_AT + PAGE, HOST_AT + 2 * PAGE
HELLO = b"hello".ljust(PAGE, b"\0")
OPERATIONS: tuple[Callable[..., object], ...] = (
    private.export, private.give_up, private.end, private.share, private.unshare, private.retreat, private.reveal,
)  # fmt: skip


def books(world: World) -> tuple[object, ...]:
    """What an operation that fails must leave as it was."""
    entries = tuple(int(world.entry(HOST_AT + n * PAGE).raw) for n in range(8))
    ledger = (int(records.LEDGER.promised), int(records.LEDGER.taken))
    seen = tuple(world.reach(who, at) for who in (None, FIRST, SECOND) for at in (A, B, IPA, IPA + PAGE))
    return entries, ledger, seen, world.leaves(FIRST), world.leaves(SECOND), world.leaves(ORDINARY)


def test_first_touch_zeroes_and_takes_the_page_from_the_host() -> None:
    with a_world() as world:
        world.put(None, A, b"the host's")
        assert world.admit(FIRST, IPA, A) is None
        world.check()
        assert world.content(FIRST, IPA) == bytes(PAGE)
        assert world.content(None, A) is None
        assert world.reach(FIRST, IPA, EXECUTE) == A
        assert (world.entry(A).state, int(world.entry(A).owner), int(world.entry(A).page) * PAGE) == (State.PRIVATE, FIRST + 1, IPA)


@pytest.mark.parametrize(("quick", "pieces"), [(True, False), (True, True), (False, False), (False, True)])
def test_the_hosts_touch_exports_and_the_page_comes_back_in_another_frame(quick: bool, pieces: bool) -> None:
    with a_world(quick=quick, pieces=pieces) as world:
        assert world.admit(FIRST, IPA, A) is None
        world.put(FIRST, IPA, HELLO)
        shown = world.touch(A)
        world.check()
        assert shown is not None
        assert b"hello" not in shown
        assert world.content(FIRST, IPA) is None
        world.put(None, B, shown)
        assert world.admit(FIRST, IPA, B) is None
        world.check()
        assert world.content(FIRST, IPA) == HELLO
        assert world.content(None, A) == shown


@pytest.mark.parametrize("pieces", [False, True])
def test_the_same_page_never_looks_the_same_twice(pieces: bool) -> None:
    with a_world(pieces=pieces) as world:
        seen = set()
        for _ in range(5):
            assert world.admit(FIRST, IPA, A) is None
            if not seen:
                world.put(FIRST, IPA, HELLO)
            shown = world.touch(A)
            assert shown is not None
            seen.add(shown)
        assert len(seen) == 5


def exported(world: World, number: int, ipa: int, pa: int, data: bytes) -> bytes:
    """The page with this content, exported; what the host got."""
    assert world.admit(number, ipa, pa) is None
    world.put(number, ipa, data)
    shown = world.touch(pa)
    assert shown is not None
    return shown


@pytest.mark.parametrize("pieces", [False, True])
def test_what_was_altered_replayed_or_moved_is_refused_and_stays_the_hosts(pieces: bool) -> None:
    with a_world(pieces=pieces) as world:
        old = exported(world, FIRST, IPA, A, b"old")
        assert world.admit(FIRST, IPA, A) is None
        world.put(FIRST, IPA, b"new")
        new = world.touch(A)
        assert new is not None
        other = exported(world, FIRST, IPA + PAGE, B, b"other page")
        foreign = exported(world, SECOND, IPA, C, b"other guest")
        for wrong in (old, other, foreign, bytes([new[0] ^ 1]) + new[1:], bytes(PAGE)):
            world.put(None, A, wrong)
            before = books(world)
            assert world.admit(FIRST, IPA, A) is Err.INTEGRITY
            world.check()
            assert books(world) == before
            assert world.content(None, A) == wrong
        world.put(None, A, new)
        assert world.admit(FIRST, IPA, A) is None
        assert world.content(FIRST, IPA) == b"new".ljust(PAGE, b"\0")


def test_a_clean_page_is_measured_and_comes_back_read_only() -> None:
    with a_world() as world:
        world.put(None, A, b"public")
        assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(A)), Rights(True, False, True)) is None
        world.page(private.reveal, FIRST, IPA)
        assert (world.reach(FIRST, IPA), world.reach(FIRST, IPA, WRITE), world.reach(FIRST, IPA, EXECUTE)) == (A, None, A)
        assert world.touch(A) == b"public".ljust(PAGE, b"\0")
        assert world.admit(FIRST, IPA, A) is None
        assert (world.reach(FIRST, IPA), world.reach(FIRST, IPA, WRITE), world.reach(FIRST, IPA, EXECUTE)) == (A, None, A)
        assert world.page(private.share, FIRST, IPA) is Err.PERMISSION
        world.put(None, B, b"public, altered")
        assert world.touch(A) is not None
        assert world.admit(FIRST, IPA, B) is Err.INTEGRITY
        world.check()


def test_a_held_page_is_nobodys_to_reach_and_goes_back_as_it_came_or_zeroed() -> None:
    with a_world() as world:
        for back, committed, left in ((private.end, False, b"image"), (private.end, True, b""), (private.give_up, False, b"")):
            GUARDS.slots[FIRST].committed = committed
            world.put(None, A, b"image")
            assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(A)), steps.FULL) is None
            assert (world.content(None, A), world.content(FIRST, IPA)) == (None, None)
            assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(B)), steps.FULL) is Err.EXISTS
            world.page(back, FIRST, IPA)
            world.check()
            assert world.content(None, A) == left.ljust(PAGE, b"\0")


def test_a_held_page_is_exported_and_comes_back() -> None:
    with a_world() as world:
        world.put(None, A, b"image")
        assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(A)), steps.FULL) is None
        shown = world.touch(A)
        assert shown is not None
        assert b"image" not in shown
        assert world.admit(FIRST, IPA, A) is None
        assert world.content(FIRST, IPA) == b"image".ljust(PAGE, b"\0")
        world.check()


def test_sharing_lets_both_in_and_its_end_keeps_what_is_there() -> None:
    with a_world() as world:
        assert world.admit(FIRST, IPA, A) is None
        world.put(FIRST, IPA, b"to the host")
        assert world.page(private.share, FIRST, IPA) is None
        world.check()
        assert world.content(None, A) == b"to the host".ljust(PAGE, b"\0")
        world.put(None, A, b"to the guest")
        assert world.content(FIRST, IPA) == b"to the guest".ljust(PAGE, b"\0")
        assert world.reach(FIRST, IPA, EXECUTE) is None
        assert world.page(private.share, FIRST, IPA) is Err.STATE
        assert world.page(private.unshare, FIRST, IPA) is None
        world.check()
        assert world.content(None, A) is None
        assert world.content(FIRST, IPA) == b"to the guest".ljust(PAGE, b"\0")
        assert world.page(private.unshare, FIRST, IPA) is Err.STATE


def test_a_shared_page_whose_frame_the_host_takes_is_lent_again_from_another() -> None:
    with a_world() as world:
        assert world.page(private.share, FIRST, IPA) is None
        assert world.admit(FIRST, IPA, A) is None
        assert world.entry(A).state is State.SHARED
        world.page(private.retreat, FIRST, IPA)
        world.check()
        assert (world.entry(A).state, world.content(FIRST, IPA)) == (State.HOST, None)
        world.put(None, B, b"moved by the host")
        assert world.admit(FIRST, IPA, B) is None
        assert world.content(FIRST, IPA) == b"moved by the host".ljust(PAGE, b"\0")
        world.page(private.retreat, FIRST, IPA)
        assert world.page(private.unshare, FIRST, IPA) is None
        assert world.admit(FIRST, IPA, B) is None
        assert world.content(FIRST, IPA) == bytes(PAGE)
        world.check()


def test_a_frame_has_one_owner_at_a_time() -> None:
    with a_world() as world:
        assert world.admit(FIRST, IPA, A) is None
        before = books(world)
        for number, ipa in ((FIRST, IPA + PAGE), (SECOND, IPA)):
            assert world.admit(number, ipa, A) is Err.OWNER
        for outside in (HOST_AT - PAGE, 0x0900_0000):
            assert world.admit(FIRST, IPA + PAGE, outside) in (Err.OWNER, Err.RANGE)
        with frames.LOCK:
            assert frames.pin(Pa(u64(B))) is None
        assert world.admit(FIRST, IPA + PAGE, B) is Err.BUSY
        with frames.LOCK:
            assert frames.unpin(Pa(u64(B))) is None
        assert world.admit(FIRST, 1 << 40, B) is Err.RANGE
        assert books(world) == before
        world.check()


def test_an_ordinary_guest_loses_what_a_protected_one_gets() -> None:
    with a_world() as world:
        world.lend_to_ordinary(0x1000_0000, A)
        assert world.reach(ORDINARY, 0x1000_0000) == A
        assert world.admit(FIRST, IPA, A) is None
        assert world.reach(ORDINARY, 0x1000_0000) is None
        world.check()


def test_a_guest_that_is_becoming_protected_loses_what_another_gets() -> None:
    """Whether or not there is an ordinary guest beside them. What it runs from is the host's, as are an ordinary guest's pages."""
    with a_world() as world:
        world.begin(ORDINARY)
        assert world.lend_to_stub(ORDINARY, IPA, A) is None
        assert world.reach(ORDINARY, IPA, WRITE) == A
        assert world.admit(FIRST, IPA, A) is None
        assert world.reach(ORDINARY, IPA) is None
        world.check()


@pytest.mark.parametrize("what", ["records", "guests' tables", "the host's tables"])
def test_what_is_lacking_is_said_before_anything_is_done(what: str) -> None:
    with a_world(count=0 if what == "records" else 8) as world:
        pool = {"guests' tables": PoolName.GUESTS, "the host's tables": PoolName.HOST}.get(what)
        if pool is not None:
            while not isinstance(pages.allocate(pool), Err):
                pass
        before = books(world)
        assert world.admit(FIRST, IPA, A) is Err.NO_MEMORY
        assert world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(A)), steps.FULL) is Err.NO_MEMORY
        assert books(world) == before
        world.check()


def test_a_share_cannot_be_taken_back_without_a_record() -> None:
    with a_world(count=1) as world:
        assert world.admit(FIRST, IPA, A) is None
        assert world.page(private.share, FIRST, IPA) is None
        assert world.admit(FIRST, IPA + PAGE, B) is None
        before = books(world)
        assert world.page(private.unshare, FIRST, IPA) is Err.NO_MEMORY
        assert books(world) == before
        world.page(private.give_up, FIRST, IPA + PAGE)
        assert world.page(private.unshare, FIRST, IPA) is None
        world.check()


def make_ordinary_leaf(world: World) -> None:
    """What stands in a guest's table while it becomes protected: a leaf of the host's page."""
    raw = private.stage2.attributes(private.Stage2Memory.NORMAL, steps.FULL)
    with frames.LOCK, GUESTS_LOCK:
        host = shadow.HostLeaf(u64(3), u64(A), Stage2Leaf.of(raw | 0b11))
        assert shadow.fill(vms.VMS.slots[FIRST].shadow, Ipa(u64(IPA)), host) is None


STATES: dict[str, Callable[[World], object]] = {
    "no table": lambda world: None,
    "untouched": lambda world: world.do(shadow.deepen, vms.VMS.slots[FIRST].shadow, Ipa(u64(IPA))),
    "private": lambda world: world.admit(FIRST, IPA, A),
    "exported": lambda world: exported(world, FIRST, IPA, A, b"x"),
    "held": lambda world: world.do(private.hold, u64(FIRST), Ipa(u64(IPA)), Pa(u64(A)), steps.FULL),
    "shared": lambda world: (world.admit(FIRST, IPA, A), world.page(private.share, FIRST, IPA)),
    "lent": lambda world: world.page(private.share, FIRST, IPA),
    "a host's page": make_ordinary_leaf,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_no_operation_traps_on_any_page(state: str, operation: Callable[..., object]) -> None:
    with a_world() as world:
        STATES[state](world)
        done = world.page(operation, FIRST, IPA)
        assert done is None or isinstance(done, Err)
        if state != "a host's page":
            world.check()


def test_the_end_gives_everything_back_zeroed() -> None:
    with a_world() as world:
        for n in range(6):
            assert world.admit(FIRST, IPA + n * PAGE, HOST_AT + n * PAGE) is None
            world.put(FIRST, IPA + n * PAGE, b"secret")
        assert world.page(private.share, FIRST, IPA) is None
        assert world.touch(B) is not None
        pieces = 0
        while not world.do(ending.end_some, u64(FIRST)):
            pieces += 1
            assert pieces < 10000
        assert guards.ALIVE[FIRST].load(guards.Order.ACQUIRE) == 0
        assert not GUARDS.slots[FIRST].used
        assert int(records.LEDGER.promised) == 0
        for n in range(2, 6):
            assert world.content(None, HOST_AT + n * PAGE) == bytes(PAGE)


def test_a_stopped_guests_page_is_zeroed_and_not_exported() -> None:
    with a_world() as world:
        assert world.admit(FIRST, IPA, A) is None
        world.put(FIRST, IPA, HELLO)
        with GUESTS_LOCK:
            guards.stop(u64(FIRST))
        assert GUARDS.slots[FIRST].phase is Phase.STOPPED
        assert world.touch(A) == bytes(PAGE)
        assert int(records.LEDGER.taken) == 0


def test_what_the_host_touches_of_a_vm_that_is_gone_is_zeroed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seats, "_is_gone", lambda found, vm: int(vm) == FIRST)
    with a_world() as world:
        assert world.admit(FIRST, IPA, A) is None
        assert world.admit(SECOND, IPA, B) is None
        world.put(FIRST, IPA, HELLO)
        world.put(SECOND, IPA, HELLO)
        for pa in (A, B, HOST_AT + 40 * PAGE):
            world.do(seats.stop_if_gone, Layout(), Pa(u64(pa)))
        assert world.touch(A) == bytes(PAGE)
        assert int(records.LEDGER.taken) == 0
        assert GUARDS.slots[SECOND].phase is Phase.PROTECTED
        assert world.touch(B) not in (bytes(PAGE), HELLO.ljust(PAGE, b"\0"))
        world.check()


def test_the_hosts_touch_of_its_own_and_of_el2s() -> None:
    with a_world() as world:
        assert world.do(touch.serve, Pa(u64(A))) is True
        assert world.do(touch.serve, Pa(u64(HOST_AT - PAGE))) is False
        assert world.do(touch.serve, Pa(u64(0x0900_0000))) is False


# --- seeded faults: each is caught by what the tests above look at ------------------------------------------------------------------------------


def everything(world: World) -> None:
    """A page's whole life, looked at after each step."""
    world.lend_to_ordinary(0x1000_0000, B)
    world.put(None, A, b"before")
    assert world.admit(FIRST, IPA, A) is None
    assert world.content(FIRST, IPA) == bytes(PAGE)
    world.put(FIRST, IPA, HELLO)
    world.check()
    first = world.touch(A)
    assert first is not None
    assert b"hello" not in first
    world.check()
    assert world.admit(FIRST, IPA, A) is None
    assert world.content(FIRST, IPA) == HELLO
    second = world.touch(A)
    assert second != first
    world.put(None, A, first)
    assert world.admit(FIRST, IPA, A) is Err.INTEGRITY
    world.put(None, A, second or b"")
    assert world.admit(FIRST, IPA, A) is None
    world.page(private.give_up, FIRST, IPA)
    assert world.content(None, A) == bytes(PAGE)
    world.check()
    assert world.admit(FIRST, IPA, B) is None
    assert world.reach(ORDINARY, 0x1000_0000) is None
    world.check()
    with frames.LOCK:
        assert frames.pin(Pa(u64(C))) is None
    assert world.admit(FIRST, IPA + PAGE, C) is Err.BUSY


def no_verification(step: Callable[..., object]) -> Callable[..., object]:
    def changed(*arguments: object) -> object:
        done = step(*arguments)
        return True if isinstance(done, Err) else done

    return changed


FAULTS: dict[str, tuple[object, str, Callable[[object], object]]] = {
    "a TLB flush is skipped": (flush, "stage2_address", lambda real: lambda *_: None),
    "the host's map keeps the page": (host_map, "remove", lambda real: lambda *_: None),
    "a version is used again": (guards, "next_version", lambda real: lambda *_: u64(1)),
    "nothing is verified": (moving.sealed, "step", no_verification),  # type: ignore[dict-item]
    "an ordinary guest keeps its leaf": (steps, "drop_ordinary", lambda real: lambda *_: None),
    "a pin is forgotten": (frames, "pin", lambda real: lambda *_: None),
    "a record is not put back": (records, "put", lambda real: lambda *_: None),
    "caches are not cleaned": (steps, "clean_range", lambda real: lambda *_: None),
}


@pytest.mark.parametrize("pieces", [False, True])
def test_the_life_of_a_page(pieces: bool) -> None:
    with a_world(pieces=pieces) as world:
        everything(world)


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_seeded_fault_is_caught(fault: str, pieces: bool) -> None:
    where, name, change = FAULTS[fault]
    with a_world(pieces=pieces) as world, mock.patch.object(where, name, change(getattr(where, name))):
        try:
            everything(world)
        except (AssertionError, Trap, MachineError):
            return
    raise AssertionError("nobody noticed")


def test_a_page_beyond_the_guests_addresses_is_not_lent() -> None:
    """The host's own table may have more addresses than the guest's."""
    leaf = Stage2Leaf.of(stage2.attributes(stage2.Stage2Memory.NORMAL, steps.FULL) | 0b11)
    with a_world() as world:
        before = books(world)
        for shift in range(int(steps.space_of(u64(FIRST)).bits), 49):
            with frames.LOCK, GUESTS_LOCK:
                assert lent.fill(u64(FIRST), Ipa(u64(1 << shift)), shadow.HostLeaf(u64(3), u64(A), leaf)) is Err.RANGE
        assert books(world) == before


@pytest.mark.parametrize("committed", [True, False])
def test_the_end_of_a_guest_finds_every_page_at_the_edges_of_its_tables(committed: bool) -> None:
    """A piece looks for a table once: the page behind its last one stands in another, which may be there or not."""
    places = (0, 1, 510, 511, 512, 1023, 1025, 3 * 512, 4 * 512 - 1, 511 * 512 + 511, 512 * 512, 513 * 512)
    with a_world() as world:
        for number, place in enumerate(places):
            world.put(None, HOST_AT + number * PAGE, HELLO)
            held = world.do(private.hold, u64(FIRST), Ipa(u64(IPA + place * PAGE)), Pa(u64(HOST_AT + number * PAGE)), steps.FULL)
            assert held is None
        guard, looked = GUARDS.slots[FIRST], 0
        guard.committed = committed
        with mock.patch.object(ending, "STEPS", u64(100)):
            while not world.do(ending._give_back_some, u64(FIRST)):
                looked += 1
        assert looked > 4 * 512 // 100, "so many slots in a piece, and no more"
        assert int(guard.private) == 0
        for number in range(len(places)):
            assert world.entry(HOST_AT + number * PAGE).state is State.HOST
            assert world.content(None, HOST_AT + number * PAGE) == (bytes(PAGE) if committed else HELLO)
        world.check()
