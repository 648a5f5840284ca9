# SPDX-License-Identifier: Apache-2.0
"""Statements of the typed tree as LLVM blocks. What follows a way out of its block is dead and not emitted."""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.back import arithmetic, layout
from delphyne.compiler.back.body import Body, Loop, value_type
from delphyne.compiler.back.expression import address, evaluate


def block(b: Body, body: list[tree.Stmt]) -> None:
    """Emit a list of statements up to the first that never ends."""
    for node in body:
        if b.ended:
            return
        _statement(b, node)


def _statement(b: Body, node: tree.Stmt) -> None:
    b.loc = node.loc
    match node:
        case tree.SetLocal():
            value = evaluate(b, node.value)
            b.loc = node.loc
            b.store(value, *b.slots[node.name])
        case tree.Store():
            value = evaluate(b, node.value)
            pointer = address(b, node.place)
            b.loc = node.loc
            b.store(value, pointer, node.value.ty)
        case tree.Update():
            pointer = address(b, node.place)
            b.loc = node.loc
            old = b.load(pointer, node.place.ty)
            operand = evaluate(b, node.value)
            b.loc = node.loc
            b.store(arithmetic.binary(b, node.op, node.place.ty, old, operand), pointer, node.place.ty)
        case tree.Discard():
            evaluate(b, node.expr)
            if isinstance(node.expr.ty, tree.NeverT) and not b.ended:
                b.end("unreachable")
        case tree.If():
            _if(b, node)
        case tree.While():
            _while(b, node)
        case tree.ForRange():
            _for(b, node)
        case tree.Switch():
            _switch(b, node)
        case tree.Return():
            _return(b, node)
        case tree.Break():
            _unwind(b, b.loops[-1].depth)
            if not b.ended:
                b.end(f"br label %{b.loops[-1].leave}")
        case tree.Continue():
            _unwind(b, b.loops[-1].depth)
            if not b.ended:
                b.end(f"br label %{b.loops[-1].again}")
        case tree.Scoped():
            block(b, node.enter)
            b.scopes.append(node.leave)
            block(b, node.body)
            b.scopes.pop()
            block(b, node.leave)
        case tree.ZeroLocal():
            pointer, ty = b.slots[node.name]
            b.intrinsic_do("llvm.memset.p0.i64", ("ptr", pointer), ("i8", "0"), ("i64", str(layout.size_of(ty))), ("i1", "false"))
        case tree.Trap():
            b.trap_always(node.kind)


def _unwind(b: Body, depth: int) -> None:
    """Emit the clean-up of every scope opened since there were `depth` of them, innermost first."""
    opened, loops = b.scopes, b.loops
    for index in range(len(opened) - 1, depth - 1, -1):
        b.scopes, b.loops = opened[:index], []
        block(b, opened[index])
        if b.ended:
            break
    b.scopes, b.loops = opened, loops


def _return(b: Body, node: tree.Return) -> None:
    value = evaluate(b, node.value) if node.value is not None else ""
    _unwind(b, 0)
    if b.ended:
        return
    b.loc = node.loc
    if value_type(b.function.result) == "void":
        b.end("ret void")
        return
    b.store(value, b.result_slot(), b.function.result)
    b.end("br label %return")


def _if(b: Body, node: tree.If) -> None:
    test = evaluate(b, node.test)
    b.loc = node.loc
    then, other, done = b.name("then"), b.name("else"), b.name("endif")
    b.branch(test, then, other if node.other else done)
    open_ends = not node.other
    for label, body in ((then, node.then), (other, node.other)):
        if not body and label == other:
            continue
        b.begin(label)
        block(b, body)
        if not b.ended:
            open_ends = True
            b.end(f"br label %{done}")
    if open_ends:
        b.begin(done)


def _while(b: Body, node: tree.While) -> None:
    head, body, leave = b.name("while"), b.name("body"), b.name("leave")
    b.begin(head)
    test = evaluate(b, node.test)
    b.loc = node.loc
    b.branch(test, body, leave)
    b.loops.append(Loop(leave, head, len(b.scopes)))
    b.begin(body)
    block(b, node.body)
    if not b.ended:
        b.loc = node.loc
        b.end(f"br label %{head}")
    b.loops.pop()
    b.begin(leave)


def _for(b: Body, node: tree.ForRange) -> None:
    """The counter is an SSA value of its own. It is stepped only where the next value is known to be below `stop`, so it cannot wrap."""
    ty = value_type(node.start.ty)
    start, stop = evaluate(b, node.start), evaluate(b, node.stop)
    b.loc = node.loc
    body, again, leave = b.name("for"), b.name("next"), b.name("leave")
    begin, stepped = b.block, f"%{b.name('step')}"
    b.branch(b.op(f"icmp ult {ty} {start}, {stop}"), body, leave)
    b.begin(body)
    counter = b.op(f"phi {ty} [ {start}, %{begin} ], [ {stepped}, %{again} ]")
    b.store(counter, *b.slots[node.name])
    b.loops.append(Loop(leave, again, len(b.scopes)))
    block(b, node.body)
    b.loops.pop()
    b.begin(again)
    b.loc = node.loc
    if node.step == 1:
        b.do(f"{stepped} = add nuw {ty} {counter}, 1")
        more = b.op(f"icmp ult {ty} {stepped}, {stop}")
    else:
        more = b.op(f"icmp ugt {ty} {b.op(f'sub nuw {ty} {stop}, {counter}')}, {node.step}")
        b.do(f"{stepped} = add {ty} {counter}, {node.step}")
    b.branch(more, body, leave)
    b.begin(leave)


def _switch(b: Body, node: tree.Switch) -> None:
    subject = evaluate(b, node.subject)
    b.loc = node.loc
    ty, default, done = value_type(node.subject.ty), b.name("default"), b.name("endmatch")
    labels = [b.name("case") for _ in node.cases]
    arms = [f"{ty} {value}, label %{label}" for label, (values, _) in zip(labels, node.cases, strict=True) for value in values]
    b.end(f"switch {ty} {subject}, label %{default} [ {' '.join(arms)} ]")
    open_ends = False
    for label, body in [*zip(labels, (body for _, body in node.cases), strict=True), (default, node.default)]:
        b.begin(label)
        block(b, body)
        if not b.ended:
            open_ends = True
            b.end(f"br label %{done}")
    if open_ends:
        b.begin(done)
