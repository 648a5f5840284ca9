# SPDX-License-Identifier: Apache-2.0
"""`delphyne guest-pkvm`: a kernel with mainline's pKVM guest driver is a protected guest above Delphyne without any module (pkvm_kernel.py).

The guest tells what its kernel found, reads, writes and fetches through its virtio devices, and then waits. Meanwhile EL2's own frame table is read
out of the machine's memory: which pages of the guest it counts as shared with the host. The host looks at what came to be on the guest's disk.
"""

from __future__ import annotations

import hashlib
import json as json_module
import mmap
import re
import shlex
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.board import el2_statics, guestimage, host, pkvm_kernel, qemu, vmm
from delphyne.compiler.back.image import Built
from delphyne.el2.memory.frames import FrameEntry, State
from delphyne.lang import u64

RAM_AT = 0x4000_0000
PAGE = 4096
MEMORY = 1024
"""MiB of the machine."""
PATIENCE = 600.0
"""Seconds of real time for host and guest."""
COUNT_PORT, DATA_PORT = 4900, 5000
"""Of the host: a connection to the first lets it go on; at the second it serves SERVED to the guest."""
SERVED = "/tmp/served"
COUNT = "pkvm: the frame table is counted"
WAITS = "pkvm: the guest waits"
PIECE = 64 << 10
AT = 64
"""In pieces: where the guest writes to its disk, behind the file system."""
MANY = len(guestimage.DISK_FILES["many"]) // PIECE
CALLS = 0b1_1100
"""MEMINFO, MEM_SHARE and MEM_UNSHARE in the bitmap of FEATURES: without any of them the driver stays off."""
TROUBLE = "WARNING: |BUG: |Oops|Unable to handle|Call trace:|I/O error|failed to initialise"

REPORT = f"""say() {{ echo "pkvm: $*"; }}
mount -t debugfs debugfs /sys/kernel/debug
say kernel $(uname -r)
say modules $(cat /proc/modules 2>/dev/null | wc -l)
say services $(dmesg | sed -n 's/.*hypervisor services detected (.* \\(0x[0-9a-f]*\\))/\\1/p')
say pool $(dmesg | sed -n 's/.*created restricted DMA pool at \\(0x[0-9a-f]*\\), size \\([0-9]*\\) MiB/\\1 \\2/p')
say read $(md5sum < /mnt/many)
cp /mnt/many /tmp/many
umount /mnt
dd if=/tmp/many of=/dev/vda bs={PIECE} seek={AT} conv=fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
say back $(dd if=/dev/vda bs={PIECE} skip={AT} count={MANY} 2>/dev/null | md5sum)
say fetched $(wget -q -O - http://10.0.2.2:{DATA_PORT}/data | md5sum)
say used $(cat $(find /sys/kernel/debug -path '*pool*/io_tlb_used'))
say trouble $(dmesg | grep -cE '{TROUBLE}')
echo '{WAITS}'
read -r line
"""
"""What the guest does and says."""


class Row(TypedDict):
    """One thing that is to be shown, what was seen, and whether that shows it."""

    name: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Counted:
    """Frames of protected guests by EL2's frame table: how many are private, and the guests' pages (address / 4 KiB) in those that are shared."""

    private: int
    shared: tuple[int, ...]


def the_guest(transport: str = "mmio") -> vmm.Guest:
    """The guest."""
    arguments = "quiet delphyne.report"
    return vmm.Guest(pkvm_kernel.NAME, transport=transport, arguments=arguments, extra=("-no-reboot",), protected=True, report=REPORT)


def script(guest: vmm.Guest) -> str:
    """What the host does."""
    line = shlex.join(vmm.command(guest, disk_file="/tmp/disk", console="stdio"))
    return f"""cp {vmm.DISK} /tmp/disk
truncate -s {(AT + MANY) * PIECE} /tmp/disk
mkdir {SERVED} && cp {vmm.DISK} {SERVED}/data
httpd -p {DATA_PORT} -h {SERVED}
nc -l -p {COUNT_PORT} -e true &
counted=$!
mkfifo /tmp/typed
{line} </tmp/typed >/tmp/console 2>&1 &
guest=$!
exec 3>/tmp/typed
until grep -q -a '{WAITS}' /tmp/console; do
    kill -0 $guest 2>/dev/null || {{ cat /tmp/console; exit; }}
    usleep 300000
done
until netstat -ltn | grep -q ':{COUNT_PORT} '; do usleep 100000; done
echo '{COUNT}'
wait $counted
echo >&3
wait $guest
cat /tmp/console
echo
echo "pkvm: written $(dd if=/tmp/disk bs={PIECE} skip={AT} count={MANY} 2>/dev/null | md5sum)"
echo "pkvm: served $(md5sum < {SERVED}/data)"
"""


def count(built: Built, memory: Path) -> Counted:
    """What EL2's frame table holds of protected guests, in the memory of a machine that runs."""
    with memory.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ram:
        el2 = el2_statics.Memory(built, ram, RAM_AT, ("ENTRIES", "LAYOUT"))
        words = el2.numbers(el2.statics["ENTRIES"]["data"], el2.statics["LAYOUT"]["frames"])
    others = {int(State.HOST.raw), int(State.EL2.raw)}
    entries = [FrameEntry.of(u64(word)) for word in words if word & 0xF not in others]
    shared = sorted(int(entry.page) for entry in entries if entry.state is State.SHARED)
    return Counted(sum(entry.state is State.PRIVATE for entry in entries), tuple(shared))


class Watcher:
    """Reads the machine's console as it comes, and has the frame table counted when the host waits for that."""

    def __init__(self, built: Built, memory: Path, port: int) -> None:
        self.counted: Counted | None = None
        self._built, self._memory, self._port = built, memory, port
        self._text = ""

    def __call__(self, text: str) -> None:
        """What came."""
        self._text += text
        if self.counted is None and COUNT in self._text:
            self.counted = count(self._built, self._memory)
            socket.create_connection(("127.0.0.1", self._port), timeout=60).close()


def boot(kernel: str, guest: vmm.Guest, built: Built, folder: Path) -> tuple[str, Counted]:
    """The console of a host above EL2 with the guest, and what was counted meanwhile. Raises BoardError where they did not get to their end."""
    memory = folder / "memory"
    backed = ("-object", f"memory-backend-file,id=ram,size={MEMORY}M,mem-path={memory},share=on", "-machine", "memory-backend=ram")
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=MEMORY, extra=backed)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    of = host.Host(kernel, machine, script=script(guest), guest_kernels=(guest.kernel,), protected=(guest,), forwards=((port, COUNT_PORT),))
    watcher = Watcher(built, memory, port)
    done = host.run(of, built.image, timeout=PATIENCE, show=watcher)
    if done.ending is not qemu.Ending.OFF or watcher.counted is None:
        raise qemu.BoardError(f"the guest did not get to its end: {done.ending.value} {done.complaint}\n{done.console[-3000:]}")
    return done.console, watcher.counted


def rows(console: str, counted: Counted) -> list[Row]:
    """What was shown."""
    said = dict(re.findall(r"^pkvm: (\w+) (.+)$", console, re.MULTILINE))
    many = hashlib.md5(guestimage.DISK_FILES["many"], usedforsecurity=False).hexdigest()
    sums = {name: said.get(name, "no sum").split()[0] for name in ("read", "back", "written", "fetched", "served")}
    services = _number(said.get("services", ""))
    pool, pool_pages = _pool(said.get("pool", ""))
    elsewhere = len(set(counted.shared) - pool_pages)
    shared = f"{len(counted.shared) - elsewhere} of {len(pool_pages)} pages of the pool, {elsewhere} others; {counted.private} are private"
    modules, trouble = said.get("modules", "not said"), said.get("trouble", "not said")

    def row(name: str, seen: str, ok: bool) -> Row:
        return {"name": name, "seen": seen, "ok": ok}

    return [
        row("the guest's kernel, and its modules", f"{said.get('kernel', 'not said')}, {modules}", modules == "0"),
        row("hypervisor services that it found", f"{services:#x}", services & CALLS == CALLS),
        row("the DMA pool of its device tree", pool, bool(pool_pages)),
        row("pages shared, by EL2's frame table", shared, bool(pool_pages) and set(counted.shared) == pool_pages and counted.private > 0),
        row("slots of the pool in use", said.get("used", "not said"), _number(said.get("used", "")) > 0),
        row("1 MiB read from the disk", sums["read"], sums["read"] == many),
        row("1 MiB written, as it reads it again", sums["back"], sums["back"] == many),
        row("1 MiB written, as the host sees it", sums["written"], sums["written"] == many),
        row("a file fetched from the host", sums["fetched"], sums["fetched"] == sums["served"] != "no"),
        row("lines of trouble in its log", trouble, trouble == "0"),
    ]


def _number(text: str) -> int:
    """A number as the guest wrote it; 0 where it wrote none."""
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _pool(text: str) -> tuple[str, set[int]]:
    """The guest's words for its pool, address and MiB, for people; and its pages."""
    found = re.fullmatch(r"(0x[0-9a-f]+) (\d+)", text)
    if found is None:
        return "none", set()
    first, size = int(found[1], 16), int(found[2])
    return f"{size} MiB at {first:#x}", set(range(first // PAGE, (first + (size << 20)) // PAGE))


def run(kernel: str = "6.12", transport: str = "mmio", *, json: bool = False) -> bool:
    """Build, boot and print; whether all of it is shown."""
    console = Console(stderr=True, quiet=json)
    with console.status(f"building {pkvm_kernel.SOURCE} with mainline's pKVM guest driver: some 15 minutes of processor, once (kept in build/cache)"):
        pkvm_kernel.build()
    with tempfile.TemporaryDirectory(prefix="delphyne-pkvm-") as name:
        built = host.build(Path(name), quiet=True)
        with console.status(f"a protected guest without any module on {kernel}, above Delphyne: some minutes"):
            found = rows(*boot(kernel, the_guest(transport), built, Path(name)))
    if json:
        print(json_module.dumps({"kernel": kernel, "transport": transport, "rows": found}, indent=2))
    else:
        table = Table("shown", "seen", "", box=None)
        for one in found:
            table.add_row(one["name"], one["seen"], "ok" if one["ok"] else "NOT SHOWN")
        Console(highlight=False, width=120).print(table)
    return all(one["ok"] for one in found)
