# SPDX-License-Identifier: Apache-2.0
"""What LLVM makes of accesses to hostile memory: each byte is read once, whatever is done with the copy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from delphyne.cli import app

PROGRAM = """
from __future__ import annotations

from delphyne.lang import Array, Hostile, Lock, Pa, View, entry, guarded, u8, u64

LOCK = Lock("kept", rank=5)
KEPT = guarded(LOCK, Array[u8, 256]())


def is_bad(window: View[u8]) -> bool:
    for i in u64.range(window.length):
        if window[i] > 100:
            return True
    return False


@entry("take")
def take(at: u64) -> bool:
    window = Array[u8, 256]()
    if not Hostile(Pa(at), u64(4096)).copy_in(window[:], u64(0)):
        return False
    checked = Array[u8, 256]()
    checked[:].copy_from(window[:])
    if is_bad(checked[:]):
        return False
    with LOCK:
        KEPT[:].copy_from(window[:])
    return True


@entry("give")
def give(at: u64, seed: u8) -> bool:
    window = Array[u8, 256]()
    for i in u64.range(window.length):
        window[i] = seed ^ u8.wrap(i)
    return Hostile(Pa(at), u64(4096)).copy_out(u64(0), window[:])
"""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The optimised IR of the program, by function."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "double.py").write_text(PROGRAM)
    result = CliRunner().invoke(app, ["compile", str(folder / "double.py"), "--emit", "ir", "--out", str(folder / "double.ll")])
    assert result.exit_code == 0, result.output
    text = Path(folder / "double.ll").read_text()
    return dict(re.findall(r"define [^@]*@(take|give)\((.*?)\n}", text, re.DOTALL))


def _uses(body: str) -> list[str]:
    """The instructions that touch the memory at `at`."""
    pointers = re.findall(r"(%\S+) = inttoptr i64 %\S+ to ptr", body)
    assert len(pointers) == 1, body
    return [line for line in body.splitlines() if re.search(re.escape(pointers[0]) + r"\b", line) and "inttoptr" not in line]


def test_what_was_copied_in_is_never_read_again(functions: dict[str, str]) -> None:
    """Without a barrier the copy of the copy becomes a second copy of the original: the host may change what was checked."""
    uses = _uses(functions["take"])
    assert len(uses) == 1, uses
    assert "call void @llvm.mem" in uses[0]


def test_what_is_copied_out_is_not_built_there(functions: dict[str, str]) -> None:
    uses = _uses(functions["give"])
    assert len(uses) == 1, uses
    assert "call void @llvm.mem" in uses[0]
