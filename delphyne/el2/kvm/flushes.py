# SPDX-License-Identifier: Apache-2.0
"""The host's calls about TLBs: what its stage-2 table of a guest no longer says goes out of the guest's shadow (KVM: hyp/nvhe/tlb.c).

A call names an address, a range, or all. What is still there in the host's table, and at least as open as the shadow has it, may stay; whatever else
the shadow has goes, and no processor translates by it when the call returns. A VM that EL2 does not know has no shadow, so that nothing is to be
done for it. The shadow knows of each leaf from what level of the host's table it came; the level that the host names says whether more than the
leaf of that one address may be concerned.

Locks: `frames.LOCK` (10), HOST_LOCK (22) for what a protected guest gives back, GUESTS_LOCK (24).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import ADDRESS_LIMIT, LAST_LEVEL, PAGE_SIZE, level_size
from delphyne.el2.guest import turns, vms
from delphyne.el2.kvm import host_tables, near, protected_flushes, seats
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.seats import SEATS
from delphyne.el2.memory import flush, frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Domain, Ipa, apart, dsb, holds, ic_iallu, isb, tlbi_vmalle1, u64

STEPS: Final = u64(512)
"""Slots that one call for a range looks at, in its turn (`turns`); where it has more the whole shadow goes."""
PIECES: Final = u64(8)
"""Pieces of the graveyard's work that a call does where it has no room."""


@apart
def address(mmu: u64, ipa: u64, level: u64) -> None | Err:
    """Call for one address. `level` is where in the host's table something was taken away, 3 for a page, any other number for what may have been
    a table. Err.BUSY where the host is to call again."""
    page = Ipa(ipa & ~(PAGE_SIZE - 1))
    with frames.LOCK, GUESTS_LOCK:
        index = vms.find(mmu)
        if index is None or ipa >= ADDRESS_LIMIT:
            return None
        if vms.VMS.slots[index].guard == 0:
            return _ordinary(index, page, level)
    # A protected guest's page may become the host's, whose map changes then.
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = vms.find(mmu)
        if index is None:
            return None
        vm = vms.VMS.slots[index]
        if vm.guard == 0:
            return _ordinary(index, page, level)
        if level != LAST_LEVEL:
            shadow.forget_tables(vm.shadow)
        return protected_flushes.address(index, page, level)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _ordinary(index: u64, page: Ipa, level: u64) -> None | Err:
    """The same for a VM that is not protected."""
    vm = vms.VMS.slots[index]
    if level != LAST_LEVEL:
        if vm.shadow.huge and level != shadow.BLOCK_LEVEL:
            return _drop_all(index)
        shadow.forget_tables(vm.shadow)
        shadow.drop_pieces(vm.shadow, page)
    return _look_again(index, page)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _drop_all(index: u64) -> None | Err:
    dropped = shadow.drop_all(vms.VMS.slots[index].shadow)
    if isinstance(dropped, Err):
        _work()
    return dropped


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _look_again(index: u64, ipa: Ipa) -> None | Err:
    """The shadow's leaf for an address stays if the host's table still says the same, opens where that says more, and else goes."""
    vm = vms.VMS.slots[index]
    stands = shadow.look(vm.shadow, ipa)
    if stands is None:
        return None
    seen = shadow.leaf_at(stands, ipa)
    found = _walk(index, ipa)
    if found.descriptor != 0:
        host = host_tables.leaf_of(found, vm.table.wide)
        within = ipa.raw & (level_size(host.level) - 1)
        same = host.output + within == seen.output and u64(seen.leaf.software) == host.level
        if same and host.leaf.accessed and shadow.is_within(seen, host):
            if shadow.is_within(host, seen):
                # Nothing is gone. What a processor may have remembered is what both tables say.
                return None
            return shadow.reopen(vm.shadow, ipa, host)
    dropped = shadow.drop_found(vm.shadow, ipa, stands)
    if isinstance(dropped, Err):
        _work()
    return dropped


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _walk(index: u64, ipa: Ipa) -> Walked:
    """What the host's table says of an address, by the shorter way where this CPU's guest is of that VM."""
    vm = vms.VMS.slots[index]
    seat = SEATS.mine()
    if seat.address != seats.NOBODY and seat.vm == index and near.is_known(seat, vm, ipa):
        return near.read(seat, vm, ipa)
    return host_tables.walk(vm.table, ipa)


@apart
def pages(mmu: u64, start: u64, count: u64) -> None | Err:
    """Call for a range of pages. Err.BUSY where the host is to call again."""
    if count == 0 or start >= ADDRESS_LIMIT or count > ADDRESS_LIMIT // PAGE_SIZE:
        return None if count == 0 else everything(mmu)
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = vms.find(mmu)
        if index is None:
            return None
        vm = vms.VMS.slots[index]
        if vm.guard != 0:
            shadow.forget_tables(vm.shadow)
            return protected_flushes.pages(index, Ipa(start & ~(PAGE_SIZE - 1)), count)
        if vm.shadow.huge:
            return _drop_all(index)
        if count != 1 and not turns.is_mine():
            return Err.BUSY
        shadow.forget_tables(vm.shadow)
        is_done = _clear_pages(index, start & ~(PAGE_SIZE - 1), count)
        if count != 1:
            turns.over()
        return None if is_done else _drop_all(index)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _clear_pages(index: u64, start: u64, count: u64) -> bool:
    """What the shadow has of the range goes, with one flush for all of it, and what it has of blocks of the host's that reach across its ends. False
    where that is too much to look at: something may have gone."""
    vm = vms.VMS.slots[index]
    limit = min(start + count * PAGE_SIZE, u64(1) << vm.shadow.space.bits)
    if start & (shadow.BLOCK_BYTES - 1) != 0:
        shadow.drop_pieces(vm.shadow, Ipa(start))
    if limit & (shadow.BLOCK_BYTES - 1) != 0:
        shadow.drop_pieces(vm.shadow, Ipa(limit))
    taken = u64(0)
    first = Ipa(start)
    at = start
    done = True
    for _ in u64.range(STEPS):
        if at >= limit:
            break
        found = shadow.find(vm.shadow, Ipa(at))
        span = level_size(found.level)
        cleared = shadow.clear_found(vm.shadow, found)
        if isinstance(cleared, Err):
            done = False
            break
        if taken == 0:
            first = Ipa(at)
        taken += cleared
        at = (at & ~(span - 1)) + span
    shadow.flush_after(vm.shadow, first, taken)
    return done and at >= limit


@apart
def everything(mmu: u64) -> None | Err:
    """Call for all of a VM. Err.BUSY where the host is to call again."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = vms.find(mmu)
        if index is None:
            return None
        if vms.VMS.slots[index].guard != 0:
            shadow.forget_tables(vms.VMS.slots[index].shadow)
            protected_flushes.everything(index)
            return None
        return _drop_all(index)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _work() -> None:
    for _ in u64.range(PIECES):
        graveyard.work()


@apart
def this_cpu(mmu: u64) -> None:
    """Another vCPU of the VM ran on this CPU before: their stage-1 translations and instructions must not be mixed up."""
    with GUESTS_LOCK:
        index = vms.find(mmu)
        if index is None:
            return
        before = flush.enter(vms.vttbr(index))
        tlbi_vmalle1()
        ic_iallu()
        dsb(Domain.NSH)
        isb()
        flush.leave(before)
