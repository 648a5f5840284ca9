# SPDX-License-Identifier: Apache-2.0
"""The virtual interrupt controller around a run: whatever the host asks for, ICH_HCR_EL2 has only bits of the allowed list, no list register is used
that there is not, and nothing of the guest's stays in use behind a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import world
from delphyne.el2.kvm import vgic
from delphyne.lang import current, u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import called, events

ALLOWED = 1 | 0xFE | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14
"""Bits of ICH_HCR_EL2: En; UIE, LRENPIE, NPIE, VGrp0EIE, VGrp0DIE, VGrp1EIE, VGrp1DIE; vSGIEOICount; TC, TALL0, TALL1, TSEI, TDIR."""
TRAPS = 1 << 10 | 1 << 11 | 1 << 12 | 1 << 14
GIC_OFF = ["msr ICC_SRE_EL1", "isb", "asked", "msr ICH_VMCR_EL2"]
MOVES = ("list_registers_load and list_registers_save move as many as they are told (arch/world.py; assembly, tests/kvm/test_guest_runs.py)",)


class Run:
    """A seat with any wishes of a host's, on a processor with any number of list registers."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.has_gic = given.boolean("there is a GICv3")
        self.sre, self.hcr, self.wanted, self.its = (given.u64(name) for name in ("gic_sre", "gic_hcr", "used_lrs", "its_vm"))
        asked = SimpleNamespace(gic_sre=self.sre, gic_hcr=self.hcr, used_lrs=self.wanted, its_vm=self.its)
        self.at, self.lrs_at, self.vmcr_at = given.word("at", 48), given.word("list_registers", 16), given.word("gic_vmcr", 16)
        wide = z3.ZeroExt(16, self.at)
        self.seat: Any = SimpleNamespace(abilities=SimpleNamespace(gic=self.has_gic), asked=asked, at=integer(wide))
        self.places: Any = SimpleNamespace(list_registers=integer(z3.ZeroExt(48, self.lrs_at)), gic_vmcr=integer(z3.ZeroExt(48, self.vmcr_at)))
        self.lrs, self.vmcr = wide + z3.ZeroExt(48, self.lrs_at), z3.ZeroExt(48, self.vmcr_at)
        machine: Any = current.machine()
        self.machine = machine
        self.vtr, self.half = given.word("VTR", 64), given.u64("gic_vmcr in memory")
        machine.registers["ICH_VTR_EL2"] = integer(self.vtr)
        given.replace(world.asked_half, self._asked)
        given.replace(world.answer_half, self._answer)
        given.replace(world.list_registers_load, lambda at, count: self._moved("load", at, count))
        given.replace(world.list_registers_save, lambda at, count: self._moved("save", at, count))

    def _asked(self, at: u64, offset: u64) -> u64:
        self.given.require(z3.And(term(at) == z3.ZeroExt(16, self.at), term(offset) == self.vmcr), "the guest's own VMCR")
        called("asked")
        return self.half

    def _answer(self, at: u64, offset: u64, x: u64) -> None:
        self._asked(at, offset)
        self.given.require(term(x) == self.word("ICH_VMCR_EL2"), "as the guest left it")

    def _moved(self, what: str, at: u64, count: u64) -> None:
        self.given.require(z3.And(term(at) == self.lrs, term(count) == self.count()), "the host's list registers, no more than there are")
        self.given.require(z3.And(term(count) != 0, z3.ULE(term(count), z3.ZeroExt(59, z3.Extract(4, 0, self.vtr)) + 1)), "one at least")
        called(what)

    def count(self) -> Term:
        """As many as the host has filled, or as there are."""
        there = z3.ZeroExt(59, z3.Extract(4, 0, self.vtr)) + 1
        return z3.If(z3.ULT(term(self.wanted), there), term(self.wanted), there)

    def is_driven(self) -> Formula:
        """Interrupts to deliver, or accesses to trap."""
        return z3.Or(term(self.wanted) != 0, term(self.its) != 0, term(self.hcr) & TRAPS != 0)

    def word(self, name: str) -> Term:
        """What is in a register."""
        return term(self.machine.read_register(name))

    def requires(self, *steps: str) -> None:
        """These steps, in this order, and no other."""
        done = [event.show(lambda _: 0).removesuffix(" 0x0") for event in events()]
        self.given.require(done == list(steps), f"the steps are {', '.join(steps) or 'none'}")


@theorem(vgic.enter, vgic.used, vgic.is_driven, outcomes=("no GIC", "GICv2", "GICv3"), trusts=MOVES)
def enter(given: Given) -> None:
    """A guest's controls are bits of the allowed list, its list registers no more than there are, and EL1 cannot change how it reaches them."""
    run = Run(given)
    vgic.enter(run.seat, run.places)
    if not run.has_gic:
        given.outcome("no GIC")
        run.requires()
        return
    old, driven, some = given.holds(term(run.sre) == 0), given.holds(run.is_driven()), given.holds(term(run.wanted) != 0)
    given.outcome("GICv2" if old else "GICv3")
    run.requires(*(GIC_OFF if old else []), "msr ICC_SRE_EL2", *(["msr ICH_HCR_EL2"] if driven else []), *(["load"] if some else []),
                 *(["isb", "dsb sy"] if old else []))
    given.require(run.word("ICC_SRE_EL2") == 0b0111, "system registers for EL2, and not Enable")
    if driven:
        now = run.word("ICH_HCR_EL2")
        given.require(now & ~z3.BitVecVal(ALLOWED, 64) == 0, "nothing but what changes only what the guest sees")
        given.require(now == term(run.hcr) & ALLOWED, "and of that what the host asks for")
    if old:
        given.require(z3.And(run.word("ICC_SRE_EL1") == 0, run.word("ICH_VMCR_EL2") == term(run.half)), "the guest's interface is a GICv2's")


@theorem(vgic.leave, vgic.used, vgic.is_driven, outcomes=("no GIC", "GICv2", "GICv3"), trusts=MOVES)
def leave(given: Given) -> None:
    """Behind a run the virtual interface is off, as many list registers are saved as were loaded, and the host's EL1 has its own interface again."""
    run = Run(given)
    vgic.leave(run.seat, run.places)
    if not run.has_gic:
        given.outcome("no GIC")
        run.requires()
        return
    old, driven, some = given.holds(term(run.sre) == 0), given.holds(run.is_driven()), given.holds(term(run.wanted) != 0)
    given.outcome("GICv2" if old else "GICv3")
    run.requires(*(["dsb sy", "isb"] if old else []), *(["msr ICH_HCR_EL2"] if driven else []), *(["save"] if some else []),
                 *(["asked"] if old else []), "msr ICC_SRE_EL2", *(["isb", "msr ICC_SRE_EL1"] if old else []))
    given.require(run.word("ICC_SRE_EL2") == 0b1111, "EL1 may use its own")
    if driven:
        given.require(run.word("ICH_HCR_EL2") == 0, "no virtual interrupt reaches the host")
    if old:
        given.require(run.word("ICC_SRE_EL1") == 1, "by system registers again")


@theorem(vgic.is_trapped, vgic.is_driven)
def is_trapped(given: Given) -> None:
    """Accesses are done by EL2 exactly if there is a GICv3 and one of its traps is asked for; then the virtual interface is driven."""
    run = Run(given)
    trapped = vgic.is_trapped(run.seat)
    given.require(z3.And(run.has_gic, term(run.hcr) & TRAPS != 0) == trapped, "a trap of the list")
    given.require(not trapped or vgic.is_driven(run.seat), "with the virtual interface on")
    run.requires()
