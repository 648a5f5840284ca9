# SPDX-License-Identifier: Apache-2.0
"""The typed tree as short text, so that tests can say what a program becomes."""

from __future__ import annotations

from delphyne.compiler import tree
from delphyne.compiler.front.types import show

_OPS = {"add": "+", "sub": "-", "mul": "*", "div": "//", "mod": "%", "and": "&", "or": "|", "xor": "^", "shl": "<<", "shr": ">>"}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def place(p: tree.Place) -> str:
    match p:
        case tree.LocalPlace():
            return p.name
        case tree.StaticPlace():
            return "@" + p.symbol.rsplit(".", 1)[-1]
        case tree.DerefPlace():
            return f"*{expr(p.ref)}"
        case tree.FieldPlace():
            return f"{place(p.base)}.{p.index}"
        case tree.IndexPlace() | tree.BootIndexPlace():
            return f"{place(p.base)}[{expr(p.index)}]"
        case tree.SliceIndexPlace():
            return f"{expr(p.base)}[{expr(p.index)}]"
        case tree.MinePlace():
            return "mine(@" + p.symbol.rsplit(".", 1)[-1] + ")"


def _maybe(e: tree.Expr | None) -> str:
    return "" if e is None else expr(e)


def _list(exprs: list[tree.Expr]) -> str:
    return ", ".join(expr(e) for e in exprs)


def expr(e: tree.Expr) -> str:
    match e:
        case tree.Const():
            return f"{e.value}:{show(e.ty)}"
        case tree.ConstBytes():
            return repr(e.data)
        case tree.Local():
            return e.name
        case tree.Binary():
            op = _OPS.get(e.op.value)
            return f"({expr(e.left)} {op} {expr(e.right)})" if op else f"{e.op.value}({expr(e.left)}, {expr(e.right)})"
        case tree.Invert():
            return f"~{expr(e.operand)}"
        case tree.Not():
            return f"not {expr(e.operand)}"
        case tree.Compare():
            return f"({expr(e.left)} {_COMPARISONS[e.op.value]} {expr(e.right)})"
        case tree.ShortCircuit():
            return f"({expr(e.left)} {'and' if e.is_and else 'or'} {expr(e.right)})"
        case tree.Conditional():
            return f"({expr(e.then)} if {expr(e.test)} else {expr(e.other)})"
        case tree.Convert():
            return f"{e.kind.value}[{show(e.ty)}]({expr(e.operand)})"
        case tree.Call():
            return f"{e.symbol.rsplit('.', 1)[-1]}({_list(e.args)})"
        case tree.Builtin():
            attrs = "".join(f" {name}={value}" for name, value in e.attrs.items())
            return f"<{e.name}{attrs}>({_list(e.args)})"
        case tree.Load():
            return place(e.place)
        case tree.AddrOf():
            return "&" + place(e.place)
        case tree.MakeSlice():
            return f"{expr(e.base)}[{_maybe(e.low)}:{_maybe(e.high)}]"
        case tree.Length():
            return f"len({expr(e.base)})"
        case tree.MakeRecord():
            return "{" + _list(e.parts) + "}"
        case tree.Part():
            return f"{expr(e.record)}.{e.index}"
        case tree.MakeOption():
            return "none" if e.value is None else f"some({expr(e.value)})"
        case tree.IsSome():
            return f"is_some({expr(e.option)})"
        case tree.OptionItem():
            return f"item({expr(e.option)})"
        case tree.MakeResult():
            return f"err({expr(e.error)})" if e.error is not None else f"ok({_maybe(e.value)})"
        case tree.IsError():
            return f"is_err({expr(e.result)})"
        case tree.ResultItem():
            return f"ok_of({expr(e.result)})"
        case tree.ResultError():
            return f"err_of({expr(e.result)})"
        case tree.Bind():
            return f"({e.name} := {expr(e.value)})"


def block(stmts: list[tree.Stmt]) -> str:
    return "; ".join(stmt(s) for s in stmts)


def stmt(s: tree.Stmt) -> str:
    match s:
        case tree.SetLocal():
            return f"{s.name} = {expr(s.value)}"
        case tree.ZeroLocal():
            return f"zero {s.name}"
        case tree.Store():
            return f"{place(s.place)} := {expr(s.value)}"
        case tree.Update():
            return f"{place(s.place)} {_OPS[s.op.value]}= {expr(s.value)}"
        case tree.Discard():
            return expr(s.expr)
        case tree.If():
            return f"if {expr(s.test)} {{{block(s.then)}}} else {{{block(s.other)}}}"
        case tree.While():
            return f"while {expr(s.test)} {{{block(s.body)}}}"
        case tree.ForRange():
            return f"for {s.name} in {expr(s.start)}..{expr(s.stop)} by {s.step} {{{block(s.body)}}}"
        case tree.Switch():
            cases = " ".join(f"{numbers} {{{block(body)}}}" for numbers, body in s.cases)
            return f"switch {expr(s.subject)} {cases} else {{{block(s.default)}}}"
        case tree.Return():
            return "return" if s.value is None else f"return {expr(s.value)}"
        case tree.Break():
            return "break"
        case tree.Continue():
            return "continue"
        case tree.Scoped():
            return f"scoped {{{block(s.enter)}}} {{{block(s.body)}}} {{{block(s.leave)}}}"
        case tree.Trap():
            return f"trap {s.kind.name}"
