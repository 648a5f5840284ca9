# SPDX-License-Identifier: Apache-2.0
"""__kvm_vcpu_run: the host asks EL2 to run a virtual CPU until it has to be heard of (KVM: hyp/nvhe/switch.c).

The way of a run: find the vCPU, claim it, read once what the host asks, load the guest, let it run and serve what EL2 serves itself, save the
guest, bring the host back, answer. What the host wrote wrong ends before anything is loaded.

Lock: none over the run. The vCPU is this CPU's by its claim, and its frames are pinned as long as it can be claimed.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import aarch64
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import ELR_EL2, ESR_EL2, SPSR_EL2, ExceptionClass, Spsr
from delphyne.el2.arch.frame import Frame, Vector
from delphyne.el2.arch.hypervisor import HCR_EL2, MDCR_EL2, Cnthctl, Hcr, Mdcr
from delphyne.el2.arch.world import (
    Places,
    answer,
    answer_word,
    ask,
    asked_word,
    guest_enter,
    keys_of_guest,
    keys_of_host,
    registers32_load,
    registers32_save,
    to_guest,
    to_host,
)
from delphyne.el2.guest import vcpus
from delphyne.el2.kvm import adjust, controls, exits, faults, fp, monitors, protect, protected_run, seats, trapping, vgic
from delphyne.el2.kvm.exit_codes import COMMITTED, EXIT_ILLEGAL, GUEST_GOES_ON
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.seats import SEATS, Seat
from delphyne.lang import Domain, SysReg, apart, dmb, dsb, isb, u64

VSESR_EL2: Final = SysReg(u64, "VSESR_EL2", 3, 4, 5, 2, 3)
VDISR_EL2: Final = SysReg(u64, "VDISR_EL2", 3, 4, 12, 1, 1)
MDSCR_EL1: Final = SysReg(u64, "MDSCR_EL1", 2, 0, 0, 2, 2)
STEP: Final = u64(1)
"""MDSCR_EL1.SS."""


@apart
def serve(frame: Frame, found: Layout, places: Places) -> u64 | Err:
    """Run the vCPU at x1; the code of its exit. Err.BUSY where the host is to ask again; any other where nothing can be run by what it said."""
    seat = SEATS.mine()
    if not _claim_again(seat, places, frame.x[1]):
        claimed = claim(seat, found, places, frame.x[1])
        if isinstance(claimed, Err):
            return claimed
    if seat.own.raw != 0:
        code = protected_run.serve(seat, places)
        vcpus.release(seat.index, seat.word)
        return code
    if seat.asked.iflags & controls.TO_ADJUST != 0:
        adjust.apply(seat, places)
    authentication = seat.abilities.authentication and seat.asked.cflags & controls.HAS_AUTHENTICATION != 0
    hcr = controls.hcr(seat.asked.hcr, authentication, seat.hcr_always, seat.hcr_choice)
    if not aarch64.legal_pstate(seat.asked.pstate, not hcr.rw, seat.abilities.aarch32_el0):
        vcpus.release(seat.index, seat.word)
        return EXIT_ILLEGAL
    _load(seat, places, hcr)
    code = _run(seat, places)
    _save(seat, places, hcr)
    if code == COMMITTED:
        code = protect.enter(seat, places)
    vcpus.release(seat.index, seat.word)
    return code


def adjust_only(frame: Frame, found: Layout, places: Places) -> u64 | Err:
    """__kvm_adjust_pc: what is pending for the vCPU at x1 happens in memory, so that its VMM sees it. Errors as `serve`."""
    seat = SEATS.mine()
    claimed = claim(seat, found, places, frame.x[1])
    if isinstance(claimed, Err):
        return claimed
    if seat.own.raw != 0:
        protected_run.take_answer(seat, places)
    else:
        adjust.apply(seat, places)
    vcpus.release(seat.index, seat.word)
    return u64(0)


def _claim_again(seat: Seat, places: Places, address: u64) -> bool:
    """The usual case of `claim`: this CPU ran the vCPU last, and nothing has changed about whose it is."""
    if seat.address != address or not vcpus.claim(seat.index, seat.word, CPUS.mine().index):
        return False
    ask(seat.at, places, seat.asked, seat.mmu_at)
    if _is_same(seat):
        return True
    vcpus.release(seat.index, seat.word)
    return False


def _is_same(seat: Seat) -> bool:
    """Whether what the host asks is of the VM that the seat knows."""
    return seat.asked.hw_mmu == seat.mmu and seat.asked.mmu_pgd == seat.pgd and seat.asked.mmu_vmid == seat.vmid


@apart
def claim(seat: Seat, found: Layout, places: Places, address: u64) -> None | Err:
    """Make the vCPU at this address of the host's this CPU's, and read what the host asks for it. Errors of `seats.sit`; Err.STATE where another
    CPU runs it, or where the host keeps changing whose it is."""
    for _ in u64.range(2):
        if seat.address != address or not vcpus.claim(seat.index, seat.word, CPUS.mine().index):
            sat = seats.sit(found, seat, address)
            if isinstance(sat, Err):
                return sat
            if not vcpus.claim(seat.index, seat.word, CPUS.mine().index):
                return Err.STATE
        ask(seat.at, places, seat.asked, seat.mmu_at)
        if _is_same(seat):
            return None
        vcpus.release(seat.index, seat.word)
        seats.stand_up(seat)
    return Err.STATE


def _load(seat: Seat, places: Places, hcr: Hcr) -> None:
    """Everything of the guest but its general registers, in the order that errata and the interrupt controller demand."""
    if seat.prefill != 0:
        faults.after_host(seat)
    monitors.buffers_enter(seat)
    monitors.find_debug(seat, places)
    world = seat.world
    world.hcr = hcr.raw
    world.vtcr = seat.vtcr
    world.vttbr = seat.vttbr
    world.cptr = controls.cptr(False, False).raw
    world.mdcr = controls.mdcr(seat.asked.mdcr, monitors.is_dirty(seat), MDCR_EL2.read()).raw
    world.cnthctl = Cnthctl(el1pcten=seat.counter_open).raw
    world.elr = seat.asked.pc
    world.spsr = seat.asked.pstate
    seat.fp_live = False
    if not hcr.rw:
        registers32_load(seat.at, places)
    to_guest(seat.at, places, world)
    trapping.enter(seat)
    monitors.enter(seat, places)
    if hcr.apk:
        keys_of_host(seat.keys, True)
        keys_of_guest(seat.at, places, False)
    if seat.abilities.ras:
        _errors_enter(seat, places, hcr)
    if monitors.is_dirty(seat):
        monitors.debug_enter(seat, places)
    vgic.enter(seat, places)
    if seat.fp_ahead != 0:
        seat.fp_ahead -= 1
        fp.load(seat, places)


def _errors_enter(seat: Seat, places: Places, hcr: Hcr) -> None:
    """FEAT_RAS: the guest's deferred errors; and those that are pending are the host's, which must not be taken for the guest's."""
    VDISR_EL2.write(asked_word(seat.at, places.disr))
    if hcr.vse:
        VSESR_EL2.write(asked_word(seat.at, places.vsesr))
    dsb(Domain.NSH)
    isb()


def _run(seat: Seat, places: Places) -> u64:
    """The guest, until the host has to hear of it."""
    while True:
        if seat.abilities.barrier_before_entry:
            dmb(Domain.SY)
        entered = SPSR_EL2.read() if seat.abilities.step_spoils_spsr else Spsr()
        vector = guest_enter(seat.at + places.regs)
        if seat.abilities.step_spoils_spsr:
            _mend_state(seat, vector, entered)
        code = exits.serve(seat, places, vector)
        if code != GUEST_GOES_ON:
            return code


def _mend_state(seat: Seat, vector: u64, entered: Spsr) -> None:
    """Erratum 2077057: SPSR_EL2 is not the guest's after a pointer-authentication trap of an instruction that was to be stepped over. The guest has
    executed nothing then, and its state is the one that it was entered with (KVM: synchronize_vcpu_pstate)."""
    stepped = entered.ss and Mdcr.of(seat.world.mdcr).tde and MDSCR_EL1.read() & STEP != 0
    if stepped and vector & 3 == Vector.SYNC.raw and ESR_EL2.read().ec == ExceptionClass.PAUTH.raw:
        SPSR_EL2.write(entered)


def _save(seat: Seat, places: Places, hcr: Hcr) -> None:
    """The guest's registers into memory, and the host's back."""
    answer(seat.at, places, ELR_EL2.read(), SPSR_EL2.read().raw)
    if seat.fp_live:
        fp.save(seat, places)
    vgic.leave(seat, places)
    if monitors.is_dirty(seat):
        monitors.debug_leave(seat, places)
    if seat.abilities.ras:
        answer_word(seat.at, places.disr, VDISR_EL2.read())
    if hcr.vse:
        answer_word(seat.at, places.hcr, Hcr.of(seat.asked.hcr).replace(vse=HCR_EL2.read().vse).raw)
    if hcr.apk:
        keys_of_guest(seat.at, places, True)
        keys_of_host(seat.keys, False)
    monitors.leave(seat)
    trapping.leave(seat)
    to_host(seat.at, places, seat.world)
    if not hcr.rw:
        registers32_save(seat.at, places)
    monitors.buffers_leave(seat)
