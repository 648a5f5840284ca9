# SPDX-License-Identifier: Apache-2.0
"""Reads QEMU's log of executed instructions and counts what happened between the bare guest's marks.

The log is that of `log in_asm,exec,nochain` with `singlestep on`, where every translated block holds one instruction:

    Trace 0: 0x7f291a752900 [0000000000007001/ffff800008010a80/00000021/ff020201]

CPU, then code segment, PC, the flags that the block was translated for, and the translator's own flags. The level is in the flags: bits 4 to 7 are
the translation regime's number in QEMU's target/arm/cpu.h (0 EL0, 2 and 4 EL1, 6 EL2 without E2H). What runs at EL1 below 2^47 is the guest, above
it the host's kernel. A line is no instruction when `Stopped execution` follows it, or when the same PC follows with CF_LAST_IO, which is how QEMU
starts an access to a device over again. An instruction that is tried and takes an exception counts.

What `in_asm` says of an address gives the instruction's bits, and these say whether it is a TLB invalidation that is broadcast or a cache
maintenance operation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

USER, GUEST, HOST, EL2 = "user", "guest", "host", "el2"
REGIMES = {0: USER, 2: "el1", 4: "el1", 6: EL2}
CF_LAST_IO = 0x8000
KERNEL_HALF = 1 << 47
SYS = 0xD508_0000
SYS_MASK = 0xFFF8_0000
ASSEMBLY = re.compile(r"^0x([0-9a-f]+): +([0-9a-f]{8})\b")


class TraceError(Exception):
    """The log is not as this reader knows it; one line for the user."""


@dataclass(slots=True)
class Window:
    """What ran between two marks, on all CPUs: instructions by level; broadcast TLB invalidations and cache operations of host kernel and EL2; the
    longest stay of one CPU at EL2, in instructions."""

    instructions: dict[str, int] = field(default_factory=lambda: dict.fromkeys((USER, GUEST, HOST, EL2), 0))
    broadcasts: int = 0
    cache: int = 0
    longest: int = 0
    el2_places: Counter[int] = field(default_factory=Counter)
    """How often each instruction of EL2 ran, by its address."""

    @property
    def counted(self) -> int:
        """Instructions of host kernel and EL2."""
        return self.instructions[HOST] + self.instructions[EL2]


def is_broadcast(word: int) -> bool:
    """Whether an instruction is a TLBI that other CPUs hear of (Arm ARM C5.5): CRn 8, or 9 without waiting for XS; CRm 1 and 5 are outer
    shareable, 2 and 3 inner. At op1 4, CRm 0 and 4 hold the invalidations by guest address: the first inner shareable, the second by op2."""
    if word & SYS_MASK != SYS or word >> 12 & 0xF not in (8, 9):
        return False
    op1, crm, op2 = word >> 16 & 7, word >> 8 & 0xF, word >> 5 & 7
    if op1 == 4 and crm in (0, 4):
        return crm == 0 or op2 in (0, 3, 4, 7)
    return crm in (1, 2, 3, 5)


def is_cache_operation(word: int) -> bool:
    """Whether an instruction is an IC or a DC, other than DC ZVA and its like, which only store (CRn 7; CRm 4 at op1 3; CRm 8 and 9 are AT)."""
    if word & SYS_MASK != SYS or word >> 12 & 0xF != 7:
        return False
    op1, crm = word >> 16 & 7, word >> 8 & 0xF
    return crm not in (3, 8, 9) and not (op1 == 3 and crm == 4)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an instruction runs: what of a line repeats."""

    pc: int
    level: str


class Reader:
    """Takes lines in order and keeps the windows between `begin` and `end`, addresses of the guest."""

    def __init__(self, begin: int, end: int) -> None:
        self.windows: list[Window] = []
        self.longest = 0
        """The longest stay at EL2 in the whole log."""
        self._begin, self._end = begin, end
        self._places: dict[tuple[str, str], _Place] = {}
        self._broadcasts: set[int] = set()
        self._cache: set[int] = set()
        self._window: Window | None = None
        self._waiting: tuple[str, _Place] | None = None
        self._stays: dict[str, int] = {}

    def read(self, lines: Iterable[str]) -> None:
        """More of the log."""
        for line in lines:
            if line.startswith("Trace "):
                self._trace(line)
            elif line.startswith("Stopped execution"):
                self._waiting = None
            elif line.startswith("0x"):
                self._assembly(line)

    def finish(self) -> None:
        """The log is over: its last instruction counts, too."""
        self._count()

    def _assembly(self, line: str) -> None:
        found = ASSEMBLY.match(line)
        if found is None:
            return
        pc, word = int(found[1], 16), int(found[2], 16)
        for holds, places in ((is_broadcast(word), self._broadcasts), (is_cache_operation(word), self._cache)):
            if holds:
                places.add(pc)
            else:
                places.discard(pc)

    def _place(self, pc_text: str, flags: str) -> _Place:
        regime = REGIMES.get(int(flags, 16) >> 4 & 0xF)
        if regime is None:
            raise TraceError(f"QEMU's log has flags {flags}, of an exception level that is not known here")
        pc = int(pc_text, 16)
        level = regime if regime in (USER, EL2) else HOST if pc >= KERNEL_HALF else GUEST
        return self._places.setdefault((pc_text, flags), _Place(pc, level))

    def _trace(self, line: str) -> None:
        try:
            head, pc, flags, own = line.split("/")
        except ValueError:
            raise TraceError(f"QEMU's log has a line that is not understood: {line.strip()}") from None
        cpu = head[6 : head.index(":")]
        place = self._places.get((pc, flags)) or self._place(pc, flags)
        waiting = self._waiting
        if waiting is not None and not (waiting[0] == cpu and waiting[1].pc == place.pc and int(own[:8], 16) & CF_LAST_IO):
            self._count()
        self._waiting = (cpu, place)

    def _count(self) -> None:
        """The instruction that waited is one."""
        if self._waiting is None:
            return
        cpu, place = self._waiting
        self._waiting = None
        stay = 0
        if place.level is EL2:
            stay = self._stays.get(cpu, 0) + 1
            self.longest = max(self.longest, stay)
        self._stays[cpu] = stay
        window = self._window
        if place.level is GUEST and place.pc in (self._begin, self._end):
            if place.pc == self._begin:
                self._window = Window()
            elif window is not None:
                self.windows.append(window)
                self._window = None
        elif window is not None:
            window.instructions[place.level] += 1
            window.longest = max(window.longest, stay)
            if place.level is EL2:
                window.el2_places[place.pc] += 1
            if place.level in (HOST, EL2):
                window.broadcasts += place.pc in self._broadcasts
                window.cache += place.pc in self._cache


def middle(windows: list[Window]) -> Window:
    """The median of everything, so that a timer tick of the host in one window does not count."""
    levels = {level: round(median(w.instructions[level] for w in windows)) for level in (USER, GUEST, HOST, EL2)}
    return Window(
        levels, round(median(w.broadcasts for w in windows)), round(median(w.cache for w in windows)), round(median(w.longest for w in windows))
    )
