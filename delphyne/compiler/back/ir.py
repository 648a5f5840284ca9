# SPDX-License-Identifier: Apache-2.0
"""A typed program as one LLVM module in text.

Everything but entry points has internal linkage, so that LLVM may inline and drop it; statics are hidden, so that the assembly file may
name them. There is no pointer in any initialiser, hence no absolute relocation. memcpy and its family are part of every AArch64 module,
because LLVM calls them whatever a program does.
"""

from __future__ import annotations

from dataclasses import dataclass

from delphyne.compiler import tree
from delphyne.compiler.back import layout, runtime, statement
from delphyne.compiler.back.arithmetic import width
from delphyne.compiler.back.body import FIRST_DEBUG, LENGTH_LIMIT, Body, Site, Unit, byte_string, memory_type, quoted, value_type
from delphyne.compiler.back.debug import Debug
from delphyne.compiler.back.initial import initializer
from delphyne.compiler.back.rare import rare
from delphyne.compiler.back.target import AARCH64, GENERAL_FEATURES, NATIVE, SIMD_FEATURES, Target

__all__ = ["AARCH64", "NATIVE", "Emitted", "Target", "emit", "emit_ir"]


TRAP = "declare void @__trap(i32, i64, i64) #2\n"


@dataclass(frozen=True, slots=True)
class Emitted:
    """A module's text and its trap sites by number."""

    text: str
    sites: list[Site]


def emit_ir(program: tree.Program, target: Target, *, checked: bool = True, debug: bool = True) -> str:
    """The LLVM IR of a program. `checked=False` leaves out arithmetic and index traps, to measure what they cost."""
    return emit(program, target, checked=checked, debug=debug).text


def emit(program: tree.Program, target: Target, *, checked: bool = True, debug: bool = True, trap: str = TRAP) -> Emitted:
    """The LLVM IR of a program with its trap sites. `trap` declares or defines the function `__trap` that ends a failed check."""
    unit = Unit(program, target, checked, Debug(FIRST_DEBUG) if debug else None)
    bodies, small = list[str](), rare(program)
    for function in program.functions.values():
        bodies += _function(unit, function, function.symbol in small)
    out = ['source_filename = "delphyne"', f'target datalayout = "{target.data_layout}"', f'target triple = "{target.triple}"', ""]
    for static in program.statics.values():
        out.append(_static(static) + (unit.debug.static(static) if unit.debug is not None else ""))
    out += [f"{quoted(name)} = private unnamed_addr constant [{len(data)} x i8] {byte_string(data)}, align 1" for data, name in unit.literals.items()]
    out += _formats(program)
    out += bodies
    out += runtime.definitions(target, set(unit.declared))
    known = runtime.defined(target) | set(program.functions)
    out += [text.replace("@", quoted(name), 1) for name, text in unit.declared.items() if name not in known]
    out += [trap, *_attributes(target)]
    out += ['!0 = !{!"branch_weights", i32 1, i32 2000}', '!1 = !{!"branch_weights", i32 2000, i32 1}', f"!2 = !{{i64 0, i64 {LENGTH_LIMIT}}}"]
    out += [f'{number} = !{{!"{encoding}"}}' for encoding, number in unit.registers.items()]
    if unit.debug is not None:
        out += unit.debug.lines(_main_file(program))
    return Emitted("\n".join(out) + "\n", unit.sites)


def _main_file(program: tree.Program) -> str:
    files = sorted({function.loc.file for function in program.functions.values()})
    return files[0] if files else "program"


def _attributes(target: Target) -> list[str]:
    # Some boards have RAM at address 0, and a frame there is as good as any other.
    common = 'nounwind null_pointer_is_valid "frame-pointer"="non-leaf" "no-jump-tables"="true"'
    general, simd = common, common
    if target.hardware:
        general += f' "target-features"="{GENERAL_FEATURES}" "warn-stack-size"="0"'
        simd += f' "target-features"="{SIMD_FEATURES}" "warn-stack-size"="0"'
    return [
        f"attributes #0 = {{ {general} }}",
        f"attributes #1 = {{ {simd} }}",
        "attributes #2 = { cold noreturn nounwind }",
        f'attributes #3 = {{ {general} "no-builtins" noinline }}',
    ]


def _static(static: tree.Static) -> str:
    kind = "constant" if static.constant else "global"
    section = f', section "{static.section}"' if static.section else ""
    align = max(static.align, layout.align_of(static.ty))
    return f"{quoted(static.symbol)} = hidden {kind} {initializer(static.ty, static.init)}{section}, align {align}"


def _formats(program: tree.Program) -> list[str]:
    texts = [item.text.encode() for item in program.formats]
    offsets = [0]
    for text in texts:
        offsets.append(offsets[-1] + len(text))
    blob = b"".join(texts)
    numbers = ", ".join(f"i32 {offset}" for offset in [*offsets, offsets[-1]])
    return [
        f"{quoted('format.offsets')} = private unnamed_addr constant [{len(offsets) + 1} x i32] [{numbers}], align 4",
        f"{quoted('format.texts')} = private unnamed_addr constant [{len(blob)} x i8] {byte_string(blob)}, align 1",
    ]


def _reference_attributes(ty: tree.Type) -> str:
    match ty:
        case tree.RefT():
            size = layout.size_of(ty.target)
            return f" noundef nonnull align {layout.align_of(ty.target)}" + (f" dereferenceable({size})" if size else "")
        case tree.OptionT(item=tree.RefT(target=target)):
            return f" noundef align {layout.align_of(target)}"
    return ""


def _signature(function: tree.Function, names: list[str]) -> str:
    extend = function.external
    params = []
    for (_, ty), name in zip(function.params, names, strict=True):
        small = isinstance(ty, (tree.IntT, tree.EnumT, tree.BitsT, tree.BoolT)) and width(ty) < 32
        params.append(f"{value_type(ty)}{' zeroext' if extend and small else ''}{_reference_attributes(ty)} {name}".rstrip())
    return f"{value_type(function.result)} {quoted(function.symbol)}({', '.join(params)})"


def _function(unit: Unit, function: tree.Function, small: bool) -> list[str]:
    never = " noreturn" if isinstance(function.result, tree.NeverT) else ""
    if function.external and unit.target.hardware:
        return [f"declare {_signature(function, [''] * len(function.params))}{never} nounwind", ""]
    body = Body(unit, function)
    allocas: list[str] = []
    names = [f"%p{index}" for index in range(len(function.params))]
    for index, (local, ty) in enumerate([*function.params, *function.locals.items()]):
        slot = f"%{'v' if index < len(names) else 'l'}{index}"
        body.slots[local] = (slot, ty)
        if not isinstance(ty, (tree.UnitT, tree.NeverT)):
            allocas.append(f"  {slot} = alloca {memory_type(ty)}, align {layout.align_of(ty)}")
    for (local, ty), name in zip(function.params, names, strict=True):
        body.store(name, body.slots[local][0], ty)
        if isinstance(ty, tree.SliceT):
            body.known_slice(name)
    if unit.debug is not None:
        body.lines += unit.debug.variables(function, body.slots)
    if function.external:
        body.trap_always(tree.TrapKind.UNREACHABLE)
    statement.block(body, function.body)
    if not body.ended:
        body.loc = function.loc
        if isinstance(function.result, tree.UnitT):
            body.end("ret void")
        else:
            body.trap_always(tree.TrapKind.UNREACHABLE)
    if body.result:
        body.loc = function.loc
        body.begin("return")
        body.end(f"ret {value_type(function.result)} {body.load(body.result, function.result)}")
    linkage = "hidden" if function.exported else "internal"
    away = " cold noinline" if function.cold else " noinline" if function.apart else " alwaysinline" if function.merged else ""
    attributes = f"#{int(function.simd)}{' optsize' if small else ''}{away}{never}"
    subprogram = f" !dbg !{unit.debug.function(function)}" if unit.debug is not None else ""
    head = f"define {linkage} {_signature(function, names)} {attributes}{subprogram} {{"
    return [head, "entry:", *allocas, *body.scratch, *body.lines, *body.traps, "}", ""]
