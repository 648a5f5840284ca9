# SPDX-License-Identifier: Apache-2.0
"""A protected guest whose monitor does something to it between its commands, and how such a guest ends."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from types import FrameType

from delphyne.client.bare_guest import Command, Monitor

AGAIN = 3
"""How often a guest that was stopped is run again."""
Act = Callable[["Steps"], None]


class Steps(Monitor):
    """The guest does `commands`; before each of them but the first the next of `acts` is done."""

    def __init__(self, image: bytes, gic: int, commands: list[Command], acts: list[Act]) -> None:
        super().__init__(image, commands, 1, gic, protected=True)
        self.acts = acts
        self._begun = 0

    def _next(self) -> int:
        if 0 < self._begun <= len(self.acts):
            self.acts[self._begun - 1](self)
        self._begun += 1
        return super()._next()


def once(name: str, times: int = 1) -> Command:
    """A command without SIMD."""
    return Command(name, False, times)


def ending(monitor: Monitor) -> str:
    """Runs the guest to its end: `passed`, `wrong` where it found something, `refused` where it never became protected, `stopped` by EL2. Other
    refusals of KVM's raise OSError, and the guest can be run on."""
    try:
        failures = monitor.run()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return "stopped"
    if failures == 0:
        return "passed"
    return "refused" if monitor.failures == 0 else "wrong"


def ending_within(monitor: Monitor, seconds: int) -> str:
    """The same; `hung` where it does not end in that time."""
    signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        return ending(monitor)
    except TimeoutError:
        return "hung"
    finally:
        signal.alarm(0)


def late(number: int, frame: FrameType | None) -> None:
    """Of an alarm: ends what the main thread does by TimeoutError."""
    raise TimeoutError


def stays_stopped(monitor: Monitor) -> bool:
    """Whether KVM refuses to run the guest, which was stopped, each time. One that has ended by itself is an ordinary guest without memory."""
    return all(ending(monitor) == "stopped" for _ in range(AGAIN))
