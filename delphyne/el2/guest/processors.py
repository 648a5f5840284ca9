# SPDX-License-Identifier: Apache-2.0
"""The CPUs of protected guests as the guests know them: by MPIDR, on or off, and where one begins that was turned on (PSCI, DEN0022).

The host decides which of its `kvm_vcpu` structures plays which CPU, once: from then on the two belong together.

Lock: GUESTS_LOCK (24). A processor's registers are in `registers`, under the same number. Invariants: no two processors of a guard have one MPIDR,
or one `address` but 0.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.psci import AFFINITY_MASK
from delphyne.el2.arch.world import answer_word
from delphyne.el2.guest import registers
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Array, Enum8, guarded, holds, struct, u64


class Power(Enum8):
    """A CPU, as its guest sees it."""

    OFF = 0
    STARTING = 1
    """Turned on by another, and not begun yet."""
    ON = 2


@struct
class Processor:
    """One CPU of a guard's guest. `address`: the host's address of the `kvm_vcpu` that plays it, 0 before the first run. `big_endian`: its caller's
    order of bytes, with which it begins."""

    used: bool
    guard: u64
    mpidr: u64
    power: Power
    entry: u64
    context: u64
    big_endian: bool
    address: u64


PROCESSORS: Final = guarded(GUESTS_LOCK, Array[Processor, 128]())


@holds(GUESTS_LOCK)
def of_address(guard: u64, address: u64) -> u64 | None:
    """The processor that this `kvm_vcpu` plays."""
    for number in u64.range(registers.LIMIT):
        processor = PROCESSORS[number]
        if processor.used and processor.guard == guard and processor.address == address:
            return number
    return None


@holds(GUESTS_LOCK)
def of_mpidr(guard: u64, mpidr: u64) -> u64 | None:
    """The processor with this affinity."""
    for number in u64.range(registers.LIMIT):
        processor = PROCESSORS[number]
        if processor.used and processor.guard == guard and processor.mpidr == mpidr & AFFINITY_MASK:
            return number
    return None


@holds(GUESTS_LOCK)
def create(guard: u64, mpidr: u64) -> u64 | Err:
    """A processor that is OFF. Err.NO_MEMORY where there are too many."""
    for number in u64.range(registers.LIMIT):
        processor = PROCESSORS[number]
        if not processor.used:
            processor.used = True
            processor.guard = guard
            processor.mpidr = mpidr & AFFINITY_MASK
            processor.power = Power.OFF
            processor.big_endian = False
            processor.address = u64(0)
            registers.clear(number)
            return number
    return Err.NO_MEMORY


@holds(GUESTS_LOCK)
def bind(guard: u64, mpidr: u64, address: u64) -> u64 | None:
    """The `kvm_vcpu` at this address plays the CPU with this affinity from now on, where the guest has turned one on and none plays it yet."""
    number = of_mpidr(guard, mpidr)
    if number is None or PROCESSORS[number].address != 0 or address == 0:
        return None
    PROCESSORS[number].address = address
    return number


@holds(GUESTS_LOCK)
def turn_on(guard: u64, mpidr: u64, entry: u64, context: u64, big_endian: bool) -> u64 | Err:
    """The guest wants this CPU on: it will begin at `entry`, in its caller's order of bytes (DEN0022, CPU_ON). Err.EXISTS where it is on
    already or about to be, Err.NO_MEMORY."""
    number = of_mpidr(guard, mpidr)
    if number is None:
        made = create(guard, mpidr)
        if isinstance(made, Err):
            return made
        number = made
    processor = PROCESSORS[number]
    if processor.power is not Power.OFF:
        return Err.EXISTS
    processor.power = Power.STARTING
    processor.entry = entry
    processor.context = context
    processor.big_endian = big_endian
    return number


@holds(GUESTS_LOCK)
def undo_turn_on(number: u64) -> bool:
    """The host says that it did not do it: the processor stays OFF. False where that is a lie: the processor has begun.

    One that no `kvm_vcpu` plays is forgotten: a guest that names CPUs which it has not got leaves room for others."""
    if number >= registers.LIMIT:
        return True
    processor = PROCESSORS[number]
    if processor.power is Power.STARTING:
        processor.power = Power.OFF
        processor.used = processor.address != 0
    return processor.power is Power.OFF


@holds(GUESTS_LOCK)
def turn_off(number: u64) -> None:
    """The processor has turned itself off."""
    PROCESSORS[number].power = Power.OFF
    answer_word(registers.base_of(number), registers.RUNNING, u64(0))


@holds(GUESTS_LOCK)
def begin(number: u64) -> bool:
    """The processor begins, where it was turned on."""
    if number >= registers.LIMIT:
        return False
    processor = PROCESSORS[number]
    if processor.power is not Power.STARTING:
        return False
    registers.reset(number, processor.mpidr, processor.entry, processor.context, processor.big_endian)
    processor.power = Power.ON
    return True


@holds(GUESTS_LOCK)
def destroy_all(guard: u64) -> None:
    """The guard's guest is no more."""
    for number in u64.range(registers.LIMIT):
        processor = PROCESSORS[number]
        if processor.used and processor.guard == guard:
            registers.clear(number)
            processor.used = False
