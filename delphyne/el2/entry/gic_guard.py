# SPDX-License-Identifier: Apache-2.0
"""The host's GICv3 reads and writes memory: where a register says so. The pages that hold these registers are in no map of the host's; each access to
them comes here, and goes on to the device once it is seen that what it names is the host's.

What a register names is pinned (`memory/frames.py`), so that it stays the host's until the register names something else. That can be only while the
device does not use it: GITS_BASER<n> and GITS_CBASER while the ITS is off and quiescent, GICR_PROPBASER and GICR_PENDBASER while the redistributor's
LPIs are off (IHI 0069, 12.9 and 12.11). A write at another time, or of what is not all the host's, is left out: the register keeps what it had.

- What counts is what the device makes of a value: where fields may be fixed (GITS_BASER's page size is in some devices) it is written so that it
  cannot be used yet, read back, and looked at.
- The ITS's own tables are taken from the host (`its_tables`), and its commands are EL2's copies of the host's (`its_queue`). Where the host touches a
  table all the same, the ITS is turned off and the memory goes back: after a kexec that happens by chance, since the next kernel knows nothing of it.
- Two-level tables: the ITS follows what lies in the first one. The bit reads as 0, so that a kernel takes one level.
- Virtual LPIs (GICv4): tables of theirs are named in commands and in registers that change with each vCPU. The host's ITS has none: their fields in
  GITS_TYPER are 0, their table is no table, and GICR_VPENDBASER and GICR_VPROPBASER stay without their valid bit.
- LPIs that are on stay on, with their tables, until a kernel turns them off: the next one after a kexec finds what it would find without EL2.

Locks: `gic_places.LOCK` (8), before `frames.LOCK` (10): for each write, from the look at the device's state to the last store, and for each read.
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
from delphyne.el2.entry import its_queue, its_tables, own_map
from delphyne.el2.entry.gic_places import LOCK, PLACES, PLACES_LIMIT, Kind, is_quiet, place_of
from delphyne.el2.entry.its_tables import Step
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import State
from delphyne.lang import Array, Level, Pa, boot, guarded, holds, log, sign_extend, struct, u32, u64, value

TABLE_LIMIT: Final = u64(4 << 20)
"""What GITS_BASER<n> may name: as much as a kernel with 4 KiB pages allocates in one piece. It changes hands in several."""
PIN_LIMIT: Final = u64(1 << 20)
"""What another register may name, which is pinned in one stay: the largest command queue, or bytes for 2^20 interrupts."""
QUIET_MILLISECONDS: Final = u64(1000)
PROPERTIES: Final = u64(0)
"""Where `Named.tables` has a redistributor's."""
PENDING: Final = u64(1)
QUEUE: Final = u64(0)
"""Where `Named.tables` has the host's command queue of an ITS."""


@struct
class Named:
    """What the registers of one place name and is pinned: see QUEUE, PROPERTIES and PENDING; of size 0 where they name nothing."""

    tables: Array[Region, 2]


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
        place = PLACES.places[PLACES.count - 1]
        place.processor = u64(own_type.processor)
        place.affinity = u64(own_type.affinity)
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
    if kind is Kind.ITS:
        PLACES.places[PLACES.count].its = PLACES.its_count
        PLACES.its_count += 1
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
                prepared = its_queue.prepare(PLACES.places[number].its)
                if isinstance(prepared, Err):
                    return prepared
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
    while not is_quiet(page):
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


def serve(frame: Frame, iss: AbortIss, page: Pa) -> bool:
    """The host's access to `page`, of which `touches` is true: done, or left out, and the program counter behind it; or a piece of it is done,
    and the host makes it again, after its interrupts.

    False for what no driver does and the GIC does not answer either: an access without syndrome, not of 32 or 64 bits, not aligned, or of 64 bits to
    the control register; and each to an ITS that is shut."""
    number = place_of(page)
    offset = frame.far & (PAGE_SIZE - 1)
    wide = iss.sas == 3
    aligned = offset & (u64(7) if wide else u64(3)) == 0
    if number is None or PLACES.places[number].kind is Kind.SHUT or not iss.isv or iss.sas < 2 or not aligned or (wide and offset == 0):
        return False
    register = u64(iss.srt)
    if iss.wnr:
        x = u64(0) if register == 31 else frame.x[register]
        with LOCK:
            step = _write(number, offset, wide, x if wide else x & 0xFFFF_FFFF)
        if step is Step.AGAIN:
            return True
        if step is Step.REFUSED:
            log(Level.WARNING, f"the host at {frame.elr:#x} may not write {x:#x} to the interrupt controller's {page + offset:#x}: ignored")
    else:
        with LOCK:
            x = _read(number, offset, wide)
        if iss.sse and not wide:
            x = sign_extend(x, 32) if iss.sf else x
        if register != 31:
            frame.x[register] = x
    skip(frame)
    return True


@holds(LOCK)
def _read(number: u64, offset: u64, wide: bool) -> u64:
    """A register, or half of one, as the host sees it: of virtual LPIs an ITS shows nothing, and of its queue what the host knows. A look at how far
    commands were executed has some more of them executed."""
    page = PLACES.places[number].page
    word = offset & ~u64(7)
    if PLACES.places[number].kind is not Kind.ITS or not _is_changed(word):
        return read64(page, offset) if wide else u64(read32(page, offset))
    its = PLACES.places[number].its
    if word == gic_tables.GITS_TYPER:
        x = read64(page, word) & ~gic_tables.GITS_TYPER_VIRTUAL
    elif _is_table(word):
        x = read64(page, word)
        if Baser.of(x).type == gic_tables.TYPE_VPES:
            x = u64(0)
    else:
        if word == gic_tables.GITS_CREADR:
            its_queue.go_on(page, its)
        x = its_queue.register_of(page, its, word)
    return x if wide else gic_tables.half(x, offset != word)


def _is_changed(word: u64) -> bool:
    """Whether the host sees another value of this register of an ITS than there is."""
    return gic_tables.GITS_CBASER <= word <= gic_tables.GITS_CREADR or word == gic_tables.GITS_TYPER or _is_table(word)


def _is_table(word: u64) -> bool:
    """Whether this is one of GITS_BASER<n>."""
    return gic_tables.GITS_BASER <= word < gic_tables.GITS_BASER + 8 * gic_tables.GITS_BASER_COUNT


@holds(LOCK)
def _write(number: u64, offset: u64, wide: bool, x: u64) -> Step:
    """A store to a register: what decides."""
    page = PLACES.places[number].page
    kind = PLACES.places[number].kind
    word = offset & ~u64(7)
    high = offset != word
    if kind is Kind.ITS and (offset == gic_tables.GITS_CTLR or gic_tables.GITS_CBASER <= word <= gic_tables.GITS_CREADR or _is_table(word)):
        return _write_its(number, offset, wide, x)
    if kind is Kind.REDISTRIBUTOR:
        if offset == gic_tables.GICR_CTLR:
            return _write_control(page, number, GicrCtlr.of(u32.wrap(x)))
        if word == gic_tables.GICR_PROPBASER or word == gic_tables.GICR_PENDBASER:
            return _write_lpi_table(page, number, word, gic_tables.merge(read64(page, word), x, high, wide))
    elif kind is Kind.VIRTUAL_LPIS:
        tables = word == gic_tables.GICR_VPROPBASER or word == gic_tables.GICR_VPENDBASER
        if tables and gic_tables.merge(u64(0), x, high, wide) & gic_tables.VALID != 0:
            return Step.REFUSED
    if wide:
        write64(page, offset, x)
    else:
        write32(page, offset, u32.wrap(x))
    return Step.DONE


@holds(LOCK)
def _write_its(number: u64, offset: u64, wide: bool, x: u64) -> Step:
    """The same, of an ITS's registers that name memory or have it used."""
    page = PLACES.places[number].page
    its = PLACES.places[number].its
    word = offset & ~u64(7)
    high = offset != word
    if offset == gic_tables.GITS_CTLR:
        return _write_its_control(page, its, GitsCtlr.of(u32.wrap(x)))
    if _is_table(word):
        return _write_table(page, its, word, gic_tables.merge(read64(page, word), x, high, wide))
    if word == gic_tables.GITS_CBASER:
        return _write_queue(page, number, gic_tables.merge(its_queue.register_of(page, its, word), x, high, wide))
    if word == gic_tables.GITS_CREADR:
        return Step.REFUSED
    if high:
        return Step.DONE
    if not its_queue.write_pointer(page, its, x):
        return Step.REFUSED
    return Step.AGAIN if its_queue.go_on(page, its) else Step.DONE


@holds(LOCK)
def _write_its_control(page: Pa, its: u64, control: GitsCtlr) -> Step:
    """GITS_CTLR. An ITS that is turned on begins with an empty queue; whether it may be while it comes to rest, the architecture does not say."""
    if control.enabled and not GitsCtlr.of(read32(page, gic_tables.GITS_CTLR)).enabled:
        if not is_quiet(page):
            return Step.REFUSED
        its_queue.restart(page, its)
    write32(page, gic_tables.GITS_CTLR, control.raw)
    return Step.AGAIN if its_queue.go_on(page, its) else Step.DONE


@holds(LOCK)
def _write_control(page: Pa, number: u64, control: GicrCtlr) -> Step:
    """GICR_CTLR: LPIs come on only with tables that are pinned."""
    named = NAMED[number]
    if control.enable_lpis and (named.tables[PROPERTIES].size == 0 or named.tables[PENDING].size == 0):
        return Step.REFUSED
    write32(page, gic_tables.GICR_CTLR, control.raw)
    return Step.DONE


@holds(LOCK)
def _write_lpi_table(page: Pa, number: u64, word: u64, wanted: u64) -> Step:
    """GICR_PROPBASER or GICR_PENDBASER. How large the table of the second is depends on the first. While LPIs are off nobody uses either."""
    if not _are_lpis_off(page):
        return Step.REFUSED
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
        return Step.REFUSED
    named.tables[PROPERTIES] = properties
    named.tables[PENDING] = pending
    return Step.DONE


@holds(LOCK)
def _write_table(page: Pa, its: u64, word: u64, wanted: u64) -> Step:
    """GITS_BASER<n>. Without its valid bit it names nothing. Between two pieces it is not valid."""
    old = Baser.of(read64(page, word))
    if old.type == gic_tables.TYPE_NONE or old.type == gic_tables.TYPE_VPES:
        return Step.DONE
    if not is_quiet(page):
        return Step.REFUSED
    index = (word - gic_tables.GITS_BASER) // 8
    tried = Baser.of(wanted).replace(indirect=False)
    write64(page, word, tried.replace(valid=False).raw)
    after = gic_tables.its_table(Baser.of(read64(page, word)).replace(valid=tried.valid))
    begun = its_tables.is_begun(its, index)
    if after.size > TABLE_LIMIT or (not begun and not its_tables.begin(its, index, after)):
        write64(page, word, old.raw)
        return Step.REFUSED
    if not begun and after.size > PIN_LIMIT:
        # The look at so many frames was a piece.
        return Step.AGAIN
    its_queue.restart(page, its)
    if old.type == gic_tables.TYPE_DEVICES and not its_tables.keeps(its, index, after) and not its_queue.forget_devices(its):
        return Step.AGAIN
    step = its_tables.hold(its, index, after)
    if step is Step.DONE:
        write64(page, word, tried.raw)
    return step


@holds(LOCK)
def _write_queue(page: Pa, number: u64, wanted: u64) -> Step:
    """GITS_CBASER: the host's queue is pinned, the ITS reads EL2's."""
    if not is_quiet(page):
        return Step.REFUSED
    named = NAMED[number]
    after = gic_tables.command_queue(Cbaser.of(wanted))
    if not _exchange(Exchange(named.tables[QUEUE], after), Exchange(gic_tables.nothing(), gic_tables.nothing())):
        return Step.REFUSED
    named.tables[QUEUE] = after
    its_queue.name(page, PLACES.places[number].its, after, wanted)
    return Step.DONE


def is_withdrawn(pa: Pa) -> bool:
    """Whether the frame of `pa` is EL2's because a table of an ITS lies there, at this moment."""
    entry = frames.entry_of(pa)
    if entry is None or entry.state is not State.EL2:
        return False
    with LOCK:
        for its in u64.range(PLACES.its_count):
            if its_tables.find(its, pa) is not None:
                return True
    return False


def reclaim(pa: Pa) -> bool:
    """The host touched RAM that is EL2's: where a table of an ITS lies there, a piece of what gives it back is done, and the host is to try again.
    False where there is none."""
    with LOCK:
        for number in u64.range(PLACES.count):
            if PLACES.places[number].kind is Kind.ITS:
                index = its_tables.find(PLACES.places[number].its, pa)
                if index is not None:
                    _give_table(PLACES.places[number].page, PLACES.places[number].its, index)
                    return True
    return False


@holds(LOCK)
def _give_table(page: Pa, its: u64, index: u64) -> None:
    """A bounded piece of: the ITS is turned off, this register not valid, and what it named the host's."""
    control = GitsCtlr.of(read32(page, gic_tables.GITS_CTLR))
    if control.enabled:
        log(Level.WARNING, f"the host touches a table of the ITS at {page:#x}, which is turned off")
        write32(page, gic_tables.GITS_CTLR, control.replace(enabled=False).raw)
    if not is_quiet(page):
        return
    at = gic_tables.GITS_BASER + index * 8
    register = Baser.of(read64(page, at))
    write64(page, at, register.replace(valid=False).raw)
    its_queue.restart(page, its)
    if register.type != gic_tables.TYPE_DEVICES or its_queue.forget_devices(its):
        its_tables.give(its, index)


def _are_lpis_off(page: Pa) -> bool:
    """Whether a redistributor has stopped using its tables."""
    control = GicrCtlr.of(read32(page, gic_tables.GICR_CTLR))
    return not control.rwp and not control.enable_lpis


@holds(LOCK)
def _exchange(first: Exchange, second: Exchange) -> bool:
    """Pins what is to be named, then lets go of what was, in one step for whoever takes frames. False, and nothing done, unless all is the host's."""
    if first.after.size > PIN_LIMIT or second.after.size > PIN_LIMIT:
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
