# SPDX-License-Identifier: Apache-2.0
"""The integers of the language with a solver term in place of a number.

Each derives from the plain class, so `isinstance`, field types and Python's rule that a subclass's reflected operator goes first all work for
unmodified functions. A comparison decides at once, on two paths where both answers are possible, and gives a plain bool; a trap is the same
decision. Meanings follow SMT-LIB's bit vectors, written independently of `delphyne.lang.ints`: the differential tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import z3  # type: ignore[import-untyped]

from delphyne.lang.bitfields import BitField, Bits
from delphyne.lang.enums import SizedEnum
from delphyne.lang.ints import PLAIN, Integer, u8, u16, u32, u64
from delphyne.lang.meta import Kind, class_meta
from delphyne.lang.records import fields_of
from delphyne.lang.traps import Trap, TrapKind
from delphyne.prove.path import Formula, ProverError, Replay, Term, current

_new = object.__new__


def term(value: Any) -> Term:
    """The solver term of an integer, bool, enum member, bit fields or address of the language."""
    if isinstance(value, Symbolic):
        return value.term
    if isinstance(value, bool):
        return z3.BoolVal(value)
    if isinstance(value, Integer):
        return z3.BitVecVal(value._v, value.BITS)
    if isinstance(value, SizedEnum | Bits) or hasattr(value, "raw"):
        return term(value.raw)
    raise ProverError(f"{type(value).__name__} has no solver term")


def integer(value: Term, cls: Any = u64) -> Any:
    """The integer of class `cls` that `value` stands for: a plain one where it is a constant, and always when a counterexample is replayed."""
    path = current()
    if isinstance(path, Replay):
        return cls(path.choose(value))
    value = z3.simplify(value)
    if z3.is_bv_value(value) and not path.keep_constants:
        return cls(int(value.as_long()))
    return _made(cls, value)


def constant(value: Any) -> Any:
    """A plain integer as a constant term; anything else unchanged."""
    return _made(type(value), term(value)) if type(value) in PLAIN else value


def value_of(value: Any) -> int | None:
    """The number of a plain integer or of a constant term; None for anything else."""
    if isinstance(value, Symbolic):
        known = z3.simplify(value.term)
        return int(known.as_long()) if z3.is_bv_value(known) else None
    return int(value) if isinstance(value, Integer | int) else None


def plain(value: Any) -> Any:
    """A value with plain integers in place of constant terms, in tuples, records and bit fields too."""
    if isinstance(value, Symbolic):
        return _PLAIN_OF[type(value)](int(value))
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    if isinstance(value, Bits):
        return type(value).of(plain(value.raw))  # type: ignore[attr-defined]
    meta = class_meta(type(value))
    if meta is not None and meta.kind is Kind.VALUE:
        return type(value)(*(plain(getattr(value, name)) for name in fields_of(type(value))))
    return value


def _made(cls: Any, value: Term) -> Any:
    made = _new(_SYMBOLIC_OF[cls])
    made.term = value
    return made


def decide(formula: Formula) -> bool:
    """Both answers, on two paths, where both are possible."""
    return current().branch(formula)


def trap(kind: TrapKind, a: Term, b: Term) -> NoReturn:
    """Trap with operands for which this path exists."""
    model = current().model()
    raise Trap(kind, *(int(model.eval(operand, model_completion=True).as_long()) for operand in (a, b)))


def _overflow(name: str, a: Term, b: Term) -> Formula:
    if name == "add":
        return z3.ULT(a + b, a)
    if name == "sub":
        return z3.ULT(a, b)
    power = _power(b)
    return z3.Not(z3.BVMulNoOverflow(a, b, False)) if power is None else z3.LShR(a, a.size() - power) != 0 if power else z3.BoolVal(False)


def _power(b: Term) -> int | None:
    """The exponent of a constant power of two: products and quotients by it are shifts, which the solver likes better."""
    value = b.as_long() if z3.is_bv_value(b) else 0
    return int(value).bit_length() - 1 if value and value & (value - 1) == 0 else None


def _result(name: str, a: Term, b: Term) -> Term:
    power = _power(b) if name in ("floordiv", "mod", "mul") else None
    if power is not None:
        return a << power if name == "mul" else z3.LShR(a, power) if name == "floordiv" else a & (b - 1)
    return {"add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "and": lambda: a & b, "or": lambda: a | b, "xor": lambda: a ^ b,
            "floordiv": lambda: z3.UDiv(a, b), "mod": lambda: z3.URem(a, b), "lshift": lambda: a << b, "rshift": lambda: z3.LShR(a, b)}[name]()


class Symbolic(Integer):
    """What the four share; never made by its constructor. `_v` stays unset, so code that reaches for the number by itself fails loudly."""

    __slots__ = ("term",)
    term: Term

    def _other(self, other: object) -> Term:
        """The term that stands beside this one: a literal that fits or an integer of the same width."""
        if type(other) is int and 0 <= other <= self.LIMIT:
            return z3.BitVecVal(other, self.BITS)
        if isinstance(other, Integer) and other.BITS == self.BITS:
            return term(other)
        raise TypeError(f"{type(other).__name__} beside u{self.BITS}")

    def _binary(self, name: str, a: Term, b: Term) -> Any:
        if name in ("add", "sub", "mul") and decide(_overflow(name, a, b)):
            trap(TrapKind.OVERFLOW, a, b)
        if name in ("floordiv", "mod") and decide(b == 0):
            trap(TrapKind.DIVIDE, a, z3.BitVecVal(0, self.BITS))
        if name in ("lshift", "rshift") and decide(z3.UGE(b, self.BITS)):
            trap(TrapKind.SHIFT, a, b)
        return integer(_result(name, a, b), _PLAIN_OF[type(self)])

    def __invert__(self) -> Any:
        return integer(~self.term, _PLAIN_OF[type(self)])

    def __eq__(self, other: object) -> bool:
        return decide(self.term == self._other(other))

    def __ne__(self, other: object) -> bool:
        return decide(self.term != self._other(other))

    def __lt__(self, other: Any) -> bool:
        return decide(z3.ULT(self.term, self._other(other)))

    def __le__(self, other: Any) -> bool:
        return decide(z3.ULE(self.term, self._other(other)))

    def __gt__(self, other: Any) -> bool:
        return decide(z3.UGT(self.term, self._other(other)))

    def __ge__(self, other: Any) -> bool:
        return decide(z3.UGE(self.term, self._other(other)))

    def __hash__(self) -> int:
        raise ProverError("a symbolic integer was hashed")

    def __index__(self) -> int:
        known = value_of(self)
        return current().choose(self.term) if known is None else known

    __int__ = __index__

    def __repr__(self) -> str:
        return f"u{self.BITS}<{self.term}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def _function(self, name: str, args: tuple[Any, ...]) -> Any:
        """Every operation that is no operator: see `delphyne.lang.ints`."""
        operation = FUNCTIONS.get(name)
        if operation is None:
            raise ProverError(f"{name} of a symbolic integer")
        return operation(*args)


def _operator(name: str, reflected: bool) -> Any:
    def run(self: Symbolic, other: object) -> Any:
        mine, theirs = self.term, self._other(other)
        if name == "mul" and not z3.is_bv_value(theirs):
            mine, theirs = theirs, mine
        return self._binary(name, theirs, mine) if reflected else self._binary(name, mine, theirs)

    return run


for _name in ("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"):
    setattr(Symbolic, f"__{_name}__", _operator(_name, False))
    setattr(Symbolic, f"__r{_name}__", _operator(_name, True))


class SymU8(Symbolic, u8):
    """A u8 of unknown value."""

    __slots__ = ()


class SymU16(Symbolic, u16):
    """A u16 of unknown value."""

    __slots__ = ()


class SymU32(Symbolic, u32):
    """A u32 of unknown value."""

    __slots__ = ()


class SymU64(Symbolic, u64):
    """A u64 of unknown value."""

    __slots__ = ()


_SYMBOLIC_OF: dict[Any, Any] = {u8: SymU8, u16: SymU16, u32: SymU32, u64: SymU64}
_PLAIN_OF: dict[Any, Any] = {symbolic: known for known, symbolic in _SYMBOLIC_OF.items()}


def _class_of(value: Any) -> Any:
    return _PLAIN_OF.get(type(value), type(value))


def _convert(cls: Any, value: Any) -> Any:
    known = term(value)
    if value.BITS > cls.BITS:
        if decide(z3.UGT(known, cls.LIMIT)):
            trap(TrapKind.NARROW, known, z3.BitVecVal(cls.LIMIT, value.BITS))
        return integer(z3.Extract(cls.BITS - 1, 0, known), cls)
    return integer(z3.ZeroExt(cls.BITS - value.BITS, known), cls)


def _wrap(cls: Any, value: Any) -> Any:
    known = term(value)
    return integer(z3.Extract(cls.BITS - 1, 0, known) if value.BITS > cls.BITS else z3.ZeroExt(cls.BITS - value.BITS, known), cls)


def _range(cls: Any, start: Any, stop: Any, step: int) -> Iterator[Any]:
    here, end = term(start), term(stop)
    while decide(z3.ULT(here, end)):
        yield integer(here, cls)
        if decide(z3.ULE(end - here, step)):
            return
        here = here + step


def _pair(a: Any, b: Any) -> tuple[Any, Term, Term]:
    first = a if isinstance(a, Symbolic) else b
    cls = _class_of(first)
    return cls, term(a) if first is a else first._other(a), term(b) if first is b else first._other(b)


def _wrapping(name: str) -> Any:
    def run(a: Any, b: Any) -> Any:
        cls, left, right = _pair(a, b)
        return integer(_result(name, left, right), cls)

    return run


def _checked(name: str) -> Any:
    def run(a: Any, b: Any) -> Any:
        cls, left, right = _pair(a, b)
        return None if decide(_overflow(name, left, right)) else integer(_result(name, left, right), cls)

    return run


def _rotate_left(x: Any, n: Any) -> Any:
    cls, value, amount = _pair(x, n)
    return integer(z3.RotateLeft(value, amount), cls)


def _rotate_right(x: Any, n: Any) -> Any:
    cls, value, amount = _pair(x, n)
    return integer(z3.RotateRight(value, amount), cls)


def _count(x: Any, positions: Iterator[int]) -> Any:
    """The number of positions before the first that holds a one."""
    counted: Term = z3.BitVecVal(x.BITS, x.BITS)
    order = list(positions)
    for number in reversed(range(x.BITS)):
        counted = z3.If(z3.Extract(order[number], order[number], x.term) == 1, z3.BitVecVal(number, x.BITS), counted)
    return integer(counted, _class_of(x))


def _byte_swap(x: Any) -> Any:
    if x.BITS == 8:
        raise TypeError("byte_swap(u8)")
    return integer(z3.Concat(*(z3.Extract(low + 7, low, x.term) for low in range(0, x.BITS, 8))), _class_of(x))


def _sign_extend(x: Any, from_bits: int) -> Any:
    return integer(z3.SignExt(x.BITS - from_bits, z3.Extract(from_bits - 1, 0, x.term)), _class_of(x))


def _member(cls: Any, raw: Term) -> Any:
    for member in cls:
        if decide(raw == member.value):
            return member
    return None


def _enum_of(cls: Any, raw: Any) -> Any:
    return _member(cls, term(raw))


def _field_get(raw: Any, field: BitField) -> Any:
    part = z3.Extract(field.high, field.low, term(raw))
    if field.kind is bool:
        return decide(part == 1)
    width = field.high - field.low + 1
    if issubclass(field.kind, SizedEnum):
        member = _member(field.kind, z3.ZeroExt(64 - width, part))
        if member is None:
            trap(TrapKind.ENUM, z3.ZeroExt(64 - width, part), z3.BitVecVal(0, 64))
        return member
    kind = field.kind.RAW if issubclass(field.kind, Bits) else field.kind
    number = integer(z3.ZeroExt(kind.BITS - width, part), kind)
    return field.kind.of(number) if issubclass(field.kind, Bits) else number


def _field_put(raw: Any, value: Any, field: BitField) -> Any:
    width = field.high - field.low + 1
    if isinstance(value, bool | int):
        known: Term = z3.BitVecVal(int(value), 64)
    else:
        known = term(value)
        known = z3.ZeroExt(64 - known.size(), known)
    if decide(z3.UGT(known, field.mask)):
        trap(TrapKind.NARROW, known, z3.BitVecVal(field.mask, 64))
    whole = term(raw)
    low = z3.Extract(field.low - 1, 0, whole) if field.low else None
    high = z3.Extract(whole.size() - 1, field.high + 1, whole) if field.high + 1 < whole.size() else None
    parts = [part for part in (high, z3.Extract(width - 1, 0, known), low) if part is not None]
    return integer(z3.Concat(*parts) if len(parts) > 1 else parts[0], _class_of(raw))


FUNCTIONS: dict[str, Any] = {
    "convert": _convert,
    "wrap": _wrap,
    "range": _range,
    "wrap_add": _wrapping("add"),
    "wrap_sub": _wrapping("sub"),
    "wrap_mul": _wrapping("mul"),
    "checked_add": _checked("add"),
    "checked_sub": _checked("sub"),
    "checked_mul": _checked("mul"),
    "rotate_left": _rotate_left,
    "rotate_right": _rotate_right,
    "count_leading_zeros": lambda x: _count(x, iter(range(x.BITS - 1, -1, -1))),
    "count_trailing_zeros": lambda x: _count(x, iter(range(x.BITS))),
    "byte_swap": _byte_swap,
    "sign_extend": _sign_extend,
    "enum_of": _enum_of,
    "field_get": _field_get,
    "field_put": _field_put,
}
