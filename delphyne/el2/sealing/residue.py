# SPDX-License-Identifier: Apache-2.0
"""What cryptography leaves on the stack beside its variables, and how it goes away. No lock, no state."""

from __future__ import annotations

from delphyne.lang import Array, cold, u64, wipe


@cold
def scrub() -> None:
    """Overwrite the stack that a call before this one used, a kibibyte of it: the compiler keeps values there that no name reaches."""
    room = Array[u64, 128]()
    wipe(room)
