# SPDX-License-Identifier: Apache-2.0
"""The host's calls that keep a vCPU's active priorities and VMCR while it runs on no CPU (KVM: hyp/vgic-v3-sr.c, __vgic_v3_save_aprs and others).

The address is that of struct vgic_v3_cpu_if, inside a `kvm_vcpu`. Most often it is that of the vCPU that this CPU ran last, whose frames are
pinned; else the frames are looked at, and stay the host's until all is written.

Lock: `frames.LOCK` where frames are looked at.
"""

from __future__ import annotations

from delphyne.el2.arch import gic
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.gic import ICH_VMCR_EL2
from delphyne.el2.arch.world import Places, answer_half, asked_half
from delphyne.el2.guest import vcpus
from delphyne.el2.kvm import host_memory
from delphyne.el2.kvm.layout import Layout
from delphyne.el2.kvm.names import Subject
from delphyne.el2.kvm.seats import SEATS
from delphyne.el2.memory import frames
from delphyne.lang import Pa, apart, u32, u64


def save(found: Layout, places: Places, address: u64, with_vmcr: bool) -> u64 | Err:
    """Priorities, and VMCR where the call is 6.12's, into the structure at `address`. Errors of `host_memory.object_at`."""
    seat = SEATS.mine()
    if not seat.abilities.gic:
        return u64(0)
    if address == seat.address + places.gic and vcpus.claim(seat.index, seat.word, CPUS.mine().index):
        _save(seat.at, places, with_vmcr)
        vcpus.release(seat.index, seat.word)
        return u64(0)
    return _save_elsewhere(found, places, address, with_vmcr)


@apart
def _save_elsewhere(found: Layout, places: Places, address: u64, with_vmcr: bool) -> u64 | Err:
    with frames.LOCK:
        at = host_memory.object_at(address, u64(found.sizes[u64(Subject.VGIC.raw)]), True)
        if isinstance(at, Err):
            return at
        if at.raw < places.gic:
            return Err.RANGE
        _save(Pa(at.raw - places.gic), places, with_vmcr)
    return u64(0)


def restore(found: Layout, places: Places, address: u64, with_vmcr: bool) -> u64 | Err:
    """The other way."""
    seat = SEATS.mine()
    if not seat.abilities.gic:
        return u64(0)
    if address == seat.address + places.gic and vcpus.claim(seat.index, seat.word, CPUS.mine().index):
        _restore(seat.at, places, with_vmcr)
        vcpus.release(seat.index, seat.word)
        return u64(0)
    return _restore_elsewhere(found, places, address, with_vmcr)


@apart
def _restore_elsewhere(found: Layout, places: Places, address: u64, with_vmcr: bool) -> u64 | Err:
    with frames.LOCK:
        at = host_memory.object_at(address, u64(found.sizes[u64(Subject.VGIC.raw)]), False)
        if isinstance(at, Err):
            return at
        if at.raw < places.gic:
            return Err.RANGE
        _restore(Pa(at.raw - places.gic), places, with_vmcr)
    return u64(0)


def _save(base: Pa, places: Places, with_vmcr: bool) -> None:
    if with_vmcr and asked_half(base, places.gic_sre) != 0:
        answer_half(base, places.gic_vmcr, ICH_VMCR_EL2.read())
    answer_half(base, places.gic_ap0r, gic.ICH_AP0R0_EL2.read())
    answer_half(base, places.gic_ap1r, gic.ICH_AP1R0_EL2.read())
    if gic.priority_register_count() != 1:
        _save_more(base, places)


@apart
def _save_more(base: Pa, places: Places) -> None:
    """The other registers of a CPU with more than 32 levels of preemption."""
    for number in u64.range(1, gic.priority_register_count()):
        answer_half(base, places.gic_ap0r + number * 4, u64(gic.read_priorities(False, number)))
        answer_half(base, places.gic_ap1r + number * 4, u64(gic.read_priorities(True, number)))


def _restore(base: Pa, places: Places, with_vmcr: bool) -> None:
    if with_vmcr and asked_half(base, places.gic_sre) != 0:
        ICH_VMCR_EL2.write(asked_half(base, places.gic_vmcr))
    gic.ICH_AP0R0_EL2.write(asked_half(base, places.gic_ap0r))
    gic.ICH_AP1R0_EL2.write(asked_half(base, places.gic_ap1r))
    if gic.priority_register_count() != 1:
        _restore_more(base, places)


@apart
def _restore_more(base: Pa, places: Places) -> None:
    """The other way."""
    for number in u64.range(1, gic.priority_register_count()):
        gic.write_priorities(False, number, u32.wrap(asked_half(base, places.gic_ap0r + number * 4)))
        gic.write_priorities(True, number, u32.wrap(asked_half(base, places.gic_ap1r + number * 4)))
