# SPDX-License-Identifier: Apache-2.0
"""Exceptions that EL2 raises at EL1 as the processor would have (Arm ARM D1.3, AArch64.TakeException). No lock: all of it is this CPU's own."""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.el1 import ELR_EL1, ESR_EL1, FAR_EL1, SPSR_EL1, VBAR_EL1
from delphyne.el2.arch.exception import MODE_EL1H, Esr, ExceptionClass, Spsr
from delphyne.el2.arch.frame import Frame
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.lang import u8, u32, u64

MODE_EL1T: Final = u8(0b00100)
AARCH32: Final = u8(0b10000)
EXTERNAL_ABORT: Final = u32(0x10)
"""Fault status: synchronous external abort, not on a table walk."""
VECTORS_BASE: Final = u64(0xFFFF_FFFF_FFFF_F800)
"""The bits of VBAR_EL1 that count; the others are RES0, which does not say that they read as zero."""
KEEP_PAN: Final = u64(1 << 23)
"""SCTLR_EL1.SPAN: exceptions leave PSTATE.PAN as it is."""


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
    before = Spsr.of(frame.spsr)
    ESR_EL1.write(syndrome.raw)
    ELR_EL1.write(frame.elr)
    SPSR_EL1.write(frame.spsr)
    frame.elr = (VBAR_EL1.read() & VECTORS_BASE) + _vector(before)
    keeps_pan = SCTLR_EL1.read().raw & KEEP_PAN != 0
    frame.spsr = Spsr(
        mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True, pan=before.pan or not keeps_pan, dit=before.dit
    ).raw


def _vector(before: Spsr) -> u64:
    """Offset of the synchronous vector for an exception from that state."""
    if before.mode & AARCH32 != 0:
        return u64(0x600)
    if before.mode == MODE_EL1H:
        return u64(0x200)
    return u64(0) if before.mode == MODE_EL1T else u64(0x400)


def _is_el1(frame: Frame) -> bool:
    mode = Spsr.of(frame.spsr).mode
    return mode == MODE_EL1H or mode == MODE_EL1T
