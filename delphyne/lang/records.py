# SPDX-License-Identifier: Apache-2.0
"""`@value` and `@struct`: immutable records that are copied, and mutable records that live at a place.

Annotations stay strings until the first object is made, so a class may name one that is defined further down. Where a struct lies in the
memory of a simulated machine, `_backing` says where and the fields are read and written there (see `memory`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform, overload

from delphyne.lang.meta import ClassMeta, Kind, class_meta, field_annotations
from delphyne.lang.types import accepts, is_place, is_value, zero

T = TypeVar("T")


def fields_of(cls: type) -> dict[str, Any]:
    """Name and evaluated type of each field of a value or struct class, in order; TypeError where a type cannot be a field."""
    known: dict[str, Any] | None = cls.__dict__.get("__fields__")
    if known is None:
        meta = class_meta(cls)
        if meta is None:
            raise TypeError(f"{cls.__name__} is neither a value nor a struct")
        known = dict(field_annotations(cls))
        for name, kind in known.items():
            if not (is_value(kind) or (meta.kind is Kind.STRUCT and is_place(kind))):
                raise TypeError(f"{cls.__name__}.{name}: {kind!r} cannot be a field")
        cls.__fields__ = known  # type: ignore[attr-defined]
    return known


def _check(cls: type, name: str, kind: Any, value: object) -> None:
    if type(value) is not kind and not accepts(kind, value):
        raise TypeError(f"{cls.__name__}.{name} is {kind.__name__}, not {type(value).__name__}")


def _value_init(self: Any, *args: object, **kwargs: object) -> None:
    cls = type(self)
    fields = fields_of(cls)
    if len(args) + len(kwargs) != len(fields):
        raise TypeError(f"{cls.__name__} has {len(fields)} fields, {len(args) + len(kwargs)} were given")
    values = self.__dict__
    for (name, kind), value in zip(fields.items(), args, strict=False):
        if type(value) is not kind:
            _check(cls, name, kind, value)
        values[name] = value
    for name, value in kwargs.items():
        if name not in fields or name in values:
            raise TypeError(f"{cls.__name__} has no field {name}, or it was given twice")
        _check(cls, name, fields[name], value)
        values[name] = value


def _value_setattr(self: Any, name: str, value: object) -> None:
    raise TypeError(f"{type(self).__name__} is a value: it does not change")


def _value_eq(self: Any, other: object) -> Any:
    if type(other) is not type(self):
        raise TypeError(f"{type(self).__name__} compared with {type(other).__name__}")
    return all(getattr(self, name) == getattr(other, name) for name in fields_of(type(self)))


def _value_hash(self: Any) -> int:
    return hash((type(self), *(getattr(self, name) for name in fields_of(type(self)))))


def _value_repr(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in fields_of(type(self)))})"


def _value_format(self: Any, spec: str) -> str:
    """An address in a message is its number, as at EL2."""
    return format(self.raw, spec) if list(fields_of(type(self))) == ["raw"] else format(repr(self), spec)


def _value_zero(cls: Any) -> Any:
    return cls(*(zero(kind) for kind in fields_of(cls).values()))


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """An immutable record: built with all fields, by place or by keyword, compared field by field, copied."""
    members: dict[str, Any] = {
        "__init__": _value_init,
        "__setattr__": _value_setattr,
        "__delattr__": _value_setattr,
        "__hash__": _value_hash,
        "__repr__": _value_repr,
        "__format__": _value_format,
        "_zero": classmethod(_value_zero),
    }
    if "__eq__" not in cls.__dict__:
        members["__eq__"] = _value_eq
    for name, member in members.items():
        setattr(cls, name, member)
    cls.__delphyne__ = ClassMeta(Kind.VALUE)  # type: ignore[attr-defined]
    return cls


def _struct_init(self: Any) -> None:
    values = self.__dict__
    values["_backing"] = None
    for name, kind in fields_of(type(self)).items():
        values[name] = zero(kind)


def _struct_setattr(self: Any, name: str, value: object) -> None:
    cls = type(self)
    kind = fields_of(cls).get(name)
    if kind is None:
        raise TypeError(f"{cls.__name__} has no field {name}")
    if is_place(kind):
        raise TypeError(f"{cls.__name__}.{name} is a place: change what is in it, or use copy_from")
    if type(value) is not kind:
        _check(cls, name, kind, value)
    backing = self._backing
    if backing is None:
        self.__dict__[name] = value
    else:
        backing.store(name, value)


def _struct_getattr(self: Any, name: str) -> Any:
    backing = self.__dict__.get("_backing")
    if backing is None or name not in fields_of(type(self)):
        raise AttributeError(f"{type(self).__name__} has no field {name}")
    return backing.load(name)


def _struct_copy_from(self: Any, other: Any) -> None:
    """Every field of `other`, which has the same type, copied here."""
    cls = type(self)
    if type(other) is not cls:
        raise TypeError(f"{cls.__name__}.copy_from({type(other).__name__})")
    for name, kind in fields_of(cls).items():
        if is_place(kind):
            getattr(self, name).copy_from(getattr(other, name))
        else:
            setattr(self, name, getattr(other, name))


def _struct_delattr(self: Any, name: str) -> None:
    raise TypeError(f"{type(self).__name__}.{name} cannot be removed")


def _struct_repr(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in fields_of(type(self)))})"


@overload
def struct(cls: type[T], /) -> type[T]: ...
@overload
def struct(*, align: int = 0, export: str | None = None) -> Callable[[type[T]], type[T]]: ...
def struct(cls: Any = None, /, *, align: int = 0, export: str | None = None) -> Any:
    """A mutable record at a place, built all zero. `align` is in bytes; `export` is the prefix of its offsets in the assembly file."""
    if cls is None:
        return lambda named: _make_struct(named, align, export)
    return _make_struct(cls, align, export)


def _make_struct(cls: Any, align: int, export: str | None) -> Any:
    members: dict[str, Any] = {
        "__init__": _struct_init,
        "__setattr__": _struct_setattr,
        "__getattr__": _struct_getattr,
        "__delattr__": _struct_delattr,
        "__repr__": _struct_repr,
        "copy_from": _struct_copy_from,
    }
    for name, member in members.items():
        setattr(cls, name, member)
    cls.__delphyne__ = ClassMeta(Kind.STRUCT, align=align, export=export)
    return cls
