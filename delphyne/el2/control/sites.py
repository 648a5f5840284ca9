# SPDX-License-Identifier: Apache-2.0
"""The table that turns trap sites and return addresses into Python files, lines and functions.

The build writes it (compiler/back/sites.py has the format); the reports of traps and crashes read it. It is constant, but what reads it runs
when EL2 has failed: every bound is checked, and `Err` is the worst that comes of it. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import View, load_le16, load_le32, u8, u32, u64, value

MAGIC: Final = u32(0x5449_5344)
HEADER_BYTES: Final = u64(40)
SITE_BYTES: Final = u64(8)
RETURN_BYTES: Final = u64(12)
NAME_BYTES: Final = u64(8)


@value
class Site:
    """A place in a Python source. `file` and `function` are rows of the table's lists of names; `kind` is a trap's, 0 for a call."""

    file: u64
    function: u64
    line: u64
    kind: u64


@value
class Caller:
    """A call: the address that it returns to, from the start of the image, and its place."""

    address: u64
    site: Site


@value
class Rows:
    """One of the table's arrays: offset of its first row, and how many rows there are."""

    at: u64
    count: u64


def _rows(table: View[u8], at: u64, count: u64, size: u64) -> Rows | Err:
    """The array whose offset and row count stand in the header at these offsets, once all of it lies inside."""
    if table.length < HEADER_BYTES:
        return Err.TRUNCATED
    if load_le32(table, u64(0)) != MAGIC:
        return Err.MALFORMED
    start = u64(load_le32(table, at))
    rows = u64(load_le32(table, count))
    if start > table.length or rows > (table.length - start) // size:
        return Err.TRUNCATED
    return Rows(start, rows)


def find_site(table: View[u8], number: u64) -> Site | Err:
    """The trap site of that number, or NOT_FOUND."""
    rows = _rows(table, u64(20), u64(4), SITE_BYTES)
    if isinstance(rows, Err):
        return rows
    if number >= rows.count:
        return Err.NOT_FOUND
    at = rows.at + number * SITE_BYTES
    word = u64(load_le32(table, at))
    return Site(u64(load_le16(table, at + 4)), u64(load_le16(table, at + 6)), word & 0xFF_FFFF, word >> 24)


def find_caller(table: View[u8], offset: u64) -> u64 | Err:
    """The first row of the last call that returns to `offset` bytes from the start of the image, or before.

    NOT_FOUND where none does. The rows after it with the same address are the calls inlined around it."""
    rows = _rows(table, u64(24), u64(8), RETURN_BYTES)
    if isinstance(rows, Err):
        return rows
    found = _rows_below(table, rows, offset, True)
    if found == 0:
        return Err.NOT_FOUND
    address = u64(load_le32(table, rows.at + (found - 1) * RETURN_BYTES))
    return _rows_below(table, rows, address, False)


def _rows_below(table: View[u8], rows: Rows, offset: u64, with_equal: bool) -> u64:
    """How many rows have a lower address than `offset`, or the same where `with_equal`."""
    low = u64(0)
    high = rows.count
    while low < high:
        middle = low + (high - low) // 2
        address = u64(load_le32(table, rows.at + middle * RETURN_BYTES))
        if address < offset or (with_equal and address == offset):
            low = middle + 1
        else:
            high = middle
    return low


def caller_at(table: View[u8], row: u64) -> Caller | Err:
    """A row of the return addresses. NOT_FOUND after the last."""
    rows = _rows(table, u64(24), u64(8), RETURN_BYTES)
    if isinstance(rows, Err):
        return rows
    if row >= rows.count:
        return Err.NOT_FOUND
    at = rows.at + row * RETURN_BYTES
    site = Site(u64(load_le16(table, at + 8)), u64(load_le16(table, at + 10)), u64(load_le32(table, at + 4)), u64(0))
    return Caller(u64(load_le32(table, at)), site)


def file_name(table: View[u8], site: Site) -> View[u8]:
    """The path of a site's source file; empty where the table does not hold it."""
    return _name(table, _rows(table, u64(28), u64(12), NAME_BYTES), site.file)


def function_name(table: View[u8], site: Site) -> View[u8]:
    """The dotted name of a site's function; empty where the table does not hold it."""
    return _name(table, _rows(table, u64(32), u64(16), NAME_BYTES), site.function)


def _name(table: View[u8], rows: Rows | Err, number: u64) -> View[u8]:
    if isinstance(rows, Err) or number >= rows.count:
        return table[:0]
    at = u64(load_le32(table, rows.at + number * NAME_BYTES))
    length = u64(load_le32(table, rows.at + number * NAME_BYTES + 4))
    if at > table.length or length > table.length - at:
        return table[:0]
    return table[at:at + length]
