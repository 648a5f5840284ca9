# SPDX-License-Identifier: Apache-2.0
"""Arrays and slices of the language made of Python bytes."""

from __future__ import annotations

from typing import Any

from delphyne.lang import Array, u8


def array(data: bytes) -> Any:
    """An array that holds `data` (one byte longer where there is none: an array has an element)."""
    return Array[u8, max(1, len(data))].of(data or b"\0")


def piece(data: bytes) -> Any:
    """A slice that holds `data`."""
    return array(data)[: len(data)]
