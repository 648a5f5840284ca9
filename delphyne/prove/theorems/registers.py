# SPDX-License-Identifier: Apache-2.0
"""Registers of protected guests' CPUs: each has a place of its own in its CPU's memory, no two CPUs share a byte, and a CPU begins as reset says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch.world import FP_BYTES, GENERAL_BYTES, Places, answer, answer_word, asked_word
from delphyne.el2.guest import registers
from delphyne.el2.guest.registers import Expects, Memory
from delphyne.lang import Pa, owned, u64, wipe
from delphyne.prove.memory import clearing
from delphyne.prove.path import Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

LIMIT, CPU_BYTES, PAGE = 128, 2048, 4096
TOP = 1 << 48
PLACED = "the registers' memory lies below 2**48 and begins at a page (boot reserves it)"
WORDS = "answer, answer_word and asked_word touch just the words they are given (el2.S)"


class Registers:
    """The memory, somewhere, and the words that are written into it."""

    def __init__(self, given: Given) -> None:
        self.given, self.base = given, given.u64("base")
        given.assume(z3.ULT(term(self.base), TOP), z3.Extract(11, 0, term(self.base)) == 0)
        memory = Memory()
        memory.base = Pa(self.base)
        given.replace(registers.MEMORY, memory)
        self.memory = memory
        self.writes: list[tuple[Term, Any, Any]] = []
        self.reads: list[tuple[Term, Term]] = []
        self.content = given.u64("what is read")
        given.replace(answer_word, lambda base, offset, x: self.writes.append((term(base), offset, x)))
        given.replace(asked_word, self._read)
        given.replace(answer, self._answer)

    def _read(self, base: Pa, offset: u64) -> u64:
        self.reads.append((term(base), term(offset)))
        return self.content

    def _answer(self, base: Pa, places: Places, pc: u64, pstate: u64) -> None:
        self.writes += [(term(base), places.pc, pc), (term(base), places.pstate, pstate)]

    def number(self, name: str) -> u64:
        """A processor's number."""
        made = self.given.u64(name)
        self.given.assume(z3.ULT(term(made), LIMIT))
        return made


@theorem(registers._layout)
def layout(given: Given) -> None:
    """Every register that a switch moves has an aligned word of its own in the CPU's memory, and so have the words that EL2 keeps beside them;
    general and SIMD registers lie as the kernel's structures have them."""
    own, spare = registers._layout(), registers._SPARE
    given.require((int(own.regs), int(own.pc), int(own.pstate)) == (0, 32 * 8, 33 * 8), "struct user_pt_regs, with SP_EL0 before the program counter")
    given.require(int(own.fp) % 16 == 0, "SIMD registers are aligned")
    spans = [(int(own.regs), int(GENERAL_BYTES)), (int(own.fp), int(FP_BYTES)), (int(own.mpidr), 8)]
    spans += [(int(getattr(own, name)), 8) for name in Places.__annotations__ if name not in spare]
    kept = (registers.RUNNING, registers.EXPECTS, registers.TARGET, registers.ASKED, registers.REFUSED, registers.BIG_ENDIAN)
    spans += [(int(offset), 8) for offset in kept]
    spans.sort()
    given.require(all(at % 8 == 0 for at, _ in spans), "words are aligned")
    given.require(all(at + size <= follow for (at, size), (follow, _) in pairwise(spans)), "no two overlap")
    given.require(spans[-1][0] + spans[-1][1] <= CPU_BYTES, "in the CPU's memory")
    moved = {name for name in Places.__annotations__ if name not in spare}
    given.require(all(name in moved for name in ("sctlr", "ttbr0", "ttbr1", "elr1", "spsr1", "sp1", "vbar", "tpidr0", "apia_low")), "the guest's own")
    ends = [at + size for at, size in spans if at < int(registers.RUNNING)]
    starts = [at for at, _ in spans[1:len(ends)]]
    given.require(starts == ends[:-1], "without a hole: what is the last to be placed shows that all were")


@theorem(registers.base_of, registers.zeroes, registers.memory_bytes, bounds=(PLACED,))
def apart(given: Given) -> None:
    """No byte of a CPU's memory is another's or lies outside the whole; the memory that stays zero is nobody's, and has room for a whole CPU."""
    held = Registers(given)
    one, other = held.number("one CPU"), held.number("another CPU")
    first, second = given.u64("offset"), given.u64("another offset")
    given.assume(z3.ULT(term(first), CPU_BYTES), z3.ULT(term(second), CPU_BYTES))
    size, start = term(registers.memory_bytes()), term(held.base)
    here, there = term(registers.base_of(one)) + term(first), term(registers.base_of(other)) + term(second)
    zero = term(registers.zeroes()) + term(second)
    given.require(z3.Implies(here == there, z3.And(term(one) == term(other), term(first) == term(second))), "no two CPUs share a byte")
    given.require(z3.And(z3.ULE(start, here), z3.ULT(here - start, size)), "in EL2's memory")
    given.require(z3.And(here != zero, z3.ULE(start, zero), z3.ULT(zero - start, size)), "zeroes are nobody's, and are EL2's memory as well")
    given.require(z3.And(size & (PAGE - 1) == 0, z3.ULE(size, (LIMIT + 2) * CPU_BYTES)), "whole pages, and no more than are needed")
    given.require(z3.And((here - term(first)) & 15 == 0, (zero - term(second)) & 15 == 0), "SIMD registers are aligned")


@theorem(registers.base_of, bounds=(PLACED,), outcomes=("refused", "a CPU"))
def no_other(given: Given) -> None:
    """Nobody gets memory for a number that is no CPU's: the assert says no to exactly those."""
    held, number = Registers(given), given.u64("number")
    real = given.holds(z3.ULT(term(number), LIMIT))
    try:
        registers.base_of(number)
    except AssertionError:
        given.require(not real, "only where there is no such CPU")
        given.outcome("refused")
        return
    given.outcome("a CPU")
    given.require(real and not held.writes, "a CPU")


@theorem(registers.attach, bounds=(PLACED,), trusts=("one CPU runs at boot",), assumes=("registers.apart",))
def attach(given: Given) -> None:
    """The registers are where boot says, and all of that memory is zero before anybody uses it."""
    held, place = Registers(given), given.u64("place")
    lent, cleared = clearing(term(place), term(registers.memory_bytes()))
    given.replace(owned, lent)
    registers.attach(Pa(place))
    given.require(term(held.memory.base) == term(place), "there")
    given.require(len(cleared) == 1, "and zero")


@theorem(registers.clear, bounds=(PLACED,), assumes=("registers.apart",))
def clear(given: Given) -> None:
    """All of the CPU's memory is wiped, by stores that are not left out, and no other memory is touched."""
    held = Registers(given)
    number = held.number("number")
    wiped: list[Any] = []
    at = term(held.base) + (term(number) << 11)
    lent, _ = clearing(at, z3.BitVecVal(CPU_BYTES, 64))
    given.replace(owned, lent)
    given.replace(wipe, wiped.append)
    registers.clear(number)
    given.require(len(wiped) == 1, "the whole of it")


@theorem(registers.reset, bounds=(PLACED,), assumes=("registers.apart", "registers.clear"), trusts=(WORDS,))
def reset(given: Given) -> None:
    """Nothing of what a CPU had is left, and it begins as the architecture resets one: at EL1 with SP_EL1, interrupts and debug exceptions masked,
    with neither MMU nor caches, in its caller's order of bytes; x0 is the context."""
    held = Registers(given)
    number, mpidr, entry, context = held.number("number"), given.u64("mpidr"), given.u64("entry"), given.u64("context")
    big_endian = given.boolean("big-endian")

    def emptied(which: u64) -> None:
        given.require(z3.And(term(which) == term(number), not held.writes), "its memory is wiped first")
        cleared.append(True)

    cleared: list[bool] = []
    given.replace(registers.clear, emptied)
    registers.reset(number, mpidr, entry, context, big_endian)
    given.require(len(cleared) == 1, "once")
    own, at = registers.OWN, term(held.base) + (term(number) << 11)
    given.require(z3.And([base == at for base, _, _ in held.writes]), "in this CPU's memory alone")
    found = {int(offset): term(x) for _, offset, x in held.writes}
    given.require(set(found) == {int(place) for place in (own.pc, own.pstate, own.regs, own.mpidr, own.sctlr, registers.RUNNING)}, "all else is zero")
    given.require(z3.And(found[int(own.pc)] == term(entry), found[int(own.regs)] == term(context)), "where and with what it was turned on")
    pstate, sctlr = found[int(own.pstate)], found[int(own.sctlr)]
    given.require(pstate == (0b1111 << 6 | 0b0101), "EL1h, all masked")
    given.require(found[int(own.mpidr)] == term(mpidr) | (1 << 31), "its affinity, in the form of a CPU of AArch64")
    given.require(sctlr & (1 << 12 | 1 << 2 | 1) == 0, "MMU, data and instruction caches are off")
    given.require(sctlr & (1 << 24) == 0, "EL0 is little-endian")
    given.require((sctlr & (1 << 25) != 0) == big_endian, "EL1 as its caller")
    res1 = 1 << 29 | 1 << 28 | 1 << 23 | 1 << 22 | 1 << 20 | 1 << 11
    given.require(sctlr & res1 == res1, "what was RES1 in ARMv8.0")
    given.require(found[int(registers.RUNNING)] == 1, "it is on")


@theorem(registers.general, registers.put_general, outcomes=("a register", "none"), trusts=(WORDS,))
def general(given: Given) -> None:
    """Whatever number a syndrome has, only x0 to x30 are read or written, each its own; 31 and above read as zero and write nothing."""
    held, number, x = Registers(given), given.u64("number"), given.u64("x")
    base = Pa(held.base)
    value = registers.general(base, number)
    registers.put_general(base, number, x)
    if given.holds(z3.UGE(term(number), 31)):
        given.outcome("none")
        given.require(not held.reads and not held.writes and not given.holds(term(value) != 0), "XZR")
        return
    given.outcome("a register")
    given.require(len(held.reads) == 1 and len(held.writes) == 1, "one word")
    (read_at, offset), (write_at, place, written) = held.reads[0], held.writes[0]
    given.require(z3.And(read_at == term(base), write_at == term(base)), "of this CPU")
    given.require(z3.And(offset == term(number) << 3, term(place) == term(number) << 3), "its own word")
    given.require(z3.And(term(value) == term(held.content), term(written) == term(x)), "as it is, and as asked")


@theorem(registers.expect, trusts=(WORDS,))
def expect(given: Given) -> None:
    """What the host may give is what the exit says, with its target: two words, and neither is a register."""
    held, target = Registers(given), given.u64("target")
    what = given.one_of("what", list(Expects))
    registers.expect(Pa(held.base), what, target)
    found = {int(offset): term(x) for base, offset, x in held.writes}
    given.require(set(found) == {int(registers.EXPECTS), int(registers.TARGET)}, "these two words")
    given.require(z3.And([base == term(held.base) for base, _, _ in held.writes]), "of this CPU")
    given.require(z3.And(found[int(registers.EXPECTS)] == what.value, found[int(registers.TARGET)] == term(target)), "as said")
