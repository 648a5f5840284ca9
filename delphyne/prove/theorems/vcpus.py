# SPDX-License-Identifier: Apache-2.0
"""vCPUs that EL2 remembers: frames stay pinned exactly while a slot has them, and what a CPU has known of a slot that changed hands claims nothing.

Slots and claim words hold anything; a statement about every slot is made of one that is arbitrary.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import vcpus, vms
from delphyne.el2.guest.vcpus import Vcpu
from delphyne.el2.guest.vms import Vm
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Pa, u8, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Atomics, Cells, Records, Words
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import constant, term
from delphyne.prove.theorem import Given, theorem

LIMIT, VMS, GENERATION, RUNNER = 512, 64, 1 << 16, 0xFFFF
FIELDS: dict[str, Any] = {
    "used": u8, "address": u64, "at": u64, "size": u64, "vm": u64, "vectors_address": u64, "vectors": u64, "vector_bytes": u64, "vector_length": u64,
    "ticket": u64,
}
about = partial(theorem, trusts=("the locks are held: nobody else changes slots meanwhile",))
AGES = "vcpus: a slot changes hands less than 2**47 times, and fewer than 2**64 times is any used"
FEW = "vcpus: a pool of 2 or 3 slots stands for one of 512, the loops being the same for each slot"


class Pool:
    """Slots in any state, their claim words, and what is pinned."""

    def __init__(self, given: Given, limit: int = LIMIT) -> None:
        self.given, self.clock = given, given.u64("clock")
        known = {"vm": lambda _, vm: z3.ULT(vm, VMS)}
        self.fields = {name: Cells(f"vCPU's {name}", cls, known.get(name), bits=(0, 0) if name == "used" else None) for name, cls in FIELDS.items()}
        self.hints, self.claims = Cells("hint", u64), Cells("claim", u64, lambda _, word: z3.ULT(word, 1 << 63))
        self.seats = Cells("seats", u64, lambda _, seats: z3.And(z3.UGE(seats, 1), z3.ULT(seats, LIMIT)))
        wrap: dict[str, Any] = {"used": lambda value: bool(value != 0), "at": Pa, "vectors": Pa}
        self.pool: Any = SimpleNamespace(slots=Records(Vcpu, self.fields, LIMIT, wrap), hints=Words(self.hints, u64(LIMIT)), clock=self.clock)
        given.replace(vcpus.VCPUS, self.pool)
        given.replace(vcpus.CLAIMS, Atomics(self.claims, u64(LIMIT)))
        given.replace(vms.VMS, SimpleNamespace(slots=Records(Vm, {"seats": self.seats}, VMS, {})))
        given.replace(vcpus.LIMIT, constant(vcpus.LIMIT) if limit == LIMIT else u64(limit))
        self.pins: list[tuple[str, Term, Term]] = []
        self.can_pin = given.boolean("the frames can be pinned")
        given.replace(frames.pin_all, self._pin)
        given.replace(frames.unpin_all, lambda at, size: self.pins.append(("unpin", term(at), term(size))))
        self.any = given.word("any slot", 64)
        given.assume(z3.ULT(self.any, limit), z3.ULT(term(self.clock), (1 << 64) - 2))

    def _pin(self, at: Pa, size: u64) -> Err | None:
        if not self.can_pin:
            return Err.OWNER
        self.pins.append(("pin", term(at), term(size)))
        return None

    def index(self, name: str = "index") -> u64:
        """A slot's number."""
        made = self.given.u64(name)
        self.given.assume(z3.ULT(term(made), LIMIT))
        return made

    def was(self, name: str, at: Term) -> Term:
        """A field before."""
        return self.fields[name].first(at)

    def requires(self, index: Any, **wanted: Any) -> None:
        """The slot has these values and is else as it was; every other slot is as it was."""
        for name, cells in self.fields.items():
            value = term(wanted[name]) if name in wanted else cells.first(term(index))
            self.given.require(cells(self.any) == z3.If(self.any == term(index), value, cells.first(self.any)), f"the {name} of each slot is right")

    def requires_claim(self, index: Any, wanted: Term) -> None:
        """The slot's claim word is this one; every other is as it was."""
        self.given.require(self.claims(self.any) == z3.If(self.any == term(index), wanted, self.claims.first(self.any)), "claim words are right")

    def requires_seats(self, vm: Term, more: int) -> None:
        """The VM has so many seats more."""
        other = z3.BitVec("any VM", 64)
        self.given.require(self.seats(other) == self.seats.first(other) + z3.If(other == vm, z3.BitVecVal(more, 64), 0), "seats count what there is")

    def requires_pins(self, *wanted: tuple[str, Term, Term]) -> None:
        """Exactly these were pinned and let go, in this order."""
        self.given.require([what for what, _, _ in self.pins] == [what for what, _, _ in wanted], "what is pinned and let go")
        for (_, at, size), (_, where, length) in zip(self.pins, wanted, strict=True):
            self.given.require(z3.And(at == where, size == length), "these frames")

    def requires_nothing(self) -> None:
        """Nothing changed."""
        cells = [*self.fields.values(), self.hints, self.claims, self.seats]
        self.given.require(not any(words.writes for words in cells) and not self.pins, "nothing changed")
        self.given.require(term(self.pool.clock) == term(self.clock), "no time went by")

    def run(self, operation: Any, *arguments: Any) -> Any:
        """Under both locks."""
        with FRAMES_LOCK, GUESTS_LOCK:
            return operation(*arguments)


@about(vcpus.find, vcpus._hint_of, outcomes=("found", "none"))
def find(given: Given) -> None:
    """A slot in use with this very address, whatever a hint says; None only where there is none. Only hints change."""
    pool, address = Pool(given), given.u64("address")

    def is_it(at: Term) -> Formula:
        return z3.And(pool.was("used", at) == 1, pool.was("address", at) == term(address))

    given.rule(vcpus.find, Rule(lambda here: z3.Implies(z3.ULT(pool.any, here), z3.Not(is_it(pool.any)))))
    found = pool.run(vcpus.find, address)
    given.outcome("none" if found is None else "found")
    given.require(not any(cells.writes for cells in (*pool.fields.values(), pool.claims, pool.seats)), "no slot changes")
    given.require(z3.Not(is_it(pool.any)) if found is None else z3.And(z3.ULT(term(found), LIMIT), is_it(term(found))), "the vCPU's, if it has one")
    if pool.hints.writes:
        given.require(pool.hints(z3.LShR(term(address), 9) & (LIMIT - 1)) == term(found), "where it is looked for first from now on")


@about(vcpus.claim, vcpus.claim_word, vcpus.release, outcomes=("claimed", "not"), bounds=("vcpus.claim: fewer than 2**16 - 2 processors",))
def claim(given: Given) -> None:
    """A vCPU is claimed exactly if it is idle and the word is that of its slot now; nobody claims it again before it is released."""
    pool = Pool(given)
    index, word, runner, other = pool.index(), given.u64("word"), given.u64("runner"), given.u64("another runner")
    given.assume(z3.ULT(term(runner), RUNNER - 1), z3.ULT(term(other), RUNNER - 1), term(word) & RUNNER == 0)
    claimed = vcpus.claim(index, word, runner)
    was = pool.claims.first(term(index))
    given.outcome("claimed" if claimed else "not")
    given.require((was == term(word)) == claimed, "exactly if it is idle and has not changed hands")
    given.require(term(vcpus.claim_word(index)) == was & ~z3.BitVecVal(RUNNER, 64), "its generation stays")
    pool.requires_claim(index, term(word) + term(runner) + 1 if claimed else was)
    if claimed:
        given.require(not vcpus.claim(index, word, other), "nobody else has it as well")
        vcpus.release(index, word)
        pool.requires_claim(index, term(word))
        given.require(vcpus.claim(index, word, other), "the next one has it then")


@about(vcpus.renew, bounds=(AGES, "vcpus.renew: fewer than 2**16 - 2 processors"))
def renew(given: Given) -> None:
    """No word that the slot had before claims it, neither while the CPU goes on nor when it is released: only the new one does, then."""
    pool = Pool(given)
    index, runner, old = pool.index(), given.u64("runner"), given.u64("old word")
    given.assume(z3.ULT(term(runner), RUNNER - 1), term(old) & RUNNER == 0, z3.ULE(term(old), pool.claims.first(term(index))))
    word = vcpus.renew(index, runner)
    given.require(term(word) & RUNNER == 0, "a word that can claim it")
    pool.requires_claim(index, term(word) + term(runner) + 1)
    given.require(not vcpus.claim(index, old, runner) and not vcpus.claim(index, word, runner), "nobody claims it while it runs")
    vcpus.release(index, word)
    given.require(not vcpus.claim(index, old, runner), "nobody who knows it from before")
    given.require(vcpus.claim(index, word, runner), "who knows it now")


@about(vcpus.create, vcpus.touch, outcomes=("made", "refused"), bounds=(AGES,), assumes=("frames.pin_all",))
def create(given: Given) -> None:
    """The slot is the vCPU's, with its frames pinned once and a seat of its VM; no word from before claims it. With Err nothing changes."""
    pool = Pool(given)
    index, address, at, size = pool.index(), given.u64("address"), given.u64("at"), given.u64("size")
    vm, old = given.u64("vm"), given.u64("old word")
    given.assume(z3.ULT(term(vm), VMS), pool.was("used", term(index)) == 0)
    given.assume(term(old) & RUNNER == 0, z3.ULE(term(old), pool.claims.first(term(index))))
    made = pool.run(vcpus.create, index, address, Pa(at), size, vm)
    given.outcome("refused" if isinstance(made, Err) else "made")
    if isinstance(made, Err):
        pool.requires_nothing()
        return
    none = u64(0)
    pool.requires(index, used=u8(1), address=address, at=at, size=size, vm=vm, vectors_address=none, vectors=none, vector_bytes=none,
                  vector_length=none, ticket=pool.pool.clock)
    given.require(z3.UGT(term(pool.pool.clock), term(pool.clock)), "later than all before")
    pool.requires_pins(("pin", term(at), term(size)))
    pool.requires_seats(term(vm), 1)
    word = vcpus.claim_word(index)
    pool.requires_claim(index, term(word))
    given.require(pool.hints(z3.LShR(term(address), 9) & (LIMIT - 1)) == term(index), "where it is looked for first")
    given.require(not vcpus.claim(index, old, none), "nobody claims it by what was known of the slot")
    given.require(vcpus.claim(index, word, none), "who knows it now does")


@about(vcpus.set_vectors, outcomes=("set", "refused"), assumes=("frames.pin_all", "frames.unpin_all"))
def set_vectors(given: Given) -> None:
    """The new frames are pinned before the old ones are let go, so one that is both stays pinned; with Err nothing changes."""
    pool = Pool(given)
    index, address, at, size, length = pool.index(), given.u64("address"), given.u64("at"), given.u64("size"), given.u64("length")
    done = pool.run(vcpus.set_vectors, index, address, Pa(at), size, length)
    given.outcome("refused" if isinstance(done, Err) else "set")
    if isinstance(done, Err):
        pool.requires_nothing()
        return
    before = ("unpin", pool.was("vectors", term(index)), pool.was("vector_bytes", term(index)))
    pool.requires(index, vectors_address=address, vectors=at, vector_bytes=size, vector_length=length)
    pool.requires_pins(("pin", term(at), term(size)), before)
    given.require(not pool.claims.writes and not pool.seats.writes, "who runs it goes on")


@about(vcpus.forget, outcomes=("gone", "runs"), assumes=("frames.unpin_all",), bounds=("vcpus.forget: a slot in use, whose VM has a seat for it",))
def forget(given: Given) -> None:
    """A vCPU that runs is not forgotten, and nothing changes. Else all that was pinned for it is let go, once, and no word claims the slot."""
    pool, any_word = Pool(given), given.u64("any word")
    index = pool.index()
    given.assume(term(any_word) & RUNNER == 0)
    at = term(index)
    gone = pool.run(vcpus.forget, index)
    was = pool.claims.first(at)
    given.outcome("gone" if gone else "runs")
    given.require((was & RUNNER == 0) == gone, "exactly if it is idle")
    if not gone:
        pool.requires_claim(index, was)
        given.require(not any(cells.writes for cells in (*pool.fields.values(), pool.seats)) and not pool.pins, "nothing changed")
        return
    pool.requires(index, used=u8(0), vector_bytes=u64(0))
    let_go = [("unpin", pool.was(where, at), pool.was(size, at)) for where, size in (("at", "size"), ("vectors", "vector_bytes"))]
    pool.requires_pins(*let_go)
    pool.requires_seats(pool.was("vm", at), -1)
    given.require(pool.claims(at) & ~z3.BitVecVal(RUNNER, 64) == was, "its generation stays, for the next to count from")
    pool.requires_claim(index, pool.claims(at))
    given.require(not vcpus.claim(index, any_word, u64(0)), "nobody claims it")


class Few(Pool):
    """A few slots, and vCPUs of which some run."""

    def __init__(self, given: Given, limit: int = 3) -> None:
        super().__init__(given, limit)
        self.asked: list[int] = []
        self.gone: list[bool] = []
        given.replace(vcpus.forget, self._forget)

    def _forget(self, index: u64) -> bool:
        """As theorem vcpus.forget."""
        at = int(index)
        self.given.require(self.was("used", z3.BitVecVal(at, 64)) == 1, "a slot in use")
        self.asked.append(at)
        self.gone.append(self.given.boolean(f"slot {at} is idle"))
        return self.gone[-1]


@about(vcpus.forget_all, vcpus.forget_others, assumes=("vcpus.forget",), bounds=(FEW,), outcomes=("idle", "some run"))
def forget_all(given: Given) -> None:
    """Every slot of the VM is forgotten, but one that is named, and no slot of another VM is touched; it is told whether one of them runs."""
    pool, vm, mine, others = Few(given, 2), given.u64("vm"), given.u64("mine"), given.boolean("but one")
    idle = pool.run(vcpus.forget_others, vm, mine) if others else pool.run(vcpus.forget_all, vm)
    given.outcome("idle" if idle else "some run")
    given.require(idle == all(pool.gone), "idle exactly if none of them runs")
    for number in range(2):
        at = z3.BitVecVal(number, 64)
        its = z3.And(pool.was("used", at) == 1, pool.was("vm", at) == term(vm), *([term(mine) != number] if others else []))
        given.require(its == (number in pool.asked), "exactly the VM's")
    given.require(len(set(pool.asked)) == len(pool.asked), "each once")


@about(vcpus._oldest, bounds=(FEW, "vcpus._oldest: no ticket is 2**64 - 1"), outcomes=("found", "none"))
def oldest(given: Given) -> None:
    """The slot in use that was used least recently, of those used after `beyond`; None only where there is none."""
    pool, beyond = Few(given), given.u64("beyond")
    given.assume(*(pool.was("ticket", z3.BitVecVal(number, 64)) != (1 << 64) - 1 for number in range(3)))
    found = pool.run(vcpus._oldest, beyond)
    given.outcome("none" if found is None else "found")
    after = z3.And(pool.was("used", pool.any) == 1, z3.UGT(pool.was("ticket", pool.any), term(beyond)))
    if found is None:
        given.require(z3.Not(after), "there is none")
        return
    at, ticket = term(found), pool.was("ticket", term(found))
    given.require(z3.And(z3.ULT(at, 3), pool.was("used", at) == 1, z3.UGT(ticket, term(beyond))), "one of them")
    given.require(z3.Implies(after, z3.ULE(ticket, pool.was("ticket", pool.any))), "the first")


@about(vcpus.place, assumes=("vcpus.forget", "vcpus.oldest"), bounds=(FEW, "vcpus.place: tickets of slots in use are not 0, and no two are the same"),
       outcomes=("free", "forgotten", "all run"))
def place(given: Given) -> None:
    """A slot that nobody has: a free one, or else one that was just forgotten, which no vCPU that runs ever is. None only where all run."""
    pool = Few(given)
    tickets = [pool.was("ticket", z3.BitVecVal(number, 64)) for number in range(3)]
    used = [pool.was("used", z3.BitVecVal(number, 64)) == 1 for number in range(3)]
    given.assume(z3.Distinct(*tickets), *(z3.And(ticket != 0, ticket != (1 << 64) - 1) for ticket in tickets))
    found = pool.run(vcpus.place)
    for one, other in zip(pool.asked, pool.asked[1:], strict=False):
        given.require(z3.ULT(tickets[one], tickets[other]), "those used least recently first")
    if found is None:
        given.outcome("all run")
        given.require(z3.And(*used, sorted(pool.asked) == [0, 1, 2], not any(pool.gone)), "all run")
        return
    at = int(found)
    given.outcome("forgotten" if pool.asked else "free")
    given.require(used[at] if pool.asked else z3.Not(used[at]), "a free one, where there is one")
    given.require(z3.Implies(z3.Not(z3.And(*used)), not pool.asked), "nobody is forgotten while one is free")
    if pool.asked:
        given.require(pool.asked[-1] == at and pool.gone[-1] and not any(pool.gone[:-1]), "the one that was forgotten, and no other was")
