# SPDX-License-Identifier: Apache-2.0
"""The virtual interrupt controller of a guest (GICv3, or GICv2 on a GICv3 that can): list registers and controls around a run, and the host's calls
that load and save the rest (KVM: hyp/vgic-v3-sr.c; Arm IHI 0069 chapter 12).

With a GICv2 host the kernel drives the virtual interface itself, by MMIO, and nothing here has anything to do.

What the host chose is bounded: as many list registers as there are, and of ICH_HCR_EL2 the fields that change only what the guest sees. No lock:
all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.gic import ICC_SRE_EL1, ICC_SRE_EL2, ICH_HCR_EL2, ICH_VMCR_EL2, ICH_VTR_EL2, IccSre
from delphyne.el2.arch.world import Places, answer_half, asked_half, list_registers_load, list_registers_save
from delphyne.el2.kvm.seats import Seat
from delphyne.lang import Domain, dsb, isb, merged, u64

ALLOWED: Final = u64(0x7DFF)
"""ICH_HCR_EL2: En, the maintenance interrupts' enables, vSGIEOICount, and the traps TC, TALL0, TALL1, TSEI and TDIR."""
TRAPS: Final = u64(1 << 10 | 1 << 11 | 1 << 12 | 1 << 14)
"""TC, TALL0, TALL1 and TDIR: accesses of the guest's that EL2 does in its place."""

FOR_EL1: Final = IccSre(sre=True, dfb=True, dib=True, enable=True)
NOT_FOR_EL1: Final = IccSre(sre=True, dfb=True, dib=True)
"""ICC_SRE_EL2: whether EL1 may change its own ICC_SRE_EL1."""


@merged
def enter(seat: Seat, places: Places) -> None:
    """The guest's controls and list registers, after the guest's HCR_EL2 is in use."""
    if not seat.abilities.gic:
        return
    modern = seat.asked.gic_sre != 0
    if not modern:
        # ICC_SRE_EL1 decides what ICH_VMCR_EL2.VFIQEn can be, and so comes first (IHI 0069, ICH_VMCR_EL2).
        ICC_SRE_EL1.write(IccSre())
        isb()
        ICH_VMCR_EL2.write(asked_half(seat.at, places.gic_vmcr))
    ICC_SRE_EL2.write(NOT_FOR_EL1)
    count = used(seat)
    if is_driven(seat):
        ICH_HCR_EL2.write(seat.asked.gic_hcr & ALLOWED)
        if count != 0:
            list_registers_load(seat.at + places.list_registers, count)
    if not modern:
        isb()
        dsb(Domain.SY)


@merged
def leave(seat: Seat, places: Places) -> None:
    """The guest's list registers and VMCR, back to where the host reads them; nothing of the guest stays in use."""
    if not seat.abilities.gic:
        return
    modern = seat.asked.gic_sre != 0
    if not modern:
        dsb(Domain.SY)
        isb()
    if is_driven(seat):
        ICH_HCR_EL2.write(u64(0))
        count = used(seat)
        if count != 0:
            list_registers_save(seat.at + places.list_registers, count)
    if not modern:
        answer_half(seat.at, places.gic_vmcr, ICH_VMCR_EL2.read())
    ICC_SRE_EL2.write(FOR_EL1)
    if not modern:
        isb()
        ICC_SRE_EL1.write(IccSre(sre=True))


def used(seat: Seat) -> u64:
    """How many list registers the host has filled: no more than there are."""
    wanted = seat.asked.used_lrs
    return wanted if wanted == 0 else min(wanted, u64(ICH_VTR_EL2.read().list_registers) + 1)


def is_driven(seat: Seat) -> bool:
    """Whether the virtual interface is switched on for this run: for interrupts in list registers, for those that a GICv4 delivers itself, or
    for traps of the guest's accesses. Asked on a GICv3 only."""
    return seat.asked.used_lrs != 0 or seat.asked.its_vm != 0 or seat.asked.gic_hcr & TRAPS != 0


def is_trapped(seat: Seat) -> bool:
    """Whether EL2 does accesses of the guest's in its place. Never on a GICv2, which has no such registers: there the kernel has words of that one's
    where a GICv3's are (`struct vgic_cpu`), and 6.12 sets these bits in them (arch/arm64/kvm/vgic/vgic-v3.c, vcpu_set_ich_hcr)."""
    return seat.abilities.gic and seat.asked.gic_hcr & TRAPS != 0
