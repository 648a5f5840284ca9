# SPDX-License-Identifier: Apache-2.0
"""The plain model of guests' pages that `test_private_pages_model.py` drives: dictionaries of what each frame holds, who has it, and what the host
was given for an exported page. After every step all CPUs' TLBs, all tables, all frames and what a reader without caches sees are compared with it, so
that an operation that fails is seen to have changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar
from unittest import mock

from calling_guest import HostTables
from hypothesis.stateful import RuleBasedStateMachine, invariant
from private_world import EXECUTE, HOST_AT, IPA, PAGE, READ, VMS, WRITE, World, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import moving, steps
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import graveyard, pages
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, u64
from delphyne.lang.machine import Access
from delphyne.lang.machine.tlb import Kind as EntryKind

CPUS = 3
BLOCK = 1 << 21
FAR_AT = HOST_AT + 0x80_0000
FRAMES = [*range(HOST_AT, HOST_AT + 5 * PAGE, PAGE), FAR_AT, FAR_AT + PAGE]
"""Those that the histories are about, in two of the host's blocks."""
NOBODYS = [HOST_AT - PAGE, 0x0900_0000]
"""A frame of EL2's, and no RAM."""
NEAR = [IPA, IPA + PAGE, IPA + 2 * PAGE]
IPAS = [*NEAR, IPA + BLOCK]
TABLES_AT = HOST_AT + 0x20_0000
RECORDS = 6
"""Fewer than there are frames, so that they run out."""
TAG = re.compile(rb"<(\d{8})>")
LAST_KINDS = (EntryKind.STAGE2, EntryKind.COMBINED)
"""What a TLB has of pages, and not of tables on the way to them."""

T = TypeVar("T")


class Kind(Enum):
    """What a page is to the model."""

    UNTOUCHED = "untouched"
    PRIVATE = "private"
    SHARED = "shared"
    EXPORTED = "exported"
    LENT = "lent"
    HELD = "held"


LIVE = (Kind.PRIVATE, Kind.SHARED)
ALONE = (Kind.PRIVATE, Kind.HELD)
PROMISED = (Kind.PRIVATE, Kind.HELD, Kind.EXPORTED)
HAVE = (*LIVE, Kind.HELD)
ALL = tuple(Kind)


@dataclass
class Page:
    """`content` and `given`, what the host has instead of it, are those of an exported one. `given` is None where nobody saw it: it was overwritten
    at once."""

    kind: Kind = Kind.UNTOUCHED
    frame: int = 0
    rights: Rights = steps.FULL
    content: bytes = b""
    given: bytes | None = None

    def allows(self, access: Access) -> bool:
        if self.kind is Kind.SHARED:
            return access is not EXECUTE
        return self.kind is Kind.PRIVATE and bool({READ: True, WRITE: self.rights.write, EXECUTE: self.rights.execute}[access])


@dataclass
class Guest:
    """One VM, an ordinary one without a phase. `hosts` are its leaves that lead to frames of the host's, `tables` the blocks for which it has tables,
    `leads` where the host's table of it leads, with a right to write or not."""

    number: int
    seat: Seat
    table: HostTables
    phase: Phase | None = None
    committed: bool = False
    pages: dict[int, Page] = field(default_factory=lambda: {ipa: Page() for ipa in IPAS})
    hosts: dict[int, int] = field(default_factory=dict)
    tables: set[int] = field(default_factory=set)
    leads: dict[int, tuple[int, bool]] = field(default_factory=dict)


class Beside:
    """In place of a schedule: at the points from `first` to `last` of an operation others act."""

    def __init__(self, act: Callable[[], None], first: int, last: int) -> None:
        self._act, self._first, self._last = act, first, last
        self._seen = 0
        self._acting = False

    def point(self, what: str) -> None:
        # Lines of a cache are cleaned one by one, and nobody who may act there can tell which are done.
        if self._acting or what.startswith("dc "):
            return
        self._seen += 1
        if self._first <= self._seen <= self._last:
            self._acting = True
            self._act()
            self._acting = False

    def wait_until(self, ready: Callable[[], bool], what: str) -> bool:
        return ready()


@dataclass
class Stores:
    """What was stored beside an operation, in order: by whom had the frame as the host's, and by the guest that has it as its own."""

    hosts: list[bytes] = field(default_factory=list)
    guests: list[bytes] = field(default_factory=list)
    last: bytes = b""

    @property
    def any(self) -> bool:
        return bool(self.hosts or self.guests)


NEVER = (0, -1)


class PagesModel(RuleBasedStateMachine):
    """What is known of all guests and frames, how it is drawn from, and what must hold after every step."""

    PIECES = False
    """Whether the processor lacks crypto extensions."""

    def __init__(self) -> None:
        super().__init__()
        self.context = a_world(RECORDS, cpus=CPUS, pieces=self.PIECES)
        self.world: World = self.context.__enter__()
        self.machine = self.world.machine
        self.world.looked_at = FRAMES
        self.memory = {frame: bytes(PAGE) for frame in FRAMES}
        self.pins = dict.fromkeys(FRAMES, 0)
        self.cpu = self.steps = 0
        self.picked: list[object] = []
        self.lively = False
        self.tags = 0
        self.secrets: set[bytes] = set()
        self.given: dict[bytes, None] = {}
        self.versions: set[tuple[int, int]] = set()
        self.identities: set[int] = set()
        self.exports = 0
        self.shadows_may_be_empty = False
        self.guests = [Guest(number, Seat(), HostTables(self.world, number, TABLES_AT + number * 4 * PAGE)) for number in VMS]
        for guest in self.guests[:2]:
            self.begins(guest)
            guest.phase, guest.committed = Phase.PROTECTED, True
        for number in range(CPUS):
            with self.machine.on(number):
                self.world.use_host()
        real = moving.sealed.begin_export

        def begin_export(job: object, area: object, identity: u64, ipa: Ipa, terms: Any) -> None:
            used = int(identity), int(terms.version)
            assert used not in self.versions, "a version is used again"
            self.versions.add(used)
            real(job, area, identity, ipa, terms)  # type: ignore[arg-type]

        self.sealing = mock.patch.object(moving.sealed, "begin_export", begin_export)
        self.sealing.start()

    def teardown(self) -> None:
        self.sealing.stop()
        self.context.__exit__(None, None, None)

    def begins(self, guest: Guest) -> None:
        guest.seat.vm, guest.seat.guard = u64(guest.number), u64(self.world.guard(guest.number) + 1)
        identity = int(GUARDS.slots[self.world.guard(guest.number)].identity)
        assert identity not in self.identities
        self.identities.add(identity)
        guest.phase, guest.committed, guest.tables, guest.hosts = Phase.MEASURING, False, set(), {}
        guest.pages = {ipa: Page() for ipa in IPAS}

    # --- what the model knows --------------------------------------------------------------------------------------------------------------

    def words(self, secret: bool) -> bytes:
        """A page that nobody ever wrote before."""
        self.tags += 1
        tag = b"%08d" % self.tags
        if secret:
            self.secrets.add(tag)
        return (b"<" + tag + b">").ljust(512, b"\x5a") * 8

    def holder(self, frame: int) -> tuple[Guest, int, Page] | None:
        for guest in self.guests:
            for ipa, page in guest.pages.items():
                if page.frame == frame and page.kind in HAVE:
                    return guest, ipa, page
        return None

    def is_split(self, frame: int) -> bool:
        """Whether a page is out of the host's block that this frame lies in, so that taking another one needs no table."""
        held = [holder[2].kind for near in FRAMES if near // BLOCK == frame // BLOCK and (holder := self.holder(near)) is not None]
        return any(kind in ALONE for kind in held)

    def is_hosts_to_see(self, frame: int) -> bool:
        holder = self.holder(frame)
        return holder is None or holder[2].kind is Kind.SHARED

    def promised(self) -> int:
        return sum(page.kind in PROMISED for guest in self.guests for page in guest.pages.values())

    def pick(self, known: Sequence[T]) -> T:
        picked = self.random.choice(known)
        self.picked.append(picked)
        return picked

    def seldom(self) -> bool:
        return self.random.random() < 0.1

    def when(self) -> tuple[int, int]:
        """From which point to which others act beside an operation."""
        first = self.random.choice([1, self.random.randint(1, 40), self.random.randint(1, 120)])
        count = self.random.choice([0, 3, 20, 9999])
        return self.pick([NEVER, NEVER, (first, first + count)])

    def choose(self, phases: tuple[Phase | None, ...], kinds: tuple[Kind, ...] = ALL) -> tuple[Guest, int, Page] | None:
        """A page of such a kind, of a guest in one of these phases."""
        # What was done before in the same step may have taken the host's guests their leaves.
        self.leaves()
        known = [
            (guest.number, ipa) for guest in self.guests for ipa, page in guest.pages.items() if guest.phase in phases and page.kind in kinds
        ]  # fmt: skip
        if not known:
            return None
        number, ipa = self.pick(known)
        return self.guests[number], ipa, self.guests[number].pages[ipa]

    def frame_to_give(self) -> int:
        """Mostly one that is the host's to give, and often one that a guest of its own has."""
        own = [frame for frame in FRAMES if self.holder(frame) is None]
        used = [frame for frame in own if any(frame in guest.hosts.values() for guest in self.guests)]
        if used and self.random.random() < 0.4:
            return self.pick(used)
        return self.pick([*FRAMES, *NOBODYS] if self.seldom() or not own else own)

    @contextmanager
    def lacking(self, what: str | None) -> Iterator[None]:
        """Somebody else has all records or tables, or the graveyard is full."""
        pool = {"guests": PoolName.GUESTS, "host": PoolName.HOST}.get(what or "")
        taken: list[u64] = []
        promises = 0
        if pool is not None:
            while not isinstance(page := pages.allocate(pool), Err):
                taken.append(page)
        with GUESTS_LOCK:
            while what == "records" and records.promise() is None:
                promises += 1
        with mock.patch.object(graveyard, "has_room", (lambda: False) if what == "graveyard" else graveyard.has_room):
            yield
        with GUESTS_LOCK:
            for _ in range(promises):
                records.release()
        for page in taken:
            assert pages.free(pool, page) is None  # type: ignore[arg-type]

    @contextmanager
    def beside(self, when: tuple[int, int], frame: int, guest: Guest, ipa: int, secret: bool) -> Iterator[Stores]:
        """While EL2 is at work on a frame, two other CPUs store to it: one as the host or a guest of the host's, one as the guest whose page it is,
        was or becomes."""
        stores = Stores()
        hosts, guests = [number for number in range(CPUS) if number != self.cpu]
        ways: list[tuple[int | None, int]] = [(None, frame)]
        ways += [(other.number, at) for other in self.guests for at, pa in other.hosts.items() if pa == frame]

        def store(cpu: int, who: int | None, at: int, into: list[bytes], is_secret: bool) -> None:
            with self.machine.on(cpu):
                pa = self.world.reach(who, at, WRITE)
            if pa is not None:
                assert pa == frame
                stores.last = self.words(is_secret)
                into.append(stores.last)
                self.machine.memory.write(frame, stores.last)

        def act() -> None:
            for who, at in ways:
                store(hosts, who, at, stores.hosts, False)
            store(guests, guest.number, ipa, stores.guests, secret)

        if frame in FRAMES and guest.phase is Phase.PROTECTED and when[1] > 0:
            self.machine.schedule = Beside(act, *when)  # type: ignore[assignment]
        try:
            with self.machine.on(self.cpu):
                yield stores
        finally:
            self.machine.schedule = None

    # --- a frame becomes a guest's ---------------------------------------------------------------------------------------------------------

    def results(self, guest: Guest, ipa: int, frame: int, lack: str | None, kind: Kind) -> set[Err | None]:
        """What the operation that takes a frame may answer, in the order in which it looks; the tables that it adds before stay."""
        if lack == "guests" and ipa // BLOCK not in guest.tables:
            return {Err.NO_MEMORY}
        guest.tables.add(ipa // BLOCK)
        if kind is Kind.UNTOUCHED and (lack == "records" or self.promised() == RECORDS):
            return {Err.NO_MEMORY}
        if kind is Kind.HELD:
            return {Err.STATE}
        if frame == NOBODYS[1]:
            return {Err.RANGE}
        self.shadows_may_be_empty = True
        possible: set[Err | None] = set()
        if lack == "graveyard":
            led = [pa for other in self.guests if other.phase is None for pa in other.hosts.values()]
            if frame in led:
                return {Err.BUSY}
            possible = {Err.BUSY}
        if frame == NOBODYS[0] or self.holder(frame) is not None:
            return possible | {Err.OWNER}
        if self.pins[frame] != 0:
            return possible | {Err.BUSY}
        if kind is Kind.LENT:
            return possible | {None}
        if lack == "host" and not self.is_split(frame):
            return possible | {Err.NO_MEMORY}
        if kind is Kind.EXPORTED and self.memory[frame] != guest.pages[ipa].given:
            return possible | {Err.INTEGRITY}
        return possible | {None}

    def arrived(self, guest: Guest, ipa: int, frame: int, stores: Stores) -> None:
        """The guest has the page. Nothing of what was in the frame before is left in any cache."""
        page = guest.pages[ipa]
        is_lent = page.kind is Kind.LENT
        if page.kind is Kind.EXPORTED:
            self.memory[frame] = page.content
        elif page.kind is Kind.UNTOUCHED:
            self.memory[frame] = bytes(PAGE)
        guest.pages[ipa] = Page(Kind.SHARED if is_lent else Kind.PRIVATE, frame, page.rights if page.kind is Kind.EXPORTED else steps.FULL)
        if is_lent:
            self.memory[frame] = stores.last or self.memory[frame]
        elif stores.guests:
            self.memory[frame] = stores.guests[-1]
        else:
            self.is_clean(frame)

    def is_clean(self, frame: int) -> None:
        """Memory itself has what the caches have, and no CPU has old instructions."""
        assert self.machine.memory.read(frame, PAGE, cacheable=False) == self.memory[frame]
        assert self.machine.memory.fetch(frame) == self.memory[frame][:64]

    def forgot_instructions(self, frame: int) -> None:
        for cpu in self.machine.cpus:
            assert not any(frame <= line < frame + PAGE for line in cpu.fetched), "instructions of another's"

    def write(self, who: int | None, at: int, frame: int, content: bytes) -> None:
        with self.machine.on(self.cpu):
            assert self.world.reach(who, at, WRITE) == frame
            self.machine.memory.write(frame, content)
        self.memory[frame] = content

    # --- after every step ------------------------------------------------------------------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        self.world.check()
        self.leaves()
        self.counts()
        self.frames_hold_what_they_should()
        self.tlbs()
        self.everybody_looks()
        self.cpu = (self.cpu + 1) % CPUS

    def leaves(self) -> None:
        """What guests have of the host's they may lose where a frame changes hands, all of it at once, and have otherwise."""
        for guest in self.guests:
            own = {ipa: page.frame for ipa, page in guest.pages.items() if page.kind in LIVE}
            leaves = self.world.leaves(guest.number)
            if self.shadows_may_be_empty and leaves == own:
                guest.hosts = {}
            assert leaves == own | guest.hosts
        self.shadows_may_be_empty = False

    def counts(self) -> None:
        assert int(records.LEDGER.promised) == self.promised()
        assert int(records.LEDGER.taken) == sum(page.kind is Kind.EXPORTED for guest in self.guests for page in guest.pages.values())
        assert len(self.versions) == self.exports
        for name in PoolName:
            assert pages.POOLS[name.value].reserved == 0
        for guest in self.guests:
            if guest.phase is not None:
                assert GUARDS.slots[self.world.guard(guest.number)].phase is guest.phase

    def frames_hold_what_they_should(self) -> None:
        for frame in FRAMES:
            assert self.machine.memory.read(frame, PAGE) == self.memory[frame]
            if self.is_hosts_to_see(frame):
                seen = TAG.findall(self.memory[frame]) + TAG.findall(self.machine.memory.read(frame, PAGE, cacheable=False))
                assert self.secrets.isdisjoint(seen), "the host sees what a guest wrote"
            entry = self.world.entry(frame)
            holder = self.holder(frame)
            assert int(entry.pins) == self.pins[frame]
            if holder is not None:
                assert (int(entry.owner) - 1, int(entry.page) * PAGE) == (self.world.guard(holder[0].number), holder[1])

    def allowed(self, who: int | None, at: int, frame: int, access: Access) -> bool:
        """Whether the host, or a VM, may get to a frame by an address."""
        if who is None:
            return at == frame and self.is_hosts_to_see(frame)
        guest = self.guests[who]
        page = guest.pages.get(at)
        return guest.hosts.get(at) == frame or (page is not None and page.frame == frame and page.allows(access))

    def tlbs(self) -> None:
        for cpu, entry in self.machine.translations():
            if entry.kind not in LAST_KINDS:
                continue
            allows = {READ: entry.attributes.readable, WRITE: entry.attributes.writable, EXECUTE: entry.attributes.executable}
            for frame in FRAMES:
                if entry.reaches(frame, PAGE):
                    who = entry.vmid - 1 if entry.vmid else None
                    for access in Access:
                        at = entry.base + frame - entry.output
                        assert not allows[access] or self.allowed(who, at, frame, access), f"CPU {cpu.number} holds {entry}"

    def everybody_looks(self) -> None:
        """One CPU, each time another, by both kinds of its TLB's entries."""
        with self.machine.on(self.cpu):
            for frame in FRAMES:
                assert self.looks(None, frame) == (frame if self.is_hosts_to_see(frame) else None)
            for guest in self.guests:
                for ipa in IPAS:
                    page = guest.pages[ipa]
                    assert self.looks(guest.number, ipa) == guest.hosts.get(ipa, page.frame if page.kind in LIVE else None)
                    if page.kind in LIVE:
                        for access in (WRITE, EXECUTE):
                            assert (self.world.reach(guest.number, ipa, access) is not None) == page.allows(access)

    def looks(self, who: int | None, at: int) -> int | None:
        if self.tags % 2:
            self.world.reach(who, at)
        return self.world.reach(who, at, both_stages=True)
