# SPDX-License-Identifier: Apache-2.0
"""The machine itself: CPUs, their registers and TLBs, memory, devices, and the rules that EL2 must keep.

EL2's own accesses (places, slices, boot arrays) go to physical memory by number, since its map is the identity, and are cacheable unless
`el2_cacheable` is set to False (as before the MMU is on). Guests reach memory by `guest_read`, `guest_write` and `guest_fetch` only, which
translate. What is checked all the time:

- a descriptor of a live table changes from valid to another valid value only in its permissions, access flag and software bits, and a new
  valid value comes only when no CPU remembers the old one (`BreakBeforeMake`). Live is every table that a walk has read, or that
  `register_table` names, until `retire_table` or `hand_over`;
- `hand_over(pa)` fails while any CPU remembers a translation to the frame, or a cache may still write over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from delphyne.lang import current
from delphyne.lang.ints import u8
from delphyne.lang.locks import forget_held_locks
from delphyne.lang.machine.errors import Access, BreakBeforeMake, DirtyFrame, GuestFault, MachineError, StaleTranslation
from delphyne.lang.machine.memory import FRAME, LINE, Memory
from delphyne.lang.machine.places import IMAGE_BASE, IMAGE_SIZE, MemoryCells, Places
from delphyne.lang.machine.tlb import EL2_KINDS, Doom, Entry, Tlb, matches
from delphyne.lang.machine.walker import VALID, Registers, Walker
from delphyne.lang.messages import Level
from delphyne.lang.statics import BootArray

if TYPE_CHECKING:
    from delphyne.lang.machine.explorer import Schedule

FREE_BITS = 0xC0 | 1 << 10 | 1 << 51 | 3 << 53 | 0xF << 55
"""Descriptor bits that may change while it is valid: permissions, access flag, dirty state, execute-never, software's own (D8.14.1)."""

WAITS_FOR_TLBI = {"sy": True, "ish": True, "osh": True, "nsh": False}
"""Barriers that complete TLB maintenance (both access types), and whether they reach the inner shareable domain."""
SHARED_STORES = ("sy", "st", "ish", "ishst", "osh")
"""Barriers after which every CPU's walker sees this CPU's stores."""


class Device(Protocol):
    """What sits behind a range of addresses that is no RAM."""

    def read(self, offset: int, size: int) -> int:
        """A load of `size` bytes at `offset` from the device's base."""

    def write(self, offset: int, size: int, value: int) -> None:
        """A store of `size` bytes."""


@dataclass(slots=True)
class StaleLines:
    """Instruction cache lines that an operation will drop: those of one CPU. `everywhere` as for `Doom`."""

    cpu: Cpu
    lines: list[int]
    everywhere: bool


@dataclass(slots=True)
class Cpu:
    """One processor. `unseen` are table stores that other walkers may not see yet, `unseen_here` those its own may not see."""

    number: int
    registers: dict[str, int]
    tlb: Tlb = field(default_factory=Tlb)
    doomed: list[Doom] = field(default_factory=list)
    fetched: dict[int, bytes] = field(default_factory=dict)
    """The instruction cache: lines by physical address."""
    stale_lines: list[StaleLines] = field(default_factory=list)
    unseen: set[int] = field(default_factory=set)
    unseen_here: set[int] = field(default_factory=set)


def _no_guest(general: int) -> int:
    raise MachineError("nobody plays the guest")


@dataclass(frozen=True, slots=True)
class Event:
    """A barrier, TLB or cache operation: the CPU, its name ("tlbi vmalle1is", "dsb ish", "dc civac"), its address."""

    cpu: int
    name: str
    address: int | None


class Machine:
    """A machine with `cpus` processors and `ram_size` bytes of RAM at `ram_base`; `registers` are their values at reset."""

    def __init__(self, ram_base: int = 0x4000_0000, ram_size: int = 0x0800_0000, cpus: int = 1, registers: Mapping[str, int] | None = None) -> None:
        self.memory = Memory()
        self.memory.add(ram_base, ram_size)
        self.memory.add(IMAGE_BASE, IMAGE_SIZE)
        reset = {"CurrentEL": 8, "CTR_EL0": 0x8444_C004, "DCZID_EL0": 4, "ID_AA64MMFR0_EL1": 0x2, **(registers or {})}
        self.cpus = [Cpu(number, {"MPIDR_EL1": 1 << 31 | number, **reset}) for number in range(cpus)]
        self.cpu_number = 0
        self.el2_cacheable = True
        self.messages: list[tuple[Level, str]] = []
        self.events: list[Event] = []
        self.live_tables: set[int] = set()
        self.schedule: Schedule | None = None
        self.guest: Callable[[int], int] = _no_guest
        """What a guest does whose general registers lie at that address, from entry to exit; through which vector it leaves."""
        self._devices: list[tuple[int, int, Device]] = []
        self._places = Places(self._read, self._write)
        self._attached: list[BootArray[Any]] = []

    # --- being current -----------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        current.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._places.release()
        for array in self._attached:
            array.detach()
        self._attached.clear()
        forget_held_locks()
        current.leave(self)

    @property
    def cpu(self) -> Cpu:
        """The processor that runs."""
        return self.cpus[self.cpu_number]

    @contextmanager
    def on(self, number: int) -> Iterator[None]:
        """Let another processor run for a while."""
        before, self.cpu_number = self.cpu_number, self.cpus[number].number
        try:
            yield
        finally:
            self.cpu_number = before

    def point(self, what: str) -> None:
        """Another CPU may run here."""
        if self.schedule is not None:
            self.schedule.point(what)

    def wait_until(self, ready: Callable[[], bool], what: str) -> bool:
        """Let others run until `ready()`; False where there are no others."""
        return self.schedule is not None and self.schedule.wait_until(ready, what)

    # --- memory as EL2 reaches it ------------------------------------------------------------------------------------------------

    def _read(self, address: int, size: int) -> bytes:
        return self.memory.read(address, size, self.el2_cacheable)

    def _write(self, address: int, data: bytes) -> None:
        if self.live_tables:
            self._check_tables(address, data)
        self.memory.write(address, data, self.el2_cacheable)

    def el2_read(self, address: int, size: int = 8) -> int:
        """A load of EL2's from RAM, little-endian."""
        return int.from_bytes(self._read(address, size), "little")

    def el2_write(self, address: int, value: int, size: int = 8) -> None:
        """A store of EL2's to RAM."""
        self._write(address, value.to_bytes(size, "little"))

    def _check_tables(self, address: int, data: bytes) -> None:
        for at in range(address & ~7, address + len(data), 8):
            if at & ~(FRAME - 1) not in self.live_tables:
                continue
            old_bytes = self._read(at, 8)
            low, high = max(address, at), min(address + len(data), at + 8)
            new_bytes = old_bytes[: low - at] + data[low - address : high - address] + old_bytes[high - at :]
            self._check_descriptor(at, int.from_bytes(old_bytes, "little"), int.from_bytes(new_bytes, "little"))

    def _check_descriptor(self, at: int, old: int, new: int) -> None:
        if new & VALID:
            if old & VALID and (old ^ new) & ~FREE_BITS:
                raise BreakBeforeMake(f"descriptor at {at:#x} goes from {old:#x} to {new:#x} without being invalid in between")
            for cpu, entry in self.translations():
                known = entry.read_from.get(at)
                if known is not None and (known ^ new) & ~FREE_BITS:
                    raise BreakBeforeMake(f"descriptor at {at:#x} becomes {new:#x} while CPU {cpu.number} may hold {known:#x}: {entry}")
        if old != new:
            self.cpu.unseen.add(at)
            self.cpu.unseen_here.add(at)

    def address_of(self, x: Any) -> int:
        """Where an object lies; it gets an address when first asked."""
        return self._places.address_of(x)

    def place_at(self, cls: Any, address: int) -> Any:
        """The place of type `cls` at an address in RAM."""
        return self._places.at(cls, address)

    def bytes_at(self, address: int, length: int) -> MemoryCells:
        """The bytes at an address in RAM."""
        self._in_ram(address, length)
        return MemoryCells(self._places, u8, address, length)

    def attach(self, array: BootArray[Any], address: int) -> MemoryCells:
        """The elements of a boot array, which forgets them when the machine ends."""
        cells = MemoryCells(self._places, array._item, address, array._length)
        self._in_ram(address, cells.size)
        self._attached.append(array)
        return cells

    def _in_ram(self, address: int, length: int) -> None:
        if length and not self.memory.holds(address, length):
            raise MachineError(f"{length:#x} bytes at {address:#x} are not RAM")

    # --- devices -----------------------------------------------------------------------------------------------------------------

    def add_device(self, base: int, size: int, device: Device) -> None:
        """Put a device at addresses that are no RAM."""
        self._devices.append((base, size, device))

    def _device(self, address: int, size: int) -> tuple[Device, int]:
        if address % size:
            raise MachineError(f"device access of {size} bytes at {address:#x} is not aligned")
        for base, length, device in self._devices:
            if base <= address and address + size <= base + length:
                return device, address - base
        raise MachineError(f"there is no device at {address:#x}")

    def mmio_read(self, address: int, size: int) -> int:
        """One load from a device."""
        self.point("mmio read")
        device, offset = self._device(address, size)
        return device.read(offset, size)

    def mmio_write(self, address: int, size: int, value: int) -> None:
        """One store to a device."""
        self.point("mmio write")
        device, offset = self._device(address, size)
        device.write(offset, size, value)

    # --- registers, barriers, TLB and cache maintenance --------------------------------------------------------------------------

    def zero_block(self, address: int) -> None:
        """The block that DC ZVA zeroes: 64 bytes, as DCZID_EL0 says at reset."""
        self._event("dc zva", address)
        self._write(address & ~(LINE - 1), bytes(LINE))

    def read_register(self, name: str) -> int:
        """This CPU's register; one that nobody wrote is zero."""
        return self.cpu.registers.get(name, 0)

    def write_register(self, name: str, value: int) -> None:
        """Sets this CPU's register."""
        self.cpu.registers[name] = value

    def _event(self, name: str, address: int | None = None) -> None:
        self.events.append(Event(self.cpu_number, name, address))

    def barrier(self, kind: str, domain: str) -> None:
        """A DSB completes this CPU's stores and invalidations, as far as its domain and access types reach."""
        self.point(kind)
        self._event(kind if kind == "isb" else f"{kind} {domain}")
        if kind != "dsb":
            return
        cpu = self.cpu
        if domain in SHARED_STORES or domain == "nsh":
            cpu.unseen_here.clear()
        if domain in SHARED_STORES:
            cpu.unseen.clear()
        everywhere = WAITS_FOR_TLBI.get(domain)
        if everywhere is None:
            return
        for doom in [doom for doom in cpu.doomed if everywhere or not doom.everywhere]:
            doom.complete()
            cpu.doomed.remove(doom)
        for stale in [stale for stale in cpu.stale_lines if everywhere or not stale.everywhere]:
            for line in stale.lines:
                stale.cpu.fetched.pop(line, None)
            cpu.stale_lines.remove(stale)

    def tlbi(self, operation: str, broadcast: bool, address: int | None) -> None:
        """Dooms the entries that match now; they go with the DSB that completes it."""
        name = f"tlbi {operation}{'is' if broadcast else ''}"
        self.point(name)
        self._event(name, address)
        cpu = self.cpu
        vmid = self._registers(cpu).vmid
        for other in self.cpus if broadcast else [cpu]:
            unseen = cpu.unseen_here if other is cpu else cpu.unseen
            doomed = [entry for entry in other.tlb.entries if matches(operation, vmid, address, entry) and not unseen.intersection(entry.read_from)]
            if doomed:
                others = {id(entry) for entry in other.tlb.entries} - {id(entry) for entry in doomed}
                cpu.doomed.append(Doom(other.tlb, doomed, broadcast, partial(matches, operation, vmid, address), others))

    def cache(self, operation: str, address: int | None) -> None:
        """A data cache operation acts at once; lines of instruction caches go with the DSB that completes it."""
        name = f"{'ic' if operation in ('ialluis', 'iallu', 'ivau') else 'dc'} {operation}"
        self.point(name)
        self._event(name, address)
        if name.startswith("ic"):
            line = None if address is None else address & ~(LINE - 1)
            for other in [self.cpu] if operation == "iallu" else self.cpus:
                lines = [known for known in other.fetched if line is None or known == line]
                self.cpu.stale_lines.append(StaleLines(other, lines, operation != "iallu"))
        elif address is not None:
            self.memory.maintain(operation, address)

    # --- translation -------------------------------------------------------------------------------------------------------------

    def _registers(self, cpu: Cpu) -> Registers:
        get = cpu.registers.get
        return Registers(
            hcr=get("HCR_EL2", 0),
            vtcr=get("VTCR_EL2", 0),
            vttbr=get("VTTBR_EL2", 0),
            sctlr_el1=get("SCTLR_EL1", 0),
            tcr_el1=get("TCR_EL1", 0),
            ttbr0_el1=get("TTBR0_EL1", 0),
            ttbr1_el1=get("TTBR1_EL1", 0),
            mair_el1=get("MAIR_EL1", 0),
            sctlr_el2=get("SCTLR_EL2", 0),
            tcr_el2=get("TCR_EL2", 0),
            ttbr0_el2=get("TTBR0_EL2", 0),
            mair_el2=get("MAIR_EL2", 0),
        )

    def _load_descriptor(self, address: int, cacheable: bool) -> int:
        if not self.memory.holds(address, 8):
            raise LookupError
        return int.from_bytes(self.memory.read(address, 8, cacheable), "little")

    def walker(self) -> Walker:
        """The walker of the CPU that runs, with its registers as they are now."""
        return Walker(self.cpu.tlb, self._registers(self.cpu), self._load_descriptor, self.register_table)

    def _guest(self, va: int, size: int, access: Access) -> tuple[int, bool]:
        self.point(f"guest {access.value}")
        if va % FRAME + size > FRAME:
            raise MachineError("a guest's access stays within a page here")
        found = self.walker().el1(va, access)
        return found.at(va), found.attributes.cacheable

    def guest_read(self, va: int, size: int = 8) -> int:
        """A load by EL1 on this CPU, little-endian; GuestFault where it faults."""
        pa, cacheable = self._guest(va, size, Access.READ)
        return int.from_bytes(self.memory.read(pa, size, cacheable), "little")

    def guest_write(self, va: int, value: int, size: int = 8) -> None:
        """A store by EL1 on this CPU; GuestFault where it faults."""
        pa, cacheable = self._guest(va, size, Access.WRITE)
        self.memory.write(pa, value.to_bytes(size, "little"), cacheable)

    def guest_fetch(self, va: int) -> int:
        """An instruction fetch by EL1 on this CPU, through its instruction cache; GuestFault where it faults.

        What is dirty in the data cache is not seen before a clean to the point of unification (CTR_EL0.IDC and DIC are 0)."""
        pa, _ = self._guest(va, 4, Access.EXECUTE)
        start = pa & ~(LINE - 1)
        line = self.cpu.fetched.setdefault(start, self.memory.fetch(start))
        return int.from_bytes(line[pa - start : pa - start + 4], "little")

    def el2_translate(self, va: int, access: Access = Access.READ) -> int:
        """Where EL2's own tables lead; GuestFault where they refuse."""
        return self.walker().el2(va, access).at(va)

    def stage2_translate(self, ipa: int, access: Access = Access.READ) -> int:
        """Where the current stage 2 leads; GuestFault where it refuses. Fills the TLB as a processor may at any time."""
        return self.walker().stage2(ipa, access).at(ipa)

    def translate(self, operation: str, va: int) -> None:
        """An AT instruction: PAR_EL1 gets the address or the fault (Arm ARM D17.2.108)."""
        self.point(f"at {operation}")
        access = Access.WRITE if operation.endswith("w") else Access.READ
        walker = self.walker()
        walk = {"s12e1": walker.el1, "s1e1": walker.stage1, "s1e2": walker.el2}[operation[:-1]]
        try:
            found = walk(va, access)
        except GuestFault as fault:
            self.cpu.registers["PAR_EL1"] = 1 | fault.status_code << 1 | fault.on_walk << 8 | (fault.stage == 2) << 9 | 1 << 11
        else:
            memory = 0xFF if found.attributes.cacheable else 0x44
            self.cpu.registers["PAR_EL1"] = found.at(va) & 0x0000_FFFF_FFFF_F000 | memory << 56 | 3 << 7 | 1 << 11

    # --- the rules ---------------------------------------------------------------------------------------------------------------

    def translations(self) -> Iterator[tuple[Cpu, Entry]]:
        """Everything that any CPU remembers."""
        for cpu in self.cpus:
            for entry in cpu.tlb.entries:
                yield cpu, entry

    def register_table(self, pa: int) -> None:
        """The frame at `pa` holds a table that walkers may read from now on."""
        self.live_tables.add(pa & ~(FRAME - 1))

    def retire_table(self, pa: int) -> None:
        """The frame at `pa` holds a table no longer; fails while any CPU may still walk it or remembers what it said."""
        frame = pa & ~(FRAME - 1)
        for cpu, entry in self.translations():
            if entry.reaches_table(frame) or any(frame <= at < frame + FRAME for at in entry.read_from):
                raise StaleTranslation(f"table at {frame:#x} is retired while CPU {cpu.number} holds {entry}")
        self.live_tables.discard(frame)

    def hand_over(self, pa: int, size: int = FRAME, *, overwritten: bool = False) -> None:
        """Memory changes hands: fails while any CPU may hold a translation of EL1 to it, or a table there, or a dirty line of it, unless its new
        owner overwrites all of it."""
        for cpu, entry in self.translations():
            if entry.kind not in EL2_KINDS and entry.reaches(pa, size):
                raise StaleTranslation(f"{size:#x} bytes at {pa:#x} change hands while CPU {cpu.number} holds {entry}")
        for frame in range(pa & ~(FRAME - 1), pa + size, FRAME):
            if not overwritten and self.memory.is_dirty(frame):
                raise DirtyFrame(f"frame {frame:#x} changes hands with dirty cache lines")
            if frame in self.live_tables:
                self.retire_table(frame)
