# SPDX-License-Identifier: Apache-2.0
"""QEMU machines: their command lines, and running an image on them with its console captured.

A run ends when the machine turns itself off, when its time is over, or when QEMU refuses; which of these is part of the result. Nothing is
left running.
"""

from __future__ import annotations

import selectors
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

QEMU = "qemu-system-aarch64"
PACKAGE = "qemu-system-arm"
SPICE_PACKAGE = "qemu-system-modules-spice (up to Debian 12 it is in qemu-system-common)"
VIRT_IMAGE_BASE = 0x40200000
"""Where QEMU's `virt` machine puts an arm64 Image that may lie anywhere."""

BUSY = 3
"""Limits in seconds are those of a quiet machine. They only tell what hangs from what is slow, so each is this much longer in fact."""


class BoardError(Exception):
    """What keeps a machine from running, in one line for the user."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine. `memory` is in MiB; `arguments` is the command line of what `-kernel` loads; with `icount` every instruction takes one
    nanosecond, so that counts are exact."""

    cpu: str = "max"
    cpus: int = 2
    memory: int = 512
    gic: int = 3
    board: str = "virt"
    virtualization: bool = True
    icount: bool = False
    arguments: str = ""
    extra: tuple[str, ...] = ()


class Ending(Enum):
    """How a run ended."""

    OFF = "the machine turned itself off"
    TIMEOUT = "its time was over"
    FAILED = "QEMU failed"
    SEEN = "it said what was waited for"


@dataclass(frozen=True, slots=True)
class Run:
    """What came out of a run. `complaint` is what QEMU wrote on stderr."""

    console: str
    ending: Ending
    seconds: float
    complaint: str


def command(image: Path, machine: Machine) -> list[str]:
    """The command line, serial port on stdin and stdout, no monitor, no network."""
    options = [machine.board]
    if machine.board == "virt":
        options += [f"gic-version={machine.gic}"]
    options += [f"virtualization={'on' if machine.virtualization else 'off'}"]
    line = [QEMU, "-machine", ",".join(options)]
    if machine.board == "virt":
        line += ["-cpu", machine.cpu]
    line += ["-smp", str(machine.cpus), "-m", str(machine.memory), "-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", "none"]
    line += ["-no-reboot", "-kernel", str(image)]
    if machine.arguments:
        line += ["-append", machine.arguments]
    if machine.icount:
        line += ["-icount", "shift=0"]
    return line + list(machine.extra)


def require_spice() -> None:
    """BoardError in words where this QEMU has no SPICE, which Debian packages as a module of its own since Debian 13."""
    try:
        done = subprocess.run([QEMU, "-spice", "help"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BoardError(f"{QEMU} is not installed; install the Debian package {PACKAGE}") from None
    if "unix=" not in done.stdout:
        raise BoardError(f"this {QEMU} has no SPICE; install the Debian package {SPICE_PACKAGE}")


def _start(line: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise BoardError(f"{QEMU} is not installed; install the Debian package {PACKAGE}") from None


def run(image: Path, machine: Machine | None = None, *, timeout: float = 60.0, show: Callable[[str], None] | None = None) -> Run:
    """Boots `image`. `show` gets the console's text as it appears. `timeout` is in seconds of real time, of a quiet machine."""
    return run_command(command(image, machine or Machine()), timeout=timeout, show=show)


def run_command(line: list[str], *, timeout: float, show: Callable[[str], None] | None = None, until: str = "") -> Run:
    """Runs a machine by its whole command line; otherwise as `run`. Ends early once the console holds `until`."""
    begun = time.monotonic()
    process = _start(line)
    text = {"out": b"", "error": b""}
    ending = Ending.OFF
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, "out")  # type: ignore[arg-type]
            selector.register(process.stderr, selectors.EVENT_READ, "error")  # type: ignore[arg-type]
            while selector.get_map():
                left = begun + BUSY * timeout - time.monotonic()
                events = selector.select(max(left, 0.0))
                if not events:
                    ending = Ending.TIMEOUT
                    break
                for key, _ in events:
                    data = key.fileobj.read1(65536)  # type: ignore[union-attr]
                    if not data:
                        selector.unregister(key.fileobj)
                        continue
                    text[key.data] += data
                    if show is not None and key.data == "out":
                        show(data.decode(errors="replace").replace("\r", ""))
                if until and until.encode() in text["out"]:
                    ending = Ending.SEEN
                    break
        if ending is Ending.OFF and process.wait() != 0:
            ending = Ending.FAILED
    finally:
        _end(process)
    console = text["out"].decode(errors="replace").replace("\r", "")
    return Run(console, ending, time.monotonic() - begun, text["error"].decode(errors="replace").strip())


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


@contextmanager
def stopped_for_gdb(line: list[str], socket: Path, console: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A machine, by its whole command line, before its first instruction, waiting for gdb on the Unix socket `socket`; its console goes to the file
    `console`."""
    line = list(line)
    line[line.index("stdio")] = f"file:{console}"
    process = _start([*line, "-S", "-gdb", f"unix:{socket},server=on,wait=off"])
    try:
        deadline = time.monotonic() + 20
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise BoardError(f"{QEMU} did not open its gdb socket: {process.stderr.read().decode().strip() if process.stderr else ''}")
            time.sleep(0.02)
        yield process
    finally:
        _end(process)
