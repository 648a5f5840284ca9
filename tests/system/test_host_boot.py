# SPDX-License-Identifier: Apache-2.0
"""Stock Debian kernels above Delphyne: they believe that they were booted at EL2, and KVM initialises.

The quick selection covers both kernels, both interrupt controllers, old and new processors, 1 to 8 CPUs and the KVM modes; `make nightly` has the
whole product.
"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from delphyne.board import debian, qemu
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
    assert f"randomness: firmware 0, processor {int(cpu == 'max')}, device tree 1" in console, console
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
MEMORY = (512, 1024, 2048, 4096, 16384)
LINES = ("6.1", "6.12")


def _product() -> list[tuple[str, str, int, int, int, str]]:
    """Every kernel on every processor, number of CPUs and interrupt controller; the amount of RAM and whether the kernel moves itself are drawn for
    each, from a seed, so that each of them meets each of the others several times."""
    dice = random.Random(1)
    machines = itertools.product(LINES, CPUS, (1, 2, 4, 8), (2, 3))
    return [(*machine, dice.choice(MEMORY), dice.choice(("", "nokaslr"))) for machine in machines]


def test_the_product_leaves_no_pair_out() -> None:
    rows = _product()
    for i, j in itertools.combinations(range(6), 2):
        one, other = ({row[k] for row in rows} for k in (i, j))
        assert {(row[i], row[j]) for row in rows} == set(itertools.product(one, other))
    assert {row[4] for row in rows} == set(MEMORY)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "cpu", "cpus", "gic", "memory", "kaslr"), _product())
def test_the_whole_product(image: Path, kernel: str, cpu: str, cpus: int, gic: int, memory: int, kaslr: str) -> None:
    console = _boot(image, Host(kernel=kernel, machine=_machine(cpu, cpus, memory, gic), arguments=kaslr, script=REPORT))
    assert "CPU: All CPU(s) started at EL2" in console, console
    assert "mode initialized successfully" in console, console
    assert ("KASLR disabled" in console) is (kaslr != ""), console
    assert "report complete" in console, console


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "cpu", "mode", "kaslr"),
    list(itertools.product(LINES, ("cortex-a57", "neoverse-n1", "max"), ("nvhe", "none", "protected"), ("", "nokaslr"))),
)
def test_every_mode_of_kvm(image: Path, kernel: str, cpu: str, mode: str, kaslr: str) -> None:
    console = _boot(image, Host(kernel=kernel, machine=_machine(cpu, 2), arguments=f"kvm-arm.mode={mode} {kaslr}".strip(), script=REPORT))
    report = console[console.index("Run /init") :]
    assert "report complete" in report, console
    assert ("No such file" in report) == (mode != "nvhe"), console


@pytest.mark.slow
@pytest.mark.parametrize("kernel", list(debian.FLAVOURS))
def test_other_flavours(image: Path, kernel: str) -> None:
    """Debian's rt kernel of 6.1 has no KVM: it boots, hears the truth, and the console says why."""
    console = _boot(image, Host(kernel=kernel, script=REPORT))
    has_kvm = kernel != "6.1-rt"
    report = console[console.index("Run /init") :]
    assert f"started at EL{2 if has_kvm else 1}" in report, console
    assert ("mode initialized successfully" in report) is has_kvm, console
    assert ("No such file" in report) is not has_kvm, console
    assert ("has no KVM of a kind that is served: it boots without /dev/kvm" in console) is not has_kvm, console
    assert f"-{kernel.partition('-')[2]}-arm64" in report, console
    assert "report complete" in report, console


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "cpus", "gic"), [("6.12", 8, 3), ("6.1", 4, 2)])
def test_cpus_go_and_come_back_on_other_machines(image: Path, kernel: str, cpus: int, gic: int) -> None:
    script = f"for n in $(seq 1 {cpus - 1}); do echo 0 > /sys/devices/system/cpu/cpu$n/online; done; nproc\n"
    script += f"for n in $(seq 1 {cpus - 1}); do echo 1 > /sys/devices/system/cpu/cpu$n/online; done; nproc\necho hotplug complete\n"
    console = _boot(image, Host(kernel=kernel, machine=_machine("cortex-a72", cpus, gic=gic), script=script))
    report = "".join(line for line in console[console.index("Run /init") :].splitlines(keepends=True) if not line.startswith("["))
    assert f"\n1\n{cpus}\nhotplug complete" in report, console
