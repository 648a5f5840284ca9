# SPDX-License-Identifier: Apache-2.0
"""Virtual machines: who each is to the host, and its shadow tables.

The host never says that a VM begins or ends. A VM is known by where its structures lie and what they hold: the kernel's `kvm_s2_mmu`, the root of its
stage-2 table, and its VMID with the generation in the upper bits. Where one of these changes, the structure belongs to another VM, or the same one
after all TLBs were flushed: either way the shadow is worth nothing. EL2's own VMIDs are the slots' numbers, so that two VMs never share one.

An ordinary VM can be forgotten at any moment at which none of its CPUs runs: it comes back with an empty shadow. So a full pool refuses nobody:
the VM that was used least recently goes.

Lock: GUESTS_LOCK (24); `frames.LOCK` as well where a VM begins or ends.

Invariants: the frames of `mmu_size` bytes at `mmu_at` are pinned once for a slot in use; a slot in use has a shadow whose VMID is the slot's
number plus one; no two slots in use have one `mmu`; `ordinary` has the bits of the slots in use without a guard.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import Vttbr
from delphyne.el2.memory import frames, shadow, tables
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.shadow import Shadow
from delphyne.lang import Array, Pa, guarded, holds, struct, u16, u64, value

LIMIT: Final = u64(64)


@value
class HostTable:
    """A host's stage-2 table: where it starts, and its geometry, from the host's own VTCR_EL2.

    `bits` of an address count; the walk starts at `start` (0 to 2) in `roots` tables in a row. `hardware_access`: the processor may set access flags
    in it. `wide`: descriptors are FEAT_LPA2's."""

    root: Pa
    bits: u64
    start: u64
    roots: u64
    hardware_access: bool
    wide: bool


@struct
class Vm:
    """One VM. `mmu` is the host's address of its `kvm_s2_mmu`, which lies at `mmu_at`; `vmid` is the host's own number, generation included."""

    used: bool
    mmu: u64
    mmu_at: Pa
    mmu_size: u64
    vmid: u64
    table: HostTable
    shadow: Shadow
    ticket: u64
    """When it was last sat down with: larger is later."""
    seats: u64
    """vCPUs that EL2 remembers of it."""
    ctr: u64
    """What the VM's CTR_EL0 is, or 0 where the host answers reads of it itself."""
    counter_open: bool
    """Whether the VM may read the physical counter itself."""
    guard: u64
    """The number of its guard, plus one, where it is protected (guards.py). Its shadow is then no shadow: what stands there is the guest's own."""


@struct
class Vms:
    """The pool. `clock` counts what `ticket` is taken from. `ordinary` has a bit for each slot in use whose VM is not protected."""

    slots: Array[Vm, 64]
    clock: u64
    ordinary: u64


VMS: Final = guarded(GUESTS_LOCK, Vms())


@holds(GUESTS_LOCK)
def find(mmu: u64) -> u64 | None:
    """The VM whose `kvm_s2_mmu` the host has at this address."""
    for index in u64.range(LIMIT):
        vm = VMS.slots[index]
        if vm.used and vm.mmu == mmu:
            return index
    return None


@holds(GUESTS_LOCK)
def touch(index: u64) -> None:
    """This VM is used now."""
    VMS.clock += 1
    VMS.slots[index].ticket = VMS.clock


@holds(GUESTS_LOCK)
def free_slot() -> u64 | None:
    """A slot that no VM has."""
    for index in u64.range(LIMIT):
        if not VMS.slots[index].used:
            return index
    return None


@holds(GUESTS_LOCK)
def oldest(beyond: u64) -> u64 | None:
    """The ordinary VM that was used least recently after `beyond` (a ticket)."""
    found = u64(0)
    least = u64.MAX
    for index in u64.range(LIMIT):
        vm = VMS.slots[index]
        if vm.used and vm.guard == 0 and vm.ticket > beyond and vm.ticket < least:
            least = vm.ticket
            found = index
    return None if least == u64.MAX else found


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def create(index: u64, mmu: u64, mmu_at: Pa, mmu_size: u64, vmid: u64, table: HostTable, bits: u64) -> None | Err:
    """Make a free slot this VM, with an empty shadow for addresses of `bits` bits, and pin the frames of its structure, `mmu_size` bytes.

    Errors as `frames.pin` and `stage2.create`: then nothing changed."""
    pinned = frames.pin_all(mmu_at, mmu_size)
    if isinstance(pinned, Err):
        return pinned
    vm = VMS.slots[index]
    made = shadow.create(vm.shadow, bits, u16(index + 1))
    if isinstance(made, Err):
        frames.unpin_all(mmu_at, mmu_size)
        return made
    vm.used = True
    vm.mmu = mmu
    vm.mmu_at = mmu_at
    vm.mmu_size = mmu_size
    vm.vmid = vmid
    vm.table = table
    vm.seats = u64(0)
    vm.ctr = u64(0)
    vm.counter_open = True
    guard(index, u64(0))
    touch(index)
    return None


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def destroy(index: u64) -> None | Err:
    """End a VM none of whose vCPUs is remembered. Err.BUSY as `shadow.destroy`: then it is a VM as before."""
    vm = VMS.slots[index]
    assert vm.seats == 0, "a VM ends before its vCPUs"
    gone = shadow.destroy(vm.shadow)
    if isinstance(gone, Err):
        return gone
    frames.unpin_all(vm.mmu_at, vm.mmu_size)
    vm.used = False
    VMS.ordinary &= ~(u64(1) << index)
    return None


@holds(GUESTS_LOCK)
def guard(index: u64, number: u64) -> None:
    """A VM becomes protected by the guard with this number, which is its index plus one; 0: an ordinary one."""
    VMS.slots[index].guard = number
    VMS.ordinary = VMS.ordinary & ~(u64(1) << index) if number != 0 else VMS.ordinary | u64(1) << index


@holds(GUESTS_LOCK)
def vttbr(index: u64) -> Vttbr:
    """VTTBR_EL2 while this VM runs."""
    return tables.vttbr_of(VMS.slots[index].shadow.space)
