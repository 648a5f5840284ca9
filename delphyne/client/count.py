# SPDX-License-Identifier: Apache-2.0
"""Runs a command and counts the instructions of the whole machine until the command says something: user, kernel, guests and EL2.

The counters are the processor's own (INST_RETIRED of PMUv3), asked of the kernel by perf_event_open(2) for CPU 0, for whatever runs there. Under
QEMU's `-icount` they are exact, and each CPU's counter counts what all CPUs execute while that CPU is in the wanted level: on a machine with one CPU
the levels can be told apart, with more only the sum means something. EL2 is in it whether or not the kernel runs there, because a kernel that was
booted at EL2 lets the counter go on at EL2 (PMEVTYPER.NSH).

The way there can be divided: at each of some texts the counts since the one before are printed, and the command is given a line to read.

While a protected guest runs EL2 has these counters stand still. Its instructions are seen by the clock: under `-icount shift=0` a nanosecond is one
instruction of any level as long as the one CPU never idles (docs/bench.md). So a process of the lowest priority keeps it from that, and what ran in
that process's time, which its own counter says, is taken off.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import time
from collections.abc import Callable

PERF_EVENT_OPEN = 241
"""arm64's number of the system call (include/uapi/asm-generic/unistd.h)."""
ATTRIBUTE = "<IIQQQQQIIQ"
"""struct perf_event_attr as of its first version: type, size, config, sample_period, sample_type, read_format, flags, wakeup_events, bp_type,
config1."""
HARDWARE, CYCLES, INSTRUCTIONS = 0, 0, 1
"""The type of the event, and two events of it."""
PINNED, EXCLUDE_USER, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR, EXCLUDE_HOST = 1 << 2, 1 << 4, 1 << 5, 1 << 6, 1 << 19
CLOSE_ON_EXEC = 8
LEVELS = {
    "all": 0,
    "EL0": EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
    "EL1": EXCLUDE_USER | EXCLUDE_HYPERVISOR,
    "EL2": EXCLUDE_USER | EXCLUDE_KERNEL,
}
"""What is counted -> which levels are left out. Guests are in EL0 and EL1."""


class Counter:
    """An event, of CPU `cpu` or of one process there, at some levels, from now on."""

    def __init__(self, excluded: int, process: int = -1, *, event: int = INSTRUCTIONS, cpu: int = 0) -> None:
        attribute = struct.pack(ATTRIBUTE, HARDWARE, struct.calcsize(ATTRIBUTE), event, 0, 0, 0, PINNED | excluded, 0, 0, 0)
        library = ctypes.CDLL(None, use_errno=True)
        self.fd = library.syscall(PERF_EVENT_OPEN, attribute, process, cpu, -1, CLOSE_ON_EXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"this kernel gives no such counter: {os.strerror(code)}")

    def read(self) -> int:
        """The count. RuntimeError where the counter did not run all the time."""
        data = os.read(self.fd, 8)
        if len(data) != 8:
            raise RuntimeError("the counter was taken away")
        return int.from_bytes(data, "little")


class Busy:
    """All instructions of a machine with one CPU, from now on, but those of a process that uses the time that is left."""

    def __init__(self) -> None:
        self._process = os.fork()
        if self._process == 0:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            while True:
                pass
        self._spent = Counter(0, self._process)

    def read(self) -> int:
        """The count."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW) - self._spent.read()

    def end(self) -> None:
        """The CPU may idle again."""
        os.kill(self._process, 9)
        os.waitpid(self._process, 0)


def divided(arguments: list[str]) -> tuple[list[tuple[bytes, bytes]], list[str]]:
    """The texts that are waited for, each with what the command is then given to read (nothing after the last), and the command."""
    steps = []
    while arguments[0] == "--at":
        steps.append((arguments[1].encode(), arguments[2].encode()))
        arguments = arguments[3:]
    return [*steps, (arguments[0].encode(), b"")], arguments[1:]


def follow(source: int, steps: list[tuple[bytes, bytes]], reached: Callable[[bytes], None]) -> bytes | None:
    """Shows what comes from a file until it had all texts of `steps`, in order, and calls `reached` with the line of each as it comes. The text that
    never came, or None."""
    said = b""
    for text, line in steps:
        while text not in said:
            data = os.read(source, 4096)
            if not data:
                return text
            os.write(1, data)
            said = said[-len(text) :] + data
        reached(line)
        said = said[said.index(text) + len(text) :]
    return None


def main(arguments: list[str]) -> int:
    """`[--busy] [--at TEXT LINE].. TEXT COMMAND ..`: shows what the command says until it has said all texts, in this order, and ends it. At each a
    line `count LEVEL N` is printed for each of LEVELS, of what ran since the one before, and LINE, where not empty, is what the command reads next.
    With `--busy` it is the level `all` alone, protected guests included."""
    busy = Busy() if arguments[0] == "--busy" else None
    steps, command = divided(arguments[1:] if busy else arguments)
    near, far = os.pipe()
    given, typed = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, far, 1), (os.POSIX_SPAWN_CLOSE, near), (os.POSIX_SPAWN_CLOSE, typed)]
    if len(steps) > 1:
        actions.append((os.POSIX_SPAWN_DUP2, given, 0))
    counters: dict[str, Counter | Busy] = {"all": busy} if busy else {level: Counter(excluded) for level, excluded in LEVELS.items()}
    before = {level: counter.read() for level, counter in counters.items()}
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    os.close(far)

    def reached(line: bytes) -> None:
        now = {level: counter.read() for level, counter in counters.items()}
        print("\n" + "\n".join(f"count {level} {now[level] - before[level]}" for level in counters), flush=True)
        before.update({level: counter.read() for level, counter in counters.items()})
        if line:
            os.write(typed, line + b"\n")

    missing = follow(near, steps, reached)
    os.kill(process, 9)
    os.waitpid(process, 0)
    if busy:
        busy.end()
    if missing is not None:
        print(f"\ncount: the command ended without saying {missing.decode()!r}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
