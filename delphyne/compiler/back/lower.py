# SPDX-License-Identifier: Apache-2.0
"""LLVM IR text to optimised IR, assembly or an object file, in a process of its own.

LLVM ends the process on some errors. `lower` therefore runs this module as a child (`python -m delphyne.compiler.back.lower`), which reads
IR on stdin and writes the result on stdout. Frame sizes come back on stderr, where LLVM warns of every frame over a limit of zero.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import llvmlite.binding as llvm  # type: ignore[import-untyped]

from delphyne.compiler.back.errors import BackError
from delphyne.compiler.back.target import Target
from delphyne.compiler.back.tools import ROOT

_FRAME = re.compile(r"stack frame size \((\d+)\) exceeds limit \(0\) in function '([^']+)'")


@dataclass(frozen=True, slots=True)
class Lowered:
    """The output, and the frame size in bytes of every function that has a frame."""

    data: bytes
    frames: dict[str, int]


def lower(ir: str, target: Target, *, emit: str = "obj", opt: int = 2) -> Lowered:
    """Run a child over a module. `emit` is `ir`, `asm` or `obj`; `opt` is 0 or 2. Raises BackError with LLVM's reason in one line."""
    command = [sys.executable, "-m", "delphyne.compiler.back.lower", "--triple", target.triple, "--emit", emit, "--opt", str(opt)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    result = subprocess.run(command, input=ir.encode(), capture_output=True, check=False, env={**os.environ, "PYTHONPATH": path})
    errors = result.stderr.decode(errors="replace")
    if result.returncode != 0:
        reasons = [line.strip() for line in errors.splitlines() if "error" in line.lower() or "cannot select" in line.lower()]
        raise BackError(f"LLVM refused the program: {reasons[0] if reasons else f'it ended with status {result.returncode}'}")
    return Lowered(result.stdout, {name: int(size) for size, name in _FRAME.findall(errors)})


def machine_for(triple: str, opt: int) -> llvm.TargetMachine:
    """The code generator, position independent within four gigabytes."""
    return llvm.Target.from_triple(triple).create_target_machine(opt=opt, reloc="pic", codemodel="small")


def optimise(module: llvm.ModuleRef, machine: llvm.TargetMachine, opt: int) -> None:
    """Run LLVM's default passes; level 0 runs none. Its third level unrolls and inlines a little more, which takes checks out of short loops."""
    if opt == 0:
        return
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--triple", required=True)
    parser.add_argument("--emit", choices=("ir", "asm", "obj"), required=True)
    parser.add_argument("--opt", type=int, choices=(0, 2), required=True)
    options = parser.parse_args()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # Else the test at the end of a loop becomes one for equality, from which LLVM no longer learns how often the loop can run at most.
    llvm.set_option("", "--disable-lftr")
    try:
        module = llvm.parse_assembly(sys.stdin.buffer.read().decode())
        module.verify()
    except RuntimeError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    machine = machine_for(options.triple, options.opt)
    optimise(module, machine, options.opt)
    match options.emit:
        case "ir":
            data = str(module).encode()
        case "asm":
            data = machine.emit_assembly(module).encode()
        case _:
            data = machine.emit_object(module)
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(_main())
