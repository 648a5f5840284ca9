# SPDX-License-Identifier: Apache-2.0
"""What is known of runs of 512 frames: each function does to its run, or its two runs, what it says, and to no other.

The arrays have any length and any content. That a run which is known to be the host's has no other frame is an invariant of both this file and the
frame table, and a theorem of `frames`.
"""

from __future__ import annotations

from functools import partial

import z3  # type: ignore[import-untyped]

from delphyne.el2.memory import blocks
from delphyne.lang import Pa, owned, u32, u64
from delphyne.prove.memory import Atomics, Cells, Write, clearing, filling
from delphyne.prove.path import Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "frames.LOCK is held: nobody else changes what is known of frames meanwhile"
AT_BOOT = "one CPU runs at boot"
UNKNOWN, ALL, NOT_ALL = 0, 1, 2
about = partial(theorem, trusts=(LOCKED,))


class Runs:
    """The arrays, for an arbitrary number of frames."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.frames = given.u64("frames")
        given.assume(z3.ULE(term(self.frames), 1 << 40))
        self.count = z3.LShR(term(self.frames) + 511, 9)
        self.hosts, self.leaves = Cells("known", u32), Cells("leaves", u32)
        given.replace(blocks.HOSTS, Atomics(self.hosts, integer(self.count)))
        given.replace(blocks.LEAVES, Atomics(self.leaves, integer(self.count)))
        self.behind = Cells("table behind", u32)
        given.replace(blocks.BEHIND, Atomics(self.behind, integer(self.count)))
        self.any = given.word("any run", 64)
        given.assume(z3.ULT(self.any, self.count))

    def frame(self, name: str) -> u64:
        """An arbitrary frame of the table."""
        made = self.given.u64(name)
        self.given.assume(z3.ULT(term(made), term(self.frames)))
        return made

    def requires(self, hosts: Term, leaves: Term) -> None:
        """What an arbitrary run has now."""
        self.given.require(self.hosts(self.any) == hosts, "exactly this is known of each run")
        self.given.require(self.leaves(self.any) == leaves, "exactly so many leaves are counted for each run")

    def was(self) -> tuple[Term, Term]:
        """What it had when the theorem began."""
        return self.hosts.first(self.any), self.leaves.first(self.any)


def run_of(frame: u64) -> Term:
    """The run that a frame lies in."""
    return z3.LShR(term(frame), 9)


@theorem(blocks.table_size)
def table_size(given: Given) -> None:
    """Three words for each run, of which the last may be part of one, rounded up to a page."""
    frames = given.u64("frames")
    given.assume(z3.ULE(term(frames), 1 << 40))
    size, needed = term(blocks.table_size(frames)), z3.LShR(term(frames) + 511, 9) * 12
    given.require(z3.And(z3.UGE(size, needed), z3.ULT(size - needed, 4096), z3.Extract(11, 0, size) == 0), "the next multiple of a page")


@theorem(blocks.attach, trusts=(AT_BOOT,))
def attach(given: Given) -> None:
    """Of every run nothing is known, and no leaf is counted, whatever the memory held; the arrays lie in it, one behind the other."""
    at, frames = given.u64("at"), given.u64("frames")
    given.assume(z3.ULE(term(frames), 1 << 40), z3.ULT(term(at), 1 << 48), z3.Extract(11, 0, term(at)) == 0)
    runs = z3.LShR(term(frames) + 511, 9)
    arrays = [Atomics(Cells(name, u32)) for name in ("known", "leaves", "table behind")]
    for array, made in zip((blocks.HOSTS, blocks.LEAVES, blocks.BEHIND), arrays, strict=True):
        given.replace(array, made)
    lent, cleared = clearing(term(at), runs * 12)
    given.replace(owned, lent)
    blocks.attach(Pa(at), frames)
    given.require(len(cleared) == 1, "the memory is cleared, once")
    for made, start in zip(arrays, (term(at), term(at) + 4 * runs, term(at) + 8 * runs), strict=True):
        given.require(z3.And(term(made.address) == start, term(made.length) == runs), "a word for each run, where it was cleared")


@about(blocks.known, blocks.learn, blocks.forget, blocks.leaves, outcomes=("learned", "forgotten"))
def known(given: Given) -> None:
    """What was learned of a run is known, until it is forgotten; of no other run anything changes."""
    runs = Runs(given)
    frame, all_hosts = runs.frame("frame"), given.boolean("all")
    hosts, leaves = runs.was()
    forgets = given.boolean("forgotten")
    if forgets:
        blocks.forget(frame)
    else:
        blocks.learn(frame, all_hosts)
    given.outcome("forgotten" if forgets else "learned")
    now = UNKNOWN if forgets else ALL if all_hosts else NOT_ALL
    given.require(term(blocks.known(frame)) == now, "what is known")
    given.require(term(blocks.leaves(frame)) == runs.leaves.first(run_of(frame)), "how many leaves are counted")
    runs.requires(z3.If(runs.any == run_of(frame), z3.BitVecVal(now, 32), hosts), leaves)


@theorem(blocks.learn_all_hosts, trusts=(AT_BOOT,), bounds=("blocks.learn_all_hosts: of frames of the table",))
def learn_all_hosts(given: Given) -> None:
    """Exactly the runs all of whose frames are among those that are named become known as the host's."""
    runs = Runs(given)
    first, count = given.u64("first"), given.u64("count")
    given.assume(z3.ULE(term(first), term(runs.frames)), z3.ULE(term(count), term(runs.frames) - term(first)))
    start = z3.LShR(term(first) + 511, 9)
    rule = filling([runs.hosts], lambda _, here: Write(lambda at: z3.And(z3.UGE(at, start), z3.ULT(at, here)), lambda at: z3.BitVecVal(ALL, 32)))
    given.rule(blocks.learn_all_hosts, rule)
    hosts, leaves = runs.was()
    blocks.learn_all_hosts(first, count)
    whole = z3.And(z3.UGE(runs.any << 9, term(first)), z3.ULE((runs.any << 9) + 512, term(first) + term(count)))
    runs.requires(z3.If(whole, z3.BitVecVal(ALL, 32), hosts), leaves)


@about(blocks.count, blocks.uncount, outcomes=("counted", "no longer counted"),
       bounds=("blocks.count: a leaf spans at most 512 frames; no run has 2**32 leaves, and none is uncounted that was not counted",))
def count(given: Given) -> None:
    """A leaf counts once for each run that it leads into."""
    runs = Runs(given)
    first, last = runs.frame("first"), runs.frame("last")
    given.assume(z3.ULE(term(first), term(last)), z3.ULE(term(last) - term(first), 511))
    hosts, leaves = runs.was()
    step = 1 if given.boolean("one more") else -1
    for run in (run_of(first), run_of(last)):
        given.assume(runs.leaves.first(run) != (0xFFFF_FFFF if step == 1 else 0))
    (blocks.count if step == 1 else blocks.uncount)(first, last)
    given.outcome("counted" if step == 1 else "no longer counted")
    into = z3.And(z3.UGE(runs.any, run_of(first)), z3.ULE(runs.any, run_of(last)))
    runs.requires(hosts, z3.If(into, leaves + step, leaves))


@about(blocks.put_behind, blocks.behind)
def behind(given: Given) -> None:
    """The table that was put behind a run's block is the one that stands there, and no other run's is another."""
    runs = Runs(given)
    first, table = runs.frame("first"), given.u64("table")
    given.assume(z3.ULT(term(table), 1 << 32))
    hosts, leaves = runs.was()
    before = runs.behind.first(runs.any)
    blocks.put_behind(first, table)
    given.require(term(blocks.behind(first)) == term(table), "this one")
    given.require(z3.Implies(runs.any != run_of(first), runs.behind(runs.any) == before), "of this run alone")
    runs.requires(hosts, leaves)
