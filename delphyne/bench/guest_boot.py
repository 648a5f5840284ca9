# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench guest`: what the boot of a stock Debian guest to its login shell costs the whole machine, above Delphyne against plain KVM.

Host and guest have one CPU each. client/count.py on the host starts Debian's QEMU with the guest and reads the processor's counters when the guest's
banner appears on its serial port: every instruction of user programs, kernels, guest and EL2 from the start of QEMU on, idle time left out. Host,
guest and their files are the same for both sides; the host's command line keeps what is random out of it.
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
PATIENCE = 900.0
"""Seconds of real time for host and guest."""


class Row(TypedDict):
    """One level, or all of them; millions of instructions. Only the whole has a limit."""

    name: str
    delphyne: float
    plain: float
    ratio: float
    ok: bool


def measured_guest(kernel: str) -> vmm.Guest:
    """The guest: one CPU, and nothing random in what it is given."""
    return vmm.Guest(kernel=kernel, cpus=1, arguments="quiet nokaslr norandmaps", extra=("-machine", "dtb-randomness=off"))


def guest_host(kernel: str, cpu: str, guest: vmm.Guest, *, plain: bool) -> host.Host:
    """The host that boots `guest` under the counters and then turns itself off."""
    line = vmm.command(guest, disk_file="/tmp/disk", console="stdio")
    counted = host_python.command("count", shlex.quote(BANNER), shlex.join(line))
    of = kvm.measured_host(kernel, cpu, plain=plain, cpus=1)
    script = f"cp {vmm.DISK} /tmp/disk\n{READ_AHEAD}{bare_guest.NO_POLLING}{counted} </dev/null\n"
    return replace(of, script=script, files=host_python.files(), guest_kernels=(guest.kernel,), arguments=f"{of.arguments} norandmaps")


def counts(console: str) -> dict[str, int]:
    """What client/count.py printed. Raises BoardError where it did not."""
    found = {level: int(number) for level, number in re.findall(r"^count (\w+) (\d+)$", console, re.MULTILINE)}
    if set(found) != set(LEVELS):
        raise qemu.BoardError(f"the measured guest did not reach its login:\n{console[-2000:]}")
    return found


def measure_side(of: host.Host, image: Path) -> dict[str, int]:
    """Instructions by level. Raises BoardError."""
    done = host.run(of, image, timeout=PATIENCE)
    if done.ending is not qemu.Ending.OFF:
        raise qemu.BoardError(f"the measured host did not end: {done.ending.value} {done.complaint}\n{done.console[-2000:]}")
    return counts(done.console)


def rows(above: dict[str, int], alone: dict[str, int]) -> list[Row]:
    """The comparison, all levels first."""
    made: list[Row] = []
    for level in LEVELS:
        ratio = round(above[level] / alone[level], 4) if alone[level] else float("inf")
        name = "guest Linux boot to login, all levels" if level == "all" else f"of it at {level}"
        ok = level != "all" or round(ratio, 2) <= BOOT_LIMIT
        made.append({"name": name, "delphyne": above[level] / 1e6, "plain": alone[level] / 1e6, "ratio": ratio, "ok": ok})
    return made


def run(kernel: str = "6.1", guest_kernel: str = "6.1", cpu: str = "cortex-a57", *, json: bool = False) -> bool:
    """Measure and print; whether the limit holds."""
    guest = measured_guest(guest_kernel)
    console = Console(stderr=True, quiet=json)
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        image = host.build(Path(name), quiet=True).image
        sides = []
        for plain in (False, True):
            with console.status(f"a guest {guest_kernel} on {kernel}, {'plain' if plain else 'above Delphyne'}: some minutes"):
                sides.append(measure_side(guest_host(kernel, cpu, guest, plain=plain), image))
    found = rows(*sides)
    if json:
        print(json_module.dumps({"kernel": kernel, "guest": guest_kernel, "cpu": cpu, "rows": found}, indent=2))
    else:
        table = Table("million instructions", "Delphyne", "plain", "ratio", "", box=None)
        for one in found:
            verdict = "" if one["name"].startswith("of it") else f"<= {BOOT_LIMIT:g} {'ok' if one['ok'] else 'MISSED'}"
            table.add_row(one["name"], f"{one['delphyne']:.1f}", f"{one['plain']:.1f}", f"{one['ratio']:.4f}", verdict)
        Console(highlight=False, width=120).print(table)
    return all(one["ok"] for one in found)
