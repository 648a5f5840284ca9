# SPDX-License-Identifier: Apache-2.0
"""The typed tree: what the front end hands to the back end.

Everything that Python leaves implicit is explicit here: types, widths, evaluation order, narrowing, clean-up on every way out of a
`with`, and the places that may trap. The front end is the only producer; the back end and the structure-layout code are the consumers,
and neither asks the Python source again.

Invariants that the front end guarantees and `tree.verify` callers may rely on:
- evaluation order is the order of the fields of a node, left to right, except `Store`, whose value is evaluated before its place
  (as Python does for `a[i] = f()`), and `Return`, whose value is evaluated before enclosing `Scoped.leave` blocks run;
- every local is assigned before it is read, every type is concrete (no generics, no strings), every name resolved;
- generics of the language's own library (`Pool`) are already instantiated; operators of `@value` classes are already calls;
- secrets, taint, guards and reference lifetimes have been checked and left no trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from delphyne.lang.traps import TrapKind as TrapKind


@dataclass(frozen=True, slots=True)
class Loc:
    """A place in a Python source file: 1-based line, 0-based column as in `ast`, and the ends of the construct."""

    file: str
    line: int
    col: int
    end_line: int
    end_col: int


# --- types -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IntT:
    """Unsigned integer of `bits` in {8, 16, 32, 64}."""

    bits: int


@dataclass(frozen=True, slots=True)
class BoolT:
    """Held as i8 0/1 in memory, i1 as a value."""


@dataclass(frozen=True, slots=True)
class UnitT:
    """The type of None where nothing else is possible: a function without a result."""


@dataclass(frozen=True, slots=True)
class NeverT:
    """The result of a function that does not return."""


@dataclass(frozen=True, slots=True)
class EnumT:
    """`members` are (name, value) pairs, for DWARF and for checked conversion. Same representation as IntT(bits)."""

    name: str
    bits: int
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class BitsT:
    """A declared bit-field register or descriptor. Same representation as IntT(bits). `fields` are (name, high bit, low bit)."""

    name: str
    bits: int
    fields: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class ValueT:
    """An immutable record, copied. `fields` are (name, type) in declaration order, laid out as C would."""

    name: str
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class TupleT:
    items: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class OptionT:
    """`T | None`. For RefT: a null pointer is None. Else a pair (i1 present, T)."""

    item: Type


@dataclass(frozen=True, slots=True)
class ResultT:
    """`T | Err`: a pair (i32 error, T) where error 0 means T; for UnitT the i32 alone."""

    item: Type
    error: EnumT


@dataclass(frozen=True, slots=True)
class V128T:
    """A SIMD register, sixteen bytes; LLVM <16 x i8>. Only in functions with `simd` set."""


@dataclass(frozen=True, slots=True)
class StructT:
    """A mutable record that lives at a place. Never a value. Nominal: `fields` are filled by the front end before use."""

    name: str
    fields: tuple[tuple[str, Type], ...] = field(compare=False, hash=False)
    align: int = field(default=0, compare=False, hash=False)
    exported: str | None = field(default=None, compare=False, hash=False)
    """Prefix under which its offsets are written for the assembly file, or None."""


@dataclass(frozen=True, slots=True)
class ArrayT:
    """`length` elements in a row, at a place. Never a value."""

    item: Type
    length: int


@dataclass(frozen=True, slots=True)
class AtomicT:
    """A naturally aligned integer place touched only by the atomic builtins."""

    bits: int


@dataclass(frozen=True, slots=True)
class LockT:
    """A ticket lock: two u32 (next, owner) at a place."""


@dataclass(frozen=True, slots=True)
class BootArrayT:
    """A static pair (pointer, u64 length), set once at boot by the builtin `boot_attach`."""

    item: Type


@dataclass(frozen=True, slots=True)
class RefT:
    """A reference to a StructT, ArrayT, AtomicT or LockT place. Never null; aliases are allowed."""

    target: Type


@dataclass(frozen=True, slots=True)
class SliceT:
    """A pair (pointer, u64 element count). `writable` is False for View."""

    item: Type
    writable: bool


Type = (
    IntT | BoolT | UnitT | NeverT | EnumT | BitsT | ValueT | TupleT | OptionT | ResultT | V128T | StructT | ArrayT | AtomicT | LockT
    | BootArrayT | RefT | SliceT
)


# --- places: where something lives ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class LocalPlace:
    """The stack slot of an aggregate local (StructT, ArrayT) of this function."""

    name: str
    ty: Type
    loc: Loc


@dataclass(slots=True)
class StaticPlace:
    symbol: str
    ty: Type
    loc: Loc


@dataclass(slots=True)
class DerefPlace:
    """What a reference refers to."""

    ref: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class FieldPlace:
    base: Place
    index: int
    ty: Type
    loc: Loc


@dataclass(slots=True)
class IndexPlace:
    """Element of an ArrayT place; traps INDEX. `index` is IntT(64)."""

    base: Place
    index: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class SliceIndexPlace:
    """Element of a slice; traps INDEX. `index` is IntT(64)."""

    base: Expr
    index: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class BootIndexPlace:
    """Element of a BootArrayT place; traps INDEX. `index` is IntT(64)."""

    base: Place
    index: Expr
    ty: Type
    loc: Loc


PER_CPU_ANCHOR = "CPU"
"""What the structure is exported as whose per-CPU static TPIDR_EL2 points into. Its field `index` says which element of every other one is meant."""


@dataclass(slots=True)
class MinePlace:
    """This CPU's element of the per-CPU static `symbol` (an ArrayT of StructT): where TPIDR_EL2 points, or, for all but the anchor's, by the
    anchor's `index`. Native: element 0."""

    symbol: str
    ty: Type
    loc: Loc


Place = LocalPlace | StaticPlace | DerefPlace | FieldPlace | IndexPlace | SliceIndexPlace | BootIndexPlace | MinePlace

# --- expressions ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Const:
    """An IntT, BoolT, EnumT or BitsT constant."""

    value: int
    ty: Type
    loc: Loc


@dataclass(slots=True)
class ConstBytes:
    """A read-only byte string: SliceT(IntT(8), writable=False)."""

    data: bytes
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Local:
    """Read of a scalar, value, option, result, slice or reference local or parameter."""

    name: str
    ty: Type
    loc: Loc


class BinOp(Enum):
    ADD = "add"
    """Traps OVERFLOW, as SUB and MUL do."""
    SUB = "sub"
    MUL = "mul"
    DIV = "div"
    """Traps DIVIDE, as MOD does."""
    MOD = "mod"
    AND = "and"
    OR = "or"
    XOR = "xor"
    SHL = "shl"
    """Traps SHIFT, as SHR does; bits shifted out are lost. The amount has the type of the value."""
    SHR = "shr"
    WRAP_ADD = "wrap_add"
    WRAP_SUB = "wrap_sub"
    WRAP_MUL = "wrap_mul"


@dataclass(slots=True)
class Binary:
    op: BinOp
    left: Expr
    right: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Invert:
    operand: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Not:
    operand: Expr
    ty: Type
    loc: Loc


class CmpOp(Enum):
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


@dataclass(slots=True)
class Compare:
    """Unsigned. EQ and NE also on BoolT, EnumT, BitsT, and field by field on ValueT and TupleT."""

    op: CmpOp
    left: Expr
    right: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class ShortCircuit:
    """`and` where `is_and`, else `or`; both BoolT."""

    is_and: bool
    left: Expr
    right: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Conditional:
    """`then if test else other`: test first."""

    test: Expr
    then: Expr
    other: Expr
    ty: Type
    loc: Loc


class ConvertKind(Enum):
    WIDEN = "widen"
    NARROW = "narrow"
    """Traps NARROW when the value does not fit."""
    TRUNCATE = "truncate"
    FROM_BOOL = "from_bool"
    RELABEL = "relabel"
    """Between IntT, EnumT and BitsT of one width, no check."""
    TO_ENUM = "to_enum"
    """IntT to EnumT of the same width; traps ENUM when it is no member."""


@dataclass(slots=True)
class Convert:
    kind: ConvertKind
    operand: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Call:
    """Call of `Program.functions[symbol]`."""

    symbol: str
    args: list[Expr]
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Builtin:
    """A primitive; see BUILTINS below for names, argument types and attributes."""

    name: str
    args: list[Expr]
    ty: Type
    loc: Loc
    attrs: dict[str, int | str] = field(default_factory=dict)


@dataclass(slots=True)
class Load:
    """Read of a scalar or value at a place."""

    place: Place
    ty: Type
    loc: Loc


@dataclass(slots=True)
class AddrOf:
    """A reference (RefT) to a place."""

    place: Place
    ty: Type
    loc: Loc


@dataclass(slots=True)
class MakeSlice:
    """`base[low:high]`. `base` is an ArrayT place (as AddrOf), a BootArrayT place (as AddrOf) or a slice expression. None ends mean the whole.
    Traps INDEX unless low <= high <= length (operands: high, length if high is too large, else low, high)."""

    base: Expr
    low: Expr | None
    high: Expr | None
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Length:
    """u64 element count of a slice expression or of a BootArrayT reference (arrays have a Const)."""

    base: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class MakeRecord:
    """A ValueT or TupleT from its parts."""

    parts: list[Expr]
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Part:
    """Field of a ValueT or item of a TupleT."""

    record: Expr
    index: int
    ty: Type
    loc: Loc


@dataclass(slots=True)
class MakeOption:
    """Some(value), or None where `value` is None."""

    value: Expr | None
    ty: Type
    loc: Loc


@dataclass(slots=True)
class IsSome:
    option: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class OptionItem:
    """The item of an option that the front end knows to be present."""

    option: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class MakeResult:
    """Ok(value) (value None for UnitT) or, where `error` is given, that error (EnumT)."""

    value: Expr | None
    error: Expr | None
    ty: Type
    loc: Loc


@dataclass(slots=True)
class IsError:
    result: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class ResultItem:
    """The item of a result that the front end knows to be no error."""

    result: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class ResultError:
    """The error of a result that the front end knows to be one: EnumT."""

    result: Expr
    ty: Type
    loc: Loc


@dataclass(slots=True)
class Bind:
    """Evaluate `value`, keep it in the compiler-made local `name`, yield it."""

    name: str
    value: Expr
    ty: Type
    loc: Loc


Expr = (
    Const | ConstBytes | Local | Binary | Invert | Not | Compare | ShortCircuit | Conditional | Convert | Call | Builtin | Load | AddrOf
    | MakeSlice | Length | MakeRecord | Part | MakeOption | IsSome | OptionItem | MakeResult | IsError | ResultItem | ResultError | Bind
)

# --- statements ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class SetLocal:
    name: str
    value: Expr
    loc: Loc


@dataclass(slots=True)
class ZeroLocal:
    """`x = T()` for a struct or array local: its slot becomes all zero."""

    name: str
    loc: Loc


@dataclass(slots=True)
class Store:
    """Value first, then the place, then the store."""

    value: Expr
    place: Place
    loc: Loc


@dataclass(slots=True)
class Update:
    """`place op= value`: place evaluated and loaded, then value, then the operation (which may trap), then the store to the same place."""

    place: Place
    op: BinOp
    value: Expr
    loc: Loc


@dataclass(slots=True)
class Discard:
    expr: Expr
    loc: Loc


@dataclass(slots=True)
class If:
    test: Expr
    then: list[Stmt]
    other: list[Stmt]
    loc: Loc


@dataclass(slots=True)
class While:
    test: Expr
    body: list[Stmt]
    loc: Loc


@dataclass(slots=True)
class ForRange:
    """`for name in uN.range(start, stop, step)`: start and stop evaluated once, a hidden counter runs, `name` gets its value at the top of
    each round. Nothing runs where start >= stop. The counter never overflows."""

    name: str
    start: Expr
    stop: Expr
    step: int
    body: list[Stmt]
    loc: Loc


@dataclass(slots=True)
class Switch:
    """`match` over an EnumT subject. Each case is (values, body)."""

    subject: Expr
    cases: list[tuple[list[int], list[Stmt]]]
    default: list[Stmt]
    loc: Loc


@dataclass(slots=True)
class Return:
    value: Expr | None
    loc: Loc


@dataclass(slots=True)
class Break:
    loc: Loc


@dataclass(slots=True)
class Continue:
    loc: Loc


@dataclass(slots=True)
class Scoped:
    """Any `with`: `enter`, then `body`; `leave` runs on every way out (end, return after its value, break, continue)."""

    enter: list[Stmt]
    body: list[Stmt]
    leave: list[Stmt]
    loc: Loc


@dataclass(slots=True)
class Trap:
    kind: TrapKind
    loc: Loc


Stmt = (
    SetLocal | ZeroLocal | Store | Update | Discard | If | While | ForRange | Switch | Return | Break | Continue | Scoped | Trap
)

# --- the program ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Function:
    symbol: str
    """Dotted Python name, or the exported name of an `@entry` function, or the plain name of an `@assembly` one."""
    params: list[tuple[str, Type]]
    result: Type
    locals: dict[str, Type]
    """Every local, parameters not included, compiler temporaries included. StructT and ArrayT locals are stack slots."""
    body: list[Stmt]
    loc: Loc
    external: bool = False
    """Written in assembly; `body` is empty."""
    exported: bool = False
    """Called from assembly: kept by the linker."""
    simd: bool = False
    cold: bool = False
    """Never inlined, moved away from hot code and made for size (`@cold`)."""
    apart: bool = False
    """Never inlined (`@apart`)."""
    merged: bool = False
    """Always inlined (`@merged`)."""


@dataclass(slots=True)
class Static:
    symbol: str
    ty: Type
    init: object
    """int for scalars, list for arrays and records (field order), bytes for u8 arrays, None for all zero."""
    constant: bool
    section: str | None
    align: int
    loc: Loc


@dataclass(slots=True)
class Format:
    """A log message: literal text with `{}`/`{:x}`/`{:016x}` place holders; its number is its index in `Program.formats`."""

    text: str
    loc: Loc


@dataclass(slots=True)
class Program:
    functions: dict[str, Function]
    statics: dict[str, Static]
    formats: list[Format]
    exports: list[StructT]
    """Structures whose offsets the assembly file needs."""


BUILTINS: dict[str, str] = {
    # name: argument types -> result; attributes
    "count_leading_zeros": "(uN) -> uN; zero gives N",
    "count_trailing_zeros": "(uN) -> uN; zero gives N",
    "rotate_right": "(uN, uN) -> uN; amount taken modulo N",
    "rotate_left": "(uN, uN) -> uN; amount taken modulo N",
    "byte_swap": "(uN) -> uN",
    "sign_extend": "(uN) -> uN; attrs from_bits: int",
    "fit": "(uN) -> uN, its argument; attrs bits: int; traps NARROW (value, largest) where the value needs more than that many bits",
    "minimum": "(uN, uN) -> uN",
    "maximum": "(uN, uN) -> uN",
    "checked_add": "(uN, uN) -> Option(uN); likewise checked_sub, checked_mul",
    "checked_sub": "see checked_add",
    "checked_mul": "see checked_add",
    "load_bytes": "(SliceT(u8), u64 offset) -> uN; attrs bits, big: 0/1; traps INDEX (offset, length)",
    "store_bytes": "(SliceT(u8), u64 offset, uN) -> Unit; attrs bits, big",
    "copy_slice": "(SliceT(T) to, SliceT(T) from) -> Unit; traps INDEX (from length, to length) unless equal; memmove",
    "fill_slice": "(SliceT(T), T) -> Unit",
    "copy_place": "(RefT(T) to, RefT(T) from) -> Unit; memmove",
    "wipe": "(RefT(T) or SliceT(T)) -> Unit; zeroes, survives the optimiser",
    "atomic_load": "(RefT(AtomicT)) -> uN; attrs order: relaxed|acquire",
    "atomic_store": "(RefT(AtomicT), uN) -> Unit; attrs order: relaxed|release",
    "atomic_swap": "(RefT(AtomicT), uN) -> uN (old); attrs order: relaxed|acquire|release|acq_rel",
    "atomic_add": "same; wraps; likewise atomic_sub, atomic_or, atomic_and, atomic_xor; all return the old value",
    "atomic_sub": "see atomic_add",
    "atomic_or": "see atomic_add",
    "atomic_and": "see atomic_add",
    "atomic_xor": "see atomic_add",
    "atomic_compare_exchange": "(RefT(AtomicT), uN expected, uN desired) -> uN (old; equal to expected where it succeeded); attrs order; strong",
    "lock_acquire": "(RefT(LockT)) -> Unit (external function lock_acquire)",
    "lock_release": "(RefT(LockT)) -> Unit (external function lock_release)",
    "sysreg_read": "() -> u64; attrs name, op0, op1, crn, crm, op2",
    "sysreg_write": "(u64) -> Unit; attrs as above",
    "barrier": "() -> Unit; attrs kind: dmb|dsb|isb, domain: sy|st|ld|ish|ishst|ishld|osh|nsh (isb: sy)",
    "address_of": "(RefT) -> u64",
    "place_at": "(u64 address) -> RefT(T): where EL2 reaches that address; only the front end's library code makes it",
    "slice_at": "(u64 address, u64 length) -> SliceT(T)",
    "boot_attach": "(RefT(BootArrayT), u64 address, u64 length) -> Unit; traps ASSERT when already attached",
    "nospec": "(u64 index, u64 limit) -> u64: index where index < limit, else 0, also under speculation (external function nospec on AArch64)",
    "log_format": "(u64 number) -> Option(SliceT(u8, False)): the text of a format, NUL not included",
    "v128_load": "(SliceT(u8), u64 offset) -> V128; traps INDEX",
    "v128_store": "(SliceT(u8), u64 offset, V128) -> Unit; traps INDEX",
    "v128_op": "(V128...) -> V128; attrs op: xor and or add32 add64 aese aesd aesmc aesimc sha256h sha256h2 sha256su0 sha256su1 rev32_8 ext8 dup_low",
    "v128_from_u64": "(u64 low, u64 high) -> V128",
    "v128_lane": "(V128) -> u64; attrs lane: 0|1",
}
