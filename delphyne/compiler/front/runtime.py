# SPDX-License-Identifier: Apache-2.0
"""What the compiler brings along, written in the language itself."""

from __future__ import annotations

from delphyne.lang import View, u8, u64


def secret_equal(a: View[u8], b: View[u8]) -> bool:
    """Whether two runs of bytes are equal, in a time that only their length decides. Traps INDEX (longer, shorter) where the
    lengths differ."""
    other = b[: a.length]
    if other.length != b.length:
        other = a[: b.length]
    difference = u8(0)
    for i in u64.range(a.length):
        difference = difference | (a[i] ^ other[i])
    return difference == 0
