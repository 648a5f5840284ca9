# SPDX-License-Identifier: Apache-2.0
"""Turns for pieces: work under the locks that is long. On a processor without crypto extensions that is a piece of a page that moves or is measured,
and the measurement at COMMIT; on any, a piece of a guest's end, of a call about TLBs for more than one page, of the pages that are measured before
COMMIT, and of a call to share several pages. A CPU that waits for the locks waits for one piece at most, however many CPUs want to do one.

`frames.LOCK` is a ticket lock: who comes first is served first. `over` notes, when a piece ends, under which ticket it was done and how many tickets
are out, its own among them. No piece begins before as many tickets have been served (`is_mine`); whose turn it is not gives the locks up at once and
comes again, as for anything that is under way. So of those who waited for a piece none does one, and nobody waits for one of
theirs. The first that comes after them may begin the next. Nor does a CPU do two pieces under one ticket.

What follows from it:
- Somebody always may: tickets that are out are served, since locks are held for short, and who is refused takes another ticket when it comes again.
  Which CPU does the next piece is not said; a piece belongs to nobody (`moving.go_on`), so that each one brings its page nearer to its end. A CPU
  that finds others quicker each time is served late; no CPU is promised a turn.
- Tickets wrap at 32 bits. The distance from the ticket of the last piece is compared with a count of CPUs, so that after any rest a turn is refused
  wrongly for so many tickets at most, and each refusal uses one of them up.
- A CPU that takes its ticket after `over` and before the locks are free waits for the end of that stay, and may begin a piece.
- Waiting for HOST_LOCK or GUESTS_LOCK alone is waiting for whoever holds all three, and these locks are served in turn too: it is one piece for each
  time that a stay takes one of them. A stay that waited for a piece does none, so that it is as long as what it waited for and something short.

Lock, held: `frames.LOCK` (10).
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.lang import assembly, cold, guarded, holds, struct, u64, wrap_sub

TICKETS: Final = u64(0xFFFF_FFFF)
"""Tickets are numbers of so many bits."""


@struct
class Turns:
    """Of the last piece: the ticket under which it was done, and how many were out when it ended."""

    ticket: u64
    out: u64


TURNS: Final = guarded(FRAMES_LOCK, Turns())


@assembly
def frames_tickets() -> u64:
    """`frames.LOCK`: bits 63:32 the ticket that is being served, that of its holder; bits 31:0 the next one that will be taken."""
    served, taken = FRAMES_LOCK.tickets
    return u64(served << 32 | taken)


@cold
@holds(FRAMES_LOCK)
def is_mine() -> bool:
    """Whether this CPU may begin a piece now: every ticket that was out when the last piece ended has been served."""
    return wrap_sub(frames_tickets() >> 32, TURNS.ticket) & TICKETS >= TURNS.out


@cold
@holds(FRAMES_LOCK)
def over() -> None:
    """A piece ends."""
    tickets = frames_tickets()
    TURNS.ticket = tickets >> 32
    TURNS.out = wrap_sub(tickets, TURNS.ticket) & TICKETS
