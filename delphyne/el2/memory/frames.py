# SPDX-License-Identifier: Apache-2.0
"""The frame table: who owns each 4 KiB frame of RAM.

Lock order: `LOCK` (rank 10) comes before the lock of any space and before `pages.LOCK`. Every change of an entry, and every change of the
host's or a guest's tables that goes with it, is made under it; entries may be read without it as a hint.

States, who may hold a frame in them, and when:
- EL2      EL2 alone: its image, tables and records; also RAM nobody was given yet, and what a device of the host's keeps there that the host must
           not write (`entry/its_tables.py`). No stage-2 table maps it. Owner, pins and page are 0.
- HOST     the host, and ordinary VMs that it maps it for. The only state with pins: EL2 pins a frame while it will still write to it
           for the host, so that it cannot change hands. Owner and page are 0.
- PRIVATE  one protected VM (owner) at one guest page. Mapped by exactly one leaf, that VM's.
- SHARED   one protected VM (owner) at one guest page, and the host, by the guest's own call.
- BUSY     nobody, for the moment: on its way between the host and (owner, page). No table maps it; EL2 encrypts, verifies or zeroes it, and
           may do so in several pieces without the lock. Whoever made it busy ends it.

Transitions: take HOST->BUSY, settle BUSY->PRIVATE, give PRIVATE->BUSY, release BUSY->HOST, share PRIVATE->SHARED, unshare SHARED->PRIVATE,
pin and unpin on HOST, withdraw HOST->EL2, readmit EL2->HOST; at boot admit EL2->HOST. A frame never goes from one VM to another but by the host, and
never from the host to a VM or to EL2 while it is pinned.

Invariants: `invariants.entry_is_sound` for each entry, `invariants.entries_are_exclusive` for each pair.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import ADDRESS_LIMIT, PAGE_SIZE
from delphyne.el2.memory import blocks
from delphyne.lang import (
    Array,
    AtomicU64,
    Bits64,
    BootArray,
    Enum8,
    Ipa,
    Lock,
    Order,
    Pa,
    Slice,
    bits,
    boot,
    constant,
    frozen,
    holds,
    merged,
    owned,
    struct,
    u8,
    u16,
    u64,
    wrap_add,
    wrap_sub,
)

LOCK: Final = Lock("frames", rank=10)

BANKS_LIMIT: Final = u64(16)
OWNERS_LIMIT: Final = u16(4096)
"""VMs are numbered from 1 to one less than this; 0 is nobody."""
PINS_LIMIT: Final = u16(4095)
ENTRY_BYTES: Final = u64(8)


class State(Enum8):
    """See the module's text. 0 is EL2, so that what was never admitted is out of everybody's reach."""

    EL2 = 0
    HOST = 1
    PRIVATE = 2
    SHARED = 3
    BUSY = 4


class FrameEntry(Bits64):
    """One entry of the table."""

    state: State = bits(3, 0)
    pins: u16 = bits(15, 4)
    owner: u16 = bits(27, 16)
    page: u64 = bits(63, 28)
    """The guest page that the frame holds: intermediate address divided by 4 KiB."""


@struct
class Bank:
    """RAM in a row: `frames` frames from `base`, whose entries begin at `first`."""

    base: Pa
    frames: u64
    first: u64


@struct
class Layout:
    """The banks in the order in which they were added; where the table lies; and the first entry that `admit` has not passed: from there on
    every frame is EL2's."""

    banks: Array[Bank, 16]
    count: u64
    frames: u64
    table: Pa
    fresh: u64


ROW_BYTES: Final = u64(1024)
HOST_ROW: Final = constant(Array[u8, 1024].of(list(int(FrameEntry(state=State.HOST).raw).to_bytes(8, "little")) * 128))
"""Entries of the host, 128 in a row: copied, they are written two at a time."""

ENTRIES: Final = BootArray[AtomicU64]()
LAYOUT: Final = frozen(Layout())


@boot
def add_bank(base: Pa, size: u64) -> None | Err:
    """Count `size` bytes of RAM from `base` in; parts of frames at the ends are left out. Before `attach`.

    Err.RANGE where it ends beyond 48 bits, Err.EXISTS where it overlaps a bank, Err.NO_MEMORY beyond BANKS_LIMIT banks.
    """
    if base.raw >= ADDRESS_LIMIT or size > ADDRESS_LIMIT - base.raw:
        return Err.RANGE
    start = base.align_up(PAGE_SIZE)
    end = (base + size).align_down(PAGE_SIZE)
    if start >= end:
        return None
    for number in u64.range(LAYOUT.count):
        bank = LAYOUT.banks[number]
        if start < bank.base + bank.frames * PAGE_SIZE and bank.base < end:
            return Err.EXISTS
    if LAYOUT.count == BANKS_LIMIT:
        return Err.NO_MEMORY
    added = LAYOUT.banks[LAYOUT.count]
    added.base = start
    added.frames = (end - start) // PAGE_SIZE
    added.first = LAYOUT.frames
    LAYOUT.frames += added.frames
    LAYOUT.count += 1
    return None


def table_size() -> u64:
    """Bytes that the table takes for the banks that were added, and behind it what is known of its runs (`blocks`); whole pages."""
    return _entries_size() + blocks.table_size(LAYOUT.frames)


def _entries_size() -> u64:
    return (LAYOUT.frames * ENTRY_BYTES + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)


@boot
def attach(table: Pa) -> None | Err:
    """Put the table at `table`, `table_size()` bytes of EL2's own, and make every frame EL2's. Once. Err.ALIGNMENT."""
    if not table.is_aligned(PAGE_SIZE):
        return Err.ALIGNMENT
    ENTRIES.attach(table.raw, LAYOUT.frames)
    LAYOUT.table = table
    with owned(table, LAYOUT.frames * ENTRY_BYTES) as window:
        window.fill(u8(0))
    blocks.attach(table + _entries_size(), LAYOUT.frames)
    return None


@boot
def admit(base: Pa, size: u64) -> None | Err:
    """Give the frames of `size` bytes from `base` to the host. Runs are given in the order of the table, so that none is looked at twice.

    Err.ALIGNMENT; Err.RANGE unless they lie in one bank; Err.STATE where a frame from `base` on was given before.
    """
    if not base.is_aligned(PAGE_SIZE) or size % PAGE_SIZE != 0:
        return Err.ALIGNMENT
    if size == 0:
        return None
    first = index_of(base)
    count = size // PAGE_SIZE
    if first is None or count > _frames_from(base):
        return Err.RANGE
    if first < LAYOUT.fresh:
        return Err.STATE
    with LOCK, owned(LAYOUT.table + first * ENTRY_BYTES, count * ENTRY_BYTES) as run:
        _fill_host(run)
    LAYOUT.fresh = first + count
    return None


@boot
def _fill_host(run: Slice[u8]) -> None:
    """Every entry of the run becomes the host's."""
    rows = run.length // ROW_BYTES
    for row in u64.range(rows):
        run[row * ROW_BYTES : (row + 1) * ROW_BYTES].copy_from(HOST_ROW[:])
    run[rows * ROW_BYTES : run.length].copy_from(HOST_ROW[: run.length - rows * ROW_BYTES])


def index_of(pa: Pa) -> u64 | None:
    """The entry of the frame that holds `pa`, or None where `pa` is no RAM of the table."""
    for number in u64.range(LAYOUT.count):
        bank = LAYOUT.banks[number]
        # What lies below the bank is, wrapped around, more frames above it than any bank has.
        frame = wrap_sub(pa.raw, bank.base.raw) // PAGE_SIZE
        if frame < bank.frames:
            return wrap_add(bank.first, frame)
    return None


def touches_ram(base: Pa, size: u64) -> bool:
    """Whether any of these bytes, which lie below 48 bits, is RAM of the table."""
    for number in u64.range(LAYOUT.count):
        bank = LAYOUT.banks[number]
        if bank.base < base + size and base < bank.base + bank.frames * PAGE_SIZE:
            return True
    return False


def entry_at(index: u64) -> FrameEntry:
    """The entry with this index. Without the lock it may be old when it is looked at."""
    return FrameEntry.of(ENTRIES[index].load(Order.ACQUIRE))


def entry_of(pa: Pa) -> FrameEntry | None:
    """The entry of the frame that holds `pa`, or None where `pa` is no RAM of the table."""
    index = index_of(pa)
    if index is None:
        return None
    return entry_at(index)


@holds(LOCK)
def is_hosts(pa: Pa) -> bool:
    """Whether `pa` lies in RAM that is the host's."""
    entry = entry_of(pa)
    return entry is not None and entry.state is State.HOST


@holds(LOCK)
def is_hosts_block(pa: Pa) -> bool:
    """Whether every frame of the 2 MiB that begin at `pa` is the host's, all in one bank."""
    first = index_of(pa)
    if first is None or _frames_from(pa) < blocks.RUN:
        return False
    return _is_hosts_run(first) and _is_hosts_run(first + (blocks.RUN - 1))


@holds(LOCK)
def _is_hosts_run(index: u64) -> bool:
    """Whether every frame of the run of `index` is the host's: from memory, or by one look at each."""
    known = blocks.known(index)
    if known != blocks.UNKNOWN:
        return known == blocks.ALL
    start = index - index % blocks.RUN
    for at in u64.range(start, min(start + blocks.RUN, LAYOUT.frames)):
        if entry_at(at).state is not State.HOST:
            blocks.learn(index, False)
            return False
    blocks.learn(index, True)
    return True


@holds(LOCK)
def take(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """HOST -> BUSY: the host loses the frame, on its way to (owner, page). The caller then unmaps it everywhere.

    `pa` and `page` may be any address in the frame and the guest page. Err.RANGE where `pa` is no RAM or `page` too high, Err.INVALID where
    `owner` is no VM, Err.OWNER where the frame is not the host's, Err.BUSY while it is pinned.
    """
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    wanted = held(State.BUSY, owner, page)
    if isinstance(wanted, Err):
        return wanted
    entry = entry_at(index)
    if entry.state is not State.HOST:
        return Err.OWNER
    if entry.pins != 0:
        return Err.BUSY
    _store(index, wanted)
    blocks.forget(index)
    return None


@holds(LOCK)
def settle(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """BUSY -> PRIVATE: the frame is ready for its VM. Errors as `share`."""
    return _move(pa, owner, page, State.BUSY, State.PRIVATE)


@holds(LOCK)
def give(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """PRIVATE -> BUSY: the VM loses the frame. The caller then unmaps it, and exports or zeroes it. Errors as `share`."""
    return _move(pa, owner, page, State.PRIVATE, State.BUSY)


@holds(LOCK)
def release(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """BUSY -> HOST: the frame holds nothing of the VM any more. Errors as `share`."""
    index = _held_index(pa, owner, page, State.BUSY)
    if isinstance(index, Err):
        return index
    blocks.forget(index)
    _store(index, FrameEntry(state=State.HOST))
    return None


@holds(LOCK)
def withdraw(pa: Pa) -> None | Err:
    """HOST -> EL2: the host loses the frame. The caller then unmaps it everywhere.

    Err.RANGE where `pa` is no RAM, Err.OWNER where the frame is not the host's, Err.BUSY while it is pinned."""
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    entry = entry_at(index)
    if entry.state is not State.HOST:
        return Err.OWNER
    if entry.pins != 0:
        return Err.BUSY
    _store(index, FrameEntry(state=State.EL2))
    blocks.forget(index)
    return None


@holds(LOCK)
def readmit(pa: Pa) -> None | Err:
    """EL2 -> HOST: a frame that the caller withdrew, and that holds nothing any more.

    Err.RANGE where `pa` is no RAM, Err.OWNER where the frame is not EL2's."""
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    if entry_at(index).state is not State.EL2:
        return Err.OWNER
    blocks.forget(index)
    _store(index, FrameEntry(state=State.HOST))
    return None


@holds(LOCK)
def share(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """PRIVATE -> SHARED, by the guest's own call.

    Err.RANGE where `pa` is no RAM or `page` too high, Err.INVALID where `owner` is no VM, Err.OWNER where the frame is not in the first
    state or not this VM's at this page.
    """
    return _move(pa, owner, page, State.PRIVATE, State.SHARED)


@holds(LOCK)
def unshare(pa: Pa, owner: u16, page: Ipa) -> None | Err:
    """SHARED -> PRIVATE, by the guest's own call; the caller has unmapped it from the host. Errors as `share`."""
    return _move(pa, owner, page, State.SHARED, State.PRIVATE)


@holds(LOCK)
def pin(pa: Pa) -> None | Err:
    """Keep a frame the host's until `unpin`. Err.RANGE where `pa` is no RAM, Err.OWNER where it is not the host's, Err.BUSY at PINS_LIMIT."""
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    entry = entry_at(index)
    if entry.state is not State.HOST:
        return Err.OWNER
    if entry.pins == PINS_LIMIT:
        return Err.BUSY
    _store(index, entry.replace(pins=entry.pins + 1))
    return None


@holds(LOCK)
def unpin(pa: Pa) -> None | Err:
    """End one `pin`. Err.RANGE where `pa` is no RAM, Err.STATE where it is not pinned."""
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    entry = entry_at(index)
    if entry.pins == 0:
        return Err.STATE
    _store(index, entry.replace(pins=entry.pins - 1))
    return None


@holds(LOCK)
def pin_all(at: Pa, size: u64) -> None | Err:
    """Pin every frame of `size` bytes at `at`, or none. Errors as `pin`."""
    first = at.align_down(PAGE_SIZE)
    for page in u64.range(_pages_from(first, at + size)):
        pinned = pin(first + page * PAGE_SIZE)
        if isinstance(pinned, Err):
            _unpin_pages(first, page)
            return pinned
    return None


@holds(LOCK)
def unpin_all(at: Pa, size: u64) -> None:
    """End one `pin_all` of these bytes."""
    first = at.align_down(PAGE_SIZE)
    _unpin_pages(first, _pages_from(first, at + size))


def _pages_from(first: Pa, end: Pa) -> u64:
    return (end.align_up(PAGE_SIZE) - first) // PAGE_SIZE


@holds(LOCK)
def _unpin_pages(first: Pa, count: u64) -> None:
    for page in u64.range(count):
        undone = unpin(first + page * PAGE_SIZE)
        assert not isinstance(undone, Err), "a frame that is pinned"


def held(state: State, owner: u16, page: Ipa) -> FrameEntry | Err:
    """The entry of a frame that (owner, page) holds in this state. Err.INVALID where `owner` is no VM, Err.RANGE where `page` is too high."""
    if owner == 0 or owner >= OWNERS_LIMIT:
        return Err.INVALID
    if page.raw >= ADDRESS_LIMIT:
        return Err.RANGE
    return FrameEntry(state=state, owner=owner, page=page.raw // PAGE_SIZE)


@merged
@holds(LOCK)
def _move(pa: Pa, owner: u16, page: Ipa, before: State, after: State) -> None | Err:
    index = _held_index(pa, owner, page, before)
    if isinstance(index, Err):
        return index
    _store(index, FrameEntry(state=after, owner=owner, page=page.raw // PAGE_SIZE))
    return None


@holds(LOCK)
def _held_index(pa: Pa, owner: u16, page: Ipa, state: State) -> u64 | Err:
    """The index of a frame that (owner, page) holds in this state. Errors as `share`."""
    index = index_of(pa)
    if index is None:
        return Err.RANGE
    expected = held(state, owner, page)
    if isinstance(expected, Err):
        return expected
    if entry_at(index) != expected:
        return Err.OWNER
    return index


def _frames_from(base: Pa) -> u64:
    """How many frames there are from `base` to the end of its bank."""
    for number in u64.range(LAYOUT.count):
        bank = LAYOUT.banks[number]
        if base >= bank.base and (base - bank.base) // PAGE_SIZE < bank.frames:
            return bank.frames - (base - bank.base) // PAGE_SIZE
    return u64(0)


def _store(index: u64, entry: FrameEntry) -> None:
    ENTRIES[index].store(entry.raw, Order.RELEASE)
