# SPDX-License-Identifier: Apache-2.0
"""The page-table walker: VMSAv8-64, 4 KiB granule, 48-bit addresses, no LPA2, little-endian tables (Arm ARM D8).

It is written from the manual and shares nothing with EL2's own table code, which it checks. What is left out: hardware update of the access
flag and dirty state, contiguous hints (entries are kept single), and privilege: an EL1 access is privileged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from delphyne.lang.machine.errors import Access, FaultKind, GuestFault
from delphyne.lang.machine.tlb import Attributes, Entry, Kind, Tlb

ADDRESS = 0x0000_FFFF_FFFF_F000
"""Bits 47:12 of a descriptor: an output or next-table address."""
VALID, TABLE, ACCESSED = 1 << 0, 1 << 1, 1 << 10
NOT_GLOBAL = 1 << 11


def field(value: int, high: int, low: int) -> int:
    """Bits `high` to `low` of a register or descriptor."""
    return value >> low & (1 << high - low + 1) - 1


def block_size(level: int) -> int:
    """Bytes that one descriptor of a level translates."""
    return 1 << 12 + 9 * (3 - level)


@dataclass(slots=True)
class Registers:
    """The registers that a walk of one CPU depends on."""

    hcr: int
    vtcr: int
    vttbr: int
    sctlr_el1: int
    tcr_el1: int
    ttbr0_el1: int
    ttbr1_el1: int
    mair_el1: int
    sctlr_el2: int
    tcr_el2: int
    ttbr0_el2: int
    mair_el2: int

    @property
    def vmid(self) -> int:
        """VTTBR_EL2.VMID: 16 bits where VTCR_EL2.VS says so, else 8."""
        return field(self.vttbr, 63 if field(self.vtcr, 19, 19) else 55, 48)

    @property
    def asid(self) -> int:
        """TTBRn_EL1.ASID, which of the two TCR_EL1.A1 says."""
        return field(self.ttbr1_el1 if field(self.tcr_el1, 22, 22) else self.ttbr0_el1, 63, 48)


@dataclass(slots=True)
class Found:
    """The outcome of one stage: where an address goes, over what range that holds, and the descriptors that said so."""

    base: int
    size: int
    output: int
    level: int
    attributes: Attributes
    read_from: dict[int, int]
    is_global: bool = True
    made_from: tuple[Entry, ...] = ()
    """Entries of the TLB that spared a part of the way."""

    def at(self, address: int) -> int:
        """Where an address in the range goes."""
        return self.output + (address - self.base)


class Walker:
    """Walks for one CPU. `load` reads an aligned 8-byte descriptor at a physical address, cacheable or not, and raises
    LookupError where there is no RAM; `live` hears of each descriptor address of EL2's tables before it is read."""

    def __init__(self, tlb: Tlb, registers: Registers, load: Callable[[int, bool], int], live: Callable[[int], None]) -> None:
        self.tlb = tlb
        self.registers = registers
        self.load = load
        self.live = live

    # --- stage 2 -------------------------------------------------------------------------------------------------------------

    def stage2(self, ipa: int, access: Access, on_walk: bool = False) -> Found:
        """IPA to physical address, from the TLB or by a walk that fills it. Identity while HCR_EL2.VM is 0."""
        if not field(self.registers.hcr, 0, 0):
            page = ipa & ~0xFFF
            return Found(page, 4096, page, 3, Attributes(), {})
        known = self.tlb.find(Kind.STAGE2, self.registers.vmid, None, ipa)
        if known is None:
            found = self._walk_stage2(ipa, on_walk)
            vmid, attributes = self.registers.vmid, found.attributes
            made = Entry(Kind.STAGE2, vmid, None, found.base, found.size, found.output, found.level, attributes, found.read_from, found.made_from)
            self.tlb.add(made)
            found.made_from = (made,)
        else:
            found = Found(known.base, known.size, known.output, known.level, known.attributes, known.read_from, made_from=(known,))
        _permit(found, access, 2, ipa, on_walk)
        return found

    def _walk_stage2(self, ipa: int, on_walk: bool) -> Found:
        vtcr = self.registers.vtcr
        width = 64 - field(vtcr, 5, 0)
        level = {0: 2, 1: 1, 2: 0}.get(field(vtcr, 7, 6), 3)
        if field(vtcr, 15, 14) != 0 or ipa >> width:
            raise GuestFault(FaultKind.TRANSLATION, 2, 0 if ipa >> width else level, ipa, on_walk)
        table = self.registers.vttbr & 0x0000_FFFF_FFFF_FFFE
        cacheable = field(vtcr, 9, 8) != 0
        read_from: dict[int, int] = {}
        known = self.tlb.find(Kind.STAGE2_TABLE, self.registers.vmid, None, ipa)
        start = level
        if known is not None:
            table, level, read_from = known.output, known.level, dict(known.read_from)
        while True:
            low = 12 + 9 * (3 - level)
            index = field(ipa, (width if level == start else low + 9) - 1, low)
            self.live(table + 8 * index)
            descriptor = self._descriptor(table + 8 * index, cacheable, read_from, 2, level, ipa, on_walk)
            base = ipa & ~(block_size(level) - 1)
            if _is_leaf(descriptor, level, 2, ipa, on_walk):
                break
            table, level = descriptor & ADDRESS, level + 1
            made = Entry(Kind.STAGE2_TABLE, self.registers.vmid, None, base, block_size(level - 1), table, level, read_from=dict(read_from))
            made.made_from = () if known is None else (known,)
            self.tlb.add(made)
            known = made
        if not descriptor & ACCESSED and not field(vtcr, 21, 21):
            raise GuestFault(FaultKind.ACCESS_FLAG, 2, level, ipa, on_walk)
        never = field(descriptor, 54, 53) in (1, 2)
        attributes = Attributes(bool(field(descriptor, 6, 6)), bool(field(descriptor, 7, 7)), not never, field(descriptor, 5, 2) == 0xF)
        output = descriptor & ADDRESS & ~(block_size(level) - 1)
        return Found(base, block_size(level), output, level, attributes, read_from, made_from=() if known is None else (known,))

    def _descriptor(self, address: int, cacheable: bool, read_from: dict[int, int], stage: int, level: int, at: int, on_walk: bool) -> int:
        try:
            descriptor = self.load(address, cacheable)
        except LookupError:
            raise GuestFault(FaultKind.EXTERNAL, stage, level, at, on_walk) from None
        if not descriptor & VALID:
            raise GuestFault(FaultKind.TRANSLATION, stage, level, at, on_walk)
        read_from[address] = descriptor
        return descriptor

    # --- stage 1 of EL2 --------------------------------------------------------------------------------------------------------

    def el2(self, va: int, access: Access) -> Found:
        """EL2's own translation. Identity while SCTLR_EL2.M is 0."""
        registers = self.registers
        if not field(registers.sctlr_el2, 0, 0):
            page = va & ~0xFFF
            return Found(page, 4096, page, 3, Attributes(cacheable=False), {})
        known = self.tlb.find(Kind.EL2, 0, None, va)
        if known is None:
            width = 64 - field(registers.tcr_el2, 5, 0)
            found = self._walk_stage1(va, width, registers.ttbr0_el2, registers.tcr_el2, registers.mair_el2, Kind.EL2_TABLE)
            made = Entry(Kind.EL2, 0, None, found.base, found.size, found.output, found.level, found.attributes, found.read_from, found.made_from)
            self.tlb.add(made)
        else:
            found = Found(known.base, known.size, known.output, known.level, known.attributes, known.read_from)
        _permit(found, access, 1, va, False)
        return found

    # --- both stages of EL1 ----------------------------------------------------------------------------------------------------

    def el1(self, va: int, access: Access) -> Found:
        """An address of EL1 through both stages; the combined translation is remembered as such, also while stage 1 is off."""
        registers = self.registers
        known = self.tlb.find(Kind.COMBINED, registers.vmid, registers.asid, va)
        if known is not None:
            found = Found(known.base, known.size, known.output, known.level, known.attributes, known.read_from)
            if _permitted(found.attributes, access):
                return found
        first = self.stage1(va, access)
        second = self.stage2(first.at(va), access)
        size = min(first.size, second.size)
        base = va & ~(size - 1)
        found = Found(
            base,
            size,
            second.at(first.at(base)),
            max(first.level, second.level),
            first.attributes.both(second.attributes),
            {**first.read_from, **second.read_from},
            first.is_global,
            (*first.made_from, *second.made_from),
        )
        if known is None:
            self.tlb.add(
                Entry(
                    Kind.COMBINED,
                    registers.vmid,
                    None if first.is_global else registers.asid,
                    base,
                    size,
                    found.output,
                    found.level,
                    found.attributes,
                    found.read_from,
                    found.made_from,
                )
            )
        return found

    def stage1(self, va: int, access: Access) -> Found:
        """An address of EL1 to an IPA, by a walk whose tables are found through stage 2.

        Identity while SCTLR_EL1.M is 0, and then not cacheable unless HCR_EL2.DC says so."""
        registers = self.registers
        if not field(registers.sctlr_el1, 0, 0):
            page = va & ~0xFFF
            return Found(page, 4096, page, 3, Attributes(cacheable=bool(field(registers.hcr, 12, 12))), {})
        upper = va >> 55 & 1
        shift = 16 if upper else 0
        width = 64 - field(registers.tcr_el1, shift + 5, shift)
        above = va >> width
        if above != (0 if not upper else (1 << 64 - width) - 1) or field(registers.tcr_el1, 23 if upper else 7, 23 if upper else 7):
            raise GuestFault(FaultKind.TRANSLATION, 1, 0, va)
        base = registers.ttbr1_el1 if upper else registers.ttbr0_el1
        found = self._walk_stage1(va, width, base, registers.tcr_el1 >> shift, registers.mair_el1, Kind.EL1_TABLE)
        _permit(found, access, 1, va, False)
        return found

    def _walk_stage1(self, va: int, width: int, ttbr: int, control: int, mair: int, kind: Kind) -> Found:
        """`control` is the half of the TCR that belongs to this table, its IRGN field in bits 9:8."""
        is_el2 = kind is Kind.EL2_TABLE
        vmid, asid = (0, None) if is_el2 else (self.registers.vmid, self.registers.asid)
        cacheable = field(control, 9, 8) != 0
        start = level = 4 - (width - 12 + 8) // 9
        read_from: dict[int, int] = {}
        made_from: list[Entry] = []
        limits = Attributes()
        if va >> width and is_el2:
            raise GuestFault(FaultKind.TRANSLATION, 1, 0, va)
        known = self.tlb.find(kind, vmid, asid, va)
        if known is None:
            table = self._table(ttbr & 0x0000_FFFF_FFFF_FFFE, is_el2, read_from, made_from)
        else:
            table, level, read_from, limits = known.output, known.level, dict(known.read_from), known.attributes
            made_from.append(known)
        while True:
            low = 12 + 9 * (3 - level)
            index = field(va, (width if level == start else low + 9) - 1, low)
            if is_el2:
                self.live(table + 8 * index)
            descriptor = self._descriptor(table + 8 * index, cacheable, read_from, 1, level, va, False)
            base = va & ~(block_size(level) - 1)
            if _is_leaf(descriptor, level, 1, va, False):
                break
            table, level = self._table(descriptor & ADDRESS, is_el2, read_from, made_from), level + 1
            not_executable = field(descriptor, 60, 60) if is_el2 else field(descriptor, 59, 59)
            limits = limits.both(Attributes(writable=not field(descriptor, 62, 62), executable=not not_executable))
            self.tlb.add(Entry(kind, vmid, asid, base, block_size(level - 1), table, level, limits, dict(read_from), tuple(made_from)))
        if not descriptor & ACCESSED:
            raise GuestFault(FaultKind.ACCESS_FLAG, 1, level, va)
        not_executable = field(descriptor, 54, 54) if is_el2 else field(descriptor, 53, 53)
        memory = field(mair, 8 * field(descriptor, 4, 2) + 7, 8 * field(descriptor, 4, 2))
        write_back = field(memory, 7, 4) not in (0, 4) and field(memory, 3, 0) not in (0, 4)
        own = Attributes(True, not field(descriptor, 7, 7), not not_executable, write_back)
        output = descriptor & ADDRESS & ~(block_size(level) - 1)
        everywhere = is_el2 or not descriptor & NOT_GLOBAL
        return Found(base, block_size(level), output, level, limits.both(own), read_from, everywhere, tuple(made_from))

    def _table(self, address: int, is_el2: bool, read_from: dict[int, int], made_from: list[Entry]) -> int:
        """Where a stage-1 table is: for EL1 through stage 2, whose descriptors then take part in the translation that is being found."""
        if is_el2:
            return address
        found = self.stage2(address, Access.READ, on_walk=True)
        read_from.update(found.read_from)
        made_from += found.made_from
        return found.at(address)


def _is_leaf(descriptor: int, level: int, stage: int, address: int, on_walk: bool) -> bool:
    """Block or page. A block at level 0, and a level-3 descriptor with bit 1 clear, are invalid."""
    table = bool(descriptor & TABLE)
    if (level == 3 and not table) or (level == 0 and not table):
        raise GuestFault(FaultKind.TRANSLATION, stage, level, address, on_walk)
    return level == 3 or not table


def _permitted(attributes: Attributes, access: Access) -> bool:
    return {Access.READ: attributes.readable, Access.WRITE: attributes.writable, Access.EXECUTE: attributes.executable}[access]


def _permit(found: Found, access: Access, stage: int, address: int, on_walk: bool) -> None:
    if not _permitted(found.attributes, access):
        raise GuestFault(FaultKind.PERMISSION, stage, found.level, address, on_walk)
