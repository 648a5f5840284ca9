# SPDX-License-Identifier: Apache-2.0
"""Expressions of every type, made from what is in scope.

Each method answers source text that can stand anywhere as an operand. About one arithmetic operation in eight is left as it comes and may
trap; the others are fenced (masked, or made odd), because a program that traps at its first line shows little.
"""

from __future__ import annotations

from collections.abc import Callable

from delphyne.fuzz.declare import edge_number, literal
from delphyne.fuzz.scope import RISK, Scope
from delphyne.fuzz.shapes import (
    BOOL,
    INTS,
    U8,
    U64,
    Array,
    Atomic,
    BitClass,
    Bool,
    Enumeration,
    Field,
    Handle,
    Int,
    Option,
    Path,
    Shape,
    Slice,
    Tuple,
    Value,
    is_place,
    paths,
)

Maker = Callable[[], str]

BYTES = Array(U8, 16)
"""The array of bytes that programs have most."""


class Expressions(Scope):
    """Makes expressions for one function body."""

    def expression(self, shape: Shape, depth: int) -> str:
        """An operand of any type that has values."""
        if isinstance(shape, Int):
            return self.integer(shape, depth)
        if isinstance(shape, Bool):
            return self.boolean(depth)
        if isinstance(shape, Enumeration):
            return self.enumeration(shape, depth)
        if isinstance(shape, BitClass):
            return self.bit_class(shape, depth)
        if isinstance(shape, Value):
            return self.value(shape, depth)
        if isinstance(shape, Tuple):
            text = self.readable(shape, depth - 1)
            return text or f"({', '.join(self.expression(item, depth - 1) for item in shape.items)})"
        if isinstance(shape, Handle) and (text := self.readable(shape, depth - 1)) is not None:
            return text
        raise AssertionError(f"no expressions of type {shape.text}")

    def leaf(self, shape: Int) -> str:
        """A variable, a part of one, a constant or a literal."""
        choices = self.choices
        constants = [name for name, of, _ in self.draft.constants if of == shape]
        kind = choices.below(10)
        if kind >= 3 and (text := self.readable(shape, 0)) is not None:
            return text
        if kind >= 2 and constants:
            return choices.pick(constants)
        if kind == 1:
            return f"{shape.text}.MAX"
        return literal(edge_number(choices, shape.bits), shape)

    def bare(self, shape: Int) -> str:
        """A literal without a type, for the other side of an operator."""
        number = edge_number(self.choices, shape.bits)
        part = self.choices.below(4) if self.choices.chance(10) else 0
        return f"({number - part} + {part})" if 0 < part <= number else str(number)

    def operand(self, shape: Int, depth: int) -> str:
        """The other side of an operator: now and then a bare literal."""
        return self.bare(shape) if self.choices.chance(25) else self.integer(shape, depth)

    def _two(self, shape: Int, sign: str, depth: int) -> str:
        """Two operands as they come, one of them perhaps a bare literal."""
        if self.choices.chance(20):
            return f"({self.bare(shape)} {sign} {self.integer(shape, depth - 1)})"
        return f"({self.integer(shape, depth - 1)} {sign} {self.operand(shape, depth - 1)})"

    def integer(self, shape: Int, depth: int) -> str:
        """A number of that width."""
        if depth <= 0:
            return self.leaf(shape)
        makers: list[tuple[int, Maker]] = [
            (8, lambda: self.leaf(shape)),
            (6, lambda: self._wrapping(shape, depth)),
            (5, lambda: self._bitwise(shape, depth)),
            (9, lambda: self._arithmetic(shape, depth)),
            (4, lambda: self._division(shape, depth)),
            (4, lambda: self._shift(shape, depth)),
            (6, lambda: self._conversion(shape, depth)),
            (4, lambda: self._counting(shape, depth)),
            (3, lambda: f"{self.choices.pick(('min', 'max'))}({self.integer(shape, depth - 1)}, {self.integer(shape, depth - 1)})"),
            (4, lambda: self._conditional(shape, depth)),
            (7, lambda: f"note{shape.bits}({self.integer(shape, depth - 1)})"),
            (6, lambda: self._swapped(shape, depth) or self.leaf(shape)),
            (8, lambda: self.called(shape, depth) or self.leaf(shape)),
            (6, lambda: self._taken_apart(shape, depth) or self.leaf(shape)),
            (4, lambda: self._unwrapped(shape, depth) or self.leaf(shape)),
            (4, lambda: self._in_memory(shape, depth) or self.leaf(shape)),
            (2, lambda: self._secret(shape, depth)),
            (2, lambda: self._address(depth) if shape == U64 else self.leaf(shape)),
        ]
        return self.choices.weighted(makers)()

    def _wrapping(self, shape: Int, depth: int) -> str:
        name = self.choices.pick(("wrap_add", "wrap_sub", "wrap_mul"))
        return f"{name}({self.integer(shape, depth - 1)}, {self.integer(shape, depth - 1)})"

    def _bitwise(self, shape: Int, depth: int) -> str:
        sign = self.choices.pick(("^", "&", "|", "~"))
        if sign == "~":
            return f"(~{self.integer(shape, depth - 1)})"
        return self._two(shape, sign, depth)

    def _arithmetic(self, shape: Int, depth: int) -> str:
        sign = self.choices.pick(("+", "-", "*"))
        half, low = 1 << (shape.bits - 1), (1 << (shape.bits // 2)) - 1
        if self.choices.chance(RISK):
            return self._two(shape, sign, depth)
        left, right = self.integer(shape, depth - 1), self.integer(shape, depth - 1)
        if sign == "+":
            return f"(({left} >> 1) + ({right} >> 1))"
        if sign == "-":
            return f"(({left} | {half}) - ({right} & {half - 1}))"
        return f"(({left} & {low}) * ({right} & {low}))"

    def _division(self, shape: Int, depth: int) -> str:
        sign = self.choices.pick(("//", "%"))
        left = self.integer(shape, depth - 1)
        kind = self.choices.below(100)
        if kind < 30:
            return f"({left} {sign} {1 + self.choices.below(shape.largest)})"
        right = self.integer(shape, depth - 1)
        return f"({left} {sign} ({right} | 1))" if kind < 100 - RISK else self._two(shape, sign, depth)

    def _shift(self, shape: Int, depth: int) -> str:
        sign = self.choices.pick(("<<", ">>"))
        left = self.integer(shape, depth - 1)
        kind = self.choices.below(100)
        if kind < 40:
            return f"({left} {sign} {self.choices.below(shape.bits)})"
        right = self.integer(shape, depth - 1)
        return f"({left} {sign} ({right} & {shape.bits - 1}))" if kind < 100 - RISK else self._two(shape, sign, depth)

    def _conversion(self, shape: Int, depth: int) -> str:
        choices = self.choices
        wider = [other for other in INTS if other.bits > shape.bits]
        narrower = [other for other in INTS if other.bits < shape.bits]
        kind = choices.below(10)
        if kind < 2:
            return f"{shape.text}({self.boolean(depth - 1)})"
        if narrower and (kind < 6 or not wider):
            return f"{shape.text}({self.integer(choices.pick(narrower), depth - 1)})"
        source = choices.pick(wider)
        inner = self.integer(source, depth - 1)
        if kind < 8:
            return f"{shape.text}.wrap({inner})"
        return f"{shape.text}({inner})" if choices.chance(RISK) else f"{shape.text}({inner} & {shape.largest >> choices.below(2)})"

    def _counting(self, shape: Int, depth: int) -> str:
        choices = self.choices
        name = choices.pick(("count_leading_zeros", "count_trailing_zeros", "byte_swap", "rotate_left", "rotate_right", "sign_extend"))
        name = "rotate_left" if shape == U8 and name == "byte_swap" else name
        inner = self.integer(shape, depth - 1)
        if name.startswith("rotate"):
            return f"{name}({inner}, {self.integer(shape, depth - 1)})"
        if name == "sign_extend":
            return f"sign_extend({inner}, {1 + choices.below(shape.bits)})"
        return f"{name}({inner})"

    def _conditional(self, shape: Shape, depth: int) -> str:
        asked = len(self.asked)
        test = self.boolean(depth - 1)
        then, other = (self.after(asked, lambda: self.expression(shape, depth - 1)) for _ in range(2))
        return f"({then} if {test} else {other})"

    def _taken_apart(self, shape: Int, depth: int) -> str | None:
        """A number out of an enum, a bit field or a value; or a length."""
        choices, draft = self.choices, self.draft
        parts: list[tuple[Shape, str]] = [(enum, "raw") for enum in draft.enums if enum.bits == shape.bits]
        for bit_class in draft.bit_classes:
            parts += [(bit_class, "raw")] if bit_class.bits == shape.bits else []
            parts += [(bit_class, part.name) for part in bit_class.fields if part.type == shape]
        for value in draft.values:
            parts += [(value, name) for name, part_shape in value.fields if part_shape == shape]
            parts += [(value, method.name) for method in value.methods if method.result == shape]
        lengths = [root for root, of, _ in self.roots() if isinstance(of, Slice | Array)] if shape == U64 else []
        if lengths and choices.chance(30):
            return f"{choices.pick(lengths)}.length"
        if not parts:
            return None
        holder, name = choices.pick(parts)
        kinds = {method.name: method.kind for method in holder.methods} if isinstance(holder, Value) else {}
        kind = kinds.get(name, "property")
        owner = holder.text if kind == "static" else self.expression(holder, depth - 1)
        return f"{owner}.{name}" if kind == "property" else f"{owner}.{name}({self.integer(shape, depth - 1)})"

    def _unwrapped(self, shape: Int, depth: int) -> str | None:
        names = [variable.name for variable in self.scope if variable.shape == Option(shape)]
        if not names:
            return None
        name = self.choices.pick(names)
        self.asked.append(name)
        other = self.after(len(self.asked) - 1, lambda: self.integer(shape, depth - 1))
        return f"({other} if {name} is None else {name})" if self.choices.chance(40) else f"({name} if {name} is not None else {other})"

    def _in_memory(self, shape: Int, depth: int) -> str | None:
        """A number read from bytes, or by an atomic operation."""
        choices = self.choices
        if shape.bits in (32, 64) and choices.chance(50):
            text = self.reference(Atomic(shape.bits))
            return self.atomic(text, shape, depth) if text else None
        if shape.bits == 8:
            return None
        source = self._bytes(depth)
        end = choices.pick(("be", "le"))
        offset = str(choices.below(4)) if choices.chance(60) else f"({self.integer(U64, depth - 1)} & 3)"
        offset = f"u64({offset})" if offset.isdigit() else offset
        return f"load_{end}{shape.bits}({source}, {offset})"

    def _swapped(self, shape: Int, depth: int) -> str | None:
        """An element of an array that is changed at the same time, so that it matters when others read it."""
        found = [
            (root, path)
            for root, whole, ok in self.roots()
            if ok
            for path in paths(whole)
            if isinstance(path.target, Array) and path.target.item == shape
        ]
        if not found:
            return None
        root, path = self.choices.pick(found)
        at = self.integer(U64, depth - 2) if self.choices.chance(30) else f"u64({self.choices.below(4)})"
        return f"swap{shape.bits}({self.walk(root, path, 0)}[:], {at}, {self.integer(shape, depth - 1)})"

    def _secret(self, shape: Int, depth: int) -> str:
        """A number that was secret for a while."""
        choices = self.choices
        hidden = f"secret({self.integer(shape, depth - 1)})"
        kind = choices.below(4)
        if kind == 0:
            return f"declassify({hidden} {choices.pick(('^', '&', '|'))} {self.integer(shape, depth - 1)})"
        if kind == 1:
            return f"declassify(wrap_add({hidden}, secret({self.integer(shape, depth - 1)})))"
        if kind == 2:
            return f"declassify(rotate_right({hidden}, {literal(choices.below(shape.bits), shape)}))"
        return f"declassify(~({hidden} {choices.pick(('<<', '>>'))} {choices.below(shape.bits)}))"

    def _address(self, depth: int) -> str:
        """A number from arithmetic on addresses, or clamped against speculation."""
        choices = self.choices
        kind = choices.below(5)
        left, right = self.integer(U64, depth - 1), self.integer(U64, depth - 1)
        name = choices.pick(("Pa", "Ipa", "Va"))
        if kind == 0:
            return f"nospec({left}, {right})"
        if kind == 1:
            return f"({name}({left} >> 1) + ({right} >> 1)).raw"
        if kind == 2:
            return f"({name}({left}) - {name}({right}))" if choices.chance(RISK) else f"({name}({left} | {1 << 63}) - {name}({right} >> 1))"
        size = 1 << choices.below(20)
        return f"{name}({left}).{choices.pick(('align_down', 'align_up'))}({literal(size, U64)}).raw"

    def _bytes(self, depth: int) -> str:
        """A view of bytes, most often long enough for a number of 64 bits at offset 3."""
        choices = self.choices
        known = self.reference(BYTES, writable=False) if choices.chance(60) else None
        if known is not None:
            return f"{known}[{choices.below(BYTES.length - 10)}:]"
        if choices.chance(RISK):
            return self.slice(Slice(U8, False), depth - 1) or "text(b'abc')"
        return f"text({bytes(97 + choices.below(26) for _ in range(11 + choices.below(4)))!r})"

    def atomic(self, text: str, shape: Int, depth: int) -> str:
        """An atomic operation on the place `text`, which answers a number."""
        choices = self.choices
        name = choices.pick(("load", "add", "sub", "or_", "and_", "xor", "swap", "compare_exchange"))
        if name == "load":
            return f"{text}.load({choices.pick(('Order.RELAXED', 'Order.ACQUIRE'))})"
        order = f"Order.{choices.pick(('RELAXED', 'ACQUIRE', 'RELEASE', 'ACQ_REL'))}"
        if name == "compare_exchange":
            expected = self.integer(shape, depth - 1) if choices.chance(50) else f"{text}.load(Order.RELAXED)"
            return f"{text}.compare_exchange({expected}, {self.integer(shape, depth - 1)}, {order})"
        return f"{text}.{name}({self.integer(shape, depth - 1)}, {order})"

    # --- conditions ------------------------------------------------------------------------------------------------------------

    def boolean(self, depth: int) -> str:
        """A condition."""
        choices = self.choices
        if depth <= 0:
            kind = choices.below(4)
            text = self.readable(BOOL, 0) if kind else None
            if text is None and kind > 1:
                return self._comparison(1)
            return text or choices.pick(("False", "True"))
        makers: list[tuple[int, Maker]] = [
            (4, lambda: self.boolean(0)),
            (12, lambda: self._comparison(depth)),
            (4, lambda: self._chained(depth)),
            (8, lambda: self._both_or_one(depth)),
            (3, lambda: f"(not {self.boolean(depth - 1)})"),
            (5, lambda: self._equality(depth)),
            (2, lambda: self._conditional(BOOL, depth)),
            (3, lambda: f"note1({self.boolean(depth - 1)})"),
            (4, lambda: self.called(BOOL, depth) or self._comparison(depth)),
            (4, lambda: self._presence(depth) or self._comparison(depth)),
            (1, lambda: f"({self._bytes_equal(depth)})"),
        ]
        return choices.weighted(makers)()

    def _both_or_one(self, depth: int) -> str:
        asked = len(self.asked)
        left = self.boolean(depth - 1)
        return f"({left} {self.choices.pick(('and', 'or'))} {self.after(asked, lambda: self.boolean(depth - 1))})"

    def _comparison(self, depth: int) -> str:
        shape = self.choices.pick(INTS)
        sign = self.choices.pick(("==", "!=", "<", "<=", ">", ">="))
        return self._two(shape, sign, depth)

    def _bytes_equal(self, depth: int) -> str:
        """A comparison of bytes in constant time."""
        known = self.reference(BYTES, writable=False)
        if known is None:
            return self._comparison(depth)
        low = self.choices.below(BYTES.length)
        return f"secret_equal({known}[{low}:], {self.reference(BYTES, writable=False)}[:{BYTES.length - low}])"

    def _chained(self, depth: int) -> str:
        shape = self.choices.pick(INTS)
        signs = ("<", "<=", "==", "!=", ">")
        terms = [self.integer(shape, depth - 1) for _ in range(3)]
        return f"({terms[0]} {self.choices.pick(signs)} {terms[1]} {self.choices.pick(signs)} {terms[2]})"

    def _equality(self, depth: int) -> str:
        choices, draft = self.choices, self.draft
        sides: list[tuple[Shape, tuple[str, ...]]] = [(BOOL, ("==", "!="))]
        sides += [(enum, ("==", "!=", "is")) for enum in draft.enums]
        sides += [(bit_class, ("==", "!=")) for bit_class in draft.bit_classes]
        for value in draft.values:
            sides.append((value, ("==", "!=", "<") if any(method.kind == "<" for method in value.methods) else ("==", "!=")))
        shape, signs = choices.pick(sides)
        left, sign = self.expression(shape, depth - 1), choices.pick(signs)
        right = f"{shape.text}.M0" if sign == "is" else self.expression(shape, depth - 1)
        return f"({left} {sign} {right})"

    def _presence(self, depth: int) -> str | None:
        """A question to an option, alone or before its item is used."""
        choices = self.choices
        variables = [variable for variable in self.scope if isinstance(variable.shape, Option)]
        if not variables:
            return None
        variable = choices.pick(variables)
        assert isinstance(variable.shape, Option)
        item = variable.shape.item
        self.asked.append(variable.name)
        if isinstance(item, Int) and choices.chance(60):
            text = self.after(len(self.asked) - 1, lambda: self.integer(item, depth - 1))
            if choices.chance(50):
                return f"({variable.name} is not None and {variable.name} >= {text})"
            return f"({variable.name} is None or {variable.name} != {text})"
        return f"({variable.name} is {choices.pick(('None', 'not None'))})"

    # --- records ---------------------------------------------------------------------------------------------------------------

    def enumeration(self, shape: Enumeration, depth: int) -> str:
        """A member of the enum."""
        choices = self.choices
        kind = choices.below(10)
        if kind >= 4 and (text := self.readable(shape, depth)) is not None:
            return text
        if kind >= 2 and depth > 0:
            fields = [(of, part.name) for of in self.draft.bit_classes for part in of.fields if part.type == shape]
            if kind == 2 and fields:
                of, name = choices.pick(fields)
                return f"{self.bit_class(of, depth - 1)}.{name}"
            return self.called(shape, depth) or self._conditional(shape, depth)
        return f"{shape.text}.{choices.pick(shape.members)[0]}"

    def bit_class(self, shape: BitClass, depth: int) -> str:
        """Declared bits."""
        choices = self.choices
        kind = choices.below(10)
        if kind >= 5 and (text := self.readable(shape, depth)) is not None:
            return text
        if kind >= 3 and depth > 0:
            chosen = [part for part in shape.fields if choices.chance(50)]
            if kind == 4 and chosen:
                return f"{self.bit_class(shape, depth - 1)}.replace({self._field_values(chosen, depth)})"
            return f"{shape.text}({self._field_values(chosen, depth)})"
        return f"{shape.text}.of({self.integer(Int(shape.bits), depth - 1)})"

    def _field_values(self, chosen: list[Field], depth: int) -> str:
        return ", ".join(f"{part.name}={self._field_value(part, depth)}" for part in chosen)

    def _field_value(self, part: Field, depth: int) -> str:
        text = self.expression(part.type, depth - 1)
        if isinstance(part.type, Int) and part.largest < part.type.largest:
            return f"{text} | 0" if self.choices.chance(RISK) else f"{text} & {part.largest}"
        return text

    def value(self, shape: Value, depth: int) -> str:
        """A record."""
        choices = self.choices
        kind = choices.below(10)
        if kind >= 4 and (text := self.readable(shape, depth)) is not None:
            return text
        if kind >= 2 and depth > 0:
            if kind == 3 and any(method.kind == "+" for method in shape.methods):
                return f"({self.value(shape, depth - 1)} + {self.value(shape, depth - 1)})"
            if kind == 2 and choices.below(3) == 0:
                return self._conditional(shape, depth)
            text = self.called(shape, depth)
            if text is not None:
                return text
        parts = [(name, self.expression(part, depth - 1)) for name, part in shape.fields]
        if choices.chance(30):
            turn = choices.below(len(parts))
            return f"{shape.text}({', '.join(f'{name}={text}' for name, text in parts[turn:] + parts[:turn])})"
        return f"{shape.text}({', '.join(text for _, text in parts)})"

    def option(self, shape: Option, depth: int) -> str:
        """An argument or a result that may be None."""
        item = shape.item
        kind = self.choices.below(10)
        if kind >= 5:
            return self.uncertain(shape, depth) or "None"
        if kind == 0:
            return "None"
        return (self.reference(item) if is_place(item) else self.expression(item, depth - 1)) or "None"

    def uncertain(self, shape: Option, depth: int) -> str | None:
        """What nobody knows beforehand to be None or not: a question that has only one answer is refused. None where there is no such thing."""
        choices = self.choices
        item = shape.item
        names = [variable.name for variable in self.scope if variable.shape == shape]
        makers: list[tuple[int, Callable[[], str | None]]] = [(4, lambda: self.called(shape, depth))]
        if names:
            makers.append((3, lambda: choices.pick(names)))
        if isinstance(item, Int):
            makers.append((6, lambda: self._checked(item, depth)))
        elif isinstance(item, Enumeration):
            makers.append((4, lambda: self._member(item, depth)))
        return choices.weighted(makers)()

    def _checked(self, shape: Int, depth: int) -> str:
        name = self.choices.pick(("checked_add", "checked_sub", "checked_mul"))
        return f"{name}({self.integer(shape, depth - 1)}, {self.integer(shape, depth - 1)})"

    def _member(self, shape: Enumeration, depth: int) -> str:
        raw = self.integer(Int(shape.bits), depth - 1)
        return f"{shape.text}.of({raw} & 7)" if self.choices.chance(60) else f"{shape.text}.of({raw})"

    def slice(self, shape: Slice, depth: int) -> str | None:
        """A slice or view of something in scope."""
        choices = self.choices
        found: list[tuple[str, Path, int | None]] = []
        for root, whole, may_write in self.roots():
            if shape.writable and not may_write:
                continue
            if isinstance(whole, Slice):
                if whole.item == shape.item and (whole.writable or not shape.writable):
                    found.append((root, Path((), whole, False), None))
                continue
            for path in paths(whole, may_write):
                if isinstance(path.target, Array) and path.target.item == shape.item:
                    found.append((root, path, path.target.length))
        if not shape.writable and shape.item == U8 and (not found or choices.chance(15)):
            return f"text({bytes(97 + choices.below(26) for _ in range(2 + choices.below(12)))!r})"
        if not found:
            return None
        root, path, length = choices.pick(found)
        text = self.walk(root, path, depth)
        if length is None and choices.chance(50):
            return text
        return f"{text}[{self._ends(length, depth)}]"

    def _ends(self, length: int | None, depth: int) -> str:
        choices = self.choices
        if choices.chance(RISK // 4):
            return f"{self.integer(U64, depth)}:{self.integer(U64, depth)}"
        kind = choices.below(6)
        if kind < 2:
            return ":"
        if length is None:
            return f"{choices.below(2)}:"
        low = choices.below(length + 1)
        high = low + choices.below(length - low + 1)
        if kind == 2:
            return f"{low}:"
        if kind == 3:
            return f":{high}"
        if kind == 4:
            return f"{low}:{high}"
        return f"{self.integer(U64, depth)} & 1:" if length else ":"
