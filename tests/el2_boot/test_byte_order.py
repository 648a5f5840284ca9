# SPDX-License-Identifier: Apache-2.0
"""In which order of bytes a guest is that has left, by its level and state."""

from __future__ import annotations

import pytest

from delphyne.el2.arch import byte_order
from delphyne.lang.machine import Machine

EE, E0E, E = 1 << 25, 1 << 24, 1 << 9
EL0, EL1T, EL1H, AARCH32_USER, AARCH32_SYSTEM = 0, 4, 5, 0x10, 0x1F


@pytest.mark.parametrize("sctlr", [0, EE, E0E, EE | E0E])
@pytest.mark.parametrize("mode", [EL0, EL1T, EL1H, AARCH32_USER, AARCH32_SYSTEM])
@pytest.mark.parametrize("e", [0, E])
def test_each_level_and_state_has_a_bit_of_its_own(sctlr: int, mode: int, e: int) -> None:
    """D, which masks debug exceptions in AArch64, is where AArch32 has E."""
    decides = {EL0: sctlr & E0E, EL1T: sctlr & EE, EL1H: sctlr & EE, AARCH32_USER: e, AARCH32_SYSTEM: e}
    with Machine(0x4000_0000, 0x10_0000, registers={"SCTLR_EL1": sctlr, "SPSR_EL2": mode | e}):
        assert byte_order.is_big_endian() is (decides[mode] != 0)
