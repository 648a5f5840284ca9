# SPDX-License-Identifier: Apache-2.0
"""What the compiler brings along, written in the language itself."""

from __future__ import annotations

from delphyne.lang import View, load_le64, u8, u64


def secret_equal(a: View[u8], b: View[u8]) -> bool:
    """Whether two runs of bytes are equal, in a time that only their length decides. Traps INDEX (longer, shorter) where the
    lengths differ."""
    other = b[: a.length]
    if other.length != b.length:
        other = a[: b.length]
    difference = u64(0)
    words = a.length & ~u64(7)
    for i in u64.range(0, words, 8):
        difference = difference | (load_le64(a, i) ^ load_le64(other, i))
    for i in u64.range(words, a.length):
        difference = difference | u64(a[i] ^ other[i])
    return difference == 0
