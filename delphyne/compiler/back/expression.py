# SPDX-License-Identifier: Apache-2.0
"""Expressions and places of the typed tree as LLVM instructions, evaluated in the order the tree gives."""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.back import arithmetic, bounds, builtins, layout
from delphyne.compiler.back.body import LENGTH_RANGE, Body, memory_type, quoted, value_type
from delphyne.compiler.tree import TrapKind

# --- places ----------------------------------------------------------------------------------------------------------------------


def _element(b: Body, pointer: str, length: str, index: tree.Expr, item: tree.Type, loc: tree.Loc) -> str:
    number = evaluate(b, index)
    b.loc = loc
    if not (number.isdigit() and length.isdigit() and int(number) < int(length)):
        b.check_index(number, length, _surely_inside(b, index, length))
    return b.element(pointer, number, item)


def _surely_inside(b: Body, index: tree.Expr, length: str) -> str:
    """An i1 from which it follows that an index is in range, without the index; the empty string where no loop tells."""
    bound = bounds.bound_of(b.counters, index)
    if bound is None or not b.checks(TrapKind.INDEX):
        return ""
    counter, moved = bound
    if moved is not None:
        length = b.intrinsic("llvm.usub.sat.i64", "i64", ("i64", length), ("i64", evaluate(b, moved)))
    return b.op(f"icmp ule i64 {counter.stop}, {length}")


def _mine(b: Body, node: tree.MinePlace) -> str:
    if not b.unit.target.hardware:
        return quoted(node.symbol)
    address = b.op(f"call i64 {b.unit.declare('llvm.read_register.i64', 'declare i64 @(metadata)')}(metadata {b.unit.register('3:4:13:0:2')})")
    cpu = b.op(f"inttoptr i64 {address} to ptr")
    anchor = next((struct for struct in b.unit.program.exports if struct.exported == tree.PER_CPU_ANCHOR), None)
    if anchor is None or node.ty == anchor:
        return cpu
    where = layout.record_of(anchor).offsets[[name for name, _ in anchor.fields].index("index")]
    return b.element(quoted(node.symbol), b.op(f"load i64, ptr {b.offset(cpu, where)}, align 8"), node.ty)


def address(b: Body, node: tree.Place) -> str:
    """The pointer operand of a place; evaluates what it names, with its checks."""
    match node:
        case tree.LocalPlace():
            return b.slots[node.name][0]
        case tree.StaticPlace():
            return quoted(node.symbol)
        case tree.DerefPlace():
            return evaluate(b, node.ref)
        case tree.FieldPlace():
            base = address(b, node.base)
            b.loc = node.loc
            return b.offset(base, layout.record_of(node.base.ty).offsets[node.index])
        case tree.IndexPlace():
            base = address(b, node.base)
            assert isinstance(node.base.ty, tree.ArrayT)
            return _element(b, base, str(node.base.ty.length), node.index, node.ty, node.loc)
        case tree.SliceIndexPlace():
            pointer, length = b.slice_parts(evaluate(b, node.base))
            return _element(b, pointer, length, node.index, node.ty, node.loc)
        case tree.BootIndexPlace():
            pointer, length = _boot_parts(b, address(b, node.base))
            return _element(b, pointer, length, node.index, node.ty, node.loc)
        case tree.MinePlace():
            b.loc = node.loc
            return _mine(b, node)


def _boot_parts(b: Body, pointer: str) -> tuple[str, str]:
    base = b.op(f"load ptr, ptr {pointer}, align 8")
    return base, b.op(f"load i64, ptr {b.offset(pointer, 8)}, align 8, !range {LENGTH_RANGE}")


# --- expressions -----------------------------------------------------------------------------------------------------------------


def evaluate(b: Body, node: tree.Expr) -> str:
    """The operand of an expression; the empty string where it has no value."""
    match node:
        case tree.Const():
            return ("true" if node.value else "false") if isinstance(node.ty, tree.BoolT) else str(node.value)
        case tree.Local():
            b.loc = node.loc
            pointer, ty = b.slots[node.name]
            return b.load(pointer, ty)
        case tree.Binary():
            left, right = evaluate(b, node.left), evaluate(b, node.right)
            b.loc = node.loc
            return arithmetic.binary(b, node.op, node.ty, left, right)
        case tree.Compare():
            left, right = evaluate(b, node.left), evaluate(b, node.right)
            b.loc = node.loc
            return arithmetic.compare(b, node.op, node.left.ty, left, right)
        case tree.Load():
            pointer = address(b, node.place)
            b.loc = node.loc
            return b.load(pointer, node.ty)
        case tree.AddrOf():
            return address(b, node.place)
        case tree.Convert():
            operand = evaluate(b, node.operand)
            b.loc = node.loc
            return arithmetic.convert(b, node.kind, node.operand.ty, node.ty, operand)
        case tree.Invert():
            operand = evaluate(b, node.operand)
            b.loc = node.loc
            return b.op(f"xor {value_type(node.ty)} {operand}, -1")
        case tree.Not():
            operand = evaluate(b, node.operand)
            b.loc = node.loc
            return b.op(f"xor i1 {operand}, true")
        case tree.ShortCircuit():
            return _short_circuit(b, node)
        case tree.Conditional():
            return _conditional(b, node)
        case tree.Call():
            args = [evaluate(b, arg) for arg in node.args]
            b.loc = node.loc
            return call(b, node.symbol, args)
        case tree.Builtin():
            args = [evaluate(b, arg) for arg in node.args]
            b.loc = node.loc
            return builtins.lower(b, node, args)
        case tree.ConstBytes():
            b.loc = node.loc
            return b.make_slice(b.unit.literal(node.data), str(len(node.data)))
        case tree.Bind():
            value = evaluate(b, node.value)
            b.loc = node.loc
            b.store(value, *b.slots[node.name])
            return value
        case tree.MakeSlice():
            return _make_slice(b, node)
        case tree.Length():
            return _length(b, node)
    return _evaluate_composite(b, node)


def _evaluate_composite(b: Body, node: tree.Expr) -> str:
    match node:
        case tree.MakeRecord():
            values = [(evaluate(b, part), part.ty) for part in node.parts]
            b.loc = node.loc
            return b.aggregate(value_type(node.ty), values)
        case tree.Part():
            record = evaluate(b, node.record)
            b.loc = node.loc
            return _known(b, b.part(record, value_type(node.record.ty), node.index, node.ty), node.ty)
        case tree.MakeOption():
            return _make_option(b, node)
        case tree.IsSome():
            option = evaluate(b, node.option)
            b.loc = node.loc
            if layout.is_pointer(node.option.ty):
                return b.op(f"icmp ne ptr {option}, null")
            return b.part(option, value_type(node.option.ty), 0, tree.BoolT())
        case tree.OptionItem():
            option = evaluate(b, node.option)
            b.loc = node.loc
            return option if layout.is_pointer(node.option.ty) else _known(b, b.part(option, value_type(node.option.ty), 1, node.ty), node.ty)
        case tree.MakeResult():
            return _make_result(b, node)
        case tree.IsError():
            return b.op(f"icmp ne i32 {_error_number(b, node.result, node.loc)}, 0")
        case tree.ResultItem():
            result = evaluate(b, node.result)
            b.loc = node.loc
            return "" if isinstance(node.ty, tree.UnitT) else _known(b, b.part(result, value_type(node.result.ty), 1, node.ty), node.ty)
        case tree.ResultError():
            return _resize(b, _error_number(b, node.result, node.loc), 32, arithmetic.width(node.ty))
    raise TypeError(f"no such expression: {node}")


def _known(b: Body, value: str, ty: tree.Type) -> str:
    return b.known_slice(value) if isinstance(ty, tree.SliceT) else value


def _resize(b: Body, operand: str, old: int, new: int) -> str:
    if old == new:
        return operand
    return b.op(f"{'trunc' if old > new else 'zext'} i{old} {operand} to i{new}")


def _short_circuit(b: Body, node: tree.ShortCircuit) -> str:
    left = evaluate(b, node.left)
    b.loc = node.loc
    more, done = b.name("more"), b.name("done")
    first = b.block
    b.branch(left, *((more, done) if node.is_and else (done, more)))
    b.begin(more)
    right = evaluate(b, node.right)
    b.loc = node.loc
    second = b.block
    b.begin(done)
    return b.op(f"phi i1 [ {'false' if node.is_and else 'true'}, %{first} ], [ {right}, %{second} ]")


def _conditional(b: Body, node: tree.Conditional) -> str:
    test = evaluate(b, node.test)
    b.loc = node.loc
    then, other, done = b.name("then"), b.name("else"), b.name("done")
    b.branch(test, then, other)
    slot = b.slot(node.ty)
    for label, branch in ((then, node.then), (other, node.other)):
        b.begin(label)
        value = evaluate(b, branch)
        b.loc = node.loc
        b.store(value, slot, node.ty)
        b.end(f"br label %{done}")
    b.begin(done)
    return b.load(slot, node.ty)


def call(b: Body, symbol: str, args: list[str]) -> str:
    """A call of a function of the program."""
    callee = b.unit.program.functions[symbol]
    result = value_type(callee.result)
    extend = " zeroext" if callee.external or callee.exported else ""
    typed = []
    for (_, ty), arg in zip(callee.params, args, strict=True):
        small = isinstance(ty, (tree.IntT, tree.EnumT, tree.BitsT, tree.BoolT)) and arithmetic.width(ty) < 32
        typed.append(f"{value_type(ty)}{extend if small else ''} {arg}")
    text = f"call {result} {quoted(symbol)}({', '.join(typed)})"
    if result == "void":
        b.do(text)
        if isinstance(callee.result, tree.NeverT):
            b.end("unreachable")
            b.begin(b.name("never"))
        return ""
    return _known(b, b.op(text), callee.result)


def _make_slice(b: Body, node: tree.MakeSlice) -> str:
    base = evaluate(b, node.base)
    b.loc = node.loc
    pointer, length = _extent(b, base, node.base.ty)
    low = evaluate(b, node.low) if node.low is not None else "0"
    high = evaluate(b, node.high) if node.high is not None else length
    b.loc = node.loc
    if high != length:
        b.trap_if(b.op(f"icmp ugt i64 {high}, {length}"), TrapKind.INDEX, (high, 64), (length, 64))
    if low == "0":
        return b.make_slice(pointer, high)
    b.trap_if(b.op(f"icmp ugt i64 {low}, {high}"), TrapKind.INDEX, (low, 64), (high, 64))
    assert isinstance(node.ty, tree.SliceT)
    return b.make_slice(b.element(pointer, low, node.ty.item), b.op(f"sub nuw i64 {high}, {low}"))


def _extent(b: Body, base: str, ty: tree.Type) -> tuple[str, str]:
    if isinstance(ty, tree.SliceT):
        return b.slice_parts(base)
    assert isinstance(ty, tree.RefT)
    if isinstance(ty.target, tree.ArrayT):
        return base, str(ty.target.length)
    return _boot_parts(b, base)


def _length(b: Body, node: tree.Length) -> str:
    base = evaluate(b, node.base)
    b.loc = node.loc
    return _extent(b, base, node.base.ty)[1]


def _make_option(b: Body, node: tree.MakeOption) -> str:
    assert isinstance(node.ty, tree.OptionT)
    if layout.is_pointer(node.ty):
        return "null" if node.value is None else evaluate(b, node.value)
    if node.value is None:
        return b.op(f"insertvalue {value_type(node.ty)} zeroinitializer, i8 0, 0")
    value = evaluate(b, node.value)
    b.loc = node.loc
    return b.aggregate(value_type(node.ty), [("true", tree.BoolT()), (value, node.ty.item)])


def _make_result(b: Body, node: tree.MakeResult) -> str:
    assert isinstance(node.ty, tree.ResultT)
    whole, unit = value_type(node.ty), isinstance(node.ty.item, tree.UnitT)
    if node.error is not None:
        number = _resize(b, evaluate(b, node.error), node.ty.error.bits, 32)
        b.loc = node.loc
        return number if unit else b.op(f"insertvalue {whole} zeroinitializer, i32 {number}, 0")
    if node.value is None:
        return "0"
    value = evaluate(b, node.value)
    b.loc = node.loc
    return "0" if unit else b.aggregate(whole, [("0", tree.IntT(32)), (value, node.ty.item)])


def _error_number(b: Body, result: tree.Expr, loc: tree.Loc) -> str:
    value = evaluate(b, result)
    b.loc = loc
    if isinstance(result.ty, tree.ResultT) and isinstance(result.ty.item, tree.UnitT):
        return value
    return b.op(f"extractvalue {memory_type(result.ty)} {value}, 0")
