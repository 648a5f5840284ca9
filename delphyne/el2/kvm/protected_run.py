# SPDX-License-Identifier: Apache-2.0
"""A run of a protected guest's CPU: its registers come from EL2's own memory and go back there; of the host's `kvm_vcpu` only the virtual interrupt
controller is used, and what the last exit let the host give.

The way of a run is that of `vcpu_run`, without what a protected guest does not have: AArch32, debug registers, monitors, SVE, pointer authentication.

Lock: none over the run; GUESTS_LOCK where a CPU begins.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import inject
from delphyne.el2.arch.exception import ELR_EL2, FAR_EL2, SPSR_EL2, AbortIss
from delphyne.el2.arch.hypervisor import CNTVOFF_EL2, MDCR_EL2, Cnthctl
from delphyne.el2.arch.psci import PSCI_SUCCESS
from delphyne.el2.arch.world import (
    Places,
    answer,
    answer_byte,
    answer_word,
    asked_word,
    fp_load,
    fp_save,
    guest_enter,
    to_guest,
    to_host,
)
from delphyne.el2.guest import guards, processors, registers, time
from delphyne.el2.guest.registers import OWN, Expects, Refused
from delphyne.el2.kvm import controls, monitors, protected_end, protected_exits, protected_faults, stage, trapping, vgic
from delphyne.el2.kvm.exit_codes import GUEST_GOES_ON
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Domain, Ipa, Order, SysReg, apart, dmb, dsb, isb, u64, wrap_add

VDISR_EL2: Final = SysReg(u64, "VDISR_EL2", 3, 4, 12, 1, 1)
PMCR_EL0: Final = SysReg(u64, "PMCR_EL0", 3, 3, 9, 12, 0)
PMCR_ENABLE: Final = u64(1)


@apart
def serve(seat: Seat, places: Places) -> u64:
    """Run the seat's vCPU, which is claimed; the code of its exit."""
    if asked_word(seat.own, registers.EXPECTS) == u64(Expects.ENDING.raw):
        return protected_end.go_on(seat, places)
    if not is_on(seat):
        return protected_end.code_of_others(seat)
    take_answer(seat, places)
    # A protected guest's interrupt controller is a GICv3, and its registers are there whatever the host says.
    seat.asked.gic_sre = u64(1)
    if seat.fault_again != 0:
        protected_faults.try_again(seat, places, Ipa(seat.fault_again - 1))
    _load(seat, places)
    code = _run(seat, places)
    _save(seat, places)
    return code


def is_on(seat: Seat) -> bool:
    """Whether this CPU of the guest's may run: the guest was not stopped, and the CPU is on, or was turned on and begins here."""
    if guards.ALIVE[seat.guard - 1].load(Order.ACQUIRE) != seat.identity:
        return False
    if asked_word(seat.own, registers.RUNNING) != 0:
        return True
    with GUESTS_LOCK:
        return processors.begin(seat.processor)


def take_answer(seat: Seat, places: Places) -> None:
    """What the last exit let the host give is taken, once; whatever else stands on the stage is ignored."""
    what = asked_word(seat.own, registers.EXPECTS)
    if what != u64(Expects.NOTHING.raw) or seat.asked.iflags & controls.TO_ADJUST != 0:
        _take_answer(seat, places, what)


@apart
def _take_answer(seat: Seat, places: Places, what: u64) -> None:
    """The same, of an exit that let the host give something, or of a host that gives something all the same."""
    flags = seat.asked.iflags
    if flags & controls.TO_ADJUST != 0:
        answer_byte(seat.at, places.iflags, flags & ~(controls.TO_ADJUST | controls.EXCEPTION_KIND))
        seat.asked.iflags = flags & ~(controls.TO_ADJUST | controls.EXCEPTION_KIND)
    if what == u64(Expects.NOTHING.raw) or what == u64(Expects.ENDING.raw):
        return
    target = asked_word(seat.own, registers.TARGET)
    if what == u64(Expects.CALL.raw) or what == u64(Expects.POWER_ON.raw):
        for number in u64.range(4):
            registers.put_general(seat.own, number, asked_word(seat.at, places.regs + number * 8))
        if what == u64(Expects.POWER_ON.raw) and registers.general(seat.own, u64(0)) != 0:
            _undo_turn_on(seat, target)
    elif flags & controls.PENDING_EXCEPTION != 0:
        if what != u64(Expects.WAIT.raw):
            why = Refused.ABORT if asked_word(seat.own, registers.ASKED) != 0 else Refused.UNDEFINED
            answer_word(seat.own, registers.REFUSED, u64(why.raw))
    elif flags & controls.INCREMENT_PC != 0:
        if what == u64(Expects.READ.raw) and target < 31:
            registers.put_general(seat.own, target, _read(seat, asked_word(seat.at, places.regs + target * 8)))
        answer_word(seat.own, OWN.pc, wrap_add(asked_word(seat.own, OWN.pc), 4))
    registers.expect(seat.own, Expects.NOTHING, u64(0))


def _undo_turn_on(seat: Seat, target: u64) -> None:
    """The host says that a CPU was not turned on. The guest must not take one for OFF that has begun."""
    with GUESTS_LOCK:
        if not processors.undo_turn_on(target):
            registers.put_general(seat.own, u64(0), PSCI_SUCCESS)


def _read(seat: Seat, x: u64) -> u64:
    """What the host gives for a read: of an access to memory as much as its size says."""
    asked = asked_word(seat.own, registers.ASKED)
    return x if asked == 0 else stage.loaded(x, AbortIss.of(asked), asked_word(seat.own, registers.BIG_ENDIAN) != 0)


def _load(seat: Seat, places: Places) -> None:
    monitors.buffers_enter(seat)
    world = seat.world
    world.hcr = seat.hcr_protected | (seat.asked.hcr & controls.PROTECTED_FROM_HOST)
    world.vtcr = seat.vtcr
    world.vttbr = seat.vttbr
    world.cptr = controls.cptr(False, False).raw
    world.mdcr = controls.protected_mdcr(MDCR_EL2.read()).raw
    world.cnthctl = Cnthctl(el1pcten=True).raw
    world.elr = asked_word(seat.own, OWN.pc)
    world.spsr = asked_word(seat.own, OWN.pstate)
    seat.fp_live = False
    to_guest(seat.own, OWN, world)
    trapping.enter(seat)
    if seat.abilities.pmu:
        seat.pmcr = PMCR_EL0.read()
        PMCR_EL0.write(seat.pmcr & ~PMCR_ENABLE)
    if seat.abilities.ras:
        VDISR_EL2.write(u64(0))
        dsb(Domain.NSH)
        isb()
    vgic.enter(seat, places)
    seat.host_offset = CNTVOFF_EL2.read()
    seat.offset = time.enter(seat.guard - 1, seat.host_offset)
    CNTVOFF_EL2.write(seat.offset)
    _raise_refused(seat)


def _raise_refused(seat: Seat) -> None:
    """The exception that a real processor would give for an access that nobody answered, or a register that is not there."""
    why = asked_word(seat.own, registers.REFUSED)
    if why == u64(Refused.NO.raw):
        return
    answer_word(seat.own, registers.REFUSED, u64(Refused.NO.raw))
    if why == u64(Refused.ABORT.raw):
        FAR_EL2.write(asked_word(seat.own, OWN.fault_far))
        inject.external_abort_to_guest(False)
    else:
        inject.undefined_to_guest()


def _run(seat: Seat, places: Places) -> u64:
    while True:
        if seat.abilities.barrier_before_entry:
            dmb(Domain.SY)
        code = protected_exits.serve(seat, places, guest_enter(seat.own + OWN.regs))
        if code != GUEST_GOES_ON:
            return code


def _save(seat: Seat, places: Places) -> None:
    """The guest's registers go to EL2's memory, and nothing of them stays in the processor."""
    answer(seat.own, OWN, ELR_EL2.read(), SPSR_EL2.read().raw)
    if seat.fp_live:
        fp_save(seat.own + OWN.fp)
        fp_load(registers.zeroes())
        seat.fp_live = False
    time.leave(seat.guard - 1, seat.offset)
    CNTVOFF_EL2.write(seat.host_offset)
    vgic.leave(seat, places)
    if seat.abilities.pmu:
        PMCR_EL0.write(seat.pmcr)
    trapping.leave(seat)
    to_host(seat.own, OWN, seat.world)
    monitors.buffers_leave(seat)
