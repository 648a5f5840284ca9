# SPDX-License-Identifier: Apache-2.0
"""The pages of protected guests: how a frame of the host's becomes a page of a guest's, and how it comes back. Nothing else moves a page.

What stands in a guest's last table is the page: a leaf, or what became of it (`steps.Absent`). Each operation here is one move of one page, in the
order that the design demands (DESIGN.md 6): a frame is out of every other table and TLB before anything is read from it or written to it, and what
was written is in memory before anybody else can reach it. A processor without crypto extensions does some moves in pieces (`moving`).

Locks, in this order: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24); each operation holds all three. `pages.LOCK` is taken inside. Err means
that nothing changed, but for Err.BUSY, after which the page may be MOVING.

Invariants: a leaf with the mark PRIVATE leads to a frame that is PRIVATE to this guest at this page, one marked SHARED to one that is SHARED; a
frame of a guest's has that leaf, or is HELD or MOVING there; a page that is private, held, moving or exported is promised a record.
"""

from __future__ import annotations

from delphyne.el2.arch.caches import clean_range, forget_instructions, zero_page
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, PAGE_SIZE, Descriptor, Stage2Leaf, Stage2Memory
from delphyne.el2.guest import guards, measuring, moving, steps, whole
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.guest.steps import Absent, Fate
from delphyne.el2.memory import frames, host_map, shadow, stage2, tables
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.el2.memory.stage2 import Rights
from delphyne.el2.memory.tables import Walk
from delphyne.el2.sealing import records
from delphyne.el2.sealing.page import Terms
from delphyne.lang import Ipa, Pa, Va, apart, holds, u64, unreachable


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
    absent = steps.absent_of(found)
    match absent.fate:
        case Fate.UNTOUCHED:
            return _admit_fresh(index, ipa, pa, found)
        case Fate.EXPORTED:
            return moving.bring_back(index, ipa, pa, found, absent.content)
        case Fate.LENT:
            return _admit_lent(index, ipa, pa, found)
        case Fate.HELD | Fate.MOVING:
            return Err.STATE
    unreachable()


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _admit_fresh(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None | Err:
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    taken = steps.take(index, ipa, pa)
    if isinstance(taken, Err):
        records.release()
        return taken
    GUARDS.slots[index].private += 1
    steps.settle_zeroed(index, ipa, pa, found)
    return None


@apart
@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _admit_lent(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None | Err:
    """The frame becomes the guest's as it is, and stays in the host's map."""
    dropped = steps.drop_ordinary(pa)
    if isinstance(dropped, Err):
        return dropped
    taken = frames.take(pa, guards.owner(index), ipa)
    if isinstance(taken, Err):
        return taken
    steps.must(frames.settle(pa, guards.owner(index), ipa))
    steps.must(frames.share(pa, guards.owner(index), ipa))
    steps.show(found, pa, steps.DATA, steps.SHARED_MARK)
    return None


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def _place_of(index: u64, ipa: Ipa) -> Walk | Err:
    """Where the page stands, with a table for it. Errors as `shadow.deepen`."""
    deepened = shadow.deepen(guards.shadow_of(index), ipa)
    if not isinstance(deepened, Err) or deepened is not Err.EXISTS:
        return deepened
    found = steps.find(index, ipa)
    return found if found.level == LAST_LEVEL else Err.EXISTS


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def hold(index: u64, ipa: Ipa, pa: Pa, rights: Rights) -> None | Err:
    """The host's frame at `pa` becomes the guest's page at `ipa` as it is, mapped nowhere yet: to be measured. Errors as `admit`; Err.EXISTS where
    the page has a fate already."""
    found = _place_of(index, ipa)
    if isinstance(found, Err):
        return found
    if found.descriptor.raw != 0:
        return Err.EXISTS
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    taken = steps.take_filled(index, ipa, pa)
    if isinstance(taken, Err):
        records.release()
        return taken
    steps.must(frames.settle(pa, guards.owner(index), ipa))
    GUARDS.slots[index].private += 1
    held = Absent(fate=Fate.HELD, read=rights.read, write=rights.write, execute=rights.execute, content=pa.raw // PAGE_SIZE)
    steps.write(found, held.raw)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def reveal(index: u64, ipa: Ipa) -> None:
    """A page that is HELD is mapped for the guest from now on; any other is left alone."""
    found = steps.find(index, ipa)
    held = steps.absent_of(found)
    if steps.leaf_of(found) is not None or held.fate is not Fate.HELD:
        return
    pa = Pa(held.content * PAGE_SIZE)
    clean_range(Va(pa.raw), PAGE_SIZE)
    forget_instructions()
    steps.show(found, pa, Rights(held.read, held.write, held.execute), whole.PRIVATE_MARK if held.write else steps.CLEAN_MARK)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def export(index: u64, ipa: Ipa) -> None | Err:
    """The guest's page, mapped or HELD, goes to the host: encrypted, or measured where it is clean. A page with another fate stays, but one that is
    MOVING; one of which only a part is in its segment's digest (`measuring`) is measured to its end first. It cannot fail; Err.BUSY where a piece of
    it was done and it is to be asked for again."""
    return _export(index, ipa, steps.find(index, ipa))


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _export(index: u64, ipa: Ipa, found: Walk) -> None | Err:
    leaf = steps.leaf_of(found)
    held = steps.absent_of(found)
    if leaf is not None and leaf.software != steps.SHARED_MARK:
        terms = Terms(read=leaf.read, write=leaf.write, execute=not leaf.execute_never, clean=leaf.software == steps.CLEAN_MARK)
        return moving.take_out(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, terms)
    if leaf is None and held.fate is Fate.HELD:
        if measuring.is_under_way(index, ipa):
            _ = measuring.go_on(index)  # Whatever came of it, who wants the page asks again.
            return Err.BUSY
        terms = Terms(read=held.read, write=held.write, execute=held.execute, clean=not held.write)
        return moving.take_out(index, ipa, Pa(held.content * PAGE_SIZE), found, terms)
    if held.fate is Fate.MOVING:
        moved = moving.go_on(held.content)
        # What has come back just now is the guest's, and has to be exported yet.
        left = moved is Err.BUSY if isinstance(moved, Err) else steps.leaf_of(steps.find(index, ipa)) is not None
        return Err.BUSY if left else None
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def give_up(index: u64, ipa: Ipa) -> None:
    """The guest's page goes to the host as nothing: zeroed where it was private, forgotten where it was exported. At its next touch it is zero."""
    found = steps.find(index, ipa)
    leaf = steps.leaf_of(found)
    absent = steps.absent_of(found)
    if leaf is not None and leaf.software == steps.SHARED_MARK:
        _lend_back(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, Absent())
    elif leaf is not None:
        _zero_and_return(index, ipa, Pa(leaf.frame * PAGE_SIZE), found)
    elif absent.fate is Fate.HELD:
        _zero_and_return(index, ipa, Pa(absent.content * PAGE_SIZE), found)
    elif absent.fate is Fate.EXPORTED:
        records.put(absent.content)
        steps.write(found, u64(0))
        steps.count_down(index)
    elif absent.fate is Fate.LENT:
        steps.write(found, u64(0))
    elif absent.fate is Fate.MOVING:
        moving.abandon(found, absent.content)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def end(index: u64, ipa: Ipa) -> None:
    """A page of a guest that is STOPPED goes to the host for good: given up; or as it came where it is HELD and the guest never was protected, as
    then the host wrote it."""
    found = steps.find(index, ipa)
    held = steps.absent_of(found)
    if held.fate is Fate.HELD and not GUARDS.slots[index].committed:
        pa = Pa(held.content * PAGE_SIZE)
        steps.must(frames.give(pa, guards.owner(index), ipa))
        steps.write(found, u64(0))
        steps.give_back(index, ipa, pa)
        steps.count_down(index)
    else:
        give_up(index, ipa)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _zero_and_return(index: u64, ipa: Ipa, pa: Pa, found: Walk) -> None:
    steps.must(frames.give(pa, guards.owner(index), ipa))
    steps.take_away(index, ipa, found, Absent())
    clean_range(Va(pa.raw), PAGE_SIZE)
    zero_page(pa)
    steps.give_back(index, ipa, pa)
    steps.count_down(index)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def share(index: u64, ipa: Ipa) -> None | Err:
    """The host may reach the guest's page from now on, by the guest's own call.

    Err.STATE where it is shared already, or is exported and has to come back first; Err.PERMISSION where the guest may not write it; Err.NO_MEMORY
    without tables."""
    found = _place_of(index, ipa)
    if isinstance(found, Err):
        return found
    leaf = steps.leaf_of(found)
    if leaf is None:
        if steps.absent_of(found).fate is not Fate.UNTOUCHED:
            return Err.STATE
        steps.write(found, Absent(fate=Fate.LENT).raw)
        return None
    if leaf.software == steps.SHARED_MARK:
        return Err.STATE
    if leaf.software == steps.CLEAN_MARK:
        return Err.PERMISSION
    pa = Pa(leaf.frame * PAGE_SIZE)
    steps.must(frames.share(pa, guards.owner(index), ipa))
    shown = stage2.attributes(Stage2Memory.NORMAL, steps.DATA)
    changed = Stage2Leaf.of(tables.leaf(pa.raw, LAST_LEVEL, shown).raw).replace(software=steps.SHARED_MARK)
    tables.change(steps.space_of(index), ipa.raw, found, Descriptor.of(changed.raw))
    clean_range(Va(pa.raw), PAGE_SIZE)
    host_map.restore(pa)
    steps.count_down(index)
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def unshare(index: u64, ipa: Ipa) -> None | Err:
    """The page, with what it holds, is the guest's alone again. Err.STATE where it is not shared; Err.NO_MEMORY without a record or a table of the
    host's map."""
    found = steps.find(index, ipa)
    leaf = steps.leaf_of(found)
    if leaf is None:
        if steps.absent_of(found).fate is not Fate.LENT:
            return Err.STATE
        steps.write(found, u64(0))
        return None
    if leaf.software != steps.SHARED_MARK:
        return Err.STATE
    promised = records.promise()
    if isinstance(promised, Err):
        return promised
    pa = Pa(leaf.frame * PAGE_SIZE)
    removed = host_map.remove(pa)
    if isinstance(removed, Err):
        records.release()
        return removed
    steps.must(frames.unshare(pa, guards.owner(index), ipa))
    clean_range(Va(pa.raw), PAGE_SIZE)
    forget_instructions()
    shown = stage2.attributes(Stage2Memory.NORMAL, steps.FULL)
    changed = Stage2Leaf.of(tables.leaf(pa.raw, LAST_LEVEL, shown).raw).replace(software=whole.PRIVATE_MARK)
    tables.change(steps.space_of(index), ipa.raw, found, Descriptor.of(changed.raw))
    GUARDS.slots[index].private += 1
    return None


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def retreat(index: u64, ipa: Ipa) -> None | Err:
    """The host takes the frame of a page back: a private one is exported, a shared one is the host's alone until the guest touches it again.
    Err.BUSY as `export`."""
    found = steps.find(index, ipa)
    leaf = steps.leaf_of(found)
    if leaf is not None and leaf.software == steps.SHARED_MARK:
        _lend_back(index, ipa, Pa(leaf.frame * PAGE_SIZE), found, Absent(fate=Fate.LENT))
        return None
    return _export(index, ipa, found)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def _lend_back(index: u64, ipa: Ipa, pa: Pa, found: Walk, after: Absent) -> None:
    """A shared frame, which the host has mapped all the time, is the host's alone."""
    mine = guards.owner(index)
    steps.must(frames.unshare(pa, mine, ipa))
    steps.must(frames.give(pa, mine, ipa))
    steps.take_away(index, ipa, found, after)
    clean_range(Va(pa.raw), PAGE_SIZE)
    steps.must(frames.release(pa, mine, ipa))


