# SPDX-License-Identifier: Apache-2.0
"""A hostile protected guest, played by the bare guest: calls with every kind of argument from two vCPUs at once (board/guest/calls.py), instructions
and numbers of calls that are not its business (odd.py), AArch32 (narrow.py), its own tables in odd places (walks.py), and devices that it has not
mapped (devices.py). Catalogue lines G1, G2 and G5.

Each answer is looked at in the guest, and what it wrote before is there afterwards. The same calls one by one, and that nothing else changes, are in
tests/guest/test_guest_calls.py.
"""

from __future__ import annotations

import pytest
from hostile_kvm import TROUBLE

from delphyne.board import bare_guest, host, host_python, qemu
from delphyne.board.guest import build as guest_build
from delphyne.client.bare_guest import ATTACKS
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

ROUNDS = 16
TIMES = 2
PROCESSORS = [("6.1", "cortex-a57"), ("6.12", "max")]
"""The second has every extension that QEMU knows, of which a protected guest gets few."""


def console(built: Built, guest: guest_build.Guest, kernel: str, cpu: str, commands: list[str]) -> str:
    """What a host says in which two guests did `commands` and then, as guests should, some more."""
    run = host_python.command("bare_guest", "--protected", f"/{bare_guest.IMAGE}", "2", "3", *commands, "take-4kx4", "bring-4kx4")
    machine = qemu.Machine(cpu=cpu, cpus=2, memory=1024)
    ready = bare_guest.prepared(host.Host(kernel=kernel, machine=machine), guest, f"{bare_guest.NO_POLLING}{run}\n{run}\ndmesg\n", protected=True)
    done = host.run(ready, built.image, timeout=240.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert done.console.count(f"bare guest: 0{bare_guest.END}") == 2, done.console[-20000:]
    assert done.console.count("\nPASS ") == 2 * (len(commands) + 2), done.console[-20000:]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
    return done.console


def test_hostile_calls_from_two_vcpus_at_once(built: Built, guest: guest_build.Guest) -> None:
    """Twice in one guest, and afterwards in a second one, which finds nothing left of the first; and then guests are what they were before."""
    said = console(built, guest, "6.1", "cortex-a57", [f"callsx{ROUNDS}", f"callsx{ROUNDS}"])
    assert said.count(f"\nPASS calls x {ROUNDS}, ") == 4, said[-20000:]


@pytest.mark.parametrize(("kernel", "cpu"), PROCESSORS)
def test_odd_instructions_and_tables_come_to_an_end(built: Built, guest: guest_build.Guest, kernel: str, cpu: str) -> None:
    """G2: extensions that it has not got, registers of others, calls of any number and immediate, AArch32 at EL0; G5: its tables exported, shared,
    in a device, in nothing, in themselves. And what it has enrolled for: no device that it has not mapped. What each comes to is checked in the
    guest."""
    attacks = [name for name in ATTACKS if name != "calls"]
    said = console(built, guest, kernel, cpu, [f"{name}x{TIMES}" for name in attacks])
    for name in attacks:
        assert said.count(f"\nPASS {name} x {TIMES}, ") == 2, said[-20000:]
