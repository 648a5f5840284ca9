# SPDX-License-Identifier: Apache-2.0
"""A host that runs the bare guest by the small monitor of `delphyne.client`: above Delphyne or plain, the same files and the same commands.

A guest that is to be protected has another image, and the machine below it is marked as development."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from delphyne.board import host as board_host
from delphyne.board import host_python, protected_bare, qemu
from delphyne.board.guest import build as guest_build
from delphyne.board.host import Host

IMAGE = "guest.img"
NO_POLLING = "echo 0 > /sys/module/kvm/parameters/halt_poll_ns\n"
"""A vCPU that waits gives its CPU up at once, however long ago it last ran: otherwise the kernel polls for a while, which is time and not work."""
NOT_PROTECTED = ("refill-4k", "debug")
"""Kinds of exit that a protected guest does not do: what the first makes its monitor lose is lost for good, and it has no debug registers."""
END = " failures\n"
"""How the monitor's last line ends."""


def words(kinds: Sequence[str], times: int, *, simd: Sequence[bool] = (False, True)) -> list[str]:
    """The monitor's arguments for each of `kinds`, `times` times, without and with SIMD in the guest as `simd` says."""
    return [f"{kind}{'+simd' if used else ''}x{times}" for used in simd for kind in kinds]


def script(cpus: int, gic: int, commands: Sequence[str], *, wait: bool = False, protected: bool = False) -> str:
    """What the host runs; with `wait` the monitor stops before the first command until it is given a line."""
    options = [word for word, wanted in (("--wait", wait), ("--protected", protected)) if wanted]
    run = host_python.command("bare_guest", *options, f"/{IMAGE}", str(cpus), str(gic), *commands)
    return f"{NO_POLLING}{run}\ndmesg | grep -iE 'kvm|warn|bug|oops' | tail -20\n"


def prepared(host: Host, guest: guest_build.Guest, text: str, *, protected: bool = False) -> Host:
    """`host` with the monitor, the guest and a script in its initramfs."""
    image = guest.image.read_bytes()
    ready = replace(host, script=text, files=(*host.files, *host_python.files(), (IMAGE, protected_bare.image(image) if protected else image)))
    return replace(ready, machine=replace(host.machine, arguments=board_host.marked(host.machine))) if protected else ready


def smoke(
    host: Host, image: Path, guest: guest_build.Guest, kinds: Sequence[str], *, times: int = 4, timeout: float = 240.0,
    show: Callable[[str], None] | None = None, protected: bool = False,
) -> tuple[bool, qemu.Run]:
    """Boots `host`, above `image` or plain, and lets `guest` cause `kinds` of exit without and with SIMD; whether each passed, and the run."""
    commands = words(kinds, times)
    text = script(host.machine.cpus, host.machine.gic, commands, protected=protected)
    ready = prepared(host, guest, text, protected=protected)
    done = board_host.run(ready, image, timeout=timeout, show=show)
    return has_passed(done.console, len(commands)) and done.ending is qemu.Ending.OFF, done


def has_passed(console: str, commands: int) -> bool:
    """Whether the monitor said so of each of that many commands, and nothing else."""
    return f"bare guest: 0{END}" in console and console.count("\nPASS ") == commands


def ticks(console: str) -> list[int]:
    """What the monitor said of each command that passed: steps of the virtual counter between the marks, all repetitions together."""
    return [int(number) for number in re.findall(r"^PASS .*, (\d+) ticks$", console, re.MULTILINE)]
