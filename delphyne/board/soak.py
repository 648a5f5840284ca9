# SPDX-License-Identifier: Apache-2.0
"""`delphyne soak`: a host above Delphyne that takes a protected guest's pages away at random, by touch, unmapping and swap, while the guest compares
every byte of them (client/soak.py)."""

from __future__ import annotations

import json as json_module
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from delphyne.board import bare_guest, host, host_python, hostimage, kernel_modules, qemu
from delphyne.board.guest import build as guest_build
from delphyne.board.kernels import kernel_file

BOOT_SECONDS, EXPORTS_A_SECOND = 240.0, 100
"""What a slow machine needs at most."""
SWAP = "echo 64M > /sys/block/zram0/disksize && mkswap /dev/zram0 >/dev/null && swapon /dev/zram0\n"
TOLD = re.compile(
    r"^soak: seed (?P<seed>\d+), (?P<exports>\d+) exports: (?P<touch>\d+) by touch, (?P<drop>\d+) by drop, (?P<swap>\d+) by swap\n"
    r"soak: (?P<rounds>\d+) rounds, (?P<failures>\d+) failures, (?P<plaintext>\d+) plaintext pages\n"
    r"soak: (?P<asked>\d+) pages asked to be swapped, (?P<swapped>\d+) were$",
    re.MULTILINE,
)
SO_FAR = re.compile(r"^soak: \d+ exports so far, .*")


class Told(TypedDict):
    """What the storm came to: how often a page was seen to be exported, in all and by each way; rounds of the guest over its pages; commands in which
    it found a wrong byte, and what else went wrong in the guest; pages in which the host saw what the guest wrote; pages that the kernel was asked
    to swap out, and those that it did."""

    seed: int
    exports: int
    touch: int
    drop: int
    swap: int
    rounds: int
    failures: int
    plaintext: int
    asked: int
    swapped: int


def soaked(kernel: str, seed: int, count: int) -> host.Host:
    """The host, with all that it runs."""
    machine = qemu.Machine(cpu="cortex-a57", cpus=2, memory=1024)
    modules = kernel_modules.image_files(kernel_file(kernel), ("zram",)) | {hostimage.SETUP: kernel_modules.LOAD.encode()}
    run = host_python.command("soak", f"/{bare_guest.IMAGE}", str(machine.gic), str(seed), str(count))
    script = f"{SWAP}{run}\ndmesg | grep -iE 'delphyne|warn|bug|oops' | tail -20\n"
    with tempfile.TemporaryDirectory(prefix="delphyne-soak-") as name:
        guest = guest_build.build(Path(name))
        prepared = bare_guest.prepared(host.Host(kernel=kernel, machine=machine), guest, script, protected=True)
    return replace(prepared, files=(*prepared.files, *modules.items()))


def run(kernel: str, seed: int, count: int, image: Path, show: Callable[[str], None] | None = None) -> tuple[Told, qemu.Run]:
    """Boots the host above `image`; what came of it, and the run. Raises BoardError where the storm did not get to its end."""
    done = host.run(soaked(kernel, seed, count), image, timeout=BOOT_SECONDS + count / EXPORTS_A_SECOND, show=show)
    found = TOLD.search(done.console)
    if found is None or done.ending is not qemu.Ending.OFF:
        raise qemu.BoardError(f"the storm of seed {seed} did not end: {done.ending.value} {done.complaint}\n{done.console[-3000:]}")
    told: Told = {name: int(number) for name, number in found.groupdict().items()}  # type: ignore[assignment]
    return told, done


class Progress:
    """Shows how far the storm is, of the console's text as it comes, where it is no part of the result."""

    def __init__(self) -> None:
        self._rest = ""

    def show(self, text: str) -> None:
        """Takes more of the console."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if SO_FAR.fullmatch(line):
                print(line, file=sys.stderr, flush=True)


def is_clean(told: Told, count: int) -> bool:
    """Whether all was exported that was to be, nothing was lost and nothing seen."""
    return told["exports"] >= count and told["failures"] == 0 and told["plaintext"] == 0


def soak(kernel: str, seed: int, count: int, *, json: bool = False) -> bool:
    """Run and print; whether it is clean."""
    with tempfile.TemporaryDirectory(prefix="delphyne-soak-") as name:
        told, _ = run(kernel, seed, count, host.build(Path(name), quiet=True).image, show=Progress().show)
    if json:
        print(json_module.dumps({"kernel": kernel, **told}, indent=2))
    else:
        ways = f"{told['touch']} by touch, {told['drop']} by unmapping, {told['swap']} by swap, which took {told['swapped']} of {told['asked']} pages"
        found = f"{told['failures']} failures in {told['rounds']} rounds of the guest, {told['plaintext']} plaintext pages"
        print(f"seed {seed}: {told['exports']} exports ({ways}), {found}")
    return is_clean(told, count)
