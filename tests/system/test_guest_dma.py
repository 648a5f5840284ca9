# SPDX-License-Identifier: Apache-2.0
"""modules/guest-dma in a stock Debian kernel alone in QEMU: disk and network work, and all of their data goes through the pool.

There is no hypervisor here, so the module is loaded with `share=0` and only copies; loaded without, it has to refuse.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from delphyne.board import disk, guestimage, kmodule, qemu
from delphyne.board.kernel_modules import Foreign
from delphyne.board.kernels import kernel_file
from delphyne.board.qemu import Ending, Machine

pytestmark = pytest.mark.system

SIZE = 4 << 20
DATA = random.Random(1).randbytes(SIZE).replace(b"\0", b"\1")
"""Without zero bytes, at which busybox's wget would end what it sends."""
SUM = hashlib.sha256(DATA).hexdigest()
TROUBLE = re.compile(r"WARNING: |BUG: |Oops|Unable to handle|Call trace:|I/O error|Kernel panic|is left alone|could not be bound|part \d differs")


@dataclass(frozen=True)
class Way:
    """What is booted, and the module's options beside `share=0`."""

    kernel: str
    transport: str
    options: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kernel, self.transport, self.options.replace("=", ""))))


QUICK = (Way("6.1", "mmio"), Way("6.12", "pci"))
SLOW = (Way("6.1", "pci"), Way("6.12", "mmio"), Way("6.12", "pci", "size=4"), Way("6.1", "mmio", "size=4"))


def _report(port: int) -> str:
    """What the guest does: reads the disk, writes it, and reads that anew; reads with more requests at once than a small pool has room for; fetches
    and sends; then gives both devices up."""
    return f"""dmesg | grep guest_dma
count() {{ echo "$1 $(cd /sys/module/guest_dma/pool; grep . * | tr ':\\n' '= ')"; }}
count first
echo "read $(sha256sum < /mnt/data)"
count after-read
mount -o remount,rw /mnt
cp /mnt/data /mnt/again
sync
count after-write
echo 3 > /proc/sys/vm/drop_caches
echo "again $(sha256sum < /mnt/again)"
count after-again
echo 4096 > /sys/block/vda/queue/read_ahead_kb
echo 3 > /proc/sys/vm/drop_caches
part() {{ dd if=/dev/vda bs=1M skip=$1 count=1 2>/dev/null | sha256sum; }}
for number in 0 1 2 3 4 5 6 7; do part $number > /tmp/part$number & done
wait
count after-rush
echo 3 > /proc/sys/vm/drop_caches
for number in 0 1 2 3 4 5 6 7; do part $number | cmp - /tmp/part$number || echo "part $number differs"; done
ping -c 2 -s 1400 -W 20 10.0.2.2 | grep transmitted
echo "fetched $(wget -q -O - http://10.0.2.2:{port}/data | sha256sum)"
count after-fetch
echo "sent $(wget -q -O - --post-file=/mnt/again http://10.0.2.2:{port}/sum)"
count after-send
umount /mnt
ip link set eth0 down
for driver in virtio_blk virtio_net; do
    for device in /sys/bus/virtio/drivers/$driver/virtio*; do echo "${{device##*/}}" > /sys/bus/virtio/drivers/$driver/unbind; done
done
count last
echo 'report complete'
"""


@contextmanager
def _web() -> Iterator[int]:
    """A web server of this machine's loopback that has DATA, and answers what it is sent with the SHA-256 of it; its port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer(DATA)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(hashlib.sha256(body).hexdigest().encode())

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _boot(way: Way, place: Path) -> tuple[str, Path]:
    """What a guest's console showed, and its disk afterwards."""
    kernel = kernel_file(way.kernel)
    module = kmodule.build("guest-dma", way.kernel).read_bytes()
    drive = place / "disk"
    shutil.copy(disk.build("guest-dma", {"hello": b"hello\n", "data": DATA}, free=SIZE + (1 << 20)), drive)
    first = (Foreign("guest-dma", module), Foreign("guest-dma", module, f"share=0 {way.options}".rstrip()))
    device, more = {"mmio": ("device", "iommu_platform=on"), "pci": ("pci", "iommu_platform=on,disable-legacy=on,disable-modern=off")}[way.transport]
    modern = ("-global", "virtio-mmio.force-legacy=false")
    with _web() as port:
        image = guestimage.build(kernel, first=first, report=_report(port), folder=place)
        extra = (
            "-initrd", str(image.initrd), *modern,
            "-drive", f"if=none,id=disk,file={drive},format=raw", "-device", f"virtio-blk-{device},drive=disk,{more}",
            "-netdev", "user,id=net", "-device", f"virtio-net-{device},netdev=net,{more}{',romfile=' if way.transport == 'pci' else ''}",
        )  # fmt: skip
        machine = Machine(cpu="cortex-a57", cpus=2, memory=256, virtualization=False, arguments="console=ttyAMA0 delphyne.report", extra=extra)
        done = qemu.run(kernel, machine, timeout=180)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    return done.console, drive


def _counts(console: str) -> dict[str, dict[str, int]]:
    """When -> counter -> value."""
    lines = re.findall(r"^([a-z-]+) ((?:[a-z]+=\d+ *)+)$", console, re.MULTILINE)
    return {when: {name: int(value) for name, value in re.findall(r"([a-z]+)=(\d+)", text)} for when, text in lines}


def _look(way: Way, console: str, drive: Path) -> None:
    assert "guest_dma: the hypervisor is not Delphyne (STATUS is not answered)" in console
    assert not TROUBLE.search(console)
    for line in (f"read {SUM}", f"again {SUM}", "2 packets received", f"fetched {SUM}", f"sent {SUM}", "report complete"):
        assert line in console, line
    debugfs = shutil.which("debugfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert debugfs is not None, "debugfs is part of e2fsprogs, like mke2fs"
    written = subprocess.run([debugfs, "-R", "cat /again", str(drive)], capture_output=True, check=True).stdout
    assert hashlib.sha256(written).hexdigest() == SUM
    counts = _counts(console)

    def grown(counter: str, since: str, until: str) -> int:
        return counts[until][counter] - counts[since][counter]

    assert grown("in", "first", "after-read") >= SIZE
    assert grown("out", "after-read", "after-write") >= SIZE
    assert grown("in", "after-write", "after-again") >= SIZE
    assert grown("in", "after-rush", "after-fetch") >= SIZE
    assert grown("out", "after-fetch", "after-send") >= SIZE
    assert counts["last"]["mapped"] > 0
    assert counts["first"]["used"] > 0
    assert counts["last"]["used"] == 0
    assert (counts["last"]["refused"] > 0) == bool(way.options)


@pytest.mark.parametrize("way", [*QUICK, *(pytest.param(way, marks=pytest.mark.slow) for way in SLOW)], ids=str)
def test_disk_and_network_go_through_the_pool(way: Way, tmp_path: Path) -> None:
    console, drive = _boot(way, tmp_path)
    try:
        _look(way, console, drive)
    except BaseException as problem:
        problem.add_note(console)
        raise
