# SPDX-License-Identifier: Apache-2.0
"""Protected guests: what EL2 knows of one beyond what it knows of any VM.

A guard belongs to a VM from PROTECT_BEGIN until its last page is back with the host. Its number plus one owns the VM's frames (`frames`).

Lock: GUESTS_LOCK (24).

Invariants: a guard in use belongs to the VM that names it, and no other names it. `identity` and `version` are never used twice: a page is exported
under its own version, a guest begun under its own identity. Beyond MEASURING every page of the VM's own is private to it, shared by its own call, or
exported with a record; nothing that stands in its tables leads to a page of the host's.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import vms
from delphyne.el2.guest.mmio_guard import MmioGuard
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import Shadow
from delphyne.el2.sealing import aes256, sha256
from delphyne.lang import Array, AtomicU64, Enum8, Order, guarded, holds, struct, u8, u16, u64, wipe

LIMIT: Final = u64(32)
MANIFEST_BYTES: Final = u64(4096)


class Phase(Enum8):
    """How far a guest's protection is."""

    MEASURING = 0
    """Between BEGIN and COMMIT: its caller runs from the host's pages, and no other vCPU runs."""
    PROTECTED = 1
    STOPPED = 2
    """None of its vCPUs runs again: a page came back altered, or it is at its end."""


@struct
class Guard:
    """One protected guest. `committed`: it has been PROTECTED. `leaving`: it is at its end by its own call. `manifest` is EL2's own copy. `segment`
    and `page` say what is measured next, `measured` how many bytes of that page already are (`measuring`), `digest` what was of that segment.
    `private` counts pages that are promised a record. `ended` is how far its pages are given back, `wiped` that its key is gone too, while its VM is
    not (`ending.wipe_next`). `lent` are the host's pages in its tables while it is MEASURING (`lent`). `mmio` narrows its
    MMIO windows."""

    used: bool
    committed: bool
    leaving: bool
    phase: Phase
    vm: u64
    identity: u64
    version: u64
    key: aes256.Key
    manifest: Array[u8, 4096]
    measurement: Array[u8, 32]
    segment: u64
    page: u64
    measured: u64
    digest: sha256.Sha256
    private: u64
    ended: u64
    wiped: bool
    lent: Array[u64, 8]
    lent_count: u64
    mmio: MmioGuard


@struct
class Guards:
    """The pool. `identities` counts the guests that ever were. `closed`: the machine is about to go off, and no guest begins. `lent` has the bits of
    the guards with pages of the host's in their guests' tables (`lent`)."""

    slots: Array[Guard, 32]
    identities: u64
    closed: bool
    lent: u64


GUARDS: Final = guarded(GUESTS_LOCK, Guards())

ALIVE: Final = Array[AtomicU64, 32]()
"""By guard: the identity of a guest whose CPUs may run, else 0. Read without the lock, before each run."""
OFFSETS: Final = Array[AtomicU64, 32]()
"""By guard: CNTVOFF_EL2 while its guest's CPUs run (time.py)."""
SEEN: Final = Array[AtomicU64, 32]()
"""By guard: the largest virtual count that any of its CPUs can have seen."""
RUNS: Final = Array[AtomicU64, 32]()
"""By guard: how many of its CPUs run."""


@holds(GUESTS_LOCK)
def of_vm(vm: u64) -> u64 | None:
    """The guard of a VM; None where it is an ordinary one."""
    number = vms.VMS.slots[vm].guard
    return None if number == 0 else number - 1


@holds(GUESTS_LOCK)
def shadow_of(index: u64) -> Shadow:
    """The tables of a guard's guest, as the shadow that they were before."""
    return vms.VMS.slots[GUARDS.slots[index].vm].shadow


@holds(GUESTS_LOCK)
def create(vm: u64) -> u64 | Err:
    """A guard for an ordinary VM, MEASURING, without a key. Err.NO_MEMORY where LIMIT guests are protected, Err.STATE where none may begin."""
    if GUARDS.closed:
        return Err.STATE
    for index in u64.range(LIMIT):
        guard = GUARDS.slots[index]
        if not guard.used:
            wipe(guard)
            GUARDS.identities += 1
            guard.used = True
            guard.vm = vm
            guard.identity = GUARDS.identities
            OFFSETS[index].store(u64(0), Order.RELEASE)
            SEEN[index].store(u64(0), Order.RELEASE)
            RUNS[index].store(u64(0), Order.RELEASE)
            vms.guard(vm, index + 1)
            return index
    return Err.NO_MEMORY


@holds(GUESTS_LOCK)
def destroy(index: u64) -> None:
    """The VM, none of whose pages is private any more, is an ordinary one."""
    guard = GUARDS.slots[index]
    ALIVE[index].store(u64(0), Order.RELEASE)
    assert guard.private == 0, "pages of a guest that is protected no more"
    vms.guard(guard.vm, u64(0))
    GUARDS.lent &= ~(u64(1) << index)
    wipe(guard)


@holds(GUESTS_LOCK)
def stop(index: u64) -> None:
    """None of the guest's CPUs runs again: what is running leaves at its next exit for good."""
    GUARDS.slots[index].phase = Phase.STOPPED
    ALIVE[index].store(u64(0), Order.RELEASE)


@holds(GUESTS_LOCK)
def leave(index: u64) -> None:
    """The guest ends by its own call, which its host hears of when the last page is back."""
    GUARDS.slots[index].leaving = True
    stop(index)


@holds(GUESTS_LOCK)
def close(closed: bool) -> None:
    """Whether guests may begin no more."""
    GUARDS.closed = closed


def owner(index: u64) -> u16:
    """Who owns the frames of this guard's guest, to the frame table."""
    return u16(index + 1)


@holds(GUESTS_LOCK)
def next_version(index: u64) -> u64:
    """A version that no page of this guest had. 56 bits do not come to their end: at a million exports a second that takes two thousand years."""
    guard = GUARDS.slots[index]
    guard.version += 1
    return guard.version
