# SPDX-License-Identifier: Apache-2.0
"""Linux kernel modules for Debian's arm64 kernels, built on a machine of another architecture without root.

A module is made of the kernel's header packages (arm64 and all), kbuild's programs (of this machine's architecture) and the cross compiler. The
packages are unpacked together below `build/cache/headers`, one folder for each kernel, where the one absolute path in them is made to fit. What was
built is kept under `build/cache/modules`, named after everything that went into it. Headers in `modules` itself are beside each source.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from delphyne.board.debian import CACHE, AptRoot, PackageError, exclusive, unpack
from delphyne.board.kernels import kernel_file
from delphyne.board.qemu import BoardError

MODULES = Path(__file__).resolve().parents[2] / "modules"
CROSS = "aarch64-linux-gnu-"
TOOLS = {f"{CROSS}gcc": "gcc-aarch64-linux-gnu", f"{CROSS}ld": "binutils-aarch64-linux-gnu", "make": "make", "dpkg": "dpkg"}
"""Programs that a build needs -> their Debian packages."""
LIMIT = 300.0
"""Seconds that kbuild may take."""


def kernel_version(kernel: str) -> str:
    """The release, as uname says it, of what `kernel` (as in `host.Host`) means. Raises PackageError, BoardError."""
    found = re.fullmatch(r"vmlinuz-(.+-arm64)", kernel_file(kernel).name)
    if found is None:
        raise BoardError(f"{kernel}: modules can be built for Debian's arm64 kernels only, whose file is named vmlinuz-VERSION-arm64")
    return found[1]


def headers(version: str, *, folder: Path = CACHE / "headers") -> Path:
    """The build folder of the kernel `version`, unpacked and kept."""
    made = folder / version
    build = made / "usr" / "src" / f"linux-headers-{version}"
    if build.is_dir():
        return build
    base = version.removesuffix("-arm64")
    archives = AptRoot().download(f"linux-headers-{version}", f"linux-headers-{base}-common")
    architecture = _output("dpkg", "--print-architecture")
    tools = AptRoot(CACHE / f"apt-{architecture}", architecture)
    archives += tools.download(f"linux-kbuild-{_kbuild_version(base)}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder))
    for archive in archives:
        unpack(archive, partial)
    unpacked = partial / build.relative_to(made)
    if not (unpacked / "scripts" / "basic").is_dir():
        shutil.rmtree(partial)
        raise PackageError(f"linux-headers-{version} and linux-kbuild do not fit together: has Debian moved kbuild's programs?")
    # The folder itself and not a link to it, which may be gone before the cache is.
    (unpacked / "Makefile").write_text(f"include {build.parent.resolve()}/linux-headers-{base}-common/Makefile\n")
    try:
        partial.rename(made)
    except OSError:  # another process was faster
        shutil.rmtree(partial)
    return build


def _kbuild_version(base: str) -> str:
    """6.1.0-56 has its programs in linux-kbuild-6.1, newer kernels in a package of their own version."""
    return ".".join(base.split(".")[:2]) if re.fullmatch(r"\d+\.\d+\.0-\d+", base) else base


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except FileNotFoundError:
        raise PackageError(f"no program '{command[0]}' on this machine (package {TOOLS.get(command[0], command[0])})") from None
    except subprocess.CalledProcessError as error:
        raise PackageError(f"{' '.join(command)} failed: {error.stderr.strip()}") from None


@exclusive()
def build(name: str, kernel: str, *, folder: Path = CACHE / "modules") -> Path:
    """The module `modules/NAME/NAME.c` for `kernel` (as in `host.Host`), built once for the same source and headers, kernel and compiler.

    Raises PackageError for what cannot be had and BoardError for a source that does not compile."""
    source = MODULES / name / f"{name}.c"
    if not source.is_file():
        raise BoardError(f"there is no module source modules/{name}/{name}.c")
    for program, package in TOOLS.items():
        if shutil.which(program) is None:
            raise PackageError(f"no program '{program}' on this machine (package {package})")
    version = kernel_version(kernel)
    shared = sorted(MODULES.glob("*.h"))
    content = b"".join(file.read_bytes() for file in (source, *shared))
    key = hashlib.sha256(content + version.encode() + _output(f"{CROSS}gcc", "--version").encode()).hexdigest()[:16]
    module = folder / f"{name}-{version}-{key}.ko"
    if module.exists():
        return module
    tree = headers(version)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        for file in (source, *shared):
            shutil.copy(file, work)
        (work / "Makefile").write_text(f"obj-m := {name}.o\n")
        _make(tree, work, name)
        (work / f"{name}.ko").replace(module)
    return module


def _make(tree: Path, work: Path, name: str) -> None:
    """Kbuild in `work`. The compiler is named on the command line, where the packages' own choice of a version of it does not count; a module
    without BTF needs no pahole and loads as well. Kbuild asks for a compiler of this machine's own programs, and compiles none."""
    compilers = (f"CROSS_COMPILE={CROSS}", f"CC={CROSS}gcc", f"HOSTCC={CROSS}gcc", f"HOSTCXX={CROSS}gcc")
    settings = (f"M={work}", "ARCH=arm64", *compilers, "CONFIG_DEBUG_INFO_BTF_MODULES=")
    command = ["make", "-C", str(tree), *settings, "modules"]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise BoardError(f"modules/{name} was not built in {LIMIT:.0f} seconds") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "rror" in line] or done.stderr.splitlines() or ["make said nothing"]
        raise BoardError(f"modules/{name} does not build for {tree.name}: {said[0].strip()}")
