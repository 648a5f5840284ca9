# SPDX-License-Identifier: Apache-2.0
"""The BTF reader against an encoder of our own: what is there is found, and no input makes it trap or run away."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from btf_writer import Writer, image
from hypothesis import given, settings
from hypothesis import strategies as st

from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import btf
from delphyne.kernel.profile import KernelMachine
from delphyne.lang import Array, View, current, text, u16, u32, u64


@pytest.fixture(autouse=True, scope="module")
def machine() -> Iterator[KernelMachine]:
    with KernelMachine() as made:
        yield made


@dataclass
class Opened:
    reader: btf.Reader
    checkpoints: View[u32]
    found: list[int]

    def offset(self, at: int, path: str) -> int | Err:
        place = btf.offset_of(self.reader, self.checkpoints, u64(at), text(path.encode()))
        return place if isinstance(place, Err) else int(place)

    def enumerator(self, at: int, name: str) -> int | Err:
        number = btf.enumerator(self.reader, u64(at), text(name.encode()))
        return number if isinstance(number, Err) else int(number)


def reader_of(data: bytes) -> btf.Reader:
    machine, reader = current.machine(), btf.Reader()
    assert isinstance(machine, KernelMachine)
    btf.begin(reader, machine.load(data))
    reader.effort = btf.UNBOUNDED
    return reader


def found_in(data: bytes) -> btf.Sections | Err:
    reader = reader_of(data)
    done = btf.find(reader)
    return done if isinstance(done, Err) else reader.sections


def opened(data: bytes, *names: str, room: int = 64) -> Opened | Err:
    reader = reader_of(data)
    sections = btf.find(reader)
    if isinstance(sections, Err):
        return sections
    ends = [sum(len(name) for name in names[:i]) for i in range(len(names) + 1)]
    found, checkpoints = Array[u32, len(names)]()[:], Array[u32, room]()[:]
    done = btf.index(reader, text("".join(names).encode()), Array[u16, len(ends)].of(ends)[:], found, checkpoints)
    if isinstance(done, Err):
        return done
    return Opened(reader, checkpoints, [int(found[i]) for i in range(len(names))])


def sound(data: bytes, *names: str) -> Opened:
    got = opened(data, *names)
    assert isinstance(got, Opened), got
    return got


def a_kernel() -> Writer:
    """Types of every kind, a nest of structures, and names that are prefixes of each other."""
    w = Writer()
    long = w.integer("long", 8)
    w.add("float", 16, 4)
    w.add("", 13, long, struct.pack("<II", 0, long), 1)
    w.add("a_function", 12, 3, vlen=1)
    w.add("a_variable", 14, long, struct.pack("<I", 1))
    w.add(".data", 15, 8, struct.pack("<III", 5, 0, 8), 1)
    w.add("a_tag", 17, 1, struct.pack("<I", 0xFFFFFFFF))
    w.add("big", 19, 8, struct.pack("<III", w.name("BIG"), 1, 2), 1)
    w.add("forward", 7, 0)
    pointer = w.pointer(long)
    array = w.array(long, 4)
    regs = w.struct("regs", 48, [("x", array, 0), ("pc", long, 256), ("sp", long, 320)])
    alias = w.add("regs_t", 8, regs)
    qualified = w.add("", 9, w.add("", 10, w.add("", 11, w.add("", 18, alias))))
    anonymous = w.union("", 16, [("low", long, 0), ("high", long, 64)])
    inner = w.struct("", 32, [("first", long, 0), ("", anonymous, 64)])
    w.struct("vm", 120, [("id", long, 0), ("regs", qualified, 64), ("", inner, 448), ("next", pointer, 704)])
    w.struct("vm_long_name", 8, [("only", long, 0)])
    w.struct_with_widths("flags", 8, [("whole", long, 8, 0), ("narrow", long, 3, 5), ("even", long, 16, 8)])
    w.enum("calls", {"CALL_A": 1, "CALL_AB": 7, "NEGATIVE": 0xFFFFFFFF})
    return w


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("id", 0),
        ("regs", 8),
        ("regs.pc", 40),
        ("regs.sp", 48),
        ("first", 56),
        ("low", 64),
        ("high", 72),
        ("next", 88),
        ("regs.p", Err.NOT_FOUND),
        ("regs.pcc", Err.NOT_FOUND),
        ("missing", Err.NOT_FOUND),
        ("id.x", Err.NOT_FOUND),
        ("next.x", Err.NOT_FOUND),
        ("regs.", Err.NOT_FOUND),
        (".regs", Err.NOT_FOUND),
    ],
)
def test_members_are_found_by_path(path: str, expected: int | Err) -> None:
    got = sound(image(a_kernel().blob()), "vm")
    assert got.offset(got.found[0], path) == expected


def test_bit_fields_are_refused_and_their_neighbours_found() -> None:
    got = sound(image(a_kernel().blob()), "flags")
    assert got.offset(got.found[0], "whole") == 1
    assert got.offset(got.found[0], "narrow") == Err.UNSUPPORTED
    assert got.offset(got.found[0], "even") == Err.UNSUPPORTED


def test_a_name_is_not_its_prefix() -> None:
    w = a_kernel()
    got = sound(image(w.blob()), "vm", "vm_long_name", "vm_long", "calls", "forward", "regs_t")
    place = [sum(map(len, w.records[:i])) for i in range(len(w.records))]
    assert got.found == [place[19], place[20], 0xFFFFFFFF, place[22], 0xFFFFFFFF, 0xFFFFFFFF]
    assert int(got.reader.count) == len(w.records)
    assert btf.size_of(got.reader, u64(got.found[1])) == u32(8)


def test_enumerators() -> None:
    got = sound(image(a_kernel().blob()), "calls", "vm")
    at = got.found[0]
    assert got.enumerator(at, "CALL_AB") == 7
    assert got.enumerator(at, "NEGATIVE") == 0xFFFFFFFF
    assert got.enumerator(at, "CALL_") == Err.NOT_FOUND
    assert got.enumerator(got.found[1], "id") == Err.NOT_FOUND


def test_every_type_number_is_reached_by_checkpoints() -> None:
    w = Writer()
    for i in range(100):
        w.struct(f"s{i}", 8 * i + 8, [("m", 1, 64 * i)] * (i % 5))
    got = sound(image(w.blob()), "s99")
    places = [sum(map(len, w.records[:i])) for i in range(100)]
    for i in range(100):
        assert btf.type_at(got.reader, got.checkpoints, u32(i + 1)) == u64(places[i])
    assert btf.type_at(got.reader, got.checkpoints, u32(0)) == Err.NOT_FOUND
    for beyond in (101, 129, 64 * 32 + 1):
        assert btf.type_at(got.reader, got.checkpoints, u32(beyond)) == Err.MALFORMED
    assert btf.type_at(got.reader, got.checkpoints, u32(0xFFFFFFFF)) == Err.MALFORMED


@pytest.mark.parametrize("shift", [0, 4, 8, 12])
@pytest.mark.parametrize("data_at", [None, 100, 5000, 0xFFFFFFFF])
def test_the_blob_is_found_wherever_it_stands(shift: int, data_at: int | None) -> None:
    blob = a_kernel().blob()
    data = image(blob, before=256 + shift, after=61, data_at=data_at)
    assert found_in(data) == btf.sections_at(reader_of(data), u64(256 + shift))


def test_headers_that_are_not_sound_are_passed_over() -> None:
    blob = a_kernel().blob()
    decoys = [
        blob[:4] + struct.pack("<I", 23) + blob[8:],
        blob[:8] + struct.pack("<I", 2) + blob[12:],
        blob[:12] + struct.pack("<I", 0xFFFFFFFC) + blob[16:],
        blob[:12] + struct.pack("<I", 8) + blob[16:],
        blob[:12] + struct.pack("<I", struct.unpack_from("<I", blob, 16)[0] + 4) + blob[16:],
        blob[:16] + struct.pack("<I", 0) + blob[20:],
        blob[:20] + struct.pack("<I", 0) + blob[24:],
        blob[:20] + struct.pack("<I", len(blob) * 100) + blob[24:],
    ]
    for decoy in decoys:
        assert found_in(image(decoy)) == Err.NOT_FOUND
        padding = bytes(-len(blob) % 4)
        both = image(blob + padding + decoy)
        assert found_in(both) == btf.sections_at(reader_of(both), u64(256))
    unterminated = blob[:-1] + b"x"
    assert found_in(image(unterminated)) == Err.NOT_FOUND
    for data in (b"", b"MZ", bytes(63), blob[:23], image(b"")):
        assert found_in(data) == Err.NOT_FOUND


def test_two_definitions_of_one_name_are_ambiguous() -> None:
    w = Writer()
    w.struct("twice", 8, [])
    w.add("twice", 7, 0)
    assert sound(image(w.blob()), "twice").found == [0]
    w.struct("twice", 16, [])
    got = sound(image(w.blob()), "twice")
    assert got.found == [0xFFFFFFFE]
    assert got.offset(got.found[0], "x") == Err.TRUNCATED


def test_cycles_end() -> None:
    w = Writer()
    w.add("a", 8, 2)
    w.add("b", 8, 1)
    w.struct("through_names", 8, [("m", 1, 0)])
    w.struct("in_itself", 8, [("", 4, 0)])
    w.union("", 8, [("", 5, 0), ("", 5, 0)])
    w.struct("doubling", 8, [("", 5, 0)])
    got = sound(image(w.blob()), "through_names", "in_itself", "doubling")
    for at, path in zip(got.found, ("m.x", "x", "x"), strict=True):
        assert got.offset(at, path) == Err.UNSUPPORTED


def test_offsets_outside_the_structure_are_refused() -> None:
    w = Writer()
    long = w.integer("long", 8)
    w.struct("small", 8, [("inside", long, 56), ("outside", long, 64), ("ragged", long, 3)])
    got = sound(image(w.blob()), "small")
    assert got.offset(got.found[0], "inside") == 7
    assert got.offset(got.found[0], "outside") == Err.MALFORMED
    assert got.offset(got.found[0], "ragged") == Err.UNSUPPORTED


def test_records_without_end_and_unknown_kinds_are_refused() -> None:
    w = Writer()
    w.struct("s", 8, [])
    good = list(w.records)
    w.records = [*good, struct.pack("<III", 0, (4 << 24) | 0xFFFF, 8)]
    assert opened(image(w.blob())) == Err.TRUNCATED
    w.records = [*good, struct.pack("<III", 0, 20 << 24, 8)]
    assert opened(image(w.blob())) == Err.UNSUPPORTED
    w.records = [*good, b"\0" * 4]
    assert opened(image(w.blob())) == Err.TRUNCATED


def test_types_that_end_inside_a_record_are_refused() -> None:
    blob = a_kernel().blob()
    for missing in (1, 2, 3, 4):
        shorter = blob[:12] + struct.pack("<I", struct.unpack_from("<I", blob, 12)[0] - missing) + blob[16:]
        assert opened(image(shorter)) == Err.TRUNCATED


@pytest.mark.parametrize("count", [4096, 4097])
def test_structures_and_enums_beyond_the_limit_are_refused(count: int) -> None:
    w = Writer()
    w.struct("wide", 8 * count, [("m", 1, 64 * number) for number in range(count - 1)] + [("last", 1, 8)])
    w.enum("long", {f"E{number}": number for number in range(count)})
    got = sound(image(w.blob()), "wide", "long")
    assert got.offset(got.found[0], "last") == (1 if count == 4096 else Err.UNSUPPORTED)
    assert got.enumerator(got.found[1], "E7") == (7 if count == 4096 else Err.UNSUPPORTED)


def test_too_little_room_for_checkpoints_is_said() -> None:
    w = Writer()
    for _ in range(65):
        w.pointer(0)
    assert isinstance(opened(image(w.blob()), room=3), Opened)
    assert opened(image(w.blob()), room=2) == Err.NO_MEMORY


KERNEL = image(a_kernel().blob(), data_at=4096)


@settings(max_examples=250, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, len(KERNEL) - 1), st.integers(0, 255) | st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=6),
    length=st.one_of(st.just(len(KERNEL)), st.integers(0, len(KERNEL))),
)
def test_no_damage_makes_it_trap(changes: list[tuple[int, int]], length: int) -> None:
    data = bytearray(KERNEL)
    for at, byte in changes:
        data[at] = byte
    got = opened(bytes(data[:length]), "vm", "flags", "calls")
    if isinstance(got, Err):
        return
    for path in ("id", "regs.pc", "high", "next", "missing", "regs.missing"):
        place = got.offset(got.found[0], path)
        size = btf.size_of(got.reader, u64(got.found[0]))
        assert isinstance(place, Err) or (not isinstance(size, Err) and place < size)
    got.offset(got.found[1], "narrow")
    got.enumerator(got.found[2], "CALL_AB")


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 31), st.integers(0, 6), st.integers(0, 12), st.binary(max_size=72)), max_size=12),
)
def test_no_random_types_make_it_trap(records: list[tuple[int, int, int, int, bytes]]) -> None:
    w = Writer()
    w.name("vm")
    w.records = [struct.pack("<III", name, (kind << 24) | vlen, word) + tail for name, kind, vlen, word, tail in records]
    w.struct("vm", 64, [("", 1, 0), ("a", 2, 0), ("", 3, 8)])
    got = opened(image(w.blob()), "vm")
    if isinstance(got, Opened):
        for path in ("a.b", "b", "a.a.a"):
            got.offset(got.found[0], path)
