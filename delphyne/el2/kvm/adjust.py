# SPDX-License-Identifier: Apache-2.0
"""What the host asks to happen to a vCPU before it goes on: an exception raised at its EL1, or the instruction that was done in its place skipped
(KVM: hyp/exception.c, __kvm_adjust_pc).

The syndrome of an exception stands in the guest's own registers already, where the host has put it. Called while the vCPU is claimed and its
registers are in memory. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import aarch64
from delphyne.el2.arch.exception import Esr
from delphyne.el2.arch.hypervisor import Hcr
from delphyne.el2.arch.world import Places, answer, answer_byte, answer_word, asked_word
from delphyne.el2.guest import aarch32
from delphyne.el2.guest.aarch32 import Taken32
from delphyne.el2.kvm import controls, faults
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import apart, u64

SYNCHRONOUS: Final = u64(0 << 1)
"""EXCEPT_AA64_EL1_SYNC: the only exception that KVM raises at an AArch64 EL1. The number lies in iflags from bit 1 on."""
UNDEFINED_32: Final = u64(0 << 1)
PREFETCH_ABORT_32: Final = u64(1 << 1)
DATA_ABORT_32: Final = u64(2 << 1)
"""EXCEPT_AA32_*."""


@apart
def apply(seat: Seat, places: Places) -> None:
    """Do it, once: the flags are cleared. `seat.asked` has the flags, the program counter and PSTATE as they are in memory afterwards."""
    flags = seat.asked.iflags
    if flags & controls.TO_ADJUST == 0:
        return
    if flags & controls.PENDING_EXCEPTION != 0:
        if Hcr.of(seat.asked.hcr).rw or not seat.abilities.aarch32_el1:
            _raise(seat, places, flags & controls.EXCEPTION_KIND)
        else:
            _raise32(seat, places, flags & controls.EXCEPTION_KIND)
        flags = flags & ~(controls.PENDING_EXCEPTION | controls.EXCEPTION_KIND)
    else:
        _skip(seat, places)
        flags = flags & ~controls.INCREMENT_PC
        faults.completed(seat)
    seat.asked.iflags = flags
    answer_byte(seat.at, places.iflags, flags)
    answer(seat.at, places, seat.asked.pc, seat.asked.pstate)


def _skip(seat: Seat, places: Places) -> None:
    """The width of an AArch32 instruction is what its exit said (ESR_EL2.IL), which the host has by now."""
    if aarch64.is_aarch32(seat.asked.pstate):
        wide = Esr.of(asked_word(seat.at, places.fault_esr)).il
        after = aarch32.skip(seat.asked.pc, seat.asked.pstate, wide)
        seat.asked.pc = after.pc
        seat.asked.pstate = after.cpsr
    else:
        behind = aarch64.skip(seat.asked.pc, seat.asked.pstate)
        seat.asked.pc = behind.pc
        seat.asked.pstate = behind.pstate


def _raise(seat: Seat, places: Places, kind: u64) -> None:
    if kind != SYNCHRONOUS:
        return
    tags = Hcr.of(seat.asked.hcr).ata and seat.abilities.tags
    vectors = asked_word(seat.at, places.vbar)
    entered = aarch64.enter_el1(seat.asked.pstate, seat.asked.pc, vectors, asked_word(seat.at, places.sctlr), tags)
    answer_word(seat.at, places.elr1, entered.elr)
    answer_word(seat.at, places.spsr1, entered.spsr)
    seat.asked.pc = entered.pc
    seat.asked.pstate = entered.pstate


def _raise32(seat: Seat, places: Places, kind: u64) -> None:
    """The mode's own LR is one of the general registers, its SPSR one of those that only AArch32 has."""
    cpsr = seat.asked.pstate
    pc = seat.asked.pc
    sctlr = asked_word(seat.at, places.sctlr)
    vectors = asked_word(seat.at, places.vbar)
    if kind == UNDEFINED_32:
        taken = aarch32.take_undefined(cpsr, pc, sctlr, vectors)
        answer_word(seat.at, places.spsr_und, taken.spsr)
        answer_word(seat.at, places.regs + aarch32.LR_UND * 8, taken.lr)
        _go_to(seat, taken)
    elif kind == PREFETCH_ABORT_32 or kind == DATA_ABORT_32:
        data = kind == DATA_ABORT_32
        taken = aarch32.take_data_abort(cpsr, pc, sctlr, vectors) if data else aarch32.take_prefetch_abort(cpsr, pc, sctlr, vectors)
        answer_word(seat.at, places.spsr_abt, taken.spsr)
        answer_word(seat.at, places.regs + aarch32.LR_ABT * 8, taken.lr)
        _go_to(seat, taken)


def _go_to(seat: Seat, taken: Taken32) -> None:
    seat.asked.pc = taken.pc
    seat.asked.pstate = taken.cpsr
