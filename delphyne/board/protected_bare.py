# SPDX-License-Identifier: Apache-2.0
"""The image of the bare guest that becomes a protected one: the very bytes of the ordinary one, and behind them in its RAM the stub and the manifest.

The monitor (client/bare_guest.py) copies all of it to the start of the guest's RAM and enters the stub. The guest reads no device tree; the manifest
has to name one, and it is an empty one.
"""

from __future__ import annotations

import hashlib
import struct

from delphyne.board import devicetree
from delphyne.board.protected_image import EXECUTE, MMIO, PAGE, RAM, READ, WRITE, ImageError, Manifest, Window, stub
from delphyne.client import bare_guest as monitor
from delphyne.client import vgic

GIC_BYTES = 1 << 20
"""The distributor, and redistributors for three CPUs."""
LARGE_BYTES = 1 << 30
"""What the guest's own tables map of it (board/guest/start.S)."""
WINDOWS = (
    Window(vgic.DISTRIBUTOR, GIC_BYTES, MMIO),
    Window(monitor.DEVICE, PAGE, MMIO),
    Window(monitor.RAM, monitor.RAM_BYTES, RAM),
    Window(monitor.SMALL, monitor.SMALL_BYTES, RAM),
    Window(monitor.FRESH, monitor.SMALL_BYTES, RAM),
    Window(monitor.KEPT, monitor.SMALL_BYTES, RAM),
    Window(monitor.LARGE, LARGE_BYTES, RAM),
)
TREE = monitor.TREE
CLEAN_MARK = 0x5EED_C1EA_0000_0000
"""What the words of the page that may only be read are, but for their numbers (board/guest/program.py)."""


def image(guest: bytes) -> bytes:
    """`guest` is the flat image of board/guest. Raises ImageError where it is too large."""
    code = guest.ljust(-(-len(guest) // PAGE) * PAGE, b"\0")
    if monitor.RAM + len(code) > monitor.CLEAN:
        raise ImageError(f"the bare guest has {len(guest)} bytes, and room for {monitor.CLEAN - monitor.RAM}")
    tree = devicetree.write(devicetree.Node())
    clean = struct.pack(f"<{PAGE // 8}Q", *(CLEAN_MARK + number for number in range(PAGE // 8)))
    segments = ((monitor.RAM, code, READ | WRITE | EXECUTE), (monitor.CLEAN, clean, READ), (TREE, tree.ljust(PAGE, b"\0"), READ | WRITE))
    named = tuple((ipa, len(content) // PAGE, rights, hashlib.sha256(content).digest()) for ipa, content, rights in segments)
    manifest = Manifest(monitor.RAM, TREE, len(tree), 0, 0, WINDOWS, named)
    made = bytearray(monitor.STUB - monitor.RAM)
    for ipa, content, _ in segments:
        made[ipa - monitor.RAM : ipa - monitor.RAM + len(content)] = content
    return bytes(made) + stub(2 * PAGE) + manifest.pack()
