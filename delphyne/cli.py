# SPDX-License-Identifier: Apache-2.0
"""The `delphyne` command: the words people type, each handed to the room that knows.

Nothing is decided here. A user's mistake ends in one line on stderr and exit code 1 or 2, never in a Python traceback; what other programs
read has `--json`.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help="A hypervisor for EL2 in typed Python.")
bench_app = typer.Typer(no_args_is_help=True, help="Measure.")
app.add_typer(bench_app, name="bench")

Json = Annotated[bool, typer.Option("--json", help="Output for programs.")]


class UserError(Exception):
    """What the user has to mend, in one line: what happened, where, what to do."""


class Emit(StrEnum):
    """What `compile` writes."""

    ir = "ir"
    asm = "asm"
    obj = "obj"


class TargetName(StrEnum):
    """What `compile` compiles for."""

    aarch64 = "aarch64"
    native = "native"


def _el2_files() -> list[Path]:
    return sorted((ROOT / "delphyne" / "el2").rglob("*.py"))


def _existing(paths: list[Path]) -> list[Path]:
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if path.suffix != ".py":
            raise UserError(f"{path}: not a Python file")
    return paths


@app.command()
def check(
    files: Annotated[list[Path] | None, typer.Argument(help="Python files; all of el2/ where none is given.")] = None,
    json: Json = False,
) -> None:
    """Refuse what is outside the subset, with place, reason and remedy. Needs no LLVM."""
    from delphyne.compiler.front import check_paths

    paths = _existing(files) if files else _el2_files()
    diagnostics = check_paths(paths)
    if json:
        import json as json_module

        typer.echo(json_module.dumps([diagnostic.as_json() for diagnostic in diagnostics], indent=2))
    else:
        for diagnostic in diagnostics:
            typer.echo(diagnostic.render(color=sys.stdout.isatty()))
        verdict = f"{len(diagnostics)} refusals" if diagnostics else "nothing refused"
        typer.echo(f"{len(paths)} files checked, {verdict}")
    raise typer.Exit(1 if diagnostics else 0)


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A number such as E0201.")]) -> None:
    """Say what a refusal means, why it is refused and what to write instead."""
    from delphyne.compiler.front import explain as explain_code

    text = explain_code(code.upper())
    if text is None:
        raise UserError(f"there is no refusal {code}; `delphyne check` prints the numbers that exist")
    typer.echo(text)


@app.command()
def prove(
    names: Annotated[list[str] | None, typer.Argument(help="Theorems or subjects; all where none is given.")] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Also generate mutants and count the killed.")] = False,
    json: Json = False,
) -> None:
    """Prove the stated theorems of the files that run at EL2."""
    from delphyne import prove as room

    raise typer.Exit(room.run(names or None, json=json, mutants=mutants))


@app.command()
def fuzz(
    count: Annotated[int, typer.Option(min=1, help="Programs.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same programs.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Run generated programs in every way there is and compare."""
    from delphyne.fuzz.__main__ import main as run_fuzz

    raise typer.Exit(run_fuzz(["--count", str(count), "--seed", str(seed), "--jobs", str(jobs)]))


@bench_app.command("language")
def bench_language(json: Json = False) -> None:
    """Instruction counts of compiled typed Python against C, with and without its checks, and the cost of the tools."""
    from delphyne.bench.language import run as run_bench

    rows = run_bench(json=json)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@app.command("test")
def run_tests(nightly: Annotated[bool, typer.Option("--nightly", help="Everything, for hours.")] = False) -> None:
    """Run the rings of tests, the quick ones first."""
    from delphyne.stages import NIGHTLY, QUICK, run_stages

    raise typer.Exit(run_stages(NIGHTLY if nightly else QUICK))


def main() -> None:
    """Entry of the console script."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        app()
    except UserError as error:
        typer.echo(f"delphyne: {error}", err=True)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
