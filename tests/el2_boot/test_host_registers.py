# SPDX-License-Identifier: Apache-2.0
"""The EL2 state under which a host runs, as far as it decides what the host can see of EL2."""

from __future__ import annotations

import pytest

from delphyne.el2.arch import variant
from delphyne.el2.kvm import host_state
from delphyne.lang.machine import Machine

HPMN = 6
HPMD, HCCD = 1 << 17, 1 << 23
BUFFERS = 3 << 12 | 3 << 24
PMU, PROFILING, TRACE_FILTER, TRACE_BUFFER, BRANCHES = (1 << at for at in (8, 32, 40, 44, 52))
UNKNOWN = 2**64 - 1


def controls(debug_features: int, monkeypatch: pytest.MonkeyPatch, *, debug: bool = False, owned_above: bool = False) -> dict[str, int]:
    """The registers after `set_host_controls` on a CPU with these features; those that have no reset value held ones before."""
    monkeypatch.setattr(variant, "DEBUG", debug)
    names = ("TRFCR_EL2", "PMSCR_EL2", "BRBCR_EL2")
    registers = {"ID_AA64DFR0_EL1": debug_features, "MDCR_EL2": HPMN, "PMBIDR_EL1": owned_above << 4, **dict.fromkeys(names, UNKNOWN)}
    with Machine(registers=registers) as machine:
        host_state.set_host_controls()
        return {name: machine.read_register(name) for name in ("MDCR_EL2", *names)}


@pytest.mark.parametrize(
    ("pmu", "prohibited"), [(0, 0), (1, 0), (4, HPMD), (5, HPMD), (6, HPMD | HCCD), (7, HPMD | HCCD), (15, 0)], ids=lambda x: f"{x:#x}"
)
def test_counters_of_the_host_do_not_count_el2(monkeypatch: pytest.MonkeyPatch, pmu: int, prohibited: int) -> None:
    assert controls(pmu * PMU, monkeypatch)["MDCR_EL2"] == HPMN | prohibited
    assert controls(pmu * PMU, monkeypatch, debug=True)["MDCR_EL2"] == HPMN, "a debug image may be measured"


def test_trace_samples_and_branch_records_stop_at_el2(monkeypatch: pytest.MonkeyPatch) -> None:
    found = controls(PROFILING | TRACE_FILTER | TRACE_BUFFER | BRANCHES, monkeypatch)
    assert found == {"MDCR_EL2": HPMN | BUFFERS, "TRFCR_EL2": 0, "PMSCR_EL2": 0x50, "BRBCR_EL2": 0}
    assert controls(TRACE_FILTER, monkeypatch, debug=True)["TRFCR_EL2"] == 2


def test_registers_that_are_not_there_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert controls(0, monkeypatch) == {"MDCR_EL2": HPMN, "TRFCR_EL2": UNKNOWN, "PMSCR_EL2": UNKNOWN, "BRBCR_EL2": UNKNOWN}
    assert controls(PROFILING, monkeypatch, owned_above=True)["PMSCR_EL2"] == UNKNOWN, "an access would go to EL3"
