# SPDX-License-Identifier: Apache-2.0
"""Jobs in processes of their own: a proof may change code, hang in the solver or run out of memory without harming the next."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

T = TypeVar("T")


def processors() -> int:
    """How many jobs to run side by side."""
    return min(len(os.sched_getaffinity(0)), 4)


def parallel(jobs: Sequence[Callable[[], T]], seconds: float) -> Iterator[tuple[int, T | None]]:
    """Run each job in a forked child; give (its number, its result) as they end, None for a child that died or ran longer than `seconds`."""
    fork = multiprocessing.get_context("fork")
    waiting = list(enumerate(jobs))[::-1]
    running: dict[Connection, tuple[int, Any, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < processors():
                number, job = waiting.pop()
                ours, theirs = fork.Pipe(duplex=False)
                child = fork.Process(target=_child, args=(job, theirs), daemon=True)
                child.start()
                theirs.close()
                running[ours] = (number, child, time.monotonic() + seconds)
            for pipe in [ready for ready in wait(list(running), timeout=0.5) if isinstance(ready, Connection)]:
                number, child, _ = running.pop(pipe)
                try:
                    result = pipe.recv()
                except EOFError:
                    result = None
                _reap(child, pipe)
                yield number, result
            for pipe, (number, child, deadline) in list(running.items()):
                if time.monotonic() > deadline:
                    del running[pipe]
                    _reap(child, pipe)
                    yield number, None
    finally:
        for pipe, (_, child, _) in running.items():
            _reap(child, pipe)


def _child(job: Callable[[], Any], pipe: Connection) -> None:
    pipe.send(job())
    pipe.close()


def _reap(child: Any, pipe: Connection) -> None:
    pipe.close()
    child.join(0.2)
    if child.is_alive():
        child.kill()
        child.join()
