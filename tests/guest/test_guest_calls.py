# SPDX-License-Identifier: Apache-2.0
"""Every call of docs/guest-abi.md with every kind of argument: the answer is the page's of that file, and an answer that says that nothing changed
is looked at against everything that could have (catalogue lines G1 and G3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from calling_guest import (
    BEYOND,
    DEVICE,
    DRAWN,
    HOLE,
    PAGES,
    ROOM,
    ROOMY,
    STATES,
    TABLES_AT,
    WORD,
    Caller,
    a_caller,
    differences,
    page_of,
    picture,
)
from private_world import FIRST, HOST_AT, IPA, PAGE, WRITE

from delphyne.bench import stays
from delphyne.bench.protected import PAGE_LIMIT
from delphyne.el2.arch import mitigation
from delphyne.el2.arch.err import Err
from delphyne.el2.guest import abi, private
from delphyne.el2.kvm import protected_calls
from delphyne.el2.kvm.exit_codes import EXIT_TRAP, GUEST_GOES_ON
from delphyne.el2.memory import frames, host_map, pages, tables
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.sealing import entropy, generator
from delphyne.el2.sealing import page as sealed
from delphyne.lang import AtomicU32, Order, Pa, u32, u64
from delphyne.lang.machine import GuestFault

OK = 0
NOT_SUPPORTED, INVALID, DENIED = WORD, WORD - 2, WORD - 3
TRNG_INVALID, NO_ENTROPY = WORD - 1, WORD - 2
SHARE, UNSHARE, RELINQUISH = (int(number) for number in (abi.MEM_SHARE, abi.MEM_UNSHARE, abi.RELINQUISH))
SHARE_RANGE, UNSHARE_RANGE = int(abi.SHARE_RANGE), int(abi.UNSHARE_RANGE)
MAP, UNMAP = int(abi.MMIO_GUARD_MAP), int(abi.MMIO_GUARD_UNMAP)
PRIVATE = page_of("private")
ONE_STAY = int(protected_calls.SHARES)
"""Pages that a call about many does in one stay at most."""

NO_PAGES = {
    "null": 0,
    "unaligned by one": PRIVATE + 1,
    "unaligned, in the page's last byte": PRIVATE + PAGE - 1,
    "before its memory": IPA - PAGE,
    "behind its memory": BEYOND + 2 * PAGE,
    "in a hole": HOLE,
    "behind the roomy window": ROOMY + ROOM,
    "one above the limit of addresses": 1 << 40,
    "with a bit above the limit": PRIVATE | 1 << 40,
    "with the top bit": PRIVATE | 1 << 63,
    "the last page of 64 bits": WORD - PAGE + 1,
    "all ones": WORD,
    "a frame of EL2's": HOST_AT - PAGE,
    "a frame of its own": HOST_AT + PAGE,
}
"""Addresses that are no page of the guest's."""
DEVICES = {"a device's window": DEVICE, "a device's last page": DEVICE + PAGE, "the page behind its memory": BEYOND}
SHARED_ANSWERS = {
    "untouched": (OK, INVALID), "private": (OK, INVALID), "shared": (INVALID, OK), "exported, and back with the host": (OK, INVALID),
    "clean": (INVALID, INVALID), "held": (OK, INVALID), "held, clean": (INVALID, INVALID), "lent": (INVALID, OK),
    "clean, exported": (INVALID, INVALID), "clean, exported, and back with the host": (INVALID, INVALID), "exported": (None, INVALID),
}  # fmt: skip
"""MEM_SHARE's and MEM_UNSHARE's answer for a page in each state; None where the host has to give the page back first."""


@pytest.fixture
def caller() -> Iterator[Caller]:
    with a_caller() as made:
        yield made


@contextmanager
def nothing_changes(caller: Caller) -> Iterator[Caller]:
    """By any of the calls inside."""
    before = picture(caller.world)
    yield caller
    assert differences(before, picture(caller.world)) == []


def unchanged(caller: Caller, function: int, *arguments: int) -> int:
    """The answer of one call that changes nothing."""
    with nothing_changes(caller):
        return caller.result(function, *arguments)


# --- calls about one page ---------------------------------------------------------------------------------------------------------------------


def test_what_is_no_page_of_its_memory_is_refused(caller: Caller) -> None:
    with nothing_changes(caller):
        for function in (SHARE, UNSHARE, RELINQUISH):
            for address in (*NO_PAGES.values(), *DEVICES.values()):
                assert caller.result(function, address) == INVALID, hex(address)


def test_unused_registers_are_zero_where_the_call_says_so(caller: Caller) -> None:
    with nothing_changes(caller):
        for function in (SHARE, UNSHARE, RELINQUISH):
            for unused in ((1, 0), (0, 1), (1 << 63, 0), (0, WORD)):
                for state in STATES:
                    assert caller.result(function, page_of(state), *unused) == INVALID


@pytest.mark.parametrize("state", STATES)
def test_a_page_in_each_state_is_shared_and_unshared_once_or_refused(state: str) -> None:
    for function, answer in zip((SHARE, UNSHARE), SHARED_ANSWERS[state], strict=True):
        with a_caller() as caller:
            if answer is None:
                assert_asks_for(caller, page_of(state), lambda: caller.call(function, page_of(state)))  # noqa: B023
            elif answer == INVALID:
                assert unchanged(caller, function, page_of(state)) == INVALID
            else:
                assert caller.result(function, page_of(state)) == OK
                caller.world.check()
                assert (caller.fate(page_of(state)) in ("SHARED", "LENT")) is (function == SHARE)
                assert unchanged(caller, function, page_of(state)) == INVALID, "twice"


def assert_asks_for(caller: Caller, page: int, call: Callable[[], object]) -> None:
    """The host hears of a write to the page, and nothing of the call; the guest makes it again."""
    before = picture(caller.world, (int(caller.seat.own.raw), int(caller.seat.at.raw)))
    stage = int(caller.seat.at.raw)
    answered = call()
    assert (answered.code, answered.again) == (int(EXIT_TRAP), True)  # type: ignore[attr-defined]
    assert differences(before, picture(caller.world, (int(caller.seat.own.raw), stage))) == []
    shown = caller.world.machine.memory.read(stage, PAGE)
    assert (page >> 8).to_bytes(8, "little") in shown
    assert int(abi.MEM_SHARE).to_bytes(4, "little") not in shown
    assert int(abi.SHARE_RANGE).to_bytes(4, "little") not in shown


@pytest.mark.parametrize("state", STATES)
def test_a_page_that_is_given_up_is_the_hosts_and_then_zero(state: str) -> None:
    with a_caller() as caller:
        page, number = page_of(state), STATES.index(state)
        had = caller.world.content(None, HOST_AT + number * PAGE)
        assert caller.result(RELINQUISH, page) == OK
        caller.world.check()
        assert caller.fate(page) == "UNTOUCHED"
        left = caller.world.content(None, HOST_AT + number * PAGE)
        assert left == (had if had is not None else bytes(PAGE)), "what the host did not have, it does not get"
        assert unchanged(caller, RELINQUISH, page) == OK, "twice"
        assert caller.world.admit(FIRST, page, HOST_AT + number * PAGE) is None
        assert caller.world.content(FIRST, page) == bytes(PAGE)


def test_the_windows_last_page_is_its_memory(caller: Caller) -> None:
    assert caller.result(SHARE, BEYOND - PAGE) == OK
    assert caller.result(UNSHARE, BEYOND - PAGE) == OK
    assert caller.result(SHARE, ROOMY + ROOM - PAGE) == OK
    caller.world.check()


def test_a_share_without_a_table_for_it_changes_nothing(caller: Caller) -> None:
    while not isinstance(pages.allocate(PoolName.GUESTS), Err):
        pass
    assert unchanged(caller, SHARE, ROOMY + (1 << 30)) == INVALID
    answered = caller.call(SHARE_RANGE, ROOMY + (1 << 30), 5)
    assert answered.x[:2] == (INVALID, 0)


# --- calls about many -------------------------------------------------------------------------------------------------------------------------


COUNTS = (0, 1, 2, ONE_STAY, ONE_STAY + 1, PAGES, 1 << 20, 1 << 40, 1 << 52, 1 << 63, WORD)


@pytest.mark.parametrize("function", [SHARE_RANGE, UNSHARE_RANGE])
def test_a_range_of_no_pages_of_its_memory_is_refused(caller: Caller, function: int) -> None:
    with nothing_changes(caller):
        for address in (*NO_PAGES.values(), *DEVICES.values()):
            for count in COUNTS:
                answered = caller.call(function, address, count, others=WORD)
                assert (answered.code, answered.x[:2]) == (int(GUEST_GOES_ON), (INVALID if count else OK, 0))


@pytest.mark.parametrize("function", [SHARE_RANGE, UNSHARE_RANGE])
@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 2), (1, 1), (8, 2), *((start, WORD) for start in (0, 1, 2, 3, 5, 8, 9, 46, 47, 61, 63))])
def test_a_range_ends_at_the_first_page_that_is_refused(caller: Caller, function: int, start: int, count: int) -> None:
    """With the end of its memory behind the last page; WORD pages wrap around."""
    column = 0 if function == SHARE_RANGE else 1
    answers = [SHARED_ANSWERS[state][column] for state in STATES] + [(OK, INVALID)[column]] * (PAGES - len(STATES)) + [INVALID]
    want = 0
    while want < min(count, ONE_STAY) and answers[start + want] == OK:
        want += 1
    first = IPA + start * PAGE
    if want == 0 and answers[start] is None:
        assert_asks_for(caller, first, lambda: caller.call(function, first, count))
        return
    before, fates = picture(caller.world), [caller.fate(IPA + number * PAGE) for number in range(PAGES)]
    answered = caller.call(function, first, count)
    assert (answered.code, answered.x[:2]) == (int(GUEST_GOES_ON), (OK if want else INVALID, want))
    caller.world.check()
    assert want != 0 or differences(before, picture(caller.world)) == []
    changed = [number for number in range(PAGES) if caller.fate(IPA + number * PAGE) != fates[number]]
    assert changed == list(range(start, start + want))


def test_a_range_that_was_exported_is_imported_no_faster_than_one_stay_allows(caller: Caller) -> None:
    """G6: the host touched each page and left its table as it was, so that all of them could come back in one call."""
    first, count, world = 20, ONE_STAY + 4, caller.world
    for number in range(first, first + count):
        ipa, pa = IPA + number * PAGE, HOST_AT + number * PAGE
        assert world.admit(FIRST, ipa, pa) is None
        assert world.touch(pa) is not None
        caller.host.lead(ipa, pa)
    for left in (count, count - ONE_STAY):
        with mock.patch.object(sealed, "begin_import", wraps=sealed.begin_import) as imported:
            answered = caller.call(SHARE_RANGE, IPA + (first + count - left) * PAGE, left)
        assert answered.x[:2] == (OK, min(left, ONE_STAY))
        assert imported.call_count == min(left, ONE_STAY)
        assert imported.call_count * PAGE_LIMIT <= stays.LIMIT
        world.check()


def test_64_gib_are_shared_piece_by_piece_until_tables_are_gone(caller: Caller) -> None:
    """No stay does more than it may; what there is no room for is refused, and what was done is undone as well."""
    spare = []
    while not isinstance(page := pages.allocate(PoolName.GUESTS), Err):
        spare.append(page)
    for page in spare[:3]:
        assert pages.free(PoolName.GUESTS, page) is None
    shared = 0
    while True:
        answered = caller.call(SHARE_RANGE, ROOMY + shared * PAGE, (ROOM // PAGE) - shared)
        assert answered.x[1] <= ONE_STAY
        if answered.x[0] != OK:
            assert answered.x[:2] == (INVALID, 0)
            break
        shared += answered.x[1]
    assert shared == 2 * 512, "one table of 1 GiB, two of 2 MiB"
    caller.world.check()
    assert unchanged(caller, SHARE_RANGE, ROOMY + shared * PAGE, 1) == INVALID
    assert caller.result(SHARE, PRIVATE) == OK, "others go on"
    done = 0
    while done < shared:
        answered = caller.call(UNSHARE_RANGE, ROOMY + done * PAGE, ROOM // PAGE)
        assert answered.x[0] == OK
        assert 0 < answered.x[1] <= ONE_STAY
        done += answered.x[1]
    assert done == shared
    assert unchanged(caller, UNSHARE_RANGE, ROOMY + done * PAGE, ROOM // PAGE) == INVALID
    caller.world.check()


# --- share and unshare against a writing host -------------------------------------------------------------------------------------------------


STEPS: tuple[tuple[object, str], ...] = (
    (host_map, "remove"), (frames, "unshare"), (private, "clean_range"), (private, "forget_instructions"), (tables, "change"),
)  # fmt: skip


@pytest.mark.parametrize("name", [name for _, name in STEPS])
@pytest.mark.parametrize("when", ["before", "behind"])
def test_what_a_host_writes_while_a_page_is_unshared_is_there_or_never_was(name: str, when: str) -> None:
    """The host writes at one step of the call: its store lands before the page has left its map, and faults from then on."""
    (module,) = [module for module, one in STEPS if one == name]
    real = getattr(module, name)
    with a_caller() as caller:
        page, frame = page_of("shared"), HOST_AT + STATES.index("shared") * PAGE
        world = caller.world
        landed: list[bool] = []

        def write() -> None:
            try:
                at = world.machine.stage2_translate(frame, WRITE)
            except GuestFault:
                landed.append(False)
            else:
                world.machine.memory.write(at, b"by the host")
                landed.append(True)

        def step(*arguments: object) -> object:
            if when == "before":
                write()
            done = real(*arguments)
            if when == "behind":
                write()
            return done

        world.put(None, frame, b"before")
        with mock.patch.object(module, name, step):
            assert caller.result(UNSHARE, page) == OK
        assert landed[0] is (name == "remove" and when == "before")
        assert landed[1:] == [False] * (len(landed) - 1)
        assert world.reach(None, frame, WRITE) is None
        assert world.entry(frame).state is State.PRIVATE
        seen = world.content(FIRST, page)
        assert seen is not None
        assert seen.startswith(b"by the host" if landed[0] else b"before")
        world.check()


def test_a_page_that_goes_back_and_forth_is_always_one_owners_alone_or_both(caller: Caller) -> None:
    page, frame = PRIVATE, HOST_AT + STATES.index("private") * PAGE
    for round in range(20):
        assert caller.result(SHARE, page) == OK
        assert caller.result(SHARE, page) == INVALID
        caller.world.put(None, frame, b"host %d" % round)
        assert caller.result(UNSHARE, page) == OK
        assert caller.result(UNSHARE, page) == INVALID
        assert caller.world.reach(None, frame) is None
        assert caller.world.content(FIRST, page) == (b"host %d" % round).ljust(PAGE, b"\0")
        caller.world.check()


# --- calls that change nothing ----------------------------------------------------------------------------------------------------------------


EVERYTHING = (*NO_PAGES.values(), *DEVICES.values(), *(page_of(state) for state in STATES))


@pytest.mark.parametrize("function", [MAP, UNMAP])
def test_a_devices_page_and_nothing_else_is_mapped(caller: Caller, function: int) -> None:
    """Nothing is noted of a guest that has not enrolled (one that has: `test_mmio_guard.py`).

    The other registers are the guest's: kernels have put attributes of the mapping, or nothing in particular, into them."""
    with nothing_changes(caller):
        for others in (0, WORD):
            for address in EVERYTHING:
                assert caller.result(function, address, others=others) == (OK if address in DEVICES.values() else INVALID)


@pytest.mark.parametrize("function", [int(abi.MEMINFO), int(abi.MMIO_GUARD_INFO)])
def test_the_granule_is_told_to_who_asks_rightly(caller: Caller, function: int) -> None:
    with nothing_changes(caller):
        for number in range(3):
            for x in EVERYTHING:
                assert caller.result(function, *[x if at == number else 0 for at in range(3)]) == (INVALID if x else PAGE)


@pytest.mark.parametrize("others", [0, 1, PRIVATE, WORD])
def test_calls_without_arguments_look_at_none(caller: Caller, others: int) -> None:
    """A stock kernel leaves x1 to x3 as they happen to be."""
    uid = (int(abi.UID0), int(abi.UID1), int(abi.UID2), int(abi.UID3))
    measured = [int.from_bytes(bytes(range(1 + at, 9 + at)), "little") for at in range(0, 32, 8)]
    with nothing_changes(caller):
        assert caller.call(int(abi.VENDOR_UID), others=others).x[:4] == uid
        assert caller.call(int(abi.FEATURES), others=others).x[:4] == (int(abi.FEATURE_BITS), 0, 0, 0)
        assert caller.result(int(abi.SMCCC_VERSION), others=others) == 0x1_0001
        assert caller.call(int(abi.STATUS), others=others).x[:4] == (OK, 1, 1, others)
        entropy.SOURCES.development = True
        assert caller.call(int(abi.STATUS), others=others).x[:4] == (OK, 1, 3, others)
        assert list(caller.call(int(abi.MEASUREMENT), others=others).x) == [OK, *measured]
        for begin in (abi.PROTECT_BEGIN, abi.PROTECT_MEASURE, abi.PROTECT_COMMIT):
            assert caller.result(int(begin), others=others) == DENIED, "it is protected"


def test_no_other_number_is_a_call(caller: Caller) -> None:
    known = {*range(2, 10), *range(0xDE00, 0xDE07)}
    others = (
        0, 1, 0x4600_0003, 0x8000_0002, 0x8000_7FFF, 0xC000_8000, 0x8400_0020, 0xC400_0020, 0xC400_0050, 0xC500_0020, 0x8500_0020, 0xBF00_0003,
        0xFFFF_FFFF,
    )  # fmt: skip
    with nothing_changes(caller):
        for low in (*range(0x40), *range(0xDDF0, 0xDE30), 0xFF00, 0xFF01, 0xFF03, 0xFFFF):
            if low not in known:
                assert caller.result(0xC600_0000 | low, PRIVATE) == NOT_SUPPORTED
            if low not in (0, 0xFF01):
                assert caller.result(0x8600_0000 | low, PRIVATE) == NOT_SUPPORTED, "the 32-bit form"
        for number in others:
            for x in (0, PRIVATE, WORD):
                assert caller.result(number, x, x, x) == NOT_SUPPORTED, hex(number)


def test_the_upper_half_of_a_functions_number_counts_for_nothing(caller: Caller) -> None:
    """SMCCC: the function is in W0."""
    assert unchanged(caller, 0xDEAD_BEEF_0000_0000 | int(abi.MEMINFO)) == PAGE
    assert unchanged(caller, 1 << 63 | SHARE, PAGE) == INVALID


# --- workarounds ------------------------------------------------------------------------------------------------------------------------------

SAFE, MENDED, OPEN = 1, 2, 4
"""Bits of what was seen of CPUs: unaffected, mitigated, vulnerable."""


@pytest.mark.parametrize("seen", [SAFE, MENDED, OPEN, SAFE | MENDED, SAFE | OPEN, MENDED | OPEN, SAFE | MENDED | OPEN])
@pytest.mark.parametrize(("function", "which", "other"), [(0x8000_8000, "TARGETS", "HISTORY"), (0x8000_3FFF, "HISTORY", "TARGETS")])
def test_a_workaround_is_what_the_worst_cpu_needs(caller: Caller, seen: int, function: int, which: str, other: str) -> None:
    with nothing_changes(caller):
        for unlike in (SAFE, OPEN):
            with mock.patch.object(mitigation, which, AtomicU32()), mock.patch.object(mitigation, other, AtomicU32()):
                getattr(mitigation, which).store(u32(seen), Order.RELAXED)
                getattr(mitigation, other).store(u32(unlike), Order.RELAXED)
                feature = caller.result(0x8000_0001, function, others=WORD)
                assert feature == caller.result(0x8000_0001, 0xDEAD_0000_0000_0000 | function), "the function is in the low half"
                assert feature == (NOT_SUPPORTED if seen & OPEN else OK if seen & MENDED else 1)
                assert caller.result(function, others=WORD) == (NOT_SUPPORTED if seen & OPEN else OK)


def test_features_of_what_there_is_and_is_not(caller: Caller) -> None:
    with nothing_changes(caller):
        for number in (0x8000_0000, 0x8000_0001):
            assert caller.result(0x8000_0001, number) == OK
        for number in (0, 0x8000_0002, 0x8000_7FFF, 0xC000_8000, int(abi.MEMINFO), 0xFFFF_FFFF):
            assert caller.result(0x8000_0001, number) == NOT_SUPPORTED


# --- TRNG -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "most", "width"), [(int(abi.TRNG_RND64), 192, 64), (int(abi.TRNG_RND32), 96, 32)])
def test_random_bits_as_many_as_asked_for(caller: Caller, function: int, most: int, width: int) -> None:
    words = [int.from_bytes(DRAWN[8 * at : 8 * at + 8], "little") for at in range(3)]
    with nothing_changes(caller):
        for bits in (1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192):
            answered = caller.call(function, bits)
            want = [words[at] & (1 << max(0, min(width, bits - at * width))) - 1 for at in range(3)]
            assert answered.x[:4] == ((OK, want[2], want[1], want[0]) if bits <= most else (TRNG_INVALID, bits, 0, 0))
        for bits in (0, most + 1, 1 << 31, *((1 << 32, 1 << 63, WORD) if width == 64 else (0xFFFF_FFFF,))):
            assert caller.call(function, bits).x[:4] == (TRNG_INVALID, bits, 0, 0)
        with mock.patch.object(generator, "fill", return_value=Err.STATE):
            assert caller.call(function, 32).x[:4] == (NO_ENTROPY, 32, 0, 0), "no seed, no bits"


def test_the_32_bit_call_takes_its_argument_from_w1(caller: Caller) -> None:
    assert caller.call(int(abi.TRNG_RND32), 0xABCD_0000_0000 | 32).x[0] == OK
    assert caller.call(int(abi.TRNG_RND32), 1 << 32).x[0] == TRNG_INVALID


def test_what_the_generator_offers(caller: Caller) -> None:
    offered = (0x8400_0050, 0x8400_0051, 0x8400_0052, 0x8400_0053, 0xC400_0053)
    with nothing_changes(caller):
        assert caller.result(int(abi.TRNG_VERSION), others=WORD) == 0x1_0000
        for number in (*offered, 0, 0x8400_004F, 0x8400_0054, 0xC400_0050, 0xC400_0054, 0xFFFF_FFFF):
            assert caller.result(int(abi.TRNG_FEATURES), number) == (OK if number in offered else NOT_SUPPORTED)
        assert caller.call(int(abi.TRNG_GET_UUID), others=WORD).x[:4] == (0x6C12_0F4B, 0x41D4_93B7, 0x2E05_8EA9, 0x19C7_64D3)


# --- the test's own eyes ----------------------------------------------------------------------------------------------------------------------


def test_the_picture_has_what_a_call_can_change(caller: Caller) -> None:
    before = picture(caller.world)
    assert differences(before, picture(caller.world)) == []
    assert caller.result(SHARE, PRIVATE) == OK
    frame_entry = picture(caller.world)
    assert len(differences(before, frame_entry)) >= 4, "the frame table, the guest's table, the host's map, the ledger and the guard"
    caller.world.machine.memory.write(TABLES_AT + 8, b"x")
    with frames.LOCK:
        assert frames.pin(Pa(u64(HOST_AT + 40 * PAGE))) is None
    assert len(differences(frame_entry, picture(caller.world))) == 2
