# SPDX-License-Identifier: Apache-2.0
"""A guest's SIMD and SVE registers: loaded when it first uses them, and back in memory at each exit.

The kernels that are served have saved their own before they run a guest, and take the guest's from memory where they were never told that the
guest's are still in the processor: EL2 never says so. A guest that used them in one run mostly does in the next: then they are loaded without
waiting for the trap, for some runs.

No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.hypervisor import CPTR_EL2
from delphyne.el2.arch.world import Places, answer_word, asked_word, fp_load, fp_save, sve_load, sve_save
from delphyne.el2.kvm import controls
from delphyne.el2.kvm.host_state import LONGEST_VECTOR, ZCR_EL2
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import SysReg, isb, u64

RUNS_AHEAD: Final = u64(7)
"""Runs for which the registers are loaded ahead, after a run that used them."""
QUADWORD: Final = u64(16)

ZCR_EL1: Final = SysReg(u64, "ZCR_EL1", 3, 0, 1, 2, 0)


def has_sve(seat: Seat) -> bool:
    """Whether this guest has SVE: it was promised, the host keeps it somewhere, and the processor has it."""
    return seat.abilities.sve and seat.asked.cflags & controls.HAS_SVE != 0 and seat.vector_length != 0


def is_ahead(seat: Seat) -> bool:
    """Whether the registers are to be loaded before this run."""
    return seat.fp_ahead != 0


def load(seat: Seat, places: Places) -> None:
    """The guest's registers into the processor, from the trap on or ahead of it."""
    sve = has_sve(seat)
    CPTR_EL2.write(controls.cptr(True, sve))
    isb()
    if sve:
        ZCR_EL2.write(seat.vector_length // QUADWORD - 1)
        isb()
        sve_load(seat.vectors, seat.vector_length, seat.at + places.fp)
        seat.host_zcr = ZCR_EL1.read()
        ZCR_EL1.write(asked_word(seat.at, places.zcr))
    else:
        fp_load(seat.at + places.fp)
    seat.fp_live = True


def save(seat: Seat, places: Places) -> None:
    """The guest's registers into memory, before anything of the host runs."""
    if has_sve(seat):
        answer_word(seat.at, places.zcr, ZCR_EL1.read())
        sve_save(seat.vectors, seat.vector_length, seat.at + places.fp)
        ZCR_EL1.write(seat.host_zcr)
        ZCR_EL2.write(LONGEST_VECTOR)
    else:
        fp_save(seat.at + places.fp)
    seat.fp_live = False
