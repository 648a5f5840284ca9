# SPDX-License-Identifier: Apache-2.0
"""Pages of protected guests against plain dictionaries: random histories of three VMs, which begin, are measured, protected and end, and of a host
that gives them frames, takes them away and lacks what it needs; on three CPUs, each of which remembers all that it ever translated.

EL2's own operations exclude one another, since each holds all three locks; so the histories are of whole operations. What goes on beside them are the
stores of guests and of the host, at any point where another CPU may run.

The model that they are compared with is `pages_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import Phase as HypothesisPhase
from hypothesis.stateful import rule
from pages_model import (
    ALL,
    ALONE,
    BLOCK,
    FRAMES,
    HAVE,
    IPAS,
    LIVE,
    NEAR,
    NEVER,
    RECORDS,
    TAG,
    Guest,
    Kind,
    Page,
    PagesModel,
    Stores,
)
from private_world import EXECUTE, IPA, PAGE, READ, VMS, WRITE, host_leaf

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import ending, guards, lent, private, steps, touch, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import faults, protected_faults, protected_flushes
from delphyne.el2.kvm.protected_faults import Outcome
from delphyne.el2.memory import frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.stage2 import Rights
from delphyne.lang import Ipa, Pa, u8, u16, u64
from delphyne.lang.machine import Access

FOREIGN = 77
"""An owner that no VM is."""
KINDS_OF_RIGHTS = [steps.FULL, steps.DATA, Rights(True, False, True), Rights(True, False, True), Rights(True, False, False)]
READ_ONLY = 0b01 << 6
ACCESSES = {READ: faults.Access.READ, WRITE: faults.Access.WRITE, EXECUTE: faults.Access.EXECUTE}
WITHOUT = (Kind.UNTOUCHED, Kind.EXPORTED, Kind.LENT, Kind.HELD)
BEGUN = (Phase.MEASURING, Phase.PROTECTED, Phase.STOPPED)
LACKS = (None,) * 12 + ("records", "guests", "host", "graveyard")
HOW = ("as it is",) * 2 + ("right",) * 6 + ("older", "another's", "altered", "zero")


class PrivatePages(PagesModel):
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
