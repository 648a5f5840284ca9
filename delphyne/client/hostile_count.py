# SPDX-License-Identifier: Apache-2.0
"""Root counts the cycles of the guests that run, by the processors' own counters: on each CPU those that a counter of guests alone has, and those of
every user program, where a guest's EL0 is counted as the host's is. Catalogue line H29."""

from __future__ import annotations

import os
import sys
import time

from delphyne.client.count import CYCLES, EXCLUDE_HOST, EXCLUDE_HYPERVISOR, EXCLUDE_KERNEL, Counter

KINDS = {"guests": EXCLUDE_HOST, "users": EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR}
"""What is counted -> what is left out."""


def main(arguments: list[str]) -> int:
    """`SECONDS`: a line `KIND N` for each of KINDS, with the cycles of all CPUs in so long."""
    counters = {kind: [Counter(excluded, event=CYCLES, cpu=cpu) for cpu in range(os.cpu_count() or 1)] for kind, excluded in KINDS.items()}
    time.sleep(int(arguments[0]))
    for kind, each in counters.items():
        print(f"{kind} {sum(counter.read() for counter in each)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
