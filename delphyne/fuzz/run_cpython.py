# SPDX-License-Identifier: Apache-2.0
"""Runs a program in CPython: the meaning that all other ways are held against."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome, Trapped
from delphyne.lang import Trap, TrapKind
from delphyne.lang.locks import forget_held_locks


@contextmanager
def imported(path: Path) -> Iterator[types.ModuleType]:
    """The module at `path`, run anew, known to Python under its file's name while the block lasts."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[path.stem]


def run(program: Program, path: Path) -> list[Outcome]:
    """The outcome for each input. `path` holds the program's source."""
    return [_run_once(path, pair) for pair in program.inputs]


def _run_once(path: Path, pair: tuple[int, int]) -> Outcome:
    try:
        with imported(path) as module:
            return call(module, path, pair)
    except Exception as error:
        return Outcome(broken=f"CPython: {type(error).__name__}: {error} at line {_line(error, path)}")


def call(module: types.ModuleType, path: Path, pair: tuple[int, int]) -> Outcome:
    """Run and ask for the checksum; raises whatever is no trap."""
    from delphyne.lang import u64

    result: int | Trapped
    try:
        result = int(module.run(u64(pair[0]), u64(pair[1])))
    except Trap as trap:
        result = Trapped(trap.kind.name, _line(trap, path), trap.a, trap.b)
    except AssertionError as error:
        result = Trapped(TrapKind.ASSERT.name, _line(error, path), 0, 0)
    finally:
        forget_held_locks()
    return Outcome(result, int(module.checksum()))


def _line(error: BaseException, path: Path) -> int:
    """The deepest line of the program itself: what the language's own library does is its caller's."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 0
