# SPDX-License-Identifier: Apache-2.0
"""The decorators of functions. They leave marks for the compiler and change nothing in CPython, `twin` excepted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from delphyne.lang.locks import Lock
from delphyne.lang.meta import function_meta

F = TypeVar("F", bound=Callable[..., Any])


def boot(function: F) -> F:
    """Runs before the other CPUs and before any guest: may write `frozen` statics. Called only by `@boot` functions and entry points."""
    function_meta(function).boot = True
    return function


def holds(*locks: Lock) -> Callable[[F], F]:
    """Called only where these locks are held."""
    if not locks or not all(isinstance(lock, Lock) for lock in locks):
        raise TypeError("@holds takes the locks that the caller must hold")

    def mark(function: F) -> F:
        meta = function_meta(function)
        meta.holds = (*meta.holds, *locks)
        return function

    return mark


def cold(function: F) -> F:
    """Seldom called: kept away from the hot code, and made small with all that only such functions call."""
    function_meta(function).cold = True
    return function


def apart(function: F) -> F:
    """A function of its own in the program too: who calls it on one of several ways need not keep registers for it on the others."""
    function_meta(function).apart = True
    return function


def merged(function: F) -> F:
    """Part of each caller in the program, however many there are: for what a hot way does, and another as well."""
    function_meta(function).merged = True
    return function


def entry(symbol: str) -> Callable[[F], F]:
    """Called from assembly under this name."""
    if type(symbol) is not str:
        raise TypeError('@entry("symbol")')

    def mark(function: F) -> F:
        function_meta(function).entry = symbol
        return function

    return mark


def assembly(function: F) -> F:
    """Written in assembly under the function's own name. The Python body is what CPython does instead."""
    function_meta(function).assembly = True
    return function


def twin(fast: Callable[..., Any]) -> Callable[[F], F]:
    """In CPython, calls go to `fast`, whose equality is tested; compiler and prover see the function itself, `__wrapped__`."""

    def mark(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return fast(*args, **kwargs)

        return call  # type: ignore[return-value]

    return mark
