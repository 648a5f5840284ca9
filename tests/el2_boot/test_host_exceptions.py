# SPDX-License-Identifier: Apache-2.0
"""Exceptions that EL2 raises at EL1, and instructions that it does in EL1's place: what the host chose may be any number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch import inject
from delphyne.el2.arch.frame import Frame, skip
from delphyne.lang import u64
from delphyne.lang.machine import Machine

TOP = 2**64
EL1H, EL1T, EL0, EL0_32 = 5, 4, 0, 0x10
SINGLE_STEP, BRANCH_TYPE, PAN = 1 << 21, 3 << 10, 1 << 22
anything = st.integers(0, TOP - 1)


@pytest.mark.parametrize(("mode", "offset"), [(EL1H, 0x200), (EL1T, 0), (EL0, 0x400), (EL0_32, 0x600)])
@pytest.mark.parametrize("vectors", [0, 0xFFFF_8000_0801_0800, TOP - 0x800, TOP - 0x20, TOP - 1])
def test_the_vector_is_taken_from_the_bits_that_count(mode: int, offset: int, vectors: int) -> None:
    """A processor may keep the low bits of VBAR_EL1, as QEMU does: they choose no address, and no sum overflows."""
    with Machine(0x4000_0000, 0x10_0000, registers={"VBAR_EL1": vectors}) as machine:
        frame = Frame()
        frame.elr, frame.spsr = u64(0x1234), u64(mode)
        inject.undefined(frame)
        assert int(frame.elr) == (vectors & ~0x7FF) + offset
        assert int(frame.spsr) & 0x3DF == 0x3C5
        assert (machine.read_register("ELR_EL1"), machine.read_register("SPSR_EL1")) == (0x1234, mode)


@given(anything, anything, anything, anything, st.booleans())
@settings(max_examples=100, deadline=None)
def test_no_state_of_the_host_reaches_a_trap(elr: int, spsr: int, vectors: int, sctlr: int, instruction: bool) -> None:
    with Machine(0x4000_0000, 0x10_0000, registers={"VBAR_EL1": vectors, "SCTLR_EL1": sctlr}):
        frame = Frame()
        frame.elr, frame.spsr, frame.far = u64(elr), u64(spsr), u64(vectors)
        inject.external_abort(frame, instruction)
        frame.elr, frame.spsr = u64(elr), u64(spsr)
        skip(frame)
        assert int(frame.elr) == (elr + 4) % TOP


def test_an_instruction_that_was_done_ends_a_step_and_a_branch() -> None:
    frame = Frame()
    frame.elr, frame.spsr = u64(TOP - 4), u64(EL1H | PAN | SINGLE_STEP | BRANCH_TYPE)
    skip(frame)
    assert (int(frame.elr), int(frame.spsr)) == (0, EL1H | PAN)
