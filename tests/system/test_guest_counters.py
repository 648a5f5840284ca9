# SPDX-License-Identifier: Apache-2.0
"""A guest counts its own cycles. KVM lends it the processor's counters by events of guests alone, which EL2 turns on as the guest enters and off as
it leaves."""

from __future__ import annotations

import io
import tarfile
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
SERVE = "httpd -p 127.0.0.1:8080 -h /www"
FETCH = "wget -q -O /tmp/python.tar http://10.0.2.2:8080/python.tar && tar -x -C / -f /tmp/python.tar"


def packed(files: tuple[tuple[str, bytes], ...]) -> bytes:
    """Programs, as a tar archive."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, content in files:
            one = tarfile.TarInfo(path)
            one.size, one.mode = len(content), 0o755
            archive.addfile(one, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kernel", [pytest.param("6.1", marks=pytest.mark.slow), "6.12"])
def test_a_guest_counts_its_own_cycles(image: Path, kernel: str, way: str) -> None:
    """Of its user programs, while one runs without a pause."""
    here = Host(kernel=kernel, machine=machine(), files=(("www/python.tar", packed(host_python.files())),), plain=way == "plain")
    with session(here, image) as host:
        host.run(SERVE)
        guest = host.boot_guest(Guest(kernel, 256, 1))
        guest.run(FETCH, 120.0)
        guest.run("while :; do :; done & echo $!")
        said = guest.run(host_python.command("hostile_count", str(SECONDS)), 120.0)
        counted = {kind: int(number) for kind, number in map(str.split, said.splitlines())}
        assert counted["users"] > CYCLES // 2, counted
        assert guest.shell.trouble() == host.shell.trouble() == []
