# SPDX-License-Identifier: Apache-2.0
"""Where a kernel keeps what EL2 needs, and by which numbers it calls: read once at boot from the BTF in the kernel's image.

The image is hostile (see `btf`); what comes out of it is bounded here: an offset lies in its structure, a register in `kvm_vcpu`, a call
number in the table. No lock: the caller owns the `Layout` and freezes it.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import btf, names
from delphyne.el2.kvm.names import FIELDS, REGISTERS, Call, Field, Subject
from delphyne.lang import Array, Slice, View, struct, u8, u16, u32, u64

ABSENT: Final = u32(0xFFFF_FFFF)
NO_REGISTER: Final = u16(0xFFFF)
REGISTERS_LIMIT: Final = u32(0xFFFF)
CALL_NUMBERS: Final = u64(64)
"""Host calls have numbers below this."""


@struct
class Layout:
    """What one kernel's BTF says. Indexed by the numbers of the enums in `names`."""

    offsets: Array[u32, FIELDS]
    """By Field: bytes from the start of its structure, or ABSENT."""
    sizes: Array[u32, 4]
    """By Subject, structures only: bytes."""
    calls: Array[u8, 64]
    """By the host's call number: the number of a Call, UNKNOWN where EL2 serves none by it."""
    known_calls: u32
    """Bit n is set where the kernel has the Call n."""
    registers: Array[u16, REGISTERS]
    """By Register: index in sys_regs, or NO_REGISTER."""


@struct
class Definitions:
    """What the pass over the types found: the definitions by Subject, and how many types there are."""

    found: Array[u32, 6]
    count: u64


def read(image: View[u8], checkpoints: Slice[u32], layout: Layout) -> None | Err:
    """Fill `layout` from the arm64 Image `image`. `checkpoints` is scratch, a place for every 32 types (64 KiB do for 524,288).

    What the kernel does not have is ABSENT: see `is_complete`. Err.NOT_FOUND where there is no BTF, Err.NO_MEMORY where `checkpoints` is too
    short, Err.TRUNCATED, Err.MALFORMED or Err.UNSUPPORTED where the BTF cannot be read; `layout` is then as it was.
    """
    sections = btf.find(image)
    if isinstance(sections, Err):
        return sections
    types = image[sections.types : sections.types_end]
    strings = image[sections.strings : sections.strings_end]
    known = Definitions()
    count = btf.index(types, strings, names.DEFINITIONS[:], names.DEFINITION_ENDS[:], known.found[:], checkpoints)
    if isinstance(count, Err):
        return count
    known.count = count
    _read_sizes(types, known, layout)
    _read_offsets(types, strings, checkpoints, known, layout)
    _read_calls(types, strings, known, layout)
    _read_registers(types, strings, known, layout)
    return None


def is_complete(layout: Layout) -> bool:
    """Whether the kernel has all that EL2 cannot do without."""
    return first_absent(layout) is None and _calls_are_complete(layout) and _registers_are_complete(layout)


def first_absent(layout: Layout) -> Field | None:
    """The first member that EL2 needs and the kernel does not have."""
    for number in u64.range(FIELDS):
        if names.PATH_NEEDED[number] != 0 and layout.offsets[number] == ABSENT:
            return Field.of(u16(number))
    if offset(layout, Field.MMU_VTCR) == ABSENT and offset(layout, Field.ARCH_VTCR) == ABSENT:
        return Field.MMU_VTCR
    return None


def offset(layout: Layout, field: Field) -> u32:
    """Where a member stands in its structure, or ABSENT."""
    return layout.offsets[u64(field.raw)]


def has_call(layout: Layout, call: Call) -> bool:
    """Whether the kernel makes this call."""
    return (layout.known_calls >> u32(call.raw)) & 1 != 0


def _calls_are_complete(layout: Layout) -> bool:
    for number in u64.range(1, names.FIRST_OPTIONAL_CALL):
        if (layout.known_calls >> u32(number)) & 1 == 0:
            return False
    return True


def _registers_are_complete(layout: Layout) -> bool:
    for number in u64.range(names.FIRST_OPTIONAL_REGISTER):
        if layout.registers[number] == NO_REGISTER:
            return False
    return True


def _read_sizes(types: View[u8], known: Definitions, layout: Layout) -> None:
    for subject in u64.range(layout.sizes.length):
        size = btf.size_of(types, u64(known.found[subject]))
        layout.sizes[subject] = u32(0) if isinstance(size, Err) else size


def _read_offsets(types: View[u8], strings: View[u8], checkpoints: View[u32], known: Definitions, layout: Layout) -> None:
    for field in u64.range(FIELDS):
        path = names.PATHS[u64(names.PATH_ENDS[field]) : u64(names.PATH_ENDS[field + 1])]
        at = u64(known.found[u64(names.PATH_SUBJECTS[field])])
        place = btf.offset_of(types, strings, checkpoints, known.count, at, path)
        layout.offsets[field] = ABSENT if isinstance(place, Err) else place


def _read_calls(types: View[u8], strings: View[u8], known: Definitions, layout: Layout) -> None:
    layout.calls.fill(u8(0))
    layout.known_calls = u32(0)
    at = u64(known.found[u64(Subject.CALLS.raw)])
    for number in u64.range(names.CALLS):
        name = names.CALL_NAMES[u64(names.CALL_ENDS[number]) : u64(names.CALL_ENDS[number + 1])]
        called = btf.enumerator(types, strings, at, name)
        if not isinstance(called, Err) and u64(called) < CALL_NUMBERS:
            layout.calls[u64(called)] = u8(number + 1)
            layout.known_calls |= u32(1) << u32(number + 1)


def _read_registers(types: View[u8], strings: View[u8], known: Definitions, layout: Layout) -> None:
    at = u64(known.found[u64(Subject.REGISTERS.raw)])
    first = u64(offset(layout, Field.VCPU_SYS_REGS))
    size = u64(layout.sizes[u64(Subject.VCPU.raw)])
    for number in u64.range(REGISTERS):
        name = names.REGISTER_NAMES[u64(names.REGISTER_ENDS[number]) : u64(names.REGISTER_ENDS[number + 1])]
        place = btf.enumerator(types, strings, at, name)
        layout.registers[number] = NO_REGISTER
        if not isinstance(place, Err) and place < REGISTERS_LIMIT and first + u64(place) * 8 + 8 <= size:
            layout.registers[number] = u16(place)
