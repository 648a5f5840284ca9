# SPDX-License-Identifier: Apache-2.0
"""The end of a protected guest, in pieces: every page goes back to the host, zeroed; the key goes last, and then the VM is an ordinary one.

Locks, in this order and all held: `frames.LOCK` (10), HOST_LOCK (22), GUESTS_LOCK (24). None of the guest's CPUs runs, nor will: its guard is not
alive, and whoever ends it has made sure that no vCPU of the VM is claimed (`vcpus.forget_others`, `vcpus.forget_all`).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.arch.pagetable import LAST_LEVEL, level_size
from delphyne.el2.guest import guards, private, processors
from delphyne.el2.guest.guards import GUARDS
from delphyne.el2.memory import frames, graveyard, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.memory.host_map import HOST_LOCK
from delphyne.lang import Ipa, cold, holds, u64

PAGES: Final = u64(32)
"""Pages that one piece gives back at most."""
STEPS: Final = u64(1024)
"""Slots that one piece looks at."""


@cold
@holds(frames.LOCK)
@holds(HOST_LOCK)
@holds(GUESTS_LOCK)
def end_some(index: u64) -> bool:
    """One piece; True once the VM is an ordinary one. Pages of a guest that never was protected go back with what the host wrote."""
    guard = GUARDS.slots[index]
    guards.stop(index)
    space = private.space_of(index)
    limit = u64(1) << space.bits
    given = u64(0)
    for _ in u64.range(STEPS):
        if guard.ended >= limit or given == PAGES:
            break
        page = Ipa(guard.ended)
        found = private.find(index, page)
        if found.level == LAST_LEVEL and found.descriptor.raw != 0:
            if not guard.committed:
                private.return_held(index, page)
            else:
                private.give_up(index, page)
            given += 1
        span = level_size(found.level)
        guard.ended = (guard.ended & ~(span - 1)) + span
    if guard.ended < limit:
        return False
    dropped = shadow.drop_all(private.shadow_of(index))
    if isinstance(dropped, Err):
        graveyard.work()
        return False
    processors.destroy_all(index)
    guards.destroy(index)
    return True
