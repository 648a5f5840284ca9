# SPDX-License-Identifier: Apache-2.0
"""The kernel with mainline's pKVM guest driver, without building it: its options, what is said where one is lost or a tool is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from delphyne.board import kernels, pkvm_kernel
from delphyne.board.debian import AptRoot, PackageError
from delphyne.board.qemu import BoardError

MAKE = """#!/bin/sh
for word; do case $word in
O=*) objects=${word#O=} ;;
KCONFIG_ALLCONFIG=*) grep -v "$LOSES" "${word#*=}" > "$objects/.config" ;;
Image) echo "fake.c:1: error: no compiler" >&2; exit 2 ;;
esac; done
"""
"""Takes all options but one, and compiles nothing."""


@pytest.fixture
def fake_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kbuild that is none, first on the PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "make").write_text(MAKE)
    (tmp_path / "bin" / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "tree").mkdir()
    return tmp_path


def test_options_that_are_not_set_are_found() -> None:
    assert pkvm_kernel.not_set(pkvm_kernel.fragment()) == []
    without = pkvm_kernel.fragment().replace("CONFIG_SWIOTLB=y", "# CONFIG_SWIOTLB is not set").replace("CONFIG_PCI=y", "CONFIG_PCI=m")
    assert pkvm_kernel.not_set(without) == ["SWIOTLB", "PCI"]
    assert len(set(pkvm_kernel.OPTIONS)) == len(pkvm_kernel.OPTIONS)


def test_a_source_that_does_not_take_an_option_is_no_kernel(fake_make: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSES", "ARM_PKVM_GUEST")
    with pytest.raises(BoardError, match=r"linux-source-6\.12 does not take CONFIG_ARM_PKVM_GUEST: "):
        pkvm_kernel._compile(fake_make / "tree", fake_make, 1, fake_make / "log")


def test_what_does_not_compile_is_told(fake_make: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOSES", "nothing at all")
    with pytest.raises(BoardError, match=r"linux-source-6\.12 does not build: fake\.c:1: error: no compiler \(.*log has the rest\)"):
        pkvm_kernel._compile(fake_make / "tree", fake_make, 1, fake_make / "log")


def test_missing_tools_are_named_with_what_gets_them(tmp_path: Path) -> None:
    real = shutil.which

    def which(program: str) -> str | None:
        return None if program in ("flex", "bison") else real(program) or f"/usr/bin/{program}"

    with (
        mock.patch.object(AptRoot, "download", return_value=[tmp_path / "source.deb"]),
        mock.patch.object(shutil, "which", which),
        pytest.raises(PackageError, match=r"packages that are not here: bison, flex; python3 bootstrap\.py kernel-tools gets them"),
    ):
        pkvm_kernel.build(folder=tmp_path)


def test_an_image_that_was_built_is_not_built_again(tmp_path: Path) -> None:
    kept = tmp_path / pkvm_kernel._key("source.deb", "gcc 12") / "Image"
    kept.parent.mkdir()
    kept.touch()
    with (
        mock.patch.object(AptRoot, "download", return_value=[tmp_path / "source.deb"]),
        mock.patch.object(pkvm_kernel, "missing_tools", return_value=[]),
        mock.patch.object(subprocess, "run", return_value=subprocess.CompletedProcess([], 0, "gcc 12")),
    ):
        assert pkvm_kernel.build(folder=tmp_path) == kept


def test_it_has_a_name_where_kernels_are_asked_for(tmp_path: Path) -> None:
    with mock.patch.object(pkvm_kernel, "build", return_value=tmp_path / "Image"):
        assert kernels.kernel_file("6.12-pkvm") == tmp_path / "Image"
