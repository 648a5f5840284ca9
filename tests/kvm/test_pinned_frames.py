# SPDX-License-Identifier: Apache-2.0
"""What EL2 writes to for its host stays the host's as long as it may be written: no frame of a vCPU's structures is given to a protected guest
(catalogue line H33)."""

from __future__ import annotations

import pytest
from guests_world import PAGE, a_world

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import vcpus
from delphyne.el2.kvm import seats
from delphyne.el2.kvm.names import Field, Subject
from delphyne.el2.memory import frames
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Ipa, Pa, u16, u64

VECTOR = 32
"""Bytes of the guest's SVE vectors: its registers take up two frames where they begin at the end of one."""


def donate(pa: int) -> Err | None:
    """The first step of giving a frame to a protected guest."""
    with frames.LOCK:
        taken = frames.take(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000)))
        if not isinstance(taken, Err):
            assert frames.release(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None
    return taken


def frames_of(at: int, size: int) -> list[int]:
    return list(range(at & ~(PAGE - 1), at + size, PAGE))


@pytest.mark.parametrize("claimed", [True, False])
def test_no_frame_that_el2_writes_for_a_vcpu_can_be_given_away(claimed: bool) -> None:
    """Its kvm_vcpu with the list registers, its SVE registers and its kvm_s2_mmu; from its first run until EL2 forgets it, runs it or not."""
    with a_world() as world:
        vm = world.new_vm(2)
        vectors = world.allocate(2) + PAGE - 64
        world.write(world.at(vm.vcpus[0], Field.VCPU_SVE_STATE), vectors)
        world.machine.memory.write(world.at(vm.vcpus[0], Field.VCPU_SVE_MAX_VL), VECTOR.to_bytes(4, "little"))
        written = [
            *frames_of(vm.vcpus[0], int(world.layout.sizes[Subject.VCPU.value])), *frames_of(vectors, VECTOR * 32 + VECTOR // 8 * 17),
            *frames_of(vm.mmu, int(world.layout.sizes[Subject.MMU.value])),
        ]  # fmt: skip
        assert len(written) == 4
        assert [donate(frame) for frame in written] == [None] * 4, "nobody ran it yet"
        seat = world.sit(vm)
        if claimed:
            assert vcpus.claim(seat.index, seat.word, u64(0))
        assert [donate(frame) for frame in written] == [Err.BUSY] * 4
        assert donate(vm.vcpus[1]) is None, "this one never ran"
        assert donate(written[0] + 100 * PAGE) is None
        with frames.LOCK, GUESTS_LOCK:
            assert vcpus.forget(seat.index) is not claimed
        assert [donate(frame) for frame in written[:3]] == [Err.BUSY if claimed else None] * 3
        if claimed:
            vcpus.release(seat.index, seat.word)


@pytest.mark.parametrize("shared", [False, True])
def test_a_vcpu_whose_frames_are_a_guests_does_not_run(shared: bool) -> None:
    """The other way: what was given away first is no structure of a vCPU's, at its first run nor later, shared with the host or not."""
    with a_world() as world:
        vm = world.new_vm(1)
        seat = seats.SEATS.mine()
        for owned in (vm.vcpus[0], vm.mmu):
            give(owned, shared)
            assert seats.sit(world.layout, seat, u64(vm.vcpus[0])) in (Err.OWNER, Err.RANGE)
            take_back(owned, shared)
        assert seats.sit(world.layout, seat, u64(vm.vcpus[0])) is None


def give(pa: int, shared: bool) -> None:
    with frames.LOCK:
        assert frames.take(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None
        assert frames.settle(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None
        assert not shared or frames.share(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None


def take_back(pa: int, shared: bool) -> None:
    with frames.LOCK:
        assert not shared or frames.unshare(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None
        assert frames.give(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None
        assert frames.release(Pa(u64(pa)), u16(1), Ipa(u64(0x4000_0000))) is None

