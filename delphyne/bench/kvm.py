# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench kvm`: what each kind of exit costs above Delphyne, against the same kernel's own EL2 code on the same processor.

The bare guest (board/guest) causes each kind of exit between two marks, run by the small monitor (client/bare_guest.py) on a host with two CPUs
under `-icount shift=0`; bench/exec_log.py has every instruction between the marks, on both CPUs. A figure is host kernel plus EL2: the guest's own
instructions, the same on both sides, and those of the monitor's process are left out. Of TIMES repetitions the first WARM are not counted, and the
rest gives a median, so that the host's timer ticks do not count.

The log was compared with the counter that the guest reads at its marks, which advances by one for sixteen instructions of any level: on one CPU
that is never idle they agree to within a step for each reading (tests/system/test_bare_guest.py does it again). Two runs differ by less than 1 %,
most figures by nothing (docs/bench.md).
"""

from __future__ import annotations

import json as json_module
import math
import tempfile
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import exec_log, functions, trace
from delphyne.board import bare_guest, host, qemu
from delphyne.board.guest import build as guest_build

KINDS = {
    "hypercall": "hypercall to the host and back",
    "mmio": "MMIO to userspace",
    "vgic": "vGIC register",
    "ipi": "IPI between two vCPUs",
    "eoi": "EOI of a level-sensitive interrupt",
    "timer": "timer interrupt",
    "wfi": "WFI and wake-up by the timer",
    "fill-4k": "stage-2 fill of 4 KiB",
    "fill-2m": "stage-2 fill of 2 MiB",
    "refill-4k": "unmap and refill of 4 KiB",
}
"""Names of the monitor -> names of the figures."""
PARTS = {"refill-4k": 8, "take-4k": 8, "bring-4k": 8}
"""Kinds whose marks enclose more than one of what they are named after."""
TIMES, WARM = 10, 4
MEAN_LIMIT, KIND_LIMIT = 1.00, 1.05


class Side(TypedDict):
    """One kind of exit on one side, for each exit: instructions of host kernel and EL2, of EL2 alone, and of the guest; broadcast TLB invalidations
    and cache operations of host kernel and EL2; the longest stay at EL2 in instructions, and that of the window in the middle, by their longest; and,
    above Delphyne, the instructions of EL2 by function."""

    instructions: float
    el2: float
    guest: float
    broadcasts: float
    cache: float
    longest_stay: int
    typical_stay: int
    functions: dict[str, float]


class Row(TypedDict):
    """One kind of exit. `simd` says whether the guest used a SIMD register between the exits; `delphyne` and `plain` are instructions of host kernel
    and EL2. `ok` concerns the limits, which a guest that uses SIMD does not have."""

    name: str
    simd: bool
    delphyne: float
    plain: float
    ratio: float
    ok: bool
    above: Side
    alone: Side


def side(windows: list[trace.Window], parts: int = 1, elf: Path | None = None) -> Side:
    """What a kind's windows come to, the first WARM left out; with Delphyne's ELF file, what ran at EL2 by function, from the
    window in the middle."""
    counted = windows[WARM:]
    typical = sorted(counted, key=lambda window: window.counted)[len(counted) // 2]
    found = trace.middle(counted)
    return {
        "instructions": found.counted / parts,
        "el2": found.instructions[trace.EL2] / parts,
        "guest": found.instructions[trace.GUEST] / parts,
        "broadcasts": found.broadcasts / parts,
        "cache": found.cache / parts,
        "longest_stay": max(window.longest for window in counted),
        "typical_stay": sorted(window.longest for window in counted)[len(counted) // 2],
        "functions": {} if elf is None else {name: count / parts for name, count in functions.counts(elf, typical.el2_places).items()},
    }


def row(name: str, simd: bool, above: Side, alone: Side) -> Row:
    """The comparison of two sides. More broadcasts or cache operations than plain KVM are a failure like more instructions."""
    ratio = round(above["instructions"] / alone["instructions"], 3)
    fewer = above["broadcasts"] <= alone["broadcasts"] and above["cache"] <= alone["cache"]
    return {
        "name": name, "simd": simd, "delphyne": above["instructions"], "plain": alone["instructions"], "ratio": ratio,
        "ok": simd or (ratio <= KIND_LIMIT and fewer), "above": above, "alone": alone,
    }


def geometric_mean(rows: list[Row], *, simd: bool) -> float:
    """Of the ratios without or with SIMD in the guest."""
    ratios = [found["ratio"] for found in rows if found["simd"] == simd]
    return round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 3)


def measured_host(kernel: str, cpu: str, *, plain: bool, cpus: int = 2) -> host.Host:
    """The host of a side: the same kernel, command line and machine for both, and nothing random in it."""
    exact = ("-machine", "dtb-randomness=off", "-icount", "shift=0,sleep=off")
    machine = qemu.Machine(cpu=cpu, cpus=cpus, memory=1024, extra=exact)
    return host.Host(kernel=kernel, plain=plain, arguments="nokaslr quiet", machine=machine)


def measure_side(
    of: host.Host, image: Path, guest: guest_build.Guest, kinds: list[str], elf: Path | None = None, *, protected: bool = False
) -> dict[tuple[str, bool], Side]:
    """Each kind's figures without and with SIMD, of an ordinary or a protected guest. Raises BoardError, TraceError."""
    order = [(kind, simd) for simd in (False, True) for kind in kinds]
    windows = exec_log.of_guest(of, image, guest, bare_guest.words(kinds, TIMES), protected=protected).reader.windows
    if len(windows) != len(order) * TIMES:
        raise trace.TraceError(f"the log holds {len(windows)} marked stretches where there should be {len(order) * TIMES}")
    return {key: side(windows[at * TIMES : (at + 1) * TIMES], PARTS.get(key[0], 1), elf) for at, key in enumerate(order)}


def measure(folder: Path, kernel: str, cpu: str, kinds: list[str], console: Console) -> list[Row]:
    """Both sides; `folder` takes what is made on the way."""
    guest = guest_build.build(folder)
    built = host.build(folder / "image", quiet=True)
    image = built.image
    with console.status(f"plain KVM of {kernel} on {cpu}: a minute or two"):
        alone = measure_side(measured_host(kernel, cpu, plain=True), image, guest, kinds)
    with console.status(f"{kernel} above Delphyne on {cpu}: a minute or two"):
        above = measure_side(measured_host(kernel, cpu, plain=False), image, guest, kinds, built.elf)
    return [row(KINDS[kind], simd, above[kind, simd], alone[kind, simd]) for kind, simd in alone]


def as_json(rows: list[Row], kernel: str, cpu: str, mean_limit: float = MEAN_LIMIT) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "kernel": kernel,
        "cpu": cpu,
        "rows": rows,
        "mean": geometric_mean(rows, simd=False),
        "mean_limit": mean_limit,
        "mean_simd": geometric_mean(rows, simd=True),
        "longest_stay": max(found["above"]["longest_stay"] for found in rows),
    }


def _pair(above: float, alone: float) -> str:
    return f"{above:g} / {alone:g}"


def show(rows: list[Row], kernel: str, cpu: str, mean_limit: float = MEAN_LIMIT) -> None:
    """The figures as a table for people."""
    headings = ("instructions of host kernel and EL2", "SIMD", "Delphyne", "plain", "ratio", "EL2 alone", "broadcast TLBIs", "cache", "stay", "")
    table = Table(*headings, box=None, title=f"{kernel} on {cpu}, Delphyne / plain", title_justify="left")
    for found in rows:
        above, alone = found["above"], found["alone"]
        table.add_row(
            found["name"], "yes" if found["simd"] else "no", f"{found['delphyne']:.0f}", f"{found['plain']:.0f}", f"{found['ratio']:.3f}",
            _pair(round(above["el2"]), round(alone["el2"])), _pair(above["broadcasts"], alone["broadcasts"]), _pair(above["cache"], alone["cache"]),
            _pair(above["longest_stay"], alone["longest_stay"]), "" if found["simd"] else "ok" if found["ok"] else "MISSED",
        )
    for simd in (False, True):
        mean = geometric_mean(rows, simd=simd)
        verdict = "" if simd else f"<= {mean_limit:g} ok" if mean <= mean_limit else f"<= {mean_limit:g} MISSED"
        table.add_row("geometric mean", "yes" if simd else "no", "", "", f"{mean:.3f}", "", "", "", "", verdict)
    Console(highlight=False, width=150).print(table)


def show_functions(rows: list[Row], most: int = 25) -> None:
    """For each kind, the functions of EL2 that took most instructions."""
    console = Console(highlight=False, width=150)
    for found in rows:
        above = found["above"]
        console.print(f"{found['name']}{' with SIMD' if found['simd'] else ''}: {above['el2']:.0f} at EL2, plain {found['alone']['el2']:.0f}")
        for name, count in list(above["functions"].items())[:most]:
            console.print(f"  {count:8.1f}  {name}")


def run(kernel: str = "6.1", cpu: str = "cortex-a57", kinds: list[str] | None = None, *, json: bool = False, by_function: bool = False) -> bool:
    """Measure and print; whether all limits hold."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        rows = measure(Path(name), kernel, cpu, kinds or list(KINDS), Console(stderr=True, quiet=json))
    if json:
        print(json_module.dumps(as_json(rows, kernel, cpu), indent=2))
    else:
        show(rows, kernel, cpu)
        if by_function:
            show_functions(rows)
    return all(found["ok"] for found in rows) and geometric_mean(rows, simd=False) <= MEAN_LIMIT
