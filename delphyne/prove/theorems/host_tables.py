# SPDX-License-Identifier: Apache-2.0
"""The host's own stage-2 tables, which are hostile memory: whatever stands there, a walk ends, and ends where the processor's would.

What a descriptor is when it is read is an unknown function of how many were read before and of where: nothing is assumed to stay.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.err import Err
from delphyne.el2.guest.vms import HostTable
from delphyne.el2.kvm import host_tables
from delphyne.el2.kvm.host_tables import HostVtcr, Walked
from delphyne.el2.memory import frames
from delphyne.el2.memory.frames import State
from delphyne.el2.memory.graveyard import GUESTS_LOCK
from delphyne.lang import Hostile, Ipa, Pa, u64
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

LOCKED = "frames.LOCK is held: no frame changes hands meanwhile"
about = partial(theorem, trusts=(LOCKED,))
WIDE = 0x0003_0000_0000_0300


def bit(word: Term, number: int) -> Formula:
    """Whether a bit is set."""
    return z3.Extract(number, number, word) == 1


def is_sound(word: Term, level: int, wide: bool) -> Formula:
    """Valid, and a table, a block at level 1 or 2, or a page; without bits 51:48 of an address where those are in the descriptor."""
    form = bit(word, 1) if level == 3 else z3.BoolVal(True) if level else bit(word, 1)
    return z3.And(bit(word, 0), form, z3.Or(not wide, word & WIDE == 0))


@theorem(host_tables._is_sound)
def sound(given: Given) -> None:
    """A descriptor is understood exactly if it is valid and of a form that its level has."""
    word, level, wide = given.u64("word"), given.one_of("level", (0, 1, 2, 3)), given.boolean("wide")
    given.require(is_sound(term(word), level, wide) == host_tables._is_sound(word, u64(level), wide), "what the processor understands")


@theorem(host_tables.geometry, outcomes=("walked", "refused"))
def geometry(given: Given) -> None:
    """A geometry that is accepted has start tables that cover its addresses, at most 16 in a row, and an aligned root below 1 << 48."""
    root, raw = given.u64("root"), given.u64("vtcr")
    found = host_tables.geometry(root, HostVtcr.of(raw))
    word, size, level = term(raw), z3.ZeroExt(58, z3.Extract(5, 0, term(raw))), z3.ZeroExt(62, z3.Extract(7, 6, term(raw)))
    width, shift = 64 - size, z3.BitVecVal(12, 64) + 9 * (3 - (2 - level))
    fits = z3.And(z3.UGE(width, 25), z3.ULE(width, 48), z3.ULE(level, 2), z3.UGT(width, shift), z3.ULE(width, shift + 13))
    place = z3.And(term(root) & 4095 == 0, z3.ULT(term(root), 1 << 48))
    given.outcome("refused" if isinstance(found, Err) else "walked")
    given.require(z3.And(z3.Extract(15, 14, word) == 0, fits, place) == (not isinstance(found, Err)), "refused exactly where no processor walks")
    if isinstance(found, Err):
        return
    given.require(z3.And(term(found.bits) == width, term(found.start) == 2 - level, term(found.root) == term(root)), "as VTCR_EL2 has it")
    enough = z3.UGE(term(found.roots) << (shift + 9), z3.BitVecVal(1, 64) << width)
    given.require(z3.And(enough, z3.ULE(term(found.roots), 16)), "enough start tables, and no more than 16")
    given.require(z3.ULE((term(found.roots) - 1) << (shift + 9), (z3.BitVecVal(1, 64) << width) - 1), "none of which lies beyond its addresses")
    given.require(z3.And(bit(word, 21) == found.hardware_access, bit(word, 32) == found.wide), "its flags")


@about(host_tables.walk, outcomes=("outside", "nothing", "leaf"), assumes=("host_tables.sound", "host_tables.geometry"),
       bounds=("host_tables.walk: of a table that `geometry` accepted",))
def walk(given: Given) -> None:
    """Each descriptor is read once, from where the one before it leads; the walk ends with the first that is no table, by level 3; and what is not
    understood is nothing."""
    start, wide = given.one_of("start", (0, 1, 2)), given.boolean("wide")
    low = 12 + 9 * (3 - start)
    bits, root = given.u64("bits"), z3.Concat(z3.BitVecVal(0, 16), given.word("root", 36), z3.BitVecVal(0, 12))
    given.assume(z3.UGT(term(bits), low), z3.ULE(term(bits), min(48, low + 13)))
    ipa = given.u64("ipa")
    read: list[tuple[Term, Term]] = []

    def reads(at: Pa) -> u64:
        word = given.u64(f"descriptor {len(read)}")
        read.append((term(at), term(word)))
        return word

    given.replace(host_tables._read, reads)
    table = HostTable(Pa(integer(root)), bits, u64(start), u64(16), False, wide)
    with frames.LOCK:
        found = host_tables.walk(table, Ipa(ipa))
    if not read:
        given.outcome("outside")
        given.require(z3.LShR(term(ipa), term(bits)) != 0, "an address that the table has none of")
        given.require(found.level == 0 and found.descriptor == 0 and found.at.raw == 0, "nothing")
        return
    given.require(z3.LShR(term(ipa), term(bits)) == 0, "an address of the table")
    wanted = root + (z3.LShR(term(ipa), low) << 3)
    for number, (at, word) in enumerate(read):
        level = start + number
        given.require(at == wanted, "read from where the descriptor before leads")
        is_last = number == len(read) - 1
        leads = z3.And(is_sound(word, level, wide), bit(word, 1), level < 3)
        given.require(leads != z3.BoolVal(is_last), "on exactly from a table")
        below = 12 + 9 * (3 - level - 1) if level < 3 else 12
        wanted = (word & 0x0000_FFFF_FFFF_F000) + ((z3.LShR(term(ipa), below) & 511) << 3)
    at, word = read[-1]
    level = start + len(read) - 1
    is_leaf = given.holds(is_sound(word, level, wide))
    given.outcome("leaf" if is_leaf else "nothing")
    given.require(z3.And(term(found.at) == at, term(found.level) == level), "where it ended")
    given.require(term(found.descriptor) == (word if is_leaf else z3.BitVecVal(0, 64)), "what stood there, if it is understood")


@about(host_tables._read, host_tables.raw_at, host_tables.read_page, host_tables.is_vacant, outcomes=("the host's", "not the host's"),
       assumes=("frames.is_hosts", "frames.entry_of", "host_tables.sound"))
def reading(given: Given) -> None:
    """A word is read once, and only where the frame it stands in is the host's by then; else it is 0. What cannot be read is 0."""
    hosts, fails, at, word = given.boolean("is the host's"), given.boolean("cannot be read"), given.u64("at"), given.u64("word")
    page, index, wide = given.u64("page"), given.u64("index"), given.boolean("wide")
    table = z3.Concat(z3.BitVecVal(0, 16), given.word("table", 36), z3.BitVecVal(0, 12))
    read: list[Term] = []
    asked: list[Term] = []

    def window(place: Pa, size: u64) -> Any:
        given.require(size == 8, "one word")

        def once(offset: u64) -> Any:
            given.require(offset == 0, "at its start")
            read.append(term(place))
            return None if fails else SimpleNamespace(
                below=lambda limit: word if given.holds(z3.ULT(term(word), term(limit))) else None, equals=lambda other: term(word) == term(other))

        return SimpleNamespace(read_once_u64=once)

    def is_hosts(pa: Pa) -> bool:
        asked.append(term(pa))
        return hosts

    given.replace(Hostile, window)
    given.replace(frames.is_hosts, is_hosts)
    given.replace(frames.entry_at, lambda number: SimpleNamespace(state=State.HOST if hosts else State.PRIVATE))
    given.outcome("the host's" if hosts else "not the host's")
    largest = z3.BitVecVal((1 << 64) - 1, 64)
    expected = z3.If(term(word) == largest, z3.BitVecVal(0, 64), term(word)) if hosts and not fails else z3.BitVecVal(0, 64)
    with frames.LOCK:
        given.require(term(host_tables._read(Pa(at))) == expected, "the word, or 0")
        given.require(z3.And(asked[-1] == term(at), len(read) == int(hosts)),
                      "read once, if at all, after it was asked whose it is")
        given.require(z3.And([place == term(at) for place in read]), "there")
        again = term(host_tables.raw_at(Walked(u64(3), u64(0), Pa(at))))
        given.require(again == z3.If(term(at) == 0, z3.BitVecVal(0, 64), expected), "the same once more, where a walk ended anywhere")
    with GUESTS_LOCK:
        found = host_tables.read_page(Pa(integer(table)), index, Ipa(page), wide)
    slot = table + ((z3.LShR(term(page), 12) & 511) << 3)
    given.require(z3.And(term(found.at) == slot, found.level == 3), "the slot of the page in the table")
    given.require(not hosts or read[-1].eq(z3.simplify(slot)), "which is read")
    wanted = z3.If(is_sound(expected, 3, wide), expected, z3.BitVecVal(0, 64))
    given.require(term(found.descriptor) == wanted, "what stands there, if it is understood")
    before = len(read)
    with GUESTS_LOCK:
        vacant = host_tables.is_vacant(Pa(integer(table)), index, Ipa(page))
    given.require(len(read) == before + int(hosts) and (not hosts or read[-1].eq(z3.simplify(slot))), "read once, if at all, from the same slot")
    given.require(vacant == (term(word) == 0) if hosts and not fails else not vacant, "vacant exactly where zero was read from what is the host's")


@theorem(host_tables.leaf_of)
def leaf_of(given: Given) -> None:
    """A leaf leads to its frame without the bits that a block spans; a wide one is inner shareable, and else as the host has it."""
    word, level, wide = given.u64("word"), given.one_of("level", (1, 2, 3)), given.boolean("wide")
    low = 12 + 9 * (3 - level)
    found = host_tables.leaf_of(Walked(u64(level), word, Pa(u64(0))), wide)
    given.require(term(found.output) == z3.Concat(z3.BitVecVal(0, 16), z3.Extract(47, low, term(word)), z3.BitVecVal(0, low)), "where it leads")
    given.require(term(found.leaf.raw) == (term(word) | 0x300 if wide else term(word)), "what it allows")
    given.require(found.level == level, "its level")


@about(host_tables.set_accessed, outcomes=("set", "another by now"))
def set_accessed(given: Given) -> None:
    """The access flag is set in one step, and only in the descriptor that was found."""
    word, at, same = given.u64("word"), given.u64("at"), given.boolean("it stands there still")
    seen: list[Any] = []

    def window(place: Pa, size: u64) -> Any:
        given.require(z3.And(term(place) == term(at), term(size) == 8), "the word that was found")

        def exchange(*arguments: Any) -> bool:
            seen.append(arguments)
            return same

        return SimpleNamespace(compare_exchange_u64=exchange)

    given.replace(Hostile, window)
    with frames.LOCK:
        done = host_tables.set_accessed(Walked(u64(3), word, Pa(at)))
    given.outcome("set" if done else "another by now")
    given.require(done == same and len(seen) == 1, "as the exchange went")
    offset, old, new = seen[0]
    given.require(z3.And(term(offset) == 0, term(old) == term(word), term(new) == term(word) | 1 << 10), "only AF changes")
