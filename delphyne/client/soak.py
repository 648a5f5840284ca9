# SPDX-License-Identifier: Apache-2.0
"""A storm on a protected guest's pages: the bare guest (board/guest) goes over its pages for ever and compares every word, while the monitor takes
pages from it at random, some in a row, and looks at what it gets.

A page goes to the host by the host's touch alone, by leaving the monitor's map, or by swap. That it was exported anew is seen by its content, which
is another ciphertext each time; what it was is never seen, or that counts as a plaintext page. Where the guest used a page again before the kernel
had swapped it out, the look at it exports it.

Threads: those of the monitor, and one for the storm, which shares nothing with them but the guest's memory and `over`.
"""

from __future__ import annotations

import os
import sys
import threading

from delphyne.client.bare_guest import Command, Monitor, pin
from delphyne.client.memory import PAGE, Memory

PAGES = 512
MARK = (0x5EED_50A4_C0DE).to_bytes(6, "little")
"""What every word of the guest's pages holds (SOAK_MARK in board/guest/program.py)."""
ROUNDS = 16
"""Repetitions in a command; the very first only writes."""
ROW = 32
"""Pages that are taken together, at most."""
TELL = 10_000
"""Exports after which a line says how far the storm is."""
WAYS = ("touch", "drop", "swap")


class Storm:
    """Takes pages until `count` were seen to be exported; `plaintext` of them had what the guest wrote; `asked` were to be swapped."""

    def __init__(self, memory: Memory, seed: int, count: int) -> None:
        self.memory, self.count = memory, count
        self.ways: tuple[str, ...] = WAYS
        self.exports = dict.fromkeys(WAYS, 0)
        self.plaintext = 0
        self.asked = 0
        self.over = False
        self._state = seed
        self._seen = [bytes(PAGE)] * PAGES

    def run(self) -> None:
        """To the end, on another CPU than the guest's where there is one."""
        pin(1)
        told = 0
        while not self.over:
            self.step()
            exports = sum(self.exports.values())
            if exports // TELL > told:
                told = exports // TELL
                print(f"soak: {exports} exports so far, {self.plaintext} plaintext pages", flush=True)

    def _below(self, limit: int) -> int:
        """The next number, from 0 to less than `limit` (Knuth's MMIX generator; its upper bits)."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self._state >> 33) % limit

    def step(self) -> None:
        """Some pages in a row, by one way."""
        pages = 1 + self._below(ROW)
        first, way = self._below(PAGES - pages + 1), self.ways[self._below(len(self.ways))]
        at, size = first * PAGE, pages * PAGE
        if way == "drop":
            self.memory.drop(at, size)
        elif way == "swap":
            self.asked += pages
            self.memory.page_out(at, size)
        self._look(first, way, self.memory.read(at, size))
        self.over = sum(self.exports.values()) >= self.count

    def _look(self, first: int, way: str, data: bytes) -> None:
        for number in range(len(data) // PAGE):
            page = data[number * PAGE : (number + 1) * PAGE]
            self.plaintext += MARK in page
            if page != self._seen[first + number]:
                self._seen[first + number] = page
                self.exports[way] += 1


def swapped() -> int:
    """Pages that the kernel has written to swap since it was booted (/proc/vmstat, pswpout)."""
    with open("/proc/vmstat", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("pswpout "))


class Soak(Monitor):
    """The monitor whose guest goes on until it has compared what the storm took last, or finds a wrong byte."""

    def __init__(self, image: bytes, gic: int, seed: int, count: int) -> None:
        super().__init__(image, [], 1, gic, protected=True)
        self.storm = Storm(self.kept, seed, count)
        self.rounds = 0
        self.last = False

    def _next(self) -> int:
        if self.rounds == 0:
            threading.Thread(target=self.storm.run, daemon=True).start()
        if self.last or self.failures:
            return 0
        self.last = self.storm.over
        self.rounds += ROUNDS
        self.current = Command("soak", False, ROUNDS)
        return self.current.word


def main(arguments: list[str]) -> int:
    """`IMAGE GIC SEED COUNT`; 0 where nothing was lost and nothing seen."""
    path, gic, seed, count = arguments
    with open(path, "rb") as file:
        image = file.read()
    soak = Soak(image, int(gic), int(seed), int(count))
    before = swapped()
    failures = soak.run()
    ways = ", ".join(f"{number} by {way}" for way, number in soak.storm.exports.items())
    print(f"soak: seed {seed}, {sum(soak.storm.exports.values())} exports: {ways}", flush=True)
    print(f"soak: {soak.rounds} rounds, {failures} failures, {soak.storm.plaintext} plaintext pages", flush=True)
    print(f"soak: {soak.storm.asked} pages asked to be swapped, {swapped() - before} were", flush=True)
    return 0 if failures == 0 and soak.storm.plaintext == 0 and soak.storm.over else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the storm's thread may be at work
