# SPDX-License-Identifier: Apache-2.0
"""A generated program of ten thousand lines, and how long checking and compiling it take, started cold."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

LINES = 10_000
ROOT = Path(__file__).resolve().parents[2]

_HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""Generated for the benchmark of the compiler."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, ErrorEnum, Lock, Slice, View, entry, guarded, load_le32, store_le64, struct, u8, u32, u64, value, wrap_add


class Err(ErrorEnum):
    RANGE = 1
    BUSY = 2


@value
class Place:
    index: u64
    offset: u32


@struct
class Row:
    used: u64
    flags: u32
    open: bool
    cells: Array[u64, 64]


LOCK: Final = Lock("rows", rank=10)
ROWS: Final = guarded(LOCK, Array[Row, 128]())
'''

_UNIT = '''

def find_{n}(row: Row, key: u64) -> Place | None:
    """Where the key stands."""
    for i in u64.range({start}, 64):
        if row.cells[i] == key and i != {skip}:
            return Place(i, u32(i * 8) + {n})
    return None


def store_{n}(row: Row, key: u64, data: View[u8]) -> u64 | Err:
    """Put the sum of the data beside the key."""
    if data.length < {need}:
        return Err.RANGE
    found = find_{n}(row, key)
    if found is None:
        return Err.BUSY
    total = u64(0)
    for at in u64.range(0, data.length - 3, 4):
        total = wrap_add(total, u64(load_le32(data, at)) ^ {mask})
    row.cells[found.index] = total >> {shift}
    row.used += 1
    row.flags = row.flags | u32(1 << {bit})
    return total


def pass_{n}(first: u64, data: View[u8], out: Slice[u8]) -> u64 | Err:
    """Store into several rows, and give the sum away."""
    done = u64(0)
    total = u64({n})
    while done < {rounds}:
        with LOCK:
            row = ROWS[(first + done) % 128]
            result = store_{n}(row, first, data)
            if isinstance(result, Err):
                return result
            if row.open and not row.used == {need}:
                total = min(total, result) if total > {skip} else max(total, result)
        done += 1
    store_le64(out, done & 7, total)
    return total


@entry("run_{n}")
def run_{n}(first: u64) -> u64:
    """The unit, on data of its own."""
    data = Array[u8, 64]()
    out = Array[u8, 16]()
    result = pass_{n}(first, data[:], out[:])
    return u64(0) if isinstance(result, Err) else result
'''

def text(lines: int = LINES) -> str:
    """The program: units of four functions, each with numbers of its own and its own way in."""
    units: list[str] = []
    count = _HEAD.count("\n")
    while count < lines:
        n = len(units)
        units.append(
            _UNIT.format(n=n, start=n % 5, skip=n % 7 + 20, need=n % 11 + 4, mask=n * 2654435761 % 2**32, shift=n % 9, bit=n % 31, rounds=n % 13 + 1)
        )
        count += units[-1].count("\n")
    return _HEAD + "".join(units)


_CHECK = "import sys; from delphyne.compiler.front import check_paths; sys.exit(1 if check_paths([sys.argv[1]]) else 0)"
_COMPILE = """
import sys
from delphyne.compiler.back.ir import AARCH64, emit
from delphyne.compiler.back.lower import lower
from delphyne.compiler.front import compile_modules
assert lower(emit(compile_modules([sys.argv[1]]), AARCH64).text, AARCH64).data
"""


def seconds_to_check(folder: Path) -> float:
    """Processor seconds to check the generated program in a new process."""
    return _seconds(folder, _CHECK)


def seconds_to_compile(folder: Path) -> float:
    """Processor seconds from source to object in a new process, LLVM's own process included."""
    return _seconds(folder, _COMPILE)


def _seconds(folder: Path, script: str) -> float:
    """Processor time is what an idle machine would take, whatever else runs on this one. RuntimeError where the program is refused."""
    source = folder / "generated.py"
    source.write_text(text())
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script, str(source)], capture_output=True, text=True, cwd=ROOT, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"the compiler refused the generated program: {(done.stdout + done.stderr).strip()[-500:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
