# SPDX-License-Identifier: Apache-2.0
"""The kernel that a kexec leads to may keep things elsewhere, and number its calls otherwise, than the one before: it is looked at anew when it
asks at which level it was booted.

What is read is the host's memory, in place and more than once. That is done only while every other CPU is off, so that nobody changes it meanwhile;
otherwise the kernel is not told that it was booted at EL2. For EL2 this is a boot like the first: only this CPU runs, and what is frozen at boot is
written again. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import linux_image
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.frame import Frame
from delphyne.el2.entry import firmware, host
from delphyne.lang import Array, Hostile, Level, Pa, boot, log, owned, u8, u64

FURTHEST: Final = u64(128)
"""How far below the running instruction an image is looked for, in steps of its alignment."""


@boot
def look(frame: Frame) -> None:
    """At a trapped write of EL1's registers: reads the layouts of the kernel that runs, where it is a new one and has begun."""
    mine = CPUS.mine()
    if not mine.restarted:
        return
    image = _image_around(frame.elr)
    if image is None:
        return
    mine.restarted = False
    host.HOST.layout_known = False
    if not firmware.others_are_off(mine.index):
        log(Level.WARNING, "other CPUs are on while the next kernel begins: it boots without /dev/kvm")
        return
    log(Level.INFO, f"the next kernel begins at {image.base:#x}")
    with owned(image.base, image.size) as file:
        host.read_layout(file)


def _image_around(at: u64) -> Region | None:
    """The kernel image that this address, the MMU being off, lies in."""
    first = at & ~(linux_image.ALIGNMENT - 1)
    for step in u64.range(FURTHEST):
        below = step * linux_image.ALIGNMENT
        if below > first or not host.is_hosts(Pa(first - below), linux_image.HEADER_BYTES):
            return None
        size = _size_at(Pa(first - below))
        if size is not None and at - (first - below) < size:
            return Region(Pa(first - below), size) if host.is_hosts(Pa(first - below), size) else None
    return None


def _size_at(base: Pa) -> u64 | None:
    """What the header of a kernel image at `base` gives as its size, if there is one."""
    copy = Array[u8, 64]()
    if not Hostile(base, linux_image.HEADER_BYTES).copy_in(copy[:], u64(0)):
        return None
    header = linux_image.read(copy[:])
    return None if isinstance(header, Err) else header.size
