# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench stays`: how long a CPU stays at EL2, with interrupts masked as always there, while a host does something.

QEMU runs under `-icount shift=0` and logs each translated block that it executes, of EL2's text only (`-dfilter`), from the moment the host's script
begins. A stay begins at a vector for exceptions from below and holds every instruction up to the next; an instruction that takes an exception of
EL2's own ends its block early, so that a stay with one is counted a few instructions too long. What runs before the first vector (the boot) is no
stay.

    Trace 0: 0x7f291a752900 [0000000000000000/000000004021a400/00000061/ff022200]

The pointer names the block; how many instructions it has is what `in_asm` said when it was translated.
"""

from __future__ import annotations

import json as json_module
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from delphyne.bench import exec_log, functions, kvm, protected
from delphyne.bench.trace import ASSEMBLY, TraceError
from delphyne.board import bare_guest, host, qemu
from delphyne.board.guest import build as guest_build
from delphyne.compiler.back.image import Built

LIMIT, SLOW_LIMIT = 200_000, 300_000
"""Instructions of a stay; with general registers alone, where pages of protected guests move in pieces."""
LOWER, UPPER = 0x400, 0x800
"""Offsets in a vector table between which exceptions from lower levels come in (Arm ARM D1.4.2)."""
VECTOR_TABLES = ("vectors", "guest_vectors")
VCPUS = 2
READY, OVER = "stays: ready", "stays: over"


@dataclass(slots=True)
class Stay:
    """One: its CPU, and the blocks that ran, as (address, instructions) -> times."""

    cpu: str
    length: int = 0
    blocks: Counter[tuple[int, int]] = field(default_factory=Counter)


class Reader:
    """Takes lines of the log in order. `entries` are the addresses at which stays begin."""

    def __init__(self, entries: Iterable[int]) -> None:
        self.count = 0
        self.total = 0
        """Stays that are over, and instructions in them."""
        self.longest = Stay("")
        self._entries = frozenset(entries)
        self._open: dict[str, Stay] = {}
        self._sizes: dict[str, int] = {}
        self._translated: dict[int, int] = {}
        self._block: int | None = None
        self._last: tuple[str, int, int] | None = None

    def read(self, lines: Iterable[str]) -> None:
        """More of the log."""
        for line in lines:
            if line.startswith("Trace "):
                self._trace(line)
            elif line.startswith("IN:"):
                self._block = None
            elif line.startswith("0x"):
                self._assembly(line)
            elif line.startswith("Stopped execution"):
                self._undo()

    def finish(self) -> None:
        """The log is over, and with it the stays."""
        for stay in self._open.values():
            self._close(stay)
        self._open.clear()

    def _assembly(self, line: str) -> None:
        found = ASSEMBLY.match(line)
        if found is None:
            return
        pc = int(found[1], 16)
        if self._block is None:
            self._block = pc
            self._translated[pc] = 0
        self._translated[self._block] += 1

    def _trace(self, line: str) -> None:
        try:
            head, pc_text, _, _ = line.split("/")
        except ValueError:
            raise TraceError(f"QEMU's log has a line that is not understood: {line.strip()}") from None
        cpu, pc, block = head[6 : head.index(":")], int(pc_text, 16), head.split()[2]
        fresh = self._translated.pop(pc, None)
        if fresh is not None:
            self._sizes[block] = fresh
        size = self._sizes.get(block)
        if size is None:
            raise TraceError(f"QEMU's log runs a block at {pc:#x} that it did not show")
        if pc in self._entries:
            before = self._open.get(cpu)
            if before is not None:
                self._close(before)
            self._open[cpu] = Stay(cpu)
        self._last = None
        stay = self._open.get(cpu)
        if stay is not None:
            stay.length += size
            stay.blocks[pc, size] += 1
            self._last = (cpu, pc, size)

    def _undo(self) -> None:
        """The block that was named last did not run."""
        if self._last is not None:
            cpu, pc, size = self._last
            stay = self._open[cpu]
            stay.length -= size
            stay.blocks[pc, size] -= 1
            self._last = None

    def _close(self, stay: Stay) -> None:
        self.count += 1
        self.total += stay.length
        if stay.length > self.longest.length:
            self.longest = stay


def entries(elf: Path) -> list[int]:
    """Where stays begin, as the image runs on QEMU's `virt`."""
    found = guest_build.addresses(elf, *VECTOR_TABLES)
    if "vectors" not in found:
        raise TraceError(f"{elf} has no vectors")
    return [start + qemu.VIRT_IMAGE_BASE + at for start in found.values() for at in range(LOWER, UPPER, 0x80)]


def by_function(elf: Path, stay: Stay) -> dict[str, int]:
    """A stay's instructions by the function in which their blocks begin, most first."""
    named: Counter[int] = Counter()
    for (pc, size), times in stay.blocks.items():
        named[pc] += size * times
    return functions.counts(elf, named)


def measure(of: host.Host, built: Built) -> Reader:
    """Runs the script of `of` above Delphyne and reads EL2's log of it. Raises BoardError, TraceError."""
    return logged(between_marks(of), built)


def between_marks(of: host.Host) -> host.Host:
    """`of`, which says READY and waits for a line, runs its script, and says OVER."""
    return replace(of, script=f"stty -echo -icanon -imaxbel\necho '{READY}'\nread line\n{of.script or ''}\necho '{OVER}'\n")


def logged(of: host.Host, built: Built, begin: Callable[[], None] = lambda: None) -> Reader:
    """The log from READY to OVER, which `of` says by itself; `begin` is called in between, before the host goes on. Raises BoardError, TraceError."""
    reader = Reader(entries(built.elf))
    only_el2 = ("-dfilter", f"{qemu.VIRT_IMAGE_BASE:#x}+{built.text_bytes:#x}")
    machine = replace(of.machine, extra=(*of.machine.extra, *only_el2))
    exec_log.follow(replace(of, machine=machine), built.image, reader, exec_log.BLOCKS, READY, f"{OVER}\n", begin)
    return reader


def storm(
    kernel: str, cpu: str, times: int, folder: Path, *, is_protected: bool = False, general_registers: bool = False, cpus: int = 2, guests: int = 1
) -> host.Host:  # fmt: skip
    """The host whose script lets the bare guest, ordinary or protected, cause every kind of exit `times` times; `general_registers`: EL2 does without
    the crypto extensions. The guest has two vCPUs however many CPUs there are; of `guests` that run at once each does the same."""
    guest = guest_build.build(folder)
    of = kvm.measured_host(kernel, cpu, plain=False, cpus=cpus)
    if general_registers:
        of = replace(of, machine=replace(of.machine, arguments=host.GENERAL_REGISTERS))
    kinds = list(protected.KINDS if is_protected else kvm.KINDS)
    text = bare_guest.script(VCPUS, of.machine.gic, bare_guest.words(kinds, times), protected=is_protected)
    if guests > 1:
        text = "".join(f"(\n{text}) &\n" for _ in range(guests)) + "wait\n"
    return bare_guest.prepared(of, guest, text, protected=is_protected)


def run(
    kernel: str = "6.1", cpu: str = "cortex-a57", *, script: Path | None = None, times: int = 64,
    is_protected: bool = False, general_registers: bool = False, guests: int = 1, json: bool = False,
) -> bool:  # fmt: skip
    """Measure and print; whether the longest stay is within the limit. `script` is run by the host in place of the bare guest, of which
    `guests` run at once, with two CPUs for each."""
    console = Console(stderr=True, quiet=json)
    limit = SLOW_LIMIT if general_registers else LIMIT
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        folder = Path(name)
        built = host.build(folder / "image", quiet=True)
        of = storm(
            kernel, cpu, times, folder, is_protected=is_protected, general_registers=general_registers, cpus=VCPUS * guests, guests=guests
        )
        if script is not None:
            of = replace(of, script=script.read_text())
        with console.status(f"{kernel} above Delphyne on {cpu}, with EL2's log"):
            reader = measure(of, built)
        spent = by_function(built.elf, reader.longest)
    ok = reader.longest.length <= limit
    if json:
        found = {"longest": reader.longest.length, "limit": limit, "ok": ok, "stays": reader.count, "instructions": reader.total, "functions": spent}
        print(json_module.dumps(found, indent=2))
        return ok
    out = Console(highlight=False, width=150)
    verdict = f"<= {limit} {'ok' if ok else 'MISSED'}"
    out.print(f"{reader.count} stays at EL2, {reader.total} instructions; the longest {reader.longest.length} ({verdict}):")
    for function, count in list(spent.items())[:15]:
        out.print(f"  {count:8}  {function}")
    return ok
