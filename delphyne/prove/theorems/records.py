# SPDX-License-Identifier: Apache-2.0
"""The records of exported pages: none is given twice, none is lost, and there is one for every page that was promised one.

That `taken` records are in use and all others are in the list or fresh is said without counting, by numbering: the records in use are numbered
from 0 to `taken` - 1, those of the list from 1 (its end) to `fresh` - `taken` (its beginning), each by an unknown one-to-one function. The theorem of
an operation says how both numberings change, and that they are right afterwards for an arbitrary record and an arbitrary number.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.el2.sealing import records
from delphyne.el2.sealing.page import Record, Terms
from delphyne.el2.sealing.records import Ledger
from delphyne.lang import Array, Pa, owned, u8, u64
from delphyne.prove.memory import Cells, Records, Unbounded, clearing
from delphyne.prove.path import Formula, Term, current
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

FIELDS = ("count", "promised", "taken", "free", "fresh")
LOCKED = "GUESTS_LOCK is held: nobody else changes records meanwhile"
BOUND = "records: fewer than 2**32"
about = partial(theorem, trusts=(LOCKED,), bounds=(BOUND,))
WORD = z3.BitVecSort(64)
Numbering = Callable[[Term], Term]


def _numbering(name: str) -> Numbering:
    known = z3.Function(name, WORD, z3.BitVecSort(32))
    return lambda at: z3.ZeroExt(32, known(at))


class Digests(Cells):
    """The digests, of any content: an operation may wipe one."""

    def __init__(self) -> None:
        super().__init__("digest", u8)
        self.given_out: list[tuple[Term, Any]] = []

    def load(self, at: Term) -> Any:
        """A digest, to be read or changed in place."""
        made = Array[u8, 32]()
        for number in range(32):
            made[number] = integer(current().fresh_word("byte of a digest", 8), u8)
        self.given_out.append((at, made))
        return made


class Books:
    """An arbitrary sound ledger with its records. `is_used` says of a record below `fresh` whether it is in use."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.ledger = Ledger()
        for field in FIELDS:
            setattr(self.ledger, field, integer(z3.ZeroExt(32, given.word(field, 32))))
        self.was = {field: self.now(field) for field in FIELDS}
        self.is_used: Callable[[Term], Formula] = z3.Function("in use", WORD, z3.BoolSort())
        self.number, self.numbered, self.place, self.placed = (
            _numbering(name) for name in ("number of record", "record numbered", "place in list", "record at place"))
        self.terms, self.digests = Cells("terms", u64, lambda at, raw: self._record(at, raw)), Digests()
        given.replace(records.LEDGER, self.ledger)
        self.rows = Records(Record, {"terms": self.terms, "digest": self.digests}, self.ledger.count, {"terms": Terms.of})
        given.replace(records.RECORDS, self.rows)
        given.assume(self.counts(self.was), self._head(self.was, self.is_used, self.place))
        self.recall(self.was["free"] - 1)

    def now(self, field: str) -> Term:
        """A field of the ledger."""
        return term(getattr(self.ledger, field))

    def recall(self, record: Term) -> None:
        """Assume the invariants of a record, as it was."""
        self.given.assume(self._record(record, self.terms.first(record)))

    def counts(self, state: dict[str, Term]) -> Formula:
        """What holds among the numbers."""
        return z3.And(z3.ULE(state["taken"], state["promised"]), z3.ULE(state["promised"], state["count"]), z3.ULE(state["taken"], state["fresh"]),
                      z3.ULE(state["fresh"], state["count"]))

    def _head(self, state: dict[str, Term], is_used: Any, place: Numbering) -> Formula:
        """The list begins with the record at its last place, or there is none."""
        first, length = state["free"] - 1, state["fresh"] - state["taken"]
        some = z3.And(z3.ULT(first, state["fresh"]), z3.Not(is_used(first)), place(first) == length)
        return z3.And((state["free"] == 0) == (length == 0), z3.Implies(state["free"] != 0, some))

    def _record(self, record: Term, raw: Term) -> Formula:
        return self.sound(record, raw, self.was, self.is_used, self.number, self.numbered, self.place, self.placed)

    def sound(self, record: Term, raw: Term, state: dict[str, Term], is_used: Any, number: Numbering, numbered: Numbering, place: Numbering,
              placed: Numbering) -> Formula:
        """The invariants of one record whose terms are `raw`."""
        length, after = state["fresh"] - state["taken"], raw - 1
        used = z3.And(z3.ULT(number(record), state["taken"]), numbered(number(record)) == record)
        follows = z3.And(z3.ULT(after, state["fresh"]), z3.Not(is_used(after)), place(after) == place(record) - 1)
        listed = z3.And(z3.UGE(place(record), 1), z3.ULE(place(record), length), placed(place(record)) == record,
                        (place(record) == 1) == (raw == 0), z3.Implies(raw != 0, follows))
        return z3.Implies(z3.ULT(record, state["fresh"]), z3.If(is_used(record), used, listed))

    def requires(self, uses: Term | None = None, returns: Term | None = None, **changed: Term) -> None:
        """The numbers are as before but for `changed`; the record `uses` is in use now, or `returns` no longer is; every other is as it was, in use
        or not; and the invariants hold."""
        given = self.given
        now = {field: self.now(field) for field in FIELDS}
        for field in ("count", "promised", "taken"):
            given.require(now[field] == changed.get(field, self.was[field]), f"{field} is what it should be")
        given.require(self.counts(now), "no more is in use than promised, and no more promised than there is")
        last = self.numbered(self.was["taken"] - 1)
        length = self.was["fresh"] - self.was["taken"]

        def is_used(record: Term) -> Formula:
            before = z3.And(z3.ULT(record, self.was["fresh"]), self.is_used(record))
            if uses is not None:
                return z3.Or(before, record == uses)
            return before if returns is None else z3.And(before, record != returns)

        def moved(function: Numbering, *changes: tuple[Term, Term]) -> Numbering:
            def value(asked: Term) -> Term:
                found = function(asked)
                for where, what in changes:
                    found = z3.If(asked == where, what, found)
                return found

            return value

        number, numbered, place, placed = self.number, self.numbered, self.place, self.placed
        if uses is not None:
            number, numbered = moved(number, (uses, self.was["taken"])), moved(numbered, (self.was["taken"], uses))
        if returns is not None:
            self.recall(last)
            given.assume(self._numbered(self.was["taken"] - 1, self.was, self.is_used, self.number, self.numbered, self.place, self.placed))
            freed = self.number(returns)
            number, numbered = moved(number, (last, freed)), moved(numbered, (freed, last))
            place, placed = moved(place, (returns, length + 1)), moved(placed, (length + 1, returns))
        record, at = given.word("any record", 64), given.word("any number", 64)
        for asked in (record, numbered(at), placed(at), self.numbered(at), self.placed(at)):
            self.recall(asked)
        given.assume(self._numbered(at, self.was, self.is_used, self.number, self.numbered, self.place, self.placed))
        given.require(self._head(now, is_used, place), "the list begins with its last record")
        given.require(self.sound(record, self.terms(record), now, is_used, number, numbered, place, placed), "every record is in use, or in the list")
        counted = self._numbered(at, now, is_used, number, numbered, place, placed)
        given.require(counted, "as many are in use as are taken, and all others in the list")
        stays = z3.BoolVal(True) if returns is None else record != returns
        given.require(z3.Implies(stays, self.terms(record) == self.terms.first(record)), "what the other records say stays")

    def _numbered(self, at: Term, state: dict[str, Term], is_used: Any, number: Numbering, numbered: Numbering, place: Numbering,
                  placed: Numbering) -> Formula:
        """Each number that is given out is a record's: one in use, and one of the list."""
        one, other = numbered(at), placed(at)
        in_use = z3.And(z3.ULT(one, state["fresh"]), is_used(one), number(one) == at)
        listed = z3.And(z3.ULT(other, state["fresh"]), z3.Not(is_used(other)), place(other) == at)
        return z3.And(z3.Implies(z3.ULT(at, state["taken"]), in_use), z3.Implies(z3.ULT(at - 1, state["fresh"] - state["taken"]), listed))


@theorem(records.attach, trusts=("one CPU runs at boot",), bounds=("records.attach: fewer than 2**48 records",))
def attach(given: Given) -> None:
    """All records are zero, whatever their memory held, and none is promised or in use."""
    at, count, ledger, rows = given.u64("at"), given.u64("count"), Ledger(), Unbounded(Cells("record", u64))
    given.assume(z3.ULT(term(count), 1 << 48))
    given.replace(records.LEDGER, ledger)
    given.replace(records.RECORDS, rows)
    window, cleared = clearing(term(at), 40 * term(count))
    given.replace(owned, window)
    records.attach(Pa(at), count)
    given.require(len(cleared) == 1, "the memory is cleared, once")
    given.require(z3.And(term(rows.address) == term(at), term(rows.length) == term(count)), "there are so many, where it was cleared")
    given.require(term(ledger.count) == term(count), "as the ledger says")
    given.require(ledger.promised == 0 and ledger.taken == 0 and ledger.free == 0 and ledger.fresh == 0, "all of them fresh")


@about(records.promise, outcomes=("promised", "refused"))
def promise(given: Given) -> None:
    """One more is promised exactly if one is left; nothing else changes, and with Err nothing at all."""
    books = Books(given)
    with GUESTS_LOCK:
        refused = isinstance(records.promise(), Err)
    given.outcome("refused" if refused else "promised")
    given.require(refused == (books.was["promised"] == books.was["count"]), "refused exactly if all are promised")
    given.require(z3.And(books.now("free") == books.was["free"], books.now("fresh") == books.was["fresh"]), "no record moves")
    books.requires(promised=books.was["promised"] + (0 if refused else 1))


@about(records.release, bounds=(BOUND, "records.release: of a page that has a promise and no record, so that more are promised than in use",))
def release(given: Given) -> None:
    """One less is promised; nothing else changes."""
    books = Books(given)
    given.assume(books.was["promised"] != books.was["taken"])
    with GUESTS_LOCK:
        records.release()
    given.require(z3.And(books.now("free") == books.was["free"], books.now("fresh") == books.was["fresh"]), "no record moves")
    books.requires(promised=books.was["promised"] - 1)


@about(records.take, outcomes=("from the list", "fresh"), bounds=(BOUND, "records.take: for a page that has a promise and no record",))
def take(given: Given) -> None:
    """A record that nobody had is in use; what the others say, and who has them, stays."""
    books = Books(given)
    given.assume(books.was["promised"] != books.was["taken"])
    with GUESTS_LOCK:
        taken = term(records.take())
    books.recall(taken)
    given.outcome("from the list" if given.holds(books.was["free"] != 0) else "fresh")
    given.require(z3.ULT(taken, books.was["count"]), "a record that there is")
    given.require(z3.Or(z3.UGE(taken, books.was["fresh"]), z3.Not(books.is_used(taken))), "one that nobody had")
    books.requires(uses=taken, taken=books.was["taken"] + 1)


@about(records.put, bounds=(BOUND, "records.put: of a record in use",))
def put(given: Given) -> None:
    """The record is in use no more, its digest is gone, and it is still promised; the others stay."""
    books, number = Books(given), given.u64("number")
    given.assume(z3.ULT(term(number), books.was["fresh"]), books.is_used(term(number)))
    books.recall(term(number))
    with GUESTS_LOCK:
        records.put(number)
    given.require(len(books.digests.given_out) == 1, "one digest is touched")
    at, digest = books.digests.given_out[0]
    given.require(at == term(number), "its own")
    given.require(z3.And([term(digest[byte]) == 0 for byte in range(32)]), "and it is all zero")
    books.requires(returns=term(number), taken=books.was["taken"] - 1)
