# SPDX-License-Identifier: Apache-2.0
"""What a CPU remembers of page tables, and how it forgets (Arm ARM D8.13, D8.14).

An entry never leaves by chance: every forgotten invalidation shows. An invalidation dooms the entries that match when it is issued; they
go when the CPU that issued it completes a DSB that waits for it, and with them what was made from them meanwhile: a walk that began at a doomed
entry for a table is no translation that may outlive the DSB. An entry whose descriptor that CPU had changed without a DSB before the invalidation
survives, because a walk could still have read the old descriptor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What an entry remembers."""

    COMBINED = "stage 1 and 2"
    """An address of EL1 or EL0 to a physical one, both stages in one."""
    STAGE2 = "stage 2"
    """An IPA to a physical address."""
    STAGE2_TABLE = "stage 2 table"
    """Where the next-level table for a range of IPAs is."""
    EL2 = "EL2"
    """An address of EL2 to a physical one."""
    EL2_TABLE = "EL2 table"
    """Where the next-level table for a range of EL2's addresses is."""
    EL1_TABLE = "stage 1 table"
    """Where the next-level stage-1 table for a range of EL1's addresses is, both stages in one."""


TABLES = (Kind.STAGE2_TABLE, Kind.EL2_TABLE, Kind.EL1_TABLE)
EL1_KINDS = (Kind.COMBINED, Kind.EL1_TABLE)
STAGE2_KINDS = (Kind.STAGE2, Kind.STAGE2_TABLE)
EL2_KINDS = (Kind.EL2, Kind.EL2_TABLE)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a translation allows, and whether memory is cacheable."""

    readable: bool = True
    writable: bool = True
    executable: bool = True
    cacheable: bool = True

    def both(self, other: Attributes) -> Attributes:
        """What is allowed by two stages."""
        return Attributes(
            self.readable and other.readable,
            self.writable and other.writable,
            self.executable and other.executable,
            self.cacheable and other.cacheable,
        )


@dataclass(eq=False, slots=True)
class Entry:
    """`base` and `size` say which input addresses; `output` is where `base` goes, or the next table. `asid` is None for a global entry."""

    kind: Kind
    vmid: int
    asid: int | None
    base: int
    size: int
    output: int
    level: int
    attributes: Attributes = field(default_factory=Attributes)
    read_from: dict[int, int] = field(default_factory=dict)
    """Physical address and value of each descriptor that went into it."""
    made_from: tuple[Entry, ...] = ()
    """Entries that spared its walk a part of the way."""

    def covers(self, address: int) -> bool:
        """Whether an input address is in the range."""
        return self.base <= address < self.base + self.size

    def reaches(self, frame: int, size: int) -> bool:
        """Whether it leads to any byte of these; for a table entry, whether the table is there."""
        length = 4096 if self.kind in TABLES else self.size
        return self.output < frame + size and frame < self.output + length

    def reaches_table(self, frame: int) -> bool:
        """Whether it says that a table is in this frame."""
        return self.kind in TABLES and self.reaches(frame, 4096)

    def __str__(self) -> str:
        return f"{self.kind.value} entry {self.base:#x}+{self.size:#x} -> {self.output:#x} (vmid {self.vmid}, level {self.level})"


@dataclass(slots=True)
class Doom:
    """Entries that an invalidation will remove: those of one CPU. `everywhere`: the DSB must reach the inner shareable domain. `concerns` is what the
    invalidation is about; `others` were there when it was issued and stay."""

    tlb: Tlb
    entries: list[Entry]
    everywhere: bool
    concerns: Callable[[Entry], bool]
    others: set[int]

    def complete(self) -> None:
        """Forget them, and what was made from them since."""
        gone = {id(entry) for entry in self.entries}
        for entry in self.tlb.entries:
            if id(entry) not in self.others and self.concerns(entry) and any(id(before) in gone for before in entry.made_from):
                gone.add(id(entry))
        self.tlb.entries = [entry for entry in self.tlb.entries if id(entry) not in gone]


class Tlb:
    """One CPU's entries."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def find(self, kind: Kind, vmid: int, asid: int | None, address: int) -> Entry | None:
        """The entry for an address; of a table kind, the one of the deepest level."""
        known = [
            entry
            for entry in self.entries
            if entry.kind is kind and entry.vmid == vmid and entry.covers(address) and (entry.asid is None or entry.asid == asid)
        ]
        return max(known, key=lambda entry: entry.level, default=None)

    def add(self, entry: Entry) -> None:
        """Remember."""
        self.entries.append(entry)


def matches(operation: str, vmid: int, address: int | None, entry: Entry) -> bool:
    """Whether an invalidation by that name (without `is`), issued while VTTBR_EL2 holds `vmid`, concerns an entry."""
    at = 0 if address is None else address
    if operation == "alle1":
        return entry.kind not in EL2_KINDS
    if operation == "alle2":
        return entry.kind in EL2_KINDS
    if operation in ("vae2", "vale2"):
        last_only = operation == "vale2"
        return entry.covers(at) and (entry.kind is Kind.EL2 or (entry.kind is Kind.EL2_TABLE and not last_only))
    if entry.vmid != vmid or entry.kind in EL2_KINDS:
        return False
    if operation == "vmalls12e1":
        return True
    if operation == "vmalle1":
        return entry.kind in EL1_KINDS
    if operation in ("ipas2e1", "ipas2le1"):
        last_only = operation == "ipas2le1"
        return entry.covers(at) and (entry.kind is Kind.STAGE2 or (entry.kind is Kind.STAGE2_TABLE and not last_only))
    raise ValueError(f"tlbi {operation}")
