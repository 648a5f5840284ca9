# SPDX-License-Identifier: Apache-2.0
"""Exceptions that EL2 raises at a host's EL1 as the processor would have (aarch64.py). No lock: all of it is this CPU's own."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import aarch64, features
from delphyne.el2.arch.el1 import ELR_EL1, ESR_EL1, FAR_EL1, SPSR_EL1, VBAR_EL1
from delphyne.el2.arch.exception import MODE_EL1H, MODE_EL1T, Esr, ExceptionClass, Spsr
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.lang import u32

EXTERNAL_ABORT: Final = u32(0x10)
"""Fault status: synchronous external abort, not on a table walk."""


def undefined(frame: Frame) -> None:
    """The trapped instruction does not exist."""
    _take(frame, Esr(ec=ExceptionClass.UNKNOWN.raw, il=True))


def external_abort(frame: Frame, instruction: bool) -> None:
    """Nobody answered the access that brought us here; `frame.far` is its address."""
    same_level = _is_el1(frame)
    if instruction:
        kind = ExceptionClass.INSTRUCTION_ABORT_SAME if same_level else ExceptionClass.INSTRUCTION_ABORT_LOWER
    else:
        kind = ExceptionClass.DATA_ABORT_SAME if same_level else ExceptionClass.DATA_ABORT_LOWER
    FAR_EL1.write(frame.far)
    _take(frame, Esr(ec=kind.raw, il=True, iss=EXTERNAL_ABORT))


def _take(frame: Frame, syndrome: Esr) -> None:
    """The interrupted state goes to EL1's registers, and EL1's vector becomes the next instruction."""
    entered = aarch64.enter_el1(frame.spsr, frame.elr, VBAR_EL1.read(), SCTLR_EL1.read().raw, features.has_memory_tags())
    ESR_EL1.write(syndrome.raw)
    ELR_EL1.write(entered.elr)
    SPSR_EL1.write(entered.spsr)
    frame.elr = entered.pc
    frame.spsr = entered.pstate


def _is_el1(frame: Frame) -> bool:
    mode = Spsr.of(frame.spsr).mode
    return mode == MODE_EL1H or mode == MODE_EL1T
