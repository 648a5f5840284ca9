# SPDX-License-Identifier: Apache-2.0
"""Runs a command and counts the instructions of the whole machine until the command says something: user, kernel, guests and EL2.

The counters are the processor's own (INST_RETIRED of PMUv3), asked of the kernel by perf_event_open(2) for CPU 0, for whatever runs there. Under
QEMU's `-icount` they are exact, and each CPU's counter counts what all CPUs execute while that CPU is in the wanted level: on a machine with one CPU
the levels can be told apart, with more only the sum means something. EL2 is in it whether or not the kernel runs there, because a kernel that was
booted at EL2 lets the counter go on at EL2 (PMEVTYPER.NSH).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PERF_EVENT_OPEN = 241
"""arm64's number of the system call (include/uapi/asm-generic/unistd.h)."""
ATTRIBUTE = "<IIQQQQQIIQ"
"""struct perf_event_attr as of its first version: type, size, config, sample_period, sample_type, read_format, flags, wakeup_events, bp_type,
config1."""
HARDWARE, INSTRUCTIONS = 0, 1
PINNED, EXCLUDE_USER, EXCLUDE_KERNEL, EXCLUDE_HYPERVISOR = 1 << 2, 1 << 4, 1 << 5, 1 << 6
CLOSE_ON_EXEC = 8
LEVELS = {
    "all": 0,
    "EL0": EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR,
    "EL1": EXCLUDE_USER | EXCLUDE_HYPERVISOR,
    "EL2": EXCLUDE_USER | EXCLUDE_KERNEL,
}
"""What is counted -> which levels are left out. Guests are in EL0 and EL1."""


class Counter:
    """Instructions of CPU 0 at some levels, from now on."""

    def __init__(self, excluded: int) -> None:
        attribute = struct.pack(ATTRIBUTE, HARDWARE, struct.calcsize(ATTRIBUTE), INSTRUCTIONS, 0, 0, 0, PINNED | excluded, 0, 0, 0)
        library = ctypes.CDLL(None, use_errno=True)
        self.fd = library.syscall(PERF_EVENT_OPEN, attribute, -1, 0, -1, CLOSE_ON_EXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"this kernel gives no counter of instructions: {os.strerror(code)}")

    def read(self) -> int:
        """The count. RuntimeError where the counter did not run all the time."""
        data = os.read(self.fd, 8)
        if len(data) != 8:
            raise RuntimeError("the counter of instructions was taken away")
        return int.from_bytes(data, "little")


def main(arguments: list[str]) -> int:
    """`TEXT COMMAND ..`: shows what the command says until it has said TEXT, ends it, and prints a line `count LEVEL N` for each of LEVELS."""
    text, *command = arguments
    wanted = text.encode()
    near, far = os.pipe()
    counters = {level: Counter(excluded) for level, excluded in LEVELS.items()}
    before = {level: counter.read() for level, counter in counters.items()}
    process = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, far, 1), (os.POSIX_SPAWN_CLOSE, near)])
    os.close(far)
    said = b""
    while wanted not in said:
        data = os.read(near, 4096)
        if not data:
            break
        os.write(1, data)
        said = said[-len(wanted) :] + data
    counts = {level: counter.read() - before[level] for level, counter in counters.items()}
    os.kill(process, 9)
    os.waitpid(process, 0)
    if wanted not in said:
        print(f"\ncount: the command ended without saying {text!r}", flush=True)
        return 1
    print("\n" + "\n".join(f"count {level} {number}" for level, number in counts.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
