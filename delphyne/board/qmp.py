# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor over a Unix socket (docs/interop/qmp-spec.txt of QEMU), for machines that are told something while they run."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delphyne.board.qemu import BoardError

PATIENCE = 60.0
"""Seconds for an answer: the monitor waits for the machine's CPUs to stop between two instructions."""


def option(path: Path) -> tuple[str, str]:
    """What the command line needs for a monitor at `path`."""
    return "-qmp", f"unix:{path},server=on,wait=off"


class Qmp:
    """One session."""

    def __init__(self, connection: socket.socket) -> None:
        self._stream = connection.makefile("rw")
        self._read()
        self.execute("qmp_capabilities")

    def _read(self) -> dict[str, Any]:
        line = self._stream.readline()
        if not line:
            raise BoardError("QEMU closed its monitor")
        found: dict[str, Any] = json.loads(line)
        return found

    def execute(self, command: str, **arguments: object) -> Any:
        """One command; what it returns. Events that come in between are dropped."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = self._read()
            if "error" in answer:
                raise BoardError(f"QEMU's monitor refuses {command}: {answer['error'].get('desc', '')}")
            if "return" in answer:
                return answer["return"]

    def human(self, line: str) -> None:
        """A line of the monitor for people; raises BoardError where it answers anything, which is how it complains."""
        said = self.execute("human-monitor-command", **{"command-line": line}).strip()
        if said:
            raise BoardError(f"QEMU's monitor says to {line!r}: {said}")


@contextmanager
def session(path: Path) -> Iterator[Qmp]:
    """A session with a machine that was started with `option(path)`."""
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        while True:
            try:
                connection.connect(str(path))
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline:
                    raise BoardError(f"QEMU did not open its monitor at {path}") from None
                time.sleep(0.02)
        yield Qmp(connection)
