# SPDX-License-Identifier: Apache-2.0
"""A process of its own that runs programs, so that LLVM or compiled code may crash or hang without ending the fuzzer."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from delphyne.board.bare.bare import BareError
from delphyne.compiler.back.errors import BackError
from delphyne.fuzz import run_aarch64
from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome
from delphyne.fuzz.ways import CPYTHON, Hook, Run, run_here

LIFETIME = 500
"""Programs after which a worker is replaced: statics and classes of every module that ever ran stay known to the language."""

PATIENCE = 1200.0
"""Seconds after which a process that uses no processor time is given up too."""

BOOT = "boot"
"""Asks the worker to run what it compiled since the last time on AArch64."""


def serve(pipe: Connection, folder: Path, hook: Hook | None) -> None:
    """The worker: runs what comes through the pipe until it closes, and removes `folder` then."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kept: list[tuple[int, str, Run]] = []
    number = 0
    try:
        while True:
            asked = pipe.recv()
            if asked == BOOT:
                pipe.send(_boot(kept, folder))
                kept.clear()
                continue
            number += 1
            path = folder / f"program{number}.py"
            ran = run_here(asked, path, pipe.send, hook)
            if ran.compiled is not None:
                kept.append((number, path.stem, ran))
            pipe.send((number, ran.outcomes))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Whoever asked is gone.
        shutil.rmtree(folder, ignore_errors=True)


def _boot(kept: list[tuple[int, str, Run]], folder: Path) -> dict[int, Outcome]:
    """Outcomes on AArch64 by the programs' numbers."""
    parts = [(stem, ran.program, ran.compiled) for _, stem, ran in kept if ran.compiled is not None]
    if not parts:
        return {}
    try:
        found = run_aarch64.run(parts, folder)
    except (BackError, BareError) as error:
        found = [Outcome(broken=str(error))] * len(parts)
    return {number: outcome for (number, _, _), outcome in zip(kept, found, strict=True)}


class Worker:
    """Runs programs in a child process, which is replaced when it dies."""

    def __init__(self, seconds: float = 60.0, hook: Hook | None = None) -> None:
        """`seconds` of processor time are what one program may take. `hook` must be a module's function."""
        self._seconds = seconds
        self._hook = hook
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._folder: Path | None = None
        self._served = 0
        self._waiting: dict[int, tuple[Program, Outcome]] = {}

    def __enter__(self) -> Self:
        """The process starts with the first program."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process."""
        self._stop()

    def run(self, program: Program) -> dict[str, list[Outcome]]:
        """The outcomes by way; a way that killed the process or did not end is broken, and the ways after it are missing."""
        if self._served >= LIFETIME and not self._waiting:
            self._stop()
        self._served += 1
        way, answer = self._ask(program, CPYTHON)
        if isinstance(answer, tuple):
            number: int = answer[0]
            found: dict[str, list[Outcome]] = answer[1]
            self._waiting[number] = program, found[CPYTHON][0]
            return found
        broken = [Outcome(broken=answer)] * len(program.inputs)
        return {CPYTHON: broken} if way == CPYTHON else {CPYTHON: [Outcome()] * len(program.inputs), way: broken}

    def boot(self) -> list[tuple[Program, Outcome, Outcome]]:
        """Every program since the last boot with what CPython and AArch64 made of its first input."""
        waiting, self._waiting = self._waiting, {}
        if not waiting or self._process is None:
            return []
        _, answer = self._ask(BOOT, BOOT)
        if isinstance(answer, str):
            return [(program, expected, Outcome(broken=answer)) for program, expected in waiting.values()]
        found: dict[int, Outcome] = answer
        return [(*waiting[number], outcome) for number, outcome in found.items()]

    def _ask(self, what: object, way: str) -> tuple[str, Any]:
        """What the process answers, or why it did not (a string); and the way at which it was."""
        pipe = self._start()
        pipe.send(what)
        began, latest = self._used(), time.monotonic() + PATIENCE
        while True:
            if not pipe.poll(1.0):
                if self._used() - began < self._seconds and time.monotonic() < latest:
                    continue
                self._stop()
                return way, f"no answer after {self._seconds:.0f} s of processor time"
            try:
                answer = pipe.recv()
            except (EOFError, ConnectionResetError):
                return way, f"the process ended with status {self._stop()}"
            if not isinstance(answer, str):
                return way, answer
            way = answer

    def _used(self) -> float:
        """Processor time of the process in seconds: on a busy machine the clock says nothing about a program."""
        assert self._process is not None
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _start(self) -> Connection:
        if self._pipe is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._folder = Path(tempfile.mkdtemp(prefix="delphyne-fuzz-"))
            self._process = context.Process(target=serve, args=(theirs, self._folder, self._hook), daemon=True)
            self._process.start()
            theirs.close()
            self._served = 0
            self._waiting = {}
        return self._pipe

    def _stop(self) -> int | None:
        """Ends the process and answers its status."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is None or pipe is None:
            return None
        pipe.close()
        process.join(2.0)
        if process.is_alive():
            process.kill()
            process.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return process.exitcode
