# SPDX-License-Identifier: Apache-2.0
"""A hostile host changes what KVM keeps of a protected guest's vCPUs before each entry, and looks at all of it after each exit, by
modules/hostile_vcpu. Catalogue lines H24, H25, H26, and of H28 and H35 what a vCPU carries.

A guest may lose its time by that, and nothing else: it finds all that it had, or it is stopped. What the host did is only worth something where it
was done at exits of every kind, so that is looked at too.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from guest_session import HostSession, RunningGuest, machine, session
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host_python, kmodule, qemu
from delphyne.board import host as host_room
from delphyne.board.guest import build as guest_build
from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.client.bare_guest import READY
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

RAM_MIB = 128
ALL = "scribble controls debug fp vgic exceptions"
"""Modes that leave alone what a guest takes from its host by design."""
STOPPED = {"internal-error", "paused", "io-error", "guest-panicked"}
COPIES = 4
"""How many copies of a vCPU the module tries."""
RUNS = 50
TIMERS, NARROW = 64, 2
"""How often the bare guest uses each register of the physical timer, and runs its programs for AArch32."""
BARE = f"""
insmod /hostile_vcpu.ko
mkfifo /tmp/line
RUN < /tmp/line > /tmp/said 2>&1 &
pid=$!
exec 3> /tmp/line
while ! grep -q '{READY}' /tmp/said && kill -0 $pid; do usleep 100000; done
echo "on $pid {ALL}" > /dev/hostile_vcpu
echo >&3
wait $pid
echo off > /dev/hostile_vcpu
cat /dev/hostile_vcpu /tmp/said
dmesg
"""


@contextmanager
def attacked(built: Built, cpus: int, arguments: str = "") -> Iterator[tuple[HostSession, RunningGuest]]:
    """A host with the module loaded, and a protected guest that has reached its login."""
    shape = Guest("6.1", RAM_MIB, cpus, arguments=f"quiet {arguments}".strip(), protected=True)
    files = (("hostile_vcpu.ko", kmodule.build("hostile_vcpu", "6.1").read_bytes()),)
    with session(Host(kernel="6.1", machine=machine(), files=files), built.image, kernels=("6.1",), protected=(shape,)) as host:
        host.run("insmod /hostile_vcpu.ko")
        yield host, host.boot_guest(shape)


def tell(host: HostSession, command: str) -> str:
    """A command for the module, and what it says of it. PID in it is that of the guest's VMM."""
    return host.run(f"echo {command.replace('PID', '$(cat /tmp/guest0.pid)')} > /dev/hostile_vcpu; cat /dev/hostile_vcpu")


def numbers(said: str, what: str) -> Counter[str]:
    """The numbers of the module's lines about `what`, summed up."""
    lines = re.findall(rf"^hostile_vcpu: {what}:? (.*)$", said, re.MULTILINE)
    assert lines, said
    summed: Counter[str] = Counter()
    for line in lines:
        summed.update({name: int(x) for name, x in re.findall(r"(\w+) (\d+)", line)})
    return summed


def is_stopped(guest: RunningGuest) -> bool:
    """Whether the guest's VMM gives it up within half a minute."""
    for _ in range(300):
        if str(guest.qmp("query-status")["status"]) in STOPPED:
            return True
        time.sleep(0.1)
    return False


def is_well(host: HostSession) -> bool:
    """Whether the host goes on, and has nothing to complain about."""
    return host.run("echo the host is well") == "the host is well" and host.shell.trouble() == []


def test_what_the_host_changes_at_every_entry_is_not_taken(built: Built) -> None:
    """H24, H25, H26: the guest's registers are not the host's, in either direction, not even those with which a CPU begins that it turns on, and
    exceptions come only where an exit allows them."""
    with attacked(built, 2) as (host, guest):
        assert tell(host, f"on PID {ALL}") == ""
        assert guest.run("self-check 4 256 1", 240.0).endswith("0 bad")
        guest.run("dd if=/dev/zero of=/tmp/new bs=1M count=32 2>/dev/null; rm /tmp/new", 120.0)
        assert guest.run("cd /sys/devices/system/cpu/cpu1; echo 0 > online; echo 1 > online; cat online", 120.0) == "1"
        assert guest.run("self-check 4 256 1", 240.0).endswith("0 bad")
        said = tell(host, "off")
        seen = numbers(said, "seen")
        assert (seen["leaked"], seen["wide"], seen["addresses"]) == (0, 0, 0), said
        exits = numbers(said, "exits")
        assert all(exits[kind] for kind in ("interrupt", "call", "wait", "memory", "load", "store", "set")), said
        assert exits["other"] == 0, said
        assert seen["raised"] > 100, said
        assert guest.shell.trouble() == []
        assert is_well(host)


def test_a_register_that_the_host_emulates_is_the_only_one_it_sees(built: Built, guest: guest_build.Guest) -> None:
    """H24: reads and writes of the physical timer's registers, which a stock guest never makes, and (G2) exits of AArch32 at EL0. The guest compares
    what it reads."""
    commands = (f"physicalx{TIMERS}", f"narrowx{NARROW}", "take-4kx4")
    run = host_python.command("bare_guest", "--wait", "--protected", f"/{bare_guest.IMAGE}", "2", "3", *commands)
    files = (("hostile_vcpu.ko", kmodule.build("hostile_vcpu", "6.1").read_bytes()),)
    started = Host(kernel="6.1", machine=qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024), files=files)
    done = host_room.run(bare_guest.prepared(started, guest, BARE.replace("RUN", run), protected=True), built.image, timeout=120.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert bare_guest.has_passed(done.console, len(commands)), done.console[-20000:]
    seen = numbers(done.console, "seen")
    assert (seen["leaked"], seen["wide"], seen["addresses"]) == (0, 0, 0), done.console[-20000:]
    exits = numbers(done.console, "exits")
    assert exits["get"] >= 4 * TIMERS, done.console[-20000:]
    assert exits["set"] >= 5 * TIMERS, done.console[-20000:]
    assert exits["load"] >= NARROW, done.console[-20000:]
    assert exits["store"] >= NARROW, done.console[-20000:]
    assert exits["other"] == 0, done.console[-20000:]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"


def test_a_vcpu_that_nobody_turned_on_does_not_run(built: Built) -> None:
    """H26: before the guest turns a CPU on, after it has turned it off, by copies of its structure; and KVM itself is made to run it."""
    with attacked(built, 2, "maxcpus=1") as (host, guest):
        tell(host, "on PID debug")
        guest.run("true")
        for _ in range(2):
            assert numbers(tell(host, f"run 1 {RUNS}"), "run") == {"refused": 0, "illegal": RUNS, "ran": 0}
            assert numbers(tell(host, f"copies 1 {RUNS}"), "copies") == {"refused": 0, "illegal": COPIES * RUNS, "ran": 0}
            assert guest.run("cd /sys/devices/system/cpu/cpu1; echo 1 > online; cat online; echo 0 > online", 120.0) == "1"
        assert guest.run("self-check 4 256 1", 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        tell(host, "off")
        tell(host, "wake 1")
        assert is_stopped(guest)
        assert is_well(host)


def test_false_answers_are_the_guests_trouble_alone(built: Built) -> None:
    """H24: calls and reads are answered with garbage as well. That guest may do what it likes; nothing else is shown, and everybody else is well."""
    with attacked(built, 1) as (host, guest):
        tell(host, f"on PID {ALL} answers")
        guest.shell.start("self-check 4 256 1")
        host.run("n=0; while [ $n -lt 50 ]; do usleep 200000; n=$((n + 1)); done", 240.0)
        seen = numbers(tell(host, "off"), "seen")
        assert seen["entries"] > 0
        assert (seen["leaked"], seen["wide"]) == (0, 0)
        guest.end()
        assert is_well(host)
        again = host.boot_guest(guest.guest, 1)
        assert again.run("self-check 4 256 1", 240.0).endswith("0 bad")
        assert is_well(host)
