# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench guest`: what the boot of a stock Debian guest to its login shell costs the whole machine, above Delphyne against plain KVM.

Host and guest have one CPU each. client/count.py on the host starts Debian's QEMU with the guest and reads the processor's counters when the guest's
banner appears on its serial port: every instruction of user programs, kernels, guest and EL2 from the start of QEMU on, idle time left out. Host,
guest and their files are the same for both sides; the host's command line keeps what is random out of it.

A protected guest is held against an ordinary one on plain KVM, from the kernel's first line on: an early console writes it, once, before the kernel
has read that it is to be quiet. That is after COMMIT, so that neither loading nor measuring of the image counts, and some hundred thousand
instructions into the kernel. Its levels cannot be told apart: EL2 lets no counter of the host's see a protected guest.
"""

from __future__ import annotations

import json as json_module
import re
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import kvm
from delphyne.board import bare_guest, host, host_python, qemu, vmm
from delphyne.client.count import LEVELS

BANNER = "as a guest of KVM"
"""What the guest's init says before it gives its shell."""
READ_AHEAD = f"find {vmm.TOOLS} -type f -exec cat {{}} + >/dev/null\n"
"""A disk answers in real time, during which an idle machine's virtual time runs ahead from timer to timer: all of it is in memory before counting."""
BOOT_LIMIT = 1.00
"""To two decimals: two boots differ in the fourth."""
PROTECTED_LIMIT = 1.05
FIRST_LINE = "Booting Linux on physical CPU"
EARLY_CONSOLE = "earlycon=pl011,0x9000000"
"""Before `quiet` on the command line, so that what the kernel has said until then is written."""
PATIENCE = 1800.0
"""Seconds of real time for host and guest."""


class Row(TypedDict):
    """One level, or all of them; millions of instructions. Only the whole has a limit."""

    name: str
    delphyne: float
    plain: float
    ratio: float
    ok: bool


def measured_guest(kernel: str, *, protected: bool = False) -> vmm.Guest:
    """The guest: one CPU, and nothing random in what it is given. The one that a protected one is held against differs from it in nothing else."""
    return vmm.Guest(
        kernel=kernel, cpus=1, arguments=f"{EARLY_CONSOLE if protected else ''} quiet nokaslr norandmaps".strip(),
        extra=("-machine", "dtb-randomness=off"), its=not protected, protected=protected,
    )


def counted(line: list[str], steps: list[tuple[str, str]], last: str) -> str:
    """The shell command that counts what runs while QEMU, by this command line, comes to say the texts of `steps`, each with a line for it, and then
    `last` (client/count.py); what runs in a protected guest too where there are `steps`, and then all levels together."""
    words = ["--busy"] * bool(steps) + [word for text, given in steps for word in ("--at", text, given)]
    return host_python.command("count", shlex.join([*words, last, *line])) + " </dev/null\n"


def guest_host(
    kernel: str, cpu: str, guest: vmm.Guest, counting: str, *, plain: bool, before: str = "", protected: vmm.Guest | None = None
) -> host.Host:
    """The host that runs `counting`, what `counted` made, and then turns itself off; its disk has the image of a `protected` guest."""
    of = kvm.measured_host(kernel, cpu, plain=plain, cpus=1)
    script = f"cp {vmm.DISK} /tmp/disk\n{before}{READ_AHEAD}{bare_guest.NO_POLLING}{counting}"
    made = replace(of, script=script, files=host_python.files(), guest_kernels=(guest.kernel,), arguments=f"{of.arguments} norandmaps")
    return made if protected is None else replace(made, protected=(protected,))


def counts(console: str, times: int = 1) -> list[dict[str, int]]:
    """What client/count.py printed: once each of its levels, or so many times all of them together. Raises BoardError where it did not."""
    levels = [*LEVELS] if times == 1 else ["all"]
    found = re.findall(r"^count (\w+) (\d+)$", console, re.MULTILINE)
    if [level for level, _ in found] != levels * times:
        raise qemu.BoardError(f"the measured guest did not get to its end:\n{console[-2000:]}")
    numbers = [int(number) for _, number in found]
    return [dict(zip(levels, numbers[at : at + len(levels)], strict=True)) for at in range(0, len(numbers), len(levels))]


def measure_side(of: host.Host, image: Path, times: int = 1) -> list[dict[str, int]]:
    """Instructions by level, for each part of the way. Raises BoardError."""
    done = host.run(of, image, timeout=PATIENCE)
    if done.ending is not qemu.Ending.OFF:
        raise qemu.BoardError(f"the measured host did not end: {done.ending.value} {done.complaint}\n{done.console[-2000:]}")
    return counts(done.console, times)


def rows(above: dict[str, int], alone: dict[str, int], limit: float = BOOT_LIMIT, what: str = "guest Linux boot to login") -> list[Row]:
    """The comparison, all levels first."""
    made: list[Row] = []
    for level in above:
        ratio = round(above[level] / alone[level], 4) if alone[level] else float("inf")
        name = f"{what}, all levels" if level == "all" else f"of it at {level}"
        ok = level != "all" or round(ratio, 2) <= limit
        made.append({"name": name, "delphyne": above[level] / 1e6, "plain": alone[level] / 1e6, "ratio": ratio, "ok": ok})
    return made


def show(found: list[Row], limit: float, unit: str = "million instructions") -> None:
    """The comparison as a table for people."""
    table = Table(unit, "Delphyne", "plain", "ratio", "", box=None)
    for one in found:
        verdict = "" if one["name"].startswith("of it") else f"<= {limit:g} {'ok' if one['ok'] else 'MISSED'}"
        table.add_row(one["name"], f"{one['delphyne']:.1f}", f"{one['plain']:.1f}", f"{one['ratio']:.4f}", verdict)
    Console(highlight=False, width=120).print(table)


def measure(kernel: str, guest_kernel: str, cpu: str, image: Path, console: Console, *, protected: bool) -> list[Row]:
    """Both sides. Raises BoardError."""
    guest = measured_guest(guest_kernel, protected=protected)
    steps = [(FIRST_LINE, "")] if protected else []
    sides: list[dict[str, int]] = []
    for plain in (False, True):
        line = vmm.command(replace(guest, protected=protected and not plain), disk_file="/tmp/disk", console="stdio")
        of = guest_host(kernel, cpu, guest, counted(line, steps, BANNER), plain=plain, protected=guest if protected else None)
        kind = "an ordinary guest" if plain or not protected else "a protected guest"
        with console.status(f"{kind} {guest_kernel} on {kernel}, {'plain' if plain else 'above Delphyne'}: some minutes"):
            sides.append(measure_side(of, image, len(steps) + 1)[-1])
    return rows(sides[0], sides[1], PROTECTED_LIMIT if protected else BOOT_LIMIT)


def run(kernel: str = "6.1", guest_kernel: str = "6.1", cpu: str = "cortex-a57", *, protected: bool = False, json: bool = False) -> bool:
    """Measure and print; whether the limit holds."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        image = host.build(Path(name), quiet=True).image
        found = measure(kernel, guest_kernel, cpu, image, Console(stderr=True, quiet=json), protected=protected)
    if json:
        print(json_module.dumps({"kernel": kernel, "guest": guest_kernel, "cpu": cpu, "protected": protected, "rows": found}, indent=2))
    else:
        show(found, PROTECTED_LIMIT if protected else BOOT_LIMIT)
    return all(one["ok"] for one in found)
