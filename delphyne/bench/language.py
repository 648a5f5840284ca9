# SPDX-License-Identifier: Apache-2.0
"""`delphyne bench language`: the figures of the language and its tools, each beside its limit.

Instruction counts are exact and the same everywhere. Times are processor seconds, so that other work on the machine does not count.
"""

from __future__ import annotations

import json as json_module
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

from delphyne.bench import code, pages, program, steps
from delphyne.board import demo
from delphyne.board.bare.bare import BareError
from delphyne.compiler.back.errors import BackError
from delphyne.compiler.front import Refused

GCC_LIMIT = 1.15
CHECKS_LIMIT = 1.12
BY_EXTENSIONS_LIMITS = {"SHA-256, crypto extensions": 1.7, "AES-256-CTR, crypto extensions": 2.3}
PAGE_LIMIT = 18_500.0
COMPILE_LIMIT = 15.0
CHECK_LIMIT = 3.0
STEPS_LIMIT = 60.0
IMAGE_LIMIT = 256.0


class Row(TypedDict):
    """One figure. `limit` is None where the figure is only reported; then it is `ok`."""

    name: str
    value: float
    unit: str
    limit: float | None
    ok: bool


def row(name: str, value: float, unit: str, limit: float | None = None) -> Row:
    """A figure, rounded as it is compared."""
    rounded = round(value, 3)
    return {"name": name, "value": rounded, "unit": unit, "limit": limit, "ok": limit is None or rounded <= limit}


def of_code(folder: Path) -> list[Row]:
    """What compiled code takes."""
    counts = code.count(folder)
    names = [subject.name for subject in code.AGAINST_C]
    against_c = {name: counts.checked[name] / counts.c[name] for name in names}
    against_unchecked = {name: counts.checked[name] / counts.unchecked[name] for name in names}
    rows = [row(f"{name}: checked Python / gcc -O2 with the same checks", ratio, "x") for name, ratio in against_c.items()]
    rows.append(row("geometric mean: checked Python / gcc -O2 with the same checks", code.geometric_mean(list(against_c.values())), "x", GCC_LIMIT))
    rows += [row(f"{name}: checked / unchecked", ratio, "x") for name, ratio in against_unchecked.items()]
    rows.append(row("geometric mean: checked / unchecked", code.geometric_mean(list(against_unchecked.values())), "x", CHECKS_LIMIT))
    rows += [row(f"{s.name}: general registers", counts.checked[s.name] / s.amount, "instructions a byte") for s in code.AGAINST_C[:2]]
    rows += [row(s.name, counts.checked[s.name] / s.amount, "instructions a byte", BY_EXTENSIONS_LIMITS[s.name]) for s in code.BY_EXTENSIONS]
    return rows


def of_pages(folder: Path) -> list[Row]:
    """What the cryptography of a page that leaves its guest takes."""
    return [row(name, number, "instructions", PAGE_LIMIT if "extensions" in name else None) for name, number in pages.count(folder).items()]


def of_tools(folder: Path) -> list[Row]:
    """What the tools take."""
    return [
        row(f"compile {program.LINES:,} lines, cold", program.seconds_to_compile(folder), "s", COMPILE_LIMIT),
        row(f"check {program.LINES:,} lines, cold", program.seconds_to_check(folder), "s", CHECK_LIMIT),
        row(f"{steps.STEPS:,} hypothesis steps on stage-2 tables in CPython", steps.measure(), "s", STEPS_LIMIT),
    ]


def of_image(folder: Path) -> list[Row]:
    """How large the image is that `delphyne run` boots."""
    built = demo.build(folder)
    return [row("text and constants of the image", (built.text_bytes + built.constant_bytes) / 1024, "KiB", IMAGE_LIMIT)]


PARTS: tuple[Callable[[Path], list[Row]], ...] = (of_code, of_pages, of_tools, of_image)


def measure() -> list[Row]:
    """Every figure, in the order of PARTS."""
    with tempfile.TemporaryDirectory(prefix="delphyne-bench-") as folder:
        return [found for part in PARTS for found in part(Path(folder))]


def show(rows: list[Row]) -> None:
    """The figures as a table for people."""
    table = Table("figure", "value", "limit", "", box=None)
    for found in rows:
        limit, verdict = ("", "") if found["limit"] is None else (f"<= {found['limit']:g}", "ok" if found["ok"] else "MISSED")
        table.add_row(found["name"], f"{found['value']:.3f} {found['unit']}", limit, verdict)
    Console(highlight=False, width=120).print(table)


def run(json: bool = False) -> list[Row]:
    """Measure and print; ends the process with one line where a tool is missing or a program is refused."""
    try:
        rows = measure()
    except (BareError, BackError, Refused, RuntimeError) as error:
        raise SystemExit(f"delphyne: {error}") from None
    if json:
        print(json_module.dumps({"rows": rows}, indent=2))
    else:
        show(rows)
    return rows


if __name__ == "__main__":
    sys.exit(0 if all(found["ok"] for found in run(json="--json" in sys.argv[1:])) else 1)
