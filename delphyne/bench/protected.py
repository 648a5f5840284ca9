# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench kvm --protected`: what each kind of exit of a protected guest costs above Delphyne, against an ordinary guest on the same kernel's
own EL2 code; and what EL2 needs for a page on its way out and back.

The guest is the one of bench/kvm.py, to the byte, and so is the way of counting. A page goes out when the monitor drops it from its own memory, of a
file that keeps it: KVM takes it out of its table, and its call about the TLB makes EL2 export it. It comes back by the guest's next store. Each of
these is one stay at EL2, with everything that EL2 does between host and host, or host and guest; its length is the figure.
"""

from __future__ import annotations

import json as json_module
import tempfile
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import kvm
from delphyne.board import host
from delphyne.board.guest import build as guest_build

PAGES = {"take-4k": "export of a page, all steps", "bring-4k": "import of a page, all steps"}
"""Names of the monitor -> names of the figures: kinds that have a limit of their own, and no part in the mean."""
KINDS = {kind: name for kind, name in kvm.KINDS.items() if kind != "refill-4k"} | PAGES
"""`refill-4k` makes the monitor lose what the guest wrote, which is the end of a protected guest."""
MEAN_LIMIT, KIND_LIMIT = 1.10, 1.20
PAGE_LIMIT = 18_500


class Page(TypedDict):
    """One way of a page: the instructions of the stay at EL2 that moves it, and of the longest one, which did something for all of a block too; and
    for each page, host kernel and EL2 together, above Delphyne and plain, where the page only leaves stage 2 and comes back. `functions` are those of
    EL2, for each page."""

    name: str
    stay: int
    longest: int
    delphyne: float
    plain: float
    ok: bool
    functions: dict[str, float]


def exit_row(name: str, simd: bool, above: kvm.Side, alone: kvm.Side) -> kvm.Row:
    """The comparison of two sides of an exit. Broadcasts and cache operations are told, and have no limit."""
    found = kvm.row(name, simd, above, alone)
    found["ok"] = simd or found["ratio"] <= KIND_LIMIT
    return found


def page_row(name: str, above: kvm.Side, alone: kvm.Side) -> Page:
    """What came of one way of a page."""
    return {
        "name": name, "stay": above["typical_stay"], "longest": above["longest_stay"], "delphyne": above["instructions"],
        "plain": alone["instructions"], "ok": above["typical_stay"] <= PAGE_LIMIT, "functions": above["functions"],
    }


def measure(folder: Path, kernel: str, cpu: str, kinds: list[str], console: Console) -> tuple[list[kvm.Row], list[Page]]:
    """Both sides; `folder` takes what is made on the way. Raises BoardError, TraceError."""
    guest = guest_build.build(folder)
    built = host.build(folder / "image", quiet=True)
    with console.status(f"plain KVM of {kernel} on {cpu}: a minute or two"):
        alone = kvm.measure_side(kvm.measured_host(kernel, cpu, plain=True), built.image, guest, kinds)
    with console.status(f"a protected guest on {kernel} above Delphyne on {cpu}: a minute or two"):
        of = kvm.measured_host(kernel, cpu, plain=False)
        above = kvm.measure_side(of, built.image, guest, kinds, built.elf, protected=True)
    exits = [exit_row(KINDS[kind], simd, above[kind, simd], alone[kind, simd]) for kind, simd in alone if kind not in PAGES]
    return exits, [page_row(name, above[kind, False], alone[kind, False]) for kind, name in PAGES.items() if kind in kinds]


def as_json(exits: list[kvm.Row], pages: list[Page], kernel: str, cpu: str) -> dict[str, object]:
    """What `--json` prints."""
    found = kvm.as_json(exits, kernel, cpu, MEAN_LIMIT) if exits else {"kernel": kernel, "cpu": cpu, "rows": []}
    return found | {"protected": True, "pages": pages, "page_limit": PAGE_LIMIT}


def show_pages(pages: list[Page]) -> None:
    """The figures of pages as a table for people."""
    table = Table("instructions for a page", "stay at EL2", "the longest", "host kernel and EL2", "plain", "", box=None)
    for found in pages:
        verdict = f"<= {PAGE_LIMIT} {'ok' if found['ok'] else 'MISSED'}"
        table.add_row(found["name"], str(found["stay"]), str(found["longest"]), f"{found['delphyne']:.0f}", f"{found['plain']:.0f}", verdict)
    Console(highlight=False, width=150).print(table)


def show_functions(pages: list[Page], most: int = 25) -> None:
    """For each way of a page, the functions of EL2 that took most instructions."""
    console = Console(highlight=False, width=150)
    for found in pages:
        console.print(f"{found['name']}:")
        for name, count in list(found["functions"].items())[:most]:
            console.print(f"  {count:8.1f}  {name}")


def run(kernel: str = "6.1", cpu: str = "cortex-a57", kinds: list[str] | None = None, *, json: bool = False, by_function: bool = False) -> bool:
    """Measure and print; whether all limits hold."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        exits, pages = measure(Path(name), kernel, cpu, kinds or list(KINDS), Console(stderr=True, quiet=json))
    if json:
        print(json_module.dumps(as_json(exits, pages, kernel, cpu), indent=2))
    else:
        if exits:
            kvm.show(exits, kernel, cpu, MEAN_LIMIT)
        if pages:
            show_pages(pages)
        if by_function:
            kvm.show_functions(exits)
            show_functions(pages)
    mean_holds = not exits or kvm.geometric_mean(exits, simd=False) <= MEAN_LIMIT
    return mean_holds and all(one["ok"] for one in exits) and all(one["ok"] for one in pages)
