# SPDX-License-Identifier: Apache-2.0
"""A host that gives frames it should not give, changes them while they change hands, or lets EL2 run out of what it needs: catalogue lines H8, H9,
H16, H17, H21, H22, H31 and H32, on the simulated machine. Each attempt ends with one owner for each frame, and with nothing half done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from calling_guest import DEVICE, DRAWN, STATES, TABLES_AT, Caller, a_caller, abort, differences, page_of, picture
from private_world import FIRST, HOST_AT, IPA, ORDINARY, PAGE, SECOND, WRITE, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import AbortIss, Esr
from delphyne.el2.arch.pagetable import Stage2Leaf
from delphyne.el2.guest import guards, moving, private, processors, registers, steps, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import faults, protect, protected_faults
from delphyne.el2.kvm.exit_codes import EXIT_ILLEGAL, EXIT_TRAP, GUEST_GOES_ON
from delphyne.el2.kvm.protected_faults import Outcome
from delphyne.el2.memory import frames, host_map, pages, shadow, stage2
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, Pa, u64
from delphyne.lang.machine import GuestFault

A, B = HOST_AT + 40 * PAGE, HOST_AT + 41 * PAGE
"""Frames of the host's that nobody has."""
NEW, FAR = IPA + 60 * PAGE, IPA + (1 << 21)
"""Pages of the guest's that nobody touched, one beside others and one far from all."""
SECRET = b"what the host may not see".ljust(PAGE, b"\0")


@pytest.fixture
def caller() -> Iterator[Caller]:
    with a_caller() as made:
        yield made


def bring(caller: Caller, ipa: int, access: faults.Access = faults.Access.WRITE) -> Outcome:
    """The guest touches a page that it does not reach."""
    answer = caller.world.do(protected_faults.bring, caller.seat, Ipa(u64(ipa)), access)
    assert isinstance(answer, protected_faults.Answer)
    return answer.outcome


# --- H8: one frame twice ----------------------------------------------------------------------------------------------------------------------


def test_a_live_address_keeps_its_frame_whatever_the_host_maps_there(caller: Caller) -> None:
    """H8: the host's table leads elsewhere by now; the guest faults once more, and has what it had."""
    for state in ("private", "shared", "clean"):
        frame = HOST_AT + STATES.index(state) * PAGE
        caller.host.lead(page_of(state), A)
        before = picture(caller.world)
        assert bring(caller, page_of(state), faults.Access.READ) is Outcome.DONE
        assert differences(before, picture(caller.world)) == []
        assert caller.world.reach(FIRST, page_of(state)) == frame
        assert caller.world.entry(A).state is State.HOST
    caller.world.check()


@pytest.mark.parametrize("state", ["private", "shared", "clean", "held"])
def test_a_frame_that_is_the_guests_already_is_not_given_twice(caller: Caller, state: str) -> None:
    """H8: at a second address of the same guest, where the frame is private, shared, clean or measured. The guest is stopped; nothing moves."""
    frame = HOST_AT + STATES.index(state) * PAGE
    caller.host.lead(NEW, frame)
    owner = int(caller.world.entry(frame).raw)
    assert bring(caller, NEW) is Outcome.STOPPED
    assert GUARDS.slots[FIRST].phase is Phase.STOPPED
    assert int(caller.world.entry(frame).raw) == owner
    assert caller.world.reach(FIRST, NEW) is None
    assert caller.fate(page_of(state)) == state.upper()
    assert abort(caller, NEW) == int(EXIT_ILLEGAL)
    caller.world.check()


def test_a_table_of_the_hosts_that_was_given_away_leads_nowhere(caller: Caller) -> None:
    """H8: the host's own stage-2 table of the guest becomes one of the guest's pages, which then names frames as it likes."""
    caller.host.lead(NEW, A)
    assert caller.world.admit(FIRST, IPA + 61 * PAGE, TABLES_AT + 3 * PAGE) is None
    caller.world.put(FIRST, IPA + 61 * PAGE, (B | 1 << 10 | 0b1111 << 2 | 3 << 8 | 3 << 6 | 3).to_bytes(8, "little") * 512)
    before = picture(caller.world)
    assert bring(caller, NEW) is Outcome.SHOWN
    assert differences(before, picture(caller.world)) == []
    assert {caller.world.entry(frame).state for frame in (A, B)} == {State.HOST}


@pytest.mark.parametrize("state", ["private", "shared", "clean", "held"])
def test_no_other_vm_gets_a_guests_frame(caller: Caller, state: str) -> None:
    """H8: into a second protected guest, and into an ordinary one, by a page and by a block that has it inside."""
    world, frame = caller.world, HOST_AT + STATES.index(state) * PAGE
    before = picture(world)
    assert world.admit(SECOND, IPA, frame) is Err.OWNER
    leaf = Stage2Leaf.of(stage2.attributes(stage2.Stage2Memory.NORMAL, steps.FULL) | 0b11)
    for level, base in ((3, frame), (2, frame & ~0x1F_FFFF)):
        host = shadow.HostLeaf(u64(level), u64(base), leaf)
        with frames.LOCK, GUESTS_LOCK:
            assert shadow.fill(vms.VMS.slots[ORDINARY].shadow, Ipa(u64(0x1000_0000 + (frame - base))), host) is Err.OWNER
    changed = [one for one in differences(before, picture(world)) if int(one, 16) >= HOST_AT]
    assert changed == []
    assert frame not in world.leaves(ORDINARY).values()
    world.check()


# --- H9, H17: a host that writes, and steps that fail ----------------------------------------------------------------------------------------


def to_private(world: World) -> object:
    return world.admit(FIRST, NEW, A)


def to_far(world: World) -> object:
    """Where the guest's tables have none for the page yet."""
    return world.admit(FIRST, FAR, A)


def to_imported(world: World) -> object:
    return world.admit(FIRST, page_of("exported"), HOST_AT + STATES.index("exported") * PAGE)


def to_lent(world: World) -> object:
    return world.admit(FIRST, page_of("lent"), A)


def to_held(world: World) -> object:
    return world.do(private.hold, u64(FIRST), Ipa(u64(NEW)), Pa(u64(A)), steps.FULL)


def to_shared(world: World) -> object:
    return world.page(private.share, FIRST, page_of("private"))


def to_unshared(world: World) -> object:
    return world.page(private.unshare, FIRST, page_of("shared"))


Steps = tuple[tuple[object, str], ...]
TAKING: Steps = (
    (host_map, "remove"), (steps, "clear_page"), (steps, "clean_range"), (steps, "forget_instructions"), (steps, "show"),
)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize(
    ("operation", "step"),
    [(to_private, name) for _, name in TAKING if name != "clean_range"] + [(to_imported, name) for _, name in TAKING if name != "clear_page"],
)
def test_what_a_host_writes_while_it_gives_a_frame_is_verified_or_comes_too_late(
    caller: Caller, operation: Callable[[World], object], step: str, when: str
) -> None:
    """H9: a store at one step lands before the frame has left the host's map, where it is zeroed or found out; afterwards it faults."""
    world = caller.world
    frame = A if operation is to_private else HOST_AT + STATES.index("exported") * PAGE
    (module,) = [module for module, name in TAKING if name == step]
    real, landed = getattr(module, step), []

    def write() -> None:
        try:
            at = world.machine.stage2_translate(frame, WRITE)
        except GuestFault:
            landed.append(False)
        else:
            world.machine.memory.write(at, b"written meanwhile")
            landed.append(True)

    def stepped(*arguments: object) -> object:
        if when == "before":
            write()
        done = real(*arguments)
        if when == "behind":
            write()
        return done

    with mock.patch.object(module, step, stepped):
        done = operation(world)
    early = step == "remove" and when == "before"
    assert landed[0] is early
    assert not any(landed[1:])
    world.check()
    if operation is to_private:
        assert done is None
        assert world.content(FIRST, NEW) == bytes(PAGE)
    elif early:
        assert done is Err.INTEGRITY
        assert world.entry(frame).state is State.HOST
    else:
        assert done is None
        assert world.content(FIRST, page_of("exported")) == b"exported".ljust(PAGE, b"\0")


LEAVING: Steps = (
    (frames, "give"), (steps, "take_away"), (moving, "clean_range"), (moving.sealed, "step"), (steps, "give_back"),
)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("step", [name for _, name in LEAVING])
def test_what_the_guest_writes_while_its_page_is_exported_comes_back_or_faults(caller: Caller, step: str, when: str) -> None:
    """H22: another vCPU knows the page by its TLB. Its store lands before the page is measured, or not at all, and the host sees nothing of it."""
    world, page, frame = caller.world, page_of("private"), HOST_AT + STATES.index("private") * PAGE
    names = ("VTTBR_EL2", "VTCR_EL2", "HCR_EL2")
    assert world.reach(FIRST, page, WRITE) == frame
    world.use_guest(FIRST)
    guests = {name: world.machine.read_register(name) for name in names}
    world.use_host()
    (module,) = [module for module, name in LEAVING if name == step]
    real, landed = getattr(module, step), []

    def write() -> None:
        hosts = {name: world.machine.read_register(name) for name in names}
        for name, x in guests.items():
            world.machine.write_register(name, x)
        try:
            world.machine.memory.write(world.machine.stage2_translate(page, WRITE), b"written meanwhile")
            landed.append(True)
        except GuestFault:
            landed.append(False)
        for name, x in hosts.items():
            world.machine.write_register(name, x)

    def stepped(*arguments: object) -> object:
        if when == "before":
            write()
        done = real(*arguments)
        if when == "behind":
            write()
        return done

    with mock.patch.object(module, step, stepped):
        world.page(private.export, FIRST, page)
    assert landed[0] is (step == "give" or (step == "take_away" and when == "before"))
    assert not any(landed[1:])
    world.check()
    shown = world.content(None, frame)
    assert shown is not None
    assert b"meanwhile" not in shown
    assert b"private" not in shown
    assert world.admit(FIRST, page, frame) is None
    assert world.content(FIRST, page) == (b"written meanwhile" if landed[0] else b"private").ljust(PAGE, b"\0")


def test_an_import_that_failed_fails_again(caller: Caller) -> None:
    """H21: with the same data, however often; and with the right data it succeeds."""
    world, frame = caller.world, HOST_AT + STATES.index("exported") * PAGE
    right = world.content(None, frame)
    assert right is not None
    world.put(None, frame, bytes([right[0] ^ 1]) + right[1:])
    before = picture(world)
    for _ in range(3):
        assert to_imported(world) is Err.INTEGRITY
        assert differences(before, picture(world)) == []
    world.put(None, frame, right)
    assert to_imported(world) is None
    assert world.content(FIRST, page_of("exported")) == b"exported".ljust(PAGE, b"\0")


def test_a_manifest_is_copied_once_and_the_copy_is_what_counts(caller: Caller) -> None:
    """H9: the host changes the page while the copy is checked."""
    world, seen = caller.world, []
    raw = bytes(int(GUARDS.slots[FIRST].manifest[at]) for at in range(PAGE))
    world.put(None, A, raw)
    real = protect.manifest.check

    def check(copy: object) -> object:
        world.machine.memory.write(A, b"another".ljust(PAGE, b"\xff"))
        seen.append(bytes(copy))  # type: ignore[call-overload]
        return real(copy)  # type: ignore[arg-type]

    with mock.patch.object(protect.manifest, "check", check):
        assert world.do(protect._copy_manifest, u64(SECOND), Pa(u64(A))) is None
    assert seen == [raw]
    assert bytes(GUARDS.slots[SECOND].manifest[:]) == raw
    for nobodys in (HOST_AT + STATES.index("private") * PAGE, HOST_AT - PAGE, DEVICE):
        assert world.do(protect._copy_manifest, u64(SECOND), Pa(u64(nobodys))) is Err.OWNER


FAILURES: tuple[tuple[Callable[[World], object], Steps], ...] = (
    (to_far, ((shadow, "deepen"),)),
    (to_private, ((records, "promise"), (steps, "drop_ordinary"), (frames, "take"), (host_map, "remove"))),
    (to_imported, ((steps, "drop_ordinary"), (frames, "take"), (host_map, "remove"), (moving.sealed, "step"))),
    (to_lent, ((steps, "drop_ordinary"), (frames, "take"))),
    (to_held, ((shadow, "deepen"), (records, "promise"), (steps, "drop_ordinary"), (frames, "take"), (host_map, "remove"))),
    (to_shared, ((shadow, "deepen"),)),
    (to_unshared, ((records, "promise"), (host_map, "remove"))),
)  # fmt: skip
"""What of each move can fail, in the order in which it is done."""


@pytest.mark.parametrize(
    ("operation", "module", "step"), [(operation, *step) for operation, steps in FAILURES for step in steps],
    ids=[f"{operation.__name__}-{step[1]}" for operation, steps in FAILURES for step in steps],
)  # fmt: skip
def test_a_step_that_fails_leaves_nothing_half_done(caller: Caller, operation: Callable[[World], object], module: object, step: str) -> None:
    """H17: and the same move succeeds when the step does."""
    before = picture(caller.world)
    with mock.patch.object(module, step, return_value=Err.NO_MEMORY) as failed:
        assert operation(caller.world) is Err.NO_MEMORY
    assert failed.call_count == 1
    assert differences(before, picture(caller.world)) == []
    caller.world.check()
    assert operation(caller.world) is None
    caller.world.check()


# --- H16: pools that are empty ----------------------------------------------------------------------------------------------------------------


def test_more_guests_and_cpus_than_there_are_places_for(caller: Caller) -> None:
    """H16: the call fails, nothing is half done, and it succeeds when one has gone."""
    with GUESTS_LOCK:
        for number in range(3, int(guards.LIMIT) + 1):
            assert not isinstance(guards.create(u64(number)), Err)
        assert guards.create(u64(ORDINARY)) is Err.NO_MEMORY
        assert vms.VMS.slots[ORDINARY].guard == 0
        guards.destroy(u64(5))
        assert guards.create(u64(ORDINARY)) == 5
    for number in range(2, int(registers.LIMIT)):
        processors.PROCESSORS[number].used, processors.PROCESSORS[number].guard = True, u64(SECOND)
    assert caller.call(0xC400_0003, 1, IPA, 7).code == int(EXIT_TRAP)
    before = picture(caller.world)
    assert caller.result(0xC400_0003, 0x1_0000, IPA, 7) == (1 << 64) - 6, "PSCI: internal failure"
    assert caller.result(0xC400_0003, 1, IPA, 7) == (1 << 64) - 4, "already on, or about to be"
    assert differences(before, picture(caller.world)) == []
    processors.PROCESSORS[5].used = False
    assert caller.call(0xC400_0003, 0x1_0000, IPA, 7).code == int(EXIT_TRAP)


@pytest.mark.parametrize("pool", [PoolName.GUESTS, PoolName.HOST])
def test_a_move_that_found_no_table_succeeds_when_there_is_one(pool: PoolName) -> None:
    """H16: after a page of the pool was given back."""
    with a_world() as world:
        taken = []
        while not isinstance(page := pages.allocate(pool), Err):
            taken.append(page)
        for _ in range(3):
            assert world.admit(FIRST, IPA, A) is Err.NO_MEMORY
        for page in taken:
            assert pages.free(pool, page) is None
        assert world.admit(FIRST, IPA, A) is None
        world.check()


def test_a_page_without_a_record_is_admitted_when_another_is_given_up() -> None:
    """H16."""
    with a_world(count=1) as world:
        assert world.admit(FIRST, IPA, A) is None
        assert world.admit(SECOND, IPA, B) is Err.NO_MEMORY
        assert world.touch(A) is not None, "an export takes the record that the page was promised"
        assert world.admit(SECOND, IPA, B) is Err.NO_MEMORY
        world.page(private.give_up, FIRST, IPA)
        assert world.admit(SECOND, IPA, B) is None
        world.check()


# --- H31: old lines ---------------------------------------------------------------------------------------------------------------------------


def uncached(world: World, pa: int) -> bytes:
    """What an alias without caches reads."""
    return world.machine.memory.read(pa, PAGE, cacheable=False)


def test_no_line_of_the_former_owner_is_left_in_either_direction() -> None:
    """H31: memory behind the caches has what the new owner is to see, and no dirty line comes after it."""
    with a_world() as world:
        world.put(None, A, b"the host's".ljust(PAGE, b"h"))
        assert world.admit(FIRST, IPA, A) is None
        assert uncached(world, A) == bytes(PAGE)
        assert not world.machine.memory.is_dirty(A)
        world.put(FIRST, IPA, SECRET)
        shown = world.touch(A)
        assert uncached(world, A) == shown
        assert not world.machine.memory.is_dirty(A)
        assert world.admit(FIRST, IPA, A) is None
        assert uncached(world, A) == SECRET
        assert world.page(private.share, FIRST, IPA) is None
        assert uncached(world, A) == SECRET, "a host's alias of what is shared"
        world.put(None, A, b"the host's again".ljust(PAGE, b"h"))
        assert world.page(private.unshare, FIRST, IPA) is None
        assert uncached(world, A) == b"the host's again".ljust(PAGE, b"h")
        world.put(FIRST, IPA, SECRET)
        world.page(private.give_up, FIRST, IPA)
        assert uncached(world, A) == bytes(PAGE)
        world.check()


def test_instructions_of_a_page_that_came_back_are_the_decrypted_ones() -> None:
    """H31: also those that were fetched from the frame before."""
    with a_world() as world:
        assert world.admit(FIRST, IPA, A) is None
        world.put(FIRST, IPA, SECRET)
        assert world.touch(A) is not None
        assert world.machine.memory.fetch(A) != SECRET[:64]
        with mock.patch.object(steps, "forget_instructions", wraps=steps.forget_instructions) as forgotten:
            assert world.admit(FIRST, IPA, A) is None
        assert forgotten.call_count == 1
        assert world.machine.memory.fetch(A) == SECRET[:64]


# --- H32: leaves of another kind --------------------------------------------------------------------------------------------------------------


READ_ONLY, UNREADABLE = 0b01 << 6, 0b10 << 6


@pytest.mark.parametrize("rights", [READ_ONLY, UNREADABLE, 0])
@pytest.mark.parametrize("state", ["new", "exported"])
def test_a_leaf_that_may_not_be_written_gives_no_frame(caller: Caller, rights: int, state: str) -> None:
    """H32: the zero page, KSM, a page that is dirty-logged: the host is asked for one that may, as by a write."""
    page = NEW if state == "new" else page_of("exported")
    caller.host.lead(page, A, rights)
    before = picture(caller.world)
    for access in (faults.Access.READ, faults.Access.WRITE, faults.Access.EXECUTE):
        assert bring(caller, page, access) is Outcome.SHOWN
    assert differences(before, picture(caller.world)) == []
    assert abort(caller, page, store=False) == int(EXIT_TRAP)
    shown = Esr.of(u64(int.from_bytes(caller.world.machine.memory.read(int(caller.seat.at.raw) + int(registers.OWN.fault_esr), 8), "little")))
    iss = AbortIss.of(u64(shown.iss))
    assert (iss.wnr, iss.isv) == (True, False), "what has no syndrome is never completed as MMIO"
    assert caller.world.entry(A).state is State.HOST


def test_memory_whose_slot_the_host_removed_is_asked_for_again_and_again(caller: Caller) -> None:
    """H32: no store of the guest's gets lost or reaches anybody; when there is a frame, it goes on."""
    for _ in range(3):
        before = picture(caller.world, (int(caller.seat.own.raw), int(caller.seat.at.raw)))
        assert abort(caller, NEW) == int(EXIT_TRAP)
        assert differences(before, picture(caller.world, (int(caller.seat.own.raw), int(caller.seat.at.raw)))) == []
        assert DRAWN not in caller.world.machine.memory.read(int(caller.seat.at.raw), PAGE)
    caller.host.lead(NEW, A)
    assert abort(caller, NEW) == int(GUEST_GOES_ON)
    assert caller.world.reach(FIRST, NEW, WRITE) == A
    caller.world.check()


def test_a_device_that_is_backed_by_a_frame_stays_a_device(caller: Caller) -> None:
    """H32: no frame is taken and nothing mapped; the access is shown as one to a device."""
    caller.host.lead(IPA + 64 * PAGE, A)
    before = picture(caller.world, (int(caller.seat.own.raw), int(caller.seat.at.raw)))
    assert abort(caller, IPA + 64 * PAGE) == int(EXIT_TRAP)
    assert abort(caller, DEVICE, store=False) == int(EXIT_TRAP)
    assert differences(before, picture(caller.world, (int(caller.seat.own.raw), int(caller.seat.at.raw)))) == []
    assert caller.world.reach(FIRST, IPA + 64 * PAGE) is None
    assert caller.world.entry(A).state is State.HOST

