# SPDX-License-Identifier: Apache-2.0
"""The host's `kvm_vcpu` of a protected guest: a stage on which is shown what an exit needs, and nothing else (DESIGN.md 7, the table of exits).

Program counter and PSTATE there are nobody's: EL1h, so that the host emulates for a privileged, little-endian guest. A device's bytes that the guest
has in the other order are turned round here. No lock: the vCPU is claimed.
"""

from __future__ import annotations

from delphyne.el2.arch import byte_order
from delphyne.el2.arch.exception import AbortIss, Esr, ExceptionClass
from delphyne.el2.arch.world import Places, answer, answer_fault, answer_word
from delphyne.el2.guest import registers
from delphyne.el2.guest.registers import Expects
from delphyne.el2.kvm.exit_codes import EXIT_TRAP
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import Ipa, u64


def show_nothing(seat: Seat, places: Places, syndrome: Esr) -> None:
    """A syndrome alone."""
    answer(seat.at, places, u64(0), registers.RESET_PSTATE)
    answer_fault(seat.at, places, syndrome.raw, u64(0), u64(0))


def show_general(seat: Seat, places: Places, number: u64) -> None:
    """One general register, by its number in a syndrome."""
    if number < 31:
        answer_word(seat.at, places.regs + number * 8, registers.general(seat.own, number))


def show(seat: Seat, places: Places, syndrome: Esr, what: Expects, target: u64) -> u64:
    """An exit for an instruction that the host is to do; the code of it."""
    return show_access(seat, places, syndrome, what, target, u64(0), u64(0))


def show_access(seat: Seat, places: Places, syndrome: Esr, what: Expects, target: u64, offset: u64, page: u64) -> u64:
    """The same, with the offset in the page, and the page as HPFAR_EL2 has it. ASKED says which access to memory it was."""
    answer(seat.at, places, u64(0), registers.RESET_PSTATE)
    answer_fault(seat.at, places, syndrome.raw, offset, page)
    memory = syndrome.ec == ExceptionClass.DATA_ABORT_LOWER.raw
    answer_word(seat.own, registers.ASKED, u64(syndrome.iss) if memory else u64(0))
    registers.expect(seat.own, what, target)
    return EXIT_TRAP


def show_stored(seat: Seat, places: Places, access: AbortIss, big_endian: bool) -> None:
    """To what `show_access` showed: what is stored, in little-endian order, and no more of its register than that."""
    if access.srt < 31:
        stored = _ordered(registers.general(seat.own, u64(access.srt)), access, big_endian)
        answer_word(seat.at, places.regs + u64(access.srt) * 8, stored)


def loaded(x: u64, access: AbortIss, big_endian: bool) -> u64:
    """What a load of this access leaves in its register, where the host gives `x`: a device has no say in the bits beyond the size (Arm ARM D24.2.40,
    ISS for Data Abort)."""
    part = _ordered(x, access, big_endian)
    if not access.sse or part >> ((u64(8) << u64(access.sas)) - 1) == 0:
        return part
    signed = part | ~_accessed(u64.MAX, access)
    return signed if access.sf else signed & 0xFFFF_FFFF


def _ordered(x: u64, access: AbortIss, big_endian: bool) -> u64:
    return byte_order.swapped(x, u64(access.sas)) if big_endian else _accessed(x, access)


def _accessed(x: u64, access: AbortIss) -> u64:
    return x & (u64.MAX >> (64 - (u64(8) << u64(access.sas))))


def clear(seat: Seat, places: Places) -> None:
    """Nothing is left there of what the guest was before it was protected."""
    for number in u64.range(34):
        answer_word(seat.at, places.regs + number * 8, u64(0))
    show_nothing(seat, places, Esr())


def page_register(page: Ipa) -> u64:
    """HPFAR_EL2 for a page (Arm ARM D24.2)."""
    return page.raw >> 8
