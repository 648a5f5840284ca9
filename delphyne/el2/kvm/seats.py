# SPDX-License-Identifier: Apache-2.0
"""What each CPU knows of the vCPU that it ran last, so that running it again needs neither a lock nor a look at any frame.

A seat holds the addresses that `sit` checked and the claim word with which the vCPU can be claimed while they are still right. It belongs to its
CPU, which alone reads and writes it.

Locks: `sit` takes `frames.LOCK`, HOST_LOCK (for the end of a protected guest) and GUESTS_LOCK; nothing else here takes any.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import mitigation, world
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.translation import physical_bits, physical_size
from delphyne.el2.guest import ending, guards, processors, registers, touch, vcpus, vms
from delphyne.el2.guest.vms import HostTable
from delphyne.el2.kvm import abilities, controls, host_memory, host_tables, layout
from delphyne.el2.kvm.abilities import Abilities
from delphyne.el2.kvm.host_tables import HostVtcr
from delphyne.el2.kvm.layout import ABSENT, Layout
from delphyne.el2.kvm.names import Field, Register, Subject
from delphyne.el2.memory import frames, graveyard, shadow, stage2
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Array, Level, Pa, cold, holds, log, per_cpu, struct, u64

NOBODY: Final = u64(0)
HAD_LEAF: Final = u64(4)
QUADWORD: Final = u64(16)
LONGEST_VECTOR: Final = u64(256)
"""Bytes in an SVE vector at most (Arm ARM, ZCR_EL1.LEN)."""
BURIALS: Final = u64(16)
"""VMs that one stay at EL2 ends at most where the host runs no more guests."""
PATIENCE: Final = u64(4)
"""Pieces of the graveyard's work that one call does where it finds no room, before it asks to be called again."""


@struct(align=64)
class Seat:
    """One CPU's vCPU. `address` is NOBODY where none was run yet."""

    address: u64
    at: Pa
    size: u64
    index: u64
    word: u64
    vm: u64
    mmu: u64
    mmu_at: Pa
    pgd: u64
    vmid: u64
    vttbr: u64
    vtcr: u64
    ctr: u64
    """What the guest reads from CTR_EL0, or 0 where the host answers that."""
    counter_open: bool
    """Whether the guest may read the physical counter itself."""
    prefill: u64
    """The page of a fault that the host was shown last, plus one; 0 where there was none."""
    prefill_level: u64
    """At which level the host's table had nothing for it; HAD_LEAF where it had."""
    mmio_page: u64
    """The page whose last fault the host completed as MMIO, plus one; and which level its fault had."""
    mmio_level: u64
    flush_start: u64
    """How far this CPU's call about `flush_pages` pages of a protected guest's from `flush_start` has come."""
    flush_pages: u64
    flushed: u64
    near_block: u64
    """The 2 MiB of addresses whose tables of pages are known, plus one; 0 where none are: the host's, its entry in the frame table, and the
    shadow's, plus one, or 0. All until the shadow's epoch ends."""
    near_epoch: u64
    near_host: Pa
    near_index: u64
    near_shadow: u64
    ram_identity: u64
    """The window of memory that a protected guest touched last: of which guest, whose manifest never changes, where it begins, and its size."""
    ram_base: u64
    ram_size: u64
    vectors: Pa
    """Where the guest's SVE registers lie, in vectors of so many bytes; 0 where it has none."""
    vector_length: u64
    fp_live: bool
    """The guest's SIMD registers are in the processor's."""
    fp_ahead: u64
    """For how many more runs they are loaded before the guest asks."""
    asked: world.Asked
    world: world.World
    keys: Array[u64, 10]
    """The host's pointer-authentication keys while a guest runs."""
    debug: Array[u64, 64]
    """The host's breakpoints and watchpoints while a guest has its own."""
    mdccint: u64
    debug_at: Pa
    """The guest's breakpoints and watchpoints for this run, 0 where it has none of its own in the processor."""
    host_zcr: u64
    pmscr: u64
    """The host's PMSCR_EL1 and TRFCR_EL1 while a guest runs, 0 where its buffers are off."""
    trfcr: u64
    pmuserenr: u64
    host_counters: u64
    """Counters that count for the host alone while it runs, and those for its guests alone, a bit for each."""
    guest_counters: u64
    guard: u64
    """The number of the guard, plus one, where the VM is becoming protected or is; 0 for an ordinary one."""
    identity: u64
    own: Pa
    """Where the registers of a protected guest's CPU lie; 0 where the host has them. The CPU's own number as its guest knows it follows."""
    processor: u64
    fault_again: u64
    """The page of a protected guest's that the host was asked for last, plus one; 0 where it was asked for none."""
    host_offset: u64
    """CNTVOFF_EL2 as the host set it, and PMCR_EL0, while a protected guest runs; and the offset that the guest runs with."""
    offset: u64
    pmcr: u64
    abilities: Abilities
    hcr_always: u64
    """What `controls` makes of the abilities: of an ordinary guest's HCR_EL2 what is set, and what its host may choose; a protected guest's."""
    hcr_choice: u64
    hcr_protected: u64


SEATS: Final = per_cpu(Seat, 64)


def begin() -> None:
    """This CPU serves a host from now on, for the first time or after it lost its registers."""
    mine = SEATS.mine()
    first = mine.abilities.raw == 0
    stand_up(mine)
    equip(mine, abilities.find())
    CPUS.mine().mitigation = mitigation.choose()
    mitigation.note()
    if first and mitigation.is_helpless():
        log(Level.WARNING, "this processor can be misled by what a guest trained it to predict, and its firmware has no remedy")


def equip(seat: Seat, found: Abilities) -> None:
    """What this CPU can do, and what that makes of the guests' controls."""
    seat.abilities = found
    seat.hcr_always = controls.hcr_always(found)
    seat.hcr_choice = controls.hcr_choice(found)
    seat.hcr_protected = controls.protected_hcr(found)


def stand_up(seat: Seat) -> None:
    """Nobody sits here. NOBODY is an address that a host may name as well: what keeps it from being found here is a word that claims nothing."""
    seat.address = NOBODY
    seat.word = vcpus.EMPTY


def renew(seat: Seat) -> None:
    """The seat's vCPU, which this CPU runs, has become one of a protected guest, or ceased to be one: what other CPUs remember of it is no more
    to be run by."""
    seat.word = vcpus.renew(seat.index, CPUS.mine().index)


@cold
def end_next() -> bool:
    """The host's kernel is another one by now, and this CPU the only one that is on: ends one of the VMs that the former had. True where none is
    left."""
    stand_up(SEATS.mine())
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        for index in u64.range(vms.LIMIT):
            if vms.VMS.slots[index].used:
                ended = end(index)
                if isinstance(ended, Err):
                    _bury(ended)
                return False
    return True


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def stop_if_gone(found: Layout, pa: Pa) -> None:
    """Before the host's touch of a frame that is a protected guest's: where its VM has left its structure it is stopped. A host that only says so
    loses its guest, and nothing else."""
    vm = touch.vm_of(pa)
    if vm is not None and _is_gone(found, vm):
        touch.stop(vm)


@cold
def bury_dead(found: Layout) -> bool:
    """End VMs that have left their structures: the host has said that it runs no more guests for now. False where the host is to call again: there
    may be more of them than one stay at EL2 is for.

    True does not say that none is left. Of protected guests one piece is done at most (`turns`), and the host is not kept for the others: its kernel
    calls from an interrupt between its CPUs, with interrupts off (`cpu_hyp_reset` under `on_each_cpu`), where it could take none between two pieces,
    and the end of a guest of 4 GiB has 32,768 of them. `_end_dead` does the rest when a VM begins, `touch.serve` where the host wants a page."""
    buried = u64(0)
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        for index in u64.range(vms.LIMIT):
            if vms.VMS.slots[index].used and _is_gone(found, index):
                if buried == BURIALS:
                    return False
                ended = end(index)
                if isinstance(ended, Err):
                    _bury(ended)
                else:
                    buried += 1
    return True


def sit(found: Layout, seat: Seat, address: u64) -> None | Err:
    """Make `seat` that of the vCPU whose structure the host has at `address`, remembered or seen for the first time.

    Err.BUSY where it should be tried again; any other where the host's structures cannot be used: nobody sits then."""
    stand_up(seat)
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        index = _vcpu_of(found, address)
        if isinstance(index, Err):
            _bury(index)
            return index
        _fill(seat, index)
        _find_guard(seat, found)
    return None


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _bury(why: Err) -> None:
    """Where something was lacking that the graveyard holds, the next try finds some of it."""
    if why is Err.BUSY or why is Err.NO_MEMORY:
        for _ in u64.range(PATIENCE):
            graveyard.work()


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _fill(seat: Seat, index: u64) -> None:
    vcpu = vcpus.VCPUS.slots[index]
    vm = vms.VMS.slots[vcpu.vm]
    vcpus.touch(index)
    vms.touch(vcpu.vm)
    seat.address = vcpu.address
    seat.at = vcpu.at
    seat.size = vcpu.size
    seat.index = index
    seat.word = vcpus.claim_word(index)
    seat.vm = vcpu.vm
    seat.mmu = vm.mmu
    seat.mmu_at = vm.mmu_at
    seat.pgd = vm.table.root.raw
    seat.vmid = vm.vmid
    seat.vttbr = vms.vttbr(vcpu.vm).raw
    seat.vtcr = stage2.vtcr(vm.shadow.space, physical_size()).raw
    seat.ctr = vm.ctr
    seat.counter_open = vm.counter_open
    seat.prefill = u64(0)
    seat.mmio_page = u64(0)
    seat.near_block = u64(0)
    seat.fp_ahead = u64(0)
    seat.vectors = vcpu.vectors
    seat.vector_length = vcpu.vector_length
    seat.guard = u64(0)
    seat.own = Pa(u64(0))
    seat.fault_again = u64(0)


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _find_guard(seat: Seat, found: Layout) -> None:
    """Which of its CPUs the vCPU plays, where the VM is protected; one that plays none, or that may not run while the guest is being measured, has
    registers that are never on."""
    number = guards.of_vm(seat.vm)
    if number is None:
        return
    guard = guards.GUARDS.slots[number]
    seat.guard = number + 1
    seat.identity = guard.identity
    played = processors.of_address(number, seat.address)
    if played is not None and not guard.committed:
        seat.processor = played
        return
    if played is None and guard.committed:
        played = processors.bind(number, _affinity_of(found, seat.at), seat.address)
    seat.processor = registers.LIMIT if played is None else played
    seat.own = registers.zeroes() if played is None else registers.base_of(played)


@holds(frames.LOCK)
def _affinity_of(found: Layout, at: Pa) -> u64:
    """Which CPU the host says that a vCPU plays."""
    offset = u64(layout.offset(found, Field.VCPU_SYS_REGS)) + u64(found.registers[u64(Register.MPIDR_EL1.raw)]) * 8
    mpidr = host_memory.read_u64(at, offset)
    return u64.MAX if isinstance(mpidr, Err) else mpidr


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _vcpu_of(found: Layout, address: u64) -> u64 | Err:
    """The slot of a vCPU: the one it has, or a new one. Err as `sit`."""
    size = u64(found.sizes[u64(Subject.VCPU.raw)])
    known = vcpus.find(address)
    at = host_memory.object_at(address, size, True)
    if isinstance(at, Err):
        return at
    mmu = host_memory.read_u64(at, u64(layout.offset(found, Field.VCPU_HW_MMU)))
    if isinstance(mmu, Err):
        return mmu
    vm = _vm_of(found, mmu)
    if isinstance(vm, Err):
        return vm
    if known is not None:
        vcpu = vcpus.VCPUS.slots[known]
        if vcpu.vm == vm and vcpu.at == at:
            return known
        if not vcpus.forget(known):
            return Err.STATE
    place = vcpus.place()
    if place is None:
        return Err.STATE
    made = vcpus.create(place, address, at, size, vm)
    if isinstance(made, Err):
        return made
    vectors = _find_vectors(found, place)
    if isinstance(vectors, Err):
        gone = vcpus.forget(place)
        assert gone, "a vCPU that nobody knows yet runs nowhere"
        return vectors
    return place


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _find_vectors(found: Layout, index: u64) -> None | Err:
    """Where the host keeps a vCPU's SVE registers, if it has them: settled before a vCPU first runs. Err.INVALID for no length of vectors."""
    vcpu = vcpus.VCPUS.slots[index]
    address = host_memory.read_u64(vcpu.at, u64(layout.offset(found, Field.VCPU_SVE_STATE)))
    if isinstance(address, Err):
        return address
    length = world.asked_half(vcpu.at, u64(layout.offset(found, Field.VCPU_SVE_MAX_VL)))
    if address == 0 or length == 0:
        return None
    if length % QUADWORD != 0 or length > LONGEST_VECTOR:
        return Err.INVALID
    size = length * 32 + length // 8 * 17
    at = host_memory.object_at(address, size, True)
    if isinstance(at, Err):
        return at
    return vcpus.set_vectors(index, address, at, size, length)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _vm_of(found: Layout, mmu: u64) -> u64 | Err:
    """The slot of the VM whose `kvm_s2_mmu` is at this address of the host's: the one it has, made new where it is another VM by now."""
    at = host_memory.object_at(mmu, u64(found.sizes[u64(Subject.MMU.raw)]), True)
    if isinstance(at, Err):
        return at
    vmid = host_memory.read_u64(at, u64(layout.offset(found, Field.MMU_VMID)))
    if isinstance(vmid, Err):
        return vmid
    table = _table_of(found, at)
    if isinstance(table, Err):
        return table
    known = vms.find(mmu)
    if known is None:
        return _new_vm(found, mmu, at, vmid, table)
    vm = vms.VMS.slots[known]
    if vm.mmu_at == at and vm.vmid == vmid and vm.table == table:
        return known
    if vm.guard != 0 and vm.mmu_at == at and vm.table == table:
        vm.vmid = vmid
        return known
    if vm.guard == 0 and vm.mmu_at == at and _shadow_bits(table.bits) == vm.shadow.space.bits:
        dropped = shadow.drop_all(vm.shadow)
        if isinstance(dropped, Err):
            return dropped
        vm.vmid = vmid
        vm.table = table
        return known
    ended = end(known)
    return ended if isinstance(ended, Err) else _new_vm(found, mmu, at, vmid, table)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def end(index: u64) -> None | Err:
    """Forget a VM and its vCPUs. Err.STATE where one of them runs; Err.BUSY where it should be tried again: what a protected guest has goes back to
    the host in pieces."""
    if not vcpus.forget_all(index):
        return Err.STATE
    guard = guards.of_vm(index)
    if guard is not None and not ending.end_some(guard):
        return Err.BUSY
    return vms.destroy(index)


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _new_vm(found: Layout, mmu: u64, at: Pa, vmid: u64, table: HostTable) -> u64 | Err:
    """A slot for a VM that was not known: a free one, or that of a VM that is gone, or else of the one that was used least recently. Err.BUSY as
    `sit`: where start tables are lacking a VM gives way too, and what it had is there at the next try."""
    if _end_dead(found):
        return Err.BUSY
    place = vms.free_slot()
    if place is None:
        emptied = _make_place(found)
        if isinstance(emptied, Err):
            return emptied
        place = emptied
    made = vms.create(place, mmu, at, u64(found.sizes[u64(Subject.MMU.raw)]), vmid, table, _shadow_bits(table.bits))
    if isinstance(made, Err):
        return _without_start_tables(found) if made is Err.NO_MEMORY else made
    _read_once_for_all(found, place)
    return place


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _end_dead(found: Layout) -> bool:
    """Whether a protected guest whose VM is gone still has pages: some of them have gone back to the host now. The host never says that a VM ends."""
    for index in u64.range(vms.LIMIT):
        if vms.VMS.slots[index].used and vms.VMS.slots[index].guard != 0 and _is_gone(found, index):
            ended = end(index)
            if isinstance(ended, Err) and ended is Err.BUSY:
                return True
    return False


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _without_start_tables(found: Layout) -> Err:
    """A VM gives way; there is more at the next try."""
    emptied = _make_place(found)
    return emptied if isinstance(emptied, Err) else Err.BUSY


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _is_gone(found: Layout, index: u64) -> bool:
    """Whether a VM's structure, whose frames are pinned, names another root than the VM's by now."""
    vm = vms.VMS.slots[index]
    root = host_memory.read_u64(vm.mmu_at, u64(layout.offset(found, Field.MMU_PGD)))
    return isinstance(root, Err) or root != vm.table.root.raw


@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _make_place(found: Layout) -> u64 | Err:
    """End a VM that has left its structure, else the one that was used least recently and does not run."""
    for index in u64.range(vms.LIMIT):
        if vms.VMS.slots[index].used and _is_gone(found, index):
            ended = end(index)
            if not isinstance(ended, Err):
                return index
    beyond = u64(0)
    for _ in u64.range(vms.LIMIT):
        candidate = vms.oldest(beyond)
        if candidate is None:
            return Err.STATE
        beyond = vms.VMS.slots[candidate].ticket
        gone = end(candidate)
        if not isinstance(gone, Err):
            return candidate
        if gone is Err.BUSY:
            return gone
    return Err.STATE


@holds(frames.LOCK)
@holds(GUESTS_LOCK)
def _read_once_for_all(found: Layout, index: u64) -> None:
    """What a VM's CTR_EL0 is and whether it sees the physical counter, where the kernel keeps that: both are settled before a VM runs."""
    vm = vms.VMS.slots[index]
    arch = host_memory.read_u64(vm.mmu_at, u64(layout.offset(found, Field.MMU_ARCH)))
    if isinstance(arch, Err):
        return
    ctr = _arch_word(found, arch, Field.ARCH_CTR)
    if ctr is not None:
        vm.ctr = ctr
    offset = _arch_word(found, arch, Field.ARCH_POFFSET)
    vm.counter_open = offset is None or offset == 0


@holds(frames.LOCK)
def _arch_word(found: Layout, arch: u64, field: Field) -> u64 | None:
    """A word of the kernel's `kvm_arch` at this address of the host's; None where it has none, or not in its own memory."""
    offset = layout.offset(found, field)
    if offset == ABSENT or arch > u64.MAX - u64(offset):
        return None
    at = host_memory.object_at(arch + u64(offset), u64(8), False)
    if isinstance(at, Err):
        return None
    x = host_memory.read_u64(at, u64(0))
    return None if isinstance(x, Err) else x


@holds(frames.LOCK)
def _table_of(found: Layout, mmu_at: Pa) -> HostTable | Err:
    """The host's stage-2 table: its root, and its geometry from the VTCR that the kernel keeps with the table (6.12) or with the VM (6.1)."""
    root = host_memory.read_u64(mmu_at, u64(layout.offset(found, Field.MMU_PGD)))
    if isinstance(root, Err):
        return root
    if layout.offset(found, Field.MMU_VTCR) != ABSENT:
        vtcr = host_memory.read_u64(mmu_at, u64(layout.offset(found, Field.MMU_VTCR)))
        if isinstance(vtcr, Err):
            return vtcr
        return host_tables.geometry(root, HostVtcr.of(vtcr))
    arch = host_memory.read_u64(mmu_at, u64(layout.offset(found, Field.MMU_ARCH)))
    if isinstance(arch, Err):
        return arch
    kept = _arch_word(found, arch, Field.ARCH_VTCR)
    return Err.RANGE if kept is None else host_tables.geometry(root, HostVtcr.of(kept))


def _shadow_bits(bits: u64) -> u64:
    """How many bits the addresses of a shadow have for a host's table with so many: few sizes, so that start tables come from few pools."""
    if bits <= 40:
        return u64(40)
    return u64(48) if physical_bits() >= 44 else u64(43)
