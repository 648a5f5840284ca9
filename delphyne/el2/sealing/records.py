# SPDX-License-Identifier: Apache-2.0
"""The records of exported pages, and that there is one for every page that may have to be exported.

A page is promised a record when it becomes private, and refused there: an export cannot fail for want of one. A record that is in use is named by
its number, which stands in the guest's leaf.

Lock: GUESTS_LOCK (24), as for the leaves. Invariants: `taken <= promised <= count`; a record that is not in use is in the list that begins at
`free`, each with the number of the next, plus one, in its terms; the list has `count - taken` records.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.sealing.page import Record, Terms
from delphyne.lang import BootArray, Pa, boot, guarded, holds, owned, struct, u8, u64, wipe

RECORD_BYTES: Final = u64(40)


@struct
class Ledger:
    """How many records there are, are promised and in use; `free` is the number of the first that is not, plus one. `fresh` was never used, nor
    anything behind it."""

    count: u64
    promised: u64
    taken: u64
    free: u64
    fresh: u64


RECORDS: Final = guarded(GUESTS_LOCK, BootArray[Record]())
LEDGER: Final = guarded(GUESTS_LOCK, Ledger())


@boot
def attach(at: Pa, count: u64) -> None:
    """Give the records their memory: RECORD_BYTES for each of `count` at `at`, which is EL2's own."""
    with owned(at, count * RECORD_BYTES) as window:
        window.fill(u8(0))
    with GUESTS_LOCK:
        RECORDS.attach(at.raw, count)
        LEDGER.count = count


@holds(GUESTS_LOCK)
def promise() -> None | Err:
    """A page becomes private. Err.NO_MEMORY where no record would be left for it."""
    if LEDGER.promised == LEDGER.count:
        return Err.NO_MEMORY
    LEDGER.promised += 1
    return None


@holds(GUESTS_LOCK)
def release() -> None:
    """A page is private no more, and has no record."""
    assert LEDGER.promised > LEDGER.taken, "a promise that is not kept by a record"
    LEDGER.promised -= 1


@holds(GUESTS_LOCK)
def take() -> u64:
    """The number of a record for a page to which one was promised."""
    assert LEDGER.taken < LEDGER.promised, "a record that was promised"
    LEDGER.taken += 1
    if LEDGER.free == 0:
        LEDGER.fresh += 1
        return LEDGER.fresh - 1
    number = LEDGER.free - 1
    LEDGER.free = RECORDS[number].terms.raw
    return number


@holds(GUESTS_LOCK)
def put(number: u64) -> None:
    """The record is of no use any more; its page is still promised one."""
    wipe(RECORDS[number])
    RECORDS[number].terms = Terms.of(LEDGER.free)
    LEDGER.free = number + 1
    LEDGER.taken -= 1
