# SPDX-License-Identifier: Apache-2.0
"""The kernel that a kexec leads to may keep things elsewhere, and number its calls otherwise, than the one before: it is looked at anew when it
asks at which level it was booted.

The VMs of the kernel before are forgotten first, one in each piece. Its image is the host's, and so is the CPU's time: the image is read as hostile
memory (`kvm/btf.py`), and in pieces of bounded length. After each but the last the host executes the trapped instruction again, and takes its
interrupts before, if it has not masked them; what it does in between can change what is read and nothing else.

What was read replaces what all CPUs go by. That is done only while every other CPU is off, at the first piece and after the last one, and the
firmware says so too; otherwise the kernel is not told that it was booted at EL2. So the CPU that reads is the only one that is here, and no lock is
needed: another one that comes meanwhile finds this one on and is refused.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch import linux_image
from delphyne.el2.arch.cpu import CPUS
from delphyne.el2.arch.err import Err
from delphyne.el2.arch.fdt import Region
from delphyne.el2.arch.frame import Frame
from delphyne.el2.entry import firmware, host
from delphyne.el2.kvm import seats
from delphyne.lang import Array, Hostile, Level, Pa, boot, frozen, log, struct, u8, u64

FURTHEST: Final = u64(128)
"""How far below the running instruction an image is looked for, in steps of its alignment."""


@struct
class Next:
    """Which CPU reads the next kernel, by its number and one; 0 while none does."""

    reader: u64


NEXT: Final = frozen(Next())


@boot
def look(frame: Frame) -> bool:
    """At a trapped write of EL1's registers: reads the layouts of the kernel that runs, where it is a new one and has begun. True where there is
    more to read: the host is to execute its instruction again."""
    mine = CPUS.mine()
    if not mine.restarted:
        return False
    if NEXT.reader != mine.index + 1:
        return _begin(frame.elr)
    if not seats.end_next() or not host.go_on_with_layout():
        return True
    mine.restarted = False
    NEXT.reader = u64(0)
    if firmware.others_are_off(mine.index):
        host.use_layout()
    else:
        log(Level.WARNING, "another CPU was started while the next kernel was read: it boots without /dev/kvm")
    return False


@boot
def _begin(at: u64) -> bool:
    """The first piece, where a kernel has begun at this address: True."""
    mine = CPUS.mine()
    image = _image_around(at)
    if image is None:
        return False
    host.forget_layout()
    if not firmware.others_are_off(mine.index):
        mine.restarted = False
        log(Level.WARNING, "other CPUs are on while the next kernel begins: it boots without /dev/kvm")
        return False
    log(Level.INFO, f"the next kernel begins at {image.base:#x}")
    host.begin_layout(Hostile(image.base, image.size))
    NEXT.reader = mine.index + 1
    return True


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
