# SPDX-License-Identifier: Apache-2.0
"""AArch32 guests: conditions of trapped instructions, going on behind them, and exceptions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.compiler.back.native import NativeModule, load
from delphyne.compiler.front import compile_modules
from delphyne.el2.guest import aarch32
from delphyne.lang import u64

ROOM = "delphyne.el2.guest.aarch32"
N, Z, C, V, Q = 1 << 31, 1 << 30, 1 << 29, 1 << 28, 1 << 27
DIT, SSBS, PAN, SS, IL, GE = 1 << 24, 1 << 23, 1 << 22, 1 << 21, 1 << 20, 0xF << 16
E, A, I, F, T = 1 << 9, 1 << 8, 1 << 7, 1 << 6, 1 << 5  # noqa: E741
USER, SVC, ABT, UND = 0x10, 0x13, 0x17, 0x1B
HIGH, SPAN, EE, TE, DSSBS = 1 << 13, 1 << 23, 1 << 25, 1 << 30, 1 << 31
MCR, SMC32, HVC32, WFX, ABORT = 0x03, 0x13, 0x12, 0x01, 0x24
WITH_CONDITION = (0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0C)
CONDITIONS: list[Callable[[bool, bool, bool, bool], bool]] = [
    lambda n, z, c, v: z,
    lambda n, z, c, v: not z,
    lambda n, z, c, v: c,
    lambda n, z, c, v: not c,
    lambda n, z, c, v: n,
    lambda n, z, c, v: not n,
    lambda n, z, c, v: v,
    lambda n, z, c, v: not v,
    lambda n, z, c, v: c and not z,
    lambda n, z, c, v: not c or z,
    lambda n, z, c, v: n == v,
    lambda n, z, c, v: n != v,
    lambda n, z, c, v: not z and n == v,
    lambda n, z, c, v: z or n != v,
    lambda n, z, c, v: True,
    lambda n, z, c, v: True,
]
"""EQ, NE, CS, CC, MI, PL, VS, VC, HI, LS, GE, LT, GT, LE, AL and the code that is no condition."""
ENTRIES = {"take_undefined": (4, 2, 0x04, UND), "take_prefetch_abort": (4, 4, 0x0C, ABT), "take_data_abort": (8, 8, 0x10, ABT)}
"""From the instruction to LR in A32 and T32, vector, mode."""
anything = st.integers(0, 2**64 - 1)


def esr(ec: int, condition: int | None = None, extra: int = 0, wide: bool = True) -> int:
    return ec << 26 | wide << 25 | (0 if condition is None else 1 << 24 | condition << 20) | extra


def block(state: int) -> int:
    """ITSTATE in its two places."""
    return (state >> 2) << 10 | (state & 3) << 25


def executed(syndrome: int, cpsr: int) -> bool:
    return bool(aarch32.is_executed(u64(syndrome), u64(cpsr)))


@pytest.mark.parametrize("condition", range(16))
def test_conditions_are_those_of_the_flags(condition: int) -> None:
    for flags in range(16):
        cpsr = flags << 28 | SVC
        wanted = CONDITIONS[condition](*(bool(flags >> bit & 1) for bit in (3, 2, 1, 0)))
        assert executed(esr(MCR, condition), cpsr) == wanted
        in_block = condition << 4 | 0b1000
        assert executed(esr(MCR), cpsr | T | block(in_block)) == wanted, "without a condition in the syndrome, the block's"


@pytest.mark.parametrize("ec", range(64))
def test_only_some_instructions_have_a_condition(ec: int) -> None:
    never = esr(ec, 0)
    assert executed(never, SVC) == (ec not in WITH_CONDITION)
    assert executed(never, SVC | Z)
    assert executed(esr(ec), SVC | T), "not in a block"


def test_a_call_of_the_firmware_says_whether_it_may_have_failed() -> None:
    assert executed(esr(SMC32, 0), SVC)
    assert not executed(esr(SMC32, 0, extra=1 << 19), SVC)
    assert executed(esr(SMC32, 0, extra=1 << 19), SVC | Z)


@pytest.mark.parametrize(("cpsr", "wide", "length"), [(SVC, True, 4), (SVC, False, 4), (SVC | T, True, 4), (SVC | T, False, 2)])
@pytest.mark.parametrize("pc", [0, 0x8000, 0xFFFF_FFFE, 0xFFFF_FFFC])
def test_the_next_instruction_follows_in_a_space_of_32_bits(cpsr: int, wide: bool, length: int, pc: int) -> None:
    position = aarch32.skip(u64(pc), u64(cpsr | SS), wide)
    assert (int(position.pc), int(position.cpsr)) == ((pc + length) % 2**32, cpsr)


def test_a_block_of_conditional_instructions_advances() -> None:
    """ITTEE EQ and its four instructions: EQ, EQ, NE, NE."""
    state = 0b0000_0111
    conditions = []
    cpsr = SVC | T | N | block(state)
    for _ in range(4):
        held = (cpsr >> 10 & 0x3F) << 2 | cpsr >> 25 & 3
        conditions.append(held >> 4)
        cpsr = int(aarch32.skip(u64(0x8000), u64(cpsr), False).cpsr)
    assert conditions == [0, 0, 1, 1]
    assert cpsr == SVC | T | N


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize("thumb", [False, True])
@pytest.mark.parametrize("sctlr", [SPAN, 0, SPAN | HIGH, SPAN | EE, SPAN | TE, SPAN | DSSBS])
def test_an_exception_goes_to_its_mode_and_vector(name: str, thumb: bool, sctlr: int) -> None:
    arm_offset, thumb_offset, vector, mode = ENTRIES[name]
    enter = getattr(aarch32, name)
    from_sctlr = (0 if sctlr & SPAN else PAN) | (E if sctlr & EE else 0) | (T if sctlr & TE else 0) | (SSBS if sctlr & DSSBS else 0)
    base = 0xFFFF_0000 if sctlr & HIGH else 0x1_2340
    state = USER | (T if thumb else 0)
    for kept in (0, N, Z, C, V, Q, DIT, PAN, GE, A, F, I):
        taken = enter(u64(state | kept), u64(0x8000), u64(sctlr), u64(0x1_235F))
        assert int(taken.pc) == base + vector
        assert int(taken.lr) == 0x8000 + (thumb_offset if thumb else arm_offset)
        assert int(taken.cpsr) == mode | I | kept | from_sctlr | (A if mode == ABT else 0)
    for dropped in (SS, IL, E, SSBS, block(0xFF)):
        assert int(enter(u64(state | dropped), u64(0x8000), u64(sctlr), u64(0)).cpsr) == mode | I | from_sctlr | (A if mode == ABT else 0)


def test_the_saved_status_has_the_form_of_aarch32() -> None:
    for cpsr, spsr in ((SVC, SVC), (SVC | DIT, SVC | 1 << 21), (SVC | SS, SVC), (SVC | IL | PAN | SSBS | block(0x5A) | Q, None)):
        assert int(aarch32.take_undefined(u64(cpsr), u64(0), u64(SPAN), u64(0)).spsr) == (cpsr if spsr is None else spsr)
    assert int(aarch32.take_data_abort(u64(2**64 - 1), u64(0), u64(SPAN), u64(0)).spsr) == 0xFFFF_FFFF & ~(1 << 24)
    wrapped = aarch32.take_data_abort(u64(SVC), u64(2**64 - 4), u64(SPAN), u64(0))
    assert int(wrapped.lr) == 4


@pytest.fixture(scope="module")
def native() -> NativeModule:
    return load(compile_modules([ROOM]))


@given(anything, anything, anything, anything, st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_compiled_says_the_same_and_nothing_traps(native: NativeModule, cpsr: int, pc: int, sctlr: int, vbar: int, wide: bool) -> None:
    assert native.call(f"{ROOM}.is_executed", sctlr, cpsr) == executed(sctlr, cpsr)
    position = aarch32.skip(u64(pc), u64(cpsr), wide)
    assert native.call(f"{ROOM}.skip", pc, cpsr, wide) == (int(position.pc), int(position.cpsr))
    for name in ENTRIES:
        taken = getattr(aarch32, name)(u64(cpsr), u64(pc), u64(sctlr), u64(vbar))
        values = tuple(int(x) for x in (taken.pc, taken.cpsr, taken.lr, taken.spsr))
        assert native.call(f"{ROOM}.{name}", cpsr, pc, sctlr, vbar) == values
        assert max(values) < 2**32
