# SPDX-License-Identifier: Apache-2.0
"""What the decorators of the language leave behind for its three readers: CPython, the compiler and the prover.

Classes and functions carry one attribute, `__delphyne__`; statics are found by identity in `STATICS`. Nothing here knows how a program is
compiled. Annotations stay the strings that were written and are evaluated by `field_annotations` when first asked, in the namespace of the
module that wrote them, so that a class may name another that is defined further down.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import Enum
from inspect import get_annotations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Kind(Enum):
    """What a class of the language is. Enums are recognised by their base classes instead."""

    VALUE = "value"
    STRUCT = "struct"
    BITS = "bits"


@dataclass(slots=True)
class ClassMeta:
    """`bits` is the width of a BITS class. `align` is in bytes, 0 where the fields decide. `export` is the assembly prefix or None."""

    kind: Kind
    bits: int = 0
    align: int = 0
    export: str | None = None


@dataclass(slots=True)
class FunctionMeta:
    """Marks set by decorators. `holds` are the Lock objects that the caller must hold; `entry` the exported symbol."""

    boot: bool = False
    holds: tuple[Any, ...] = ()
    simd: bool = False
    cold: bool = False
    apart: bool = False
    merged: bool = False
    entry: str | None = None
    assembly: bool = False


class StaticKind(Enum):
    """Who may touch a static."""

    BARE = "bare"
    """Atomics, locks and boot arrays of atomics: safe by themselves. Never registered; this is what `static_meta` answers for the rest."""
    CONSTANT = "constant"
    FROZEN = "frozen"
    GUARDED = "guarded"
    PER_CPU = "per_cpu"


@dataclass(slots=True)
class StaticMeta:
    """Who may touch a static, under which lock, and where it is put (`section`, `align` in bytes; None and 0 where it does not matter)."""

    kind: StaticKind = StaticKind.BARE
    lock: Any = None
    section: str | None = None
    align: int = 0


_STATICS: dict[int, tuple[Any, StaticMeta]] = {}


def static_meta(obj: object) -> StaticMeta:
    """The marks of a module-level object, by identity."""
    entry = _STATICS.get(id(obj))
    return entry[1] if entry is not None and entry[0] is obj else StaticMeta()


def mark_static(obj: object) -> StaticMeta:
    """The marks of `obj`, made when first asked, to be changed by `constant`, `guarded`, `placed` and the like."""
    if id(obj) not in _STATICS:
        _STATICS[id(obj)] = (obj, StaticMeta())
    return _STATICS[id(obj)][1]


def function_meta(function: Any) -> FunctionMeta:
    """The marks of a function, made when first asked."""
    meta = getattr(function, "__delphyne__", None)
    if not isinstance(meta, FunctionMeta):
        meta = FunctionMeta()
        function.__delphyne__ = meta
    return meta


def class_meta(cls: type) -> ClassMeta | None:
    """The marks of a class of the language itself (not of its bases), or None for any other class."""
    meta = cls.__dict__.get("__delphyne__")
    return meta if isinstance(meta, ClassMeta) else None


def field_annotations(cls: type) -> Iterator[tuple[str, Any]]:
    """Fields of a VALUE, STRUCT or BITS class in order, annotations evaluated.

    Raises NameError or TypeError as evaluation does; readers turn that into their own message."""
    namespace = dict(vars(sys.modules[cls.__module__]))
    namespace.setdefault(cls.__name__, cls)
    namespace.update(cls.__dict__.get("__type_parameters__", {}))
    for name, annotation in get_annotations(cls).items():
        value = eval(annotation, namespace) if isinstance(annotation, str) else annotation
        yield name, value
