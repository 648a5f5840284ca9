# SPDX-License-Identifier: Apache-2.0
"""The one assembly file: each instruction function is the instruction of its name, and nothing that Python calls is missing."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from delphyne.board import demo
from delphyne.compiler import front
from delphyne.compiler.back import layout
from delphyne.el2.arch.cpu import CPUS, EMERGENCY_BYTES, EMERGENCY_OFFSET, MAX_CPUS, SLOT_BYTES, STACK_BYTES, STACK_OFFSET
from delphyne.el2.arch.pagetable import PAGE_SIZE

ROOT = Path(__file__).resolve().parents[2]
EL2_S = ROOT / "delphyne" / "el2" / "entry" / "el2.S"
EL2_LD = ROOT / "delphyne" / "el2" / "entry" / "el2.ld"


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The instructions of each function of el2.S, as objdump prints them."""
    folder = tmp_path_factory.mktemp("assembly")
    (folder / "offsets.inc").write_text(layout.offsets_inc(front.compile_modules(demo.MODULES)))
    subprocess.run(["aarch64-linux-gnu-as", "-I", str(folder), "-o", str(folder / "el2.o"), str(EL2_S)], check=True)
    listing = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(folder / "el2.o")], check=True, capture_output=True, text=True
    ).stdout
    found: dict[str, list[str]] = {}
    name = ""
    for line in listing.splitlines():
        if header := re.match(r"[0-9a-f]+ <(.+)>:", line):
            name = header[1]
            found[name] = []
        elif match := re.match(r"\s*[0-9a-f]+:\s+(.*)", line):
            found[name].append(re.sub(r"\s+", " ", match[1].split("//")[0]).strip())
    return found


def assembly_names() -> set[str]:
    """Every function that is marked @assembly, in the language and in EL2."""
    names = set()
    for path in [*(ROOT / "delphyne" / "lang").glob("*.py"), *(ROOT / "delphyne" / "el2").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(isinstance(mark, ast.Name) and mark.id == "assembly" for mark in node.decorator_list):
                names.add(node.name)
    return names


KEPT_OVER_A_WALK = [f"mrs x{n}, {name}" for n, name in enumerate(("tpidrro_el0", "elr_el2", "spsr_el2", "esr_el2", "far_el2", "hpfar_el2"), 1)]
"""What an external abort of a walk by a lower level's tables, which EL2 itself takes, would spoil."""


def test_every_assembly_function_of_python_is_there(functions: dict[str, list[str]]) -> None:
    names = assembly_names()
    assert len(names) > 40
    assert names <= functions.keys()


def test_maintenance_functions_are_the_instruction_of_their_name(functions: dict[str, list[str]]) -> None:
    checked = 0
    for name, body in functions.items():
        prefix, _, operation = name.partition("_")
        if prefix not in ("tlbi", "dc", "ic", "at"):
            continue
        checked += 1
        by_address = prefix in ("dc", "at") or operation in ("ivau",) or "va" in operation.replace("vmall", "") or "ipa" in operation
        wanted = [f"{prefix} {operation}{', x0' if by_address else ''}", "ret"]
        if prefix == "tlbi" and by_address:
            wanted.insert(0, "ubfx x0, x0, #12, #44")
        if operation.startswith(("s1e1", "s12e1")):
            wanted = [*KEPT_OVER_A_WALK, *wanted]
        assert body == wanted, name
    assert checked >= 27


def test_device_accesses_are_single_plain_loads_and_stores(functions: dict[str, list[str]]) -> None:
    bodies = {name: body for name, body in functions.items() if name.startswith("mmio_")}
    assert bodies == {
        "mmio_read8": ["ldrb w0, [x0]", "ret"],
        "mmio_read32": ["ldr w0, [x0]", "ret"],
        "mmio_read64": ["ldr x0, [x0]", "ret"],
        "mmio_write8": ["strb w1, [x0]", "ret"],
        "mmio_write32": ["str w1, [x0]", "ret"],
        "mmio_write64": ["str x1, [x0]", "ret"],
    }


def test_locks_acquire_and_release(functions: dict[str, list[str]]) -> None:
    acquire, release = functions["lock_acquire"], functions["lock_release"]
    assert [line.split()[0] for line in acquire].count("ldaxr") == 2
    assert "wfe" in acquire
    assert acquire.index("wfe") > max(at for at, line in enumerate(acquire) if line.startswith("ldaxr")), "the monitor is armed before waiting"
    assert any(line.startswith("stlr ") for line in release)
    assert functions["nospec"] == ["cmp x0, x1", "csel x0, x0, xzr, cc", "csdb", "ret"]


def test_nothing_runs_on_after_eret(functions: dict[str, list[str]]) -> None:
    for name, body in functions.items():
        for at, line in enumerate(body):
            if line == "eret":
                assert body[at + 1 : at + 3] == ["dsb nsh", "isb"], name


def test_simd_registers_are_all_saved_and_restored(functions: dict[str, list[str]]) -> None:
    for name, operation in (("simd_enter", "stp"), ("simd_leave", "ldp")):
        pairs = [re.match(rf"{operation} q(\d+), q(\d+), \[x1\], #32", line) for line in functions[name]]
        assert [(int(pair[1]), int(pair[2])) for pair in pairs if pair] == [(n, n + 1) for n in range(0, 32, 2)]


def test_the_stacks_of_the_linker_script_are_those_of_python() -> None:
    script = EL2_LD.read_text()
    reserved = re.search(r"__stacks_start = \.; \. \+= (\d+) \* (0x[0-9a-f]+);", script)
    assert reserved is not None
    assert int(reserved[1]) == int(MAX_CPUS) == int(CPUS.length)
    assert int(reserved[2], 16) == int(SLOT_BYTES)
    top = re.search(r"\.equ\s+BOOT_STACK_TOP, (0x[0-9a-f]+)", EL2_S.read_text())
    assert top is not None
    assert int(top[1], 16) == int(STACK_OFFSET + STACK_BYTES) == int(SLOT_BYTES)
    assert int(EMERGENCY_OFFSET) == int(PAGE_SIZE)
    assert int(EMERGENCY_OFFSET + EMERGENCY_BYTES + PAGE_SIZE) == int(STACK_OFFSET)
