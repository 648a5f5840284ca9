# SPDX-License-Identifier: Apache-2.0
"""What can be wrong before a module is built, each in one line; that modules build and load is seen by tests/attack."""

from __future__ import annotations

from pathlib import Path

import pytest

from delphyne.board import kmodule
from delphyne.board.debian import PackageError
from delphyne.board.qemu import BoardError


@pytest.mark.parametrize(("base", "package"), [("6.1.0-56", "6.1"), ("6.12.117+deb12", "6.12.117+deb12"), ("6.1.0-100", "6.1")])
def test_kbuild_is_found_as_debian_names_it(base: str, package: str) -> None:
    assert kmodule._kbuild_version(base) == package


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(BoardError, match=r"^there is no module source modules/absent/absent\.c$"):
        kmodule.build("absent", "6.1")


def test_a_missing_tool_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"^no program 'aarch64-linux-gnu-gcc' on this machine \(package gcc-aarch64-linux-gnu\)$"):
        kmodule.build("hostile", "6.1")


def test_only_debian_kernels_have_headers(tmp_path: Path) -> None:
    kernel = tmp_path / "Image"
    kernel.write_bytes(b"")
    with pytest.raises(BoardError, match="Debian's arm64 kernels only") as refused:
        kmodule.kernel_version(str(kernel))
    assert "\n" not in str(refused.value)


class Packages:
    """In place of apt: one package, which is not looked at."""

    def __init__(self, *_: object) -> None:
        pass

    def download(self, *_: str) -> list[Path]:
        return [Path("package.deb")]


def test_headers_outlive_a_link_to_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another tree may share the cache by a link, and be gone when the next one uses what was unpacked."""
    version, cache, link = "6.1.0-56-arm64", tmp_path / "cache", tmp_path / "link"
    cache.mkdir()
    link.symlink_to(cache)
    monkeypatch.setattr(kmodule, "AptRoot", Packages)
    monkeypatch.setattr(kmodule, "_output", lambda *_: "amd64")
    monkeypatch.setattr(kmodule, "unpack", lambda _, at: (at / f"usr/src/linux-headers-{version}/scripts/basic").mkdir(parents=True, exist_ok=True))
    build = kmodule.headers(version, folder=link / "headers")
    link.unlink()
    made = cache / "headers" / version / "usr" / "src"
    assert build.name == f"linux-headers-{version}"
    assert (made / build.name / "Makefile").read_text() == f"include {made.resolve()}/linux-headers-6.1.0-56-common/Makefile\n"


def test_a_shared_header_is_part_of_each_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It lies beside the source, and another header makes another module."""
    source, shared = tmp_path / "modules" / "one" / "one.c", tmp_path / "modules" / "shared.h"
    source.parent.mkdir(parents=True)
    source.write_bytes(b"")
    monkeypatch.setattr(kmodule, "MODULES", shared.parent)
    monkeypatch.setattr(kmodule, "TOOLS", {})
    monkeypatch.setattr(kmodule, "kernel_version", lambda _: "6.1")
    monkeypatch.setattr(kmodule, "headers", lambda _: tmp_path)
    monkeypatch.setattr(kmodule, "_output", lambda *_: "gcc")
    monkeypatch.setattr(kmodule, "_make", lambda _, work, name: (work / f"{name}.ko").write_bytes((work / "shared.h").read_bytes()))
    built = []
    for content in (b"first", b"second"):
        shared.write_bytes(content)
        built.append(kmodule.build("one", "6.1", folder=tmp_path / "built"))
    assert [module.read_bytes() for module in built] == [b"first", b"second"]
