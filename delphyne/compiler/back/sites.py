# SPDX-License-Identifier: Apache-2.0
"""The table beside the image that turns trap sites and return addresses into Python files, lines and functions.

Little-endian and without padding, between the linker's symbols __sites_start and __sites_end:

    offset  0  u32  magic 0x54495344 ("DSIT")
            4  u32  number of trap sites
            8  u32  number of return addresses
           12  u32  number of calls
           16       trap sites, return addresses, calls, names
    trap site, 2 bytes, at index site:  u16 place << 3 | kind - 1
    return address, 3 bytes:            u8 distance from the one before in instructions;  u16 call, 0 where none returns here
    call, 4 bytes, numbered from 1:     u16 place;  u16 the call around it, 0 where it was not inlined, else lower than its own number
    names, to the end:                  folders, each before its files, each before its functions, each with the lines of its places

A name is a byte, what it names << 6 | its length, and as many bytes of UTF-8:

    0  folder of the files that follow, "/" included
    1  file of the functions that follow
    2  function by its whole name
    3  function by its name within the module that the file is; the module's name is folder and file without ".py", with dots for slashes

A function goes on with u16 its first line, u8 the number of its places, and for each of them u8 the distance of its line from the first.
Places are numbered in this order. A function that is too long for such bytes stands there more than once.

A return address is what a caller finds in x30: the instruction after the `bl`; the line of the call is that of the `bl`. Calls that were
inlined have no return address; each call knows the one around it. Calls with the same place and the same calls around them are one. Of calls
of the trap handler only those inlined around them are here, since the trap site says the rest. Code without debug information has no entries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from delphyne.compiler.back.body import Site
from delphyne.compiler.back.errors import BackError

MAGIC = 0x54495344
HEADER_BYTES, SITE_BYTES, RETURN_BYTES, CALL_BYTES = 16, 2, 3, 4
FOLDER, FILE, WHOLE, WITHIN = range(4)
MAX_STEP, MAX_PLACES, MAX_CALLS, MAX_NAME = 0xFF, 1 << 13, 0xFFFF, 63


@dataclass(frozen=True, slots=True)
class Return:
    """The place in the source of the call that returns to `address`."""

    address: int
    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    file: str
    function: str
    line: int


def _bounded(number: int, limit: int, what: str) -> int:
    if number > limit:
        raise BackError(f"the table of trap sites has no room for {what}: {number}, at most {limit}")
    return number


def _split(file: str) -> tuple[str, str]:
    """Folder and name of a file."""
    folder, slash, name = file.rpartition("/")
    return folder + slash, name


def _module(folder: str, name: str) -> str:
    """What a function's whole name begins with where it is one of the module in that file."""
    return (folder + name.removesuffix(".py")).replace("/", ".") + "." if name.endswith(".py") else ""


def _named(what: int, name: str) -> bytes:
    encoded = name.encode()
    return bytes([what << 6 | _bounded(len(encoded), MAX_NAME, f"the name {name}")]) + encoded


def _runs(lines: Iterable[int]) -> list[list[int]]:
    """Ascending lines, cut where the distance from the first, or their number, does not fit a byte."""
    runs: list[list[int]] = []
    for line in lines:
        if not runs or line - runs[-1][0] > MAX_STEP or len(runs[-1]) == MAX_STEP:
            runs.append([])
        runs[-1].append(line)
    return runs


def _names(places: Sequence[_Place]) -> bytes:
    """Folders, files and functions of ascending places, with their lines."""
    out, last = b"", ""
    for file, inside in groupby(places, lambda place: place.file):
        folder, name = _split(file)
        if folder != last:
            out += _named(FOLDER, folder)
            last = folder
        out += _named(FILE, name)
        module = _module(folder, name)
        for function, lines in groupby(inside, lambda place: place.function):
            within = bool(module) and function.startswith(module)
            head = _named(WITHIN, function.removeprefix(module)) if within else _named(WHOLE, function)
            for run in _runs(place.line for place in lines):
                out += head + struct.pack("<HB", _bounded(run[0], 0xFFFF, f"the line in {file}"), len(run)) + bytes(line - run[0] for line in run)
    return out


class _Calls:
    """The calls, each with the one around it; those around come first."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[_Place, int], int] = {}

    def number(self, chain: Sequence[_Place]) -> int:
        """The call at the first place, inlined into one at the second, and so on; 0 for none."""
        around = 0
        for place in reversed(chain):
            around = self.numbers.setdefault((place, around), len(self.numbers) + 1)
        return around


def pack(sites: Sequence[Site], returns: Sequence[Return]) -> bytes:
    """The table. Rows of `returns` with the same address are calls inlined around one another, the innermost first."""
    calls, stops, last = _Calls(), list[tuple[int, int]](), 0
    for address, rows in groupby(sorted(returns, key=lambda item: item.address), lambda item: item.address):
        steps, aside = divmod(address - last, 4)
        if aside:
            raise BackError(f"no instruction returns to {address:#x}")
        stops += [(MAX_STEP, 0)] * (steps // MAX_STEP)
        stops.append((steps % MAX_STEP, calls.number([_Place(item.file, item.function, item.line) for item in rows])))
        last = address
    traps = [(_Place(site.file, site.function, site.line), site.kind.value) for site in sites]
    places = sorted({place for place, _ in calls.numbers} | {place for place, _ in traps})
    _bounded(len(places), MAX_PLACES, "that many lines with calls and checks")
    _bounded(len(calls.numbers), MAX_CALLS, "that many calls")
    numbers = {place: number for number, place in enumerate(places)}
    return b"".join(
        [
            struct.pack("<4I", MAGIC, len(traps), len(stops), len(calls.numbers)),
            *(struct.pack("<H", numbers[place] << 3 | kind - 1) for place, kind in traps),
            *(struct.pack("<BH", *stop) for stop in stops),
            *(struct.pack("<HH", numbers[place], around) for place, around in calls.numbers),
            _names(places),
        ]
    )


class Table:
    """A packed table, read back."""

    def __init__(self, data: bytes) -> None:
        """Read all of it; raises ValueError where it is no such table."""
        magic, self.site_count, stops, calls = struct.unpack_from("<4I", data)
        if magic != MAGIC:
            raise ValueError("not a table of trap sites")
        ends = [HEADER_BYTES]
        for count, size in ((self.site_count, SITE_BYTES), (stops, RETURN_BYTES), (calls, CALL_BYTES)):
            ends.append(ends[-1] + count * size)
        self._sites = [row[0] for row in struct.iter_unpack("<H", data[ends[0] : ends[1]])]
        self._calls = list(struct.iter_unpack("<HH", data[ends[2] : ends[3]]))
        self._returns: dict[int, int] = {}
        address = 0
        for step, call in struct.iter_unpack("<BH", data[ends[1] : ends[2]]):
            address += step * 4
            if call:
                self._returns[address] = call
        self._places = list(_read_names(data[ends[3] :]))

    def site(self, number: int) -> tuple[int, str, int, str]:
        """Kind, file, line and function of a trap site."""
        word = self._sites[number]
        return (word & 7) + 1, *self._places[word >> 3]

    def callers(self, address: int) -> list[tuple[str, int, str]]:
        """File, line and function of the call that returns to `address`, counted from the start of the image, and of those inlined around it."""
        out, call = [], self._returns.get(address, 0)
        while call:
            place, call = self._calls[call - 1]
            out.append(self._places[place])
        return out


def _read_names(data: bytes) -> Iterable[tuple[str, int, str]]:
    at, folder, file = 0, "", ""
    while at < len(data):
        what, length = data[at] >> 6, data[at] & MAX_NAME
        name = data[at + 1 : at + 1 + length].decode()
        at += 1 + length
        if what == FOLDER:
            folder = name
        elif what == FILE:
            file = name
        else:
            first, count = struct.unpack_from("<HB", data, at)
            function = _module(folder, file) + name if what == WITHIN else name
            yield from ((folder + file, first + step, function) for step in data[at + 3 : at + 3 + count])
            at += 3 + count
