# SPDX-License-Identifier: Apache-2.0
"""Typed Python for the constant-time tests: a comparison that keeps its secrets, and three functions that do not.

The language refuses a secret as an index or a condition; `declassify` is how these get past it."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, Slice, View, constant, declassify, load_le64, secret, secret_equal, store_le64, u8, u64, wrap_add

TABLE: Final = constant(Array[u8, 256].of([n * 7 & 255 for n in range(256)]))


def same(a: View[u8], b: View[u8]) -> u64:
    """1 where both hold the same bytes."""
    return u64(secret_equal(a, b))


def looks_up(key: View[u8]) -> u64:
    """Substitutes through a table: the secret is an address."""
    hidden = secret(load_le64(key, 0))
    return u64(TABLE[declassify(hidden & 255)])


def branches(key: View[u8], out: Slice[u8]) -> None:
    """Stores where a bit of the secret is set."""
    hidden = secret(load_le64(key, 0))
    if declassify(hidden & 1) != 0:
        store_le64(out, 0, u64(1))


def counts(key: View[u8]) -> u64:
    """Turns as often as the secret says."""
    hidden = secret(load_le64(key, 0))
    total = u64(1)
    for _ in u64.range(declassify(hidden & 7)):
        total = wrap_add(total, total ^ load_le64(key, 0))
    return total
