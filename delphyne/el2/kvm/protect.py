# SPDX-License-Identifier: Apache-2.0
"""How an ordinary guest becomes a protected one, by its own calls: BEGIN, MEASURE, COMMIT (docs/guest-abi.md; DESIGN.md 7).

The caller is a stub that runs from the host's pages, and is not believed: what counts is EL2's copy of the manifest, and the pages that it names.
While pages are measured the stub's own are leaves of single pages, all of them in a short list, so that they can be taken away before a frame is.

Each call is a bounded piece. What has to wait for the host leaves the guest before its HVC. Locks: `frames.LOCK`, HOST_LOCK, GUESTS_LOCK, in this
order.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import ELR_EL2, TRANSLATION_FAULT, AbortIss, Esr, ExceptionClass
from delphyne.el2.arch.pagetable import PAGE_SIZE, level_size
from delphyne.el2.arch.world import Places, answer_fault, answer_word, asked_word
from delphyne.el2.guest import abi, ending, guards, lent, manifest, measurement, measuring, private, processors, registers, turns, vcpus, vms
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.kvm import guest_random, host_tables, seats, stage
from delphyne.el2.kvm.exit_codes import COMMITTED, EXIT_IRQ, EXIT_TRAP, GUEST_GOES_ON
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import engine, entropy, generator
from delphyne.lang import Array, Hostile, Ipa, Order, Pa, cold, holds, u8, u32, u64, wipe, wrap_sub

PAGES: Final = u64(4)
"""Pages that one call measures at most, in its turn (`turns`): 17,000 instructions for one that is the first to leave its block of the host's, 10,000
for others. Without the crypto extensions it is a piece of one (`measuring`)."""
PIECES: Final = u64(16)
FIRST: Final = abi.STATUS
LAST: Final = u64(0xC600_DE0F)
"""Delphyne's own range of functions."""
KEY_BYTES: Final = u64(32)


def is_call(seat: Seat, places: Places) -> bool:
    """Whether an ordinary guest's HVC is one of Delphyne's own calls."""
    function = asked_word(seat.at, places.regs)
    return FIRST <= function <= LAST


@cold
def serve(seat: Seat, places: Places) -> u64:
    """Such a call of a guest that is not protected yet: the code of an exit, or GUEST_GOES_ON."""
    function = asked_word(seat.at, places.regs)
    if function == abi.STATUS:
        answer_word(seat.at, places.regs + 8, abi.VERSION)
        answer_word(seat.at, places.regs + 16, guest_random.status())
        return _answer(seat, places, abi.SUCCESS)
    if function == abi.PROTECT_BEGIN:
        return _finish(seat, places, _begin(seat, places, asked_word(seat.at, places.regs + 8)))
    if seat.guard == 0:
        known = function == abi.PROTECT_MEASURE or function == abi.PROTECT_COMMIT
        return _answer(seat, places, abi.DENIED if known else abi.NOT_SUPPORTED)
    if function == abi.PROTECT_MEASURE:
        return _finish(seat, places, _measure(seat, places))
    if function == abi.PROTECT_COMMIT:
        return _commit(seat, places)
    return _answer(seat, places, abi.NOT_SUPPORTED)


def _answer(seat: Seat, places: Places, x: u64) -> u64:
    answer_word(seat.at, places.regs, x)
    return GUEST_GOES_ON


def _finish(seat: Seat, places: Places, result: u64 | Err) -> u64:
    """A result for the guest; or it makes the call again, at once after the host had its interrupts (BUSY), or after the host was asked for a page
    (NOT_FOUND: its syndrome is written already)."""
    if not isinstance(result, Err):
        return _answer(seat, places, result)
    match result:
        case Err.BUSY:
            ELR_EL2.write(wrap_sub(ELR_EL2.read(), 4))
            return EXIT_IRQ
        case Err.NOT_FOUND:
            ELR_EL2.write(wrap_sub(ELR_EL2.read(), 4))
            return EXIT_TRAP
        case Err.INVALID | Err.MALFORMED | Err.RANGE | Err.ALIGNMENT:
            return _answer(seat, places, abi.INVALID)
        case Err.NO_MEMORY:
            return _answer(seat, places, abi.NO_MEMORY)
        case _:
            return _answer(seat, places, abi.DENIED)


def _ask_host(seat: Seat, places: Places, page: Ipa, level: u64) -> Err:
    """The host is to provide a frame that may be written."""
    syndrome = Esr(ec=ExceptionClass.DATA_ABORT_LOWER.raw, il=True, iss=u32(AbortIss(fsc=TRANSLATION_FAULT | u8(level & 3), wnr=True).raw))
    answer_fault(seat.at, places, syndrome.raw, u64(0), stage.page_register(page))
    return Err.NOT_FOUND


def _begin(seat: Seat, places: Places, address: u64) -> u64 | Err:
    """Errors for `_finish`: STATE where the guest may not become protected now."""
    if seat.guard != 0 or not entropy.SOURCES.development:
        return Err.STATE
    if address % PAGE_SIZE != 0 or address >= abi.ADDRESS_LIMIT:
        return Err.INVALID
    material = Array[u8, 32]()
    drawn = generator.fill(CPUS.mine().simd, material[:])
    if isinstance(drawn, Err):
        return drawn
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        begun = _begin_held(seat, places, Ipa(address))
        if not isinstance(begun, Err):
            engine.expand(GUARDS.slots[begun].key, material[:])
            seats.renew(seat)
            seat.guard = begun + 1
            seat.identity = GUARDS.slots[begun].identity
            seat.prefill = u64(0)
            seat.mmio_page = u64(0)
            seat.near_block = u64(0)
    wipe(material)
    return begun if isinstance(begun, Err) else abi.SUCCESS


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _begin_held(seat: Seat, places: Places, address: Ipa) -> u64 | Err:
    """The number of the guard."""
    vm = vms.VMS.slots[seat.vm]
    found = host_tables.walk(vm.table, address)
    if found.descriptor == 0:
        return _ask_host(seat, places, address, found.level)
    if not vcpus.forget_others(seat.vm, seat.index):
        return Err.STATE
    dropped = shadow.drop_all(vm.shadow)
    if isinstance(dropped, Err):
        for _ in u64.range(PIECES):
            graveyard.work()
        return dropped
    made = guards.create(seat.vm)
    if isinstance(made, Err):
        return made
    processor = processors.create(made, asked_word(seat.at, places.mpidr))
    if isinstance(processor, Err):
        guards.destroy(made)
        return processor
    processors.PROCESSORS[processor].address = seat.address
    host = host_tables.leaf_of(found, vm.table.wide)
    copied = _copy_manifest(made, Pa(host.output + (address.raw & (level_size(host.level) - 1))))
    if isinstance(copied, Err):
        processors.destroy_all(made)
        guards.destroy(made)
        return copied
    seat.processor = processor
    return made


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _copy_manifest(index: u64, at: Pa) -> None | Err:
    """EL2's own copy, which alone is looked at from here on. Err.OWNER where the frame is not the host's; errors of `manifest.check`."""
    if not frames.is_hosts(at):
        return Err.OWNER
    copy = GUARDS.slots[index].manifest
    if not Hostile(at, PAGE_SIZE).copy_in(copy[:], u64(0)):
        return Err.RANGE
    return manifest.check(copy[:])


@cold
def _measure(seat: Seat, places: Places) -> u64 | Err:
    """0 where all is measured, 1 where the guest is to call again. Err.INTEGRITY where a segment is not what the manifest says."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = seat.guard - 1
        guard = GUARDS.slots[index]
        if guard.phase is Phase.STOPPED:
            lent.drop_all(index)
            if not vcpus.forget_others(seat.vm, seat.index) or not ending.end_some(index):
                return Err.BUSY
            seats.renew(seat)
            seat.guard = u64(0)
            return Err.INTEGRITY
        if not turns.is_mine():
            return Err.BUSY
        measured = _measure_some(seat, places, index)
        if engine.is_quick():
            turns.over()
        return measured


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _measure_some(seat: Seat, places: Places, index: u64) -> u64 | Err:
    """The next pages, or a piece of one."""
    for _ in u64.range(PAGES if engine.is_quick() else u64(1)):
        if measuring.is_over(index):
            return u64(0)
        if GUARDS.slots[index].measured == 0:
            taken = _take_next(seat, places, index)
            if isinstance(taken, Err):
                return _failed(taken)
        if isinstance(measuring.go_on(index), Err):
            return Err.BUSY
    return u64(1)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _failed(why: Err) -> Err:
    """A page was not taken: the next try finds some of what is lacking."""
    if why is Err.BUSY or why is Err.NO_MEMORY:
        for _ in u64.range(PIECES):
            graveyard.work()
    return why


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _take_next(seat: Seat, places: Places, index: u64) -> None | Err:
    """The page that is measured next is HELD: the frame that the host's table leads to."""
    guard = GUARDS.slots[index]
    page = measuring.next_page(index)
    vm = vms.VMS.slots[seat.vm]
    found = host_tables.walk(vm.table, page)
    host = host_tables.leaf_of(found, vm.table.wide)
    if found.descriptor == 0 or not host.leaf.write:
        return _ask_host(seat, places, page, found.level)
    lent.drop_all(index)
    pa = Pa(host.output + (page.raw & (level_size(host.level) - 1)))
    return private.hold(index, page, pa, manifest.segment(guard.manifest[:], guard.segment).rights)


@cold
def _commit(seat: Seat, places: Places) -> u64:
    """The guest begins anew, protected: what it was is forgotten. It does not come back to its caller, but where something is missing."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = seat.guard - 1
        guard = GUARDS.slots[index]
        if guard.phase is not Phase.MEASURING or not measuring.is_over(index):
            return _answer(seat, places, abi.DENIED)
        if not measuring.is_turn():
            return _finish(seat, places, Err.BUSY)
        lent.drop_all(index)
        measurement.take(CPUS.mine().simd, guard.manifest[:], guard.measurement[:])
        if not engine.is_quick():
            turns.over()
        processors.PROCESSORS[seat.processor].power = processors.Power.STARTING
        processors.PROCESSORS[seat.processor].entry = manifest.entry(guard.manifest[:]).raw
        processors.PROCESSORS[seat.processor].context = manifest.tree(guard.manifest[:]).raw
        processors.PROCESSORS[seat.processor].big_endian = False
        guard.phase = Phase.PROTECTED
        guard.committed = True
        guards.ALIVE[index].store(guard.identity, Order.RELEASE)
    return COMMITTED


@cold
def enter(seat: Seat, places: Places) -> u64:
    """After the run that ended in COMMIT: the next one is the guest's first. What the host has of the guest's registers is cleared."""
    seats.renew(seat)
    seat.own = registers.base_of(seat.processor)
    stage.clear(seat, places)
    return EXIT_IRQ
