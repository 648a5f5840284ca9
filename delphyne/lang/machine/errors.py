# SPDX-License-Identifier: Apache-2.0
"""What the simulated machine finds wrong. Each is a bug of the code under test, except `GuestFault`, which is what a guest would get."""

from __future__ import annotations

from enum import Enum


class MachineError(Exception):
    """The code under test asked for something that no machine does: an access outside RAM and devices, an address twice."""


class StaleTranslation(MachineError):
    """A frame changes hands while a CPU may still hold a translation to it."""


class DirtyFrame(MachineError):
    """A frame changes hands while a cache may still write over it."""


class BreakBeforeMake(MachineError):
    """A live descriptor went from one valid value to another without being invalid, and flushed, in between (Arm ARM D8.14.1)."""


class Access(Enum):
    """What is done with an address."""

    READ = "read"
    WRITE = "write"
    EXECUTE = "execute"


class FaultKind(Enum):
    """Why a translation fails (Arm ARM D8.12)."""

    TRANSLATION = "translation"
    ACCESS_FLAG = "access flag"
    PERMISSION = "permission"
    ADDRESS_SIZE = "address size"
    EXTERNAL = "external"


class GuestFault(Exception):
    """A translation that fails: the stage (1 or 2), the level of the lookup, why, and for stage 2 the IPA.

    `on_walk` says that stage 2 refused a descriptor that stage 1 wanted to read (ESR_ELx.S1PTW)."""

    def __init__(self, kind: FaultKind, stage: int, level: int, address: int, on_walk: bool = False) -> None:
        super().__init__(kind, stage, level, address, on_walk)
        self.kind = kind
        self.stage = stage
        self.level = level
        self.address = address
        self.on_walk = on_walk

    @property
    def status_code(self) -> int:
        """The fault status code of ESR_ELx.ISS and PAR_EL1 (Arm ARM D17.2.37)."""
        base = {FaultKind.ADDRESS_SIZE: 0x00, FaultKind.TRANSLATION: 0x04, FaultKind.ACCESS_FLAG: 0x08, FaultKind.PERMISSION: 0x0C}
        return 0x10 if self.kind is FaultKind.EXTERNAL else base[self.kind] | self.level

    def __str__(self) -> str:
        return f"{self.kind.value} fault, stage {self.stage}, level {self.level}, at {self.address:#x}"
