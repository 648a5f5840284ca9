# SPDX-License-Identifier: Apache-2.0
"""Which function of EL2 an instruction belongs to, inlined ones included, by the debug information of the image's ELF file."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from delphyne.board.bare.bare import BareError
from delphyne.board.qemu import VIRT_IMAGE_BASE

ADDR2LINE = "aarch64-linux-gnu-addr2line"


def counts(elf: Path, places: Mapping[int, int]) -> dict[str, int]:
    """Counts by address, as the image runs on QEMU's `virt`, made counts by function, most first."""
    named = names(elf, [pc - VIRT_IMAGE_BASE for pc in places])
    found: Counter[str] = Counter()
    for pc, count in places.items():
        found[named[pc - VIRT_IMAGE_BASE]] += count
    return dict(found.most_common())


def names(elf: Path, addresses: list[int]) -> dict[int, str]:
    """The innermost function at each address of the ELF file, `?` where none is known. Raises BareError where binutils are missing."""
    asked = "".join(f"{address:#x}\n" for address in addresses if address >= 0)
    try:
        done = subprocess.run([ADDR2LINE, "-a", "-f", "-i", "-e", str(elf)], input=asked, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise BareError(f"{ADDR2LINE} is missing: install the Debian package binutils-aarch64-linux-gnu") from None
    found = dict.fromkeys(addresses, "?")
    lines = iter(done.stdout.splitlines())
    for line in lines:
        if line.startswith("0x"):
            name = next(lines)
            found[int(line, 16)] = "?" if name == "??" else name.removeprefix("delphyne.el2.")
    return found
