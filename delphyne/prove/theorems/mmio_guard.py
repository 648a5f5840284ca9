# SPDX-License-Identifier: Apache-2.0
"""The MMIO guard: its list stays sorted, apart and within bounds, and says of every page what the calls said last.

A list has room for three ranges here, of arbitrary pages of the addresses that guests have, and any number of them; which pages it has is stated
without it. Longer lists are those of `tests/guest/test_mmio_guard.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from unittest import mock

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest import mmio_guard
from delphyne.el2.guest.mmio_guard import MmioGuard
from delphyne.lang import u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

ROOM = 3
"""Ranges. EL2's list has room for more, and each is gone through in the same way."""
PAGES = 1 << 28
"""Pages below the limit of addresses, 1 << 40."""
HELPERS = (mmio_guard._begun, mmio_guard._insert, mmio_guard._remove)
about = partial(theorem, trusts=("GUESTS_LOCK is held: nobody else changes the list meanwhile",), bounds=("mmio_guard: room for three ranges",))


@contextmanager
def little_room() -> Iterator[None]:
    """As if a list had room for ROOM ranges."""
    with mock.patch.object(mmio_guard, "RANGES", u64(ROOM)):
        yield


class List:
    """A guard with a sound list of any length, a page that a call is about, and any page at all."""

    def __init__(self, given: Given, *, enrolled: bool | None = None) -> None:
        self.given, self.guard = given, MmioGuard()
        self.guard.enrolled = given.boolean("enrolled") if enrolled is None else enrolled
        self.length = int(given.one_of("ranges", tuple(range(ROOM + 1))))
        self.guard.count = u64(self.length)
        for number in range(ROOM):
            self.guard.firsts[u64(number)] = given.u64(f"first {number}")
            self.guard.ends[u64(number)] = given.u64(f"end {number}")
        self.before = self.ranges(ROOM)
        given.assume(self.is_sound(self.length))
        self.any = given.word("any page", 64)
        self.was_mapped = self.has(self.any)

    def page(self, name: str) -> Term:
        """A page of the guest's addresses."""
        made = self.given.word(name, 64)
        self.given.assume(z3.ULT(made, PAGES))
        return made

    def ranges(self, length: int) -> list[tuple[Term, Term]]:
        """The first ones, as they are now."""
        return [(term(self.guard.firsts[u64(number)]), term(self.guard.ends[u64(number)])) for number in range(length)]

    def is_sound(self, length: int) -> Formula:
        """In rising order, each with a page, a page at least between two, within the addresses."""
        ranges = self.ranges(length)
        gaps = [z3.UGT(first, end) for (_, end), (first, _) in pairwise(ranges)]
        return z3.And([z3.ULT(first, end) for first, end in ranges] + gaps + [z3.ULE(end, PAGES) for _, end in ranges[-1:]])

    def has(self, page: Term) -> Formula:
        """Whether a range of the list, as it is now, has the page."""
        return z3.Or([z3.And(z3.ULE(first, page), z3.ULT(page, end)) for first, end in self.ranges(int(self.guard.count))])

    def requires_same(self) -> None:
        """Nothing in the list has changed."""
        same = [one == other for now, was in zip(self.ranges(ROOM), self.before, strict=True) for one, other in zip(now, was, strict=True)]
        self.given.require(z3.And(same), "the list is as it was")
        self.given.require(self.guard.count == self.length, "and as long as it was")

    def requires_sound(self) -> None:
        """The invariant holds."""
        self.given.require(self.guard.count <= ROOM, "within its room")
        self.given.require(self.is_sound(int(self.guard.count)), "sorted, apart, each with a page")


@about(mmio_guard.enroll)
def enroll(given: Given) -> None:
    """The guest has enrolled, and what is mapped stays mapped."""
    known = List(given)
    mmio_guard.enroll(known.guard)
    given.require(known.guard.enrolled, "enrolled")
    known.requires_same()


@about(mmio_guard.is_mapped, mmio_guard._begun, outcomes=("mapped", "not mapped"))
def is_mapped(given: Given) -> None:
    """True exactly if each page from the first to the last is mapped."""
    known = List(given, enrolled=True)
    first, last = known.page("first page"), known.page("last page")
    given.assume(z3.ULE(first, last), z3.ULE(first, known.any), z3.ULE(known.any, last))
    found = mmio_guard.is_mapped(known.guard, integer(first), integer(last))
    given.outcome("mapped" if found else "not mapped")
    if found:
        given.require(known.was_mapped, "each of them")
    else:
        behind = [end for _, end in known.ranges(known.length)]
        missing = [first, *behind]
        given.require(z3.Or([z3.And(z3.ULE(first, page), z3.ULE(page, last), z3.Not(known.has(page))) for page in missing]), "one of them is not")
    known.requires_same()


@about(mmio_guard.map_page, *HELPERS, outcomes=("not enrolled", "as before", "a range more", "a longer range", "a range less", "no room"))
def map_page(given: Given) -> None:
    """Afterwards exactly the page is mapped beside what was; with Err, and of a guest that has not enrolled, nothing changes."""
    known = List(given)
    page = known.page("page")
    enrolled, was, beside = known.guard.enrolled, known.has(page), z3.Or(known.has(page - 1), known.has(page + 1))
    with little_room():
        result = mmio_guard.map_page(known.guard, integer(page))
    given.require(known.guard.enrolled == enrolled, "enrolled as before")
    known.requires_sound()
    if isinstance(result, Err) or not enrolled:
        given.outcome("no room" if isinstance(result, Err) else "not enrolled")
        given.require(not isinstance(result, Err) or z3.And(z3.Not(was), z3.Not(beside), known.length == ROOM), "refused only where there is no room")
        known.requires_same()
        return
    given.require(known.has(known.any) == z3.Or(known.was_mapped, known.any == page), "the page more, and no other")
    more = int(known.guard.count) - known.length
    given.outcome("a range more" if more > 0 else "a range less" if more < 0 else "as before" if given.holds(was) else "a longer range")


@about(mmio_guard.unmap_page, *HELPERS, outcomes=("not enrolled", "as before", "a range more", "a shorter range", "a range less", "no room"))
def unmap_page(given: Given) -> None:
    """Afterwards exactly what was mapped is, but for the page; with Err, and of a guest that has not enrolled, nothing changes."""
    known = List(given)
    page = known.page("page")
    enrolled, was, inside = known.guard.enrolled, known.has(page), z3.And(known.has(page - 1), known.has(page + 1))
    with little_room():
        result = mmio_guard.unmap_page(known.guard, integer(page))
    given.require(known.guard.enrolled == enrolled, "enrolled as before")
    known.requires_sound()
    if isinstance(result, Err) or not enrolled:
        given.outcome("no room" if isinstance(result, Err) else "not enrolled")
        given.require(not isinstance(result, Err) or z3.And(was, inside, known.length == ROOM), "refused only where there is no room")
        known.requires_same()
        return
    given.require(known.has(known.any) == z3.And(known.was_mapped, known.any != page), "the page less, and no other")
    more = int(known.guard.count) - known.length
    given.outcome("a range more" if more > 0 else "a range less" if more < 0 else "a shorter range" if given.holds(was) else "as before")
