# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench dm-crypt`: export and import of a page at EL2 against what a stock kernel needs to write and read a page through dm-crypt with
authentication, on the same processor.

Both keep a page from who has the memory or disk that it goes to, and notice a change: EL2 by AES-256-CTR and SHA-256, the kernel by AES-256-XTS and
HMAC-SHA256, with dm-integrity to keep the tags, without a journal. client/dm_crypt.py sets that up above a RAM disk and counts every instruction of
the machine. Taken off are what the same calls need of the RAM disk alone and, by two numbers of pages, what does not grow with the pages.

The RAM disk is brd: it copies a page while it is called, and has neither requests nor interrupts, whose cost would depend on how many of them the
layers above make.
"""

from __future__ import annotations

import json as json_module
import re
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import kvm, protected
from delphyne.board import host, host_python, hostimage, kernel_modules, qemu
from delphyne.board.kernels import kernel_file

MODULES = ("brd", "aes-ce-blk", "sha2-ce", "authenc", "dm-crypt", "dm-integrity")
DISK_KIB = 64 * 1024
DISKS = {"brd": f"rd_nr=2 rd_size={DISK_KIB}"}
DRIVER = "authenc(hmac(sha256-ce),xts-aes-ce)"
"""What the kernel calls these algorithms where the processor's crypto extensions do them (arch/arm64/crypto of Linux)."""
ROUNDS, SHORT, LONG = 3, 1024, 5120
"""Repetitions, and the two numbers of pages."""
BATCHES = (1, 32)
"""Pages in a call. The first is what has a limit: pages come and go one by one, as they do where a kernel swaps."""
DEVICES, DIRECTIONS = ("plain", "crypt"), ("write", "read")
LIMIT = 1.0
PATIENCE = 900.0
"""Seconds of real time."""
CHECKED = "checked: pages come back"
Counts = dict[tuple[int, str, str, int], list[int]]
"""Pages in a call, device, direction, pages -> instructions of the machine in each round."""


class Row(TypedDict):
    """So many pages in a call; instructions for each page. `write` and `read` are what dm-crypt adds to the RAM disk's own, which `disk` has for both
    directions together; `spread` is how much the rounds differ at most in write and read together, `el2` export and import, and `ratio` is held
    against the limit where there is one."""

    batch: int
    write: float
    read: float
    disk: float
    spread: float
    el2: int
    ratio: float
    ok: bool


def counted_host(kernel: str, cpu: str) -> host.Host:
    """The host, with one CPU and nothing else to do."""
    of = kvm.measured_host(kernel, cpu, plain=True, cpus=1)
    modules = kernel_modules.image_files(kernel_file(kernel), MODULES, options=DISKS) | {hostimage.SETUP: kernel_modules.LOAD.encode()}
    words = [str(number) for number in (ROUNDS, SHORT, LONG, *BATCHES)]
    script = f"{host_python.command('dm_crypt', *words)}\ndmesg | grep -iE 'device-mapper|warn|bug|oops' | tail -20\n"
    return replace(of, script=script, files=(*host_python.files(), *modules.items()), arguments=f"{of.arguments} norandmaps")


def counts(console: str) -> Counts:
    """What client/dm_crypt.py printed. Raises BoardError where it did not come to its end or another driver did the work."""
    found: Counts = {}
    for batch, device, direction, pages, number in re.findall(r"^count (\d+) (\w+) (\w+) (\d+) (\d+)$", console, re.MULTILINE):
        found.setdefault((int(batch), device, direction, int(pages)), []).append(int(number))
    wanted = {(batch, device, direction, pages) for batch in BATCHES for device in DEVICES for direction in DIRECTIONS for pages in (SHORT, LONG)}
    if CHECKED not in console or {key for key, numbers in found.items() if len(numbers) == ROUNDS} != wanted:
        raise qemu.BoardError(f"the host that measures dm-crypt did not get to its end:\n{console[-2000:]}")
    driver = re.search(r"^driver (.+)$", console, re.MULTILINE)
    if driver is None or driver[1] != DRIVER:
        raise qemu.BoardError(f"the kernel encrypts by {driver[1] if driver else 'nothing'}, not by {DRIVER}: it would be no fair comparison")
    return found


def slopes(found: Counts, batch: int, device: str, direction: str) -> list[float]:
    """Instructions for each page more, in each round."""
    short, long = (found[batch, device, direction, pages] for pages in (SHORT, LONG))
    return [(more - less) / (LONG - SHORT) for less, more in zip(short, long, strict=True)]


def rows(found: Counts, el2: int) -> list[Row]:
    """The comparison; `el2` is what export and import of a page need at EL2."""
    made: list[Row] = []
    for batch in BATCHES:
        added: dict[str, list[float]] = {}
        disk = 0.0
        for direction in DIRECTIONS:
            alone = statistics.median(slopes(found, batch, "plain", direction))
            added[direction] = [one - alone for one in slopes(found, batch, "crypt", direction)]
            disk += alone
        both = [sum(pair) for pair in zip(*added.values(), strict=True)]
        write, read = (statistics.median(added[direction]) for direction in DIRECTIONS)
        ratio = round(el2 / (write + read), 3)
        made.append(
            {"batch": batch, "write": write, "read": read, "disk": disk, "spread": max(both) - min(both), "el2": el2, "ratio": ratio,
             "ok": batch != BATCHES[0] or ratio <= LIMIT}
        )  # fmt: skip
    return made


def measure_kernel(kernel: str, cpu: str) -> Counts:
    """The kernel's side. Raises BoardError."""
    done = host.run(counted_host(kernel, cpu), Path(), timeout=PATIENCE)
    if done.ending is not qemu.Ending.OFF:
        raise qemu.BoardError(f"the host that measures dm-crypt did not end: {done.ending.value} {done.complaint}\n{done.console[-2000:]}")
    return counts(done.console)


def measure_el2(folder: Path, kernel: str, cpu: str, console: Console) -> int:
    """Instructions of the two stays at EL2 that export and import a page (bench/protected.py); `folder` takes what is made on the way."""
    _, pages = protected.measure(folder, kernel, cpu, list(protected.PAGES), console)
    return sum(page["stay"] for page in pages)


def show(found: list[Row], kernel: str, cpu: str) -> None:
    """The comparison as a table for people."""
    headings = ("instructions for a page", "dm-crypt write", "read", "rounds differ by", "RAM disk alone", "EL2 export + import", "ratio", "")
    table = Table(*headings, box=None, title=f"{kernel} on {cpu}, {DRIVER}", title_justify="left")
    for one in found:
        verdict = "" if one["batch"] != BATCHES[0] else f"<= {LIMIT:g} {'ok' if one['ok'] else 'MISSED'}"
        calls = f"{one['batch']} in a call"
        numbers = [f"{one[key]:.0f}" for key in ("write", "read", "spread", "disk", "el2")]
        table.add_row(calls, *numbers, f"{one['ratio']:.3f}", verdict)
    Console(highlight=False, width=150).print(table)


def run(kernel: str = "6.1", cpu: str = "cortex-a57", *, json: bool = False) -> bool:
    """Measure and print; whether the limit holds."""
    console = Console(stderr=True, quiet=json)
    with console.status(f"dm-crypt of {kernel} on {cpu}: a minute or two"):
        kernels = measure_kernel(kernel, cpu)
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        found = rows(kernels, measure_el2(Path(name), kernel, cpu, console))
    if json:
        print(json_module.dumps({"kernel": kernel, "cpu": cpu, "driver": DRIVER, "limit": LIMIT, "rows": found}, indent=2))
    else:
        show(found, kernel, cpu)
    return all(one["ok"] for one in found)
