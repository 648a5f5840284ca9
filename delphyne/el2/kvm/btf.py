# SPDX-License-Identifier: Apache-2.0
"""A reader of BTF, the type information that a Linux kernel carries in its image.

Format: the kernel's Documentation/bpf/btf.rst and include/uapi/linux/btf.h. A header, then the types, records of 12 bytes and more that are numbered
from 1 in the order in which they stand, then the strings. Numbers are little-endian. Type 0 is void.

The image is hostile: every offset, count, kind and type number is checked before it is used, every search is bounded, and what does not fit is
an Err. Nothing traps. No lock; the state is what the caller passes: the two sections as views, and the *checkpoints*, the place of every
32nd type, by which one pass makes type numbers easy to follow.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.lang import Array, Slice, View, constant, load_le16, load_le32, load_le64, u8, u16, u32, u64, value

MAGIC: Final = u32(0x0001_EB9F)
"""Magic 0xEB9F, version 1, flags 0."""
HEADER_BYTES: Final = u64(24)
SECTION_LIMIT: Final = u64(1 << 28)
"""The largest section that is read: 256 MiB."""
RECORD_BYTES: Final = u64(12)

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
class Member:
    """Where a member begins in its structure, in bits; its type; and its width in bits if it is a bit field, else 0."""

    bits: u64
    type_id: u32
    width: u32


def find(image: View[u8]) -> Sections | Err:
    """Find the BTF of an arm64 Image: the last place with a sound header.

    It stands at the end of the read-only data, so that the search begins where the PE header says that data begins and runs downward.
    Err.NOT_FOUND where there is none.
    """
    top = _start_of_data(image) & ~u64(15)
    found = _search(image, u64(0), top)
    if isinstance(found, Err):
        return _search(image, top, image.length)
    return found


def sections_at(image: View[u8], at: u64) -> Sections | Err:
    """The sections of the BTF whose header stands at `at`. Err.NOT_FOUND, Err.TRUNCATED or Err.MALFORMED where there is no sound header."""
    if at > image.length or image.length - at < HEADER_BYTES:
        return Err.TRUNCATED
    length = u64(load_le32(image, at + 4))
    if load_le32(image, at) != MAGIC or length < HEADER_BYTES:
        return Err.NOT_FOUND
    base = at + length
    types = base + u64(load_le32(image, at + 8))
    types_length = u64(load_le32(image, at + 12))
    strings = base + u64(load_le32(image, at + 16))
    strings_length = u64(load_le32(image, at + 20))
    if types_length > SECTION_LIMIT or strings_length > SECTION_LIMIT:
        return Err.MALFORMED
    if types + types_length > image.length or strings + strings_length > image.length:
        return Err.TRUNCATED
    if (types - base) % 4 != 0 or types_length < RECORD_BYTES or types + types_length > strings or strings_length == 0:
        return Err.MALFORMED
    if image[strings] != 0 or image[strings + strings_length - 1] != 0:
        return Err.MALFORMED
    return Sections(types, types + types_length, strings, strings + strings_length)


def index(types: View[u8], strings: View[u8], names: View[u8], ends: View[u16], found: Slice[u32], checkpoints: Slice[u32]) -> u64 | Err:
    """Pass over all types once: fill `checkpoints`, and say in `found` where the structures, unions and enums with certain names stand.

    Name i is `names` from `ends[i]` to `ends[i + 1]`; `found[i]` becomes its place in `types`, NOT_FOUND or AMBIGUOUS. Returns the number of
    types. Err.TRUNCATED or Err.UNSUPPORTED where a record has no end or an unknown kind, Err.NO_MEMORY where `checkpoints` has not a
    place for every 32 types; both arrays then hold nothing of use.
    """
    found.fill(NOT_FOUND)
    count = u64(0)
    at = u64(0)
    while at < types.length:
        length = _record_length(types, at)
        if isinstance(length, Err):
            return length
        if count & 31 == 0:
            if count >> CHECKPOINT_SHIFT >= checkpoints.length:
                return Err.NO_MEMORY
            checkpoints[count >> CHECKPOINT_SHIFT] = u32(at)
        kind = _kind(types, at)
        if kind >= KIND_STRUCT and kind <= KIND_ENUM:
            _note(types, strings, at, names, ends, found)
        at += length
        count += 1
    return count


def type_at(types: View[u8], checkpoints: View[u32], count: u64, type_id: u32) -> u64 | Err:
    """Where the type with this number stands, of `count` types. Err.NOT_FOUND for void, Err.MALFORMED for a number that is none."""
    if type_id == 0:
        return Err.NOT_FOUND
    number = u64(type_id) - 1
    if number >= count or number >> CHECKPOINT_SHIFT >= checkpoints.length:
        return Err.MALFORMED
    at = u64(checkpoints[number >> CHECKPOINT_SHIFT])
    for _ in u64.range(number & 31):
        length = _record_length(types, at)
        if isinstance(length, Err):
            return length
        at += length
    if at >= types.length:
        return Err.MALFORMED
    return at


def struct_at(types: View[u8], checkpoints: View[u32], count: u64, type_id: u32) -> u64 | Err:
    """Where the structure or union stands that a type is, once its names and qualifiers are followed.

    Err.NOT_FOUND where it is something else, Err.UNSUPPORTED where it has more than MODIFIERS_LIMIT of them, which ends cycles too.
    """
    number = type_id
    for _ in u64.range(MODIFIERS_LIMIT):
        at = type_at(types, checkpoints, count, number)
        if isinstance(at, Err):
            return at
        if not _has_record(types, at):
            return Err.TRUNCATED
        kind = _kind(types, at)
        if _has_members(kind):
            return at
        if not _is_modifier(kind):
            return Err.NOT_FOUND
        number = load_le32(types, at + 8)
    return Err.UNSUPPORTED


def size_of(types: View[u8], at: u64) -> u32 | Err:
    """The size in bytes of the structure, union or enum at `at`. Err.TRUNCATED, Err.NOT_FOUND where there is none."""
    if not _has_record(types, at):
        return Err.TRUNCATED
    kind = _kind(types, at)
    if kind < KIND_STRUCT or kind > KIND_ENUM:
        return Err.NOT_FOUND
    return load_le32(types, at + 8)


def offset_of(types: View[u8], strings: View[u8], checkpoints: View[u32], count: u64, at: u64, path: View[u8]) -> u32 | Err:
    """The offset in bytes of a member of the structure at `at`; `path` names it, with a dot between a structure and its member.

    Members of anonymous structures are found as in C. Err.NOT_FOUND where there is no such member, Err.UNSUPPORTED for a bit field or
    beyond the limits above, Err.TRUNCATED or Err.MALFORMED where the types contradict themselves.
    """
    size = size_of(types, at)
    if isinstance(size, Err):
        return size
    bits = u64(0)
    where = at
    start = u64(0)
    while start <= path.length:
        end = _end_of_name(path, start)
        member = find_member(types, strings, checkpoints, count, where, path[start:end])
        if isinstance(member, Err):
            return member
        bits += member.bits
        if end == path.length:
            return _whole_bytes(bits, member.width, size)
        inner = struct_at(types, checkpoints, count, member.type_id)
        if isinstance(inner, Err):
            return inner
        where = inner
        start = end + 1
    return Err.NOT_FOUND


def find_member(types: View[u8], strings: View[u8], checkpoints: View[u32], count: u64, at: u64, name: View[u8]) -> Member | Err:
    """The member called `name` of the structure or union at `at`, or of an anonymous one in it. Errors as `offset_of`."""
    places = Array[u64, 32]()
    offsets = Array[u64, 32]()
    places[0] = at
    filled = u64(1)
    taken = u64(0)
    while taken < filled:
        here = places[taken]
        length = _record_length(types, here)
        if isinstance(length, Err):
            return length
        items = _items(types, here)
        if items > MEMBERS_LIMIT:
            return Err.UNSUPPORTED
        if not _has_members(_kind(types, here)):
            return Err.NOT_FOUND
        for number in u64.range(items):
            member = _member(types, here, number, offsets[taken])
            called = load_le32(types, here + RECORD_BYTES + number * 12)
            if name_is(strings, called, name):
                return member
            if is_anonymous(strings, called):
                inner = struct_at(types, checkpoints, count, member.type_id)
                if not isinstance(inner, Err):
                    if filled == NESTED_LIMIT:
                        return Err.UNSUPPORTED
                    places[filled] = inner
                    offsets[filled] = member.bits
                    filled += 1
        taken += 1
    return Err.NOT_FOUND


def enumerator(types: View[u8], strings: View[u8], at: u64, name: View[u8]) -> u32 | Err:
    """The value of an enumerator of the enum at `at`, as the 32 bits that stand there. Err.NOT_FOUND, Err.TRUNCATED, Err.UNSUPPORTED."""
    length = _record_length(types, at)
    if isinstance(length, Err):
        return length
    if _kind(types, at) != KIND_ENUM:
        return Err.NOT_FOUND
    items = _items(types, at)
    if items > MEMBERS_LIMIT:
        return Err.UNSUPPORTED
    for number in u64.range(items):
        item = at + RECORD_BYTES + number * 8
        if name_is(strings, load_le32(types, item), name):
            return load_le32(types, item + 4)
    return Err.NOT_FOUND


def name_is(strings: View[u8], at: u32, name: View[u8]) -> bool:
    """Whether the string at `at` is `name`, which holds no NUL. False where it lies outside the section."""
    start = u64(at)
    if start >= strings.length or name.length >= strings.length - start:
        return False
    for i in u64.range(name.length):
        if strings[start + i] != name[i]:
            return False
    return strings[start + name.length] == 0


def is_anonymous(strings: View[u8], at: u32) -> bool:
    """Whether the string at `at` is empty."""
    return u64(at) < strings.length and strings[u64(at)] == 0


def _start_of_data(image: View[u8]) -> u64:
    """Where the PE header of an arm64 Image says that its second section, data, begins; the end of the image where it does not say."""
    if image.length < 64 or load_le16(image, u64(0)) != 0x5A4D:
        return image.length
    header = u64(load_le32(image, u64(60)))
    if header > image.length or image.length - header < 24 or load_le32(image, header) != 0x4550:
        return image.length
    sections = header + 24 + u64(load_le16(image, header + 20))
    if load_le16(image, header + 6) < 2 or sections + 80 > image.length:
        return image.length
    return min(u64(load_le32(image, sections + 40 + 20)), image.length)


def _search(image: View[u8], low: u64, high: u64) -> Sections | Err:
    """The last sound header that begins in `image` from `low`, a multiple of 16, to `high`, at a multiple of 4. Err.NOT_FOUND."""
    top = high
    while top > low:
        stripe = _last_stripe(image[low:top])
        if stripe is None:
            return Err.NOT_FOUND
        for back in u64.range(4):
            found = sections_at(image, low + stripe + (3 - back) * 4)
            if not isinstance(found, Err):
                return found
        top = low + stripe
    return Err.NOT_FOUND


def _last_stripe(window: View[u8]) -> u64 | None:
    """The last whole 16 bytes that hold the magic at a multiple of 4. This passes over megabytes, so it does little else."""
    at = window.length & ~u64(15)
    while at >= 16:
        at -= 16
        lower = load_le64(window, at)
        upper = load_le64(window, at + 8)
        if u32.wrap(lower) == MAGIC or u32.wrap(lower >> 32) == MAGIC or u32.wrap(upper) == MAGIC or u32.wrap(upper >> 32) == MAGIC:
            return at
    return None


def _has_record(types: View[u8], at: u64) -> bool:
    """Whether the first 12 bytes of a record lie in the section."""
    return at <= types.length and types.length - at >= RECORD_BYTES


def _kind(types: View[u8], at: u64) -> u64:
    return u64((load_le32(types, at + 4) >> 24) & 31)


def _items(types: View[u8], at: u64) -> u64:
    """How many members, values or parameters the record at `at` says that it has."""
    return u64(load_le16(types, at + 4))


def _record_length(types: View[u8], at: u64) -> u64 | Err:
    """Bytes of the record at `at`. Err.TRUNCATED where the section ends before, Err.UNSUPPORTED for an unknown kind."""
    if not _has_record(types, at):
        return Err.TRUNCATED
    kind = _kind(types, at)
    extra = EXTRA[kind]
    if extra == 255:
        return Err.UNSUPPORTED
    length = RECORD_BYTES + u64(extra) + _items(types, at) * u64(EACH[kind])
    if length > types.length - at:
        return Err.TRUNCATED
    return length


def _has_members(kind: u64) -> bool:
    return kind >= KIND_STRUCT and kind <= KIND_UNION


def _is_modifier(kind: u64) -> bool:
    """Whether the third word of such a record is another type that it stands for."""
    return (kind >= KIND_TYPEDEF and kind <= KIND_RESTRICT) or kind == KIND_TYPE_TAG


def _note(types: View[u8], strings: View[u8], at: u64, names: View[u8], ends: View[u16], found: Slice[u32]) -> None:
    """If the definition at `at` has one of the names, note its place."""
    called = load_le32(types, at)
    for i in u64.range(found.length):
        if name_is(strings, called, names[u64(ends[i]):u64(ends[i + 1])]):
            found[i] = u32(at) if found[i] == NOT_FOUND else AMBIGUOUS


def _member(types: View[u8], at: u64, number: u64, base: u64) -> Member:
    """Member `number` of the structure at `at`, which itself begins `base` bits into another."""
    item = at + RECORD_BYTES + number * 12
    place = load_le32(types, item + 8)
    has_widths = load_le32(types, at + 4) >> 31 != 0
    if has_widths:
        return Member(base + u64(place & 0xFF_FFFF), load_le32(types, item + 4), place >> 24)
    return Member(base + u64(place), load_le32(types, item + 4), u32(0))


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
