# SPDX-License-Identifier: Apache-2.0
"""The room where one function's IR is written down: names, blocks, traps, stack slots; and what functions of a module share.

Values are LLVM operands as text. Aggregates are first-class LLVM values whose parts have their memory form, in which a bool is an i8.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.bounds import Counter
from delphyne.compiler.back.debug import Debug
from delphyne.compiler.back.target import Target
from delphyne.compiler.back.tools import shown


@dataclass(frozen=True, slots=True)
class Site:
    """A place that may trap; `function` is the symbol of the function it was written in."""

    kind: tree.TrapKind
    file: str
    line: int
    col: int
    function: str


def memory_type(ty: tree.Type) -> str:
    """The LLVM type of `ty` in memory and inside aggregates. Places are opaque bytes: they are only addressed."""
    match ty:
        case tree.BoolT():
            return "i8"
        case tree.IntT() | tree.EnumT() | tree.BitsT() | tree.AtomicT():
            return f"i{ty.bits}"
        case tree.ValueT():
            return "{ " + ", ".join(memory_type(item) for _, item in ty.fields) + " }"
        case tree.TupleT():
            return "{ " + ", ".join(memory_type(item) for item in ty.items) + " }"
        case tree.OptionT():
            return "ptr" if layout.is_pointer(ty) else f"{{ i8, {memory_type(ty.item)} }}"
        case tree.ResultT():
            return "i32" if isinstance(ty.item, tree.UnitT) else f"{{ i32, {memory_type(ty.item)} }}"
        case tree.V128T():
            return "<16 x i8>"
        case tree.RefT():
            return "ptr"
        case tree.SliceT():
            return "{ ptr, i64 }"
        case tree.UnitT() | tree.NeverT():
            return "{}"
    return f"[{layout.size_of(ty)} x i8]"


def value_type(ty: tree.Type) -> str:
    """The LLVM type of `ty` as an operand, parameter or result."""
    match ty:
        case tree.BoolT():
            return "i1"
        case tree.UnitT() | tree.NeverT():
            return "void"
    return memory_type(ty)


def quoted(symbol: str) -> str:
    """A global name in LLVM's spelling."""
    return '@"' + symbol + '"'


def byte_string(data: bytes) -> str:
    """An LLVM constant for raw bytes."""
    return 'c"' + "".join(chr(b) if 32 <= b < 127 and b not in (34, 92) else f"\\{b:02X}" for b in data) + '"'


FIRST_REGISTER = 3
"""Metadata numbers: 0 and 1 are the branch weights, 2 the range of lengths, then system registers, and debug information from `FIRST_DEBUG`."""
FIRST_DEBUG = 10_000


@dataclass(slots=True)
class Unit:
    """What the functions of one LLVM module share."""

    program: tree.Program
    target: Target
    checked: bool
    debug: Debug | None
    sites: list[Site] = field(default_factory=list)
    declared: dict[str, str] = field(default_factory=dict)
    literals: dict[bytes, str] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)

    def declare(self, name: str, signature: str) -> str:
        """Note that intrinsic or external `name` is used; `signature` has `@` where the name stands."""
        self.declared[name] = signature
        return quoted(name)

    def literal(self, data: bytes) -> str:
        """The global that holds `data` in the constants section."""
        return quoted(self.literals.setdefault(data, f"bytes.{len(self.literals)}"))

    def register(self, encoding: str) -> str:
        """The metadata node that names a system register, `op0:op1:crn:crm:op2`."""
        return self.registers.setdefault(encoding, f"!{FIRST_REGISTER + len(self.registers)}")

    def site(self, kind: tree.TrapKind, loc: tree.Loc, function: str) -> int:
        """A new trap site's number."""
        self.sites.append(Site(kind, shown(loc.file), loc.line, loc.col, function))
        return len(self.sites) - 1


@dataclass(slots=True)
class Loop:
    """Where `break` and `continue` go, and how many `Scoped` were open when the loop began."""

    leave: str
    again: str
    depth: int


_UNCHECKED = {tree.TrapKind.OVERFLOW, tree.TrapKind.SHIFT, tree.TrapKind.DIVIDE, tree.TrapKind.INDEX, tree.TrapKind.NARROW, tree.TrapKind.ENUM}
LIKELY_OK, LIKELY_TRAP, LENGTH_RANGE = "!0", "!1", "!2"
LENGTH_LIMIT = 1 << 56
"""No slice has as many elements: whatever makes one from bare numbers traps first. LLVM is told, and so sees that an index does not wrap."""


class Body:
    """One function under construction."""

    def __init__(self, unit: Unit, function: tree.Function) -> None:
        """Start with the entry block open."""
        self.unit = unit
        self.function = function
        self.lines: list[str] = []
        self.traps: list[str] = []
        self.slots: dict[str, tuple[str, tree.Type]] = {}
        self.loops: list[Loop] = []
        self.scopes: list[list[tree.Stmt]] = []
        self.counters: list[Counter] = []
        self.loc = function.loc
        self.block = "entry"
        self.scratch: list[str] = []
        self.result = ""
        self.ended = False
        self._names = 0
        self._scope = unit.debug.function(function) if unit.debug is not None else 0

    def _suffix(self) -> str:
        if self.unit.debug is None:
            return ""
        return f", !dbg !{self.unit.debug.location(self.loc, self._scope, self.function)}"

    def name(self, hint: str = "t") -> str:
        """A fresh local name, without its sign."""
        self._names += 1
        return f"{hint}{self._names}"

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append(f"  {text}{self._suffix()}")

    def op(self, text: str) -> str:
        """An instruction; its result's operand."""
        name = f"%{self.name()}"
        self.lines.append(f"  {name} = {text}{self._suffix()}")
        return name

    def end(self, text: str) -> None:
        """A terminator."""
        self.do(text)
        self.ended = True

    def begin(self, label: str) -> None:
        """Start the block `label`; the one before falls into it unless it has ended."""
        if not self.ended:
            self.end(f"br label %{label}")
        self.lines.append(f"{label}:")
        self.block = label
        self.ended = False

    def slot(self, ty: tree.Type) -> str:
        """A stack slot that no name of the program stands for."""
        name = f"%{self.name('s')}"
        self.scratch.append(f"  {name} = alloca {memory_type(ty)}, align {layout.align_of(ty)}")
        return name

    def result_slot(self) -> str:
        """Where every `return` leaves the result: one way out lets LLVM take records apart when it inlines."""
        if not self.result:
            self.result = self.slot(self.function.result)
        return self.result

    def branch(self, test: str, then: str, other: str) -> None:
        """End the block on an i1."""
        self.end(f"br i1 {test}, label %{then}, label %{other}")

    def checks(self, kind: tree.TrapKind) -> bool:
        """Whether traps of this kind are compiled in."""
        return self.unit.checked or kind not in _UNCHECKED

    def trap_if(self, test: str, kind: tree.TrapKind, a: tuple[str, int], b: tuple[str, int]) -> None:
        """Trap where i1 `test` holds. `a` and `b` are the reported operands with their widths in bits."""
        if not self.checks(kind):
            return
        trap, onward = self.name("trap"), self.name("ok")
        self.end(f"br i1 {test}, label %{trap}, label %{onward}, !prof {LIKELY_OK}")
        self._trap_block(trap, kind, a, b)
        self.begin(onward)

    def trap_unless(self, test: str, kind: tree.TrapKind, a: tuple[str, int], b: tuple[str, int]) -> None:
        """Trap where i1 `test` does not hold."""
        if not self.checks(kind):
            return
        trap, onward = self.name("trap"), self.name("ok")
        self.end(f"br i1 {test}, label %{onward}, label %{trap}, !prof {LIKELY_TRAP}")
        self._trap_block(trap, kind, a, b)
        self.begin(onward)

    def trap_always(self, kind: tree.TrapKind) -> None:
        """End the block in a trap without operands."""
        site = self.unit.site(kind, self.loc, self.function.symbol)
        self.do(f"call void @__trap(i32 {site}, i64 0, i64 0) cold noreturn nomerge")
        self.end("unreachable")

    def _trap_block(self, label: str, kind: tree.TrapKind, a: tuple[str, int], b: tuple[str, int]) -> None:
        site = self.unit.site(kind, self.loc, self.function.symbol)
        suffix, out, operands = self._suffix(), self.traps, []
        out.append(f"{label}:")
        for operand, bits in (a, b):
            if bits < 64:
                name = f"%{self.name()}"
                out.append(f"  {name} = zext i{bits} {operand} to i64{suffix}")
                operand = name
            operands.append(operand)
        out.append(f"  call void @__trap(i32 {site}, i64 {operands[0]}, i64 {operands[1]}) cold noreturn nomerge{suffix}")
        out.append(f"  unreachable{suffix}")

    # --- values and memory ---

    def to_memory(self, value: str, ty: tree.Type) -> str:
        """The memory form of an operand."""
        if isinstance(ty, tree.BoolT):
            return {"true": "1", "false": "0"}.get(value) or self.op(f"zext i1 {value} to i8")
        return value

    def from_memory(self, value: str, ty: tree.Type) -> str:
        """The operand of a memory form."""
        return self.op(f"icmp ne i8 {value}, 0") if isinstance(ty, tree.BoolT) else value

    def load(self, pointer: str, ty: tree.Type) -> str:
        """Read a scalar or value."""
        return self.from_memory(self.op(f"load {memory_type(ty)}, ptr {pointer}, align {layout.align_of(ty)}"), ty)

    def store(self, value: str, pointer: str, ty: tree.Type) -> None:
        """Write a scalar or value."""
        memory = self.to_memory(value, ty)
        self.do(f"store {memory_type(ty)} {memory}, ptr {pointer}, align {layout.align_of(ty)}")

    def part(self, aggregate: str, aggregate_type: str, index: int, ty: tree.Type) -> str:
        """One part of a first-class aggregate as an operand."""
        if isinstance(ty, (tree.UnitT, tree.NeverT)):
            return ""
        return self.from_memory(self.op(f"extractvalue {aggregate_type} {aggregate}, {index}"), ty)

    def aggregate(self, aggregate_type: str, parts: list[tuple[str, tree.Type]]) -> str:
        """A first-class aggregate of operands."""
        value = "poison"
        for index, (operand, ty) in enumerate(parts):
            if isinstance(ty, (tree.UnitT, tree.NeverT)):
                continue
            memory = self.to_memory(operand, ty)
            value = self.op(f"insertvalue {aggregate_type} {value}, {memory_type(ty)} {memory}, {index}")
        return value

    def offset(self, pointer: str, distance: int) -> str:
        """`pointer` moved by a constant inside its object."""
        return pointer if distance == 0 else self.op(f"getelementptr inbounds nuw i8, ptr {pointer}, i64 {distance}")

    def element(self, pointer: str, index: str, item: tree.Type) -> str:
        """The address of an element whose index is known to be in range (or one past the end)."""
        return self.op(f"getelementptr inbounds nuw {memory_type(item)}, ptr {pointer}, i64 {index}")

    def intrinsic(self, name: str, result: str, *args: tuple[str, str]) -> str:
        """Call an intrinsic that has a result; `args` are types and operands."""
        callee = self.unit.declare(name, f"declare {result} @({', '.join(ty for ty, _ in args)})")
        return self.op(f"call {result} {callee}({', '.join(f'{ty} {operand}' for ty, operand in args)})")

    def intrinsic_do(self, name: str, *args: tuple[str, str]) -> None:
        """Call an intrinsic or external function that has no result."""
        callee = self.unit.declare(name, f"declare void @({', '.join(ty for ty, _ in args)})")
        self.do(f"call void {callee}({', '.join(f'{ty} {operand}' for ty, operand in args)})")

    def slice_parts(self, value: str) -> tuple[str, str]:
        """Pointer and element count of a slice operand."""
        return self.op(f"extractvalue {{ ptr, i64 }} {value}, 0"), self.op(f"extractvalue {{ ptr, i64 }} {value}, 1")

    def make_slice(self, pointer: str, length: str) -> str:
        """A slice operand from pointer and element count."""
        half = self.op(f"insertvalue {{ ptr, i64 }} poison, ptr {pointer}, 0")
        return self.op(f"insertvalue {{ ptr, i64 }} {half}, i64 {length}, 1")

    def known_slice(self, value: str) -> str:
        """Tell LLVM what is true of every slice; the same operand."""
        length = self.op(f"extractvalue {{ ptr, i64 }} {value}, 1")
        self.intrinsic_do("llvm.assume", ("i1", self.op(f"icmp ult i64 {length}, {LENGTH_LIMIT}")))
        return value

    def check_length(self, length: str) -> None:
        """Trap INDEX where a number cannot be a slice's length."""
        self.trap_unless(self.op(f"icmp ult i64 {length}, {LENGTH_LIMIT}"), tree.TrapKind.INDEX, (length, 64), (str(LENGTH_LIMIT), 64))

    def check_index(self, index: str, length: str, surely: str = "") -> None:
        """Trap INDEX unless index < length, both i64. `surely` is an i1 that says so without looking at the index, where there is one."""
        if not self.checks(tree.TrapKind.INDEX):
            return
        if not surely:
            self.trap_unless(self.op(f"icmp ult i64 {index}, {length}"), tree.TrapKind.INDEX, (index, 64), (length, 64))
            return
        doubt, known = self.name("doubt"), self.name("known")
        self.end(f"br i1 {surely}, label %{known}, label %{doubt}, !prof {LIKELY_TRAP}")
        self.begin(doubt)
        self.trap_unless(self.op(f"icmp ult i64 {index}, {length}"), tree.TrapKind.INDEX, (index, 64), (length, 64))
        self.begin(known)

    def window(self, slice_value: str, offset: str, size: int) -> str:
        """The address of `size` bytes at `offset` of a byte slice; traps INDEX."""
        pointer, length = self.slice_parts(slice_value)
        if self.checks(tree.TrapKind.INDEX):
            short = self.op(f"icmp ult i64 {length}, {size}")
            far = self.op(f"icmp ugt i64 {offset}, {self.op(f'sub i64 {length}, {size}')}")
            self.trap_if(self.op(f"or i1 {short}, {far}"), tree.TrapKind.INDEX, (offset, 64), (length, 64))
        return self.element(pointer, offset, tree.IntT(8))
