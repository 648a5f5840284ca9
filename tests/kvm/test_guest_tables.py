# SPDX-License-Identifier: Apache-2.0
"""Shadows of guests' stage 2 against the host's tables: one rule each."""

from __future__ import annotations

from unittest import mock

import pytest
from guests_world import (
    ACCESS_FLAG,
    BLOCK,
    DEVICE,
    EXECUTE,
    GIGA,
    GUEST_MEMORY,
    PAGE,
    PAGES_AT,
    PERMISSION,
    RAM,
    READ,
    SKEWED,
    SKEWED_HOST,
    TRANSLATION,
    WRITE,
    HostVm,
    World,
    a_world,
    attributes,
)

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import turns, vms
from delphyne.el2.kvm import faults, flushes
from delphyne.el2.kvm.faults import Shown
from delphyne.el2.memory import frames, graveyard, pages, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import Ipa, Pa, u16, u64


def shown(got: int | Shown) -> int:
    assert isinstance(got, Shown)
    return int(got.status)


def test_a_page_is_filled_at_its_first_touch() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0123, READ) == GUEST_MEMORY + 0x123
        assert shown(world.touch(seat, 0x8000_1000, READ)) == TRANSLATION | 3
        world.check()


@pytest.mark.parametrize("bits", [36, 40, 42, 44, 48])
def test_an_address_that_no_table_of_the_guest_has_is_shown_and_nothing_else(bits: int) -> None:
    """G2: a guest's own stage 1 can lead to any address that the processor has, whatever its stage 2 begins with."""
    with a_world() as world:
        vm = world.new_vm(bits=bits)
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        for ipa in [(1 << shift) + 0x8000_0000 for shift in range(bits, 52)] + [(1 << 52) - 0x1000]:
            assert shown(world.touch(seat, ipa, READ)) & ~3 == TRANSLATION
            faults.after_host(seat)
            world.check()
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY


def test_a_block_is_one_leaf_where_all_of_it_is_the_hosts() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 2, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x8001_2345, READ) == GUEST_MEMORY + 0x1_2345
        assert world.touch(seat, 0x8000_0000, WRITE) == GUEST_MEMORY
        assert int(pages.POOLS[PoolName.GUESTS.value].used) == 1, "one table, of 2 MiB blocks"
        world.check()


def test_a_call_for_a_block_takes_away_every_page_of_it() -> None:
    """The shadow has a table there already, so that the block is filled page by page; the page that the call names is not among them."""
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        world.touch(seat, 0x8000_0000, READ)
        world.remove(vm, 0x8000_0000, 2)
        world.flush_address(vm, 0x8000_0000, 2)
        world.put(vm, 0x8000_0000, 2, GUEST_MEMORY + BLOCK | attributes())
        assert world.touch(seat, 0x8000_5000, WRITE) == GUEST_MEMORY + BLOCK + 0x5000
        world.remove(vm, 0x8000_0000, 2)
        world.flush_address(vm, 0x8000_0000, 2)
        world.check()
        assert shown(world.touch(seat, 0x8000_5000, READ)) == TRANSLATION | 2


def test_a_page_that_was_filled_since_hides_no_older_one_of_its_block() -> None:
    """A block becomes read-only, one of its pages is filled anew before the call comes: the call takes away the others."""
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        world.touch(seat, 0x8000_0000, READ)
        world.remove(vm, 0x8000_0000, 2)
        world.flush_address(vm, 0x8000_0000, 2)
        world.put(vm, 0x8000_0000, 2, GUEST_MEMORY | attributes())
        assert world.touch(seat, 0x8000_5000, WRITE) == GUEST_MEMORY + 0x5000
        world.change(vm, vm.leaves[0x8000_0000], vm.leaves[0x8000_0000].raw & ~(1 << 7))
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        world.flush_address(vm, 0x8000_0000, 2)
        world.check()
        assert shown(world.touch(seat, 0x8000_5000, WRITE)) == PERMISSION | 2


def test_a_range_that_ends_inside_a_block_takes_away_all_of_it() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        world.touch(seat, 0x8000_0000, READ)
        world.remove(vm, 0x8000_0000, 2)
        world.flush_pages(vm, 0x8000_0000, 512)
        world.put(vm, 0x8000_0000, 2, GUEST_MEMORY | attributes())
        world.touch(seat, 0x8010_0000, WRITE)
        world.remove(vm, 0x8000_0000, 2)
        world.flush_pages(vm, 0x8000_0000, 16)
        world.check()


@pytest.mark.parametrize("count", [1, 2, 512, 1024])
def test_a_call_for_a_range_takes_a_turn_and_one_for_a_page_does_not(count: int) -> None:
    """Where it has more slots than a call looks at, all of the shadow goes by the same stay, which takes the locks once."""
    with a_world() as world:
        vm = world.new_vm()
        seat = world.sit(vm)
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes())
        world.touch(seat, 0x8000_0000, READ)
        world.remove(vm, 0x8000_0000, 3)
        for page in range(0, count * PAGE, 0x20_0000):
            world.put(vm, 0x8000_0000 + page + PAGE, 3, GUEST_MEMORY + PAGE | attributes())
            world.touch(seat, 0x8000_0000 + page + PAGE, READ)
        with GUESTS_LOCK:
            index = vms.find(u64(vm.mmu))
            assert index is not None
            before = shadow.look(vms.VMS.slots[index].shadow, Ipa(u64(0x8000_0000)))
        with mock.patch.object(turns, "is_mine", return_value=False) as asked, mock.patch.object(turns, "over") as over:
            refused = flushes.pages(u64(vm.mmu), u64(0x8000_0000), u64(count))
        assert asked.called == (count != 1)
        assert not over.called
        assert (refused is Err.BUSY) == (count != 1)
        if count != 1:
            with GUESTS_LOCK:
                assert shadow.look(vms.VMS.slots[index].shadow, Ipa(u64(0x8000_0000))) == before
        taken = frames.LOCK.tickets[1]
        with mock.patch.object(turns, "over") as over:
            assert flushes.pages(u64(vm.mmu), u64(0x8000_0000), u64(count)) is None
        assert over.call_count == (count != 1)
        assert frames.LOCK.tickets[1] == taken + 1
        with GUESTS_LOCK:
            assert shadow.look(vms.VMS.slots[index].shadow, Ipa(u64(0x8000_0000))) is None
            behind = shadow.look(vms.VMS.slots[index].shadow, Ipa(u64(0x8000_0000 + (count - 1) // 512 * 0x20_0000 + PAGE)))
        assert (behind is None) == (count != 1)
        vm.stale = []
        world.check()


@pytest.mark.parametrize("level", [1, 0, 2**31 - 1])
def test_a_call_for_a_gigabyte_takes_away_all_of_it(level: int) -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 1, RAM | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000 + GUEST_MEMORY - RAM, READ) == GUEST_MEMORY
        world.remove(vm, 0x8000_0000, 1)
        world.flush_address(vm, 0x8000_0000, level)
        world.check()


def test_el2s_memory_is_not_shown_whatever_the_table_says() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, PAGES_AT | attributes())
        world.put(vm, 0x8020_0000, 2, RAM | attributes())
        world.put(vm, 0xC000_0000, 1, RAM | attributes())
        seat = world.sit(vm)
        assert shown(world.touch(seat, 0x8000_0000, READ)) == TRANSLATION | 3
        assert shown(world.touch(seat, 0x8020_0000, READ)) == TRANSLATION | 2
        assert shown(world.touch(seat, 0xC000_0000, READ)) == TRANSLATION | 1
        world.check()


@pytest.mark.parametrize("inside", [0x10_0000, 0x1F_F000, 0x1000])
@pytest.mark.parametrize("block", [SKEWED_HOST, SKEWED_HOST + BLOCK, GUEST_MEMORY])
def test_what_a_block_says_below_its_size_is_no_address(inside: int, block: int) -> None:
    """Bits 20 to 12 of a block descriptor are no output: a processor leaves them out, and so what is checked is what is shown."""
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 2, block + inside | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ) == block
        world.check()


def test_frames_of_el2s_in_a_bank_that_is_not_aligned_stay_out_of_blocks() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 2, (SKEWED & ~(BLOCK - 1)) | attributes())
        seat = world.sit(vm)
        for offset in (0, 0x10_0000, 0x1F_F000):
            got = world.touch(seat, 0x8000_0000 + offset, READ)
            assert isinstance(got, Shown) == (offset >= 0x10_0000), "the first MiB of that bank is EL2's; what is below it is no RAM"
        world.check()


def test_a_frame_that_changes_hands_stays_out_of_a_block_and_comes_back() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 2, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        where = (Pa(u64(GUEST_MEMORY + 0x7000)), u16(5), Ipa(u64(0)))
        with frames.LOCK:
            assert frames.take(*where) is None
        world.taken.add(GUEST_MEMORY + 0x7000)
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        assert shown(world.touch(seat, 0x8000_7000, READ)) == TRANSLATION | 2
        world.check()
        with frames.LOCK:
            assert frames.release(*where) is None
        world.taken.clear()
        assert world.touch(seat, 0x8000_7000, READ) == GUEST_MEMORY + 0x7000
        world.check()


@pytest.mark.parametrize("never", [0b01, 0b10, 0b11])
def test_execution_that_is_forbidden_to_either_level_is_forbidden_to_both(never: int) -> None:
    """XN[1:0] with FEAT_XNX: 01 is EL0 alone, 11 is EL1 alone."""
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes() | never << 53)
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        assert shown(world.touch(seat, 0x8000_0000, EXECUTE)) == PERMISSION | 3
        for other in (0b01, 0b10, 0b11):
            leaf = vm.leaves[0x8000_0000]
            world.change(vm, leaf, leaf.raw & ~(3 << 53) | other << 53)
            world.flush_address(vm, 0x8000_0000, 3)
            world.touch(seat, 0x8000_0000, READ)
            world.check()


def test_what_the_architecture_does_not_know_in_a_leaf_is_not_shown() -> None:
    with a_world() as world:
        vm = world.new_vm()
        strange = 1 << 63 | 0xF << 59 | 1 << 52 | 1 << 51 | 1 << 50 | 3 << 48 | 1 << 11
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes(write=False) | strange)
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        world.check()
        leaf = vm.leaves[0x8000_0000]
        world.change(vm, leaf, leaf.raw & ~strange | 1 << 7)
        world.flush_address(vm, 0x8000_0000, 3)
        assert world.touch(seat, 0x8000_0000, WRITE) == GUEST_MEMORY
        world.check()


def test_memory_that_is_no_ram_is_shown_page_by_page() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x0800_0000, 2, DEVICE & ~(BLOCK - 1) | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, 0x0800_3000, WRITE) == (DEVICE & ~(BLOCK - 1)) + 0x3000
        world.check()


@pytest.mark.parametrize(("bits", "top"), [(40, 1023), (40, 600), (43, 8191), (48, 511)])
def test_a_guest_with_addresses_at_the_top_can_be_emptied(bits: int, top: int) -> None:
    """The graveyard holds fewer tables than a start table has slots: all goes, in as many calls as that takes."""
    with a_world(guests=900) as world:
        vm = world.new_vm(bits=bits)
        span = 1 << (30 if bits <= 43 else 39)
        world.put(vm, top * span, 3, GUEST_MEMORY | attributes())
        seat = world.sit(vm)
        assert world.touch(seat, top * span, READ) == GUEST_MEMORY
        world.flush_all(vm)
        world.check()
        assert not leads(world, vm)


def test_more_tables_than_the_graveyard_holds_go_in_several_calls() -> None:
    with a_world(guests=900) as world:
        vm = world.new_vm()
        seat = world.sit(vm)
        root = vm.root
        below = world.allocate()
        for index in range(600):
            world.write(root + 8 * index, below | 3)
        world.write(below, GUEST_MEMORY | attributes() | 1)
        for index in range(600):
            assert world.touch(seat, index * GIGA, READ) == GUEST_MEMORY
        assert int(pages.POOLS[PoolName.GUESTS.value].used) == 600
        world.flush_all(vm)
        assert not leads(world, vm)
        while graveyard.GRAVEYARD.count != 0:
            with frames.LOCK, graveyard.GUESTS_LOCK:
                graveyard.work()
        world.check()
        assert int(pages.POOLS[PoolName.GUESTS.value].used) == 0


def test_a_guest_goes_on_where_tables_are_lacking() -> None:
    """With two tables below the start tables nothing but what is touched last is there."""
    with a_world(guests=2) as world:
        vm = world.new_vm()
        seat = world.sit(vm)
        for index in range(6):
            world.put(vm, index * GIGA, 3, GUEST_MEMORY + index * PAGE | attributes())
        for _ in range(2):
            for index in range(6):
                assert world.touch(seat, index * GIGA, WRITE) == GUEST_MEMORY + index * PAGE
                world.check()


def leads(world: World, vm: HostVm) -> list[object]:
    """Leaves of the VM's shadow."""
    from delphyne.el2.guest import vms

    with graveyard.GUESTS_LOCK:
        index = vms.find(u64(vm.mmu))
        assert index is not None
        return list(world._shadow_leaves(vms.VMS.slots[index].shadow, set()))


def test_an_access_flag_is_the_hosts_to_set_where_the_processor_does_not() -> None:
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes(accessed=False))
        seat = world.sit(vm)
        assert shown(world.touch(seat, 0x8000_0000, READ)) == ACCESS_FLAG | 3
    with a_world(hardware_access=True) as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes(accessed=False))
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ) == GUEST_MEMORY
        assert world.walk_host(vm, 0x8000_0000)[1] >> 10 & 1, "set in the host's own table"


def test_a_flag_that_a_guests_processor_wants_to_write_is_a_write() -> None:
    """Its stage-1 table is read-only in stage 2 (dirty logging): a permission fault of the walk, of which some processors say WnR 0."""
    with a_world() as world:
        vm = world.new_vm()
        world.put(vm, 0x8000_0000, 3, GUEST_MEMORY | attributes(write=False))
        seat = world.sit(vm)
        assert world.touch(seat, 0x8000_0000, READ, on_walk=True) == GUEST_MEMORY
        assert shown(world.touch(seat, 0x8000_0000, WRITE, on_walk=True)) == PERMISSION | 3
