# SPDX-License-Identifier: Apache-2.0
"""VMs: frames stay pinned exactly while a slot has them, each VM has a VMID of its own, and a protected one is never chosen to make room."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import vms
from delphyne.el2.guest.vms import HostTable, Vm
from delphyne.el2.memory import frames, shadow, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Pa, u8, u16, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Cells, Only, Records
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import constant, term
from delphyne.prove.theorem import Given, theorem

LIMIT = 64
about = partial(theorem, trusts=("the locks are held: nobody else changes VMs meanwhile",))
FEW = "vms.oldest: a pool of 2 slots stands for one of 64, and no ticket is 2**64 - 1"
WORDS = ("mmu", "mmu_size", "vmid", "ticket", "seats", "ctr", "guard")


class Slots:
    """All slots, in any state, to be looked through."""

    def __init__(self, given: Given, limit: int = LIMIT) -> None:
        self.fields = {name: Cells(f"VM's {name}", u64) for name in ("mmu", "ticket", "guard")}
        self.fields["used"] = Cells("VM's used", u8, bits=(0, 0))
        given.replace(vms.VMS, SimpleNamespace(slots=Records(Vm, self.fields, LIMIT, {"used": lambda value: bool(value != 0)})))
        given.replace(vms.LIMIT, constant(vms.LIMIT) if limit == LIMIT else u64(limit))
        self.any = given.word("any slot", 64)
        given.assume(z3.ULT(self.any, limit))

    def was(self, name: str, at: Term) -> Term:
        """A field."""
        return self.fields[name].first(at)


@about(vms.find, vms.free_slot, outcomes=("found", "none"))
def find(given: Given) -> None:
    """A slot in use with this very `kvm_s2_mmu`, or one that nobody has; None only where there is none. Nothing changes."""
    slots, mmu, free = Slots(given), given.u64("mmu"), given.boolean("a free one")

    def is_it(at: Term) -> Formula:
        return slots.was("used", at) == 0 if free else z3.And(slots.was("used", at) == 1, slots.was("mmu", at) == term(mmu))

    given.rule(vms.free_slot if free else vms.find, Rule(lambda here: z3.Implies(z3.ULT(slots.any, here), z3.Not(is_it(slots.any)))))
    with GUESTS_LOCK:
        found = vms.free_slot() if free else vms.find(mmu)
    given.outcome("none" if found is None else "found")
    given.require(z3.Not(is_it(slots.any)) if found is None else z3.And(z3.ULT(term(found), LIMIT), is_it(term(found))), "what is asked for")
    given.require(not any(cells.writes for cells in slots.fields.values()), "nothing changes")


@about(vms.oldest, bounds=(FEW,), outcomes=("found", "none"))
def oldest(given: Given) -> None:
    """The ordinary VM that was used least recently after `beyond`, and never one that is protected; None only where there is none."""
    slots, beyond = Slots(given, 2), given.u64("beyond")
    given.assume(*(slots.was("ticket", z3.BitVecVal(number, 64)) != (1 << 64) - 1 for number in range(2)))
    with GUESTS_LOCK:
        found = vms.oldest(beyond)
    given.outcome("none" if found is None else "found")

    def may_go(at: Term) -> Formula:
        return z3.And(slots.was("used", at) == 1, slots.was("guard", at) == 0, z3.UGT(slots.was("ticket", at), term(beyond)))

    if found is None:
        given.require(z3.Not(may_go(slots.any)), "there is none")
        return
    at = term(found)
    given.require(z3.And(z3.ULT(at, 2), may_go(at)), "an ordinary one")
    given.require(z3.Implies(may_go(slots.any), z3.ULE(slots.was("ticket", at), slots.was("ticket", slots.any))), "the first")


class One:
    """The VM `index`, in any state, and what is done for it: only it is there to be changed."""

    def __init__(self, given: Given) -> None:
        self.given, self.index, self.vm = given, given.u64("index"), Vm()
        given.assume(z3.ULT(term(self.index), LIMIT))
        for name in WORDS:
            setattr(self.vm, name, given.u64(f"its {name}"))
        self.vm.mmu_at, self.vm.used = Pa(given.u64("its mmu_at")), given.boolean("used")
        self.vm.counter_open = False
        self.before = self.state()
        self.ordinary, self.clock = given.u64("ordinary"), given.u64("clock")
        given.assume(term(self.clock) != (1 << 64) - 1)
        self.all: Any = SimpleNamespace(slots=Only(self.index, self.vm), ordinary=self.ordinary, clock=self.clock)
        given.replace(vms.VMS, self.all)
        self.done: list[tuple[Any, ...]] = []
        given.replace(frames.pin_all, self._pin)
        given.replace(frames.unpin_all, lambda at, size: self.done.append(("unpin", at, size)))
        self.bit = z3.BitVecVal(1, 64) << term(self.index)

    def _pin(self, at: Pa, size: u64) -> Err | None:
        if not self.given.boolean("the frames can be pinned"):
            return Err.OWNER
        self.done.append(("pin", at, size))
        return None

    def state(self) -> dict[str, Any]:
        """What is in the slot."""
        return {name: getattr(self.vm, name) for name in (*WORDS, "mmu_at", "used", "counter_open")}

    def requires(self, ordinary: Term, **wanted: Any) -> None:
        """The slot has these values and is else as it was."""
        for name, value in (self.before | wanted).items():
            now = getattr(self.vm, name)
            self.given.require(now is value if isinstance(value, bool) else term(now) == term(value), f"its {name} is right")
        self.given.require(term(self.all.ordinary) == ordinary, "who is ordinary")

    def requires_done(self, *wanted: tuple[Any, ...]) -> None:
        """Exactly these frames were pinned and let go."""
        self.given.require([what[0] for what in self.done] == [what[0] for what in wanted], "what is pinned and let go")
        for (_, at, size), (_, where, length) in zip(self.done, wanted, strict=True):
            self.given.require(z3.And(term(at) == term(where), term(size) == term(length)), "these frames")


@about(vms.create, vms.guard, vms.touch, assumes=("frames.pin_all", "frames.unpin_all"), outcomes=("made", "not pinned", "no shadow"),
       bounds=("vms.create: fewer than 2**64 times is any VM used",))
def create(given: Given) -> None:
    """The slot is the VM's, an ordinary one without vCPUs: its frames are pinned once, and its VMID is its slot's. With Err nothing is left pinned
    and nothing changes."""
    one = One(given)
    mmu, at, size, vmid, bits = given.u64("mmu"), Pa(given.u64("at")), given.u64("size"), given.u64("vmid"), given.u64("bits")
    table = HostTable(Pa(given.u64("root")), given.u64("table's bits"), u64(1), u64(1), True, False)
    made_of: list[Any] = []

    def make(where: Any, width: u64, number: u16) -> Err | None:
        given.require(where is one.vm.shadow, "its own shadow")
        given.require(z3.And(term(width) == term(bits), z3.ZeroExt(48, term(number)) == term(one.index) + 1), "with a VMID of its own")
        made_of.append(where)
        return None if given.boolean("a shadow can be made") else Err.NO_MEMORY

    given.replace(shadow.create, make)
    with FRAMES_LOCK, GUESTS_LOCK:
        made = vms.create(one.index, mmu, at, size, vmid, table, bits)
    given.outcome("made" if made is None else "no shadow" if made_of else "not pinned")
    if isinstance(made, Err):
        one.requires(term(one.ordinary))
        one.requires_done(*((("pin", at, size), ("unpin", at, size)) if made_of else ()))
        given.require(term(one.all.clock) == term(one.clock), "no time went by")
        return
    one.requires(term(one.ordinary) | one.bit, used=True, mmu=mmu, mmu_at=at, mmu_size=size, vmid=vmid, seats=u64(0), ctr=u64(0), guard=u64(0),
                 counter_open=True, ticket=one.all.clock)
    given.require(term(one.all.clock) == term(one.clock) + 1, "later than all before")
    given.require(one.vm.table is table and len(made_of) == 1, "with the host's table and one shadow")
    one.requires_done(("pin", at, size))


@about(vms.destroy, assumes=("frames.unpin_all",), outcomes=("gone", "busy"), bounds=("vms.destroy: none of its vCPUs is remembered",))
def destroy(given: Given) -> None:
    """A VM ends with its shadow: its frames are let go once, and its slot is nobody's. While the shadow cannot end, nothing changes."""
    one = One(given)
    one.vm.seats = one.before["seats"] = u64(0)
    gone = given.boolean("the shadow can end")

    def end(which: Any) -> Err | None:
        given.require(which is one.vm.shadow and not one.done, "its own shadow, while its frames are pinned")
        return None if gone else Err.BUSY

    given.replace(shadow.destroy, end)
    with FRAMES_LOCK, GUESTS_LOCK:
        ended = vms.destroy(one.index)
    given.outcome("gone" if ended is None else "busy")
    given.require((ended is None) == gone, "as the shadow")
    if isinstance(ended, Err):
        one.requires(term(one.ordinary))
        one.requires_done()
        return
    one.requires(term(one.ordinary) & ~one.bit, used=False)
    one.requires_done(("unpin", one.before["mmu_at"], one.before["mmu_size"]))


@about(vms.destroy, outcomes=("refused", "ends"))
def no_early_end(given: Given) -> None:
    """No VM ends while a vCPU of it is remembered: the frames of that are pinned, and its slot names the VM."""
    one = One(given)
    given.replace(shadow.destroy, lambda which: None)
    try:
        with FRAMES_LOCK, GUESTS_LOCK:
            vms.destroy(one.index)
    except AssertionError:
        given.outcome("refused")
        given.require(term(one.before["seats"]) != 0, "only where one is")
        one.requires(term(one.ordinary))
        return
    given.outcome("ends")
    given.require(term(one.before["seats"]) == 0, "none is")


@about(vms.guard, outcomes=("protected", "ordinary"))
def guard(given: Given) -> None:
    """A VM is among the ordinary ones exactly while it has no guard; no other VM's place among them changes."""
    one, number = One(given), given.u64("number")
    with GUESTS_LOCK:
        vms.guard(one.index, number)
    protected = given.holds(term(number) != 0)
    given.outcome("protected" if protected else "ordinary")
    one.requires(term(one.ordinary) & ~one.bit if protected else term(one.ordinary) | one.bit, guard=number)


@about(vms.vttbr)
def vttbr(given: Given) -> None:
    """What is loaded while a VM runs is of its own tables."""
    one, word = One(given), object()

    def of(space: Any) -> Any:
        given.require(space is one.vm.shadow.space, "its own")
        return word

    given.replace(tables.vttbr_of, of)
    with GUESTS_LOCK:
        given.require(vms.vttbr(one.index) is word, "as it is said")
