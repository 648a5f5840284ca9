# SPDX-License-Identifier: Apache-2.0
"""A stock kernel above Delphyne that starts the next one: kexec into the other kernel, and a crash kernel after a panic.

Both times the second kernel has to hear anew that it was booted at EL2, and to find KVM.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import host_programs, hostimage, qemu
from delphyne.board.host import Host, run
from delphyne.board.kernels import kernel_file

pytestmark = pytest.mark.system

SECOND = """
echo "second kernel: $(uname -r), $(nproc) CPUs"
dmesg | grep -E 'CPU: All CPU|Hyp .*mode init'
ls -l /dev/kvm
echo second complete
"""


def _with_kexec(first: str, kernel: str, script: str, arguments: str = "") -> Host:
    """A host with the kernel `first` that holds kexec, the kernel `kernel` as /second, and an initramfs for it.

    There is no ITS: where LPIs are on they stay on, and the next kernel initialises the tables that the first gave them where those lie. Nobody keeps
    that memory from kexec but EFI, which this machine has not (Linux drivers/irqchip/irq-gic-v3-its.c, gic_reserve_range): whether the next kernel is
    put there is chance, with Delphyne and without."""
    second = hostimage.build({"second.sh": SECOND})
    files = (*host_programs.files("kexec-tools", "sbin/kexec"), ("second", kernel_file(kernel).read_bytes()), ("second.gz", second.read_bytes()))
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=2048, extra=("-machine", "its=off"))
    return Host(kernel=first, machine=machine, script=script, files=files, arguments=arguments)


def _second_boot(image: Path, host: Host) -> str:
    done = run(host, image, timeout=200.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert done.console.count("Run /init") == 2, done.console
    report = done.console.rpartition("Run /init")[2]
    assert "second complete" in report, done.console
    assert "started at EL2" in report, done.console
    assert "mode initialized successfully" in report, done.console
    assert "No such file" not in report, done.console
    second = done.console.rpartition("Booting Linux")[2]
    assert "is not served" not in second, done.console
    assert "the next kernel begins at 0x" in done.console, done.console
    return report


@pytest.mark.parametrize(("first", "then"), [("6.1", "6.12"), pytest.param("6.12", "6.1", marks=pytest.mark.slow)])
def test_kexec_into_the_other_kernel(debug_image: Path, first: str, then: str) -> None:
    script = """
kexec --load /second --initrd=/second.gz --command-line='console=ttyAMA0 delphyne.run=second.sh' || exit
echo first loaded
kexec --exec
"""
    report = _second_boot(debug_image, _with_kexec(first, then, script))
    assert f"second kernel: {then}." in report, report
    assert ", 2 CPUs" in report, report


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_panic_boots_the_crash_kernel(debug_image: Path, kernel: str) -> None:
    script = """
kexec --load-panic /second --initrd=/second.gz --command-line='console=ttyAMA0 nr_cpus=1 delphyne.run=second.sh' || exit
echo c > /proc/sysrq-trigger
"""
    report = _second_boot(debug_image, _with_kexec(kernel, kernel, script, "crashkernel=256M"))
    assert f"second kernel: {kernel}." in report, report
    assert ", 1 CPUs" in report, report
