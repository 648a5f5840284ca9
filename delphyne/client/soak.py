# SPDX-License-Identifier: Apache-2.0
"""A storm on a protected guest's pages: the bare guest (board/guest) goes over its pages for ever and compares every word, while the monitor takes
pages from it at random and looks at what it gets.

A page goes to the host by the host's touch alone, by leaving the monitor's map, or by swap. That it was exported anew is seen by its content, which
is another ciphertext each time; what it was is never seen, or that counts as a plaintext page. The kernel swaps few of the pages that it is asked to
swap; the others are exported by the look at them.

Threads: those of the monitor, and one for the storm, which shares nothing with them but the guest's memory and `over`.
"""

from __future__ import annotations

import os
import sys
import threading

from delphyne.client.bare_guest import Command, Monitor
from delphyne.client.memory import PAGE, Memory

PAGES = 512
MARK = (0x5EED_50A4_C0DE).to_bytes(6, "little")
"""What every word of the guest's pages holds (SOAK_MARK in board/guest/program.py)."""
ROUNDS = 16
"""Repetitions in a command; the first only writes."""
WAYS = ("touch", "drop", "swap")


class Storm:
    """Takes pages until `count` were seen to be exported; `plaintext` of them had what the guest wrote."""

    def __init__(self, memory: Memory, seed: int, count: int) -> None:
        self.memory, self.count = memory, count
        self.exports = dict.fromkeys(WAYS, 0)
        self.plaintext = 0
        self.over = False
        self._state = seed
        self._seen = [bytes(PAGE)] * PAGES

    def run(self) -> None:
        """To the end."""
        while not self.over:
            self.step()

    def _below(self, limit: int) -> int:
        """The next number, from 0 to less than `limit` (Knuth's MMIX generator; its upper bits)."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 33) % limit

    def step(self) -> None:
        """One page, by one way."""
        page, way = self._below(PAGES), WAYS[self._below(len(WAYS))]
        at = page * PAGE
        if way == "drop":
            self.memory.drop(at, PAGE)
        elif way == "swap":
            self.memory.page_out(at, PAGE)
        data = self.memory.read(at, PAGE)
        self.plaintext += MARK in data
        if data != self._seen[page]:
            self._seen[page] = data
            self.exports[way] += 1
        self.over = sum(self.exports.values()) >= self.count


class Soak(Monitor):
    """The monitor whose guest goes on until the storm is over, or it finds a wrong byte."""

    def __init__(self, image: bytes, gic: int, seed: int, count: int) -> None:
        super().__init__(image, [], 1, gic, protected=True)
        self.storm = Storm(self.kept, seed, count)
        self.rounds = 0

    def _next(self) -> int:
        if self.rounds == 0:
            threading.Thread(target=self.storm.run, daemon=True).start()
        if self.storm.over or self.failures:
            return 0
        self.rounds += ROUNDS
        self.current = Command("soak", False, ROUNDS)
        return self.current.word


def main(arguments: list[str]) -> int:
    """`IMAGE GIC SEED COUNT`; 0 where nothing was lost and nothing seen."""
    path, gic, seed, count = arguments
    with open(path, "rb") as file:
        image = file.read()
    soak = Soak(image, int(gic), int(seed), int(count))
    failures = soak.run()
    ways = ", ".join(f"{number} by {way}" for way, number in soak.storm.exports.items())
    print(f"soak: seed {seed}, {sum(soak.storm.exports.values())} exports: {ways}", flush=True)
    print(f"soak: {soak.rounds} rounds, {failures} failures, {soak.storm.plaintext} plaintext pages", flush=True)
    return 0 if failures == 0 and soak.storm.plaintext == 0 and soak.storm.over else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the storm's thread may be at work
