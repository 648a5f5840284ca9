# SPDX-License-Identifier: Apache-2.0
"""The host kernel's merging of pages with the same content (Linux Documentation/admin-guide/mm/ksm.rst): what it has done, and having it done."""

from __future__ import annotations

FOLDER = "/sys/kernel/mm/ksm"
SPEED = {"pages_to_scan": 5000, "sleep_millisecs": 1, "run": 1}
ROUNDS = 3
"""Scans until a page that no longer changes is merged, if another one has its content: KSM has to see its checksum twice."""


def scans() -> int:
    """How often KSM has gone over all memory that it may merge."""
    with open(f"{FOLDER}/full_scans", encoding="ascii") as file:
        return int(file.read())


def merged() -> int:
    """How many pages of this process are merged with others."""
    with open("/proc/self/ksm_merging_pages", encoding="ascii") as file:
        return int(file.read())


def merge() -> None:
    """What can be merged of all memory that may be is merged when this returns; KSM is at rest again then. Root's."""
    for name, number in SPEED.items():
        _set(name, number)
    last = scans() + ROUNDS
    while scans() < last:
        pass
    _set("run", 0)


def _set(name: str, number: int) -> None:
    with open(f"{FOLDER}/{name}", "w", encoding="ascii") as file:
        file.write(str(number))
