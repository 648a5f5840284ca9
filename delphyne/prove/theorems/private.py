# SPDX-License-Identifier: Apache-2.0
"""The pages of protected guests: what each operation makes of a page of each kind, and in which order.

One page and one frame, in any state that the invariants of `guest/private.py` allow, with what the operation calls replaced by its contract
(`one_page`). That an operation names no other page and no other frame, that the order of its steps lets nobody reach a frame too early, and that
records are counted, is demanded there; what becomes of the page is said here, kind by kind.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import guards, lent, measuring, moving, private, steps, vms, whole
from delphyne.el2.guest.steps import Fate
from delphyne.el2.memory import blocks, frames, shadow
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Ipa, Pa, u64
from delphyne.prove.one_page import (
    CLEAN_MARK,
    FRAMED,
    HOST,
    HOSTS,
    KINDS,
    NO_TABLE,
    NONE,
    ONE,
    PRIVATE,
    PRIVATE_MARK,
    SHARED,
    Page,
    absent,
    leaf,
)
from delphyne.prove.path import Limits, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.theorems.stages import AnyRights

TRUSTS = (
    "frames.LOCK, HOST_LOCK and GUESTS_LOCK are held: nobody else moves pages meanwhile",
    "caches, digest and cipher do what they are called for (their tests compare them with models and with published vectors)",
)
MOVES = tuple(f"frames.{name}" for name in ("take", "settle", "give", "release", "share", "unshare"))
BOOKS = tuple(f"records.{name}" for name in ("promise", "release", "take", "put"))
CONTRACTS = (
    *MOVES, *BOOKS, "host_map.remove", "host_map.restore", "tables.walk", "tables.change", "stages.flush_stage2", "guards.owner", "whole.opened",
    "whole.close", "whole.close_again",
)  # fmt: skip
COUNTS = "private: `promised` is at least the pages of all guests that are private, held or exported, `taken` those that are exported"
PROTECTED = "private: of a guest that is PROTECTED, whose tables have no page of the host's"
DEEPER = "private: with Err a table may have been added, which is empty"
QUICK = "private: with the crypto extensions, and of a page that is not MOVING; the others are theorems of `moving`"
about = partial(theorem, assumes=CONTRACTS, trusts=TRUSTS, bounds=(COUNTS, QUICK))
HOSTS_ENTRY = z3.BitVecVal(HOST, 64)


def bit(flag: Term) -> Term:
    """Whether a word of one bit is set."""
    return flag == 1


@about(steps.space_of, steps.look, steps.find, steps.leaf_of, steps.absent_of, private.is_clean)
def reading(given: Given) -> None:
    """What stands in the slot is read as what it is, and reading changes nothing."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    with GUESTS_LOCK:
        given.require(steps.space_of(page.index) is page.shadow.space, "the guest's own tables")
        in_block, looked = page.in_block, steps.look(page.index, page.ipa)
        given.require(page.in_block == in_block and whole.is_block(looked) == in_block, "a look leaves a block as it is")
    found = page.run(steps.find, page.index, page.ipa)
    given.require(not page.in_block, "what is found can be changed")
    with GUESTS_LOCK:
        one = steps.leaf_of(found)
        other = steps.absent_of(found)
        given.require((one is not None) == (page.kind in ("private", "clean", "shared")), "a leaf exactly where one of the guest's own is")
        wanted = {"exported": Fate.EXPORTED, "lent": Fate.LENT, "held": Fate.HELD}.get(page.kind, Fate.UNTOUCHED)
        given.require(other.fate is wanted, "its fate")
        if page.kind in ("exported", "held"):
            given.require(bit(page.write) == (not private.is_clean(other)), "clean exactly if the guest may not write it")
    if one is not None:
        given.require(term(one.frame) == z3.ZeroExt(28, page.frame), "the frame that it leads to")
    page.requires_unchanged()


@theorem(steps.drop_ordinary, steps._drop_near, outcomes=("nothing to do", "no RAM", "dropped", "try again"),
         assumes=("layout.index_of", "blocks.known", "lent.drop_everybodys", "shadow.drop_all"),
         bounds=("steps.drop_ordinary: at most two ordinary guests",), limits=Limits(decisions=60))
def drop_ordinary(given: Given) -> None:
    """Where a guest may reach a frame near this one as its host's, every ordinary guest's shadow is dropped and every lent page; Err where that
    cannot be done now, and where what may be reached is no RAM."""
    ordinary, lent_bits, entry = given.u64("ordinary"), given.u64("lent"), given.u64("index of the frame")
    rest = term(ordinary) & (term(ordinary) - 1)
    given.assume(rest & (rest - 1) == 0)
    is_ram, leaves = given.boolean("pa is RAM"), given.u32("leaves")
    top: Any = z3.Function("top of shadow", z3.BitVecSort(64), z3.BitVecSort(64))
    dropped: list[Term] = []
    lent_dropped: list[bool] = []

    class Slots:
        """The VMs."""

        def __getitem__(self, index: u64) -> Any:
            return SimpleNamespace(shadow=SimpleNamespace(top=integer(top(term(index))), number=term(index)))

    def drop_all(which: Any) -> Err | None:
        dropped.append(which.number)
        return Err.BUSY if given.boolean(f"drop {len(dropped)} has to wait") else None

    given.replace(vms.VMS, SimpleNamespace(slots=Slots(), ordinary=ordinary))
    given.replace(guards.GUARDS, SimpleNamespace(lent=lent_bits))
    given.replace(frames.index_of, lambda pa: entry if is_ram else None)
    given.replace(blocks.leaves, lambda index: leaves)
    given.replace(lent.drop_everybodys, lambda: lent_dropped.append(True))
    given.replace(shadow.drop_all, drop_all)
    with FRAMES_LOCK, GUESTS_LOCK:
        result = steps.drop_ordinary(Pa(given.u64("pa")))
    nobody = z3.And(term(ordinary) == 0, term(lent_bits) == 0)
    given.outcome("no RAM" if result is Err.RANGE else "try again" if isinstance(result, Err) else "dropped" if lent_dropped else "nothing to do")
    if result is Err.RANGE:
        given.require(not is_ram and not dropped, "no RAM, and nothing is dropped")
        given.require(z3.Not(nobody), "where somebody might reach it")
        return
    if isinstance(result, Err):
        given.require(bool(dropped), "what has to wait was begun")
        return
    if not lent_dropped:
        given.require(not dropped, "nothing is dropped")
        given.require(z3.Or(nobody, z3.And(is_ram, term(leaves) == 0)), "nobody reaches anything near it")
        return
    given.require(z3.And(term(leaves) != 0, z3.Not(nobody)), "only where somebody may reach a frame near it")
    any_vm = given.word("any VM", 64)
    asked = z3.And(z3.ULT(any_vm, 64), z3.LShR(term(ordinary), any_vm) & 1 == 1, top(any_vm) != 0)
    given.require(z3.Implies(asked, z3.Or([number == any_vm for number in dropped])), "every ordinary guest's shadow is dropped")


@about(private.admit, private._admit_fresh, private._admit_lent, moving.bring_back, moving._import, moving._arrive, steps.take, steps.take_filled,
       steps.settle, steps.settle_zeroed, steps._hand_over, steps.show, steps.give_back, steps.write, steps.must,
       outcomes=("fresh", "exported", "lent", "refused", "altered"), assumes=(*CONTRACTS, "tables.deepen", "private.drop_ordinary"),
       bounds=(COUNTS, QUICK, PROTECTED, DEEPER, "private.admit: of a page that stands in no frame, or is HELD"))
def admit(given: Given) -> None:
    """The host's frame is the guest's: zeroed, or verified and then decrypted, before the guest reaches it, and after nobody else does; a page that
    is lent is shared as it is. With Err nothing changes, and a page that was altered stays as it came."""
    page = Page(given, (NO_TABLE, "untouched", "exported", "lent", "held"))
    page.in_space()
    kind, counter = page.kind, page.record.terms.version
    with GUESTS_LOCK:
        where = steps.look(page.index, page.ipa)
    result = page.run(private.admit, page.index, page.ipa, page.pa, where)
    if isinstance(result, Err):
        given.outcome("altered" if result is Err.INTEGRITY else "refused")
        given.require(result is not Err.INTEGRITY or page.written == ["digest"], "a page that was altered was verified, and nothing else")
        page.requires_unchanged()
        return
    given.outcome("fresh" if kind in (NO_TABLE, "untouched") else kind)
    given.require(page.was[1] == HOSTS_ENTRY, "the frame was the host's, and nobody's else")
    given.require((page.looked_for is None) == (kind == "lent"), "it is seen whether this was the last page of a block")
    wanted = ["now and then" if kind == "exported" else "at once"] if page.looked_for else []
    given.require(page.closings == wanted, "which may be one to the guest then")
    if kind == "lent":
        given.require(not page.written, "as it is")
        page.requires("shared", page.packed(SHARED), "mapped")
    elif kind == "exported":
        clean = given.holds(page.write == 0)
        given.require(page.written == (["digest"] if clean else ["digest", "crypt"]), "verified, then decrypted where it was encrypted")
        given.require(clean or page.counter == term(counter), "by the version of its record")
        page.requires("clean" if clean else "private", page.packed(PRIVATE), "out", taken=-1)
    else:
        given.require(kind != "held" and page.written == ["zero"], "zeroed, and a page that is held is refused")
        fresh = leaf(page.frame, ONE, ONE, ONE, PRIVATE_MARK)
        page.requires_word(fresh, page.packed(PRIVATE), "out", promised=1, private=1)


@about(private.hold, outcomes=("held", "refused"),
       assumes=(*CONTRACTS, "tables.deepen", "private.drop_ordinary"), bounds=(COUNTS, QUICK, DEEPER))
def hold(given: Given) -> None:
    """The host's frame is the guest's as it is, and is mapped nowhere; with Err nothing changes."""
    page = Page(given, (*KINDS, HOSTS))
    kind = page.kind
    if kind in FRAMED:
        given.assume(page.is_ram)
    rights: Any = AnyRights(given)
    result = page.run(private.hold, page.index, page.ipa, page.pa, rights)
    given.outcome("refused" if isinstance(result, Err) else "held")
    if isinstance(result, Err):
        page.requires_unchanged()
        return
    given.require(kind in (NO_TABLE, "untouched"), "only a page that has no fate yet")
    given.require(page.was[1] == HOSTS_ENTRY, "the frame was the host's, and nobody's else")
    read, write, execute = (ONE if right else NONE for right in (rights.read, rights.write, rights.execute))
    page.requires_word(absent(3, read, write, execute, page.frame), page.packed(PRIVATE), "out", promised=1, private=1)
    given.require(not page.written, "as it is")


@about(private._place_of, outcomes=("deepened", "opened", "refused"), assumes=("shadow.deepen",))
def place_of(given: Given) -> None:
    """What `shadow.deepen` says; where it says that there is a block, the page in the table that comes back, if the block is the guest's own."""
    index, ipa = given.u64("index"), Ipa(given.u64("ipa"))
    answers: dict[str, Any] = {"a walk": object(), "a block": Err.EXISTS, "no room": Err.NO_MEMORY, "no address": Err.RANGE}
    answer = answers[given.one_of("deepened", tuple(answers))]
    level = given.one_of("found at level", (2, 3))
    page: Any = SimpleNamespace(level=u64(level))
    tables = object()

    def shadow_of(asked: u64) -> object:
        given.require(term(asked) == term(index), "of this guest")
        return tables

    def deepen(asked: object, where: Ipa) -> Any:
        given.require(asked is tables and term(where).eq(term(ipa)), "this page")
        return answer

    def find(asked: u64, where: Ipa) -> Any:
        given.require(z3.And(term(asked) == term(index), term(where) == term(ipa)), "this page")
        return page

    for function, stand_in in ((guards.shadow_of, shadow_of), (shadow.deepen, deepen), (steps.find, find)):
        given.replace(function, stand_in)
    with FRAMES_LOCK, GUESTS_LOCK:
        result = private._place_of(index, ipa)
    block = answer is Err.EXISTS
    given.outcome("opened" if block and level == 3 else "refused" if isinstance(answer, Err) else "deepened")
    given.require(result is (page if block and level == 3 else answer), "as it should be")


@about(private.reveal, outcomes=("mapped", "left alone"))
def reveal(given: Given) -> None:
    """A page that is held is mapped with the rights it was held with; any other stays."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind = page.kind
    page.run(private.reveal, page.index, page.ipa)
    given.outcome("mapped" if kind == "held" else "left alone")
    if kind != "held":
        page.requires_unchanged()
        return
    rights, writable = (page.read, page.write, page.execute), given.holds(bit(page.write))
    shown = leaf(page.frame, *rights, PRIVATE_MARK if writable else CLEAN_MARK)
    page.requires_word(shown, page.packed(PRIVATE), "out")
    given.require(not page.written, "as it is")


def _exported(given: Given, page: Page, clean: bool) -> None:
    """The page is with the host, encrypted unless it is clean, and a record says so."""
    given.require(page.written == (["digest"] if clean else ["crypt", "digest"]), "encrypted unless it is clean, and measured as the host gets it")
    terms, version = page.record.terms, page.was[6] + 1
    given.require(term(page.guard.version) == version, "a version is used that no page had")
    given.require(clean or page.counter == version, "under that version")
    wanted = z3.Concat(z3.BitVecVal(0, 4), ONE if clean else NONE, page.execute, page.write, page.read, z3.Extract(55, 0, version))
    given.require(term(terms.raw) == wanted, "the record has the version, the rights, and whether the page is clean")
    page.requires("exported", HOSTS_ENTRY, "mapped", taken=1)


@about(private.export, private._export, moving.take_out, moving._leave, steps.take_away, outcomes=("encrypted", "measured", "left alone"))
def export(given: Given) -> None:
    """A page in a frame of its own goes to the host, encrypted or, where it is clean, measured, with a record under a new version; its guest reaches
    it no more before EL2 begins, and the host not before EL2 is done. Any other stays. It cannot fail."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind = page.kind
    page.run(private.export, page.index, page.ipa)
    if kind not in ("private", "clean", "held"):
        given.outcome("left alone")
        page.requires_unchanged()
        return
    clean = kind == "clean" or (kind == "held" and given.holds(page.write == 0))
    given.outcome("measured" if clean else "encrypted")
    _exported(given, page, clean)


@about(private.export, outcomes=("a piece",), assumes=("measuring.is_under_way", "measuring.go_on"))
def export_of_a_part(given: Given) -> None:
    """A page of which only a part is measured stays: it is measured on, once, and is to be asked for again whatever comes of that."""
    page = Page(given, ("held",))
    page.in_space()
    page.in_part = True
    gone_on: list[u64] = []

    def go_on(index: u64) -> Err | None:
        gone_on.append(index)
        came_to: Err | None = given.one_of("the piece", (None, Err.INTEGRITY))
        return came_to

    given.replace(measuring.go_on, go_on)
    result = page.run(private.export, page.index, page.ipa)
    given.outcome("a piece")
    given.require(result is Err.BUSY, "asked for again")
    given.require(len(gone_on) == 1 and term(gone_on[0]).eq(term(page.index)), "one piece, of this guest's page")
    page.requires_unchanged()


def _given_up(given: Given, page: Page, kind: str) -> None:
    """The page is as if it had never been touched, and the host has got its frame zeroed, if it was the guest's alone."""
    if kind in ("private", "clean", "held"):
        given.require(page.written == ["zero"], "zeroed before the host reaches it")
        page.requires("untouched", HOSTS_ENTRY, "mapped", promised=-1, private=-1)
        return
    given.require(not page.written, "nothing is written")
    if kind == "shared":
        page.requires("untouched", HOSTS_ENTRY, "mapped")
    elif kind == "exported":
        page.requires("untouched", page.was[1], page.was[2], promised=-1, taken=-1, private=-1)
    elif kind == "lent":
        page.requires("untouched", page.was[1], page.was[2])
    else:
        page.requires_unchanged()


@about(private.give_up, private._zero_and_return, steps.count_down, private._lend_back)
def give_up(given: Given) -> None:
    """Whatever the page was, it is untouched: its frame is the host's, zeroed if the guest had it alone, its record free, its promise given up."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind = page.kind
    page.run(private.give_up, page.index, page.ipa)
    _given_up(given, page, kind)


@about(private.end, outcomes=("as it came", "given up"), assumes=(*CONTRACTS, "private.give_up"))
def end(given: Given) -> None:
    """A page that is held by a guest that never was protected goes back to the host as it came; any other is given up."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind, page.guard.committed = page.kind, given.boolean("it was protected")
    page.run(private.end, page.index, page.ipa)
    is_given_up = kind != "held" or page.guard.committed
    given.outcome("given up" if is_given_up else "as it came")
    if is_given_up:
        _given_up(given, page, kind)
        return
    given.require(not page.written, "as it came")
    page.requires("untouched", HOSTS_ENTRY, "mapped", promised=-1, private=-1)


@about(private.share, outcomes=("shared", "lent", "refused"), assumes=(*CONTRACTS, "tables.deepen"), bounds=(COUNTS, QUICK, PROTECTED, DEEPER))
def share(given: Given) -> None:
    """A page that the guest may write is the host's to reach too, and no longer promised a record; one that it never touched is lent from now on; any
    other is refused, and with Err nothing changes."""
    page = Page(given)
    kind = page.kind
    result = page.run(private.share, page.index, page.ipa)
    given.require(not page.written, "nothing is written")
    if isinstance(result, Err):
        given.outcome("refused")
        given.require(kind != "private" or result is Err.RANGE, "a page of the guest's alone is shared")
        fated = kind in ("shared", "exported", "lent", "held")
        given.require(not fated or result in (Err.STATE, Err.RANGE), "what has another fate is no page to share")
        given.require(kind != "clean" or result in (Err.PERMISSION, Err.RANGE), "what the guest may not write is not shared")
        page.requires_unchanged()
    elif kind == "private":
        given.outcome("shared")
        page.requires("shared", page.packed(SHARED), "mapped", promised=-1, private=-1)
    else:
        given.outcome("lent")
        given.require(kind in (NO_TABLE, "untouched"), "a page that was never touched")
        page.requires("lent", page.was[1], page.was[2])


@about(private.unshare, outcomes=("private", "untouched", "refused"))
def unshare(given: Given) -> None:
    """A page that is shared is the guest's alone again, with what it holds; one that is lent is untouched; with Err nothing changes."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind = page.kind
    result = page.run(private.unshare, page.index, page.ipa)
    given.require(not page.written, "with what it holds")
    if isinstance(result, Err):
        given.outcome("refused")
        given.require(kind != "lent", "a page that is lent has nothing that could be refused")
        given.require((result is Err.STATE) == (kind != "shared"), "a page that is not shared is told so")
        page.requires_unchanged()
    elif kind == "shared":
        given.outcome("private")
        page.requires_word(leaf(page.frame, ONE, ONE, ONE, PRIVATE_MARK), page.packed(PRIVATE), "out", promised=1, private=1)
    else:
        given.outcome("untouched")
        given.require(kind == "lent", "a page that is lent")
        page.requires("untouched", page.was[1], page.was[2])


@about(private.retreat, outcomes=("exported", "lent", "left alone"), assumes=(*CONTRACTS, "private.export"))
def retreat(given: Given) -> None:
    """The host has the frame back: of a page of the guest's alone as by `export`, of a shared one as it is, and the page is lent."""
    page = Page(given, (*KINDS, HOSTS))
    page.in_space()
    kind = page.kind
    page.run(private.retreat, page.index, page.ipa)
    if kind == "shared":
        given.outcome("lent")
        given.require(not page.written, "as it is")
        page.requires("lent", HOSTS_ENTRY, "mapped")
    elif kind in ("private", "clean", "held"):
        given.outcome("exported")
        _exported(given, page, kind == "clean" or (kind == "held" and given.holds(page.write == 0)))
    else:
        given.outcome("left alone")
        page.requires_unchanged()
