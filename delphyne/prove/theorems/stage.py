# SPDX-License-Identifier: Apache-2.0
"""What a host is shown of a protected guest's exit: what each function names, and no word of the stage besides.

The host's stage and the CPU's own registers are arbitrary before; `Stage` keeps both, and refuses a store anywhere else.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import world
from delphyne.el2.arch.exception import AbortIss, Esr
from delphyne.el2.guest import registers
from delphyne.el2.guest.registers import Expects
from delphyne.el2.kvm import stage
from delphyne.lang import Ipa, u64
from delphyne.prove.memory import Cells
from delphyne.prove.path import Term
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem

EL1H_MASKED = 0x3C5
GENERAL = 34
"""x0 to x30, SP_EL0, the program counter and PSTATE."""
WORDS = ("pc", "pstate", "syndrome", "address", "page")


class Stage:
    """A host's `kvm_vcpu` and the memory of EL2's in which the CPU's registers lie, word by word."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.host, self.own = object(), object()
        self.seat: Any = SimpleNamespace(at=self.host, own=self.own)
        self.places: Any = SimpleNamespace(regs=integer(z3.ZeroExt(32, given.word("regs", 32))))
        self.general, self.kept = Cells("the host's registers", u64), Cells("the CPU's own", u64)
        self.before = {word: z3.BitVec(f"{word} before", 64) for word in WORDS}
        self.words = dict(self.before)
        self.number = z3.BitVec("any word", 64)
        given.replace(world.answer, self.answer)
        given.replace(world.answer_fault, self.answer_fault)
        given.replace(world.answer_word, self.answer_word)
        given.replace(world.asked_word, self.asked_word)

    def answer(self, base: object, places: object, pc: u64, pstate: u64) -> None:
        """Program counter and PSTATE, of the stage only."""
        self.given.require(base is self.host and places is self.places, "the host's stage")
        self.words.update(pc=term(pc), pstate=term(pstate))

    def answer_fault(self, base: object, places: object, syndrome: u64, address: u64, page: u64) -> None:
        """The three of a fault, of the stage only."""
        self.given.require(base is self.host and places is self.places, "the host's stage")
        self.words.update(syndrome=term(syndrome), address=term(address), page=term(page))

    def answer_word(self, base: object, offset: u64, x: u64) -> None:
        """One of the general registers of the stage, or a word of the CPU's own."""
        place = term(offset) - term(self.places.regs) if base is self.host else term(offset)
        self.given.require(base is self.host or base is self.own, "of the two")
        self.given.require(z3.And(z3.Extract(2, 0, place) == 0, z3.ULT(place, 8 * GENERAL if base is self.host else 2048)), "a whole word of it")
        (self.general if base is self.host else self.kept).store(z3.LShR(place, 3), integer(term(x)))

    def asked_word(self, base: object, offset: u64) -> u64:
        """A general register of the CPU's own."""
        self.given.require(z3.And(base is self.own, z3.Extract(2, 0, term(offset)) == 0, z3.ULT(term(offset), 8 * 31)), "a register of the guest's")
        found: u64 = self.kept.load(z3.LShR(term(offset), 3))
        return found

    def requires_words(self, **wanted: Term | int) -> None:
        """The stage's words are these now, and those that are not named are what they were."""
        for word in WORDS:
            self.given.require(self.words[word] == wanted.get(word, self.before[word]), f"{word} is what it should be")

    def requires_general(self, number: Term | None = None, x: Term | None = None) -> None:
        """Each general register of the stage is what it was, but for one."""
        first = self.general.first(self.number)
        self.given.require(self.general(self.number) == (first if number is None else z3.If(self.number == number, x, first)), "what it should be")

    def requires_kept(self, **wanted: Term | int) -> None:
        """Each word of the CPU's own is what it was, but for those that are named."""
        expected = self.kept.first(self.number)
        for name, x in wanted.items():
            expected = z3.If(self.number == int(getattr(registers, name)) // 8, x, expected)
        self.given.require(self.kept(self.number) == expected, "the CPU's own is what it should be")


def part(x: Term, access: Term, big_endian: bool) -> tuple[Term, Term]:
    """The bytes of an access in the order that the machine has, without and with the sign."""
    size = z3.Extract(23, 22, access)
    unsigned, signed = None, None
    for log in range(4):
        data = [z3.Extract(8 * number + 7, 8 * number, x) for number in range(1 << log)]
        ordered = data if big_endian else data[::-1]
        whole = z3.Concat(*ordered) if log else ordered[0]
        one, other = z3.ZeroExt(64 - whole.size(), whole), z3.SignExt(64 - whole.size(), whole)
        unsigned = one if unsigned is None else z3.If(size == log, one, unsigned)
        signed = other if signed is None else z3.If(size == log, other, signed)
    return unsigned, signed


@theorem(stage.show_nothing)
def show_nothing(given: Given) -> None:
    """The host sees a syndrome and nobody's state: no address, no register, and nothing that it may give back changes."""
    shown, syndrome = Stage(given), given.u64("syndrome")
    stage.show_nothing(shown.seat, shown.places, Esr.of(syndrome))
    shown.requires_words(pc=0, pstate=EL1H_MASKED, syndrome=term(syndrome), address=0, page=0)
    shown.requires_general()
    shown.requires_kept()


@theorem(stage.show_general, outcomes=("shown", "the zero register"))
def show_general(given: Given) -> None:
    """The one register that is named becomes the guest's, whatever the number; there is no 32nd one to show."""
    shown, number = Stage(given), given.u64("number")
    stage.show_general(shown.seat, shown.places, number)
    there = given.holds(z3.ULT(term(number), 31))
    given.outcome("shown" if there else "the zero register")
    shown.requires_general(term(number) if there else None, shown.kept.first(term(number)))
    shown.requires_words()
    shown.requires_kept()


@theorem(stage.show, stage.show_access, outcomes=("a data abort", "another exit"))
def show_access(given: Given) -> None:
    """Whatever the exit, the host sees its syndrome, the offset and the page that are named (0 for no access) and no register; ASKED is the ISS of
    a data abort of the guest's and 0 for anything else, and the host may give what is expected and nothing else."""
    shown, syndrome, target = Stage(given), given.u64("syndrome"), given.u64("target")
    offset, page = given.u64("offset"), given.u64("page")
    what = given.one_of("expected", tuple(Expects))
    if given.boolean("an access"):
        code = stage.show_access(shown.seat, shown.places, Esr.of(syndrome), what, target, offset, page)
        shown.requires_words(pc=0, pstate=EL1H_MASKED, syndrome=term(syndrome), address=term(offset), page=term(page))
    else:
        code = stage.show(shown.seat, shown.places, Esr.of(syndrome), what, target)
        shown.requires_words(pc=0, pstate=EL1H_MASKED, syndrome=term(syndrome), address=0, page=0)
    is_abort = given.holds(z3.Extract(31, 26, term(syndrome)) == 0x24)
    given.outcome("a data abort" if is_abort else "another exit")
    iss = z3.ZeroExt(39, z3.Extract(24, 0, term(syndrome)))
    shown.requires_kept(ASKED=iss if is_abort else z3.BitVecVal(0, 64), EXPECTS=z3.BitVecVal(int(what.raw), 64), TARGET=term(target))
    shown.requires_general()
    given.require(term(code) == 2, "ARM_EXCEPTION_TRAP")


@theorem(stage.show_stored, stage._ordered, stage._accessed, outcomes=("shown", "the zero register"))
def show_stored(given: Given) -> None:
    """For every size and both orders the host sees the bytes that are stored, in its own order, zeroes above them, and no other register: of what
    else the guest has in that one it sees nothing."""
    shown, access, big_endian = Stage(given), given.u64("access"), given.boolean("big-endian")
    stage.show_stored(shown.seat, shown.places, AbortIss.of(access), big_endian)
    number = z3.ZeroExt(59, z3.Extract(20, 16, term(access)))
    there = given.holds(number != 31)
    given.outcome("shown" if there else "the zero register")
    stored, _ = part(shown.kept.first(number), term(access), big_endian)
    shown.requires_general(number if there else None, stored)
    shown.requires_words()
    shown.requires_kept()


@theorem(stage.loaded, stage._ordered, stage._accessed, outcomes=("zeroes above", "signed", "no such access"))
def loaded(given: Given) -> None:
    """Whatever the host gives, the register gets the bytes of the access in the guest's order; above them stand zeroes or, where the syndrome says
    so, the sign, to the width of the register; no other bit that the host gave is left."""
    x, access, big_endian = given.u64("x"), given.u64("access"), given.boolean("big-endian")
    found = term(stage.loaded(x, AbortIss.of(access), big_endian))
    word = term(access)
    unsigned, signed = part(term(x), word, big_endian)
    extends, is_wide, largest = (z3.Extract(21, 21, word) == 1, z3.Extract(15, 15, word) == 1, z3.Extract(23, 22, word) == 3)
    if not given.holds(extends):
        given.outcome("zeroes above")
        given.require(found == unsigned, "zeroes above them")
    elif given.holds(z3.And(largest, z3.Not(is_wide))):
        given.outcome("no such access")
        given.require(z3.Or(found == unsigned, found == unsigned & 0xFFFF_FFFF), "no bit but those of the access")
    else:
        given.outcome("signed")
        given.require(found == z3.If(is_wide, signed, signed & 0xFFFF_FFFF), "the sign above them, and none above a W register")


@theorem(stage.clear)
def clear(given: Given) -> None:
    """Whatever the stage held, all of its general registers are 0, and its program counter, PSTATE, and the three of a fault are nobody's."""
    shown = Stage(given)
    stage.clear(shown.seat, shown.places)
    cleared = z3.ULT(shown.number, GENERAL)
    given.require(shown.general(shown.number) == z3.If(cleared, z3.BitVecVal(0, 64), shown.general.first(shown.number)), "each is 0")
    shown.requires_words(pc=0, pstate=EL1H_MASKED, syndrome=0, address=0, page=0)
    shown.requires_kept()


@theorem(stage.page_register)
def page_register(given: Given) -> None:
    """Of a page the field FIPA says its number, and no other bit is set."""
    number = given.word("page", 40)
    found = term(stage.page_register(Ipa(integer(z3.ZeroExt(12, z3.Concat(number, z3.BitVecVal(0, 12)))))))
    given.require(found == z3.ZeroExt(20, z3.Concat(number, z3.BitVecVal(0, 4))), "FIPA, and nothing else")
