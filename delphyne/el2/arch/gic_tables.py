# SPDX-License-Identifier: Apache-2.0
"""The registers of a GICv3 that name memory, and which memory each names: the tables and the command queue of an interrupt translation service
(ITS), the tables of each redistributor's LPIs (Arm GIC architecture specification IHI 0069, chapters 5 and 12).

Accesses to pages of such registers, and calculations on their values: no lock, no state.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.lang import Bits32, Bits64, Pa, bits, mmio_read32, mmio_read64, mmio_write32, mmio_write64, u8, u16, u32, u64

GICD_TYPER: Final = u64(0x4)

GICR_CTLR: Final = u64(0x0)
GICR_TYPER: Final = u64(0x8)
GICR_PROPBASER: Final = u64(0x70)
GICR_PENDBASER: Final = u64(0x78)
GICR_FRAME: Final = u64(0x1_0000)
"""A redistributor's registers lie in 64 KiB frames: RD_base, SGI_base and, with GICv4, VLPI_base and a reserved one."""
VLPI_BASE: Final = u64(0x2_0000)
GICR_VPROPBASER: Final = u64(0x70)
"""In the frame at VLPI_BASE."""
GICR_VPENDBASER: Final = u64(0x78)

GITS_CTLR: Final = u64(0x0)
GITS_TYPER: Final = u64(0x8)
GITS_CBASER: Final = u64(0x80)
GITS_CWRITER: Final = u64(0x88)
GITS_CREADR: Final = u64(0x90)
GITS_BASER: Final = u64(0x100)
GITS_BASER_COUNT: Final = u64(8)

GITS_TYPER_VIRTUAL: Final = u64(1 << 1 | 1 << 37 | 1 << 39 | 1 << 40 | 3 << 41)
"""Virtual, VMOVP, VSGI, VMAPP and SVPET: what an ITS has for virtual LPIs."""
CWRITER_OFFSET: Final = u64(0xF_FFE0)
CWRITER_RETRY: Final = u64(1)
CREADR_STALLED: Final = u64(1)
CBASER_ATTRIBUTES: Final = u64(7 << 59 | 7 << 53 | 3 << 10)
"""Inner and outer cacheability, shareability."""
PENDBASER_UNALIGNED: Final = u64(0xF000)
"""Of an address in GICR_PENDBASER: RES0, since a pending table is aligned to 64 KiB."""
VALID: Final = u64(1 << 63)
"""In GICR_VPENDBASER, and in GICR_VPROPBASER of GICv4.1: the redistributor uses the tables. GICv4.0's GICR_VPROPBASER has no such bit and
counts only beside a valid GICR_VPENDBASER."""

TYPE_NONE: Final = u8(0)
"""GITS_BASER.type: there is no such table."""
TYPE_DEVICES: Final = u8(1)
TYPE_VPES: Final = u8(2)
TYPE_COLLECTIONS: Final = u8(4)
FIRST_LPI_BITS: Final = u64(14)
"""Interrupt numbers of fewer bits have no LPIs among them."""


class GicdTyper(Bits32):
    """GICD_TYPER."""

    id_bits: u8 = bits(23, 19)
    """Bits of an interrupt number, less one."""


class GicrCtlr(Bits32):
    """GICR_CTLR."""

    enable_lpis: bool = bits(0)
    rwp: bool = bits(3)
    """A write is on its way: after `enable_lpis` became 0 the tables may still be in use."""


class GicrTyper(Bits64):
    """GICR_TYPER."""

    vlpis: bool = bits(1)
    last: bool = bits(4)
    """The last redistributor of its region."""
    processor: u16 = bits(23, 8)
    """Its processor's number, by which an ITS may know it."""
    affinity: u32 = bits(63, 32)
    """Its processor's affinity, Aff3 to Aff0."""


class Propbaser(Bits64):
    """GICR_PROPBASER."""

    id_bits: u8 = bits(4, 0)
    """Bits of an interrupt number, less one."""
    frame: u64 = bits(51, 12)


class Pendbaser(Bits64):
    """GICR_PENDBASER."""

    frame64k: u64 = bits(51, 16)
    ptz: bool = bits(62)


class Baser(Bits64):
    """GITS_BASER<n>."""

    size: u8 = bits(7, 0)
    """Pages, less one."""
    page_size: u8 = bits(9, 8)
    """0 4 KiB, 1 16 KiB, 2 64 KiB."""
    frame: u64 = bits(47, 12)
    entry_size: u8 = bits(52, 48)
    type: u8 = bits(58, 56)
    indirect: bool = bits(62)
    valid: bool = bits(63)


class Cbaser(Bits64):
    """GITS_CBASER."""

    size: u8 = bits(7, 0)
    """Pages of 4 KiB, less one."""
    frame: u64 = bits(51, 12)
    valid: bool = bits(63)


class GitsCtlr(Bits32):
    """GITS_CTLR."""

    enabled: bool = bits(0)
    quiescent: bool = bits(31)


def nothing() -> Region:
    """What a register that names no memory names."""
    return Region(Pa(u64(0)), u64(0))


def interrupt_bits(register: Propbaser, limit: u64) -> u64:
    """How many bits the numbers of LPIs have: of the register's, and of `limit`, those of the distributor, the fewer; 0 where there are no LPIs."""
    wanted = min(u64(register.id_bits) + 1, limit)
    return u64(0) if wanted < FIRST_LPI_BITS else wanted


def property_table(register: Propbaser, number_bits: u64) -> Region:
    """One byte for each interrupt. The first 8192, which are no LPIs, have none, but are counted: who gives them memory gives more, not less."""
    if number_bits == 0:
        return nothing()
    return Region(Pa(register.frame * PAGE_SIZE), u64(1) << number_bits)


def pending_table(register: Pendbaser, number_bits: u64) -> Region:
    """One bit for each interrupt."""
    if number_bits == 0:
        return nothing()
    return Region(Pa(register.frame64k << 16), (u64(1) << number_bits) // 8)


def its_table(register: Baser) -> Region:
    """A table of one level. With pages of 64 KiB bits 15 to 12 hold bits 51 to 48 of the address; the page size that is reserved counts as these."""
    if not register.valid:
        return nothing()
    pages = u64(register.size) + 1
    address = register.frame * PAGE_SIZE
    if register.page_size == 0:
        return Region(Pa(address), pages * PAGE_SIZE)
    if register.page_size == 1:
        # Whether bits 13 and 12, which are RES0, count is the implementation's to say: both answers are inside.
        low = address & (4 * PAGE_SIZE - 1)
        return Region(Pa(address - low), pages * (4 * PAGE_SIZE) + low)
    high = (address & 0xF000) << 36
    return Region(Pa((address & ~u64(0xFFFF)) | high), pages * (16 * PAGE_SIZE))


def command_queue(register: Cbaser) -> Region:
    """The ring of commands."""
    if not register.valid:
        return nothing()
    return Region(Pa(register.frame * PAGE_SIZE), (u64(register.size) + 1) * PAGE_SIZE)


def queue_register(register: u64, page: Pa) -> u64:
    """GITS_CBASER with the attributes of `register`, for a queue of one page."""
    return (register & CBASER_ATTRIBUTES) | page.raw | VALID


def merge(old: u64, x: u64, high: bool, wide: bool) -> u64:
    """A register of 64 bits after a store of all of it, or of its low or high half."""
    if wide:
        return x
    return (old & 0xFFFF_FFFF) | x << 32 if high else (old & ~u64(0xFFFF_FFFF)) | x & 0xFFFF_FFFF


def half(x: u64, high: bool) -> u64:
    """The low or the high half of a register of 64 bits."""
    return u64(u32.wrap(x >> 32 if high else x))


def read32(page: Pa, offset: u64) -> u32:
    """A register of 32 bits, or half of one, in a page of registers that EL2 has mapped."""
    return mmio_read32(page + (offset & (PAGE_SIZE - 4)))


def read64(page: Pa, offset: u64) -> u64:
    """The same, of 64 bits."""
    return mmio_read64(page + (offset & (PAGE_SIZE - 8)))


def write32(page: Pa, offset: u64, x: u32) -> None:
    """The same, written."""
    mmio_write32(page + (offset & (PAGE_SIZE - 4)), x)


def write64(page: Pa, offset: u64, x: u64) -> None:
    """The same, of 64 bits."""
    mmio_write64(page + (offset & (PAGE_SIZE - 8)), x)
