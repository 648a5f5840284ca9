# SPDX-License-Identifier: Apache-2.0
"""One page of a protected guest, one frame, and what moves the one to the other, by the contracts that other theorems prove.

What an operation of `guest/private.py` or `guest/moving.py` calls is replaced by its contract: the frame table by the entry of one frame, the host's
map by whether the host reaches that frame, the guest's tables by the one slot in which the page stands, records by their counts. A contract refuses
what its function may refuse, each way on a path of its own, and demands what its function demands of its caller. All are about this page and this
frame: an operation that names another has failed.

Meanwhile other processors run, so the order of steps is checked as they come: what may touch the frame at which moment, and what has to be cleaned
before somebody else can reach it (docs/protected.md, "Pages"). Words of slots and of the frame table are stated here again, in bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import caches
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Descriptor
from delphyne.el2.guest import guards, measuring, steps, turns, vms, whole
from delphyne.el2.memory import flush, frames, host_map, pages, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.shadow import Shadow
from delphyne.el2.memory.tables import Space, Walk
from delphyne.el2.sealing import engine, records, sha256
from delphyne.el2.sealing.page import Record, Terms
from delphyne.lang import Ipa, Pa, owned, u64
from delphyne.prove.memory import Only
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import decide, integer, term
from delphyne.prove.theorem import Given
from delphyne.prove.trace import PERMISSIONS, called, events

HOST, PRIVATE, SHARED, BUSY = 1, 2, 3, 4
"""States of a frame."""
PRIVATE_MARK, SHARED_MARK, CLEAN_MARK = 8, 9, 10
UNTOUCHED, EXPORTED, LENT, HELD, MOVING = 0, 1, 2, 3, 4
NO_TABLE, HOSTS, ON_ITS_WAY = "no table", "a page of the host's", "moving"
KINDS = (NO_TABLE, "untouched", "private", "clean", "shared", "exported", "lent", "held")
"""What a page can be, besides HOSTS, which only a guest that is not protected yet has, and ON_ITS_WAY, of which `moving` knows more."""
FRAMED = ("private", "clean", "shared", "held", ON_ITS_WAY)
COUNTED = ("private", "clean", "held", "exported", ON_ITS_WAY)
"""Kinds that are promised a record."""
ONE, NONE = z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)
LIMIT = 1 << 32


def leaf(frame: Term, read: Term, write: Term, execute: Term, mark: int) -> Term:
    """A leaf of stage 2: normal memory, inner shareable, accessed; the mark in bits 58:55."""
    return z3.Concat(z3.BitVecVal(0, 5), z3.BitVecVal(mark, 4), ~execute, z3.BitVecVal(0, 6), frame, z3.BitVecVal(0b0111, 4), write, read,
                     z3.BitVecVal(0b111111, 6))


def absent(fate: int, read: Term = NONE, write: Term = NONE, execute: Term = NONE, content: Term | None = None) -> Term:
    """A slot that is no leaf: the fate in bits 3:1, rights in 6:4, content from 12."""
    known = z3.BitVecVal(0, 36) if content is None else content
    return z3.Concat(z3.BitVecVal(0, 16), known, z3.BitVecVal(0, 5), execute, write, read, z3.BitVecVal(fate, 3), NONE)


class Slot:
    """The atomic in which the page stands."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def store(self, value: u64, order: object) -> None:
        """Change it."""
        self.page.stored(term(value))


class Bytes:
    """The frame, as EL2 sees it, or the part of it between two offsets."""

    length = u64(4096)

    def __init__(self, part: slice = slice(0, 4096)) -> None:
        self.part = part

    def __getitem__(self, key: slice) -> Bytes:
        return Bytes(key)


class Page:
    """An arbitrary page of an arbitrary guest, of one of `kinds`, in a state that satisfies the invariants; with the frame that it stands in, or that
    it is to get. `kind` is what it is, until an operation changes the slot; `host` says whether the host reaches the frame ("mapped") or it was
    taken out of the host's map ("out")."""

    def __init__(self, given: Given, kinds: tuple[str, ...] = KINDS) -> None:
        self.given = given
        self.kind: str = given.one_of("the page is", kinds)
        self.index, vm = given.u64("index"), given.u64("vm")
        given.assume(z3.ULT(term(self.index), 32), z3.ULT(term(vm), 64))
        self.frame, self.number = given.word("frame", 36), z3.ZeroExt(4, given.word("record", 32))
        self.pa = Pa(integer(z3.Concat(z3.BitVecVal(0, 16), self.frame, z3.BitVecVal(0, 12))))
        self.where = z3.Concat(z3.BitVecVal(0, 16), given.word("guest page", 36), z3.BitVecVal(0, 12))
        self.ipa = Ipa(integer(self.where))
        self.in_block = self.kind == "private" and bool(given.boolean("in a block"))
        """Whether a block stands in the stead of the page's table (`guest/whole.py`): of pages with all rights."""
        self.looked_for: bool | None = None
        """Whether the host's block was found to be out as a whole, where that was asked."""
        self.closings: list[str] = []
        """That the page's table may become a block."""
        self.read, self.execute = (ONE if self.in_block else given.word(f"page may be {what}", 1) for what in ("read", "executed"))
        self.write = {"clean": NONE, "private": ONE}.get(self.kind, given.word("page may be written", 1))
        self.place = z3.ZeroExt(60, given.word("move", 4))
        self.quick = True
        """Whether the processor has the crypto extensions."""
        self.is_turn = True
        """Where it has not: whether this CPU may do a piece."""
        self.in_part = False
        """Whether a part of it is in its segment's digest, and a part is not (`guest/measuring.py`)."""
        self.table, self.table_above, self.slot = given.u64("table"), given.u64("table above"), given.u64("slot")
        given.assume(z3.ULT(term(self.slot), 512))
        self.word = self.word_of(self.kind)
        self._frame()
        self._books(vm)
        self._seals()
        self.was = (self.word, self.entry, self.host, self.promised, self.taken, term(self.guard.private), term(self.guard.version))
        self._contracts()

    def word_of(self, kind: str) -> Term:
        """The slot of a page of that kind, with this page's frame, record and rights."""
        rights = (self.read, self.write, self.execute)
        words = {
            "private": leaf(self.frame, *rights, PRIVATE_MARK), "clean": leaf(self.frame, *rights, CLEAN_MARK),
            "shared": leaf(self.frame, ONE, ONE, NONE, SHARED_MARK), HOSTS: leaf(self.frame, *rights, 3),
            "exported": absent(EXPORTED, content=self.number), "lent": absent(LENT), "held": absent(HELD, *rights, self.frame),
            ON_ITS_WAY: absent(MOVING, content=z3.Extract(35, 0, self.place)),
        }
        return words.get(kind, absent(UNTOUCHED))

    def packed(self, state: int) -> Term:
        """The entry of a frame that is this guest's at this page."""
        return z3.Concat(z3.Extract(47, 12, self.where), z3.Extract(11, 0, term(self.index) + 1), z3.BitVecVal(state, 16))

    def _frame(self) -> None:
        """A page that stands in a frame has one in the state that the invariants say; any other gets one of any state."""
        given, framed = self.given, self.kind in FRAMED
        self.is_ram: Formula = z3.BoolVal(True) if framed else given.word("is RAM", 1) == 1
        state = {"shared": SHARED, ON_ITS_WAY: BUSY}.get(self.kind, PRIVATE)
        self.entry: Term = self.packed(state) if framed else given.word("entry", 64)
        self.host = "mapped" if self.kind == "shared" or not framed else "out"
        self.guest_reaches = self.kind in ("private", "clean", "shared", HOSTS)
        self.dropped = framed
        on_its_way = self.kind == ON_ITS_WAY
        self.dirty_of_host, self.dirty_of_guest = self.host == "mapped", framed and not on_its_way
        self.dirty_of_own, self.forgotten = on_its_way, False
        self.shown: int | None = None
        self.written: list[str] = []
        """What EL2 did to the frame's content, in order."""

    def _books(self, vm: u64) -> None:
        given, counted = self.given, self.kind in COUNTED
        self.count, self.promised, self.taken = (z3.ZeroExt(32, given.word(f"records {what}", 32)) for what in ("there", "promised", "taken"))
        private_pages, version = z3.ZeroExt(32, given.word("private pages", 32)), given.u64("version")
        given.assume(z3.ULE(self.taken, self.promised), z3.ULE(self.promised, self.count), z3.ULE(private_pages, self.promised))
        given.assume(z3.ULT(term(version), (1 << 56) - 1))
        if counted:
            given.assume(private_pages != 0, self.taken != (0 if self.kind in ("exported", ON_ITS_WAY) else self.promised))
        self.guard: Any = SimpleNamespace(vm=vm, private=integer(private_pages), version=version, identity=given.u64("identity"), key=object())
        self.shadow = Shadow()
        self.shadow.space.bits = given.u64("input bits")
        given.assume(z3.UGE(term(self.shadow.space.bits), 39), z3.ULE(term(self.shadow.space.bits), 48))
        self.record = Record()
        self.record.terms = Terms.of(z3_terms(given, self.read, self.write, self.execute))
        self.taken_number: Term | None = None

    def in_space(self) -> None:
        """Assume that the page lies in the guest's addresses."""
        self.given.assume(z3.ULT(self.where, z3.BitVecVal(1, 64) << term(self.shadow.space.bits)))

    # --- contracts ---------------------------------------------------------------------------------------------------------------

    def _contracts(self) -> None:
        given = self.given
        slots: Any = SimpleNamespace(slots=Only(self.guard.vm, SimpleNamespace(shadow=self.shadow)), ordinary=u64(0))
        for static, stand_in in (
            (guards.GUARDS, SimpleNamespace(slots=Only(self.index, self.guard), lent=u64(0))), (vms.VMS, slots),
            (pages.TABLES, Only(self.table, Only(self.slot, Slot(self)))),
            (tables.walk, self._walk), (tables.deepen, self._deepen), (tables.change, self._change), (tables.vttbr_of, lambda space: space),
            (flush.stage2_address, self._flush), (steps.drop_ordinary, self._drop_ordinary),
            (whole.opened, self._opened), (whole.close, self._close), (whole.close_again, self._close_again),
            (host_map.is_block_out, self._is_block_out),
            (host_map.remove, self._remove), (host_map.restore, self._restore),
            (records.promise, self._promise), (records.release, self._release), (records.take, self._take), (records.put, self._put),
            (caches.clean_range, self._clean), (caches.zero_page, self._zero), (caches.clear_page, self._clear),
            (engine.is_quick, lambda: self.quick), (turns.is_mine, lambda: self.is_turn), (turns.over, self._over),
            (measuring.is_under_way, self._is_under_way),
            (caches.forget_instructions, self._forget),
            (frames.take, self._moving("take", None, BUSY)), (frames.settle, self._moving("settle", BUSY, PRIVATE)),
            (frames.give, self._moving("give", PRIVATE, BUSY)), (frames.release, self._moving("release", BUSY, None)),
            (frames.share, self._moving("share", PRIVATE, SHARED)), (frames.unshare, self._moving("unshare", SHARED, PRIVATE)),
        ):
            given.replace(static, stand_in)

    def _moving(self, name: str, before: int | None, after: int | None) -> Any:
        """A transition of the frame table (theorems of `frames`); None is a frame of the host's that nobody pins."""
        old = z3.BitVecVal(HOST, 64) if before is None else self.packed(before)
        new = z3.BitVecVal(HOST, 64) if after is None else self.packed(after)

        def run(pa: Pa, owner: Any, page: Ipa) -> Err | None:
            self._of_frame(pa)
            self.given.require(z3.And(z3.ZeroExt(48, term(owner)) == term(self.index) + 1, term(page) == self.where), "for this guest's page")
            if not decide(z3.And(self.is_ram, self.entry == old)):
                return Err.OWNER
            called(f"frames.{name}")
            self.entry = new
            if name == "settle":
                self.given.require(self.kind not in FRAMED or self.kind == ON_ITS_WAY, "no other frame is the guest's at this page")
                self.given.require(self.dropped, "no ordinary guest reaches the frame as its host's")
            if name == "release":
                self.given.require(not self.guest_reaches and self._is_clean(), "what was written is in memory before the host has the frame")
            return None

        return run

    def _of_frame(self, pa: Pa) -> None:
        self.given.require(term(pa) == term(self.pa), "the frame of this page")

    def _of_space(self, space: Space, address: u64) -> None:
        self.given.require(space is self.shadow.space, "the guest's tables")
        self.given.require(term(address) == self.where, "this page")

    def _here(self) -> Walk:
        return Walk(self.table, self.slot, u64(3), Descriptor.of(integer(self.word)))

    def _walk(self, space: Space, address: u64) -> Walk:
        self._of_space(space, address)
        if self.in_block:
            return Walk(self.table_above, self.slot, u64(2), Descriptor.of(integer(self.word & ~z3.BitVecVal(0x1F_F002, 64))))
        return Walk(self.table_above, self.slot, u64(2), Descriptor()) if self.kind == NO_TABLE else self._here()

    def _opened(self, index: u64, ipa: Ipa, block: Walk) -> Walk:
        """As theorem whole.opened."""
        self._of_page(index, ipa)
        self.given.require(self.in_block and term(block.table).eq(term(self.table_above)), "a block, where it was found")
        self.in_block = False
        return self._here()

    def _is_block_out(self) -> bool:
        """As theorem host_map.is_block_out, of the block that this page was taken from."""
        self.looked_for = bool(self.given.boolean("the host's block is out"))
        return self.looked_for

    def _of_page(self, index: u64, ipa: Ipa) -> None:
        self.given.require(z3.And(term(index) == term(self.index), term(ipa) == self.where), "this page of this guest")

    def _close(self, index: u64, ipa: Ipa, table: u64) -> None:
        """As theorem whole.close: what the page is does not change."""
        self._of_page(index, ipa)
        self.given.require(term(table) == term(self.table), "the table of this page")
        self.given.require(self.kind == "a leaf" and self.entry.eq(self.packed(PRIVATE)), "the page is the guest's by then")
        self.closings.append("at once")

    def _close_again(self, index: u64, ipa: Ipa, pa: Pa, table: u64) -> None:
        """As theorem whole.close_again."""
        self._of_frame(pa)
        self._close(index, ipa, table)
        self.closings[-1] = "now and then"

    def _deepen(self, space: Space, address: u64) -> Walk | Err:
        self._of_space(space, address)
        if self.in_block:
            return Err.EXISTS
        if self.kind == NO_TABLE:
            if self.given.boolean("tables are missing"):
                return Err.NO_MEMORY
            self.kind = "untouched"
        return self._here()

    def stored(self, word: Term) -> None:
        """The slot changes, at once for every walker."""
        self.given.require(self.kind != NO_TABLE and not self.in_block, "there is a table")
        was_leaf = self.guest_reaches
        valid = self.given.holds(z3.Extract(0, 0, word) == 1)
        self.word = word
        called("slot")
        if valid:
            self.given.require(not was_leaf, "a leaf is put only where no processor remembers one")
            self._reached()
            self.shown = len(events())
        elif was_leaf:
            self.dirty_of_guest = True
        self.kind = "a leaf" if valid else "no leaf"

    def _reached(self) -> None:
        """The guest reaches the frame by what stands in the slot, from now on."""
        given, word = self.given, self.word
        given.require(z3.Extract(47, 12, word) == self.frame, "the frame that was made ready")
        mark, shared = z3.Extract(58, 55, word), self.entry.eq(self.packed(SHARED))
        given.require(z3.Or(mark == PRIVATE_MARK, mark == CLEAN_MARK) if not shared else mark == SHARED_MARK, "the mark says whose the frame is")
        given.require(shared or self.entry.eq(self.packed(PRIVATE)), "the frame is the guest's before the guest reaches it")
        if not shared:
            given.require(self.host != "mapped", "nobody else reaches it")
            given.require(not self.dirty_of_host and self._is_clean(), "what is in it is in memory")
            given.require(self.forgotten, "no processor executes what stood there before")
        self.guest_reaches = True
        self.dirty_of_guest = True

    def _change(self, space: Space, address: u64, found: Walk, changed: Descriptor) -> None:
        """As tables.change: permissions and what is software's, and all TLBs know."""
        self._of_space(space, address)
        given, word, mask = self.given, term(changed.raw), ~z3.BitVecVal(PERMISSIONS, 64)
        given.require(not self.in_block, "there is a table")
        given.require(z3.And(term(found.table) == term(self.table), term(found.slot) == term(self.slot)), "the slot of this page")
        given.require(z3.And(z3.Extract(0, 0, self.word) == 1, self.word & mask == word & mask), "a leaf, of which only permissions change")
        self.word = word
        called("change")
        self._reached()

    def _flush(self, space: Any, ipa: Ipa) -> None:
        self._of_space(space, ipa.raw)
        called("guest flush")
        self.dirty_of_guest = self.dirty_of_guest or self.guest_reaches
        self.guest_reaches = self.given.holds(z3.Extract(0, 0, self.word) == 1)

    def _drop_ordinary(self, pa: Pa) -> Err | None:
        """As theorem private.drop_ordinary says."""
        self._of_frame(pa)
        if self.given.boolean("an ordinary guest's shadow cannot be dropped now"):
            return Err.BUSY
        self.dropped = True
        return None

    def _remove(self, pa: Pa) -> Err | None:
        """As theorem host_map.remove."""
        self._of_frame(pa)
        if self.host != "mapped":
            return Err.NOT_FOUND
        if not self.given.boolean("the host's map can be changed"):
            return Err.NO_MEMORY
        called("host out")
        self.host, self.dirty_of_host, self.forgotten = "out", True, False
        return None

    def _restore(self, pa: Pa) -> None:
        """As theorem host_map.restore."""
        self._of_frame(pa)
        given = self.given
        given.require(self.host == "out", "what comes back was taken out")
        given.require(self.entry.eq(self.packed(SHARED)) or self.entry.eq(z3.BitVecVal(HOST, 64)), "the host reaches only what is its own or shared")
        given.require(self._is_clean(), "what was written is in memory before the host reaches it")
        called("host in")
        self.host = "mapped"

    def _promise(self) -> Err | None:
        if decide(self.promised == self.count):
            return Err.NO_MEMORY
        self.promised = self.promised + 1
        return None

    def _release(self) -> None:
        self.given.require(self.promised != self.taken, "a promise without a record is given up")
        self.promised = self.promised - 1

    def _take(self) -> u64:
        self.given.require(self.promised != self.taken, "the record was promised")
        self.taken = self.taken + 1
        self.taken_number = self.number
        made: u64 = integer(z3.ZeroExt(28, self.number))
        return made

    def _put(self, number: u64) -> None:
        self.given.require(term(number) == z3.ZeroExt(28, self.number), "the record of this page")
        self.given.require(self.taken_number is None and self.kind in ("exported", ON_ITS_WAY, "no leaf"), "which is in use")
        self.taken = self.taken - 1

    def _clean(self, start: Any, size: u64) -> None:
        self.given.require(z3.And(term(start) == term(self.pa), term(size) == 4096), "the frame, all of it, is cleaned")
        called("clean")
        self.dirty_of_guest = self.dirty_of_own = False
        self.dirty_of_host = self.dirty_of_host and self.host == "mapped"

    def _clear(self, pa: Pa) -> None:
        """Zeroed and cleaned: of what the host wrote past the caches, or left in them, nothing is left."""
        self._of_frame(pa)
        given = self.given
        given.require(self.dropped and self.host != "mapped" and not self.guest_reaches, "nobody else reaches the frame when EL2 touches it")
        called("clear")
        self.written.append("zero")
        self.dirty_of_host = self.dirty_of_guest = self.dirty_of_own = self.forgotten = False

    def _is_under_way(self, index: u64, ipa: Ipa) -> bool:
        """As theorem measuring.is_under_way."""
        self._of_page(index, ipa)
        self.given.require(self.kind == "held", "asked of a page that is held")
        return self.in_part

    def _over(self) -> None:
        """As theorem turns.over: no other piece is begun under these locks."""
        self.given.require(self.is_turn and not self.quick, "a piece was done, in its turn")
        self.is_turn = False
        self.written.append("over")

    def _forget(self) -> None:
        called("forget instructions")
        self.forgotten = self._is_clean() and not self.dirty_of_host

    def _zero(self, pa: Pa) -> None:
        self._of_frame(pa)
        self.touch("zero", True)

    def touch(self, what: str, writes: bool) -> None:
        """EL2 reads or writes what is in the frame."""
        given = self.given
        given.require(self.dropped and self.host != "mapped" and not self.guest_reaches, "nobody else reaches the frame when EL2 touches it")
        given.require(not self.dirty_of_host and not self.dirty_of_guest, "what host or guest wrote, past the caches or not, is in memory")
        called(what)
        self.written.append(what)
        if writes:
            self.dirty_of_own, self.forgotten = True, False

    def _is_clean(self) -> bool:
        return not self.dirty_of_guest and not self.dirty_of_own

    # --- sealing -------------------------------------------------------------------------------------------------------------------

    def _seals(self) -> None:
        """Pages are sealed by the functions of `sealing/page.py` themselves, above a digest and a cipher that only note what they are used for."""
        given = self.given
        given.replace(CPUS, SimpleNamespace(mine=lambda: SimpleNamespace(simd=None)))
        given.replace(owned, self._owned)
        given.replace(records.RECORDS, Only(integer(z3.ZeroExt(28, self.number)), self.record))
        given.replace(engine.start, lambda state: None)
        given.replace(engine.crypt, lambda area, key, counter, piece: self._crypt(key, counter))
        given.replace(engine.same, lambda one, other: self.given.boolean("the digest is right"))
        given.replace(sha256.update, lambda state, area, data: self.touch("digest", False) if isinstance(data, Bytes) else None)
        given.replace(sha256.finish, lambda state, area, digest: None)

    @contextmanager
    def _owned(self, pa: Pa, size: u64) -> Iterator[Bytes]:
        self._of_frame(pa)
        self.given.require(term(size) == 4096, "the frame, all of it")
        yield Bytes()

    def _crypt(self, key: object, counter: Any) -> None:
        self.given.require(key is self.guard.key, "under the guest's key")
        self.counter = term(counter.high)
        self.touch("crypt", True)

    # --- what must be true afterwards ------------------------------------------------------------------------------------------------

    def requires(self, kind: str, entry: Term, host: str, **counts: int) -> None:
        """The page is of that kind, with the same frame, record and rights as before; the frame has that entry, and the host reaches it or not; and
        `promised`, `taken` and `private` have changed by as much as is said."""
        self.requires_word(self.word_of(kind), entry, host, **counts)

    def requires_word(self, word: Term, entry: Term, host: str, **counts: int) -> None:
        """The same, for a slot with this word."""
        given = self.given
        given.require(self.word == word, "the page is what it should be")
        given.require(self.entry == entry, "the frame's entry is what it should be")
        given.require(self.host == host, "the host reaches the frame exactly if it may")
        given.require(self.guest_reaches == given.holds(z3.Extract(0, 0, word) == 1), "no processor remembers a leaf that is gone")
        after = events()[self.shown:] if self.shown is not None else None
        given.require(after is None or any(event.show(lambda _: 0) == "dsb ishst" for event in after), "walkers see a new leaf when this returns")
        for name, now, before in (("promised", self.promised, self.was[3]), ("taken", self.taken, self.was[4]),
                                  ("private", term(self.guard.private), self.was[5])):
            given.require(now == before + counts.get(name, 0), f"{name} counts what there is")

    def requires_unchanged(self) -> None:
        """Nothing changed: but that empty tables may have been added, and that what was a page of the host's may be one in a table of pages now."""
        word, entry, host, *_ = self.was
        self.requires_word(word, entry, host)
        self.given.require(term(self.guard.version) == self.was[6], "no version is used")
        self.given.require(not [what for what in self.written if what not in ("digest", "over")], "what is in the frame is as it was")

    def run(self, operation: Any, *arguments: Any) -> Any:
        """`operation(*arguments)` under all three locks."""
        with FRAMES_LOCK, HOST_LOCK, GUESTS_LOCK:
            return operation(*arguments)


def z3_terms(given: Given, read: Term, write: Term, execute: Term) -> u64:
    """Terms of a record: a page that may be written is not clean, any other is; under any version."""
    made: u64 = integer(z3.Concat(z3.BitVecVal(0, 4), ~write, execute, write, read, given.word("version of the record", 56)))
    return made
