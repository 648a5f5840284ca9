# SPDX-License-Identifier: Apache-2.0
"""A guest has left: what EL2 does itself, so that the guest goes on at once, and what the host hears (KVM: hyp/include/hyp/switch.h).

Called while the guest's registers, all but the general ones, are in the processor. Syndromes are the guest's doing, and any may come. Locks: those
of `faults`, taken there.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import aarch64, el1
from delphyne.el2.arch.el1 import BARE_REGISTER, SystemIss, encoding
from delphyne.el2.arch.exception import ELR_EL2, ESR_EL2, FAR_EL2, HPFAR_EL2, SPSR_EL2, Esr, ExceptionClass, Spsr
from delphyne.el2.arch.frame import Vector
from delphyne.el2.arch.hypervisor import Hcr
from delphyne.el2.arch.world import Places, answer_fault, answer_word, asked_word, take_serror
from delphyne.el2.guest import aarch32
from delphyne.el2.kvm import faults, fp, gic_access, protect, vgic
from delphyne.el2.kvm.exit_codes import EXIT_IRQ, EXIT_SERROR, EXIT_TRAP, GUEST_GOES_ON, WITH_SERROR
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import SysReg, u64, wrap_sub

DISR_EL1: Final = SysReg(u64, "DISR_EL1", 3, 0, 12, 1, 1)
CTR_ISS: Final = encoding(3, 3, 0, 0, 1)
REGISTERS: Final = u64(31)
"""x0 to x30; number 31 in a syndrome is the zero register."""


def serve(seat: Seat, places: Places, vector: u64) -> u64:
    """The exit code that the host hears, or GUEST_GOES_ON."""
    kind = vector & 3
    if kind == Vector.IRQ.raw or kind == Vector.FIQ.raw:
        return EXIT_IRQ | pending_serror(seat, places)
    syndrome = ESR_EL2.read()
    pending = pending_serror(seat, places)
    if kind == Vector.SERROR.raw:
        answer_fault(seat.at, places, syndrome.raw, FAR_EL2.read(), HPFAR_EL2.read().raw)
        return EXIT_SERROR | pending
    if pending != 0:
        # The host injects the error and the guest then does the same again: an HVC has moved on already.
        if syndrome.ec == ExceptionClass.HVC64.raw or syndrome.ec == ExceptionClass.HVC32.raw:
            ELR_EL2.write(wrap_sub(ELR_EL2.read(), 4))
        answer_fault(seat.at, places, syndrome.raw, FAR_EL2.read(), HPFAR_EL2.read().raw)
        return EXIT_TRAP | pending
    return _serve_synchronous(seat, places, syndrome)


def pending_serror(seat: Seat, places: Places) -> u64:
    """An SError that the guest's last accesses caused belongs to this exit, and not to the host."""
    if seat.abilities.ras:
        deferred = DISR_EL1.read()
        if deferred == 0:
            return u64(0)
        answer_word(seat.at, places.fault_disr, deferred)
        DISR_EL1.write(u64(0))
        return WITH_SERROR
    return WITH_SERROR if take_serror() else u64(0)


def _serve_synchronous(seat: Seat, places: Places, syndrome: Esr) -> u64:
    if syndrome.ec == ExceptionClass.DATA_ABORT_LOWER.raw:
        return _serve_abort(seat, places, syndrome, False)
    if syndrome.ec == ExceptionClass.INSTRUCTION_ABORT_LOWER.raw:
        return _serve_abort(seat, places, syndrome, True)
    if syndrome.ec == ExceptionClass.SYS64.raw and _serve_register(seat, places, syndrome):
        return GUEST_GOES_ON
    if syndrome.ec == ExceptionClass.MCR_CP15.raw and vgic.is_trapped(seat) and _serve_register32(seat, places, syndrome):
        return GUEST_GOES_ON
    if not seat.fp_live and (syndrome.ec == ExceptionClass.FP_ACCESS.raw or (syndrome.ec == ExceptionClass.SVE.raw and fp.has_sve(seat))):
        fp.load(seat, places)
        seat.fp_ahead = fp.RUNS_AHEAD
        return GUEST_GOES_ON
    if syndrome.ec == ExceptionClass.HVC64.raw and protect.is_call(seat, places):
        return protect.serve(seat, places)
    answer_fault(seat.at, places, syndrome.raw, FAR_EL2.read(), HPFAR_EL2.read().raw)
    return EXIT_TRAP


def _serve_abort(seat: Seat, places: Places, syndrome: Esr, instruction: bool) -> u64:
    shown = faults.serve(seat, syndrome, instruction)
    if shown.again:
        return GUEST_GOES_ON
    answer_fault(seat.at, places, faults.syndrome_for(syndrome, shown), FAR_EL2.read(), faults.page_for(shown))
    return EXIT_TRAP


def _serve_register(seat: Seat, places: Places, syndrome: Esr) -> bool:
    """Whether the access was EL2's to do: reads of CTR_EL0 where the host has said what they give, writes of translation registers that an
    erratum has trapped and not the host, and the interrupt controller's where the host has them trapped."""
    iss = SystemIss.of(u64(syndrome.iss))
    if iss.raw & BARE_REGISTER == CTR_ISS and iss.read and seat.ctr != 0:
        put(seat, places, u64(iss.rt), seat.ctr)
        skip(syndrome)
        return True
    written = seat.abilities.trap_translation_writes and not iss.read and not Hcr.of(seat.asked.hcr).tvm
    if written and el1.write(iss.raw & BARE_REGISTER, get(seat, places, u64(iss.rt))):
        skip(syndrome)
        return True
    return vgic.is_trapped(seat) and _serve_interrupts(seat, places, syndrome, iss)


def _serve_register32(seat: Seat, places: Places, syndrome: Esr) -> bool:
    """The same for the interrupt controller's registers of AArch32, whose instructions may trap without being executed."""
    if not aarch32.is_executed(syndrome.raw, SPSR_EL2.read().raw):
        skip(syndrome)
        return True
    return _serve_interrupts(seat, places, syndrome, gic_access.from_cp15(syndrome.iss))


def _serve_interrupts(seat: Seat, places: Places, syndrome: Esr, iss: SystemIss) -> bool:
    done = gic_access.perform(iss, vgic.used(seat), get(seat, places, u64(iss.rt)))
    if not done.served:
        return False
    if iss.read:
        put(seat, places, u64(iss.rt), done.x)
    skip(syndrome)
    return True


def put(seat: Seat, places: Places, number: u64, x: u64) -> None:
    """A guest's general register, by its number in a syndrome."""
    if number < REGISTERS:
        answer_word(seat.at, places.regs + number * 8, x)


def get(seat: Seat, places: Places, number: u64) -> u64:
    """The same, read."""
    return asked_word(seat.at, places.regs + number * 8) if number < REGISTERS else u64(0)


def skip(syndrome: Esr) -> None:
    """The guest goes on behind the instruction that was done in its place."""
    pc = ELR_EL2.read()
    pstate = SPSR_EL2.read().raw
    if aarch64.is_aarch32(pstate):
        after = aarch32.skip(pc, pstate, syndrome.il)
        ELR_EL2.write(after.pc)
        SPSR_EL2.write(Spsr.of(after.cpsr))
    else:
        behind = aarch64.skip(pc, pstate)
        ELR_EL2.write(behind.pc)
        SPSR_EL2.write(Spsr.of(behind.pstate))
