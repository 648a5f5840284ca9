# SPDX-License-Identifier: Apache-2.0
"""The simulated machine that is current, and the points where another CPU may run.

This is all that the language knows of `delphyne.lang.machine`: hardware functions ask `machine()`, and atomics, locks, barriers and TLB
operations call `point()` before they act, which does nothing unless an explorer is at work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from delphyne.lang.machine import Machine

_current: list[Machine] = []


def find_machine() -> Machine | None:
    """The innermost current machine, if there is one."""
    return _current[-1] if _current else None


def machine() -> Machine:
    """The innermost current machine; RuntimeError in words where there is none."""
    if not _current:
        raise RuntimeError("this touches hardware: run it inside `with Machine(..):` of delphyne.lang.machine")
    return _current[-1]


def enter(made: Machine) -> None:
    """Make `made` current."""
    _current.append(made)


def leave(made: Machine) -> None:
    """End what `enter` began."""
    if not _current or _current[-1] is not made:
        raise RuntimeError("machines are left in the order opposite to that in which they were entered")
    _current.pop()


def cpu_number() -> int:
    """The CPU that is running; 0 where there is no machine."""
    return _current[-1].cpu_number if _current else 0


def point(what: str) -> None:
    """Another CPU may run before `what` happens."""
    if _current:
        _current[-1].point(what)


def wait_until(ready: Callable[[], bool], what: str) -> bool:
    """Let other CPUs run until `ready()`; False where nobody else could ever make it so."""
    if ready():
        return True
    return bool(_current) and _current[-1].wait_until(ready, what)
