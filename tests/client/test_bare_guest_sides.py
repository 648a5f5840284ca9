# SPDX-License-Identifier: Apache-2.0
"""The monitor and the bare guest agree on what both write down; and the monitor's own parts."""

from __future__ import annotations

import ast
import os
import sys
import threading
from pathlib import Path

import pytest

from delphyne.bench import kvm as bench
from delphyne.bench import protected as protected_bench
from delphyne.board import bare_guest as board
from delphyne.board import host_python, protected_bare
from delphyne.board.guest import device, devices, gic, program, walks
from delphyne.client import bare_guest as monitor
from delphyne.client import memory, registers, vgic


def test_kinds_have_the_guests_numbers() -> None:
    assert {name.replace("-", "_").upper(): number for name, number in (monitor.KINDS | monitor.ATTACKS | monitor.WATCHES).items()} | {"NONE": 0} == {
        kind.name: int(kind.raw) for kind in program.Kind
    }


def test_everything_wrong_has_words() -> None:
    assert len(monitor.WRONG) == len(list(program.Wrong))
    assert [int(wrong.raw) for wrong in program.Wrong] == list(range(len(monitor.WRONG)))


def test_registers_and_places_agree() -> None:
    assert device.BASE.raw == monitor.DEVICE
    names = ("ECHO", "COMMAND", "RESULT", "UNMAP", "FAULT", "GIC_VERSION", "CPUS", "TICKS", "PROTECTED", "SHOWN")
    assert [getattr(monitor, name) for name in names] == [int(getattr(device, name)) for name in names]
    places = (program.SMALL, program.FRESH, program.KEPT, program.LARGE)
    assert tuple(int(at.raw) for at in places) == (monitor.SMALL, monitor.FRESH, monitor.KEPT, monitor.LARGE)
    assert int.from_bytes(monitor.PATTERN, "little") == program.PATTERN
    assert (program.CLEAN.raw, program.TREE.raw) == (monitor.CLEAN, monitor.TREE)
    assert protected_bare.CLEAN_MARK == program.CLEAN_MARK
    assert walks.TABLES.raw == monitor.KEPT
    assert devices.GIC_PAGES * devices.PAGE == protected_bare.GIC_BYTES
    assert {monitor.UNMAP_PAGES, int(program.UNMAP_PAGES)} == set(bench.PARTS.values())
    assert gic.DISTRIBUTOR.raw == vgic.DISTRIBUTOR
    assert gic.CPU_INTERFACE.raw == vgic.CPU_INTERFACE
    assert gic.REDISTRIBUTORS.raw == vgic.REDISTRIBUTORS


def test_every_kind_that_is_measured_exists() -> None:
    assert set(bench.KINDS) <= set(monitor.KINDS)
    assert set(protected_bench.KINDS) == set(monitor.KINDS) - {"nothing", "order", "soak", *board.NOT_PROTECTED}


def test_commands_are_words_for_the_guest() -> None:
    assert monitor.Command("ipi", True, 5).word == 4 | 1 << 8 | 5 << 16
    assert board.words(["ipi", "wfi"], 5) == ["ipix5", "wfix5", "ipi+simdx5", "wfi+simdx5"]


def test_memory_is_aligned_for_blocks_and_bounded() -> None:
    made = memory.Memory(3 * memory.PAGE)
    assert made.address % memory.BLOCK == 0
    made.write(memory.PAGE, b"word")
    assert made.read(memory.PAGE, 5) == b"word\0"
    made.drop(memory.PAGE, memory.PAGE)
    assert made.read(memory.PAGE, 4) == bytes(4)


def test_kept_memory_comes_back_as_it_was() -> None:
    made = memory.Memory(memory.PAGE, kept=True)
    made.write(0, b"kept")
    made.drop(0, memory.PAGE)
    assert made.read(0, 4) == b"kept"
    with pytest.raises(ValueError, match="not inside"):
        made.read(3 * memory.PAGE - 1, 2)


def test_what_runs_on_the_host_imports_only_what_is_packed() -> None:
    client = Path(monitor.__file__).parent
    packed = {module.removesuffix("/__init__").replace("/", ".") for module in host_python.MODULES} | set(sys.builtin_module_names)
    packed |= {"fcntl", "mmap", "struct", "time", "errno", "math", "array", "select"}  # built into Debian's interpreter, or packed as extensions
    for source in client.glob("*.py"):
        for name in imported(ast.parse(source.read_text())):
            assert name.startswith("delphyne.client") or name in packed, f"{source.name} imports {name}"


def imported(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(str(node.module))
    return names


def test_identification_registers_are_told_from_others() -> None:
    for register in (registers.CTR_EL0, registers.system(3, 0, 0, 4, 0), registers.system(3, 0, 0, 7, 4)):
        assert registers.is_identification(register)
    for register in (registers.MPIDR_EL1, registers.SCTLR_EL1, registers.TIMER_CNT, registers.PC, registers.system(3, 0, 0, 3, 7)):
        assert not registers.is_identification(register)


def test_a_thread_of_a_pinned_one_is_pinned_to_another_cpu() -> None:
    """What disturbs a guest from "the other CPU" has to be on it."""
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    def pinned() -> None:
        monitor.pin(1)
        seen.append(os.sched_getaffinity(0))

    try:
        monitor.pin(0)
        own = os.sched_getaffinity(0)
        thread = threading.Thread(target=pinned)
        thread.start()
        thread.join()
    finally:
        os.sched_setaffinity(0, before)
    assert len(own) == len(seen[0]) == 1
    assert (own == seen[0]) == (len(before) == 1)
