# SPDX-License-Identifier: Apache-2.0
"""Root on the host counts a guest's cycles by the processors' own counters: catalogue line H29. What it sees of an ordinary guest shows that it
counts."""

from __future__ import annotations

import pytest
from guest_session import HostSession, machine, session

from delphyne.board import host_python
from delphyne.board.host import Host
from delphyne.board.vmm import Guest
from delphyne.compiler.back.image import Built

pytestmark = pytest.mark.system

SECONDS = 3
CYCLES = SECONDS * 1_000_000_000
"""QEMU's CPUs have a cycle in each nanosecond."""


def counted(host: HostSession, shape: Guest) -> dict[str, int]:
    """What client/hostile_count.py counts while a program runs in the guest without a pause."""
    guest = host.boot_guest(shape)
    guest.shell.start("while :; do :; done")
    said = host.run(host_python.command("hostile_count", str(SECONDS)), 120.0)
    guest.end()
    host.guests.remove(guest)
    return {kind: int(number) for kind, number in map(str.split, said.splitlines())}


@pytest.mark.parametrize("kernel", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_a_host_counts_nothing_of_a_protected_guest(built: Built, kernel: str) -> None:
    """H29: a counter of guests alone stays at zero, and one of user programs has the host's own."""
    ordinary = Guest(kernel, 128, 1)
    protected = Guest(kernel, 128, 1, arguments="quiet", protected=True)
    here = Host(kernel=kernel, machine=machine(), files=host_python.files())
    with session(here, built.image, kernels=(kernel,), protected=(protected,)) as host:
        seen, hidden = counted(host, ordinary), counted(host, protected)
        assert min(seen.values()) > CYCLES // 2, seen
        assert hidden["guests"] == 0, (seen, hidden)
        assert hidden["users"] < CYCLES // 4, (seen, hidden)
        assert host.shell.trouble() == []
