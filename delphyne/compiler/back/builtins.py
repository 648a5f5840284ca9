# SPDX-License-Identifier: Apache-2.0
"""The primitives of `tree.BUILTINS` as LLVM instructions, intrinsics and calls of assembly functions.

A primitive gets its operands evaluated. Those that need the processor's system side trap UNREACHABLE on the native target; barriers are
nothing there, because native code runs on one thread.
"""

from __future__ import annotations

from collections.abc import Callable

from delphyne.compiler import tree
from delphyne.compiler.back import arithmetic, layout, simd
from delphyne.compiler.back.body import Body, memory_type, quoted, value_type
from delphyne.compiler.tree import TrapKind

Lowering = Callable[[Body, tree.Builtin, list[str]], str]

_ORDER = {"relaxed": "monotonic", "acquire": "acquire", "release": "release", "acq_rel": "acq_rel"}
_FAILURE_ORDER = {"relaxed": "monotonic", "acquire": "acquire", "release": "monotonic", "acq_rel": "acquire"}
_ATOMIC = {
    "atomic_swap": "xchg",
    "atomic_add": "add",
    "atomic_sub": "sub",
    "atomic_or": "or",
    "atomic_and": "and",
    "atomic_xor": "xor",
}
_CRM = {"sy": 15, "st": 14, "ld": 13, "ish": 11, "ishst": 10, "ishld": 9, "nsh": 7, "osh": 3}


def lower(b: Body, node: tree.Builtin, args: list[str]) -> str:
    """The operand of a primitive; the empty string where it has no value."""
    return _LOWERINGS[node.name](b, node, args)


def _bits(node: tree.Builtin) -> int:
    return arithmetic.width(node.args[0].ty)


def _item(node: tree.Builtin) -> tree.Type:
    ty = node.args[0].ty
    assert isinstance(ty, tree.SliceT)
    return ty.item


def _target(node: tree.Builtin) -> tree.Type:
    ty = node.args[0].ty
    assert isinstance(ty, tree.RefT)
    return ty.target


# --- integers --------------------------------------------------------------------------------------------------------------------


def _count(b: Body, node: tree.Builtin, args: list[str]) -> str:
    name = "ctlz" if node.name == "count_leading_zeros" else "cttz"
    ty = value_type(node.ty)
    return b.intrinsic(f"llvm.{name}.{ty}", ty, (ty, args[0]), ("i1", "false"))


def _rotate(b: Body, node: tree.Builtin, args: list[str]) -> str:
    ty = value_type(node.ty)
    return b.intrinsic(f"llvm.{'fshr' if node.name == 'rotate_right' else 'fshl'}.{ty}", ty, (ty, args[0]), (ty, args[0]), (ty, args[1]))


def _byte_swap(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return swapped(b, args[0], _bits(node))


def swapped(b: Body, operand: str, bits: int) -> str:
    """An integer with its bytes in the other order."""
    return operand if bits == 8 else b.intrinsic(f"llvm.bswap.i{bits}", f"i{bits}", (f"i{bits}", operand))


def _sign_extend(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits, kept = _bits(node), int(node.attrs["from_bits"])
    if kept >= bits:
        return args[0]
    return b.op(f"ashr i{bits} {b.op(f'shl i{bits} {args[0]}, {bits - kept}')}, {bits - kept}")


def _fit(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits, room = _bits(node), int(node.attrs["bits"])
    largest = (1 << room) - 1
    if room < bits and b.checks(TrapKind.NARROW):
        b.trap_if(b.op(f"icmp ugt i{bits} {args[0]}, {largest}"), TrapKind.NARROW, (args[0], bits), (str(largest), 64))
    return args[0]


def _extreme(b: Body, node: tree.Builtin, args: list[str]) -> str:
    ty = value_type(node.ty)
    return b.intrinsic(f"llvm.u{'min' if node.name == 'minimum' else 'max'}.{ty}", ty, (ty, args[0]), (ty, args[1]))


def _checked(b: Body, node: tree.Builtin, args: list[str]) -> str:
    op = tree.BinOp(node.name.removeprefix("checked_"))
    result, over = arithmetic.with_overflow(b, op, _bits(node), *args)
    assert isinstance(node.ty, tree.OptionT)
    fits = b.op(f"xor i1 {over}, true")
    return b.aggregate(value_type(node.ty), [(fits, tree.BoolT()), (result, node.ty.item)])


# --- bytes, slices and places ----------------------------------------------------------------------------------------------------


def _load_bytes(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits = int(node.attrs["bits"])
    value = b.op(f"load i{bits}, ptr {b.window(args[0], args[1], bits // 8)}, align 1")
    return swapped(b, value, bits) if node.attrs["big"] else value


def _store_bytes(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits = int(node.attrs["bits"])
    pointer = b.window(args[0], args[1], bits // 8)
    b.do(f"store i{bits} {swapped(b, args[2], bits) if node.attrs['big'] else args[2]}, ptr {pointer}, align 1")
    return ""


def _byte_count(b: Body, count: str, item: tree.Type) -> str:
    size = layout.size_of(item)
    return count if size == 1 else b.op(f"mul nuw i64 {count}, {size}")


def _copy_slice(b: Body, node: tree.Builtin, args: list[str]) -> str:
    to, room = b.slice_parts(args[0])
    source, count = b.slice_parts(args[1])
    if b.checks(TrapKind.INDEX):
        b.trap_if(b.op(f"icmp ne i64 {count}, {room}"), TrapKind.INDEX, (count, 64), (room, 64))
    size = _byte_count(b, room, _item(node))
    b.intrinsic_do("llvm.memmove.p0.p0.i64", ("ptr", to), ("ptr", source), ("i64", size), ("i1", "false"))
    return ""


def _fill_slice(b: Body, node: tree.Builtin, args: list[str]) -> str:
    item = _item(node)
    pointer, count = b.slice_parts(args[0])
    if layout.size_of(item) == 1:
        value = b.to_memory(args[1], item)
        if memory_type(item) == "i8":
            b.intrinsic_do("llvm.memset.p0.i64", ("ptr", pointer), ("i8", value), ("i64", count), ("i1", "false"))
            return ""
    begin, body, leave = b.block, b.name("fill"), b.name("filled")
    b.branch(b.op(f"icmp eq i64 {count}, 0"), leave, body)
    b.begin(body)
    stepped = f"%{b.name('step')}"
    index = b.op(f"phi i64 [ 0, %{begin} ], [ {stepped}, %{body} ]")
    b.store(args[1], b.element(pointer, index, item), item)
    b.do(f"{stepped} = add nuw i64 {index}, 1")
    b.branch(b.op(f"icmp eq i64 {stepped}, {count}"), leave, body)
    b.begin(leave)
    return ""


def _copy_place(b: Body, node: tree.Builtin, args: list[str]) -> str:
    size = str(layout.size_of(_target(node)))
    b.intrinsic_do("llvm.memmove.p0.p0.i64", ("ptr", args[0]), ("ptr", args[1]), ("i64", size), ("i1", "false"))
    return ""


def _wipe(b: Body, node: tree.Builtin, args: list[str]) -> str:
    if isinstance(node.args[0].ty, tree.SliceT):
        pointer, count = b.slice_parts(args[0])
        size = _byte_count(b, count, _item(node))
    else:
        pointer, size = args[0], str(layout.size_of(_target(node)))
    b.intrinsic_do("llvm.memset.p0.i64", ("ptr", pointer), ("i8", "0"), ("i64", size), ("i1", "true"))
    return ""


def _address_of(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return b.op(f"ptrtoint ptr {args[0]} to i64")


def _place_at(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return b.op(f"inttoptr i64 {args[0]} to ptr")


def _slice_at(b: Body, node: tree.Builtin, args: list[str]) -> str:
    b.check_length(args[1])
    return b.make_slice(b.op(f"inttoptr i64 {args[0]} to ptr"), args[1])


def _boot_attach(b: Body, node: tree.Builtin, args: list[str]) -> str:
    old = b.op(f"load ptr, ptr {args[0]}, align 8")
    b.trap_if(b.op(f"icmp ne ptr {old}, null"), TrapKind.ASSERT, ("0", 64), ("0", 64))
    b.check_length(args[2])
    b.do(f"store i64 {args[2]}, ptr {b.offset(args[0], 8)}, align 8")
    b.do(f"store i64 {args[1]}, ptr {args[0]}, align 8")
    return ""


def _log_format(b: Body, node: tree.Builtin, args: list[str]) -> str:
    """Offsets of the texts, one more than there are, then the texts: no pointer that would need relocation."""
    count = len(b.unit.program.formats)
    known = b.op(f"icmp ult i64 {args[0]}, {count}")
    row = b.op(f"select i1 {known}, i64 {args[0]}, i64 0")
    entry = b.op(f"getelementptr inbounds i32, ptr {quoted('format.offsets')}, i64 {row}")
    first = b.op(f"zext i32 {b.op(f'load i32, ptr {entry}, align 4')} to i64")
    after = b.op(f"load i32, ptr {b.op(f'getelementptr inbounds i32, ptr {entry}, i64 1')}, align 4")
    length = b.op(f"sub i64 {b.op(f'zext i32 {after} to i64')}, {first}")
    text = b.make_slice(b.element(quoted("format.texts"), first, tree.IntT(8)), length)
    return b.aggregate(value_type(node.ty), [(known, tree.BoolT()), (text, tree.SliceT(tree.IntT(8), False))])


# --- atomics and locks -----------------------------------------------------------------------------------------------------------


def _atomic_bits(node: tree.Builtin) -> int:
    target = _target(node)
    assert isinstance(target, tree.AtomicT)
    return target.bits


def _atomic_load(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits = _atomic_bits(node)
    return b.op(f"load atomic i{bits}, ptr {args[0]} {_ORDER[str(node.attrs['order'])]}, align {bits // 8}")


def _atomic_store(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits = _atomic_bits(node)
    b.do(f"store atomic i{bits} {args[1]}, ptr {args[0]} {_ORDER[str(node.attrs['order'])]}, align {bits // 8}")
    return ""


def _atomic_update(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits = _atomic_bits(node)
    order = _ORDER[str(node.attrs["order"])]
    return b.op(f"atomicrmw {_ATOMIC[node.name]} ptr {args[0]}, i{bits} {args[1]} {order}, align {bits // 8}")


def _compare_exchange(b: Body, node: tree.Builtin, args: list[str]) -> str:
    bits, order = _atomic_bits(node), str(node.attrs["order"])
    orders = f"{_ORDER[order]} {_FAILURE_ORDER[order]}"
    pair = b.op(f"cmpxchg ptr {args[0]}, i{bits} {args[1]}, i{bits} {args[2]} {orders}, align {bits // 8}")
    return b.op(f"extractvalue {{ i{bits}, i1 }} {pair}, 0")


def _lock(b: Body, node: tree.Builtin, args: list[str]) -> str:
    b.intrinsic_do(node.name, ("ptr", args[0]))
    return ""


def _nospec(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return b.intrinsic("nospec", "i64", ("i64", args[0]), ("i64", args[1]))


# --- the processor ---------------------------------------------------------------------------------------------------------------


def _no_hardware(b: Body) -> str:
    b.trap_always(TrapKind.UNREACHABLE)
    b.begin(b.name("never"))
    return "0"


def register(b: Body, node: tree.Builtin) -> str:
    """The metadata operand that names a system register by its encoding."""
    encoding = ":".join(str(node.attrs[key]) for key in ("op0", "op1", "crn", "crm", "op2"))
    return f"metadata {b.unit.register(encoding)}"


def _sysreg_read(b: Body, node: tree.Builtin, args: list[str]) -> str:
    if not b.unit.target.hardware:
        return _no_hardware(b)
    return b.op(f"call i64 {b.unit.declare('llvm.read_volatile_register.i64', 'declare i64 @(metadata)')}({register(b, node)})")


def _sysreg_write(b: Body, node: tree.Builtin, args: list[str]) -> str:
    if not b.unit.target.hardware:
        return _no_hardware(b)
    b.do(f"call void {b.unit.declare('llvm.write_register.i64', 'declare void @(metadata, i64)')}({register(b, node)}, i64 {args[0]})")
    return ""


def _barrier(b: Body, node: tree.Builtin, args: list[str]) -> str:
    if b.unit.target.hardware:
        b.intrinsic_do(f"llvm.aarch64.{node.attrs['kind']}", ("i32", str(_CRM[str(node.attrs["domain"])])))
    return ""


_LOWERINGS: dict[str, Lowering] = {
    "count_leading_zeros": _count,
    "count_trailing_zeros": _count,
    "rotate_right": _rotate,
    "rotate_left": _rotate,
    "byte_swap": _byte_swap,
    "sign_extend": _sign_extend,
    "fit": _fit,
    "minimum": _extreme,
    "maximum": _extreme,
    "checked_add": _checked,
    "checked_sub": _checked,
    "checked_mul": _checked,
    "load_bytes": _load_bytes,
    "store_bytes": _store_bytes,
    "copy_slice": _copy_slice,
    "fill_slice": _fill_slice,
    "copy_place": _copy_place,
    "wipe": _wipe,
    "atomic_load": _atomic_load,
    "atomic_store": _atomic_store,
    **dict.fromkeys(_ATOMIC, _atomic_update),
    "atomic_compare_exchange": _compare_exchange,
    "lock_acquire": _lock,
    "lock_release": _lock,
    "sysreg_read": _sysreg_read,
    "sysreg_write": _sysreg_write,
    "barrier": _barrier,
    "address_of": _address_of,
    "place_at": _place_at,
    "slice_at": _slice_at,
    "boot_attach": _boot_attach,
    "nospec": _nospec,
    "log_format": _log_format,
    **simd.LOWERINGS,
}
