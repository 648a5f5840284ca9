# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels above Delphyne: they believe that they were booted at EL2, and KVM initialises.

The quick selection covers both kernels, both interrupt controllers, old and new processors, 1 to 8 CPUs and the KVM modes; `make nightly` has the
whole product.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from delphyne.board import qemu
from delphyne.board.host import Host, run

pytestmark = pytest.mark.system

REPORT = """
dmesg | grep -E 'CPU: All CPU|Hyp .*mode init|GIC|disabled from command line'
ls -l /dev/kvm
nproc
free -m
uname -r
echo report complete
"""


def _boot(image: Path, host: Host) -> str:
    done = run(host, image, timeout=180.0)
    said = f"\n--- console of {host.kernel} on {host.machine.cpu}, {host.machine.cpus} CPUs ---\n{done.console}\n{done.complaint}"
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}{said}"
    return done.console


def _machine(cpu: str, cpus: int, memory: int = 1024, gic: int = 3) -> qemu.Machine:
    return qemu.Machine(cpu=cpu, cpus=cpus, memory=memory, gic=gic)


@pytest.mark.parametrize(
    ("kernel", "cpu", "cpus", "memory", "gic"),
    [
        ("6.1", "cortex-a57", 2, 1024, 3),
        ("6.12", "cortex-a57", 1, 512, 2),
        ("6.1", "cortex-a53", 4, 2048, 2),
        ("6.12", "neoverse-n1", 2, 16384, 3),
        ("6.12", "max", 2, 1024, 3),
        ("6.1", "a64fx", 8, 1024, 3),
    ],
)
def test_the_kernel_finds_kvm(image: Path, kernel: str, cpu: str, cpus: int, memory: int, gic: int) -> None:
    console = _boot(image, Host(kernel=kernel, machine=_machine(cpu, cpus, memory, gic), script=REPORT))
    report = console[console.index("Run /init") :]
    assert "CPU: All CPU(s) started at EL2" in report, console
    assert "mode initialized successfully" in report, console
    assert "/dev/kvm" in report, console
    assert f"\n{cpus}\n" in report, console
    assert "report complete" in report, console
    assert f"\n{kernel}." in report, console
    assert "Delphyne, a hypervisor in typed Python" in console


@pytest.mark.parametrize(
    ("mode", "expected"), [("nvhe", "mode initialized successfully"), ("none", "disabled from command line"), ("protected", "Mem:")]
)
def test_modes_of_kvm(image: Path, mode: str, expected: str) -> None:
    console = _boot(image, Host(arguments=f"kvm-arm.mode={mode} nokaslr", script=REPORT))
    report = console[console.index("Run /init") :]
    assert expected in report, console
    assert "report complete" in report, console
    assert ("No such file" in report) == (mode != "nvhe"), console


def test_the_console_is_the_hosts_once_it_runs(image: Path, debug_image: Path) -> None:
    """In protected mode the kernel makes calls that are refused: one line for each on the console of a debug image, none on that of a release."""
    protected = Host(arguments="kvm-arm.mode=protected", script="echo report complete\n")
    for built, shown in ((image, False), (debug_image, True)):
        console = _boot(built, protected)
        assert "delphyne/0: the host begins at" in console, console
        _, _, after = console.partition("the host begins at")
        assert (": warning: host call" in after) is shown, console
        assert ("delphyne/" in after) is shown, console
        assert ("this is a debug image" in console) is shown, console


HOTPLUG = """
for n in 1 2 3; do
  echo 0 > /sys/devices/system/cpu/cpu$n/online && echo "off $n"
  echo 1 > /sys/devices/system/cpu/cpu$n/online && echo "on $n"
done
nproc
echo hotplug complete
"""


def test_cpus_go_and_come_back(image: Path) -> None:
    console = _boot(image, Host(machine=_machine("cortex-a57", 4), script=HOTPLUG))
    report = console[console.index("Run /init") :]
    for n in (1, 2, 3):
        assert f"off {n}\n" in report, console
        assert f"on {n}\n" in report, console
    assert "\n4\nhotplug complete" in report, console


def test_suspend_to_idle_and_back(image: Path) -> None:
    script = "echo +2 > /sys/class/rtc/rtc0/wakealarm; echo freeze > /sys/power/state; dmesg | grep 'PM: suspend'; ls -l /dev/kvm; echo woke\n"
    console = _boot(image, Host(script=script))
    report = console[console.index("Run /init") :]
    assert "PM: suspend exit" in report, console
    assert "woke" in report, console


CPUS = ("cortex-a53", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1", "a64fx", "max")


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "cpu", "cpus", "gic"), list(itertools.product(("6.1", "6.12"), CPUS, (1, 2, 4, 8), (2, 3))))
def test_the_whole_product(image: Path, kernel: str, cpu: str, cpus: int, gic: int) -> None:
    console = _boot(image, Host(kernel=kernel, machine=_machine(cpu, cpus, 2048, gic), script=REPORT))
    assert "CPU: All CPU(s) started at EL2" in console, console
    assert "mode initialized successfully" in console, console
    assert "report complete" in console, console
