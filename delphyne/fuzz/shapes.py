# SPDX-License-Identifier: Apache-2.0
"""The types that generated programs use, and the ways from an object to the parts inside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Int:
    """u8 to u64."""

    bits: int

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"u{self.bits}"

    @property
    def largest(self) -> int:
        """The largest number that fits."""
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Bool:
    """bool."""

    text: str = "bool"


@dataclass(frozen=True)
class Unit:
    """No result."""

    text: str = "None"


@dataclass(frozen=True)
class Enumeration:
    """An enum kept in that many bits; the first member is 0."""

    text: str
    bits: int
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Field:
    """A declared bit field, bits high..low."""

    name: str
    type: Int | Bool | Enumeration
    high: int
    low: int

    @property
    def largest(self) -> int:
        """The largest number that fits."""
        return (1 << (self.high - self.low + 1)) - 1


@dataclass(frozen=True)
class BitClass:
    """A class of declared bit fields."""

    text: str
    bits: int
    fields: tuple[Field, ...]


@dataclass(frozen=True)
class Method:
    """`kind` is method, property, static or an operator's sign; `params` do not count self."""

    name: str
    kind: str
    params: tuple[Shape, ...]
    result: Shape
    body: str


@dataclass(frozen=True)
class Value:
    """An immutable record."""

    text: str
    fields: tuple[tuple[str, Shape], ...]
    methods: tuple[Method, ...] = ()


@dataclass(frozen=True)
class Handle:
    """A handle of a pool."""

    struct: Struct

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"Handle[{self.struct.text}]"


@dataclass(frozen=True)
class Tuple:
    """Results of several parts."""

    items: tuple[Shape, ...]

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"tuple[{', '.join(item.text for item in self.items)}]"


@dataclass(frozen=True)
class Option:
    """`item | None`."""

    item: Shape

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"{self.item.text} | None"


@dataclass(frozen=True)
class Result:
    """`item | Err`; the error class is always `Err`."""

    item: Shape

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"{self.item.text} | Err"


@dataclass(frozen=True)
class Struct:
    """A record at a place."""

    text: str
    fields: tuple[tuple[str, Shape], ...]
    align: int = 0


@dataclass(frozen=True)
class Array:
    """`length` items at a place."""

    item: Shape
    length: int

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"Array[{self.item.text}, {self.length}]"


@dataclass(frozen=True)
class Slice:
    """A slice, or a view where it is not writable."""

    item: Shape
    writable: bool

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"{'Slice' if self.writable else 'View'}[{self.item.text}]"


@dataclass(frozen=True)
class Atomic:
    """An atomic integer."""

    bits: int

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"AtomicU{self.bits}"


@dataclass(frozen=True)
class PoolOf:
    """A pool of structs."""

    struct: Struct
    length: int

    @property
    def text(self) -> str:
        """As an annotation writes it."""
        return f"Pool[{self.struct.text}, {self.length}]"


Shape = Int | Bool | Unit | Enumeration | BitClass | Value | Handle | Tuple | Option | Result | Struct | Array | Slice | Atomic | PoolOf

WIDTHS = (8, 16, 32, 64)
INTS = tuple(Int(bits) for bits in WIDTHS)
U8, U16, U32, U64 = INTS
BOOL = Bool()
UNIT = Unit()


@dataclass(frozen=True)
class Path:
    """A way from an object to a part: field names, items of tuples such as `[1]`, and array lengths where an index must be given (None: a slice,
    length unknown)."""

    steps: tuple[str | int | None, ...]
    target: Shape
    writable: bool


def is_scalar(shape: Shape) -> bool:
    """Held in locals, copied by assignment, and allowed as array elements and fields."""
    return isinstance(shape, Int | Bool | Enumeration | BitClass | Value | Handle)


def is_place(shape: Shape) -> bool:
    """Lives where it was made; never assigned."""
    return isinstance(shape, Struct | Array)


@lru_cache(maxsize=4096)
def paths(shape: Shape, writable: bool = True, depth: int = 4) -> tuple[Path, ...]:
    """Every part of `shape`, itself included; `writable` says whether it may be changed through this reference."""
    found = [Path((), shape, False)]
    if depth == 0:
        return tuple(found)
    inner: list[tuple[str | int | None, Shape, bool]] = []
    if isinstance(shape, Struct):
        inner = [(name, part, writable) for name, part in shape.fields]
    elif isinstance(shape, Value):
        inner = [(name, part, False) for name, part in shape.fields]
    elif isinstance(shape, Tuple):
        inner = [(f"[{number}]", part, False) for number, part in enumerate(shape.items)]
    elif isinstance(shape, BitClass):
        inner = [(part.name, part.type, False) for part in shape.fields if not isinstance(part.type, Enumeration)]
    elif isinstance(shape, Array):
        inner = [(shape.length, shape.item, writable)]
    elif isinstance(shape, Slice):
        inner = [(None, shape.item, writable and shape.writable)]
    for step, part, may_write in inner:
        for path in paths(part, may_write, depth - 1):
            change = may_write and is_scalar(part) if not path.steps else path.writable
            found.append(Path((step, *path.steps), path.target, change))
    return tuple(found)
