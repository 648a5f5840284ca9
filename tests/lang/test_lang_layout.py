# SPDX-License-Identifier: Apache-2.0
"""The simulated machine and the compiler lay the same types out the same way: each was written without the other."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.back import layout as compiled
from delphyne.compiler.front import compile_modules
from delphyne.lang.arrays import ArrayOf
from delphyne.lang.machine.layout import align_of, offsets, size_of
from delphyne.lang.meta import class_meta
from delphyne.lang.records import fields_of

PROGRAM = '''# SPDX-License-Identifier: Apache-2.0
"""Records of every kind of field."""

from __future__ import annotations

from typing import Final

from delphyne.lang import (
    Array, AtomicU32, AtomicU64, Bits16, Enum8, Enum32, Handle, Lock, Pa, Pool, Secret, bits, entry, frozen, guarded, struct, u8, u16, u32, u64,
    value,
)


class Colour(Enum8):
    NONE = 0
    RED = 1


class Wide(Enum32):
    NONE = 0


class Flags(Bits16):
    low: u8 = bits(7, 0)


@value
class Pair:
    a: u8
    b: u32


@value
class Outer:
    pair: Pair
    last: bool
    wide: Wide
    at: Pa


@struct
class Leaf:
    flag: bool
    count: AtomicU32
    pair: Pair


@struct(align=64)
class Line:
    byte: u8
    leaves: Array[Leaf, 3]


@struct
class Everything:
    flag: bool
    number: u64
    colour: Colour
    flags: Flags
    key: Secret[u32]
    small: u8
    outer: Outer
    short: u16
    leaf: Leaf
    counter: AtomicU64
    bytes: Array[u8, 5]
    line: Line
    owner: Handle[Leaf]
    words: Array[Array[u16, 3], 2]
    last: bool


LOCK: Final = Lock("all", rank=1)
ALL: Final = guarded(LOCK, Everything())
POOL: Final = guarded(LOCK, Pool[Everything, 3]())


@entry("touch")
def touch() -> None:
    with LOCK:
        ALL.number = u64(1)
        handle = POOL.allocate()
        if handle is not None:
            ALL.flag = POOL.free(handle)
'''


def compare(cls: Any, ty: Any) -> None:
    """The class as the machine lays it out against the type as the compiler does, and everything inside."""
    assert (size_of(cls), align_of(cls)) == (compiled.size_of(ty), compiled.align_of(ty)), cls
    if issubclass(cls, ArrayOf):
        compare(cls._item, ty.item)
    elif isinstance(ty, tree.StructT | tree.ValueT):
        assert list(offsets(cls).items()) == list(zip((name for name, _ in ty.fields), compiled.record_of(ty).offsets, strict=True))
        for (name, kind), (_, inner) in zip(fields_of(cls).items(), ty.fields, strict=True):
            assert name
            compare(kind, inner)
    else:
        assert class_meta(cls) is None or isinstance(ty, tree.BitsT)


def test_layouts_agree(tmp_path: Path) -> None:
    path = tmp_path / "laid_out.py"
    path.write_text(PROGRAM)
    spec = importlib.util.spec_from_file_location("laid_out", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["laid_out"] = module
    try:
        spec.loader.exec_module(module)
        program = compile_modules(["laid_out"])
    finally:
        del sys.modules["laid_out"]
    compare(type(module.ALL), program.statics["laid_out.ALL"].ty)
    compare(type(module.POOL), program.statics["laid_out.POOL"].ty)
    assert size_of(module.Everything) == 256
