# SPDX-License-Identifier: Apache-2.0
"""A host that runs the bare guest by the small monitor of `delphyne.client`: above Delphyne or plain, the same files and the same commands."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from delphyne.board import host as board_host
from delphyne.board import host_python, qemu
from delphyne.board.guest import build as guest_build
from delphyne.board.host import Host

IMAGE = "guest.img"


def words(kinds: Sequence[str], times: int, *, simd: Sequence[bool] = (False, True)) -> list[str]:
    """The monitor's arguments for each of `kinds`, `times` times, without and with SIMD in the guest as `simd` says."""
    return [f"{kind}{'+simd' if used else ''}x{times}" for used in simd for kind in kinds]


def script(cpus: int, gic: int, commands: Sequence[str]) -> str:
    """What the host runs. Without halt polling a vCPU that waits gives its CPU up at once, however long ago it last ran."""
    run = host_python.command("bare_guest", f"/{IMAGE}", str(cpus), str(gic), *commands)
    return f"echo 0 > /sys/module/kvm/parameters/halt_poll_ns\n{run}\ndmesg | grep -iE 'kvm|warn|bug|oops' | tail -20\n"


def prepared(host: Host, guest: guest_build.Guest, text: str) -> Host:
    """`host` with the monitor, the guest and a script in its initramfs."""
    return replace(host, script=text, files=(*host.files, *host_python.files(), (IMAGE, guest.image.read_bytes())))


def smoke(
    host: Host, kinds: Sequence[str], *, times: int = 4, timeout: float = 240.0, show: Callable[[str], None] | None = None
) -> tuple[bool, qemu.Run]:
    """Boots `host` and lets the guest cause `kinds` of exit without and with SIMD; whether each passed, and the run."""
    with tempfile.TemporaryDirectory(prefix="delphyne-guest-") as name:
        guest = guest_build.build(Path(name))
        commands = words(kinds, times)
        image = board_host.BUILD / "delphyne.img" if host.plain else board_host.build().image
        ready = prepared(host, guest, script(host.machine.cpus, host.machine.gic, commands))
        done = board_host.run(ready, image, timeout=timeout, show=show)
    passed = "bare guest: 0 failures" in done.console and done.console.count("\nPASS ") == len(commands)
    return passed and done.ending is qemu.Ending.OFF, done
