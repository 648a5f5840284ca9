# SPDX-License-Identifier: Apache-2.0
"""What start.S gives to the typed guest: marks, the hypercall, waiting, and SIMD registers. No lock, no state."""

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
