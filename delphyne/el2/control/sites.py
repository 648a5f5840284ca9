# SPDX-License-Identifier: Apache-2.0
"""The table that turns trap sites and return addresses into Python files, lines and functions.

The build writes it (compiler/back/sites.py has the format); the reports of traps and crashes read it. It is constant, but what reads it runs
when EL2 has failed: every bound is checked, and `Err` is the worst that comes of it. It is small rather than quick to read: every look-up
goes through it from its start. No lock.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Enum64, View, load_le16, load_le32, u8, u32, u64, value

MAGIC: Final = u32(0x5449_5344)
HEADER_BYTES: Final = u64(16)
SITE_BYTES: Final = u64(2)
RETURN_BYTES: Final = u64(3)
CALL_BYTES: Final = u64(4)
FUNCTION_BYTES: Final = u64(3)
"""What stands between a function's name and the lines of its places."""


class Named(Enum64):
    """What a name in the table is the name of."""

    FOLDER = 0
    FILE = 1
    WHOLE = 2
    WITHIN = 3


@value
class Name:
    """Bytes of the table, by offset and length."""

    at: u64
    length: u64


@value
class Site:
    """A place in a Python source. `kind` is a trap's, 0 for a call. The function's name goes on the module's where it is `within` it."""

    folder: Name
    file: Name
    function: Name
    within: bool
    line: u64
    kind: u64


@value
class Caller:
    """The address that a call returns to, from the start of the image, and the call's number."""

    address: u64
    call: u64


@value
class Call:
    """The place of a call, and the number of the call around it that was inlined; 0 where none was."""

    site: Site
    around: u64


@value
class Parts:
    """Offsets of the table's parts, each of which ends where the next begins."""

    sites: u64
    returns: u64
    calls: u64
    names: u64


def _parts(table: View[u8]) -> Parts | Err:
    """The parts, once all but the names lie inside."""
    if table.length < HEADER_BYTES:
        return Err.TRUNCATED
    if load_le32(table, u64(0)) != MAGIC:
        return Err.MALFORMED
    returns = HEADER_BYTES + u64(load_le32(table, u64(4))) * SITE_BYTES
    calls = returns + u64(load_le32(table, u64(8))) * RETURN_BYTES
    names = calls + u64(load_le32(table, u64(12))) * CALL_BYTES
    if names > table.length:
        return Err.TRUNCATED
    return Parts(HEADER_BYTES, returns, calls, names)


def find_site(table: View[u8], number: u64) -> Site | Err:
    """The trap site of that number, or NOT_FOUND."""
    parts = _parts(table)
    if isinstance(parts, Err):
        return parts
    if number >= (parts.returns - parts.sites) // SITE_BYTES:
        return Err.NOT_FOUND
    word = u64(load_le16(table, parts.sites + number * SITE_BYTES))
    return _place(table, parts.names, word >> 3, (word & 7) + 1)


def find_caller(table: View[u8], offset: u64) -> Caller | Err:
    """The last call that returns to `offset` bytes from the start of the image, or before. NOT_FOUND where none does."""
    parts = _parts(table)
    if isinstance(parts, Err):
        return parts
    found = Caller(u64(0), u64(0))
    address = u64(0)
    for at in u64.range(parts.returns, parts.calls, 3):
        address += u64(table[at]) * 4
        if address > offset:
            break
        call = u64(load_le16(table, at + 1))
        if call != 0:
            found = Caller(address, call)
    if found.call == 0:
        return Err.NOT_FOUND
    return found


def call_at(table: View[u8], number: u64) -> Call | Err:
    """The call of that number. NOT_FOUND; MALFORMED where it says to be inlined into one that cannot be around it."""
    parts = _parts(table)
    if isinstance(parts, Err):
        return parts
    if number == 0 or number > (parts.names - parts.calls) // CALL_BYTES:
        return Err.NOT_FOUND
    at = parts.calls + (number - 1) * CALL_BYTES
    around = u64(load_le16(table, at + 2))
    if around >= number:
        return Err.MALFORMED
    site = _place(table, parts.names, u64(load_le16(table, at)), u64(0))
    if isinstance(site, Err):
        return site
    return Call(site, around)


def _place(table: View[u8], names: u64, number: u64, kind: u64) -> Site | Err:
    """The place of that number, counted through the functions from the first one on. NOT_FOUND, TRUNCATED."""
    folder = Name(names, u64(0))
    file = folder
    rest = number
    at = names
    while at < table.length:
        head = u64(table[at])
        name = Name(at + 1, head & 63)
        at = name.at + name.length
        named = Named.of(head >> 6)
        if named is Named.FOLDER:
            folder = name
        elif named is Named.FILE:
            file = name
        else:
            lines = at + FUNCTION_BYTES
            if lines > table.length:
                return Err.TRUNCATED
            count = u64(table[at + 2])
            if count > table.length - lines:
                return Err.TRUNCATED
            if rest < count:
                line = u64(load_le16(table, at)) + u64(table[lines + rest])
                return Site(folder, file, name, named is Named.WITHIN, line, kind)
            rest -= count
            at = lines + count
    return Err.NOT_FOUND


def text_of(table: View[u8], name: Name) -> View[u8]:
    """The bytes of a name; empty where the table does not hold it."""
    if name.at > table.length or name.length > table.length - name.at:
        return table[:0]
    return table[name.at:name.at + name.length]
