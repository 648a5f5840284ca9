# SPDX-License-Identifier: Apache-2.0
"""Runs the GNU tools for AArch64, and says in one line what is wrong where one is missing or refuses."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from delphyne.compiler.back.errors import BackError, ToolMissing

PREFIX = "aarch64-linux-gnu-"
PACKAGE = "binutils-aarch64-linux-gnu"
ROOT = Path(__file__).resolve().parents[3]
"""The folder that holds the `delphyne` package: file names are shown relative to it, so that builds do not depend on where it lies."""


@cache
def shown(file: str) -> str:
    """A source file's name as reports and debug information carry it."""
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_absolute() and path.is_relative_to(ROOT) else file


def run(tool: str, *arguments: str | Path, cwd: Path | None = None) -> str:
    """The output of a tool of the AArch64 binutils, named without its prefix."""
    name = PREFIX + tool
    try:
        done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)
    except FileNotFoundError:
        raise ToolMissing(name, PACKAGE) from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise BackError(f"{name} failed: {' | '.join(said[:8])}")
    return done.stdout


def assemble(source: Path, out: Path, include: Path, symbols: Sequence[str] = ()) -> None:
    """Assemble one file, with line information, into an object that does not depend on where the file lies. `symbols` are defined (as 1) in it."""
    source = source.resolve()
    base = ROOT if source.is_relative_to(ROOT) else source.parent
    flags = ["-march=armv8-a", "--gdwarf-4", "--debug-prefix-map", f"{base}=.", "-I", str(include.resolve()), "-o", str(out.resolve())]
    flags += [part for symbol in symbols for part in ("--defsym", f"{symbol}=1")]
    run("as", *flags, str(source.relative_to(base)), cwd=base)
