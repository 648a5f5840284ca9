# SPDX-License-Identifier: Apache-2.0
"""Makes a fresh checkout ready: Python packages in `.venv`, Debian's tools on the PATH of it.

Runs with nothing but Python 3.11 (with venv) and apt; uses the machine's own pip and apt configuration. As root, missing tools are installed by
apt-get; otherwise their packages are downloaded through a private apt state and unpacked under `build/tools`, with one wrapper each in
`.venv/bin`. Does nothing where everything is there. `make setup` calls it; every other target depends on it. With the word `kernel-tools` it gets
what Linux's own build needs too, which `make guest-pkvm` alone wants.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TOOLS = ROOT / "build" / "tools"
STAMP = VENV / "delphyne-setup"

PACKAGES = {
    "qemu-system-aarch64": "qemu-system-arm",
    "aarch64-linux-gnu-as": "binutils-aarch64-linux-gnu",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "gdb-multiarch": "gdb-multiarch",
    "dtc": "device-tree-compiler",
}
"""Tool on the PATH -> the Debian package that has it."""

KERNEL_TOOLS = {"bc": "bc", "flex": "flex", "bison": "bison"}
"""The same, for the build of a kernel. It wants gcc and make too, which are of no use unpacked somewhere else."""

WRAPPED_PREFIXES = ("aarch64-linux-gnu-",)
"""Packages with many tools: every program of theirs with this prefix gets a wrapper, not the one in PACKAGES alone."""


class SetupError(Exception):
    """Something the user has to mend; the message says what and how."""


def say(text: str) -> None:
    """Progress for people."""
    print(f"setup: {text}", flush=True)


def run(*command: str, what: str, remedy: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run one step; its output is shown only where it fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, cwd=cwd, check=False)
    except FileNotFoundError:
        raise SetupError(f"{what}: no program '{command[0]}' on this machine; {remedy}") from None
    if done.returncode:
        raise SetupError(f"{what} failed; {remedy}\n{done.stdout[-4000:]}")


def wanted_stamp() -> str:
    """What the environment was made from: changes when the pinned packages or this file change."""
    digest = hashlib.sha256()
    for name in ("requirements.txt", "pyproject.toml", "bootstrap.py"):
        digest.update((ROOT / name).read_bytes())
    digest.update(f"{ROOT} {sys.version_info[:3]}".encode())
    return digest.hexdigest()


def make_venv() -> None:
    """Python packages, pinned by version and hash, into `.venv`; and the `delphyne` command."""
    if STAMP.exists() and STAMP.read_text() == wanted_stamp():
        return
    say("making .venv with the pinned Python packages (about a minute)")
    if not (VENV / "bin" / "python").exists():
        try:
            venv.create(VENV, with_pip=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise SetupError(f"cannot make {VENV}: {error}; on Debian: apt-get install python3-venv") from None
    python = str(VENV / "bin" / "python")
    network = "is a package index reachable with this machine's pip configuration?"
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(ROOT / "requirements.txt"),
        what="installing the Python packages of requirements.txt", remedy=network)
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT),
        what="installing delphyne itself", remedy=network)
    STAMP.write_text(wanted_stamp())


def search_path() -> str:
    """The PATH that the tools are looked for on."""
    return f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"


def missing(tools: dict[str, str]) -> list[str]:
    """Packages of the tools that are not there."""
    return sorted({package for tool, package in tools.items() if shutil.which(tool, path=search_path()) is None})


def install_as_root(packages: list[str]) -> None:
    """apt-get install, with a fresh package list."""
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    remedy = f"install by hand: apt-get install {' '.join(packages)}"
    run("apt-get", "update", what="apt-get update", remedy=remedy, env=env)
    run("apt-get", "install", "-y", "--no-install-recommends", *packages, what="apt-get install", remedy=remedy, env=env)


def unpack_privately(packages: list[str]) -> None:
    """Packages and what they depend on, downloaded through a private apt state and unpacked under build/tools."""
    remedy = f"ask an administrator for: apt-get install {' '.join(packages)}"
    state, cache, tree = TOOLS / "apt" / "state", TOOLS / "apt" / "cache", TOOLS / "root"
    for folder in (state / "lists" / "partial", cache / "archives" / "partial", tree):
        folder.mkdir(parents=True, exist_ok=True)
    apt = ("apt-get", "-o", f"Dir::State={state}", "-o", f"Dir::Cache={cache}", "-o", "Dir::State::status=/var/lib/dpkg/status",
           "-o", "Debug::NoLocking=1", "-y", "--no-install-recommends")
    run(*apt, "update", what="reading the package lists", remedy=remedy)
    run(*apt, "--download-only", "install", *packages, what="downloading the tools", remedy=remedy)
    for archive in sorted((cache / "archives").glob("*.deb")):
        run("dpkg-deb", "-x", str(archive), str(tree), what=f"unpacking {archive.name}", remedy=remedy)
    libraries = os.pathsep.join(str(path) for path in sorted({lib.parent for lib in tree.glob("**/*.so*")}))
    wanted = PACKAGES | KERNEL_TOOLS
    programs = [path for path in (tree / "usr" / "bin").iterdir() if path.name in wanted or path.name.startswith(WRAPPED_PREFIXES)]
    places = {"M4": tree / "usr" / "bin" / "m4", "BISON_PKGDATADIR": tree / "usr" / "share" / "bison"}
    settings = "".join(f'{name}="{place}" ' for name, place in places.items() if place.exists())
    for program in programs:
        wrapper = VENV / "bin" / program.name
        extra = f" -L {tree}/usr/share/qemu" if program.name.startswith("qemu-system") else ""
        wrapper.write_text(f'#!/bin/sh\n{settings}LD_LIBRARY_PATH="{libraries}" exec "{program}"{extra} "$@"\n')
        wrapper.chmod(0o755)


def main(words: list[str]) -> int:
    """Set-up as a whole, with the tools for kernels where the word `kernel-tools` is given; 0 when everything is there."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the file must say so on an older Python instead of failing in a module
        print(f"setup: Python 3.11 or newer is needed, this is {sys.version.split()[0]}", file=sys.stderr)
        return 1
    if words not in ([], ["kernel-tools"]):
        print(f"setup: {' '.join(words)}: the only word that this knows is kernel-tools", file=sys.stderr)
        return 1
    tools = PACKAGES | (KERNEL_TOOLS if words else {})
    try:
        make_venv()
        packages = missing(tools)
        if packages:
            say(f"getting Debian packages: {', '.join(packages)}")
            (install_as_root if os.geteuid() == 0 else unpack_privately)(packages)
            packages = missing(tools)
        if packages:
            raise SetupError(f"still missing after the set-up: {', '.join(packages)}")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
