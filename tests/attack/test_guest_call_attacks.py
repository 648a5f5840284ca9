# SPDX-License-Identifier: Apache-2.0
"""A hostile protected guest: calls with every kind of argument from two vCPUs at once, by the bare guest (board/guest/calls.py). Catalogue line G1.

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


def test_hostile_calls_from_two_vcpus_at_once(built: Built, guest: guest_build.Guest) -> None:
    """Twice in one guest, and afterwards in a second one, which finds nothing left of the first; and then guests are what they were before."""
    commands = [f"{name}x{ROUNDS}" for name in ATTACKS]
    run = host_python.command("bare_guest", "--protected", f"/{bare_guest.IMAGE}", "2", "3", *commands, *commands, "take-4kx4", "bring-4kx4")
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    ready = bare_guest.prepared(host.Host(kernel="6.1", machine=machine), guest, f"{bare_guest.NO_POLLING}{run}\n{run}\ndmesg\n", protected=True)
    done = host.run(ready, built.image, timeout=240.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console[-20000:]}\n{done.complaint}"
    assert done.console.count(f"bare guest: 0{bare_guest.END}") == 2, done.console[-20000:]
    assert done.console.count(f"\nPASS calls x {ROUNDS}, ") == 4, done.console[-20000:]
    assert done.console.count("\nPASS ") == 8, done.console[-20000:]
    for word in TROUBLE:
        assert word not in done.console, f"{word}\n{done.console[-20000:]}"
