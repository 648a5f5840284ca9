# SPDX-License-Identifier: Apache-2.0
"""Exceptions from lower levels, sorted out.

The vectors save every register into a `Frame` on this CPU's stack, call `el2_lower`, and resume from what the frame holds then; for calls they save
less, and call `el2_call`. No lock is
held when it is called, and none when it returns.
"""

from __future__ import annotations

from delphyne.el2.arch import cpu, inject
from delphyne.el2.arch.el1 import SystemIss
from delphyne.el2.arch.exception import AbortIss, Esr, ExceptionClass
from delphyne.el2.arch.frame import Frame, Vector
from delphyne.el2.control import stop
from delphyne.el2.entry import demo, farewell, firmware, host, next_kernel, vendor
from delphyne.el2.kvm import bootmode, hostcalls
from delphyne.lang import Level, entry, log, u64


@entry("el2_call")
def el2_call(frame: Frame) -> None:
    """One call (HVC) from AArch64. Of `frame` x18 to x28 and what was recorded beyond the return state are not there."""
    if stop.is_stopping():
        stop.stopped()
    if host.HOST.layout_known or host.is_prepared():
        hostcalls.serve(frame, host.HOST.layout, host.HOST.places, host.HOST.layout_known)
    else:
        demo.serve_call(frame)


@entry("el2_lower")
def el2_lower(frame: Frame, vector: u64) -> None:
    """One exception from EL1 or EL0. Once EL2 is stopping this CPU does not return to them."""
    if stop.is_stopping():
        stop.stopped()
    if vector != Vector.SYNC.raw and vector != Vector.SYNC_32.raw:
        _refuse(frame, vector)
        return
    syndrome = Esr.of(frame.esr)
    if host.is_prepared():
        if syndrome.ec == ExceptionClass.SYS64.raw and next_kernel.look(frame):
            return
        _serve_host(frame, syndrome)
    elif syndrome.ec == ExceptionClass.DATA_ABORT_LOWER.raw:
        demo.serve_abort(frame, syndrome)
    else:
        _refuse(frame, vector)


def _serve_host(frame: Frame, syndrome: Esr) -> None:
    """What the host does that traps. Anything unexpected is to it an instruction that does not exist."""
    iss = u64(syndrome.iss)
    if syndrome.ec == ExceptionClass.SMC64.raw:
        _serve_firmware_call(frame)
    elif syndrome.ec == ExceptionClass.DATA_ABORT_LOWER.raw:
        host.serve_abort(frame, AbortIss.of(iss), False)
    elif syndrome.ec == ExceptionClass.INSTRUCTION_ABORT_LOWER.raw:
        host.serve_abort(frame, AbortIss.of(iss), True)
    elif syndrome.ec != ExceptionClass.SYS64.raw or not bootmode.serve_write(frame, SystemIss.of(iss), host.memory_from(bootmode.code_at(frame))):
        log(Level.WARNING, f"the host at {frame.elr:#x} does what is not served: ESR_EL2 {frame.esr:#x}")
        inject.undefined(frame)


def _serve_firmware_call(frame: Frame) -> None:
    last = farewell.ends_machine(frame)
    if last and not farewell.wipe_next():
        return
    if not vendor.serve(frame):
        firmware.serve(frame)
    if last:
        farewell.go_on()


def _refuse(frame: Frame, vector: u64) -> None:
    """What nobody here serves ends the program, and with it the machine."""
    log(Level.ERROR, f"EL1 at {frame.elr:#x} raises what is not served: vector {vector}, ESR_EL2 {frame.esr:#x}, FAR_EL2 {frame.far:#x}")
    stop.begin_stop()
    stop.wait_for_stop(cpu.online_count() - 1)
    farewell.farewell()
