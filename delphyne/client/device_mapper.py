# SPDX-License-Identifier: Apache-2.0
"""The kernel's device mapper by its own interface: devices that a table with one target makes of other devices.

Structures and numbers are those of include/uapi/linux/dm-ioctl.h; what stands in a table is in Documentation/admin-guide/device-mapper of Linux.
"""

from __future__ import annotations

import fcntl
import os
import struct

CONTROL = "/dev/mapper/control"
VERSION = (4, 0, 0)
"""Of the interface: kernels take what has their major number and no greater minor one."""
HEADER = "<3I3Ii3IQ128s129s7x"
"""struct dm_ioctl: version, data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid, data."""
TARGET = "<QQiI16s"
"""struct dm_target_spec: sector_start, length, status, next, target_type. The target's parameters follow as a text."""
CREATE, REMOVE, SUSPEND, LOAD = 3, 4, 6, 9
"""DM_DEV_CREATE, DM_DEV_REMOVE, DM_DEV_SUSPEND (which resumes, where no flag says otherwise), DM_TABLE_LOAD."""
DEV_FIELD = 10
"""Where `dev` is in HEADER."""


def request(command: int) -> int:
    """The number of a request: _IOWR(DM_IOCTL, command, struct dm_ioctl)."""
    return 3 << 30 | struct.calcsize(HEADER) << 16 | 0xFD << 8 | command


def message(name: str, targets: int = 0, data: bytes = b"") -> bytearray:
    """What a request for the device `name` holds, with `data` behind its header."""
    start = struct.calcsize(HEADER)
    return bytearray(struct.pack(HEADER, *VERSION, start + len(data), start, targets, 0, 0, 0, 0, 0, name.encode(), b"") + data)


def target(sectors: int, kind: str, parameters: str) -> bytes:
    """A table's only target: the whole device, of sectors of 512 bytes."""
    text = parameters.encode() + b"\0"
    text += bytes(-len(text) % 8)
    return struct.pack(TARGET, 0, sectors, 0, struct.calcsize(TARGET) + len(text), kind.encode()) + text


class Mapper:
    """/dev/mapper/control. A request that the kernel refuses raises OSError; the kernel's log says why."""

    def __init__(self, path: str = CONTROL) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def _send(self, command: int, data: bytearray) -> None:
        fcntl.ioctl(self._file, request(command), data, True)

    def create(self, name: str, sectors: int, kind: str, parameters: str) -> str:
        """A device of one target; its file."""
        made = message(name)
        self._send(CREATE, made)
        self._send(LOAD, message(name, 1, target(sectors, kind, parameters)))
        self._send(SUSPEND, message(name))
        return f"/dev/dm-{os.minor(struct.unpack_from(HEADER, made)[DEV_FIELD])}"

    def remove(self, name: str) -> None:
        """The device is gone, and what it was made of is free."""
        self._send(REMOVE, message(name))
