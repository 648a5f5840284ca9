# SPDX-License-Identifier: Apache-2.0
"""States of EL1 and EL0: what an exception makes of one, and which of them EL2 may return to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.compiler.back.native import NativeModule, load
from delphyne.compiler.front import compile_modules
from delphyne.el2.arch import aarch64, inject
from delphyne.el2.arch.frame import Frame
from delphyne.lang import u64
from delphyne.lang.machine import Machine

ROOM = "delphyne.el2.arch.aarch64"
SPAN, DSSBS, NMI, SPINTMASK = 1 << 23, 1 << 44, 1 << 61, 1 << 62
FLAGS, TCO, DIT, UAO, PAN, SS, IL = 0xF << 28, 1 << 25, 1 << 24, 1 << 23, 1 << 22, 1 << 21, 1 << 20
ALLINT, SSBS, BTYPE, DAIF = 1 << 13, 1 << 12, 3 << 10, 0xF << 6
EL0T, EL1T, EL1H = 0, 4, 5
AARCH32_MODES = {0x10: 0, 0x11: 1, 0x12: 1, 0x13: 1, 0x17: 1, 0x1B: 1, 0x1F: 1}
"""M[4:0] of the modes that are EL0 or EL1, and which."""
anything = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def native() -> NativeModule:
    return load(compile_modules([ROOM]))


def taken(pstate: int, sctlr: int = SPAN, tags: bool = False, vbar: int = 0x8000, pc: int = 0x1234) -> tuple[int, int]:
    """Where EL1 goes on, and its state."""
    result = aarch64.enter_el1(u64(pstate), u64(pc), u64(vbar), u64(sctlr), tags)
    assert (int(result.elr), int(result.spsr)) == (pc, pstate)
    return int(result.pc), int(result.pstate)


@pytest.mark.parametrize(
    ("pstate", "offset"), [(EL1H, 0x200), (EL1T, 0), (EL0T, 0x400), (0x10, 0x600), (0x1F, 0x600), (FLAGS | EL0T, 0x400), (0b01000, 0x400)]
)
@pytest.mark.parametrize("vbar", [0, 0xFFFF_8000_0801_0800, 2**64 - 1])
def test_the_vector_is_that_of_the_level_and_state_it_comes_from(pstate: int, offset: int, vbar: int) -> None:
    assert taken(pstate, vbar=vbar)[0] == (vbar & ~0x7FF) + offset


def test_an_exception_keeps_flags_dit_and_pan_and_masks_the_rest() -> None:
    for kept in (0, FLAGS, 1 << 31, 1 << 30, 1 << 29, 1 << 28, DIT, PAN):
        assert taken(EL0T | kept)[1] == EL1H | DAIF | kept
    for dropped in (TCO, UAO, SS, IL, ALLINT, SSBS, BTYPE):
        assert taken(EL0T | dropped)[1] == EL1H | DAIF


@pytest.mark.parametrize(
    ("sctlr", "tags", "set_bits"),
    [
        (SPAN, False, 0),
        (0, False, PAN),
        (SPAN | DSSBS, False, SSBS),
        (SPAN, True, TCO),
        (SPAN | NMI, False, ALLINT),
        (SPAN | NMI | SPINTMASK, False, 0),
        (SPAN | SPINTMASK, False, 0),
        (DSSBS | NMI, True, PAN | SSBS | TCO | ALLINT),
    ],
)
def test_the_new_state_is_what_sctlr_asks_for(sctlr: int, tags: bool, set_bits: int) -> None:
    assert taken(EL1H, sctlr, tags)[1] == EL1H | DAIF | set_bits


def test_an_exception_of_the_host_is_the_same_exception() -> None:
    registers = {"VBAR_EL1": 0x8000, "SCTLR_EL1": DSSBS, "ID_AA64PFR1_EL1": 2 << 8}
    with Machine(0x4000_0000, 0x10_0000, registers=registers) as machine:
        frame = Frame()
        frame.elr, frame.spsr = u64(0x1234), u64(EL0T | FLAGS | DIT)
        inject.undefined(frame)
        assert (int(frame.elr), int(frame.spsr)) == taken(EL0T | FLAGS | DIT, DSSBS, True)
        assert (machine.read_register("ELR_EL1"), machine.read_register("SPSR_EL1")) == (0x1234, EL0T | FLAGS | DIT)


@pytest.mark.parametrize("el1", [False, True])
@pytest.mark.parametrize("el0", [False, True])
@pytest.mark.parametrize("mode", range(32))
def test_returns_are_legal_to_the_modes_that_the_levels_can_have(mode: int, el0: bool, el1: bool) -> None:
    if mode & 0x10:
        level = AARCH32_MODES.get(mode)
        legal = level is not None and (el1 or (level == 0 and el0))
    else:
        legal = not el1 and mode in (EL0T, EL1T, EL1H)
    for rest in (0, FLAGS | IL | SS | TCO | DAIF, (2**64 - 1) & ~0x1F):
        assert aarch64.legal_pstate(u64(rest | mode), el1, el0) == legal


@given(anything, anything, anything, anything, st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_is_compiled_says_the_same_and_nothing_traps(
    native: NativeModule, pstate: int, pc: int, vbar: int, sctlr: int, one: bool, other: bool
) -> None:
    result = aarch64.enter_el1(u64(pstate), u64(pc), u64(vbar), u64(sctlr), one)
    compiled = native.call(f"{ROOM}.enter_el1", pstate, pc, vbar, sctlr, one)
    assert compiled == tuple(int(x) for x in (result.pstate, result.pc, result.spsr, result.elr))
    assert aarch64.legal_pstate(result.pstate, False, other)
    assert native.call(f"{ROOM}.legal_pstate", pstate, one, other) == aarch64.legal_pstate(u64(pstate), one, other)
