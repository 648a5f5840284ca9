# SPDX-License-Identifier: Apache-2.0
"""Where a kernel keeps what EL2 needs, and by which numbers it calls: read from the BTF in the kernel's image, piece by piece.

The image is hostile (see `btf`); what comes out of it is bounded here: an offset lies in its structure, a register in `kvm_vcpu`, a call
number in the table. A piece is bounded too, so that a host that starts a kernel does not keep a CPU at EL2: `go_on` returns after PIECE_EFFORT, and a
name for which ITEM_EFFORT is not enough counts as absent. No lock: the caller owns the `Reading` and the `Layout`.
"""

from __future__ import annotations

from typing import Final

from delphyne.el2.arch.err import Err
from delphyne.el2.kvm import btf, names
from delphyne.el2.kvm.btf import Reader
from delphyne.el2.kvm.names import FIELDS, REGISTERS, Call, Field, Subject
from delphyne.lang import Array, Enum8, Hostile, Slice, struct, u8, u16, u32, u64

ABSENT: Final = u32(0xFFFF_FFFF)
NO_REGISTER: Final = u16(0xFFFF)
REGISTERS_LIMIT: Final = u32(0xFFFF)
CALL_NUMBERS: Final = u64(64)
"""Host calls have numbers below this."""
PIECE_EFFORT: Final = u64(1200)
"""After how much `go_on` ends. With the chunk or the name that it has begun it is at most 200,000 instructions, as long as EL2 may stay with
interrupts masked."""
ITEM_EFFORT: Final = u64(1000)
"""For one member, call or register. Those of the kernels that are known take a quarter of it."""


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


class Phase(Enum8):
    """What a reading is about."""

    SEARCH = 0
    TYPES = 1
    SIZES = 2
    MEMBERS = 3
    CALLS = 4
    REGISTERS = 5
    DONE = 6


@struct
class Reading:
    """How far a kernel was read: `item` is the next one of the phase. `found` has the definitions by Subject."""

    reader: Reader
    phase: Phase
    item: u64
    found: Array[u32, 6]


def begin(reading: Reading, image: Hostile) -> None:
    """The arm64 Image `image`, of which nothing is read yet."""
    btf.begin(reading.reader, image)
    reading.phase = Phase.SEARCH
    reading.item = u64(0)


def read(reading: Reading, checkpoints: Slice[u32], layout: Layout) -> None | Err:
    """`go_on` until it is done, however long that takes."""
    while True:
        done = go_on(reading, checkpoints, layout)
        if isinstance(done, Err):
            return done
        if done:
            return None


def go_on(reading: Reading, checkpoints: Slice[u32], layout: Layout) -> bool | Err:
    """One piece of reading a kernel into `layout`. True where that is complete, False: call again, with the same arguments. `checkpoints` is
    scratch, a place for every 32 types (64 KiB do for 524,288).

    What the kernel does not have is ABSENT: see `is_complete`. Err.NOT_FOUND where there is no BTF, Err.NO_MEMORY where `checkpoints` is too
    short, Err.TRUNCATED, Err.MALFORMED or Err.UNSUPPORTED where the BTF cannot be read; `layout` is then as it was.
    """
    reader = reading.reader
    reader.effort = PIECE_EFFORT
    match reading.phase:
        case Phase.SEARCH:
            found = btf.find(reader)
            if isinstance(found, Err):
                return found
            if found:
                reading.phase = Phase.TYPES
        case Phase.TYPES:
            passed = btf.index(reader, names.DEFINITIONS[:], names.DEFINITION_ENDS[:], reading.found[:], checkpoints)
            if isinstance(passed, Err):
                return passed
            if passed:
                reading.phase = Phase.SIZES
        case Phase.SIZES:
            _read_sizes(reading, layout)
            reading.phase = Phase.MEMBERS
        case Phase.MEMBERS:
            _read_items(reading, checkpoints, layout, FIELDS, Phase.CALLS)
        case Phase.CALLS:
            _read_items(reading, checkpoints, layout, names.CALLS, Phase.REGISTERS)
        case Phase.REGISTERS:
            _read_items(reading, checkpoints, layout, REGISTERS, Phase.DONE)
        case Phase.DONE:
            return True
    return False


def is_complete(layout: Layout) -> bool:
    """Whether the kernel has all that EL2 cannot do without, and asks nothing of it that it does not do: an older KVM has its EL2 code save the
    host's SIMD registers where the kernel's `arch.host_fpsimd_state` says, where newer ones have saved them before."""
    if first_absent(layout) is not None or offset(layout, Field.VCPU_HOST_FP) != ABSENT:
        return False
    return _calls_are_complete(layout) and _registers_are_complete(layout)


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


def _read_sizes(reading: Reading, layout: Layout) -> None:
    for subject in u64.range(layout.sizes.length):
        size = btf.size_of(reading.reader, u64(reading.found[subject]))
        layout.sizes[subject] = u32(0) if isinstance(size, Err) else size
    layout.calls.fill(u8(0))
    layout.known_calls = u32(0)


def _read_items(reading: Reading, checkpoints: Slice[u32], layout: Layout, count: u64, following: Phase) -> None:
    """Items of this phase, up to `count`, while there is effort for a whole one."""
    left = PIECE_EFFORT
    while reading.item < count and left >= ITEM_EFFORT:
        reading.reader.effort = ITEM_EFFORT
        if reading.phase is Phase.MEMBERS:
            _read_member(reading, checkpoints, layout)
        elif reading.phase is Phase.CALLS:
            _read_call(reading, layout)
        else:
            _read_register(reading, layout)
        left -= ITEM_EFFORT - reading.reader.effort
        reading.item += 1
    if reading.item == count:
        reading.phase = following
        reading.item = u64(0)


def _read_member(reading: Reading, checkpoints: Slice[u32], layout: Layout) -> None:
    """The place in the structure is held against the size that was kept: the image may say another one by now."""
    field = reading.item
    subject = u64(names.PATH_SUBJECTS[field])
    path = names.PATHS[u64(names.PATH_ENDS[field]) : u64(names.PATH_ENDS[field + 1])]
    place = btf.offset_of(reading.reader, checkpoints, u64(reading.found[subject]), path)
    layout.offsets[field] = ABSENT if isinstance(place, Err) or place >= layout.sizes[subject] else place


def _read_call(reading: Reading, layout: Layout) -> None:
    number = reading.item
    name = names.CALL_NAMES[u64(names.CALL_ENDS[number]) : u64(names.CALL_ENDS[number + 1])]
    called = btf.enumerator(reading.reader, u64(reading.found[u64(Subject.CALLS.raw)]), name)
    if not isinstance(called, Err) and u64(called) < CALL_NUMBERS:
        layout.calls[u64(called)] = u8(number + 1)
        layout.known_calls |= u32(1) << u32(number + 1)


def _read_register(reading: Reading, layout: Layout) -> None:
    number = reading.item
    name = names.REGISTER_NAMES[u64(names.REGISTER_ENDS[number]) : u64(names.REGISTER_ENDS[number + 1])]
    place = btf.enumerator(reading.reader, u64(reading.found[u64(Subject.REGISTERS.raw)]), name)
    first = u64(offset(layout, Field.VCPU_SYS_REGS))
    size = u64(layout.sizes[u64(Subject.VCPU.raw)])
    layout.registers[number] = NO_REGISTER
    if not isinstance(place, Err) and place < REGISTERS_LIMIT and first + u64(place) * 8 + 8 <= size:
        layout.registers[number] = u16(place)
