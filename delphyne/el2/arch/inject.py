# SPDX-License-Identifier: Apache-2.0
"""Exceptions that EL2 raises at EL1 as the processor would have (aarch64.py): at the host's, whose state lies in a `Frame`, or at that of a guest
whose registers are in the processor. No lock: all of it is this CPU's own."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import aarch64, features
from delphyne.el2.arch.el1 import ELR_EL1, ESR_EL1, FAR_EL1, SPSR_EL1, VBAR_EL1
from delphyne.el2.arch.exception import ELR_EL2, FAR_EL2, MODE_EL1H, MODE_EL1T, SPSR_EL2, Esr, ExceptionClass, Spsr
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.lang import u32, u64

EXTERNAL_ABORT: Final = u32(0x10)
"""Fault status: synchronous external abort, not on a table walk."""


def undefined(frame: Frame) -> None:
    """The trapped instruction does not exist."""
    _take(frame, Esr(ec=ExceptionClass.UNKNOWN.raw, il=True))


def external_abort(frame: Frame, instruction: bool) -> None:
    """Nobody answered the access that brought us here; `frame.far` is its address."""
    FAR_EL1.write(frame.far)
    _take(frame, _abort(frame.spsr, instruction))


def undefined_to_guest() -> None:
    """The instruction of the guest's that trapped does not exist."""
    _take_guest(Esr(ec=ExceptionClass.UNKNOWN.raw, il=True))


def external_abort_to_guest(instruction: bool) -> None:
    """Nobody answered the guest's access that brought us here, at FAR_EL2."""
    FAR_EL1.write(FAR_EL2.read())
    _take_guest(_abort(SPSR_EL2.read().raw, instruction))


def _abort(pstate: u64, instruction: bool) -> Esr:
    same_level = _is_el1(pstate)
    if instruction:
        kind = ExceptionClass.INSTRUCTION_ABORT_SAME if same_level else ExceptionClass.INSTRUCTION_ABORT_LOWER
    else:
        kind = ExceptionClass.DATA_ABORT_SAME if same_level else ExceptionClass.DATA_ABORT_LOWER
    return Esr(ec=kind.raw, il=True, iss=EXTERNAL_ABORT)


def _take(frame: Frame, syndrome: Esr) -> None:
    """The interrupted state goes to EL1's registers, and EL1's vector becomes the next instruction."""
    entered = _enter(frame.spsr, frame.elr, syndrome, features.has_memory_tags())
    frame.elr = entered.pc
    frame.spsr = entered.pstate


def _take_guest(syndrome: Esr) -> None:
    """The same for a guest that has no tags."""
    entered = _enter(SPSR_EL2.read().raw, ELR_EL2.read(), syndrome, False)
    ELR_EL2.write(entered.pc)
    SPSR_EL2.write(Spsr.of(entered.pstate))


def _enter(pstate: u64, pc: u64, syndrome: Esr, tags: bool) -> aarch64.Entry:
    entered = aarch64.enter_el1(pstate, pc, VBAR_EL1.read(), SCTLR_EL1.read().raw, tags)
    ESR_EL1.write(syndrome.raw)
    ELR_EL1.write(entered.elr)
    SPSR_EL1.write(entered.spsr)
    return entered


def _is_el1(pstate: u64) -> bool:
    mode = Spsr.of(pstate).mode
    return mode == MODE_EL1H or mode == MODE_EL1T
