# SPDX-License-Identifier: Apache-2.0
"""The error codes of EL2: one enum for every room, so that an error passes through a caller without translation.

A function that returns `T | Err` and returns an `Err` has changed nothing. An error here is an answer to input or to a state that may
legally occur; what may never occur is an `assert`. No lock, no state.
"""

from __future__ import annotations

from delphyne.lang import ErrorEnum


class Err(ErrorEnum):
    """Why an operation was refused. The numbers are only for logs; no ABI exposes them."""

    INVALID = 1
    """An argument is outside what the operation accepts (a null or mixed-up value, an unknown flag)."""
    RANGE = 2
    """An address, index or length lies outside the object or the address space."""
    ALIGNMENT = 3
    """An address or length is not aligned as the operation needs."""
    NO_MEMORY = 4
    """A pool, reserve or table is exhausted."""
    NOT_FOUND = 5
    """The thing asked for does not exist (a node, a property, a type name, a mapping)."""
    EXISTS = 6
    """The thing to make exists already."""
    TRUNCATED = 7
    """Input ends before the structure that it announces."""
    MALFORMED = 8
    """Input breaks the rules of its own format."""
    UNSUPPORTED = 9
    """Legal, but not served here (a version, a granule, a missing processor feature)."""
    BUSY = 10
    """Another CPU or a longer operation holds the object; trying again later may succeed."""
    PERMISSION = 11
    """The caller may not do this to this object."""
    OWNER = 12
    """The frame or object belongs to somebody else."""
    STATE = 13
    """The object is in a state in which the operation is not defined."""
    STALE = 14
    """A handle whose object was freed."""
    INTEGRITY = 15
    """A digest does not match."""
    OVERFLOW = 16
    """A number of the input is too large to be represented here."""
