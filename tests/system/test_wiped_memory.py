# SPDX-License-Identifier: Apache-2.0
"""What a machine's memory holds of a protected guest once its host has turned it off or begun it anew: nothing.

The machine's own QEMU keeps the memory of a machine that is off, and its monitor writes it to a file. The guest makes its text itself, so that it
passed no console.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from guest_session import HostSession, machine, session

from delphyne.board import qmp
from delphyne.board.host import Host
from delphyne.board.qmp import Qmp
from delphyne.board.vmm import Guest

pytestmark = pytest.mark.system

RAM_AT, MIB = 0x4000_0000, 1536
TEXT = b"nobody else has 46656 of these"
MAKE = 'yes "nobody else has $((36 * 36 * 36)) of these" | head -c 4194304 > /tmp/text; wc -c < /tmp/text'
SHAPE = Guest("6.1", 128, 1, arguments="quiet", protected=True)
PATIENCE = 120.0
"""Seconds for the machine to go off."""


def count_of(text: bytes, monitor: Qmp, file: Path) -> int:
    """How many places of the machine's RAM hold `text`."""
    monitor.execute("pmemsave", val=RAM_AT, size=MIB << 20, filename=str(file))
    found, at = 0, -1
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        while (at := memory.find(text, at + 1)) >= 0:
            found += 1
    file.unlink()
    return found


@contextmanager
def watched(image: Path, tmp_path: Path) -> Iterator[tuple[HostSession, Qmp]]:
    """A host whose machine stays where it is when it goes off or begins anew, and its monitor."""
    path = tmp_path / "monitor"
    kept = replace(machine(memory=MIB), extra=(*qmp.option(path), "-action", "reboot=shutdown,shutdown=pause"))
    with session(Host(kernel="6.1", machine=kept), image, kernels=("6.1",), protected=(SHAPE,)) as host, qmp.session(path) as monitor:
        yield host, monitor


@pytest.mark.parametrize("command", ["poweroff -f", pytest.param("reboot -f", marks=pytest.mark.slow)])
def test_nothing_of_a_guest_outlives_the_machine(image: Path, tmp_path: Path, command: str) -> None:
    with watched(image, tmp_path) as (host, monitor):
        guest = host.boot_guest(SHAPE)
        assert guest.run(MAKE) == "4194304"
        assert count_of(TEXT, monitor, tmp_path / "before") >= 1000, "the monitor sees what is in memory"
        host.shell.start(command)
        deadline = time.monotonic() + PATIENCE
        while monitor.execute("query-status")["status"] != "shutdown":
            assert time.monotonic() < deadline, "the machine goes on"
            time.sleep(0.2)
        assert count_of(TEXT, monitor, tmp_path / "after") == 0
