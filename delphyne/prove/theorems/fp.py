# SPDX-License-Identifier: Apache-2.0
"""A guest's SIMD and SVE registers: loaded and saved as the same kind and in the same place, with vectors no longer than the host has pinned memory
for, and with nothing of SVE for a guest that was not promised it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import world
from delphyne.el2.kvm import fp
from delphyne.lang import current, u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import called, events

TFP, TZ, TSM, TTA, TAM = 10, 8, 12, 20, 30
MOVES = ("fp_load, fp_save, sve_load and sve_save move as much as they are told (arch/world.py; assembly, tests/kvm/test_guest_runs.py)",)
LENGTHS = ("a vector length is 0 or a multiple of 16, up to 256, which kvm/seats.py checks of what the host says",)


class Run:
    """A seat of any guest, with vectors of any length that the architecture has, or none."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.promised, self.cflags, self.length = given.boolean("the processor has SVE"), given.u64("cflags"), given.u64("vector_length")
        given.assume(term(self.length) & 15 == 0, z3.ULE(term(self.length), 256))
        self.vectors, self.host_zcr = given.u64("vectors"), given.u64("host_zcr")
        at, fp_at, self.zcr_at = (z3.ZeroExt(16, given.word(name, 48)) for name in ("at", "fp", "zcr"))
        self.at, self.fp = at, at + fp_at
        self.seat: Any = SimpleNamespace(
            abilities=SimpleNamespace(sve=self.promised), asked=SimpleNamespace(cflags=self.cflags), vector_length=self.length, vectors=self.vectors,
            host_zcr=self.host_zcr, at=integer(at), fp_live=given.boolean("live"), fp_ahead=given.u64("ahead"))
        self.places: Any = SimpleNamespace(fp=integer(fp_at), zcr=integer(self.zcr_at))
        self.guest_zcr, machine = given.u64("ZCR of the guest"), current.machine()
        self.machine: Any = machine
        self.zcr = term(self.machine.read_register("ZCR_EL1"))
        given.replace(world.asked_word, self._asked)
        given.replace(world.answer_word, self._answer)
        given.replace(world.fp_load, lambda fp: self._moved("load", fp))
        given.replace(world.fp_save, lambda fp: self._moved("save", fp))
        given.replace(world.sve_load, lambda at, length, fp: self._vectors("load vectors", at, length, fp))
        given.replace(world.sve_save, lambda at, length, fp: self._vectors("save vectors", at, length, fp))

    def _asked(self, at: u64, offset: u64) -> u64:
        self.given.require(z3.And(term(at) == self.at, term(offset) == self.zcr_at), "the guest's own ZCR")
        return self.guest_zcr

    def _answer(self, at: u64, offset: u64, x: u64) -> None:
        self._asked(at, offset)
        self.given.require(term(x) == self.word("ZCR_EL1"), "as the guest left it")
        called("answer")

    def _moved(self, what: str, at: u64) -> None:
        self.given.require(term(at) == self.fp, "in the guest's own place")
        called(what)

    def _vectors(self, what: str, at: u64, length: u64, simd: u64) -> None:
        self._moved(what, simd)
        self.given.require(z3.And(term(at) == term(self.vectors), term(length) == term(self.length)), "in the memory that is pinned, vectors as long")
        self.given.require(what.startswith("save") or self.word("ZCR_EL2") == z3.LShR(term(length), 4) - 1, "which the processor has set")

    def has_sve(self) -> Formula:
        """Promised by all three."""
        return z3.And(self.promised, z3.Extract(0, 0, term(self.cflags)) == 1, term(self.length) != 0)

    def word(self, name: str) -> Term:
        """What is in a register."""
        return term(self.machine.read_register(name))

    def requires(self, *steps: str) -> None:
        """These steps, in this order, and no other."""
        done = [event.show(lambda _: 0).removesuffix(" 0x0") for event in events()]
        self.given.require(done == list(steps), f"the steps are {', '.join(steps) or 'none'}")


@theorem(fp.has_sve, fp.is_ahead, outcomes=("SVE", "none"))
def has_sve(given: Given) -> None:
    """SVE only for a guest that was promised it, on a processor that has it, with a place to keep it; ahead while runs are left."""
    run = Run(given)
    found = fp.has_sve(run.seat)
    given.outcome("SVE" if found else "none")
    given.require(run.has_sve() == found, "exactly then")
    given.require((term(run.seat.fp_ahead) != 0) == fp.is_ahead(run.seat), "while runs are left")
    run.requires()


@theorem(fp.load, fp.has_sve, outcomes=("SVE", "SIMD"), trusts=MOVES + LENGTHS)
def load(given: Given) -> None:
    """The guest's registers are in the processor, SVE ones trapped unless it has SVE; trace, SME and activity monitors stay trapped. The host's ZCR
    is kept."""
    run = Run(given)
    fp.load(run.seat, run.places)
    sve = given.holds(run.has_sve())
    given.outcome("SVE" if sve else "SIMD")
    run.requires("msr CPTR_EL2", "isb", *(["msr ZCR_EL2", "isb", "load vectors", "msr ZCR_EL1"] if sve else ["load"]))
    cptr = run.word("CPTR_EL2")
    trapped = {TFP: False, TZ: not sve, TSM: True, TTA: True, TAM: True}
    right = [(z3.Extract(number, number, cptr) == 1) == trap for number, trap in trapped.items()]
    given.require(z3.And(right), "trapped but for what is the guest's")
    given.require(run.seat.fp_live is True, "which is remembered")
    if sve:
        given.require(term(run.seat.host_zcr) == run.zcr, "the host's ZCR is kept")
        given.require(run.word("ZCR_EL1") == term(run.guest_zcr), "the guest's is in use")
    else:
        given.require(run.seat.host_zcr is run.host_zcr, "nothing of SVE changes")


@theorem(fp.save, fp.has_sve, outcomes=("SVE", "SIMD"), trusts=MOVES + LENGTHS)
def save(given: Given) -> None:
    """The guest's registers are in its memory, and the host has its own vector lengths again."""
    run = Run(given)
    fp.save(run.seat, run.places)
    sve = given.holds(run.has_sve())
    given.outcome("SVE" if sve else "SIMD")
    run.requires(*(["answer", "save vectors", "msr ZCR_EL1", "msr ZCR_EL2"] if sve else ["save"]))
    given.require(run.seat.fp_live is False, "no more in the processor")
    if sve:
        given.require(z3.And(run.word("ZCR_EL1") == term(run.host_zcr), run.word("ZCR_EL2") == 0x1FF), "the host's lengths")
