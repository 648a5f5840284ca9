# SPDX-License-Identifier: Apache-2.0
"""The memory of an ITS's own tables (GITS_BASER<n>): the host gives it, and does not reach it while the ITS may use it.

The table of devices holds the addresses of interrupt translation tables, in a format of the implementation's: whoever can write it has the ITS write
anywhere. So its frames, and those of the other tables, are EL2's while a register names them: in no map of the host's or a guest's, zero when the ITS
first sees them, and zero again when the host gets them back. What the ITS wrote stays as long as the register names the same place, which a kernel
that comes back from a suspend relies on (Linux, its_restore_enable).

A table can be 1,024 frames. They are taken and given back FRAMES_IN_STAY at a time; in between the host executes its store again, and the register is
not valid.

Locks: `gic_places.LOCK` (8), held; `frames.LOCK` (10), HOST_LOCK (22) and GUESTS_LOCK (24) inside. Invariant: the frames of each `Table.held` are
EL2's in the frame table and in no map but EL2's own; no two tables hold the same frame.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import clear_page
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.gic_tables import nothing
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.entry.gic_places import LOCK
from delphyne.el2.guest import steps
from delphyne.el2.memory import frames, host_map
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Array, Enum8, Pa, guarded, holds, struct, u64

FRAMES_IN_STAY: Final = u64(32)


class Step(Enum8):
    """What became of a store of the host's to a register."""

    DONE = 0
    AGAIN = 1
    """A piece of it is done: the host is to execute it again."""
    REFUSED = 2


@struct
class Table:
    """The memory of one register. `held` grows at its end and shrinks from there. `moving`: it was left between two pieces. `giving`: all of it goes
    back before anything else. `failed`: what could not be taken in the last attempt, where that was found out only on the way."""

    held: Region
    moving: bool
    giving: bool
    failed: Region


@struct
class Tables:
    """Those of one ITS."""

    tables: Array[Table, 8]


ITS_TABLES: Final = guarded(LOCK, Array[Tables, 16]())


@holds(LOCK)
def _may_grow(table: Table, wanted: Region) -> bool:
    """Whether all that is held is the beginning of what is wanted."""
    return not table.giving and (table.held.size == 0 or (table.held.base == wanted.base and table.held.size <= wanted.size))


@holds(LOCK)
def keeps(its: u64, number: u64, wanted: Region) -> bool:
    """Whether what the ITS has written to this table stays."""
    return _may_grow(ITS_TABLES[its].tables[number], wanted)


@holds(LOCK)
def is_begun(its: u64, number: u64) -> bool:
    """Whether this table was left between two pieces."""
    table = ITS_TABLES[its].tables[number]
    return table.moving or table.giving


@holds(LOCK)
def begin(its: u64, number: u64, wanted: Region) -> bool:
    """The first piece: a look whether each frame of `wanted` can be this table's, as far as is seen before anything is done: the host's and not
    pinned, or held already. False, and nothing was begun, where one cannot."""
    table = ITS_TABLES[its].tables[number]
    with frames.LOCK:
        for offset in u64.range(0, wanted.size, 4096):
            at = wanted.base + offset
            entry = frames.entry_of(at)
            if entry is None or (not _holds(table, at) and (entry.state is not State.HOST or entry.pins != 0)):
                return False
    table.moving = True
    return True


@holds(LOCK)
def _holds(table: Table, at: Pa) -> bool:
    return table.held.base <= at < table.held.base + table.held.size


@holds(LOCK)
def hold(its: u64, number: u64, wanted: Region) -> Step:
    """A bounded piece on the way to `wanted`, whole pages, being all that this table holds. The register is not valid, and the ITS quiet.

    DONE where it is; REFUSED where it cannot be, and nothing is held."""
    table = ITS_TABLES[its].tables[number]
    hopeless = wanted.size != 0 and table.failed == wanted
    if not hopeless or table.held.size == 0:
        table.failed = nothing()
    table.moving = not hopeless or table.held.size != 0
    if not table.moving:
        table.giving = False
        return Step.REFUSED
    if not _may_grow(table, wanted):
        give(its, number)
    else:
        if table.held.size == 0:
            table.held = Region(wanted.base, u64(0))
        taken = _take_piece(table, wanted)
        if isinstance(taken, Err) and taken is not Err.BUSY:
            table.failed = wanted
            table.giving = True
    table.moving = table.giving or table.held.size != wanted.size
    return Step.AGAIN if table.moving else Step.DONE


@holds(LOCK)
def _take_piece(table: Table, wanted: Region) -> None | Err:
    """Some frames more. Err.BUSY where the same is to be tried again; others where it cannot be done."""
    with frames.LOCK, HOST_LOCK, GUESTS_LOCK:
        for _ in u64.range(min(FRAMES_IN_STAY, (wanted.size - table.held.size) // PAGE_SIZE)):
            at = table.held.base + table.held.size
            dropped = steps.drop_ordinary(at)
            if isinstance(dropped, Err):
                return dropped
            withdrawn = frames.withdraw(at)
            if isinstance(withdrawn, Err):
                return Err.OWNER
            removed = host_map.remove(at)
            if isinstance(removed, Err):
                steps.must(frames.readmit(at))
                return removed
            clear_page(at)
            table.held = Region(table.held.base, table.held.size + PAGE_SIZE)
    return None


@holds(LOCK)
def give(its: u64, number: u64) -> None:
    """A bounded number of frames go back to the host, zero. The register is not valid, and the ITS quiet."""
    table = ITS_TABLES[its].tables[number]
    table.giving = True
    with frames.LOCK, HOST_LOCK:
        for _ in u64.range(min(FRAMES_IN_STAY, table.held.size // PAGE_SIZE)):
            at = table.held.base + (table.held.size - PAGE_SIZE)
            clear_page(at)
            steps.must(frames.readmit(at))
            host_map.restore(at)
            table.held = Region(table.held.base, table.held.size - PAGE_SIZE)
    if table.held.size == 0:
        table.giving = False


@holds(LOCK)
def find(its: u64, at: Pa) -> u64 | None:
    """Which table of this ITS holds the frame of `at`, if one does."""
    for number in u64.range(8):
        if _holds(ITS_TABLES[its].tables[number], at):
            return number
    return None


@holds(LOCK)
def bytes_held(its: u64, number: u64) -> u64:
    """How much this table has."""
    return ITS_TABLES[its].tables[number].held.size
