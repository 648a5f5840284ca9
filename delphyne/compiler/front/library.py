# SPDX-License-Identifier: Apache-2.0
"""What the front end knows of `delphyne.lang`, by identity: which objects are integers, generic classes, simple types and primitives."""

from __future__ import annotations

import importlib
import typing
from typing import Any

from delphyne.compiler import tree
from delphyne.compiler.front import types
from delphyne.lang import messages
from delphyne.lang.arrays import ArrayOf, Slice, View
from delphyne.lang.atomics import AtomicU32, AtomicU64
from delphyne.lang.ints import Integer, u8, u16, u32, u64
from delphyne.lang.locks import Lock
from delphyne.lang.secret import Secret
from delphyne.lang.statics import BootArray
from delphyne.lang.vectors import V128

_INTEGERS: dict[type, int] = {u8: 8, u16: 16, u32: 32, u64: 64}
_PACKAGE = "delphyne.lang"


def integer_bits(obj: Any) -> int | None:
    """The width of one of the four integer classes, None for anything else."""
    return _INTEGERS.get(obj) if isinstance(obj, type) else None


def integer_value(obj: Any) -> tree.Const | None:
    """A module-level integer constant as a node without place."""
    bits = _INTEGERS.get(type(obj))
    if bits is None:
        return None
    assert isinstance(obj, Integer)
    return tree.Const(int(obj), tree.IntT(bits), tree.Loc("", 0, 0, 0, 0))


def generic(obj: Any) -> tuple[str, tuple[Any, ...]] | None:
    """Name and arguments of an instance of a generic class that the compiler itself knows."""
    if isinstance(obj, type) and issubclass(obj, ArrayOf) and obj is not ArrayOf:
        return "Array", (obj._item, obj._length)
    origin = typing.get_origin(obj)
    if origin is View or origin is Slice:
        return origin.__name__, typing.get_args(obj)
    for base in (BootArray, Secret):
        if isinstance(obj, type) and issubclass(obj, base) and obj is not base:
            return base.__name__, (vars(obj)["_item"],)
    return None


def simple_type(obj: Any) -> Any:
    """Atomics, locks and SIMD registers."""
    if obj is AtomicU32:
        return tree.AtomicT(32)
    if obj is AtomicU64:
        return tree.AtomicT(64)
    if obj is Lock:
        return tree.LockT()
    if obj is V128:
        return types.V128
    return None


def package() -> Any:
    """The package `delphyne.lang`."""
    return importlib.import_module(_PACKAGE)


class Primitives:
    """Which object of `delphyne.lang` has which name. An object is a primitive where the compiler has a rule for its name."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[Any, str]] = {}
        for name, obj in [*vars(package()).items(), ("log_format", messages.log_format)]:
            if not name.startswith("_"):
                self._names[id(obj)] = (obj, name)

    def name(self, obj: Any) -> str | None:
        """The exported name of an object of the language, or None."""
        found = self._names.get(id(obj))
        return found[1] if found is not None and found[0] is obj else None
