# SPDX-License-Identifier: Apache-2.0
"""VMSAv8-64 translation tables with the 4 KiB granule: descriptors, geometry and the registers that say where tables start.

Arm ARM (DDI 0487) D8.2 (geometry, concatenated start tables), D8.3 (descriptor formats), D8.6 (memory attributes). Output addresses have
at most 48 bits: neither FEAT_LPA nor FEAT_LPA2 is used. Levels count as the manual does, from 0 (512 GiB a slot) to 3 (4 KiB a slot).

No lock and no state: everything here is a value or a calculation.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Bits64, Enum8, SysReg, bits, u8, u16, u64

PAGE_SHIFT: Final = u64(12)
PAGE_SIZE: Final = u64(4096)
SLOTS: Final = u64(512)
"""Descriptors in a table, which is one page."""
LAST_LEVEL: Final = u64(3)
FIRST_BLOCK_LEVEL: Final = u64(1)
"""The coarsest level that can hold a leaf: 1 GiB. Level 0 holds blocks only with FEAT_LPA2 or larger granules."""
ADDRESS_BITS: Final = u64(48)
ADDRESS_LIMIT: Final = u64(1 << 48)


class Shareability(Enum8):
    """SH[1:0]; the value 1 is reserved (D8.6.2)."""

    NONE = 0
    OUTER = 2
    INNER = 3


class Stage2Memory(Enum8):
    """MemAttr[3:0] of a stage-2 leaf while HCR_EL2.FWB is 0 (D8.6.5): what the guest's own attributes are combined with."""

    DEVICE = 0b0001
    """Device-nGnRE."""
    NORMAL = 0b1111
    """Normal, inner and outer write-back: the guest's own attributes hold."""


class Descriptor(Bits64):
    """What every descriptor of both stages has. A slot that is not `valid` is ignored by the processor, whatever its other bits are."""

    valid: bool = bits(0)
    table: bool = bits(1)
    """At levels 0 to 2: a table if set, else a block. At level 3 it is set in every valid descriptor."""
    frame: u64 = bits(47, 12)
    """Output address or address of the next table, in pages."""


class Stage2Leaf(Bits64):
    """Stage-2 block or page descriptor (D8.3.2)."""

    valid: bool = bits(0)
    page: bool = bits(1)
    """Set at level 3, clear in a block."""
    memory: Stage2Memory = bits(5, 2)
    read: bool = bits(6)
    """S2AP[0]."""
    write: bool = bits(7)
    """S2AP[1]."""
    shareability: Shareability = bits(9, 8)
    accessed: bool = bits(10)
    """AF: clear makes the first access fault, unless VTCR_EL2.HA is set."""
    frame: u64 = bits(47, 12)
    dirty_managed: bool = bits(51)
    """DBM."""
    contiguous: bool = bits(52)
    execute_never_privileged: bool = bits(53)
    """XN[0]; RES0 without FEAT_XNX, and kept clear here."""
    execute_never: bool = bits(54)
    """XN[1]: with XN[0] clear, nothing executes at EL1 nor EL0."""
    software: u8 = bits(58, 55)


class Stage1Leaf(Bits64):
    """Stage-1 block or page descriptor of a regime with one range of addresses: EL2 with HCR_EL2.E2H 0 (D8.3.1)."""

    valid: bool = bits(0)
    page: bool = bits(1)
    attribute: u8 = bits(4, 2)
    """Index into MAIR_EL2."""
    access_res1: bool = bits(6)
    """AP[1], which is RES1 in such a regime."""
    read_only: bool = bits(7)
    """AP[2]."""
    shareability: Shareability = bits(9, 8)
    accessed: bool = bits(10)
    """AF."""
    frame: u64 = bits(47, 12)
    guarded: bool = bits(50)
    """GP: branch targets are checked, with FEAT_BTI."""
    contiguous: bool = bits(52)
    execute_never: bool = bits(54)
    software: u8 = bits(58, 55)


class Vtcr(Bits64):
    """VTCR_EL2: how the stage-2 tables are walked (D24.2, fields that Delphyne sets)."""

    t0sz: u8 = bits(5, 0)
    """64 less the bits of an intermediate address."""
    start_level: u8 = bits(7, 6)
    """SL0, with the 4 KiB granule: 0, 1, 2 for levels 2, 1, 0."""
    inner_cacheability: u8 = bits(9, 8)
    outer_cacheability: u8 = bits(11, 10)
    shareability: Shareability = bits(13, 12)
    granule: u8 = bits(15, 14)
    """TG0: 0 is 4 KiB."""
    physical_size: u8 = bits(18, 16)
    """PS, encoded as ID_AA64MMFR0_EL1.PARange."""
    wide_vmid: bool = bits(19)
    """VS: VMIDs have sixteen bits."""
    hardware_access_flag: bool = bits(21)
    hardware_dirty: bool = bits(22)
    res1: bool = bits(31)


class Vttbr(Bits64):
    """VTTBR_EL2: the start of the stage-2 tables and whose translations they are."""

    common_not_private: bool = bits(0)
    """CnP."""
    table: u64 = bits(47, 1)
    """BADDR: half the address of the first start table, which is aligned to the size of all of them."""
    vmid: u16 = bits(63, 48)


VTTBR_EL2: Final = SysReg(Vttbr, "VTTBR_EL2", 3, 4, 2, 1, 0)


def level_shift(level: u64) -> u64:
    """Address bits below those that index a table of this level, which is 0 to 3."""
    return PAGE_SHIFT + u64(9) * (LAST_LEVEL - level)


def level_size(level: u64) -> u64:
    """Bytes that one slot of this level spans."""
    return u64(1) << level_shift(level)


def slot_of(address: u64, level: u64) -> u64:
    """The slot that `address` selects in a table of this level."""
    return (address >> level_shift(level)) & u64(511)


def is_table(descriptor: Descriptor, level: u64) -> bool:
    """Whether this descriptor, found at `level`, leads to a further table."""
    return descriptor.valid and descriptor.table and level < LAST_LEVEL


def stage2_start_level(address_bits: u64) -> u64:
    """The start level for intermediate addresses of 39 to 48 bits.

    Up to 43 bits the walk starts at level 1, with up to sixteen tables in a row (D8.2.8): level 0 is not there on processors with fewer
    than 44 bits of physical address.
    """
    return u64(1) if address_bits <= 43 else u64(0)


def stage2_start_tables(address_bits: u64) -> u64:
    """How many start tables stand in a row, for 39 to 48 bits; their address is aligned to their whole size."""
    return u64(1) << (address_bits - 39) if address_bits <= 43 else u64(1)
