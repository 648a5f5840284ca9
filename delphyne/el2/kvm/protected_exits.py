# SPDX-License-Identifier: Apache-2.0
"""A protected guest has left: what EL2 answers, and what little the host hears (DESIGN.md 7, the table of exits).

Called while the guest's registers, all but the general ones, are in the processor. Locks: those of what is called.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import el1, inject
from delphyne.el2.arch.el1 import BARE_REGISTER, SystemIss, encoding
from delphyne.el2.arch.exception import ELR_EL2, ESR_EL2, Esr, ExceptionClass
from delphyne.el2.arch.frame import Vector
from delphyne.el2.arch.hypervisor import CPTR_EL2
from delphyne.el2.arch.world import Places, fp_load
from delphyne.el2.guest import registers
from delphyne.el2.guest.registers import OWN, Expects
from delphyne.el2.kvm import controls, exits, gic_access, identity, protected_calls, protected_faults, stage, vgic
from delphyne.el2.kvm.exit_codes import EXIT_IRQ, EXIT_SERROR, GUEST_GOES_ON
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import isb, u32, u64, wrap_sub

WAIT_KIND: Final = u32(0b11)
"""Of a WFx trap's ISS: which instruction it was."""
SGI1R_ISS: Final = encoding(3, 0, 12, 11, 5)
ASGI1R_ISS: Final = encoding(3, 0, 12, 11, 6)
SGI0R_ISS: Final = encoding(3, 0, 12, 11, 7)
CNTP_TVAL_ISS: Final = encoding(3, 3, 14, 2, 0)
CNTP_CTL_ISS: Final = encoding(3, 3, 14, 2, 1)
CNTP_CVAL_ISS: Final = encoding(3, 3, 14, 2, 2)
ACTLR_ISS: Final = encoding(3, 0, 1, 0, 1)


def serve(seat: Seat, places: Places, vector: u64) -> u64:
    """The exit code that the host hears, or GUEST_GOES_ON."""
    kind = vector & 3
    syndrome = ESR_EL2.read()
    pending = exits.pending_serror(seat, places)
    if kind == Vector.IRQ.raw or kind == Vector.FIQ.raw:
        return EXIT_IRQ | pending
    if kind == Vector.SERROR.raw:
        stage.show_nothing(seat, places, Esr(ec=syndrome.ec, il=True, iss=syndrome.iss))
        return EXIT_SERROR | pending
    if pending != 0:
        # The error is the host's to deal with, and the guest then does the same again: an HVC has moved on already.
        if syndrome.ec == ExceptionClass.HVC64.raw:
            ELR_EL2.write(wrap_sub(ELR_EL2.read(), 4))
        return EXIT_IRQ | pending
    return _serve_synchronous(seat, places, syndrome)


def _serve_synchronous(seat: Seat, places: Places, syndrome: Esr) -> u64:
    kind = syndrome.ec
    if kind == ExceptionClass.DATA_ABORT_LOWER.raw or kind == ExceptionClass.INSTRUCTION_ABORT_LOWER.raw:
        return protected_faults.serve(seat, places, syndrome, kind == ExceptionClass.INSTRUCTION_ABORT_LOWER.raw)
    if kind == ExceptionClass.SYS64.raw:
        return _serve_register(seat, places, syndrome)
    if kind == ExceptionClass.HVC64.raw:
        return protected_calls.serve(seat, places)
    if kind == ExceptionClass.SMC64.raw:
        exits.skip(syndrome)
        return protected_calls.serve(seat, places)
    if kind == ExceptionClass.WFX.raw:
        return stage.show(seat, places, Esr(ec=kind, il=syndrome.il, iss=syndrome.iss & WAIT_KIND), Expects.WAIT, u64(0))
    if kind == ExceptionClass.FP_ACCESS.raw and not seat.fp_live:
        CPTR_EL2.write(controls.cptr(True, False))
        isb()
        fp_load(seat.own + OWN.fp)
        seat.fp_live = True
        return GUEST_GOES_ON
    inject.undefined_to_guest()
    return GUEST_GOES_ON


def _serve_register(seat: Seat, places: Places, syndrome: Esr) -> u64:
    iss = SystemIss.of(u64(syndrome.iss))
    register = iss.raw & BARE_REGISTER
    if register == SGI1R_ISS or register == SGI0R_ISS or register == ASGI1R_ISS:
        return _show_register(seat, places, syndrome, iss)
    if register == CNTP_TVAL_ISS or register == CNTP_CTL_ISS or register == CNTP_CVAL_ISS:
        return _show_register(seat, places, syndrome, iss)
    if identity.is_identification(iss) and iss.read:
        registers.put_general(seat.own, u64(iss.rt), identity.read(iss))
    elif seat.abilities.trap_translation_writes and not iss.read and el1.write(register, registers.general(seat.own, u64(iss.rt))):
        exits.skip(syndrome)
        return GUEST_GOES_ON
    elif not _is_ignored(iss) and not _serve_interrupts(seat, iss):
        inject.undefined_to_guest()
        return GUEST_GOES_ON
    elif _is_ignored(iss) and iss.read:
        registers.put_general(seat.own, u64(iss.rt), u64(0))
    exits.skip(syndrome)
    return GUEST_GOES_ON


def _is_ignored(iss: SystemIss) -> bool:
    """Registers that read as zero and ignore what is written: those of debug (op0 2), and ACTLR_EL1; and cache maintenance by set and way, which can
    do nothing for a guest whose CPUs move."""
    set_way = iss.op0 == 1 and iss.op1 == 0 and iss.crn == 7 and iss.op2 == 2
    return iss.op0 == 2 or set_way or iss.raw & BARE_REGISTER == ACTLR_ISS


def _serve_interrupts(seat: Seat, iss: SystemIss) -> bool:
    """The interrupt controller's registers, where the host has them trapped: EL2 does the access."""
    if not vgic.is_trapped(seat):
        return False
    done = gic_access.perform(iss, vgic.used(seat), registers.general(seat.own, u64(iss.rt)))
    if done.served and iss.read:
        registers.put_general(seat.own, u64(iss.rt), done.x)
    return done.served


def _show_register(seat: Seat, places: Places, syndrome: Esr, iss: SystemIss) -> u64:
    """A register that KVM emulates: its name, and the one general register."""
    if not iss.read:
        stage.show_general(seat, places, u64(iss.rt))
    return stage.show(seat, places, syndrome, Expects.READ if iss.read else Expects.DONE, u64(iss.rt))
