# SPDX-License-Identifier: Apache-2.0
"""What a page of a protected guest is, in the guest's last table, and the steps of which each move of a page consists (`private`, `moving`).

A slot of a last table is a leaf, or says what became of the page (`Absent`). Each step ends with nobody reaching more than the state behind it says:
a frame is out of every other table and TLB when `take` or `take_away` returns, and what EL2 wrote is in memory when `settle` or `give_back` shows it.

Locks, in this order: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24). `pages.LOCK` is taken inside.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import clean_range, clear_page, forget_instructions
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, Stage2Leaf, Stage2Memory
from delphyne.el2.guest import guards, lent, vms, whole
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.whole import PRIVATE_MARK
from delphyne.el2.memory import blocks, flush, frames, host_map, shadow, stage2, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.pages import TABLES
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space, Walk
from delphyne.el2.sealing import records
from delphyne.lang import Bits64, Domain, Enum8, Ipa, Order, Pa, Va, apart, bits, count_trailing_zeros, dsb, holds, merged, u8, u64

SHARED_MARK: Final = u8(9)
CLEAN_MARK: Final = u8(10)
"""As PRIVATE, and never written since the manifest named its content. Software bits of a leaf; a host's level is below 4."""
FULL: Final = Rights(True, True, True)
DATA: Final = Rights(True, True, False)


class Fate(Enum8):
    """What became of a page that leads nowhere."""

    UNTOUCHED = 0
    """Zero at the next touch."""
    EXPORTED = 1
    """With the host, encrypted or measured; `content` is the number of its record."""
    LENT = 2
    """Shared, without a frame at the moment."""
    HELD = 3
    """Measured, and mapped from COMMIT on; `content` is its frame, in pages."""
    MOVING = 4
    """On its way to the host or back, a piece at a time; `content` is the number of its move (`moving`)."""


class Absent(Bits64):
    """A slot of a guest's last table that is no leaf. The processor ignores it."""

    valid: bool = bits(0)
    fate: Fate = bits(3, 1)
    read: bool = bits(4)
    write: bool = bits(5)
    execute: bool = bits(6)
    content: u64 = bits(47, 12)


@holds(GUESTS_LOCK)
def space_of(index: u64) -> Space:
    """The tables of a guard's guest."""
    return guards.shadow_of(index).space


@holds(GUESTS_LOCK)
def look(index: u64, ipa: Ipa) -> Walk:
    """Where the page stands, or the block that it is in, or where a table for it is lacking. `ipa` lies in the guest's addresses."""
    return tables.walk(space_of(index), ipa.raw)


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def find(index: u64, ipa: Ipa) -> Walk:
    """The same, where something may be done to the page: there is no block afterwards."""
    found = look(index, ipa)
    return whole.opened(index, ipa, found) if whole.is_block(found) else found


@holds(GUESTS_LOCK)
def leaf_of(found: Walk) -> Stage2Leaf | None:
    """The leaf that `find` found, if it is one of the guest's own pages."""
    if found.level != LAST_LEVEL or not found.descriptor.valid:
        return None
    leaf = Stage2Leaf.of(found.descriptor.raw)
    return leaf if leaf.software >= PRIVATE_MARK else None


def absent_of(found: Walk) -> Absent:
    """What became of a page that leads nowhere; UNTOUCHED where there is a leaf, or no table for one."""
    return Absent.of(found.descriptor.raw) if found.level == LAST_LEVEL and not found.descriptor.valid else Absent()


@holds(GUESTS_LOCK)
def count_down(index: u64) -> None:
    """A page is private no more, and will have no record."""
    records.release()
    GUARDS.slots[index].private -= 1


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def take(index: u64, ipa: Ipa, pa: Pa) -> None | Err:
    """HOST -> BUSY: nobody reaches the frame when this returns, by any map or TLB. What caches have of it they may still have: for whoever overwrites
    all of it. Err.RANGE, Err.OWNER, Err.BUSY as `frames.take`, Err.BUSY where the host is to be tried again, Err.NO_MEMORY without a table of the
    host's map."""
    dropped = drop_ordinary(pa)
    if isinstance(dropped, Err):
        return dropped
    taken = frames.take(pa, guards.owner(index), ipa)
    if isinstance(taken, Err):
        return taken
    removed = host_map.remove(pa)
    if isinstance(removed, Err):
        must(frames.release(pa, guards.owner(index), ipa))
        return removed
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def take_filled(index: u64, ipa: Ipa, pa: Pa) -> None | Err:
    """The same for whoever looks at what the host wrote: memory has what the caches had of it, and they have nothing, whatever kind of memory the
    host took it for. Errors as `take`."""
    taken = take(index, ipa, pa)
    if not isinstance(taken, Err):
        clean_range(Va(pa.raw), PAGE_SIZE)
    return taken


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def drop_ordinary(pa: Pa) -> None | Err:
    """No guest, ordinary or becoming protected, reaches the frame as one of the host's when this returns. Err.RANGE where one
    might and it is no RAM, Err.BUSY where more is to be done than the graveyard takes."""
    return None if vms.VMS.ordinary == 0 and GUARDS.lent == 0 else _drop_near(pa)


@apart
@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def _drop_near(pa: Pa) -> None | Err:
    """The same, where there is an ordinary guest or a page lent to one that becomes protected."""
    entry = frames.index_of(pa)
    if entry is None:
        return Err.RANGE
    if blocks.leaves(entry) == 0:
        return None
    lent.drop_everybodys()
    ordinary = vms.VMS.ordinary
    while ordinary != 0:
        slot = vms.VMS.slots[count_trailing_zeros(ordinary)]
        ordinary &= ordinary - 1
        if slot.shadow.top != 0:
            dropped = shadow.drop_all(slot.shadow)
            if isinstance(dropped, Err):
                return dropped
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def settle(index: u64, ipa: Ipa, pa: Pa, found: Walk, rights: Rights, mark: u8) -> None:
    """BUSY -> PRIVATE: what EL2 has written is in memory, and the guest reaches it; with the last page of a block that may be one again."""
    clean_range(Va(pa.raw), PAGE_SIZE)
    _hand_over(index, ipa, pa, found, rights, mark)
    if host_map.is_block_out():
        whole.close_again(index, ipa, pa, found.table)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def settle_zeroed(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None:
    """BUSY -> PRIVATE: the frame is zero, and the guest reaches it; with the last page of a block that is one."""
    clear_page(pa)
    _hand_over(index, ipa, pa, found, FULL, PRIVATE_MARK)
    if host_map.is_block_out():
        whole.close(index, ipa, found.table)


@merged
@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def _hand_over(index: u64, ipa: Ipa, pa: Pa, found: Walk, rights: Rights, mark: u8) -> None:
    """Memory alone has what the frame holds; instruction caches are told."""
    forget_instructions()
    must(frames.settle(pa, guards.owner(index), ipa))
    show(found, pa, rights, mark)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
def give_back(index: u64, ipa: Ipa, pa: Pa) -> None:
    """BUSY -> HOST: what the frame holds by now is in memory, and the host reaches it."""
    clean_range(Va(pa.raw), PAGE_SIZE)
    must(frames.release(pa, guards.owner(index), ipa))
    host_map.restore(pa)


@holds(GUESTS_LOCK)
def show(found: Walk, pa: Pa, rights: Rights, mark: u8) -> None:
    """A leaf where there was none: no processor remembers anything of it."""
    leaf = tables.leaf(pa.raw, LAST_LEVEL, stage2.attributes(Stage2Memory.NORMAL, rights))
    write(found, Stage2Leaf.of(leaf.raw).replace(software=mark).raw)
    dsb(Domain.ISHST)


@holds(GUESTS_LOCK)
def take_away(index: u64, ipa: Ipa, found: Walk, after: Absent) -> None:
    """What stood there goes; no processor of the guest's reaches it when this returns."""
    write(found, after.raw)
    flush.stage2_address(tables.vttbr_of(space_of(index)), ipa)


@holds(GUESTS_LOCK)
def write(found: Walk, raw: u64) -> None:
    """What stands in a slot of which no processor remembers anything, or that is flushed next."""
    TABLES[found.table][found.slot].store(raw, Order.RELEASE)


def must(done: None | Err) -> None:
    """A step that the state found before allows."""
    assert not isinstance(done, Err), "a frame in the state that its leaf says"
