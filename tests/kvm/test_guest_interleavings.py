# SPDX-License-Identifier: Apache-2.0
"""Two CPUs at once: a host that takes away what a guest is about to fault on, and vCPUs that are claimed while they are forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import pytest
from guests_world import BLOCK, GUEST_MEMORY, PAGE, READ, HostVm, Leaf, World, a_machine, attributes, retire, until_done

from delphyne.el2.guest import vcpus, vms
from delphyne.el2.kvm import flushes, seats
from delphyne.el2.memory import blocks, frames, pages
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Ipa, Order, Pa, u16, u64
from delphyne.lang.machine import Failed, Scenario, explore

IPA = 0x4000_0000
Program = Callable[[World, HostVm], None]


@pytest.fixture(autouse=True)
def tables_are_retired() -> Iterator[None]:
    with mock.patch.object(pages, "free", retire):
        yield


class Two(Scenario):
    """Two programs, in a world in which CPU 0 and CPU 1 have a vCPU of one VM each."""

    world: World
    vm: HostVm

    def __init__(self, first: Program, second: Program, check: Program, before: Program) -> None:
        def prepare() -> None:
            self.world = World(self.machine, guests=8, guest_starts=2, starts=1)
            self.vm = self.world.new_vm()
            for number in range(2):
                with self.machine.on(number):
                    self.world.sit(self.vm, number)
            before(self.world, self.vm)

        def at_end() -> None:
            check(self.world, self.vm)
            self.world.check()

        programs = [lambda: first(self.world, self.vm), lambda: second(self.world, self.vm)]
        super().__init__(a_machine(2), programs, at_end, prepare=prepare)


def all_orders(first: Program, second: Program, check: Program, before: Program, runs: int = 40, random_runs: int = 20) -> None:
    explored = explore(lambda: Two(first, second, check, before), preemptions=2, runs=runs, random_runs=random_runs)
    assert explored.runs > random_runs


def nothing(world: World, vm: HostVm) -> None:
    pass


def touches(world: World, vm: HostVm) -> None:
    """What a guest does with a page, and with its neighbour, whose tables are known by then."""
    seat = seats.SEATS.mine()
    for ipa in (IPA, IPA + PAGE, IPA):
        world.touch(seat, ipa, READ)


def two_pages(world: World, vm: HostVm) -> None:
    for offset in (0, PAGE):
        world.put(vm, IPA + offset, 3, GUEST_MEMORY + offset | attributes())


def one_block(world: World, vm: HostVm) -> None:
    world.put(vm, IPA, 2, GUEST_MEMORY | attributes())


def pieces_of_a_block(world: World, vm: HostVm) -> None:
    """The shadow has a table where the host has a block by now."""
    two_pages(world, vm)
    world.touch(seats.SEATS.mine(), IPA, READ)
    world.remove(vm, IPA, 2)
    world.flush_address(vm, IPA, 2)
    one_block(world, vm)


def is_forgotten(world: World, vm: HostVm, ipa: int) -> None:
    """No CPU translates this address for the VM."""
    with GUESTS_LOCK:
        index = vms.find(u64(vm.mmu))
    assert index is not None
    for _, entry in world.machine.translations():
        assert entry.vmid != int(index) + 1 or not entry.covers(ipa) or "table" in entry.kind.value, f"{entry} is remembered"


@pytest.mark.parametrize(("before", "level"), [(two_pages, 3), (one_block, 2), (pieces_of_a_block, 2)])
@pytest.mark.parametrize("by", ["address", "pages", "everything"])
@pytest.mark.parametrize("runs", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_what_was_taken_away_is_used_by_nobody_once_the_call_returns(before: Program, level: int, by: str, runs: int) -> None:
    def takes_away(world: World, vm: HostVm) -> None:
        world.remove(vm, IPA, level)
        if by == "address":
            until_done(lambda: flushes.address(u64(vm.mmu), u64(IPA), u64(level)))
        elif by == "pages":
            until_done(lambda: flushes.pages(u64(vm.mmu), u64(IPA), u64(BLOCK // PAGE if level == 2 else 1)))
        else:
            until_done(lambda: flushes.everything(u64(vm.mmu)))
        is_forgotten(world, vm, IPA)
        vm.stale = []

    all_orders(takes_away, touches, nothing, before, runs)


def test_a_flush_that_is_forgotten_is_seen() -> None:
    """The same without the TLB operation: so the test above does look."""

    def takes_away(world: World, vm: HostVm) -> None:
        world.remove(vm, IPA, 3)
        with mock.patch("delphyne.el2.memory.flush.stage2_address"):
            until_done(lambda: flushes.address(u64(vm.mmu), u64(IPA), u64(3)))
        is_forgotten(world, vm, IPA)
        vm.stale = []

    with pytest.raises(Failed):
        all_orders(takes_away, touches, nothing, two_pages)


def test_a_page_that_moves_is_seen_where_it_was_or_where_it_is() -> None:
    """Break-before-make by the host while a guest on the other CPU uses the page; after the call only the new place is used."""

    def moves(world: World, vm: HostVm) -> None:
        old = vm.leaves[IPA]
        world.remove(vm, IPA, 3)
        until_done(lambda: flushes.address(u64(vm.mmu), u64(IPA), u64(3)))
        world.put(vm, IPA, 3, GUEST_MEMORY + BLOCK | attributes())
        vm.stale = [leaf for leaf in vm.stale if leaf != old]

    def check(world: World, vm: HostVm) -> None:
        assert world.touch(seats.SEATS.mine(), IPA, READ) == GUEST_MEMORY + BLOCK

    all_orders(moves, touches, check, two_pages)


def test_two_cpus_fill_one_page_once() -> None:
    all_orders(touches, touches, nothing, two_pages)


def test_two_cpus_lack_tables_at_once() -> None:
    def few(world: World, vm: HostVm) -> None:
        two_pages(world, vm)
        world.put(vm, IPA + (1 << 30), 3, GUEST_MEMORY | attributes())
        supply = pages.POOLS[pages.PoolName.GUESTS.value]
        with pages.LOCK:
            supply.reserved = supply.count - 2

    def far(world: World, vm: HostVm) -> None:
        world.touch(seats.SEATS.mine(), IPA + (1 << 30), READ)

    all_orders(touches, far, nothing, few, runs=20)


def test_a_frame_that_is_taken_is_not_shown_or_the_taker_learns_of_it() -> None:
    """`fill_page` does without `frames.LOCK`: the mark is seen by it, or the count of leaves by who has set the mark."""
    seen: list[bool] = []

    def takes(world: World, vm: HostVm) -> None:
        with frames.LOCK:
            taken = frames.take(Pa(u64(GUEST_MEMORY + PAGE)), u16(1), Ipa(u64(0)))
        assert taken is None
        index = frames.index_of(Pa(u64(GUEST_MEMORY + PAGE)))
        assert index is not None
        with GUESTS_LOCK:
            seen[:] = [bool(blocks.leaves(index) != 0)]

    def check(world: World, vm: HostVm) -> None:
        leaves: list[Leaf] = world._shadow_leaves(vms.VMS.slots[0].shadow, set())
        leads = any(leaf.output <= GUEST_MEMORY + PAGE < leaf.output + PAGE for leaf in leaves)
        assert seen == [True] or not leads
        world.is_hosts = lambda pa: True  # type: ignore[method-assign]

    all_orders(takes, touches, check, two_pages)


# --- vCPUs ---------------------------------------------------------------------------------------------------------------------------------


def claims(world: World, vm: HostVm) -> None:
    """A CPU runs its vCPU: while it does, nobody forgets it, and its frames stay pinned."""
    seat = seats.SEATS.mine()
    for _ in range(2):
        if vcpus.claim(seat.index, seat.word, u64(world.machine.cpu_number)):
            for _ in range(2):
                assert vcpus.VCPUS.slots[seat.index].used
                assert vcpus.VCPUS.slots[seat.index].address == seat.address
                entry = frames.entry_of(seat.at)
                assert entry is not None
                assert entry.pins != 0
            vcpus.release(seat.index, seat.word)


def forgets(world: World, vm: HostVm) -> None:
    with frames.LOCK, GUESTS_LOCK:
        vcpus.forget(seats.SEATS.of(0).index)


def test_a_vcpu_that_runs_is_not_forgotten() -> None:
    def check(world: World, vm: HostVm) -> None:
        seat = seats.SEATS.of(0)
        assert vcpus.VCPUS.slots[seat.index].used == (vcpus.CLAIMS[seat.index].load(Order.RELAXED) & vcpus.RUNNER == 0)

    all_orders(claims, forgets, check, nothing, runs=200)


def test_a_slot_that_another_vcpu_has_by_now_is_not_claimed() -> None:
    """It is forgotten and given away between two runs."""

    def gives_away(world: World, vm: HostVm) -> None:
        with frames.LOCK, GUESTS_LOCK:
            index = seats.SEATS.of(0).index
            if vcpus.forget(index):
                assert vcpus.create(index, u64(0xFFFF_0000), Pa(u64(GUEST_MEMORY)), u64(4096), seats.SEATS.of(0).vm) is None

    all_orders(claims, gives_away, nothing, nothing, runs=200)


def test_one_vcpu_runs_on_one_cpu() -> None:
    running: list[int] = []

    def same(world: World, vm: HostVm) -> None:
        seats.SEATS.of(1).index, seats.SEATS.of(1).word = seats.SEATS.of(0).index, seats.SEATS.of(0).word
        running.clear()

    def run(world: World, vm: HostVm) -> None:
        seat = seats.SEATS.mine()
        if vcpus.claim(seat.index, seat.word, u64(world.machine.cpu_number)):
            running.append(world.machine.cpu_number)
            world.machine.point("running")
            assert running == [world.machine.cpu_number]
            running.clear()
            vcpus.release(seat.index, seat.word)

    all_orders(run, run, nothing, same, runs=200)


def test_two_cpus_that_see_a_vm_for_the_first_time_see_one() -> None:
    other: list[HostVm] = []

    def another(world: World, vm: HostVm) -> None:
        other[:] = [world.new_vm()]

    def sits(world: World, vm: HostVm) -> None:
        world.sit(other[0], world.machine.cpu_number)

    def check(world: World, vm: HostVm) -> None:
        assert [int(vms.VMS.slots[i].mmu) for i in range(4) if vms.VMS.slots[i].used] == [vm.mmu, other[0].mmu]
        assert seats.SEATS.of(0).vm == seats.SEATS.of(1).vm
        assert seats.SEATS.of(0).index != seats.SEATS.of(1).index

    all_orders(sits, sits, check, another, runs=40)


def test_a_vm_that_ends_takes_nothing_from_a_vcpu_that_runs() -> None:
    def ends(world: World, vm: HostVm) -> None:
        with frames.LOCK, GUESTS_LOCK:
            seats.end(seats.SEATS.of(0).vm)

    all_orders(claims, ends, nothing, nothing, runs=200)
