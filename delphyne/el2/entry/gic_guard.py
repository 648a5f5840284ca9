# SPDX-License-Identifier: Apache-2.0
"""The host's GICv3 reads and writes memory: where a register says so. The pages that hold these registers are in no map of the host's; each access to
them comes here, and goes on to the device once it is seen that what it names is the host's.

What a register names is pinned (`memory/frames.py`), so that it stays the host's until the register names something else. That can be only while the
device does not use it: GITS_BASER<n> and GITS_CBASER while the ITS is off and quiescent, GICR_PROPBASER and GICR_PENDBASER while the redistributor's
LPIs are off (IHI 0069, 12.9 and 12.11). A write at another time, or of what is not all the host's, is left out: the register keeps what it had.

- What counts is what the device makes of a value: where fields may be fixed (GITS_BASER's page size is in some devices) it is written so that it
  cannot be used yet, read back, and looked at.
- Two-level tables: the ITS follows what lies in the first one, which is the host's to write. The bit reads as 0, so that a kernel takes one level.
- Virtual LPIs (GICv4): tables of theirs are named in commands and in registers that change with each vCPU. The host's ITS has none: their fields in
  GITS_TYPER are 0, their table is no table, and GICR_VPENDBASER and GICR_VPROPBASER stay without their valid bit.
- LPIs that are on stay on, with their tables, until a kernel turns them off: the next one after a kexec finds what it would find without EL2.

What an ITS reads in its command queue and in its own tables is not looked at (docs/threat-model.md).

Locks: LOCK (8), before `frames.LOCK` (10): for each write, from the look at the device's state to the last store. Reads need none: what is pinned
depends on no answer. PLACES is written at boot only.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import gic_tables, timer
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.exception import AbortIss
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.frame import Frame, skip
from delphyne.el2.arch.gic_tables import (
    Baser,
    Cbaser,
    GicdTyper,
    GicrCtlr,
    GicrTyper,
    GitsCtlr,
    Pendbaser,
    Propbaser,
    read32,
    read64,
    write32,
    write64,
)
from delphyne.el2.arch.machine import GicKind, Machine
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.entry import own_map
from delphyne.el2.memory import frames
from delphyne.lang import (
    Array,
    Enum8,
    Level,
    Lock,
    Pa,
    boot,
    frozen,
    guarded,
    holds,
    log,
    sign_extend,
    struct,
    u32,
    u64,
    value,
)

LOCK: Final = Lock("gic tables", rank=8)

PLACES_LIMIT: Final = u64(128)
"""Redistributors, their frames for virtual LPIs, and ITSes, all together."""
TABLE_LIMIT: Final = u64(4 << 20)
"""What one register may name: as much as a kernel with 4 KiB pages allocates in one piece, and as is pinned in a bounded time."""
QUIET_MILLISECONDS: Final = u64(1000)
QUEUE: Final = u64(8)
"""Where `Named.tables` has an ITS's command queue, behind its tables."""
PROPERTIES: Final = u64(0)
"""Where `Named.tables` has a redistributor's."""
PENDING: Final = u64(1)


class Kind(Enum8):
    """What a page of registers belongs to."""

    REDISTRIBUTOR = 0
    VIRTUAL_LPIS = 1
    ITS = 2
    SHUT = 3
    """An ITS that nobody is to use."""


@struct
class Place:
    """A page of registers."""

    page: Pa
    kind: Kind


@struct
class Places:
    """All of them, and of how many bits this distributor's interrupt numbers are."""

    places: Array[Place, 128]
    count: u64
    number_bits: u64


@struct
class Named:
    """What the registers of one place name and is pinned: see QUEUE, PROPERTIES and PENDING; of size 0 where they name nothing."""

    tables: Array[Region, 9]


PLACES: Final = frozen(Places())
NAMED: Final = guarded(LOCK, Array[Named, 128]())


@value
class Exchange:
    """What one register named before, and what it is to name."""

    before: Region
    after: Region


@boot
def prepare(machine: Machine) -> None | Err:
    """Finds the pages, maps them for EL2, and turns off what uses memory that nobody has pinned. Before the host has a map.

    Err.NO_MEMORY for more than PLACES_LIMIT; Err.BUSY where an ITS does not come to rest; Err.OWNER where LPIs cannot be turned off whose tables are
    not the host's; those of `own_map.map_device`."""
    if machine.gic_kind is not GicKind.GICV3:
        return None
    mapped = own_map.map_device(machine.gic[0].base)
    if isinstance(mapped, Err):
        return mapped
    PLACES.number_bits = u64(GicdTyper.of(read32(machine.gic[0].base, gic_tables.GICD_TYPER)).id_bits) + 1
    for number in u64.range(machine.redistributor_regions):
        found = _walk(machine.redistributors[number], machine.redistributor_stride)
        if isinstance(found, Err):
            return found
    for number in u64.range(machine.its_count):
        its = machine.its[number]
        added = _add(its.base, Kind.SHUT if its.size == 0 else Kind.ITS)
        if isinstance(added, Err):
            return added
    return _adopt_all()


@boot
def _walk(region: Region, stride: u64) -> None | Err:
    """The redistributors of one region, up to the one that says that it is the last."""
    at = u64(0)
    while at + 2 * gic_tables.GICR_FRAME <= region.size:
        added = _add(region.base + at, Kind.REDISTRIBUTOR)
        if isinstance(added, Err):
            return added
        own_type = GicrTyper.of(read64(region.base + at, gic_tables.GICR_TYPER))
        if own_type.vlpis:
            more = _add(region.base + (at + gic_tables.VLPI_BASE), Kind.VIRTUAL_LPIS)
            if isinstance(more, Err):
                return more
        if own_type.last:
            return None
        own = (u64(4) if own_type.vlpis else u64(2)) * gic_tables.GICR_FRAME
        at += max(stride, own)
    return None


@boot
def _add(page: Pa, kind: Kind) -> None | Err:
    if PLACES.count == PLACES_LIMIT:
        return Err.NO_MEMORY
    PLACES.places[PLACES.count].page = page
    PLACES.places[PLACES.count].kind = kind
    PLACES.count += 1
    return None if kind is Kind.SHUT else own_map.map_device(page)


@boot
def _adopt_all() -> None | Err:
    with LOCK:
        for number in u64.range(PLACES.count):
            kind = PLACES.places[number].kind
            if kind is Kind.ITS:
                quiet = _quieten_its(PLACES.places[number].page)
                if isinstance(quiet, Err):
                    return quiet
            elif kind is Kind.REDISTRIBUTOR:
                adopted = _quieten_redistributor(PLACES.places[number].page, number)
                if isinstance(adopted, Err):
                    return adopted
    return None


@holds(LOCK)
def _quieten_its(page: Pa) -> None | Err:
    """Off, and no table or queue valid, whatever ran before."""
    write32(page, gic_tables.GITS_CTLR, u32(0))
    begun = timer.now()
    limit = timer.ticks(QUIET_MILLISECONDS)
    while not _is_quiet(page):
        if timer.has_passed(begun, limit):
            return Err.BUSY
    for number in u64.range(gic_tables.GITS_BASER_COUNT):
        at = gic_tables.GITS_BASER + number * 8
        write64(page, at, Baser.of(read64(page, at)).replace(valid=False, indirect=False).raw)
    write64(page, gic_tables.GITS_CBASER, u64(0))
    return None


@holds(LOCK)
def _quieten_redistributor(page: Pa, number: u64) -> None | Err:
    """LPIs off; where they cannot be turned off any more (which is the implementation's to say), their tables are pinned."""
    control = GicrCtlr.of(read32(page, gic_tables.GICR_CTLR))
    if not control.enable_lpis:
        return None
    write32(page, gic_tables.GICR_CTLR, control.replace(enable_lpis=False).raw)
    begun = timer.now()
    limit = timer.ticks(QUIET_MILLISECONDS)
    while not _are_lpis_off(page) and not timer.has_passed(begun, limit):
        pass
    if _are_lpis_off(page):
        return None
    registered = Propbaser.of(read64(page, gic_tables.GICR_PROPBASER))
    number_bits = gic_tables.interrupt_bits(registered, PLACES.number_bits)
    properties = gic_tables.property_table(registered, number_bits)
    pending = gic_tables.pending_table(Pendbaser.of(read64(page, gic_tables.GICR_PENDBASER)), number_bits)
    if not _exchange(Exchange(gic_tables.nothing(), properties), Exchange(gic_tables.nothing(), pending)):
        return Err.OWNER
    NAMED[number].tables[PROPERTIES] = properties
    NAMED[number].tables[PENDING] = pending
    return None


def touches(base: u64, size: u64) -> bool:
    """Whether any of these bytes lies in a page of registers that the host does not reach by itself."""
    for number in u64.range(PLACES.count):
        page = PLACES.places[number].page.raw
        if page < base + size and base < page + PAGE_SIZE:
            return True
    return False


def serve(frame: Frame, iss: AbortIss, page: Pa) -> bool:
    """The host's access to `page`, of which `touches` is true: done, or left out, and the program counter behind it.

    False for what no driver does and the GIC does not answer either: an access without syndrome, not of 32 or 64 bits, not aligned, or of 64 bits to
    the control register; and each to an ITS that is shut."""
    number = _place_of(page)
    offset = frame.far & (PAGE_SIZE - 1)
    wide = iss.sas == 3
    aligned = offset & (u64(7) if wide else u64(3)) == 0
    if number is None or PLACES.places[number].kind is Kind.SHUT or not iss.isv or iss.sas < 2 or not aligned or (wide and offset == 0):
        return False
    register = u64(iss.srt)
    if iss.wnr:
        x = u64(0) if register == 31 else frame.x[register]
        with LOCK:
            done = _write(number, offset, wide, x if wide else x & 0xFFFF_FFFF)
        if not done:
            log(Level.WARNING, f"the host at {frame.elr:#x} may not write {x:#x} to the interrupt controller's {page + offset:#x}: ignored")
    else:
        x = _read(number, offset, wide)
        if iss.sse and not wide:
            x = sign_extend(x, 32) if iss.sf else x
        if register != 31:
            frame.x[register] = x
    skip(frame)
    return True


def _place_of(page: Pa) -> u64 | None:
    for number in u64.range(PLACES.count):
        if PLACES.places[number].page == page:
            return number
    return None


def _read(number: u64, offset: u64, wide: bool) -> u64:
    """A register, or half of one, as the host sees it: of virtual LPIs an ITS shows nothing."""
    page = PLACES.places[number].page
    word = offset & ~u64(7)
    if PLACES.places[number].kind is Kind.ITS and (word == gic_tables.GITS_TYPER or _is_table(word)):
        x = read64(page, word)
        if word == gic_tables.GITS_TYPER:
            x &= ~gic_tables.GITS_TYPER_VIRTUAL
        elif Baser.of(x).type == gic_tables.TYPE_VPES:
            x = u64(0)
        return x if wide else gic_tables.half(x, offset != word)
    return read64(page, offset) if wide else u64(read32(page, offset))


def _is_table(word: u64) -> bool:
    """Whether this is one of GITS_BASER<n>."""
    return gic_tables.GITS_BASER <= word < gic_tables.GITS_BASER + 8 * gic_tables.GITS_BASER_COUNT


@holds(LOCK)
def _write(number: u64, offset: u64, wide: bool, x: u64) -> bool:
    """A store to a register: what decides. False where nothing was done."""
    page = PLACES.places[number].page
    kind = PLACES.places[number].kind
    word = offset & ~u64(7)
    high = offset != word
    if kind is Kind.REDISTRIBUTOR:
        if offset == gic_tables.GICR_CTLR:
            return _write_control(page, number, GicrCtlr.of(u32.wrap(x)))
        if word == gic_tables.GICR_PROPBASER or word == gic_tables.GICR_PENDBASER:
            return _write_lpi_table(page, number, word, gic_tables.merge(read64(page, word), x, high, wide))
    elif kind is Kind.VIRTUAL_LPIS:
        tables = word == gic_tables.GICR_VPROPBASER or word == gic_tables.GICR_VPENDBASER
        if tables and gic_tables.merge(u64(0), x, high, wide) & gic_tables.VALID != 0:
            return False
    elif kind is Kind.ITS:
        if _is_table(word):
            return _write_table(page, number, word, gic_tables.merge(read64(page, word), x, high, wide))
        if word == gic_tables.GITS_CBASER:
            return _write_queue(page, number, gic_tables.merge(read64(page, word), x, high, wide))
        if word == gic_tables.GITS_CREADR:
            return False
        if offset == gic_tables.GITS_CWRITER:
            within = x & gic_tables.CWRITER_OFFSET
            if within != 0 and within >= NAMED[number].tables[QUEUE].size:
                return False
    if wide:
        write64(page, offset, x)
    else:
        write32(page, offset, u32.wrap(x))
    return True


@holds(LOCK)
def _write_control(page: Pa, number: u64, control: GicrCtlr) -> bool:
    """GICR_CTLR: LPIs come on only with tables that are pinned."""
    named = NAMED[number]
    if control.enable_lpis and (named.tables[PROPERTIES].size == 0 or named.tables[PENDING].size == 0):
        return False
    write32(page, gic_tables.GICR_CTLR, control.raw)
    return True


@holds(LOCK)
def _write_lpi_table(page: Pa, number: u64, word: u64, wanted: u64) -> bool:
    """GICR_PROPBASER or GICR_PENDBASER. How large the table of the second is depends on the first. While LPIs are off nobody uses either."""
    if not _are_lpis_off(page):
        return False
    named = NAMED[number]
    old = read64(page, word)
    write64(page, word, wanted & ~gic_tables.PENDBASER_UNALIGNED if word == gic_tables.GICR_PENDBASER else wanted)
    registered = Propbaser.of(read64(page, gic_tables.GICR_PROPBASER))
    number_bits = gic_tables.interrupt_bits(registered, PLACES.number_bits)
    properties = named.tables[PROPERTIES]
    pending = named.tables[PENDING]
    if word == gic_tables.GICR_PROPBASER:
        properties = gic_tables.property_table(registered, number_bits)
    if word == gic_tables.GICR_PENDBASER or pending.size != 0:
        pending = gic_tables.pending_table(Pendbaser.of(read64(page, gic_tables.GICR_PENDBASER)), number_bits)
    if not _exchange(Exchange(named.tables[PROPERTIES], properties), Exchange(named.tables[PENDING], pending)):
        write64(page, word, old)
        return False
    named.tables[PROPERTIES] = properties
    named.tables[PENDING] = pending
    return True


@holds(LOCK)
def _write_table(page: Pa, number: u64, word: u64, wanted: u64) -> bool:
    """GITS_BASER<n>. Without its valid bit it names nothing."""
    old = Baser.of(read64(page, word))
    if old.type == gic_tables.TYPE_NONE or old.type == gic_tables.TYPE_VPES:
        return True
    if not _is_quiet(page):
        return False
    named = NAMED[number]
    index = (word - gic_tables.GITS_BASER) // 8
    tried = Baser.of(wanted).replace(indirect=False)
    write64(page, word, tried.replace(valid=False).raw)
    after = gic_tables.its_table(Baser.of(read64(page, word)).replace(valid=tried.valid))
    if not _exchange(Exchange(named.tables[index], after), Exchange(gic_tables.nothing(), gic_tables.nothing())):
        write64(page, word, old.raw)
        return False
    named.tables[index] = after
    write64(page, word, tried.raw)
    return True


@holds(LOCK)
def _write_queue(page: Pa, number: u64, wanted: u64) -> bool:
    """GITS_CBASER. It is not tried first: any write of it has the ITS begin at the start of the queue again."""
    if not _is_quiet(page):
        return False
    named = NAMED[number]
    after = gic_tables.command_queue(Cbaser.of(wanted))
    if not _exchange(Exchange(named.tables[QUEUE], after), Exchange(gic_tables.nothing(), gic_tables.nothing())):
        return False
    named.tables[QUEUE] = after
    write64(page, gic_tables.GITS_CBASER, wanted)
    return True


def _is_quiet(page: Pa) -> bool:
    """Whether an ITS is off and has stopped using its tables and its queue."""
    control = GitsCtlr.of(read32(page, gic_tables.GITS_CTLR))
    return control.quiescent and not control.enabled


def _are_lpis_off(page: Pa) -> bool:
    """Whether a redistributor has stopped using its tables."""
    control = GicrCtlr.of(read32(page, gic_tables.GICR_CTLR))
    return not control.rwp and not control.enable_lpis


@holds(LOCK)
def _exchange(first: Exchange, second: Exchange) -> bool:
    """Pins what is to be named, then lets go of what was, in one step for whoever takes frames. False, and nothing done, unless all is the host's."""
    if first.after.size > TABLE_LIMIT or second.after.size > TABLE_LIMIT:
        return False
    with frames.LOCK:
        pinned = frames.pin_all(first.after.base, first.after.size)
        if isinstance(pinned, Err):
            return False
        also = frames.pin_all(second.after.base, second.after.size)
        if isinstance(also, Err):
            frames.unpin_all(first.after.base, first.after.size)
            return False
        frames.unpin_all(first.before.base, first.before.size)
        frames.unpin_all(second.before.base, second.before.size)
    return True
