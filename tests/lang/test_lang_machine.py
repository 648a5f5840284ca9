# SPDX-License-Identifier: Apache-2.0
"""The machine: cache, page-table walks, TLB upkeep, break-before-make and the handing over of frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delphyne.lang import (
    Array,
    AtomicU64,
    Domain,
    Ipa,
    Order,
    Va,
    at_s1e1r,
    at_s1e2r,
    at_s12e1r,
    at_s12e1w,
    dc_civac,
    dc_cvac,
    dc_cvau,
    dc_ivac,
    dsb,
    ic_iallu,
    ic_ialluis,
    ic_ivau,
    place_at,
    tlbi_alle1is,
    tlbi_alle2,
    tlbi_ipas2e1,
    tlbi_ipas2e1is,
    tlbi_ipas2le1is,
    tlbi_vae2is,
    tlbi_vale2is,
    tlbi_vmalle1,
    tlbi_vmalle1is,
    tlbi_vmalls12e1is,
    u64,
)
from delphyne.lang.machine import Access, BreakBeforeMake, DirtyFrame, FaultKind, GuestFault, Machine, MachineError, StaleTranslation
from delphyne.lang.machine.memory import Memory

RAM = 0x4000_0000
ROOT, LEVEL2, LEVEL3, LEVEL3B = RAM, RAM + 0x1000, RAM + 0x2000, RAM + 0x3000
DATA = RAM + 0x10_0000
IPA = 0x8000_0000
TABLE = 3
LEAF = 1 << 10 | 3 << 8 | 3 << 6 | 0xF << 2
"""Access flag, inner shareable, read and write, normal write-back."""
PAGE, BLOCK = LEAF | 3, LEAF | 1
NO_EXECUTE = 2 << 53
VTCR = 25 | 1 << 6 | 1 << 8 | 1 << 10 | 3 << 12 | 2 << 16
"""39-bit IPAs from level 1, write-back walks."""


def write(address: int, descriptor: int) -> None:
    place_at(AtomicU64, u64(address)).store(u64(descriptor), Order.RELEASE)


def link(table: int, index: int, descriptor: int) -> None:
    write(table + 8 * index, descriptor)


def stage2(m: Machine, vmid: int = 1, root: int = ROOT) -> None:
    for cpu in m.cpus:
        cpu.registers |= {"HCR_EL2": 1 | 1 << 12, "VTCR_EL2": VTCR, "VTTBR_EL2": root | vmid << 48}


def map_page(ipa: int, pa: int, attributes: int = PAGE) -> None:
    link(ROOT, ipa >> 30, LEVEL2 | TABLE)
    link(LEVEL2, ipa >> 21 & 511, LEVEL3 | TABLE)
    link(LEVEL3, ipa >> 12 & 511, pa | attributes)
    dsb(Domain.ISHST)


@pytest.fixture
def m() -> Iterator[Machine]:
    with Machine(ram_base=RAM, ram_size=0x100_0000, cpus=2) as made:
        stage2(made)
        yield made


def fault_of(run: Any) -> tuple[FaultKind, int, int, int]:
    with pytest.raises(GuestFault) as caught:
        run()
    fault = caught.value
    return fault.kind, fault.stage, fault.level, fault.address


# --- memory and cache ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 200), st.binary(min_size=1, max_size=80), st.booleans()), max_size=12))
def test_memory_seen_one_way_only_is_plain(writes: list[tuple[int, bytes, bool]]) -> None:
    for cacheable in (True, False):
        memory, model = Memory(), bytearray(0x2000)
        memory.add(0, 0x2000)
        for at, data, _ in writes:
            memory.write(0xF80 + at, data, cacheable)
            model[0xF80 + at : 0xF80 + at + len(data)] = data
        assert memory.read(0xF00, 0x400, cacheable) == bytes(model[0xF00:0x1300])


def test_an_alias_past_the_cache_sees_old_data_until_cleaned(m: Machine) -> None:
    memory, line = m.memory, Va(u64(DATA))
    memory.write(DATA, b"old", cacheable=False)
    assert memory.read(DATA, 3) == b"old"
    memory.write(DATA, b"new")
    assert (memory.read(DATA, 3, False), memory.is_dirty(DATA)) == (b"old", True)
    dc_cvac(line)
    assert (memory.read(DATA, 3, False), memory.is_dirty(DATA)) == (b"new", False)
    memory.write(DATA, b"dev", cacheable=False)
    assert memory.read(DATA, 3) == b"new"
    dc_civac(line)
    assert memory.read(DATA, 3) == b"dev"
    memory.write(DATA, b"bad")
    dc_ivac(line)
    assert memory.read(DATA, 3) == b"dev"


def test_a_guest_without_mmu_reads_past_the_cache(m: Machine) -> None:
    map_page(IPA, DATA)
    m.memory.write(DATA, b"secrets!")
    for cpu in m.cpus:
        cpu.registers["HCR_EL2"] = 1
    assert m.guest_read(IPA) == 0
    dc_civac(Va(u64(DATA)))
    assert m.guest_read(IPA).to_bytes(8, "little") == b"secrets!"


def test_instructions_are_seen_when_cleaned_and_invalidated(m: Machine) -> None:
    map_page(IPA, DATA)
    line = Va(u64(DATA))
    assert m.guest_fetch(IPA) == 0
    with m.on(1):
        assert m.guest_fetch(IPA) == 0
    m.memory.write(DATA, b"code")
    ic_ialluis()
    dsb(Domain.ISH)
    for number in range(2):
        with m.on(number):
            assert m.guest_fetch(IPA) == 0
    dc_cvau(line)
    ic_iallu()
    dsb(Domain.ISHST)
    assert m.guest_fetch(IPA) == 0
    dsb(Domain.NSH)
    assert m.guest_fetch(IPA).to_bytes(4, "little") == b"code"
    assert m.memory.read(DATA, 4, cacheable=False) == bytes(4)
    with m.on(1):
        assert m.guest_fetch(IPA) == 0
    ic_ivau(line)
    dsb(Domain.NSH)
    with m.on(1):
        assert m.guest_fetch(IPA) == 0
    dsb(Domain.ISH)
    with m.on(1):
        assert m.guest_fetch(IPA).to_bytes(4, "little") == b"code"


def test_ram_is_checked(m: Machine) -> None:
    for base, size in ((RAM + 0x1000, 0x1000), (5, 0x1000), (0, 0)):
        with pytest.raises(MachineError):
            m.memory.add(base, size)
    for read in (lambda: m.memory.read(RAM - 1, 1), lambda: m.memory.read(RAM + 0xFF_FFFF, 2)):
        with pytest.raises(MachineError, match="no RAM"):
            read()


# --- walks -----------------------------------------------------------------------------------------------------------------------


def test_stage_2_walk(m: Machine) -> None:
    map_page(IPA, DATA)
    link(LEVEL2, 5, 0x4080_0000 | BLOCK)
    dsb(Domain.ISHST)
    m.guest_write(IPA + 8, 0x1234)
    assert m.guest_read(IPA + 8) == 0x1234
    assert m.memory.read(DATA + 8, 2) == b"\x34\x12"
    assert m.stage2_translate(IPA + 5 * 0x20_0000 + 0x12345) == 0x4081_2345
    assert m.guest_fetch(IPA) == 0


@pytest.mark.parametrize(
    ("descriptor", "access", "expected"),
    [
        (0, Access.READ, FaultKind.TRANSLATION),
        (DATA | PAGE & ~2, Access.READ, FaultKind.TRANSLATION),
        (DATA | PAGE & ~(1 << 10), Access.READ, FaultKind.ACCESS_FLAG),
        (DATA | PAGE & ~(1 << 6), Access.READ, FaultKind.PERMISSION),
        (DATA | PAGE & ~(1 << 7), Access.WRITE, FaultKind.PERMISSION),
        (DATA | PAGE | NO_EXECUTE, Access.EXECUTE, FaultKind.PERMISSION),
    ],
)
def test_stage_2_faults_at_level_3(m: Machine, descriptor: int, access: Access, expected: FaultKind) -> None:
    map_page(IPA, 0, descriptor)
    run = {Access.READ: lambda: m.guest_read(IPA), Access.WRITE: lambda: m.guest_write(IPA, 1), Access.EXECUTE: lambda: m.guest_fetch(IPA)}[access]
    assert fault_of(run) == (expected, 2, 3, IPA)
    code = {FaultKind.TRANSLATION: 0x07, FaultKind.ACCESS_FLAG: 0x0B, FaultKind.PERMISSION: 0x0F}[expected]
    if access is not Access.EXECUTE:
        (at_s12e1w if access is Access.WRITE else at_s12e1r)(Va(u64(IPA)))
        assert m.read_register("PAR_EL1") == 1 | code << 1 | 1 << 9 | 1 << 11


def test_stage_2_faults_above_level_3(m: Machine) -> None:
    assert fault_of(lambda: m.guest_read(IPA)) == (FaultKind.TRANSLATION, 2, 1, IPA)
    link(ROOT, 2, LEVEL2 | TABLE)
    assert fault_of(lambda: m.guest_read(IPA)) == (FaultKind.TRANSLATION, 2, 2, IPA)
    assert fault_of(lambda: m.guest_read(1 << 39)) == (FaultKind.TRANSLATION, 2, 0, 1 << 39)
    link(LEVEL2, 0, 0x1_0000_0000 | TABLE)
    assert fault_of(lambda: m.guest_read(IPA)) == (FaultKind.EXTERNAL, 2, 3, IPA)


def test_concatenated_roots(m: Machine) -> None:
    for cpu in m.cpus:
        cpu.registers["VTCR_EL2"] = VTCR & ~63 | 24
    link(ROOT, 512, 0x4000_0000 | BLOCK)
    assert m.stage2_translate((1 << 39) + 0x123) == 0x4000_0123
    for cpu in m.cpus:
        cpu.registers["VTCR_EL2"] = VTCR & ~(63 | 3 << 6) | 24 | 2 << 6
    link(LEVEL2, 0, 0x4000_0000 | BLOCK)
    link(ROOT, 0, LEVEL2 | TABLE)
    m.cpu.registers["VTTBR_EL2"] = ROOT | 2 << 48
    assert m.stage2_translate(0x456) == 0x4000_0456
    write(LEVEL3B, BLOCK)
    m.cpu.registers["VTTBR_EL2"] = LEVEL3B | 3 << 48
    assert fault_of(lambda: m.stage2_translate(0)) == (FaultKind.TRANSLATION, 2, 0, 0)


def test_without_stage_2_and_mmu_addresses_stay(m: Machine) -> None:
    for cpu in m.cpus:
        cpu.registers["HCR_EL2"] = 0
    m.guest_write(DATA, 7)
    assert m.guest_read(DATA) == 7
    assert m.el2_translate(DATA + 5) == DATA + 5
    with pytest.raises(MachineError, match="within a page"):
        m.guest_read(DATA + 0xFFC)


def stage1(m: Machine) -> None:
    """EL1 tables at IPA: VA 0x40_0000 to IPA + 0x5000, VA 0x40_1000 to IPA + 0x6000 (read only, not global), upper half likewise."""
    tables = {0: [(0, 0x1000 | TABLE)], 0x1000: [(0, 0x2000 | TABLE)], 0x2000: [(2, 0x3000 | TABLE)]}
    tables[0x3000] = [(0, 0x5000 | 1 << 10 | 1 << 2 | 3), (1, 0x6000 | 1 << 10 | 1 << 11 | 1 << 7 | 1 << 53 | 3), (2, 0x7000 | 3)]
    for number in range(8):
        map_page(IPA + 0x1000 * number, DATA + 0x1000 * number)
    for table, entries in tables.items():
        for index, descriptor in entries:
            write(DATA + table + 8 * index, descriptor + IPA)
    for cpu in m.cpus:
        cpu.registers |= {
            "SCTLR_EL1": 1,
            "TCR_EL1": 16 | 16 << 16 | 1 << 8 | 1 << 24,
            "TTBR0_EL1": IPA | 7 << 48,
            "TTBR1_EL1": IPA,
            "MAIR_EL1": 0xFF00,
        }


def test_both_stages(m: Machine) -> None:
    stage1(m)
    m.guest_write(0x40_0010, 99)
    assert m.memory.read(DATA + 0x5010, 1) == b"\x63"
    assert m.guest_read(0xFFFF_0000_0040_0010) == 99
    assert fault_of(lambda: m.guest_write(0x40_1000, 1)) == (FaultKind.PERMISSION, 1, 3, 0x40_1000)
    assert fault_of(lambda: m.guest_fetch(0x40_1000)) == (FaultKind.PERMISSION, 1, 3, 0x40_1000)
    assert fault_of(lambda: m.guest_read(0x40_2000)) == (FaultKind.ACCESS_FLAG, 1, 3, 0x40_2000)
    assert fault_of(lambda: m.guest_read(0x80_0000)) == (FaultKind.TRANSLATION, 1, 2, 0x80_0000)
    assert fault_of(lambda: m.guest_read(1 << 50)) == (FaultKind.TRANSLATION, 1, 0, 1 << 50)
    at_s12e1r(Va(u64(0x40_0123)))
    assert m.read_register("PAR_EL1") & 0x0000_FFFF_FFFF_F001 == DATA + 0x5000
    assert m.read_register("PAR_EL1") >> 56 == 0xFF
    at_s1e1r(Va(u64(0x40_0123)))
    assert m.read_register("PAR_EL1") & 0x0000_FFFF_FFFF_F001 == IPA + 0x5000


def test_a_walk_that_stage_2_refuses_says_so(m: Machine) -> None:
    stage1(m)
    link(LEVEL3, (IPA >> 12 & 511) + 1, 0)
    dsb(Domain.ISHST)
    with pytest.raises(GuestFault) as caught:
        m.guest_read(0x40_0000)
    assert (caught.value.on_walk, caught.value.stage, caught.value.address) == (True, 2, IPA + 0x1000)
    at_s12e1r(Va(u64(0x40_0000)))
    assert m.read_register("PAR_EL1") & 0x3FF == 1 | 0x07 << 1 | 1 << 8 | 1 << 9


def test_global_entries_serve_every_address_space(m: Machine) -> None:
    stage1(m)
    m.guest_read(0x40_0000)
    m.guest_read(0x40_1000)
    write(DATA + 0x3000, 0)
    write(DATA + 0x3008, 0)
    m.cpu.registers["TTBR0_EL1"] = IPA | 8 << 48
    assert m.guest_read(0x40_0000) == 0
    assert fault_of(lambda: m.guest_read(0x40_1000)) == (FaultKind.TRANSLATION, 1, 3, 0x40_1000)


def test_el2_walk(m: Machine) -> None:
    m.cpu.registers |= {"SCTLR_EL2": 1, "TCR_EL2": 25 | 1 << 8, "TTBR0_EL2": ROOT, "MAIR_EL2": 0xFF}
    link(ROOT, 0, LEVEL2 | TABLE | 1 << 62)
    link(LEVEL2, 1, 0x4020_0000 | 1 << 10 | 1)
    link(LEVEL2, 2, 0x4040_0000 | 1 << 10 | 1 << 54 | 1)
    assert m.el2_translate(0x20_0123) == 0x4020_0123
    assert m.el2_translate(0x20_0123, Access.EXECUTE) == 0x4020_0123
    assert fault_of(lambda: m.el2_translate(0x20_0000, Access.WRITE)) == (FaultKind.PERMISSION, 1, 2, 0x20_0000)
    assert fault_of(lambda: m.el2_translate(0x40_0000, Access.EXECUTE)) == (FaultKind.PERMISSION, 1, 2, 0x40_0000)
    assert fault_of(lambda: m.el2_translate(1 << 39)) == (FaultKind.TRANSLATION, 1, 0, 1 << 39)
    at_s1e2r(Va(u64(0x20_0123)))
    assert m.read_register("PAR_EL1") & 0x0000_FFFF_FFFF_F001 == 0x4020_0000
    at_s1e2r(Va(u64(0x60_0000)))
    assert m.read_register("PAR_EL1") & 0x3FF == 1 | 0x06 << 1
    link(LEVEL2, 1, 0)
    dsb(Domain.ISHST)
    tlbi_vae2is(Va(u64(0x40_0000)))
    dsb(Domain.ISH)
    assert m.el2_translate(0x20_0000) == 0x4020_0000
    tlbi_vale2is(Va(u64(0x20_0000)))
    dsb(Domain.ISH)
    assert fault_of(lambda: m.el2_translate(0x20_0000)) == (FaultKind.TRANSLATION, 1, 2, 0x20_0000)
    tlbi_alle2()
    dsb(Domain.NSH)
    assert [entry for _, entry in m.translations()] == []


# --- TLB upkeep ------------------------------------------------------------------------------------------------------------------


def unmap(index: int = IPA >> 12 & 511) -> None:
    link(LEVEL3, index, 0)


def flush_page() -> None:
    tlbi_ipas2e1is(Ipa(u64(IPA)))
    dsb(Domain.ISH)
    tlbi_vmalle1is()
    dsb(Domain.ISH)


def holds_it(m: Machine) -> bool:
    """Whether the page can still be handed to nobody."""
    try:
        m.hand_over(DATA)
    except StaleTranslation:
        return True
    return False


def touched(m: Machine) -> None:
    map_page(IPA, DATA)
    for number in range(2):
        with m.on(number):
            m.guest_read(IPA)


def test_an_unmapped_page_stays_reachable_until_flushed(m: Machine) -> None:
    touched(m)
    unmap()
    assert m.guest_read(IPA) == 0
    assert holds_it(m)
    dsb(Domain.ISHST)
    flush_page()
    assert not holds_it(m)
    assert fault_of(lambda: m.guest_read(IPA)) == (FaultKind.TRANSLATION, 2, 3, IPA)


@pytest.mark.parametrize(
    ("steps", "clean"),
    [
        pytest.param([lambda: dsb(Domain.ISHST), flush_page], True, id="as it should be"),
        pytest.param([lambda: dsb(Domain.SY), tlbi_vmalls12e1is, lambda: dsb(Domain.SY)], True, id="whole VMID"),
        pytest.param([lambda: dsb(Domain.ISH), tlbi_alle1is, lambda: dsb(Domain.OSH)], True, id="everything"),
        pytest.param([flush_page], False, id="no DSB before"),
        pytest.param([lambda: dsb(Domain.NSH), flush_page], False, id="store not seen by the other CPU"),
        pytest.param([lambda: dsb(Domain.ISHLD), flush_page], False, id="DSB for loads before"),
        pytest.param([lambda: dsb(Domain.ISHST), tlbi_vmalls12e1is], False, id="no DSB after"),
        pytest.param([lambda: dsb(Domain.ISHST), tlbi_vmalls12e1is, lambda: dsb(Domain.ISHST)], False, id="DSB for stores after"),
        pytest.param([lambda: dsb(Domain.ISHST), tlbi_vmalls12e1is, lambda: dsb(Domain.NSH)], False, id="DSB for this CPU after"),
        pytest.param(
            [lambda: dsb(Domain.ISHST), lambda: tlbi_ipas2e1is(Ipa(u64(IPA))), lambda: dsb(Domain.ISH)], False, id="combined entries forgotten"
        ),
        pytest.param([lambda: dsb(Domain.ISHST), tlbi_vmalle1is, lambda: dsb(Domain.ISH)], False, id="stage-2 entries forgotten"),
        pytest.param(
            [lambda: dsb(Domain.ISHST), lambda: tlbi_ipas2e1(Ipa(u64(IPA))), tlbi_vmalle1, lambda: dsb(Domain.ISH)], False, id="only this CPU"
        ),
        pytest.param(
            [lambda: dsb(Domain.ISHST), lambda: tlbi_ipas2e1is(Ipa(u64(IPA + 0x1000))), tlbi_vmalle1is, lambda: dsb(Domain.ISH)],
            False,
            id="wrong page",
        ),
    ],
)
def test_only_a_complete_flush_makes_a_frame_free(m: Machine, steps: list[Any], clean: bool) -> None:
    touched(m)
    unmap()
    for step in steps:
        step()
    assert holds_it(m) is not clean


def test_a_flush_is_of_the_current_vmid(m: Machine) -> None:
    touched(m)
    unmap()
    dsb(Domain.ISHST)
    m.cpu.registers["VTTBR_EL2"] = ROOT | 2 << 48
    flush_page()
    assert holds_it(m)
    m.cpu.registers["VTTBR_EL2"] = ROOT | 1 << 48
    flush_page()
    assert not holds_it(m)


def test_the_other_cpu_completes_nothing(m: Machine) -> None:
    touched(m)
    unmap()
    dsb(Domain.ISHST)
    tlbi_vmalls12e1is()
    with m.on(1):
        dsb(Domain.ISH)
    assert holds_it(m)


def test_local_flush_with_a_local_barrier(m: Machine) -> None:
    map_page(IPA, DATA)
    m.guest_read(IPA)
    unmap()
    dsb(Domain.NSH)
    tlbi_ipas2e1(Ipa(u64(IPA)))
    tlbi_vmalle1()
    dsb(Domain.NSH)
    assert not holds_it(m)


def test_a_freed_table_needs_more_than_a_last_level_flush(m: Machine) -> None:
    touched(m)
    link(LEVEL2, 0, 0)
    dsb(Domain.ISHST)
    tlbi_ipas2le1is(Ipa(u64(IPA)))
    tlbi_vmalle1is()
    dsb(Domain.ISH)
    with pytest.raises(StaleTranslation, match="table"):
        m.retire_table(LEVEL3)
    flush_page()
    m.retire_table(LEVEL3)
    assert LEVEL3 not in m.live_tables


# --- break before make, and handing over -----------------------------------------------------------------------------------------


def test_a_live_descriptor_is_broken_before_it_is_made(m: Machine) -> None:
    touched(m)
    index = IPA >> 12 & 511
    with pytest.raises(BreakBeforeMake, match="without being invalid"):
        link(LEVEL3, index, DATA + 0x1000 | PAGE)
    link(LEVEL3, index, DATA | PAGE & ~(1 << 7))
    link(LEVEL3, index, DATA | PAGE | NO_EXECUTE | 1 << 55)
    with pytest.raises(BreakBeforeMake):
        link(LEVEL3, index, DATA | PAGE & ~(0xF << 2))
    unmap()
    with pytest.raises(BreakBeforeMake, match="may hold"):
        link(LEVEL3, index, DATA + 0x1000 | PAGE)
    dsb(Domain.ISHST)
    flush_page()
    link(LEVEL3, index, DATA + 0x1000 | PAGE)


def test_a_block_is_not_split_in_place(m: Machine) -> None:
    link(ROOT, 2, LEVEL2 | TABLE)
    link(LEVEL2, 0, 0x4080_0000 | BLOCK)
    dsb(Domain.ISHST)
    assert m.guest_read(IPA) == 0
    with pytest.raises(BreakBeforeMake):
        link(LEVEL2, 0, LEVEL3 | TABLE)
    link(LEVEL2, 0, 0)
    dsb(Domain.ISHST)
    flush_page()
    link(LEVEL2, 0, LEVEL3 | TABLE)


def test_tables_can_be_declared_live_before_any_walk(m: Machine) -> None:
    write(ROOT, DATA | BLOCK)
    write(ROOT, LEVEL2 | TABLE)
    m.register_table(ROOT)
    with pytest.raises(BreakBeforeMake):
        write(ROOT, DATA | BLOCK)
    m.retire_table(ROOT)
    write(ROOT, DATA | BLOCK)


def test_writes_of_other_sizes_are_checked_too(m: Machine) -> None:
    touched(m)
    table = place_at(Array[u64, 512], u64(LEVEL3))
    with pytest.raises(BreakBeforeMake):
        table.fill(u64(DATA + 0x5000 | PAGE))
    with pytest.raises(BreakBeforeMake):
        m._write(LEVEL3 + 8 * (IPA >> 12 & 511) + 2, b"\x55")


def test_dirty_frames_are_not_handed_over(m: Machine) -> None:
    m.memory.write(DATA + 100, b"x")
    with pytest.raises(DirtyFrame):
        m.hand_over(DATA)
    dc_cvac(Va(u64(DATA + 100)))
    m.hand_over(DATA)
    m.register_table(DATA)
    m.hand_over(DATA, 0x2000)
    assert DATA not in m.live_tables


def test_what_is_made_from_a_doomed_table_entry_goes_with_it() -> None:
    """Between an invalidation and the DSB that completes it another CPU walks on from where it remembers the last table to be."""
    with Machine(cpus=2) as machine:
        root, middle, last = RAM + 0x1_0000, RAM + 0x1_1000, RAM + 0x1_2000
        for at, word in ((root, middle | 3), (middle, last | 3), (last, RAM | 0x7FF), (last + 8, RAM + 0x1000 | 0x7FF)):
            machine.memory.write(at, word.to_bytes(8, "little"))
        for number in range(2):
            with machine.on(number):
                machine.write_register("VTTBR_EL2", 5 << 48 | root)
                machine.write_register("VTCR_EL2", 25 | 1 << 6 | 3 << 12 | 5 << 8)
                machine.write_register("HCR_EL2", 1)
        with machine.on(1):
            assert machine.stage2_translate(0) == RAM
        place_at(AtomicU64, u64(root)).store(u64(0), Order.RELAXED)
        dsb(Domain.ISHST)
        tlbi_vmalls12e1is()
        with machine.on(1):
            assert machine.stage2_translate(0x1000) == RAM + 0x1000, "from the entry that is doomed"
        dsb(Domain.ISH)
        with machine.on(1), pytest.raises(GuestFault):
            machine.stage2_translate(0x1000)
