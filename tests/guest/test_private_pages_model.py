# SPDX-License-Identifier: Apache-2.0
"""Pages of protected guests against plain dictionaries: random histories of three VMs, which begin, are measured, protected and end, and of a host
that gives them frames, takes them away and lacks what it needs; on three CPUs, each of which remembers all that it ever translated.

EL2's own operations exclude one another, since each holds all three locks; so the histories are of whole operations. What goes on beside them are the
stores of guests and of the host, at any point where another CPU may run.

The model knows what each frame holds, who has it, and what the host was given for an exported page. After every step all CPUs' TLBs, all tables, all
frames and what a reader without caches sees are compared with it, so that an operation that fails is seen to have changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from random import Random
from typing import Any, TypeVar
from unittest import mock

import hypothesis.strategies as st
import pytest
from calling_guest import HostTables
from hypothesis import HealthCheck, note, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from private_world import EXECUTE, HOST_AT, IPA, PAGE, READ, VMS, WRITE, World, a_world, host_leaf

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import ending, guards, lent, moving, private, steps, touch, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import faults, protected_faults, protected_flushes
from delphyne.el2.kvm.protected_faults import Outcome
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames, graveyard, pages, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.sealing import records
from delphyne.lang import Ipa, Pa, u8, u16, u64
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
FOREIGN = 77
"""An owner that no VM is."""
KINDS_OF_RIGHTS = [steps.FULL, steps.DATA, Rights(True, False, True), Rights(True, False, True), Rights(True, False, False)]
READ_ONLY = 0b01 << 6
TAG = re.compile(rb"<(\d{8})>")
LAST_KINDS = (EntryKind.STAGE2, EntryKind.COMBINED)
"""What a TLB has of pages, and not of tables on the way to them."""
ACCESSES = {READ: faults.Access.READ, WRITE: faults.Access.WRITE, EXECUTE: faults.Access.EXECUTE}


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
WITHOUT = (Kind.UNTOUCHED, Kind.EXPORTED, Kind.LENT, Kind.HELD)


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


BEGUN = (Phase.MEASURING, Phase.PROTECTED, Phase.STOPPED)
LACKS = (None,) * 12 + ("records", "guests", "host", "graveyard")
NEVER = (0, -1)
HOW = ("as it is",) * 2 + ("right",) * 6 + ("older", "another's", "altered", "zero")


class PrivatePages(RuleBasedStateMachine):
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

    def admit(self, guest: Guest, ipa: int, frame: int, lack: str | None, when: tuple[int, int]) -> None:
        page = guest.pages[ipa]
        with self.lacking(lack), self.beside(when, frame, guest, ipa, page.kind is not Kind.LENT) as stores:
            result = self.world.admit(guest.number, ipa, frame)
        if stores.hosts:
            self.memory[frame] = stores.hosts[-1]
        assert result in self.results(guest, ipa, frame, lack, page.kind)
        if result is None:
            self.arrived(guest, ipa, frame, stores)
            if page.kind is not Kind.LENT:
                self.forgot_instructions(frame)
        else:
            assert not stores.guests

    def host_gives(self, wanted: int | None = None) -> None:
        """A frame for a page that has none, with whatever in it."""
        kinds = self.pick([WITHOUT, (Kind.EXPORTED,), (Kind.EXPORTED, Kind.LENT)])
        how, lack, when = self.pick(HOW), self.pick(LACKS), self.when()
        chosen = self.choose((Phase.PROTECTED,), kinds) or self.choose((Phase.PROTECTED,), WITHOUT)
        if chosen is None:
            return
        guest, ipa, page = chosen
        frame = self.frame_to_give() if wanted is None else wanted
        self.fill_in(page, frame, how)
        self.admit(guest, ipa, frame, lack, when)

    def fill_in(self, page: Page, frame: int, how: str) -> None:
        """What the host writes before it gives a frame for an exported page."""
        if page.kind is not Kind.EXPORTED or page.given is None or frame not in FRAMES or not self.is_hosts_to_see(frame):
            return
        if how == "as it is" or self.holder(frame) is not None:
            return
        others = [one for one in self.given if one != page.given] or [bytes(PAGE)]
        at = self.tags * 37 % PAGE
        altered = page.given[:at] + bytes([page.given[at] ^ 1 << self.tags % 8]) + page.given[at + 1 :]
        another = others[self.tags % len(others)]
        content = {"right": page.given, "older": others[-1], "another's": another, "altered": altered, "zero": bytes(PAGE)}[how]
        self.write(None, frame, frame, content)

    def guest_faults(self) -> None:
        """As a fault in a RAM window: what the host's table leads to becomes the page, or the guest is stopped."""
        how, leads, read_only, access = self.pick(HOW), self.pick([True, True, False]), self.seldom(), self.pick(list(Access))
        chosen = self.choose((Phase.PROTECTED,) if not self.seldom() else BEGUN)
        if chosen is None:
            return
        guest, ipa, page = chosen
        if leads and ipa in NEAR and page.kind not in HAVE:
            frame = self.frame_to_give()
            self.fill_in(page, frame, how)
            guest.table.lead(ipa, frame, READ_ONLY if read_only else 0b11 << 6)
            guest.leads[ipa] = frame, not read_only
        self.bring(guest, ipa, access)

    def bring(self, guest: Guest, ipa: int, access: Access) -> None:
        page = guest.pages[ipa]
        with self.machine.on(self.cpu):
            answer = self.world.do(protected_faults.bring, guest.seat, Ipa(u64(ipa)), ACCESSES[access])
            while self.world.move_of(guest.number, ipa) is not None:
                answer = self.world.do(protected_faults.bring, guest.seat, Ipa(u64(ipa)), ACCESSES[access])
                if self.world.reach(guest.number, ipa) is not None:
                    answer = protected_faults.Answer(Outcome.DONE, u8(0))
        assert isinstance(answer, protected_faults.Answer)
        if guest.phase is not Phase.PROTECTED:
            assert answer.outcome is Outcome.STOPPED
        elif page.kind in LIVE:
            assert answer.outcome is (Outcome.DONE if page.allows(access) else Outcome.REFUSED)
        elif page.kind is Kind.HELD:
            assert answer.outcome is Outcome.DONE
            page.kind = Kind.PRIVATE
            self.forgot_instructions(page.frame)
        elif ipa not in guest.leads or not guest.leads[ipa][1]:
            assert answer.outcome is Outcome.SHOWN
        else:
            frame = guest.leads[ipa][0]
            results = self.results(guest, ipa, frame, None, page.kind)
            outcomes = {None: {Outcome.DONE}, Err.BUSY: {Outcome.LATER}, Err.NO_MEMORY: {Outcome.LATER, Outcome.STOPPED}}
            assert answer.outcome in set().union(*(outcomes.get(result, {Outcome.STOPPED}) for result in results))
            if Err.NO_MEMORY in results:
                self.shadows_may_be_empty = True
            if answer.outcome is Outcome.DONE:
                self.arrived(guest, ipa, frame, Stores())
            elif answer.outcome is Outcome.STOPPED:
                guest.phase = Phase.STOPPED

    # --- and the host's again --------------------------------------------------------------------------------------------------------------

    def left(self, guest: Guest, ipa: int, stores: Stores, *, zeroed: bool) -> None:
        """A frame that was the guest's alone is the host's, exported or zeroed."""
        page = guest.pages[ipa]
        frame = page.frame
        content = stores.guests[-1] if stores.guests else self.memory[frame]
        shown = self.machine.memory.read(frame, PAGE)
        if zeroed:
            guest.pages[ipa] = Page()
            self.memory[frame] = bytes(PAGE)
        else:
            self.exports += 1
            given = content if not page.rights.write else None if stores.hosts else shown
            guest.pages[ipa] = Page(Kind.EXPORTED, 0, page.rights, content, given)
            if not stores.hosts:
                if page.rights.write:
                    assert shown not in self.given, "the same ciphertext again"
                else:
                    assert shown == content, "a clean page"
                self.given[shown] = None
            self.memory[frame] = shown
        if stores.hosts:
            self.memory[frame] = stores.hosts[-1]
        else:
            assert self.machine.memory.read(frame, PAGE, cacheable=False) == self.memory[frame]

    def returned(self, guest: Guest, ipa: int, stores: Stores) -> None:
        """A shared frame is the host's alone."""
        frame = guest.pages[ipa].frame
        self.memory[frame] = stores.last or self.memory[frame]

    def page_leaves(self) -> None:
        """The host's flush, and the guest's RELINQUISH."""
        by, kinds, when = self.pick([private.export, private.retreat, private.give_up]), self.pick([ALL, HAVE, HAVE]), self.when()
        relinquished = by is private.give_up
        chosen = self.choose((Phase.PROTECTED,) if relinquished else BEGUN, kinds)
        if chosen is None:
            return
        guest, ipa, page = chosen
        with self.beside(when, page.frame, guest, ipa, page.kind is Kind.PRIVATE) as stores:
            assert self.world.page(by, guest.number, ipa) is None
        if page.kind in ALONE:
            self.left(guest, ipa, stores, zeroed=relinquished)
            if guest.phase is Phase.PROTECTED and self.pick([True, False]):
                self.comes_back(guest, ipa, page.frame)
        elif page.kind is Kind.SHARED and by is not private.export:
            self.returned(guest, ipa, stores)
            guest.pages[ipa] = Page(Kind.LENT if by is private.retreat else Kind.UNTOUCHED)
        elif page.kind is Kind.SHARED:
            self.memory[page.frame] = stores.last or self.memory[page.frame]
        elif relinquished:
            guest.pages[ipa] = Page()

    def comes_back(self, guest: Guest, ipa: int, frame: int) -> None:
        self.fill_in(guest.pages[ipa], frame, "right")
        self.admit(guest, ipa, frame, None, NEVER)

    def host_touches(self, owner: Guest | None = None) -> None:
        """What the host does not reach leaves its guest at that moment."""
        held = [frame for frame in FRAMES if (holder := self.holder(frame)) is not None and owner in (None, holder[0])]
        frame, when = self.pick(held or FRAMES), self.when()
        holder = self.holder(frame)
        if holder is None or holder[2].kind is Kind.SHARED:
            with self.machine.on(self.cpu):
                assert self.world.serve_touch(frame) is True
            return
        guest, ipa, page = holder
        with self.beside(when, frame, guest, ipa, True) as stores:
            assert self.world.serve_touch(frame) is True
        if guest.phase is Phase.STOPPED and page.kind is Kind.HELD and not guest.committed:
            # As it came: the guest never was protected.
            guest.pages[ipa] = Page()
            self.memory[frame] = stores.hosts[-1] if stores.hosts else self.memory[frame]
            assert self.machine.memory.read(frame, PAGE, cacheable=False) == self.memory[frame]
        else:
            self.left(guest, ipa, stores, zeroed=guest.phase is Phase.STOPPED)

    def host_leads(self, guest: Guest, ipa: int, where: str) -> None:
        page = guest.pages[ipa]
        if where == "nowhere" or page.kind not in HAVE:
            guest.table.lead_nowhere(ipa)
            guest.leads.pop(ipa, None)
        else:
            frame = page.frame if where == "right" else FRAMES[self.tags % len(FRAMES)]
            guest.table.lead(ipa, frame)
            guest.leads[ipa] = frame, True

    def host_flushes(self) -> None:
        """Of the pages in the range those leave that the host's table does not lead to by now."""
        vm, start, count = self.pick(VMS), self.pick(IPAS), self.pick([1, 2, 3, 513])
        leads = [self.pick(["right", "right", "nowhere", "elsewhere"]) for _ in NEAR]
        guest = self.guests[vm]
        for ipa, lead in zip(NEAR, leads, strict=True):
            self.host_leads(guest, ipa, lead)
        if guest.phase is None:
            return
        with self.machine.on(self.cpu):
            while (done := self.world.do(protected_flushes.pages, u64(vm), Ipa(u64(start)), u64(count))) is not None:
                assert done is Err.BUSY
        if not guest.committed:
            guest.hosts = {}
        for ipa in IPAS:
            page = guest.pages[ipa]
            if not start <= ipa < start + count * PAGE or guest.leads.get(ipa, (0, False))[0] == page.frame:
                continue
            if page.kind in ALONE:
                self.left(guest, ipa, Stores(), zeroed=False)
            elif page.kind is Kind.SHARED:
                guest.pages[ipa] = Page(Kind.LENT)

    # --- what a guest asks for -------------------------------------------------------------------------------------------------------------

    def guest_shares(self) -> None:
        kinds, lack, when = self.pick([ALL, LIVE, (Kind.EXPORTED, Kind.UNTOUCHED)]), self.pick(LACKS), self.when()
        chosen = self.choose((Phase.PROTECTED,), kinds)
        if chosen is None:
            return
        guest, ipa, page = chosen
        with self.lacking(lack), self.beside(when, page.frame, guest, ipa, False) as stores:
            result = self.world.page(private.share, guest.number, ipa)
        if lack == "guests" and ipa // BLOCK not in guest.tables:
            assert result is Err.NO_MEMORY
            return
        guest.tables.add(ipa // BLOCK)
        if page.kind is Kind.UNTOUCHED:
            assert result is None
            page.kind = Kind.LENT
            return
        shown = self.memory.get(page.frame, b"")
        if page.kind in LIVE:
            self.memory[page.frame] = stores.last or shown
        if page.kind is not Kind.PRIVATE:
            assert result is Err.STATE
        elif not page.rights.write:
            assert result is Err.PERMISSION
        else:
            assert result is None
            page.kind = Kind.SHARED
            # Memory may have what the page held when it was shared, behind what a cache has of it since.
            self.secrets -= set(TAG.findall(shown))
            if not stores.any:
                self.is_clean(page.frame)

    def guest_unshares(self) -> None:
        kinds, lack, when = self.pick([ALL, (Kind.SHARED, Kind.LENT), (Kind.SHARED,)]), self.pick(LACKS), self.when()
        chosen = self.choose((Phase.PROTECTED,), kinds)
        if chosen is None:
            return
        guest, ipa, page = chosen
        if self.pick([True, False]):
            self.everybody_executes()
        with self.lacking(lack), self.beside(when, page.frame, guest, ipa, False) as stores:
            result = self.world.page(private.unshare, guest.number, ipa)
        if page.kind in LIVE:
            self.memory[page.frame] = stores.last or self.memory[page.frame]
        if page.kind is Kind.LENT:
            assert result is None
            page.kind = Kind.UNTOUCHED
        elif page.kind is not Kind.SHARED:
            assert result is Err.STATE
        elif lack == "records" or self.promised() == RECORDS or (lack == "host" and not self.is_split(page.frame)):
            assert result is Err.NO_MEMORY
        else:
            assert result is None
            page.kind, page.rights = Kind.PRIVATE, steps.FULL
            self.forgot_instructions(page.frame)
            if not stores.any:
                self.is_clean(page.frame)

    # --- what they read, write and execute -------------------------------------------------------------------------------------------------

    def write(self, who: int | None, at: int, frame: int, content: bytes) -> None:
        with self.machine.on(self.cpu):
            assert self.world.reach(who, at, WRITE) == frame
            self.machine.memory.write(frame, content)
        self.memory[frame] = content

    def guest_writes(self) -> None:
        known = [(guest.number, ipa, pa) for guest in self.guests for ipa, pa in guest.hosts.items()]
        known += [(guest.number, ipa, page.frame) for guest in self.guests for ipa, page in guest.pages.items() if page.allows(WRITE)]
        if known:
            vm, ipa, frame = self.pick(known)
            self.write(vm, ipa, frame, self.words(self.guests[vm].pages[ipa].kind is Kind.PRIVATE))

    def host_writes(self) -> None:
        frame = self.pick(FRAMES)
        if self.is_hosts_to_see(frame):
            self.write(None, frame, frame, self.words(False))

    def everybody_executes(self) -> None:
        """One CPU's instruction cache has something of each frame that may be executed."""
        with self.machine.on(self.cpu):
            for frame in FRAMES:
                if self.is_hosts_to_see(frame):
                    self.machine.guest_fetch(frame)
            for guest in self.guests:
                self.world.use_guest(guest.number)
                for ipa, page in guest.pages.items():
                    if page.allows(EXECUTE):
                        self.machine.guest_fetch(ipa)
            self.world.use_host()

    # --- guests of the host's --------------------------------------------------------------------------------------------------------------

    def host_maps(self) -> None:
        """A frame of its own for a guest that is not protected, or is not yet. `quickly`: by the way that does without the frames' lock."""
        held = [frame for frame in FRAMES if self.holder(frame) is not None]
        frame, how = self.pick(self.pick([FRAMES, held or FRAMES])), self.pick(["mapped", "mapped", "quickly", "quickly", "unmapped"])
        chosen = self.choose(self.pick([(None, Phase.MEASURING), (Phase.MEASURING,)])) or self.choose((None,))
        if chosen is None:
            return
        guest, ipa, _ = chosen
        vm = guest.number
        free = self.holder(frame) is None
        if guest.phase is None and how == "unmapped":
            self.host_unmaps(guest, ipa)
        elif guest.phase is None and how == "quickly":
            self.bury()
            with GUESTS_LOCK:
                deepened = shadow.deepen(vms.VMS.slots[vm].shadow, Ipa(u64(ipa)))
                assert not isinstance(deepened, Err)
                table = shadow.table_at(vms.VMS.slots[vm].shadow, Ipa(u64(ipa)))
                assert table is not None
                filled = shadow.fill_page(table, Ipa(u64(ipa)), host_leaf(frame))
            assert filled is (free and ipa not in guest.hosts)
            if filled:
                guest.hosts[ipa] = frame
        elif guest.phase is None:
            self.is_mapped(guest, ipa, frame)
        elif guest.phase is Phase.MEASURING:
            taken = ipa in guest.hosts or guest.pages[ipa].kind is not Kind.UNTOUCHED
            result = self.world.lend_to_stub(vm, ipa, frame)
            assert result is (Err.EXISTS if taken else None if free else Err.OWNER)
            if result is None:
                guest.hosts[ipa] = frame
                guest.tables.add(ipa // BLOCK)
                if self.pick([True, False]):
                    self.host_gives(frame)

    def is_mapped(self, guest: Guest, ipa: int, frame: int) -> None:
        self.bury()
        free = self.holder(frame) is None
        assert self.world.fill(guest.number, ipa, frame) is (None if free else Err.OWNER)
        if free:
            guest.hosts[ipa] = frame

    def host_unmaps(self, guest: Guest, ipa: int) -> None:
        with frames.LOCK, GUESTS_LOCK:
            assert shadow.drop(vms.VMS.slots[guest.number].shadow, Ipa(u64(ipa))) is None
        guest.hosts.pop(ipa, None)

    def bury(self) -> None:
        with frames.LOCK, GUESTS_LOCK:
            while not graveyard.is_empty():
                graveyard.work()

    # --- frames that stay ------------------------------------------------------------------------------------------------------------------

    def el2_pins(self) -> None:
        frame, pins = self.pick(FRAMES), self.pick([True, False, False, False])
        if not pins:
            self.el2_unpins(frame)
            return
        with frames.LOCK:
            result = frames.pin(Pa(u64(frame)))
        assert result is (None if self.holder(frame) is None else Err.OWNER)
        self.pins[frame] += result is None

    def el2_unpins(self, frame: int) -> None:
        with frames.LOCK:
            result = frames.unpin(Pa(u64(frame)))
        assert result is (Err.STATE if self.pins[frame] == 0 else None)
        self.pins[frame] -= result is None

    def frame_is_busy(self) -> None:
        """On its way to somebody else: nobody gets it."""
        frame, ipa = self.pick(FRAMES), self.pick(IPAS)
        protected = [guest for guest in self.guests if guest.phase is Phase.PROTECTED]
        if self.holder(frame) is not None or self.pins[frame] != 0 or not protected:
            return
        with frames.LOCK:
            assert frames.take(Pa(u64(frame)), u16(FOREIGN), Ipa(u64(0))) is None
        guest = protected[0]
        if guest.pages[ipa].kind not in HAVE and (guest.pages[ipa].kind is not Kind.UNTOUCHED or self.promised() < RECORDS):
            self.shadows_may_be_empty = True
            guest.tables.add(ipa // BLOCK)
            assert self.world.admit(guest.number, ipa, frame) is Err.OWNER
        for other in self.guests:
            if other.phase is None:
                assert self.world.fill(other.number, IPA, frame) is Err.OWNER
        with frames.LOCK:
            assert frames.release(Pa(u64(frame)), u16(FOREIGN), Ipa(u64(0))) is None

    # --- VMs begin and end -----------------------------------------------------------------------------------------------------------------

    def guest_goes_on(self) -> None:
        """It begins, is protected, is stopped, ends; one that is protected mostly stays so."""
        on_their_way = [guest.number for guest in self.guests if guest.phase is not Phase.PROTECTED]
        guest = self.guests[self.pick(VMS if self.lively or not on_their_way else on_their_way)]
        vm, how, pieces = guest.number, self.random.randrange(4), self.pick([1, 2, 100])
        if guest.phase is None and how < 2:
            self.bury()
            self.world.begin(vm)
            self.begins(guest)
            self.guest_is_measured()
        elif guest.phase is None:
            self.is_mapped(guest, self.pick(IPAS), self.pick(FRAMES))
        elif guest.phase is Phase.MEASURING and how < 3:
            self.guest_is_measured()
            self.world.commit(vm)
            guest.phase, guest.committed, guest.hosts = Phase.PROTECTED, True, {}
            # Mostly before it has touched what was measured.
            if how == 1:
                self.image_is_pushed_out(guest)
            elif how == 2:
                self.guest_ends(guest, pieces)
        elif guest.phase is not Phase.PROTECTED or (how == 3 and self.lively):
            self.guest_ends(guest, pieces)
        elif self.lively or self.seldom():
            self.world.do(touch.stop, u64(vm))
            guest.phase = Phase.STOPPED
            self.host_touches(guest)

    def image_is_pushed_out(self, guest: Guest) -> None:
        for ipa, page in list(guest.pages.items()):
            if page.kind is Kind.HELD:
                assert self.world.page(private.export, guest.number, ipa) is None
                self.left(guest, ipa, Stores(), zeroed=False)
                self.comes_back(guest, ipa, page.frame)

    def guest_is_measured(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            self.page_is_measured()

    def page_is_measured(self) -> None:
        """With what the host wrote."""
        rights, lack = self.pick(KINDS_OF_RIGHTS), self.pick(LACKS)
        chosen = self.choose((Phase.MEASURING,))
        if chosen is None:
            return
        guest, ipa, page = chosen
        index = u64(self.world.guard(guest.number))
        frame = self.frame_to_give()
        self.world.do(lent.drop_all, index)
        guest.hosts = {}
        with self.lacking(lack), self.machine.on(self.cpu):
            result = self.world.do(private.hold, index, Ipa(u64(ipa)), Pa(u64(frame)), rights)
        if page.kind is not Kind.UNTOUCHED:
            assert result is Err.EXISTS
            return
        assert result in self.results(guest, ipa, frame, lack, Kind.UNTOUCHED)
        if result is None:
            guest.pages[ipa] = Page(Kind.HELD, frame, rights)

    def guest_ends(self, guest: Guest, pieces: int) -> None:
        """In pieces, of which each gives back what it comes past."""
        index = self.world.guard(guest.number)
        for _ in range(pieces):
            with self.machine.on(self.cpu):
                done = self.world.do(ending.end_some, u64(index))
            guest.phase = Phase.STOPPED
            self.given_back(guest, 1 << 40 if done else int(GUARDS.slots[index].ended))
            if done:
                with GUESTS_LOCK:
                    assert guards.of_vm(u64(guest.number)) is None
                guest.phase, guest.tables, guest.hosts = None, set(), {}
                return
        assert pieces < 100, "it ends for ever"

    def given_back(self, guest: Guest, end: int) -> None:
        for ipa, page in guest.pages.items():
            if ipa >= end:
                continue
            if page.kind is Kind.PRIVATE or (page.kind is Kind.HELD and guest.committed):
                self.left(guest, ipa, Stores(), zeroed=True)
            guest.pages[ipa] = Page()

    def machine_goes_off(self) -> None:
        """And does not, in the end: no guest has a page or a key any more."""
        if not self.lively:
            return
        for _ in range(100):
            with self.machine.on(self.cpu):
                if self.world.do(ending.wipe_next):
                    break
        for guest in self.guests:
            if guest.phase is not None:
                guest.phase = Phase.STOPPED
                self.given_back(guest, 1 << 40)
                words = GUARDS.slots[self.world.guard(guest.number)].key.words
                assert not any(int(words[at]._hidden) for at in range(len(words)))

    # --- after every step ------------------------------------------------------------------------------------------------------------------

    @rule(seed=st.binary(min_size=8, max_size=8))
    def step(self, seed: bytes) -> None:
        """What is done is drawn here and not by rules of their own: hypothesis tries few of them in one history, and all of them are needed to get a
        page anywhere."""
        self.steps += 1
        self.random, self.picked = Random(f"{seed!r} {self.steps}"), []
        if self.steps == 1:
            self.lively = self.random.random() < 0.5
        weights = [weight * (3 if self.lively and operation in LIVES else 1) for operation, weight in OPERATIONS.items()]
        operation = self.random.choices(list(OPERATIONS), weights)[0]
        try:
            operation(self)
        finally:
            note(f"{self.steps}: {operation.__name__} {self.picked}")

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


OPERATIONS: dict[Callable[[PrivatePages], None], int] = {
    PrivatePages.host_gives: 20, PrivatePages.guest_faults: 8, PrivatePages.page_leaves: 12, PrivatePages.host_touches: 8,
    PrivatePages.host_flushes: 4, PrivatePages.guest_shares: 5, PrivatePages.guest_unshares: 7, PrivatePages.guest_writes: 8,
    PrivatePages.host_writes: 3, PrivatePages.everybody_executes: 5, PrivatePages.host_maps: 10, PrivatePages.el2_pins: 3,
    PrivatePages.frame_is_busy: 2, PrivatePages.guest_goes_on: 7, PrivatePages.guest_is_measured: 6, PrivatePages.machine_goes_off: 1,
}  # fmt: skip
"""And how often each is done."""
LIVES = (PrivatePages.guest_goes_on, PrivatePages.guest_is_measured, PrivatePages.host_maps, PrivatePages.machine_goes_off)
"""What is done more often in histories in which guests come and go."""


class PagesInPieces(PrivatePages):
    PIECES = True


def run(machine: type[PrivatePages], examples: int, steps: int) -> Any:
    case: Any = machine.TestCase
    made = type("Run", (case,), {})
    made.settings = settings(  # type: ignore[attr-defined]
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        phases=[HypothesisPhase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    return made


TestPrivatePages = run(PrivatePages, 33, 70)
TestPagesInPieces = run(PagesInPieces, 8, 60)
TestManyPrivatePages = pytest.mark.slow(run(PrivatePages, 250, 120))
TestManyPagesInPieces = pytest.mark.slow(run(PagesInPieces, 100, 120))
