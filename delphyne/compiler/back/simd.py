# SPDX-License-Identifier: Apache-2.0
"""Primitives on SIMD registers. They exist only on AArch64, in functions that are marked for it."""

from __future__ import annotations

from collections.abc import Callable

from delphyne.compiler import tree
from delphyne.compiler.back.body import Body

_BYTES = "<16 x i8>"
_WORDS = "<4 x i32>"
_PAIRS = "<2 x i64>"
_BITWISE = {"xor": "xor", "and": "and", "or": "or"}
_LANES = {"add32": _WORDS, "add64": _PAIRS}
_CRYPTO_BYTES = {"aese", "aesd", "aesmc", "aesimc"}
_CRYPTO_WORDS = {"sha256h", "sha256h2", "sha256su0", "sha256su1"}


def _cast(b: Body, operand: str, old: str, new: str) -> str:
    return operand if old == new else b.op(f"bitcast {old} {operand} to {new}")


def _load(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return b.op(f"load {_BYTES}, ptr {b.window(args[0], args[1], 16)}, align 1")


def _store(b: Body, node: tree.Builtin, args: list[str]) -> str:
    b.do(f"store {_BYTES} {args[2]}, ptr {b.window(args[0], args[1], 16)}, align 1")
    return ""


def _from_u64(b: Body, node: tree.Builtin, args: list[str]) -> str:
    low = b.op(f"insertelement {_PAIRS} poison, i64 {args[0]}, i64 0")
    return _cast(b, b.op(f"insertelement {_PAIRS} {low}, i64 {args[1]}, i64 1"), _PAIRS, _BYTES)


def _lane(b: Body, node: tree.Builtin, args: list[str]) -> str:
    return b.op(f"extractelement {_PAIRS} {_cast(b, args[0], _BYTES, _PAIRS)}, i64 {node.attrs['lane']}")


def _shuffle(b: Body, first: str, second: str, lanes: list[int]) -> str:
    mask = ", ".join(f"i32 {lane}" for lane in lanes)
    return b.op(f"shufflevector {_BYTES} {first}, {_BYTES} {second}, {_BYTES.replace('i8', 'i32')} <{mask}>")


def _operation(b: Body, node: tree.Builtin, args: list[str]) -> str:
    op = str(node.attrs["op"])
    if op in _BITWISE:
        return b.op(f"{_BITWISE[op]} {_BYTES} {args[0]}, {args[1]}")
    if op in _LANES:
        lanes = _LANES[op]
        left, right = (_cast(b, arg, _BYTES, lanes) for arg in args)
        return _cast(b, b.op(f"add {lanes} {left}, {right}"), lanes, _BYTES)
    if op in _CRYPTO_BYTES:
        return b.intrinsic(f"llvm.aarch64.crypto.{op}", _BYTES, *((_BYTES, arg) for arg in args))
    if op in _CRYPTO_WORDS:
        words = [(_WORDS, _cast(b, arg, _BYTES, _WORDS)) for arg in args]
        return _cast(b, b.intrinsic(f"llvm.aarch64.crypto.{op}", _WORDS, *words), _WORDS, _BYTES)
    lanes_of = {
        "rev32_8": [word * 4 + 3 - byte for word in range(4) for byte in range(4)],
        "ext8": list(range(8, 24)),
        "dup_low": [*range(8), *range(8)],
    }
    return _shuffle(b, args[0], args[-1], lanes_of[op])


LOWERINGS: dict[str, Callable[[Body, tree.Builtin, list[str]], str]] = {
    "v128_load": _load,
    "v128_store": _store,
    "v128_op": _operation,
    "v128_from_u64": _from_u64,
    "v128_lane": _lane,
}
