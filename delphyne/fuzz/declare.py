# SPDX-License-Identifier: Apache-2.0
"""What stands at the top of a generated module: classes, constants, tables, locks and statics."""

from __future__ import annotations

from dataclasses import dataclass, field

from delphyne.fuzz.choices import Choices
from delphyne.fuzz.shapes import (
    BOOL,
    INTS,
    U8,
    U32,
    U64,
    WIDTHS,
    Array,
    Atomic,
    BitClass,
    Bool,
    Enumeration,
    Field,
    Handle,
    Int,
    Method,
    PoolOf,
    Shape,
    Slice,
    Struct,
    Value,
)

ERRORS = Enumeration("Err", 32, (("BAD", 1), ("FULL", 2), ("LATE", 7)))


@dataclass(frozen=True)
class Static:
    """A module-level object. `lock` is its guard's rank or None; `root` how a body names it."""

    name: str
    shape: Shape
    lock: int | None
    writable: bool
    root: str
    definition: str


@dataclass(frozen=True)
class Routine:
    """A generated function. `takes` are the ranks that it, or what it calls, may acquire; `cost` bounds its statements."""

    name: str
    params: tuple[tuple[str, Shape], ...]
    result: Shape
    holds: tuple[int, ...]
    takes: frozenset[int]
    cost: int
    lines: tuple[str, ...]
    method: str = ""
    """The name it has as a method of its first parameter's struct, where it is one."""


@dataclass
class Draft:
    """A module as it grows."""

    enums: list[Enumeration] = field(default_factory=list)
    bit_classes: list[BitClass] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    constants: list[tuple[str, Int, int]] = field(default_factory=list)
    locks: list[int] = field(default_factory=list)
    statics: list[Static] = field(default_factory=list)
    routines: list[Routine] = field(default_factory=list)


def edge_number(choices: Choices, bits: int) -> int:
    """A number of that width, mostly near one of its edges."""
    kind = choices.below(6)
    largest = (1 << bits) - 1
    if kind == 0:
        return choices.below(10)
    if kind == 1:
        return largest - choices.below(3)
    if kind == 2:
        return 1 << choices.below(bits)
    if kind == 3:
        return (1 << choices.below(bits)) - 1
    if kind == 4:
        return (largest >> 1) + choices.below(3)
    return choices.below(1 << min(bits, 32)) << choices.below(max(1, bits - 31))


def literal(number: int, shape: Int) -> str:
    """A constant of that type as a program writes it."""
    return f"{shape.text}({number if number < 256 else hex(number)})"


class Declarer:
    """Makes the declarations of one module."""

    def __init__(self, choices: Choices) -> None:
        """`choices` decide."""
        self.choices = choices
        self.draft = Draft()

    def run(self) -> Draft:
        """All the declarations."""
        draft, choices = self.draft, self.choices
        for _ in range(choices.below(3)):
            draft.enums.append(self._enumeration())
        for _ in range(choices.below(2)):
            draft.bit_classes.append(self._bit_class())
        for _ in range(choices.below(3)):
            draft.values.append(self._value())
        for _ in range(choices.below(3)):
            draft.structs.append(self._struct())
        for number in range(choices.below(4)):
            shape = choices.pick(INTS)
            draft.constants.append((f"C{number}", shape, edge_number(choices, shape.bits)))
        draft.locks.extend(10 * (number + 1) for number in range(choices.below(3)))
        for _ in range(choices.below(5)):
            draft.statics.append(self._static())
        return draft

    def _enumeration(self) -> Enumeration:
        choices = self.choices
        bits = choices.pick((8, 16, 32, 64))
        numbers = [0]
        for _ in range(1 + choices.below(4)):
            number = edge_number(choices, bits) if choices.chance(30) else len(numbers)
            if number not in numbers:
                numbers.append(number)
        members = tuple((f"M{index}", number) for index, number in enumerate(numbers))
        return Enumeration(f"E{len(self.draft.enums)}", bits, members)

    def _bit_class(self) -> BitClass:
        choices = self.choices
        bits = choices.pick(WIDTHS)
        fields: list[Field] = []
        low = choices.below(3)
        while low < bits and len(fields) < 5:
            width = min(1 + choices.below(14), bits - low)
            kind: Int | Bool | Enumeration
            enums = [enum for enum in self.draft.enums if enum.bits >= width and all(number < 1 << width for _, number in enum.members)]
            if width == 1 or choices.chance(20):
                kind, width = BOOL, 1
            elif enums and choices.chance(30):
                kind = choices.pick(enums)
            else:
                kind = choices.pick([shape for shape in INTS if shape.bits >= width])
            fields.append(Field(f"b{len(fields)}", kind, low + width - 1, low))
            low += width + choices.below(3)
        return BitClass(f"B{len(self.draft.bit_classes)}", bits, tuple(reversed(fields)))

    def _scalar(self) -> Shape:
        """A type for a field of a value or a struct."""
        draft = self.draft
        options: list[Shape] = [U64, U32, U8, *INTS, BOOL, *draft.enums, *draft.bit_classes, *draft.values]
        return self.choices.pick(options)

    def _value(self) -> Value:
        choices = self.choices
        name = f"V{len(self.draft.values)}"
        fields = tuple((f"x{index}", self._scalar()) for index in range(1 + choices.below(4)))
        plain = Value(name, fields)
        ints = [(part, shape) for part, shape in fields if isinstance(shape, Int)]
        methods: list[Method] = []
        if ints:
            part, shape = choices.pick(ints)
            assert isinstance(shape, Int)
            if choices.chance(50):
                methods.append(Method("mixed", "method", (shape,), shape, f"rotate_left(self.{part}, p0 & 3) ^ p0"))
            if choices.chance(40):
                methods.append(Method("flipped", "property", (), shape, f"~self.{part}"))
            if choices.chance(40):
                others = ", ".join(f"self.{other}" if other != part else f"wrap_add(self.{part}, other.{part})" for other, _ in fields)
                methods.append(Method("__add__", "+", (plain,), plain, f"{name}({others})"))
            if choices.chance(40):
                methods.append(Method("__lt__", "<", (plain,), BOOL, f"self.{part} < other.{part}"))
            if choices.chance(30):
                methods.append(Method("halved", "static", (shape,), shape, "p0 >> 1"))
        return Value(name, fields, tuple(methods))

    def _item(self, depth: int) -> Shape:
        """A type for a field of a struct or an element of an array."""
        choices, draft = self.choices, self.draft
        kind = choices.below(10)
        if kind >= 8 and draft.structs:
            return choices.pick(draft.structs)
        if kind >= 5 and depth > 0:
            return Array(self._item(depth - 1), choices.pick((4, 2, 3, 8, 5, 1)))
        return self._scalar()

    def _struct(self) -> Struct:
        choices = self.choices
        fields: list[tuple[str, Shape]] = [(f"f{index}", self._item(2)) for index in range(1 + choices.below(4))]
        if choices.chance(25):
            fields.append((f"f{len(fields)}", Atomic(choices.pick((64, 32)))))
        if self.draft.structs and choices.chance(15):
            fields.append((f"f{len(fields)}", Handle(self.draft.structs[0])))
        return Struct(f"S{len(self.draft.structs)}", tuple(fields), choices.pick((0, 0, 0, 0, 16, 64)))

    def _contents(self, shape: Int) -> tuple[Shape, str]:
        """An array type and the source of such an array that is not zero."""
        numbers = [edge_number(self.choices, shape.bits) for _ in range(1 + self.choices.below(8))]
        table = Array(shape, len(numbers))
        return table, f"{table.text}.of({numbers})"

    def _static(self) -> Static:
        choices, draft = self.choices, self.draft
        index = len(draft.statics)
        shape_: Shape
        kind = choices.below(12)
        if kind < 2 or not draft.locks:
            if kind % 2 == 0:
                atomic: Shape = Atomic(choices.pick((64, 32)))
                atomic = Array(atomic, choices.pick((2, 3))) if choices.chance(30) else atomic
                return Static(f"A{index}", atomic, None, True, f"A{index}", f"A{index}: Final = {atomic.text}()")
            table, contents = self._contents(choices.pick(INTS))
            keeper = choices.pick(("constant", "frozen"))
            return Static(f"T{index}", table, None, False, f"T{index}", f"T{index}: Final = {keeper}({contents})")
        lock = choices.pick(draft.locks)
        if kind == 2:
            shape_, contents = self._contents(choices.pick(INTS))
            return Static(f"G{index}", shape_, lock, True, f"G{index}", f"G{index}: Final = guarded(LOCK{lock}, {contents})")
        if kind < 7 or not draft.structs:
            shape_ = Array(self._item(1), choices.pick((4, 8, 2, 3, 5)))
        elif kind in (7, 10, 11):
            pool = PoolOf(choices.pick(draft.structs), choices.pick((2, 1, 3)))
            return Static(f"P{index}", pool, lock, True, f"P{index}", f"P{index}: Final = guarded(LOCK{lock}, {pool.text}())")
        elif kind == 8 and not any(static.root.endswith(".mine()") for static in draft.statics):
            struct = choices.pick(draft.structs)
            return Static(f"CPUS{index}", struct, None, True, f"CPUS{index}.mine()", f"CPUS{index}: Final = per_cpu({struct.text}, 2)")
        else:
            shape_ = choices.pick(draft.structs)
        return Static(f"G{index}", shape_, lock, True, f"G{index}", f"G{index}: Final = guarded(LOCK{lock}, {shape_.text}())")


def contains(shape: Shape, kinds: tuple[type, ...]) -> bool:
    """Whether something of one of the kinds lies anywhere inside."""
    if isinstance(shape, kinds):
        return True
    if isinstance(shape, Struct | Value):
        return any(contains(part, kinds) for _, part in shape.fields)
    if isinstance(shape, Array | Slice):
        return contains(shape.item, kinds)
    return False


def class_lines(draft: Draft) -> list[str]:
    """The source of the classes, constants, locks and statics."""
    lines = ["class Err(ErrorEnum):", *(f"    {name} = {number}" for name, number in ERRORS.members), ""]
    for enum in draft.enums:
        lines += [f"class {enum.text}(Enum{enum.bits}):", *(f"    {name} = {number}" for name, number in enum.members), ""]
    for bit_class in draft.bit_classes:
        lines.append(f"class {bit_class.text}(Bits{bit_class.bits}):")
        lines += [
            f"    {part.name}: {part.type.text} = bits({part.high}, {part.low})"
            if part.high != part.low
            else f"    {part.name}: {part.type.text} = bits({part.high})"
            for part in bit_class.fields
        ]
        lines.append("")
    for value in draft.values:
        lines += ["@value", f"class {value.text}:", *(f"    {name}: {shape.text}" for name, shape in value.fields)]
        for method in value.methods:
            lines += ["", *_method_lines(value, method)]
        lines.append("")
    for struct in draft.structs:
        lines += [
            f"@struct(align={struct.align})" if struct.align else "@struct",
            f"class {struct.text}:",
            *(f"    {name}: {shape.text}" for name, shape in struct.fields),
            "",
        ]
        for routine in draft.routines:
            if routine.method and routine.params[0][1] == struct:
                lines += [*(f"    {line}" for line in routine.lines), ""]
    lines += [f"{name}: Final = {literal(number, shape)}" for name, shape, number in draft.constants]
    lines += [f'LOCK{rank}: Final = Lock("lock{rank}", rank={rank})' for rank in draft.locks]
    lines += [static.definition for static in draft.statics]
    return lines


def _method_lines(value: Value, method: Method) -> list[str]:
    marks = {"property": ["    @property"], "static": ["    @staticmethod"]}.get(method.kind, [])
    names = [f"p{index}" for index in range(len(method.params))]
    if method.kind in ("+", "<"):
        names = ["other"]
    params = [f"{name}: {shape.text}" for name, shape in zip(names, method.params, strict=True)]
    if method.kind != "static":
        params.insert(0, "self")
    return [*marks, f"    def {method.name}({', '.join(params)}) -> {method.result.text}:", f"        return {method.body}"]
