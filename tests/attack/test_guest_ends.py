# SPDX-License-Identifier: Apache-2.0
"""What a protected guest leaves behind when it ends by its own doing, or starts another kernel in its place, and what it is afterwards. Catalogue
line G0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from guest_session import HostSession, RunningGuest, goes_off, has_gone_off, look_for, machine, session

from delphyne.board import guestimage, host_programs, host_python
from delphyne.board.host import Host
from delphyne.board.kernels import kernel_file
from delphyne.board.protected_image import PAGE, STUB
from delphyne.board.vmm import Guest
from delphyne.compiler.back import tools
from delphyne.compiler.back.image import Built
from delphyne.el2.arch import psci
from delphyne.el2.guest import abi

pytestmark = pytest.mark.system

RAM_MIB = 128
FIRST, SECOND = "of-the-first-life", "of-the-second-life"
"""Secrets; the guest gets each in two halves, so that no command line holds it."""

CPUS = 2
ALONE = "module_blacklist=guest_dma,virtio_mmio,virtio_pci"
"""On the guest kernel's command line: it uses none of its devices but its console, and shares nothing with its host. What it had shared would stay
so, and the next kernel knows nothing of that (docs/guest-dma.md)."""

AGAIN = f"""{STUB.partition("begin:")[0].format(size=PAGE)}
begin:  adr     x19, calls
next:   ldr     w0, [x19], #4
        cbz     w0, refused
        mov     x1, #{0x4000_0000:#x}
        hvc     #0
        cmn     x0, #4                          // DENIED
        b.eq    next
stop:   b       stop
refused:
        ldr     x0, ={int(psci.PSCI_SYSTEM_OFF):#x}
        hvc     #0
        b       stop
calls:  .word   {int(abi.PROTECT_BEGIN):#x}, {int(abi.PROTECT_MEASURE):#x}, {int(abi.PROTECT_COMMIT):#x}, 0
        .ltorg
        .balign {PAGE}
"""
"""An image that kexec takes for a kernel: it asks to become a protected guest, and turns the guest off where each of the calls is refused."""


def keep(guest: RunningGuest, secret: str) -> None:
    """The guest has the secret in its memory from here on, many times."""
    guest.run(f"for n in $(seq 2000); do echo {secret[:6]}{secret[6:]}; done > /tmp/secrets")
    assert guest.run(f"grep -c {secret[:6]}.*{secret[6:]} /tmp/secrets") == "2000"


def requires_nothing_seen(host: HostSession, *secrets: str) -> None:
    """Root on the host finds none of them in all memory of the guest's QEMU."""
    for secret in secrets:
        hits, looked = look_for(host, secret)
        assert hits == 0, secret
        assert looked >= RAM_MIB


def test_a_guest_that_begins_itself_anew_is_protected_again_and_one_that_goes_off_leaves_nothing(built: Built) -> None:
    """G0: SYSTEM_RESET, SYSTEM_OFF; and no stolen time, of which a host could tell a guest by memory that both reach."""
    shape = Guest("6.1", RAM_MIB, 1, arguments="quiet", protected=True)
    with session(
        Host(kernel="6.1", machine=machine(), files=host_python.files()), built.image, kernels=("6.1",), protected=(shape,)
    ) as host:
        guest = host.start_guest(replace(shape, extra=("-no-shutdown",)))
        guest.boot()
        keep(guest, FIRST)
        guest.shell.start("reboot -f")
        guest.wait_for_login()
        assert guest.run("ls /tmp") == ""
        assert look_for(host, FIRST)[0] == 0
        keep(guest, SECOND)
        assert guest.run("dmesg | grep -ci stolen || true") == "0"
        hits, looked = look_for(host, SECOND)
        assert hits == 0
        assert looked >= RAM_MIB
        assert guest.run("self-check 4 256 2", 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        goes_off(host, guest)
        assert look_for(host, FIRST)[0] == 0
        hits, looked = look_for(host, SECOND)
        assert hits == 0
        assert looked >= RAM_MIB
        guest.end()
        assert host.shell.trouble() == []


def test_a_guest_that_starts_another_kernel_is_protected_still_and_not_anew(built: Built, tmp_path: Path) -> None:
    """G0: a kexec from inside. The next kernel has all CPUs, each begun at its own entry, and memory that the host does not see. Then it asks
    to become a protected guest, which is refused each time."""
    kexec = host_programs.files("kexec-tools", "sbin/kexec")
    (tmp_path / "again.S").write_text(AGAIN)
    tools.run("as", "-o", "again.o", "again.S", cwd=tmp_path)
    tools.run("objcopy", "-O", "binary", "-j", ".text", "again.o", "again", cwd=tmp_path)
    again = ("again", (tmp_path / "again").read_bytes())
    kernel = kernel_file("6.1")
    initrd = guestimage.build(kernel, modules=(), files=dict((*kexec, again))).initrd
    files = (*kexec, ("next", kernel.read_bytes()), ("next.gz", initrd.read_bytes()))
    shape = Guest("6.1", 2 * RAM_MIB, CPUS, arguments=f"quiet {ALONE}", protected=True, files=files)
    with session(
        Host(kernel="6.1", machine=machine(), files=host_python.files()), built.image, kernels=("6.1",), protected=(shape,)
    ) as host:
        guest = host.start_guest(replace(shape, extra=("-no-shutdown",)))
        guest.boot()
        keep(guest, FIRST)
        guest.run("kexec --load /next --initrd=/next.gz --command-line='console=ttyAMA0 quiet'", 120.0)
        guest.shell.start("kexec --exec")
        guest.wait_for_login()
        assert guest.run("ls /tmp; nproc") == str(CPUS)
        cpu = "/sys/devices/system/cpu/cpu1/online"
        assert guest.run(f"echo 0 > {cpu}; echo 1 > {cpu}; cat {cpu}") == "1"
        requires_nothing_seen(host, FIRST)
        keep(guest, SECOND)
        requires_nothing_seen(host, SECOND)
        assert guest.run("self-check 4 256 2", 240.0).endswith("0 bad")
        assert guest.shell.trouble() == []
        guest.run("kexec --load /again", 120.0)
        guest.shell.start("kexec --exec")
        has_gone_off(host, guest)
        requires_nothing_seen(host, FIRST, SECOND)
        guest.end()
        assert host.shell.trouble() == []
