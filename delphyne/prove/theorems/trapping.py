# SPDX-License-Identifier: Apache-2.0
"""The trap registers of newer architectures: all closed for a guest, whatever they held, and for the host what it has without guests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.kvm import host_state, trapping
from delphyne.lang import current
from delphyne.prove.symbolic import integer, term
from delphyne.prove.theorem import Given, theorem
from delphyne.prove.trace import events

NAMES = ("HCRX_EL2", "HFGRTR_EL2", "HFGWTR_EL2")
HOST = dict(zip(NAMES, (z3.BitVec("HCRX of the host", 64), *(2 * [z3.BitVec("traps of the host", 64)])), strict=True))


@theorem(trapping.enter, trapping.leave, outcomes=("guest", "host"),
         trusts=("the host's own values are host_state's (tests/kvm/test_guest_runs.py)",))
def switch(given: Given) -> None:
    """A guest gets nothing of what these registers open; the host gets back what it has. A register that the processor has not is not touched."""
    hcrx, fine, entering = given.boolean("HCRX"), given.boolean("fine-grained traps"), given.boolean("to the guest")
    given.outcome("guest" if entering else "host")
    given.replace(host_state.host_hcrx, lambda: host_state.Hcrx.of(integer(HOST["HCRX_EL2"])))
    given.replace(host_state.host_traps, lambda: host_state.FineGrainedTraps.of(integer(HOST["HFGRTR_EL2"])))
    seat: Any = SimpleNamespace(abilities=SimpleNamespace(hcrx=hcrx, fine_grained=fine))
    (trapping.enter if entering else trapping.leave)(seat)
    there = (NAMES[:1] if hcrx else ()) + (NAMES[1:] if fine else ())
    written = sorted(event.show(lambda _: 0) for event in events())
    given.require(written == [f"msr {name} 0x0" for name in there], "exactly what there is")
    machine: Any = current.machine()
    for name in there:
        given.require(term(machine.registers[name]) == (z3.BitVecVal(0, 64) if entering else HOST[name]), f"{name} as it is to be")
