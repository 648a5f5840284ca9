# SPDX-License-Identifier: Apache-2.0
"""Shadows, graveyard, counts of leaves and flushes against plain dictionaries of what the host has in its tables: random histories of several VMs.

After every step `World.check` looks at all tables in memory, all TLBs and all counts. What a guest's access does, or what the host hears of it, is
compared with the host's table wherever the host has made all calls that it owes.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
from guests_world import (
    ACCESS_FLAG,
    ACCESSED,
    BLOCK,
    DEVICE,
    EXECUTE,
    GIGA,
    GUEST_MEMORY,
    PAGE,
    PERMISSION,
    RAM,
    READ,
    SKEWED_HOST,
    SPAN,
    TRANSLATION,
    WRITE,
    HostVm,
    Leaf,
    World,
    a_world,
    attributes,
)
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from delphyne.el2.guest import vcpus
from delphyne.el2.kvm import faults, seats
from delphyne.el2.kvm.faults import Shown
from delphyne.el2.kvm.names import Field
from delphyne.el2.memory import blocks, frames
from delphyne.lang import Ipa, Order, Pa, u16, u64
from delphyne.lang.machine import Access

BASES = [0x4000_0000, 0x4000_0000, 0x4000_0000, 0x4020_0000, 0, 600 * GIGA]
"""Blocks of a guest's addresses: mostly one, another beside it, and some far away."""
PLACES = [0, PAGE, 2 * PAGE, 0x10_0000, BLOCK - PAGE]
IPAS = st.builds(lambda base, place: base + place, st.sampled_from(BASES), st.sampled_from(PLACES))
BLOCKS = [GUEST_MEMORY, GUEST_MEMORY + BLOCK, GUEST_MEMORY + 2 * BLOCK, SKEWED_HOST, RAM, DEVICE & ~(BLOCK - 1)]
"""Memory that a leaf may lead to; RAM is EL2's at its start."""
RIGHTS = st.sampled_from(
    [attributes(), attributes(), attributes(write=False), attributes(execute=False), attributes(accessed=False), attributes(read=False, write=False)]
)
WHICH = st.sampled_from([0, 0, 0, 0, 1, 2])
ACCESSES = st.sampled_from([READ, WRITE, EXECUTE])
LEVELS = st.sampled_from([3, 3, 3, 2])


class Guests(RuleBasedStateMachine):
    """Three VMs at most at a time, of which two can have a shadow; two CPUs."""

    hardware_access = False

    def __init__(self) -> None:
        super().__init__()
        self.context = a_world(cpus=2, guests=9, guest_starts=2, hardware_access=self.hardware_access)
        self.world: World = self.context.__enter__()
        self.sitting: dict[int, tuple[HostVm, int]] = {}

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    @initialize()
    def first_vms(self) -> None:
        for _ in range(3):
            self.world.new_vm()
        self.sit(0, 0, 0)
        self.sit(1, 0, 1)

    # --- the host's tables -------------------------------------------------------------------------------------------------------------

    def vm(self, which: int) -> HostVm:
        return self.world.vms[which]

    @rule(
        which=WHICH, ipa=IPAS, level=LEVELS, block=st.sampled_from(BLOCKS), place=st.sampled_from(PLACES), rights=RIGHTS, calls=st.booleans(),
        touches=st.lists(st.sampled_from(PLACES), max_size=2),
    )  # fmt: skip
    def map(self, which: int, ipa: int, level: int, block: int, place: int, rights: int, calls: bool, touches: list[int]) -> None:
        """What was there goes first, by break-before-make with the calls that it needs, or as a host does that owes them. Guests may use it at
        once."""
        vm = self.vm(which)
        base = ipa & ~(SPAN[level] - 1)
        if calls:
            self.break_(vm, base, level)
        self.world.put(vm, base, level, (block + (place if level == 3 else 0)) | rights)
        for cpu, (sitting, _) in self.sitting.items():
            for inside in touches if sitting is vm else []:
                self.access(cpu, (base & ~(BLOCK - 1)) + inside, READ, False, False)

    def break_(self, vm: HostVm, base: int, level: int) -> None:
        tables = len(vm.dropped)
        gone = self.world.remove(vm, base, level)
        if len(vm.dropped) > tables:
            self.world.flush_pages(vm, base, SPAN[level] // PAGE)
        for leaf in gone:
            self.world.flush_address(vm, leaf.base, leaf.level)

    @rule(which=WHICH, ipa=IPAS, level=LEVELS, by=st.sampled_from(["each", "range", "all", "nobody"]))
    def unmap(self, which: int, ipa: int, level: int, by: str) -> None:
        vm = self.vm(which)
        base = ipa & ~(SPAN[level] - 1)
        if by == "each":
            self.break_(vm, base, level)
            return
        gone = self.world.remove(vm, base, level)
        if by == "range":
            self.world.flush_pages(vm, base, SPAN[level] // PAGE)
            for leaf in gone:
                self.world.flush_pages(vm, leaf.base, 1)
        elif by == "all":
            self.world.flush_all(vm)

    def some_leaf(self, vm: HostVm, data: st.DataObject) -> Leaf | None:
        known = sorted(vm.leaves)
        return vm.leaves[data.draw(st.sampled_from(known))] if known else None

    @rule(which=WHICH, data=st.data(), rights=RIGHTS, calls=st.booleans())
    def change_rights(self, which: int, data: st.DataObject, rights: int, calls: bool) -> None:
        vm = self.vm(which)
        leaf = self.some_leaf(vm, data)
        if leaf is not None:
            kept = leaf.raw & ~(3 << 6 | 3 << 53)
            self.world.change(vm, leaf, kept | rights & (3 << 6 | 3 << 53))
            if calls:
                inside = data.draw(st.integers(0, SPAN[leaf.level] // PAGE - 1)) * PAGE
                self.world.flush_address(vm, leaf.base + inside, leaf.level)

    @rule(which=WHICH, data=st.data(), young=st.booleans())
    def age(self, which: int, data: st.DataObject, young: bool) -> None:
        """Neither way needs a call."""
        vm = self.vm(which)
        leaf = self.some_leaf(vm, data)
        if leaf is not None:
            self.world.change(vm, leaf, leaf.raw | ACCESSED if young else leaf.raw & ~ACCESSED)

    @rule(which=WHICH, data=st.data())
    def split(self, which: int, data: st.DataObject) -> None:
        vm = self.vm(which)
        blocks = [base for base, leaf in sorted(vm.leaves.items()) if leaf.level == 2]
        if blocks and len(vm.leaves) < 1200:
            self.world.split(vm, vm.leaves[data.draw(st.sampled_from(blocks))])

    @rule(which=WHICH, ipa=IPAS, level=st.sampled_from([3, 2, 0, 2**31 - 1]))
    def call_for_an_address(self, which: int, ipa: int, level: int) -> None:
        self.world.flush_address(self.vm(which), ipa, level)

    @rule(which=WHICH, start=IPAS, count=st.sampled_from([1, 2, 300, 512, 1024, 1 << 18, 1 << 36]))
    def call_for_a_range(self, which: int, start: int, count: int) -> None:
        self.world.flush_pages(self.vm(which), start, count)

    @rule(which=WHICH)
    def call_for_all(self, which: int) -> None:
        self.world.flush_all(self.vm(which))

    @rule(which=WHICH)
    def new_vmid(self, which: int) -> None:
        """After a generation of VMIDs every VM has a new one, and all TLBs are empty."""
        vm = self.vm(which)
        if vm.root and not self.is_sitting(vm):
            self.world.flush_all(vm)
            vm.vmid += 0x1_0000
            self.world.write(self.world.at(vm.mmu, Field.MMU_VMID), vm.vmid)

    def is_sitting(self, vm: HostVm) -> bool:
        return any(other is vm for other, _ in self.sitting.values())

    @rule(which=WHICH, at_once=st.booleans())
    def die(self, which: int, at_once: bool) -> None:
        """Nobody says so. The structures may be another VM's at once."""
        vm = self.vm(which)
        if vm.root:
            self.sitting = {cpu: one for cpu, one in self.sitting.items() if one[0] is not vm}
            self.world.end_vm(vm)
        if at_once or not vm.root:
            self.world.begin_again(vm)

    @rule()
    def bury(self) -> None:
        seats.bury_dead(self.world.layout)

    # --- the guests --------------------------------------------------------------------------------------------------------------------

    @rule(cpu=st.integers(0, 1), which=WHICH, vcpu=st.integers(0, 1))
    def sit(self, cpu: int, which: int, vcpu: int) -> None:
        vm = self.vm(which)
        if vm.root and (vm, vcpu) not in [one for number, one in self.sitting.items() if number != cpu]:
            with self.world.machine.on(cpu):
                self.world.sit(vm, vcpu)
            self.sitting[cpu] = (vm, vcpu)
            self.sitting = {number: one for number, one in self.sitting.items() if self.is_seated(number)}

    def is_seated(self, cpu: int) -> bool:
        """A VM that was forgotten for another one is found again at its next run."""
        seat = seats.SEATS.of(cpu)
        return bool(vcpus.CLAIMS[seat.index].load(Order.ACQUIRE) == seat.word)

    @precondition(lambda self: self.sitting)
    @rule(data=st.data(), ipa=IPAS, access=ACCESSES, on_walk=st.booleans(), completes=st.booleans())
    def touch(self, data: st.DataObject, ipa: int, access: Access, on_walk: bool, completes: bool) -> None:
        self.access(data.draw(st.sampled_from(sorted(self.sitting))), ipa, access, on_walk, completes)

    def access(self, cpu: int, ipa: int, access: Access, on_walk: bool, completes: bool) -> None:
        vm, _ = self.sitting[cpu]
        with self.world.machine.on(cpu):
            seat = seats.SEATS.mine()
            hinted = (int(seat.mmio_page) - 1, int(seat.mmio_level))
            walked = on_walk and access is not EXECUTE
            got = self.world.touch(seat, ipa, access, walked)
            self.judge(vm, ipa, access, walked, got, hinted, completes)
            if isinstance(got, Shown) and seat.prefill != 0:
                self.world.check()
                if completes:
                    faults.completed(seat)
                else:
                    with self.world.guest(seat):
                        faults.after_host(seat)

    def judge(self, vm: HostVm, ipa: int, access: Access, walked: bool, got: int | Shown, hinted: tuple[int, int], completes: bool) -> None:
        if not vm.clean:
            return
        level, raw = self.world.walk_host(vm, ipa)
        leaf = Leaf(ipa & ~(SPAN[level] - 1), level, raw) if raw else None
        if isinstance(got, int):
            assert leaf is not None
            assert got == leaf.output + ipa - leaf.base
            assert leaf.allows(access)
            return
        assert int(got.page.raw) == ipa & ~(PAGE - 1)
        if ipa & ~(PAGE - 1) == hinted[0]:
            assert int(got.status) == TRANSLATION | hinted[1]
        elif leaf is None or not self.world.is_hosts(leaf.output + (ipa & ~(PAGE - 1)) - leaf.base):
            assert int(got.status) in (TRANSLATION | level, ACCESS_FLAG | level, PERMISSION | level)
            assert leaf is not None or int(got.status) == TRANSLATION | level
        elif not raw & ACCESSED:
            assert int(got.status) == ACCESS_FLAG | level
        else:
            assert not leaf.allows(access)
            assert int(got.status) == PERMISSION | level

    # --- frames change hands -----------------------------------------------------------------------------------------------------------

    @rule(block=st.sampled_from(BLOCKS[:4]), place=st.sampled_from(PLACES))
    def take(self, block: int, place: int) -> None:
        """For a VM that the host cannot see, where no guest's leaf leads into the run."""
        at = Pa(u64(block + place))
        index = frames.index_of(at)
        assert index is not None
        if not self.leads_to(block + place):
            with frames.LOCK:
                if frames.take(at, u16(1), Ipa(u64(block + place))) is None:
                    self.world.taken.add(block + place)

    def leads_to(self, pa: int) -> bool:
        index = frames.index_of(Pa(u64(pa)))
        return index is not None and bool(blocks.leaves(index) != 0)

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.world.taken:
            pa = data.draw(st.sampled_from(sorted(self.world.taken)))
            with frames.LOCK:
                assert frames.release(Pa(u64(pa)), u16(1), Ipa(u64(pa))) is None
            self.world.taken.remove(pa)

    @invariant()
    def all_is_well(self) -> None:
        self.world.check()


class GuestsOfProcessorsThatSetFlags(Guests):
    """VTCR_EL2.HA is set in the host's tables."""

    hardware_access = True


PHASES = [phase for phase in Phase if phase is not Phase.shrink and phase is not Phase.explain]


def run(machine: Any, examples: int) -> Any:
    case = machine.TestCase
    case.settings = settings(max_examples=examples, stateful_step_count=50, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
    return case


TestGuests = run(Guests, 90)
TestGuestsOfProcessorsThatSetFlags = run(GuestsOfProcessorsThatSetFlags, 24)
