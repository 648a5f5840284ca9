# SPDX-License-Identifier: Apache-2.0
"""The command queue of an ITS. The host's lies in its memory, which it can write at any time; the ITS reads one of EL2's own, into which each of the
host's commands is copied once, after it was looked at.

- A command that a GICv3 does not have, or whose redistributor, table entry or memory is not what it may be, is left out and the next one goes on:
  one of the ways that the architecture has for a command error (IHI 0069, 5.3, command errors).
- What MAPD names, a device's interrupt translation table (ITT), is pinned before the ITS hears of it, and let go once the ITS has executed a MAPD
  that names another one or none, and a SYNC of EL2's behind it. Nothing else is fetched meanwhile. An ITT holds numbers only, so that the host may
  write it.
- GITS_CBASER, GITS_CWRITER and GITS_CREADR as the host sees them are kept here. It sees a command executed when the ITS has executed it.
- COMMANDS_IN_STAY commands are fetched in a stay, and one MAPD; then the host executes its store again. Where the ITS has not kept up, reads of
  GITS_CREADR go on. Commands are fetched while the ITS is on; when it is turned on again its queue is empty, and begins where it was.
- A MAPD that was executed does not stay in the queue: firmware that restores GITS_CWRITER after a suspend may have all of it executed again.

Locks: `gic_places.LOCK` (8), held; `frames.LOCK` (10) inside. Invariants: each ITT that the table of devices leads to is pinned, by its entry in ITTS
or as the one that `Mapping` is about to name; where `Mapping.outstanding`, its MAPD and SYNC are the last two commands that were put into the queue.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import gic_tables, its_commands
from delphyne.el2.arch.caches import clean_range
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.gic_tables import Baser, GitsCtlr, nothing, read32, read64, write64
from delphyne.el2.arch.its_commands import COMMAND_BYTES, Command, GitsTyper
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.entry import its_tables
from delphyne.el2.entry.gic_places import LOCK, PLACES, Kind
from delphyne.el2.memory import frames, pages
from delphyne.el2.memory.pages import PoolName
from delphyne.lang import (
    Array,
    Hostile,
    Level,
    Pa,
    Va,
    boot,
    guarded,
    holds,
    load_le64,
    log,
    owned,
    store_le64,
    struct,
    u8,
    u64,
    wrap_sub,
)

OWN_SLOTS: Final = u64(128)
"""Commands of a page, which is the smallest queue there is."""
COMMANDS_IN_STAY: Final = u64(32)
ITT_LIMIT: Final = u64(1 << 20)
"""What one MAPD may name: tables for 65,536 events of 16 bytes."""
ITTS_LIMIT: Final = u64(1024)
"""Devices that have a table at one time, of all ITSes."""
PINS_IN_STAY: Final = u64(512)
"""Frames of ITTs that are let go of in one stay, when all are; more than one has."""


@struct
class Mapping:
    """A MAPD that changes what is pinned and is not known to be executed: where it stands in EL2's queue, its entry in ITTS, which has what was named
    before, and what is named by it."""

    outstanding: bool
    at: u64
    slot: u64
    after: Region


@struct
class Queue:
    """Of one ITS. `ring`, `register`, `write` are the host's queue, GITS_CBASER and GITS_CWRITER as the host has written them; `fetched` is where its
    next command is. `own` is EL2's queue, `put` the offset behind its last command, and `origins` has where in `ring` each of them was."""

    ring: Region
    register: u64
    write: u64
    fetched: u64
    own: Pa
    put: u64
    origins: Array[u64, 128]
    mapping: Mapping


@struct
class Itt:
    """A device's ITT that is pinned, or is about to be named for the first time and has size 0. `its` is the ITS's number plus one, 0 in a free
    entry."""

    its: u64
    device: u64
    memory: Region


QUEUES: Final = guarded(LOCK, Array[Queue, 16]())
ITTS: Final = guarded(LOCK, Array[Itt, 1024]())


@boot
@holds(LOCK)
def prepare(its: u64) -> None | Err:
    """Memory for EL2's queue, a page among those of translation tables: they are EL2's and nobody else's. Err.NO_MEMORY."""
    page = pages.allocate(PoolName.EL2)
    if isinstance(page, Err):
        return page
    QUEUES[its].own = pages.address_of_page(page)
    return None


@holds(LOCK)
def name(page: Pa, its: u64, ring: Region, register: u64) -> None:
    """GITS_CBASER is written: `ring`, pinned by the caller, is the host's queue from now on, or there is none. The ITS is quiet."""
    restart(page, its)
    queue = QUEUES[its]
    queue.ring = ring
    queue.register = register
    queue.write = u64(0)
    queue.fetched = u64(0)
    _empty(page, queue)


@holds(LOCK)
def restart(page: Pa, its: u64) -> None:
    """Of an ITS that is quiet: what it has not executed is to be fetched anew, and its queue is empty."""
    queue = QUEUES[its]
    executed = _executed(page)
    where = _origin(queue, executed)
    if queue.mapping.outstanding:
        if _is_own(page, queue):
            _end_mapping(page, queue, _waiting(queue, executed) <= COMMAND_BYTES)
        else:
            # Its registers are not as EL2 left them: it may have had no power. Either table may be what it uses.
            queue.mapping.outstanding = False
            log(Level.WARNING, f"the ITS at {page:#x} has forgotten its queue: what it was told last stays pinned")
    queue.fetched = where
    _empty(page, queue)


@holds(LOCK)
def _empty(page: Pa, queue: Queue) -> None:
    """A write of GITS_CBASER has the ITS begin at the start of its queue again. With the host's attributes, of which not all may be possible."""
    queue.put = u64(0)
    write64(page, gic_tables.GITS_CBASER, gic_tables.queue_register(queue.register, queue.own) if queue.ring.size != 0 else u64(0))
    write64(page, gic_tables.GITS_CWRITER, u64(0))


@holds(LOCK)
def _is_own(page: Pa, queue: Queue) -> bool:
    """Whether the ITS reads EL2's queue."""
    return gic_tables.command_queue(gic_tables.Cbaser.of(read64(page, gic_tables.GITS_CBASER))) == Region(queue.own, PAGE_SIZE)


@holds(LOCK)
def _executed(page: Pa) -> u64:
    """The offset in EL2's queue behind the last command that the ITS has executed."""
    return read64(page, gic_tables.GITS_CREADR) & (PAGE_SIZE - COMMAND_BYTES)


@holds(LOCK)
def _waiting(queue: Queue, executed: u64) -> u64:
    """Bytes of EL2's queue that the ITS has not executed; of a mapping that is outstanding the last two commands, of which the second is a SYNC."""
    return wrap_sub(queue.put, executed) & (PAGE_SIZE - COMMAND_BYTES)


@holds(LOCK)
def _origin(queue: Queue, executed: u64) -> u64:
    """Where in the host's queue the first command is that was not executed."""
    origin = queue.origins[executed // COMMAND_BYTES]
    return queue.fetched if executed == queue.put or origin >= queue.ring.size else origin


@holds(LOCK)
def register_of(page: Pa, its: u64, word: u64) -> u64:
    """GITS_CBASER, GITS_CWRITER or GITS_CREADR as the host reads it. Of the first, what shareability and cacheability the ITS has."""
    queue = QUEUES[its]
    if word == gic_tables.GITS_CBASER:
        attributes = gic_tables.CBASER_ATTRIBUTES if queue.ring.size != 0 else u64(0)
        return (queue.register & ~attributes) | (read64(page, word) & attributes)
    if word == gic_tables.GITS_CWRITER:
        return queue.write
    return _origin(queue, _executed(page)) | (read64(page, word) & gic_tables.CREADR_STALLED)


@holds(LOCK)
def write_pointer(page: Pa, its: u64, x: u64) -> bool:
    """The host's store to GITS_CWRITER. False where it is not in its queue."""
    queue = QUEUES[its]
    within = x & gic_tables.CWRITER_OFFSET
    if within != 0 and within >= queue.ring.size:
        return False
    queue.write = within
    if x & gic_tables.CWRITER_RETRY != 0:
        write64(page, gic_tables.GITS_CWRITER, queue.put | gic_tables.CWRITER_RETRY)
    return True


@holds(LOCK)
def go_on(page: Pa, its: u64) -> bool:
    """Tells the ITS a bounded number of the host's commands. Whether there were some, and there are more."""
    queue = QUEUES[its]
    _look(page, queue)
    if not GitsCtlr.of(read32(page, gic_tables.GITS_CTLR)).enabled or queue.ring.size == 0:
        return False
    fetched = queue.fetched
    put = queue.put
    room = OWN_SLOTS - 1 - _waiting(queue, _executed(page)) // COMMAND_BYTES
    told = False
    for _ in u64.range(COMMANDS_IN_STAY):
        if queue.fetched == queue.write or queue.mapping.outstanding or room < 2:
            break
        used = _fetch(page, its, queue, told)
        told = told or used == 0
        room -= used
    if queue.put != put:
        clean_range(Va(queue.own.raw), PAGE_SIZE)
        write64(page, gic_tables.GITS_CWRITER, queue.put)
        _look(page, queue)
    return queue.fetched != fetched and queue.fetched != queue.write


@holds(LOCK)
def _look(page: Pa, queue: Queue) -> None:
    """What was named before is let go, once the ITS says that it does not use it any more."""
    if queue.mapping.outstanding and _executed(page) == queue.put:
        _end_mapping(page, queue, True)


@holds(LOCK)
def _end_mapping(page: Pa, queue: Queue, executed: bool) -> None:
    """The MAPD was executed, and what its entry had is let go of; or it never will be, and what it names is."""
    mapping = queue.mapping
    itt = ITTS[mapping.slot]
    gone = itt.memory if executed else mapping.after
    with frames.LOCK:
        frames.unpin_all(gone.base, gone.size)
    if executed:
        itt.memory = mapping.after
    if itt.memory.size == 0:
        _free(itt)
    mapping.outstanding = False
    _store(queue, mapping.at, its_commands.sync(_own_redistributor(_type(page).pta)))
    clean_range(Va((queue.own + mapping.at).raw), COMMAND_BYTES)


@holds(LOCK)
def _free(itt: Itt) -> None:
    itt.its = u64(0)
    itt.device = u64(0)
    itt.memory = nothing()


@holds(LOCK)
def _fetch(page: Pa, its: u64, queue: Queue, quietly: bool) -> u64:
    """The host's next command: put into EL2's queue, in one or two commands, or left out. How many."""
    origin = queue.fetched
    copied = _copy(queue)
    queue.fetched = (origin + COMMAND_BYTES) % queue.ring.size
    command = its_commands.reduced(copied)
    if command is not None:
        if command.number == its_commands.MAPD:
            used = _map_device(page, its, queue, origin, command)
            if used != 0:
                return used
        elif _is_harmless(page, its, command):
            _put(queue, origin, command)
            return u64(1)
    if not quietly:
        log(Level.WARNING, f"the host's ITS may not execute {copied.first:#x} {copied.second:#x} {copied.third:#x}: left out")
    return u64(0)


@holds(LOCK)
def _copy(queue: Queue) -> Command:
    """The host's next command as it is at this moment."""
    copy = Array[u8, 32]()
    if not Hostile(queue.ring.base + queue.fetched, COMMAND_BYTES).copy_in(copy[:], u64(0)):
        return Command(u64(0), u64(0), u64(0), u64(0))
    return Command(load_le64(copy[:], u64(0)), load_le64(copy[:], u64(8)), load_le64(copy[:], u64(16)), load_le64(copy[:], u64(24)))


@holds(LOCK)
def _is_harmless(page: Pa, its: u64, command: Command) -> bool:
    """Whether a command other than MAPD names redistributors that there are, and an entry of its table that there is."""
    by_address = _type(page).pta
    if its_commands.names_redistributor(command) and not _is_redistributor(command.third & its_commands.TARGET, by_address):
        return False
    if command.number == its_commands.MOVALL:
        return _is_redistributor(command.fourth, by_address)
    return command.number != its_commands.MAPC or _has_collection(page, its, command.collection)


def _type(page: Pa) -> GitsTyper:
    return GitsTyper.of(read64(page, gic_tables.GITS_TYPER))


def _target(number: u64, by_address: bool) -> u64:
    """How commands name the redistributor of a place."""
    place = PLACES.places[number]
    return place.page.raw if by_address else place.processor << 16


def _is_redistributor(target: u64, by_address: bool) -> bool:
    """Whether this field names one. With GITS_TYPER.PTA the ITS writes to what is named."""
    for number in u64.range(PLACES.count):
        if PLACES.places[number].kind is Kind.REDISTRIBUTOR and _target(number, by_address) == target:
            return True
    return False


def _own_redistributor(by_address: bool) -> u64:
    """This processor's, which is awake, or the last one found."""
    target = u64(0)
    mpidr = CPUS.mine().mpidr
    affinity = (mpidr & 0xFF_FFFF) | ((mpidr >> 32) & 0xFF) << 24
    for number in u64.range(PLACES.count):
        place = PLACES.places[number]
        if place.kind is Kind.REDISTRIBUTOR:
            target = _target(number, by_address)
            if place.affinity == affinity:
                return target
    return target


@holds(LOCK)
def _has_entry(page: Pa, its: u64, kind: u8, index: u64) -> bool:
    """Whether the table of this type has an entry with this index."""
    for number in u64.range(gic_tables.GITS_BASER_COUNT):
        register = Baser.of(read64(page, gic_tables.GITS_BASER + number * 8))
        if register.type == kind and register.valid:
            return (index + 1) * (u64(register.entry_size) + 1) <= its_tables.bytes_held(its, number)
    return False


@holds(LOCK)
def _has_collection(page: Pa, its: u64, collection: u64) -> bool:
    return collection < u64(_type(page).hcc) or _has_entry(page, its, gic_tables.TYPE_COLLECTIONS, collection)


@holds(LOCK)
def _has_device(page: Pa, its: u64, device: u64) -> bool:
    """Whether the ITS does what MAPD says of this device: what it ignores as an error would leave it with the ITT that it had."""
    return device >> (u64(_type(page).device_bits) + 1) == 0 and _has_entry(page, its, gic_tables.TYPE_DEVICES, device)


@holds(LOCK)
def _map_device(page: Pa, its: u64, queue: Queue, origin: u64, command: Command) -> u64:
    """MAPD: the ITT is the host's and stays so as long as the device has it. How many commands were put; 0 where it is left out."""
    slot = _find(its + 1, command.device)
    after = nothing()
    if command.valid:
        named = its_commands.translation_table(command, _type(page))
        if named is None or named.size > ITT_LIMIT or not _has_device(page, its, command.device):
            return u64(0)
        if slot is None:
            slot = _find(u64(0), u64(0))
        if slot is None or not _pin(named):
            return u64(0)
        after = named
    elif not _has_device(page, its, command.device):
        return u64(0)
    if slot is None:
        _put(queue, origin, command)
        return u64(1)
    ITTS[slot].its = its + 1
    ITTS[slot].device = command.device
    queue.mapping.outstanding = True
    queue.mapping.at = queue.put
    queue.mapping.slot = slot
    queue.mapping.after = after
    _put(queue, origin, command)
    _put(queue, queue.fetched, its_commands.sync(_own_redistributor(_type(page).pta)))
    return u64(2)


@holds(LOCK)
def _pin(memory: Region) -> bool:
    with frames.LOCK:
        pinned = frames.pin_all(memory.base, memory.size)
    return not isinstance(pinned, Err)


@holds(LOCK)
def _find(its: u64, device: u64) -> u64 | None:
    """The entry in ITTS; of 0 and 0, a free one."""
    for slot in u64.range(ITTS_LIMIT):
        if ITTS[slot].its == its and ITTS[slot].device == device:
            return slot
    return None


@holds(LOCK)
def _put(queue: Queue, origin: u64, command: Command) -> None:
    """Behind the last command of EL2's queue, which is not full. The ITS hears of it later."""
    queue.origins[queue.put // COMMAND_BYTES] = origin
    _store(queue, queue.put, command)
    queue.put = (queue.put + COMMAND_BYTES) % PAGE_SIZE


@holds(LOCK)
def _store(queue: Queue, at: u64, command: Command) -> None:
    with owned(queue.own, PAGE_SIZE) as window:
        store_le64(window, at, command.first)
        store_le64(window, at + 8, command.second)
        store_le64(window, at + 16, command.third)
        store_le64(window, at + 24, command.fourth)


@holds(LOCK)
def forget_devices(its: u64) -> bool:
    """Lets go of a bounded number of ITTs of an ITS whose table of devices is about to be zeroed: quiet, and restarted. Whether none is left."""
    left = PINS_IN_STAY
    for slot in u64.range(ITTS_LIMIT):
        itt = ITTS[slot]
        if itt.its == its + 1:
            cost = itt.memory.size // PAGE_SIZE + 2
            if cost > left:
                return False
            with frames.LOCK:
                frames.unpin_all(itt.memory.base, itt.memory.size)
            _free(itt)
            left -= cost
    return True
