# SPDX-License-Identifier: Apache-2.0
"""Compiled code that CPython can call, on the machine the compiler runs on.

Each function gets a small IR wrapper that takes its operands from one buffer, laid out as a tuple of the parameters, and puts its result
into another. A trap notes site and operands and jumps back into the wrapper through libc's longjmp, so it ends the call and not the process.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import llvmlite.binding as llvm  # type: ignore[import-untyped]

from delphyne.compiler import tree
from delphyne.compiler.back import layout
from delphyne.compiler.back.body import memory_type, quoted, value_type
from delphyne.compiler.back.data import Buffer, decode, encode_into
from delphyne.compiler.back.errors import BackError
from delphyne.compiler.back.ir import NATIVE, Emitted, emit
from delphyne.compiler.back.lower import machine_for, optimise

__all__ = ["Buffer", "NativeModule", "NativeTrap", "load"]

_SUPPORT = """
@native.jump = internal global [64 x i64] zeroinitializer, align 16
@native.site = global i32 0
@native.operands = global [2 x i64] zeroinitializer
declare i32 @_setjmp(ptr) returns_twice
declare void @longjmp(ptr, i32) noreturn
define internal void @__trap(i32 %site, i64 %a, i64 %b) #2 {
  store i32 %site, ptr @native.site
  store i64 %a, ptr @native.operands
  store i64 %b, ptr getelementptr inbounds (i8, ptr @native.operands, i64 8)
  call void @longjmp(ptr @native.jump, i32 1)
  unreachable
}
"""


class NativeTrap(Exception):
    """A trap fired: its kind, where it was written (file, line, column), and its two operands."""

    def __init__(self, kind: tree.TrapKind, loc: tuple[str, int, int], a: int, b: int) -> None:
        """Keep the report's parts."""
        super().__init__(f"{loc[0]}:{loc[1]}: {kind.name} {a:#x} {b:#x}")
        self.kind, self.loc, self.a, self.b = kind, loc, a, b


def _wrapper(function: tree.Function) -> str:
    """`i32 native:SYMBOL(ptr operands, ptr result)`: 0 after a return, 1 after a trap."""
    record = layout.record_of(tree.TupleT(tuple(ty for _, ty in function.params)))
    lines, args = [], []
    for index, (ty, offset) in enumerate(zip(record.types, record.offsets, strict=True)):
        lines += [f"  %a{index} = getelementptr i8, ptr %operands, i64 {offset}", f"  %m{index} = load {memory_type(ty)}, ptr %a{index}"]
        if isinstance(ty, tree.BoolT):
            lines.append(f"  %v{index} = icmp ne i8 %m{index}, 0")
        args.append(f"{value_type(ty)} %{'v' if isinstance(ty, tree.BoolT) else 'm'}{index}")
    result = value_type(function.result)
    call = f"call {result} {quoted(function.symbol)}({', '.join(args)})"
    if result == "void":
        lines.append(f"  {call}")
    else:
        lines.append(f"  %r = {call}")
        memory = "%r"
        if isinstance(function.result, tree.BoolT):
            lines.append("  %rm = zext i1 %r to i8")
            memory = "%rm"
        lines.append(f"  store {memory_type(function.result)} {memory}, ptr %result")
    body = "\n".join(lines)
    return f"""define i32 {quoted("native:" + function.symbol)}(ptr %operands, ptr %result) noinline {{
  %again = call i32 @_setjmp(ptr @native.jump) returns_twice
  %first = icmp eq i32 %again, 0
  br i1 %first, label %go, label %trapped
go:
{body}
  ret i32 0
trapped:
  ret i32 1
}}
"""


class NativeModule:
    """A loaded program. Statics keep their contents from call to call until `reset`."""

    def __init__(self, program: tree.Program, emitted: Emitted, engine: llvm.ExecutionEngine) -> None:
        """Remember the statics as they are now, for `reset`."""
        self.program = program
        self._sites = emitted.sites
        self._engine = engine
        self._wrappers: dict[str, Callable[[object, object], int]] = {}
        self._operands = ctypes.create_string_buffer(4096)
        self._result = ctypes.create_string_buffer(4096)
        self._site = ctypes.c_uint32.from_address(engine.get_global_value_address("native.site"))
        self._trap_operands = (ctypes.c_uint64 * 2).from_address(engine.get_global_value_address("native.operands"))
        self._images = {
            symbol: ctypes.string_at(self.address(symbol), layout.size_of(static.ty))
            for symbol, static in program.statics.items()
            if not static.constant
        }

    def address(self, symbol: str) -> int:
        """Where a static is."""
        return int(self._engine.get_global_value_address(symbol))

    def reset(self) -> None:
        """Give every static its first contents again."""
        for symbol, image in self._images.items():
            ctypes.memmove(self.address(symbol), image, len(image))

    def read(self, symbol: str) -> object:
        """The contents of a static as Python data."""
        ty = self.program.statics[symbol].ty
        return decode(ty, ctypes.string_at(self.address(symbol), layout.size_of(ty)))

    def write(self, symbol: str, value: object) -> None:
        """Replace the contents of a static."""
        ty = self.program.statics[symbol].ty
        image = bytearray(layout.size_of(ty))
        encode_into(ty, value, image, 0)
        ctypes.memmove(self.address(symbol), bytes(image), len(image))

    def slice_bytes(self, result: object) -> bytes:
        """The contents of a byte slice that a call returned."""
        assert isinstance(result, tuple), result
        return ctypes.string_at(*result)

    def call(self, symbol: str, *args: object) -> object:
        """Call a function.

        Integers, enums and bit fields are ints; values and tuples are tuples; an option is its item or None; a result is `("ok", item)` or
        `("err", number)`; a reference is a Buffer (or None where it may be) going in and an address coming out; a slice is a Buffer or
        (Buffer, first, after) going in and (address, length) coming out. Raises NativeTrap.
        """
        function = self.program.functions[symbol]
        record = layout.record_of(tree.TupleT(tuple(ty for _, ty in function.params)))
        if len(args) != len(record.types):
            raise BackError(f"{symbol} takes {len(record.types)} arguments, not {len(args)}")
        operands = bytearray(record.size)
        for ty, offset, value in zip(record.types, record.offsets, args, strict=True):
            encode_into(ty, value, operands, offset)
        ctypes.memmove(self._operands, bytes(operands), len(operands))
        if self._wrapper(symbol)(self._operands, self._result):
            site = self._sites[self._site.value]
            raise NativeTrap(site.kind, (site.file, site.line, site.col), self._trap_operands[0], self._trap_operands[1])
        return decode(function.result, self._result.raw[: layout.size_of(function.result)])

    def _wrapper(self, symbol: str) -> Callable[[object, object], int]:
        known = self._wrappers.get(symbol)
        if known is None:
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
            known = self._wrappers[symbol] = prototype(self._engine.get_function_address(f"native:{symbol}"))
        return known


def load(program: tree.Program, opt: int = 2) -> NativeModule:
    """Compile a program into this process. LLVM may end the process on a module it cannot handle: callers who fear that use a child."""
    emitted = emit(program, NATIVE, debug=False, trap=_SUPPORT)
    text = emitted.text + "".join(_wrapper(f) for f in program.functions.values())
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise BackError(f"LLVM refused the program: {' '.join(str(error).split())}") from None
    machine = machine_for(NATIVE.triple, opt)
    optimise(module, machine, opt)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return NativeModule(program, emitted, engine)
