# SPDX-License-Identifier: Apache-2.0
"""A simulated machine with a host that keeps VMs as KVM does: structures and stage-2 tables in its own memory, written by nobody but this file.

The host's virtual addresses are its physical ones, since its stage 1 is off. What it has in its tables is also kept here, in plain dictionaries:
`HostVm.leaves` has the leaves that are in the table now, `HostVm.stale` those that were and that no call has flushed since. A TLB may hold both;
so may a shadow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest import mock

from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import AbortIss, Esr
from delphyne.el2.guest import turns, vcpus, vms
from delphyne.el2.kvm import faults, flushes, names, seats
from delphyne.el2.kvm.faults import Shown
from delphyne.el2.kvm.layout import ABSENT, NO_REGISTER, Layout
from delphyne.el2.kvm.names import FIELDS, REGISTERS, Field, Register, Subject
from delphyne.el2.memory import blocks, frames, graveyard, pages
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import Order, Pa, current, u8, u16, u32, u64, wipe
from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine import Access, FaultKind, GuestFault, Machine

PAGE, BLOCK, GIGA = 1 << 12, 1 << 21, 1 << 30
SPAN = {3: PAGE, 2: BLOCK, 1: GIGA}
RAM, RAM_SIZE = 0x4000_0000, 0x0180_0000
PAGES_AT, BOOKKEEPING_AT, FRAMES_AT = RAM, RAM + 0x0040_0000, RAM + 0x0050_0000
HOST_AT = RAM + 0x0080_0000
"""From here on RAM is the host's: first what its kernel keeps for itself, then what it gives to guests."""
GUEST_MEMORY = RAM + 0x0100_0000
SKEWED, SKEWED_SIZE = 0x8010_0000, 0x0060_0000
"""A bank that does not begin at a multiple of 2 MiB. Its first MiB is EL2's."""
SKEWED_HOST = SKEWED + 0x0010_0000
DEVICE = 0x0900_0000
"""Addresses of no RAM."""
READ, WRITE, EXECUTE = Access.READ, Access.WRITE, Access.EXECUTE
ADDRESS = 0x0000_FFFF_FFFF_F000
ACCESSED, NORMAL, INNER, XN = 1 << 10, 0b1111 << 2, 3 << 8, 1 << 54
HOST_VTTBR = 0x4700_0000
TRANSLATION, ACCESS_FLAG, PERMISSION = 0x04, 0x08, 0x0C
FREE = pages.free
UNKNOWN_LEVEL = 2**31 - 1
"""What newer kernels say for "any level"; older ones say 0."""

LENGTHS = {
    Field.VCPU_REGS: 8 * 34, Field.VCPU_FP_REGS: 528, Field.VCPU_SYS_REGS: 8 * 64, Field.VCPU_VGIC: 512, Field.VGIC_AP0R: 16, Field.VGIC_AP1R: 16,
    Field.VGIC_LR: 128,
}  # fmt: skip
SIZES = {Subject.VCPU: 4096, Subject.MMU: 512, Subject.ARCH: 1024, Subject.VGIC: 512}


def a_layout(pmu: int = 8) -> Layout:
    """A kernel's layout in which no two members overlap. Each member of struct kvm_pmu_events has `pmu` bytes."""
    made = Layout()
    ends = dict.fromkeys(SIZES, 64)
    for number in range(int(FIELDS)):
        one = Field.of(u16(number))
        assert one is not None
        subject = Subject.of(u8(int(names.PATH_SUBJECTS[number])))
        assert subject is not None
        made.offsets[number] = u32(ends[subject])
        ends[subject] += (LENGTHS.get(one, 8) + 15) // 16 * 16
        assert ends[subject] <= SIZES[subject]
    made.offsets[Field.VCPU_PMU_GUEST.value] = u32(int(made.offsets[Field.VCPU_PMU_HOST.value]) + pmu)
    made.offsets[Field.VCPU_HOST_FP.value] = ABSENT
    for subject, size in SIZES.items():
        made.sizes[subject.value] = u32(size)
    for number in range(int(REGISTERS)):
        made.registers[number] = u16(number + 1)
    assert NO_REGISTER not in [made.registers[Register.SCTLR_EL1.value]]
    return made


@dataclass(frozen=True)
class Leaf:
    """A leaf of a host's table: `raw` has its attributes as they stand in memory, output included."""

    base: int
    level: int
    raw: int

    @property
    def output(self) -> int:
        return self.raw & ADDRESS & ~(SPAN[self.level] - 1)

    @property
    def readable(self) -> bool:
        return bool(self.raw >> 6 & 1)

    @property
    def writable(self) -> bool:
        return bool(self.raw >> 7 & 1)

    @property
    def executable(self) -> bool:
        return self.raw >> 53 & 3 == 0

    @property
    def kind(self) -> int:
        return self.raw & (0xF << 2 | 3 << 8)

    def covers(self, ipa: int) -> bool:
        return self.base <= ipa < self.base + SPAN[self.level]

    def allows(self, access: Access) -> bool:
        return {READ: self.readable, WRITE: self.writable, EXECUTE: self.executable}[access]


def attributes(read: bool = True, write: bool = True, execute: bool = True, accessed: bool = True) -> int:
    return NORMAL | INNER | read << 6 | write << 7 | (ACCESSED if accessed else 0) | (0 if execute else XN)


@dataclass
class HostVm:
    """One VM of the host's, as its kernel knows it. `tables` are its table pages by (level, index of the addresses they serve)."""

    mmu: int
    arch: int
    root: int
    vmid: int
    bits: int
    vcpus: list[int]
    leaves: dict[int, Leaf] = field(default_factory=dict)
    stale: list[Leaf] = field(default_factory=list)
    tables: dict[tuple[int, int], int] = field(default_factory=dict)
    dropped: list[tuple[int, int, int]] = field(default_factory=list)
    """Tables that were cut off and that no call has flushed since, with the first address they served and the bytes behind it."""
    clean: bool = True
    """Whether every change was flushed."""

    def leaf_at(self, ipa: int) -> Leaf | None:
        for level in (3, 2, 1):
            found = self.leaves.get(ipa & ~(SPAN[level] - 1))
            if found is not None and found.covers(ipa):
                return found
        return None


class World:
    """Everything. Lives inside `with machine`."""

    def __init__(
        self, machine: Machine, guests: int = 24, guest_starts: int = 3, starts: int = 2, hardware_access: bool = False, pmu: int = 8
    ) -> None:
        self.machine = machine
        self.hardware_access = hardware_access
        self.layout = a_layout(pmu)
        self.free: list[int] = []
        self.next = HOST_AT
        self.next_vmid = 0x101
        self.vms: list[HostVm] = []
        self.taken: set[int] = set()
        forget_statics()
        count = 2 * guest_starts + 16 * starts + guests
        assert pages.attach(Pa(u64(PAGES_AT)), Pa(u64(BOOKKEEPING_AT)), u64(count)) is None
        for name, unit, units in ((PoolName.STARTS, 16, starts), (PoolName.GUEST_STARTS, 2, guest_starts), (PoolName.GUESTS, 1, guests)):
            assert pages.assign(name, u64(unit), u64(units)) is None
        for base, size in ((RAM, RAM_SIZE), (SKEWED, SKEWED_SIZE)):
            assert frames.add_bank(Pa(u64(base)), u64(size)) is None
        assert frames.attach(Pa(u64(FRAMES_AT))) is None
        for first, end in ((HOST_AT, RAM + RAM_SIZE), (SKEWED_HOST, SKEWED + SKEWED_SIZE)):
            assert frames.admit(Pa(u64(first)), u64(end - first)) is None
        for number in range(len(machine.cpus)):
            with machine.on(number):
                CPUS.mine().index = u64(number)
                seats.stand_up(seats.SEATS.mine())
                machine.write_register("VTTBR_EL2", HOST_VTTBR)

    # --- the host's kernel ---------------------------------------------------------------------------------------------------------------

    def allocate(self, count: int = 1) -> int:
        """Zeroed pages of the host's, aligned to their whole size."""
        if count == 1 and self.free:
            at = self.free.pop()
        else:
            at = (self.next + count * PAGE - 1) // (count * PAGE) * count * PAGE
            self.next = at + count * PAGE
            assert self.next <= GUEST_MEMORY, "the host's own memory is too small for this test"
        self.machine.memory.write(at, bytes(count * PAGE))
        return at

    def write(self, at: int, value: int) -> None:
        self.machine.memory.write(at, struct.pack("<Q", value))

    def read(self, at: int) -> int:
        return int.from_bytes(self.machine.memory.read(at, 8), "little")

    def at(self, base: int, one: Field) -> int:
        return base + int(self.layout.offsets[one.value])

    def new_vm(self, vcpus_wanted: int = 2, bits: int = 40) -> HostVm:
        """A VM with its structures, which never ran."""
        mmu = self.allocate()
        made = HostVm(mmu, self.allocate(), 0, 0, bits, [self.allocate() for _ in range(vcpus_wanted)])
        for vcpu in made.vcpus:
            self.write(self.at(vcpu, Field.VCPU_HW_MMU), mmu)
        self.write(self.at(mmu, Field.MMU_ARCH), made.arch)
        self.begin_again(made)
        self.vms.append(made)
        return made

    def begin_again(self, vm: HostVm) -> None:
        """The same structures become another VM's: an empty table, a VMID that nobody had."""
        roots = max(1, 1 << max(vm.bits - 39, 0)) if vm.bits <= 43 else 1
        start = 1 if vm.bits <= 43 else 0
        vm.root, vm.vmid = self.allocate(roots), self.next_vmid
        self.next_vmid += 1
        vm.leaves, vm.stale, vm.tables, vm.dropped, vm.clean = {}, [], {}, [], True
        self.write(self.at(vm.mmu, Field.MMU_PGD), vm.root)
        self.write(self.at(vm.mmu, Field.MMU_VMID), vm.vmid)
        self.write(self.at(vm.mmu, Field.MMU_VTCR), 1 << 31 | self.hardware_access << 21 | (2 - start) << 6 | 64 - vm.bits)

    def end_vm(self, vm: HostVm) -> None:
        """KVM tells nobody: the root is forgotten, and the pages of the table are free (kvm_free_stage2_pgd)."""
        self.write(self.at(vm.mmu, Field.MMU_PGD), 0)
        self.free += [*vm.tables.values(), *(table for table, _, _ in vm.dropped)]
        vm.leaves, vm.stale, vm.tables, vm.dropped = {}, [], {}, []
        vm.root = 0

    def _slot(self, vm: HostVm, ipa: int, level: int, make: bool) -> int | None:
        """Where the descriptor of that level for an address stands; the tables above are made where they are missing."""
        start = 1 if vm.bits <= 43 else 0
        at = vm.root + 8 * (ipa >> 39 - 9 * start)
        for above in range(start, level):
            key = (above + 1, ipa >> 39 - 9 * above)
            if key not in vm.tables:
                if not make:
                    return None
                vm.tables[key] = self.allocate()
                self.write(at, vm.tables[key] | 3)
            at = vm.tables[key] + 8 * (ipa >> 39 - 9 * (above + 1) & 511)
        return at

    def put(self, vm: HostVm, base: int, level: int, raw: int) -> None:
        """A leaf comes, whatever was there before, without any call."""
        self.remove(vm, base, level)
        leaf = Leaf(base, level, raw | (3 if level == 3 else 1))
        slot = self._slot(vm, base, level, True)
        assert slot is not None
        self.write(slot, leaf.raw)
        vm.leaves[base] = leaf

    def remove(self, vm: HostVm, base: int, level: int) -> list[Leaf]:
        """Whatever leads from the span of a leaf at this level goes, without any call: leaves, tables below, and a block that reaches further."""
        end = base + SPAN[level]
        gone = [leaf for leaf in vm.leaves.values() if leaf.base < end and base < leaf.base + SPAN[leaf.level]]
        for leaf in gone:
            slot = self._slot(vm, leaf.base, leaf.level, False)
            assert slot is not None
            self.write(slot, 0)
            del vm.leaves[leaf.base]
        vm.stale += gone
        for key in [key for key in vm.tables if key[0] > level and base <= key[1] << 39 - 9 * (key[0] - 1) < end]:
            slot = self._slot(vm, key[1] << 39 - 9 * (key[0] - 1), key[0] - 1, False)
            if slot is not None:
                self.write(slot, 0)
            vm.dropped.append((vm.tables.pop(key), key[1] << 39 - 9 * (key[0] - 1), SPAN[key[0] - 1]))
            vm.clean = False
        vm.clean = vm.clean and not gone
        return gone

    def change(self, vm: HostVm, leaf: Leaf, raw: int) -> None:
        """A leaf's rights or flags change in place, without any call."""
        slot = self._slot(vm, leaf.base, leaf.level, False)
        assert slot is not None
        changed = Leaf(leaf.base, leaf.level, raw)
        self.write(slot, raw)
        vm.leaves[leaf.base] = changed
        vm.stale.append(leaf)
        less = any(leaf.allows(access) and not changed.allows(access) for access in Access) or leaf.kind != changed.kind
        vm.clean = vm.clean and not less

    def split(self, vm: HostVm, leaf: Leaf) -> None:
        """A block becomes a table that says the same, without any call (stage2_split_walker)."""
        below = SPAN[leaf.level + 1]
        table = self.allocate()
        for index in range(512):
            raw = leaf.raw & ~ADDRESS & ~3 | leaf.output + index * below | (3 if leaf.level == 2 else 1)
            piece = Leaf(leaf.base + index * below, leaf.level + 1, raw)
            self.write(table + 8 * index, piece.raw)
            vm.leaves[piece.base] = piece
        slot = self._slot(vm, leaf.base, leaf.level, False)
        assert slot is not None
        self.write(slot, table | 3)
        vm.tables[leaf.level + 1, leaf.base >> 39 - 9 * leaf.level] = table
        vm.stale.append(leaf)

    # --- its calls -----------------------------------------------------------------------------------------------------------------------

    def flush_address(self, vm: HostVm, ipa: int, level: int) -> None:
        """As TLBI IPAS2E1IS with that level as its hint: what came from leaves of another level may stay (Arm ARM C5.5, TTL)."""
        until_done(lambda: flushes.address(u64(vm.mmu), u64(ipa), u64(level)))
        vm.stale = [leaf for leaf in vm.stale if not leaf.covers(ipa) or level not in (0, UNKNOWN_LEVEL, leaf.level)]
        self._flushed(vm, ipa, ipa + 1 if level != 3 else ipa)

    def flush_pages(self, vm: HostVm, start: int, count: int) -> None:
        until_done(lambda: flushes.pages(u64(vm.mmu), u64(start), u64(count)))
        end = start + count * PAGE
        vm.stale = [leaf for leaf in vm.stale if leaf.base >= end or start >= leaf.base + SPAN[leaf.level]]
        self._flushed(vm, start, end)

    def flush_all(self, vm: HostVm) -> None:
        until_done(lambda: flushes.everything(u64(vm.mmu)))
        vm.stale = []
        self._flushed(vm, 0, 1 << 48)

    def _flushed(self, vm: HostVm, start: int, end: int) -> None:
        """Tables that served addresses from `start` on are free for other uses."""
        gone = [one for one in vm.dropped if one[1] < end and start < one[1] + one[2]]
        self.free += [table for table, _, _ in gone]
        vm.dropped = [one for one in vm.dropped if one not in gone]
        if not vm.stale and not vm.dropped:
            vm.clean = True

    # --- its CPUs ------------------------------------------------------------------------------------------------------------------------

    def sit(self, vm: HostVm, number: int = 0) -> seats.Seat:
        """This CPU's seat, with a vCPU of the VM in it."""
        seat = seats.SEATS.mine()
        until_done(lambda: seats.sit(self.layout, seat, u64(vm.vcpus[number])))
        return seat

    @contextmanager
    def guest(self, seat: seats.Seat) -> Iterator[None]:
        """The guest's registers are in this CPU."""
        machine = self.machine
        before = {name: machine.read_register(name) for name in ("VTTBR_EL2", "VTCR_EL2", "HCR_EL2")}
        for name, x in (("VTTBR_EL2", int(seat.vttbr)), ("VTCR_EL2", int(seat.vtcr)), ("HCR_EL2", 1 << 31 | 1)):
            machine.write_register(name, x)
        try:
            yield
        finally:
            for name, x in before.items():
                machine.write_register(name, x)

    def touch(self, seat: seats.Seat, ipa: int, access: Access, on_walk: bool = False) -> int | Shown:
        """The guest's access, until it succeeds (where it led to) or the host has to hear of it."""
        with self.guest(seat):
            for _ in range(400):
                try:
                    return self.machine.stage2_translate(ipa, access)
                except GuestFault as fault:
                    shown = faults.serve(seat, self.syndrome(fault, ipa, access, on_walk), access is EXECUTE)
                if not shown.again:
                    return shown
        raise AssertionError("the guest goes on with one fault for ever")

    def syndrome(self, fault: GuestFault, ipa: int, access: Access, on_walk: bool = False) -> Esr:
        """What a processor says of it; FAR_EL2 and HPFAR_EL2 too, the latter only where it is valid."""
        valid = fault.kind is not FaultKind.PERMISSION or on_walk
        self.machine.write_register("HPFAR_EL2", ipa >> 12 << 4 if valid else 0xBAD0)
        self.machine.write_register("FAR_EL2", ipa)
        # A walk that wants to write a flag says WnR 0 on some processors.
        iss = AbortIss(fsc=u8(fault.status_code), wnr=access is WRITE and not on_walk, s1ptw=on_walk)
        return Esr(ec=u8(0x20 if access is EXECUTE else 0x24), il=True, iss=u32(int(iss.raw)))

    # --- what must hold ------------------------------------------------------------------------------------------------------------------

    def walk_host(self, vm: HostVm, ipa: int) -> tuple[int, int]:
        """A walk of the host's table as it lies in memory: level, and the leaf or 0. By Arm ARM D8.3, and not by any code of EL2."""
        level = 1 if vm.bits <= 43 else 0
        if ipa >> vm.bits:
            return 0, 0
        at = vm.root + 8 * (ipa >> 39 - 9 * level)
        while True:
            raw = self.read(at)
            table = raw & 3 == 3 and level < 3
            if not raw & 1 or (level == 3 and not raw & 2) or (level == 0 and not table):
                return level, 0
            if not table:
                return level, raw
            level += 1
            at = (raw & ADDRESS) + 8 * (ipa >> 39 - 9 * level & 511)

    def is_hosts(self, pa: int) -> bool:
        """Whether a guest may see this page: the host's RAM, or none."""
        if HOST_AT <= pa < RAM + RAM_SIZE or SKEWED_HOST <= pa < SKEWED + SKEWED_SIZE:
            return pa not in self.taken
        return not (RAM <= pa < RAM + RAM_SIZE or SKEWED <= pa < SKEWED + SKEWED_SIZE) and pa < 1 << 48

    def check(self) -> None:
        """The invariants of `memory.shadow`, `memory.blocks`, `memory.graveyard` and `guest.vms`, while no lock is held."""
        counted = dict.fromkeys(range(int(blocks.HOSTS.length)), 0)
        reached: set[int] = set()
        for index in range(int(vms.LIMIT)):
            vm = vms.VMS.slots[index]
            if vm.used:
                host = next((host for host in self.vms if host.mmu == int(vm.mmu) and host.vmid == int(vm.vmid) and host.root), None)
                leaves = self._shadow_leaves(vm.shadow, reached)
                for leaf in leaves:
                    self._count(counted, leaf)
                    self._allowed(leaf, host)
                self._known_to_tlbs(index + 1, leaves)
            else:
                self._known_to_tlbs(index + 1, [])
        self._graves(counted, reached)
        ordinary = sum(1 << index for index in range(int(vms.LIMIT)) if vms.VMS.slots[index].used and vms.VMS.slots[index].guard == 0)
        assert vms.VMS.ordinary == ordinary, "which VMs are ordinary"
        assert len(reached) == int(pages.POOLS[PoolName.GUESTS.value].used), "a table is in use and nobody knows it"
        assert {run: int(blocks.LEAVES[run].load(Order.RELAXED)) for run in counted} == counted, "leaves are counted"
        self._known_runs()

    def _known_runs(self) -> None:
        for run in range(int(blocks.HOSTS.length)):
            if blocks.HOSTS[run].load(Order.RELAXED) == blocks.ALL:
                last = min(512 * (run + 1), int(frames.LAYOUT.frames))
                assert all(frames.entry_at(u64(frame)).state is State.HOST for frame in range(512 * run, last))

    def _shadow_leaves(self, shadow: object, reached: set[int]) -> list[Leaf]:
        space, top = shadow.space, int(shadow.top)  # type: ignore[attr-defined]
        start = int(space.start)
        found: list[Leaf] = []
        words = self._words(int(space.root), int(space.roots))
        assert not any(words[top:]), "a start slot is in use above the top"
        for index, raw in enumerate(words[:top]):
            if raw:
                assert raw & 3 == 3, "no leaf stands in a start table"
                self._leaves_below(raw, start + 1, index << 39 - 9 * start, reached, found)
        if any(leaf.raw >> 55 & 0xF == 1 for leaf in found):
            assert shadow.huge  # type: ignore[attr-defined]
        return found

    def _words(self, page: int, count: int = 1) -> tuple[int, ...]:
        return struct.unpack(f"<{512 * count}Q", self.machine.memory.read(PAGES_AT + PAGE * page, PAGE * count))

    def _leaves_below(self, raw: int, level: int, base: int, reached: set[int], found: list[Leaf], first: int = 0) -> None:
        page = ((raw & ADDRESS) - PAGES_AT) // PAGE
        assert page not in reached, "two slots lead to one table"
        reached.add(page)
        for slot, word in enumerate(self._words(page)):
            if word:
                assert slot >= first, "a slot below the cursor"
                at = base + (slot << 39 - 9 * level)
                if word & 3 == 3 and level < 3:
                    self._leaves_below(word, level + 1, at, reached, found)
                else:
                    assert word & 3 == (3 if level == 3 else 1)
                    assert word & ADDRESS & (SPAN[level] - 1) == 0, "a leaf's output is aligned"
                    assert word & ~(ADDRESS | 0x7FF | 1 << 54 | 0xF << 55) == 0, f"bits of EL2's alone in {word:#x}"
                    found.append(Leaf(at, level, word))

    def _graves(self, counted: dict[int, int], reached: set[int]) -> None:
        for number in range(int(graveyard.GRAVEYARD.count)):
            grave = graveyard.GRAVEYARD.graves[number]
            leaves: list[Leaf] = []
            self._leaves_below(PAGES_AT + PAGE * int(grave.page) | 3, int(grave.level), 0, reached, leaves, int(grave.cursor))
            for leaf in leaves:
                self._count(counted, leaf)

    def _count(self, counted: dict[int, int], leaf: Leaf) -> None:
        index = frames.index_of(Pa(u64(leaf.output)))
        if index is not None:
            for run in {int(index) // 512, (int(index) + SPAN[leaf.level] // PAGE - 1) // 512}:
                counted[run] += 1

    def _allowed(self, leaf: Leaf, host: HostVm | None) -> None:
        """A leaf of a shadow leads to what is the host's to show, where a leaf of its table leads or has led since the last call, with no more
        rights."""
        assert all(self.is_hosts(pa) for pa in range(leaf.output, leaf.output + SPAN[leaf.level], PAGE)), f"{leaf} leads to what is not the host's"
        if host is None:
            return
        known = [host.leaf_at(leaf.base), *host.stale]
        assert any(one is not None and within(leaf, one) for one in known), f"{leaf} is in a shadow, and not in the host's table"

    def _known_to_tlbs(self, vmid: int, leaves: list[Leaf]) -> None:
        for _, entry in self.machine.translations():
            if entry.vmid == vmid and entry.kind.value in ("stage 2", "stage 1 and 2"):
                holding = [leaf for leaf in leaves if leaf.covers(entry.base)]
                assert holding, f"{entry} is remembered, and nowhere in the shadow"
                assert entry.output == holding[0].output + entry.base - holding[0].base
                allowed, leaf = entry.attributes, holding[0]
                rights = allowed.readable <= leaf.readable and allowed.writable <= leaf.writable and allowed.executable <= leaf.executable
                assert rights, f"{entry} allows more than {leaf}"


def within(leaf: Leaf, one: Leaf) -> bool:
    """Whether a leaf of a shadow says no more than a leaf of the host's."""
    if not one.covers(leaf.base) or SPAN[leaf.level] > SPAN[one.level] or leaf.output != one.output + leaf.base - one.base:
        return False
    rights = leaf.readable <= one.readable and leaf.writable <= one.writable and leaf.executable <= one.executable
    return rights and leaf.kind == one.kind


def until_done(call: object) -> None:
    """A call that is made again as long as EL2 says so. Any other error fails the test."""
    for _ in range(3000):
        result = call()  # type: ignore[operator]
        if not isinstance(result, Err):
            return
        assert result is Err.BUSY or result is Err.NO_MEMORY, result
    raise AssertionError("a host calls for ever")


def forget_statics() -> None:
    """What a reset of the machine does."""
    forget_held_locks()
    for static in (pages.POOLS, pages.REGION, frames.LAYOUT, turns.TURNS):
        wipe(static)
    # The same for long arrays, of which few elements were ever touched.
    for array in (graveyard.GRAVEYARD.graves, vms.VMS.slots, vcpus.VCPUS.slots, vcpus.CLAIMS):
        array._cells._made.clear()
    vcpus.VCPUS.hints.fill(u64(0))
    graveyard.GRAVEYARD.count = vms.VMS.clock = vms.VMS.ordinary = vcpus.VCPUS.clock = u64(0)
    for number in range(2):
        wipe(seats.SEATS.of(number))
        wipe(CPUS.of(number))


def retire(name: PoolName, page: u64) -> Err | None:
    """In place of `pages.free`: a table that is given back is empty and known to no TLB."""
    machine = current.machine()
    address, size = int(pages.address_of_page(page).raw), PAGE * int(pages.POOLS[name.value].unit)
    assert not any(machine.memory.read(address, size)), f"page {page!r} is freed with something in it"
    for frame in range(address, address + size, PAGE):
        machine.retire_table(frame)
    return FREE(name, page)


@contextmanager
def a_world(cpus: int = 1, **wanted: int) -> Iterator[World]:
    """A machine and its world, of which nothing is left in EL2's statics."""
    try:
        with a_machine(cpus) as machine, mock.patch.object(pages, "free", retire):
            yield World(machine, **wanted)  # type: ignore[arg-type]
    finally:
        forget_statics()


def a_machine(cpus: int = 1) -> Machine:
    machine = Machine(RAM, RAM_SIZE, cpus, registers={"ID_AA64MMFR0_EL1": 5})
    machine.memory.add(SKEWED, SKEWED_SIZE)
    return machine
