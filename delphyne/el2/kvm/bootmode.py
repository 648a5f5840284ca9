# SPDX-License-Identifier: Apache-2.0
"""Tells a stock kernel that it was booted at EL2, without changing a byte of it.

A kernel that finds itself at EL1 sets SCTLR_EL1, prepares an exception return to its caller, puts BOOT_CPU_MODE_EL1 into w0 and returns
(arch/arm64/kernel/head.S, init_el1). HCR_EL2.TVM makes the first of these trap. Where what follows is that sequence, EL2 does it in the
kernel's place with BOOT_CPU_MODE_EL2 as the answer: from then on the kernel believes that EL2 was its own and that KVM can run there, which is
what Delphyne then serves. Where it is anything else, the write is done as it was meant, and the trap stays until the MMU comes on: whoever
turns that on without having asked is not going to ask.

The instructions are read from the host's memory while its MMU is off, so the program counter is a physical address. What a lying host gains
by them is an answer in its own w0. No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import el1
from delphyne.el2.arch.exception import MODE_EL1H, Spsr
from delphyne.el2.arch.frame import Frame, skip
from delphyne.el2.arch.translation import SCTLR_EL1
from delphyne.el2.kvm import host_state
from delphyne.lang import Array, Hostile, Pa, View, load_le32, u8, u32, u64

MSR_ELR_EL1_X30: Final = u32(0xD518_403E)
MOVZ_W0_MODE_EL1: Final = u32(0x5281_C220)
ERET: Final = u32(0xD69F_03E0)
MODE_EL2: Final = u64(0xE12)
"""BOOT_CPU_MODE_EL2 (arch/arm64/include/asm/virt.h)."""
WINDOW_BYTES: Final = u64(64)
"""How far the sequence may reach behind the trapped write."""
SYSTEM_OFF_STATE: Final = Spsr(mode=MODE_EL1H, debug_masked=True, serror_masked=True, irq_masked=True, fiq_masked=True)


def serve_write(frame: Frame, iss: el1.SystemIss, code: Hostile) -> bool:
    """A register write that TVM trapped; `code` is the host's memory from the trapped instruction on. False where TVM traps no such register."""
    register = iss.raw & el1.BARE_REGISTER
    x = u64(0) if iss.rt == 31 else frame.x[u64(iss.rt)]
    mmu_was_off = not SCTLR_EL1.read().m
    if iss.read or not el1.write(register, x):
        return False
    if register == el1.SCTLR_ISS and mmu_was_off and _is_answer(code):
        frame.x[0] = MODE_EL2
        frame.elr = frame.x[30]
        frame.spsr = SYSTEM_OFF_STATE.raw
        host_state.await_boot_mode(False)
        return True
    if SCTLR_EL1.read().m:
        host_state.await_boot_mode(False)
    skip(frame)
    return True


def _is_answer(code: Hostile) -> bool:
    """Whether the kernel is about to return BOOT_CPU_MODE_EL1 to its caller."""
    window = Array[u8, 64]()
    if not code.copy_in(window[:], u64(0)):
        return False
    return _has_sequence(window[:])


def _has_sequence(window: View[u8]) -> bool:
    """The return address set, the mode loaded, the return, in this order and nothing after the mode but the return."""
    return_set = False
    for offset in u64.range(4, WINDOW_BYTES - 8, 4):
        word = load_le32(window, offset)
        if word == MSR_ELR_EL1_X30:
            return_set = True
        elif word == MOVZ_W0_MODE_EL1:
            return return_set and load_le32(window, offset + 4) == ERET
    return False


def code_at(frame: Frame) -> Pa:
    """Where the trapped instruction lies, while the host's MMU is off."""
    return Pa(frame.elr)
