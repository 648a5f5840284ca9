# SPDX-License-Identifier: Apache-2.0
"""EL2's own memory: where it lies, and the stage-1 map under which EL2 runs for good.

Text can be executed and not written, constants and the device tree only read, data written and not executed; all other RAM is
data, so that what a host hands over can be copied; reserved RAM and what no tree names is mapped nowhere. The pages below each stack are not mapped.

Lock: EL2_LOCK (20), under which EL2's map is made and changed; `pages.LOCK` is taken inside.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import image
from delphyne.el2.arch.cpu import CPUS, EMERGENCY_BYTES, EMERGENCY_OFFSET, SLOT_BYTES, STACK_BYTES, STACK_OFFSET
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.machine import Machine
from delphyne.el2.arch.pagetable import PAGE_SIZE, SLOTS
from delphyne.el2.arch.translation import SCTLR_EL2_RES1, Sctlr, Tcr2, physical_bits, physical_size
from delphyne.el2.arch.uart import UartKind
from delphyne.el2.guest import registers
from delphyne.el2.memory import blocks, frames, host_map, pages, stage1, tables
from delphyne.el2.memory.pages import PoolName
from delphyne.el2.memory.stage1 import Use
from delphyne.el2.sealing import records
from delphyne.lang import Array, Lock, Pa, Va, boot, frozen, guarded, holds, struct, u8, u64

OWN_PERCENT: Final = u64(1)
"""What EL2 takes of RAM at most, where that leaves room for LEAST_PRIVATE."""
MOST_PRIVATE: Final = u64(2)
"""At most half of RAM can be private pages at a time,"""
LEAST_PRIVATE: Final = u64(4)
"""and at least a quarter: on a machine so small that this is more than EL2 is to take, EL2 takes more."""
SPARE_GUEST_PAGES: Final = u64(32)
"""Pages for guests' tables above those that map half of RAM by pages: the levels above, and tables that are not full."""
TABLES_ALIGNMENT: Final = u64(65536)
EL2_PAGES: Final = u64(32)
"""Pages for EL2's own map beside those that RAM takes: the image's parts, the device tree, the console, and what splits RAM around them."""
HOST_PAGES: Final = u64(32)
"""Pages for the host's tables beside those that RAM takes: around what is EL2's, and devices."""
BANK_PAGES: Final = u64(5)
"""Tables that a bank takes at most in a map of blocks: two levels at each of its ends, and one above."""
HOLE_PAGES: Final = u64(4)
"""The same of a reserved region: two levels at each end."""
QUEUE_PAGES: Final = u64(1)
"""EL2's command queue of an ITS (`its_queue`)."""
START_PAGES: Final = u64(16)
START_UNITS: Final = u64(4)
GUEST_START_UNITS: Final = u64(64)
"""Guests that have tables of their own at one time."""
GUEST_START_PAGES: Final = u64(2)

EL2_LOCK: Final = Lock("el2 map", rank=20)
EL2_SPACE: Final = guarded(EL2_LOCK, tables.Space())


@struct
class Holes:
    """What is kept out of a map of RAM, in any order."""

    regions: Array[Region, 72]
    count: u64


@struct
class Plan:
    """What EL2's memory is laid out for, once RAM is counted."""

    el2_pages: u64
    host_pages: u64
    records: u64
    """Pages that may be private at a time."""


PLAN: Final = frozen(Plan())


def guest_pages() -> u64:
    """Pages for guests' tables below their start tables: half of RAM by pages. Ordinary guests give way where there are none left."""
    return frames.LAYOUT.frames // SLOTS // 2 + SPARE_GUEST_PAGES


def record_count() -> u64:
    """Pages of protected guests: so many frames may be private at a time."""
    return PLAN.records


def table_pages() -> u64:
    """Pages for all translation tables. After `count_frames`, as all below."""
    return START_UNITS * START_PAGES + PLAN.el2_pages + PLAN.host_pages + GUEST_START_UNITS * GUEST_START_PAGES + guest_pages()


def table_bytes() -> u64:
    """How much memory translation tables and their bookkeeping take, in whole pages."""
    return table_pages() * PAGE_SIZE + page_up(table_pages() * (pages.BOOKKEEPING_BYTES + host_map.OUT_BYTES))


def own_bytes() -> u64:
    """How much memory EL2 takes for translation tables, then the frame table, then for protected guests, in whole pages."""
    return table_bytes() + frames.table_size() + page_up(record_count() * records.RECORD_BYTES) + page_up(registers.memory_bytes())


def own_image_end(machine: Machine) -> Pa:
    """The end of what EL2 keeps of its image. The stacks of CPUs that this machine does not have lie behind it, and are RAM like any other."""
    return image.image_stacks_start() + machine.cpu_count * SLOT_BYTES


def page_up(size: u64) -> u64:
    """The next multiple of a page."""
    return (size + (PAGE_SIZE - 1)) & ~(PAGE_SIZE - 1)


def add_hole(holes: Holes, start: u64, end: u64) -> None | Err:
    """Keeps [start, end) out, widened to whole pages."""
    if holes.count == holes.regions.length:
        return Err.NO_MEMORY
    if end > u64.MAX - PAGE_SIZE:
        return Err.RANGE
    low = start & ~(PAGE_SIZE - 1)
    holes.regions[holes.count] = Region(Pa(low), page_up(end) - low)
    holes.count += 1
    return None


def find_holes(machine: Machine, blob: Region, holes: Holes) -> None | Err:
    """The image, the device tree's own memory `blob`, and every reserved region."""
    added = add_hole(holes, image.image_start().raw, own_image_end(machine).raw)
    if isinstance(added, Err):
        return added
    device_tree = add_hole(holes, blob.base.raw, blob.base.raw + blob.size)
    if isinstance(device_tree, Err):
        return device_tree
    for i in u64.range(machine.reserved_count):
        region = machine.reserved[i]
        added = add_hole(holes, region.base.raw, region.base.raw + region.size)
        if isinstance(added, Err):
            return added
    return None


def place(machine: Machine, holes: Holes, size: u64, alignment: u64) -> Pa | Err:
    """The highest `size` bytes of RAM at a multiple of `alignment`, a power of two, that no hole touches. NO_MEMORY where there are none."""
    for i in u64.range(machine.bank_count):
        bank = machine.banks[machine.bank_count - 1 - i]
        end = bank.base.raw + bank.size
        while end - bank.base.raw >= size:
            start = (end - size) & ~(alignment - 1)
            if start < bank.base.raw:
                break
            below = _hole_below(holes, start, start + size)
            if below == 0:
                return Pa(start)
            if below < bank.base.raw + size:
                break
            end = below
    return Err.NO_MEMORY


def _hole_below(holes: Holes, start: u64, end: u64) -> u64:
    """The lowest start of a hole that touches [start, end), at least 1; 0 where none does."""
    lowest = u64(0)
    for i in u64.range(holes.count):
        region = holes.regions[i]
        if region.base.raw < end and region.base.raw + region.size > start and (lowest == 0 or region.base.raw < lowest):
            lowest = max(region.base.raw, u64(1))
    return lowest


@boot
def count_frames(machine: Machine) -> None | Err:
    """Every bank of RAM into the frame table's layout, and what EL2's memory is laid out for. Errors of `frames.add_bank`."""
    for i in u64.range(machine.bank_count):
        added = frames.add_bank(machine.banks[i].base, machine.banks[i].size)
        if isinstance(added, Err):
            return added
    plan(machine, own_image_end(machine) - image.image_start())
    return None


@boot
def plan(machine: Machine, image_bytes: u64) -> None:
    """Tables by what RAM is made of: in half of its blocks of 2 MiB single pages can be protected guests'. Records for as many pages as EL2's share
    of RAM has room for beside everything else, of which the image takes `image_bytes`; between a quarter of RAM and half."""
    count = frames.LAYOUT.frames
    PLAN.el2_pages = EL2_PAGES + machine.bank_count * BANK_PAGES + machine.reserved_count * HOLE_PAGES + count // SLOTS // SLOTS // SLOTS
    PLAN.el2_pages += machine.its_count * QUEUE_PAGES
    PLAN.host_pages = HOST_PAGES + machine.bank_count * BANK_PAGES + count // SLOTS // SLOTS + count // SLOTS // 2
    PLAN.records = u64(0)
    others = own_bytes() + image_bytes
    share = count * PAGE_SIZE * OWN_PERCENT // 100
    room = ((share - min(others, share)) & ~(PAGE_SIZE - 1)) // records.RECORD_BYTES
    PLAN.records = min(max(room, count // LEAST_PRIVATE), count // MOST_PRIVATE)


@boot
def admit_host(machine: Machine) -> None | Err:
    """Every frame of RAM becomes the host's, but for the image, EL2's own memory, and reserved regions, which are nobody's.

    The frame table is attached here, when EL2's own map, which has it, is in use."""
    attached = frames.attach(pages.REGION.base + table_bytes())
    if isinstance(attached, Err):
        return attached
    behind = pages.REGION.base + table_bytes() + frames.table_size()
    records.attach(behind, record_count())
    registers.attach(behind + page_up(record_count() * records.RECORD_BYTES))
    holes = Holes()
    found = find_holes(machine, Region(Pa(u64(0)), u64(0)), holes)
    if isinstance(found, Err):
        return found
    own = add_hole(holes, pages.REGION.base.raw, pages.REGION.base.raw + own_bytes())
    if isinstance(own, Err):
        return own
    for i in u64.range(machine.bank_count):
        bank = machine.banks[i]
        run = next_run(bank, holes, bank.base.raw)
        while run.size != 0:
            admitted = frames.admit(run.base, run.size)
            if isinstance(admitted, Err):
                return admitted
            first = frames.index_of(run.base)
            if first is not None:
                blocks.learn_all_hosts(first, run.size // PAGE_SIZE)
            run = next_run(bank, holes, run.base.raw + run.size)
    return None


@boot
def take_tables(base: Pa) -> None | Err:
    """Makes `table_bytes()` bytes at `base`, already in the first map, the memory of all translation tables. Pools of the largest units come
    first, so that no page is lost between them."""
    bookkeeping = base + table_pages() * PAGE_SIZE
    attached = pages.attach(base, bookkeeping, table_pages())
    if isinstance(attached, Err):
        return attached
    host_map.attach(bookkeeping + table_pages() * pages.BOOKKEEPING_BYTES, table_pages())
    starts = pages.assign(PoolName.STARTS, START_PAGES, START_UNITS)
    if isinstance(starts, Err):
        return starts
    guest_starts = pages.assign(PoolName.GUEST_STARTS, GUEST_START_PAGES, GUEST_START_UNITS)
    if isinstance(guest_starts, Err):
        return guest_starts
    own = pages.assign(PoolName.EL2, u64(1), PLAN.el2_pages)
    if isinstance(own, Err):
        return own
    host = pages.assign(PoolName.HOST, u64(1), PLAN.host_pages)
    if isinstance(host, Err):
        return host
    return pages.assign(PoolName.GUESTS, u64(1), guest_pages())


@boot
def build(machine: Machine, blob: Region, holes: Holes) -> Pa | Err:
    """Makes the map and returns its start table. The map is not in use yet."""
    with EL2_LOCK:
        made = stage1.create(EL2_SPACE)
        if isinstance(made, Err):
            return made
        mapped = _map_image()
        if isinstance(mapped, Err):
            return mapped
        for i in u64.range(machine.cpu_count):
            stack = _map_stacks(i)
            if isinstance(stack, Err):
                return stack
        device_tree = _map(blob.base.align_down(PAGE_SIZE), (blob.base + blob.size).align_up(PAGE_SIZE), Use.DATA)
        if isinstance(device_tree, Err):
            return device_tree
        ram = _map_ram(machine, holes)
        if isinstance(ram, Err):
            return ram
        if machine.console.kind is not UartKind.NONE and can_be_device(machine.console.base):
            page = machine.console.base.align_down(PAGE_SIZE)
            port = stage1.map_range(EL2_SPACE, Va(page.raw), page, PAGE_SIZE, Use.DEVICE)
            if isinstance(port, Err):
                return port
        return pages.address_of_page(EL2_SPACE.root)


@holds(EL2_LOCK)
def _map_image() -> None | Err:
    text = _map(image.image_start(), image.image_text_end(), Use.TEXT)
    if isinstance(text, Err):
        return text
    constants = _map(image.image_text_end(), image.image_rodata_end(), Use.CONSTANTS)
    if isinstance(constants, Err):
        return constants
    return _map(image.image_rodata_end(), image.image_data_end(), Use.DATA)


@holds(EL2_LOCK)
def _map(start: Pa, end: Pa, use: Use) -> None | Err:
    """[start, end) to itself; nothing where it is empty."""
    if start == end:
        return None
    return stage1.map_range(EL2_SPACE, Va(start.raw), start, end - start, use)


@holds(EL2_LOCK)
def _map_stacks(index: u64) -> None | Err:
    """A CPU's two stacks, without the page below each."""
    slot = image.image_stacks_start() + index * SLOT_BYTES
    stack = _map(slot + STACK_OFFSET, slot + (STACK_OFFSET + STACK_BYTES), Use.DATA)
    if isinstance(stack, Err):
        return stack
    return _map(slot + EMERGENCY_OFFSET, slot + (EMERGENCY_OFFSET + EMERGENCY_BYTES), Use.DATA)


@holds(EL2_LOCK)
def _map_ram(machine: Machine, holes: Holes) -> None | Err:
    """Every whole page of RAM that no hole touches."""
    for i in u64.range(machine.bank_count):
        bank = machine.banks[i]
        run = next_run(bank, holes, bank.base.raw)
        while run.size != 0:
            mapped = _map(run.base, run.base + run.size, Use.DATA)
            if isinstance(mapped, Err):
                return mapped
            run = next_run(bank, holes, run.base.raw + run.size)
    return None


def next_run(bank: Region, holes: Holes, start: u64) -> Region:
    """The first run of whole pages of RAM in the bank from `start` on that no hole touches; empty where there is none any more."""
    at = page_up(start)
    end = (bank.base.raw + bank.size) & ~(PAGE_SIZE - 1)
    while at < end:
        hole = _next_hole(holes, at, end)
        if at < hole.base.raw:
            return Region(Pa(at), hole.base.raw - at)
        at = hole.base.raw + hole.size
    return Region(Pa(end), u64(0))


def _next_hole(holes: Holes, at: u64, end: u64) -> Region:
    """The first hole at or after `at`, or an empty one at `end`. A hole that has begun before starts at `at`."""
    found = Region(Pa(end), u64(0))
    for i in u64.range(holes.count):
        region = holes.regions[i]
        region_end = region.base.raw + region.size
        if region_end > at and region.base.raw < found.base.raw:
            start = max(region.base.raw, at)
            found = Region(Pa(start), region_end - start)
    return found


@boot
def enter(root: Pa) -> None:
    """Leaves the first map for the one that starts at `root`, and keeps for the other CPUs what they need to do the same."""
    mine = CPUS.mine()
    mine.tcr = Tcr2(t0sz=u8(16), irgn0=u8(1), orgn0=u8(1), sh0=u8(3), ps=physical_size(), res1_23=True, res1_31=True).raw
    mine.mair = stage1.MAIR
    mine.ttbr = root.raw
    mine.sctlr = Sctlr.of(SCTLR_EL2_RES1).replace(m=True, c=True, sa=True, i=True, wxn=True).raw
    image.switch_map(mine.tcr, mine.mair, root, mine.sctlr)


@boot
def map_device(page: Pa) -> None | Err:
    """One page of a device's registers into EL2's map, which is in use. Err.RANGE where there can be none, Err.EXISTS, Err.NO_MEMORY."""
    if not can_be_device(page):
        return Err.RANGE
    with EL2_LOCK:
        return stage1.map_range(EL2_SPACE, Va(page.raw), page, PAGE_SIZE, Use.DEVICE)


def can_be_device(at: Pa) -> bool:
    """Whether registers can lie there: where this processor has addresses, and not in EL2's own image."""
    return at.raw >> physical_bits() == 0 and not image.image_start() <= at < image.image_end()
