# SPDX-License-Identifier: Apache-2.0
"""A reader of BTF, the type information that a Linux kernel carries in its image.

Format: the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h. A header, then the types, records of 12 bytes and more that are numbered
from 1 in the order in which they stand, then the strings. Numbers are little-endian. Type 0 is void.

The image is hostile, and may be somebody else's still: it is copied piece by piece, and what was copied is looked at. Every offset, count, kind and
type number is checked before it is used, every search is bounded, and what does not fit is an Err. Nothing traps, whatever a piece holds, and
whether or not it holds the same when it is copied again. All work costs `Reader.effort`: who sets it says how much is done before the reader stops.

No lock; the state is the caller's `Reader`, and the *checkpoints*, the place of every 32nd type, by which one pass makes type numbers easy to follow.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Hostile, Slice, View, constant, load_le32, load_le64, nospec, struct, u8, u16, u32, u64, value, wrap_add

MAGIC: Final = u32(0x0001_EB9F)
"""Magic 0xEB9F, version 1, flags 0."""
HEADER_BYTES: Final = u64(24)
SECTION_LIMIT: Final = u64(1 << 28)
"""The largest section that is read: 256 MiB."""
RECORD_BYTES: Final = u64(12)

LINE_BYTES: Final = u64(128)
NAME_BYTES: Final = u64(64)
CHUNK_BYTES: Final = u64(1024)
CHUNK_EFFORT: Final = u64(16)
COMPARED_BYTES: Final = u64(8)
"""Bytes of a name that are compared for one unit of effort."""
UNBOUNDED: Final = u64.MAX
"""Effort that no image exhausts."""

CHECKPOINT_SHIFT: Final = u64(5)
NOT_FOUND: Final = u32(0xFFFF_FFFF)
AMBIGUOUS: Final = u32(0xFFFF_FFFE)
"""Two definitions have the name."""

MODIFIERS_LIMIT: Final = u64(16)
"""Type names and qualifiers that are followed from a member to its structure."""
NESTED_LIMIT: Final = u64(32)
"""Anonymous structures that are searched for one member."""
MEMBERS_LIMIT: Final = u64(4096)
"""Members of a structure, or values of an enum, that are searched."""

KIND_STRUCT: Final = u64(4)
KIND_UNION: Final = u64(5)
KIND_ENUM: Final = u64(6)
KIND_TYPEDEF: Final = u64(8)
KIND_VOLATILE: Final = u64(9)
KIND_CONST: Final = u64(10)
KIND_RESTRICT: Final = u64(11)
KIND_TYPE_TAG: Final = u64(18)

_UNKNOWN: Final = 255
# kind: bytes after the record's first 12, and bytes for each of its vlen items
_SHAPES = {
    1: (4, 0),  # INT
    2: (0, 0),  # PTR
    3: (12, 0),  # ARRAY
    4: (0, 12),  # STRUCT
    5: (0, 12),  # UNION
    6: (0, 8),  # ENUM
    7: (0, 0),  # FWD
    8: (0, 0),  # TYPEDEF
    9: (0, 0),  # VOLATILE
    10: (0, 0),  # CONST
    11: (0, 0),  # RESTRICT
    12: (0, 0),  # FUNC: vlen says how it is linked
    13: (0, 8),  # FUNC_PROTO
    14: (4, 0),  # VAR
    15: (0, 12),  # DATASEC
    16: (0, 0),  # FLOAT
    17: (4, 0),  # DECL_TAG
    18: (0, 0),  # TYPE_TAG
    19: (0, 12),  # ENUM64
}
EXTRA: Final = constant(Array[u8, 32].of([_SHAPES.get(kind, (_UNKNOWN, 0))[0] for kind in range(32)]))
EACH: Final = constant(Array[u8, 32].of([_SHAPES.get(kind, (0, 0))[1] for kind in range(32)]))


@value
class Sections:
    """Where in the image the two sections stand, in bytes."""

    types: u64
    types_end: u64
    strings: u64
    strings_end: u64


@value
class Record:
    """What the first 12 bytes of a type say, and its length in bytes. `third` is its size, or the type that it refers to."""

    name: u32
    kind: u64
    items: u64
    has_widths: bool
    third: u32
    length: u64


@value
class Member:
    """Where a member begins in its structure, in bits; its type; and its width in bits if it is a bit field, else 0."""

    bits: u64
    type_id: u32
    width: u32


@struct
class Line:
    """A copy of the image's bytes from `at`; none while `length` is 0."""

    at: u64
    length: u64
    data: Array[u8, 128]


@struct
class Reader:
    """One image, and how far it is read.

    `effort` is spent by about a hundred instructions a unit, and ends every search when it is 0. `searched` and `low`: the search for the header has
    passed the image from its end, or from `top`, down to `searched`, and goes on to `low`. `next` is the place of the first type that the pass over
    them has not seen, `count` how many it has."""

    image: Hostile
    sections: Sections
    effort: u64
    top: u64
    low: u64
    searched: u64
    next: u64
    count: u64
    records: Line
    names: Line
    chunk: Array[u8, 1024]


def begin(reader: Reader, image: Hostile) -> None:
    """An image of which nothing is known yet. `effort` is 0."""
    reader.image = image
    reader.sections = Sections(u64(0), u64(0), u64(0), u64(0))
    reader.effort = u64(0)
    reader.records.length = u64(0)
    reader.names.length = u64(0)
    reader.next = u64(0)
    reader.count = u64(0)
    reader.top = _start_of_data(reader) & ~u64(15)
    reader.low = u64(0)
    reader.searched = reader.top


def find(reader: Reader) -> bool | Err:
    """Find the BTF of an arm64 Image: the last place with a sound header. False where the effort ended first: call again.

    It stands at the end of the read-only data, so that the search begins where the PE header says that data begins and runs downward, and then from
    the end of the image down to there. Err.NOT_FOUND where there is none.
    """
    while reader.effort > 0:
        if reader.searched > reader.low:
            if _search_chunk(reader):
                return True
        elif reader.low == 0 and reader.top < reader.image.size & ~u64(15):
            reader.low = reader.top
            reader.searched = reader.image.size & ~u64(15)
        else:
            return Err.NOT_FOUND
    return False


def sections_at(reader: Reader, at: u64) -> Sections | Err:
    """The sections of the BTF whose header stands at `at`. Err.NOT_FOUND, Err.TRUNCATED or Err.MALFORMED where there is no sound header."""
    size = reader.image.size
    if at > size or size - at < HEADER_BYTES:
        return Err.TRUNCATED
    length = u64(_word(reader, at + 4))
    if _word(reader, at) != MAGIC or length < HEADER_BYTES:
        return Err.NOT_FOUND
    base = at + length
    types = base + u64(_word(reader, at + 8))
    types_length = u64(_word(reader, at + 12))
    strings = base + u64(_word(reader, at + 16))
    strings_length = u64(_word(reader, at + 20))
    if types_length > SECTION_LIMIT or strings_length > SECTION_LIMIT:
        return Err.MALFORMED
    if types + types_length > size or strings + strings_length > size:
        return Err.TRUNCATED
    if (types - base) % 4 != 0 or types_length < RECORD_BYTES or types + types_length > strings or strings_length == 0:
        return Err.MALFORMED
    if _byte(reader, strings) != 0 or _byte(reader, strings + strings_length - 1) != 0:
        return Err.MALFORMED
    return Sections(types, types + types_length, strings, strings + strings_length)


def index(reader: Reader, names: View[u8], ends: View[u16], found: Slice[u32], checkpoints: Slice[u32]) -> bool | Err:
    """Pass over all types once: fill `checkpoints`, and say in `found` where the structures, unions and enums with certain names stand. False
    where the effort ended first: call again with the same arrays.

    Name i is `names` from `ends[i]` to `ends[i + 1]`, not empty; `found[i]` becomes its place in the types, NOT_FOUND or AMBIGUOUS. Err.TRUNCATED or
    Err.UNSUPPORTED where a record has no end or an unknown kind, Err.NO_MEMORY where `checkpoints` has not a place for every 32 types; both arrays
    then hold nothing of use.
    """
    if reader.count == 0:
        found.fill(NOT_FOUND)
    while reader.next < types_length(reader):
        if reader.effort == 0:
            return False
        passed = _index_chunk(reader, names, ends, found, checkpoints)
        if isinstance(passed, Err):
            return passed
    return True


def _index_chunk(reader: Reader, names: View[u8], ends: View[u16], found: Slice[u32], checkpoints: Slice[u32]) -> None | Err:
    """The records that begin in the next chunk of the types. This passes over megabytes: most records are no more than a length to it."""
    first = reader.next
    room = types_length(reader) - first
    length = min(CHUNK_BYTES, room)
    if length < RECORD_BYTES or not reader.image.copy_in(reader.chunk[:length], reader.sections.types + first):
        return Err.TRUNCATED
    at = u64(0)
    count = reader.count
    while at <= length - RECORD_BYTES:
        about = load_le32(reader.chunk[:], at + 4)
        kind = u64((about >> 24) & 31)
        extra = EXTRA[kind]
        if extra == 255:
            return Err.UNSUPPORTED
        if count & 31 == 0:
            if count >> CHECKPOINT_SHIFT >= checkpoints.length:
                return Err.NO_MEMORY
            checkpoints[count >> CHECKPOINT_SHIFT] = u32(first + at)
        if kind >= KIND_STRUCT and kind <= KIND_ENUM:
            _note(reader, load_le32(reader.chunk[:], at), u32(first + at), names, ends, found)
        at += RECORD_BYTES + u64(extra) + u64(about & 0xFFFF) * u64(EACH[kind])
        count = wrap_add(count, u64(1))  # no more than SECTION_LIMIT / RECORD_BYTES
        if at > room:
            return Err.TRUNCATED
    _spend(reader, CHUNK_EFFORT + (count - reader.count))
    reader.next = first + at
    reader.count = count
    return None


def types_length(reader: Reader) -> u64:
    """Bytes of the types."""
    return reader.sections.types_end - reader.sections.types


def record_at(reader: Reader, at: u64) -> Record | Err:
    """The record at `at` of the types. Err.TRUNCATED where they end before it does, Err.UNSUPPORTED for an unknown kind or without effort."""
    if reader.effort == 0:
        return Err.UNSUPPORTED
    _spend(reader, u64(1))
    room = types_length(reader)
    place = reader.sections.types + at
    line = reader.records
    if at > room or room - at < RECORD_BYTES or not _hold(reader, line, place, RECORD_BYTES):
        return Err.TRUNCATED
    seen = line.data[place - line.at : place - line.at + RECORD_BYTES]
    about = load_le32(seen, 4)
    kind = u64((about >> 24) & 31)
    items = u64(about & 0xFFFF)
    extra = EXTRA[kind]
    if extra == 255:
        return Err.UNSUPPORTED
    length = RECORD_BYTES + u64(extra) + items * u64(EACH[kind])
    if length > room - at:
        return Err.TRUNCATED
    return Record(load_le32(seen, 0), kind, items, about >> 31 != 0, load_le32(seen, 8), length)


def type_at(reader: Reader, checkpoints: View[u32], type_id: u32) -> u64 | Err:
    """Where the type with this number stands. Err.NOT_FOUND for void, Err.MALFORMED for a number that is none."""
    if type_id == 0:
        return Err.NOT_FOUND
    number = u64(type_id) - 1
    if number >= reader.count or number >> CHECKPOINT_SHIFT >= checkpoints.length:
        return Err.MALFORMED
    at = u64(checkpoints[nospec(number >> CHECKPOINT_SHIFT, checkpoints.length)])
    for _ in u64.range(number & 31):
        record = record_at(reader, at)
        if isinstance(record, Err):
            return record
        at += record.length
    if at >= types_length(reader):
        return Err.MALFORMED
    return at


def struct_at(reader: Reader, checkpoints: View[u32], type_id: u32) -> u64 | Err:
    """Where the structure or union stands that a type is, once its names and qualifiers are followed.

    Err.NOT_FOUND where it is something else, Err.UNSUPPORTED where it has more than MODIFIERS_LIMIT of them, which ends cycles too.
    """
    number = type_id
    for _ in u64.range(MODIFIERS_LIMIT):
        at = type_at(reader, checkpoints, number)
        if isinstance(at, Err):
            return at
        record = record_at(reader, at)
        if isinstance(record, Err):
            return record
        if _has_members(record.kind):
            return at
        if not _is_modifier(record.kind):
            return Err.NOT_FOUND
        number = record.third
    return Err.UNSUPPORTED


def size_of(reader: Reader, at: u64) -> u32 | Err:
    """The size in bytes of the structure, union or enum at `at`. Err.TRUNCATED, Err.UNSUPPORTED, Err.NOT_FOUND where there is none."""
    record = record_at(reader, at)
    if isinstance(record, Err):
        return record
    if record.kind < KIND_STRUCT or record.kind > KIND_ENUM:
        return Err.NOT_FOUND
    return record.third


def offset_of(reader: Reader, checkpoints: View[u32], at: u64, path: View[u8]) -> u32 | Err:
    """The offset in bytes of a member of the structure at `at`; `path` names it, with a dot between a structure and its member.

    Members of anonymous structures are found as in C. Err.NOT_FOUND where there is no such member, Err.UNSUPPORTED for a bit field, beyond the
    limits above and where the effort ends, Err.TRUNCATED or Err.MALFORMED where the types contradict themselves.
    """
    size = size_of(reader, at)
    if isinstance(size, Err):
        return size
    bits = u64(0)
    where = at
    start = u64(0)
    while start <= path.length:
        end = _end_of_name(path, start)
        member = find_member(reader, checkpoints, where, path[start:end])
        if isinstance(member, Err):
            return member
        bits += member.bits
        if end == path.length:
            return _whole_bytes(bits, member.width, size)
        inner = struct_at(reader, checkpoints, member.type_id)
        if isinstance(inner, Err):
            return inner
        where = inner
        start = end + 1
    return Err.NOT_FOUND


def find_member(reader: Reader, checkpoints: View[u32], at: u64, name: View[u8]) -> Member | Err:
    """The member called `name` of the structure or union at `at`, or of an anonymous one in it. Errors as `offset_of`."""
    places = Array[u64, 32]()
    offsets = Array[u64, 32]()
    places[0] = at
    filled = u64(1)
    taken = u64(0)
    while taken < filled:
        record = record_at(reader, places[taken])
        if isinstance(record, Err):
            return record
        if record.items > MEMBERS_LIMIT:
            return Err.UNSUPPORTED
        if not _has_members(record.kind):
            return Err.NOT_FOUND
        for number in u64.range(record.items):
            if reader.effort == 0:
                return Err.UNSUPPORTED
            item = reader.sections.types + places[taken] + RECORD_BYTES + number * 12
            called = _word(reader, item)
            if name_is(reader, called, name):
                return _member(reader, item, record.has_widths, offsets[taken])
            if is_anonymous(reader, called):
                member = _member(reader, item, record.has_widths, offsets[taken])
                inner = struct_at(reader, checkpoints, member.type_id)
                if not isinstance(inner, Err):
                    if filled == NESTED_LIMIT:
                        return Err.UNSUPPORTED
                    places[filled] = inner
                    offsets[filled] = member.bits
                    filled += 1
        taken += 1
    return Err.NOT_FOUND


def enumerator(reader: Reader, at: u64, name: View[u8]) -> u32 | Err:
    """The value of an enumerator of the enum at `at`, as the 32 bits that stand there. Err.NOT_FOUND, Err.TRUNCATED, Err.UNSUPPORTED."""
    record = record_at(reader, at)
    if isinstance(record, Err):
        return record
    if record.kind != KIND_ENUM:
        return Err.NOT_FOUND
    if record.items > MEMBERS_LIMIT:
        return Err.UNSUPPORTED
    for number in u64.range(record.items):
        if reader.effort == 0:
            return Err.UNSUPPORTED
        item = reader.sections.types + at + RECORD_BYTES + number * 8
        if name_is(reader, _word(reader, item), name):
            return _word(reader, item + 4)
    return Err.NOT_FOUND


def name_is(reader: Reader, at: u32, name: View[u8]) -> bool:
    """Whether the string at `at` is `name`, which holds no NUL and is shorter than NAME_BYTES. False where it lies outside the section."""
    return _is_name(reader, _string(reader, at), name)


def is_anonymous(reader: Reader, at: u32) -> bool:
    """Whether the string at `at` is empty."""
    seen = _string(reader, at)
    return seen.length != 0 and seen[0] == 0


def _string(reader: Reader, at: u32) -> View[u8]:
    """The bytes from `at` of the strings on, NAME_BYTES of them where there are so many, and none where there is no such place."""
    start = reader.sections.strings + u64(at)
    end = reader.sections.strings_end
    line = reader.names
    _spend(reader, u64(1))
    if start >= end:
        return line.data[:0]
    length = min(end - start, NAME_BYTES)
    if not _hold(reader, line, start, length):
        return line.data[:0]
    return line.data[start - line.at : start - line.at + length]


def _is_name(reader: Reader, seen: View[u8], name: View[u8]) -> bool:
    """Whether a string, by its bytes and those behind it, is `name`."""
    if name.length >= seen.length:
        return False
    for i in u64.range(name.length):
        if seen[i] != name[i]:
            _spend(reader, i // COMPARED_BYTES)
            return False
    _spend(reader, name.length // COMPARED_BYTES)
    return seen[name.length] == 0


def _spend(reader: Reader, effort: u64) -> None:
    reader.effort -= min(effort, reader.effort)


def _hold(reader: Reader, line: Line, at: u64, count: u64) -> bool:
    """Has the line hold the `count` bytes from `at` of the image; False where the image has not so many, or a line."""
    if at >= line.at and at - line.at < line.length and count <= line.length - (at - line.at):
        return True
    return _fill(reader, line, at) and count <= line.length


def _fill(reader: Reader, line: Line, at: u64) -> bool:
    """Copies the bytes from `at` on; False where the image has none."""
    start = nospec(at, reader.image.size)
    line.length = u64(0)
    if at >= reader.image.size:
        return False
    _spend(reader, u64(1))
    length = min(LINE_BYTES, reader.image.size - start)
    if not reader.image.copy_in(line.data[:length], start):
        return False
    line.at = start
    line.length = length
    return True


def _word(reader: Reader, at: u64) -> u32:
    """The 32-bit number at `at` of the image; 0 where there is none."""
    line = reader.records
    return load_le32(line.data[:], at - line.at) if _hold(reader, line, at, u64(4)) else u32(0)


def _byte(reader: Reader, at: u64) -> u8:
    """The byte at `at` of the image, by a line of its own: strings stand elsewhere than types. 0 where there is none."""
    line = reader.names
    return line.data[at - line.at] if _hold(reader, line, at, u64(1)) else u8(0)


def _start_of_data(reader: Reader) -> u64:
    """Where the PE header of an arm64 Image says that its second section, data, begins; the end of the image where it does not say."""
    size = reader.image.size
    if size < 64 or _half(reader, u64(0)) != 0x5A4D:
        return size
    header = u64(_word(reader, u64(60)))
    if header > size or size - header < 24 or _word(reader, header) != 0x4550:
        return size
    sections = header + 24 + u64(_half(reader, header + 20))
    if _half(reader, header + 6) < 2 or sections + 80 > size:
        return size
    return min(u64(_word(reader, sections + 40 + 20)), size)


def _half(reader: Reader, at: u64) -> u32:
    """The 16-bit number at `at` of the image, which does not end with it; 0 where there is none."""
    return _word(reader, at) & 0xFFFF


def _search_chunk(reader: Reader) -> bool:
    """Goes downward by up to a chunk; True at a sound header, whose sections are kept."""
    _spend(reader, CHUNK_EFFORT)
    length = min(CHUNK_BYTES, reader.searched - reader.low)
    start = reader.searched - length
    if not reader.image.copy_in(reader.chunk[:length], start):
        reader.searched = start
        return False
    stripe = _last_stripe(reader.chunk[:length])
    if stripe is None:
        reader.searched = start
        return False
    reader.searched = start + stripe
    for back in u64.range(4):
        found = sections_at(reader, start + stripe + (3 - back) * 4)
        if not isinstance(found, Err):
            reader.sections = found
            return True
    return False


def _last_stripe(window: View[u8]) -> u64 | None:
    """The last 16 bytes that hold the magic at a multiple of 4. This passes over megabytes, so it does little else."""
    at = window.length & ~u64(15)
    while at >= 16:
        at -= 16
        lower = load_le64(window, at)
        upper = load_le64(window, at + 8)
        if u32.wrap(lower) == MAGIC or u32.wrap(lower >> 32) == MAGIC or u32.wrap(upper) == MAGIC or u32.wrap(upper >> 32) == MAGIC:
            return at
    return None


def _has_members(kind: u64) -> bool:
    return kind >= KIND_STRUCT and kind <= KIND_UNION


def _is_modifier(kind: u64) -> bool:
    """Whether the third word of such a record is another type that it stands for."""
    return (kind >= KIND_TYPEDEF and kind <= KIND_RESTRICT) or kind == KIND_TYPE_TAG


def _note(reader: Reader, called: u32, at: u32, names: View[u8], ends: View[u16], found: Slice[u32]) -> None:
    """If the definition at `at`, called `called`, has one of the names, note its place."""
    seen = _string(reader, called)
    if seen.length == 0:
        return
    for i in u64.range(found.length):
        start = u64(ends[i])
        if names[start] == seen[0] and _is_name(reader, seen, names[start:u64(ends[i + 1])]):
            found[i] = at if found[i] == NOT_FOUND else AMBIGUOUS


def _member(reader: Reader, item: u64, has_widths: bool, base: u64) -> Member:
    """The member whose 12 bytes stand at `item` of the image, in a structure that begins `base` bits into another."""
    type_id = _word(reader, item + 4)
    place = _word(reader, item + 8)
    if has_widths:
        return Member(base + u64(place & 0xFF_FFFF), type_id, place >> 24)
    return Member(base + u64(place), type_id, u32(0))


def _end_of_name(path: View[u8], start: u64) -> u64:
    """Where the name that begins at `start` ends: at a dot or at the end."""
    for i in u64.range(start, path.length):
        if path[i] == 0x2E:
            return i
    return path.length


def _whole_bytes(bits: u64, width: u32, size: u32) -> u32 | Err:
    """The offset in bytes of a member at `bits` of a structure of `size` bytes. Err.UNSUPPORTED, Err.MALFORMED."""
    if width != 0 or bits % 8 != 0:
        return Err.UNSUPPORTED
    if bits // 8 >= u64(size):
        return Err.MALFORMED
    return u32(bits // 8)
