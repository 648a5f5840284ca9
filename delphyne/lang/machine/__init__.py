# SPDX-License-Identifier: Apache-2.0
"""The simulated machine: memory by frame with a cache, registers, several CPUs with TLBs, devices, and an explorer of interleavings.

`with Machine(ram_base=.., ram_size=.., cpus=2) as m:` makes it current: hardware functions of the language act on it. What EL2 may not do
is raised at once (see `errors`); orders of several CPUs are tried by `explore`.
"""

from __future__ import annotations

from delphyne.lang.machine.core import Cpu, Device, Event, Machine
from delphyne.lang.machine.errors import (
    Access,
    BreakBeforeMake,
    DirtyFrame,
    FaultKind,
    GuestFault,
    MachineError,
    StaleTranslation,
)
from delphyne.lang.machine.explorer import Explored, Failed, Scenario, Step, Stuck, explore, replay

__all__ = [
    "Access",
    "BreakBeforeMake",
    "Cpu",
    "Device",
    "DirtyFrame",
    "Event",
    "Explored",
    "Failed",
    "FaultKind",
    "GuestFault",
    "Machine",
    "MachineError",
    "Scenario",
    "StaleTranslation",
    "Step",
    "Stuck",
    "explore",
    "replay",
]
