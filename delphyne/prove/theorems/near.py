# SPDX-License-Identifier: Apache-2.0
"""What a CPU remembers of its guest's last tables: it is remembered of the right 2 MiB, and believed in the epoch it was learned in and no other."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.kvm import host_tables, near
from delphyne.el2.kvm.host_tables import Walked
from delphyne.el2.memory import frames, pages, shadow
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Ipa, Pa, u64
from delphyne.prove.memory import Only
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

about = partial(theorem, trusts=("GUESTS_LOCK is held: nobody else changes seats or shadows meanwhile",))
FIELDS = ("near_block", "near_epoch", "near_host", "near_index", "near_shadow")


class Places:
    """A seat that remembers something, or nothing, and its VM."""

    def __init__(self, given: Given) -> None:
        self.seat: Any = SimpleNamespace(**{field: given.u64(field) for field in FIELDS})
        self.seat.near_host = Pa(self.seat.near_host)
        self.was = {field: term(getattr(self.seat, field)) for field in FIELDS}
        self.vm: Any = SimpleNamespace(shadow=SimpleNamespace(epoch=given.u64("epoch")), table=SimpleNamespace(wide=given.boolean("wide")))
        self.page = Ipa(given.u64("page"))

    def same_block(self, one: Term, other: Term) -> Formula:
        """Whether one table of pages serves both."""
        return z3.LShR(one, 21) == z3.LShR(other, 21)


@about(near.is_known, near.read, near.is_vacant, outcomes=("known", "not known"))
def is_known(given: Given) -> None:
    """Known exactly if remembered of the page's 2 MiB in this epoch; what is read then is read from what was remembered."""
    places = Places(given)
    seen: list[Any] = []
    vacant, asked = given.boolean("vacant"), []
    given.replace(host_tables.read_page, lambda *arguments: seen.append(arguments))

    def is_vacant(*arguments: Any) -> bool:
        asked.append(arguments)
        return vacant

    given.replace(host_tables.is_vacant, is_vacant)
    with GUESTS_LOCK:
        known = near.is_known(places.seat, places.vm, places.page)
        near.read(places.seat, places.vm, places.page)
        given.require(near.is_vacant(places.seat, places.page) == vacant, "as it is said")
    given.outcome("known" if known else "not known")
    block, epoch = places.was["near_block"], term(places.vm.shadow.epoch)
    wanted = z3.And(block != 0, block - 1 == z3.LShR(term(places.page), 21), places.was["near_epoch"] == epoch)
    given.require(wanted == known, "of this block, in this epoch")
    table, index, page, wide = seen[0]
    remembered = z3.And(term(table) == places.was["near_host"], term(index) == places.was["near_index"])
    given.require(z3.And(remembered, term(page) == term(places.page)), "from the table that is remembered")
    given.require(wide == places.vm.table.wide, "in the form of the VM's table")
    given.require(z3.And([term(one) == term(other) for one, other in zip(asked[0], seen[0][:3], strict=True)]), "and asked of the same place")


@about(near.find, assumes=("tables.in_last_table",))
def find(given: Given) -> None:
    """The slot for the page in the table that is remembered, as it is now."""
    places, word = Places(given), given.u64("what stands there")
    seat, table = places.seat, z3.ZeroExt(32, given.word("table", 32))
    seat.near_shadow = integer(table + 1)
    slot = z3.LShR(term(places.page), 12) & 511
    given.replace(pages.TABLES, Only(integer(table), Only(integer(slot), SimpleNamespace(load=lambda order: word))))
    with GUESTS_LOCK:
        found = near.find(seat, places.page)
    given.require(z3.And(term(found.table) == table, term(found.slot) == slot), "the slot of the page")
    given.require(found.level == 3 and term(found.descriptor.raw).eq(term(word)), "with what stands there")


@about(near.remember, outcomes=("remembered", "forgotten"), assumes=("near.is_known", "layout.index_of"),
       bounds=("near.remember: fewer than 2**32 pages of tables", "near.remember: shadow.table_at says where a table is (tests/kvm)"))
def remember(given: Given) -> None:
    """Where both last tables are found, they are known for the 2 MiB of the page in this epoch, and in no other epoch and of no other addresses; else
    nothing is known."""
    places, level, at = Places(given), given.one_of("level", (0, 1, 2, 3)), given.u64("where the walk ended")
    there, is_ram = given.boolean("the shadow has a table"), given.boolean("the host's table is RAM")
    near_table, index = z3.ZeroExt(32, given.word("table", 32)), given.u64("index")
    asked: list[Term] = []

    def index_of(pa: Pa) -> u64 | None:
        asked.append(term(pa))
        return index if is_ram else None

    given.replace(shadow.table_at, lambda which, page: integer(near_table) if there and which is places.vm.shadow else None)
    given.replace(frames.index_of, index_of)
    with frames.LOCK, GUESTS_LOCK:
        near.remember(places.seat, places.vm, Walked(u64(level), u64(0), Pa(at)), places.page)
    done = level == 3 and there and is_ram
    given.outcome("remembered" if done else "forgotten")
    other, epoch = Ipa(given.u64("another page")), term(places.vm.shadow.epoch)
    if not given.boolean("the same epoch"):
        places.vm.shadow.epoch = given.u64("another epoch")
        given.assume(term(places.vm.shadow.epoch) != epoch)
    with GUESTS_LOCK:
        known = near.is_known(places.seat, places.vm, other)
    same = z3.And(places.same_block(term(other), term(places.page)), term(places.vm.shadow.epoch) == epoch)
    given.require((z3.And(done, same)) == known, "known of this block in this epoch, if of anything")
    if done:
        seat, table = places.seat, term(at) & ~z3.BitVecVal(4095, 64)
        given.require(z3.And(term(seat.near_host) == table, asked[0] == table), "the host's table")
        given.require(term(seat.near_index) == term(index), "and its frame")
        given.require(term(seat.near_shadow) == near_table + 1, "the shadow's table")
