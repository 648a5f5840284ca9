# SPDX-License-Identifier: Apache-2.0
"""What happens to a guest while it lives: stopped and continued, debugged, rebooted, moved to a file and back, beside another, killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from gdb_remote import PC, Point
from guest_session import HostSession, RunningGuest, machine, session
from guest_ways import WAYS

from delphyne.board.host import Host
from delphyne.board.vmm import Guest

pytestmark = pytest.mark.system

CHECK = "self-check 4 256 4"
LEFT_OVER = 24
"""MiB of the host's memory that may be taken after guests have gone: its own caches and slabs."""
IRQ_VECTOR = 0x280
"""Offset of the vector for an interrupt at EL1 (Arm ARM, D1.3.1): where a single step lands when one is pending. KVM cannot hold it back."""
FIRST_ARGUMENT = 0
"""Offset of x0 in struct pt_regs, to which the first argument of a system call's function points (kernel: arch/arm64/include/asm/ptrace.h)."""


def wait_until(guest: RunningGuest, command: str, wanted: set[str], seconds: float = 120.0) -> str:
    """QEMU's status by `command` (query-status or query-migrate), once it is one of `wanted`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = guest.qmp(command)
        if isinstance(answer, dict) and answer.get("status") in wanted:
            return str(answer["status"])
        time.sleep(0.1)
    raise AssertionError(f"{command} stays {answer}, wanted {wanted}")


def free_memory(host: HostSession) -> int:
    """MiB that the host has free once it has dropped its caches."""
    host.run("sync; echo 3 > /proc/sys/vm/drop_caches")
    return int(host.run("sed -n 's/^MemFree: *//p' /proc/meminfo").split()[0]) // 1024


def _stop_and_continue(guest: RunningGuest) -> None:
    """Three times, with the guest at work; a stopped guest's clock and console stand still."""
    work = guest.shell.start(CHECK)
    for _ in range(3):
        guest.qmp("stop")
        assert guest.qmp("query-status")["status"] == "paused"
        guest.qmp("cont")
        assert guest.qmp("query-status")["status"] == "running"
    assert guest.shell.finish(work, 120.0).endswith("0 bad")


def _break_in(guest: RunningGuest) -> None:
    """Software and hardware breakpoints, single steps and a watchpoint, in the guest's kernel."""
    symbol = "__arm64_sys_sethostname"
    function = int(guest.run(f"echo 0 > /proc/sys/kernel/kptr_restrict; grep -E ' {symbol}$' /proc/kallsyms").split()[0], 16)
    for kind in (Point.SOFTWARE, Point.HARDWARE):
        stub = guest.stub()
        stub.insert(kind, function)
        work = guest.shell.start(f"hostname stopped-{kind}")
        assert stub.go().startswith("T05")
        assert stub.registers()[PC] == function
        name = int.from_bytes(stub.memory(stub.registers()[0] + FIRST_ARGUMENT, 8), "little")
        assert stub.memory(name, 9) == f"stopped-{kind}".encode()
        stub.remove(kind, function)
        assert stub.step().startswith("T05")
        after = stub.registers()[PC]
        assert after == function + 4 or after % 0x800 == IRQ_VECTOR, hex(after)
        stub.insert(Point.READ, name & ~7, 8)  # the kernel copies the name from the caller
        stop = stub.go()
        assert "watch:" in stop, stop
        stub.remove(Point.READ, name & ~7, 8)
        stub.close()
        guest.shell.finish(work)
        assert guest.run("hostname") == f"stopped-{kind}"


def _reboot(guest: RunningGuest) -> None:
    """The guest's own reset: its memory is begun anew, its CPUs come back."""
    guest.run("echo kept > /tmp/of-this-boot")
    guest.shell.start("reboot -f")
    guest.wait_for_login()
    assert guest.run("nproc; ls /tmp") == "2"
    assert guest.run(CHECK, 120.0).endswith("0 bad")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", [pytest.param("6.1", marks=pytest.mark.slow), "6.12"])
def test_stop_continue_debug_reboot(image: Path, way: str, kernel: str) -> None:
    with session(Host(kernel=kernel, machine=machine(), plain=way == "plain"), image) as host:
        guest = host.boot_guest(Guest(kernel))
        _stop_and_continue(guest)
        _break_in(guest)
        assert guest.shell.trouble() == []
        _reboot(guest)
        assert guest.shell.trouble() == []
        assert host.shell.trouble() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kernel", "transport"), [("6.1", "mmio"), pytest.param("6.12", "pci", marks=pytest.mark.slow)])
def test_to_a_file_and_back(image: Path, way: str, kernel: str, transport: str) -> None:
    shape = Guest(kernel, transport=transport)
    with session(Host(kernel=kernel, machine=machine(), plain=way == "plain"), image) as host:
        guest = host.boot_guest(shape)
        guest.run("echo remembered > /tmp/note; for i in 1 2 3; do head -c 1000000 /dev/urandom > /tmp/data$i; done")
        sums = guest.run("md5sum /tmp/data*")
        work = guest.shell.start(CHECK)
        guest.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 30})
        guest.qmp("migrate", uri="exec:cat > /tmp/saved")
        assert wait_until(guest, "query-migrate", {"completed", "failed"}) == "completed"
        guest.end()
        again = host.start_guest(Guest(kernel, transport=transport, arguments="quiet", extra=("-incoming", "exec:cat /tmp/saved")), own_disk=False)
        wait_until(again, "query-status", {"paused"})
        again.qmp("cont")
        again.shell.go_on(guest.shell)
        assert again.shell.finish(work, 120.0).endswith("0 bad")
        assert again.run("cat /tmp/note; md5sum /tmp/data*") == f"remembered\n{sums}"
        assert again.run("ping -c 1 -W 20 10.0.2.2 | grep -c '1 packets received'") == "1"
        assert again.run("echo 3 > /proc/sys/vm/drop_caches; md5sum < /mnt/many; nproc").endswith("\n2")
        assert again.shell.trouble() == []
        assert host.shell.trouble() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_two_at_once_and_death_under_load(image: Path, way: str, kernel: str) -> None:
    with session(Host(kernel=kernel, machine=machine(), plain=way == "plain"), image) as host:
        host.start_guest(Guest(kernel)).end()  # what the host itself takes for its first guest is taken
        before = free_memory(host)
        first, second = host.start_guest(Guest(kernel, arguments="quiet")), host.start_guest(Guest(kernel, arguments="quiet"), 1)
        for guest in (first, second):
            guest.qmp("cont")
        for guest in (first, second):
            guest.wait_for_login()
        works = [guest.shell.start(CHECK) for guest in (first, second)]
        for guest, work in zip((first, second), works, strict=True):
            assert guest.shell.finish(work, 240.0).endswith("0 bad")
        for guest in (first, second):
            guest.shell.start("self-check 4 256 1000000")
        host.end_guest(0)
        assert second.qmp("query-status")["status"] == "running"
        host.end_guest(1)
        after = free_memory(host)
        assert after > before - LEFT_OVER, (before, after)
        third = host.boot_guest(Guest(kernel))
        assert third.run(CHECK, 120.0).endswith("0 bad")
        assert third.shell.trouble() == []
        assert host.shell.trouble() == []


@pytest.mark.parametrize("kernel", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_a_cpu_of_a_cortex_a57_comes_back_and_runs_guests(image: Path, kernel: str) -> None:
    """Not on plain KVM: there the host hangs (see PLAIN_PROCESSOR in test_guest_stress.py)."""
    cpu = "/sys/devices/system/cpu/cpu1/online"
    with session(Host(kernel=kernel, machine=machine("cortex-a57")), image) as host:
        guest = host.boot_guest(Guest(kernel))
        work = guest.shell.start("self-check 4 256 16")
        for _ in range(3):
            host.run(f"echo 0 > {cpu}; echo 1 > {cpu}")
            assert host.run("nproc") == "2"
        assert guest.shell.finish(work, 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        assert host.shell.trouble() == []
