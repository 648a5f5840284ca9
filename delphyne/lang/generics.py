# SPDX-License-Identifier: Apache-2.0
"""The language's own generic classes (`Pool`, `Handle`, `Tainted`): one source, instantiated for each set of arguments.

A program cannot define such classes; these few are written in the language itself with names standing for types and numbers. An instance
(`Pool[Vm, 16]`) is an ordinary `@struct` or `@value` class: its annotations and its methods see the names bound to the arguments
(`function.__globals__` holds them), so that neither CPython nor the compiler nor the prover needs a second rule for it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from inspect import get_annotations
from typing import Any

_instances: dict[tuple[Any, ...], type] = {}


def instantiate(template: type, names: tuple[str, ...], arguments: Any, make: Callable[[Any], Any]) -> Any:
    """The class for `template[arguments]`, made once. `make` is `struct` or `value`. It carries `__template__` and `__type_parameters__`."""
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    if len(given) != len(names):
        raise TypeError(f"{template.__name__} takes {', '.join(names)}")
    given = tuple(int(x) if hasattr(x, "__index__") and not isinstance(x, type) else x for x in given)
    known = _instances.get((template, *given))
    if known is not None:
        return known
    parameters = dict(zip(names, given, strict=True))
    shown = ", ".join(getattr(x, "__name__", str(x)) for x in given)
    members: dict[str, Any] = {
        "__module__": template.__module__,
        "__doc__": template.__doc__,
        "__annotations__": get_annotations(template),
        "__template__": template,
        "__type_parameters__": parameters,
    }
    for name, member in template.__dict__.items():
        if isinstance(member, types.FunctionType) and member.__module__ == template.__module__:
            members[name] = _bound(member, parameters)
    made = make(type(f"{template.__name__}[{shown}]", (template,), members))
    _instances[template, *given] = made
    return made


def _bound(function: types.FunctionType, parameters: dict[str, Any]) -> types.FunctionType:
    """The same function with the parameters among its globals."""
    copy = types.FunctionType(function.__code__, {**function.__globals__, **parameters}, function.__name__, function.__defaults__)
    copy.__qualname__ = function.__qualname__
    copy.__annotations__ = function.__annotations__
    copy.__doc__ = function.__doc__
    copy.__module__ = function.__module__
    return copy
