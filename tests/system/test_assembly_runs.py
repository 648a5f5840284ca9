# SPDX-License-Identifier: Apache-2.0
"""Functions of el2.S run in QEMU without Python: index masks, locks, and what a SIMD scope must leave as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from delphyne.board import demo, qemu
from delphyne.compiler import front
from delphyne.compiler.back import layout

pytestmark = pytest.mark.system

HARNESS = Path(__file__).with_name("assembly_harness.S")
ABSENT = ("el1_main", "el2_call", "el2_lower", "el2_secondary", "trap_report", "crash_report", "el2_farewell")
"""What Python would have: nothing here calls it."""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "offsets.inc").write_text(layout.offsets_inc(front.compile_modules(demo.MODULES)))
    for source in (demo.ENTRY / "el2.S", HARNESS):
        subprocess.run(["aarch64-linux-gnu-as", "-I", str(folder), "-o", str(folder / f"{source.stem}.o"), str(source)], check=True)
    objects = [str(folder / "el2.o"), str(folder / "assembly_harness.o")]
    defined = [f"--defsym={name}=park" for name in ABSENT]
    subprocess.run(["aarch64-linux-gnu-ld", "-T", str(demo.ENTRY / "el2.ld"), *defined, "-o", str(folder / "elf"), *objects], check=True)
    subprocess.run(["aarch64-linux-gnu-objcopy", "-O", "binary", str(folder / "elf"), str(folder / "image")], check=True)
    return folder / "image"


@pytest.mark.parametrize(
    ("cpu", "letters"),
    [("cortex-a57", "NLTCQW"), ("a64fx", "NLTCQVW"), ("max,sme=off", "NLTCQVW"), ("max", "NLTCQVSW"), ("max,sve-max-vq=1", "NLTCQVSW")],
)
def test_functions_of_the_assembly_file(harness: Path, cpu: str, letters: str) -> None:
    """N: index masks. L: locks. T: its tickets. C: lines of a range. Q, V, S: SIMD registers, scalable vectors and those of streaming mode are kept
    over a scope.

    W: nobody waits for a lock while EL2 stops."""
    done = qemu.run(harness, qemu.Machine(cpu=cpu, cpus=1, memory=128), timeout=60)
    assert (done.console, done.ending) == (f"{letters}\n", qemu.Ending.OFF), done.complaint
