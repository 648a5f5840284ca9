# SPDX-License-Identifier: Apache-2.0
"""What people name a kernel by: a line such as "6.1" or "6.12-rt", a Debian package, or a file; or `pkvm_kernel.NAME`, which is built."""

from __future__ import annotations

from pathlib import Path

from delphyne.board import debian, pkvm_kernel, qemu


def kernel_file(name: str) -> Path:
    """The vmlinuz that `name` means. Raises BoardError or PackageError."""
    path = Path(name)
    if path.is_file():
        return path
    if "/" in name:
        raise qemu.BoardError(f"{name}: no such kernel file")
    return pkvm_kernel.build() if name == pkvm_kernel.NAME else debian.kernel(name)
