# SPDX-License-Identifier: Apache-2.0
"""A guest's trapped accesses to its interrupt interface: whatever it writes and whatever its host has put into the virtual interface, EL2 changes
only the guest's own settings, active priorities and the states of list registers that are in use.

List registers and active priorities are words of any content, by number; the search for the most urgent one is proved for an arbitrary round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any
from unittest import mock

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import gic
from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.arch.gic import IchVmcr
from delphyne.el2.kvm import gic_access
from delphyne.el2.kvm.gic_access import Access
from delphyne.lang import current, u8, u32, u64
from delphyne.prove.loops import Rule
from delphyne.prove.memory import Cells
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import events

SPURIOUS, IDLE, NONE, MOST = 1023, 255, 0xFFFF, 16
PENDING, ACTIVE, HW, GROUP1 = 62, 63, 61, 60
VENG0, VENG1, VCBPR, VEOIM = 0, 1, 4, 9
SETTINGS = 0xFFFC_0213
"""The fields of ICH_VMCR_EL2 that a guest can reach."""
DEACTIVATED = ["msr ICC_DIR_EL1", "isb"]
REGISTERS = "ICH_LR<n>_EL2 and ICH_AP<g>R<n>_EL2 are what their numbers say (arch/gic.py; tests/kvm/test_gic_access.py)"
about = partial(theorem, trusts=(REGISTERS, "ICH_VTR_EL2 names 5, 6 or 7 bits of preemption, as the architecture has them"))


def bit(word: Term, number: int) -> Formula:
    """Whether it is set."""
    return z3.Extract(number, number, word) == 1


def field(word: Term, high: int, low: int) -> Term:
    """As 64 bits."""
    return z3.ZeroExt(63 - high + low, z3.Extract(high, low, word))


def is_special(intid: Term) -> Formula:
    """1020 to 1023 name no interrupt."""
    return z3.And(z3.UGE(intid, 1020), z3.ULE(intid, 1023))


class Interface:
    """A virtual interface in any state: of `used` list registers the host has filled some, and any list register and any active priority, which
    stand for all of them."""

    def __init__(self, given: Given, preempts: bool = True) -> None:
        """`preempts`: whether it matters how many bits decide about preemption."""
        self.given = given
        machine: Any = current.machine()
        self.bits = int(given.one_of("bits of preemption", (5, 6, 7))) if preempts else 7
        decided = z3.BitVecVal(self.bits - 1, 3) if preempts else given.word("VTR 28:26", 3)
        self.vtr = z3.Concat(given.word("VTR 63:29", 35), decided, given.word("VTR 25:0", 26))
        self.vmcr, self.hcr = given.word("VMCR", 64), given.word("HCR", 64)
        for name, word in (("ICH_VTR_EL2", self.vtr), ("ICH_VMCR_EL2", self.vmcr), ("ICH_HCR_EL2", self.hcr)):
            machine.registers[name] = integer(word)
        self.machine = machine
        self.settings = IchVmcr.of(integer(self.vmcr))
        self.used, self.any = given.u64("used"), given.word("any list register", 64)
        given.assume(z3.ULE(term(self.used), MOST), z3.ULT(self.any, term(self.used)))
        self.lrs = Cells("ICH_LR", u64)
        self.priorities = {group1: Cells(f"ICH_AP{int(group1)}R", u32) for group1 in (False, True)}
        self.any_group, self.any_level = given.word("any group", 1), given.word("any level", 8)
        given.assume(z3.ULT(z3.ZeroExt(1, self.any_level), 1 << self.bits))
        self.now_running: Term = z3.BitVecVal(IDLE, 64)
        self.before = {group1: self.is_active(group1, self.any_level) for group1 in (False, True)}
        given.replace(gic.read_list_register, self._read)
        given.replace(gic.write_list_register, self._write)
        given.replace(gic.read_priorities, lambda group1, number: self._of(group1, number).load(term(number)))
        given.replace(gic.write_priorities, lambda group1, number, x: self._of(group1, number).store(term(number), x))

    def _read(self, number: u64) -> Any:
        self.given.require(z3.ULT(term(number), term(self.used)), "a list register that is used is read")
        return self.lrs.load(term(number))

    def _write(self, number: u64, x: u64) -> None:
        self.given.require(z3.ULT(term(number), term(self.used)), "a list register that is used is written")
        self.lrs.store(term(number), x)

    def _of(self, group1: bool, number: u64) -> Cells:
        self.given.require(z3.ULT(term(number), 1 << (self.bits - 5)), "a register of priorities that the processor has")
        return self.priorities[group1]

    def is_active(self, group1: bool, level: Term) -> Formula:
        """Whether the bit of a level of preemption is set, as it is now."""
        word, shift = self.priorities[group1](z3.ZeroExt(56, z3.LShR(level, 5))), z3.ZeroExt(24, level & 31)
        return z3.Extract(0, 0, z3.LShR(word, shift)) == 1

    def scaled(self, level: Term) -> Term:
        """A level as a priority."""
        return z3.ZeroExt(56, level) << (8 - self.bits)

    def is_ready(self, number: Term) -> Formula:
        """Whether a list register has a pending interrupt of an enabled group, and not the least urgent priority."""
        held = self.lrs.first(number)
        enabled = z3.If(bit(held, GROUP1), bit(self.vmcr, VENG1), bit(self.vmcr, VENG0))
        return z3.And(bit(held, PENDING), z3.Not(bit(held, ACTIVE)), enabled, z3.ULT(self.priority(number), IDLE))

    def priority(self, number: Term) -> Term:
        """Of what a list register holds."""
        return field(self.lrs.first(number), 55, 48)

    def has(self, number: Term, intid: Term) -> Formula:
        """Whether a list register has this interrupt in an active state."""
        held = self.lrs.first(number)
        return z3.And(bit(held, ACTIVE), field(held, 31, 0) == intid)

    def group_priority(self, priority: Term, group1: bool) -> Term:
        """What is left of a priority above its binary point, and of that what the processor has."""
        point = z3.If(z3.And(group1, z3.Not(bit(self.vmcr, VCBPR))), field(self.vmcr, 20, 18), field(self.vmcr, 23, 21) + 1)
        return priority & (z3.BitVecVal(0xFF, 64) << point) & (0xFF << (8 - self.bits))

    def running(self) -> u64:
        """As theorem gic_access.running_priority says."""
        self.now_running = self.given.word("running", 64)
        level = z3.Extract(7, 0, z3.LShR(self.now_running, 8 - self.bits))
        active = z3.Or(self.before[False], self.before[True])
        is_level = z3.And(self.now_running == self.scaled(level), z3.ULT(self.now_running, IDLE))
        self.given.assume(z3.If(self.now_running == IDLE, z3.Not(active), is_level),
                          z3.Implies(active, z3.ULE(self.now_running, self.scaled(self.any_level))))
        made: u64 = integer(self.now_running)
        return made

    def above_point(self, priority: u8, vmcr: IchVmcr, group1: bool) -> u64:
        """As theorem gic_access.group_priority says."""
        self.given.require(term(vmcr.raw) == self.vmcr, "by the guest's settings")
        made: u64 = integer(self.group_priority(z3.ZeroExt(56, term(priority)), group1))
        return made

    def most_urgent(self, vmcr: IchVmcr, used: u64) -> u64:
        """As theorem gic_access.highest_pending says."""
        given = self.given
        given.require(z3.And(term(vmcr.raw) == self.vmcr, term(used) == term(self.used)), "of what is used, by the guest's settings")
        if not given.boolean("one is ready"):
            given.assume(z3.Not(self.is_ready(self.any)))
            return gic_access.NONE
        found = given.word("most urgent", 64)
        urgent = z3.Implies(self.is_ready(self.any), z3.UGE(self.priority(self.any), self.priority(found)))
        given.assume(z3.ULT(found, term(self.used)), self.is_ready(found), urgent)
        made: u64 = integer(found)
        return made

    def active_one(self, used: u64, intid: u64) -> u64:
        """As theorem gic_access.find_active says."""
        given = self.given
        given.require(term(used) == term(self.used), "of what is used")
        if not given.boolean("one is active"):
            given.assume(z3.Not(self.has(self.any, term(intid))))
            return gic_access.NONE
        found = given.word("active", 64)
        given.assume(z3.ULT(found, term(self.used)), self.has(found, term(intid)))
        made: u64 = integer(found)
        return made

    def happened(self) -> list[str]:
        """Writes of registers, and barriers, in order."""
        return [event.show(lambda _: 0).removesuffix(" 0x0") for event in events()]

    def requires(self, *happened: str, lrs: int = 0, priorities: int = 0) -> None:
        """These registers were written, so many list registers and so many registers of priorities, and nothing else."""
        self.given.require(self.happened() == list(happened), f"what happened is {', '.join(happened) or 'nothing'}")
        self.given.require(len(self.lrs.writes) == lrs, "list registers change only where they have to")
        self.given.require(sum(len(cells.writes) for cells in self.priorities.values()) == priorities, "and so do priorities")

    def requires_state(self, number: Term, cleared: int, set_bits: int) -> None:
        """Of this list register these state bits changed, and nothing of any other."""
        was = self.lrs.first(self.any)
        wanted = z3.If(self.any == number, was & ~z3.BitVecVal(cleared, 64) | set_bits, was)
        self.given.require(self.lrs(self.any) == wanted, "only this list register's state changes")

    def requires_counted(self) -> None:
        """One end more is counted, for the host; nothing else of ICH_HCR_EL2 is changed."""
        now = term(self.machine.registers["ICH_HCR_EL2"])
        self.given.require(z3.Extract(31, 27, now) == z3.Extract(31, 27, self.hcr) + 1, "one more")
        self.given.require((now ^ self.hcr) & ~z3.BitVecVal(0x1F << 27, 64) == 0, "nothing but the count")


@about(gic_access._highest_pending, gic_access._list_register)
def highest_pending(given: Given) -> None:
    """Of the list registers that were looked at, what was found is ready and as urgent as any, or none is ready: true before the first round, and
    after each if before it."""
    known = Interface(given, preempts=False)
    number, found, least = given.u64("round"), given.u64("found before"), given.u64("least before")
    given.assume(z3.ULT(term(number), term(known.used)))

    def holds(rounds: Term, chosen: Term, priority: Term) -> Formula:
        nothing = z3.And(chosen == NONE, priority == IDLE)
        something = z3.And(z3.ULT(chosen, rounds), known.is_ready(chosen), priority == known.priority(chosen))
        urgent = z3.Implies(z3.And(z3.ULT(known.any, rounds), known.is_ready(known.any)), z3.UGE(known.priority(known.any), priority))
        return z3.And(z3.Or(nothing, something), urgent)

    given.require(holds(z3.BitVecVal(0, 64), term(gic_access.NONE), term(gic_access.IDLE)), "before the first round")
    given.assume(holds(term(number), term(found), term(least)))
    given.replace(gic_access.NONE, found)
    given.replace(gic_access.IDLE, least)
    seen: list[Any] = []

    def rounds(stop: u64) -> Iterator[u64]:
        given.require(term(stop) == term(known.used), "all that are used are looked at")
        yield number
        seen.append(sys._getframe(1).f_locals["least"])

    with mock.patch.object(u64, "range", rounds):
        chosen = gic_access._highest_pending(known.settings, known.used)
    given.require(holds(term(number) + 1, term(chosen), term(seen[0])), "after a round")
    known.requires()


@about(gic_access._find_active, gic_access._list_register, outcomes=("found", "none"))
def find_active(given: Given) -> None:
    """A list register that is used and has the interrupt in an active state, or none where no such has it."""
    known, intid = Interface(given, preempts=False), given.u64("intid")
    given.rule(gic_access._find_active, Rule(lambda here: z3.Implies(z3.ULT(known.any, here), z3.Not(known.has(known.any, term(intid))))))
    found = gic_access._find_active(known.used, intid)
    known.requires()
    if found is gic_access.NONE:
        given.outcome("none")
        given.require(z3.Not(known.has(known.any, term(intid))), "no list register has it")
    else:
        given.outcome("found")
        given.require(z3.And(z3.ULT(term(found), term(known.used)), known.has(term(found), term(intid))), "this one has it")


@about(gic_access._running_priority, outcomes=("idle", "active"))
def running_priority(given: Given) -> None:
    """The most urgent priority that is active in either group; IDLE, which is less urgent than any, where none is."""
    known = Interface(given)
    running = term(gic_access._running_priority())
    known.requires()
    active = z3.Or(known.before[False], known.before[True])
    given.require(z3.Implies(active, z3.ULE(running, known.scaled(known.any_level))), "as urgent as any that is active")
    if given.holds(running == IDLE):
        given.outcome("idle")
        given.require(z3.Not(active), "none is active")
        return
    given.outcome("active")
    level = z3.Extract(7, 0, z3.LShR(running, 8 - known.bits))
    given.require(z3.And(z3.ULT(running, IDLE), known.scaled(level) == running), "a level of preemption")
    given.require(z3.Or(known.is_active(False, level), known.is_active(True, level)), "that is active")


@about(gic_access._drop_priority, outcomes=("idle", "group 0", "group 1"))
def drop_priority(given: Given) -> None:
    """The most urgent priority that is active is dropped, in one group, group 1 first; every other stays active. IDLE where none is."""
    known = Interface(given)
    dropped = term(gic_access._drop_priority())
    active = z3.Or(known.before[False], known.before[True])
    if given.holds(dropped == IDLE):
        given.outcome("idle")
        given.require(z3.Not(active), "none is active")
        known.requires()
        return
    known.requires(priorities=1)
    given.require(z3.Implies(active, z3.ULE(dropped, known.scaled(known.any_level))), "as urgent as any that is active")
    group1 = bool(known.priorities[True].writes)
    given.outcome("group 1" if group1 else "group 0")
    is_it = known.scaled(known.any_level) == dropped
    its_own = known.before[True] if group1 else z3.And(known.before[False], z3.Not(known.before[True]))
    given.require(z3.Implies(is_it, its_own), "group 1's if it has it")
    for group in (False, True):
        gone = z3.And(group == group1, is_it)
        given.require(known.is_active(group, known.any_level) == z3.And(known.before[group], z3.Not(gone)), "only that one goes")
    given.require(known.scaled(z3.Extract(7, 0, z3.LShR(dropped, 8 - known.bits))) == dropped, "a level of preemption")


@about(gic_access._group_priority)
def group_priority(given: Given) -> None:
    """The bits above the binary point of the group, or the common one: never more than the processor has bits for."""
    known, priority, group1 = Interface(given), given.u8("priority"), given.boolean("group 1")
    found = term(gic_access._group_priority(priority, known.settings, group1))
    given.require(found == known.group_priority(z3.ZeroExt(56, term(priority)), group1), "above its binary point")
    given.require(z3.ULE(found, z3.ZeroExt(56, term(priority))), "never less urgent")
    known.requires()


@about(gic_access._pending_intid, assumes=("gic_access.highest_pending",), outcomes=("spurious", "pending"))
def pending_intid(given: Given) -> None:
    """The most urgent interrupt's number where it is of this group; nothing changes."""
    known, group1 = Interface(given, preempts=False), given.boolean("group 1")
    given.replace(gic_access._highest_pending, known.most_urgent)
    found = term(gic_access._pending_intid(known.settings, known.used, group1))
    known.requires()
    number = given.path.inputs.get("most urgent")
    if number is None or given.holds(bit(known.lrs.first(number), GROUP1) != group1):
        given.outcome("spurious")
        given.require(found == SPURIOUS, "none of this group")
    else:
        given.outcome("pending")
        given.require(found == field(known.lrs.first(number), 31, 0), "what a list register holds")


@about(gic_access._acknowledge, gic_access._is_special,
       assumes=("gic_access.highest_pending", "gic_access.running_priority", "gic_access.group_priority"),
       outcomes=("spurious", "special", "acknowledged"))
def acknowledge(given: Given) -> None:
    """What is acknowledged was pending in a list register, of this group, above the mask and above all that is active: it alone becomes active, and
    so does its priority. Otherwise the answer is SPURIOUS and nothing changes."""
    known, group1 = Interface(given), given.boolean("group 1")
    given.replace(gic_access._highest_pending, known.most_urgent)
    given.replace(gic_access._running_priority, known.running)
    given.replace(gic_access._group_priority, known.above_point)
    found = term(gic_access._acknowledge(known.settings, known.used, group1))
    number = given.path.inputs.get("most urgent")
    held = None if number is None else known.lrs.first(number)
    mask = field(known.vmcr, 31, 24)
    priority = None if number is None else known.group_priority(known.priority(number), group1)
    due = z3.BoolVal(False) if number is None else z3.And(
        bit(held, GROUP1) == group1, z3.ULT(known.priority(number), mask), z3.ULT(priority, known.now_running))
    if not given.holds(due):
        given.outcome("spurious")
        given.require(found == SPURIOUS, "nothing that may interrupt")
        known.requires()
        return
    given.require(found == field(held, 31, 0), "what the list register holds")
    if given.holds(is_special(found)):
        given.outcome("special")
        known.requires(lrs=1)
        known.requires_state(number, 1 << PENDING, 0)
        return
    given.outcome("acknowledged")
    known.requires(lrs=1, priorities=1)
    known.requires_state(number, 1 << PENDING, 1 << ACTIVE)
    for group in (False, True):
        new = z3.And(group == group1, known.scaled(known.any_level) == priority)
        given.require(known.is_active(group, known.any_level) == z3.Or(known.before[group], new), "its priority is active now, and no other changes")


class Ending(Interface):
    """An interface in which an interrupt of any number is ended."""

    def __init__(self, given: Given) -> None:
        super().__init__(given, preempts=False)
        self.number = z3.ZeroExt(40, given.word("intid", 24))
        self.intid: u64 = integer(self.number)
        self.split, self.is_lpi = bit(self.vmcr, VEOIM), z3.UGE(self.number, 8192)
        given.replace(gic_access._find_active, self.active_one)

    @property
    def found(self) -> Term | None:
        """The list register that has it."""
        return self.given.path.inputs.get("active")

    def requires_deactivated(self, number: Term) -> None:
        """It is active no more; and neither is the physical one, where the host has named one that exists."""
        held = self.lrs.first(number)
        physical = field(held, 44, 32)
        reached = self.given.holds(z3.And(bit(held, HW), z3.Not(is_special(physical))))
        self.given.outcome("physical" if reached else "deactivated")
        self.requires(*(DEACTIVATED if reached else ()), lrs=1)
        self.requires_state(number, 1 << ACTIVE, 0)
        if reached:
            self.given.require(term(self.machine.registers["ICC_DIR_EL1"]) == physical, "the one that the host has named")


@about(gic_access._end, gic_access._deactivate, gic_access._count_end, gic_access._is_special,
       assumes=("gic_access.find_active", "gic_access.drop_priority", "gic_access.group_priority"),
       outcomes=("special", "idle", "not held", "dropped only", "deactivated", "physical"))
def end(given: Given) -> None:
    """One priority is dropped, and what the guest names is deactivated, where a list register has it active, of this group and of the priority that
    was dropped. What no list register has is counted for the host. No other physical interrupt than one of a list register's is touched."""
    known, group1 = Ending(given), given.boolean("group 1")
    drops: list[Term] = []

    def drop() -> u64:
        drops.append(given.word("dropped", 64))
        given.assume(z3.ULE(drops[0], IDLE))
        made: u64 = integer(drops[0])
        return made

    priority = given.u64("group priority")

    def above_point(of: u8, vmcr: IchVmcr, group: bool) -> u64:
        given.require(z3.And(known.priority(known.found) == z3.ZeroExt(56, term(of)), group == group1), "of what is ended, in its group")
        return priority

    given.replace(gic_access._drop_priority, drop)
    given.replace(gic_access._group_priority, above_point)
    gic_access._end(known.settings, known.used, group1, known.intid)
    given.require((len(drops) == 0) == given.holds(is_special(known.number)), "a priority is dropped, but for a number that names no interrupt")
    if not drops or given.holds(drops[0] == IDLE):
        given.outcome("idle" if drops else "special")
        known.requires()
        return
    number = known.found
    if number is None:
        given.outcome("not held")
        counted = not given.holds(known.is_lpi)
        known.requires(*(["msr ICH_HCR_EL2"] if counted else []))
        if counted:
            known.requires_counted()
        return
    held = known.lrs.first(number)
    fits = z3.And(bit(held, GROUP1) == group1, term(priority) == drops[0])
    if given.holds(z3.And(fits, z3.Or(z3.Not(known.split), known.is_lpi))):
        known.requires_deactivated(number)
    else:
        given.outcome("dropped only")
        known.requires()


@about(gic_access._deactivate_by_guest, gic_access._deactivate, gic_access._count_end, gic_access._is_special, assumes=("gic_access.find_active",),
       outcomes=("ignored", "not held", "deactivated", "physical"))
def deactivate_by_guest(given: Given) -> None:
    """Where drop and deactivation are split, what the guest names is deactivated if a list register has it active, and counted for the host if none
    has. LPIs and numbers that name none change nothing."""
    known = Ending(given)
    gic_access._deactivate_by_guest(known.settings, known.used, known.intid)
    if given.holds(z3.Or(z3.Not(known.split), known.is_lpi, is_special(known.number))):
        given.outcome("ignored")
        known.requires()
    elif known.found is None:
        given.outcome("not held")
        known.requires("msr ICH_HCR_EL2")
        known.requires_counted()
    else:
        known.requires_deactivated(known.found)


SERVED = {
    "mask": ((4, 6, 0),), "acknowledge": ((12, 8, 0), (12, 12, 0)), "end": ((12, 8, 1), (12, 12, 1)), "pending": ((12, 8, 2), (12, 12, 2)),
    "point": ((12, 8, 3), (12, 12, 3)), "deactivate": ((12, 11, 1),), "running": ((12, 11, 3),), "control": ((12, 12, 4),),
    "enable": ((12, 12, 6), (12, 12, 7)),
}
"""CRn, CRm and op2 of the registers of the interface, of group 0 and group 1; op0 is 3 and op1 is 0."""
READABLE, WRITABLE = tuple(name for name in SERVED if name not in ("end", "deactivate")), ("mask", "end", "point", "deactivate", "control", "enable")


def register(iss: Term) -> Term:
    """The bits of an ISS that name a register: op0, op2, op1, CRn, CRm."""
    return z3.Concat(z3.Extract(21, 10, iss), z3.Extract(4, 1, iss))


def numbered(crn: int, crm: int, op2: int) -> Term:
    """The same of one of op0 3 and op1 0."""
    return z3.BitVecVal(3 << 14 | op2 << 11 | crn << 4 | crm, 16)


def are_priorities(iss: Term) -> Formula:
    """Whether it names ICC_AP0R<n>_EL1 or ICC_AP1R<n>_EL1."""
    return z3.Or([register(iss) == numbered(12, 8, 4 + number) for number in range(4)]
                 + [register(iss) == numbered(12, 9, number) for number in range(4)])


class Accesses(Interface):
    """An interface and a trapped access: any ISS, any word, any number of list registers that the host says it has filled. `what` it is of, and the
    group; None of a register that is not in `kinds`."""

    def __init__(self, given: Given, read: bool | None, kinds: tuple[str, ...] = (), preempts: bool = True) -> None:
        super().__init__(given, preempts)
        self.x, self.wanted, count = given.word("x", 64), given.u64("used, says the host"), given.u64("list registers")
        direction = given.word("is read", 1) if read is None else z3.BitVecVal(int(read), 1)
        self.what, self.group = given.one_of("register", (*((name, group) for name in kinds for group in range(len(SERVED[name]))), (None, 0)))
        named = given.word("other register", 16) if self.what is None else numbered(*SERVED[self.what][self.group])
        self.iss = z3.Concat(given.word("above", 42), z3.Extract(15, 4, named), given.word("rt", 5), z3.Extract(3, 0, named), direction)
        if self.what is None and kinds:
            given.assume(*(named != numbered(*place) for name in kinds for place in SERVED[name]), z3.Not(are_priorities(self.iss)))
        given.assume(term(self.used) == z3.If(z3.ULT(term(self.wanted), term(count)), term(self.wanted), term(count)), z3.ULE(term(count), MOST))
        given.replace(gic.list_register_count, lambda: count)
        self.calls: list[tuple[str, int]] = []
        self.answer = given.u64("answer")
        given.replace(gic_access._acknowledge, partial(self._called, "acknowledge"))
        given.replace(gic_access._pending_intid, partial(self._called, "pending"))
        given.replace(gic_access._running_priority, lambda: self._called("running"))
        given.replace(gic_access._end, partial(self._called, "end"))
        given.replace(gic_access._deactivate_by_guest, lambda vmcr, used, intid: self._called("deactivate", vmcr, used, False, intid))

    def _called(self, what: str, vmcr: Any = None, used: Any = None, group1: bool = False, intid: Any = None) -> u64:
        if vmcr is not None:
            self.given.require(z3.And(term(vmcr.raw) == self.vmcr, term(used) == term(self.used)), "no more list registers than there are")
        if intid is not None:
            self.given.require(term(intid) == self.x & 0xFF_FFFF, "the interrupt that the guest names")
        self.calls.append((what, int(group1)))
        return self.answer

    def perform(self) -> Access:
        """The access."""
        return gic_access.perform(SystemIss.of(integer(self.iss)), self.wanted, integer(self.x))


READING = (gic_access.perform, gic_access._read, gic_access._is_priorities, gic_access._control, gic_access._settings)
WRITING = (gic_access.perform, gic_access._write_interrupt, gic_access._write_setting, gic_access._is_priorities, gic_access._settings)
LEAVES = ("gic_access.acknowledge", "gic_access.pending_intid", "gic_access.running_priority", "gic_access.end", "gic_access.deactivate_by_guest")


@about(*READING, assumes=LEAVES, outcomes=("read", "refused"))
def read(given: Given) -> None:
    """Whatever the guest reads: only registers of its interface answer, each with what the guest has set or what is pending; EL2 writes nothing."""
    known = Accesses(given, True, READABLE, preempts=False)
    done = known.perform()
    known.requires()
    given.outcome("read" if done.served else "refused")
    given.require(done.served == (known.what is not None), "served exactly if it is of the interface")
    vmcr = known.vmcr
    points = field(vmcr, 23, 21), field(vmcr, 20, 18)
    common = z3.If(points[0] == 7, points[0], points[0] + 1)
    control = (field(vmcr, 4, 4) | field(vmcr, 9, 9) << 1 | field(known.vtr, 31, 29) << 8 | field(known.vtr, 25, 23) << 11
               | field(known.vtr, 22, 22) << 14 | field(known.vtr, 21, 21) << 15)
    values = {
        "mask": field(vmcr, 31, 24), "point": z3.If(bit(vmcr, VCBPR), common, points[1]) if known.group else points[0],
        "control": control, "enable": field(vmcr, known.group, known.group), None: z3.BitVecVal(0, 64),
    }
    if known.what in values:
        given.require(z3.And(term(done.x) == values[known.what], not known.calls), "as it is set, and nothing is done")
    else:
        given.require(z3.And(term(done.x) == term(known.answer), known.calls == [(known.what, known.group)]), "of its group")


@about(*WRITING, assumes=LEAVES, outcomes=("ended", "set", "refused"))
def write(given: Given) -> None:
    """Whatever the guest writes: only registers of its interface take it. An end is one of the interrupt that it names; a setting changes its own
    field of ICH_VMCR_EL2, a binary point never below its least value, and no bit that is not the guest's."""
    known = Accesses(given, False, WRITABLE)
    done = known.perform()
    given.require(term(done.x) == 0, "a write tells nothing")
    given.require(done.served == (known.what is not None), "served exactly if it is of the interface")
    if known.what in (None, "end", "deactivate"):
        given.outcome("refused" if known.what is None else "ended")
        known.requires()
        given.require(known.calls == ([] if known.what is None else [(known.what, known.group)]), "what this register does, for its group")
        return
    given.outcome("set")
    known.requires("msr ICH_VMCR_EL2")
    given.require(not known.calls, "nothing is done")
    now, was, x, group = term(known.machine.registers["ICH_VMCR_EL2"]), known.vmcr, known.x, known.group
    point, least = x & 7, z3.BitVecVal(7 - known.bits + group, 64)
    point = z3.If(z3.ULT(point, least), least, point)
    fields: dict[str, tuple[tuple[int, int, Term], ...]] = {
        "mask": ((31, 24, x & 0xFF),), "enable": ((group, group, x & 1),), "control": ((VCBPR, VCBPR, x & 1), (VEOIM, VEOIM, field(x, 1, 1))),
        "point": ((20, 18, z3.If(bit(was, VCBPR), field(was, 20, 18), point)) if group else (23, 21, point),),
    }
    others = (1 << 64) - 1
    for high, low, wanted in fields[known.what]:
        others &= ~((1 << high + 1) - (1 << low))
        given.require(field(now, high, low) == wanted, f"{known.what} as it is written")
    given.require((now ^ was) & others == 0, "and nothing else")
    given.require((now ^ was) & ~z3.BitVecVal(SETTINGS, 64) == 0, "no bit that is not the guest's")


@about(gic_access.perform, gic_access._is_priorities, gic_access._perform_priorities, outcomes=("read", "written", "there is none"))
def priorities(given: Given) -> None:
    """A guest reads and writes its own active priorities; those that the processor does not have are not touched, and are not the guest's."""
    known = Accesses(given, None)
    given.assume(are_priorities(known.iss))
    done = known.perform()
    number, group1 = z3.ZeroExt(62, z3.Extract(18, 17, known.iss)), z3.Extract(1, 1, known.iss) == 1
    there = given.holds(z3.ULT(number, 1 << (known.bits - 5)))
    given.require(done.served == there, "served exactly if there is one")
    given.require(not known.calls, "nothing else is done")
    if there and given.holds(bit(known.iss, 0)):
        given.outcome("read")
        known.requires()
        word = z3.If(group1, known.priorities[True].first(number), known.priorities[False].first(number))
        given.require(term(done.x) == z3.ZeroExt(32, word), "of its group and number")
        return
    given.outcome("written" if there else "there is none")
    known.requires(priorities=1 if there else 0)
    given.require(term(done.x) == 0, "tells nothing")
    if there:
        at = given.word("any of them", 64)
        for group in (False, True):
            cells = known.priorities[group]
            wanted = z3.If(z3.And(group1 == group, at == number), z3.Extract(31, 0, known.x), cells.first(at))
            given.require(cells(at) == wanted, "this one becomes what the guest wrote")


@theorem(gic_access.from_cp15)
def from_cp15(given: Given) -> None:
    """Never another register than one of op0 3, which has the fields of the access; the condition of the instruction decides nothing."""
    iss = given.u32("iss")
    made = term(gic_access.from_cp15(iss).raw)
    given.require(made == z3.Concat(z3.BitVecVal(0, 42), z3.BitVecVal(3, 2), z3.Extract(19, 0, term(iss))), "the register that it is mapped to")
