# SPDX-License-Identifier: Apache-2.0
"""The registers of an interrupted program, as the vectors in el2.S save them.

For an exception from a lower level the frame lies on the stack of the CPU; what is in it when the handler returns is what the lower level
continues with. For a trap or an exception of EL2 itself it is only read, by the report. No lock: a frame belongs to its CPU.
"""

from __future__ import annotations

from delphyne.el2.arch import aarch64
from delphyne.lang import Array, Enum64, struct, u64


class Vector(Enum64):
    """Through which vector a lower level came, in the order of the vector table (Arm ARM D1.3.1)."""

    SYNC = 0
    IRQ = 1
    FIQ = 2
    SERROR = 3
    SYNC_32 = 4
    IRQ_32 = 5
    FIQ_32 = 6
    SERROR_32 = 7


@struct(align=16, export="FRAME")
class Frame:
    """x0 to x30 and what the processor recorded. `sp` is written only for EL2's own failures; EL1's lies in SP_EL1."""

    x: Array[u64, 31]
    elr: u64
    spsr: u64
    esr: u64
    far: u64
    hpfar: u64
    sp: u64
    unused: u64


def skip(frame: Frame) -> None:
    """Goes on behind the trapped AArch64 instruction as if it had been executed."""
    behind = aarch64.skip(frame.elr, frame.spsr)
    frame.elr = behind.pc
    frame.spsr = behind.pstate
