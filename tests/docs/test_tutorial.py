# SPDX-License-Identifier: Apache-2.0
"""docs/tutorial.md: its two mistakes, made in a copy of the project, give what it says that they give."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CONSOLE_BLOCKS = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
RIGHT, REFUSED, WRONG, THEOREM = PYTHON_BLOCKS[:4]
FRAMES = Path("delphyne/el2/memory/frames.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "delphyne", tmp_path / "delphyne", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def _change(project: Path, old: str, new: str) -> None:
    file = project / FRAMES
    source = file.read_text()
    assert source.count(old) == 1, "the tutorial's function is no longer what it shows"
    file.write_text(source.replace(old, new))


def _delphyne(project: Path, *arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-m", "delphyne.cli", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    return _without_line_numbers((done.stdout + done.stderr).replace(f"{project}/", ""))


def _without_line_numbers(text: str) -> str:
    """Lines move whenever something above them changes; what is said about them does not."""
    return re.sub(r"\.py:\d+:", ".py:", text)


def _expected(block: str) -> list[str]:
    return [_without_line_numbers(line) for line in block.splitlines() if line and not line.startswith("$")]


def test_the_refusal(project: Path) -> None:
    _change(project, RIGHT, REFUSED)
    said = _delphyne(project, "check", str(FRAMES))
    assert [line for line in _expected(CONSOLE_BLOCKS[0]) if line not in said] == [], said


def test_the_counterexample(project: Path) -> None:
    _change(project, RIGHT, WRONG)
    assert "nothing refused" in _delphyne(project, "check", str(FRAMES))
    said = _delphyne(project, "prove", "frames")
    assert [line for line in _expected(CONSOLE_BLOCKS[1]) if line not in said] == [], said


def test_the_theorem_is_quoted_as_it_stands() -> None:
    assert THEOREM in (ROOT / "delphyne" / "prove" / "theorems" / "frames.py").read_text()
