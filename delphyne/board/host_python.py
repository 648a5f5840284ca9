# SPDX-License-Identifier: Apache-2.0
"""Debian's Python for the host's initramfs, with the part of its library that `delphyne.client` imports, and the client itself.

Under emulation, reading and compiling sources is what takes time: modules are packed compiled as well where this machine's Python has the version of
Debian's. A script runs a module of the client as `command` says.
"""

from __future__ import annotations

import importlib.util
import py_compile
import sys
import tempfile
from pathlib import Path

from delphyne.board import host_programs
from delphyne.board.debian import CACHE

VERSION = (3, 11)
PROGRAM = "usr/bin/python3.11"
LIBRARY = "usr/lib/python3.11"
EXTENSIONS = ("_ctypes", "mmap")
MODULES = (
    "__future__", "_collections_abc", "_weakrefset", "abc", "codecs", "collections/__init__", "collections/abc", "ctypes/__init__", "ctypes/_endian",
    "encodings/__init__", "encodings/aliases", "encodings/ascii", "encodings/latin_1", "encodings/utf_8", "enum", "functools", "genericpath", "io",
    "keyword", "operator", "os", "posixpath", "reprlib", "signal", "stat", "struct", "threading", "types",
)
"""What the client's imports come to."""
PLACE = "usr/lib/delphyne"
PACKAGE = Path(__file__).resolve().parents[1]


def command(module: str, *arguments: str) -> str:
    """The shell command that runs a module of the client, such as `bare_guest`."""
    return " ".join([f"PYTHONPATH=/{PLACE} /{PROGRAM} -S -P /{PLACE}/delphyne/client/{module}.py", *arguments])


def files() -> tuple[tuple[str, bytes], ...]:
    """Everything that `command` needs, as (path in the image, content). Raises PackageError."""
    found = dict(host_programs.files("python3.11-minimal", PROGRAM))
    for name in EXTENSIONS:
        found.update(host_programs.files("libpython3.11-stdlib", f"{LIBRARY}/lib-dynload/{name}.cpython-311-aarch64-linux-gnu.so"))
    library = CACHE / "programs" / "libpython3.11-stdlib" / LIBRARY
    for module in MODULES:
        found.update(_module(library / f"{module}.py", f"{LIBRARY}/{module}.py"))
    for source in [PACKAGE / "__init__.py", *sorted((PACKAGE / "client").glob("*.py"))]:
        found.update(_module(source, f"{PLACE}/delphyne/{source.relative_to(PACKAGE)}"))
    return tuple(sorted(found.items()))


def _module(source: Path, path: str) -> dict[str, bytes]:
    """A module's source, and the same compiled, to be used without a look at the source."""
    made = {path: source.read_bytes()}
    if sys.version_info[:2] == VERSION:
        with tempfile.NamedTemporaryFile() as compiled:
            py_compile.compile(
                str(source), cfile=compiled.name, dfile=f"/{path}", doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
            )
            made[importlib.util.cache_from_source(path, optimization="")] = Path(compiled.name).read_bytes()
    return made
