# SPDX-License-Identifier: Apache-2.0
"""A board that is not `virt`: QEMU's ZCU102 (GICv2, Cadence UART, RAM from address 0), with the device tree of Debian's own kernel.

QEMU emulates no ZynqMP firmware, which the UART's driver asks for its clock: the boot console shows what the kernel says, and what the script says by
way of the kernel's log. Other calls of that firmware are answered there as they are without Delphyne.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board.host import ZCU102, Host, run, zcu102
from delphyne.board.kernels import kernel_file
from delphyne.board.qemu import Ending

pytestmark = pytest.mark.system

SCRIPT = """
exec > /dev/kmsg 2>&1
ls -l /dev/kvm
echo "report complete, $(nproc) CPUs"
"""


def _console(image: Path, *, plain: bool) -> str:
    machine = zcu102(kernel_file("6.12"))
    assert machine.board == ZCU102
    done = run(Host(kernel="6.12", machine=machine, script=SCRIPT, arguments="panic=-1", plain=plain), image, timeout=240)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "CPU: All CPU(s) started at EL2" in done.console, done.console
    assert "mode initialized successfully" in done.console, done.console
    assert "report complete, 4 CPUs" in done.console, done.console
    assert "No such file" not in done.console, done.console
    return done.console


def test_the_kernel_gets_as_far_as_without_delphyne(image: Path) -> None:
    _console(image, plain=True)
    above = _console(image, plain=False)
    assert "Delphyne, a hypervisor in typed Python" in above
    assert "GICv2" in above
