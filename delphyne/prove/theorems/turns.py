# SPDX-License-Identifier: Apache-2.0
"""Turns for pieces: after the end of a piece exactly those tickets are refused that were out then, wherever the numbers of tickets wrap."""

from __future__ import annotations

from functools import partial

import z3  # type: ignore[import-untyped]

from delphyne.el2.guest import turns
from delphyne.el2.guest.turns import Turns
from delphyne.el2.memory.frames import LOCK as FRAMES_LOCK
from delphyne.prove.path import Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

about = partial(
    theorem, trusts=("frames.LOCK is held: its holder's ticket stays what it is", "frames_tickets says the holder's ticket and the next one")
)


def _is_mine(given: Given, owner: Term, following: Term) -> bool:
    """What `is_mine` says to the holder of a ticket."""
    tickets = integer(z3.Concat(owner, following))
    given.replace(turns.frames_tickets, lambda: tickets)
    with FRAMES_LOCK:
        return bool(turns.is_mine())


@about(turns.is_mine, outcomes=("mine", "not mine"))
def is_mine(given: Given) -> None:
    """Exactly where as many tickets have been served since the last piece's as were out at its end; always, before the first one."""
    noted = Turns()
    ticket, out, owner = given.word("ticket", 32), given.word("out", 32), given.word("owner", 32)
    noted.ticket, noted.out = integer(z3.ZeroExt(32, ticket)), integer(z3.ZeroExt(32, out))
    given.replace(turns.TURNS, noted)
    mine = _is_mine(given, owner, given.word("next", 32))
    given.outcome("mine" if mine else "not mine")
    given.require(z3.UGE(owner - ticket, out) == mine, "by the distance of the tickets, modulo 2^32")
    given.require(z3.Implies(out == 0, mine), "before the first piece")
    given.require(z3.And(term(noted.ticket) == z3.ZeroExt(32, ticket), term(noted.out) == z3.ZeroExt(32, out)), "nothing changes")


@about(turns.over, outcomes=("refused", "served"))
def over(given: Given) -> None:
    """From then on each of the tickets that are out, the holder's own among them, is refused, and the first behind them is not."""
    noted = Turns()
    noted.ticket, noted.out = (integer(z3.ZeroExt(32, given.word(name, 32))) for name in ("ticket", "out"))
    given.replace(turns.TURNS, noted)
    owner, out, later = given.word("owner", 32), given.word("tickets out", 32), given.word("served since", 32)
    given.assume(out != 0)
    tickets = integer(z3.Concat(owner, owner + out))
    given.replace(turns.frames_tickets, lambda: tickets)
    with FRAMES_LOCK:
        turns.over()
    given.require(z3.And(term(noted.ticket) == z3.ZeroExt(32, owner), term(noted.out) == z3.ZeroExt(32, out)), "both are noted")
    mine = _is_mine(given, owner + later, given.word("next", 32))
    given.outcome("served" if mine else "refused")
    given.require(z3.UGE(later, out) == mine, "those that were out, and no other")
