# SPDX-License-Identifier: Apache-2.0
"""Where the registers of protected guests' CPUs lie: memory of EL2's own, in one layout that EL2 chose itself.

The host's `kvm_vcpu` is only a stage on which what an exit needs is shown. The same functions move both (`arch.world`): `OWN` is to this memory what
the kernel's places are to a `kvm_vcpu`.

No lock: a CPU's registers are touched by who has claimed its vCPU (`vcpus.claim`), or before it has begun.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.world import FP_BYTES, GENERAL_BYTES, Places, answer, answer_word, asked_word
from delphyne.lang import Enum8, Pa, boot, constant, frozen, owned, struct, u8, u64, wipe

LIMIT: Final = u64(128)
"""CPUs of protected guests, all together."""
CPU_BYTES: Final = u64(2048)

_SPARE = {
    "mpidr", "hcr", "mdcr", "hw_mmu", "pmu_host", "pmu_guest", "pmu_counters", "iflags", "cflags", "gic_hcr", "gic_sre", "used_lrs", "its_vm", "gic",
    "mmu_pgd", "mmu_vmid", "gic_vmcr", "gic_ap0r", "gic_ap1r", "list_registers", "debug_ptr", "zcr", "vsesr", "disr", "regs", "fp", "pc", "pstate",
}  # fmt: skip
"""Not among them: what the host says with each run, and what has its place here anyway."""


def _layout() -> Places:
    """General registers, then SIMD registers at a multiple of 16, then one word for each of the others."""
    made = Places()
    made.regs = u64(0)
    made.pc = u64(32 * 8)
    made.pstate = u64(33 * 8)
    made.fp = u64(int(GENERAL_BYTES))
    at = int(GENERAL_BYTES) + int(FP_BYTES)
    for name in Places.__annotations__:
        if name not in _SPARE:
            setattr(made, name, u64(at))
            at += 8
    made.mpidr = u64(at)
    return made


OWN: Final = constant(_layout())
RUNNING: Final = u64(1984)
"""Offset of a word that is 1 while the CPU is on, as the guest sees it."""
EXPECTS: Final = u64(1992)
"""Offset of a word: what the CPU's last exit lets the host give (`Expects`)."""
TARGET: Final = u64(2000)
"""Offset of a word: the general register that a read fills, or the processor that a call turns on."""
ASKED: Final = u64(2008)
"""Offset of a word: of an access to memory that the host is shown, its ISS; 0 for any other exit."""
REFUSED: Final = u64(2016)
"""Offset of a word: the exception that the CPU's next entry begins with (`Refused`)."""
BIG_ENDIAN: Final = u64(2024)
"""Offset of a word: of an access to a device that the host is shown, whether the guest has the bytes in big-endian order, 0 or 1."""
assert int(OWN.mpidr) + 8 <= int(RUNNING)

RESET_PSTATE: Final = u64(0x3C5)
"""EL1h, everything masked (Arm ARM D1.5)."""
RESET_SCTLR: Final = u64(0x30D5_0830)
"""SCTLR_EL1 with MMU and caches off, little-endian, what was RES1 in ARMv8.0 set."""
SCTLR_EE: Final = u64(1 << 25)
MPIDR_RES1: Final = u64(1 << 31)


class Expects(Enum8):
    """What an exit lets the host give back."""

    NOTHING = 0
    CALL = 1
    """x0 to x3."""
    POWER_ON = 2
    """The same, of a CPU_ON: TARGET is the processor that begins where the call succeeds."""
    READ = 3
    """One register, and the instruction is done."""
    DONE = 4
    """Nothing, and the instruction is done."""
    ENDING = 5
    """The guest has turned itself off or begun itself anew: its pages go back first."""
    WAIT = 6
    """Nothing, and the instruction is done; it is none that can fail."""


class Refused(Enum8):
    """Whether the host did what a guest wanted of it."""

    NO = 0
    ABORT = 1
    """Nobody answered the access."""
    UNDEFINED = 2
    """There is no such register."""


@struct
class Memory:
    """Where the registers lie."""

    base: Pa


MEMORY: Final = frozen(Memory())


@boot
def attach(base: Pa) -> None:
    """Give the registers their memory: `memory_bytes()` at `base`, EL2's own, a multiple of a page."""
    MEMORY.base = base
    with owned(base, memory_bytes()) as window:
        window.fill(u8(0))


def memory_bytes() -> u64:
    """One CPU's more than there are: it stays zero (`zeroes`)."""
    return (LIMIT + 1) * CPU_BYTES + 2048


def base_of(number: u64) -> Pa:
    """Where the registers of a processor lie."""
    assert number < LIMIT, "a processor"
    return MEMORY.base + number * CPU_BYTES


def zeroes() -> Pa:
    """SIMD registers that hold nothing."""
    return MEMORY.base + LIMIT * CPU_BYTES


def clear(number: u64) -> None:
    """Nothing is left of a processor's registers."""
    with owned(base_of(number), CPU_BYTES) as window:
        wipe(window)


def reset(number: u64, mpidr: u64, entry: u64, context: u64, big_endian: bool) -> None:
    """A processor begins at `entry` with `context` in x0, in the given order of bytes, and everything else as the architecture resets it."""
    clear(number)
    base = base_of(number)
    answer(base, OWN, entry, RESET_PSTATE)
    answer_word(base, OWN.regs, context)
    answer_word(base, OWN.mpidr, mpidr | MPIDR_RES1)
    answer_word(base, OWN.sctlr, RESET_SCTLR | (SCTLR_EE if big_endian else u64(0)))
    answer_word(base, RUNNING, u64(1))


def expect(base: Pa, what: Expects, target: u64) -> None:
    """What the host may give next."""
    answer_word(base, EXPECTS, u64(what.raw))
    answer_word(base, TARGET, target)


def general(base: Pa, number: u64) -> u64:
    """A general register, by its number in a syndrome."""
    return asked_word(base, OWN.regs + number * 8) if number < 31 else u64(0)


def put_general(base: Pa, number: u64, x: u64) -> None:
    """The same, written."""
    if number < 31:
        answer_word(base, OWN.regs + number * 8, x)
