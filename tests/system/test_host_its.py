# SPDX-License-Identifier: Apache-2.0
"""Message-signalled interrupts of a stock host's disk through its ITS, whose registers EL2 looks at: as without EL2, on both kernels.

And a crash kernel that finds LPIs on, with the tables of the kernel before."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from delphyne.board import host_programs, hostimage, kernel_modules, qemu
from delphyne.board.host import Host, run
from delphyne.board.kernels import kernel_file

pytestmark = pytest.mark.system

MODULES = ("virtio_pci", "virtio_blk")
DISK_BYTES = 1 << 20
READ_WHOLE = f"{DISK_BYTES // 4096}+0 records out"
READ = """
while [ ! -b /dev/vda ]; do usleep 10000; done
dd if=/dev/vda of=/dev/null bs=4096 2>&1
dmesg | grep -E 'ITS|GICv3'
grep ITS /proc/interrupts
echo 3 > /proc/sys/vm/drop_caches
dd if=/dev/vda of=/dev/null bs=4096 2>&1
echo read again
grep ITS /proc/interrupts
ls -l /dev/kvm
echo report complete
"""
INTERRUPT = re.compile(r"^ *\d+:((?: +\d+)+) +ITS-(?:PCI-)?MSI\S* .*virtio0-req\.\d+$", re.MULTILINE)


def _interrupts(report: str) -> int:
    """How many the disk has raised, from all queues to all CPUs."""
    return sum(int(count) for line in INTERRUPT.findall(report) for count in line.split())


def _files(kernel: str) -> dict[str, bytes]:
    return kernel_modules.image_files(kernel_file(kernel), MODULES) | {hostimage.SETUP: kernel_modules.LOAD.encode()}


def _machine(folder: Path, memory: int = 1024) -> qemu.Machine:
    disk = folder / "disk"
    disk.write_bytes(bytes(range(256)) * (DISK_BYTES // 256))
    drive = ("-drive", f"if=none,id=disk,file={disk},format=raw,readonly=on", "-device", "virtio-blk-pci,drive=disk")
    return qemu.Machine(cpu="cortex-a57", cpus=2, memory=memory, extra=drive)


@pytest.mark.parametrize("plain", [False, True], ids=["above", "plain"])
@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
def test_a_disk_interrupts_by_messages(debug_image: Path, tmp_path: Path, kernel: str, plain: bool) -> None:
    started = Host(kernel=kernel, machine=_machine(tmp_path), script=READ, files=tuple(_files(kernel).items()), plain=plain)
    done = run(started, debug_image, timeout=120.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "report complete" in done.console, done.console
    first, _, second = done.console.partition("read again")
    assert done.console.count(READ_WHOLE) == 2, done.console
    assert 0 < _interrupts(first) < _interrupts(second), done.console
    assert "may not write" not in done.console, done.console
    assert ("(indirect, " in done.console) is plain, "two levels are not shown to a host above"


AGAIN = "echo \"second kernel: $(uname -r)\"\n" + READ


def test_a_crash_kernel_goes_on_with_the_tables_of_the_one_before(debug_image: Path, tmp_path: Path) -> None:
    """It finds LPIs on and keeps their tables, which are still pinned; those of the ITS it names anew. Its memory was reserved from the start, so
    that no table of the first kernel lies in it: after any other kexec that is chance (`test_host_kexec`)."""
    second = hostimage.build({"second.sh": AGAIN}, files=_files("6.1"))
    files = (
        *_files("6.1").items(), *host_programs.files("kexec-tools", "sbin/kexec"), ("second", kernel_file("6.1").read_bytes()),
        ("second.gz", second.read_bytes()),
    )
    script = """
kexec --load-panic /second --initrd=/second.gz --command-line='console=ttyAMA0 earlycon nr_cpus=1 delphyne.run=second.sh' || exit
echo c > /proc/sysrq-trigger
"""
    machine = _machine(tmp_path, 2048)
    done = run(Host(kernel="6.1", machine=machine, script=script, files=files, arguments="crashkernel=256M"), debug_image, timeout=200.0)
    assert done.ending is qemu.Ending.OFF, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    report = done.console.rpartition("second kernel:")[2]
    assert "Using preallocated redistributor tables" in report, done.console
    assert report.count(READ_WHOLE) == 2, done.console
    assert _interrupts(report.partition("read again")[0]) > 0, done.console
    assert "report complete" in report, done.console
    assert "may not write" not in done.console, done.console
