# SPDX-License-Identifier: Apache-2.0
"""An ordinary guest's stage-2 faults: whatever the registers and the host's table say, the shadow gets only what the host's own table allows, and
else the host hears what its own table would have raised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from unittest import mock

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.el1 import PAR_EL1, Par
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import FAR_EL2, HPFAR_EL2, AbortIss, Esr
from delphyne.el2.arch.pagetable import Stage2Leaf
from delphyne.el2.guest import lent, vms
from delphyne.el2.kvm import faults, host_tables, near
from delphyne.el2.kvm.abilities import Abilities
from delphyne.el2.kvm.faults import Access, Shown
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.memory import frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import HostLeaf
from delphyne.lang import Ipa, Pa, Va, u8, u64
from delphyne.prove.memory import Only
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import Called, events

LOCKED = "frames.LOCK and GUESTS_LOCK are held where the host's tables and the shadow are looked at: nobody else changes them meanwhile"
TABLES = ("host_tables.walk", "host_tables.leaf_of", "host_tables.set_accessed")
NEAR = ("near.is_known", "near.remember", "host_tables.reading", "shadow.fill_page")
ORDINARY = "faults: the last tables are known, and `prefill` names a page, only of a VM without a guard (kvm/protect.py forgets both)"
TRANSLATION, ACCESS_FLAG, PERMISSION = 4, 8, 12
HAD_LEAF = 4
about = partial(theorem, trusts=(LOCKED,))


def bit(word: Term, number: int) -> Formula:
    """Whether a bit is set."""
    return z3.Extract(number, number, word) == 1


def page_at(given: Given, name: str) -> Term:
    """An arbitrary page of those that HPFAR_EL2 can name."""
    return z3.ZeroExt(12, z3.Concat(given.word(name, 40), z3.BitVecVal(0, 12)))


@contextmanager
def standing_in(*places: tuple[Any, str, Any]) -> Iterator[None]:
    """A stand-in for each name of a module."""
    with ExitStack() as stack:
        for module, name, stand_in in places:
            stack.enter_context(mock.patch.object(module, name, stand_in))
        yield


class Table:
    """What counts of a host's table here, decided when it is asked for."""

    def __init__(self, given: Given) -> None:
        self.given, self.flag, self.wide = given, given.word("hardware access", 1), object()

    @property
    def hardware_access(self) -> bool:
        """Whether the host's processors set access flags."""
        return self.given.holds(self.flag == 1)


class Fault:
    """A seat, its VM, and what the host's table says of the page of the fault: nothing, or any leaf."""

    def __init__(self, given: Given, *, protected: bool = False) -> None:
        self.given, self.page = given, page_at(given, "page")
        number = given.u64("vm")
        given.assume(z3.ULT(term(number), 64))
        self.seat: Any = SimpleNamespace(vm=number, **{name: given.u64(name) for name in ("prefill", "prefill_level", "mmio_page", "mmio_level")})
        self.was = {name: term(getattr(self.seat, name)) for name in ("prefill", "prefill_level", "mmio_page", "mmio_level")}
        self.guard, self.near_table = given.word("guard", 5), given.word("table", 32)
        self.seat.near_shadow = integer(z3.ZeroExt(32, self.near_table) + 1)
        self.vm: Any = SimpleNamespace(table=Table(given), shadow=object(), guard=integer(z3.ZeroExt(59, self.guard) + 1) if protected else u64(0))
        self.near = z3.BoolVal(False) if protected else given.word("the last tables are known", 1) == 1
        self.access: Any = object()
        self.walks: list[Walked] = []
        self.leaf: HostLeaf | None = None
        """Of the last walk."""
        self.results: list[Err | None] = []
        """Of what was offered to the shadow."""
        self.offers_near = 0
        """How often that was in the table that is known."""
        self.far = 0
        """How often that was from the start tables on."""
        self.accessed: list[bool] = []
        self.remembered: list[Walked] = []

    def stands_in(self, *more: tuple[Any, str, Any]) -> Any:
        """The contracts of what is called."""
        errors = (Err.OWNER, Err.RANGE, Err.NO_MEMORY, Err.BUSY)
        return standing_in(
            (vms, "VMS", SimpleNamespace(slots=Only(self.seat.vm, self.vm))), (near, "is_known", self.is_known), (near, "read", self.read),
            (near, "remember", self.remember), (host_tables, "walk", self.walk), (host_tables, "leaf_of", self.leaf_of),
            (host_tables, "set_accessed", self.set_accessed),
            (shadow, "fill_page", self.fill_page), (shadow, "fill", partial(self.fill, self.vm.shadow, errors)),
            (faults, "_allows", self.allows), (lent, "fill", partial(self.fill, z3.ZeroExt(59, self.guard), (Err.OWNER, Err.EXISTS))), *more)

    @property
    def known(self) -> bool:
        """Whether the last tables are known."""
        return self.given.holds(self.near)

    def requires_locks(self, *, both: bool = True) -> None:
        """Nobody else touches tables meanwhile."""
        self.given.require(GUESTS_LOCK.held_by(0) and (frames.LOCK.held_by(0) or not both), "under the locks")

    def is_known(self, seat: object, vm: object, page: Ipa) -> bool:
        """Theorem near.is_known."""
        self.requires_locks(both=False)
        self.requires_own(vm is self.vm, page)
        return self.known

    def requires_own(self, is_own: Formula | bool, page: Ipa) -> None:
        """Of the seat's VM, and of the page of the fault."""
        self.given.require(is_own, "of its own VM")
        self.given.require(term(page) == self.page, "of the page of the fault")

    def found(self, level: Term) -> Walked:
        """Nothing, or what host_tables calls a leaf of such a level."""
        number = len(self.walks)
        word = self.given.u64(f"descriptor {number}")
        self.given.assume(z3.Or(term(word) == 0, z3.And(bit(term(word), 0), level != 0)))
        self.walks.append(Walked(integer(level), word, Pa(self.given.u64(f"where {number}"))))
        return self.walks[-1]

    def leaf_of(self, found: Walked, wide: object) -> HostLeaf:
        """Theorem host_tables.leaf_of."""
        self.given.require(found is self.walks[-1] and wide is self.vm.table.wide, "what was found last, in the form of the VM's table")
        self.given.require(term(found.descriptor) != 0, "a leaf")
        number = len(self.walks)
        sharing = z3.ZeroExt(54, z3.Concat(self.given.word(f"sharing {number}", 2), z3.BitVecVal(0, 8)))
        raw = term(found.descriptor) & ~z3.BitVecVal(0x300, 64) | sharing
        self.leaf = HostLeaf(found.level, self.given.u64(f"output {number}"), Stage2Leaf.of(integer(raw)))
        return self.leaf

    def read(self, seat: object, vm: object, page: Ipa) -> Walked:
        """Theorems near.is_known and host_tables.reading."""
        self.requires_locks(both=False)
        self.given.require(self.known and seat is self.seat, "only from tables that are known")
        self.requires_own(vm is self.vm, page)
        return self.found(z3.BitVecVal(3, 64))

    def walk(self, table: object, page: Ipa) -> Walked:
        """Theorem host_tables.walk."""
        self.requires_locks()
        self.requires_own(table is self.vm.table, page)
        return self.found(z3.ZeroExt(62, self.given.word(f"level {len(self.walks)}", 2)))

    def remember(self, seat: object, vm: object, found: Walked, page: Ipa) -> None:
        """Theorem near.remember."""
        self.requires_locks()
        self.given.require(seat is self.seat and found is self.walks[-1], "what was found last")
        self.requires_own(vm is self.vm, page)
        self.remembered.append(found)

    def set_accessed(self, found: Walked) -> bool:
        """Theorem host_tables.set_accessed."""
        self.requires_locks()
        self.given.require(found is self.walks[-1], "what was found")
        self.accessed.append(self.given.boolean("it stands there still"))
        return self.accessed[-1]

    def allows(self, leaf: HostLeaf, access: object) -> bool:
        """Theorem faults.leaf_allows."""
        self.given.require(leaf is self.leaf and access is self.access, "whether the host's leaf allows what the guest did")
        return self.given.holds(self.is_allowed())

    def is_allowed(self) -> Formula:
        """By the leaf that was found last."""
        return z3.BitVec(f"walk {len(self.walks)} allows it", 1) == 1

    def requires_offer(self, leaf: HostLeaf) -> None:
        """A leaf that goes into the shadow is the host's, and nothing is there yet."""
        self.given.require(None not in self.results, "nothing is filled in twice")
        self.given.require(z3.And(leaf is self.leaf, self.is_accessed()), "the host's leaf, which may be used")

    def fill_page(self, table: u64, page: Ipa, leaf: HostLeaf) -> bool:
        """Theorem shadow.fill_page."""
        self.requires_locks(both=False)
        self.given.require(term(table) == z3.ZeroExt(32, self.near_table), "in the table that is known")
        self.requires_own(self.known, page)
        self.requires_offer(leaf)
        self.offers_near += 1
        self.results.append(None if self.given.boolean("its slot is free, and the frame the host's") else Err.OWNER)
        return self.results[-1] is None

    def fill(self, own: object, errors: tuple[Err, ...], where: Any, page: Ipa, leaf: HostLeaf) -> Err | None:
        """Theorems shadow.fill and lent.fill."""
        self.requires_locks()
        self.requires_own(where is own or (isinstance(where, u64) and term(where) == own), page)
        self.requires_offer(leaf)
        self.far += 1
        self.results.append(self.given.one_of("filled", (None, *errors)))
        return self.results[-1]

    def requires_near(self, *reasons: Formula) -> None:
        """The walk from the start tables is the second one only where the short way failed, or had a reason not to fill."""
        if len(self.walks) == 2:
            can_not = z3.Or(z3.Not(bit(term(self.walks[0].descriptor), 10)), *reasons)
            self.given.require(z3.Or(self.offers_near == 1, can_not), "the short way is tried first")

    @property
    def is_filled(self) -> bool:
        """Whether something was filled in."""
        return None in self.results

    def is_accessed(self) -> Formula:
        """The host's own table lets it be used: AF is set, or was set now where the host's processors do that."""
        set_now = self.accessed == [True] and self.vm.table.hardware_access
        return z3.Or(bit(term(self.walks[-1].descriptor), 10), set_now)

    def requires_seat(self, **wanted: Any) -> None:
        """What the seat remembers is this now, and else what it was."""
        for name, before in self.was.items():
            self.given.require(term(getattr(self.seat, name)) == wanted.get(name, before), f"{name} is what it should be")


def allows(word: Term, access: Access) -> Formula:
    """Whether the host's leaf lets the guest do it: for execution, EL1 and EL0."""
    return {Access.READ: bit(word, 6), Access.WRITE: bit(word, 7), Access.EXECUTE: z3.Extract(54, 53, word) == 0}[access]


@theorem(faults.page_of, outcomes=("of HPFAR_EL2", "of the guest's stage 1", "changed meanwhile"),
         trusts=("AT S1E1R writes PAR_EL1 and nothing else",))
def page_of(given: Given) -> None:
    """Whatever the registers hold, a page below 1 << 52, and none of the offset in it: the processor's, or for a permission fault of the access
    itself, and where the processor may be wrong, the one of a walk of the guest's stage 1 for FAR_EL2. The guest's PAR_EL1 stays what it was."""
    iss, kind, abilities = given.u64("iss"), given.u8("kind"), given.u64("abilities")
    walked, asked = given.u64("PAR after"), []

    def translate(va: Va) -> None:
        asked.append(term(va))
        given.path.events.append(Called("at"))
        PAR_EL1.write(Par.of(walked))

    hpfar, before, address = term(HPFAR_EL2.read()), term(PAR_EL1.read()), term(FAR_EL2.read())
    seat: Any = SimpleNamespace(abilities=Abilities.of(abilities))
    with standing_in((faults, "at_s1e1r", translate)):
        found = faults.page_of(seat, AbortIss.of(iss), kind)
    unsure = z3.Or(term(kind) == PERMISSION, bit(term(abilities), 12))
    is_walked = given.holds(z3.And(z3.Not(bit(term(iss), 7)), unsure))
    given.require(term(PAR_EL1.read()) == before, "the guest's PAR_EL1 is as it was")
    given.require(len(asked) == int(is_walked), "the guest's stage 1 is asked only where it has to be")
    if not is_walked:
        given.outcome("of HPFAR_EL2")
        given.require(found is not None and term(found) == z3.ZeroExt(12, z3.Concat(z3.Extract(43, 4, hpfar), z3.BitVecVal(0, 12))), "FIPA")
        return
    names = [event.name for event in events() if isinstance(event, Called)]
    barrier = given.holds(bit(term(abilities), 13))
    given.require(names == [*(["dmb sy"] if barrier else []), "at", "msr PAR_EL1", "isb", "msr PAR_EL1"], "a barrier before, and one behind")
    given.require(asked[0] == address, "for the address of the fault")
    given.outcome("changed meanwhile" if found is None else "of the guest's stage 1")
    given.require(bit(term(walked), 0) == (found is None), "nothing exactly where that fails")
    if found is not None:
        page = z3.Concat(z3.BitVecVal(0, 16), z3.Extract(47, 12, term(walked)), z3.BitVecVal(0, 12))
        given.require(term(found) == page, "where the guest's stage 1 leads")


@theorem(faults.access_of, outcomes=("READ", "WRITE", "EXECUTE"))
def access_of(given: Given) -> None:
    """Of every syndrome: a walk of the guest's stage 1 reads, and writes where a permission lacks or it said so; an instruction is executed; cache
    maintenance reads; else WnR says it."""
    iss, kind, instruction = given.u64("iss"), given.u8("kind"), given.boolean("instruction")
    found = faults.access_of(AbortIss.of(iss), kind, instruction)
    given.outcome(found.name)
    writes, walks, maintains = (bit(term(iss), number) for number in (6, 7, 8))
    flag = z3.And(walks, z3.Or(term(kind) == PERMISSION, z3.And(writes, not instruction)))
    data = z3.And(z3.Not(walks), not instruction, writes, z3.Not(maintains))
    given.require(z3.Or(flag, data) == (found is Access.WRITE), "a write")
    given.require(z3.And(z3.Not(walks), instruction) == (found is Access.EXECUTE), "an instruction")


@theorem(faults._allows, outcomes=("allowed", "refused"), assumes=("shadow.is_within",))
def leaf_allows(given: Given) -> None:
    """A leaf of the host's allows reading, writing, and what both EL1 and EL0 may execute."""
    access, word = given.one_of("access", tuple(Access)), given.u64("leaf")
    found = faults._allows(host_tables.leaf_of(Walked(u64(3), word, Pa(u64(0))), False), access)
    given.outcome("allowed" if found else "refused")
    given.require(allows(term(word), access) == found, "as its bits say")


@theorem(faults.serve, outcomes=("changed meanwhile", "not EL2's", "MMIO", "of the table"),
         assumes=("faults.page_of", "faults.access_of", "faults.answer"))
def serve(given: Given) -> None:
    """For every syndrome: only faults of translation, access flag and permission are EL2's, others are shown as they are; a page whose last fault the
    host completed as MMIO is shown at once, as a translation fault of the level that it had; the host's table answers for all others."""
    fault, syndrome, instruction = Fault(given), given.u64("syndrome"), given.boolean("instruction")
    changed, answered = given.boolean("the guest's stage 1 has changed"), []
    answer = Shown(False, given.u8("status"), Ipa(integer(fault.page)))

    def answers(seat: object, page: Ipa, access: Access) -> Shown:
        fault.requires_own(seat is fault.seat, page)
        answered.append(access)
        return answer

    def page_of(seat: object, iss: AbortIss, kind: u8) -> Ipa | None:
        word = term(syndrome)
        given.require(z3.And(seat is fault.seat, term(iss.raw) == word & 0x1FF_FFFF, z3.ZeroExt(56, term(kind)) == word & 0x3C), "of the syndrome")
        return None if changed else Ipa(integer(fault.page))

    with fault.stands_in((faults, "page_of", page_of), (faults, "_answer", answers)):
        shown = faults.serve(fault.seat, Esr.of(syndrome), instruction)
    status, kind = z3.Concat(z3.BitVecVal(0, 2), z3.Extract(5, 0, term(syndrome))), z3.Extract(5, 2, term(syndrome))
    if changed:
        given.outcome("changed meanwhile")
        given.require(shown.again and not answered, "the guest tries again")
        given.require(z3.And(term(shown.status) == 0, term(shown.page) == 0), "and nothing is told")
        fault.requires_seat()
        return
    given.require(term(shown.page) == fault.page, "the page of the fault")
    if not given.holds(z3.Or([kind == number for number in (1, 2, 3)])):
        given.outcome("not EL2's")
        given.require(z3.And(not shown.again, term(shown.status) == status), "as it is")
        given.require(not answered, "and nothing is filled")
        fault.requires_seat()
        return
    if given.holds(fault.page + 1 == fault.was["mmio_page"]):
        given.outcome("MMIO")
        level = z3.Extract(7, 0, fault.was["mmio_level"]) & 3
        given.require(z3.And(not shown.again, not answered, term(shown.status) == TRANSLATION | level), "shown at once")
        fault.requires_seat(prefill=fault.page + 1, prefill_level=fault.was["mmio_level"])
        return
    given.outcome("of the table")
    wanted = faults.access_of(AbortIss.of(integer(term(syndrome) & 0x1FF_FFFF)), u8(integer(z3.Concat(z3.BitVecVal(0, 2), kind, z3.BitVecVal(0, 2)),
                                                                                        u8)), instruction)
    given.require(answered == [wanted] and shown is answer, "as the host's table says, for what the guest did")
    fault.requires_seat()


def of_table(fault: Fault, shown: Shown) -> str:
    """What must hold of an answer that the host's table gives; which it is."""
    given, found = fault.given, fault.walks[-1]
    word, level = term(found.descriptor), z3.Extract(7, 0, term(found.level))
    given.require(term(shown.page) == fault.page, "the page of the fault")
    if fault.is_filled:
        given.require(shown.again, "the guest goes on")
        given.require(fault.vm.guard != 0 or term(shown.status) == 0, "and no status is made up")
        given.require(z3.And(fault.is_accessed(), fault.is_allowed()), "the host's leaf allows it")
        return "filled"
    if given.holds(word == 0):
        given.require(z3.And(not shown.again, term(shown.status) == TRANSLATION | level), "no leaf, and at which level")
        return "no leaf"
    if given.holds(z3.Not(fault.is_accessed())):
        given.require(shown.again == fault.vm.table.hardware_access, "shown unless the host's processors set the flag: it has changed then")
        given.require(shown.again or term(shown.status) == ACCESS_FLAG | level, "the flag, and at which level")
        return "not accessed"
    if given.holds(z3.Not(fault.is_allowed())):
        given.require(z3.And(not shown.again, term(shown.status) == PERMISSION | level), "no permission, and at which level")
        return "not allowed"
    if fault.results[-1] in (Err.NO_MEMORY, Err.BUSY) and fault.vm.guard == 0:
        given.require(z3.And(shown.again, term(shown.status) == 0), "the guest tries again")
        return "no room"
    given.require(z3.And(not shown.again, term(shown.status) == TRANSLATION | level), "what may not be shown is not there")
    return "not the host's"


@about(faults._answer, faults._answer_far, faults._fill, faults._nothing, faults._refused,
       outcomes=("filled", "no leaf", "not accessed", "not allowed", "no room", "not the host's"),
       assumes=(*TABLES, *NEAR, "shadow.fill", "faults.leaf_allows", "faults.make_room"), bounds=(ORDINARY,))
def answer(given: Given) -> None:
    """Whatever a walk finds: the shadow gets a leaf that the host's table has, that is accessed and that allows the access, or nothing; the host
    hears kind and level of its own table's fault otherwise, and only that fault is remembered. Room is made where tables are lacking, and only
    there."""
    fault, room = Fault(given), []

    def make_room(seat: object) -> None:
        fault.requires_locks()
        given.require(seat is fault.seat, "for its own VM")
        room.append(seat)

    with fault.stands_in((faults, "_make_room", make_room)):
        shown = faults._answer(fault.seat, Ipa(integer(fault.page)), fault.access)
    kind = of_table(fault, shown)
    given.outcome(kind)
    given.require(len(room) == int(kind == "no room"), "room is made where tables are lacking")
    if kind in ("no leaf", "not accessed", "not allowed"):
        level = term(fault.walks[-1].level) if kind == "no leaf" else z3.BitVecVal(HAD_LEAF, 64)
        fault.requires_seat(prefill=fault.page + 1, prefill_level=level)
    else:
        fault.requires_seat()
    fault.requires_near(z3.BitVec("walk 1 allows it", 1) == 0)
    far = not fault.known or len(fault.walks) == 2
    given.require(len(fault.remembered) == (1 + fault.far if far else 0), "where the last tables are is remembered, and anew with the shadow")


@about(faults._fill, faults._lend, outcomes=("filled", "no leaf", "not accessed", "not allowed", "not the host's"),
       assumes=(*TABLES, "lent.fill", "faults.leaf_allows"), bounds=(ORDINARY,))
def lend(given: Given) -> None:
    """The same for a guest that is becoming protected: what is filled in is lent, the shadow stays as it is, and nothing is remembered."""
    fault = Fault(given, protected=True)
    with fault.stands_in(), frames.LOCK, GUESTS_LOCK:
        shown = faults._fill(fault.seat, Ipa(integer(fault.page)), fault.access)
    given.outcome(of_table(fault, shown))
    given.require(not fault.remembered and len(fault.walks) == 1, "one walk, and nothing is remembered")
    fault.requires_seat()


@about(faults.after_host, faults._prefill, faults._prefill_far, outcomes=("filled", "no leaf", "left to the next fault"),
       assumes=(*TABLES, *NEAR, "shadow.fill"), bounds=(ORDINARY, "faults.after_host: of a seat whose fault was shown (kvm/vcpu_run.py asks first)"))
def after_host(given: Given) -> None:
    """The page of the last fault that was shown is filled in where the host has an accessed leaf for it, once, and that fault is forgotten; it is no
    MMIO any more, and any other page that was still is."""
    fault = Fault(given)
    fault.seat.prefill = integer(fault.page + 1)
    was_mmio = given.boolean("the last fault was of MMIO")
    fault.seat.mmio_page = fault.seat.prefill if was_mmio else fault.seat.mmio_page
    given.assume(z3.Or(was_mmio, term(fault.seat.mmio_page) != fault.page + 1))
    with fault.stands_in():
        faults.after_host(fault.seat)
    fault.requires_seat(prefill=z3.BitVecVal(0, 64), **({"mmio_page": z3.BitVecVal(0, 64)} if was_mmio else {}))
    word = term(fault.walks[-1].descriptor)
    if fault.is_filled:
        given.outcome("filled")
    elif given.holds(word == 0):
        given.outcome("no leaf")
    else:
        given.outcome("left to the next fault")
        given.require(z3.Or(z3.Not(bit(word, 10)), fault.far == 1), "what can be done is done")
    fault.requires_near()
    given.require(not fault.accessed, "the host's table stays as it is")
    given.require(len(fault.remembered) == fault.far, "the tables of what was filled in from the start are remembered")


@theorem(faults.completed, outcomes=("MMIO", "not MMIO"))
def completed(given: Given) -> None:
    """Only a page for which the host's table had nothing, and whose fault the host was shown last, becomes MMIO, with the level of that fault; the
    fault is forgotten."""
    fault = Fault(given)
    faults.completed(fault.seat)
    had, level = fault.was["prefill"], fault.was["prefill_level"]
    is_mmio = given.holds(z3.And(had != 0, level != HAD_LEAF))
    given.outcome("MMIO" if is_mmio else "not MMIO")
    fault.requires_seat(prefill=z3.BitVecVal(0, 64), **({"mmio_page": had, "mmio_level": level} if is_mmio else {}))


@theorem(faults.syndrome_for, faults.page_for, bounds=("faults.syndrome_for: a status of six bits (faults.serve)",))
def told(given: Given) -> None:
    """The host's ESR_EL2 is the processor's but for the fault status; HPFAR_EL2 names the page and nothing else."""
    syndrome, status, page = given.u64("syndrome"), given.word("status", 6), page_at(given, "page")
    shown = Shown(False, integer(z3.ZeroExt(2, status), u8), Ipa(integer(page)))
    given.require(term(faults.syndrome_for(Esr.of(syndrome), shown)) == z3.Concat(z3.Extract(63, 6, term(syndrome)), status), "but for the status")
    given.require(term(faults.page_for(shown)) == z3.LShR(page, 8), "FIPA, and nothing else")


@about(faults._make_room, outcomes=("waiting", "dropped", "too many at once"), assumes=("graveyard.room", "graveyard.work", "shadow.drop_all",
                                                                                       "faults.whose_tables"))
def make_room(given: Given) -> None:
    """A shadow begins anew only where nothing waits in the graveyard, whose work is then done in a fixed number of pieces, whatever is left of it."""
    fault, empty, fits, done = Fault(given), given.boolean("nothing waits"), given.boolean("all of it at once"), []
    other = given.u64("whose")
    given.assume(z3.ULT(term(other), 64))
    victim = SimpleNamespace(shadow=object())
    def whose_tables(mine: u64) -> u64:
        given.require(term(mine) == term(fault.seat.vm), "for the VM of the fault")
        return other

    def drop_all(which: object) -> Err | None:
        fault.requires_locks()
        given.require(which is victim.shadow, "of the VM that makes room")
        done.append("drop")
        return None if fits else Err.BUSY

    places = ((vms, "VMS", SimpleNamespace(slots=Only(other, victim))), (faults, "_whose_tables", whose_tables), (shadow, "drop_all", drop_all),
              (graveyard, "is_empty", lambda: empty), (graveyard, "work", lambda: done.append("work")))
    with standing_in(*places), frames.LOCK, GUESTS_LOCK:
        faults._make_room(fault.seat)
    given.outcome("waiting" if not empty else "dropped" if fits else "too many at once")
    given.require(done == (["drop"] if empty else []) + ["work"] * (17 if empty and not fits else 16), "so many pieces, after the drop")


@about(faults._whose_tables, outcomes=("its own", "another's", "nobody's"), trusts=(
       LOCKED, "vms.oldest names the ordinary VM in use with the lowest ticket above the one that is given, or none (tests/kvm)"),
       bounds=("faults._whose_tables: at most three VMs besides",))
def whose_tables(given: Given) -> None:
    """The VM of the fault gives way where it has tables; else the one of those that have some that was used least recently; and nobody without."""
    few = given.one_of("others", (0, 1, 2, 3))
    mine, top = u64(7), given.u64("its tables")
    tickets, tops = [given.u64(f"ticket {number}") for number in range(few)], [given.u64(f"tables {number}") for number in range(few)]
    given.assume(*(z3.ULT(term(one), term(other)) for one, other in pairwise(tickets)))
    given.assume(*(term(ticket) != 0 for ticket in tickets))
    shadows = [SimpleNamespace(top=has) for has in tops]
    slots = {number: SimpleNamespace(ticket=ticket, shadow=shadows[number]) for number, ticket in enumerate(tickets)}
    slots[7] = SimpleNamespace(ticket=u64(1), shadow=SimpleNamespace(top=top))
    def oldest(beyond: u64) -> u64 | None:
        later = (number for number in range(few) if given.holds(z3.UGT(term(tickets[number]), term(beyond))))
        found = next(later, None)
        return None if found is None else u64(found)

    with standing_in((vms, "VMS", SimpleNamespace(slots=slots)), (vms, "oldest", oldest)), GUESTS_LOCK:
        found = faults._whose_tables(mine)
    having = [number for number in range(few) if given.holds(term(tops[number]) != 0)]
    if given.holds(term(top) != 0) or not having:
        given.outcome("its own" if given.holds(term(top) != 0) else "nobody's")
        given.require(found == mine, "itself")
        return
    given.outcome("another's")
    given.require(int(found) == having[0], "the one that was used least recently")
