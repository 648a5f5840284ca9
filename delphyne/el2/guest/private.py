# SPDX-License-Identifier: Apache-2.0
"""The pages of protected guests: how a frame of the host's becomes a page of a guest's, and how it comes back. Nothing else moves a page.

What stands in a guest's last table is the page: a leaf, or what became of it (`Absent`). Each operation here is one move of one page, in the order
that the design demands (DESIGN.md 6): a frame is out of every other table and TLB before anything is read from it or written to it, and what was
written is in memory before anybody else can reach it.

Locks, in this order: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24); each operation holds all three. `pages.LOCK` is taken inside. Err means
that nothing changed.

Invariants: a leaf with the mark PRIVATE leads to a frame that is PRIVATE to this guest at this page, one marked SHARED to one that is SHARED; a
frame of a guest's has that leaf, or is HELD there; a page that is private, held or exported is promised a record.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.caches import clean_range, forget_instructions, zero_page
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, Descriptor, Stage2Leaf, Stage2Memory
from delphyne.el2.guest import guards, lent, vms
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.memory import blocks, flush, frames, host_map, shadow, stage2, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.pages import TABLES
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Space, Walk
from delphyne.el2.sealing import page as sealed
from delphyne.el2.sealing import records
from delphyne.el2.sealing.page import Terms
from delphyne.lang import Bits64, Domain, Enum8, Ipa, Order, Pa, Va, bits, count_trailing_zeros, dsb, holds, owned, u8, u64, unreachable

PRIVATE_MARK: Final = u8(8)
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
def find(index: u64, ipa: Ipa) -> Walk:
    """Where the page stands, or where a table for it is lacking. `ipa` lies in the guest's addresses."""
    return tables.walk(space_of(index), ipa.raw)


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
def is_clean(absent: Absent) -> bool:
    """Whether a page that is EXPORTED or HELD is one that the guest may not write."""
    return records.RECORDS[absent.content].terms.clean if absent.fate is Fate.EXPORTED else not absent.write


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def admit(index: u64, ipa: Ipa, pa: Pa, where: Walk) -> None | Err:
    """The host's frame at `pa` becomes the guest's page at `ipa`, which has none: zeroed at first touch, verified and decrypted where it was
    exported, as it is where the guest shares it. `where` is what `find` finds for it.

    Err.RANGE, Err.OWNER, Err.BUSY as `frames.take`, or Err.BUSY where the host is to be tried again; Err.NO_MEMORY without tables or records;
    Err.INTEGRITY where the frame does not hold what was exported: it stays the host's."""
    found = where
    if found.level != LAST_LEVEL:
        deepened = shadow.deepen(guards.shadow_of(index), ipa)
        if isinstance(deepened, Err):
            return deepened
        found = deepened
    absent = absent_of(found)
    match absent.fate:
        case Fate.UNTOUCHED:
            return _admit_fresh(index, ipa, pa, found)
        case Fate.EXPORTED:
            return _admit_exported(index, ipa, pa, found, absent)
        case Fate.LENT:
            return _admit_lent(index, ipa, pa, found)
        case Fate.HELD:
            return Err.STATE
    unreachable()


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _admit_fresh(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None | Err:
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    taken = _take(index, ipa, pa)
    if isinstance(taken, Err):
        records.release()
        return taken
    zero_page(pa)
    GUARDS.slots[index].private += 1
    _settle(index, ipa, pa, found, FULL, PRIVATE_MARK)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _admit_exported(index: u64, ipa: Ipa, pa: Pa, found: Walk, absent: Absent) -> None | Err:
    taken = _take(index, ipa, pa)
    if isinstance(taken, Err):
        return taken
    terms = records.RECORDS[absent.content].terms
    imported = _import(index, ipa, pa, absent.content)
    if isinstance(imported, Err):
        _return(index, ipa, pa)
        return imported
    records.put(absent.content)
    mark = CLEAN_MARK if terms.clean else PRIVATE_MARK
    _settle(index, ipa, pa, found, Rights(terms.read, terms.write, terms.execute), mark)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _admit_lent(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None | Err:
    """The frame becomes the guest's as it is, and stays in the host's map."""
    dropped = _drop_ordinary(pa)
    if isinstance(dropped, Err):
        return dropped
    taken = frames.take(pa, guards.owner(index), ipa)
    if isinstance(taken, Err):
        return taken
    _must(frames.settle(pa, guards.owner(index), ipa))
    _must(frames.share(pa, guards.owner(index), ipa))
    _show(found, pa, DATA, SHARED_MARK)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _import(index: u64, ipa: Ipa, pa: Pa, number: u64) -> None | Err:
    """Verify, then decrypt. Err.INTEGRITY: the frame is as it was."""
    guard = GUARDS.slots[index]
    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_import(job, area, guard.identity, ipa, records.RECORDS[number])
    with owned(pa, PAGE_SIZE) as window:
        while True:
            done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
            if isinstance(done, Err):
                return done
            if done:
                return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def hold(index: u64, ipa: Ipa, pa: Pa, rights: Rights) -> None | Err:
    """The host's frame at `pa` becomes the guest's page at `ipa` as it is, mapped nowhere yet: to be measured. Errors as `admit`; Err.EXISTS where
    the page has a fate already."""
    found = shadow.deepen(guards.shadow_of(index), ipa)
    if isinstance(found, Err):
        return found
    if found.descriptor.raw != 0:
        return Err.EXISTS
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    taken = _take(index, ipa, pa)
    if isinstance(taken, Err):
        records.release()
        return taken
    _must(frames.settle(pa, guards.owner(index), ipa))
    GUARDS.slots[index].private += 1
    held = Absent(fate=Fate.HELD, read=rights.read, write=rights.write, execute=rights.execute, content=pa.raw // PAGE_SIZE)
    _write(found, held.raw)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def reveal(index: u64, ipa: Ipa) -> None:
    """A page that is HELD is mapped for the guest from now on; any other is left alone."""
    found = find(index, ipa)
    held = absent_of(found)
    if leaf_of(found) is not None or held.fate is not Fate.HELD:
        return
    pa = Pa(held.content * PAGE_SIZE)
    clean_range(Va(pa.raw), PAGE_SIZE)
    forget_instructions()
    _write(found, u64(0))
    _show(found, pa, Rights(held.read, held.write, held.execute), PRIVATE_MARK if held.write else CLEAN_MARK)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def export(index: u64, ipa: Ipa) -> None:
    """The guest's page, mapped or HELD, goes to the host: encrypted, or measured where it is clean. It cannot fail. A page with another fate
    stays."""
    found = find(index, ipa)
    leaf = leaf_of(found)
    held = absent_of(found)
    if leaf is not None and leaf.software != SHARED_MARK:
        terms = Terms(read=leaf.read, write=leaf.write, execute=not leaf.execute_never, clean=leaf.software == CLEAN_MARK)
        _export(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, terms)
    elif leaf is None and held.fate is Fate.HELD:
        terms = Terms(read=held.read, write=held.write, execute=held.execute, clean=not held.write)
        _export(index, ipa, Pa(held.content * PAGE_SIZE), found, terms)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _export(index: u64, ipa: Ipa, pa: Pa, found: Walk, terms: Terms) -> None:
    guard = GUARDS.slots[index]
    number = records.take()
    _must(frames.give(pa, guards.owner(index), ipa))
    _take_away(index, ipa, found, Absent(fate=Fate.EXPORTED, content=number))
    clean_range(Va(pa.raw), PAGE_SIZE)
    area = CPUS.mine().simd
    job = sealed.Job()
    sealed.begin_export(job, area, guard.identity, ipa, terms.replace(version=guards.next_version(index)))
    with owned(pa, PAGE_SIZE) as window:
        done = sealed.step(job, area, guard.key, window, PAGE_SIZE)
        assert not isinstance(done, Err) and done, "an export in one piece"
    records.RECORDS[number].copy_from(job.record)
    _return(index, ipa, pa)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def give_up(index: u64, ipa: Ipa) -> None:
    """The guest's page goes to the host as nothing: zeroed where it was private, forgotten where it was exported. At its next touch it is zero."""
    found = find(index, ipa)
    leaf = leaf_of(found)
    absent = absent_of(found)
    if leaf is not None and leaf.software == SHARED_MARK:
        _lend_back(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, Absent())
    elif leaf is not None:
        _zero_and_return(index, ipa, Pa(leaf.frame * PAGE_SIZE), found)
    elif absent.fate is Fate.HELD:
        _zero_and_return(index, ipa, Pa(absent.content * PAGE_SIZE), found)
    elif absent.fate is Fate.EXPORTED:
        records.put(absent.content)
        _write(found, u64(0))
        _count_down(index)
    elif absent.fate is Fate.LENT:
        _write(found, u64(0))


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def return_held(index: u64, ipa: Ipa) -> None:
    """A page that is HELD goes back to the host as it came; any other is given up. For a guest that never was protected: the host wrote it."""
    found = find(index, ipa)
    held = absent_of(found)
    if leaf_of(found) is None and held.fate is Fate.HELD:
        pa = Pa(held.content * PAGE_SIZE)
        _must(frames.give(pa, guards.owner(index), ipa))
        _write(found, u64(0))
        _return(index, ipa, pa)
        _count_down(index)
    else:
        give_up(index, ipa)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _zero_and_return(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None:
    _must(frames.give(pa, guards.owner(index), ipa))
    _take_away(index, ipa, found, Absent())
    clean_range(Va(pa.raw), PAGE_SIZE)
    zero_page(pa)
    _return(index, ipa, pa)
    _count_down(index)


@holds(GUESTS_LOCK)
def _count_down(index: u64) -> None:
    records.release()
    GUARDS.slots[index].private -= 1


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def share(index: u64, ipa: Ipa) -> None | Err:
    """The host may reach the guest's page from now on, by the guest's own call.

    Err.STATE where it is shared already, or is exported and has to come back first; Err.PERMISSION where the guest may not write it; Err.NO_MEMORY
    without tables."""
    found = shadow.deepen(guards.shadow_of(index), ipa)
    if isinstance(found, Err):
        return found
    leaf = leaf_of(found)
    if leaf is None:
        if absent_of(found).fate is not Fate.UNTOUCHED:
            return Err.STATE
        _write(found, Absent(fate=Fate.LENT).raw)
        return None
    if leaf.software == SHARED_MARK:
        return Err.STATE
    if leaf.software == CLEAN_MARK:
        return Err.PERMISSION
    pa = Pa(leaf.frame * PAGE_SIZE)
    _must(frames.share(pa, guards.owner(index), ipa))
    shown = stage2.attributes(Stage2Memory.NORMAL, DATA)
    changed = Stage2Leaf.of(tables.leaf(pa.raw, LAST_LEVEL, shown).raw).replace(software=SHARED_MARK)
    tables.change(space_of(index), ipa.raw, found, Descriptor.of(changed.raw))
    clean_range(Va(pa.raw), PAGE_SIZE)
    host_map.restore(pa)
    _count_down(index)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def unshare(index: u64, ipa: Ipa) -> None | Err:
    """The page, with what it holds, is the guest's alone again. Err.STATE where it is not shared; Err.NO_MEMORY without a record or a table of the
    host's map."""
    found = find(index, ipa)
    leaf = leaf_of(found)
    if leaf is None:
        if absent_of(found).fate is not Fate.LENT:
            return Err.STATE
        _write(found, u64(0))
        return None
    if leaf.software != SHARED_MARK:
        return Err.STATE
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    pa = Pa(leaf.frame * PAGE_SIZE)
    removed = host_map.remove(pa)
    if isinstance(removed, Err):
        records.release()
        return removed
    _must(frames.unshare(pa, guards.owner(index), ipa))
    clean_range(Va(pa.raw), PAGE_SIZE)
    forget_instructions()
    shown = stage2.attributes(Stage2Memory.NORMAL, FULL)
    changed = Stage2Leaf.of(tables.leaf(pa.raw, LAST_LEVEL, shown).raw).replace(software=PRIVATE_MARK)
    tables.change(space_of(index), ipa.raw, found, Descriptor.of(changed.raw))
    GUARDS.slots[index].private += 1
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def retreat(index: u64, ipa: Ipa) -> None:
    """The host takes the frame of a page back: a private one is exported, a shared one is the host's alone until the guest touches it again."""
    found = find(index, ipa)
    leaf = leaf_of(found)
    if leaf is not None and leaf.software == SHARED_MARK:
        _lend_back(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, Absent(fate=Fate.LENT))
    else:
        export(index, ipa)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _lend_back(index: u64, ipa: Ipa, pa: Pa, found: Walk, after: Absent) -> None:
    """A shared frame, which the host has mapped all the time, is the host's alone."""
    mine = guards.owner(index)
    _must(frames.unshare(pa, mine, ipa))
    _must(frames.give(pa, mine, ipa))
    _take_away(index, ipa, found, after)
    clean_range(Va(pa.raw), PAGE_SIZE)
    _must(frames.release(pa, mine, ipa))


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _take(index: u64, ipa: Ipa, pa: Pa) -> None | Err:
    """HOST -> BUSY: nobody reaches the frame when this returns, by any map or TLB, and memory has what the caches had of it."""
    dropped = _drop_ordinary(pa)
    if isinstance(dropped, Err):
        return dropped
    taken = frames.take(pa, guards.owner(index), ipa)
    if isinstance(taken, Err):
        return taken
    removed = host_map.remove(pa)
    if isinstance(removed, Err):
        _must(frames.release(pa, guards.owner(index), ipa))
        return removed
    clean_range(Va(pa.raw), PAGE_SIZE)
    return None


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def _drop_ordinary(pa: Pa) -> None | Err:
    """No guest, ordinary or becoming protected, reaches the frame as one of the host's when this returns. Err.RANGE where one
    might and it is no RAM, Err.BUSY where more is to be done than the graveyard takes."""
    if vms.VMS.ordinary == 0 and GUARDS.lent == 0:
        return None
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
def _settle(index: u64, ipa: Ipa, pa: Pa, found: Walk, rights: Rights, mark: u8) -> None:
    """BUSY -> PRIVATE: what EL2 has written is in memory, and the guest reaches it."""
    clean_range(Va(pa.raw), PAGE_SIZE)
    forget_instructions()
    _must(frames.settle(pa, guards.owner(index), ipa))
    _show(found, pa, rights, mark)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
def _return(index: u64, ipa: Ipa, pa: Pa) -> None:
    """BUSY -> HOST: what the frame holds by now is in memory, and the host reaches it."""
    clean_range(Va(pa.raw), PAGE_SIZE)
    _must(frames.release(pa, guards.owner(index), ipa))
    host_map.restore(pa)


@holds(GUESTS_LOCK)
def _show(found: Walk, pa: Pa, rights: Rights, mark: u8) -> None:
    """A leaf where there was none: no processor remembers anything of it."""
    leaf = tables.leaf(pa.raw, LAST_LEVEL, stage2.attributes(Stage2Memory.NORMAL, rights))
    _write(found, Stage2Leaf.of(leaf.raw).replace(software=mark).raw)
    dsb(Domain.ISHST)


@holds(GUESTS_LOCK)
def _take_away(index: u64, ipa: Ipa, found: Walk, after: Absent) -> None:
    """What stood there goes; no processor of the guest's reaches it when this returns."""
    _write(found, after.raw)
    flush.stage2_address(tables.vttbr_of(space_of(index)), ipa)


@holds(GUESTS_LOCK)
def _write(found: Walk, raw: u64) -> None:
    TABLES[found.table][found.slot].store(raw, Order.RELEASE)


def _must(done: None | Err) -> None:
    """A step that the state found before allows."""
    assert not isinstance(done, Err), "a frame in the state that its leaf says"
