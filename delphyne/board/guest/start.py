# SPDX-License-Identifier: Apache-2.0
"""What start.S gives to the typed guest: marks, calls, waiting, SIMD registers, and what may raise an exception. No lock; what may raise an exception
is CPU 0's alone."""

from __future__ import annotations

from delphyne.lang import assembly, u64


@assembly
def mark_begin() -> None:
    """What is counted begins behind this call."""


@assembly
def mark_end() -> None:
    """What is counted ends with this call."""


@assembly
def take_ticks() -> u64:
    """Steps of the virtual counter between marks since this was last called."""
    raise RuntimeError("no marks in CPython")


@assembly
def hypercall(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
    """HVC by the SMC calling convention (DEN0028); the first result."""
    raise RuntimeError("no hypervisor in CPython")


@assembly
def firmware_call(function: u64, x1: u64, x2: u64, x3: u64) -> u64:
    """SMC by the same convention; the first result."""
    raise RuntimeError("no firmware in CPython")


@assembly
def try_load(address: u64) -> u64:
    """Loads eight bytes and forgets them: 0, or the syndrome of the exception that came of it."""
    raise RuntimeError("no exceptions in CPython")


@assembly
def try_store(address: u64, x: u64) -> u64:
    """Stores eight bytes: 0, or the syndrome of the exception that came of it."""
    raise RuntimeError("no exceptions in CPython")


@assembly
def try_word(word: u64, x: u64) -> u64:
    """Executes one instruction, which may touch X0 to X3 and no other register, and finds `x` in them: 0, or the syndrome of what it raised."""
    raise RuntimeError("no instructions in CPython")


@assembly
def try_narrow(address: u64, r0: u64, r1: u64) -> u64:
    """Executes A32 instructions, in 64 bytes from a multiple of 64 on, at EL0 with interrupts masked at EL1; they may touch R0 to R14. The syndrome
    of the exception by which they come back."""
    raise RuntimeError("no instructions in CPython")


@assembly
def usual_table() -> u64:
    """The table of level 1 with which the guest began."""
    raise RuntimeError("there is no image in CPython")


@assembly
def use_table(root: u64) -> None:
    """Translate by the table of level 1 at `root` from now on; it has to map code, stacks and the device as the usual one does."""


@assembly
def add_exclusively(address: u64, times: u64) -> None:
    """Adds one to the word at `address`, `times` times (not 0), each by a load-exclusive and a store-exclusive that is repeated until it succeeds."""


@assembly
def add_atomically(address: u64, times: u64) -> None:
    """The same by one instruction each, which FEAT_LSE has to be there for."""


@assembly
def store_big_endian(address: u64, x: u64) -> None:
    """A doubleword to a device, its most significant byte first."""


@assembly
def load_big_endian(address: u64) -> u64:
    """The same, read."""
    return u64(0)


@assembly
def turned_round(x: u64) -> u64:
    """Its bytes in the other order."""
    return u64(0)


@assembly
def write_debug_register(address: u64) -> u64:
    """A breakpoint's address is written and read back, with a hypercall in between: 3 where every instruction ran once and the address was kept."""
    raise RuntimeError("no debug registers in CPython")


@assembly
def wait_for_interrupt() -> None:
    """WFI: returns when an interrupt is pending, masked or not; may return for no reason."""


@assembly
def relax() -> None:
    """YIELD, in a loop that waits for another CPU: QEMU with one thread for all CPUs turns to the next."""


@assembly
def mask_interrupts() -> None:
    """No IRQ is taken from now on."""


@assembly
def unmask_interrupts() -> None:
    """Pending IRQs are taken from now on."""


@assembly
def secondary_address() -> u64:
    """Where CPU_ON has to start another CPU; its context argument is the CPU's number."""
    raise RuntimeError("there is no image in CPython")


@assembly
def fill_simd(first: u64) -> None:
    """SIMD register n holds `first` + n in both halves."""


@assembly
def read_simd() -> u64:
    """The lower half of SIMD register 0: one instruction that uses SIMD."""
    raise RuntimeError("no SIMD registers in CPython")


@assembly
def count_wrong_simd(first: u64) -> u64:
    """How many of the 64 halves are not as `fill_simd` left them."""
    raise RuntimeError("no SIMD registers in CPython")
