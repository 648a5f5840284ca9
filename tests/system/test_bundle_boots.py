# SPDX-License-Identifier: Apache-2.0
"""The file with kernel, initrd and command line inside boots where a loader loads nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import bundle, hostimage, qemu
from delphyne.board.kernels import kernel_file
from delphyne.board.qemu import Ending, Machine

pytestmark = pytest.mark.system

SCRIPT = "cat /proc/cmdline\nls -l /dev/kvm\necho report complete\n"


def test_a_bundle_boots_alone(image: Path, tmp_path: Path) -> None:
    initrd = hostimage.build({"run.sh": SCRIPT})
    bundled = bundle.write(tmp_path / "bundle.img", image, kernel_file("6.12"), initrd, "console=ttyAMA0 delphyne.run=run.sh")
    done = qemu.run(bundled, Machine(cpu="cortex-a57", cpus=2, memory=1024), timeout=180)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    report = done.console[done.console.index("Run /init") :]
    assert "CPU: All CPU(s) started at EL2" in done.console, done.console
    assert "console=ttyAMA0 delphyne.run=run.sh\n" in report, done.console
    assert "No such file" not in report, done.console
    assert "report complete" in report, done.console
