# SPDX-License-Identifier: Apache-2.0
"""Exceptions from lower levels, sorted out.

The vectors save every register into a `Frame` on this CPU's stack, call `el2_lower`, and resume from what the frame holds then. No lock is
held when it is called, and none when it returns.
"""

from __future__ import annotations

from delphyne.el2.arch import psci
from delphyne.el2.arch.exception import Esr, ExceptionClass
from delphyne.el2.arch.frame import Frame, Vector
from delphyne.el2.control import stop
from delphyne.el2.entry import demo
from delphyne.lang import Level, entry, log, u64


@entry("el2_lower")
def el2_lower(frame: Frame, vector: u64) -> None:
    """One exception from EL1 or EL0. Once EL2 is stopping this CPU does not return to them."""
    if stop.is_stopping():
        stop.stopped()
    if vector != Vector.SYNC.raw:
        _refuse(frame, vector)
        return
    syndrome = Esr.of(frame.esr)
    if syndrome.ec == ExceptionClass.HVC64.raw:
        demo.serve_call(frame)
    elif syndrome.ec == ExceptionClass.DATA_ABORT_LOWER.raw:
        demo.serve_abort(frame, syndrome)
    else:
        _refuse(frame, vector)


def _refuse(frame: Frame, vector: u64) -> None:
    """What nobody here serves ends the program, and with it the machine."""
    log(Level.ERROR, f"EL1 at {frame.elr:#x} raises what is not served: vector {vector}, ESR_EL2 {frame.esr:#x}, FAR_EL2 {frame.far:#x}")
    psci.system_off()
    stop.begin_stop()
    stop.stopped()
