# SPDX-License-Identifier: Apache-2.0
"""What people hand over by mistake: each gets one clear line on the console, and the machine does not hang in silence."""

from __future__ import annotations

import gzip
import struct
import subprocess
from pathlib import Path

import pytest

from delphyne.board import qemu
from delphyne.board.host import INITRD_AT, KERNEL_AT, Host, run
from delphyne.board.kernels import kernel_file
from delphyne.board.qemu import Ending, Machine

pytestmark = pytest.mark.system

MACHINE = Machine(cpu="cortex-a57", cpus=1, memory=512)
BTF_HEADER = bytes((0x9F, 0xEB, 1, 0, 24, 0, 0, 0))


@pytest.fixture(scope="module")
def kernel() -> bytes:
    return kernel_file("6.1").read_bytes()


def module(file: Path, at: int, kind: str = "kernel") -> tuple[str, ...]:
    return ("-device", f"guest-loader,addr={at:#x},{kind}={file}" + (",bootargs=panic=-1" if kind == "kernel" else ""))


def lines(image: Path, *extra: str, memory: int = 512, ending: Ending = Ending.OFF, until: str = "") -> list[str]:
    """What the console says after EL2's own start."""
    machine = Machine(cpu=MACHINE.cpu, cpus=1, memory=memory, extra=extra)
    done = qemu.run_command(qemu.command(image, machine), timeout=60, until=until)
    assert done.ending is ending, f"{done.ending.value}\n{done.console}\n{done.complaint}"
    assert "*** delphyne stopped" not in done.console, done.console
    return done.console.splitlines()


def test_no_kernel(image: Path) -> None:
    wanted = "delphyne/0: no host kernel: load one with -device guest-loader,addr=..,kernel=.. or make one file of both with delphyne bundle"
    assert lines(image)[-1] == wanted


def test_no_kernel_but_an_initrd(image: Path, tmp_path: Path) -> None:
    (tmp_path / "initrd").write_bytes(b"\0" * 512)
    assert "no host kernel" in lines(image, *module(tmp_path / "initrd", INITRD_AT, "initrd"))[-1]


def x86_kernel() -> bytes:
    """The start of a bzImage (Linux Documentation/x86/boot.rst): MZ, boot sector signature, HdrS."""
    return (b"MZ".ljust(0x1FE, b"\0") + b"\x55\xaa\xeb\x66HdrS").ljust(1 << 20, b"\x90")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data[: len(data) // 2], "the host kernel is truncated: its file ends before what its header announces"),
        (lambda data: data[:40], "the host kernel is truncated: its file ends before what its header announces"),
        (lambda data: gzip.compress(data[: 1 << 20], 1), "the host kernel is compressed: unpack it first (gunzip)"),
        (lambda data: x86_kernel(), "the host kernel is no arm64 Image: it is for another architecture, or no kernel at all"),
    ],
    ids=["truncated", "only a header", "compressed", "x86"],
)
def test_a_kernel_that_cannot_be_run(image: Path, tmp_path: Path, kernel: bytes, spoil: object, said: str) -> None:
    (tmp_path / "kernel").write_bytes(spoil(kernel))  # type: ignore[operator]
    assert lines(image, *module(tmp_path / "kernel", KERNEL_AT))[-1] == f"delphyne/0: {said}"


def test_two_kernels(image: Path) -> None:
    file = kernel_file("6.1")
    said = lines(image, *module(file, KERNEL_AT), *module(file, KERNEL_AT + 0x400_0000))
    assert said[-1] == "delphyne/0: /chosen has two host kernels or two initrds: load one of each"


def test_a_kernel_at_a_wrong_address(image: Path) -> None:
    assert lines(image, *module(kernel_file("6.1"), KERNEL_AT + 0x1000))[-1] == "delphyne/0: the host kernel does not lie at a multiple of 2 MiB"


def test_an_initrd_in_the_kernels_memory(image: Path, tmp_path: Path, kernel: bytes) -> None:
    """Behind the file, but in what the kernel zeroes for itself."""
    (tmp_path / "initrd").write_bytes(b"\0" * 512)
    inside = KERNEL_AT + int.from_bytes(kernel[16:24], "little") - 0x1000
    assert inside > KERNEL_AT + len(kernel)
    said = lines(image, *module(kernel_file("6.1"), KERNEL_AT), *module(tmp_path / "initrd", inside, "initrd"))
    assert said[-1] == "delphyne/0: the initrd lies in memory that the host kernel takes for itself: load it higher"


def test_little_ram(image: Path) -> None:
    """The addresses that fit 512 MiB are no RAM in 128."""
    said = lines(image, *module(kernel_file("6.1"), KERNEL_AT), memory=128)
    assert said[-1] == "delphyne/0: the host kernel does not lie in RAM: load it lower, or give the machine more RAM"


def test_no_psci(image: Path, tmp_path: Path) -> None:
    """Nobody can turn such a machine off: it stays on, with its line. QEMU writes a PSCI node into every tree that goes through its own boot
    code, so the edited tree is loaded as data, and a few instructions pass its address on."""
    loaded = module(kernel_file("6.1"), KERNEL_AT)
    dump = qemu.command(image, Machine(cpu=MACHINE.cpu, cpus=1, extra=loaded))
    dump[dump.index("-machine") + 1] += f",dumpdtb={tmp_path / 'machine.dtb'}"
    subprocess.run(dump, check=True, capture_output=True, timeout=60)
    source = subprocess.run(["dtc", "-q", "-O", "dts", str(tmp_path / "machine.dtb")], check=True, capture_output=True, text=True).stdout
    assert "psci {" in source
    (tmp_path / "edited.dts").write_text(source.replace("psci {", "removed {").replace("arm,psci", "arm,none"))
    subprocess.run(["dtc", "-q", "-O", "dtb", "-o", str(tmp_path / "tree"), str(tmp_path / "edited.dts")], check=True)
    set_x0, set_x1, branch = 0xD2A0_0000 | 0x4400 << 5, 0xD2A0_0001 | qemu.VIRT_IMAGE_BASE >> 16 << 5, 0xD61F_0020
    (tmp_path / "start").write_bytes(struct.pack("<3I", set_x0, set_x1, branch))
    data = [part for name, at in (("tree", 0x4400_0000), ("start", 0x4600_0000))
            for part in ("-device", f"loader,file={tmp_path / name},addr={at:#x},force-raw=on")]
    wanted = "delphyne/0: the device tree has no PSCI by SMC (/psci, method smc): no CPU can be started, nor the machine turned off"
    lines(image, *loaded, *data, "-device", "loader,addr=0x46000000,cpu-num=0", ending=Ending.SEEN, until=wanted)


def test_entered_at_el1(image: Path) -> None:
    done = qemu.run(image, Machine(cpu="cortex-a57", cpus=1, virtualization=False, extra=module(kernel_file("6.1"), KERNEL_AT)), timeout=60)
    assert done.ending is Ending.OFF, done.console
    assert done.console == "delphyne: entered at EL1; this image needs EL2 (QEMU: -machine virt,virtualization=on)\n"


def test_a_kernel_without_btf_boots_without_kvm(image: Path, tmp_path: Path, kernel: bytes) -> None:
    assert kernel.count(BTF_HEADER) >= 1
    file = tmp_path / "kernel-without-btf"
    file.write_bytes(kernel.replace(BTF_HEADER, bytes(8)))
    done = run(Host(kernel=str(file), machine=Machine(cpu="cortex-a57", cpus=1, memory=1024), script="ls /dev/kvm\necho report complete\n"), image)
    assert done.ending is Ending.OFF, f"{done.ending.value}\n{done.console}"
    assert "it boots without /dev/kvm\n" in done.console, done.console
    assert "CPU: All CPU(s) started at EL1" in done.console, done.console
    report = done.console[done.console.index("Run /init") :]
    assert "/dev/kvm: No such file" in report, done.console
    assert "report complete" in report, done.console
