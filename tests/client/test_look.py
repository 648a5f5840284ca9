# SPDX-License-Identifier: Apache-2.0
"""The program with which the host's root looks for a guest's secret, on memory that is known."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from delphyne.client import look

TEXT = b"what only one process knows"
HOLDS = """
import mmap, sys
text = bytes.fromhex(sys.argv[1])[::-1]
memory = mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for place in map(int, sys.argv[2:]):
    memory[place : place + len(text)] = text
del text
print("ready", flush=True)
sys.stdin.read()
"""
"""Takes its text backwards, so that it does not stand on its command line too."""


def test_what_can_be_written_is_looked_through() -> None:
    maps = "7f00-8000 rw-p 0 00:00 0\n9000-a000 r--p 0 00:00 0 /lib/x\na000-c000 rw-s 0 00:01 7 [heap] of two words\n"
    assert look.ranges(maps) == [(0x7F00, 0x8000), (0xA000, 0xC000)]


@pytest.mark.parametrize("place", [0, look.PIECE - 5, look.PIECE, 2 * look.PIECE - len(TEXT)])
def test_a_text_is_found_once_wherever_it_stands(tmp_path: Path, place: int) -> None:
    content = bytearray(b"\0" * (2 * look.PIECE))
    content[place : place + len(TEXT)] = TEXT
    file = tmp_path / "memory"
    file.write_bytes(content)
    memory = os.open(file, os.O_RDONLY)
    assert look.count(memory, (0, len(content)), TEXT) == (1, len(content))
    assert look.count(memory, (0, len(content)), b"another") == (0, len(content))
    os.close(memory)


def test_what_cannot_be_read_is_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_bytes(TEXT)
    memory = os.open(file, os.O_RDONLY)
    assert look.count(memory, (0, 4 * mmap.PAGESIZE), TEXT) == (1, len(TEXT))
    os.close(memory)


def test_a_process_keeps_nothing_from_root(capsys: pytest.CaptureFixture[str]) -> None:
    places = ["100", str(look.PAGE - 3), str((1 << 20) - len(TEXT))]
    with subprocess.Popen([sys.executable, "-c", HOLDS, TEXT[::-1].hex(), *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert look.main([str(process.pid), TEXT.decode(), "0x0"]) == 0
        said = capsys.readouterr().out.splitlines()
        process.communicate(b"")
    assert int(said[0].split(" MiB")[0].split()[-1]) >= 1
    assert int(said[0].split(" times")[0].split()[-1]) >= 3
    assert [line[:8] for line in said[2:]] == ["00000000", "00000010", "00000020"]
