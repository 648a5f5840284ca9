# SPDX-License-Identifier: Apache-2.0
"""The host's own touch of RAM that is not in its map: a page of a protected guest's is exported at that moment (DESIGN.md 8).

Locks, all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24).
"""

from __future__ import annotations

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import PAGE_SIZE
from delphyne.el2.guest import guards, private
from delphyne.el2.guest.guards import GUARDS, Phase
from delphyne.el2.memory import frames, host_map
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Ipa, Pa, holds, u64, unreachable


def is_guests(pa: Pa) -> bool:
    """Whether the frame of `pa` is a guest's alone, at this moment."""
    entry = frames.entry_of(pa)
    return entry is not None and (entry.state is State.PRIVATE or entry.state is State.BUSY)


@holds(FRAMES_LOCK)
@holds(GUESTS_LOCK)
def vm_of(pa: Pa) -> u64 | None:
    """The VM that has the frame of `pa` to itself, if one has."""
    entry = frames.entry_of(pa)
    alone = entry is not None and (entry.state is State.PRIVATE or entry.state is State.BUSY)
    return GUARDS.slots[u64(entry.owner) - 1].vm if entry is not None and alone else None


@holds(GUESTS_LOCK)
def stop(vm: u64) -> None:
    """The VM is gone by what its host's structures say: what the host touches of it from now on is zeroed, since nobody will want it back."""
    index = guards.of_vm(vm)
    if index is not None:
        guards.stop(index)


@holds(FRAMES_LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def serve(pa: Pa) -> bool:
    """The host touched `pa`, RAM that it did not reach. Whether it reaches it now; False where it is EL2's."""
    entry = frames.entry_of(pa)
    if entry is None:
        return False
    match entry.state:
        case State.EL2:
            return host_map.is_mapped(pa.raw)
        case State.HOST | State.SHARED:
            # Another CPU had the block unmapped for a moment.
            return host_map.is_mapped(pa.raw)
        case State.PRIVATE | State.BUSY:
            index = u64(entry.owner) - 1
            page = Ipa(entry.page * PAGE_SIZE)
            if GUARDS.slots[index].phase is Phase.STOPPED:
                private.end(index, page)
                return True
            exported = private.export(index, page)
            # Where pieces are left the host touches it again, after its interrupts.
            return not isinstance(exported, Err) or exported is Err.BUSY
    unreachable()
