# SPDX-License-Identifier: Apache-2.0
"""`python -m delphyne.fuzz`: run generated programs in every way there is, say what differs, keep it under build/fuzz."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from delphyne.board.bare.bare import AS, LD, QEMU, BareError, tool
from delphyne.fuzz.campaign import Failure, chunks, judge, keep, replay
from delphyne.fuzz.ways import disagreement
from delphyne.fuzz.workers import Worker

FOLDER = Path("build") / "fuzz"
SEEDS_EACH = 10_000_000
"""Programs between two values of --seed."""


class Campaign:
    """Pieces of work that several threads take, each with a worker of its own."""

    def __init__(self, count: int, seed: int, aarch64: bool, limit: int) -> None:
        """`limit` ends the run after so many failures."""
        self._pieces = chunks(seed * SEEDS_EACH, count)[::-1]
        self._count = count
        self._aarch64 = aarch64
        self._limit = limit
        self._lock = threading.Lock()
        self._done = 0
        self._began = time.monotonic()
        self.failures: list[Failure] = []

    def work(self) -> None:
        """Take pieces until there are none."""
        with Worker() as worker:
            while True:
                with self._lock:
                    if not self._pieces or len(self.failures) >= self._limit:
                        return
                    piece = self._pieces.pop()
                found = judge(piece, worker, self._aarch64)
                with self._lock:
                    self._tell(len(piece), found)

    def _tell(self, number: int, found: list[Failure]) -> None:
        self._done += number
        self.failures += found
        for failure in found:
            place = keep(failure, FOLDER)
            print(f"{failure.report()}\nreplay: python -m delphyne.fuzz --replay {place}\n", flush=True)
        seconds = time.monotonic() - self._began
        print(f"{self._done} of {self._count} programs, {len(self.failures)} disagreements, {seconds:.0f} s", flush=True)

    def run(self, jobs: int) -> None:
        """All pieces, on that many threads."""
        pool = ThreadPoolExecutor(jobs)
        for ended in [pool.submit(self.work) for _ in range(jobs)]:
            ended.result()


def _replay(place: Path) -> int:
    try:
        program = replay(place)
    except (OSError, ValueError) as error:
        print(f"{place}: {error}; give a .json file that the fuzzer wrote", file=sys.stderr)
        return 2
    with Worker() as worker:
        found = worker.run(program)
        booted = worker.boot()
    print(program.listing())
    for way, outcomes in found.items():
        for number, outcome in enumerate(outcomes):
            print(f"{way}, input {number}: {outcome}")
    for _, expected, outcome in booted:
        print(f"AArch64, input 0: {outcome}")
        if outcome != expected:
            return 1
    return 1 if disagreement(found) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: all agree. 1: a disagreement. 2: wrong arguments or a missing tool."""
    parser = argparse.ArgumentParser(prog="delphyne fuzz", description="Run generated programs in every way there is and compare.")
    parser.add_argument("--count", type=int, default=500, help="programs")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same programs")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--limit", type=int, default=10, help="stop after so many disagreements")
    parser.add_argument("--no-aarch64", action="store_true", help="leave out QEMU")
    parser.add_argument("--replay", type=Path, help="run a program that was kept, and show what each way makes of it")
    given = parser.parse_args(arguments)
    if given.count < 1 or given.jobs < 1:
        parser.error("--count and --jobs are 1 or more")
    if given.replay is not None:
        return _replay(given.replay)
    if not given.no_aarch64:
        try:
            for name in (AS, LD, QEMU):
                tool([name, "--version"])
        except BareError as error:
            print(error, file=sys.stderr)
            return 2
    campaign = Campaign(given.count, given.seed, not given.no_aarch64, given.limit)
    try:
        campaign.run(given.jobs)
    except KeyboardInterrupt:
        # Workers end when their pipes close; waiting for the threads would mean waiting for the programs in hand.
        os._exit(130)
    return 1 if campaign.failures else 0


if __name__ == "__main__":
    sys.exit(main())
