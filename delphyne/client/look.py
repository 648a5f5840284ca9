# SPDX-License-Identifier: Apache-2.0
"""Looks for a text in all memory of a process that it can write, as root of the host sees it: /proc/PID/mem (proc_pid_mem(5), proc_pid_maps(5)).

What a protected guest has to itself is exported by EL2 at this touch, so that what is looked through is its ciphertext.
"""

from __future__ import annotations

import os
import sys

PAGE = 4096
PIECE = 64 * PAGE
LINE = 16
LINES = 3
"""Of the bytes that are shown."""
Range = tuple[int, int]
"""The first address, and the one behind the last."""


def ranges(maps: str) -> list[Range]:
    """What the process can write, from the text of /proc/PID/maps."""
    found = []
    for line in maps.splitlines():
        place, rights = line.split()[:2]
        if rights.startswith("rw"):
            first, last = place.split("-")
            found.append((int(first, 16), int(last, 16)))
    return found


def _readable(memory: int, place: int, size: int) -> bytes:
    """What can be read there; nothing where the kernel refuses the first of it (device memory, say)."""
    try:
        return os.pread(memory, size, place)
    except OSError:
        return b""


def count(memory: int, place: Range, text: bytes) -> tuple[int, int]:
    """How often `text` is found in one range, and how many bytes of it could be read. `memory` is a file descriptor."""
    at, last = place
    found = looked = 0
    tail = b""
    while at < last:
        data = _readable(memory, at, min(PIECE, last - at))
        looked += len(data)
        joined = tail + data
        found += joined.count(text)
        tail = joined[max(len(joined) - len(text) + 1, 0) :] if data else b""
        at += len(data) or PAGE
    return found, looked


def _shown(memory: int, place: int) -> str:
    """The first lines of a page, as hexadecimal bytes."""
    data = _readable(memory, place, LINE * LINES)
    return "\n".join(f"{at:08x}  {data[at : at + LINE].hex(' ')}" for at in range(0, len(data), LINE))


def main(arguments: list[str]) -> int:
    """`PID TEXT [OFFSET]`: prints how often TEXT was found in how many MiB, and what is at OFFSET in the largest range, which is a guest's RAM."""
    pid, text, *offset = arguments
    with open(f"/proc/{pid}/maps") as maps:
        places = ranges(maps.read())
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    found = looked = 0
    for place in places:
        hits, read = count(memory, place, text.encode())
        found += hits
        looked += read
    print(f"The host's root looked through {looked >> 20} MiB of the guest's QEMU and found the secret {found} times.")
    if offset:
        print("Where the guest's kernel lies the host sees:")
        print(_shown(memory, max(places, key=lambda place: place[1] - place[0])[0] + int(offset[0], 0)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
