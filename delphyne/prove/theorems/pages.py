# SPDX-License-Identifier: Apache-2.0
"""The pools of table pages: counts, and ORDER and PLACE, which stay permutations inverse to each other.

The region has any number of pages, each pool any place, size and use in it. What is said of every unit is said of one arbitrary unit and of the
units that an operation looks at.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.memory import invariants, pages
from delphyne.el2.memory.pages import PoolName, Region, TablePool
from delphyne.lang import Array, Pa, owned, u32, u64
from delphyne.prove.memory import Cells, Tables, Words, Write, filling
from delphyne.prove.path import Formula, Term
from delphyne.prove.predicate import Predicate
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

FIELDS = ("first", "unit", "count", "used", "reserved")
LOCKED = "pages.LOCK excludes other CPUs while it is held"
AT_BOOT = "one CPU runs at boot"
OWNED = "owned: its bytes are those of the boot array that was attached at the same address"
UNITS = (1, 2, 4, 8, 16)
PLAIN = tuple((name, 1) for name in PoolName)
KINDS = (*PLAIN, *((PoolName.STARTS, unit) for unit in UNITS[1:]))
BOUND = "pools: each with units of one page, STARTS also with units of 2, 4, 8 and 16"


def pool_of(**words: Any) -> TablePool:
    """A pool with these fields, the others zero."""
    made = TablePool()
    for name, value in words.items():
        setattr(made, name, value)
    return made


COUNTS = Predicate(lambda count, used, reserved: invariants.pool_counts(pool_of(count=count, used=used, reserved=reserved)), 64, 64, 64)
AGREES = Predicate(lambda count, unit, place, there: invariants.pool_unit(pool_of(count=count), unit, place, there), 64, 64, 64, 64)


class Pools:
    """An arbitrary sound region with its pools; `name` is the one that the theorem is about, and `unit` its pages to a unit."""

    name: PoolName
    unit: int

    def __init__(self, given: Given, kinds: tuple[tuple[PoolName, int], ...] = KINDS) -> None:
        self.given = given
        self.name, self.unit = given.one_of("pool", kinds)
        self.pages = given.u64("pages")
        self.base = given.word("region in 64 KiB", 32)
        given.assume(z3.ULT(term(self.pages), 1 << 32), z3.ULE(self.address(term(self.pages)), 1 << 48))
        self.region = Region()
        self.region.base = Pa(integer(self.address(z3.BitVecVal(0, 64))))
        self.order = Cells("order", u32, self._order_agrees)
        self.place = Cells("place", u32, self._place_agrees)
        self.cells = Cells("table word", u64)
        self.pools: Any = Array[TablePool, len(PoolName)]()
        self.pool = self.pools[u64(self.name.raw)]
        for field in FIELDS:
            setattr(self.pool, field, u64(self.unit) if field == "unit" else given.u64(f"pool.{field}"))
        self.was = {field: term(getattr(self.pool, field)) for field in FIELDS}
        self.order.origin = self.place.origin = self.was["first"]
        given.assume(COUNTS(self.was["count"], self.was["used"], self.was["reserved"]), z3.ULT(self.was["count"], 1 << 32))
        given.assume(z3.ULE(self.was["first"], term(self.pages)))
        given.assume(z3.ULE(self.was["count"] * self.unit, term(self.pages) - self.was["first"]))
        for static, stand_in in (
            (pages.REGION, self.region), (pages.POOLS, self.pools), (pages.TABLES, Tables(self.cells, self.pages)),
            (pages.ORDER, Words(self.order, self.pages)), (pages.PLACE, Words(self.place, self.pages)),
        ):
            given.replace(static, stand_in)

    def address(self, page: Term) -> Term:
        """Where a page of the region lies."""
        return z3.ZeroExt(16, z3.Concat(self.base, z3.BitVecVal(0, 16))) + (page << 12)

    def now(self, field: str) -> Term:
        """A field of the pool."""
        return term(getattr(self.pool, field))

    def _order_agrees(self, at: Term, unit: Term) -> Formula:
        """Of a word of ORDER in the pool: it names a unit that PLACE puts there."""
        place, found = at - self.was["first"], z3.ZeroExt(32, unit)
        back = z3.ZeroExt(32, self.place.first(self.was["first"] + found))
        agrees = z3.And(z3.ULT(found, self.was["count"]), AGREES(self.was["count"], found, back, found), back == place)
        return z3.Implies(z3.ULT(place, self.was["count"]), agrees)

    def _place_agrees(self, at: Term, place: Term) -> Formula:
        """Of a word of PLACE in the pool: ORDER has that unit there."""
        unit, found = at - self.was["first"], z3.ZeroExt(32, place)
        there = z3.ZeroExt(32, self.order.first(self.was["first"] + found))
        return AGREES(self.was["count"], unit, found, there)

    def place_was(self, unit: Term) -> Term:
        """Where a unit of the pool stood in ORDER."""
        self.place.recall(self.was["first"] + unit)
        return z3.ZeroExt(32, self.place.first(self.was["first"] + unit))

    def place_now(self, unit: Term) -> Term:
        """Where it stands."""
        return z3.ZeroExt(32, self.place(self.was["first"] + unit))

    def was_used(self, unit: Term) -> Formula:
        """Whether a unit was in use."""
        return z3.ULT(self.place_was(unit), self.was["used"])

    def is_used(self, unit: Term) -> Formula:
        """Whether it is."""
        return z3.ULT(self.place_now(unit), self.now("used"))

    def unit_at(self, page: Term) -> Term:
        """The unit that holds a page of the pool."""
        return z3.LShR(page - self.was["first"], self.unit.bit_length() - 1)

    def starts_unit(self, page: Term) -> Formula:
        """Whether a unit of the pool starts at a page."""
        offset = page - self.was["first"]
        within = z3.And(z3.UGE(page, self.was["first"]), z3.ULT(self.unit_at(page), self.was["count"]))
        return z3.And(within, offset & (self.unit - 1) == 0)

    def requires(self, used: Term, reserved: Term, **changed: Formula) -> None:
        """The pool has these numbers and is sound; `changed` says for an arbitrary unit (`unit`) whether its use changed."""
        given = self.given
        unit = z3.BitVec("any unit", 64)
        for field in ("first", "unit", "count"):
            given.require(self.now(field) == self.was[field], f"{field} stays")
        given.require(z3.And(self.now("used") == used, self.now("reserved") == reserved), "used and reserved are what they should be")
        given.require(COUNTS(self.now("count"), self.now("used"), self.now("reserved")), "no more is used and reserved than there is")
        given.assume(z3.ULT(unit, self.was["count"]))
        place = z3.BitVec("any place", 64)
        given.assume(z3.ULT(place, self.was["count"]))
        self.order.recall(self.was["first"] + place)
        self.order.recall(self.was["first"] + self.place_was(unit))
        there = z3.ZeroExt(32, self.order(self.was["first"] + self.place_now(unit)))
        given.require(AGREES(self.was["count"], unit, self.place_now(unit), there), "ORDER and PLACE agree")
        named = z3.ZeroExt(32, self.order(self.was["first"] + place))
        given.require(z3.And(z3.ULT(named, self.was["count"]), self.place_now(named) == place), "PLACE and ORDER agree")
        expected = z3.Xor(self.was_used(unit), changed.get("unit", z3.BoolVal(False)))
        given.require(self.is_used(unit) == expected, "exactly what was asked for changes its use")
        outside = z3.BitVec("any page", 64)
        given.assume(z3.Not(z3.ULT(outside - self.was["first"], self.was["count"])))
        for words in (self.order, self.place):
            given.require(words(outside) == words.first(outside), "other pools keep their order")
        for other in PoolName:
            if other is not self.name:
                given.require(self.pools[u64(other.raw)].used == 0, "other pools keep their numbers")
        given.require(not self.cells.writes, "the pages themselves are not touched")


operation = partial(theorem, trusts=(LOCKED,), bounds=(BOUND,))
UNIT = z3.BitVec("any unit", 64)


@operation(pages.reserve, outcomes=("reserved", "refused"))
def reserve(given: Given) -> None:
    """Units are set aside exactly if so many are free and not set aside."""
    pools, count = Pools(given, PLAIN), given.u64("count")
    free = pools.was["count"] - pools.was["used"] - pools.was["reserved"]
    refused = isinstance(pages.reserve(pools.name, count), Err)
    given.outcome("refused" if refused else "reserved")
    given.require(z3.UGT(term(count), free) == refused, "refused exactly if there are too few")
    pools.requires(pools.was["used"], z3.If(refused, pools.was["reserved"], pools.was["reserved"] + term(count)))


@operation(pages.unreserve, bounds=(BOUND, "pages.unreserve: no more than the caller reserved",))
def unreserve(given: Given) -> None:
    """Units that were set aside are free for all again."""
    pools, count = Pools(given, PLAIN), given.u64("count")
    given.assume(z3.ULE(term(count), pools.was["reserved"]))
    pages.unreserve(pools.name, count)
    pools.requires(pools.was["used"], pools.was["reserved"] - term(count))


@operation(pages.take_reserved, pages._take, bounds=(BOUND, "pages.take_reserved: the caller has reserved one",))
def take_reserved(given: Given) -> None:
    """A unit that nobody had is in use, and one less is reserved; no other unit changes."""
    pools = Pools(given)
    given.assume(pools.was["reserved"] != 0)
    page = term(pages.take_reserved(pools.name))
    given.require(z3.And(pools.starts_unit(page), z3.Not(pools.was_used(pools.unit_at(page)))), "a free unit of the pool")
    pools.requires(pools.was["used"] + 1, pools.was["reserved"] - 1, unit=pools.unit_at(page) == UNIT)


@operation(pages.allocate, outcomes=("taken", "refused"))
def allocate(given: Given) -> None:
    """A unit that nobody had is in use, or with Err nothing changes; what is reserved stays reserved."""
    pools = Pools(given)
    page = pages.allocate(pools.name)
    left = pools.was["count"] - pools.was["used"] != pools.was["reserved"]
    given.outcome("refused" if isinstance(page, Err) else "taken")
    given.require(left == (not isinstance(page, Err)), "refused exactly if none is left")
    if isinstance(page, Err):
        pools.requires(pools.was["used"], pools.was["reserved"])
        return
    given.require(z3.And(pools.starts_unit(term(page)), z3.Not(pools.was_used(pools.unit_at(term(page))))), "a free unit of the pool")
    pools.requires(pools.was["used"] + 1, pools.was["reserved"], unit=pools.unit_at(term(page)) == UNIT)


@operation(pages.free, pages._exchange, outcomes=("freed", "refused"))
def free(given: Given) -> None:
    """The unit that starts at a page, if it was in use, is free; anything else is refused and changes nothing."""
    pools, page = Pools(given), given.u64("page")
    done = not isinstance(pages.free(pools.name, page), Err)
    given.outcome("freed" if done else "refused")
    unit = pools.unit_at(term(page))
    given.require(z3.And(pools.starts_unit(term(page)), pools.was_used(unit)) == done, "freed exactly if a unit in use starts there")
    pools.requires(pools.was["used"] - 1 if done else pools.was["used"], pools.was["reserved"], unit=z3.And(done, unit == UNIT))


@operation(pages.available, pages.unit_of)
def available(given: Given) -> None:
    """The numbers of the pool, which asking does not change."""
    pools = Pools(given)
    free = pools.was["count"] - pools.was["used"] - pools.was["reserved"]
    given.require(term(pages.available(pools.name)) == free, "what is neither used nor reserved")
    given.require(term(pages.unit_of(pools.name)) == pools.unit, "pages to a unit")
    pools.requires(pools.was["used"], pools.was["reserved"])


@theorem(pages.address_of_page, pages.page_of_address)
def addresses(given: Given) -> None:
    """Pages and addresses of the region name each other."""
    pools, page, inside = Pools(given, PLAIN[:1]), given.u64("page"), given.word("byte in the page", 12)
    given.assume(z3.ULT(term(page), term(pools.pages)))
    address = pages.address_of_page(page)
    given.require(term(address) == pools.address(term(page)), "the address of a page")
    within = Pa(integer(term(address) + z3.ZeroExt(52, inside)))
    given.require(term(pages.page_of_address(within)) == term(page), "the page of each of its bytes")


@theorem(pages.attach, outcomes=("attached", "refused"), trusts=(AT_BOOT, OWNED),
         bounds=("pages.attach: the memory it is given ends below 48 bits, and it is called once",))
def attach(given: Given) -> None:
    """Every page of the region is zero, whatever its memory held; with Err nothing changes."""
    base, bookkeeping, count = given.u64("base"), given.u64("bookkeeping"), given.u64("count")
    given.assume(z3.ULT(term(base), 1 << 48), z3.ULT(term(bookkeeping), 1 << 48))
    cells, at, region = Cells("table word", u64), given.word("any word", 64), Region()
    tables = [Tables(cells), Words(Cells("order", u32)), Words(Cells("place", u32))]
    for static, stand_in in zip((pages.TABLES, pages.ORDER, pages.PLACE), tables, strict=True):
        given.replace(static, stand_in)
    given.replace(pages.REGION, region)

    given.replace(owned, contextmanager(tables[0].zeroed))
    done = not isinstance(pages.attach(Pa(base), Pa(bookkeeping), count), Err)
    given.outcome("attached" if done else "refused")
    fits = z3.And(z3.Extract(15, 0, term(base)) == 0, z3.Extract(2, 0, term(bookkeeping)) == 0, z3.ULT(term(count), 1 << 32))
    given.require(fits == done, "refused exactly if it does not fit")
    for table in tables:
        given.require(table.length is None if not done else term(table.length) == term(count), "attached with this length, or not")
    if done:
        starts = (term(base), term(bookkeeping), term(bookkeeping) + 4 * term(count))
        lying = z3.And([term(table.address) == start for table, start in zip(tables, starts, strict=True)])
        given.require(lying, "pages, ORDER and PLACE lie where they were given room, one behind the other")
    given.require(z3.Implies(z3.And(done, z3.ULT(z3.LShR(at, 9), term(count))), cells(at) == 0), "every page is zero")
    given.require(term(region.base) == term(base) if done else region.base.raw == 0, "the base is kept")


@theorem(pages.assign, outcomes=("assigned", "refused"), trusts=(AT_BOOT,))
def assign(given: Given) -> None:
    """A new pool lies in the region behind what was given out, is aligned, all free, and sound; with Err nothing changes."""
    pools, unit, count = Pools(given, PLAIN), given.u64("unit"), given.u64("units")
    fresh = given.boolean("the pool has no pages yet")
    if fresh:
        for field in FIELDS:
            setattr(pools.pool, field, u64(0))
    assigned, any_unit = given.u64("pages given out"), given.word("unit of the pool", 64)
    given.assume(z3.ULE(term(assigned), term(pools.pages)), z3.ULT(term(unit), 32))
    pools.region.assigned = assigned
    before = {field: pools.now(field) for field in FIELDS}
    given.assume(z3.Or(fresh, before["count"] != 0))

    def first() -> Term:
        return pools.now("first")

    def numbered(words: Cells, until: Term) -> Write:
        return Write(lambda at: z3.ULT(at - first(), until), lambda at: z3.Extract(31, 0, at - first()))

    given.rule(pages.assign, filling([pools.order, pools.place], numbered))
    done = not isinstance(pages.assign(pools.name, unit, count), Err)
    given.outcome("assigned" if done else "refused")
    start = (term(assigned) + term(unit) - 1) & ~(term(unit) - 1)
    room = z3.And(z3.ULE(term(count), term(pools.pages)), z3.ULE(start, term(pools.pages)))
    room = z3.And(room, z3.ULE(term(count) * term(unit), term(pools.pages) - start))
    allowed = z3.And(fresh, z3.Or([term(unit) == power for power in UNITS]), room)
    given.require(allowed == done, "refused exactly if there is no room, or the pool has pages, or the unit is none")
    if not done:
        given.require(z3.And(*(pools.now(field) == before[field] for field in FIELDS)), "the pool did not change")
        given.require(term(pools.region.assigned) == term(assigned), "nothing was given out")
        given.require(not pools.order.writes and not pools.place.writes, "no order was changed")
        return
    size = term(count) * term(unit)
    given.require(fresh, "only a pool without pages")
    given.require(z3.Or([term(unit) == power for power in UNITS]), "a power of two up to sixteen")
    next_place = z3.And(z3.UGE(first(), term(assigned)), z3.ULT(first() - term(assigned), term(unit)))
    given.require(z3.And(first() & (term(unit) - 1) == 0, next_place), "the next place that is aligned")
    given.require(z3.And(pools.now("count") == term(count), pools.now("unit") == term(unit)), "what was asked for")
    given.require(z3.And(pools.now("used") == 0, pools.now("reserved") == 0), "all of it free")
    given.require(z3.And(z3.ULE(first(), term(pools.pages)), z3.ULE(size, term(pools.pages) - first())), "it lies in the region")
    given.require(term(pools.region.assigned) == first() + size, "what follows goes to others")
    given.assume(z3.ULT(any_unit, term(count)))
    for words in (pools.order, pools.place):
        given.require(z3.ZeroExt(32, words(first() + any_unit)) == any_unit, "ORDER and PLACE start as the identity")


__all__ = ["Pools"]
