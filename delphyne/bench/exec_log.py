# SPDX-License-Identifier: Apache-2.0
"""Boots a host whose QEMU logs what it executes from a certain moment on, and reads the log as it is written.

Up to there the host runs at full speed. Then something on it says that it is ready and waits for a line on the serial port, QEMU's own monitor is
told what to log (to a pipe: nothing is kept), and the line is sent. The end is another text on the serial port.

Threads: one follows the console, one reads the log, one stirs where that is wanted; the caller's waits for what the console says.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from delphyne.bench import trace
from delphyne.board import bare_guest, host, qmp
from delphyne.board.guest import build as guest_build
from delphyne.board.qemu import BUSY, BoardError
from delphyne.client.bare_guest import READY

BOOT_LIMIT, LIMIT = 120.0, 900.0
"""Seconds, of a quiet machine, until the guest may begin, and until it must have ended."""


BLOCKS = ("log in_asm,exec,nochain",)
INSTRUCTIONS = ("singlestep on", *BLOCKS)
"""For `follow`: a line for each translated block, or for each instruction."""


class Reader(Protocol):
    """Who makes something of a log."""

    def read(self, lines: Iterable[str]) -> None:
        """The lines in order."""

    def finish(self) -> None:
        """There are no more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The log that was read, and the steps of the virtual counter between the marks of each command."""

    reader: trace.Reader
    ticks: list[int]


class Follower:
    """The text on a stream, kept up to date by a thread that ends with the stream."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.text = ""
        self._process = process
        self._over = False
        self._news = threading.Condition()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        while data := os.read(self._process.stdout.fileno(), 65536):
            with self._news:
                self.text += data.decode(errors="replace").replace("\r", "")
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def wait(self, what: str, timeout: float) -> None:
        """Until the text holds `what`; BoardError where it does not in `timeout` seconds or before its end."""
        with self._news:
            self._news.wait_for(lambda: what in self.text or self._over, timeout)
            if what not in self.text:
                ending = "ended and did not say" if self._over else f"did not say in {timeout:.0f} s"
                raise BoardError(f"the measured host {ending} {what.strip()!r}:\n{self.text[-1500:]}")


class _Log:
    """The pipe that QEMU writes its log to, and the thread that reads it."""

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self._reader = reader
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        os.mkfifo(path)

    def start(self) -> None:
        """Before QEMU is told of the pipe: whoever opens one end of it waits for the other."""
        self._thread.start()

    def _read(self) -> None:
        with self.path.open(encoding="ascii", errors="replace") as lines:
            try:
                self._reader.read(lines)
                self._reader.finish()
            except trace.TraceError as error:
                self._failure = error
                for _ in lines:  # QEMU must not wait for a reader that has given up
                    pass

    def finish(self) -> None:
        """After QEMU's end: what was wrong with the log is raised here."""
        self._thread.join(60.0)
        if self._failure is not None:
            raise self._failure


@contextmanager
def _running(line: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise BoardError(f"{line[0]} is not installed; install the Debian package qemu-system-arm") from None
    try:
        yield process
    finally:
        process.kill()
        process.wait()


STIR, STIR_SECONDS = b"\0", 0.02


def _stir(process: subprocess.Popen[bytes], over: threading.Event) -> None:
    """Bytes for the serial port, each of them an interrupt."""
    assert process.stdin is not None
    while not over.wait(STIR_SECONDS):
        try:
            process.stdin.write(STIR)
            process.stdin.flush()
        except OSError:
            return


def between(line: list[str], ready: str, over: str, begin: Callable[[], None], *, stirred: bool = False) -> str:
    """Runs a machine by its whole command line until its console says `over`; when it says `ready`, calls `begin` and sends a line. The console's
    text. Raises BoardError.

    `stirred`: it has an interrupt from the serial port now and then. Where a guest's vector cannot be fetched, its exceptions follow each other and
    no instruction is executed; under icount time stands still then, and its timer's interrupt does not come."""
    with _running(line) as process:
        console = Follower(process)
        console.wait(ready, BUSY * BOOT_LIMIT)
        begin()
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        ended = threading.Event()
        stirring = threading.Thread(target=_stir, args=(process, ended), daemon=True)
        if stirred:
            stirring.start()
        try:
            console.wait(over, BUSY * LIMIT)
        finally:
            ended.set()
            if stirred:
                stirring.join()
    return console.text


def follow(
    of: host.Host, image: Path, reader: Reader, settings: tuple[str, ...], ready: str, over: str, begin: Callable[[], None] = lambda: None
) -> str:  # fmt: skip
    """Runs `of`, above `image` or plain, and gives `reader` the log from `ready` to `over`; the console's text. Raises BoardError, TraceError.

    `settings` are lines for QEMU's monitor: what is to be logged, and how it is to be executed; `begin` is called when the host is ready."""
    with tempfile.TemporaryDirectory(prefix="delphyne-trace-") as name:
        log, socket = _Log(Path(name) / "log", reader), Path(name) / "monitor"

        def begin_log() -> None:
            log.start()
            with qmp.session(socket) as monitor:
                monitor.human(f"logfile {log.path}")
                for line in settings:
                    monitor.human(line)
            begin()

        console = between([*host.command(of, image), *qmp.option(socket)], ready, over, begin_log)
        log.finish()
    return console


def of_guest(of: host.Host, image: Path, guest: guest_build.Guest, commands: list[str], *, protected: bool = False) -> Seen:
    """What happened while the guest obeyed `commands` on the host `of`. Raises BoardError, TraceError."""
    text = bare_guest.script(of.machine.cpus, of.machine.gic, commands, wait=True, protected=protected)
    reader = trace.Reader(guest.begin, guest.end)
    ready = bare_guest.prepared(of, guest, text, protected=protected)
    console = follow(ready, image, reader, INSTRUCTIONS, READY, bare_guest.END)
    if not bare_guest.has_passed(console, len(commands)):
        raise BoardError(f"the bare guest failed:\n{console[-1500:]}")
    return Seen(reader, bare_guest.ticks(console))
