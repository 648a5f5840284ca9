# SPDX-License-Identifier: Apache-2.0
"""A guest that checks its own memory while the host does to that memory all that a host may do, a fixed number of times: no bad byte, no warning.

Each disturbance runs on the host (or by QEMU) while the guest runs `self-check` for a fixed number of rounds; both have to end. That a disturbance
disturbed at all is asserted by the host's own counters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from guest_session import HostSession, RunningGuest, machine, session
from guest_ways import WAYS
from test_guest_life import wait_until

from delphyne.board.host import Host
from delphyne.board.vmm import Guest

pytestmark = pytest.mark.system

MEMORY = 256
"""MiB of the guest."""
GROUPS = "/sys/fs/cgroup"
GROUP = f"{GROUPS}/guest"
"""The control group in which its QEMU runs, so that its memory alone is reclaimed."""
SWAP = 512
"""MiB of each swap device."""
ROUNDS = 30
"""Of each disturbance in the long version."""
PROCESSORS = {"6.1": "cortex-a57", "6.12": "neoverse-n1"}
PLAIN_PROCESSOR = "neoverse-n1"
"""The host's, by its kernel. Plain KVM does not survive on a Cortex-A57 or A72: when one of their CPUs comes back online, stock kernels add to its
slot of KVM's vectors once more (arch/arm64/kernel/proton-pack.c, spectre_v3a_enable_mitigation), and the next entry of a guest there has vectors at
a wild address."""


WATCHDOG = "echo 60 > /proc/sys/kernel/watchdog_thresh"
"""A kernel calls a CPU locked up that scheduled nothing for twice so many seconds of the real time. Where the machine below these has other work, a
guest whose pages swap out as fast as they come back passes the usual 20 seconds: seen above Delphyne, and on plain KVM beside four busy processes."""


def _limit(times: int) -> float:
    """Seconds that what is done `times` times may take."""
    return 300.0 + 20.0 * times


def _counter(host: HostSession, name: str) -> int:
    """A counter of /proc/vmstat."""
    return int(host.run(f"sed -n 's/^{name} //p' /proc/vmstat"))


def _reclaim(host: HostSession, guest: RunningGuest, times: int) -> None:
    """Push 64 MiB of the guest out, `times` times, while it takes them back."""
    before = _counter(host, "pswpout")
    for _ in range(times):
        host.shell.run(f"echo 64M > {GROUP}/memory.reclaim", 120.0, check=False)  # an error says that less was reclaimed
    # What the guest has not touched since stays out, and is not written again.
    assert _counter(host, "pswpout") - before > min(times, 10) * 1000, "hardly a page went to swap"
    assert guest.qmp("query-status")["status"] == "running"


def swap_on_zram(host: HostSession, guest: RunningGuest, times: int) -> None:
    host.run(f"echo {SWAP}M > /sys/block/zram0/disksize; mkswap /dev/zram0 >/dev/null; swapon /dev/zram0")
    _reclaim(host, guest, times)
    host.run("swapoff /dev/zram0; echo 1 > /sys/block/zram0/reset", 240.0)


def swap_on_a_disk(host: HostSession, guest: RunningGuest, times: int) -> None:
    host.run("mkswap /dev/vdb >/dev/null; swapon /dev/vdb")
    _reclaim(host, guest, times)
    host.run("swapoff /dev/vdb", 240.0)


def same_page_merging(host: HostSession, guest: RunningGuest, times: int) -> None:
    """Full scans of the guest's memory; pages that were merged are separated again when one of them is written."""
    place = "/sys/kernel/mm/ksm"
    start = int(host.run(f"cat {place}/full_scans"))
    host.run(f"echo 5000 > {place}/pages_to_scan; echo 1 > {place}/sleep_millisecs; echo 1 > {place}/run")
    host.run(f"while [ $(cat {place}/full_scans) -lt {start + times + 1} ]; do usleep 200000; done", _limit(times))
    shared = int(host.run(f"cat {place}/pages_sharing"))
    host.run(f"echo 2 > {place}/run", 120.0)
    assert shared > 100, shared


def compaction(host: HostSession, guest: RunningGuest, times: int) -> None:
    before = _counter(host, "compact_migrate_scanned")
    host.run(f"i=0; while [ $i -lt {4 * times} ]; do echo 1 > /proc/sys/vm/compact_memory; i=$((i + 1)); done", _limit(times))
    assert _counter(host, "compact_migrate_scanned") > before


def balloon(host: HostSession, guest: RunningGuest, times: int) -> None:
    """8 MiB go to the host, page by page, and come back."""
    for _ in range(times):
        for wanted in (MEMORY - 8, MEMORY):
            guest.qmp("balloon", value=wanted << 20)
            end = time.monotonic() + 120
            while abs(guest.qmp("query-balloon")["actual"] - (wanted << 20)) > 1 << 20:
                assert time.monotonic() < end, "the balloon does not move"
                time.sleep(0.1)


def dirty_log(host: HostSession, guest: RunningGuest, times: int) -> None:
    """A migration that is too slow to end, begun and given up: the log goes on and off."""
    guest.qmp("migrate-set-parameters", **{"max-bandwidth": 4 << 20})
    for _ in range(times):
        guest.qmp("migrate", uri="exec:cat > /dev/null")
        wait_until(guest, "query-migrate", {"active"})
        end = time.monotonic() + 60
        while guest.qmp("query-migrate").get("ram", {}).get("transferred", 0) < 1 << 20:
            assert time.monotonic() < end, "nothing was transferred"
            time.sleep(0.1)
        guest.qmp("migrate_cancel")
        wait_until(guest, "query-migrate", {"cancelled"})


def host_cpus(host: HostSession, guest: RunningGuest, times: int) -> None:
    cpu = "/sys/devices/system/cpu/cpu1/online"
    host.run(f"i=0; while [ $i -lt {times} ]; do echo 0 > {cpu} && echo 1 > {cpu} || exit 1; i=$((i + 1)); done", _limit(times))
    assert host.run("nproc") == "2"


def huge_pages(host: HostSession, guest: RunningGuest, times: int) -> None:
    """khugepaged at full speed on what the other disturbances have split."""
    place = "/sys/kernel/mm/transparent_hugepage/khugepaged"
    start = int(host.run(f"cat {place}/full_scans"))
    host.run(f"echo 0 > {place}/scan_sleep_millisecs; echo 0 > {place}/alloc_sleep_millisecs; echo 8192 > {place}/pages_to_scan")
    host.run(f"while [ $(cat {place}/full_scans) -lt {start + times} ]; do usleep 200000; done", _limit(times))
    host.run(f"echo 10000 > {place}/scan_sleep_millisecs; echo 60000 > {place}/alloc_sleep_millisecs; echo 4096 > {place}/pages_to_scan")


DISTURBANCES: tuple[Callable[[HostSession, RunningGuest, int], None], ...] = (
    swap_on_zram,
    swap_on_a_disk,
    huge_pages,
    same_page_merging,
    compaction,
    balloon,
    dirty_log,
    host_cpus,
)


def _guest_cpus(guest: RunningGuest, times: int) -> None:
    """The guest's own hotplug, by PSCI that KVM serves."""
    cpu = "/sys/devices/system/cpu/cpu1/online"
    guest.run(f"i=0; while [ $i -lt {times} ]; do echo 0 > {cpu} && echo 1 > {cpu} || exit 1; i=$((i + 1)); done", _limit(times))
    assert guest.run("nproc") == "2"


def _stress(image: Path, tmp_path: Path, way: str, kernel: str, times: int) -> None:
    swap = tmp_path / "swap"
    with swap.open("wb") as file:
        file.truncate(SWAP << 20)
    disk = ("-drive", f"if=none,id=swap,file={swap},format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=swap")
    processor = PLAIN_PROCESSOR if way == "plain" else PROCESSORS[kernel]
    with session(Host(kernel=kernel, machine=replace(machine(processor, memory=1024), extra=disk), plain=way == "plain"), image) as host:
        host.run(WATCHDOG)
        host.run(f"mount -t cgroup2 cgroup2 {GROUPS}; echo +memory > {GROUPS}/cgroup.subtree_control; mkdir {GROUP}; echo $$ > {GROUP}/cgroup.procs")
        guest = host.boot_guest(Guest(kernel, MEMORY, extra=("-device", "virtio-balloon-device")))
        guest.run(WATCHDOG)
        host.run(f"echo $$ > {GROUPS}/cgroup.procs")
        for disturb in DISTURBANCES:
            begun = time.monotonic()
            work = guest.shell.start(f"self-check 8 256 {times}")
            disturb(host, guest, times)
            disturbed = time.monotonic()
            said = guest.shell.finish(work, 2 * _limit(times), check=False)
            print(f"{disturb.__name__}: {disturbed - begun:.0f} s, the check ended {time.monotonic() - disturbed:.0f} s later")
            assert said.endswith(" 0 bad"), f"{disturb.__name__}: {said}"
        _guest_cpus(guest, times)
        assert guest.shell.trouble() == []
        guest.end()
        assert host.shell.trouble() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", [pytest.param("6.1", marks=pytest.mark.slow), "6.12"])
def test_no_bad_byte(image: Path, tmp_path: Path, way: str, kernel: str) -> None:
    _stress(image, tmp_path, way, kernel, times=2)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["delphyne", "plain"])
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_no_bad_byte_for_long(image: Path, tmp_path: Path, way: str, kernel: str) -> None:
    _stress(image, tmp_path, way, kernel, times=ROUNDS)
