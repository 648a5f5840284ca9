# SPDX-License-Identifier: Apache-2.0
"""Guards: who has which, that identities and versions are never used twice, and what begins and ends with one.

A guard is named by an arbitrary number below 32, a VM by one below 64; only the one that is named is there to be changed.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import guards, vms
from delphyne.el2.guest.guards import Guard, Guards, Phase
from delphyne.el2.guest.vms import Vm
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import u64
from delphyne.prove.memory import Atomics, Cells, Only
from delphyne.prove.path import Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

LOCKED = "GUESTS_LOCK is held: nobody else changes guards meanwhile"
LIMIT = 32
about = partial(theorem, trusts=(LOCKED,))


def below(given: Given, name: str, limit: int) -> u64:
    """An arbitrary number below a limit."""
    made = given.u64(name)
    given.assume(z3.ULT(term(made), limit))
    return made


class Books:
    """The guard `index` of the VM `vm`, in any state, and what is kept by guard and by VM."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.index, self.number = below(given, "index", LIMIT), below(given, "vm", 64)
        self.guard, self.vm = Guard(), Vm()
        self.guard.vm = self.number
        self.guard.phase = Phase.PROTECTED
        for field in ("identity", "version", "private", "ended", "lent_count"):
            setattr(self.guard, field, given.u64(field))
        self.vm.guard = given.u64("guard of the VM")
        self.lent, self.ordinary = given.u64("lent"), given.u64("ordinary")
        self.all: Any = SimpleNamespace(slots=Only(self.index, self.guard), lent=self.lent, closed=False)
        self.vms: Any = SimpleNamespace(slots=Only(self.number, self.vm), ordinary=self.ordinary)
        self.words = {name: Cells(name, u64) for name in ("ALIVE", "OFFSETS", "SEEN", "RUNS")}
        given.replace(guards.GUARDS, self.all)
        given.replace(vms.VMS, self.vms)
        for name, cells in self.words.items():
            given.replace(getattr(guards, name), Atomics(cells, u64(LIMIT)))

    def requires_word(self, name: str, wanted: Term | None) -> None:
        """The guard's word of a kind is this one now, or is as it was; every other guard's is."""
        cells, any_guard = self.words[name], z3.BitVec("any guard", 64)
        expected = cells.first(any_guard) if wanted is None else z3.If(any_guard == term(self.index), wanted, cells.first(any_guard))
        self.given.require(cells(any_guard) == expected, f"{name} of each guard is what it should be")


@about(guards.of_vm, outcomes=("protected", "ordinary"))
def of_vm(given: Given) -> None:
    """The guard whose number, plus one, the VM has; None for 0."""
    books = Books(given)
    with GUESTS_LOCK:
        found = guards.of_vm(books.number)
    given.outcome("ordinary" if found is None else "protected")
    given.require((term(books.vm.guard) == 0) == (found is None), "None exactly for an ordinary VM")
    if found is not None:
        given.require(term(found) == term(books.vm.guard) - 1, "its guard")


@about(guards.shadow_of)
def shadow_of(given: Given) -> None:
    """The shadow of the guard's own VM."""
    books = Books(given)
    with GUESTS_LOCK:
        given.require(guards.shadow_of(books.index) is books.vm.shadow, "of its VM")


@theorem(guards.owner)
def owner(given: Given) -> None:
    """The number of a guard, plus one, owns its frames: not 0, another for each, and one that the frame table can hold."""
    one, other = below(given, "one guard", LIMIT), below(given, "another guard", LIMIT)
    first, second = term(guards.owner(one)), term(guards.owner(other))
    given.require(z3.And(first != 0, z3.ULT(first, 4096)), "an owner of the frame table")
    given.require((first == second) == (term(one) == term(other)), "its own")
    given.require(z3.ZeroExt(48, first) == term(one) + 1, "the number, plus one")


@about(guards.next_version, bounds=("guards.next_version: fewer than 2**56 exports, which no guest lives to see",))
def next_version(given: Given) -> None:
    """A version above all that were given out before, and the last one from now on."""
    books = Books(given)
    before = term(books.guard.version)
    given.assume(z3.ULT(before, (1 << 56) - 1))
    with GUESTS_LOCK:
        version = term(guards.next_version(books.index))
    given.require(z3.And(z3.UGT(version, before), z3.ULT(version, 1 << 56)), "one that no page had, and that a record can hold")
    given.require(term(books.guard.version) == version, "and that is remembered")


@about(guards.close)
def close(given: Given) -> None:
    """Guests may begin no more, or again."""
    books, closed = Books(given), given.boolean("closed")
    books.all.closed = given.boolean("was closed")
    with GUESTS_LOCK:
        guards.close(closed)
    given.require(books.all.closed == closed, "as asked")


@about(guards.stop, guards.leave, outcomes=("stopped", "leaving"))
def stop(given: Given) -> None:
    """The guard is STOPPED, and no CPU of its guest begins to run again; other guests go on. It is told which one ended by its own call."""
    books = Books(given)
    leaving = given.boolean("by its own call")
    given.outcome("leaving" if leaving else "stopped")
    with GUESTS_LOCK:
        (guards.leave if leaving else guards.stop)(books.index)
    given.require(books.guard.leaving == leaving, "by whose call is known")
    given.require(books.guard.phase is Phase.STOPPED, "stopped")
    books.requires_word("ALIVE", z3.BitVecVal(0, 64))
    for name in ("OFFSETS", "SEEN", "RUNS"):
        books.requires_word(name, None)


@about(guards.destroy, bounds=("guards.destroy: no page of the guest's is private any more",))
def destroy(given: Given) -> None:
    """Nothing is left of the guard: its VM is an ordinary one, and its CPUs run no more as a protected guest's."""
    books = Books(given)
    given.assume(term(books.guard.private) == 0)
    with GUESTS_LOCK:
        guards.destroy(books.index)
    books.requires_word("ALIVE", z3.BitVecVal(0, 64))
    bit = z3.BitVecVal(1, 64) << term(books.index)
    given.require(term(books.all.lent) == term(books.lent) & ~bit, "none of its pages is lent, and what others lent stays")
    given.require(term(books.vm.guard) == 0, "the VM has no guard")
    given.require(term(books.vms.ordinary) == term(books.ordinary) | (z3.BitVecVal(1, 64) << term(books.number)), "it is among the ordinary ones")
    for field in ("identity", "version", "private", "ended", "lent_count", "vm"):
        given.require(term(getattr(books.guard, field)) == 0, f"{field} is gone")
    given.require(not books.guard.used and books.guard.phase is Phase.MEASURING, "the guard is free")


@about(guards.create, outcomes=("made", "full", "closed"),
       bounds=("guards.create: fewer than 2**64 guests ever; the first free guard is 0, 1 or 31",))
def create(given: Given) -> None:
    """The first free guard is the VM's, under an identity that no guest ever had; with Err nothing changes."""
    books, pool = Books(given), Guards()
    pool.identities, pool.closed = given.u64("identities"), given.boolean("closed")
    before = term(pool.identities)
    given.assume(before != (1 << 64) - 1)
    first = given.one_of("the first free one", (0, 1, 31, 32))
    for number in range(first):
        pool.slots[u64(number)].used = True
        pool.slots[u64(number)].identity = given.u64(f"identity {number}")
    was = [term(pool.slots[u64(number)].identity) for number in range(first)]
    if first < LIMIT:
        pool.slots[u64(first)].version = given.u64("version of somebody before")
        pool.slots[u64(first)].mmio.enrolled = given.boolean("somebody before had enrolled")
        pool.slots[u64(first)].mmio.count = given.u64("ranges of somebody before")
    given.replace(books.all, pool)
    with GUESTS_LOCK:
        made = guards.create(books.number)
    given.outcome("closed" if isinstance(made, Err) and pool.closed else "full" if isinstance(made, Err) else "made")
    given.require(isinstance(made, Err) == (pool.closed or first == LIMIT), "refused only where none is free, or none may begin")
    for number, identity in enumerate(was):
        given.require(term(pool.slots[u64(number)].identity) == identity, "guards in use stay")
    if isinstance(made, Err):
        given.require(term(pool.identities) == before, "Err counts no guest")
        given.require(term(books.vm.guard) == z3.BitVec("guard of the VM", 64), "nor gives one")
        given.require(term(books.vms.ordinary) == term(books.ordinary), "the VM is as ordinary as it was")
        given.require(not any(cells.writes for cells in books.words.values()), "Err changes no word")
        return
    guard = pool.slots[u64(first)]
    given.require(term(made) == first, "a free one")
    given.require(z3.And(term(guard.identity) == before + 1, term(pool.identities) == before + 1), "a new identity")
    given.require(guard.used and guard.phase is Phase.MEASURING and not guard.committed, "which is in use from now on")
    given.require(term(guard.vm) == term(books.number), "the VM's")
    given.require(z3.And(term(guard.version) == 0, term(guard.private) == 0), "with nothing of its own yet")
    given.require(z3.And(term(guard.mmio.count) == 0, not guard.mmio.enrolled), "and its windows as they are")
    given.require(term(books.vm.guard) == first + 1, "the VM names it")
    given.require(term(books.vms.ordinary) == term(books.ordinary) & ~(z3.BitVecVal(1, 64) << term(books.number)), "and is no ordinary one")
    for name in ("OFFSETS", "SEEN", "RUNS"):
        cells, asked = books.words[name], z3.BitVec("any guard", 64)
        given.require(cells(asked) == z3.If(asked == first, z3.BitVecVal(0, 64), cells.first(asked)), f"{name} begins at 0")
