# SPDX-License-Identifier: Apache-2.0
"""A guest counts its own cycles. KVM lends it the processor's counters by events of guests alone, which EL2 turns on as the guest enters and off as it
leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_session import machine, session
from guest_ways import WAYS

from delphyne.board import host_python
from delphyne.board.host import Host
from delphyne.board.vmm import Guest

pytestmark = pytest.mark.system

SECONDS = 3
CYCLES = SECONDS * 1_000_000_000
"""QEMU's CPUs have a cycle in each nanosecond."""
LIST = "python.list"
SERVE = f"mkdir /tmp/www; tar c -C / -f /tmp/www/python.tar -T /{LIST}; httpd -p 127.0.0.1:8080 -h /tmp/www"
FETCH = "wget -q -O /tmp/python.tar http://10.0.2.2:8080/python.tar; tar x -C / -f /tmp/python.tar; rm /tmp/python.tar"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", [pytest.param("6.1", marks=pytest.mark.slow), "6.12"])
def test_a_guest_counts_its_own_cycles(image: Path, kernel: str, way: str) -> None:
    """Of its user programs, while one runs without a pause."""
    python = host_python.files()
    names = "".join(f"{path}\n" for path, _ in python)
    here = Host(kernel=kernel, machine=machine(), files=(*python, (LIST, names.encode())), plain=way == "plain")
    with session(here, image) as host:
        host.run(SERVE)
        guest = host.boot_guest(Guest(kernel, 256, 1))
        guest.run(FETCH, 120.0)
        guest.run("while :; do :; done & echo $!")
        said = guest.run(host_python.command("hostile_count", str(SECONDS)), 120.0)
        counted = {kind: int(number) for kind, number in map(str.split, said.splitlines())}
        assert counted["users"] > CYCLES // 2, counted
        assert guest.shell.trouble() == host.shell.trouble() == []
