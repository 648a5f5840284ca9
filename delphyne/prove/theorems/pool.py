# SPDX-License-Identifier: Apache-2.0
"""`Pool[T, N]` of the language, with three slots in any state that its invariants allow.

Three slots are enough for a list with a head, a middle and an end; more would only be longer lists (a bound, not a proof for every N).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.lang import Handle, Pool, struct, u64
from delphyne.lang.pool import PoolOf
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

SLOTS = 3
about = partial(theorem, bounds=("Pool: three slots",), trusts=("the lock that guards the pool is held",))


class State:
    """An arbitrary sound pool. `was` are its numbers before the operation, `now` after it."""

    def __init__(self, given: Given) -> None:
        @struct
        class Item:
            """One word is enough to see what happens to an object."""

            word: u64

        self.given, self.item = given, Item
        self.pool: Any = Pool[Item, SLOTS]()
        for slot in range(SLOTS):
            self.pool.generations[slot] = given.u32(f"generation {slot}")
            self.pool.links[slot] = given.u32(f"link {slot}")
            self.pool.items[slot].word = given.u64(f"object {slot}")
        self.pool.head, self.pool.fresh = given.u32("head"), given.u32("fresh")
        self.was = self.now()
        given.assume(sound(self.was))

    def now(self) -> dict[str, Any]:
        """The numbers of the pool."""
        pool = self.pool
        rows = {name: [term(getattr(pool, name)[slot]) for slot in range(SLOTS)] for name in ("generations", "links")}
        return {**rows, "words": [term(pool.items[slot].word) for slot in range(SLOTS)], "head": term(pool.head), "fresh": term(pool.fresh)}

    def requires(self, slot: Term, generation: Term, word: Term | None = None) -> None:
        """`slot` has this generation and, where given, this word; the others are as they were; the pool is sound."""
        now = self.now()
        for number in range(SLOTS):
            changed = slot == number
            expected = z3.If(changed, generation, self.was["generations"][number])
            self.given.require(now["generations"][number] == expected, "generations are as they should be")
            kept = self.was["words"][number] if word is None else z3.If(changed, word, self.was["words"][number])
            self.given.require(now["words"][number] == kept, "objects are as they should be")
        self.given.require(sound(now), "the pool is sound")


def is_live(generation: Term) -> Formula:
    """Whether a slot of that generation is allocated."""
    return z3.Extract(0, 0, generation) == 1


def sound(state: dict[str, Any]) -> Formula:
    """The invariants that `delphyne.lang.pool` states."""
    facts = [z3.ULE(state["fresh"], SLOTS)]
    listed = [z3.BoolVal(False)] * SLOTS
    here = state["head"]
    for _ in range(SLOTS + 1):
        follow = z3.BitVecVal(0, 32)
        again = []
        for slot in range(SLOTS):
            at = here == slot + 1
            again.append(z3.And(at, listed[slot]))
            follow = z3.If(at, state["links"][slot], follow)
            listed[slot] = z3.Or(listed[slot], at)
        facts += [z3.ULE(here, SLOTS), z3.Not(z3.Or(again))]
        here = follow
    for slot in range(SLOTS):
        generation, used = state["generations"][slot], z3.ULT(slot, state["fresh"])
        waiting = z3.And(used, z3.Not(is_live(generation)), generation != 0)
        facts += [listed[slot] == waiting, z3.Implies(z3.Not(used), generation == 0)]
        facts += [z3.Implies(z3.Not(is_live(generation)), state["words"][slot] == 0)]
    return z3.And(facts)


def _handle(state: State) -> Any:
    return Handle[state.item](state.given.u32("index"), state.given.u32("generation"))  # type: ignore[name-defined]


def _names(state: State, handle: Any) -> Formula:
    """Whether a handle names a live object."""
    generation, index = term(handle.generation), term(handle.index)
    return z3.And(is_live(generation), z3.Or([z3.And(index == slot, state.was["generations"][slot] == generation) for slot in range(SLOTS)]))


@about(PoolOf.allocate, outcomes=("allocated", "full"))
def allocate(given: Given) -> None:
    """A slot that nobody had, all zero, under a handle that never named anything before; None where there is none."""
    state = State(given)
    handle = state.pool.allocate()
    given.outcome("full" if handle is None else "allocated")
    spent = [z3.And(z3.ULT(slot, state.was["fresh"]), z3.Or(is_live(generation), generation == 0))
             for slot, generation in enumerate(state.was["generations"])]
    given.require(z3.And(spent) == (handle is None), "None exactly if every slot is taken or used up")
    if handle is None:
        state.requires(z3.BitVecVal(SLOTS, 32), z3.BitVecVal(0, 32))
        return
    index = term(handle.index)
    was = state.was["generations"][0]
    for slot in range(1, SLOTS):
        was = z3.If(index == slot, state.was["generations"][slot], was)
    given.require(z3.And(z3.ULT(index, SLOTS), z3.Not(is_live(was))), "a free slot")
    given.require(z3.Or(was != 0, index == state.was["fresh"]), "whose generations are not used up")
    given.require(term(handle.generation) == was + 1, "a handle that is new")
    state.requires(index, was + 1, z3.BitVecVal(0, 64))


@about(PoolOf.get, outcomes=("found", "stale"))
def get(given: Given) -> None:
    """The object of a handle that names one, else None; looking changes nothing."""
    state = State(given)
    handle = _handle(state)
    found = state.pool.get(handle)
    given.outcome("stale" if found is None else "found")
    given.require(_names(state, handle) == (found is not None), "found exactly if the handle names it")
    if found is not None:
        objects = [z3.And(term(handle.index) == slot, term(found.word) == word) for slot, word in enumerate(state.was["words"])]
        given.require(z3.Or(objects), "its object")
    state.requires(z3.BitVecVal(SLOTS, 32), z3.BitVecVal(0, 32))


@about(PoolOf.free, outcomes=("freed", "stale"))
def free(given: Given) -> None:
    """The object is zero and gone, and its handle stale for ever; with a stale handle nothing changes."""
    state = State(given)
    handle = _handle(state)
    done = state.pool.free(handle)
    given.outcome("freed" if done else "stale")
    given.require(_names(state, handle) == done, "freed exactly if the handle named it")
    slot = term(handle.index) if done else z3.BitVecVal(SLOTS, 32)
    state.requires(slot, term(handle.generation) + 1, z3.BitVecVal(0, 64))
