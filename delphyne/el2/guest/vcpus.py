# SPDX-License-Identifier: Apache-2.0
"""Virtual CPUs: the kernel's `kvm_vcpu` structures that EL2 has checked, whose frames it keeps the host's while it may write to them.

A vCPU is remembered from its first run until its place is needed. Its frames are pinned as long, so that running it again needs no look at any of
them. A processor that runs it claims it by one exchange of its word in CLAIMS, without a lock: the word holds the generation of the slot, so that
a claim fails once the slot was given to another, or once the vCPU became or ceased to be one of a protected guest (`renew`).

Lock: GUESTS_LOCK (24) for the slots; `frames.LOCK` as well where frames are pinned or let go. CLAIMS are atomic; a slot is emptied only by who
has exchanged its word from idle to EMPTY.

Invariants: the frames of a slot in use, `size` bytes at `at` and `vector_bytes` at `vectors`, are pinned once for it; `vm` is in use.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import vms
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Array, AtomicU64, Order, Pa, guarded, holds, struct, u64

LIMIT: Final = u64(512)
EMPTY: Final = u64(0xFFFF)
"""In the low bits of a claim word: nobody can claim it."""
GENERATION: Final = u64(0x1_0000)
"""One generation of a claim word. The bits below say which CPU runs the vCPU, its number plus one, or 0."""
RUNNER: Final = u64(0xFFFF)


@struct
class Vcpu:
    """One vCPU: the host's address of its `kvm_vcpu`, and where that lies."""

    used: bool
    address: u64
    at: Pa
    size: u64
    vm: u64
    vectors_address: u64
    """The host's address of `sve_state`, and where that lies; 0 where the vCPU has none."""
    vectors: Pa
    vector_bytes: u64
    """Bytes at `vectors`."""
    vector_length: u64
    """Bytes in one vector, as the host keeps them; 0 without SVE."""
    ticket: u64


@struct
class Vcpus:
    """The pool."""

    slots: Array[Vcpu, 512]
    hints: Array[u64, 512]
    """By a part of the address: the slot where it was last found."""
    clock: u64


VCPUS: Final = guarded(GUESTS_LOCK, Vcpus())
CLAIMS: Final = Array[AtomicU64, 512]()


def _hint_of(address: u64) -> u64:
    """Structures of some kilobytes differ in these bits."""
    return (address >> 9) % LIMIT


@holds(GUESTS_LOCK)
def find(address: u64) -> u64 | None:
    """The slot of the vCPU whose structure the host has at this address."""
    hint = VCPUS.hints[_hint_of(address)]
    if hint < LIMIT and VCPUS.slots[hint].used and VCPUS.slots[hint].address == address:
        return hint
    for index in u64.range(LIMIT):
        vcpu = VCPUS.slots[index]
        if vcpu.used and vcpu.address == address:
            VCPUS.hints[_hint_of(address)] = index
            return index
    return None


def claim_word(index: u64) -> u64:
    """The word with which this slot can be claimed, where it is idle."""
    return CLAIMS[index].load(Order.ACQUIRE) & ~RUNNER


def claim(index: u64, word: u64, runner: u64) -> bool:
    """Whether the vCPU is now CPU `runner`'s, and what was known of it with `word` still holds."""
    return CLAIMS[index].compare_exchange(word, word | (runner + 1), Order.ACQUIRE) == word


def renew(index: u64, runner: u64) -> u64:
    """What any CPU has known of this vCPU holds no more, as if the slot had been given to another. CPU `runner` has it claimed, and goes on. The word
    with which it can be claimed from now on."""
    word = claim_word(index) + GENERATION
    CLAIMS[index].store(word | (runner + 1), Order.RELEASE)
    return word


def release(index: u64, word: u64) -> None:
    """It runs no more."""
    CLAIMS[index].store(word, Order.RELEASE)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def create(index: u64, address: u64, at: Pa, size: u64, vm: u64) -> None | Err:
    """Make an empty slot this vCPU and pin its frames. Err of `frames.pin`: then nothing changed."""
    pinned = frames.pin_all(at, size)
    if isinstance(pinned, Err):
        return pinned
    vcpu = VCPUS.slots[index]
    vcpu.used = True
    vcpu.address = address
    vcpu.at = at
    vcpu.size = size
    vcpu.vm = vm
    vcpu.vectors_address = u64(0)
    vcpu.vectors = Pa(u64(0))
    vcpu.vector_bytes = u64(0)
    vcpu.vector_length = u64(0)
    vms.VMS.slots[vm].seats += 1
    VCPUS.hints[_hint_of(address)] = index
    touch(index)
    CLAIMS[index].store(claim_word(index) + GENERATION, Order.RELEASE)
    return None


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def set_vectors(index: u64, address: u64, at: Pa, size: u64, length: u64) -> None | Err:
    """Where the vCPU's SVE registers lie: pins their frames and lets those of before go. Err of `frames.pin`: then nothing changed."""
    pinned = frames.pin_all(at, size)
    if isinstance(pinned, Err):
        return pinned
    vcpu = VCPUS.slots[index]
    frames.unpin_all(vcpu.vectors, vcpu.vector_bytes)
    vcpu.vectors_address = address
    vcpu.vectors = at
    vcpu.vector_bytes = size
    vcpu.vector_length = length
    return None


@holds(GUESTS_LOCK)
def touch(index: u64) -> None:
    """This vCPU is used now."""
    VCPUS.clock += 1
    VCPUS.slots[index].ticket = VCPUS.clock


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def forget(index: u64) -> bool:
    """Empty a slot; False, and nothing changed, where the vCPU runs."""
    word = claim_word(index)
    if CLAIMS[index].compare_exchange(word, word | EMPTY, Order.ACQ_REL) != word:
        return False
    vcpu = VCPUS.slots[index]
    frames.unpin_all(vcpu.at, vcpu.size)
    frames.unpin_all(vcpu.vectors, vcpu.vector_bytes)
    vcpu.vector_bytes = u64(0)
    vms.VMS.slots[vcpu.vm].seats -= 1
    vcpu.used = False
    return True


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def forget_all(vm: u64) -> bool:
    """Empty every slot of a VM; False where one of its vCPUs runs: the others may be forgotten then, which costs them a look at their frames."""
    idle = True
    for index in u64.range(LIMIT):
        if VCPUS.slots[index].used and VCPUS.slots[index].vm == vm:
            gone = forget(index)
            idle = idle and gone
    return idle


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def forget_others(vm: u64, mine: u64) -> bool:
    """The same for every slot but one."""
    idle = True
    for index in u64.range(LIMIT):
        if index != mine and VCPUS.slots[index].used and VCPUS.slots[index].vm == vm:
            gone = forget(index)
            idle = idle and gone
    return idle


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def place() -> u64 | None:
    """An empty slot: a free one, or that of the idle vCPU that was used least recently. None where all run."""
    for index in u64.range(LIMIT):
        if not VCPUS.slots[index].used:
            return index
    beyond = u64(0)
    for _ in u64.range(LIMIT):
        candidate = _oldest(beyond)
        if candidate is None:
            return None
        if forget(candidate):
            return candidate
        beyond = VCPUS.slots[candidate].ticket
    return None


@holds(GUESTS_LOCK)
def _oldest(beyond: u64) -> u64 | None:
    found = u64(0)
    least = u64.MAX
    for index in u64.range(LIMIT):
        vcpu = VCPUS.slots[index]
        if vcpu.used and vcpu.ticket > beyond and vcpu.ticket < least:
            least = vcpu.ticket
            found = index
    return None if least == u64.MAX else found
