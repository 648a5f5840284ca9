# SPDX-License-Identifier: Apache-2.0
"""`delphyne test`: the rings of tests one after another, the quick ones first, with what each took.

A stage is a command that must exit with 0. The first that fails ends the run: its output is on the screen already, and the closing lines name
it with the command that repeats it alone.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Stage:
    """One command of the test run. `limit` is in seconds; longer is a failure."""

    name: str
    command: tuple[str, ...]
    limit: int


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, *arguments)


QUICK = (
    Stage("style", _python("-m", "ruff", "check", "."), 60),
    Stage("types", _python("-m", "mypy"), 240),
    Stage("subset", _python("-m", "delphyne.cli", "check"), 120),
    Stage("rings 1 and 3: CPython, the simulated machine, differential", _python("-m", "pytest", "-n", "2", "-m", "not slow and not system"), 900),
    Stage("ring 2: proofs", _python("-m", "delphyne.cli", "prove"), 1200),
    Stage("packages for ring 4 (the last that needs the network)", _python("-m", "delphyne.cli", "hostimage"), 900),
    Stage("ring 4: machines in QEMU", _python("-m", "pytest", "-n", "2", "-m", "system and not slow"), 3000),
)

HOSTS = ("tests/system/test_host_boot.py", "tests/system/test_host_kexec.py", "tests/system/test_wiped_memory.py")
STRESS = "tests/system/test_guest_stress.py"
SEEDED = "tests/attack/test_seeded_faults.py"


def _slow(*chosen: str, marks: str = "slow and system", workers: int = 2) -> tuple[str, ...]:
    """pytest for the slow tests that `chosen`, arguments of pytest's, leave."""
    return _python("-m", "pytest", "-n", str(workers), "-m", marks, *chosen)


def _but(*files: str) -> tuple[str, ...]:
    return tuple(f"--ignore={file}" for file in files)


NIGHTLY = (
    *QUICK,
    Stage("kernels for the long tests (network)", _python("-m", "delphyne.cli", "hostimage", "--flavours"), 5400),
    Stage("long: rings 1 to 3", _slow(marks="slow and not system"), 5400),
    Stage("long: stress on a guest's memory", _slow(STRESS, workers=1), 14400),
    Stage("long: attacks", _slow("tests/attack", *_but(SEEDED)), 10800),
    Stage("long: seeded faults", _slow(SEEDED), 10800),
    Stage("long: guests", _slow("tests", *_but(*HOSTS, STRESS, "tests/attack")), 14400),
    Stage("long: hosts", _slow(*HOSTS), 14400),
    Stage("mutants", _python("-m", "delphyne.cli", "prove", "--mutants"), 7200),
    Stage("storm on a protected guest", _python("-m", "delphyne.cli", "soak", "--count", "1000000"), 11000),
    Stage("fuzzer", _python("-m", "delphyne.cli", "fuzz", "--count", "20000"), 14400),
)
"""Every slow test belongs to just one of the stages called long (tests/test_stages.py). The stress has the machine to itself, as kernels'
watchdogs count real seconds."""


class StageError(Exception):
    """No stage has that name."""


def chosen(stages: tuple[Stage, ...], words: list[str]) -> tuple[Stage, ...]:
    """Those of `stages` whose names contain one of `words`, in their order; all of them where there is no word. Raises StageError."""
    for word in words:
        if not any(word in stage.name for stage in stages):
            raise StageError(f"no stage is called '{word}'; there are: {'; '.join(stage.name for stage in stages)}")
    return tuple(stage for stage in stages if not words or any(word in stage.name for word in words))


def run_stages(stages: tuple[Stage, ...]) -> int:
    """Run `stages` in order; 0 when all passed, else the first failing exit code (1 where it ran out of its time)."""
    console = Console(highlight=False, width=max(100, Console().width))
    table = Table("stage", "seconds", "verdict", box=None)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    for number, stage in enumerate(stages, 1):
        console.print(f"[bold]== {number}/{len(stages)} {stage.name}[/bold]")
        started = time.monotonic()
        try:
            code = subprocess.run(stage.command, cwd=ROOT, env=environment, timeout=stage.limit, check=False).returncode
        except subprocess.TimeoutExpired:
            console.print(f"no end after {stage.limit} seconds")
            code = 1
        table.add_row(stage.name, f"{time.monotonic() - started:.0f}", "passed" if code == 0 else "FAILED")
        if code:
            console.print(table)
            console.print(f"failed: {stage.name}; alone: {shlex.join(stage.command)}")
            return code
    console.print(table)
    return 0
