# SPDX-License-Identifier: Apache-2.0
"""Protected guests in Debian's own QEMU with KVM: stock kernels boot to their login with disk and network, and the host sees nothing of them."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from guest_session import LOOKED, HostSession, RunningGuest, look_for, machine, session

from delphyne.board import guestimage, host_python, pkvm_kernel
from delphyne.board.host import Host
from delphyne.board.vmm import Guest

pytestmark = pytest.mark.system

ROOT = Path(__file__).resolve().parents[2]
MANY = hashlib.md5(guestimage.DISK_FILES["many"], usedforsecurity=False).hexdigest()
SECRET = "a-secret-of-the-guest"
GROUPS = "/sys/fs/cgroup"
GROUP = f"{GROUPS}/guest"


def protected(kernel: str, cpus: int = 1, **more: object) -> Guest:
    """A guest with little memory, so that all of it can be looked at."""
    return replace(Guest(kernel, 128, cpus, arguments="quiet", protected=True), **more)  # type: ignore[arg-type]


def prepare(host: HostSession) -> None:
    """Swap on zram, and a control group for the guest's QEMU, in which the shell is from here on."""
    host.run("echo 256M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0")
    host.run(f"mount -t cgroup2 cgroup2 {GROUPS}; echo +memory > {GROUPS}/cgroup.subtree_control; mkdir {GROUP}; echo $$ > {GROUP}/cgroup.procs")


def _counter(host: HostSession, name: str) -> int:
    return int(host.run(f"sed -n 's/^{name} //p' /proc/vmstat"))


def _works(guest: RunningGuest) -> None:
    """Disk, network and memory of the guest's are right."""
    assert guest.run("md5sum < /mnt/many").split()[0] == MANY
    assert "1 packets received" in guest.run("ping -c 1 -W 20 10.0.2.2 | grep transmitted")
    assert guest.run("self-check 4 256 2", 240.0).endswith("0 bad")
    assert guest.shell.trouble() == []


def _boot_on_the_move(host: HostSession, shape: Guest) -> RunningGuest:
    """Boot a guest whose threads the host moves from one CPU to the other all the time: it becomes protected on one while the other knows it as an
    ordinary guest, or as one that is being measured."""
    guest = host.start_guest(replace(shape, arguments=f"quiet {shape.arguments}".strip()))
    host.run(
        "rm -f /tmp/arrived; { pid=$(cat /tmp/guest0.pid); until [ -e /tmp/arrived ]; do for mask in 1 2; do"
        " for thread in /proc/$pid/task/*; do taskset -p $mask ${thread##*/}; done; usleep 20000; done; done;"
        " for thread in /proc/$pid/task/*; do taskset -p 3 ${thread##*/}; done; } >/dev/null 2>&1 &"
    )
    guest.boot()
    host.run("touch /tmp/arrived; wait")
    return guest


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kernel", "host_kernel"),
    [pytest.param("6.1", "6.1", marks=SLOW), ("6.12", "6.12"), pytest.param(pkvm_kernel.NAME, "6.12", marks=SLOW)],
)
def test_the_host_moves_pages_that_it_cannot_read(image: Path, kernel: str, host_kernel: str) -> None:
    shape = protected(kernel)
    with session(
        Host(kernel=host_kernel, machine=machine(), files=host_python.files()), image, kernels=(kernel,), protected=(shape,)
    ) as host:
        prepare(host)
        guest = _boot_on_the_move(host, shape)
        guest.run(f"echo {SECRET[:9]}{SECRET[9:]} > /tmp/secret")
        host.run(f"echo $$ > {GROUPS}/cgroup.procs")
        _works(guest)
        hits, looked = look_for(host, SECRET)
        assert looked >= 128
        assert hits == 0
        work = guest.shell.start("self-check 4 256 4")
        before = _counter(host, "pswpout")
        for _ in range(2):
            host.shell.run(f"echo 48M > {GROUP}/memory.reclaim", 240.0, check=False)
        assert _counter(host, "pswpout") - before > 4000
        assert guest.shell.finish(work, 400.0).endswith("0 bad")
        assert guest.run("cat /tmp/secret") == SECRET
        _works(guest)
        guest.end()
        assert host.shell.trouble() == []


def test_what_run_shows() -> None:
    """Without a terminal: what the host finds of a guest's secret, and that swap keeps it whole; then guest and host report."""
    command = [sys.executable, "-m", "delphyne.cli", "run", "--protected", "--guest-memory", "128", "--guest-smp", "1"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False)
    console = done.stdout.replace("\r", "")
    said = f"\n--- console ---\n{console}\n{done.stderr}"
    assert done.returncode == 0, said
    assert guestimage.HOLDS in console, said
    looked = LOOKED.search(console)
    assert looked is not None, said
    assert int(looked[1]) >= 128, said
    assert int(looked[2]) == 0, said
    pushed = re.search(r"pushed (\d+) pages out to swap", console)
    assert pushed is not None, said
    assert int(pushed[1]) > 4000, said
    assert guestimage.WHOLE in console, said
    guest, _, host = console.partition("The guest has ended. This is the host:")
    assert "hello from the guest's disk" in guest, said
    assert "/dev/kvm" in host, said
