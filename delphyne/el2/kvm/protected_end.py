# SPDX-License-Identifier: Apache-2.0
"""A protected guest turns itself off or begins itself anew (PSCI SYSTEM_OFF, SYSTEM_RESET): its pages go back first (`guest.ending`), and then the
host hears of the call, as one of an ordinary VM. The guest's other CPUs, should they run, are only told to come again meanwhile: an error of theirs
would reach the VMM before the call does, which then would not turn the machine off.

Locks: `frames.LOCK`, HOST_LOCK, GUESTS_LOCK, in this order.
"""

from __future__ import annotations

from delphyne.el2.arch.exception import Esr, ExceptionClass
from delphyne.el2.arch.world import Places, answer_word
from delphyne.el2.guest import ending, guards, registers, vcpus
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.registers import Expects
from delphyne.el2.kvm import seats, stage
from delphyne.el2.kvm.exit_codes import EXIT_ILLEGAL, EXIT_IRQ, EXIT_TRAP
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Pa, cold, u64


@cold
def begin(seat: Seat) -> u64:
    """The guest ends by its own call, which stands in its x0 to x3. The code of an exit."""
    with GUESTS_LOCK:
        guards.leave(seat.guard - 1)
    registers.expect(seat.own, Expects.ENDING, u64(0))
    return EXIT_IRQ


@cold
def code_of_others(seat: Seat) -> u64:
    """What a CPU hears that may not run: to come again where its guest ends by its own call, else that it never may."""
    with GUESTS_LOCK:
        guard = GUARDS.slots[seat.guard - 1]
        return EXIT_IRQ if guard.leaving and guard.identity == seat.identity else EXIT_ILLEGAL


@cold
def go_on(seat: Seat, places: Places) -> u64:
    """One piece of it; at last the call is shown. The code of an exit."""
    function = registers.general(seat.own, u64(0))
    first = registers.general(seat.own, u64(1))
    second = registers.general(seat.own, u64(2))
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        if not vcpus.forget_others(seat.vm, seat.index) or not ending.end_some(seat.guard - 1):
            return EXIT_IRQ
    seats.renew(seat)
    seat.guard = u64(0)
    seat.own = Pa(u64(0))
    stage.show_nothing(seat, places, Esr(ec=ExceptionClass.HVC64.raw, il=True))
    answer_word(seat.at, places.regs, function)
    answer_word(seat.at, places.regs + 8, first)
    answer_word(seat.at, places.regs + 16, second)
    return EXIT_TRAP
