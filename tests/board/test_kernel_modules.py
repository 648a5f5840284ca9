# SPDX-License-Identifier: Apache-2.0
"""Modules for the initramfs: in the order in which they can be loaded; and which kernels, symbols and boards a name stands for."""

from __future__ import annotations

import lzma
import re
import subprocess
from pathlib import Path

import pytest

from delphyne.board import debian, host, kernel_modules, kernels
from delphyne.board.qemu import BoardError


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A kernel's package, unpacked: `top` needs `left-side` and `right`, `right` needs `base`, and so does `left_side`, which is compressed."""
    drivers = tmp_path / "linux-image-1" / "lib/modules/1/kernel/drivers"
    drivers.mkdir(parents=True)
    for name, needs in (("top", "left-side,right"), ("left_side", "base"), ("right", "base"), ("base", ""), ("other", "")):
        source = f'.section .modinfo,"a"\n.asciz "license=GPL"\n.asciz "depends={needs}"\n.asciz "name={name}"\n'
        made = drivers / f"{name}.ko"
        subprocess.run(["aarch64-linux-gnu-as", "-o", str(made), "-"], input=source, text=True, check=True)
        if name == "left_side":
            made.with_suffix(".ko.xz").write_bytes(lzma.compress(made.read_bytes()))
            made.unlink()
    vmlinuz = tmp_path / "linux-image-1" / "boot" / "vmlinuz-1"
    vmlinuz.parent.mkdir()
    vmlinuz.touch()
    (tmp_path / "linux-image-1" / "lib/modules/1/modules.builtin").write_text("kernel/drivers/built-in.ko\n")
    return vmlinuz


def test_each_module_comes_after_what_it_needs_and_once(kernel: Path) -> None:
    files = kernel_modules.image_files(kernel, ("top", "right", "built_in"))
    assert files.pop("modules/ORDER") == b"base\nleft_side\nright\ntop\n"
    assert sorted(files) == [f"modules/{name}.ko" for name in ("base", "left_side", "right", "top")]
    assert all(content.startswith(b"\x7fELF") for content in files.values())
    assert kernel_modules.image_files(kernel, ("right",), options={"right": "size=4"})["modules/ORDER"] == b"base\nright size=4\n"
    with pytest.raises(debian.PackageError, match="no module unheard_of"):
        kernel_modules.image_files(kernel, ("unheard-of",))


def test_a_kernel_that_is_only_a_file_has_no_modules(tmp_path: Path) -> None:
    with pytest.raises(debian.PackageError, match="has no modules beside it"):
        kernel_modules.image_files(tmp_path / "boot" / "vmlinuz-1", ("virtio_gpu",))


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("6.1", "linux-image-6.1.0-56-arm64"),
        ("6.1-rt", "linux-image-6.1.0-56-rt-arm64"),
        ("6.1-cloud", "linux-image-6.1.0-56-cloud-arm64"),
        ("6.12", "linux-image-6.12.117+deb12-arm64"),
        ("6.12-rt", "linux-image-6.12.117+deb12-rt-arm64"),
        ("6.12-cloud", "linux-image-6.12.117+deb12-cloud-arm64"),
        ("6.1-armmp", "linux-image-6.1.0-56-armmp-lpae"),
    ],
)
def test_a_line_stands_for_the_packages_of_one_flavour(line: str, package: str) -> None:
    patterns = debian.KERNELS | debian.FLAVOURS | debian.KERNELS32
    assert [name for name in patterns if re.fullmatch(patterns[name], package)] == [line]


def test_a_kernel_may_be_named_by_its_package(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(debian, "kernel", lambda name: asked.append(name) or kernel)
    assert kernels.kernel_file("linux-image-6.1.0-56-rt-arm64") == kernel
    assert asked == ["linux-image-6.1.0-56-rt-arm64"]
    assert kernels.kernel_file(str(kernel)) == kernel
    with pytest.raises(BoardError, match="no such kernel file"):
        kernels.kernel_file("elsewhere/vmlinuz")
    assert len(asked) == 1


def test_a_board_needs_the_device_tree_of_the_kernels_package(kernel: Path) -> None:
    with pytest.raises(BoardError, match="no device tree for the ZCU102"):
        host.zcu102(kernel)
    tree = kernel.parents[1] / "usr/lib/linux-image-1/xilinx/zynqmp-zcu102-rev1.0.dtb"
    tree.parent.mkdir(parents=True)
    tree.touch()
    assert str(tree) in host.zcu102(kernel).extra


def test_symbols_of_a_kernel_are_used_where_they_are(kernel: Path, tmp_path: Path) -> None:
    assert debian.kernel_symbols(kernel, fetch=False, folder=tmp_path / "symbols") is None
    place = tmp_path / "symbols" / "linux-image-1" / "usr/lib/debug/boot/vmlinux-1"
    place.parent.mkdir(parents=True)
    place.touch()
    assert debian.kernel_symbols(kernel, fetch=False, folder=tmp_path / "symbols") == place
