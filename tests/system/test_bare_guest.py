# SPDX-License-Identifier: Apache-2.0
"""The bare guest causes every kind of exit under a host's KVM and finds everything right: plain, and above Delphyne."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.bench import exec_log, kvm
from delphyne.board import bare_guest, host, qemu
from delphyne.board.guest import build as guest_build
from delphyne.client.bare_guest import KINDS

pytestmark = pytest.mark.system

WAYS = pytest.mark.parametrize("plain", [pytest.param(True, marks=pytest.mark.slow), False], ids=["plain", "delphyne"])


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> guest_build.Guest:
    return guest_build.build(tmp_path_factory.mktemp("guest"))


@WAYS
@pytest.mark.parametrize(("kernel", "cpu", "gic"), [("6.1", "cortex-a57", 3), ("6.12", "cortex-a57", 3), ("6.1", "cortex-a57", 2)])
def test_every_kind_of_exit(image: Path, guest: guest_build.Guest, plain: bool, kernel: str, cpu: str, gic: int) -> None:
    machine = qemu.Machine(cpu=cpu, cpus=2, memory=1024, gic=gic)
    passed, done = bare_guest.smoke(host.Host(kernel=kernel, plain=plain, machine=machine), image, guest, list(KINDS))
    assert passed, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert "WARNING: CPU" not in done.console, done.console[-20000:]


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_every_kind_of_exit_of_a_protected_guest(image: Path, guest: guest_build.Guest, kernel: str) -> None:
    """What it wrote is there after its pages went to the host and came back."""
    kinds = [kind for kind in KINDS if kind not in bare_guest.NOT_PROTECTED]
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    passed, done = bare_guest.smoke(host.Host(kernel=kernel, machine=machine), image, guest, kinds, protected=True)
    assert passed, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert "WARNING: CPU" not in done.console, done.console[-20000:]


def test_protected_guests_that_wait_for_each_others_pieces(image: Path, guest: guest_build.Guest) -> None:
    """Two at once on four CPUs that do without the crypto extensions: each finds what it wrote, and each call comes to its end."""
    kinds = [kind for kind in KINDS if kind not in bare_guest.NOT_PROTECTED]
    machine = qemu.Machine(cpu="cortex-a57", cpus=4, memory=1024, arguments=host.GENERAL_REGISTERS)
    commands = bare_guest.words(kinds, 2)
    run = bare_guest.script(2, machine.gic, commands, protected=True)
    text = f"(\n{run}) > /one 2>&1 &\n(\n{run}) > /other 2>&1 &\nwait\ncat /one /other\n"
    ready = bare_guest.prepared(host.Host(machine=machine), guest, text, protected=True)
    done = host.run(ready, image, timeout=480.0)
    said = f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert done.console.count(f"bare guest: 0{bare_guest.END}") == 2, said
    assert done.console.count("\nPASS ") == 2 * len(commands), said
    assert done.ending is qemu.Ending.OFF, said
    assert "WARNING: CPU" not in done.console, said


@WAYS
def test_the_log_of_instructions_agrees_with_the_counter(image: Path, guest: guest_build.Guest, plain: bool) -> None:
    """On one CPU that is never idle the virtual counter advances by one for sixteen instructions of any level; each reading loses less than one."""
    times = 16
    commands = bare_guest.words(["hypercall", "vgic", "fill-4k", "refill-4k"], times)
    seen = exec_log.of_guest(kvm.measured_host("6.1", "cortex-a57", plain=plain, cpus=1), image, guest, commands)
    assert len(seen.reader.windows) == len(commands) * times
    for at, ticks in enumerate(seen.ticks):
        windows = seen.reader.windows[at * times : (at + 1) * times]
        counted = sum(sum(window.instructions.values()) for window in windows)
        assert abs(counted - ticks * 16) <= 16 * times, f"{commands[at]}: {counted} instructions in the log, {ticks} ticks"
