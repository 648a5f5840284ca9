# SPDX-License-Identifier: Apache-2.0
"""A guest's stage-2 faults: filled from the host's table where that allows the access, else shown to the host as its own table would have raised
them (Arm ARM D8.15, ESR_EL2 of aborts; KVM: hyp/fault.h, mmu.c kvm_handle_guest_abort).

The shadow holds less than the host's table, so that what the processor reports is about the shadow. Status and level of what the host hears are
made anew from a walk of its own table: it takes a wrong level for another size of page, and a translation fault of a valid leaf for ever again.

Called while the guest's registers are in the processor. Locks: `frames.LOCK` and GUESTS_LOCK, in that order.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.el1 import PAR_EL1
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import (
    ACCESS_FLAG_FAULT,
    FAR_EL2,
    FAULT_LEVEL,
    HPFAR_EL2,
    PERMISSION_FAULT,
    TRANSLATION_FAULT,
    AbortIss,
    Esr,
    Hpfar,
)
from delphyne.el2.arch.pagetable import PAGE_SHIFT, PAGE_SIZE
from delphyne.el2.guest import lent, vms
from delphyne.el2.guest.vms import Vm
from delphyne.el2.kvm import host_tables, near
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.seats import HAD_LEAF, Seat
from delphyne.el2.memory import frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Domain, Enum8, Ipa, Va, apart, at_s1e1r, cold, dmb, holds, isb, u8, u32, u64, value

PIECES: Final = u64(16)
"""Pieces of the graveyard's work that one fault does where tables are lacking."""


class Access(Enum8):
    """What the guest was about to do."""

    READ = 0
    WRITE = 1
    EXECUTE = 2


@value
class Shown:
    """What the host is to hear: `again` says nothing, and that the guest goes on where it was."""

    again: bool
    status: u8
    page: Ipa


def serve(seat: Seat, syndrome: Esr, instruction: bool) -> Shown:
    """A guest's abort from a lower level. Only faults of translation, access flag and permission are EL2's; all others are shown as they are."""
    iss = AbortIss.of(u64(syndrome.iss))
    kind = iss.fsc & ~FAULT_LEVEL
    page = page_of(seat, iss, kind)
    if page is None:
        return Shown(True, u8(0), Ipa(u64(0)))
    if kind != TRANSLATION_FAULT and kind != ACCESS_FLAG_FAULT and kind != PERMISSION_FAULT:
        return Shown(False, iss.fsc, page)
    if page.raw + 1 == seat.mmio_page:
        seat.prefill = seat.mmio_page
        seat.prefill_level = seat.mmio_level
        return Shown(False, TRANSLATION_FAULT | u8(seat.mmio_level & 3), page)
    return _answer(seat, page, access_of(iss, kind, instruction))


def page_of(seat: Seat, iss: AbortIss, kind: u8) -> Ipa | None:
    """The page of the fault. HPFAR_EL2 says it, but for permission faults of the access itself and on processors with erratum 834220, where the
    guest's own stage 1 is asked; None where that has changed meanwhile, so that the guest had better try again."""
    if iss.s1ptw or (kind != PERMISSION_FAULT and not seat.abilities.hpfar_unsure):
        return Ipa(HPFAR_EL2.read().fipa << PAGE_SHIFT)
    if seat.abilities.barrier_before_entry:
        dmb(Domain.SY)
    before = PAR_EL1.read()
    at_s1e1r(Va(FAR_EL2.read()))
    isb()
    found = PAR_EL1.read()
    PAR_EL1.write(before)
    return None if found.failed else Ipa(found.frame * PAGE_SIZE)


def access_of(iss: AbortIss, kind: u8, instruction: bool) -> Access:
    """A walk of the guest's stage 1 that lacks a permission wants to write a flag, whatever WnR says; cache maintenance needs no more than a read."""
    if iss.s1ptw:
        return Access.WRITE if kind == PERMISSION_FAULT or (not instruction and iss.wnr) else Access.READ
    if instruction:
        return Access.EXECUTE
    return Access.WRITE if iss.wnr and not iss.cm else Access.READ


def _answer(seat: Seat, page: Ipa, access: Access) -> Shown:
    with GUESTS_LOCK:
        vm = vms.VMS.slots[seat.vm]
        if near.is_known(seat, vm, page):
            found = near.read(seat, vm, page)
            if found.descriptor == 0:
                return _nothing(seat, found, page)
            leaf = host_tables.leaf_of(found, vm.table.wide)
            if leaf.leaf.accessed and _allows(leaf, access) and shadow.fill_page(seat.near_shadow - 1, page, leaf):
                return Shown(True, u8(0), page)
    return _answer_far(seat, page, access)


@apart
def _answer_far(seat: Seat, page: Ipa, access: Access) -> Shown:
    """The same from the start tables on."""
    with frames.LOCK, GUESTS_LOCK:
        return _fill(seat, page, access)


def _nothing(seat: Seat, found: Walked, page: Ipa) -> Shown:
    """The host's table has no leaf."""
    seat.prefill = page.raw + 1
    seat.prefill_level = found.level
    return Shown(False, TRANSLATION_FAULT | u8(found.level & 3), page)


def _refused(seat: Seat, again: bool, kind: u8, found: Walked, page: Ipa) -> Shown:
    """The host's leaf does not allow the access."""
    seat.prefill = page.raw + 1
    seat.prefill_level = HAD_LEAF
    return Shown(again, kind | u8(found.level & 3), page)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _fill(seat: Seat, page: Ipa, access: Access) -> Shown:
    """The host's leaf goes into the shadow where it allows the access."""
    vm = vms.VMS.slots[seat.vm]
    if vm.guard != 0:
        return _lend(vm, page, access)
    found = host_tables.walk(vm.table, page)
    near.remember(seat, vm, found, page)
    if found.descriptor == 0:
        return _nothing(seat, found, page)
    leaf = host_tables.leaf_of(found, vm.table.wide)
    if not leaf.leaf.accessed and not (vm.table.hardware_access and host_tables.set_accessed(found)):
        return _refused(seat, vm.table.hardware_access, ACCESS_FLAG_FAULT, found, page)
    if not _allows(leaf, access):
        return _refused(seat, False, PERMISSION_FAULT, found, page)
    filled = shadow.fill(vm.shadow, page, leaf)
    near.remember(seat, vm, found, page)
    if not isinstance(filled, Err):
        return Shown(True, u8(0), page)
    if filled is Err.NO_MEMORY or filled is Err.BUSY:
        _make_room(seat)
        return Shown(True, u8(0), page)
    return Shown(False, TRANSLATION_FAULT | u8(found.level & 3), page)


@cold
@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _lend(vm: Vm, page: Ipa, access: Access) -> Shown:
    """The same for a guest that is becoming protected (`guest.lent`)."""
    found = host_tables.walk(vm.table, page)
    if found.descriptor == 0:
        return Shown(False, TRANSLATION_FAULT | u8(found.level & 3), page)
    leaf = host_tables.leaf_of(found, vm.table.wide)
    if not leaf.leaf.accessed and not (vm.table.hardware_access and host_tables.set_accessed(found)):
        return Shown(vm.table.hardware_access, ACCESS_FLAG_FAULT | u8(found.level & 3), page)
    if not _allows(leaf, access):
        return Shown(False, PERMISSION_FAULT | u8(found.level & 3), page)
    filled = lent.fill(vm.guard - 1, page, leaf)
    return Shown(not isinstance(filled, Err), TRANSLATION_FAULT | u8(found.level & 3), page)


def _allows(host: shadow.HostLeaf, access: Access) -> bool:
    """Whether a leaf of the host's permits the access."""
    match access:
        case Access.READ:
            return host.leaf.read
        case Access.WRITE:
            return host.leaf.write
        case Access.EXECUTE:
            return shadow.may_execute(host)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _make_room(seat: Seat) -> None:
    """Tables are lacking: some come back from the graveyard; where that is empty, a shadow goes there and begins anew."""
    if graveyard.is_empty():
        dropped = shadow.drop_all(vms.VMS.slots[_whose_tables(seat.vm)].shadow)
        if isinstance(dropped, Err):
            # More than the graveyard takes at once: what is left goes when tables are lacking again.
            graveyard.work()
    for _ in u64.range(PIECES):
        graveyard.work()


@holds(GUESTS_LOCK)
def _whose_tables(mine: u64) -> u64:
    """The VM that makes room for `mine`: itself, unless it has nothing; then of those that have something the one that was used least recently."""
    if vms.VMS.slots[mine].shadow.top != 0:
        return mine
    beyond = u64(0)
    for _ in u64.range(vms.LIMIT):
        candidate = vms.oldest(beyond)
        if candidate is None:
            break
        if vms.VMS.slots[candidate].shadow.top != 0:
            return candidate
        beyond = vms.VMS.slots[candidate].ticket
    return mine


def completed(seat: Seat) -> None:
    """The guest goes on behind the instruction that brought it to the host. Where that was a fault the host has done the access in the guest's place,
    as MMIO: the next fault of that page is shown at once, until the host does otherwise with one of them."""
    if seat.prefill != 0 and seat.prefill_level != HAD_LEAF:
        seat.mmio_page = seat.prefill
        seat.mmio_level = seat.prefill_level
    seat.prefill = u64(0)


def after_host(seat: Seat) -> None:
    """Before a guest does an access again whose fault the host was shown, the last one that no access was `completed` for."""
    if seat.mmio_page == seat.prefill:
        seat.mmio_page = u64(0)
    _prefill(seat)
    seat.prefill = u64(0)


def _prefill(seat: Seat) -> None:
    """What the host has mapped by now is filled in, which saves the same fault again."""
    page = Ipa(seat.prefill - 1)
    with GUESTS_LOCK:
        vm = vms.VMS.slots[seat.vm]
        if near.is_known(seat, vm, page):
            found = near.read(seat, vm, page)
            if found.descriptor == 0:
                return
            leaf = host_tables.leaf_of(found, vm.table.wide)
            if leaf.leaf.accessed and shadow.fill_page(seat.near_shadow - 1, page, leaf):
                return
    _prefill_far(seat, page)


@apart
def _prefill_far(seat: Seat, page: Ipa) -> None:
    """The same from the start tables on. Where it cannot be done the guest's next fault does it."""
    with frames.LOCK, GUESTS_LOCK:
        vm = vms.VMS.slots[seat.vm]
        found = host_tables.walk(vm.table, page)
        if found.descriptor == 0:
            return
        leaf = host_tables.leaf_of(found, vm.table.wide)
        if leaf.leaf.accessed:
            filled = shadow.fill(vm.shadow, page, leaf)
            near.remember(seat, vm, found, page)
            if isinstance(filled, Err):
                return


def syndrome_for(syndrome: Esr, shown: Shown) -> u64:
    """ESR_EL2 as the host's own table would have raised it."""
    iss = AbortIss.of(u64(syndrome.iss)).replace(fsc=shown.status)
    return syndrome.replace(iss=u32(iss.raw)).raw


def page_for(shown: Shown) -> u64:
    """HPFAR_EL2 for the page of a fault."""
    return Hpfar(fipa=shown.page.raw >> PAGE_SHIFT).raw
