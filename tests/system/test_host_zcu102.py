# SPDX-License-Identifier: Apache-2.0
"""A board that is not `virt`: QEMU's ZCU102 (GICv2, Cadence UART, RAM from address 0), with the device tree of Debian's own kernel.

Debian's driver for that UART is a module, so the boot console shows what the kernel says, and what the script says by way of the kernel's log.
QEMU emulates no ZynqMP firmware: calls of it are answered there as they are without Delphyne.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from delphyne.board import bundle, hostimage, qemu
from delphyne.board.host import kernel_file
from delphyne.board.qemu import Ending, Machine

pytestmark = pytest.mark.system

SCRIPT = """
exec > /dev/kmsg 2>&1
ls -l /dev/kvm
echo "report complete, $(nproc) CPUs"
"""
ARGUMENTS = "earlycon keep_bootcon panic=-1 delphyne.run=run.sh"


def _machine(kernel: Path) -> Machine:
    (tree,) = kernel.parents[1].glob("usr/lib/linux-image-*/xilinx/zynqmp-zcu102-rev1.0.dtb")
    return Machine(board="xlnx-zcu102", cpus=4, memory=2048, extra=("-dtb", str(tree), "-audiodev", "none,id=none"))


def _report(image: Path, machine: Machine, ending: str) -> str:
    done = qemu.run_command(qemu.command(image, machine), timeout=240, until=ending)
    assert done.ending in (Ending.SEEN, Ending.OFF), f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "CPU: All CPU(s) started at EL2" in done.console, done.console
    assert "mode initialized successfully" in done.console, done.console
    assert "report complete, 4 CPUs" in done.console, done.console
    assert "No such file" not in done.console, done.console
    return done.console


@pytest.mark.parametrize("kernel", ["6.12"])
def test_the_kernel_gets_as_far_as_without_delphyne(image: Path, tmp_path: Path, kernel: str) -> None:
    file, initrd = kernel_file(kernel), hostimage.build({"run.sh": SCRIPT})
    machine = _machine(file)
    alone = replace(machine, arguments=f"{ARGUMENTS} kvm-arm.mode=nvhe", extra=(*machine.extra, "-initrd", str(initrd)))
    _report(file, alone, "report complete, 4 CPUs")
    above = _report(bundle.write(tmp_path / "bundle.img", image, file, initrd, ARGUMENTS), machine, "report complete, 4 CPUs")
    assert "Delphyne, a hypervisor in typed Python" in above
    assert "GICv2" in above
