# SPDX-License-Identifier: Apache-2.0
"""A protected guest's stage-2 faults: its manifest's windows decide what they mean (DESIGN.md 7).

In a RAM window the host's frame becomes the guest's page (`guest.private`); where the host has none, or one that may not be written, the host hears
of a data write without a syndrome, whatever the guest did. In an MMIO window the host hears of the access, and no frame is ever taken. Anywhere else
nobody answers: an external abort in the guest. To a guest that has enrolled in the MMIO guard (`mmio_guard`) what it has not mapped is such a place.

Locks: `frames.LOCK`, HOST_LOCK, GUESTS_LOCK, in this order.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import byte_order, inject
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import (
    ACCESS_FLAG_FAULT,
    FAR_EL2,
    FAULT_LEVEL,
    PERMISSION_FAULT,
    TRANSLATION_FAULT,
    AbortIss,
    Esr,
    ExceptionClass,
)
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SHIFT, PAGE_SIZE, Stage2Leaf, level_size
from delphyne.el2.arch.world import Places, answer_word
from delphyne.el2.guest import guards, manifest, mmio_guard, moving, private, steps, vms, whole
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.guest.manifest import WindowKind
from delphyne.el2.guest.mmio_guard import MmioGuard
from delphyne.el2.guest.registers import BIG_ENDIAN, OWN, Expects
from delphyne.el2.guest.steps import Fate
from delphyne.el2.guest.vms import Vm
from delphyne.el2.kvm import faults, host_tables, near, stage
from delphyne.el2.kvm.exit_codes import EXIT_ILLEGAL, EXIT_IRQ, GUEST_GOES_ON
from delphyne.el2.kvm.faults import Access
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import flush, frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Enum8, Ipa, Level, Pa, holds, log, u8, u32, u64, unreachable, value, wrap_sub

PIECES: Final = u64(16)
"""Pieces of the graveyard's work that one fault does where something is lacking."""


class Outcome(Enum8):
    """What a fault in a RAM window came to."""

    DONE = 0
    SHOWN = 1
    """The host has to provide a frame."""
    LATER = 2
    """Something is under way: the guest tries again after the host has had its interrupts."""
    REFUSED = 3
    """The guest may not do this to its page."""
    STOPPED = 4


@value
class Answer:
    """With SHOWN: the fault status of the host's own table."""

    outcome: Outcome
    status: u8


def serve(seat: Seat, places: Places, syndrome: Esr, instruction: bool) -> u64:
    """A guest's abort: the code of an exit, or GUEST_GOES_ON."""
    iss = AbortIss.of(u64(syndrome.iss))
    kind = iss.fsc & ~FAULT_LEVEL
    page = faults.page_of(seat, iss, kind)
    if page is None:
        return GUEST_GOES_ON
    if kind != TRANSLATION_FAULT and kind != ACCESS_FLAG_FAULT and kind != PERMISSION_FAULT:
        inject.external_abort_to_guest(instruction)
        return GUEST_GOES_ON
    with GUESTS_LOCK:
        window = _window(seat, iss, page)
        is_hosts_turn = window is WindowKind.RAM and _is_hosts_turn(seat, page)
    if is_hosts_turn:
        return show_memory(seat, places, page, TRANSLATION_FAULT | u8(LAST_LEVEL))
    match window:
        case WindowKind.RAM:
            return _finish(seat, places, page, instruction, _serve_memory(seat, page, faults.access_of(iss, kind, instruction)))
        case WindowKind.MMIO:
            return _serve_device(seat, places, iss, page, instruction)
        case WindowKind.NONE:
            inject.external_abort_to_guest(instruction)
            return GUEST_GOES_ON
    unreachable()


@holds(GUESTS_LOCK)
def _window(seat: Seat, iss: AbortIss, page: Ipa) -> WindowKind:
    """In which window the page lies; that of the last one is looked at first. None, too, for an access that the guest's MMIO guard holds back."""
    if seat.ram_identity == seat.identity and wrap_sub(page.raw, seat.ram_base) < seat.ram_size:
        return WindowKind.RAM
    guard = GUARDS.slots[seat.guard - 1]
    found = manifest.window_of(guard.manifest[:], page)
    if found.kind is WindowKind.RAM:
        seat.ram_identity = seat.identity
        seat.ram_base = found.base.raw
        seat.ram_size = found.size
    elif found.kind is WindowKind.MMIO and guard.mmio.enrolled and not _is_mapped(guard.mmio, iss, page):
        return WindowKind.NONE
    return found.kind


@holds(GUESTS_LOCK)
def _is_mapped(guard: MmioGuard, iss: AbortIss, page: Ipa) -> bool:
    """Whether the guest has mapped all that it accesses: what begins near the end of a page may end in the next."""
    last_byte = page.raw + (FAR_EL2.read() & (PAGE_SIZE - 1)) + (u64(1) << u64(iss.sas)) - 1
    return mmio_guard.is_mapped(guard, page.raw >> PAGE_SHIFT, last_byte >> PAGE_SHIFT)


@holds(GUESTS_LOCK)
def _is_hosts_turn(seat: Seat, page: Ipa) -> bool:
    """The usual case of a first touch, as `bring` would find it: the page is untouched, and the host has no frame there. For both the last tables are
    known."""
    guard = GUARDS.slots[seat.guard - 1]
    vm = vms.VMS.slots[guard.vm]
    if guard.phase is not Phase.PROTECTED or not near.is_known(seat, vm, page):
        return False
    return near.find(seat, page).descriptor.raw == 0 and near.is_vacant(seat, page)


def try_again(seat: Seat, places: Places, page: Ipa) -> None:
    """Before the guest goes on after the host was asked for a page: it mostly has one by now, and the guest needs no second fault."""
    seat.fault_again = u64(0)
    _serve_memory(seat, page, Access.READ)


def _finish(seat: Seat, places: Places, page: Ipa, instruction: bool, answer: Answer) -> u64:
    match answer.outcome:
        case Outcome.DONE:
            return GUEST_GOES_ON
        case Outcome.SHOWN:
            return show_memory(seat, places, page, answer.status)
        case Outcome.LATER:
            return EXIT_IRQ
        case Outcome.REFUSED:
            inject.external_abort_to_guest(instruction)
            return GUEST_GOES_ON
        case Outcome.STOPPED:
            return EXIT_ILLEGAL
    unreachable()


def show_memory(seat: Seat, places: Places, page: Ipa, status: u8) -> u64:
    """The host is asked for a frame at `page`: a data write without syndrome, which is never completed as MMIO."""
    seat.fault_again = page.raw + 1
    syndrome = Esr(ec=ExceptionClass.DATA_ABORT_LOWER.raw, il=True, iss=u32(AbortIss(fsc=status, wnr=True).raw))
    return stage.show_access(seat, places, syndrome, Expects.NOTHING, u64(0), u64(0), stage.page_register(page))


def _serve_device(seat: Seat, places: Places, iss: AbortIss, page: Ipa, instruction: bool) -> u64:
    """The address, the size and the one register of an access. What has no syndrome that tells these cannot be done, by nobody."""
    if instruction or iss.s1ptw or iss.cm or not iss.isv:
        inject.external_abort_to_guest(instruction)
        return GUEST_GOES_ON
    shown = AbortIss(
        fsc=TRANSLATION_FAULT | u8(3), wnr=iss.wnr, isv=True, sas=iss.sas, sse=iss.sse, srt=iss.srt, sf=iss.sf, ar=iss.ar
    )
    syndrome = Esr(ec=ExceptionClass.DATA_ABORT_LOWER.raw, il=True, iss=u32(shown.raw))
    address = FAR_EL2.read()
    answer_word(seat.own, OWN.fault_far, address)
    big_endian = byte_order.is_big_endian()
    answer_word(seat.own, BIG_ENDIAN, u64(1) if big_endian else u64(0))
    what, within = Expects.DONE if iss.wnr else Expects.READ, address & (PAGE_SIZE - 1)
    code = stage.show_access(seat, places, syndrome, what, u64(iss.srt), within, stage.page_register(page))
    if iss.wnr:
        stage.show_stored(seat, places, shown, big_endian)
    return code


def _serve_memory(seat: Seat, page: Ipa, access: Access) -> Answer:
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        return bring(seat, page, access)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def bring(seat: Seat, page: Ipa, access: Access) -> Answer:
    """Make the page at `page` of the seat's guest one that it can reach."""
    index = seat.guard - 1
    if GUARDS.slots[index].phase is not Phase.PROTECTED:
        return Answer(Outcome.STOPPED, u8(0))
    vm = vms.VMS.slots[GUARDS.slots[index].vm]
    known = near.is_known(seat, vm, page)
    found = near.find(seat, page) if known else steps.look(index, page)
    if not known and whole.is_block(found):
        # It was neither table nor block for a moment, on another CPU.
        return Answer(Outcome.DONE, u8(0))
    leaf = steps.leaf_of(found)
    if leaf is not None:
        return _look_again(index, page, leaf, access)
    absent = steps.absent_of(found)
    if absent.fate is Fate.HELD:
        private.reveal(index, page)
        return Answer(Outcome.DONE, u8(0))
    if absent.fate is Fate.MOVING:
        moved = moving.go_on(absent.content)
        if not isinstance(moved, Err) or moved is Err.BUSY:
            return Answer(Outcome.LATER, u8(0))
        return _failed(index, page, moved)
    walked = near.read(seat, vm, page) if known else _walk(seat, vm, page)
    if walked.descriptor == 0:
        return _shown(TRANSLATION_FAULT, walked.level)
    host = host_tables.leaf_of(walked, vm.table.wide)
    if not host.leaf.accessed and not (vm.table.hardware_access and host_tables.set_accessed(walked)):
        return Answer(Outcome.LATER, u8(0)) if vm.table.hardware_access else _shown(ACCESS_FLAG_FAULT, walked.level)
    if not host.leaf.write or not host.leaf.read:
        return _shown(PERMISSION_FAULT, walked.level)
    pa = Pa(host.output + (page.raw & (level_size(host.level) - 1)))
    admitted = private.admit(index, page, pa, found)
    if isinstance(admitted, Err):
        return _failed(index, page, admitted)
    return Answer(Outcome.DONE, u8(0))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _walk(seat: Seat, vm: Vm, page: Ipa) -> Walked:
    """What the host's table says of a page, which is known by a shorter way from then on."""
    walked = host_tables.walk(vm.table, page)
    near.remember(seat, vm, walked, page)
    return walked


@holds(GUESTS_LOCK)
def _look_again(index: u64, page: Ipa, leaf: Stage2Leaf, access: Access) -> Answer:
    """The page is there: another CPU was faster, or the guest has no right to what it does."""
    allowed = leaf.write if access is Access.WRITE else (not leaf.execute_never if access is Access.EXECUTE else leaf.read)
    if not allowed:
        return Answer(Outcome.REFUSED, u8(0))
    flush.stage2_address(vms.vttbr(GUARDS.slots[index].vm), page)
    return Answer(Outcome.DONE, u8(0))


def _shown(kind: u8, level: u64) -> Answer:
    return Answer(Outcome.SHOWN, kind | u8(level & 3))


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _failed(index: u64, page: Ipa, why: Err) -> Answer:
    """What cannot be done now is tried again; what was not the host's to give, or is not what it was given, ends the guest."""
    if why is Err.BUSY or (why is Err.NO_MEMORY and _make_room()):
        for _ in u64.range(PIECES):
            graveyard.work()
        return Answer(Outcome.LATER, u8(0))
    guard = GUARDS.slots[index]
    log(Level.WARNING, f"protected guest {guard.identity} is stopped: its page {page:#x} cannot come back ({why})")
    guards.stop(index)
    return Answer(Outcome.STOPPED, u8(0))


@holds(GUESTS_LOCK)
def _make_room() -> bool:
    """Whether tables come back by waiting: those of the graveyard, or of an ordinary VM, whose shadow goes there."""
    if not graveyard.is_empty():
        return True
    beyond = u64(0)
    for _ in u64.range(vms.LIMIT):
        candidate = vms.oldest(beyond)
        if candidate is None:
            return False
        if vms.VMS.slots[candidate].shadow.top != 0:
            dropped = shadow.drop_all(vms.VMS.slots[candidate].shadow)
            return not isinstance(dropped, Err) or dropped is Err.BUSY
        beyond = vms.VMS.slots[candidate].ticket
    return False
