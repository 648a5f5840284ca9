# SPDX-License-Identifier: Apache-2.0
"""What a protected guest asks for by HVC or SMC (docs/guest-abi.md): answered here, passed to the host, or NOT_SUPPORTED.

The host hears of PSCI alone, with x0 to x3. Every argument is the guest's: an address is looked at only where a window has it.

Locks: `frames.LOCK`, HOST_LOCK, GUESTS_LOCK, in this order, for calls about pages; GUESTS_LOCK for CPUs and for the MMIO guard; `drbg.LOCK`
for random bytes.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import byte_order, psci
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import ELR_EL2, Esr, ExceptionClass
from delphyne.el2.arch.pagetable import PAGE_SHIFT, PAGE_SIZE
from delphyne.el2.arch.world import Places
from delphyne.el2.guest import abi, manifest, mmio_guard, private, processors, registers, steps, turns
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.manifest import WindowKind
from delphyne.el2.guest.registers import Expects
from delphyne.el2.guest.steps import Fate
from delphyne.el2.kvm import guest_features, guest_random, protected_end, protected_faults, stage
from delphyne.el2.kvm.exit_codes import EXIT_ILLEGAL, EXIT_IRQ, GUEST_GOES_ON
from delphyne.el2.kvm.faults import Access
from delphyne.el2.kvm.protected_faults import Outcome
from delphyne.el2.kvm.seats import Seat
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.sealing import engine
from delphyne.lang import Ipa, apart, holds, load_le64, u8, u64, wrap_sub

SHARES: Final = u64(3)
"""Pages that one call shares or unshares at most, in its turn (`turns`); the guest calls again for the rest. Each may have to be imported first, by
some 18,400 instructions, 26,300 with the first page that leaves a block of the host's, since a page that the host only touched is exported and still
in its table. One out of turn, and where that is done in pieces."""
PSCI_LAST: Final = u64(0x1F)
"""PSCI's functions are numbered from 0 to this."""
PSCI_32: Final = u64(0x8400_0000)
PSCI_64: Final = u64(0xC400_0000)
CPU_OFF: Final = u64(2)
CPU_ON: Final = u64(3)
SYSTEM_OFF: Final = u64(8)
SYSTEM_RESET: Final = u64(9)
SYSTEM_SUSPEND: Final = u64(14)
SYSTEM_RESET2: Final = u64(18)
ALREADY_ON: Final = u64(0xFFFF_FFFF_FFFF_FFFC)
INTERNAL_FAILURE: Final = u64(0xFFFF_FFFF_FFFF_FFFA)
CALL_SYNDROME: Final = Esr(ec=ExceptionClass.HVC64.raw, il=True)


@apart
def serve(seat: Seat, places: Places) -> u64:
    """The call that the guest's general registers hold; the code of an exit, or GUEST_GOES_ON. The guest is behind its instruction already."""
    function = registers.general(seat.own, u64(0)) & 0xFFFF_FFFF
    if function & ~PSCI_LAST == PSCI_32 or function & ~PSCI_LAST == PSCI_64:
        return _serve_power(seat, places, function & PSCI_LAST)
    if function == abi.MEM_SHARE or function == abi.MEM_UNSHARE or function == abi.RELINQUISH:
        return _serve_page(seat, places, function)
    if function == abi.SHARE_RANGE or function == abi.UNSHARE_RANGE:
        return _serve_range(seat, places, function)
    if function == abi.MMIO_GUARD_ENROLL or function == abi.MMIO_GUARD_MAP or function == abi.MMIO_GUARD_UNMAP:
        _answer(seat, _guard_devices(seat, function))
        return GUEST_GOES_ON
    if function == abi.TRNG_RND32 or function == abi.TRNG_RND64:
        guest_random.serve(seat, function == abi.TRNG_RND64)
    else:
        _answer(seat, _describe(seat, function))
    return GUEST_GOES_ON


def _describe(seat: Seat, function: u64) -> u64:
    """Calls that only tell, or change nothing. The result for x0; what else they say is in x1 to x4 by then."""
    if function == abi.SMCCC_VERSION:
        return abi.SMCCC_1_1
    if function == psci.SMCCC_ARCH_FEATURES:
        return guest_features.feature(registers.general(seat.own, u64(1)))
    if function == psci.SMCCC_ARCH_WORKAROUND_1 or function == psci.SMCCC_ARCH_WORKAROUND_3:
        return guest_features.call(function)
    if function == abi.VENDOR_UID:
        _answer_four(seat, abi.UID0, abi.UID1, abi.UID2, abi.UID3)
        return abi.UID0
    if function == abi.FEATURES:
        _answer_four(seat, abi.FEATURE_BITS, u64(0), u64(0), u64(0))
        return abi.FEATURE_BITS
    if function == abi.MEMINFO or function == abi.MMIO_GUARD_INFO:
        unused = registers.general(seat.own, u64(1)) | registers.general(seat.own, u64(2)) | registers.general(seat.own, u64(3))
        return PAGE_SIZE if unused == 0 else abi.INVALID
    if function == abi.STATUS:
        registers.put_general(seat.own, u64(1), abi.VERSION)
        registers.put_general(seat.own, u64(2), guest_random.status() | 1)
        return abi.SUCCESS
    if function == abi.MEASUREMENT:
        with GUESTS_LOCK:
            for number in u64.range(4):
                word = load_le64(GUARDS.slots[seat.guard - 1].measurement[:], number * 8)
                registers.put_general(seat.own, number + 1, word)
        return abi.SUCCESS
    if function == abi.PROTECT_BEGIN or function == abi.PROTECT_MEASURE or function == abi.PROTECT_COMMIT:
        return abi.DENIED
    return guest_random.describe(seat, function)


def _guard_devices(seat: Seat, function: u64) -> u64:
    """MMIO_GUARD_ENROLL, and MMIO_GUARD_MAP and UNMAP of the page at x1. The result for x0."""
    address = registers.general(seat.own, u64(1))
    with GUESTS_LOCK:
        guard = GUARDS.slots[seat.guard - 1]
        if function == abi.MMIO_GUARD_ENROLL:
            mmio_guard.enroll(guard.mmio)
            return abi.SUCCESS
        if _window_held(seat, address) is not WindowKind.MMIO:
            return abi.INVALID
        page = address >> PAGE_SHIFT
        done = mmio_guard.map_page(guard.mmio, page) if function == abi.MMIO_GUARD_MAP else mmio_guard.unmap_page(guard.mmio, page)
    return abi.INVALID if isinstance(done, Err) else abi.SUCCESS


def _answer(seat: Seat, x: u64) -> None:
    registers.put_general(seat.own, u64(0), x)


def _answer_four(seat: Seat, x0: u64, x1: u64, x2: u64, x3: u64) -> None:
    registers.put_general(seat.own, u64(0), x0)
    registers.put_general(seat.own, u64(1), x1)
    registers.put_general(seat.own, u64(2), x2)
    registers.put_general(seat.own, u64(3), x3)


def _window(seat: Seat, address: u64) -> WindowKind:
    """In which window a page lies; NONE for what is no page."""
    with GUESTS_LOCK:
        return _window_held(seat, address)


@holds(GUESTS_LOCK)
def _window_held(seat: Seat, address: u64) -> WindowKind:
    if address % PAGE_SIZE != 0 or address >= abi.ADDRESS_LIMIT:
        return WindowKind.NONE
    return manifest.kind_of(GUARDS.slots[seat.guard - 1].manifest[:], Ipa(address))


def _serve_page(seat: Seat, places: Places, function: u64) -> u64:
    """MEM_SHARE, MEM_UNSHARE, RELINQUISH: one page at x1; x2 and x3 are zero."""
    address = registers.general(seat.own, u64(1))
    unused = registers.general(seat.own, u64(2)) | registers.general(seat.own, u64(3))
    if unused != 0 or _window(seat, address) is not WindowKind.RAM:
        _answer(seat, abi.INVALID)
        return GUEST_GOES_ON
    done = _do(seat, Ipa(address), function)
    if done.outcome is Outcome.DONE or done.outcome is Outcome.REFUSED:
        _answer(seat, abi.SUCCESS if done.outcome is Outcome.DONE else abi.INVALID)
        return GUEST_GOES_ON
    return _wait(seat, places, Ipa(address), done)


def _serve_range(seat: Seat, places: Places, function: u64) -> u64:
    """SHARE_RANGE, UNSHARE_RANGE: x2 pages from x1. As many of them as one stay is for; none where the first is refused."""
    address = registers.general(seat.own, u64(1))
    count = registers.general(seat.own, u64(2))
    one = abi.MEM_SHARE if function == abi.SHARE_RANGE else abi.MEM_UNSHARE
    answer = protected_faults.Answer(Outcome.DONE, u8(0))
    done = u64(0)
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        is_piece = count > 1 and engine.is_quick() and turns.is_mine()
        most = min(count, SHARES if is_piece else u64(1))
        while done < most and _window_held(seat, address) is WindowKind.RAM:
            answer = _do_held(seat, Ipa(address), one)
            if answer.outcome is not Outcome.DONE:
                break
            done += 1
            address += PAGE_SIZE
        if is_piece:
            turns.over()
    if done == 0 and answer.outcome is not Outcome.DONE and answer.outcome is not Outcome.REFUSED:
        return _wait(seat, places, Ipa(address), answer)
    registers.put_general(seat.own, u64(1), done)
    _answer(seat, abi.SUCCESS if done != 0 or count == 0 else abi.INVALID)
    return GUEST_GOES_ON


def _wait(seat: Seat, places: Places, page: Ipa, why: protected_faults.Answer) -> u64:
    """The page has to come back first, or something is under way: the guest makes its call again."""
    ELR_EL2.write(wrap_sub(ELR_EL2.read(), 4))
    if why.outcome is Outcome.SHOWN:
        return protected_faults.show_memory(seat, places, page, why.status)
    return EXIT_IRQ if why.outcome is Outcome.LATER else EXIT_ILLEGAL


def _do(seat: Seat, page: Ipa, function: u64) -> protected_faults.Answer:
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        return _do_held(seat, page, function)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _do_held(seat: Seat, page: Ipa, function: u64) -> protected_faults.Answer:
    """DONE, or REFUSED; others as `protected_faults.bring` for a page that has to come back before it can be shared."""
    index = seat.guard - 1
    if function == abi.RELINQUISH:
        private.give_up(index, page)
        return protected_faults.Answer(Outcome.DONE, u8(0))
    absent = steps.absent_of(steps.find(index, page))
    if function == abi.MEM_SHARE and absent.fate is not Fate.UNTOUCHED and absent.fate is not Fate.LENT:
        if absent.fate is not Fate.MOVING and private.is_clean(absent):
            return protected_faults.Answer(Outcome.REFUSED, u8(0))
        brought = protected_faults.bring(seat, page, Access.WRITE)
        if brought.outcome is not Outcome.DONE:
            return brought
    result = private.share(index, page) if function == abi.MEM_SHARE else private.unshare(index, page)
    return protected_faults.Answer(Outcome.REFUSED if isinstance(result, Err) else Outcome.DONE, u8(0))


def _serve_power(seat: Seat, places: Places, number: u64) -> u64:
    """PSCI (DEN0022): what the host does for the guest. Where a CPU begins is EL2's to know."""
    what = Expects.CALL
    target = u64(0)
    if number == CPU_ON:
        with GUESTS_LOCK:
            turned = processors.turn_on(
                seat.guard - 1, registers.general(seat.own, u64(1)), registers.general(seat.own, u64(2)), registers.general(seat.own, u64(3)),
                byte_order.is_big_endian(),
            )  # fmt: skip
        if isinstance(turned, Err):
            _answer(seat, ALREADY_ON if turned is Err.EXISTS else INTERNAL_FAILURE)
            return GUEST_GOES_ON
        what = Expects.POWER_ON
        target = turned
    elif number == CPU_OFF:
        with GUESTS_LOCK:
            processors.turn_off(seat.processor)
        what = Expects.NOTHING
    elif number == SYSTEM_OFF or number == SYSTEM_RESET or number == SYSTEM_RESET2:
        return protected_end.begin(seat)
    elif number == SYSTEM_SUSPEND:
        _answer(seat, abi.NOT_SUPPORTED)
        return GUEST_GOES_ON
    return pass_on(seat, places, what, target)


def pass_on(seat: Seat, places: Places, what: Expects, target: u64) -> u64:
    """The host serves the call: function and arguments are shown."""
    code = stage.show(seat, places, CALL_SYNDROME, what, target)
    for number in u64.range(4):
        stage.show_general(seat, places, number)
    return code
