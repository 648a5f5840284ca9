# SPDX-License-Identifier: Apache-2.0
"""Runs a program in CPython: the meaning that all other ways are held against."""

from __future__ import annotations

import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from delphyne.fuzz.generate import Program
from delphyne.fuzz.outcome import Outcome, Trapped
from delphyne.lang import Trap, TrapKind, address, hostile, pool, u64
from delphyne.lang.locks import forget_held_locks

COMPILED_LIBRARY = (str(address.__file__), str(hostile.__file__), str(pool.__file__))
"""Files of the language that are written in the language itself."""
LIBRARY_NAMES = frozenset(Path(file).name for file in COMPILED_LIBRARY)


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


Call = Callable[[Any, list[Any]], Any]
"""Calls a function of the program with these arguments."""


def run(program: Program, path: Path) -> list[Outcome]:
    """The outcome for each input. `path` holds the program's source."""
    return run_with(program, path, lambda function, arguments: function(*arguments), "CPython")


def run_with(program: Program, path: Path, call: Call, way: str) -> list[Outcome]:
    """The outcome for each input, where `call` decides what the program computes with."""
    return [_run_once(path, pair, call, way) for pair in program.inputs]


def _run_once(path: Path, pair: tuple[int, int], call: Call, way: str) -> Outcome:
    try:
        with imported(path) as module:
            return _outcome(module, path, pair, call)
    except Exception as error:
        return Outcome(broken=f"{way}: {type(error).__name__}: {error} at {_place(error, path)}")


def _outcome(module: types.ModuleType, path: Path, pair: tuple[int, int], call: Call) -> Outcome:
    """Run and ask for the checksum; raises whatever is no trap."""
    result: int | Trapped
    try:
        result = int(call(module.run, [u64(pair[0]), u64(pair[1])]))
    except Trap as trap:
        result = Trapped(trap.kind.name, _place(trap, path), trap.a, trap.b)
    except AssertionError as error:
        result = Trapped(TrapKind.ASSERT.name, _place(error, path), 0, 0)
    finally:
        forget_held_locks()
    return Outcome(result, int(call(module.checksum, [])))


def _place(error: BaseException, path: Path) -> str:
    """The deepest line of what is compiled: of the program, or of that part of the language's library which is written in the language."""
    files = (str(path), *COMPILED_LIBRARY)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not frames and error.__context__ is not None:
        return _place(error.__context__, path)
    return place(frames[-1].filename, frames[-1].lineno or 0) if frames else "nowhere"


def place(file: str, line: int) -> str:
    """A file and a line, the folder and the name of a temporary file left out."""
    name = Path(file).name
    return f"{name}:{line}" if name in LIBRARY_NAMES else f"line {line}"
