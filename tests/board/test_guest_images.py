# SPDX-License-Identifier: Apache-2.0
"""What guests are made of, without a machine: disks, modules in the order of loading, QEMU's command line."""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from delphyne.board import disk, guestimage, host, kernel_modules, vmm
from delphyne.board.debian import PackageError
from delphyne.board.qemu import BoardError, Machine
from delphyne.board.vmm import Guest

EXT2_MAGIC_AT = 1024 + 56
"""Superblock at 1024, s_magic at 56 of it (kernel: fs/ext4/ext4.h)."""


def test_a_disk_holds_its_files_and_is_made_once(tmp_path: Path) -> None:
    files = {"hello": b"hello from a disk\n", "deep/er/data": bytes(range(256)) * 64}
    image = disk.build("some", files, folder=tmp_path)
    data = image.read_bytes()
    assert data[EXT2_MAGIC_AT : EXT2_MAGIC_AT + 2] == b"\x53\xef"
    debugfs = shutil.which("debugfs", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert debugfs is not None, "debugfs is part of e2fsprogs, like mke2fs"
    for path, content in files.items():
        assert subprocess.run([debugfs, "-R", f"cat /{path}", str(image)], capture_output=True, check=True).stdout == content
    stamp = image.stat().st_mtime_ns
    assert disk.build("some", files, folder=tmp_path) == image
    assert image.stat().st_mtime_ns == stamp
    assert disk.build("some", files | {"hello": b"other"}, folder=tmp_path) != image
    assert disk.build("some", files, free=1 << 20, folder=tmp_path) != image
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ext2"] * 3


def test_a_missing_mke2fs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PROGRAM", "no-such-mke2fs")
    with pytest.raises(PackageError, match=r"no-such-mke2fs.*e2fsprogs"):
        disk.build("some", {"a": b"b"}, folder=tmp_path)


def _module(tree: Path, name: str, needs: str, *, packed: bool) -> None:
    """A relocatable ELF file with a .modinfo, as modpost writes one."""
    source = f'.section .modinfo,"a"\n.asciz "license=GPL"\n.asciz "depends={needs}"\n.asciz "name={name}"\n'
    out = tree / "kernel" / f"{name}.ko"
    out.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["aarch64-linux-gnu-as", "-o", str(out), "-"], input=source.encode(), check=True)
    if packed:
        (tree / "kernel" / f"{name}.ko.xz").write_bytes(lzma.compress(out.read_bytes()))
        out.unlink()


@pytest.fixture
def vmlinuz(tmp_path: Path) -> Path:
    """A kernel as a Debian package lays it out, with modules top -> middle-one -> bottom, and one inside."""
    tree = tmp_path / "lib" / "modules" / "1.2-arm64"
    _module(tree, "top", "middle-one,inside", packed=False)
    _module(tree, "middle-one", "bottom", packed=True)
    _module(tree, "bottom", "", packed=False)
    (tree / "modules.builtin").write_text("kernel/lib/inside.ko\n")
    (tmp_path / "boot").mkdir()
    kernel = tmp_path / "boot" / "vmlinuz-1.2-arm64"
    kernel.touch()
    return kernel


def test_modules_come_after_what_they_need(vmlinuz: Path) -> None:
    modules = kernel_modules.closure(vmlinuz, ("top", "inside", "bottom"))
    assert [module.name for module in modules] == ["bottom", "middle_one", "top"]
    assert all(module.data.startswith(b"\x7fELF") for module in modules)
    files = kernel_modules.image_files(vmlinuz, ("top",))
    assert files["modules/ORDER"] == b"bottom\nmiddle_one\ntop\n"
    assert set(files) == {"modules/ORDER", "modules/bottom.ko", "modules/middle_one.ko", "modules/top.ko"}


def test_unknown_modules_and_kernels_without_any_are_named(vmlinuz: Path, tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"vmlinuz-1\.2-arm64 has no module nothing"):
        kernel_modules.closure(vmlinuz, ("nothing",))
    lonely = tmp_path / "elsewhere" / "Image"
    with pytest.raises(PackageError, match="has no modules beside it"):
        kernel_modules.closure(lonely, ("top",))


def test_the_command_line_of_a_guest() -> None:
    line = " ".join(vmm.command(Guest("6.12", 512, 4, gic="3", its=False, transport="pci", backing="memfd"), disk_file="/d", console="stdio"))
    for part in (
        "-machine virt,accel=kvm,gic-version=3,its=off,memory-backend=ram",
        "-object memory-backend-memfd,id=ram,size=512M",
        "-smp 4 -m 512",
        "-kernel /tools/guest/6.12/vmlinuz -initrd /tools/guest/6.12/initrd",
        "virtio-blk-pci,drive=disk",
        "virtio-net-pci,netdev=net,romfile=",
    ):
        assert part in line
    plain = " ".join(vmm.command(Guest(), disk_file="/d", console="stdio"))
    assert "-machine virt,accel=kvm,gic-version=host " in plain
    assert "virtio-blk-device,drive=disk" in plain
    assert "memory-backend" not in plain
    assert "-cpu host " in plain
    assert "-cpu host,aarch64=off " in " ".join(vmm.command(Guest("6.1-armmp"), disk_file="/d", console="stdio"))


@pytest.mark.parametrize("script", [guestimage.INIT, guestimage.SELF_CHECK, guestimage.DHCP, vmm.SETUP, vmm.WRAPPER, vmm.console_command(Guest())])
def test_scripts_are_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_self_check_finds_a_bad_byte(tmp_path: Path) -> None:
    """As a guest runs it, but by this machine's shell: sound memory passes, and a checksum that does not fit is found."""
    script = guestimage.SELF_CHECK.replace("/tmp/", f"{tmp_path}/")
    sound = subprocess.run(["sh", "-s", "4", "8", "3"], input=script, text=True, capture_output=True, check=False)
    assert sound.stdout == "self-check: 4 files of 8 KiB, 3 rounds, 0 bad\n", sound.stderr
    assert sound.returncode == 0
    damaged = script.replace("round=0\n", "round=0\nprintf x >> $place/3\n", 1)
    found = subprocess.run(["sh", "-s", "4", "8", "3"], input=damaged, text=True, capture_output=True, check=False)
    assert found.returncode == 1
    assert found.stdout.count("bad in round ") == 3


def test_guests_need_a_board_with_a_disk() -> None:
    with pytest.raises(BoardError, match="xlnx-zcu102"):
        host.command(host.Host(machine=Machine(board="xlnx-zcu102"), guest_kernels=("6.1",)), Path("image"))
