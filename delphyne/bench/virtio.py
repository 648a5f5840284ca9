# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench virtio`: what a MiB costs the whole machine on its way between a guest and its virtio disk and network.

A protected guest's devices work through the pool of modules/guest-dma, which copies. It is held against an ordinary guest on plain KVM that copies
too, by the kernel's own means: `swiotlb=..,force`, and the same devices with `iommu_platform=on`. Host, counters and levels are those of
bench/guest_boot.py.

The guest does everything once before it is counted, so that neither first touches of memory nor the host's are in it, and drops its page cache before
each reading. Each kind is then done ROUNDS times, and of each side that round counts that took the fewest instructions. Whether the pages of a page
cache lie one behind the other differs from round to round, for a protected guest and for an ordinary one: where they do, 16 MiB are some 500
pieces for virtio to map, where they do not, some 4,000, and a write costs half as much again. The least rounds of both sides are alike in that; the
ratio of the means is shown too. What is typed to have one thing done is one letter, since each letter on a serial port is an exit of its own.
"""

from __future__ import annotations

import json as json_module
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import guest_boot
from delphyne.board import host, vmm

MEBIBYTES = 16
LIMIT = 1.05
ROUNDS = 4
POOL_SIDE = "swiotlb=16384,force"
"""32 MiB. Without a number a 6.12 gave a guest of this size 256 KiB, which its network filled, and then nothing worked."""
KINDS = {"r": "read from the disk", "w": "written to the disk", "n": "received from the network", "s": "sent to the network"}
"""What the guest types -> what it does."""
PORT, SINK_PORT = 5000, 5001
SERVED = "/tmp/served"
BEFORE = f"""truncate -s {2 * MEBIBYTES}M /tmp/disk
mkdir {SERVED} && dd if=/dev/zero of={SERVED}/data bs=1M count={MEBIBYTES} 2>/dev/null
httpd -p {PORT} -h {SERVED}
nc -ll -p {SINK_PORT} -e sh -c 'dd of=/dev/null bs=64k count={16 * MEBIBYTES} iflag=fullblock 2>/dev/null; echo' </dev/null &
"""
"""On the host: the disk has room behind its file system, a server has something to send, and another takes as much and answers by a line."""
PART = f"of=/dev/null bs=64k count={16 * MEBIBYTES} 2>/dev/null"
FUNCTIONS = "; ".join(
    (
        "p=0", "e(){ p=$((p+1)); echo part-$p; }",
        f"r(){{ echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda skip={16 * MEBIBYTES} {PART} && e; }}",
        f"w(){{ dd if=/dev/zero of=/dev/vda bs=64k seek={16 * MEBIBYTES} count={16 * MEBIBYTES} conv=fsync 2>/dev/null && e; }}",
        f"n(){{ wget -q -O /dev/null http://10.0.2.2:{PORT}/data && e; }}",
        f"s(){{ nc 10.0.2.2 {SINK_PORT} -e sh -c 'dd if=/dev/zero bs=64k count={16 * MEBIBYTES} 2>/dev/null; read a' && e; }}",
        *KINDS,
    )
)
"""What the guest's shell is given first: it learns each kind and does it once. What is sent is sent when the line comes that answers it."""


class Row(TypedDict):
    """One kind: instructions of the whole machine for each MiB, the least of all rounds and each of them; their ratio, and that of the means."""

    name: str
    delphyne: float
    delphyne_rounds: list[float]
    plain: float
    plain_rounds: list[float]
    ratio: float
    ratio_of_means: float
    ok: bool


def steps() -> tuple[list[tuple[str, str]], str]:
    """The texts that the guest's console comes to say, each with what is typed then; and the last text."""
    first = len(KINDS)
    typed = [FUNCTIONS, *ROUNDS * list(KINDS)]
    texts = [guest_boot.BANNER, *(f"part-{first + number}" for number in range(ROUNDS * first))]
    return list(zip(texts, typed, strict=True)), f"part-{(1 + ROUNDS) * first}"


def plain_line(guest: vmm.Guest) -> list[str]:
    """QEMU's command line for the ordinary guest, whose devices ask the kernel for addresses too."""
    line = vmm.command(replace(guest, protected=False, arguments=f"{guest.arguments} {POOL_SIDE}"), disk_file="/tmp/disk", console="stdio")
    return [f"{word},iommu_platform=on" if word.startswith("virtio-") else word for word in line] + ["-global", "virtio-mmio.force-legacy=false"]


def rows(above: list[dict[str, int]], alone: list[dict[str, int]]) -> list[Row]:
    """The comparison of what was counted while each kind was done, round after round."""
    made: list[Row] = []
    for number, name in enumerate(KINDS.values()):
        one, other = ([count["all"] / MEBIBYTES for count in side[number :: len(KINDS)]] for side in (above, alone))
        ratio = round(min(one) / min(other), 4)
        made.append(
            {
                "name": name, "delphyne": min(one), "delphyne_rounds": one, "plain": min(other), "plain_rounds": other,
                "ratio": ratio, "ratio_of_means": round(statistics.mean(one) / statistics.mean(other), 4), "ok": round(ratio, 2) <= LIMIT,
            }
        )  # fmt: skip
    return made


def spread(row: Row) -> str:
    """By how much the most of a side's rounds is above the least, of both sides the larger."""
    return f"{max(max(rounds) / min(rounds) - 1 for rounds in (row['delphyne_rounds'], row['plain_rounds'])):.1%}"


def measure(kernel: str, guest_kernel: str, cpu: str, image: Path, console: Console) -> list[Row]:
    """Both sides. Raises BoardError."""
    guest = replace(guest_boot.measured_guest(guest_kernel, protected=True), arguments="quiet nokaslr norandmaps")
    sides = []
    for plain in (False, True):
        line = plain_line(guest) if plain else vmm.command(guest, disk_file="/tmp/disk", console="stdio")
        counting = guest_boot.counted(line, *steps())
        of = guest_boot.guest_host(kernel, cpu, guest, counting, plain=plain, before=BEFORE, protected=guest)
        kind = f"an ordinary guest with {POOL_SIDE}" if plain else "a protected guest"
        with console.status(f"{kind} {guest_kernel} on {kernel}, {'plain' if plain else 'above Delphyne'}: some minutes"):
            sides.append(guest_boot.measure_side(of, image, ROUNDS * len(KINDS) + 2)[-ROUNDS * len(KINDS) :])
    return rows(sides[0], sides[1])


def run(kernel: str = "6.1", guest_kernel: str = "6.1", cpu: str = "cortex-a57", *, json: bool = False) -> bool:
    """Measure and print; whether the limits hold."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as name:
        image = host.build(Path(name), quiet=True).image
        found = measure(kernel, guest_kernel, cpu, image, Console(stderr=True, quiet=json))
    if json:
        print(json_module.dumps({"kernel": kernel, "guest": guest_kernel, "cpu": cpu, "rows": found}, indent=2))
    else:
        columns = ("protected", f"plain, {POOL_SIDE}", "ratio", "of means", "rounds differ by", "")
        table = Table(f"instructions for a MiB, least of {ROUNDS}", *columns, box=None)
        for one in found:
            verdict = f"<= {LIMIT:g} {'ok' if one['ok'] else 'MISSED'}"
            ratios = (f"{one['ratio']:.4f}", f"{one['ratio_of_means']:.4f}")
            table.add_row(one["name"], f"{one['delphyne']:.0f}", f"{one['plain']:.0f}", *ratios, spread(one), verdict)
        Console(highlight=False, width=120).print(table)
    return all(one["ok"] for one in found)
